"""Every change of a job while it runs: one function a change, grouped for the store thread.

Each function takes the transaction and a list of requests of its kind, and returns one
result a request: the store thread commits many coroutines' changes at once. Facts (what the
service said) are never fenced; decisions (what becomes of the job) name the owner and the
epoch under which the worker holds it, and change nothing once another worker has it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from batchgen.domain.adapting import State
from batchgen.domain.identity import job_label
from batchgen.domain.prices import Prices, is_nearly_spent
from batchgen.domain.states import ErrorClass, JobState
from batchgen.store import step_back
from batchgen.store.events import note
from batchgen.store.gate import Gate, grown, lock_adapting, refused, save
from batchgen.store.gate import spend as spend_tokens
from batchgen.store.payloads import packed
from batchgen.store.predicates import is_live, is_owned
from batchgen.store.scope import Scope
from batchgen.store.statements import Statement, locking, text
from batchgen.store.transactions import Transaction


@dataclass(frozen=True)
class Job:
    """One job as the worker that holds it sees it."""

    id: int
    key: str
    batch_id: int
    batch: str
    label: str  # id and variant, for people
    model: str
    inputs: dict[str, Any]
    name: str
    output_dir: str
    version: int
    state: JobState
    epoch: int
    attempt_id: str
    retries_used: int
    est_micros: int
    input_hash: str = ""
    settings: str = ""  # JSON of the inputs that decide price and time; "" is not known
    policy_retries_used: int = 0
    no: int = 0  # which attempt of the job its newest is, if it was just claimed
    intent_ms: int | None = None  # when it was claimed, if it was just claimed
    request_id: str | None = None
    urls: tuple[str, ...] = ()
    accepted_ms: int | None = None
    started_ms: int | None = None
    remote_state: str | None = None
    is_adopted: bool = False  # taken over: nobody may have looked for long
    is_costed: bool = False  # the service has stated what it cost
    uploads: str | None = None  # where its batch has files of this machine uploaded to


@dataclass(frozen=True)
class ClaimRequest:
    """What a worker wants to claim.

    Attributes:
        attempt_ids: One a wanted job, made by the caller so that they sort by time.
        accepted: Submits of this worker that were accepted since its last claim that counted.
        ended: Generations of its that came to an end since then.
        is_ready: Told the inputs of a job as JSON and where its files are uploaded to; whether
            these files are in place, so that the job may be paid for.
        unready: Jobs that are left out, since their files are not.
    """

    worker_id: str
    account_id: int
    scope: Scope
    attempt_ids: tuple[str, ...]
    held_models: frozenset[str]
    now_ms: int
    watch: step_back.Watch = step_back.NOTHING_BOUGHT
    prices: Prices = field(default_factory=Prices)  # what the worker has learned
    accepted: int = 0
    ended: int = 0
    is_ready: Callable[[str, str | None], bool] = lambda inputs, uploads: True
    unready: frozenset[int] = frozenset()


_LOCKED_LOOK_MS = 1_000
LONGEST_FREEZE_MS = 3_600_000
"""The longest that a service can make everybody wait; what asks for more pauses the run."""


@dataclass(frozen=True)
class NearlySpent:
    """A batch that has used most of its budget; money in micro-dollars."""

    batch_id: int
    batch: str
    spent_micros: int
    reserved_micros: int
    budget_micros: int

    @property
    def used_micros(self) -> int:
        """Spent and reserved."""
        return self.spent_micros + self.reserved_micros


@dataclass(frozen=True)
class Claim:
    """What a claim gave, and why it gave no more.

    Attributes:
        jobs: Now `submitting`, their intents durable once the claim has returned.
        live: Slots in use after the claim, over all workers of the account.
        cap: The account's cap.
        wait_until_ms: Nothing (more) can be claimed before: a freeze, the rate, or jobs that are
            not due yet.
        over_budget: Batches of which a job would not fit any more.
        nearly_spent: Batches whose budget comes to its end.
        paused: The account is paused by a person.
        fenced: This worker has been declared dead: it must not pay for anything.
        stepped_back: Purchases are missing from the job database: nobody may pay.
        counted: What the worker said of its progress has been taken into account.
        may_rise: `-j auto` would raise the cap for a submit that is accepted now.
        state: What `-j auto` has learned; None if the cap is fixed, or nothing was asked.
        unready: Jobs that would have been claimed, but their files are not in place.
        doubts: With no slot free, how many of them requests in doubt hold.
        doubts_until_ms: When the first of those is free at the latest.
    """

    jobs: tuple[Job, ...]
    live: int = 0
    cap: int = 0
    wait_until_ms: int = 0
    over_budget: frozenset[int] = frozenset()
    paused: bool = False
    fenced: bool = False
    stepped_back: str | None = None
    nearly_spent: tuple[NearlySpent, ...] = ()
    counted: bool = True
    may_rise: bool = False
    state: State | None = None
    unready: tuple[Job, ...] = ()
    doubts: int = 0
    doubts_until_ms: int = 0


_GATE = locking(
    "SELECT cap, frozen_until_ms, paused, rate_per_s, empty_ms, auto_max, adapting "
    "FROM accounts WHERE id = :account_id"
)
# Locked, so that nobody declares a worker dead between this look and the commit: what it claims
# or adopts after its burial would never be free again.
_ALIVE = locking("SELECT 1 FROM workers WHERE id = :worker_id AND state = 'live'")
_LIVE = text(
    "SELECT count(*) FROM attempts WHERE account_id = :account_id "
    f"AND {is_live()} "
    "AND ((slot_until_ms IS NULL AND state <> 'in_doubt') OR slot_until_ms > :now_ms)"
)
_DOUBTS = text(
    "SELECT count(*) AS held, min(slot_until_ms) AS until_ms FROM attempts "
    "WHERE account_id = :account_id AND state = 'in_doubt' AND slot_until_ms > :now_ms"
)
_BUDGETS = text(
    "SELECT b.id, b.name, b.budget_micros, "
    "(SELECT coalesce(sum(spent_micros), 0) FROM spending s WHERE s.batch_id = b.id) AS spent, "
    "(SELECT coalesce(sum(est_micros), 0) FROM attempts a WHERE a.account_id = :account_id "
    f" AND a.batch_id = b.id AND {is_live('a')}) AS reserved "
    "FROM batches b WHERE b.account_id = :account_id AND b.budget_micros IS NOT NULL"
)
_COLUMNS = (
    "j.id, j.key, j.batch_id, b.name AS batch, j.row_id, j.variant, j.model, j.inputs, j.name, "
    "b.output_dir, j.version, j.state, j.epoch, j.attempt_id, j.retries_used, j.est_micros, "
    "j.input_hash, j.urls, j.remote_state, j.settings, j.policy_retries_used, b.uploads"
)
_LISTED = {
    "sqlite": "(SELECT value FROM json_each(:listed))",
    "postgresql": "(SELECT CAST(value AS bigint) "
    "FROM json_array_elements_text(CAST(:listed AS json)))",
}
# A file's planner, once ANALYZE has told it of few batches, would begin with these, and sort.
_JOIN = {"sqlite": "CROSS JOIN", "postgresql": "JOIN"}
# With `+`: it would rather go through all jobs up to that id than through those that wait.
_IN_SCOPE = (
    "FROM jobs j {join} batches b ON b.id = j.batch_id "
    "WHERE j.state = 'pending' AND +j.id <= :max_job_id "
    "AND b.account_id = :account_id AND j.model NOT IN :held AND j.id {which} {listed} "
    "AND (:all_batches = 1 OR j.batch_id IN :batch_ids)"
)


@dataclass(frozen=True)
class _Scoped:
    """A query of the pending jobs that a request may pay for, for either kind of scope.

    The ids of a scope are listed in one parameter: those that it excludes, or all there are.
    """

    excluding: Statement
    only: Statement

    def of(self, scope: Scope) -> Statement:
        return self.excluding if scope.only is None else self.only

    def listing(self, **lists: type[int] | type[str]) -> "_Scoped":
        return _Scoped(self.excluding.listing(**lists), self.only.listing(**lists))


def _scoped(query: str, *, lock: str = "") -> _Scoped:
    """Return a query whose `{scope}` is the pending jobs that a request may pay for."""

    def made(which: str) -> Statement:
        on_file, on_server = (
            query.format(
                scope=_IN_SCOPE.format(which=which, listed=_LISTED[kind], join=_JOIN[kind])
            )
            for kind in ("sqlite", "postgresql")
        )
        return Statement(on_file, on_server + lock, {"held": str, "batch_ids": int})

    return _Scoped(made("NOT IN"), made("IN"))


_CANDIDATES = _scoped(
    f"SELECT {_COLUMNS}, "
    "(SELECT coalesce(max(no), 0) FROM attempts a WHERE a.job_id = j.id) AS attempts "
    "{scope} AND j.not_before_ms <= :now_ms AND j.batch_id NOT IN :skipped "
    "ORDER BY j.priority, j.not_before_ms, j.id LIMIT :wanted",
    lock=" FOR NO KEY UPDATE OF j SKIP LOCKED",  # somebody is cancelling it just now
).listing(skipped=int)
_NEXT_DUE = _scoped("SELECT min(j.not_before_ms) {scope} AND j.not_before_ms > :now_ms")
_DUE = _scoped(
    "SELECT 1 {scope} AND j.not_before_ms <= :now_ms AND j.batch_id NOT IN :skipped LIMIT 1"
).listing(skipped=int)
_CLAIMABLE = _scoped("SELECT 1 {scope} LIMIT 1")
_TAKE = text(
    "UPDATE jobs SET state = 'submitting', owner = :worker_id, epoch = epoch + 1, "
    "attempt_id = :attempt_id, remote_state = NULL, queue_position = NULL, urls = NULL, "
    "error = NULL, error_class = NULL, updated_ms = :now_ms "
    "WHERE id = :job_id AND state = 'pending'"
)
_INTEND = text(
    "INSERT INTO attempts (id, job_id, no, job_version, account_id, batch_id, worker_id, model, "
    "inputs, input_hash, settings, state, est_micros, intent_ms) VALUES (:attempt_id, :job_id, "
    ":no, :version, :account_id, :batch_id, :worker_id, :model, :inputs, :input_hash, :settings, "
    "'intent', :est_micros, :now_ms)"
)


def claim(tx: Transaction, requests: Sequence[ClaimRequest]) -> list[Claim]:
    """Claim due jobs under the gate and write their intents.

    Lock the gate, then count, then claim: counting inside the claiming statement would see
    a snapshot from before the lock and overshoot the cap. On SQLite the whole transaction
    holds the write lock.
    """
    return [_claim(tx, request) for request in requests]


def _claim(tx: Transaction, request: ClaimRequest) -> Claim:
    row = tx.row(_GATE, {"account_id": request.account_id})
    if row is None:
        raise LookupError(f"account {request.account_id} is not in the job database")
    if tx.is_postgresql:
        # One clock for all workers, read after the wait for the lock.
        request = replace(request, now_ms=tx.now_ms())
    if tx.row(_ALIVE, {"worker_id": request.worker_id}) is None:
        return Claim((), fenced=True)
    guard = step_back.guard(tx, request.watch, now_ms=request.now_ms)
    if guard.stepped_back is not None or guard.quiet_until_ms:
        return Claim((), wait_until_ms=guard.quiet_until_ms, stepped_back=guard.stepped_back)
    live = tx.value(_LIVE, {"account_id": request.account_id, "now_ms": request.now_ms})
    # A freeze beyond the longest there is was made before a clock was set back.
    frozen = request.now_ms < row.frozen_until_ms <= request.now_ms + LONGEST_FREEZE_MS
    if row.paused or frozen:
        wait_until_ms = row.frozen_until_ms if frozen else 0
        return Claim((), live, row.cap, wait_until_ms, paused=bool(row.paused))
    gate = Gate.of(row, account_id=request.account_id, live=live, now_ms=request.now_ms)
    return _claim_within(tx, request, gate) if gate.state is None else _grow(tx, request, gate)


def _grow(tx: Transaction, request: ClaimRequest, gate: Gate) -> Claim:
    """Claim with what `-j auto` allows by now, and keep what is used of it."""
    wanted = len(request.attempt_ids)
    if gate.bucket is not None and not gate.bucket.tokens:
        # Only a claim that gets something shows that there is more to submit.
        may_rise = gate.may_rise(request.now_ms)
        next_ms = gate.bucket.after(1)
        return Claim((), gate.live, gate.cap, next_ms, counted=False, may_rise=may_rise)
    more = grown(
        tx,
        gate,
        wanted=wanted,
        accepted=request.accepted,
        ended=request.ended,
        now_ms=request.now_ms,
    )
    claim = _claim_within(tx, request, more)
    if len(claim.jobs) <= gate.room(wanted) < more.room(wanted):
        return replace(claim, cap=gate.cap)  # nothing waits that would need more
    if more.state != gate.state:
        save(tx, more)
    return replace(claim, may_rise=more.may_rise(request.now_ms), state=more.state)


def _claim_within(tx: Transaction, request: ClaimRequest, gate: Gate) -> Claim:
    wanted = len(request.attempt_ids)
    room = gate.room(wanted)
    if room <= 0:
        claim = Claim((), gate.live, gate.cap, gate.next_ms(wanted, 0))
        return claim if gate.live < gate.cap else _with_doubts(tx, request, claim)
    taken, unready, budgets = _affordable(tx, request, room)
    over_budget, nearly_spent = budgets.exceeded, budgets.nearly_spent
    if not taken:
        next_due_ms = 0 if unready else _next_due(tx, request, over_budget)
        return Claim(
            (),
            gate.live,
            gate.cap,
            next_due_ms,
            over_budget,
            nearly_spent=nearly_spent,
            unready=unready,
        )
    jobs = _intend(tx, request, taken)
    spend_tokens(tx, gate, len(jobs))
    # Cut by the rate, and not by what there is: the rest may go at the next token.
    next_ms = gate.next_ms(wanted, len(jobs)) if len(jobs) == room else 0
    live = gate.live + len(jobs)
    return Claim(
        jobs, live, gate.cap, next_ms, over_budget, nearly_spent=nearly_spent, unready=unready
    )


def _with_doubts(tx: Transaction, request: ClaimRequest, claim: Claim) -> Claim:
    key = {"account_id": request.account_id, "now_ms": request.now_ms}
    [row] = tx.rows(_DOUBTS, key)
    return replace(claim, doubts=row.held, doubts_until_ms=row.until_ms or 0)


class _Budgets:
    """What the budgets of an account's batches leave, while jobs are taken."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = {row.id: row for row in rows}
        self._left = {row.id: int(row.budget_micros - row.spent - row.reserved) for row in rows}
        self._exceeded: set[int] = set()

    @property
    def exceeded(self) -> frozenset[int]:
        """Batches of which a job would not fit."""
        return frozenset(self._exceeded)

    @property
    def nearly_spent(self) -> tuple[NearlySpent, ...]:
        """Batches whose budget comes to its end."""
        used = {key: int(row.budget_micros) - self._left[key] for key, row in self._rows.items()}
        return tuple(
            NearlySpent(
                key,
                row.name,
                spent_micros=int(row.spent),
                reserved_micros=used[key] - int(row.spent),
                budget_micros=int(row.budget_micros),
            )
            for key, row in self._rows.items()
            if is_nearly_spent(used[key], int(row.budget_micros))
        )

    def takes(self, batch_id: int, micros: int) -> bool:
        """Reserve the price of one more job, if it fits."""
        if batch_id in self._exceeded:
            return False
        if batch_id in self._left:
            if micros > self._left[batch_id]:
                self._exceeded.add(batch_id)
                return False
            self._left[batch_id] -= micros
        return True


