"""The real program over a job database that was put back to an older state, against the books."""

import contextlib
import shutil
import signal
import sqlite3
from collections.abc import Callable

import pytest
from runs import Done, Place, rows_of

KILLED = -signal.SIGKILL


def reconcile(place: Place, *more: str) -> Done:
    return place.start("reconcile", "--after-restore", *more, "--db", str(place.db)).wait()


def as_files(place: Place) -> Callable[[], None]:
    """Copy the file and what lies beside it; return what puts the copy back."""
    aside = place.folder / "aside"
    aside.mkdir()
    for path in place.folder.glob("jobs.db*"):
        if path.is_file():
            shutil.copy2(path, aside / path.name)

    def put_back() -> None:
        for path in place.folder.glob("jobs.db*"):
            if path.is_file():
                path.unlink()
        for path in aside.iterdir():
            shutil.copy2(path, place.folder / path.name)

    return put_back


def as_backup(place: Place) -> Callable[[], None]:
    """Copy the database whole, as SQLite's own backup does."""
    aside = place.folder / "aside.sqlite"
    with (
        contextlib.closing(sqlite3.connect(place.db)) as source,
        contextlib.closing(sqlite3.connect(aside)) as copy,
    ):
        source.backup(copy)

    def put_back() -> None:
        for path in place.folder.glob("jobs.db-*"):
            if path.is_file():
                path.unlink()
        shutil.copy2(aside, place.db)

    return put_back


@pytest.mark.parametrize("copy", [as_files, as_backup])
def test_a_restored_job_database_buys_nothing_until_it_knows_what_was_bought(
    place: Place, copy: Callable[[Place], Callable[[], None]]
) -> None:
    place.write(rows_of(30))
    first = place.run("jobs.csv", "-j", "6", env={"BATCHGEN_FAILPOINT": "after-id-commit@10=kill"})
    assert first.code == KILLED, first.err
    put_back = copy(place)
    assert (place.folder / "aside" / "jobs.db-wal").exists() == (copy is as_files)
    place.run("jobs.csv", "-j", "20")
    bought = place.service.counters.accepted
    put_back()

    refused = place.run("jobs.csv", "-j", "20")

    assert refused.code == 11
    assert "reconcile --after-restore" in refused.err
    assert place.service.counters.accepted == bought
    status = place.start("status", "--db", str(place.db)).wait()
    assert "reconcile --after-restore" in status.err

    repaired = reconcile(place)
    last = place.run("jobs.csv", "-j", "20")

    assert repaired.code in (0, 10), repaired.err
    doubts = place.states()["in_doubt"]
    assert last.code == (10 if doubts else 0), last.err
    assert place.states() == {"succeeded": 30 - doubts, **({"in_doubt": doubts} if doubts else {})}
    assert doubts <= 6
    assert place.service.counters.accepted == bought
    assert all(len(entries) == 1 for entries in place.bought().values())
    place.check_books()
    again = reconcile(place)
    assert (again.code, again.out) == (0, "")
    clips = sorted(path.name for path in (place.folder / "clips").rglob("*.mp4"))
    assert len(clips) == 30 - doubts, clips
