"""A run is changed from another terminal while it works."""

import re
import signal
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cli.bought import service
from cli.commands import call, ok, rows, write
from power.disk import compiled
from runs import Place, rows_of

from batchgen.providers import simulator
from batchgen.providers.simulator import Fault, Kind, Ledger

LONG = (1000.0, 1000.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place whose service generates until it is told to finish, with each job database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    with simulator.start_in_thread(simulator.Settings(run_s=LONG)) as service:
        found = Place(tmp_path, service, url=url)
        yield found
        found.end()


def do(place: Place, *words: str) -> str:
    """Do a command from another terminal, and return what it said."""
    done = ok(*words, "--db", place.url)
    return done.out + done.err


def do_add(place: Place, *options: str) -> None:
    """Store the manifest."""
    do(place, "add", str(place.folder / "jobs.csv"), *options)


def finish(place: Place) -> None:
    """Let everything that is generating, and all that comes, be done at once."""
    place.service.settings = replace(place.service.settings, run_s=(0.0, 0.0))
    place.service.finish_all()


def prompts(ledger: Ledger) -> list[str]:
    """Return what was bought, in order."""
    return [str(entry.inputs["promptText"]) for entry in ledger.entries]


def test_a_run_is_paused_changed_and_unpaused_under_load(place: Place) -> None:
    place.write(rows_of(12))
    run = place.start_run("jobs.csv", "-j", "2")
    place.wait_accepted(2)

    said = do(place, "pause")
    run.wait_said("the account is paused")  # although every slot is busy
    place.service.finish_all()
    place.wait_jobs(lambda: place.states()["succeeded"] == 2)
    do(place, "set", "priority", "5", "c12")
    do(place, "set", "priority", "-5", "c3")
    do(place, "set", "jobs", "5")
    run.wait_said("jobs in flight: 2 → 5, set from elsewhere")
    held = place.service.counters
    do(place, "unpause")
    run.wait_said("no longer paused")
    place.wait_accepted(7)
    risen = place.service.counters
    finish(place)
    done = run.wait()

    assert "1 live worker stops submitting within seconds" in said
    assert held.posts == 2
    assert risen.untold == 5
    assert done.code == 0, done.err
    bought = prompts(place.service.ledger)
    assert bought[2:7].count("scene 012") == 1
    assert bought[-5:].count("scene 003") == 1
    assert place.service.counters.most_untold == 5
    assert place.states() == {"succeeded": 12}
    place.check_books()


def test_a_run_drains_to_a_lower_cap(place: Place) -> None:
    place.write(rows_of(6))
    run = place.start_run("jobs.csv", "-j", "4")
    place.wait_accepted(4)

    do(place, "set", "jobs", "1")
    run.wait_said("jobs in flight: 4 → 1, set from elsewhere")
    place.service.finish_all()
    place.wait_accepted(5)
    drained = place.service.counters
    finish(place)
    done = run.wait()

    assert done.code == 0, done.err
    assert drained.untold == 1
    assert place.states() == {"succeeded": 6}


def test_a_rate_is_followed(place: Place) -> None:
    place.write(rows_of(3))
    do_add(place)
    do(place, "set", "rate", "0.0001")
    run = place.start_run()
    place.wait_accepted(1)  # the bucket is full at first

    said = do(place, "set", "rate", "none")
    run.wait_said("submits a second: 0.0001 → no bound, set from elsewhere")
    place.wait_accepted(3)  # although nothing else happens
    finish(place)
    done = run.wait()

    assert "0.0001 → no bound; 1 live worker follows within seconds" in said
    assert done.code == 0, done.err
    assert place.states() == {"succeeded": 3}


def test_a_budget_that_is_raised_lets_the_rest_be_bought(place: Place) -> None:
    place.write(rows_of(6))
    run = place.start_run("jobs.csv", "-j", "6", "--budget", "0.50")  # two of $0.25
    place.wait_accepted(2)

    less = do(place, "set", "budget", "0.25")
    run.wait_said("budget of batch jobs: $0.50 → $0.25, set from elsewhere")
    more = do(place, "set", "budget", "1.25")
    run.wait_said("budget of batch jobs: $0.25 → $1.25")
    place.wait_accepted(5)
    finish(place)
    done = run.wait()
    again = do(place, "set", "budget", "none")

    assert "$0.50 → $0.25 ($0.00 spent, $0.50 reserved): nothing more of it is submitted" in less
    assert "1 live worker goes on and may pay within seconds" in more
    assert "$1.25 → none" in again
    assert done.code == 8, done.err
    assert place.states() == {"succeeded": 5, "pending": 1}
    assert place.service.counters.accepted == 5
    place.check_books()


def test_a_queued_job_that_is_cancelled_ends_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.service.settings = replace(place.service.settings, slots=1)
    place.write(rows_of(2))
    # The next planned look is an hour away.
    run = place.start("run", "jobs.csv", "-y", "--db", place.url, "--poll-interval", "1h")
    place.service.wait_until(lambda seen: seen.result_looks >= 2)
    place.wait_jobs(lambda: place.states()["running"] == 2)
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    generating, queued = ("c1", "c2")
    if place.service.ledger.entries[0].inputs["promptText"] == "scene 002":
        generating, queued = queued, generating

    done = call("cancel", generating, queued, "--db", place.url, "--json")
    place.wait_jobs(lambda: place.states()["cancelled"] == 1)
    between = place.states()
    reserved = place.query(
        "SELECT sum(est_micros) AS micros FROM attempts WHERE state = 'accepted'"
    )
    seen = place.service.ledger.entries
    run.send(signal.SIGINT)
    run.wait()
    finish(place)
    after = place.run()

    outcomes = {job["id"]: job for job in done.said["jobs"]}
    assert done.code == 3
    assert outcomes[queued]["outcome"] == "asked"
    assert "cannot be cancelled: it goes on" in outcomes[generating]["message"]
    assert between == {"running": 1, "cancelled": 1}
    assert reserved[0]["micros"] == 250_000
    assert [entry.looks for entry in seen if not entry.cancelled] == [1]
    assert after.code == 0, after.err
    assert place.states() == {"succeeded": 1, "cancelled": 1}
    place.check_books()


def test_a_retried_job_is_bought_by_the_live_run(place: Place) -> None:
    place.service.settings = replace(
        place.service.settings, faults=(Fault(Kind.INVALID, prompt="scene 002", times=1),)
    )
    place.write(rows_of(2))
    run = place.start_run("jobs.csv")
    place.service.wait_until(lambda seen: seen.refused == 1)
    place.wait_jobs(lambda: place.states()["failed"] == 1)

    said = do(place, "retry", "c2", "-y")
    place.wait_accepted(2)  # although nothing else happens in the run
    finish(place)
    done = run.wait()

    assert "1 live worker pays for those of its scope within seconds" in said
    assert done.code == 0, done.err
    place.check_books()


def test_the_rest_of_the_night_is_cancelled_and_what_runs_goes_on(place: Place) -> None:
    place.write(rows_of(5))
    run = place.start_run("jobs.csv", "-j", "2")
    place.wait_accepted(2)

    said = do(place, "cancel", "--pending", "--batch", "jobs")
    nothing = do(place, "cancel", "--pending")
    finish(place)
    done = run.wait()

    assert "jobs: 3 pending jobs cancelled; nothing more is paid" in said
    assert "no job was pending" in nothing
    assert done.code == 3, done.err
    assert place.states() == {"succeeded": 2, "cancelled": 3}
    assert place.service.counters.accepted == 2
    place.check_books()


# -- the clock -------------------------------------------------------------------------------------


def test_after_its_duration_a_run_finishes_what_is_paid_for(place: Place) -> None:
    place.write(rows_of(5))
    run = place.start_run("jobs.csv", "-j", "2", "--max-duration", "3s")
    place.wait_accepted(2)

    run.wait_said("--max-duration 3s was over at ")
    place.service.finish_all()
    done = run.wait()

    assert done.code == 8, done.err
    assert "run again to go on with the rest" in done.err
    assert place.states() == {"succeeded": 2, "pending": 3}
    place.check_books()
    place.check_clips()
    finish(place)
    assert place.run().code == 0
    assert place.states() == {"succeeded": 5}


@pytest.mark.parametrize("end", ["--max-duration", "--until"])
def test_a_paused_run_ends_when_the_time_has_come(place: Place, end: str) -> None:
    clock = SetClock(place.folder)
    place.write(rows_of(3))
    run = place.start_run("jobs.csv", "-j", "1", *clock.until(end), env=clock.env)
    place.wait_accepted(1)
    do(place, "pause")
    run.wait_said("the account is paused")
    place.service.finish_all()
    place.wait_jobs(lambda: place.states()["succeeded"] == 1)

    clock.strike()
    done = run.wait()

    assert done.code == 8, done.err
    assert place.states() == {"succeeded": 1, "pending": 2}


class SetClock:
    """The wall clock of a run, which the test sets forward."""

    def __init__(self, folder: Path) -> None:
        library = compiled(folder, Path(__file__).with_name("clock.c"))
        if library is None:
            pytest.skip("there is no C compiler")
        self._file = folder / "clock"
        self._file.write_bytes(struct.pack("@l", 0))
        self.env: dict[str, str | None] = {
            "LD_PRELOAD": str(library),
            "CLOCK_FILE": str(self._file),
        }

    def until(self, option: str) -> tuple[str, str]:
        if option == "--max-duration":  # no clock that can be set counts it
            return option, "5s"
        return option, f"{datetime.now().astimezone() + timedelta(hours=2):%H:%M}"

    def strike(self) -> None:
        # In place: the program has mapped the file.
        with self._file.open("r+b") as file:
            file.write(struct.pack("@l", 2 * 3600))


def test_a_run_that_was_done_in_time_does_not_say_that_time_was_up(place: Place) -> None:
    place.write(rows_of(2))
    run = place.start_run("jobs.csv", "--max-duration", "3s")
    place.wait_accepted(2)

    run.wait_said("--max-duration 3s was over")
    finish(place)
    done = run.wait()

    assert done.code == 0, done.err


def test_until_when_it_submits_is_said_before_anything_is_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch):
        write("jobs.csv", rows("a"))
        db = ("--db", "jobs.db")
        done = ok("run", "jobs.csv", "-y", *db, "--until", "07:00", "--max-duration", "8h")

    asked = done.err.partition("1 succeeded")[0]
    assert "submits for 8h at most (--max-duration)" in asked
    assert re.search(r"submits until 20\d\d-\d\d-\d\d 07:00 at most", asked)