@dataclass(frozen=True)
class _Taken:
    """A job that a claim takes, and what is reserved for it."""

    row: Any
    est_micros: int


def _affordable(
    tx: Transaction, request: ClaimRequest, room: int
) -> tuple[list[_Taken], tuple[Job, ...], _Budgets]:
    """Return the next jobs that fit, and those among them whose files are not in place yet."""
    budgets = _Budgets(tx.rows(_BUDGETS, {"account_id": request.account_id}))
    taken: list[_Taken] = []
    unready: dict[int, Job] = {}
    values = _scope_values(request)
    while len(taken) < room:
        blocked = len(budgets.exceeded)
        seen = {one.row.id for one in taken}
        wanted = {**values, "wanted": room, "skipped": list(budgets.exceeded)}
        for row in tx.rows(_CANDIDATES.of(request.scope), wanted):
            if row.id in seen or row.id in unready or len(taken) == room:
                continue
            if not request.is_ready(row.inputs, row.uploads):
                unready[row.id] = _job(row)
                continue
            # A budget without a known price is refused when it is set.
            est_micros = request.prices.of_request(row.model, row.settings, row.est_micros) or 0
            if budgets.takes(row.batch_id, est_micros):
                taken.append(_Taken(row, est_micros))
        if len(budgets.exceeded) == blocked:
            break
    return taken, tuple(unready.values()), budgets


