"""What is noticed of a restored job database, and what is not mistaken for one."""

from pathlib import Path

import pytest
from store.stored_jobs import NOW, Store

from batchgen.library import step_backs
from batchgen.store import journal, step_back
from batchgen.store.step_back import Witness


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_others_buy_while_it_looks_is_not_missed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    store = Store(tmp_path, url=url)
    store.fill(1)
    other = step_backs.begin_journal(store.database, say=print)
    read = journal.newest_of
    seen: list[Witness] = []

    def buy_and_read(path: Path) -> tuple[Witness, ...]:
        other.intended(store.claim(1), account_id=store.account.id, now_ms=NOW)
        seen.extend(read(path))
        return tuple(seen)

    monkeypatch.setattr(journal, "newest_of", buy_and_read)

    step_backs.refuse(store.database, declare=True)

    assert len(seen) == 1
    with store.database.reading() as tx:
        assert step_back.identity(tx).stepped_back is None
    other.close()
    store.close()
