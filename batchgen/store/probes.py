"""What input URLs answered, and the jobs that fail unpaid for it."""

import json
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from batchgen.domain.fitness import Facts
from batchgen.domain.identity import job_label, unsigned_url
from batchgen.domain.redaction import public_url
from batchgen.domain.states import JobState
from batchgen.store.database import chunks
from batchgen.store.events import note
from batchgen.store.imports import SHOWN
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_CHUNK = 500

_SEEN = text(
    "SELECT * FROM probes WHERE url_hash IN :hashes AND problem IS NULL AND seen_ms >= :since_ms"
).listing(hashes=str)
_KEEP = text(
    "INSERT INTO probes (url_hash, seen_ms, problem, said, http_status, content_type, size_bytes, "
    "width, height) VALUES (:url_hash, :seen_ms, :problem, :said, :http_status, :content_type, "
    ":size_bytes, :width, :height) ON CONFLICT (url_hash) DO UPDATE SET "
    "seen_ms = excluded.seen_ms, problem = excluded.problem, said = excluded.said, "
    "http_status = excluded.http_status, content_type = excluded.content_type, "
    "size_bytes = excluded.size_bytes, width = excluded.width, height = excluded.height"
)
_WAITING = text(
    "SELECT j.id, j.batch_id, b.name AS batch, j.row_id, j.variant, j.state, j.model, j.inputs, "
    "j.settings, j.est_micros, j.unfit, j.error, j.cells "
    "FROM jobs j JOIN batches b ON b.id = j.batch_id "
    f"WHERE {SHOWN} AND b.account_id = :account_id AND j.id <= :max_job_id "
    "AND (:all_batches = 1 OR j.batch_id IN :batch_ids) "
    "AND (j.state = 'pending' OR (j.state = 'failed' AND j.unfit)) "
    "ORDER BY j.batch_id, j.position, j.id"
).listing(batch_ids=int)
_FAIL = text(
    "UPDATE jobs SET state = 'failed', error_class = 'invalid_input', error = :error, "
    "unfit = true, finished_ms = :now_ms, updated_ms = :now_ms "
    "WHERE id = :job_id AND state = :state AND unfit = :unfit"
)
_REVIVE = text(
    "UPDATE jobs SET state = 'pending', unfit = false, error_class = NULL, error = NULL, "
    "retries_used = 0, policy_retries_used = 0, not_before_ms = 0, attempt_id = NULL, "
    "finished_ms = NULL, updated_ms = :now_ms WHERE id = :job_id AND state = 'failed' AND unfit"
)


@dataclass(frozen=True)
class Seen:
    """What a URL answered, and when, in epoch milliseconds."""

    facts: Facts
    seen_ms: int


@dataclass(frozen=True)
class Waiting:
    """A job that waits to be paid for, or that an earlier probe found unfit.

    Attributes:
        settings: What decides its price, as JSON; None if that is not known.
        est_micros: Its list price in micro-dollars, None if there is none.
        is_unfit: Whether an earlier probe found that its input cannot be used.
        error: Why.
        columns: Its row's own columns, its inputs among them.
    """

    id: int
    batch_id: int
    batch: str
    label: str
    state: JobState
    model: str
    inputs: Mapping[str, Any]
    settings: str | None
    est_micros: int | None
    is_unfit: bool
    error: str | None
    columns: Collection[str] = ()


def hash_of(url: str) -> str | None:
    """Return under which name a URL's answer is kept; None if it is not.

    A signed link opens its file for a time only, so that an answer of yesterday proves nothing.
    """
    if unsigned_url(url) != url or public_url(url) != url:
        return None
    return sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def seen(tx: Transaction, hashes: Iterable[str], *, since_ms: int) -> dict[str, Seen]:
    """Return the files that answered well since a time, by `hash_of` their URLs."""
    found = {}
    for part in chunks(sorted(set(hashes)), _CHUNK):
        for row in tx.rows(_SEEN, {"hashes": list(part), "since_ms": since_ms}):
            facts = Facts(
                said=row.said or "",
                http_status=row.http_status,
                content_type=row.content_type or "",
                size_bytes=row.size_bytes,
                width=row.width,
                height=row.height,
            )
            found[row.url_hash] = Seen(facts, row.seen_ms)
    return found


def keep(tx: Transaction, found: Iterable[tuple[str, Seen]]) -> None:
    """Keep what URLs answered, by `hash_of` them, in place of what they answered before."""
    rows = [
        {
            "url_hash": url_hash,
            "seen_ms": one.seen_ms,
            "problem": None if one.facts.problem is None else str(one.facts.problem),
            "said": one.facts.said or None,
            "http_status": one.facts.http_status,
            "content_type": one.facts.content_type or None,
            "size_bytes": one.facts.size_bytes,
            "width": one.facts.width,
            "height": one.facts.height,
        }
        # In one order, so that two that keep the same ones never wait for each other.
        for url_hash, one in sorted(found, key=lambda pair: pair[0])
    ]
    for part in chunks(rows, _CHUNK):
        tx.run_many(_KEEP, part)


def waiting(
    tx: Transaction,
    account_id: int,
    batch_ids: Sequence[int] | None,
    *,
    max_job_id: int,
) -> Generator[Waiting]:
    """Yield the pending jobs and the unfit ones, in manifest order, without holding them all."""
    values = {
        "account_id": account_id,
        "max_job_id": max_job_id,
        "all_batches": int(batch_ids is None),
        "batch_ids": list(batch_ids or ()),
    }
    for row in tx.stream(_WAITING, values):
        yield Waiting(
            id=row.id,
            batch_id=row.batch_id,
            batch=row.batch,
            label=job_label(row.row_id, row.variant),
            state=JobState(row.state),
            model=row.model,
            inputs=json.loads(row.inputs),
            settings=row.settings,
            est_micros=row.est_micros,
            is_unfit=bool(row.unfit),
            error=row.error,
            columns=tuple(json.loads(row.cells)),
        )


def fail(tx: Transaction, job: Waiting, reason: str, *, now_ms: int) -> bool:
    """Let a job fail unpaid since its input cannot be used; return whether it was as seen."""
    # As it was seen, or two that look at once would both count it.
    seen_as = {"job_id": job.id, "state": str(job.state), "unfit": job.is_unfit}
    done = bool(tx.run(_FAIL, {**seen_as, "error": reason, "now_ms": now_ms}))
    if done and job.state is JobState.PENDING:
        tx.moved(job.batch_id, "pending", "failed")
        note(tx, "unfit", job.id, None, now_ms, error=reason)
    return done


def revive(tx: Transaction, job: Waiting, *, now_ms: int) -> bool:
    """Let a job wait again whose input can be used by now; return whether it was unfit."""
    done = bool(tx.run(_REVIVE, {"job_id": job.id, "now_ms": now_ms}))
    if done:
        tx.moved(job.batch_id, "failed", "pending")
        note(tx, "fit_again", job.id, None, now_ms)
    return done
