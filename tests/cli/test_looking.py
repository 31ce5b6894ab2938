import csv
import io
import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cli.bought import TOKEN, buy, service
from cli.commands import call, ok, rows, states, write

from batchgen.domain.states import JobState
from batchgen.providers.simulator import Fault, Kind, Settings
from batchgen.store import reads
from batchgen.store.database import Database

SIGNED = "https://images.example.com/a.jpg?X-Amz-Signature=0123456789abcdef&X-Amz-Date=1"


def change(statement: str) -> None:
    with closing(sqlite3.connect("batchgen.db")) as connection, connection:
        connection.execute(statement)


def test_an_expression_selects_jobs() -> None:
    ok("add", write("m.csv", [{**row, "shot": row["id"] * 2} for row in rows("a", "b")]))

    found = ok("ls", "--where", "shot=bb and state=pending", "--json").said["jobs"]

    assert [job["id"] for job in found] == ["b"]
    assert call("ls", "--where", "shto=bb", "--json").envelope["error"]["code"] == "bad_expression"


def test_status_counts_jobs_and_money(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a", "b")
    ok("add", write("more.csv", rows("c")))

    done = ok("status")
    first, second = ok("status", "--json").said["batches"]

    assert first["counts"]["succeeded"] == 2
    assert first["spent_usd"] == 0.5
    assert first["waiting_estimate_usd"] == 0
    assert second["counts"]["pending"] == 1
    assert second["waiting_estimate_usd"] == 0.25
    assert "2 succeeded" in done.out
    assert "$0.50 spent" in done.out
    assert "about $0.25" in done.out
    only = ok("status", "--batch", "more", "--json").said["batches"]
    assert [batch["batch"] for batch in only] == ["more"]


@pytest.mark.parametrize("stated", [True, False])
def test_booked_money_that_the_service_did_not_state_is_marked(
    monkeypatch: pytest.MonkeyPatch, stated: bool
) -> None:
    with service(monkeypatch, Settings(cost_stated=stated)):
        ok("add", write("jobs.csv", rows("a")))
        done = ok("run", "-y", "--poll-interval", "0")
        again = ok("run", "-y", "--json").said
        more = write("jobs.csv", rows("a", "b", "c"))
        planned = ok("run", more, "-n", "--budget", "5", "--limit", "1")

    money = "$0.25" if stated else "~$0.25"
    assert f"\n{money} spent in this run (about $0.25 was estimated), {money} in all\n" in done.err
    assert f"(budget), {money} of it is used" in planned.out
    assert f"  {money} spent" in ok("status").out
    assert f"({money} spent, $0.00 reserved)" in ok("set", "budget", "9").err
    assert f" {money} " in ok("ls").out
    shown = ok("show", "a").out.splitlines()
    assert {f"  cost: {money}", f"  charged: {money}"} <= set(shown)
    assert again["spent_is_estimate"] is not stated
    assert ok("status", "--json").said["batches"][0]["spent_is_estimate"] is not stated
    assert ok("ls", "--json").said["jobs"][0]["cost_is_estimate"] is not stated
    attempt = ok("show", "a", "--json").said["attempts"][0]
    assert attempt["cost_is_estimate"] is not stated


def test_a_sum_is_marked_if_a_part_of_it_is_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    doubt = Fault(Kind.DROP_AFTER, prompt="scene b", times=1)
    with service(monkeypatch, Settings(faults=(doubt,))):
        ok("add", write("jobs.csv", rows("a", "b")))
        first = call("run", "-y", "--poll-interval", "0")
        before = ok("status").out
        second = ok("run", "-y", "--poll-interval", "0", "--resubmit-in-doubt")

    assert "1 paid for in this run, 1 in doubt may have been paid for too\n" in first.err
    assert ", $0.25 in all, $0.25 reserved\n" in first.err
    assert "  $0.25 spent, $0.25 reserved" in before
    assert ", ~$0.75 in all" in second.err
    assert [line.split()[4] for line in ok("ls").out.splitlines()[1:]] == ["$0.25", "~$0.50"]


def test_a_sum_of_too_many_attempts_to_look_through_is_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch):
        buy("a")

    with closing(Database("batchgen.db")) as database, database.reading() as tx:
        [batch] = reads.batches(tx)
        assert not reads.has_estimates(tx, batch)
        assert reads.has_estimates(tx, replace(batch, counts={JobState.SUCCEEDED: 1_000_000}))


