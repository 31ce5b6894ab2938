"""What only a person does to a job: retry, cancel, decide a doubt, download again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.domain.errors import UsageError
from batchgen.domain.states import LOST, USER_MOVES, JobState
from batchgen.store import jobs
from batchgen.store.control import FIRST
from batchgen.store.events import note
from batchgen.store.predicates import is_lost
from batchgen.store.statements import among, locking, text
from batchgen.store.transactions import Transaction

_LOCK = locking("SELECT 1 FROM jobs WHERE id = :job_id")
_JOB = text(
    "SELECT j.id, j.batch_id, j.state, j.attempt_id, j.files, a.request_id, a.account_id, "
    "a.worker_id, a.est_micros, a.charged_micros FROM jobs j "
    "LEFT JOIN attempts a ON a.id = j.attempt_id WHERE j.id = :job_id"
)
_LOCK_EACH = among("SELECT id FROM jobs WHERE id IN :values ORDER BY id", locks=True)
_STATES = among("SELECT id, batch_id, state FROM jobs WHERE id IN :values")
_NOTE_EACH = (
    "INSERT INTO events (job_id, at_ms, kind, data) "
    "SELECT id, CAST(:now_ms AS bigint), {what} FROM jobs WHERE id IN :values AND {which}"
)
_NOTE_RETRIED = among(
    _NOTE_EACH.format(
        what="""'retried', '{"was": "' || state || '"}'""",
        which=is_lost(),
    )
)
_RETRY = among(
    "UPDATE jobs SET state = 'pending', retries_used = 0, policy_retries_used = 0, "
    "not_before_ms = 0, attempt_id = NULL, unfit = false, "
    "error = NULL, error_class = NULL, finished_ms = NULL, updated_ms = :now_ms "
    f"WHERE id IN :values AND {is_lost()}"
)
# The input hash stays: it is of what the user asked for.
_RESEED = text(
    "UPDATE jobs SET inputs = :inputs, seed = :seed WHERE id = :job_id AND state = 'pending'"
)
_NOTE_CANCELLED = among(_NOTE_EACH.format(what="'cancelled', NULL", which="state = 'pending'"))
_CANCEL = among(
    "UPDATE jobs SET state = 'cancelled', finished_ms = :now_ms, updated_ms = :now_ms "
    "WHERE id IN :values AND state = 'pending'"
)
_ABANDON = text(
    "UPDATE attempts SET state = 'abandoned', resolution = :resolution, closed_ms = :now_ms, "
    "charged_micros = est_micros WHERE id = :attempt_id AND state = 'in_doubt'"
)
_RESUBMIT = text(
    # Before anything else: a person decided it, and --limit may let nothing more through.
    f"UPDATE jobs SET state = 'pending', priority = {FIRST}, not_before_ms = 0, "
    "attempt_id = NULL, error = NULL, finished_ms = NULL, updated_ms = :now_ms "
    "WHERE id = :job_id AND state = 'in_doubt'"
)
_WRITE_OFF = text(
    "UPDATE jobs SET state = 'failed', error_class = 'written_off', error = :error, "
    "finished_ms = :now_ms, updated_ms = :now_ms WHERE id = :job_id AND state = 'in_doubt'"
)
_AGAIN = text(
    "UPDATE jobs SET state = 'downloading', finished_ms = NULL, error = NULL, owner = NULL, "
    "updated_ms = :now_ms WHERE id = :job_id AND state = :state"
)
# Accounts at one service may be names of one wallet.
_CARRIER = text(
    "SELECT job_id FROM attempts WHERE request_id = :request_id AND account_id IN "
    "(SELECT other.id FROM accounts a JOIN accounts other "
    "ON other.id = a.id OR (other.provider = a.provider AND other.origin = a.origin) "
    "WHERE a.id = :account_id)"
)
_LOOK_AGAIN = text(
    "UPDATE jobs SET state = 'running', error = NULL, error_class = NULL, finished_ms = NULL, "
    "owner = NULL, updated_ms = :now_ms "
    "WHERE id = :job_id AND state = 'failed' AND error_class = 'remote_lost'"
)
_REVIVE = text(
    "UPDATE attempts SET state = 'accepted', closed_ms = NULL, error = NULL, error_class = NULL, "
    "charged_micros = NULL, cost_micros = NULL "
    "WHERE id = :attempt_id AND state = 'failed'"
)


@dataclass(frozen=True)
class Outcome:
    """What a person's command did to one job.

    Attributes:
        done: Whether the job was changed.
        was: Its state before.
    """

    done: bool
    was: JobState


def _locked(tx: Transaction, job_id: int) -> Any:
    """Return a job that no worker changes until the transaction ends."""
    # Two statements: what one finds once it has waited for the lock, the next one sees whole.
    tx.row(_LOCK, {"job_id": job_id})
    row = tx.row(_JOB, {"job_id": job_id})
    if row is None:
        raise LookupError(f"job {job_id}")
    return row


def _states_of(tx: Transaction, job_ids: Sequence[int]) -> dict[int, Any]:
    """Return jobs that no worker changes until the transaction ends, by their row ids."""
    values = {"values": tx.listed(job_ids)}
    # Two statements, for the same reason; in one order, so that two of these never block each
    # other.
    tx.rows(_LOCK_EACH, values)
    found = {row.id: row for row in tx.rows(_STATES, values)}
    if len(found) < len(set(job_ids)):
        raise LookupError(f"jobs {sorted(set(job_ids) - set(found))[:10]}")
    return found


def retry_each(
    tx: Transaction,
    job_ids: Sequence[int],
    *,
    now_ms: int,
    seeds: Mapping[int, jobs.NewSeed] | None = None,
) -> dict[int, Outcome]:
    """Make failed, cancelled and expired jobs pending: they will be paid for again.

    Args:
        tx: A writing transaction.
        job_ids: The jobs; those in another state are left alone.
        now_ms: Epoch milliseconds.
        seeds: What is sent instead, by job.
    """
    found = _states_of(tx, job_ids)
    outcomes = {
        row.id: Outcome(JobState(row.state) in LOST, JobState(row.state)) for row in found.values()
    }
    reseeded = {job: seed for job, seed in (seeds or {}).items() if outcomes[job].done}
    plain = [job for job in outcomes if job not in reseeded]
    tx.run(_NOTE_RETRIED, {"values": tx.listed(plain), "now_ms": now_ms})
    for job, seed in reseeded.items():
        note(tx, "retried", job, None, now_ms, was=str(outcomes[job].was), new_seed=str(seed.seed))
    tx.run(_RETRY, {"values": tx.listed(outcomes), "now_ms": now_ms})
    tx.run_many(
        _RESEED,
        [
            {"job_id": job, "inputs": jobs.as_stored(seed.inputs), "seed": seed.seed}
            for job, seed in reseeded.items()
        ],
    )
    _count(tx, found, outcomes, "pending")
    return outcomes


def retry(tx: Transaction, job_id: int, *, now_ms: int) -> Outcome:
    """Make a failed, cancelled or expired job pending: it will be paid for again."""
    return retry_each(tx, [job_id], now_ms=now_ms)[job_id]


def cancel_each(tx: Transaction, job_ids: Sequence[int], *, now_ms: int) -> dict[int, Outcome]:
    """Cancel the jobs that have not been submitted; nothing was paid for them."""
    found = _states_of(tx, job_ids)
    outcomes = {
        row.id: Outcome(row.state == "pending", JobState(row.state)) for row in found.values()
    }
    values = {"values": tx.listed(outcomes), "now_ms": now_ms}
    tx.run(_NOTE_CANCELLED, values)
    tx.run(_CANCEL, values)
    _count(tx, found, outcomes, "cancelled")
    return outcomes


def cancel_pending(tx: Transaction, job_id: int, *, now_ms: int) -> Outcome:
    """Cancel a job that has not been submitted; nothing was paid."""
    return cancel_each(tx, [job_id], now_ms=now_ms)[job_id]


def _count(
    tx: Transaction, found: Mapping[int, Any], outcomes: Mapping[int, Outcome], state: str
) -> None:
    moved = Counter((row.batch_id, row.state) for row in found.values() if outcomes[row.id].done)
    for (batch_id, was), count in moved.items():
        tx.moved(batch_id, was, state, count)


def adopt(
    tx: Transaction, job_id: int, request_id: str, *, now_ms: int, attempt_id: str | None = None
) -> Outcome:
    """Say that a job in doubt is this request of the service; nothing is paid.

    Args:
        tx: A writing transaction.
        job_id: The job.
        request_id: As the service calls it.
        now_ms: Epoch milliseconds.
        attempt_id: The doubt that was shown; None is whichever the job has.

    Raises:
        UsageError: If another job carries the request id.
    """
    row = _locked(tx, job_id)
    if row.state != "in_doubt" or attempt_id not in (None, row.attempt_id):
        return Outcome(done=False, was=JobState(row.state))
    carrier = tx.value(_CARRIER, {"account_id": row.account_id, "request_id": request_id})
    if carrier is not None:
        raise UsageError(f"request {request_id} belongs to another job already; nothing changed")
    jobs.accept_late(tx, row.attempt_id, request_id, None, now_ms)
    note(tx, "adopted", job_id, row.attempt_id, now_ms, request_id=request_id)
    return Outcome(done=True, was=JobState.IN_DOUBT)


def resubmit(
    tx: Transaction, job_id: int, *, now_ms: int, attempt_id: str | None = None
) -> Outcome:
    """Give up a doubtful request and make its job pending: it may be paid for twice.

    The estimate of the abandoned request counts as spent. A doubt other than `attempt_id`, that
    which was shown, is left alone: nobody has said anything about it.
    """
    return _abandon(tx, job_id, "resubmit", now_ms=now_ms, attempt_id=attempt_id)


def write_off(
    tx: Transaction, job_id: int, *, now_ms: int, attempt_id: str | None = None
) -> Outcome:
    """Give up a doubtful request, that which was shown if one is named, and its job."""
    return _abandon(tx, job_id, "write_off", now_ms=now_ms, attempt_id=attempt_id)


def _abandon(
    tx: Transaction, job_id: int, resolution: str, *, now_ms: int, attempt_id: str | None
) -> Outcome:
    row = _locked(tx, job_id)
    if row.state != "in_doubt" or attempt_id not in (None, row.attempt_id):
        return Outcome(done=False, was=JobState(row.state))
    values = {
        "job_id": job_id,
        "attempt_id": row.attempt_id,
        "resolution": resolution,
        "error": "given up by hand: whether it was charged is not known",
        "now_ms": now_ms,
    }
    if tx.run(_ABANDON, values) and row.est_micros:
        jobs.spend(tx, row.attempt_id, row.worker_id, row.est_micros)
    again = resolution == "resubmit"
    tx.run(_RESUBMIT if again else _WRITE_OFF, values)
    tx.moved(row.batch_id, "in_doubt", "pending" if again else "failed")
    note(tx, resolution, job_id, row.attempt_id, now_ms)
    return Outcome(done=True, was=JobState.IN_DOUBT)


def download_again(tx: Transaction, job_id: int, *, now_ms: int) -> Outcome:
    """Let a paid job's clip be fetched again; nothing is paid.

    A job that was lost at the service is looked at again.
    """
    row = _locked(tx, job_id)
    state = JobState(row.state)
    values = {
        "job_id": job_id,
        "attempt_id": row.attempt_id,
        "state": row.state,
        "now_ms": now_ms,
    }
    if JobState.DOWNLOADING in USER_MOVES[state] and row.attempt_id is not None:
        tx.run(_AGAIN, values)
        tx.moved(row.batch_id, row.state, "downloading")
        note(tx, "download_again", job_id, row.attempt_id, now_ms, was=row.state)
        return Outcome(done=True, was=state)
    if state is JobState.FAILED and row.request_id is not None and tx.run(_LOOK_AGAIN, values):
        # Its end booked money; the new end will book it again.
        if row.charged_micros:
            jobs.spend(tx, row.attempt_id, row.worker_id, -row.charged_micros)
        tx.run(_REVIVE, values)
        tx.moved(row.batch_id, "failed", "running")
        return Outcome(done=True, was=state)
    return Outcome(done=False, was=state)
