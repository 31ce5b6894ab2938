"""Extra purchases: paid requests whose late answer found their job bought again already.

They are polled like any other, and their clip is kept beside the job's. Nobody owns one: two
workers that take up the same fetch the same bytes to the same name, and it is closed once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.domain.identity import job_label
from batchgen.domain.states import JobState
from batchgen.store import jobs
from batchgen.store.events import note
from batchgen.store.jobs import Generated, Job
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_OPEN = text(
    "SELECT a.id AS attempt_id, a.no, a.request_id, a.accepted_ms, a.started_ms, a.model, "
    "a.inputs, a.est_micros, a.job_version, j.id, j.key, j.batch_id, j.row_id, j.variant, j.name, "
    "b.name AS batch, b.output_dir "
    "FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN batches b ON b.id = j.batch_id "
    "WHERE a.state = 'accepted' AND a.extra AND a.account_id = :account_id ORDER BY a.id"
)
_NO_EPOCH = -1  # of no job: what becomes of the job is not decided by an extra purchase
_NEVER_AGAIN = 1_000_000  # retries


def waiting(tx: Transaction, account_ids: Sequence[int]) -> list[tuple[Job, ...]]:
    """Return the extra purchases of accounts that are still to be polled, as jobs to carry."""
    return [
        tuple(_job(row) for row in tx.rows(_OPEN, {"account_id": account_id}))
        for account_id in account_ids
    ]


def _job(row: Any) -> Job:
    stem, dot, ext = row.name.rpartition(".")
    return Job(
        id=row.id,
        key=row.key,
        batch_id=row.batch_id,
        batch=row.batch,
        label=job_label(row.row_id, row.variant),
        model=row.model,
        inputs=json.loads(row.inputs),
        # The number of the attempt tells two extras of one job apart.
        name=f"{stem}-extra{row.no}{dot}{ext}",
        output_dir=row.output_dir,
        version=row.job_version,
        state=JobState.RUNNING,
        epoch=_NO_EPOCH,
        attempt_id=row.attempt_id,
        retries_used=_NEVER_AGAIN,
        policy_retries_used=_NEVER_AGAIN,
        est_micros=row.est_micros,
        request_id=row.request_id,
        accepted_ms=row.accepted_ms,
        started_ms=row.started_ms,
        is_adopted=True,
    )


@dataclass(frozen=True)
class Kept:
    """The clip of an extra purchase is on disk, whole."""

    result: Generated
    paths: tuple[str, ...]


def keep(tx: Transaction, kept: Sequence[Kept]) -> list[None]:
    """Close extra purchases, book what they cost, and note where their clips are."""
    for one in kept:
        job = one.result.job
        jobs.record_generated(tx, [one.result])
        note(tx, "extra_clip", job.id, job.attempt_id, one.result.now_ms, files=one.paths)
    return [None] * len(kept)
