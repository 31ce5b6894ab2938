"""Input files are looked at before anything is paid, and nothing is paid for those that fail."""

import csv
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli.bought import service
from cli.commands import call, ok, states, write
from images import Host, Page, image, serving

from batchgen.cli import probed
from batchgen.providers.simulator import Handle
from batchgen.store import probes
from batchgen.store.database import Database
from batchgen.store.transactions import Transaction

RUN = ("--allow-private-inputs", "--poll-interval", "0", "-y", "--db", "batchgen.db")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.delenv("BATCHGEN_PROBE")
    with serving() as served:
        yield served


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    with service(monkeypatch) as served:
        yield served


def manifest(host: Host, **pages: Page) -> str:
    rows = [
        {"id": name, "prompt": name, "image": host.add(f"/{name}.png", page)}
        for name, page in pages.items()
    ]
    return write("jobs.csv", rows)


def bought(handle: Handle) -> list[str]:
    return sorted(str(entry.inputs["promptText"]) for entry in handle.ledger.entries)


def query(statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect("batchgen.db")) as connection:
        return connection.execute(statement).fetchall()


def test_only_jobs_whose_files_can_be_used_are_paid_for(host: Host, handle: Handle) -> None:
    jobs = manifest(
        host,
        good=Page(),
        gone=Page(404),
        wide=Page(body=image(1300, 600)),
        busy=Page(503),
        page=Page(kind="text/html", body=b"<html>"),
    )

    done = call("run", jobs, *RUN, "-o", "out.csv")

    assert done.code == 3, done.err
    assert bought(handle) == ["busy", "good"]
    assert states() == {
        "good": "succeeded",
        "gone": "failed",
        "wide": "failed",
        "busy": "succeeded",
        "page": "failed",
    }
    assert "3 jobs not paid for: an input file cannot be used; each run looks again" in done.err
    assert "    jobs.csv:3: image: HTTP 404: there is no such file <http://127" in done.err
    assert "warning: 1 job has an input file that may not do" in done.err
    assert "1 job, the first jobs.csv:5: image: HTTP 503" in done.err
    assert "2 jobs to pay for: about $0.50" in done.err
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        [gone] = [row for row in csv.DictReader(file) if row["id"] == "gone"]
    assert gone["result_error_class"] == "invalid_input"
    assert gone["result_error"].startswith("image: HTTP 404: there is no such file <")
    assert gone["result_attempts"] == "0"
    assert query("SELECT count(*) FROM jobs WHERE unfit") == [(3,)]
    assert "\n  1 unfit: image: HTTP 404: there is no such file <http://127" in done.err
    assert "\nnext: put the input files of 3 jobs right, then `batchgen run " in done.err


def test_json_names_the_jobs_whose_files_cannot_be_used(host: Host, handle: Handle) -> None:
    jobs = manifest(host, good=Page(), gone=Page(404), lost=Page(404))

    said = call("run", jobs, *RUN, "--json").said

    assert [one["job"] for one in said["unfit"]] == ["jobs/gone", "jobs/lost"]
    assert said["unfit"][0]["message"].startswith("image: HTTP 404: there is no such file <")
    assert [(one["kind"], one["jobs"]) for one in said["failures"]] == [("unfit", 2)]
    assert 0 < said["elapsed_s"] < 60
    assert said["rate_per_min"] == pytest.approx(60 / said["elapsed_s"], rel=0.01)
    assert (said["session_spent_usd"], said["estimate_usd"]) == (0.25, 0.25)
    assert [step.split("`")[1] for step in said["next"]] == [
        "batchgen run jobs.csv --db batchgen.db",
        "batchgen report --db batchgen.db",
        "batchgen export -o results.csv --db batchgen.db",
    ]


def test_if_no_file_can_be_used_nobody_is_asked_and_nothing_is_paid(
    host: Host, handle: Handle
) -> None:
    jobs = manifest(host, a=Page(404), b=Page(410))

    done = call("run", jobs, "--allow-private-inputs")  # without -y

    assert done.code == 4, done.err
    assert bought(handle) == []
    assert states() == {"a": "failed", "b": "failed"}


