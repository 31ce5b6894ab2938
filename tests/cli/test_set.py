"""`batchgen set`, and what it refuses."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli.commands import call, ok, rows, states, write


def budget() -> float | None:
    value = ok("status", "--json").said["batches"][0]["budget_usd"]
    assert value is None or isinstance(value, float)
    return value


def test_the_number_of_jobs_in_flight_is_set_or_left_to_find() -> None:
    ok("add", write("jobs.csv", rows("a")))

    plain = ok("set", "jobs", "8")
    auto = ok("set", "jobs", "auto", "--json").said
    bounded = ok("set", "jobs", "auto", "--max", "12")
    (known,) = ok("status", "--json").said["accounts"]
    back = ok("set", "jobs", "3", "--json").said

    assert "account default: jobs in flight 4 → 8" in plain.err
    assert auto == {
        "account": "default",
        "jobs": 8,
        "auto_max": 32,
        "was_jobs": 8,
        "was_auto_max": None,
        "live_workers": 0,
    }
    assert "auto (now 8, up to 32) → auto (now 8, up to 12)" in bounded.err
    assert (known["jobs"], known["auto_max"], known["rate_per_s"]) == (8, 12, None)
    assert (back["jobs"], back["auto_max"], back["was_auto_max"]) == (3, None, 12)


def test_the_rate_is_set_and_taken_away() -> None:
    ok("add", write("jobs.csv", rows("a")))

    first = ok("set", "rate", "0.5")
    shown = ok("status").err
    second = ok("set", "rate", "none", "--json").said

    assert "submits a second: no bound → 0.5" in first.err
    assert "account default: at most 4 jobs in flight, 0.5 submits a second" in shown
    assert second == {
        "account": "default",
        "rate_per_s": None,
        "was_rate_per_s": 0.5,
        "live_workers": 0,
    }


def test_the_budget_of_the_only_batch_needs_no_name() -> None:
    ok("add", write("jobs.csv", rows("a", "b")), "--budget", "10")

    said = ok("set", "budget", "$20", "--json").said
    after = budget()
    none = ok("set", "budget", "none")

    assert said == {
        "batch": "jobs",
        "budget_usd": 20.0,
        "was_budget_usd": 10.0,
        "spent_usd": 0.0,
        "reserved_usd": 0.0,
        "live_workers": 0,
    }
    assert after == 20.0
    assert "budget of batch jobs: $20.00 → none" in none.err
    assert budget() is None


def test_of_several_batches_one_is_to_be_named() -> None:
    ok("add", write("jobs.csv", rows("a")))
    ok("add", write("more.csv", rows("b")))

    unnamed = call("set", "budget", "5")
    ok("set", "budget", "5", "--batch", "more")

    assert unnamed.code == 2
    assert "--batch; the batches are: jobs, more" in unnamed.err
    assert {
        batch["batch"]: batch["budget_usd"] for batch in ok("status", "--json").said["batches"]
    } == {"jobs": None, "more": 5.0}


def test_a_budget_needs_known_prices() -> None:
    ok("add", write("jobs.csv", rows("a", "b")))
    with closing(sqlite3.connect("batchgen.db")) as connection, connection:
        connection.execute("UPDATE jobs SET est_micros = NULL")

    done = call("set", "budget", "5")

    assert done.code == 2
    assert "the price of 2 jobs is not known: nothing was changed" in done.err
    assert budget() is None
    ok("set", "budget", "none")


def test_priorities_are_set_by_hand_or_from_stdin() -> None:
    ok("add", write("jobs.csv", rows("a", "b", "c")))
    ok("cancel", "c")

    done = call("set", "priority", "10", "a", "-", stdin="b\nc\n")
    negative = ok("set", "priority", "-10", "a", "--json").said

    assert done.code == 3
    assert "jobs/a: priority 0 → 10" in done.err
    assert "jobs/c: left alone: is cancelled" in done.err
    assert [job["priority"] for job in negative["jobs"]] == [-10]
    assert negative["jobs"][0]["was_priority"] == 10
    assert states() == {"a": "pending", "b": "pending", "c": "cancelled"}
    listed = ok("ls", "--sort", "-priority", "--columns", "id,priority", "--state", "pending")
    assert [line.split() for line in listed.out.splitlines()[1:]] == [["b", "10"], ["a", "-10"]]
    assert [job["id"] for job in ok("ls", "--where", "priority=10", "--json").said["jobs"]] == ["b"]
    assert "priority: 10\n" in ok("show", "b").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("jobs", "0"), "0 is not in the range"),
        (("jobs", "many"), "'many' is not a valid whole number"),
        (("jobs", "5", "--max", "9"), "--max goes with auto"),
        (("jobs", "5", "--account", "nobody"), "its accounts are: default"),
        (("rate", "0"), "not in the range"),
        (("rate", "nan"), "not a number such as 2 or 0.5"),
        (("rate", "inf"), "not in the range"),
        (("budget", "0"), "not an amount above 0"),
        (("budget", "much"), "not an amount of dollars"),
        (("budget", "5", "--batch", "other"), "the batches are: jobs"),
        (("priority", "1001", "a"), "1001 is not in the range"),
        (("priority", "1"), "name jobs, or select them"),
        (("priority", "1", "z"), "no job is called 'z'"),
    ],
)
def test_what_cannot_be_set_is_refused(words: tuple[str, ...], said: str) -> None:
    ok("add", write("jobs.csv", rows("a")))
    before = Path("batchgen.db").read_bytes()

    done = call("set", *words)

    assert done.code == 2
    assert said in done.err
    assert Path("batchgen.db").read_bytes() == before


@pytest.mark.parametrize("what", ["jobs", "rate", "budget"])
def test_without_a_job_database_the_code_is_11(what: str) -> None:
    assert call("set", what, "5").code == 11


def test_all_that_waits_is_cancelled_of_one_batch_or_of_the_account() -> None:
    ok("add", write("jobs.csv", rows("a", "b")))
    ok("add", write("more.csv", rows("c")))
    ok("add", write("other.csv", rows("d")), "--account", "other")

    one = ok("cancel", "--pending", "--batch", "more", "--json").said
    every = ok("cancel", "--pending")

    assert one == {"dry_run": False, "cancelled": {"more": 1}}
    assert every.out == "jobs: 2 pending jobs cancelled; nothing more is paid\n"
    assert states() == {"a": "cancelled", "b": "cancelled", "c": "cancelled", "d": "pending"}
    assert call("cancel").code == call("cancel", "--pending", "a").code == 2
    assert call("cancel", "--batch", "jobs", "a").code == 2
