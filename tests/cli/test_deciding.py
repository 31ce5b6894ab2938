import os
import pty
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import forked
import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write

from batchgen.providers.simulator import Fault, Handle, Kind, Settings

LONG = Settings(run_s=(1000.0, 1000.0), slots=1)
DOUBT = Fault(Kind.DROP_AFTER, prompt="scene a")


def start(*ids: str) -> None:
    """Buy jobs that stay at the service, held by nobody."""
    buy(*ids, expect=3, options=("--job-timeout", "0.05"))


def request_id(handle: Handle, prompt: str) -> str:
    found = [
        entry.id for entry in handle.ledger.entries if prompt in str(entry.inputs["promptText"])
    ]
    return found[0]


# -- cancel ----------------------------------------------------------------------------------------


def test_a_pending_job_is_cancelled_at_once() -> None:
    ok("add", write("jobs.csv", rows("a", "b", "c")))

    done = ok("cancel", "a", "-", stdin="b\n\n")

    assert "jobs/a: cancelled; nothing more is paid" in done.out
    assert states() == {"a": "cancelled", "b": "cancelled", "c": "pending"}


def test_a_queued_job_is_cancelled_by_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, LONG) as handle:
        start("a", "b")

        done = call("cancel", "a", "b", "--json")
        outcomes = {job["id"]: job["outcome"] for job in done.said["jobs"]}
        after = states()
        handle.finish_all()
        fetched = call("download", "-q")

    assert done.code == 3
    assert sorted(outcomes.values()) == ["asked", "left"]
    assert after == {"a": "running", "b": "running"}
    assert fetched.code == 3
    assert sorted(states().values()) == ["cancelled", "succeeded"]


def test_a_running_job_needs_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, LONG):
        start("a")
        ok("add", write("more.csv", rows("z")))
        monkeypatch.delenv("RUNCOMFY_TOKEN")

        done = call("cancel", "a", "z")

    assert done.code == 6
    assert states() == {"a": "running", "z": "cancelled"}


@pytest.mark.parametrize("base", ["nonsense", "http://192.0.2.1/v1", "https://[::1"])
def test_a_base_that_cannot_be_one_is_told(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    with service(monkeypatch, LONG):
        start("a")
    monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", base)

    done = call("cancel", "a")

    assert done.code == 2
    assert "base" in done.err


def test_a_finished_job_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a")

    done = call("cancel", "a")

    assert done.code == 3
    assert "left alone: is succeeded" in done.out
    assert states() == {"a": "succeeded"}


def test_a_job_that_is_being_submitted_is_left_alone() -> None:
    ok("add", write("jobs.csv", rows("a")))
    with closing(sqlite3.connect("batchgen.db")) as connection, connection:
        connection.execute("UPDATE jobs SET state = 'submitting'")

    done = call("cancel", "a")

    assert done.code == 3
    assert "left alone: is being submitted just now: cancel it again once it runs" in done.out
    assert states() == {"a": "submitting"}


def test_another_service_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, LONG):
        start("a")
    ok("add", write("more.csv", rows("z")))
    with service(monkeypatch, LONG) as other:
        done = call("cancel", "a", "z")
        assert other.counters.cancels == 0

    assert done.code == 2
    assert "more/z: cancelled" in done.out
    assert "belongs to" in done.err


# -- retry -----------------------------------------------------------------------------------------


@pytest.fixture
def _failed(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(Fault(Kind.INVALID),))):
        buy("a", "b", expect=4)


@pytest.mark.usefixtures("_failed")
def test_failed_jobs_become_pending() -> None:
    done = ok("retry", "--failed", "-y", "--json")

    assert [job["id"] for job in done.said["retried"]] == ["a", "b"]
    assert states() == {"a": "pending", "b": "pending"}


def test_nothing_is_to_be_paid_for_if_nothing_was_changed() -> None:
    ok("add", write("jobs.csv", rows("a")))

    none, left = ok("retry", "--failed", "-y"), call("retry", "a", "-y")

    assert "no such job has failed" in none.err
    assert none.out == left.out == ""


@pytest.mark.usefixtures("_failed")
def test_only_the_named_job_is_retried() -> None:
    ok("retry", "b", "-y")

    assert states() == {"a": "failed", "b": "pending"}