def test_status_says_what_stands_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = (Fault(Kind.DROP_AFTER, prompt="scene a"), Fault(Kind.INVALID, prompt="scene b"))
    with service(monkeypatch, Settings(faults=faults)):
        buy("a", "b", "c", expect=10)

    done = ok("status")

    assert "1 in doubt, maybe paid for: batchgen reconcile --list" in done.out
    assert "1 failed (1 invalid_input)" in done.out
    assert "batchgen retry" in done.out
    assert "$0.25 reserved" in done.out


def test_ls_narrows(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a", "b")
    ok("add", write("more.csv", rows("c", "d")))

    assert len(ok("ls").out.splitlines()) == 5
    assert len(ok("ls", "--limit", "1", "--json").said["jobs"]) == 1
    assert [job["id"] for job in ok("ls", "--state", "pending", "--json").said["jobs"]] == [
        "c",
        "d",
    ]
    bought = ok("ls", "--batch", "jobs", "--json").said["jobs"]
    assert [job["cost_usd"] for job in bought] == [0.25, 0.25]
    assert all(Path(job["file"]).is_file() for job in bought)
    everything = ok("ls", "--state", "pending", "--state", "succeeded", "--json").said["jobs"]
    assert len(everything) == 4


def test_show_tells_attempts_and_hides_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(echo_inputs=True)):
        ok("add", write("jobs.csv", [{**rows("a")[0], "image": SIGNED, "note": SIGNED}]))
        ok("run", "-y", "--poll-interval", "0")

    plain, shown = ok("show", "a").out, ok("show", "a", "--json")
    job = shown.said

    assert job["state"] == "succeeded"
    assert job["attempts"][0]["state"] == "succeeded"
    assert job["attempts"][0]["cost_usd"] == 0.25
    assert json.loads(job["attempts"][0]["submit_raw"])["request_id"]
    assert job["attempts"][0]["request_id"] in plain
    for text in (plain, shown.out):
        assert "0123456789abcdef" not in text
        assert TOKEN not in text
        assert "https://images.example.com/a.jpg" in text


def test_show_tells_where_the_clip_lies_that_a_new_version_replaces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch):
        buy("a")
        [clip] = ok("show", "a", "--json").said["files"]
    changed = write("jobs.csv", [{**rows("a")[0], "prompt": "another"}])
    ok("add", changed, "--replace")
    ok("cancel", "jobs/a")

    shown = ok("show", "a", "--json").said
    plain = ok("show", "a").out

    assert Path("clips", clip["path"]).is_file()
    assert shown["files"] == []
    [event] = [one for one in shown["events"] if one["kind"] == "reopened"]
    assert event["data"]["clips"] == [clip["path"]]
    assert f'clips ["{clip["path"]}"]' in plain


def test_show_takes_a_key_or_its_beginning() -> None:
    ok("add", write("jobs.csv", rows("a", "b")))
    key = ok("ls", "--json").said["jobs"][1]["key"]

    assert [ok("show", said, "--json").said["id"] for said in (key, key[:8], "jobs/b")] == ["b"] * 3


def test_show_needs_one_job() -> None:
    ok("add", write("jobs.csv", rows("a")))
    ok("add", "jobs.csv", "--new-batch")

    assert call("show", "a").code == 2
    assert call("show", "jobs-2/a").code == 0


