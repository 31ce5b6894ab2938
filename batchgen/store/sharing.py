"""What living workers of one job database do about each other's jobs.

A worker's `submitting` jobs are its own until it is dead, since it may hold an answer. Paid
ones (`running`, `downloading`) can pass to another without a payment: the epoch makes the
former owner's decisions void, and what it learns is recorded all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from batchgen.store import workers
from batchgen.store.events import note
from batchgen.store.predicates import is_owned
from batchgen.store.scope import Scope
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

# The first of both lets the planner use the index of held jobs.
_PAID = f"{is_owned()} AND state <> 'submitting'"
# With `+`: a file's planner would rather go through all jobs up to that id, or of the batches.
_ELSEWHERE = text(
    "SELECT j.id FROM jobs j JOIN batches b ON b.id = +j.batch_id "
    f"WHERE {is_owned('j')} "
    "AND (j.owner IS NULL OR j.owner <> :worker_id) "
    "AND b.account_id = :account_id AND +j.id <= :max_job_id "
    "AND (:downloads = 1 OR j.state <> 'downloading') "
    "AND (:all_batches = 1 OR j.batch_id IN :batch_ids)"
).listing(batch_ids=int)
_OWN = text(f"SELECT id FROM jobs WHERE owner = :worker_id AND {_PAID}")
_SILENT = text(
    "SELECT id FROM workers WHERE state = 'live' AND seen_ms < :before_ms AND id <> :worker_id "
    "AND EXISTS (SELECT 1 FROM jobs WHERE owner = workers.id "
    f"AND {_PAID}) ORDER BY id"
)


@dataclass(frozen=True)
class View:
    """Which jobs a worker's session is about.

    Attributes:
        downloads: Whether a job that waits for its download only is of interest.
        rested: With which the session has done what it can.
    """

    worker_id: str
    account_id: int
    scope: Scope
    downloads: bool
    rested: frozenset[int]


def elsewhere(tx: Transaction, views: Sequence[View]) -> list[int]:
    """Return for each how many jobs of its scope others hold, or have just given back."""
    return [_elsewhere(tx, view) for view in views]


def _elsewhere(tx: Transaction, view: View) -> int:
    values = {
        "worker_id": view.worker_id,
        "account_id": view.account_id,
        "downloads": int(view.downloads),
        "max_job_id": view.scope.max_job_id,
        "all_batches": int(view.scope.batch_ids is None),
        "batch_ids": list(view.scope.batch_ids or ()),
    }
    # Few jobs are held at a time, while those outside of a scope may be a million.
    held = {row.id for row in tx.rows(_ELSEWHERE, values)}
    return sum(view.scope.judges(job_id) for job_id in held - view.rested)


def let_go(tx: Transaction, worker_ids: Sequence[str]) -> list[frozenset[int]]:
    """Free the paid jobs that rest with living workers; return for each which they were."""
    freed = []
    for worker_id in worker_ids:
        mine = frozenset(row.id for row in tx.rows(_OWN, {"worker_id": worker_id}))
        if mine:
            workers.release(tx, worker_id)
        freed.append(mine)
    return freed


@dataclass(frozen=True)
class Step:
    """A worker has taken a job a step further, and does not hold it any longer."""

    worker_id: str
    job_id: int


_GIVE_BACK = text(
    "UPDATE jobs SET owner = NULL, epoch = epoch + 1 WHERE id = :job_id AND owner = :worker_id "
    "AND state IN ('running', 'downloading')"
)


def give_back(tx: Transaction, steps: Sequence[Step]) -> list[None]:
    """Free paid jobs for whoever takes their next step."""
    tx.run_many(_GIVE_BACK, [vars(step) for step in steps])
    return [None] * len(steps)


@dataclass(frozen=True)
class Silence:
    """No sign of life for `for_ms`, as `worker_id` sees it of the others."""

    worker_id: str
    for_ms: int


def take_from_silent(tx: Transaction, silences: Sequence[Silence]) -> list[int]:
    """Free the paid jobs of others that live and have been silent; return how many there were."""
    return [_take_from_silent(tx, one) for one in silences]


def _take_from_silent(tx: Transaction, silence: Silence) -> int:
    now_ms = tx.now_ms()
    values = {"worker_id": silence.worker_id, "before_ms": now_ms - silence.for_ms}
    freed = 0
    for row in tx.rows(_SILENT, values):
        count = workers.release(tx, row.id)
        note(tx, "taken_from_silent", None, None, now_ms, worker=row.id, jobs=count)
        freed += count
    return freed
