"""Jobs that have been bought at a stand-in service, for the commands that come after a run."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cli.commands import call, ok, rows, write

from batchgen.providers import simulator
from batchgen.providers.simulator import Handle, Settings

TOKEN = "a-token-of-the-test"


@contextmanager
def service(monkeypatch: pytest.MonkeyPatch, settings: Settings | None = None) -> Iterator[Handle]:
    """A stand-in service that the commands talk to."""
    with simulator.start_in_thread(settings or Settings()) as handle:
        monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", handle.base)
        monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
        yield handle


def buy(*ids: str, prompt: str = "", expect: int = 0, options: tuple[str, ...] = ()) -> None:
    """Store jobs of these ids and run them."""
    ok("add", write("jobs.csv", rows(*ids, prompt=prompt)))
    done = call("run", "-y", "--poll-interval", "0", *options)
    assert done.code == expect, done.err
