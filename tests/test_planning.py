"""What adding a manifest does to what is stored (spec section 4)."""

import contextlib
import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exporters.paged import paged
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy.pool import QueuePool
from store.stored_jobs import new_file

from batchgen import exporters, manifests, planning
from batchgen.domain.errors import Exit, ManifestError, UsageError
from batchgen.domain.prices import UnitPrice
from batchgen.domain.states import ErrorClass, JobState
from batchgen.manifests import checks
from batchgen.planning import matching
from batchgen.planning import plan as planning_plan
from batchgen.store import accounts, additions, imports, jobs, reads, upgrade, workers
from batchgen.store.database import Database
from batchgen.store.scope import Scope
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

IMAGE = "https://images.example.com/{}.jpg"


class Desk:
    """A folder with manifests and a job database."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        path = folder / "batchgen.db"
        if not url and not path.exists():
            path.write_bytes(new_file())
        self.database = Database(url or str(path))
        upgrade.open_current(self.database)
        self._seeds = itertools.count(7_000)

    def write(self, name: str, content: str | Sequence[dict[str, str]]) -> str:
        path = self.folder / name
        if not isinstance(content, str):
            buffer = io.StringIO()
            table = csv.DictWriter(buffer, list(dict.fromkeys(k for row in content for k in row)))
            table.writeheader()
            table.writerows(content)
            content = buffer.getvalue()
        path.write_text(content, encoding="utf-8")
        return str(path)

    def labels(self, plan: planning.Plan) -> dict[str, list[str]]:
        """Return the row ids of a plan by verdict, empty ones left out."""
        found: dict[str, list[str]] = {}
        with self.database.reading() as tx:
            for item in plan.items(tx):
                found.setdefault(item.verdict.name.lower(), []).append(item.spec.row_id)
            gone = additions.by_ids(tx, plan.gone)
        if plan.gone:
            found["gone"] = [gone[job_id].row_id for job_id in plan.gone]
        return found

    def plan(self, path: str, **wish: Any) -> planning.Plan:
        with self.database.reading() as tx:
            return planning.decide(tx, planning.prepare(tx, planning.Wish(path, **wish)))

    def add(self, path: str, **wish: Any) -> dict[str, Any]:
        """Add a manifest; return what the plan was: labels by list, empty ones left out."""
        with imports.adding(self.database):
            plan = self.plan(path, **wish)
            found = self.labels(plan)
            stored = planning.store(
                self.database, plan, now_ms=1, draw=lambda _low, _high: next(self._seeds)
            )
        self.gone = stored.gone
        return found

    def move(self, state: str, *row_ids: str) -> None:
        """Put jobs into a state, as a run would have; all of them if none is named."""
        with self.database.transaction() as tx:
            for job in self.rows():
                if not row_ids or job.row_id in row_ids:
                    tx.run(
                        text("UPDATE jobs SET state = :state WHERE id = :id"),
                        {"state": state, "id": job.id},
                    )
                    tx.moved(job.batch_id, str(job.state), state)

    def _run(
        self, tx: Transaction, only: frozenset[int] | None = None
    ) -> list[tuple[jobs.Job, str]]:
        """Pay for pending jobs, all or some; return them with the worker that holds them."""
        number = next(self._seeds)
        worker = workers.WorkerInfo(f"w{number}", "host", 1, "1", 30_000)
        account = accounts.ensure(tx, "runcomfy", "default")
        accounts.set_cap(tx, account, 1000)
        workers.register(tx, worker)
        wanted = tuple(f"a{number}-{n}" for n in range(100))
        scope = Scope(None, 10**9, only=only)
        request = jobs.ClaimRequest(worker.id, account.id, scope, wanted, frozenset(), 1)
        [claim] = jobs.claim(tx, [request])
        for job in claim.jobs:
            jobs.record_accepted(tx, [jobs.AcceptedFact(job, f"r-{job.attempt_id}", "{}", 1)])
        return [(job, worker.id) for job in claim.jobs]

    def refuse(self, *, seed: int) -> None:
        """Have moderation refuse every pending job, to be bought again with another seed."""
        with self.database.transaction() as tx:
            for job, worker_id in self._run(tx):
                new = jobs.NewSeed({**job.inputs, "seed": seed}, seed)
                end = jobs.Ended(
                    job, worker_id, "failed", ErrorClass.MODERATION, "no", None, 1, None, 0, 1, new
                )
                jobs.record_ended(tx, [end])

    def buy(self, only: frozenset[int] | None = None) -> None:
        """Pay for pending jobs, all or some, and have their clips, as a run would."""
        with self.database.transaction() as tx:
            for job, worker_id in self._run(tx, only):
                made = jobs.Generated(job, worker_id, ("https://x/y.mp4",), 1, None, "{}", 1)
                jobs.record_generated(tx, [made])
                jobs.finish(tx, [jobs.Finish(job, worker_id, ({"path": job.name},), 1)])

    def rows(self) -> list[reads.JobRow]:
        with self.database.reading() as tx:
            return list(reads.job_rows(tx))

    def row(self, row_id: str) -> reads.JobRow:
        return next(row for row in self.rows() if row.row_id == row_id)

    def exported(self, name: str) -> str:
        """Export every job; return the table's path."""
        self.export(name)
        return str(self.folder / name)

    def export(self, name: str) -> list[dict[str, str]]:
        """Export every job; return the table's rows."""
        with self.database.reading() as tx:
            columns = reads.batches(tx)[0].columns
            records = [
                exporters.Record(row.cells, {"result_key": row.key, "result_state": row.state})
                for row in reads.job_rows(tx)
            ]
        path = str(self.folder / name)
        exporters.export(paged(records), path, columns=columns, overwrite=True)
        with Path(path).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