def test_export_gives_the_own_columns_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a", "b")

    done = ok("export", "-o", "out.csv")
    table = list(csv.DictReader(io.StringIO(ok("export", "-o", "-").out, newline="")))

    assert "2 jobs written to out.csv" in done.err
    assert [{name: row[name] for name in ("id", "prompt", "image")} for row in table] == rows(
        "a", "b"
    )
    assert [row["result_state"] for row in table] == ["succeeded", "succeeded"]
    assert ok("add", "out.csv", "--json").said["manifests"][0]["counts"]["unchanged"] == 2


def test_export_replaces_only_exports() -> None:
    ok("add", write("jobs.csv", rows("b")))
    Path("mine.csv").write_text("my,own\n")

    assert call("export", "-o", "mine.csv").code == 2
    assert Path("mine.csv").read_text() == "my,own\n"
    assert call("export", "-o", "mine.csv", "--overwrite").code == 0
    assert call("export", "-o", "mine.csv").code == 0


def test_export_for_spreadsheets() -> None:
    ok("add", write("jobs.csv", [{**rows("a")[0], "note": "=1+1"}]))

    ok("export", "-o", "out.csv", "--bom", "--excel-safe")

    assert Path("out.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert "'=1+1" in Path("out.csv").read_text()
    [plan] = ok("add", "out.csv", "-n", "--json").said["manifests"]
    assert (plan["counts"]["unchanged"], plan["batch"]) == (1, "jobs")
    ok("add", "out.csv")
    assert ok("show", "a", "--json").said["columns"]["note"] == "=1+1"
    assert call("export", "-o", "out.jsonl", "--bom").code == 2


def test_export_narrows_to_a_batch() -> None:
    ok("add", write("jobs.csv", rows("a")), write("more.csv", rows("b", "c")))

    assert ok("export", "-o", "out.jsonl", "--batch", "more", "--json").said == {
        "file": "out.jsonl",
        "jobs": 2,
        "is_manifest": True,
    }


def test_a_sound_job_database() -> None:
    ok("add", write("jobs.csv", rows("a", "b")))

    said = ok("db", "check", "--json").said

    assert said["problems"] == []
    assert said["schema_is_current"]


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE counters SET jobs = 7", "counter says 7"),
        ("UPDATE jobs SET batch_id = 99 WHERE row_id = 'a'", "foreign key"),
    ],
)
def test_an_unsound_job_database(statement: str, word: str) -> None:
    ok("add", write("jobs.csv", rows("a", "b")))
    change(statement)

    done = call("db", "check")

    assert done.code == 11
    assert word in done.out
    assert call("db", "check", "--json").said["problems"]


def test_an_upgrade_of_a_current_database_changes_nothing() -> None:
    ok("add", write("jobs.csv", rows("a")))

    said = ok("db", "upgrade", "--json").said

    assert said["from"] == said["to"]
    assert said["copy"] is None
    assert states() == {"a": "pending"}


def test_a_newer_job_database_is_left_alone() -> None:
    ok("add", write("jobs.csv", rows("a")))
    change("UPDATE alembic_version SET version_num = '9999'")

    for words in (("db", "upgrade"), ("status",), ("add", "jobs.csv")):
        done = call(*words)
        assert done.code == 11
        assert "newer batchgen" in done.err
    assert ok("db", "check", "--json").said["schema_is_current"] is False


_CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
)


@pytest.mark.skipif(not _CAN_MOUNT, reason="a read-only disk has to be mounted")
def test_a_disk_that_nobody_can_write_can_be_looked_at() -> None:
    ok("add", write("m.csv", rows("a", "b")))
    mounted = 'mount --bind . . && mount -o remount,ro,bind . && cd "$PWD" && exec "$@"'

    def look() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "batchgen", "ls", "--keys"]
        shell = ["unshare", "-m", "sh", "-c", mounted, "sh", *command]
        return subprocess.run(shell, capture_output=True, text=True, check=False)

    looked = look()
    Path("batchgen.db-wal").write_bytes(b"a log of a run that was going on")
    refused = look()

    assert (looked.returncode, looked.stdout.split()) == (0, ok("ls", "--keys").out.split())
    assert (refused.returncode, refused.stdout) == (11, "")
    assert "copy both to another folder" in refused.stderr
