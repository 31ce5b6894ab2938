"""A job database in a folder, and short words for what is done to it."""

import itertools
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from batchgen.domain.jobs import JobSpec, encoded
from batchgen.domain.states import ErrorClass
from batchgen.store import accounts, additions, jobs, upgrade, workers
from batchgen.store.database import Database
from batchgen.store.scope import Scope
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
EST = 250_000
NOW = 1_000_000
SLOT_MS = 600_000


def spec_of(row_id: str, *, est_micros: int | None = EST, **inputs: Any) -> JobSpec:
    return JobSpec(
        file="jobs.csv",
        line=2,
        row_id=row_id,
        has_id=True,
        variant="",
        variant_kind="",
        model=MODEL,
        inputs_json=encoded({"promptText": row_id, **inputs}),
        input_hash=f"hash-{row_id}",
        cells_json=encoded({"id": row_id}),
        input_columns=frozenset(),
        est_micros=est_micros,
    )


@cache
def new_file() -> bytes:
    """Return a new job database's file; to make one takes ten times as long as to copy it."""
    with TemporaryDirectory() as folder, closing(Database(f"{folder}/new.db")) as database:
        upgrade.create(database)
        database.close()
        return Path(folder, "new.db").read_bytes()


class Store:
    """One account and its batches in a real job database.

    Attributes:
        path: The file, where there is one.
        now_ms: What `clock` tells.
    """

    def __init__(self, folder: Path, *, url: str = "", cap: int = 4) -> None:
        self.path = folder / "batchgen.db"
        self.now_ms = NOW
        self.database = Database(url or str(self.path))
        if not url and not self.path.exists():
            self.path.write_bytes(new_file())
        upgrade.open_current(self.database)
        self._numbers = itertools.count(1)
        with self.database.transaction() as tx:
            self.account = accounts.ensure(tx, "runcomfy", "default")
            accounts.set_cap(tx, self.account, cap)
        self.worker("w1")

    def close(self) -> None:
        self.database.close()

    def worker(self, name: str) -> None:
        info = workers.WorkerInfo(name, "host", 1, "0", 30_000)
        with self.database.transaction() as tx:
            workers.register(tx, info)

    def batch(self, name: str = "night", *, budget_micros: int | None = None) -> int:
        batch = additions.Batch(
            id=0,
            name=name,
            account_id=self.account.id,
            model=MODEL,
            source="/jobs.csv",
            columns=("id",),
            schemas={},
            output_dir="clips",
            name_template="{batch}/{id}.{ext}",
            budget_micros=budget_micros,
        )
        with self.database.transaction() as tx:
            return additions.save_batch(tx, batch, now_ms=NOW)

    def add(self, batch_id: int, specs: Sequence[JobSpec]) -> None:
        with self.database.transaction() as tx:
            additions.add_jobs(
                tx,
                batch_id,
                [
                    additions.NewJob(
                        spec,
                        key=f"j{next(self._numbers):06}",
                        name=f"{batch_id}/{spec.row_id}.mp4",
                        name_folded=f"{batch_id}/{spec.row_id}.mp4",
                        position=position,
                        inputs_json=spec.inputs_json,
                        seed=None,
                    )
                    for position, spec in enumerate(specs)
                ],
                now_ms=NOW,
            )

    def fill(self, count: int, *, est_micros: int | None = EST) -> int:
        """Store a batch of so many jobs; return its id."""
        batch_id = self.batch()
        self.add(batch_id, [spec_of(f"r{n}", est_micros=est_micros) for n in range(count)])
        return batch_id

    def request(self, wanted: int, *, worker: str = "w1", **changes: Any) -> jobs.ClaimRequest:
        values: dict[str, Any] = {
            "worker_id": worker,
            "account_id": self.account.id,
            "scope": Scope(None, 10**9),
            "attempt_ids": tuple(f"a{next(self._numbers):06}" for _ in range(wanted)),
            "held_models": frozenset(),
            "now_ms": NOW,
            **changes,
        }
        self.now_ms = values["now_ms"]
        return jobs.ClaimRequest(**values)

    def try_claim(self, wanted: int = 1, *, worker: str = "w1", **changes: Any) -> jobs.Claim:
        with self.database.transaction() as tx:
            return jobs.claim(tx, [self.request(wanted, worker=worker, **changes)])[0]

    def claim(self, wanted: int = 1, *, worker: str = "w1", **changes: Any) -> list[jobs.Job]:
        return list(self.try_claim(wanted, worker=worker, **changes).jobs)

    def do(self, operation: Any, *requests: Any) -> list[Any]:
        """Run an operation in a transaction of its own, as the store thread would."""
        with self.database.transaction() as tx:
            return list(operation(tx, requests))

    def by_hand(self, operation: Any, job_id: int, *more: Any) -> Any:
        with self.database.transaction() as tx:
            return operation(tx, job_id, *more, now_ms=NOW)

    def running(self, count: int = 1, *, worker: str = "w1") -> list[jobs.Job]:
        """Claim jobs and have them accepted."""
        claimed = self.claim(count, worker=worker)
        self.do(jobs.record_accepted, *(accepted(job) for job in claimed))
        return claimed

    def downloading(self, count: int = 1, *, worker: str = "w1") -> list[jobs.Job]:
        running = self.running(count, worker=worker)
        self.do(jobs.record_generated, *(generated(job, worker=worker) for job in running))
        return running

    def bury(self, worker: str, *, slot_ms: int = SLOT_MS) -> int:
        """Declare a worker dead, as if its lease had ended; return how many came in doubt."""
        with self.database.transaction() as tx:
            tx.run(text("UPDATE workers SET expires_ms = 0 WHERE id = :id"), {"id": worker})
            return workers.bury(tx, worker, slot_ms=slot_ms, now_ms=NOW) or 0

    def adopt(self, *, worker: str = "w1", wanted: int = 10, **changes: Any) -> list[jobs.Job]:
        values: dict[str, Any] = {"downloads": True, "now_ms": NOW, **changes}
        request = jobs.AdoptRequest(worker, self.account.id, wanted, **values)
        return list(self.do(jobs.adopt, request)[0])

    def query(self, sql: str, **values: Any) -> list[Any]:
        with self.database.reading() as tx:
            return list(tx.rows(text(sql), values))

    def job(self, job_id: int) -> Any:
        return self.query("SELECT * FROM jobs WHERE id = :id", id=job_id)[0]

    def attempt(self, attempt_id: str) -> Any:
        return self.query("SELECT * FROM attempts WHERE id = :id", id=attempt_id)[0]

    def state(self, job_id: int) -> str:
        return str(self.job(job_id).state)

    def spent(self) -> int:
        return int(self.query("SELECT coalesce(sum(spent_micros), 0) FROM spending")[0][0])

    def reserved(self) -> int:
        return int(
            self.query(f"SELECT coalesce(sum(est_micros), 0) FROM attempts WHERE {LIVE}")[0][0]
        )

    def check(self) -> None:
        """Check what must be true of every job database at any time."""
        with self.database.reading() as tx:
            check(tx)


