"""Sessions: which runs there were, how each ended, and how fast they went."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.store.backend import Backend
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_NEWEST_ATTEMPTS = 2000  # enough to tell a rate, and read at once

_SELECT = (
    "SELECT s.id, s.worker_id, s.command, s.started_ms, s.ended_ms, s.exit_code, s.reasons, "
    "w.host, w.pid, w.version, w.state, w.seen_ms, w.expires_ms "
    "FROM sessions s LEFT JOIN workers w ON w.id = s.worker_id "
)
_NEWEST = text(f"{_SELECT}ORDER BY s.id DESC LIMIT :most")
_OPEN = text(f"{_SELECT}WHERE s.ended_ms IS NULL AND w.state = 'live' ORDER BY s.id DESC")
_BEGINNING = text(f"{_SELECT}WHERE s.id >= :said AND s.id < :beyond ORDER BY s.id DESC LIMIT 2")


@dataclass(frozen=True)
class Session:
    """One invocation of `run`; times in epoch milliseconds.

    Attributes:
        lives: Whether its worker is at work.
        exit_code: None if it has not ended, or died.
        reasons: Why it ended, the reason for the code first.
        host: None if its worker is not known any more.
        seen_ms: When its worker gave a sign of life last.
    """

    id: str
    worker_id: str
    command: str
    started_ms: int
    ended_ms: int | None
    exit_code: int | None
    reasons: tuple[str, ...]
    host: str | None
    pid: int | None
    version: str | None
    seen_ms: int | None
    lives: bool

    @property
    def has_died(self) -> bool:
        """Whether it neither ended nor lives."""
        return self.ended_ms is None and not self.lives

    def lasted_ms(self, now_ms: int) -> int:
        """Return how long it took, so far or until it was seen last."""
        until_ms = self.ended_ms or (now_ms if self.lives else self.seen_ms) or self.started_ms
        return max(0, until_ms - self.started_ms)


def newest(tx: Transaction, backend: Backend, *, most: int) -> list[Session]:
    """Return the sessions that began last, the newest first."""
    now_ms = tx.now_ms()
    return [_session(row, backend, now_ms) for row in tx.rows(_NEWEST, {"most": most})]


def living(tx: Transaction, backend: Backend) -> list[Session]:
    """Return the sessions that are at work, the newest first."""
    now_ms = tx.now_ms()
    found = [_session(row, backend, now_ms) for row in tx.rows(_OPEN)]
    return [session for session in found if session.lives]


def beginning(tx: Transaction, backend: Backend, said: str) -> list[Session]:
    """Return the sessions whose ids begin like that, two at most."""
    now_ms = tx.now_ms()
    rows = tx.rows(_BEGINNING, {"said": said, "beyond": said + "g"})
    return [_session(row, backend, now_ms) for row in rows]


def _session(row: Any, backend: Backend, now_ms: int) -> Session:
    values = dict(row._mapping)
    state, expires_ms = values.pop("state"), values.pop("expires_ms")
    values["reasons"] = tuple(json.loads(row.reasons)) if row.reasons else ()
    values["lives"] = (
        values["ended_ms"] is None
        and state == "live"
        and backend.is_alive(values["worker_id"], expires_ms=expires_ms, now_ms=now_ms)
    )
    return Session(**values)


_CONCLUDE = text(
    "UPDATE sessions SET exit_code = :exit_code, reasons = :reasons WHERE id = :session_id"
)


def conclude(tx: Transaction, session_id: str, *, exit_code: int, reasons: Sequence[str]) -> None:
    """Record with which code the program ends, and why, once that is judged."""
    tx.run(
        _CONCLUDE,
        {"session_id": session_id, "exit_code": exit_code, "reasons": json.dumps(list(reasons))},
    )


_ATTEMPTS = text(
    "SELECT worker_id, state, intent_ms, closed_ms FROM attempts ORDER BY id DESC LIMIT :most"
)


@dataclass(frozen=True)
class Pace:
    """How fast something went.

    Attributes:
        ended: Generations that ended, well or badly.
        over_ms: In how long.
    """

    ended: int
    over_ms: int

    def takes_s(self, jobs: int) -> float | None:
        """Return how many seconds so many jobs would take; None if nothing has ended yet."""
        if not self.ended or self.over_ms <= 0:
            return None
        return jobs * self.over_ms / self.ended / 1000


def pace(tx: Transaction, workers: Collection[str], *, since_ms: int, until_ms: int) -> Pace:
    """Return how fast workers went, by the newest requests that they made.

    Args:
        tx: A reading transaction.
        workers: Theirs count, nobody else's.
        since_ms: When they began.
        until_ms: When they ended, or now.
    """
    rows = tx.rows(_ATTEMPTS, {"most": _NEWEST_ATTEMPTS})
    mine = [row for row in rows if row.worker_id in workers]
    if not mine:
        return Pace(0, 0)
    # Ids sort by time: where all of these are theirs, older ones are left out on both sides.
    begin_ms = mine[-1].intent_ms if len(rows) == _NEWEST_ATTEMPTS else since_ms
    ended = sum(1 for row in mine if row.state in ("succeeded", "failed", "cancelled"))
    return Pace(ended, max(0, until_ms - max(begin_ms, since_ms)))
