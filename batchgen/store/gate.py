"""How much an account's gate lets through: slots, submits a second, and what `-j auto` learned.

Everything here happens while the account's row is locked, so that several workers share one
cap, one bucket and one memory.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from batchgen.domain import adapting
from batchgen.domain.adapting import Limit
from batchgen.store.statements import locking, text
from batchgen.store.transactions import Transaction

_BURST_MS = 200  # more at once would exceed a service's own second by as much


@dataclass(frozen=True)
class Bucket:
    """The submits that a rate allows now.

    Kept as one moment: when the bucket was last empty. It holds what comes in 200 ms, at least
    one submit: a second's worth at once, and then again one after the other, would be twice the
    rate to a service that counts any second.
    """

    rate_per_s: float
    empty_ms: int
    now_ms: int

    @classmethod
    def of(cls, rate_per_s: float, empty_ms: int | None, now_ms: int) -> "Bucket":
        """Return the bucket as it stands at a moment."""
        # Empty in the future is what a clock that was set back leaves.
        since_ms = min(empty_ms or 0, now_ms)
        full_ms = max(_BURST_MS, math.ceil(1000 / rate_per_s))
        return cls(rate_per_s, max(since_ms, now_ms - full_ms), now_ms)

    @property
    def tokens(self) -> int:
        """How many submits may go now."""
        return max(0, math.floor((self.now_ms - self.empty_ms) * self.rate_per_s / 1000))

    def after(self, taken: int) -> int:
        """Return when the bucket will have been empty, or when so many have come in."""
        return self.empty_ms + math.ceil(1000 * taken / self.rate_per_s)


@dataclass(frozen=True)
class Gate:
    """What an account allows at a moment.

    Attributes:
        account_id: The account, whose row is locked.
        cap: Jobs in flight over all workers.
        live: How many there are.
        bucket: Submits a second over all workers; None has no bound.
        rate_per_s: The user's bound on them.
        state: What `-j auto` has learned; None if the cap is fixed.
        most: What `-j auto` never raises the cap above.
    """

    account_id: int
    cap: int
    live: int
    bucket: Bucket | None
    rate_per_s: float | None = None
    state: adapting.State | None = None
    most: int = 0

    @classmethod
    def of(cls, row: Any, *, account_id: int, live: int, now_ms: int) -> "Gate":
        """Return the gate of an account's row."""
        state = None if row.auto_max is None else adapting.load(row.adapting, cap=row.cap)
        rate_per_s = _slower(row.rate_per_s, None if state is None else state.pace)
        return cls(
            account_id,
            cap=row.cap,
            live=live,
            bucket=None if rate_per_s is None else Bucket.of(rate_per_s, row.empty_ms, now_ms),
            rate_per_s=row.rate_per_s,
            state=state,
            most=row.auto_max or 0,
        )

    def room(self, wanted: int) -> int:
        """How many of `wanted` jobs may be submitted now."""
        room = min(wanted, self.cap - self.live)
        if self.bucket is not None:
            room = min(room, self.bucket.tokens)
        return max(0, room)

    def binds(self, wanted: int) -> Limit:
        """Return what keeps so many jobs from being submitted now."""
        slots = max(0, self.cap - self.live)
        if self.bucket is not None and self.bucket.tokens < min(wanted, slots):
            return Limit.RATE
        return Limit.JOBS if slots < wanted else Limit.NEITHER

    def next_ms(self, wanted: int, taken: int) -> int:
        """Return when the next submit may go, 0 if it is not the rate that it waits for."""
        if self.bucket is None or self.binds(wanted) is not Limit.RATE:
            return 0
        return self.bucket.after(taken + 1)

    def may_rise(self, now_ms: int) -> bool:
        """Whether the cap would rise for what goes well now."""
        return self.state is not None and self.state.may_rise(self.most, now_ms)


def _slower(one: float | None, other: float | None) -> float | None:
    return min((rate for rate in (one, other) if rate is not None), default=None)


