"""One job in full: what happened when, what to do next, what the service answered."""

import json
from pathlib import Path

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, write

from batchgen.providers.simulator import Fault, Kind, Settings

FAULTS = (
    Fault(Kind.GENERATION, prompt="scene broken", code="SAFETY.INPUT.TEXT"),
    Fault(Kind.DROP_AFTER, prompt="scene silent"),
    Fault(Kind.INVALID, prompt="scene wrong"),
    Fault(Kind.GENERATION, prompt="scene twice", count=1, code="INTERNAL"),
)


def test_what_happened_to_jobs_and_what_to_do_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=FAULTS, echo_inputs=True)):
        buy("a", "twice", "broken", "silent", "wrong", expect=10)
    ok("add", write("more.csv", [{**rows("c")[0], "shot": "12\x1b[2Ja"}]))
    ok("cancel", "c")
    ok("retry", "c", "-y")

    fine = ok("show", "a").out
    assert "next:" not in fine
    story = fine.partition("what happened\n")[2].partition("attempt 1:")[0].splitlines()
    words = ["is sent, with $0.25 reserved", "is accepted: request", "is generated"]
    assert [line for line in words if any(line in one for one in story)] == words
    assert story[-1].endswith("the clip is on disk")
    assert "$0.25 charged, as the service states" in fine

    twice = ok("show", "twice").out
    assert twice.index("attempt 1 fails (generation, INTERNAL)") < twice.index("attempt 2 is sent")

    assert "the same again may get the account suspended: batchgen retry jobs/broken" in (
        ok("show", "broken").out
    )
    assert "attempt 1: in doubt: sent, and no answer came" in ok("show", "silent").out
    assert "`batchgen reconcile --adopt jobs/silent=REQUEST_ID`" in ok("show", "silent").out
    wrong = ok("show", "wrong").out
    assert "attempt 1 is refused, nothing is paid: HTTP 422" in wrong
    assert "correct the row and add it again" in wrong
    waiting = ok("show", "c").out
    assert "  shot: 12\\x1b[2Ja\n" in waiting
    assert "  cancelled\n" in waiting
    assert "a person lets it be paid for again (was cancelled)" in waiting
    assert "it waits to be paid for: batchgen run --batch more" in waiting

    Path("clips/jobs/a.mp4").unlink()
    gone = ok("show", "a").out
    assert "a.mp4: missing" in gone
    assert "batchgen download --refresh jobs/a" in gone

    both = ok("show", "a", "-", "--json", stdin="jobs/twice\n").said["jobs"]
    assert [job["id"] for job in both] == ["a", "twice"]
    assert ok("show", "a", "--json").said == both[0]
    short, whole = ok("show", "a").out, ok("show", "a", "--raw").out
    answer = json.loads(both[0]["attempts"][0]["result_raw"])
    assert "--raw shows all" in short
    assert "--raw shows all" not in whole
    assert f'"request_id": "{answer["request_id"]}"' in whole


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "Missing argument"),
        (["-"], 2, "name at least one job"),
        (["nobody"], 2, "no job is called 'nobody': `batchgen ls` lists them"),
        (["a", "nobody"], 2, "no job is called 'nobody'"),
    ],
)
def test_a_job_that_is_not_there(words: list[str], code: int, message: str) -> None:
    ok("add", write("m.csv", rows("a")))

    done = call("show", *words)

    assert (done.code, done.out) == (code, "")
    assert message in done.err
