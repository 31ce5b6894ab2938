"""`db rebuild`: what is taken back from an export, what is refused, and what is said."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write

from batchgen.providers.simulator import Fault, Kind, Settings

EXPORT = "one.csv"


def table(name: str = EXPORT) -> list[dict[str, str]]:
    with Path(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lose(kind: str = EXPORT) -> None:
    """Export everything, and lose the job database."""
    ok("export", "-o", kind)
    for path in Path().glob("batchgen.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def bought(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two finished jobs and one that failed, in an export; the job database is gone."""
    faults = (Fault(Kind.GENERATION, prompt="scene broken", code="SAFETY.INPUT.TEXT"),)
    with service(monkeypatch, Settings(faults=faults)) as handle:
        buy("a", "b", "broken", expect=3)
        lose()
        yield handle


def test_a_lost_job_database_is_made_anew(bought: Any) -> None:
    done = ok("db", "rebuild", EXPORT)

    assert "batchgen.db: made anew: 2 succeeded, 1 failed" in done.out
    assert "clips: 2 whole" in done.out
    assert states() == {"a": "succeeded", "b": "succeeded", "broken": "failed"}
    assert not list(Path().glob(".batchgen.db*"))


def test_a_dry_run_writes_nothing(bought: Any) -> None:
    before = sorted(Path().iterdir())

    said = ok("db", "rebuild", EXPORT, "-n", "--json").said

    assert +Counter(said["counts"]) == {"succeeded": 2, "failed": 1}
    assert said["dry_run"] is True
    assert sorted(Path().iterdir()) == before


def test_nothing_is_written_over_a_job_database(bought: Any) -> None:
    ok("db", "rebuild", EXPORT)

    done = call("db", "rebuild", EXPORT)

    assert done.code == 2
    assert "holds jobs already" in done.err


def test_clips_that_are_gone_or_others_are_told_and_fetched_again(bought: Any) -> None:
    Path("clips/jobs/a.mp4").unlink()
    Path("clips/jobs/b.mp4").write_bytes(b"x")

    said = ok("db", "rebuild", EXPORT, "--json").said["clips"]["counts"]

    assert (said["missing"], said["changed"], said["whole"]) == (1, 1, 0)
    paid = len(bought.ledger.entries)
    ok("download", "--refresh", "a", "-q")
    assert Path("clips/jobs/a.mp4").is_file()
    assert len(bought.ledger.entries) == paid


def test_clips_that_were_moved_are_found_where_they_are_said_to_be(bought: Any) -> None:
    Path("clips").rename("elsewhere")

    done = ok("db", "rebuild", EXPORT, "--output-dir", "elsewhere")

    assert "clips: 2 whole" in done.out


