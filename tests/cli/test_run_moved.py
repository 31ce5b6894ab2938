"""The job database's file is replaced or removed while a run lives."""

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from runs import Place, rows_of

from batchgen.providers.simulator import Fault, Kind


def remove(db: Path, _: ExitStack) -> None:
    for path in beside(db):
        path.unlink()


def put_another(db: Path, stack: ExitStack) -> None:
    """Put another job database in its place, which somebody has in use."""
    new = db.with_name("new.db")
    with closing(sqlite3.connect(db)) as old, closing(sqlite3.connect(new)) as copy:
        old.backup(copy)
    remove(db, stack)
    new.replace(db)
    user = stack.enter_context(closing(sqlite3.connect(db)))
    user.execute("PRAGMA journal_mode = WAL")
    user.execute("CREATE TABLE newest (change TEXT)")
    user.commit()


def beside(db: Path) -> list[Path]:
    names = (db.name, f"{db.name}-wal", f"{db.name}-shm")
    return [path for path in map(db.with_name, names) if path.exists()]


@pytest.mark.parametrize("displace", [remove, put_another])
def test_a_run_whose_job_database_loses_its_name_buys_nothing_more_and_forgets_nothing(
    place: Place, displace: Callable[[Path, ExitStack], None]
) -> None:
    place.write(rows_of(6))
    slow = Fault(Kind.SLOW, nth=(1, 2, 3), seconds=0.8)
    place.service.settings = replace(place.service.settings, faults=(slow,))
    run = place.start_run("jobs.csv", "-j", "3")
    place.wait_accepted(3)
    with ExitStack() as stack:
        displace(place.db, stack)
        before = {path.name: path.stat().st_ino for path in beside(place.db)}

        done = run.wait()

        # What another program has in use is left alone: its `-wal` holds its newest changes.
        assert {path.name: path.stat().st_ino for path in beside(place.db)} == before

    assert done.code == 11, done.err
    assert "while this run used it: nothing more is paid for" in done.err
    assert "Traceback" not in done.err
    assert place.service.counters.posts == 3
    [rescued] = place.folder.glob("jobs.db-rescue-*")
    for entry in place.service.ledger.entries:
        assert entry.id in rescued.read_text()

    [saved] = place.folder.glob("jobs.db.saved-*")
    assert str(saved) in done.err
    for path in beside(place.db):
        path.unlink()
    saved.rename(place.db)
    assert place.states() == {"succeeded": 3, "pending": 3}
    again = place.run()

    assert again.code == 0, again.err
    assert place.states() == {"succeeded": 6}
    assert place.service.counters.accepted == 6
    assert place.leftovers() == []
    place.check_books()
