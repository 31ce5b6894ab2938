"""Where things stand, what is in the way, and what helps."""

import json
import shlex
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, write
from runs import Place
from test_docs import check_command

from batchgen.domain.states import JobState
from batchgen.providers.simulator import Fault, Kind, Settings
from batchgen.store import reads
from batchgen.store.database import Database
from batchgen.store.statements import text

FAULTS = (
    Fault(Kind.GENERATION, prompt="scene broken", code="SAFETY.INPUT.TEXT"),
    Fault(Kind.GENERATION, prompt="scene lost", code="INTERNAL"),
    Fault(Kind.DROP_AFTER, prompt="scene silent"),
    Fault(Kind.INVALID, prompt="scene wrong"),
)


def change(statement: str) -> None:
    with closing(sqlite3.connect("batchgen.db")) as connection, connection:
        connection.execute(statement)


def in_the_way() -> Mapping[str, dict[str, Any]]:
    return {one["kind"]: one for one in ok("status", "--json").said["in_the_way"]}


def test_each_thing_in_the_way_comes_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=FAULTS)):
        buy("a", "broken", "lost", "silent", "wrong", expect=10)
    ok("add", write("more.csv", rows("x", "y", "z")))
    ok("pause")

    found = in_the_way()

    assert set(found) == {
        "paused",
        "in_doubt",
        "failed",
        "failed_moderation",
        "failed_generation",
        "failed_invalid_input",
        "waiting",
    }
    for one in found.values():
        if one["command"] is not None:
            check_command(shlex.split(one["command"])[1:], one["kind"])
    shown = ok("status")
    for one in found.values():
        assert one["message"] in shown.out + shown.err
    again = shlex.split(found["failed_generation"]["command"])[1:]
    assert len(ok(*again, "-n", "--json").said["retried"]) == 1


def test_a_budget_that_is_too_small_is_told() -> None:
    ok("add", write("more.csv", rows("x", "y", "z")))
    found = []
    for dollars in ("0.75", "0.60", "0.10"):
        ok("set", "budget", dollars, "--batch", "more")
        found.append(in_the_way())

    enough, short, nothing = found
    assert set(enough) == {"waiting"}
    assert short["budget_short"]["message"] == "the budget of $0.60 is enough for about 2 of them"
    assert short["budget_short"]["command"] == "batchgen set budget 1 --batch more"
    assert nothing["out_of_budget"]["message"] == "the budget of $0.10 leaves no room for the next"


def test_what_is_left_at_the_service_and_on_its_way_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch):
        buy("a", "b", "c", "d", "e", "f", options=("--no-download",))
    change("UPDATE jobs SET state = 'running', owner = NULL WHERE row_id IN ('a', 'c')")
    change("UPDATE jobs SET state = 'submitting', owner = NULL WHERE row_id IN ('d', 'e', 'f')")
    change("UPDATE counters SET jobs = 1 WHERE state = 'downloading'")
    change(
        "INSERT INTO counters (batch_id, state, jobs) "
        "VALUES (1, 'running', 2), (1, 'submitting', 3) "
        "ON CONFLICT DO UPDATE SET jobs = excluded.jobs"
    )

    found = in_the_way()

    run = "batchgen run --batch jobs"
    assert found["running"]["command"] == found["submitting"]["command"] == run
    assert found["running"]["message"] == "2 paid for and left at the service"
    assert found["submitting"]["message"].startswith("3 maybe paid for")
    assert found["downloading"]["command"] == "batchgen download"


def test_the_last_run_and_how_long_the_rest_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a", "b", "c", "d")
        ok("add", write("more.csv", rows("x", "y")))

        said, shown = ok("status", "--json").said, ok("status").out
        ok("set", "budget", "0.25", "--batch", "more")  # enough for one of two
        short = ok("status").out
        ok("set", "budget", "0.1", "--batch", "more")
        used_up, told = ok("status", "--json").said, ok("status").out
        ok("set", "budget", "none", "--batch", "more")
        ok("pause")
        paused = ok("status", "--json").said

    assert said["open_jobs"] == 2
    assert said["left_by"] == "last_run"
    last = said["last_session"]
    assert (last["exit_code"], last["command"]) == (0, "run")
    assert said["left_s"] == pytest.approx(2 * last["lasted_s"] / 4, abs=0.1)
    assert "no run is at work; as fast as the last one, the 2 open jobs would take about" in shown
    assert "with exit code 0" in shown
    assert paused["left_s"] is None
    assert "the 2 open jobs would take" in short
    assert (used_up["open_jobs"], used_up["left_s"], "would take" in told) == (2, None, False)


