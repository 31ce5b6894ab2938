"""Two runs on one job database: one is frozen, waits, dies or is silent."""

import signal
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from runs import Place, Started, rows_of

from batchgen.providers.simulator import Fault, Kind

WAITING = "that another worker has in hand"


def start_frozen(place: Place, point: str) -> Started:
    """Start a run that stops at a point, with one job, and wait until it stands.

    One job: a process that is stopped in a commit holds SQLite's lock.
    """
    armed = {"BATCHGEN_FAILPOINT": f"{point}=stop"}
    run = place.start_run("jobs.csv", "-j", "1", "--limit", "1", env=armed)
    run.wait_stopped()
    return run


def check(place: Place, jobs: int) -> None:
    assert place.states() == {"succeeded": jobs}
    assert place.service.counters.accepted == jobs
    assert place.leftovers() == []
    place.check_books()
    place.check_clips()


@pytest.mark.parametrize("point", ["before-post", "after-answer"])
def test_a_frozen_run_pays_nothing_twice_when_it_thaws(place: Place, point: str) -> None:
    place.write(rows_of(1))
    first = start_frozen(place, point)
    silence(place)
    held = place.ids("submitting")

    second = place.start_run("jobs.csv")
    second.wait_said(WAITING)
    still_held = place.ids("submitting")
    first.send(signal.SIGCONT)
    done = [first.wait(), second.wait()]

    # What a live worker is sending stays with it, however long it stands still.
    assert held
    assert still_held == held
    assert [one.code for one in done] == [0, 0], done
    check(place, 1)


@pytest.mark.parametrize("point", ["in-poll", "after-rename"])
def test_paid_jobs_of_a_silent_run_go_on_elsewhere(place: Place, point: str) -> None:
    place.write(rows_of(3))
    first = start_frozen(place, point)
    held = place.ids("running", "downloading")
    silence(place)

    second = place.start_run("jobs.csv")
    second.wait_said("has been silent for 5 min")
    place.wait_jobs(lambda: held <= place.ids("succeeded"))
    first.send(signal.SIGCONT)
    done = [first.wait(), second.wait()]

    assert held
    assert [one.code for one in done] == [0, 0], done
    check(place, 3)


def test_a_run_takes_over_when_the_one_that_it_waits_for_dies(place: Place) -> None:
    slow = Fault(Kind.SLOW, nth=(1,), seconds=30)
    place.service.settings = replace(place.service.settings, faults=(slow,), run_s=(30.0, 30.0))
    place.write(rows_of(2))
    first = place.start_run("jobs.csv", "-j", "2")
    place.wait_accepted(2)
    place.wait_jobs(lambda: len(place.ids("running")) == 1)
    second = place.start_run("jobs.csv", "-j", "9")
    second.wait_said(WAITING)

    first.send(signal.SIGKILL)
    killed = first.wait()
    place.service.finish_all()

    done = [killed, second.wait()]
    assert [one.code for one in done] == [-signal.SIGKILL, 10], done
    assert place.states() == {"succeeded": 1, "in_doubt": 1}
    assert place.service.counters.accepted == 2
    assert place.leftovers() == []
    place.check_books()


def test_two_runs_whose_jobs_rest_do_not_wait_for_each_other(place: Place) -> None:
    place.service.settings = replace(place.service.settings, run_s=(60.0, 60.0))
    place.write(rows_of(2))
    armed = {"BATCHGEN_FAILPOINT": "in-poll=stop"}
    some = ("jobs.csv", "-j", "2", "--limit", "1", "--job-timeout", "0.1")
    first = place.start_run(*some, env=armed)
    first.wait_stopped()
    second = place.start_run("jobs.csv", "--job-timeout", "3")
    place.wait_accepted(2)
    first.send(signal.SIGCONT)

    done = [first.wait(), second.wait()]

    assert [one.code for one in done] == [3, 3], done
    assert WAITING in done[0].err
    assert place.states() == {"running": 2}
    assert place.service.counters.accepted == 2
    place.check_books()


def silence(place: Place) -> None:
    """Let the last sign of life of every worker be six minutes old."""
    with closing(sqlite3.connect(place.db)) as connection, connection:
        connection.execute("UPDATE workers SET seen_ms = seen_ms - 360000")