def _next_due(tx: Transaction, request: ClaimRequest, over_budget: frozenset[int]) -> int:
    values = _scope_values(request)
    skipped = {"skipped": list(over_budget)}
    if tx.is_postgresql and tx.row(_DUE.of(request.scope), {**values, **skipped}) is not None:
        # Somebody has it locked, and may leave it as it is: a manifest is being stored, say.
        return request.now_ms + _LOCKED_LOOK_MS
    return tx.value(_NEXT_DUE.of(request.scope), values) or 0


def _scope_values(request: ClaimRequest) -> dict[str, Any]:
    scope = request.scope
    listed = scope.excluded if scope.only is None else scope.only
    if request.unready:
        listed = listed | request.unready if scope.only is None else listed - request.unready
    return {
        "account_id": request.account_id,
        "now_ms": request.now_ms,
        "max_job_id": scope.max_job_id,
        "held": list(request.held_models),
        "listed": json.dumps(list(listed)),
        "all_batches": int(scope.batch_ids is None),
        "batch_ids": list(scope.batch_ids or ()),
    }


def _intend(tx: Transaction, request: ClaimRequest, taken: Sequence[_Taken]) -> tuple[Job, ...]:
    rows = [one.row for one in taken]
    values = [
        {
            "job_id": row.id,
            "attempt_id": attempt_id,
            "worker_id": request.worker_id,
            "now_ms": request.now_ms,
            "no": row.attempts + 1,
            "version": row.version,
            "account_id": request.account_id,
            "batch_id": row.batch_id,
            "model": row.model,
            "inputs": row.inputs,
            "input_hash": row.input_hash,
            "settings": row.settings,
            "est_micros": one.est_micros,
        }
        for one, row, attempt_id in zip(taken, rows, request.attempt_ids, strict=False)
    ]
    tx.run_many(_TAKE, values)
    tx.run_many(_INTEND, values)
    for row in rows:
        tx.moved(row.batch_id, "pending", "submitting")
    return tuple(
        _job(
            row,
            state=JobState.SUBMITTING,
            epoch=row.epoch + 1,
            attempt_id=value["attempt_id"],
            no=value["no"],
            intent_ms=request.now_ms,
            est_micros=value["est_micros"],
        )
        for row, value in zip(rows, values, strict=True)
    )


