from collections.abc import Iterator
from pathlib import Path

import pytest
from store.stored_jobs import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()