@pytest.mark.parametrize("clock", ["25:00", "7", "07:60", "7 am", ""])
def test_what_is_no_time_of_day_is_refused(clock: str) -> None:
    done = call("run", "--until", clock)

    assert done.code == 2
    assert "is no time of day such as 07:00" in done.err


@pytest.mark.parametrize("words", ["0", "-1h", "8", "h", "soon", "400d", "nan", "1h30"])
def test_what_is_no_duration_is_refused(words: str) -> None:
    done = call("run", f"--max-duration={words}", "--dry-run")

    refused = "no time from 1s to 366d, such as 90, 90s, 15m, 8h, 1h30m or 2d"
    assert (done.code == 2 and refused in done.err) == (words != "8")


def test_an_outage_is_not_waited_for_beyond_the_time(place: Place) -> None:
    place.write(rows_of(3))
    do_add(place)
    place.service.down()
    run = place.start_run("--max-duration", "3s")

    done = run.wait()

    assert done.code == 8, done.err
    assert place.states() == {"pending": 3}
    place.service.up()
    assert place.service.counters.accepted == 0


def test_who_asked_for_a_share_keeps_it_whatever_the_cap_becomes(place: Place) -> None:
    place.write(rows_of(8))
    first = place.start_run("jobs.csv", "-j", "2", "--limit", "2")
    place.wait_accepted(2)
    second = place.start_run("-j", "1")
    second.wait_said("this one takes at most 1")
    # Before that it has no notion of what the cap was.
    place.wait_jobs(lambda: len(place.query("SELECT 1 AS one FROM workers")) == 2)

    said = do(place, "set", "jobs", "6")
    second.wait_said("jobs in flight: 2 → 6, set from elsewhere")
    place.wait_accepted(3)
    finish(place)
    codes = (first.wait().code, second.wait().code)

    assert "2 live workers follow within seconds" in said
    assert codes == (0, 0)
    assert place.states() == {"succeeded": 8}
    assert place.service.counters.most_untold == 3
    place.check_books()


def test_clips_of_a_run_go_where_it_began(place: Place) -> None:
    path = str(place.write(rows_of(1)))
    run = place.start_run(path)
    place.wait_accepted(1)

    done = call("add", path, "--db", place.url, "--output-dir", "elsewhere")
    finish(place)

    assert done.code == 2
    assert "a run is at work on batch jobs" in done.err
    assert run.wait().code == 0
    place.check_clips()
    do_add(place, "--output-dir", "elsewhere")
