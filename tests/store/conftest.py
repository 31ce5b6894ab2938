from collections.abc import Iterator
from pathlib import Path

import pytest
from store.stored_jobs import Store

from batchgen.store.transactions import Transaction


@pytest.fixture(params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A job database of each kind, whose clock is the test's."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    made = _frozen(tmp_path, url, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def sqlite_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A job database in a file."""
    made = _frozen(tmp_path, "", monkeypatch)
    yield made
    made.close()


@pytest.fixture
def postgres_store(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A job database on a server."""
    made = _frozen(tmp_path, postgres_url, monkeypatch)
    yield made
    made.close()


def _frozen(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store(folder, url=url)
    monkeypatch.setattr(Transaction, "now_ms", lambda _: store.now_ms)
    return store
