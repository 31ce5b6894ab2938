"""Ctrl-C, SIGTERM and SIGHUP while paid requests are under way."""

import random
import signal
import sqlite3
import time
from contextlib import closing

import pytest
from runs import Place, rows_of

from batchgen.providers.simulator import Fault, Kind

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize("stops", [6, pytest.param(50, marks=pytest.mark.storm)])
def test_a_drained_stop_leaves_nothing_in_doubt(place: Place, stops: int) -> None:
    rows = rows_of(20 * stops)
    place.write(rows)
    chance = random.Random(stops)
    said = ""
    for _ in range(stops):
        number = chance.choice(list(CODES))
        bought = place.service.counters.accepted
        last = bought + chance.randint(2, 10)
        # Two answers are under way when the signal comes, and perhaps others.
        slow = Fault(Kind.SLOW, nth=(last - 1, last), seconds=0.3)
        place.set_faults(slow, Fault(Kind.SLOW, rate=0.5, seconds=0.1))
        run = place.start_run("jobs.csv", "-j", "6", "-o", "out.csv")
        place.wait_accepted(last)
        time.sleep(chance.uniform(0, 0.1))  # any moment will do
        run.send(number)

        done = run.wait()

        assert done.code == CODES[number], done.err
        said += done.err
        states = place.states()
        assert set(states) <= {"pending", "running", "downloading", "succeeded"}, done.err
        assert len(place.export()) == len(rows)
        recorded = [one for one in place.attempts() if one["request_id"] is not None]
        assert len(recorded) == place.service.counters.accepted < len(rows)
        assert place.leftovers() == []
        place.check_books()
    assert "stopping: waiting for" in said
    assert "at most 100 s" in said


def test_the_second_signal_leaves_at_once_and_the_database_is_right(place: Place) -> None:
    place.write(rows_of(10))
    slow = Fault(Kind.SLOW, nth=(3, 4), seconds=30)
    place.set_faults(slow)
    run = place.start_run("jobs.csv", "-j", "4", "-o", "out.csv")
    place.wait_accepted(4)
    run.send(signal.SIGINT)
    run.wait_said("stopping")
    run.send(signal.SIGINT)

    stopped = run.wait()

    assert stopped.code == 130, stopped.err
    assert place.states()["in_doubt"] >= 2
    assert place.states()["submitting"] == 0
    assert len(place.export()) == 10
    place.check_books()
    place.set_faults()

    second = place.run("jobs.csv", "-j", "20")

    assert second.code == 10
    assert all(len(entries) == 1 for entries in place.bought().values())
    place.check_books()


def test_the_second_signal_leaves_although_a_stranger_holds_the_job_database(place: Place) -> None:
    place.write(rows_of(8))
    place.set_faults(Fault(Kind.SLOW, nth=(1, 2, 3), seconds=0.5))
    run = place.start_run("jobs.csv", "-j", "3")
    place.wait_accepted(3)
    with closing(sqlite3.connect(place.db, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            run.wait_said("it is kept in")  # the commit of each id is under way
        run.send(signal.SIGINT)
        run.wait_said("waiting for 3 answers")
        run.send(signal.SIGINT)

        stopped = run.wait()

    # Said once the lock was waited for in vain: it left before that.
    assert "locked by another program" not in stopped.err
    assert stopped.code == 11, stopped.err
    assert "Traceback" not in stopped.err
    place.set_faults()
    done = place.run("jobs.csv", "-j", "20")
    assert done.code == 0, done.err
    assert place.states() == {"succeeded": 8}
    assert place.service.counters.accepted == 8
    assert place.leftovers() == []
    place.check_books()