# For tests that between them say each of planning's statements: a server takes its time.
on_both = pytest.mark.parametrize("desk", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def desk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    is_server = getattr(request, "param", "sqlite") == "postgresql"
    monkeypatch.setattr("batchgen.store.postgres.NullPool", QueuePool)  # connecting takes long
    made = Desk(tmp_path / "desk", request.getfixturevalue("stored_url") if is_server else "")
    yield made
    made.database.close()


def rows(*names: str, **columns: str) -> list[dict[str, str]]:
    return [
        {"id": name, "prompt": f"prompt {name}", "image": IMAGE.format(name), **columns}
        for name in names
    ]


def without_ids(table: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name != "id"} for row in table]


def test_the_first_time_every_row_is_new(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a", "b"))

    assert desk.add(path) == {"new": ["a", "b"]}

    stored = desk.rows()
    assert [row.row_id for row in stored] == ["a", "b"]
    assert [row.name for row in stored] == ["jobs/a.mp4", "jobs/b.mp4"]
    assert {row.state for row in stored} == {JobState.PENDING}


def test_without_a_database_every_row_is_new(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a", "b"))
    wish = planning.Wish(path)

    plan = planning.decide(None, planning.prepare(None, wish))

    assert [item.spec.row_id for item in plan.items(None, planning.Verdict.NEW)] == ["a", "b"]
    assert plan.estimate.micros == 2 * 250_000
    assert plan.estimate.unpriced == 0
    assert plan.batch.name == "jobs"


@pytest.mark.parametrize("state", list(JobState))
def test_the_same_again_is_nothing_new(desk: Desk, state: JobState) -> None:
    path = desk.write("jobs.csv", rows("a", "b"))
    desk.add(path)
    desk.move(state)
    before = desk.rows()

    plan = desk.plan(path)
    assert plan.to_pay == (2 if state is JobState.PENDING else 0)
    assert desk.add(path) == {"unchanged": ["a", "b"]}

    assert desk.rows() == before


MANY = [
    {**row, "seed": str(at % 3), "shot": str(at)} for at, row in enumerate(rows(*"abcdefghijkl"))
]
X = {**MANY[-1], **rows("x")[0]}
ANEW: dict[str, list[dict[str, str]]] = {
    "as-it-was": MANY,
    "longer": [*MANY[:-1], X, *rows("y", "z")],
    "back-again": [*MANY, X],
    "shorter": MANY[:-1],
    "first-gone": MANY[1:],
    "turned-round": MANY[::-1],
    "two-swapped": [*MANY[:5], MANY[6], MANY[5], *MANY[7:]],
    "other-cell": [*MANY[:5], {**MANY[5], "shot": "z"}, *MANY[6:]],
    "other-input": [*MANY[:5], {**MANY[5], "seed": "9"}, *MANY[6:]],
    "other-id": [*MANY[:5], {**MANY[5], "id": "z"}, *MANY[6:]],
    "signed": [*MANY[:5], {**MANY[5], "image": f"{MANY[5]['image']}?X-Amz-Date=1"}, *MANY[6:]],
    "no-ids": without_ids(MANY),
}


@pytest.mark.parametrize("edit", ANEW)
@pytest.mark.parametrize("moved", ["", "bdj"])
def test_many_rows_that_stay_are_compared_at_once_as_one_by_one(
    edit: str, moved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path / "desk")
    monkeypatch.setattr(checks, "_CHUNK_ROWS", 5)
    monkeypatch.setattr(planning_plan, "CHUNK", 5)
    desk.add(desk.write("jobs.csv", MANY))
    desk.add(desk.write("jobs.csv", [*MANY[:-1], X]))  # in the place of one that is outside
    if moved:
        desk.move("succeeded", *moved)
    path = desk.write("jobs.csv", ANEW[edit])

    one_by_one = desk.plan(path)
    monkeypatch.setattr(matching, "SAMPLES", 0)  # these are made one by one
    at_once = desk.plan(path)

    assert {**_told(at_once), "samples": {}} == {**_told(one_by_one), "samples": {}}
    assert desk.add(path).keys() <= {"new", "unchanged", "changed", "left", "renamed", "gone"}
    desk.database.close()


def _told(plan: planning.Plan) -> dict[str, Any]:
    fields = ("verdicts", "known_ids", "moved", "row_ids", "gone", "asked", "bought", "states")
    ids = range(1, 100)
    claimed = [job_id for job_id in ids if job_id in plan.claimed]
    assert len(claimed) == len(plan.claimed)
    return {name: getattr(plan, name) for name in fields} | {"claimed": claimed}


@on_both
def test_the_order_follows_the_newest_file(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a", "b", "c"))
    desk.add(path)
    desk.move("succeeded", "b")
    desk.write("jobs.csv", rows("c", "new", "b", "a"))

    assert desk.add(path) == {"new": ["new"], "unchanged": ["c", "b", "a"]}
    assert [row.row_id for row in desk.rows()] == ["c", "new", "b", "a"]


EDITS = [
    (JobState.PENDING, "changed", False),
    (JobState.FAILED, "reopened", False),
    (JobState.CANCELLED, "reopened", False),
    (JobState.EXPIRED, "reopened", False),
    (JobState.SUCCEEDED, "left", False),
    (JobState.SUCCEEDED, "replaced", True),
    (JobState.SUBMITTING, "busy", True),
    (JobState.RUNNING, "busy", True),
    (JobState.DOWNLOADING, "busy", True),
    (JobState.IN_DOUBT, "busy", True),
]


def test_the_table_of_edits_knows_every_state() -> None:
    assert {state for state, _, _ in EDITS} == set(JobState)


@pytest.mark.parametrize(("state", "listed", "again"), EDITS)
def test_a_known_id_with_other_inputs(
    desk: Desk, state: JobState, listed: str, *, again: bool
) -> None:
    path = desk.write("jobs.csv", rows("a", "b", client="acme"))
    desk.add(path)
    desk.move(state, "a")
    before = desk.row("a")
    edited = rows("a", "b", client="umbrella")
    edited[0]["prompt"] = "another"
    desk.write("jobs.csv", edited)

    plan = desk.plan(path, replace=again)
    assert desk.add(path, replace=again) == {listed: ["a"], "unchanged": ["b"]}

    after = desk.row("a")
    touched = listed not in ("left", "busy")
    assert after.key == before.key
    assert after.inputs["promptText"] == ("another" if touched else "prompt a")
    assert after.cells["prompt"] == ("another" if touched else "prompt a")
    assert after.cells["client"] == "umbrella"  # carried cells follow in any case
    assert after.state == (JobState.PENDING if touched else state)
    assert (after.version, after.name) == (
        (2, "jobs/a-v2.mp4") if listed == "replaced" else (1, "jobs/a.mp4")
    )
    assert plan.to_pay == (2 if touched else 1)
    with desk.database.reading() as tx:
        counts = reads.batches(tx)[0].counts
    assert sum(counts.values()) == 2


def test_a_reopened_job_keeps_its_reserved_name(desk: Desk) -> None:
    folded = "SELECT name_folded FROM jobs"
    path = desk.write("jobs.csv", rows("Straße-ΐ"))
    desk.add(path)
    desk.move("failed")
    with desk.database.reading() as tx:
        before = tx.value(text(folded))
    edited = rows("Straße-ΐ")
    edited[0]["prompt"] = "another"
    desk.write("jobs.csv", edited)

    desk.add(path)

    with desk.database.reading() as tx:
        assert tx.value(text(folded)) == before


@on_both
def test_a_third_version_is_named_so(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a"))
    desk.add(path)
    for number in (2, 3):
        desk.move("succeeded")
        edited = rows("a")
        edited[0]["prompt"] = f"take {number}"
        desk.write("jobs.csv", edited)
        desk.add(path, replace=True)

    assert desk.row("a").name == "jobs/a-v3.mp4"


@on_both
def test_pending_jobs_that_are_gone_are_listed_and_left_out(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a", "b", "c"))
    desk.add(path)
    desk.move("succeeded", "c")
    desk.write("jobs.csv", rows("a"))

    assert desk.add(path) == {"unchanged": ["a"], "gone": ["b"]}
    assert desk.gone == {desk.row("b").id}


# Never twice by accident.


@pytest.mark.parametrize("state", ["succeeded", "running", "in_doubt", "expired", "submitting"])
def test_an_id_column_that_is_added_pays_nothing_again(desk: Desk, state: str) -> None:
    path = desk.write("jobs.csv", without_ids(rows("a", "b")))
    desk.add(path)
    desk.move(state)
    before = [(row.key, row.name, row.state) for row in desk.rows()]
    desk.write("jobs.csv", rows("a", "b"))

    plan = desk.plan(path)
    assert plan.to_pay == 0
    assert desk.add(path) == {"renamed": ["a", "b"]}

    assert [(row.key, row.name, row.state) for row in desk.rows()] == before
    assert [row.row_id for row in desk.rows()] == ["a", "b"]
    assert desk.add(path) == {"unchanged": ["a", "b"]}


@on_both
def test_an_id_column_that_is_added_before_the_run_makes_no_second_job(desk: Desk) -> None:
    path = desk.write("jobs.csv", without_ids(rows("a", "b")))
    desk.add(path)
    keys = [row.key for row in desk.rows()]
    desk.write("jobs.csv", rows("a", "b"))

    plan = desk.plan(path)
    assert plan.to_pay == 2
    assert desk.add(path) == {"renamed": ["a", "b"]}

    assert [row.key for row in desk.rows()] == keys
    assert [row.name for row in desk.rows()] == ["jobs/a.mp4", "jobs/b.mp4"]
    assert desk.gone == frozenset()


def test_equal_rows_are_two_takes_and_keep_their_jobs_when_they_get_ids(desk: Desk) -> None:
    row = {"prompt": "p", "image": IMAGE.format("x")}
    path = desk.write("jobs.csv", [row, row])
    assert len(desk.add(path)["new"]) == 2
    desk.move("succeeded")
    keys = [job.key for job in desk.rows()]
    desk.write("jobs.csv", [{"id": "one", **row}, {"id": "two", **row}, {"id": "three", **row}])

    assert desk.add(path) == {"renamed": ["one", "two"], "new": ["three"]}
    assert [job.key for job in desk.rows()][:2] == keys


def test_a_renamed_id_leaves_its_key_and_a_new_row_may_take_the_old_id(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a"))
    desk.add(path)
    desk.move("succeeded")
    renamed = [{**rows("a")[0], "id": "b"}]
    desk.write("jobs.csv", renamed)
    assert desk.add(path) == {"renamed": ["b"]}

    other = {**rows("c")[0], "id": "a"}
    desk.write("jobs.csv", [*renamed, other])
    assert desk.add(path) == {"unchanged": ["b"], "new": ["a"]}

    assert len({row.key for row in desk.rows()}) == 2
    assert len({row.name for row in desk.rows()}) == 2


def test_a_renamed_file_is_refused(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b")))
    desk.move("succeeded")
    path = desk.write("copy.csv", rows("a", "b"))

    with pytest.raises(ManifestError, match="--batch jobs") as caught:
        desk.add(path)

    assert caught.value.exit_code is Exit.MANIFEST
    assert len(desk.rows()) == 2
    assert desk.add(path, batch="jobs") == {"unchanged": ["a", "b"]}


@on_both
def test_rows_of_another_file_that_are_paid_for_are_held_back(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b")))
    desk.move("succeeded")
    path = desk.write("more.csv", rows("a", "c"))

    assert desk.plan(path).to_pay == 1
    assert desk.add(path) == {"new": ["c"], "held": ["a"]}

    assert len(desk.rows()) == 3


@on_both
def test_a_file_that_is_renamed_when_some_of_it_is_paid_for_is_refused(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b", "c")))
    desk.move("succeeded", "a")

    with pytest.raises(ManifestError, match="--batch jobs"):
        desk.add(desk.write("copy.csv", rows("a", "b", "c")))

    path = desk.write("copy.csv", rows("a", "b", "c", "d"))
    plan = desk.plan(path)
    assert (plan.to_pay, plan.asked.total()) == (1, 4)
    assert desk.add(path) == {"held": ["a", "b", "c"], "new": ["d"]}
    assert desk.add(path, new_batch=True) == {"new": ["a", "b", "c", "d"]}


def test_a_new_batch_is_meant(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a", "b"))
    desk.add(path)
    desk.move("succeeded")

    assert desk.add(path, new_batch=True) == {"new": ["a", "b"]}

    assert {row.batch for row in desk.rows()} == {"jobs", "jobs-2"}
    assert len({row.name for row in desk.rows()}) == 4


def test_failed_jobs_of_another_batch_hold_nothing_back(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a")))
    desk.move("failed")

    assert desk.add(desk.write("copy.csv", rows("a"))) == {"new": ["a"]}


def test_two_files_of_the_same_name_are_not_taken_for_one(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b", "c")))
    (desk.folder / "elsewhere").mkdir()
    others = [{**row, "prompt": "quite another"} for row in rows("a", "b", "c")]
    path = desk.write("elsewhere/jobs.csv", others)

    with pytest.raises(ManifestError, match="another file") as caught:
        desk.add(path)

    assert caught.value.exit_code is Exit.MANIFEST
    assert desk.row("a").inputs["promptText"] == "prompt a"
    assert desk.add(path, batch="jobs") == {"changed": ["a", "b", "c"]}


def test_a_moved_file_with_a_few_edits_is_the_same_batch(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b", "c")))
    (desk.folder / "elsewhere").mkdir()
    others = rows("a", "b", "c")
    others[0]["prompt"] = "another"

    assert desk.add(desk.write("elsewhere/jobs.csv", others)) == {
        "changed": ["a"],
        "unchanged": ["b", "c"],
    }


def test_a_pending_job_takes_the_newest_signature(desk: Desk) -> None:
    def signed(signature: str) -> list[dict[str, str]]:
        url = f"https://b.s3.amazonaws.com/a.jpg?X-Amz-Signature={signature}&X-Amz-Expires=60"
        return [{"id": name, "prompt": "p", "image": url} for name in ("a", "b")]

    path = desk.write("jobs.csv", signed("old"))
    desk.add(path)
    desk.move("succeeded", "b")
    desk.write("jobs.csv", signed("new"))

    assert desk.add(path) == {"changed": ["a"], "unchanged": ["b"]}
    assert "Signature=new" in desk.row("a").inputs["promptImage"]
    assert "Signature=old" in desk.row("b").inputs["promptImage"]


def test_an_id_and_a_new_signature_at_once(desk: Desk) -> None:
    def signed(signature: str) -> list[dict[str, str]]:
        url = f"https://b.s3.amazonaws.com/a.jpg?X-Amz-Signature={signature}"
        return [{"id": "a", "prompt": "p", "image": url}]

    path = desk.write("jobs.csv", without_ids(signed("old")))
    desk.add(path)
    desk.write("jobs.csv", signed("new"))

    assert desk.add(path) == {"renamed": ["a"]}
    assert "Signature=new" in desk.row("a").inputs["promptImage"]


# Seeds, takes, names, budgets.


def test_each_model_of_a_manifest_has_its_own_seed_or_none(desk: Desk) -> None:
    jobs = [
        "id: a, model: openai/sora-2/pro/image-to-video",
        "id: b, model: minimax/minimax-h3-open/image-to-video, seed: -1",
        'id: c, seed: 12, ratio: "1280:720"',
        "id: d, seed: 13",
        "id: e",
    ]
    both = "prompt: a lake, image: https://images.example.com/a.jpg"
    lines = [f"  - {{{job}, {both}}}" for job in jobs]
    desk.add(desk.write("jobs.yaml", "\n".join(["jobs:", *lines])))

    assert [row.seed for row in desk.rows()] == [None, -1, 12, 13, None]


@on_both
def test_takes_keep_the_seeds_that_were_drawn(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a", repeat="2"))
    desk.add(path)
    seeds = [row.seed for row in desk.rows()]
    assert seeds == [7000, 7001]
    assert [row.inputs["seed"] for row in desk.rows()] == seeds

    edited = rows("a", repeat="3")
    edited[0]["prompt"] = "another"
    desk.write("jobs.csv", edited)
    assert desk.add(path) == {"changed": ["a", "a"], "new": ["a"]}

    assert [row.seed for row in desk.rows()] == [7000, 7001, 7002]
    assert [row.name for row in desk.rows()] == [f"jobs/a-{n}.mp4" for n in (1, 2, 3)]


@on_both
@pytest.mark.parametrize("cells", [{}, {"seed": "5"}, {"seeds": "5"}, {"repeat": "1"}], ids=str)
@pytest.mark.parametrize("signed_anew", [False, True])
def test_a_job_that_got_another_seed_keeps_it_when_its_row_comes_again(
    desk: Desk, cells: dict[str, str], signed_anew: bool
) -> None:
    row = {**rows("a")[0], **cells}
    path = desk.write("jobs.csv", [row])
    desk.add(path)
    desk.refuse(seed=99)
    before = desk.rows()
    desk.export("night.csv")
    if signed_anew:
        row["image"] += "?Expires=1&Signature=new&Key-Pair-Id=k"
    desk.write("jobs.csv", [row])

    plan = desk.add(path)

    assert plan == ({"changed": ["a"]} if signed_anew else {"unchanged": ["a"]})
    [job] = desk.rows()
    assert (job.seed, job.inputs["seed"], job.state) == (99, 99, JobState.PENDING)
    assert job.inputs == {**before[0].inputs, "promptImage": row["image"]}
    desk.buy()
    for again in (path, str(desk.folder / "night.csv")):
        assert desk.add(again) == {"unchanged": ["a"]}
    assert [(one.state, one.seed) for one in desk.rows()] == [("succeeded", 99)]


@pytest.mark.parametrize("exported", [False, True])
def test_a_seed_that_the_user_sets_wins_over_a_drawn_one(desk: Desk, exported: bool) -> None:
    desk.add(desk.write("jobs.csv", rows("a", repeat="1")))
    if exported:
        desk.write("jobs.csv", [{**row, "seed": "5"} for row in desk.export("night.csv")])
    else:
        desk.write("jobs.csv", rows("a", repeat="1", seed="5"))

    desk.add(str(desk.folder / "jobs.csv"))

    assert [(row.seed, row.inputs["seed"]) for row in desk.rows()] == [(5, 5)]


def test_names_are_unique_without_regard_to_case(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("Fox", "fox", "FOX")))

    assert [row.name for row in desk.rows()] == ["jobs/Fox.mp4", "jobs/fox-2.mp4", "jobs/FOX-3.mp4"]


@on_both
def test_names_are_unique_over_batches_that_share_a_folder(desk: Desk) -> None:
    first = desk.write("one.csv", rows("a"))
    second = desk.write("two.csv", rows("A", "b"))
    desk.add(first, name_template="{id}.{ext}")
    desk.add(second, name_template="{id}.{ext}")

    assert [row.name for row in desk.rows()] == ["a.mp4", "A-2.mp4", "b.mp4"]


def test_a_budget_without_a_known_price_is_refused(desk: Desk, monkeypatch: Any) -> None:
    path = desk.write("jobs.csv", rows("a"))
    desk.add(path, budget_micros=5)
    with desk.database.reading() as tx:
        assert reads.batches(tx)[0].budget_micros == 5

    models = manifests.load_models()
    unpriced = {name: replace(model, price_micros=None) for name, model in models.items()}
    monkeypatch.setattr(manifests, "load_models", lambda: unpriced)
    plan = desk.plan(path, budget_micros=5)
    with pytest.raises(UsageError, match=r"known price.*gen-4"):
        planning.check_budget(plan)

    planning.check_budget(
        desk.plan(path, budget_micros=5, catalog={plan.batch.model: UnitPrice(1, "second")})
    )


def test_a_batch_belongs_to_its_account(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a"))
    desk.add(path)
    with desk.database.transaction() as tx:
        accounts.ensure(tx, "runcomfy", "studio")

    with pytest.raises(UsageError, match="--account"):
        desk.add(path, account="studio")


# An export is a manifest.


def test_an_export_comes_back_unchanged_whatever_it_is_called(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b", client="acme")))
    desk.move("succeeded", "a")
    before = desk.rows()
    desk.export("night.csv")

    assert desk.add(str(desk.folder / "night.csv")) == {"unchanged": ["a", "b"]}
    assert desk.rows() == before


@pytest.mark.parametrize("word", ["repeat", "seeds"])
def test_jobs_of_seeds_and_takes_come_back_unchanged(desk: Desk, word: str) -> None:
    cell = {"repeat": "3", "seeds": "11,12,13"}[word]
    desk.add(
        desk.write(
            "jobs.csv", [*rows("a", **{word: cell}), *without_ids(rows("b", **{word: cell}))]
        )
    )
    desk.move("succeeded", "a")
    before = desk.rows()
    exported = desk.export("night.csv")
    assert {row[word] for row in exported} == {cell}

    plan = desk.add(str(desk.folder / "night.csv"))

    assert list(plan) == ["unchanged"]
    assert len(plan["unchanged"]) == 6
    assert desk.rows() == before


def test_a_yaml_batch_comes_back_from_its_csv_export(desk: Desk) -> None:
    manifest = """
batch: harbor-night
defaults: {duration: 5}
vars: {style: film}
jobs:
  - id: harbor
    prompt: "Boats, {{ style }}"
    image: https://images.example.com/harbor.jpg
    seeds: [1, 2]
    meta: {client: acme}
  - prompt: "Lake"
    image: https://images.example.com/lake.jpg
    repeat: 2
"""
    desk.add(desk.write("jobs.yaml", manifest))
    desk.move("succeeded")
    keys = [(row.key, row.inputs, row.seed) for row in desk.rows()]
    desk.export("night.csv")

    plan = desk.add(str(desk.folder / "night.csv"))

    assert (list(plan), len(plan["unchanged"])) == (["unchanged"], 4)
    assert [(row.key, row.inputs, row.seed) for row in desk.rows()] == keys
    assert list(desk.add(str(desk.folder / "jobs.yaml"))) == ["unchanged"]


@on_both
def test_an_edited_export_is_an_edit(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b", "c", client="acme")))
    desk.move("succeeded", "a")
    table = desk.export("night.csv")
    for row in table:
        row["prompt"] += ", again"
        row["client"] = "umbrella"
    added = {"prompt": "new", "image": IMAGE.format("new"), "id": "d"}
    path = desk.write("night.csv", [*reversed(table), added])

    assert desk.add(path) == {"new": ["d"], "changed": ["c", "b"], "left": ["a"]}

    assert [row.row_id for row in desk.rows()] == ["c", "b", "a", "d"]
    assert {row.batch for row in desk.rows()} == {"jobs"}
    assert desk.row("a").cells == {
        "id": "a",
        "prompt": "prompt a",
        "image": IMAGE.format("a"),
        "client": "umbrella",
    }


def test_a_row_of_an_export_may_be_copied(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", without_ids(rows("a"))))
    desk.move("succeeded")
    table = desk.export("night.csv")
    edited = {**table[0], "prompt": "another"}
    copied = {**table[0], "result_key": ""}

    # The edited row still stands for the clip, which the copy would pay for once more.
    asked = desk.add(desk.write("night.csv", [edited, copied]))
    told = desk.add(desk.write("night.csv", [table[0], {**edited, "result_key": ""}]))

    assert {name: len(ids) for name, ids in asked.items()} == {"left": 1, "held": 1}
    assert {name: len(ids) for name, ids in told.items()} == {"unchanged": 1, "new": 1}
    assert len(desk.rows()) == 2


def test_an_id_that_a_keyed_row_still_has_is_refused(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a")))
    table = desk.export("night.csv")
    keyed = {**table[0], "id": "renamed"}
    other = {**rows("z")[0], "id": "a", "result_key": ""}
    path = desk.write("night.csv", [keyed, other])

    with pytest.raises(ManifestError, match=r"night\.csv:3: id: a is the id of"):
        desk.add(path)

    assert len(desk.rows()) == 1


def test_an_unknown_key_is_refused_with_what_to_do(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a")))
    table = desk.export("night.csv")
    path = desk.write("night.csv", [*table, {**rows("b")[0], "result_key": "jffff"}])

    with pytest.raises(ManifestError, match="jffff is not in this job database") as caught:
        desk.add(path)

    assert f"`batchgen db rebuild {path}" in str(caught.value)
    assert "--new-batch" in str(caught.value)
    assert "night.csv:3" in str(caught.value)
    assert list(desk.add(path, new_batch=True)) == ["new"]


def test_an_export_of_two_batches_is_refused(desk: Desk) -> None:
    desk.add(desk.write("one.csv", rows("a")))
    desk.add(desk.write("two.csv", rows("b")))
    desk.export("night.csv")

    with pytest.raises(ManifestError, match="one, two"):
        desk.add(str(desk.folder / "night.csv"))


def test_an_export_of_some_rows_takes_no_column_from_the_others(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b", client="acme")))
    table = desk.export("night.csv")
    path = desk.write("night.csv", [{k: v for k, v in table[0].items() if k != "client"}])

    desk.add(path)

    with desk.database.reading() as tx:
        assert "client" in reads.batches(tx)[0].columns


# Whatever a person does to a file that was paid for, nothing of it is bought again.

_Row = dict[str, str]
_ROWS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4)


def _shuffled(table: list[_Row], order: Sequence[int]) -> list[_Row]:
    return [row for _, row in sorted(zip(order, table, strict=False), key=lambda pair: pair[0])]


@st.composite
def _edits(draw: Callable[[Any], Any]) -> list[tuple[str, Any]]:
    kinds = st.sampled_from(["same", "reorder", "ids", "no ids", "rows", "export", "crlf"])
    return [
        (kind, draw(st.permutations(range(12))) if kind == "reorder" else draw(_ROWS))
        for kind in draw(st.lists(kinds, min_size=1, max_size=6))
    ]


@settings(max_examples=15, deadline=None)
@given(first=_ROWS, edits=_edits(), paid=st.sets(st.integers(0, 9)))
def test_no_edit_of_a_file_buys_its_clips_again(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[str],
    edits: list[tuple[str, Any]],
    paid: set[int],
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    table = [
        {"prompt": f"prompt {name}", "image": IMAGE.format(name), "client": "acme"}
        for name in first
    ]
    fresh = (f"id{n}" for n in itertools.count())
    path = desk.write("jobs.csv", table)
    try:
        for kind, argument in [("same", None), *edits]:
            if kind == "reorder":
                table = _shuffled(table, argument)
            elif kind == "ids":
                table = [{"id": row.get("id") or next(fresh), **row} for row in table]
            elif kind == "no ids":
                table = without_ids(table)
            elif kind == "rows":
                table = [
                    *table,
                    *(
                        {"prompt": f"prompt {n}", "image": IMAGE.format(n), "client": "acme"}
                        for n in argument
                    ),
                ]
            path = desk.write("jobs.csv", table)
            if kind == "crlf":
                file = Path(path)
                file.write_bytes(file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
            if kind == "export":
                desk.export("night.csv")
                desk.add(str(desk.folder / "night.csv"))
            desk.add(path)
            for job in desk.rows():
                if job.id % 10 in paid and job.state is JobState.PENDING:
                    desk.move("succeeded", job.row_id)
            # As many jobs of these inputs as the file has rows of them, never more.
            wanted = sorted(row["prompt"] for row in table)
            assert sorted(str(job.inputs["promptText"]) for job in desk.rows()) == wanted
    finally:
        desk.database.close()


_CONTENTS = st.sampled_from("abcdef")
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("edit"), st.integers(0, 9), _CONTENTS),
        st.tuples(st.just("add"), st.integers(0, 9), _CONTENTS),
        st.tuples(st.just("drop"), st.integers(0, 9), st.none()),
        st.tuples(st.just("move"), st.integers(0, 9), st.none()),
        st.tuples(st.just("ids"), st.booleans(), st.none()),
        st.tuples(st.just("save"), st.sampled_from(["crlf", "bom;", "yaml", "export"]), st.none()),
        st.tuples(st.just("rename"), st.sampled_from(["jobs", "copy", "night"]), st.none()),
        st.tuples(st.just("limit"), st.sampled_from([0, 1, 100]), st.none()),
        st.tuples(st.just("number"), st.none(), st.none()),
    ),
    min_size=1,
    max_size=12,
)


_SET = {"save": "form", "rename": "name", "limit": "limit"}


class _Author:
    """Somebody who edits one manifest again and again, and runs it after each edit."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.table: list[_Row] = []
        self.name, self.form, self.limit = "jobs", "plain", 100
        self.fresh = (f"id{n}" for n in itertools.count())
        self.bought: Counter[str] = Counter()  # prompts that were paid for
        self.most: Counter[str] = Counter()  # rows of a prompt that the file had at once

    def do(self, kind: str, what: Any, content: Any) -> None:
        place = what % (len(self.table) or 1) if isinstance(what, int) else 0
        if kind == "edit" and self.table:
            self.table[place] = {**self.table[place], **_content(content)}
        elif kind == "add":
            row = _content(content)
            has_ids = bool(self.table) and "id" in self.table[0]
            self.table.insert(place, {"id": next(self.fresh), **row} if has_ids else row)
        elif kind == "drop" and len(self.table) > 1:
            del self.table[place]
        elif kind == "move" and self.table:
            self.table.append(self.table.pop(place))
        elif kind == "ids" and what:
            self.table = [{"id": row.get("id") or next(self.fresh), **row} for row in self.table]
        elif kind == "ids":
            self.table = without_ids(self.table)
        elif kind == "number":
            self.table = [{**row, "id": str(n)} for n, row in enumerate(self.table, 1)]
        elif kind in _SET:
            setattr(self, _SET[kind], what)

    def run(self) -> None:
        """Add the file as it is now, and pay for what waits of it, as far as the limit goes."""
        if not self.table:
            return
        for prompt, count in Counter(row["prompt"] for row in self.table).items():
            self.most[prompt] = max(self.most[prompt], count)
        path = self._saved()
        with contextlib.suppress(ManifestError):  # held back, or a namesake: nothing is bought
            self.desk.add(path)
            waiting = [
                row
                for row in self.desk.rows()
                if row.state is JobState.PENDING and row.id not in self.desk.gone
            ][: self.limit]
            self.bought.update(str(row.inputs["promptText"]) for row in waiting)
            self.desk.buy(frozenset(row.id for row in waiting))
        if self.form == "export":
            with contextlib.suppress(ManifestError):  # of two batches
                self.desk.add(self.desk.exported("night-after.csv"))

    def _saved(self) -> str:
        if self.form == "yaml":
            jobs_ = "".join(f"- {json.dumps(row)}\n" for row in self.table)
            return self.desk.write(f"{self.name}.yaml", f"jobs:\n{jobs_}")
        path = Path(self.desk.write(f"{self.name}.csv", self.table))
        if self.form == "crlf":
            path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        if self.form == "bom;":
            with path.open(newline="", encoding="utf-8") as file:
                table = list(csv.reader(file))
            with path.open("w", newline="", encoding="utf-8-sig") as file:
                csv.writer(file, delimiter=";").writerows(table)
        return str(path)


def _content(name: str) -> _Row:
    return {"prompt": f"prompt {name}", "image": IMAGE.format(name)}


@settings(max_examples=15, deadline=None)
@example(steps=[("ids", True, None), ("edit", 0, "c"), ("add", 0, "b")])
@example(steps=[("drop", 0, None), ("ids", True, None), ("edit", 0, "b"), ("add", 0, "a")])
@example(  # ids are row numbers, and a row is put in above
    steps=[
        ("limit", 0, None),
        ("add", 0, "c"),
        ("move", 0, None),
        ("number", None, None),
        ("add", 0, "d"),
        ("number", None, None),
        ("limit", 100, None),
    ]
)
@given(steps=_STEPS)
def test_no_clip_is_paid_for_twice_whatever_becomes_of_its_file(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any, Any]]
) -> None:
    """Never more purchases of the same inputs than the file had rows of them at once."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    author = _Author(desk)
    try:
        for step in [("add", 0, "a"), ("add", 0, "b"), *steps]:
            author.do(*step)
            author.run()
            assert all(author.bought[one] <= author.most[one] for one in author.bought)
    finally:
        desk.database.close()


@on_both
def test_a_dropped_column_stays_in_the_export_of_jobs_that_are_gone(desk: Desk) -> None:
    desk.add(desk.write("jobs.csv", rows("a", "b", client="acme")))
    desk.move("succeeded")

    desk.add(desk.write("jobs.csv", rows("a")))

    assert [row["client"] for row in desk.export("out.csv")] == ["", "acme"]


@pytest.mark.parametrize("name", ["jobs.csv", "renamed.csv"])
def test_a_clip_that_was_replaced_is_not_bought_again_for_its_old_inputs(
    desk: Desk, name: str
) -> None:
    original = rows("a", "b")
    desk.add(desk.write("jobs.csv", original))
    desk.buy()
    edited = [{**original[0], "prompt": "another prompt"}, original[1]]
    desk.add(desk.write("jobs.csv", edited), replace=True)
    desk.buy()

    again = desk.write(name, [{**row, "id": f"{row['id']}-again"} for row in original] + rows("c"))

    assert desk.add(again)["held"][0] == "a-again"


@pytest.mark.parametrize("state", ["succeeded", "running", "in_doubt", "downloading"])
@pytest.mark.parametrize("replace_too", [False, True])
def test_a_clip_whose_row_was_edited_is_not_bought_again_for_another_row(
    desk: Desk, state: str, *, replace_too: bool
) -> None:
    [original] = rows("a")
    desk.add(desk.write("jobs.csv", [original]))
    desk.move(state, "a")
    edited = [{**original, "prompt": "another prompt"}, {**original, "id": "b"}, *rows("c")]
    path = desk.write("jobs.csv", edited)

    plan = desk.plan(path, replace=replace_too)

    assert plan.to_pay == 1 + (replace_too and state == "succeeded")
    assert desk.add(path, replace=replace_too)["held"] == ["b"]
    again = [*edited, {**original, "id": "d"}]  # one clip holds back one row
    assert "d" in desk.add(desk.write("jobs.csv", again))["new"]


@on_both
@pytest.mark.parametrize("state", ["pending", "failed"])
def test_ids_that_are_row_numbers_may_shift_without_a_clip_being_bought_again(
    desk: Desk, state: str
) -> None:
    numbered = [{**row, "id": str(n)} for n, row in enumerate(rows("a", "b", "c", "d"), 1)]
    path = desk.write("jobs.csv", numbered)
    desk.add(path)
    desk.move("succeeded", "1", "2")
    desk.move(state, "3", "4")
    shifted = [{**row, "id": str(n)} for n, row in enumerate(rows("new", "a", "b", "c", "d"), 1)]
    desk.write("jobs.csv", shifted)

    plan = desk.plan(path)

    assert plan.to_pay == 2
    found = desk.add(path)
    assert (found["left"], found["held"]) == (["1", "2"], ["3"])
    assert desk.row("3").inputs["promptText"] == "prompt c"
    assert desk.add(path)["held"] == ["3"]
    desk.write("jobs.csv", numbered)  # put back: nothing was lost
    assert desk.add(path).get("held") is None
    assert desk.row("3").inputs["promptText"] == "prompt c"


@pytest.mark.parametrize("state", ["pending", "failed", "cancelled", "expired"])
@pytest.mark.parametrize("replace_again", [False, True])
@pytest.mark.parametrize("names", ["a", "ab"])
def test_a_row_that_is_put_back_is_not_bought_again_if_its_clip_was_paid_for(
    desk: Desk, state: str, names: str, *, replace_again: bool
) -> None:
    original = rows(*names)
    path = desk.write("jobs.csv", original)
    desk.add(path)
    desk.buy()
    desk.write("jobs.csv", [{**original[0], "prompt": "another prompt"}, *original[1:]])
    desk.add(path, replace=True)
    desk.move(state, "a")
    desk.write("jobs.csv", original)

    plan = desk.plan(path, replace=replace_again)

    assert plan.to_pay == 0
    assert desk.add(path, replace=replace_again)["held"] == ["a"]
    assert desk.row("a").inputs["promptText"] == "another prompt"
    desk.write("jobs.csv", [{**original[0], "prompt": "a third one"}, *original[1:]])
    assert desk.plan(path).to_pay == 1


def test_finished_jobs_can_be_taken_out_of_a_plan(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a", "b", "c"))
    desk.add(path)
    desk.buy()
    desk.write("jobs.csv", [{**row, "prompt": "p"} for row in rows("a", "b", "c")])
    plan = desk.plan(path, replace=True)

    with desk.database.reading() as tx:
        plan.leave(list(plan.items(tx, planning.Verdict.REPLACED))[:2])

    assert plan.to_pay == 1
    assert desk.labels(plan) == {"left": ["a", "b"], "replaced": ["c"]}
    samples = {
        verdict: [item.spec.row_id for item in found] for verdict, found in plan.samples.items()
    }
    assert samples == {planning.Verdict.LEFT: ["a", "b"], planning.Verdict.REPLACED: ["c"]}


# -- checked once ----------------------------------------------------------------------------------


def test_a_manifest_is_read_again_only_if_its_batch_has_changed(desk: Desk) -> None:
    path = desk.write("jobs.csv", rows("a", "b"))
    desk.add(path)
    with desk.database.reading() as tx:
        [draft] = planning.draft(tx, [planning.Wish(path)])
    Path(path).unlink()

    with desk.database.reading() as tx:
        assert planning.decide_anew(tx, draft).count(planning.Verdict.UNCHANGED) == 2

    desk.add(desk.write("jobs.yaml", f"budget: 5\njobs:\n  - image: {IMAGE.format('c')}\n"))
    with desk.database.reading() as tx, pytest.raises(ManifestError, match="no such file"):
        planning.decide_anew(tx, draft)


def test_every_manifest_is_checked_before_any_fault_is_told(desk: Desk) -> None:
    paths = [desk.write(f"{name}.csv", rows(name, duration="7")) for name in ("a", "b")]

    with pytest.raises(ManifestError) as refused:
        planning.draft(None, map(planning.Wish, paths))

    assert [fault.file for fault in refused.value.faults] == paths