def _job(row: Any, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": row.id,
        "key": row.key,
        "batch_id": row.batch_id,
        "batch": row.batch,
        "label": job_label(row.row_id, row.variant),
        "model": row.model,
        "inputs": json.loads(row.inputs),
        "name": row.name,
        "output_dir": row.output_dir,
        "version": row.version,
        "state": JobState(row.state),
        "epoch": row.epoch,
        "attempt_id": row.attempt_id,
        "retries_used": row.retries_used,
        "est_micros": row.est_micros or 0,
        "input_hash": row.input_hash,
        "settings": row.settings or "",
        "policy_retries_used": row.policy_retries_used,
        "urls": tuple(json.loads(row.urls)) if row.urls else (),
        "remote_state": row.remote_state,
        "uploads": row.uploads,
    }
    values.update(changes)
    return Job(**values)


def has_claimable(tx: Transaction, request: ClaimRequest) -> bool:
    """Return whether any pending job of the scope is left, due or not."""
    return tx.row(_CLAIMABLE.of(request.scope), _scope_values(request)) is not None


@dataclass(frozen=True)
class AcceptedFact:
    """The service accepted an attempt."""

    job: Job
    request_id: str
    raw: str
    now_ms: int


_ACCEPT = text(
    "UPDATE attempts SET state = 'accepted', request_id = :request_id, accepted_ms = :now_ms, "
    "submit_raw = :raw WHERE id = :attempt_id AND state = 'intent'"
)
_RUN = text(
    "UPDATE jobs SET state = 'running', updated_ms = :now_ms "
    "WHERE id = :job_id AND attempt_id = :attempt_id AND state = 'submitting'"
)
# The job's row first, as everywhere: what a person decides about it waits for this fact, or this
# fact sees what was decided.
_ATTEMPT = locking(
    "SELECT a.id, a.state, a.job_id, a.batch_id, a.account_id, a.worker_id, a.est_micros, "
    "a.charged_micros, a.request_id, j.state AS job_state, j.attempt_id AS newest, j.owner, "
    "a.input_hash = j.input_hash AS same_inputs, a.inputs AS sent, j.inputs, j.seed "
    "FROM jobs j JOIN attempts a ON a.job_id = j.id WHERE a.id = :attempt_id"
)
_ACCEPT_LATE = text(
    "UPDATE attempts SET state = 'accepted', request_id = :request_id, accepted_ms = :now_ms, "
    "submit_raw = :raw, charged_micros = NULL, closed_ms = NULL, "
    # Nobody waits for an extra purchase, so its slot is freed by time.
    "slot_until_ms = CASE WHEN :extra THEN slot_until_ms END, extra = :extra "
    "WHERE id = :attempt_id"
)
_RUN_LATE = text(
    "UPDATE jobs SET state = 'running', attempt_id = :attempt_id, inputs = :inputs, seed = :seed, "
    "error = NULL, error_class = NULL, finished_ms = NULL, updated_ms = :now_ms WHERE id = :job_id"
)


def record_accepted(tx: Transaction, facts: Sequence[AcceptedFact]) -> list[None]:
    """Record that the service accepted attempts, and under which request ids.

    A fact, so no lease is asked: it is recorded by attempt id whoever holds the job by now,
    also when the attempt was already in doubt or abandoned (a late answer).

    Raises:
        IntegrityError: If another attempt of the account carries the same request id.
    """
    values = [
        {
            "attempt_id": fact.job.attempt_id,
            "job_id": fact.job.id,
            "request_id": fact.request_id,
            "raw": packed(tx, fact.raw),
            "now_ms": fact.now_ms,
        }
        for fact in facts
    ]
    running = tx.run_many(_RUN, values)
    accepted = tx.run_many(_ACCEPT, values)
    if accepted == running == len(facts):
        for fact in facts:
            tx.moved(fact.job.batch_id, "submitting", "running")
        return [None] * len(facts)
    if len(facts) > 1:
        raise Regroup
    accept_late(tx, facts[0].job.attempt_id, facts[0].request_id, facts[0].raw, facts[0].now_ms)
    return [None]


def accept_late(
    tx: Transaction, attempt_id: str, request_id: str, raw: str | None, now_ms: int
) -> bool:
    """Record an acceptance whatever has become of the attempt; return whether the job runs again.

    A job that waits to be bought again is not: this purchase is the one it waits for. If it has
    been bought again already, the attempt is kept as an extra purchase. A fact that is recorded
    already changes nothing.
    """
    row = tx.row(_ATTEMPT, {"attempt_id": attempt_id})
    if row is None:
        raise LookupError(f"attempt {attempt_id} is not in the job database")
    if row.state not in {"intent", "in_doubt", "abandoned"}:
        return False
    if row.state == "abandoned" and row.charged_micros:
        spend(tx, row.id, row.worker_id, -row.charged_micros)
    waits = row.newest == attempt_id and row.job_state in {"submitting", "in_doubt", "failed"}
    unbought = row.newest is None and row.job_state == "pending" and row.same_inputs
    extra = not (waits or unbought)
    values = {
        "attempt_id": attempt_id,
        "job_id": row.job_id,
        "request_id": request_id,
        "raw": packed(tx, raw),
        "now_ms": now_ms,
        "extra": extra,
        **_with_seed_sent(row),
    }
    tx.run(_ACCEPT_LATE, values)
    if not extra:
        tx.run(_RUN_LATE, values)
        tx.moved(row.batch_id, row.job_state, "running")
    note(tx, "accepted_late", row.job_id, attempt_id, now_ms, request_id=request_id, extra=extra)
    return not extra