_SPEND_TOKENS = text("UPDATE accounts SET empty_ms = :empty_ms WHERE id = :account_id")
_ADAPT = text("UPDATE accounts SET cap = :cap, adapting = :adapting WHERE id = :account_id")
# Accepted, looked at, and not begun.
_QUEUED = text(
    "SELECT count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id AND j.attempt_id = a.id "
    "WHERE a.account_id = :account_id AND a.state = 'accepted' AND a.slot_until_ms IS NULL "
    "AND a.started_ms IS NULL AND j.remote_state IS NOT NULL"
)
# The newest attempts by their ids, which sort by time: no index has their times. A generation
# ended when the service says, which is before anybody has noticed.
_SENT = text(
    "SELECT id, state, intent_ms, accepted_ms, closed_ms, slot_until_ms, run_ms FROM "
    "(SELECT id, state, intent_ms, accepted_ms, closed_ms, slot_until_ms, run_ms, account_id "
    " FROM attempts ORDER BY id DESC LIMIT :remembered) newest WHERE account_id = :account_id"
)
_ADAPTING = locking(
    "SELECT cap, auto_max, adapting, rate_per_s FROM accounts "
    "WHERE id = :account_id AND auto_max IS NOT NULL"
)


def spend(tx: Transaction, gate: Gate, taken: int) -> None:
    """Take the tokens of so many submits."""
    if gate.bucket is not None:
        values = {"account_id": gate.account_id, "empty_ms": gate.bucket.after(taken)}
        tx.run(_SPEND_TOKENS, values)


def grown(
    tx: Transaction, gate: Gate, *, wanted: int, accepted: int, ended: int, now_ms: int
) -> Gate:
    """Return a gate with its limits raised for what went well since a worker's last claim."""
    if gate.state is None:
        return gate
    seen = adapting.Progress(
        now_ms,
        binds=gate.binds(wanted),
        accepted=accepted,
        ended=ended,
        most=gate.most,
        most_pace=gate.rate_per_s,
    )
    state = adapting.grow(gate.state, seen)
    if state.cap > gate.cap:
        queued = tx.value(_QUEUED, {"account_id": gate.account_id})
        if 2 * queued > gate.live:
            state = adapting.grow(gate.state, replace(seen, is_queueing=True))
    bucket = gate.bucket
    rate_per_s = _slower(gate.rate_per_s, state.pace)
    if bucket is not None and rate_per_s is not None:
        bucket = Bucket.of(rate_per_s, bucket.empty_ms, now_ms)
    return replace(gate, cap=state.cap, bucket=bucket, state=state)


def save(tx: Transaction, gate: Gate) -> None:
    """Store what has been learned."""
    if gate.state is None:
        return
    tx.run(
        _ADAPT,
        {
            "account_id": gate.account_id,
            "cap": gate.state.cap,
            "adapting": adapting.dump(gate.state),
        },
    )


def lock_adapting(tx: Transaction, account_id: int) -> Any:
    """Lock the row of an account whose cap moves by itself; None if it is fixed."""
    return tx.row(_ADAPTING, {"account_id": account_id})


def refused(
    tx: Transaction, row: Any, *, account_id: int, attempt_id: str, live: int, now_ms: int
) -> None:
    """Lower what the refusal of an attempt is about; `row` is that of `lock_adapting`."""
    state = adapting.load(row.adapting, cap=row.cap)
    remembered = max(adapting.REMEMBERED, 4 * row.cap)
    found = tx.rows(_SENT, {"account_id": account_id, "remembered": remembered})
    claimed_ms = next((one.intent_ms for one in found if one.id == attempt_id), now_ms)
    refusal = adapting.Refusal(
        now_ms,
        claimed_ms=claimed_ms,
        live=live,
        sent=[
            adapting.Sent(one.accepted_ms, _ended_ms(one, now_ms))
            for one in found
            if one.accepted_ms is not None
        ],
        most_pace=row.rate_per_s,
    )
    less = adapting.shrink(state, refusal)
    if less != state:
        values = {"account_id": account_id, "cap": less.cap, "adapting": adapting.dump(less)}
        tx.run(_ADAPT, values)


def _ended_ms(attempt: Any, now_ms: int) -> int | None:
    """Return when an accepted attempt freed its slot at the service; None if it has not."""
    if attempt.run_ms is not None:
        return int(min(attempt.accepted_ms + attempt.run_ms, attempt.closed_ms or now_ms))
    if attempt.closed_ms is not None:
        return int(attempt.closed_ms)
    if attempt.slot_until_ms is not None and attempt.slot_until_ms <= now_ms:
        return int(attempt.slot_until_ms)
    return None
