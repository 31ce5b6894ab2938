"""What a run tells: events, the log of its session, notifications."""

import json
import os
import shutil
import signal
import stat
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import forked
import hook
import pytest
from runs import Done, Place, fits, rows_of

from batchgen.domain.telling import KINDS
from batchgen.providers.simulator import Fault, Kind, Settings, start_in_thread

TOKEN = "rc-tok-7Zk2Vq9Lm4Xw8Rt1"
ENVELOPE = {"seq", "at", "session", "kind"}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def events_of(place: Place, name: str = "events.jsonl") -> list[dict[str, Any]]:
    """The events of a file, each held against the table."""
    found = lines((place.folder / name).read_text(encoding="utf-8"))
    for event in found:
        assert set(event) == ENVELOPE | set(KINDS[event["kind"]]), event
        fits("event", event)
    return found


def logs_of(place: Place) -> list[Path]:
    return sorted((place.folder / "jobs.db-logs").iterdir())


def only(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["kind"] == kind]


# -- events --------------------------------------------------------------------------------------


def test_the_events_of_a_run_tell_what_became_of_each_job(place: Place) -> None:
    place.write(rows_of(8))
    place.set_faults(
        Fault(Kind.INVALID, prompt="scene 001"),
        Fault(Kind.DROP_AFTER, prompt="scene 002"),
        Fault(Kind.GENERATION, prompt="scene 003"),  # again and again
        Fault(Kind.GENERATION, prompt="scene 004", code="MODERATION.TEXT"),
        Fault(Kind.CANCELLED, prompt="scene 005"),
        Fault(Kind.THROTTLE, prompt="scene 006", times=1, seconds=0.1),
        Fault(Kind.COST_LATE, prompt="scene 007", count=1),
    )

    done = place.run("jobs.csv", "-j", "3", "--events", "events.jsonl")

    assert done.code == 10, done.err
    events = events_of(place)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert len({event["session"] for event in events}) == 1
    assert [events[0]["kind"], events[-1]["kind"]] == ["session_started", "session_ended"]
    stories: dict[str, list[str]] = {}
    for event in events:
        if "job" in event:
            stories.setdefault(event["job"], []).append(event["kind"])
    assert stories == {
        "c1": ["refused"],
        "c2": ["in_doubt"],
        "c3": ["submitted", "retried", "submitted", "failed"],
        "c4": ["submitted", "failed"],
        "c5": ["submitted", "cancelled"],
        "c6": ["put_back", "submitted", "generated", "downloaded"],
        "c7": ["submitted", "generated", "downloaded", "costed"],
        "c8": ["submitted", "generated", "downloaded"],
    }
    assert len(only(events, "throttled")) == 1
    bought = {event["request_id"] for event in only(events, "submitted")}
    assert bought < {entry.id for entry in place.service.ledger.entries}
    for event in only(events, "downloaded"):
        [path] = event["paths"]
        assert (place.folder / path).stat().st_size == event["size_bytes"]
    [doubt] = only(events, "in_doubt")
    assert doubt["key"] in {job["key"] for job in place.jobs() if job["state"] == "in_doubt"}
    ended = events[-1]
    assert ended["exit_code"] == 10
    assert Counter(ended["counts"]) == place.states()
    assert ended["submitted"] == len(bought)
    spent = place.query("SELECT sum(spent_micros) AS micros FROM spending")[0]["micros"]
    assert round(ended["spent_usd"] * 1e6) == spent


