"""What a report asks beside the jobs themselves: when things happened, money, causes, the slowest.

Everything is counted by the database in groups, or streamed: memory does not grow with the
number of jobs.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from batchgen.domain.identity import job_label
from batchgen.domain.states import AttemptState, JobState
from batchgen.domain.where import Name, Where
from batchgen.store import reads, selecting
from batchgen.store.imports import SHOWN
from batchgen.store.predicates import is_live
from batchgen.store.reads import JobRow
from batchgen.store.statements import Statement, among, text
from batchgen.store.transactions import Transaction

_JOBS = (
    "FROM jobs j JOIN batches b ON b.id = j.batch_id LEFT JOIN attempts a ON a.id = j.attempt_id "
)
_SPAN = (
    "SELECT min(t.intent_ms) AS first_ms, max(coalesce(t.closed_ms, t.accepted_ms, t.intent_ms)) "
    "AS last_ms FROM attempts t WHERE {chosen}"
)
# Integer division cuts in both kinds of SQL; the name of a column of the answer may be grouped by.
_STARTED = (
    "SELECT t.accepted_ms / :width_ms AS slot, count(*) AS attempts FROM attempts t "
    "WHERE {chosen} AND t.accepted_ms IS NOT NULL GROUP BY slot ORDER BY slot"
)
_ENDED = (
    "SELECT t.closed_ms / :width_ms AS slot, t.state, count(*) AS attempts, "
    "count(t.accepted_ms) AS accepted, CAST(sum(t.charged_micros) AS bigint) AS charged "
    "FROM attempts t WHERE {chosen} AND t.closed_ms IS NOT NULL "
    "GROUP BY slot, t.state ORDER BY slot"
)
_PAID = (
    "SELECT t.batch_id, count(*) AS attempts, CAST(sum(t.est_micros) AS bigint) AS estimated, "
    "CAST(sum(t.charged_micros) AS bigint) AS charged, CAST(sum(CASE WHEN t.cost_micros IS NULL "
    "OR t.cost_micros <> t.charged_micros THEN t.charged_micros ELSE 0 END) AS bigint) AS guessed "
    "FROM attempts t WHERE {chosen} AND t.charged_micros > 0 GROUP BY t.batch_id"
)
_RESERVED = (
    "SELECT t.batch_id, CAST(sum(t.est_micros) AS bigint) AS micros FROM attempts t "
    f"WHERE {is_live('t')} AND {{chosen}} GROUP BY t.batch_id"
)
_COUNTED = (
    "SELECT j.batch_id, j.state, count(*) AS jobs, CAST(sum(CASE WHEN j.state = 'pending' "
    "THEN j.est_micros END) AS bigint) AS waiting, "
    "sum(CASE WHEN j.state = 'pending' AND j.est_micros IS NULL THEN 1 ELSE 0 END) AS unpriced "
    f"{_JOBS} WHERE {{chosen}} GROUP BY j.batch_id, j.state"
)
_TOOK = (
    f"{_JOBS} WHERE {{chosen}} AND j.state = 'succeeded' AND a.accepted_ms IS NOT NULL "
    "AND a.closed_ms IS NOT NULL "
)
_SLOWEST = (
    "SELECT j.id, j.key, j.row_id, j.variant, b.name AS batch, j.model, "
    "a.closed_ms - a.accepted_ms AS took_ms, a.started_ms - a.accepted_ms AS queued_ms, a.run_ms "
    f"{_TOOK} ORDER BY a.closed_ms - a.accepted_ms DESC, j.id LIMIT :most"
)
_STEP_MS = 100  # to which lengths of time are counted: sorting a million takes seconds
_TAKEN = (
    "SELECT (a.closed_ms - a.accepted_ms) / :step_ms AS steps, count(*) AS jobs "
    f"{_TOOK} GROUP BY steps ORDER BY steps"
)
_FAILED = (
    "SELECT j.id, j.key, j.row_id, j.variant, b.name AS batch, b.source, j.error_class, j.error, "
    f"j.unfit, a.error_code {_JOBS} WHERE {{chosen}} AND j.state = 'failed' "
    "ORDER BY j.batch_id, j.position, j.id"
)
_SESSIONS = text(
    "SELECT count(*) FROM sessions WHERE started_ms <= :last_ms "
    "AND (ended_ms IS NULL OR ended_ms >= :first_ms)"
)


@dataclass(frozen=True)
class Choice:
    """Which jobs are asked about: of a batch, and such that an expression is true of them."""

    batch_id: int | None = None
    where: Where | None = None

    def of_jobs(self, tx: Transaction, query: str) -> tuple[Statement, dict[str, Any]]:
        """Return a query of jobs `j` for these, and its values."""
        parts, values = [SHOWN], dict[str, Any]()
        if self.batch_id is not None:
            parts.append("j.batch_id = :batch_id")
            values["batch_id"] = self.batch_id
        if self.where is not None:
            condition = selecting.condition(self.where, is_postgresql=tx.is_postgresql)
            parts.append(condition.sql)
            values |= condition.values
        return text(query.format(chosen=" AND ".join(parts))), values

    def of_attempts(self, tx: Transaction, query: str) -> tuple[Statement, dict[str, Any]]:
        """Return a query of attempts `t` for these, and its values."""
        if self.where is None:
            # All of them have a job: there is no need to look.
            if self.batch_id is None:
                return text(query.format(chosen="1 = 1")), {}
            chosen = query.format(chosen="t.batch_id = :batch_id")
            return text(chosen), {"batch_id": self.batch_id}
        jobs, values = self.of_jobs(tx, f"SELECT j.id {_JOBS} WHERE {{chosen}}")
        return text(query.format(chosen=f"t.job_id IN ({jobs.sqlite})")), values


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

    attempts: int = 0
    estimated_micros: int = 0
    charged_micros: int = 0
    guessed_micros: int = 0


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


@dataclass
class Counted:
    """Chosen jobs of one batch; micro-dollars.

    Attributes:
        counts: By state.
        waiting_micros: What those that wait are estimated at.
        unpriced: How many of those have no known price.
        reserved_micros: For requests that are open or in doubt.
    """

    counts: Counter[JobState] = field(default_factory=Counter)
    waiting_micros: int = 0
    unpriced: int = 0
    reserved_micros: int = 0


def span(tx: Transaction, choice: Choice) -> Span | None:
    """Return from when to when requests were made, None if there were none."""
    row = tx.row(*choice.of_attempts(tx, _SPAN))
    if row is None or row.first_ms is None:
        return None
    return Span(row.first_ms, max(row.first_ms, row.last_ms))


def moments(tx: Transaction, choice: Choice, *, width_ms: int) -> list[Moment]:
    """Return what happened, slot by slot in order of time; slots without anything are left out."""
    found: dict[int, Moment] = {}
    started, values = choice.of_attempts(tx, _STARTED)
    for row in tx.rows(started, {**values, "width_ms": width_ms}):
        found.setdefault(row.slot, Moment(row.slot)).started += row.attempts
    ended, values = choice.of_attempts(tx, _ENDED)
    for row in tx.rows(ended, {**values, "width_ms": width_ms}):
        moment = found.setdefault(row.slot, Moment(row.slot))
        moment.ended += row.accepted
        moment.charged_micros += row.charged or 0
        if row.state == AttemptState.SUCCEEDED:
            moment.succeeded += row.attempts
        else:
            moment.failed += row.attempts
    return [found[slot] for slot in sorted(found)]


def paid(tx: Transaction, choice: Choice) -> dict[int, Paid]:
    """Return what was paid, by the row id of its batch."""
    return {
        row.batch_id: Paid(row.attempts, row.estimated, row.charged, row.guessed)
        for row in tx.rows(*choice.of_attempts(tx, _PAID))
    }


def counted(tx: Transaction, choice: Choice) -> dict[int, Counted]:
    """Count chosen jobs one by one, by the row id of their batch.

    The stored counters know whole batches only, and are faster.
    """
    found: dict[int, Counted] = {}
    for row in tx.rows(*choice.of_jobs(tx, _COUNTED)):
        batch = found.setdefault(row.batch_id, Counted())
        batch.counts[JobState(row.state)] += row.jobs
        batch.waiting_micros += row.waiting or 0
        batch.unpriced += row.unpriced
    for row in tx.rows(*choice.of_attempts(tx, _RESERVED)):
        found.setdefault(row.batch_id, Counted()).reserved_micros = row.micros
    return found


def slowest(tx: Transaction, choice: Choice, *, most: int) -> list[Slow]:
    """Return the jobs whose clips took longest from acceptance to the end, the slowest first."""
    query, values = choice.of_jobs(tx, _SLOWEST)
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
        for row in tx.rows(query, {**values, "most": most})
    ]


def took_ms(tx: Transaction, choice: Choice, shares: Sequence[float]) -> list[int] | None:
    """Return how long clips took: for each share, the time in which so many of them were done.

    None if there are no clips.
    """
    query, values = choice.of_jobs(tx, _TAKEN)
    counted = [(row.steps, row.jobs) for row in tx.rows(query, {**values, "step_ms": _STEP_MS})]
    jobs = sum(number for _, number in counted)
    if not jobs:
        return None
    done = accumulate(number for _, number in counted)
    reached = list(zip(done, (steps for steps, _ in counted), strict=True))
    return [
        next(steps for so_many, steps in reached if so_many >= share * jobs) * _STEP_MS
        for share in shares
    ]


def failures(tx: Transaction, choice: Choice) -> Generator[Failure]:
    """Yield every failed job in manifest order, without holding them all."""
    query, values = choice.of_jobs(tx, _FAILED)
    for row in tx.stream(query, values):
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


def sessions(tx: Transaction, within: Span) -> int:
    """Return how many sessions touch a span of time."""
    return int(tx.value(_SESSIONS, vars(within)))


_CHANGED = (Name("", "changed"), True)  # downwards
_IN_ORDER = among(
    "SELECT j.id FROM jobs j WHERE j.id IN :values ORDER BY j.batch_id, j.position, j.id"
)


def newest(tx: Transaction, choice: Choice, *, most: int) -> list[JobRow]:
    """Return the jobs to which something happened last, in manifest order."""
    ids = reads.job_ids(
        tx, batch_id=choice.batch_id, where=choice.where, order=[_CHANGED], limit=most
    )
    in_order = tx.rows(_IN_ORDER, {"values": tx.listed(ids)})
    return list(reads.rows_of(tx, [row.id for row in in_order]))
