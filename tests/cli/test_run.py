import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from runs import IMAGE, Place, rows_of

from batchgen.providers import simulator


def test_a_spreadsheet_becomes_clips_and_a_table(place: Place) -> None:
    rows = rows_of(25, client="acme", note='=1+1, "quoted"\nline')
    place.write(rows)

    done = place.run("jobs.csv", "-j", "6", "-o", "out.csv")

    assert done.code == 0, done.err
    table = place.export()
    assert [{name: row[name] for name in rows[0]} for row in table] == rows
    entries = {entry.id: entry for entry in place.service.ledger.entries}
    assert len(entries) == 25
    for row in table:
        clip = (place.folder / row["result_file"]).read_bytes()
        entry = entries[row["result_request_id"]]
        assert b"ftyp" in clip[:12]
        assert b"moov" in clip
        assert row["result_sha256"] == hashlib.sha256(clip).hexdigest()
        assert int(row["result_bytes"]) == len(clip)
        assert row["result_request_id"] in row["result_url"]
        assert entry.inputs == {"promptText": row["prompt"], "promptImage": IMAGE}
        assert float(row["result_cost_usd"]) == entry.cost_micros / 1_000_000
        assert row["result_state"] == "succeeded"
        assert row["result_attempts"] == "1"
    counters = place.service.counters
    assert 2 <= counters.most_untold <= 6
    assert counters.files_with_token == 0
    assert place.leftovers() == []
    place.check_books()


def test_a_second_session_knows_how_long_such_jobs_take(place: Place) -> None:
    place.service.settings = replace(place.service.settings, run_s=(1.0, 1.0))
    rows = rows_of(16)

    for part, name in ((rows[:8], "monday.csv"), (rows[8:], "tuesday.csv")):
        place.write(part, name)
        assert place.run(name, "-j", "8", "--no-download").code == 0

    looks = [entry.looks for entry in place.service.ledger.entries]
    assert sum(looks[8:]) < sum(looks[:8])


def test_a_second_run_of_anything_that_was_bought_pays_nothing(place: Place) -> None:
    rows = rows_of(5)
    place.write(rows)
    assert place.run("jobs.csv", "-o", "results.csv").code == 0

    again = place.run("jobs.csv")
    turned = place.write([*reversed(rows)])
    reordered = place.run(str(turned))
    export = place.run("results.csv", "--json")
    place.write(rows, "renamed.csv")
    renamed = place.run("renamed.csv")

    assert [again.code, reordered.code, export.code] == [0, 0, 0]
    assert export.said["submitted"] == 0
    assert renamed.code == 5
    assert "paid for in batch jobs" in renamed.err
    assert "--new-batch" in renamed.err
    assert place.service.counters.accepted == 5
    assert len(place.jobs()) == 5


def test_the_second_evening_pays_for_edited_failures_only(place: Place) -> None:
    rows = rows_of(4)
    rows[1]["prompt"] = "too bold [[fault:generation=SAFETY.INPUT.TEXT]]"
    place.write(rows)
    assert place.run("jobs.csv").code == 3

    rows[0]["prompt"] = "scene 001, but at dusk"
    rows[1]["prompt"] = "milder"
    rows.append({"id": "c5", "prompt": "scene 005", "image": IMAGE})
    place.write(rows)
    second = place.run("jobs.csv", "-o", "out.csv")

    assert second.code == 0, second.err
    assert "left alone" in second.err
    assert "to be bought again" in second.err
    bought = place.bought()
    assert sorted(bought) == [
        "milder",
        "scene 001",
        "scene 003",
        "scene 004",
        "scene 005",
        "too bold [[fault:generation=SAFETY.INPUT.TEXT]]",
    ]
    # The table tells what the clip was made from, not what the row says by now.
    assert place.export()[0]["prompt"] == "scene 001"

    third = place.run("jobs.csv", "--replace", "-o", "out.csv")

    assert third.code == 0, third.err
    assert len(place.bought()["scene 001, but at dusk"]) == 1
    assert place.service.counters.accepted == 7
    first = place.export()[0]
    assert Path(first["result_file"]).name == "c1-v2.mp4"
    assert (place.folder / "clips/jobs/c1.mp4").is_file()
    assert (place.folder / first["result_file"]).is_file()


def test_a_limit_bounds_the_payments_of_one_session(place: Place) -> None:
    place.write(rows_of(9))

    first = place.run("jobs.csv", "--limit", "4", "--json")
    second = place.run("--json")

    assert [first.code, second.code] == [0, 0]
    assert [first.said["submitted"], second.said["submitted"]] == [4, 5]
    place.check_books()


@pytest.mark.parametrize("jobs", ["1", "50"])
def test_a_budget_is_never_passed(place: Place, jobs: str) -> None:
    place.service.settings = replace(place.service.settings, run_s=(0.0, 0.05))
    place.write(rows_of(100))

    done = place.run("jobs.csv", "--budget", "6.25", "-j", jobs)

    assert done.code == 8, done.err
    assert place.service.counters.accepted == 25
    assert place.states() == {"succeeded": 25, "pending": 75}
    place.check_books()


# -- before anything is stored ---------------------------------------------------------------------


def test_nobody_to_ask_means_nothing_is_stored(place: Place) -> None:
    place.write(rows_of(2))

    unasked = place.start("run", "jobs.csv", "--db", str(place.db)).wait()
    unnamed = place.start("run", "jobs.csv", "-y").wait()

    assert [unasked.code, unnamed.code] == [2, 2]
    assert "-y" in unasked.err
    assert "--db" in unnamed.err
    assert sorted(path.name for path in place.folder.iterdir()) == ["jobs.csv"]
    assert place.service.counters.posts == 0


def test_no_token_is_said_before_anything_is_stored(place: Place) -> None:
    place.write(rows_of(2))

    done = place.run("jobs.csv", env={"RUNCOMFY_TOKEN": None})

    assert done.code == 6
    assert "RUNCOMFY_TOKEN" in done.err
    assert not place.db.exists()


def test_an_account_stays_with_its_service(place: Place) -> None:
    place.write(rows_of(2))
    assert place.run("jobs.csv").code == 0
    place.write(rows_of(3))

    with simulator.start_in_thread() as other:
        elsewhere = place.run("jobs.csv", env={"RUNCOMFY_MODEL_API_BASE": other.base})
        assert other.counters.posts == 0
    simulated = place.start("run", "jobs.csv", "--simulate", "--db", str(place.db)).wait()

    assert [elsewhere.code, simulated.code] == [2, 2]
    assert place.service.origin in elsewhere.err
    assert "real jobs" in simulated.err
    assert len(place.jobs()) == 2


@pytest.mark.parametrize(
    ("name", "content"), [("notes.csv", "a,b\n1,2\n"), ("jobs.csv", None), ("out.docx", None)]
)
def test_a_file_that_is_no_export_is_never_replaced(
    place: Place, name: str, content: str | None
) -> None:
    place.write(rows_of(1))
    if content is not None:
        (place.folder / name).write_text(content)
    before = {path: path.read_bytes() for path in place.folder.iterdir()}

    done = place.run("jobs.csv", "-o", name)

    assert done.code == 2, done.err
    assert place.service.counters.posts == 0
    assert {path: path.read_bytes() for path in place.folder.iterdir()} == before


def test_an_output_folder_that_cannot_be_one_is_said_before_paying(place: Place) -> None:
    place.write(rows_of(1))
    (place.folder / "clips").write_text("a file in the way")

    done = place.run("jobs.csv")

    assert done.code == 13
    assert "clips" in done.err
    assert place.service.counters.posts == 0
    assert not place.db.exists()
