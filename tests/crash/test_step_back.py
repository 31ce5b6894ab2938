"""The real program over a job database that was put back to an older state, against the books."""

import contextlib
import shutil
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import replace

import pytest
from runs import Done, Place, rows_of

from batchgen.providers.simulator import Fault, Kind

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


def test_a_death_between_the_commit_and_the_journal_is_no_step_back(place: Place) -> None:
    place.write(rows_of(8))
    killed = {"BATCHGEN_FAILPOINT": "after-claim-commit@2=kill"}
    assert place.run("jobs.csv", "-j", "4", env=killed).code == KILLED

    second = place.run("jobs.csv", "-j", "8")

    assert second.code == 10, second.err
    assert place.states()["succeeded"] + place.states()["in_doubt"] == 8
    assert reconcile(place).code == 0
    place.check_books()


def test_what_the_service_refused_and_took_later_is_not_missed(place: Place) -> None:
    empty = Fault(Kind.NO_BALANCE, nth=(3, 4))
    place.service.settings = replace(place.service.settings, faults=(empty,))
    place.write(rows_of(4))
    assert place.run("jobs.csv", "-j", "4").code == 7

    assert place.run("jobs.csv", "-j", "4").code == 0
    assert len(place.attempts()) == 4


def test_a_copy_that_is_used_beside_its_original_is_noticed(place: Place) -> None:
    place.write(rows_of(3))
    place.run("jobs.csv", "--limit", "1")
    put_back = as_backup(place)
    place.run("jobs.csv")
    shutil.copy2(place.db, place.folder / "original.db")
    put_back()

    copy = place.run("jobs.csv")
    original = place.start("run", "-y", "--db", str(place.folder / "original.db")).wait()

    assert (copy.code, original.code) == (11, 0)
    assert "a copy of one that went on" in copy.err
    assert place.service.counters.accepted == 3


def test_jobs_that_the_copy_does_not_know_are_asked_for(place: Place) -> None:
    place.write(rows_of(2), "old.csv")
    place.write(rows_of(3), "new.csv")
    place.run("old.csv")
    put_back = as_backup(place)
    place.run("new.csv", "--new-batch")
    put_back()

    refused = reconcile(place)

    assert refused.code == 11
    assert "new/c1" in refused.err
    assert "batchgen add" in refused.err
    added = place.start("add", "new.csv", "--new-batch", "--db", str(place.db)).wait()
    assert added.code == 0, added.err
    assert reconcile(place).code == 0
    last = place.run()
    assert last.code == 0, last.err
    assert place.states() == {"succeeded": 5}
    assert place.service.counters.accepted == 5


def test_without_a_place_for_the_journal_a_run_warns_and_goes_on(place: Place) -> None:
    place.write(rows_of(1))
    (place.folder / "file").touch()

    done = place.run("jobs.csv", env={"XDG_STATE_HOME": str(place.folder / "file")})

    assert done.code == 0, done.err
    assert done.err.count("warning:") == 1
    assert "restored from an older copy" in done.err


def test_a_live_run_stops_paying_when_another_worker_has_noticed(place: Place) -> None:
    place.service.settings = replace(place.service.settings, run_s=(0.5, 0.5))
    place.write(rows_of(20))
    run = place.start_run("jobs.csv", "-j", "2")
    place.wait_accepted(2)
    with contextlib.closing(sqlite3.connect(place.db, timeout=30)) as connection, connection:
        connection.execute("UPDATE job_database SET stepped_back = 'elsewhere bought attempt x'")

    done = run.wait()

    assert done.code == 11, done.err
    assert "elsewhere bought attempt x" in done.err
    bought = place.service.counters.accepted
    assert bought < 20
    assert place.states() == {"succeeded": bought, "pending": 20 - bought}
    place.check_books()