@pytest.mark.usefixtures("_failed")
def test_nobody_to_ask_means_no() -> None:
    done = call("retry", "--failed")

    assert done.code == 2
    assert "-y" in done.err
    assert states() == {"a": "failed", "b": "failed"}


@pytest.mark.usefixtures("_failed")
@pytest.mark.parametrize(("answer", "code", "after"), [("y", 0, "pending"), ("n", 2, "failed")])
def test_a_person_is_asked(answer: str, code: int, after: str) -> None:
    person, terminal = pty.openpty()
    os.write(person, f"{answer}\n".encode())

    words = [*forked.BATCHGEN, "retry", "--failed"]
    code_of_it = forked.Process(words, os.environ, Path.cwd(), [terminal, 1, terminal]).wait(60)
    os.close(terminal)
    said = os.read(person, 10_000).decode()
    os.close(person)

    assert code_of_it == code
    assert "Let 2 jobs be paid for again, about $0.50?" in said
    assert set(states().values()) == {after}


def test_a_pending_job_needs_no_retry() -> None:
    ok("add", write("jobs.csv", rows("a")))

    done = call("retry", "a", "-y")

    assert done.code == 3
    assert "left alone: is pending" in done.err


# -- reconcile -------------------------------------------------------------------------------------


def test_doubts_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(DOUBT,))):
        buy("a", "b", expect=10)

    assert "jobs/a" in ok("reconcile").out
    listed = ok("reconcile", "--list", "--json").said["in_doubt"]
    assert [(job["id"], job["reserved_usd"]) for job in listed] == [("a", 0.25)]
    assert datetime.fromisoformat(listed[0]["sent_at"]).tzinfo is not None


def test_an_adopted_job_is_not_paid_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(DOUBT,), echo_inputs=True)) as handle:
        buy("a", "b", expect=10)

        done = ok("reconcile", "--adopt", f"a={request_id(handle, 'scene a')}")
        adopted = states()
        ok("download", "-q")

        assert handle.counters.accepted == 2
    assert "jobs/a: adopted" in done.out
    assert adopted["a"] == "running"
    assert states() == {"a": "succeeded", "b": "succeeded"}


@pytest.mark.parametrize(
    "settings", [Settings(echo_inputs=True), Settings(times_stated=False)], ids=["echo", "time"]
)
def test_what_is_not_certain_needs_a_yes(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    with service(monkeypatch, replace(settings, faults=(Fault(Kind.DROP_AFTER),))) as handle:
        buy("a", "b", expect=10)
        pair = f"a={request_id(handle, 'scene b')}"

        refused = call("reconcile", "--adopt", pair)
        before = states()
        ok("reconcile", "--adopt", pair, "-y")

    assert refused.code == 2
    assert "other inputs" in refused.err or "when the request was made" in refused.err
    assert before["a"] == "in_doubt"
    assert states()["a"] == "running"


def test_a_request_that_the_service_does_not_know_is_not_adopted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(faults=(DOUBT,))):
        buy("a", expect=10)

        done = call("reconcile", "--adopt", "a=nobody", "-y")

    assert done.code == 2
    assert "knows no request" in done.err
    assert states() == {"a": "in_doubt"}


def test_a_request_of_another_job_is_not_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(DOUBT,))) as handle:
        buy("a", "b", expect=10)

        done = call("reconcile", "--adopt", f"a={request_id(handle, 'scene b')}", "-y")

    assert done.code == 2
    assert "belongs to another job" in done.err
    assert states()["a"] == "in_doubt"


def test_a_request_of_another_account_at_the_same_service_is_not_adopted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch) as handle:
        buy("a")
        handle.settings = Settings(faults=(Fault(Kind.DROP_AFTER),))
        write("other.csv", rows("b"))
        call("run", "other.csv", "-y", "--account", "other")

        pair = f"other/b={request_id(handle, 'scene a')}"
        done = call("reconcile", "--adopt", pair, "-y", "--account", "other")

    assert done.code == 2
    assert "belongs to another job" in done.err
    assert states() == {"a": "succeeded", "b": "in_doubt"}


def test_one_request_is_not_adopted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(Fault(Kind.DROP_AFTER),))) as handle:
        buy("a", "b", expect=10)
        found = request_id(handle, "scene a")

        done = call("reconcile", "--adopt", f"a={found}", f"b={found}", "-y")

    assert done.code == 2
    assert "named twice" in done.err
    assert set(states().values()) == {"in_doubt"}


