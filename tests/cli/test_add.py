import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write

from batchgen.downloads.folder import Folder


def test_new_rows_are_stored_once() -> None:
    jobs = write("jobs.csv", rows("a", "b"))

    first, second = ok("add", jobs, "--json").said, ok("add", jobs, "--json").said

    assert first["database_is_new"]
    assert first["manifests"][0]["counts"]["new"] == 2
    assert first["manifests"][0]["estimate_usd"] == 0.5
    assert second["manifests"][0]["counts"] == {
        **dict.fromkeys(first["manifests"][0]["counts"], 0),
        "unchanged": 2,
    }
    assert states() == {"a": "pending", "b": "pending"}


def test_a_dry_run_touches_nothing() -> None:
    jobs = write("jobs.csv", rows("a", "b"))

    done = ok("add", jobs, "-n")

    assert "2 jobs new" in done.out
    assert [path.name for path in Path.cwd().iterdir()] == ["jobs.csv"]


def test_a_dry_run_leaves_a_stored_batch_alone() -> None:
    jobs = write("jobs.csv", rows("a"))
    ok("add", jobs)
    write("jobs.csv", rows("a", "b"))

    assert ok("add", jobs, "-n", "--json").said["manifests"][0]["counts"]["new"] == 1
    assert states() == {"a": "pending"}


def test_one_fault_keeps_every_manifest_out() -> None:
    good = write("good.csv", rows("a"))
    bad = write("bad.csv", [{**rows("c")[0], "duration": "7"}])

    done = call("add", good, bad)

    assert done.code == 5
    assert "bad.csv:2: duration" in done.err
    assert not Path("batchgen.db").exists()


def test_one_refusal_keeps_every_manifest_out() -> None:
    ok("add", write("jobs.csv", rows("a")))
    fine = write("fine.csv", rows("z"))
    Path("other").mkdir()
    namesake = write("other/jobs.csv", rows("a", prompt="another"))

    done = call("add", fine, namesake)

    assert done.code == 5
    assert "--batch" in done.err
    assert states() == {"a": "pending"}


def test_two_manifests_of_one_new_batch_go_together() -> None:
    one, two = write("one.csv", rows("a")), write("two.csv", rows("b"))

    said = ok("add", one, two, "--batch", "both", "--json").said

    assert [plan["counts"]["new"] for plan in said["manifests"]] == [1, 1]
    assert states() == {"a": "pending", "b": "pending"}


def test_changed_rows_are_named_with_their_places() -> None:
    ok("add", write("jobs.csv", rows("a", "b")))
    write("jobs.csv", [*rows("a", prompt="other"), *rows("b")])

    done = ok("add", "jobs.csv")

    assert "a (jobs.csv:2): pending" in done.out
    assert "2 jobs to pay for" in done.out


def test_options_of_the_batch_are_stored() -> None:
    jobs = write("jobs.csv", rows("a"))

    ok("add", jobs, "--budget", "$3.50", "--output-dir", "films", "--name", "{id}.{ext}")

    batch = ok("status", "--json").said["batches"][0]
    assert batch["budget_usd"] == 3.5
    assert batch["output_dir"] == "films"
    assert ok("show", "a", "--json").said["file_name"].startswith("a.")


def test_new_batch_stores_the_rows_once_more() -> None:
    jobs = write("jobs.csv", rows("a"))
    ok("add", jobs)

    ok("add", jobs, "--new-batch")

    assert [batch["batch"] for batch in ok("status", "--json").said["batches"]] == [
        "jobs",
        "jobs-2",
    ]


def test_a_folder_that_is_not_there_is_told() -> None:
    done = call("add", write("jobs.csv", rows("a")), "--db", "nowhere/jobs.db")

    assert done.code == 11
    assert "nowhere" in done.err


def test_nobody_is_held_up_while_clips_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a", "b")
    looked_for, has = [], Folder.has

    def free_to_write(folder: Folder, name: str) -> bool:
        with closing(sqlite3.connect("batchgen.db", timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
        looked_for.append(name)
        return has(folder, name)

    monkeypatch.setattr(Folder, "has", free_to_write)
    ok("add", "jobs.csv", "--output-dir", "other")

    assert {"jobs/a.mp4", "jobs/b.mp4"} <= set(looked_for)


def test_clips_stay_known_when_their_batch_goes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a", "b", "c", options=("--limit", "2"))
        kept = [Path("clips/jobs/a.mp4"), Path("clips/jobs/b.mp4")]
        Path("other/jobs").mkdir(parents=True)
        moved = kept[1].rename("other/jobs/b.mp4")  # by hand

        done = call("run", "jobs.csv", "-y", "--poll-interval", "0", "--output-dir", "other")

        assert done.code == 0, done.err
        ok("export", "-o", "out.csv")
        with Path("out.csv").open(newline="", encoding="utf-8") as file:
            files = [row["result_file"] for row in csv.DictReader(file)]
        assert files == [str(kept[0]), str(moved), "other/jobs/c.mp4"]
        ok("add", "jobs.csv", "--output-dir", "third")
        assert ": 3 whole" in ok("download", "--verify").err
