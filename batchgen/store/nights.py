"""What a report asks beside the jobs themselves: when things happened, money, causes, the slowest.

Everything is counted by the database in groups, or streamed: memory does not grow with the
number of jobs.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from batchgen.domain.identity import job_label
from batchgen.domain.states import AttemptState
from batchgen.store.database import Transaction
from batchgen.store.imports import SHOWN
from batchgen.store.reads import JobRow, rows_of_query

_OF_BATCH = "(:batch_id = 0 OR a.batch_id = :batch_id)"
_SPAN = text(
    "SELECT min(a.intent_ms) AS first_ms, max(coalesce(a.closed_ms, a.accepted_ms, a.intent_ms)) "
    f"AS last_ms FROM attempts a WHERE {_OF_BATCH}"
)
# Integer division cuts in both kinds of SQL; the name of a column of the answer may be grouped by.
_STARTED = text(
    "SELECT a.accepted_ms / :width_ms AS slot, count(*) AS attempts FROM attempts a "
    f"WHERE {_OF_BATCH} AND a.accepted_ms IS NOT NULL GROUP BY slot ORDER BY slot"
)
_ENDED = text(
    "SELECT a.closed_ms / :width_ms AS slot, a.state, count(*) AS attempts, "
    "count(a.accepted_ms) AS accepted, CAST(sum(a.charged_micros) AS bigint) AS charged "
    f"FROM attempts a WHERE {_OF_BATCH} AND a.closed_ms IS NOT NULL "
    "GROUP BY slot, a.state ORDER BY slot"
)
_PAID = text(
    "SELECT a.batch_id, count(*) AS attempts, CAST(sum(a.est_micros) AS bigint) AS estimated, "
    "CAST(sum(a.charged_micros) AS bigint) AS charged, CAST(sum(CASE WHEN a.cost_micros IS NULL "
    "OR a.cost_micros <> a.charged_micros THEN a.charged_micros ELSE 0 END) AS bigint) AS guessed "
    f"FROM attempts a WHERE {_OF_BATCH} AND a.charged_micros > 0 GROUP BY a.batch_id"
)
_TOOK = (
    "FROM jobs j JOIN attempts a ON a.id = j.attempt_id JOIN batches b ON b.id = j.batch_id "
    f"WHERE {_OF_BATCH} AND {SHOWN} AND j.state = 'succeeded' AND a.accepted_ms IS NOT NULL "
    "AND a.closed_ms IS NOT NULL "
)
_SLOWEST = text(
    "SELECT j.id, j.key, j.row_id, j.variant, b.name AS batch, j.model, "
    "a.closed_ms - a.accepted_ms AS took_ms, a.started_ms - a.accepted_ms AS queued_ms, a.run_ms "
    f"{_TOOK} ORDER BY a.closed_ms - a.accepted_ms DESC, j.id LIMIT :most"
)
_TAKEN = text(f"SELECT count(*) AS jobs {_TOOK}")
_NTH = text(
    f"SELECT a.closed_ms - a.accepted_ms {_TOOK} ORDER BY a.closed_ms - a.accepted_ms "
    "LIMIT 1 OFFSET :nth"
)
_FAILED = text(
    "SELECT j.id, j.key, j.row_id, j.variant, b.name AS batch, b.source, j.error_class, j.error, "
    "j.unfit, a.error_code FROM jobs j JOIN batches b ON b.id = j.batch_id "
    "LEFT JOIN attempts a ON a.id = j.attempt_id "
    f"WHERE {SHOWN} AND j.state = 'failed' AND (:batch_id = 0 OR j.batch_id = :batch_id) "
    "ORDER BY j.batch_id, j.position, j.id"
)
_SESSIONS = text(
    "SELECT started_ms, ended_ms, exit_code FROM sessions WHERE started_ms <= :last_ms "
    "AND (ended_ms IS NULL OR ended_ms >= :first_ms) ORDER BY started_ms DESC LIMIT :most"
)
_NEWEST = (
    f"WHERE {SHOWN} AND j.id IN (SELECT n.id FROM jobs n WHERE (:batch_id = 0 "
    "OR n.batch_id = :batch_id) ORDER BY n.updated_ms DESC, n.id DESC LIMIT :most) "
    "ORDER BY j.batch_id, j.position, j.id"
)


@dataclass(frozen=True)
class Span:
    """From the first request to the last thing known of one, in epoch milliseconds."""

    first_ms: int
    last_ms: int


@dataclass
class Moment:
    """What happened in one slot of time.

    Attributes:
        slot: Epoch milliseconds divided by the width of a slot.
        started: Requests that the service accepted.
        ended: Accepted requests that came to their end.
        succeeded: Clips generated.
        failed: Requests that ended without a clip.
        charged_micros: What was booked at these ends.
    """

    slot: int
    started: int = 0
    ended: int = 0
    succeeded: int = 0
    failed: int = 0
    charged_micros: int = 0


@dataclass(frozen=True)
class Paid:
    """What a batch's paid requests were estimated at, and what they cost; micro-dollars.

    Attributes:
        attempts: How many were paid for.
        estimated_micros: By the estimates they were sent with.
        charged_micros: What is booked for them.
        guessed_micros: The part of it that the service did not state.
    """

    attempts: int
    estimated_micros: int
    charged_micros: int
    guessed_micros: int


@dataclass(frozen=True)
class Slow:
    """A job whose clip took long; milliseconds."""

    key: str
    label: str
    batch: str
    model: str
    took_ms: int
    queued_ms: int | None
    run_ms: int | None


@dataclass(frozen=True)
class Failure:
    """A failed job, and why."""

    key: str
    label: str
    batch: str
    source: str
    error_class: str
    error_code: str | None
    error: str
    is_unfit: bool


@dataclass(frozen=True)
class Session:
    """One invocation of `run`; without an end it lives, or was killed."""

    started_ms: int
    ended_ms: int | None
    exit_code: int | None


def span(tx: Transaction, batch_id: int | None) -> Span | None:
    """Return from when to when requests were made, None if there were none."""
    row = tx.row(_SPAN, {"batch_id": batch_id or 0})
    if row is None or row.first_ms is None:
        return None
    return Span(row.first_ms, max(row.first_ms, row.last_ms))


def moments(tx: Transaction, batch_id: int | None, *, width_ms: int) -> list[Moment]:
    """Return what happened, slot by slot in order of time; slots without anything are left out."""
    found: dict[int, Moment] = {}
    values = {"batch_id": batch_id or 0, "width_ms": width_ms}
    for row in tx.rows(_STARTED, values):
        found.setdefault(row.slot, Moment(row.slot)).started += row.attempts
    for row in tx.rows(_ENDED, values):
        moment = found.setdefault(row.slot, Moment(row.slot))
        moment.ended += row.accepted
        moment.charged_micros += row.charged or 0
        if row.state == AttemptState.SUCCEEDED:
            moment.succeeded += row.attempts
        else:
            moment.failed += row.attempts
    return [found[slot] for slot in sorted(found)]


def paid(tx: Transaction, batch_id: int | None) -> dict[int, Paid]:
    """Return what was paid, by the row id of its batch."""
    return {
        row.batch_id: Paid(row.attempts, row.estimated, row.charged, row.guessed)
        for row in tx.rows(_PAID, {"batch_id": batch_id or 0})
    }


def slowest(tx: Transaction, batch_id: int | None, *, most: int) -> list[Slow]:
    """Return the jobs whose clips took longest from acceptance to the end, the slowest first."""
    return [
        Slow(
            key=row.key,
            label=job_label(row.row_id, row.variant),
            batch=row.batch,
            model=row.model,
            took_ms=row.took_ms,
            queued_ms=row.queued_ms,
            run_ms=row.run_ms,
        )
        for row in tx.rows(_SLOWEST, {"batch_id": batch_id or 0, "most": most})
    ]


def took_ms(tx: Transaction, batch_id: int | None, shares: Sequence[float]) -> list[int] | None:
    """Return how long clips took: for each share, the time in which so many of them were done.

    None if there are no clips.
    """
    values: dict[str, Any] = {"batch_id": batch_id or 0}
    jobs = int(tx.value(_TAKEN, values))
    if not jobs:
        return None
    return [
        int(tx.value(_NTH, {**values, "nth": min(jobs - 1, int(jobs * share))})) for share in shares
    ]


def failures(tx: Transaction, batch_id: int | None) -> Generator[Failure]:
    """Yield every failed job in manifest order, without holding them all."""
    with tx.connection.execute(
        _FAILED, {"batch_id": batch_id or 0}, execution_options={"yield_per": 500}
    ) as result:
        for row in result:
            yield Failure(
                key=row.key,
                label=job_label(row.row_id, row.variant),
                batch=row.batch,
                source=row.source,
                error_class=row.error_class or "unknown",
                error_code=row.error_code,
                error=row.error or "",
                is_unfit=bool(row.unfit),
            )


def sessions(tx: Transaction, within: Span, *, most: int) -> list[Session]:
    """Return the newest sessions that touch a span of time, the oldest of them first."""
    values = {**vars(within), "most": most}
    return [
        Session(row.started_ms, row.ended_ms, row.exit_code)
        for row in reversed(tx.rows(_SESSIONS, values))
    ]


def newest(tx: Transaction, batch_id: int | None, *, most: int) -> list[JobRow]:
    """Return the jobs to which something happened last, in manifest order."""
    return rows_of_query(tx, _NEWEST, {"batch_id": batch_id or 0, "most": most})
