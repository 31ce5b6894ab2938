"""What a run may pay for is what it showed; what it wrote on its way out is what was known."""

import csv
import os
import pty
from contextlib import suppress
from pathlib import Path

import forked
import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write

from batchgen.providers.simulator import Fault, Handle, Kind, Settings

DOUBTS = Settings(
    faults=tuple(Fault(Kind.DROP_AFTER, prompt=f"scene {one}", times=1) for one in "xyz")
)


def asked(*words: str, meanwhile: tuple[str, ...]) -> tuple[int, str]:
    """Run `batchgen run`, do something while it waits for an answer, and agree."""
    person, terminal = pty.openpty()
    command = [*forked.BATCHGEN, "run", *words]
    process = forked.Process(command, os.environ, Path.cwd(), [terminal, 1, terminal])
    os.close(terminal)
    said = b""
    while b"Pay for them?" not in said:
        said += os.read(person, 10_000)
    ok(*meanwhile)
    os.write(person, b"y\n")
    with suppress(OSError):  # the terminal ends with the program
        while more := os.read(person, 10_000):
            said += more
    os.close(person)
    return process.wait(timeout=60), said.decode()


def accepted(handle: Handle) -> list[str]:
    return [str(entry.inputs["promptText"]).strip() for entry in handle.ledger.entries]


def test_a_limit_bounds_what_is_resubmitted_and_that_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, DOUBTS) as handle:
        ok("add", write("jobs.csv", rows("a", "b", "x", "y", "z")))
        ok("cancel", "a", "b")
        assert call("run", "-y", "--poll-interval", "0").code == 10
        ok("retry", "a", "b", "-y")

        planned = ok("run", "-n", "--resubmit-in-doubt", "--limit", "2")
        done = call("run", "-y", "--poll-interval", "0", "--resubmit-in-doubt", "--limit", "2")

        assert done.code == 10, done.err
        for said in (planned.out, done.err):
            assert "2 jobs in doubt to be paid for again (1 more left in doubt)" in said
            assert "2 jobs to pay for (--limit): about $0.50, at worst $1.00" in said
        assert accepted(handle)[3:] == ["scene x", "scene y"]
        left = {"a": "pending", "b": "pending", "z": "in_doubt"}
        assert states() == {**left, "x": "succeeded", "y": "succeeded"}

        none = call("run", "-y", "--resubmit-in-doubt", "--limit", "0")

        assert none.code == 10, none.err
        assert states() == {**left, "x": "succeeded", "y": "succeeded"}


def test_only_doubts_of_the_rows_of_the_run_are_resubmitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, DOUBTS) as handle:
        buy("x", "y", expect=10)
        ok("add", write("other.csv", rows("z")), "--account", "other")
        assert call("run", "-y", "--account", "other", "--poll-interval", "0").code == 10
        write("jobs.csv", rows("x"))

        call("run", "jobs.csv", "-y", "--resubmit-in-doubt", "--poll-interval", "0")
        assert states() == {"x": "succeeded", "y": "in_doubt", "z": "in_doubt"}

        call("run", "-y", "--resubmit-in-doubt", "--poll-interval", "0")
        assert states() == {"x": "succeeded", "y": "succeeded", "z": "in_doubt"}
        assert handle.counters.accepted == 5


def test_what_is_stored_while_the_user_thinks_is_not_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch) as handle:
        ok("add", write("jobs.csv", rows("a")))
        write("more.csv", rows("b"))

        code, said = asked("--poll-interval", "0", "-q", meanwhile=("add", "more.csv"))

        assert code == 0, said
        assert "1 job to pay for" in said
        assert accepted(handle) == ["scene a"]
    assert states() == {"a": "succeeded", "b": "pending"}


def test_what_was_not_shown_stores_nothing_and_the_results_are_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(faults=(Fault(Kind.INVALID, times=1),))) as handle:
        buy("a", expect=4)
        write("jobs.csv", rows("a", "b"))

        code, said = asked("jobs.csv", "-o", "out.csv", meanwhile=("retry", "a", "-y"))

        assert code == 2, said
        assert "changed since you were asked" in said
        assert handle.counters.accepted == 0
    assert states() == {"a": "pending"}
    with Path("out.csv").open(newline="") as file:
        assert [row["result_state"] for row in csv.DictReader(file)] == ["pending"]


def test_a_run_that_nobody_agreed_to_writes_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        ok("add", write("jobs.csv", rows("a")))

        assert call("run", "-o", "out.csv").code == 2

    assert not Path("out.csv").exists()


def test_a_budget_that_is_not_enough_is_told_before_anybody_agrees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = ("-y", "--db", "x.db", "--poll-interval", "0")
    with service(monkeypatch):
        jobs = write("jobs.csv", rows("a", "b", "c", "d"))
        assert ok("run", jobs, *fast, "-q", "--budget", "1.05", "--limit", "1").err == ""
        enough = call("run", jobs, *fast)
        scarce = call("run", write("jobs.csv", rows(*"abcdef")), *fast)

    assert "spends at most $1.05 (budget), $0.25 of it is used" in enough.err
    assert "enough for about" not in enough.err
    assert "$1.00 of it is used: enough for about 0 of 2 jobs; then exit 8" in scarce.err
    assert (enough.code, scarce.code) == (0, 8)


def test_a_plan_that_a_limit_cuts_says_so_in_the_same_words_whoever_pays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited = ("run", write("jobs.csv", rows("a", "b", "c")), "--limit", "2")
    with service(monkeypatch):
        dry, real = ok(*limited, "-n"), ok(*limited, "-y", "--db", "x.db", "--poll-interval", "0")
    simulated = ok(*limited, "--simulate")

    for said in (dry.out, real.err, simulated.err):
        assert "  3 jobs to pay for without --limit: about $0.75" in said
        assert said.count("2 jobs to pay for (--limit): about $0.50, at worst $1.00") == 1