@pytest.mark.parametrize("again", [("jobs.csv",), ()], ids=["manifest", "stored"])
def test_each_run_looks_again_at_what_could_not_be_used_and_at_nothing_else(
    host: Host, handle: Handle, again: tuple[str, ...]
) -> None:
    jobs = manifest(host, good=Page(), mended=Page(404), gone=Page(404))
    assert call("run", jobs, *RUN, "--limit", "1").code == 3
    host.add("/mended.png", Page())
    host.asked.clear()

    planned = ok("run", *again, *RUN, "-n", "--probe")
    host.asked.clear()
    done = call("run", *again, *RUN)

    assert done.code == 3, done.err
    assert set(host.paths("HEAD")) == {"/mended.png", "/gone.png"}
    for said in (planned.out, done.err):
        assert "1 job to be paid for now: the input files are fine" in said
        assert "1 job not paid for" in said
        assert "1 job to pay for: about $0.25" in said
    assert bought(handle) == ["good", "mended"]
    assert states() == {"good": "succeeded", "mended": "succeeded", "gone": "failed"}

    done = call("run", *again, *RUN)

    assert done.code == (3 if again else 4), done.err
    assert bought(handle) == ["good", "mended"]


def test_stored_jobs_are_looked_at_too(host: Host, handle: Handle) -> None:
    ok("add", manifest(host, good=Page(), gone=Page(404)), "--allow-private-inputs")
    assert host.asked == []

    done = call("run", *RUN)

    assert done.code == 3, done.err
    assert "    jobs/gone: image: HTTP 404" in done.err
    assert bought(handle) == ["good"]


def test_what_was_found_is_believed_by_the_next_run(host: Host, handle: Handle) -> None:
    jobs = manifest(host, a=Page(), b=Page())
    ok("run", jobs, *RUN, "--limit", "1")
    host.asked.clear()

    done = ok("run", jobs, *RUN)

    assert host.asked == []
    assert "1 input file: 0 looked at, 1 believed from a look up to 1m ago" in done.err
    assert len(bought(handle)) == 2


@pytest.mark.parametrize(
    "words",
    [("--no-probe",), ("-n",), ("--simulate",), ("--limit", "0")],
    ids=" ".join,
)
def test_nobody_looks_where_nobody_asked_for_it(
    host: Host, handle: Handle, words: tuple[str, ...]
) -> None:
    jobs = manifest(host, gone=Page(404))
    place = () if "--simulate" in words else ("--db", "batchgen.db")

    ok("run", jobs, "--allow-private-inputs", "--poll-interval", "0", "-y", *place, *words)

    assert host.asked == []


def test_a_dry_run_looks_if_it_is_asked_to_and_stores_nothing(host: Host) -> None:
    jobs = manifest(host, good=Page(), gone=Page(404))

    said = ok("run", jobs, "-n", "--probe", "--allow-private-inputs", "--json").said

    assert said["to_pay"] == 1
    assert said["probed"] == {
        "files": 2,
        "looked_at": 2,
        "believed": 0,
        "unfit": 1,
        "fit_again": 0,
        "warnings": 0,
    }
    assert not Path("batchgen.db").exists()


def test_a_row_that_names_another_file_is_looked_at_and_paid_for(
    host: Host, handle: Handle
) -> None:
    jobs = manifest(host, a=Page(404))
    assert call("run", jobs, *RUN).code == 4
    Path(jobs).write_text(Path(jobs).read_text().replace("/a.png", "/b.png"))
    host.add("/b.png", Page())

    ok("run", jobs, *RUN)

    assert bought(handle) == ["a"]
    assert query("SELECT unfit FROM jobs") == [(0,)]


def edited(path: str, host: Host, page: Page) -> str:
    """Give the row of `a` another image; return the manifest as it was."""
    text = Path(path).read_text()
    Path(path).write_text(text.replace("/a.png", "/new.png"))
    host.add("/new.png", page)
    return text


def exported(result: str, row_id: str = "a") -> str:
    ok("export", "-o", "all.csv", "--overwrite")
    with Path("all.csv").open(newline="", encoding="utf-8") as file:
        [row] = [row for row in csv.DictReader(file) if row["id"] == row_id]
    return row[result]


