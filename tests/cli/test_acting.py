"""Commands that act on jobs that were named, selected by an expression, or piped in."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import Done

from batchgen.cli import selection
from batchgen.domain.states import ErrorClass, JobState
from batchgen.providers.simulator import Fault, Kind, Settings


def change(*statements: str) -> None:
    """Change jobs as a night does; the counters are moved along."""
    with closing(sqlite3.connect("batchgen.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("DELETE FROM counters")
        connection.execute(
            "INSERT INTO counters SELECT batch_id, state, count(*) FROM jobs GROUP BY 1, 2"
        )


def fail(*ids: str, error_class: str = "generation") -> None:
    names = ", ".join(f"'{name}'" for name in ids)
    change(
        f"UPDATE jobs SET state = 'failed', error_class = '{error_class}', error = 'it failed', "
        f"finished_ms = 1 WHERE row_id IN ({names})"
    )


def acted(done: Done) -> set[str]:
    """Return every job that a command spoke of, done or left alone."""
    jobs: list[Any] = [
        job for value in done.said.values() if isinstance(value, list) for job in value
    ]
    return {job["id"] for job in jobs}


# -- which jobs ------------------------------------------------------------------------------------

ACTIONS: dict[str, Sequence[str]] = {
    "retry": ("retry", "-n"),
    "cancel": ("cancel", "-n"),
    "priority": ("set", "priority", "1"),
}
_FIELDS = st.sampled_from(
    [
        "state=failed",
        "state!=pending",
        "class=moderation",
        "class=none",
        "id~1",
        "shot>2",
        "shot in (1, 4)",
        "error~FAILED",
        "client=acme",
        "not client=acme",
        "cost=none",
    ]
)
_EXPRESSIONS = st.recursive(
    _FIELDS,
    lambda part: st.builds("({} {} {})".format, part, st.sampled_from(["and", "or"]), part),
    max_leaves=3,
)


def test_an_expression_acts_on_exactly_the_jobs_that_ls_lists() -> None:
    cells = [
        {**row, "shot": str(number), "client": "acme" if number % 2 else "blue"}
        for number, row in enumerate(rows(*(f"r{number}" for number in range(8))))
    ]
    ok("add", write("jobs.csv", cells))
    fail("r0", "r1")
    fail("r2", error_class="moderation")
    change("UPDATE jobs SET state = 'cancelled', finished_ms = 1 WHERE row_id = 'r3'")

    @settings(
        max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(where=_EXPRESSIONS, action=st.sampled_from(sorted(ACTIONS)))
    def hold(where: str, action: str) -> None:
        listed = {job["id"] for job in ok("ls", "--where", where, "--json").said["jobs"]}
        done = call(*ACTIONS[action], "--where", where, "--json")
        assert acted(done) == listed, (action, where)
        named = call(*ACTIONS[action], "-", "--json", stdin="\n".join(sorted(listed)))
        assert acted(named) == listed
        assert named.code == done.code

    hold()


@pytest.mark.parametrize(
    "words",
    [
        ("retry", "--failed"),
        ("retry", "--where", "state=failed"),
        ("retry", "-"),
        ("cancel", "--pending"),
        ("cancel", "--where", "state=running"),
        ("cancel", "-"),
        ("set", "priority", "5", "--where", "state=running"),
        ("set", "priority", "5", "-"),
        ("reconcile",),
        ("reconcile", "--resubmit", "--where", "model~runway"),
        ("reconcile", "--write-off", "--all"),
        ("download", "--where", "state=running"),
        ("download", "--verify"),
        ("download", "-"),
    ],
    ids=" ".join,
)
def test_nothing_matched_is_said_and_is_no_failure(words: tuple[str, ...]) -> None:
    ok("add", write("jobs.csv", rows("a")))
    ok("cancel", "a")

    done = ok(*words)

    assert done.out == ""
    assert "no" in done.err.split("\n")[-2], done.err
    assert states() == {"a": "cancelled"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("retry",), "--failed"),
        (("retry", "a", "--failed"), "not both"),
        (("retry", "a", "--where", "state=failed"), "not both"),
        (("retry", "a", "--batch", "jobs"), "--batch goes with"),
        (("retry", "--batch", "jobs"), "name jobs"),
        (("retry", "--failed", "--batch", "nights"), "there is no batch 'nights'"),
        (("retry", "b", "c", "d"), "no job is called 'b', and 2 more"),
        (("retry", "--where", "stat=failed"), "did you mean"),
        (("retry", "--where", ""), "--where is empty"),
        (("cancel",), "--pending"),
        (("cancel", "a", "--where", "id=a"), "not both"),
        (("set", "priority", "5"), "--where"),
        (("set", "priority", "5", "a", "--where", "id=a"), "not both"),
        (("reconcile", "--resubmit"), "--where"),
        (("reconcile", "--resubmit", "a", "--all"), "not both"),
        (("reconcile", "--write-off", "a", "--where", "id=a"), "not both"),
        (("reconcile", "--adopt", "--where", "id=a"), "JOB=REQUEST_ID"),
        (("reconcile", "--from-rescue", "--where", "id=a"), "rescue files only"),
        (("reconcile", "--list", "--dry-run"), "--dry-run goes with"),
        (("reconcile", "--after-restore", "--where", "id=a"), "--after-restore goes with"),
        (("reconcile", "--all"), "leave --all out"),
        (("download", "a", "--where", "id=a"), "not both"),
        (("download", "a", "--batch", "jobs"), "--batch goes with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_words_that_make_no_sense_are_refused(words: tuple[str, ...], said: str) -> None:
    ok("add", write("jobs.csv", rows("a")))

    done = call(*words)

    assert done.code == 2
    assert said in done.err
    assert states() == {"a": "pending"}


def test_what_is_piped_in_must_be_text() -> None:
    ok("add", write("jobs.csv", rows("a")))

    done = call("cancel", "-", stdin="a\n\udcff\n")

    assert done.code == 2
    assert "standard input is not UTF-8" in done.err
    assert states() == {"a": "pending"}


def test_of_many_jobs_the_first_are_listed_and_data_has_all() -> None:
    names = [f"r{number:02}" for number in range(30)]
    ok("add", write("jobs.csv", rows(*names, "z")))
    ok("cancel", "z")

    done = call("cancel", "--where", "id!=none")
    again = call("cancel", "--where", "id!=none", "--json")

    assert done.code == again.code == 3
    assert done.out.splitlines() == [
        "30 jobs: cancelled; nothing more is paid",
        f"  {', '.join(f'jobs/{name}' for name in names[:20])} and 10 more",
        "1 job: left alone: is cancelled",
        "  jobs/z",
    ]
    assert {job["id"] for job in again.said["jobs"]} == {*names, "z"}


def test_where_each_job_has_something_else_said_the_rest_is_counted() -> None:
    lines = selection.told((f"jobs/r{number}", f"clips/{number}.mp4") for number in range(25))

    assert lines[0] == "jobs/r0: clips/0.mp4"
    assert len(lines) == 21
    assert lines[-1] == "and 5 more: --json lists all"


# -- retry -----------------------------------------------------------------------------------------


def test_a_retry_can_be_tried_first() -> None:
    ok("add", write("jobs.csv", rows("a", "b")))
    fail("a")

    tried = call("retry", "--where", "state in (failed, pending)", "-n")
    said = call("retry", "a", "b", "--dry-run", "--json").said

    assert tried.code == 3
    assert "1 job would be paid for again, about $0.25" in tried.out
    assert "jobs/b: left alone: is pending" in tried.err
    assert said["estimate_usd"] == 0.25
    assert ([job["id"] for job in said["retried"]], said["left"][0]["why"]) == (["a"], "is pending")
    assert states()["a"] == "failed"


def test_who_retries_is_told_what_it_may_lead_to() -> None:
    ok("add", write("jobs.csv", rows("a", "b", "c")))
    fail("a", error_class=ErrorClass.MODERATION)
    fail("b", error_class=ErrorClass.REMOTE_LOST)
    change("UPDATE jobs SET state = 'expired', finished_ms = 1 WHERE row_id = 'c'")

    refused = call("retry", "--where", "state!=pending")
    done = ok("retry", "--where", "class=moderation", "-y")

    assert refused.code == 2  # nobody to ask
    assert "1 moderation, 1 remote_lost, 1 expired" in refused.err
    assert "get the account suspended" in refused.err
    assert "2 of them are paid for" in refused.err
    assert "`batchgen download --refresh` first" in refused.err
    assert "suspended" in done.err
    assert "1 job pending again" in done.out
    assert states() == {"a": "pending", "b": "failed", "c": "expired"}


def test_a_new_seed_is_sent_where_the_model_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Fault(Kind.GENERATION, prompt="scene a", code="SAFETY.INPUT.TEXT", times=1)
    with service(monkeypatch, Settings(faults=(bad,))) as handle:
        manifest = write("jobs.csv", [{**row, "seed": "7"} for row in rows("a", "b")])
        ok("add", manifest)
        assert call("run", "-y", "--poll-interval", "0").code == 3

        (said,) = ok("retry", "--failed", "--new-seed", "-y", "--json").said["retried"]
        ok("run", manifest, "-y", "--poll-interval", "0")

        sent = [
            one.inputs["seed"]
            for one in handle.ledger.entries
            if "a" in one.inputs["promptText"].split()
        ]
    assert said["new_seed"] != 7
    assert sent == [7, said["new_seed"]]
    (event,) = [
        event for event in ok("show", "a", "--json").said["events"] if event["kind"] == "retried"
    ]
    assert event["data"] == {"was": "failed", "new_seed": str(said["new_seed"])}


def test_without_another_seed_the_same_is_not_bought_again() -> None:
    model = "kling/kling-2-1/pro/image-to-video"
    ok("add", write("jobs.csv", rows("a")), "--model", model)
    fail("a")

    done = call("retry", "a", "--new-seed", "-y")

    assert done.code == 3
    assert "takes no other seed" in done.err
    assert states() == {"a": "failed"}


# -- reconcile -------------------------------------------------------------------------------------


def test_doubts_are_selected_and_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(Fault(Kind.DROP_AFTER),))):
        buy("a", "b", "c", expect=10)

    listed = ok("reconcile", "--where", "id in (a, b)", "--json").said["in_doubt"]
    tried = ok("reconcile", "--resubmit", "--where", "id=a", "-n")
    given_up = ok("reconcile", "--write-off", "--where", "id=b", "--dry-run", "--json").said
    unasked = call("reconcile", "--resubmit", "--where", "id=a")
    before = states()
    ok("reconcile", "--resubmit", "--where", "id=a", "-y")
    ok("reconcile", "--write-off", "-", stdin="b\n")

    assert [job["id"] for job in listed] == ["a", "b"]
    assert "1 job would be paid for again, about $0.25" in tried.err
    assert "jobs/a: would be resubmitted" in tried.out
    assert (given_up["dry_run"], given_up["written_off"][0]["id"]) == (True, "b")
    assert unasked.code == 2
    assert set(before.values()) == {"in_doubt"}
    assert states() == {"a": "pending", "b": "failed", "c": "in_doubt"}


# -- download --------------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


@pytest.mark.parametrize(
    ("harm", "verdict", "kept"),
    [(Path.unlink, "missing", False), (spoil, "changed", True)],
    ids=["gone", "changed"],
)
def test_a_clip_that_is_not_as_it_was_is_fetched_again(
    monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None], verdict: str, kept: bool
) -> None:
    with service(monkeypatch) as handle:
        buy("a", "b")
        clips = {job["id"]: Path(job["file"]) for job in ok("ls", "--json").said["jobs"]}
        whole = clips["a"].read_bytes()
        assert ok("download", "--verify", "-q").err.startswith("2 clips looked at: 2 whole")
        harm(clips["a"])
        spoiled = clips["a"].read_bytes() if kept else None

        tried = call("download", "--verify", "-n", "--json")
        other = call("download", "--verify", "-n", "b")
        fetches = handle.counters.file_fetches
        done = ok("download", "--verify", "--where", "id=a", "--json").said

        assert handle.counters.file_fetches == fetches + 1
        assert handle.counters.accepted == 2
    assert tried.code == 3
    assert [(one["id"], one["verdict"]) for one in tried.said["verified"]["wrong"]] == [
        ("a", verdict)
    ]
    assert other.code == 0
    assert done["verified"]["counts"][verdict] == 1
    name = "clips/jobs/a-2.mp4" if kept else "clips/jobs/a.mp4"
    assert [(job["id"], job["file"]) for job in done["jobs"]] == [("a", name)]
    assert Path(name).read_bytes() == whole
    if kept:  # a file that we did not write is never overwritten
        assert clips["a"].read_bytes() == spoiled
    assert ok("download", "--verify", "-q").err.startswith("2 clips looked at: 2 whole")
    assert states() == {"a": JobState.SUCCEEDED, "b": JobState.SUCCEEDED}


def test_what_cannot_be_read_is_told_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a")
        clip = Path("clips/jobs/a.mp4")
        clip.rename("elsewhere.mp4")
        clip.symlink_to(clip.name)  # a loop

        done = call("download", "--verify", "-q")

    assert done.code == 3
    assert "nothing is fetched: make it readable" in done.err
    assert states() == {"a": "succeeded"}


def test_what_would_be_fetched_can_be_seen_without_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch):
        buy("a", "b", options=("--no-download",))
    monkeypatch.delenv("RUNCOMFY_TOKEN")

    done = call("download", "-n", "--where", "id=b")

    assert done.code == 3
    assert done.out == "jobs/b: would be fetched: is downloading\n"