def _with_seed_sent(row: Any) -> dict[str, Any]:
    """Return the job's inputs and seed with the attempt's: it may have got another one since."""
    sent, inputs = json.loads(row.sent), json.loads(row.inputs)
    for name, value in inputs.items():
        if type(value) is int and value == row.seed and sent.get(name) != value:
            seed = sent.get(name)
            # The hashes are equal, so of the numbers only the seed can differ.
            kept = {key: one for key, one in inputs.items() if key != name}
            return {
                "inputs": as_stored(kept if seed is None else {**inputs, name: seed}),
                "seed": seed,
            }
    return {"inputs": row.inputs, "seed": row.seed}


class Recorded(Enum):
    """Whether an attempt is known to have been accepted under a request id."""

    NOT_YET = "the attempt waits for its request id"
    SO = "the attempt has this request id"
    OTHERWISE = "there is no such attempt, it ended otherwise, or another has the request id"


_CARRIERS = text(
    "SELECT a.state, a.request_id, b.id AS carrier FROM attempts a LEFT JOIN attempts b "
    "ON b.account_id = a.account_id AND b.request_id = :request_id WHERE a.id = :attempt_id"
)


def recorded_as(tx: Transaction, attempt_id: str, request_id: str) -> Recorded:
    """Return whether an attempt's acceptance is in the job database."""
    row = tx.row(_CARRIERS, {"attempt_id": attempt_id, "request_id": request_id})
    if row is not None and row.carrier == attempt_id:
        return Recorded.SO
    if row is None or row.carrier or row.state not in {"intent", "in_doubt", "abandoned"}:
        return Recorded.OTHERWISE
    return Recorded.NOT_YET


def as_stored(inputs: Mapping[str, Any]) -> str:
    """Return inputs as the job database holds them."""
    return json.dumps(dict(inputs), ensure_ascii=False, separators=(",", ":"))


class Regroup(Exception):
    """Not every request of a group went the usual way: do them one by one."""


@dataclass(frozen=True)
class PutBack:
    """A paid request that provably was not accepted and may be sent again."""

    job: Job
    not_before_ms: int
    error: str
    now_ms: int
    keep: bool = False  # keep the attempt as `rejected`: the service did answer
    status: int | None = None
    raw: str | None = None


_DROP = text("DELETE FROM attempts WHERE id = :attempt_id AND state IN ('intent', 'in_doubt')")
_REJECT = text(
    "UPDATE attempts SET state = 'rejected', closed_ms = :now_ms, http_status = :status, "
    "error_code = :code, error = :error, error_class = :error_class, submit_raw = :raw "
    "WHERE id = :attempt_id AND state IN ('intent', 'in_doubt')"
)
_BACK = text(
    "UPDATE jobs SET state = 'pending', owner = NULL, not_before_ms = :not_before_ms, "
    "error = :error, attempt_id = NULL, finished_ms = NULL, updated_ms = :now_ms "
    "WHERE id = :job_id AND attempt_id = :attempt_id AND state IN ('submitting', 'in_doubt')"
)


def put_back(tx: Transaction, requests: Sequence[PutBack]) -> list[None]:
    """Return jobs to `pending` after a refusal for which nothing was paid; no attempt is spent."""
    for request in requests:
        row = tx.row(_ATTEMPT, {"attempt_id": request.job.attempt_id})
        values = {
            "attempt_id": request.job.attempt_id,
            "job_id": request.job.id,
            "not_before_ms": request.not_before_ms,
            "error": request.error,
            "error_class": None,
            "code": None,
            "status": request.status,
            "raw": packed(tx, request.raw),
            "now_ms": request.now_ms,
        }
        back = tx.run(_BACK, values)
        tx.run(_REJECT if request.keep else _DROP, values)
        if back and row is not None:
            tx.moved(row.batch_id, row.job_state, "pending")
        # Tells a step back from an attempt that was removed on purpose.
        attempt_id = request.job.attempt_id
        note(tx, step_back.PUT_BACK, request.job.id, attempt_id, request.now_ms, why=request.error)
    return [None] * len(requests)


@dataclass(frozen=True)
class Refusal:
    """The service refused an attempt for good; nothing was paid."""

    job: Job
    error: str
    now_ms: int
    code: str | None = None
    status: int | None = None
    raw: str | None = None


_FAIL = text(
    "UPDATE jobs SET state = 'failed', owner = NULL, error_class = :error_class, error = :error, "
    "finished_ms = :now_ms, updated_ms = :now_ms WHERE id = :job_id AND attempt_id = :attempt_id "
    "AND state IN ('submitting', 'in_doubt')"
)


def record_refused(tx: Transaction, refusals: Sequence[Refusal]) -> list[None]:
    """Fail jobs whose inputs the service refused, unpaid."""
    for refusal in refusals:
        values = {
            "attempt_id": refusal.job.attempt_id,
            "job_id": refusal.job.id,
            "error": refusal.error,
            "error_class": str(ErrorClass.INVALID_INPUT),
            "code": refusal.code,
            "status": refusal.status,
            "raw": packed(tx, refusal.raw),
            "now_ms": refusal.now_ms,
        }
        before = tx.row(_ATTEMPT, values)
        tx.run(_REJECT, values)
        if tx.run(_FAIL, values) and before is not None:
            tx.moved(before.batch_id, before.job_state, "failed")
    return [None] * len(refusals)


@dataclass(frozen=True)
class Doubt:
    """A paid request whose answer never came."""

    job: Job
    slot_until_ms: int
    error: str
    now_ms: int
    status: int | None = None
    raw: str | None = None


_DOUBT = text(
    "UPDATE attempts SET state = 'in_doubt', slot_until_ms = :slot_until_ms, "
    "http_status = :status, error = :error, submit_raw = :raw "
    "WHERE id = :attempt_id AND state = 'intent'"
)
_DOUBT_JOB = text(
    "UPDATE jobs SET state = 'in_doubt', owner = NULL, error = :error, finished_ms = :now_ms, "
    "updated_ms = :now_ms WHERE id = :job_id AND attempt_id = :attempt_id AND state = 'submitting'"
)


def record_doubt(tx: Transaction, doubts: Sequence[Doubt]) -> list[None]:
    """Put jobs in doubt: the money stays reserved, only a person leads out."""
    for doubt in doubts:
        values = {
            "attempt_id": doubt.job.attempt_id,
            "job_id": doubt.job.id,
            "slot_until_ms": doubt.slot_until_ms,
            "error": doubt.error,
            "status": doubt.status,
            "raw": packed(tx, doubt.raw),
            "now_ms": doubt.now_ms,
        }
        moved = tx.run(_DOUBT_JOB, values)
        tx.run(_DOUBT, values)
        if moved:
            tx.moved(doubt.job.batch_id, "submitting", "in_doubt")
        note(tx, "in_doubt", doubt.job.id, doubt.job.attempt_id, doubt.now_ms, error=doubt.error)
    return [None] * len(doubts)