LIVE = "state IN ('intent', 'accepted', 'in_doubt')"
_COUNTERS = text("SELECT batch_id, state, jobs FROM counters WHERE jobs <> 0 ORDER BY 1, 2")
_COUNTED = text("SELECT batch_id, state, count(*) FROM jobs GROUP BY batch_id, state ORDER BY 1, 2")
_CHARGED = text("SELECT coalesce(sum(charged_micros), 0) FROM attempts")
_SPENT = text("SELECT coalesce(sum(spent_micros), 0) FROM spending")
_TWICE = text(
    f"SELECT job_id FROM attempts WHERE {LIVE} AND NOT extra GROUP BY job_id HAVING count(*) > 1"
)
_ORPHANED = text(  # a live request that no step of its job would ever look at
    f"SELECT a.id, a.state, j.state FROM attempts a JOIN jobs j ON j.id = a.job_id "
    f"WHERE a.{LIVE} AND NOT a.extra AND (j.attempt_id IS NULL OR j.attempt_id <> a.id "
    "OR j.state NOT IN ('submitting', 'running', 'in_doubt'))"
)
_UNBACKED = text(
    "SELECT j.id, j.state, a.state FROM jobs j LEFT JOIN attempts a ON a.id = j.attempt_id WHERE "
    "(j.state = 'submitting' AND a.state <> 'intent') OR "
    "(j.state = 'in_doubt' AND a.state <> 'in_doubt') OR "
    "(j.state IN ('downloading', 'succeeded', 'expired') AND a.state <> 'succeeded') OR "
    "(j.state IN ('submitting', 'running', 'downloading', 'in_doubt') AND a.id IS NULL)"
)
_RESTING_OWNED = text(
    "SELECT id, state FROM jobs WHERE owner IS NOT NULL "
    "AND state NOT IN ('submitting', 'running', 'downloading')"
)
_HALF_FINISHED = text(
    "SELECT id, state FROM jobs WHERE (finished_ms IS NOT NULL) <> "
    "(state IN ('succeeded', 'failed', 'cancelled', 'in_doubt', 'expired'))"
)


def check(tx: Transaction) -> None:
    """Check counters, money, and that jobs and attempts tell the same story."""
    assert list(map(tuple, tx.rows(_COUNTERS))) == list(map(tuple, tx.rows(_COUNTED)))
    assert tx.value(_CHARGED) == tx.value(_SPENT)
    for query in (_TWICE, _ORPHANED, _UNBACKED, _RESTING_OWNED, _HALF_FINISHED):
        assert tx.rows(query) == [], query


def accepted(job: jobs.Job, request_id: str | None = None) -> jobs.AcceptedFact:
    return jobs.AcceptedFact(job, request_id or f"req-{job.attempt_id}", "{}", NOW)


def generated(
    job: jobs.Job, *, worker: str = "w1", cost_micros: int | None = None
) -> jobs.Generated:
    urls = ("https://clips.example.com/1.mp4",)
    return jobs.Generated(job, worker, urls, cost_micros, 30_000, "{}", NOW)


def ended(
    job: jobs.Job,
    *,
    worker: str = "w1",
    state: str = "failed",
    error_class: ErrorClass | None = ErrorClass.GENERATION,
    cost_micros: int | None = None,
    retry_at_ms: int | None = None,
) -> jobs.Ended:
    return jobs.Ended(
        job,
        worker,
        state,
        error_class,
        "it failed",
        "INTERNAL",
        cost_micros,
        "{}",
        retry_at_ms,
        NOW,
    )


def doubt(job: jobs.Job) -> jobs.Doubt:
    return jobs.Doubt(job, NOW + SLOT_MS, "no answer", NOW)


def put_back(job: jobs.Job, *, keep: bool = False, not_before_ms: int = 0) -> jobs.PutBack:
    return jobs.PutBack(job, not_before_ms, "later", NOW, keep=keep)


def refusal(job: jobs.Job) -> jobs.Refusal:
    return jobs.Refusal(job, "bad ratio", NOW, code="400", status=400)


def finish(job: jobs.Job, *, worker: str = "w1") -> jobs.Finish:
    return jobs.Finish(job, worker, ({"path": "a.mp4", "sha256": "00", "size_bytes": 1},), NOW)


def trouble(job: jobs.Job, *, worker: str = "w1", **changes: Any) -> jobs.DownloadTrouble:
    return jobs.DownloadTrouble(job, worker, "403", NOW, **changes)
