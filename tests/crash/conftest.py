"""A folder to run in, and the stand-in service beside it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Place

from batchgen.providers import simulator


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place whose service is generous and takes up to 0.2 s a clip."""
    with simulator.start_in_thread(simulator.Settings(run_s=(0.0, 0.2))) as service:
        place = Place(tmp_path, service)
        yield place
        place.end()
