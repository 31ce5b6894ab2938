"""Whether a session goes on, where only the order of two looks decides it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from store.stored_jobs import Store, put_back

from batchgen.domain.errors import Rejected
from batchgen.providers.interface import Provider
from batchgen.runner.job import Settings
from batchgen.runner.loop import Session
from batchgen.store import jobs, sharing
from batchgen.store.database import Transaction


class Refusing:
    """Refuses every submit."""

    def __init__(self) -> None:
        self.submits = 0

    async def submit(self, model: str, inputs: dict[str, Any]) -> None:
        self.submits += 1
        raise Rejected("no")


def test_what_another_worker_gives_back_between_two_looks_is_not_left(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, url=postgres_url)
    store.fill(1)
    held = store.claim()
    look = sharing.elsewhere

    def elsewhere(tx: Transaction, views: Sequence[sharing.View]) -> list[int]:
        if held:
            store.do(jobs.put_back, put_back(held.pop()))
        return look(tx, views)

    monkeypatch.setattr(sharing, "elsewhere", elsewhere)
    service = Refusing()
    session = Session(
        database=store.database,
        provider=cast(Provider, service),
        fetcher=None,
        account_id=store.account.id,
        scope=jobs.Scope(None, 10**9),
        settings=Settings(),
        output_root=tmp_path,
        free_bytes=lambda: 2**40,
        say=print,
    )

    asyncio.run(session.run())

    assert service.submits == 1
    store.close()