def test_a_finished_clip_is_not_given_up_for_a_file_that_cannot_be_used(
    host: Host, handle: Handle
) -> None:
    jobs = manifest(host, a=Page(), b=Page())
    ok("run", jobs, *RUN)
    clip = exported("result_file")
    assert clip
    original = edited(jobs, host, Page(404))
    Path(jobs).write_text(Path(jobs).read_text() + f"c,c,{host.add('/c.png', Page())}\n")

    planned = ok("plan", jobs, "--replace", "--probe", "--allow-private-inputs").out
    said = ok("run", jobs, *RUN, "--replace", "-n", "--probe", "--json").said
    done = ok("run", jobs, *RUN, "--replace")

    assert "! a  succeeded with other inputs: left alone, the new input file cannot" in planned
    assert "with these input files, 1 of 1 job to pay for" in planned
    assert said["to_pay"] == 1
    assert "1 job left alone: paid for with other inputs, and the new input file" in done.err
    assert "jobs.csv:2: image: HTTP 404: there is no such file <" in done.err
    assert "/new.png>; its clip is kept" in done.err
    assert "1 job to pay for: about $0.25" in done.err
    assert bought(handle) == ["a", "b", "c"]
    assert set(states().values()) == {"succeeded"}
    assert exported("result_file") == clip
    Path(jobs).write_text(original)
    ok("run", jobs, *RUN, "--replace")
    assert bought(handle) == ["a", "b", "c"]
    edited(jobs, host, Page())
    ok("run", jobs, *RUN, "--replace")
    assert bought(handle) == ["a", "a", "b", "c"]


def test_an_edit_that_is_left_alone_for_its_file_is_not_written_over(
    host: Host, handle: Handle
) -> None:
    ok("run", manifest(host, a=Page()), *RUN, "-o", "all.csv")
    edited("all.csv", host, Page(404))

    refused = call("run", "all.csv", *RUN, "--replace", "-o", "all.csv")

    assert refused.code == 2, refused.err
    assert "the edits of 1 row in it would be lost" in refused.err
    assert "/new.png" in Path("all.csv").read_text()


def test_a_row_that_is_put_back_after_a_replacement_failed_is_not_bought_again(
    host: Host, handle: Handle
) -> None:
    jobs = manifest(host, a=Page())
    ok("run", jobs, *RUN)
    original = edited(jobs, host, Page(404))
    ok("add", jobs, "--replace", "--allow-private-inputs")  # which does not look
    assert call("run", *RUN).code == 4
    Path(jobs).write_text(original)

    planned = ok("plan", jobs, "--allow-private-inputs").out
    done = ok("run", jobs, *RUN)

    assert "! a  has the inputs of an earlier version of a of batch jobs, which is paid" in planned

    assert "1 job held back: paid for already, or waiting elsewhere; --new-batch" in done.err
    assert bought(handle) == ["a"]


def test_what_changes_is_written_in_short_transactions(
    host: Host, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probed, "_TOGETHER", 2)
    changes: list[int] = []
    real = Database.transaction

    @contextmanager
    def transaction(database: Database) -> Iterator[Transaction]:
        changes.append(0)
        with real(database) as tx:
            yield tx

    def fail(*given: Any, **more: Any) -> bool:
        changes[-1] += 1
        return failing(*given, **more)

    def waiting(*given: Any, **more: Any) -> Any:
        writing.append(len(changes))
        yield from looking(*given, **more)
        writing.append(len(changes))

    writing: list[int] = []
    failing, looking = probes.fail, probes.waiting
    jobs = manifest(host, **{name: Page(404) for name in "abcde"})
    monkeypatch.setattr(Database, "transaction", transaction)
    monkeypatch.setattr(probes, "fail", fail)
    monkeypatch.setattr(probes, "waiting", waiting)

    assert call("run", jobs, *RUN).code == 4

    assert [count for count in changes if count] == [2, 2, 1]
    assert len(set(writing)) == 1


def test_a_link_that_is_signed_anew_is_taken(host: Host, handle: Handle) -> None:
    jobs = manifest(host, a=Page(403))
    text = Path(jobs).read_text()
    Path(jobs).write_text(text.replace("/a.png", "/a.png?X-Amz-Signature=0ld"))
    done = call("run", jobs, *RUN)
    assert done.code == 4
    assert "0ld" not in done.err
    assert "0ld" not in str(query("SELECT error FROM jobs"))
    Path(jobs).write_text(text.replace("/a.png", "/a.png?X-Amz-Signature=new"))
    host.add("/a.png", Page())

    ok("run", jobs, *RUN)

    assert str(handle.ledger.entries[0].inputs["promptImage"]).endswith("=new")


def test_a_retry_by_hand_is_looked_at_by_the_next_run(host: Host, handle: Handle) -> None:
    jobs = manifest(host, a=Page(404))
    assert call("run", jobs, *RUN).code == 4

    ok("retry", "a", "-y")
    assert states() == {"a": "pending"}
    assert call("run", *RUN).code == 4
    ok("retry", "a", "-y")
    ok("run", *RUN, "--no-probe")

    assert bought(handle) == ["a"]


