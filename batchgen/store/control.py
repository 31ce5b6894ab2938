"""What a person changes while runs work, and the one small look by which a live run notices.

Prices, order and numbers only: what happens to a job by hand is in `by_hand`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchgen.domain.states import JobState
from batchgen.store.imports import SHOWN_ID
from batchgen.store.predicates import is_live
from batchgen.store.statements import Statement, among, locking, text
from batchgen.store.transactions import Transaction

FIRST = -1001
"""`jobs.priority` of what a person has resubmitted: before all that `set_priority` can give."""

HIGHEST_PRIORITY = 1000


@dataclass(frozen=True)
class Budget:
    """What a batch may cost over its life, and what it has cost; money in micro-dollars."""

    batch: str
    micros: int | None
    spent_micros: int
    reserved_micros: int


@dataclass(frozen=True)
class Snapshot:
    """What a live run goes by that others may change; two of them tell what was changed.

    Attributes:
        cap: Jobs in flight over all workers.
        auto_max: Up to where the cap moves by itself; None keeps it.
        rate_per_s: Submits a second over all workers; None has no bound.
        paused: Whether a person has paused the account.
        frozen_until_ms: Nobody submits before.
        budgets: Of each batch that has one, by name; micro-dollars.
        pending: How many jobs of the account wait to be submitted.
        cancels: The live attempts that the service was asked to cancel, and when.
    """

    cap: int
    auto_max: int | None = None
    rate_per_s: float | None = None
    paused: bool = False
    frozen_until_ms: int = 0
    budgets: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    cancels: Mapping[str, int] = field(default_factory=dict)


_ACCOUNT = text(
    "SELECT cap, auto_max, rate_per_s, paused, frozen_until_ms FROM accounts WHERE id = :account_id"
)
_BUDGETS = text(
    "SELECT name, budget_micros FROM batches "
    "WHERE account_id = :account_id AND budget_micros IS NOT NULL"
)
_PENDING = text(
    "SELECT CAST(coalesce(sum(c.jobs), 0) AS bigint) FROM batches b "
    "JOIN counters c ON c.batch_id = b.id AND c.state = 'pending' WHERE b.account_id = :account_id"
)
_CANCELS = text(
    "SELECT id, cancel_ms FROM attempts WHERE account_id = :account_id "
    f"AND {is_live()} AND cancel_ms IS NOT NULL"
)


def snapshot(tx: Transaction, account_id: int) -> Snapshot:
    """Return what live runs of an account go by.

    Read once a second by each of them: whatever the number of jobs, it costs what the batches
    and the jobs in flight are.
    """
    key = {"account_id": account_id}
    row = tx.row(_ACCOUNT, key)
    if row is None:
        raise LookupError(f"account {account_id} is not in the job database")
    return Snapshot(
        cap=row.cap,
        auto_max=row.auto_max,
        rate_per_s=row.rate_per_s,
        paused=bool(row.paused),
        frozen_until_ms=row.frozen_until_ms,
        budgets={batch.name: batch.budget_micros for batch in tx.rows(_BUDGETS, key)},
        pending=int(tx.value(_PENDING, key)),
        cancels={attempt.id: attempt.cancel_ms for attempt in tx.rows(_CANCELS, key)},
    )


@dataclass(frozen=True)
class Standing:
    """Where some batches of an account stand; money in micro-dollars.

    Attributes:
        counts: Their jobs by state, as the stored counters say.
        budget_micros: The sum of their budgets; None if one of them has none.
        other_workers: How many other workers are at work in the job database.
    """

    counts: Mapping[str, int]
    spent_micros: int
    reserved_micros: int
    budget_micros: int | None
    other_workers: int = 0


_MINE = "b.account_id = :account_id AND (:all_batches = 1 OR b.id IN :batch_ids)"


def _of_mine(query: str) -> Statement:
    return text(query).listing(batch_ids=int)


_MY_COUNTS = _of_mine(
    "SELECT c.state, CAST(sum(c.jobs) AS bigint) AS jobs FROM counters c "
    f"JOIN batches b ON b.id = c.batch_id WHERE {_MINE} GROUP BY c.state"
)
_MY_SPENT = _of_mine(
    "SELECT CAST(coalesce(sum(s.spent_micros), 0) AS bigint) FROM spending s "
    f"JOIN batches b ON b.id = s.batch_id WHERE {_MINE}"
)
_MY_RESERVED = _of_mine(
    "SELECT CAST(coalesce(sum(est_micros), 0) AS bigint) FROM attempts "
    "WHERE account_id = :account_id AND (:all_batches = 1 OR batch_id IN :batch_ids) "
    f"AND {is_live()}"
)
_MY_BUDGETS = _of_mine(
    "SELECT count(*) AS batches, count(b.budget_micros) AS budgets, "
    "CAST(coalesce(sum(b.budget_micros), 0) AS bigint) AS micros "
    f"FROM batches b WHERE {_MINE}"
)
_OTHERS = text("SELECT count(*) FROM workers WHERE state = 'live' AND id <> :worker_id")


def standing(
    tx: Transaction, account_id: int, batch_ids: Sequence[int] | None, *, worker_id: str = ""
) -> Standing:
    """Return where batches stand; None is all of the account's.

    It costs what the batches and the jobs in flight are, whatever the number of jobs.
    """
    key = {
        "account_id": account_id,
        "all_batches": int(batch_ids is None),
        "batch_ids": list(batch_ids or ()),
    }
    budgets = tx.rows(_MY_BUDGETS, key)[0]
    return Standing(
        counts={row.state: int(row.jobs) for row in tx.rows(_MY_COUNTS, key)},
        spent_micros=int(tx.value(_MY_SPENT, key)),
        reserved_micros=int(tx.value(_MY_RESERVED, key)),
        budget_micros=int(budgets.micros) if budgets.batches == budgets.budgets > 0 else None,
        other_workers=int(tx.value(_OTHERS, {"worker_id": worker_id})),
    )


_BUDGET = locking("SELECT name, account_id, budget_micros FROM batches WHERE id = :batch_id")
_SET_BUDGET = text(
    "UPDATE batches SET budget_micros = :micros, updated_ms = :now_ms WHERE id = :batch_id"
)
_UNPRICED = text(
    "SELECT count(*) FROM jobs WHERE batch_id = :batch_id AND est_micros IS NULL "
    "AND state <> 'succeeded'"
)
_SPENT = text(
    "SELECT CAST(coalesce(sum(spent_micros), 0) AS bigint) FROM spending WHERE batch_id = :batch_id"
)
_RESERVED = text(
    "SELECT CAST(coalesce(sum(est_micros), 0) AS bigint) FROM attempts "
    "WHERE account_id = :account_id AND batch_id = :batch_id "
    f"AND {is_live()}"
)


def unpriced(tx: Transaction, batch_id: int) -> int:
    """Return how many jobs that a batch may yet pay for have no known price."""
    return int(tx.value(_UNPRICED, {"batch_id": batch_id}))


def set_budget(tx: Transaction, batch_id: int, micros: int | None, *, now_ms: int) -> Budget:
    """Store what a batch may cost over its life, None without an end; return what it was.

    Below what is spent and reserved, nothing more is submitted; what was submitted goes on.
    """
    key = {"batch_id": batch_id}
    row = tx.row(_BUDGET, key)
    if row is None:
        raise LookupError(f"batch {batch_id}")
    tx.run(_SET_BUDGET, {**key, "micros": micros, "now_ms": now_ms})
    reserved = tx.value(_RESERVED, {**key, "account_id": row.account_id})
    return Budget(row.name, row.budget_micros, int(tx.value(_SPENT, key)), int(reserved))


@dataclass(frozen=True)
class Moved:
    """What became of one job's priority.

    Attributes:
        done: Whether it was set: of pending jobs only.
        state: Of the job.
        was: The priority before, higher first; what was resubmitted is above them all.
    """

    done: bool
    state: JobState
    was: int


_LOCK_EACH = among("SELECT id FROM jobs WHERE id IN :values ORDER BY id", locks=True)
_PRIORITIES = among("SELECT id, state, priority FROM jobs WHERE id IN :values")
_SET_PRIORITY = among(
    "UPDATE jobs SET priority = :priority, updated_ms = :now_ms "
    "WHERE id IN :values AND state = 'pending'"
)


def set_priority(
    tx: Transaction, job_ids: Sequence[int], priority: int, *, now_ms: int
) -> dict[int, Moved]:
    """Let pending jobs be submitted before those of lower priority; others are left alone."""
    values = {"values": tx.listed(job_ids)}
    # In one order, so that two of these never block each other. Two statements: what one finds
    # once it has waited for the lock, the next one sees whole.
    tx.rows(_LOCK_EACH, values)
    moved = {
        row.id: Moved(row.state == "pending", JobState(row.state), -row.priority)
        for row in tx.rows(_PRIORITIES, values)
    }
    # The claim takes the lowest first.
    tx.run(_SET_PRIORITY, {**values, "priority": -priority, "now_ms": now_ms})
    return moved


_ASKED = text(
    "UPDATE attempts SET cancel_ms = :now_ms WHERE id = :attempt_id AND state = 'accepted'"
)


def record_cancel(tx: Transaction, attempt_ids: Sequence[str], *, now_ms: int) -> int:
    """Record that the service has cancelled attempts, so that whoever holds them looks at once.

    Their end, and what they cost, is known only from that look. Returns how many still live.
    """
    values = [{"attempt_id": attempt_id, "now_ms": now_ms} for attempt_id in attempt_ids]
    return tx.run_many(_ASKED, values)


_WAITS = f"WHERE state = 'pending' AND batch_id = :batch_id AND {SHOWN_ID}"
_NOTE = "INSERT INTO events (job_id, at_ms, kind) SELECT id, CAST(:now_ms AS bigint), 'cancelled'"
_CANCEL = (
    f"UPDATE jobs SET state = 'cancelled', finished_ms = :now_ms, updated_ms = :now_ms {_WAITS}"
)
# Of a million jobs too: not one by one.
_NOTE_FIRST = text(f"{_NOTE} FROM jobs {_WAITS}")  # SQLite: nobody changes them in between
_CANCEL_THEN = text(_CANCEL)
_CANCEL_AND_NOTE = text(
    f"WITH done AS ({_CANCEL} RETURNING id), noted AS ({_NOTE} FROM done) SELECT count(*) FROM done"
)


def cancel_pending(tx: Transaction, batch_id: int, *, now_ms: int) -> int:
    """Cancel every job of a batch that has not been submitted; return how many there were."""
    values = {"batch_id": batch_id, "now_ms": now_ms}
    if tx.is_postgresql:
        done = int(tx.value(_CANCEL_AND_NOTE, values))
    else:
        tx.run(_NOTE_FIRST, values)
        done = tx.run(_CANCEL_THEN, values)
    tx.moved(batch_id, "pending", "cancelled", done)
    return done