@dataclass(frozen=True)
class RemoteState:
    """The service's word for a running job has changed."""

    job: Job
    word: str
    queue_position: int | None
    in_progress: bool
    now_ms: int


_REMOTE = text(
    "UPDATE jobs SET remote_state = :word, queue_position = :queue_position, "
    "updated_ms = :now_ms WHERE id = :job_id AND attempt_id = :attempt_id AND state = 'running'"
)
_STARTED = text(
    "UPDATE attempts SET started_ms = :now_ms WHERE id = :attempt_id AND started_ms IS NULL"
)


def record_remote_state(tx: Transaction, changes: Sequence[RemoteState]) -> list[None]:
    """Note a changed remote word or queue position; nothing depends on it but what is shown."""
    values = [
        {
            "job_id": change.job.id,
            "attempt_id": change.job.attempt_id,
            "word": change.word,
            "queue_position": change.queue_position,
            "now_ms": change.now_ms,
        }
        for change in changes
    ]
    tx.run_many(_REMOTE, values)
    tx.run_many(
        _STARTED,
        [value for value, change in zip(values, changes, strict=True) if change.in_progress],
    )
    return [None] * len(changes)


@dataclass(frozen=True)
class Generated:
    """The service says that a generation succeeded."""

    job: Job
    worker_id: str
    urls: tuple[str, ...]
    cost_micros: int | None
    run_ms: int | None
    raw: str
    now_ms: int


_CLOSE = text(
    "UPDATE attempts SET state = :state, closed_ms = :now_ms, cost_micros = :cost_micros, "
    "charged_micros = :charged_micros, run_ms = :run_ms, result_raw = :raw, "
    "error_class = :error_class, error_code = :code, error = :error "
    "WHERE id = :attempt_id AND state = 'accepted'"
)
_GENERATED = text(
    "UPDATE jobs SET state = 'downloading', urls = :urls, remote_state = NULL, "
    "queue_position = NULL, updated_ms = :now_ms WHERE id = :job_id AND attempt_id = :attempt_id "
    "AND state = 'running' AND owner = :worker_id AND epoch = :epoch"
)
_SPEND = text(
    "INSERT INTO spending (account_id, batch_id, worker_id, spent_micros) "
    "SELECT account_id, batch_id, :worker_id, :micros FROM attempts WHERE id = :attempt_id "
    "ON CONFLICT (account_id, batch_id, worker_id) "
    "DO UPDATE SET spent_micros = spending.spent_micros + excluded.spent_micros"
)


def record_generated(tx: Transaction, results: Sequence[Generated]) -> list[bool]:
    """Close attempts as succeeded and move their jobs to `downloading`; the slots are free.

    Returns:
        For each whether the job is still this worker's; the money is booked either way.
    """
    values = [
        {
            "attempt_id": result.job.attempt_id,
            "job_id": result.job.id,
            "epoch": result.job.epoch,
            "worker_id": result.worker_id,
            "urls": json.dumps(result.urls),
            "state": "succeeded",
            "cost_micros": result.cost_micros,
            "charged_micros": _charge(result.cost_micros, result.job),
            "micros": _charge(result.cost_micros, result.job),
            "run_ms": result.run_ms,
            "raw": packed(tx, result.raw),
            "error_class": None,
            "code": None,
            "error": None,
            "now_ms": result.now_ms,
        }
        for result in results
    ]
    moved = tx.run_many(_GENERATED, values)
    if moved != len(values) and len(values) > 1:
        raise Regroup
    closed = tx.run_many(_CLOSE, values)
    if closed != len(values) and len(values) > 1:
        raise Regroup
    if closed:
        tx.run_many(_SPEND, values)
    elif moved:
        _correct(tx, values[0])
    if moved:
        for result in results:
            tx.moved(result.job.batch_id, "running", "downloading")
    return [bool(moved)] * len(results)


_CHARGED = locking("SELECT coalesce(charged_micros, 0) FROM attempts WHERE id = :attempt_id")
_CORRECT = text(
    "UPDATE attempts SET state = 'succeeded', closed_ms = :now_ms, cost_micros = :cost_micros, "
    "charged_micros = :charged_micros, run_ms = :run_ms, result_raw = :raw, error_class = NULL, "
    "error_code = NULL, error = NULL WHERE id = :attempt_id AND state IN ('failed', 'cancelled')"
)


def _correct(tx: Transaction, values: Mapping[str, Any]) -> None:
    """Let a clip that is there win over an end that another worker was told before."""
    booked = tx.value(_CHARGED, values)
    if tx.run(_CORRECT, values):
        tx.run(_SPEND, {**values, "micros": values["charged_micros"] - booked})


def _charge(cost_micros: int | None, job: Job) -> int:
    return job.est_micros if cost_micros is None else cost_micros


@dataclass(frozen=True)
class NewSeed:
    """What is sent when a job is bought again with another seed."""

    inputs: Mapping[str, Any]
    seed: int


@dataclass(frozen=True)
class Ended:
    """A generation ended without a clip: failed, cancelled or lost.

    Attributes:
        state: The attempt's end: failed | cancelled.
        retry_at_ms: When the job may be bought again; None if it may not.
        new_seed: What is sent then; None is the same again.
    """

    job: Job
    worker_id: str
    state: str
    error_class: ErrorClass | None
    error: str
    code: str | None
    cost_micros: int | None
    raw: str | None
    retry_at_ms: int | None
    now_ms: int
    new_seed: NewSeed | None = None


# The input hash stays: it is of what the user asked for.
_AGAIN = text(
    "UPDATE jobs SET state = 'pending', owner = NULL, retries_used = retries_used + :retries, "
    "policy_retries_used = policy_retries_used + :policy_retries, "
    "inputs = coalesce(:inputs, inputs), seed = coalesce(:seed, seed), "
    "not_before_ms = :retry_at_ms, error = :error, error_class = NULL, attempt_id = NULL, "
    "remote_state = NULL, queue_position = NULL, updated_ms = :now_ms "
    "WHERE id = :job_id AND state = 'running' AND owner = :worker_id AND epoch = :epoch"
)
_END = text(
    "UPDATE jobs SET state = :job_state, owner = NULL, error = :error, "
    "error_class = :error_class, remote_state = NULL, queue_position = NULL, "
    "finished_ms = :now_ms, updated_ms = :now_ms "
    "WHERE id = :job_id AND state = 'running' AND owner = :worker_id AND epoch = :epoch"
)


