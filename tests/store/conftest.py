from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import PostgresServer
from sqlalchemy.pool import QueuePool
from store.stored_jobs import Store

from batchgen.store.transactions import Transaction


@pytest.fixture(scope="module")
def schema_url(postgres: PostgresServer, _schema: str) -> Iterator[str]:
    """The URL of a job database without jobs, of this module's own."""
    name = postgres.fresh(template=_schema)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A job database of each kind, whose clock is the test's."""
    monkeypatch.setattr("batchgen.store.postgres.NullPool", QueuePool)  # connecting takes long
    url = request.getfixturevalue("stored_url") if request.param == "postgresql" else ""
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
    stored_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A job database on a server."""
    made = _frozen(tmp_path, stored_url, monkeypatch)
    yield made
    made.close()


def _frozen(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    store = Store(folder, url=url)
    monkeypatch.setattr(Transaction, "now_ms", lambda _: store.now_ms)
    return store