def test_a_second_session_appends_and_begins_again_at_one(place: Place) -> None:
    place.write(rows_of(3))
    place.run("jobs.csv", "--events", "events.jsonl", "--limit", "1")
    first = (place.folder / "events.jsonl").read_text()

    place.run("jobs.csv", "--events", "events.jsonl")

    text = (place.folder / "events.jsonl").read_text()
    assert text.startswith(first)
    numbers = [event["seq"] for event in lines(text.removeprefix(first))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len({event["session"] for event in events_of(place)}) == 2


def test_events_can_go_to_stdout(place: Place) -> None:
    place.write(rows_of(2))

    done = place.run("jobs.csv", "--events", "-")

    assert done.code == 0, done.err
    assert [event["kind"] for event in lines(done.out)][-1] == "session_ended"


@pytest.mark.parametrize("other", [["--json"], ["-o", "-"]])
def test_stdout_is_for_one_thing_only(place: Place, other: list[str]) -> None:
    place.write(rows_of(1))

    done = place.run("jobs.csv", "--events", "-", *other)

    assert done.code == 2
    assert "--events" in done.err
    assert place.service.counters.posts == 0
    assert not place.db.exists()


@pytest.mark.parametrize("path", ["clips.d", "missing/events.jsonl"])
def test_events_that_cannot_be_written_are_said_before_paying(place: Place, path: str) -> None:
    place.write(rows_of(1))
    (place.folder / "clips.d").mkdir()

    done = place.run("jobs.csv", "--events", path)

    assert done.code == 13
    assert path in done.err
    assert place.service.counters.posts == 0
    assert not place.db.exists()


@pytest.mark.parametrize("name", ["jobs.csv", "jobs.db", "out.csv"])
def test_events_are_never_written_into_another_file(place: Place, name: str) -> None:
    place.write(rows_of(1))
    before = (place.folder / "jobs.csv").read_bytes()

    done = place.run("jobs.csv", "-o", "out.csv", "--events", name)

    assert done.code == 2
    assert name in done.err
    assert (place.folder / "jobs.csv").read_bytes() == before
    assert not place.db.exists()


def test_nothing_is_made_without_consent(place: Place) -> None:
    place.write(rows_of(1))
    before = sorted(place.folder.iterdir())

    done = place.start("run", "jobs.csv", "--db", place.url, "--events", "events.jsonl").wait()
    dry = place.start("run", "jobs.csv", "--db", place.url, "--events", "e.jsonl", "-n").wait()

    assert (done.code, dry.code) == (2, 0)
    assert sorted(place.folder.iterdir()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_events_harms_nothing(place: Place) -> None:
    place.write(rows_of(3))

    done = place.run("jobs.csv", "--events", "/dev/full")

    assert done.code == 0, done.err
    assert done.err.count("/dev/full") == 1
    assert place.states() == {"succeeded": 3}


def test_a_reader_that_goes_away_harms_nothing(place: Place) -> None:
    place.write(rows_of(12))
    command = [*forked.BATCHGEN, "run", "jobs.csv", "-y", "--db", place.url]
    command += ["--events", "-", "-j", "1", "--poll-interval", "0.05"]
    run = forked.Piped(command, place.environment(), place.folder)
    with closing(run):
        assert json.loads(run.stdout.readline())["kind"] == "session_started"
        run.stdout.close()
        said = run.stderr.read()

    assert run.returncode == 0, said
    assert said.count("stdout") == 1
    assert place.states() == {"succeeded": 12}


# -- the log of the session ----------------------------------------------------------------------


def test_each_session_has_a_log_that_is_named_when_it_did_not_go_well(place: Place) -> None:
    place.write(rows_of(2))
    assert "log: " not in place.run("jobs.csv").err
    place.write(rows_of(3))
    place.set_faults(Fault(Kind.GENERATION, prompt="scene 003", code="BAD.THING"))

    done = place.run("jobs.csv", "--events", "events.jsonl")

    assert done.code == 3, done.err
    first, second = logs_of(place)
    assert f"log: {second}" in done.err
    assert [stat.S_IMODE(path.stat().st_mode) for path in (first, second)] == [0o600] * 2
    found = lines(second.read_text())
    assert [line for line in found if "kind" in line] == events_of(place)
    [record] = [line for line in found if line.get("logger") == "batchgen.runner.job"]
    assert record["level"] == "info"
    assert record["message"].startswith("jobs/c3: failed")
    assert second.stem == found[0]["session"]
    sessions = place.query("SELECT id FROM sessions ORDER BY id")
    assert [row["id"] for row in sessions] == [first.stem, second.stem]


def test_the_log_says_with_which_error_a_run_ended(place: Place) -> None:
    place.write(rows_of(3))

    env = {"BATCHGEN_FAILPOINT": "after-answer@2=raise", "TMPDIR": str(place.folder)}
    done = place.run("jobs.csv", "-j", "1", env=env)

    assert done.code == 1
    [log] = logs_of(place)
    assert f"log: {log}" in done.err
    *_, error, ended = lines(log.read_text())
    assert "Traceback" in error["traceback"]
    assert (ended["kind"], ended["exit_code"]) == ("session_ended", 1)


def test_a_log_that_cannot_be_written_harms_nothing(place: Place) -> None:
    place.write(rows_of(2))
    (place.folder / "jobs.db-logs").write_text("in the way")

    done = place.run("jobs.csv", "--json")

    assert done.code == 0, done.err
    assert done.err.count("jobs.db-logs") == 1
    assert done.said["log"] is None


def test_a_log_may_be_left_out(place: Place) -> None:
    place.write(rows_of(2))

    assert place.run("jobs.csv", "--no-log").code == 0

    assert not (place.folder / "jobs.db-logs").exists()


def test_the_log_of_a_server_lies_in_the_state_folder(tmp_path: Path, postgres_url: str) -> None:
    with start_in_thread(Settings(run_s=(0.0, 0.1))) as service:
        place = Place(tmp_path, service, url=postgres_url)
        place.write(rows_of(2))
        with hook.running() as server:
            done = place.run("jobs.csv", "--json", "--notify", server.url)

            title, body = server.only()

    assert done.code == 0, done.err
    assert title == "batchgen: done: jobs"
    assert "2 succeeded\n  $0.50 spent" in body
    assert f"job database {done.said['database']}, on" in body
    folder = Path(os.environ["XDG_STATE_HOME"]) / "batchgen" / "logs"
    [log] = folder.iterdir()
    assert done.said["log"] == str(log)
    assert lines(log.read_text())[-1]["kind"] == "session_ended"


def test_verbose_and_log_do_not_change_what_is_shown(place: Place) -> None:
    place.write(rows_of(2))
    place.set_faults(Fault(Kind.GENERATION, code="BAD"))
    quiet = place.run("jobs.csv", "-q")
    place.write(rows_of(4))
    verbose = place.run("jobs.csv", "-v")

    assert "jobs/c1: failed (" not in quiet.err
    assert "jobs/c3: failed (" in verbose.err


# -- notifications -------------------------------------------------------------------------------


def notified(place: Place, server: hook.Hook, *words: str) -> Done:
    return place.run("jobs.csv", *words, env={"BATCHGEN_NOTIFY": server.url})


def check_message(place: Place, message: tuple[str, str]) -> None:
    """No prompt, token or signature; where to look."""
    text = "\n".join(message)
    assert "scene 0" not in text
    assert "a-token" not in text
    assert "X-Amz" not in text
    assert str(place.db) in text


def test_the_end_of_a_good_run_is_told_with_counts_and_money(place: Place) -> None:
    place.write(rows_of(3))
    with hook.running() as server, hook.running() as other:
        done = notified(place, server, "--notify", other.url, "--budget", "10")

        assert done.code == 0, done.err
        assert server.told == other.told
        title, body = server.only()
    check_message(place, (title, body))
    assert title == "batchgen: done: jobs"
    assert "3 succeeded" in body
    assert "$0.75 spent, budget $10.00" in body
    assert hook.SECRET not in done.err


CASES: dict[str, tuple[Fault, int, list[str], str]] = {
    "some failed": (
        Fault(Kind.GENERATION, prompt="scene 001", code="BAD"),
        3,
        ["failed"],
        "batchgen retry",
    ),
    "all failed": (Fault(Kind.GENERATION, code="BAD"), 4, ["failed"], "none succeeded"),
    "no balance": (Fault(Kind.NO_BALANCE), 7, ["paused"], "top it up"),
    "token": (Fault(Kind.UNAUTHORIZED), 6, ["paused"], "RUNCOMFY_TOKEN"),
    "model": (Fault(Kind.MODEL_UNKNOWN), 9, ["paused"], "correct the model"),
    "in doubt": (
        Fault(Kind.DROP_AFTER, prompt="scene 001"),
        10,
        ["in-doubt", "in-doubt"],
        "batchgen reconcile --list",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_goes_wrong_is_told_with_what_to_do(place: Place, name: str) -> None:
    fault, code, words, advice = CASES[name]
    place.write(rows_of(3))
    place.set_faults(fault)
    with hook.running() as server:
        done = notified(place, server)

        assert done.code == code, done.err
        assert server.titles() == [f"batchgen: {word}: jobs" for word in words]
        for message in server.told:
            check_message(place, message)
            assert advice in message[1]


def test_a_budget_that_is_used_up_is_told(place: Place) -> None:
    place.write(rows_of(3))
    with hook.running() as server:
        done = notified(place, server, "--budget", "0.5")

        assert done.code == 8, done.err
        title, body = [one for one in server.told if "no room" in one[1]][-1]
    assert title == "batchgen: budget: jobs"
    assert "1 to be paid for" in body


def test_a_pause_is_told_when_it_begins_and_only_once(place: Place) -> None:
    place.write(rows_of(6))
    place.set_faults(
        Fault(Kind.SLOW, nth=(1,), seconds=30), Fault(Kind.NO_BALANCE, nth=tuple(range(2, 50)))
    )
    with hook.running() as server:
        run = place.start_run("jobs.csv", "-j", "4", env={"BATCHGEN_NOTIFY": server.url})
        assert server.asked.wait(60)
        assert server.titles() == ["batchgen: paused: jobs"]
        run.send(signal.SIGINT)
        run.wait_said("stopping")
        run.send(signal.SIGINT)
        run.wait()

        assert server.titles().count("batchgen: paused: jobs") == 1


def test_only_what_is_wished_for_is_told(place: Place) -> None:
    place.write(rows_of(3))
    place.set_faults(Fault(Kind.DROP_AFTER, prompt="scene 001"))
    with hook.running() as server:
        done = notified(place, server, "--notify-on", "done,budget")

        assert done.code == 10
        assert server.told == []


def test_a_signal_is_nobody_s_news(place: Place) -> None:
    place.write(rows_of(20))
    with hook.running() as server:
        run = place.start_run("jobs.csv", "-j", "1", env={"BATCHGEN_NOTIFY": server.url})
        place.wait_accepted(1)
        run.send(signal.SIGTERM)

        assert run.wait().code == 143
        assert server.told == []


def test_an_error_before_anything_began_is_told_where_nobody_looks(place: Place) -> None:
    (place.folder / "jobs.csv").write_text("id,prompt,image\na,s3cretprompt,nonsense\n")
    with hook.running() as server:
        assert notified(place, server).code == 5
        place.write(rows_of(1))
        env = {"BATCHGEN_NOTIFY": server.url, "RUNCOMFY_TOKEN": None}
        assert place.run("jobs.csv", env=env).code == 6

        (_, faults), (title, body) = server.told
    assert "jobs.csv, line 2" in faults
    assert "s3cretprompt" not in faults
    assert title == "batchgen: paused"
    assert "RUNCOMFY_TOKEN" in body


@pytest.mark.parametrize("status", [500, 0], ids=["answers 500", "hangs"])
def test_a_notification_that_fails_changes_nothing(place: Place, status: int) -> None:
    place.write(rows_of(3))
    place.set_faults(Fault(Kind.GENERATION, prompt="scene 001", code="BAD"))
    plain = place.run("jobs.csv", "-o", "plain.csv", "--batch", "plain")
    with hook.running(status) as server:
        url = f"{server.url}?rto=0.5"
        env = {"BATCHGEN_NOTIFY": url}
        words = ("--new-batch", "-o", "told.csv", "--events", "events.jsonl")
        told = place.run("jobs.csv", *words, env=env)

        assert server.asked.is_set()
    assert (plain.code, told.code) == (3, 3), told.err
    states = [
        [row["result_state"] for row in place.export(f"{name}.csv")] for name in ("plain", "told")
    ]
    assert states[0] == states[1]
    [failed] = only(events_of(place), "notification_failed")
    assert failed["service"] == "notification URL 1 (JSON)"
    assert "notification URL 1 (JSON)" in told.err
    assert hook.SECRET not in told.err + (place.folder / "events.jsonl").read_text()
    assert hook.SECRET not in logs_of(place)[-1].read_text()


def test_nobody_at_home_changes_nothing(place: Place) -> None:
    place.write(rows_of(2))
    with hook.running() as server:
        url = server.url

    done = place.run("jobs.csv", "--notify", url)

    assert done.code == 0, done.err
    assert place.states() == {"succeeded": 2}
    assert hook.SECRET not in done.err


def test_a_run_that_had_nothing_to_do_tells_nobody(place: Place) -> None:
    place.write(rows_of(2))
    place.run("jobs.csv")
    with hook.running() as server:
        assert notified(place, server).code == 0

        assert server.told == []


@pytest.mark.parametrize(
    "words",
    [
        ["--notify", "tgram://s3cret"],
        ["--notify", "s3cret"],
        ["--notify-on", "done"],
        ["--notify", "json://127.0.0.1:9/", "--notify-on", "done,never"],
    ],
)
def test_a_mistake_is_said_before_anything_is_spent(place: Place, words: list[str]) -> None:
    place.write(rows_of(1))

    done = place.run("jobs.csv", *words)

    assert done.code == 2, done.err
    assert "s3cret" not in done.err
    assert place.service.counters.posts == 0
    assert not place.db.exists()


def test_a_simulated_run_says_that_it_is_one(place: Place) -> None:
    place.write(rows_of(2))
    with hook.running() as server:
        done = place.start("run", "jobs.csv", "--simulate", "--notify", server.url).wait()

        assert done.code == 0, done.err
        title, body = server.only()
    assert title == "batchgen (simulated): done: jobs"
    assert "batchgen-simulated.db" in body


# -- awake ---------------------------------------------------------------------------------------

STUB = '#!/bin/sh\necho "$@" >> "$STUB_NOTES"\n'


@pytest.mark.parametrize(
    ("words", "asked"), [([], True), (["--no-inhibit"], False), (["--simulate"], False)]
)
def test_the_machine_is_kept_awake_while_real_jobs_are_at_work(
    place: Place, words: list[str], *, asked: bool
) -> None:
    stub = place.folder / "bin" / "systemd-inhibit"
    stub.parent.mkdir()
    stub.write_text(STUB)
    stub.chmod(0o755)
    assert shutil.which("tail")
    place.write(rows_of(2))
    notes = place.folder / "notes"
    env = {"PATH": f"{stub.parent}:{os.environ['PATH']}", "STUB_NOTES": str(notes)}

    usual = ["--db", place.url, "-y"] if "--simulate" not in words else []
    done = place.start("run", "jobs.csv", *words, *usual, env=env).wait()

    assert done.code == 0, done.err
    assert notes.exists() == asked
