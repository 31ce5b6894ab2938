"""Store jobs that had a past in a job database that is lost: their states, and what was paid.

A new job is stored as any other, then it is given its past, in the same transaction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchgen.domain.states import AttemptState, JobState
from batchgen.store import additions
from batchgen.store.additions import Batch, NewJob
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_WORKER = "rebuilt"  # who made the purchases that an export tells of
_ANYTHING = text(
    "SELECT 1 FROM batches UNION ALL SELECT 1 FROM attempts UNION ALL SELECT 1 FROM events LIMIT 1"
)
_ATTEMPT = text(
    "INSERT INTO attempts (id, job_id, no, job_version, account_id, batch_id, worker_id, model, "
    "inputs, input_hash, settings, state, extra, request_id, est_micros, cost_micros, "
    "charged_micros, intent_ms, accepted_ms, started_ms, closed_ms, run_ms, slot_until_ms, "
    "error_class, error, resolution) VALUES (:id, :job_id, :no, :version, :account_id, :batch_id, "
    ":worker_id, :model, :inputs, :input_hash, :settings, :state, :extra, :request_id, "
    ":est_micros, :cost_micros, :charged_micros, :intent_ms, :accepted_ms, :started_ms, "
    ":closed_ms, :run_ms, :slot_until_ms, :error_class, :error, :resolution)"
)
_PAST = text(
    "UPDATE jobs SET state = :state, version = :version, attempt_id = :attempt_id, "
    "retries_used = :retries_used, remote_state = :remote_state, urls = :urls, files = :files, "
    "error_class = :error_class, error = :error, finished_ms = :finished_ms WHERE id = :job_id"
)
_SPENT = text(
    "INSERT INTO spending (account_id, batch_id, worker_id, spent_micros) "
    "VALUES (:account_id, :batch_id, :worker_id, :micros)"
)


@dataclass(frozen=True)
class PastAttempt:
    """One paid request of the past; times in epoch milliseconds, money in micro-dollars.

    Attributes:
        id: Of the lost job database, if the journal told it; else made anew.
        cost_micros: What the service had stated.
        charged_micros: What counts as spent; None while it is only reserved.
        slot_until_ms: When it holds no slot any more; None: while it is live.
        is_extra: Its late answer had found the job bought again.
        resolution: What a person did about a doubt.
    """

    id: str
    state: AttemptState
    est_micros: int
    intent_ms: int
    request_id: str | None = None
    cost_micros: int | None = None
    charged_micros: int | None = None
    accepted_ms: int | None = None
    started_ms: int | None = None
    closed_ms: int | None = None
    run_ms: int | None = None
    slot_until_ms: int | None = None
    is_extra: bool = False
    error_class: str | None = None
    error: str | None = None
    resolution: str | None = None


@dataclass(frozen=True)
class PastJob:
    """A job as the lost job database had it.

    Attributes:
        new: What it asks for, under its very key.
        attempts: Its paid requests, oldest first.
        attempt_id: The one that decides its state; None if there is none.
        retries_used: How many of its retries are taken for spent.
        urls: Links of its outputs, as far as they may be written down.
        files: Clips on disk: path from the output folder, url, sha256, size_bytes.
    """

    new: NewJob
    state: JobState
    attempts: Sequence[PastAttempt] = ()
    attempt_id: str | None = None
    version: int = 1
    retries_used: int = 0
    remote_state: str | None = None
    urls: Sequence[str] = ()
    files: Sequence[Mapping[str, Any]] = field(default=())
    error_class: str | None = None
    error: str | None = None
    finished_ms: int | None = None


def is_empty(tx: Transaction) -> bool:
    """Return whether a job database holds nothing that could be mixed up with a lost one's."""
    return tx.row(_ANYTHING) is None


def add(tx: Transaction, batch: Batch, jobs: Sequence[PastJob], *, now_ms: int) -> int:
    """Store some jobs of a batch with their past; return what they have spent in micro-dollars."""
    additions.add_jobs(tx, batch.id, [job.new for job in jobs], now_ms=now_ms)
    ids = {one.key: one.id for one in additions.by_keys(tx, [job.new.key for job in jobs])}
    values = [
        _attempt(batch, job, ids[job.new.key], attempt, no)
        for job in jobs
        for no, attempt in enumerate(job.attempts, 1)
    ]
    tx.run_many(_ATTEMPT, values)
    past = [job for job in jobs if _has_past(job)]
    tx.run_many(_PAST, [_past(job, ids[job.new.key]) for job in past])
    for job in past:
        tx.moved(batch.id, "pending", str(job.state))
    return sum(value["charged_micros"] or 0 for value in values)


def spend(tx: Transaction, batch: Batch, micros: int) -> None:
    """Book what all jobs of a batch have spent."""
    values = {"account_id": batch.account_id, "batch_id": batch.id, "worker_id": _WORKER}
    tx.run(_SPENT, {**values, "micros": micros})


def _has_past(job: PastJob) -> bool:
    return bool(job.state is not JobState.PENDING or job.attempts or job.error or job.version > 1)


def _attempt(
    batch: Batch, job: PastJob, job_id: int, attempt: PastAttempt, no: int
) -> dict[str, Any]:
    spec = job.new.spec
    return {
        "id": attempt.id,
        "job_id": job_id,
        "no": no,
        "version": job.version,
        "account_id": batch.account_id,
        "batch_id": batch.id,
        "worker_id": _WORKER,
        "model": spec.model,
        "inputs": job.new.inputs_json,
        "input_hash": spec.input_hash,
        "settings": spec.settings,
        "state": str(attempt.state),
        "extra": attempt.is_extra,
        "request_id": attempt.request_id,
        "est_micros": attempt.est_micros,
        "cost_micros": attempt.cost_micros,
        "charged_micros": attempt.charged_micros,
        "intent_ms": attempt.intent_ms,
        "accepted_ms": attempt.accepted_ms,
        "started_ms": attempt.started_ms,
        "closed_ms": attempt.closed_ms,
        "run_ms": attempt.run_ms,
        "slot_until_ms": attempt.slot_until_ms,
        "error_class": attempt.error_class,
        "error": attempt.error,
        "resolution": attempt.resolution,
    }


def _past(job: PastJob, job_id: int) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "state": str(job.state),
        "version": job.version,
        "attempt_id": job.attempt_id,
        "retries_used": job.retries_used,
        "remote_state": job.remote_state,
        "urls": json.dumps(list(job.urls)) if job.urls else None,
        "files": json.dumps([dict(one) for one in job.files]) if job.files else None,
        "error_class": job.error_class,
        "error": job.error,
        "finished_ms": job.finished_ms,
    }