def test_without_a_token_nothing_can_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(DOUBT,))) as handle:
        buy("a", expect=10)
        monkeypatch.delenv("RUNCOMFY_TOKEN")
        pair = f"a={request_id(handle, 'scene a')}"

        assert call("reconcile", "--adopt", pair).code == 2
        assert states() == {"a": "in_doubt"}
        ok("reconcile", "--adopt", pair, "-y")

    assert states() == {"a": "running"}


def test_a_resubmitted_job_is_paid_again(monkeypatch: pytest.MonkeyPatch) -> None:
    once = Fault(Kind.DROP_AFTER, prompt="scene a", times=1)
    with service(monkeypatch, Settings(faults=(once,))) as handle:
        buy("a", expect=10)

        assert call("reconcile", "--resubmit", "a").code == 2
        assert states() == {"a": "in_doubt"}
        ok("reconcile", "--resubmit", "a", "-y")
        assert "  priority: before all others\n" in ok("show", "a").out
        assert states() == {"a": "pending"}
        ok("run", "-y", "--poll-interval", "0")

        assert handle.counters.accepted == 2
    assert ok("status", "--json").said["batches"][0]["spent_usd"] == 0.5


def test_every_doubt_is_written_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(Fault(Kind.DROP_AFTER),))):
        buy("a", "b", expect=10)

    ok("reconcile", "--write-off", "--all")

    assert states() == {"a": "failed", "b": "failed"}
    assert ok("status", "--json").said["batches"][0]["failed_by_class"] == {"written_off": 2}


# -- download --------------------------------------------------------------------------------------


def test_a_clip_that_is_gone_is_fetched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch) as handle:
        buy("a", "b")
        clips = {job["id"]: Path(job["file"]) for job in ok("ls", "--json").said["jobs"]}
        before = clips["a"].read_bytes()
        clips["a"].unlink()

        for words in ([], ["--dry-run"], ["--json"]):
            told = ok("download", "-q", *words)
            said = "1 clip fetched before is gone: `batchgen download --refresh` fetches"
            assert (said in told.err, clips["a"].exists()) == (True, False)
        assert "gone" not in ok("download", "--account", "other", "--dry-run").err
        done = ok("download", "--refresh", "-q", "--json")

        assert handle.counters.accepted == 2
    assert [(job["id"], job["file"]) for job in done.said["jobs"]] == [("a", str(clips["a"]))]
    assert clips["a"].read_bytes() == before


@pytest.mark.parametrize("words", [("b",), ("--where", "id=b"), ("--batch", "more")])
def test_a_download_of_some_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Of a dead link, that of another job would be tried for hours before it ends."""
    with service(monkeypatch):
        buy("a", "c", options=("--no-download",))
        ok("run", write("more.csv", rows("b")), "-y", "--poll-interval", "0", "--no-download")

        ok("download", *words, "-q")
        some = states()
        ok("download", "-q")

    assert some == {"a": "downloading", "c": "downloading", "b": "succeeded"}
    assert set(states().values()) == {"succeeded"}


def test_a_clip_on_disk_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch) as handle:
        buy("a")
        before = handle.counters.file_fetches

        done = ok("download", "a", "-q")

        assert handle.counters.file_fetches == before
    assert "left alone: is on disk" in done.err


def test_what_a_run_did_not_fetch_is_fetched_without_paying(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch) as handle:
        buy("a", "b", options=("--no-download",))
        ok("add", write("more.csv", rows("z")))
        assert states() == {"a": "downloading", "b": "downloading", "z": "pending"}

        ok("download", "-q")

        assert handle.counters.accepted == 2
    assert states() == {"a": "succeeded", "b": "succeeded", "z": "pending"}


def test_fetching_needs_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a", options=("--no-download",))
        monkeypatch.delenv("RUNCOMFY_TOKEN")

        done = call("download", "-q")

    assert done.code == 6
    assert states() == {"a": "downloading"}


def test_nothing_is_brought_back_at_another_service(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a")
    Path(ok("ls", "--json").said["jobs"][0]["file"]).unlink()
    with service(monkeypatch):
        done = call("download", "a", "-q")

    assert done.code == 2
    assert states() == {"a": "succeeded"}


def test_another_account_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a", options=("--no-download",))
        ok("add", write("more.csv", rows("z")), "--account", "other")

        done = call("download", "--account", "other", "-q")

    assert done.code == 2
    assert "--account" in done.err