def record_ended(tx: Transaction, ends: Sequence[Ended]) -> list[bool]:
    """Close attempts that gave no clip; fail or cancel their jobs, or let them be bought again.

    A failed attempt whose cost the service did not state counts with its estimate: whether
    failures are charged is not documented. A cancelled one counts only what is stated.
    """
    return [_record_ended(tx, end) for end in ends]


def _record_ended(tx: Transaction, end: Ended) -> bool:
    charged = (
        end.cost_micros or 0 if end.state == "cancelled" else _charge(end.cost_micros, end.job)
    )
    job_state = "pending" if end.retry_at_ms is not None else end.state
    by_policy = end.error_class is ErrorClass.MODERATION
    new = end.new_seed
    values = {
        "attempt_id": end.job.attempt_id,
        "job_id": end.job.id,
        "epoch": end.job.epoch,
        "worker_id": end.worker_id,
        "state": end.state,
        "job_state": job_state,
        "cost_micros": end.cost_micros,
        "charged_micros": charged,
        "micros": charged,
        "run_ms": None,
        "raw": packed(tx, end.raw),
        "error_class": None if end.error_class is None else str(end.error_class),
        "code": end.code,
        "error": end.error,
        "retry_at_ms": end.retry_at_ms,
        "retries": int(not by_policy),
        "policy_retries": int(by_policy),
        "inputs": None if new is None else as_stored(new.inputs),
        "seed": None if new is None else new.seed,
        "now_ms": end.now_ms,
    }
    moved = tx.run(_END if end.retry_at_ms is None else _AGAIN, values)
    if tx.run(_CLOSE, values) and charged:
        tx.run(_SPEND, values)
    if moved:
        tx.moved(end.job.batch_id, "running", job_state)
    said = {"error": end.error, "code": end.code}
    if moved and new is not None:
        said["new_seed"] = str(new.seed)
    note(tx, end.state, end.job.id, end.job.attempt_id, end.now_ms, **said)
    return bool(moved)


@dataclass(frozen=True)
class LateCost:
    """The service stated a cost only after the end."""

    job: Job
    worker_id: str
    cost_micros: int
    raw: str


_COST = text(
    "UPDATE attempts SET cost_micros = :cost_micros, charged_micros = :cost_micros, "
    "result_raw = :raw WHERE id = :attempt_id AND cost_micros IS NULL "
    f"AND NOT {is_live()}"
)


def record_cost(tx: Transaction, costs: Sequence[LateCost]) -> list[None]:
    """Replace an estimate that was booked as spent by what the service states now."""
    for cost in costs:
        values = {
            "attempt_id": cost.job.attempt_id,
            "cost_micros": cost.cost_micros,
            "raw": packed(tx, cost.raw),
            "worker_id": cost.worker_id,
        }
        before = tx.value(_CHARGED, values)
        if tx.run(_COST, values):
            tx.run(_SPEND, {**values, "micros": cost.cost_micros - before})
    return [None] * len(costs)


@dataclass(frozen=True)
class TimedOut:
    """A job has run longer than `--job-timeout`."""

    job: Job
    now_ms: int


_TIMED_OUT = text(
    "UPDATE attempts SET slot_until_ms = :now_ms WHERE id = :attempt_id AND state = 'accepted'"
)


def record_timed_out(tx: Transaction, timeouts: Sequence[TimedOut]) -> list[None]:
    """Free the slots of jobs that are past their timeout; they stay `running`."""
    for timeout in timeouts:
        job = timeout.job
        tx.run(_TIMED_OUT, {"attempt_id": job.attempt_id, "now_ms": timeout.now_ms})
        note(tx, "timed_out", job.id, job.attempt_id, timeout.now_ms)
    return [None] * len(timeouts)


@dataclass(frozen=True)
class Finish:
    """Every output of a job is on disk, whole."""

    job: Job
    worker_id: str
    files: tuple[dict[str, Any], ...]  # path, url, sha256, size_bytes
    now_ms: int


_FINISH = text(
    "UPDATE jobs SET state = 'succeeded', owner = NULL, files = :files, error = NULL, "
    "error_class = NULL, finished_ms = :now_ms, updated_ms = :now_ms "
    "WHERE id = :job_id AND state = 'downloading' AND owner = :worker_id AND epoch = :epoch"
)


def finish(tx: Transaction, finishes: Sequence[Finish]) -> list[bool]:
    """Move jobs from `downloading` to `succeeded`; False if one is not this worker's any more.

    A decision, so it is fenced by the owner and the epoch of the claim.
    """
    values = [
        {
            "job_id": done.job.id,
            "worker_id": done.worker_id,
            "epoch": done.job.epoch,
            "files": json.dumps(done.files),
            "now_ms": done.now_ms,
        }
        for done in finishes
    ]
    moved = tx.run_many(_FINISH, values)
    if moved != len(values) and len(values) > 1:
        raise Regroup
    if moved:
        for done in finishes:
            tx.moved(done.job.batch_id, "downloading", "succeeded")
    return [bool(moved)] * len(values)


@dataclass(frozen=True)
class DownloadTrouble:
    """A clip could not be fetched.

    Attributes:
        link_dead: A fresh link was refused.
        expired: Fresh links failed for long enough: the clip is lost.
    """

    job: Job
    worker_id: str
    error: str
    now_ms: int
    link_dead: bool = False
    expired: bool = False


_TROUBLE = text(
    "UPDATE jobs SET state = :state, error = :error, "
    "finished_ms = :finished_ms, updated_ms = :now_ms, "
    "owner = CASE WHEN :state = 'expired' THEN NULL ELSE owner END "
    "WHERE id = :job_id AND state = 'downloading' AND owner = :worker_id AND epoch = :epoch"
)


_DEAD_SINCE = text(
    "SELECT min(at_ms) FROM events WHERE job_id = :job_id AND attempt_id = :attempt_id "
    "AND kind = 'link_dead' AND id > (SELECT coalesce(max(id), 0) FROM events "
    "WHERE job_id = :job_id AND kind = 'download_again')"
)