def test_a_limit_is_filled_with_jobs_whose_files_can_be_used(host: Host, handle: Handle) -> None:
    jobs = manifest(host, a=Page(404), b=Page(404), c=Page(), d=Page(), e=Page())

    done = call("run", jobs, *RUN, "--limit", "2")

    assert done.code == 3, done.err
    assert "2 jobs to pay for (--limit)" in done.err
    assert bought(handle) == ["c", "d"]


def test_a_row_beside_those_that_still_cannot_be_used_is_paid_for(
    host: Host, handle: Handle
) -> None:
    assert call("run", manifest(host, a=Page(404), b=Page(404)), *RUN).code == 4

    done = call("run", manifest(host, a=Page(404), b=Page(404), c=Page()), *RUN)

    assert done.code == 3, done.err
    assert "2 jobs not paid for" in done.err
    assert bought(handle) == ["c"]


def test_what_is_gone_from_the_file_stays_as_it_is(host: Host, handle: Handle) -> None:
    url = host.add("/one.png", Page(404))
    rows = [{"id": name, "prompt": name, "image": url} for name in ("a", "b")]
    assert call("run", write("jobs.csv", rows), *RUN).code == 4
    host.add("/one.png", Page())

    ok("run", write("jobs.csv", rows[:1]), *RUN)

    assert bought(handle) == ["a"]
    assert states() == {"a": "succeeded", "b": "failed"}


def test_a_job_of_several_variants_counts_once_for_each(host: Host, handle: Handle) -> None:
    rows = [
        {"prompt": "p", "image": host.add("/gone.png", Page(404)), "repeat": "3"},
        {"prompt": "q", "image": host.add("/good.png", Page()), "repeat": "2"},
    ]

    done = call("run", write("jobs.csv", rows), *RUN)

    assert done.code == 3, done.err
    assert "3 jobs not paid for" in done.err
    assert "2 jobs to pay for" in done.err
    assert bought(handle) == ["q", "q"]
    assert set(host.paths("HEAD").values()) == {1}


def test_plan_looks_only_if_it_is_asked_to(host: Host) -> None:
    jobs = manifest(host, good=Page(), gone=Page(404))

    ok("plan", jobs, "--allow-private-inputs")
    assert host.asked == []
    done = ok("plan", jobs, "--allow-private-inputs", "--probe")
    said = ok("plan", jobs, "--allow-private-inputs", "--probe", "--json").said

    assert "1 job not paid for: an input file cannot be used" in done.out
    assert "jobs.csv:3: image: HTTP 404" in done.out
    assert said["probed"]["unfit"] == 1


# -- validate ------------------------------------------------------------------------------------


def test_validate_looks_at_input_files(host: Host) -> None:
    jobs = manifest(host, good=Page(), gone=Page(404), busy=Page(503))

    done = call("validate", jobs, "--allow-private-inputs")

    assert done.code == 5
    assert "jobs.csv:3: image: HTTP 404: there is no such file <http://127.0.0.1:" in done.err
    assert "warning: jobs.csv:4: image: HTTP 503" in done.err
    assert done.out == ""
    assert [path.name for path in Path.cwd().iterdir()] == ["jobs.csv"]


def test_validate_gives_faults_and_warnings_as_data(host: Host) -> None:
    jobs = manifest(host, gone=Page(404), busy=Page(503))

    said = call("validate", jobs, "--allow-private-inputs", "--json").said

    assert said["valid"] is False
    assert [(one["line"], one["column"]) for one in said["faults"]] == [(2, "image")]
    assert [(one["line"], one["column"]) for one in said["warnings"]] == [(3, "image")]


def test_validate_may_leave_the_files_alone(host: Host) -> None:
    jobs = manifest(host, gone=Page(404))

    done = ok("validate", jobs, "--allow-private-inputs", "--no-probe")

    assert "no faults, 1 job" in done.out
    assert host.asked == []


def test_warnings_alone_leave_a_manifest_valid(host: Host) -> None:
    busy = dict.fromkeys(("one", "two", "three"), Page(503))
    done = ok("validate", manifest(host, **busy), "--allow-private-inputs")

    assert "no faults, 3 jobs" in done.out
    assert done.err.count("warning: ") == 1
    assert "warning: 3 rows, the first jobs.csv:2: image: HTTP 503" in done.err


def test_validate_takes_the_flag_that_its_fault_advises(host: Host, handle: Handle) -> None:
    jobs = manifest(host, a=Page())
    ok("run", jobs, *RUN)
    Path(jobs).rename("renamed.csv")

    refused = call("validate", "renamed.csv", "--allow-private-inputs")

    assert refused.code == 5
    assert "pass --new-batch" in refused.err
    ok("validate", "renamed.csv", "--allow-private-inputs", "--new-batch")