def test_another_service_is_refused_afterwards(
    bought: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ok("db", "rebuild", EXPORT)

    monkeypatch.delenv("RUNCOMFY_MODEL_API_BASE")
    done = call("run", "jobs.csv", "-y", "--db", "batchgen.db")

    assert done.code == 2
    assert "belongs to http://127.0.0.1" in done.err


FAULTS: dict[str, tuple[dict[str, str], str]] = {
    "no-key": ({"result_key": ""}, "result_key: is empty: only rows of an export"),
    "state": ({"result_state": "done"}, "result_state: must be one of pending, submitting"),
    "no-state": ({"result_state": ""}, "result_state: is empty"),
    "no-request": ({"result_request_id": ""}, "result_request_id: is empty, but the job is succ"),
    "no-url": ({"result_url": ""}, "result_url: is empty, but the job is succeeded"),
    "cost": ({"result_cost_usd": "a lot"}, "result_cost_usd: must be an amount of US dollars"),
    "bytes": ({"result_bytes": "-1"}, "result_bytes: must be a whole number from 0"),
    "sha": ({"result_sha256": "abc"}, "result_sha256: must be a SHA-256 in 64 hex digits"),
    "time": ({"result_submitted_at": "29/11"}, "result_submitted_at: must be a time in ISO 8601"),
    "class": ({"result_error_class": "odd"}, "result_error_class: must be one of moderation"),
    "batch": ({"result_batch": "a/b"}, "result_batch: the name must not be a path"),
    "model": ({"result_model": "no/such"}, "unknown model"),
    "input": ({"image": ""}, "image: is missing"),
}


@pytest.mark.parametrize(("change", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_row_that_was_spoiled_is_told_and_nothing_is_written(
    bought: Any, change: dict[str, str], says: str
) -> None:
    told = table()
    write("spoiled.csv", [told[0], {**told[1], **change}, told[2]])

    done = call("db", "rebuild", "spoiled.csv")

    assert done.code == 5
    assert "spoiled.csv:3" in done.err
    assert says in done.err
    assert not Path("batchgen.db").exists()


def test_a_row_that_is_there_twice_is_told(bought: Any) -> None:
    shutil.copy(EXPORT, "two.csv")

    done = call("db", "rebuild", EXPORT, "two.csv")

    assert done.code == 5
    assert f"is already in {EXPORT}:2: keep the newer of the two rows" in done.err


def test_what_is_no_export_is_refused(bought: Any) -> None:
    done = call("db", "rebuild", "jobs.csv")

    assert done.code == 5
    assert "is no export of batchgen" in done.err
    assert "`batchgen add`" in done.err


def test_an_unknown_key_names_the_way_back(bought: Any) -> None:
    done = call("run", EXPORT, "-y", "--db", "other.db")

    assert done.code == 5
    assert f"`batchgen db rebuild {EXPORT} --db NEW.db` makes it anew" in done.err


def test_several_batches_come_back_each_with_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [{**row, "shot": "12a"} for row in rows("a")]
    second = [{**row, "client": "acme"} for row in rows("b", "c")]
    ok("add", write("first.csv", first), write("second.csv", second))
    ok("export", "-o", EXPORT)
    before = table()

    said = ok("db", "rebuild", EXPORT, "--db", "new.db", "--json").said
    ok("export", "-o", "again.csv", "--db", "new.db")

    assert [(one["batch"], one["jobs"]) for one in said["batches"]] == [("first", 1), ("second", 2)]
    assert table("again.csv") == before
    for batch in ("first", "second"):
        ok("export", "-o", f"{batch}.old.csv", "--batch", batch)
        ok("export", "-o", f"{batch}.new.csv", "--batch", batch, "--db", "new.db")
    assert Path("second.new.csv").read_text() == Path("second.old.csv").read_text()
    assert Path("first.new.csv").read_text() == Path("first.old.csv").read_text()


# -- journals ------------------------------------------------------------------------------------


def test_what_no_row_tells_of_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch) as handle:
        buy("a")
        ok("export", "-o", EXPORT)
        ok("add", write("more.csv", rows("late", prompt="of another file")))
        ok("run", "-y", "--poll-interval", "0")
        for path in Path().glob("batchgen.db*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

        done = call("db", "rebuild", EXPORT)

        assert done.code == 11
        assert "1 purchases of the journal have no job" in done.err
        assert call("run", "more.csv", "-y", "--db", "batchgen.db").code == 11
        ok("add", "more.csv")
        assert "running: nothing new is paid" in ok("reconcile", "--after-restore").out
        ok("run", "-y", "--poll-interval", "0")
        assert states() == {"a": "succeeded", "late": "succeeded"}
        assert len(handle.ledger.entries) == 2


def test_a_journal_of_a_simulation_is_not_taken_for_the_lost_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ok("run", write("jobs.csv", rows("a", "b")), "--simulate", "-q")
    with service(monkeypatch) as handle:
        ok("add", "jobs.csv")
        lose()

        unclear = call("db", "rebuild", EXPORT)
        assert unclear.code == 2
        assert "--no-journal" in unclear.err
        ok("db", "rebuild", EXPORT, "--no-journal")
        ok("run", "jobs.csv", "-y", "--db", "batchgen.db", "--poll-interval", "0")

        assert len(handle.ledger.entries) == 2
        assert states() == {"a": "succeeded", "b": "succeeded"}


def test_an_export_with_details_tells_everything_of_a_download(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(output="videos", outputs=2)) as handle:
        buy("a", options=("--no-download",))
        lose("one.jsonl")

        ok("db", "rebuild", "one.jsonl")
        ok("run", "-y", "--poll-interval", "0")

        assert states() == {"a": "succeeded"}
        ok("export", "-o", "two.jsonl")
        [told] = [json.loads(line) for line in Path("two.jsonl").read_text().splitlines()]
        assert len(told["result_details"]["files"]) == 2
        assert len(handle.ledger.entries) == 1