def record_download_trouble(
    tx: Transaction, troubles: Sequence[DownloadTrouble]
) -> list[int | None]:
    """Note why a clip is not on disk yet; expire the job if it never will be.

    Returns:
        For each since when its links are known to be dead, in epoch milliseconds.
    """
    return [_record_download_trouble(tx, trouble) for trouble in troubles]


def _record_download_trouble(tx: Transaction, trouble: DownloadTrouble) -> int | None:
    job = trouble.job
    moved = tx.run(
        _TROUBLE,
        {
            "job_id": job.id,
            "worker_id": trouble.worker_id,
            "epoch": job.epoch,
            "state": "expired" if trouble.expired else "downloading",
            "error": trouble.error,
            "finished_ms": trouble.now_ms if trouble.expired else None,
            "now_ms": trouble.now_ms,
        },
    )
    if moved and trouble.expired:
        tx.moved(job.batch_id, "downloading", "expired")
        note(tx, "expired", job.id, job.attempt_id, trouble.now_ms, error=trouble.error)
    since_ms = tx.value(_DEAD_SINCE, {"job_id": job.id, "attempt_id": job.attempt_id})
    if since_ms is None and trouble.link_dead:
        note(tx, "link_dead", job.id, job.attempt_id, trouble.now_ms, error=trouble.error)
        since_ms = trouble.now_ms
    return None if since_ms is None else int(since_ms)


@dataclass(frozen=True)
class Freeze:
    """Everybody of an account waits: the service refused an attempt for now."""

    account_id: int
    until_ms: int
    now_ms: int
    attempt_id: str = ""


_FREEZE = text(
    "UPDATE accounts SET frozen_until_ms = :until_ms WHERE id = :account_id "
    "AND (frozen_until_ms < :until_ms OR frozen_until_ms > :believed_ms)"
)


def freeze(tx: Transaction, freezes: Sequence[Freeze]) -> list[None]:
    """Let no worker of the account submit before a moment; with `-j auto`, let less through."""
    for request in freezes:
        row = lock_adapting(tx, request.account_id)
        if row is not None:
            now_ms = tx.now_ms() if tx.is_postgresql else request.now_ms
            refused(
                tx,
                row,
                account_id=request.account_id,
                attempt_id=request.attempt_id,
                live=tx.value(_LIVE, {"account_id": request.account_id, "now_ms": now_ms}),
                now_ms=now_ms,
            )
        values = {
            "account_id": request.account_id,
            "until_ms": request.until_ms,
            "believed_ms": request.now_ms + LONGEST_FREEZE_MS,
        }
        tx.run(_FREEZE, values)
    return [None] * len(freezes)


@dataclass(frozen=True)
class ShortenDoubts:
    """How long a doubt of an account holds its slot, now that durations are known."""

    account_id: int
    slot_ms: int


_SHORTEN = text(
    "UPDATE attempts SET slot_until_ms = intent_ms + :slot_ms WHERE account_id = :account_id "
    "AND state = 'in_doubt' AND slot_until_ms > intent_ms + :slot_ms"
)


def shorten_doubts(tx: Transaction, requests: Sequence[ShortenDoubts]) -> list[int]:
    """Free the slots of doubts earlier; return how many were shortened. The money stays held."""
    return [
        tx.run(_SHORTEN, {"account_id": request.account_id, "slot_ms": request.slot_ms})
        for request in requests
    ]


def spend(tx: Transaction, attempt_id: str, worker_id: str, micros: int) -> None:
    """Book money against the batch of an attempt, in a worker's shard."""
    tx.run(_SPEND, {"attempt_id": attempt_id, "worker_id": worker_id, "micros": micros})


_FREE = (
    f"SELECT {_COLUMNS}, a.request_id, a.accepted_ms, a.started_ms, a.cost_micros, "
    "a.est_micros AS reserved_micros "
    "FROM jobs j JOIN batches b ON b.id = j.batch_id JOIN attempts a ON a.id = j.attempt_id "
    "WHERE b.account_id = :account_id AND j.owner IS NULL "
    f"AND {is_owned('j')} "
    "AND j.state <> 'submitting' AND (:downloads = 1 OR j.state = 'running') "
)
_ORPHANS = locking(_FREE + "ORDER BY j.id LIMIT :wanted", of="j", skip_locked=True)
_ORPHAN = locking(_FREE + "AND j.id = :job_id", of="j", skip_locked=True)
_ADOPT = text(
    "UPDATE jobs SET owner = :worker_id, epoch = epoch + 1, updated_ms = :now_ms "
    "WHERE id = :job_id AND owner IS NULL AND epoch = :epoch"
)


@dataclass(frozen=True)
class AdoptRequest:
    """A worker has room for paid jobs that nobody holds."""

    worker_id: str
    account_id: int
    wanted: int
    downloads: bool
    now_ms: int
    rested: frozenset[int] = frozenset()  # this session has done with them what it can
    job_id: int | None = None  # only this one


def adopt(tx: Transaction, requests: Sequence[AdoptRequest]) -> list[tuple[Job, ...]]:
    """Take over paid jobs (`running`, `downloading`) that no live worker holds; nothing is sent."""
    return [_adopt(tx, request) for request in requests]


def _adopt(tx: Transaction, request: AdoptRequest) -> tuple[Job, ...]:
    # A worker is buried once: what it took over after that would never be free again.
    if tx.row(_ALIVE, {"worker_id": request.worker_id}) is None:
        return ()
    rows = tx.rows(
        _ORPHANS if request.job_id is None else _ORPHAN,
        {
            "account_id": request.account_id,
            "downloads": int(request.downloads),
            "wanted": request.wanted + len(request.rested),
            "job_id": request.job_id,
        },
    )
    adopted = []
    for row in [row for row in rows if row.id not in request.rested][: request.wanted]:
        taken = tx.run(
            _ADOPT,
            {
                "worker_id": request.worker_id,
                "now_ms": request.now_ms,
                "job_id": row.id,
                "epoch": row.epoch,
            },
        )
        if taken:
            adopted.append(
                _job(
                    row,
                    epoch=row.epoch + 1,
                    est_micros=row.reserved_micros,
                    request_id=row.request_id,
                    accepted_ms=row.accepted_ms,
                    started_ms=row.started_ms,
                    is_adopted=True,
                    is_costed=row.cost_micros is not None,
                )
            )
    return tuple(adopted)