def test_a_run_that_died_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a")
    change("UPDATE sessions SET ended_ms = NULL, exit_code = NULL, reasons = NULL")

    change("UPDATE workers SET seen_ms = (SELECT started_ms + 20000 FROM sessions)")
    assert "and died after 20 s or more: batchgen logs --last" in ok("status").out
    assert "  20 s or more  run" in ok("logs").out
    assert ok("status", "--json").said["last_session"]["died"]
    change("UPDATE workers SET seen_ms = (SELECT started_ms FROM sessions)")  # none since
    assert "and died: batchgen logs --last" in ok("status").out
    assert " ms" not in ok("logs").out


def test_many_batches_are_a_line_each() -> None:
    for number in range(11):
        ok("add", write(f"night{number}.csv", rows("a", "b")))

    shown = ok("status").out.splitlines()

    assert shown[0].split() == ["BATCH", "JOBS", "DONE", "SPENT", "BUDGET", "STATES"]
    assert shown[1].split() == ["night0", "2", "0", "%", "$0.00", "2", "pending"]
    assert len(shown) == 13
    assert "11 batches: batchgen status --batch NAME" in shown[12]
    assert "2 to be paid for" in ok("status", "--batch", "night3").out


def test_no_batch_and_no_job_database() -> None:
    assert call("status").code == 11
    assert call("status", "--watch").code == 11
    ok("add", write("m.csv", rows("a")))
    assert call("status", "--batch", "nobody").code == 2
    assert call("status", "--watch", "0").code == 2


def test_watching_ends_when_nobody_is_at_work() -> None:
    ok("add", write("m.csv", rows("a")))

    done = ok("status", "--watch", "0.1")
    [line] = ok("status", "--watch", "0.1", "--json").out.splitlines()

    assert done.out.splitlines()[0].startswith("-- 2")
    assert "m: 1 job" in done.out
    assert "0 workers at work" in done.out
    envelope = json.loads(line)
    assert (envelope["schema"], envelope["ok"]) == ("batchgen/status/1", True)
    assert envelope["data"]["batches"][0]["counts"]["pending"] == 1


def test_a_live_run_is_watched_until_it_ends(place: Place) -> None:
    place.write(
        [
            {"id": f"r{n}", "prompt": f"scene {n}", "image": "https://images.example.com/a.jpg"}
            for n in range(8)
        ]
    )
    place.service.settings = Settings(run_s=(0.4, 0.5))
    running = place.start_run("jobs.csv", "-j", "2")
    place.wait_accepted(2)

    watched = call("status", "--watch", "0.1", "--json", "--db", place.url)

    assert running.wait().code == 0
    assert watched.code == 0, watched.err
    seen = [json.loads(line)["data"] for line in watched.out.splitlines()]
    assert seen[0]["live_workers"] == 1
    assert seen[0]["live_sessions"][0]["lives"]
    assert seen[-1]["live_workers"] == 0
    assert seen[-1]["batches"][0]["counts"]["succeeded"] == 8
    lives = [one for one in seen if one["left_by"] == "live"]
    assert any(one["left_s"] is not None for one in lives)


def test_of_very_many_waiting_jobs_a_sample_is_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    short = [{**row, "duration": "5"} for row in rows(*(f"s{n}" for n in range(30)))]
    long = [{**row, "duration": "10"} for row in rows(*(f"l{n}" for n in range(10)))]
    ok("add", write("m.csv", [*short, *long]))
    exact = ok("status", "--json").said["batches"][0]
    monkeypatch.setattr(reads, "_FEW", 5)
    whole = ok("status", "--json").said["batches"][0]
    monkeypatch.setattr(reads, "_SAMPLED", 10)
    half = ok("status", "--json").said["batches"][0]

    assert (exact["waiting_estimate_usd"], exact["waiting_is_sampled"]) == (12.5, False)
    assert (whole["waiting_estimate_usd"], whole["waiting_is_sampled"]) == (12.5, True)
    assert half["waiting_estimate_usd"] == pytest.approx(12.5, abs=1.5)


def test_classes_of_failures_are_counted_without_a_look_at_the_other_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(faults=FAULTS)):
        buy("a", "broken", "lost", "wrong", expect=3)
    with closing(Database("batchgen.db")) as database, database.reading() as tx:
        [batch] = reads.batches(tx)
        found = reads.failed_classes(tx, batch)
        query = text(f"EXPLAIN QUERY PLAN {reads._CLASSES.sqlite}")
        [plan] = [row.detail for row in tx.rows(query, {"batch_id": batch.id})]

    assert sum(found.values()) == batch.counts[JobState.FAILED] == 3
    assert plan.startswith("SEARCH jobs USING COVERING INDEX ix_jobs_lost ")
