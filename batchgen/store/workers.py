"""Workers: who lives, and what becomes of the jobs of the dead.

On SQLite a worker lives while it holds its lock file; nothing is timed. On PostgreSQL it lives
while its lease lasts, on the server's clock.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchgen.domain.states import JobState
from batchgen.store.backend import Backend
from batchgen.store.events import note
from batchgen.store.predicates import is_owned
from batchgen.store.statements import Statement, locking, text
from batchgen.store.transactions import Transaction

_REGISTER = text(
    "INSERT INTO workers (id, host, pid, version, state, started_ms, seen_ms, expires_ms) "
    "VALUES (:worker_id, :host, :pid, :version, 'live', :now_ms, :now_ms, :expires_ms)"
)
_BEAT = text(
    "UPDATE workers SET seen_ms = :now_ms, expires_ms = :expires_ms "
    "WHERE id = :worker_id AND state = 'live'"
)
_OTHERS = text(
    "SELECT id, expires_ms FROM workers WHERE state = 'live' AND id <> :worker_id ORDER BY id"
)
_BURY = Statement(
    "UPDATE workers SET state = 'dead' WHERE id = :dead AND state = 'live'",
    # A worker in the middle of a transaction holds its row, and lives.
    "UPDATE workers SET state = 'dead' WHERE id = (SELECT id FROM workers WHERE id = :dead "
    "AND state = 'live' AND (expires_ms <= :now_ms OR :leaves) FOR NO KEY UPDATE SKIP LOCKED)",
)
_HOSTS = text("SELECT DISTINCT host FROM workers")
_DOUBTS = locking(
    "SELECT j.id, j.batch_id, j.attempt_id FROM jobs j "
    "WHERE j.owner = :dead AND j.state = 'submitting' ORDER BY j.id"
)
_DOUBT = text(
    "UPDATE attempts SET state = 'in_doubt', slot_until_ms = :slot_until_ms, error = :error "
    "WHERE id = :attempt_id AND state = 'intent'"
)
_DOUBT_JOB = text(
    "UPDATE jobs SET state = 'in_doubt', owner = NULL, epoch = epoch + 1, error = :error, "
    "finished_ms = :now_ms, updated_ms = :now_ms WHERE id = :job_id AND state = 'submitting'"
)
_RELEASE = text(
    "UPDATE jobs SET owner = NULL, epoch = epoch + 1 "
    f"WHERE owner = :worker_id AND {is_owned()} "
    "AND state <> 'submitting'"
)
# The newest first, until there are enough: by the index of accounts all would have to be sorted.
_LONGEST = text(
    "SELECT max(run_ms) FROM (SELECT run_ms FROM attempts "
    "WHERE account_id + 0 = :account_id AND state = 'succeeded' "
    "ORDER BY id DESC LIMIT 200) AS newest"
)
_CRASHED = "the worker died between sending the request and recording its answer"


@dataclass(frozen=True)
class WorkerInfo:
    """A process that submits, polls and downloads."""

    id: str
    host: str
    pid: int
    version: str
    lease_ms: int


def register(tx: Transaction, worker: WorkerInfo) -> None:
    """Make a worker known before it claims anything."""
    now_ms = tx.now_ms()
    tx.run(
        _REGISTER,
        {
            "worker_id": worker.id,
            "host": worker.host,
            "pid": worker.pid,
            "version": worker.version,
            "now_ms": now_ms,
            "expires_ms": now_ms + worker.lease_ms,
        },
    )


@dataclass(frozen=True)
class Beat:
    """A sign of life."""

    worker_id: str
    lease_ms: int


@dataclass(frozen=True)
class Pulse:
    """What a sign of life was answered with.

    Attributes:
        alive: False if the worker has been declared dead.
        now_ms: The job database's clock.
    """

    alive: bool
    now_ms: int


def beat(tx: Transaction, beats: Sequence[Beat]) -> list[Pulse]:
    """Renew workers' leases, unless they have been declared dead."""
    now_ms = tx.now_ms()
    return [
        Pulse(
            bool(
                tx.run(
                    _BEAT,
                    {
                        "worker_id": one.worker_id,
                        "now_ms": now_ms,
                        "expires_ms": now_ms + one.lease_ms,
                    },
                )
            ),
            now_ms,
        )
        for one in beats
    ]


_STATE = text("SELECT state, expires_ms FROM workers WHERE id = :worker_id")


def has_ended(tx: Transaction, backend: Backend, worker_id: str) -> bool:
    """Return whether a worker has left, has been declared dead, or ought to be."""
    row = tx.row(_STATE, {"worker_id": worker_id})
    expires_ms = None if row is None else row.expires_ms if row.state == "live" else 0
    return not backend.is_alive(worker_id, expires_ms=expires_ms, now_ms=tx.now_ms())


def living(tx: Transaction, backend: Backend, *, but: str = "") -> list[str]:
    """Return the ids of the workers that live, except one."""
    return [worker for worker, lives in _known(tx, backend, but) if lives]


def fallen(tx: Transaction, backend: Backend, *, but: str) -> list[str]:
    """Return the ids of workers that have died and are not known to be dead yet."""
    return [worker for worker, lives in _known(tx, backend, but) if not lives]


def _known(tx: Transaction, backend: Backend, but: str) -> list[tuple[str, bool]]:
    now_ms = tx.now_ms()
    return [
        (row.id, backend.is_alive(row.id, expires_ms=row.expires_ms, now_ms=now_ms))
        for row in tx.rows(_OTHERS, {"worker_id": but})
    ]


@dataclass(frozen=True)
class Seen:
    """A worker that is not known to be dead.

    Attributes:
        lives: False if it has died and nobody has taken its jobs over yet.
        expires_ms: When its lease ends, None if it lives as long as it holds a lock.
        held: Jobs that are its own, by state.
    """

    id: str
    host: str
    pid: int
    version: str
    started_ms: int
    seen_ms: int
    lives: bool
    expires_ms: int | None
    held: dict[JobState, int]


_SEEN = text("SELECT * FROM workers WHERE state = 'live' ORDER BY started_ms, id")
_HELD = text(
    f"SELECT owner, state, count(*) AS jobs FROM jobs WHERE {is_owned()} GROUP BY owner, state"
)


def seen(tx: Transaction, backend: Backend) -> list[Seen]:
    """Return the workers that are not known to be dead, the oldest first."""
    now_ms = tx.now_ms()
    held = _held(tx)
    return [
        Seen(
            id=row.id,
            host=row.host,
            pid=row.pid,
            version=row.version,
            started_ms=row.started_ms,
            seen_ms=row.seen_ms,
            lives=backend.is_alive(row.id, expires_ms=row.expires_ms, now_ms=now_ms),
            expires_ms=row.expires_ms if backend.is_remote else None,
            held=held.get(row.id, {}),
        )
        for row in tx.rows(_SEEN)
    ]


def unheld(tx: Transaction) -> dict[JobState, int]:
    """Return how many paid jobs nobody holds, by state."""
    return _held(tx).get(None, {})


def _held(tx: Transaction) -> dict[str | None, dict[JobState, int]]:
    found: dict[str | None, dict[JobState, int]] = {}
    for row in tx.rows(_HELD):
        found.setdefault(row.owner, {})[JobState(row.state)] = row.jobs
    return found


def not_living(tx: Transaction, ids: Iterable[str]) -> list[str]:
    """Return which of these workers are known to be dead, or are not known."""
    living = {row.id for row in tx.rows(_OTHERS, {"worker_id": ""})}
    return [worker for worker in ids if worker not in living]


def hosts(tx: Transaction) -> set[str]:
    """Return the hosts that any worker ever ran on."""
    return {row.host for row in tx.rows(_HOSTS)}


def longest_generation_ms(tx: Transaction, account_id: int) -> int | None:
    """Return the longest of the newest 200 generations, from acceptance to end, if there is one."""
    longest = tx.value(_LONGEST, {"account_id": account_id})
    return None if longest is None else int(longest)


def bury(
    tx: Transaction, dead: str, *, slot_ms: int, now_ms: int, leaves: bool = False
) -> int | None:
    """Declare a worker dead and take its jobs from it; return how many came in doubt.

    What it was submitting is in doubt: the request may have been accepted. What it was
    polling or downloading is free for adoption, without another payment. On PostgreSQL a
    worker that has renewed its lease meanwhile is left alone, unless it leaves by itself.

    Returns:
        None if the worker lives after all, or somebody else has done it.
    """
    if not tx.run(_BURY, {"dead": dead, "now_ms": tx.now_ms(), "leaves": leaves}):
        return None
    doubts = 0
    for row in tx.rows(_DOUBTS, {"dead": dead}):
        values = {
            "attempt_id": row.attempt_id,
            "job_id": row.id,
            "slot_until_ms": now_ms + slot_ms,
            "error": _CRASHED,
            "now_ms": now_ms,
        }
        # Its answer may be recorded at this very moment: then there is nothing to doubt.
        if not tx.run(_DOUBT, values) or not tx.run(_DOUBT_JOB, values):
            continue
        doubts += 1
        tx.moved(row.batch_id, "submitting", "in_doubt")
        note(tx, "in_doubt", row.id, row.attempt_id, now_ms, error=_CRASHED, worker=dead)
    release(tx, dead)
    return doubts


def release(tx: Transaction, worker_id: str) -> int:
    """Free the paid jobs of a worker for adoption, its decisions void; return how many."""
    return tx.run(_RELEASE, {"worker_id": worker_id})


@dataclass(frozen=True)
class Leave:
    """A worker ends in good order."""

    worker_id: str
    session_id: str
    exit_code: int
    reasons: tuple[str, ...]
    slot_ms: int
    now_ms: int


_END_SESSION = text(
    "UPDATE sessions SET ended_ms = :now_ms, exit_code = :exit_code, reasons = :reasons "
    "WHERE id = :session_id"
)
_BEGIN_SESSION = text(
    "INSERT INTO sessions (id, worker_id, command, started_ms) "
    "VALUES (:session_id, :worker_id, :command, :now_ms)"
)


def begin_session(
    tx: Transaction, session_id: str, worker_id: str, command: str, *, now_ms: int
) -> None:
    """Note that a `run` begins."""
    tx.run(
        _BEGIN_SESSION,
        {
            "session_id": session_id,
            "worker_id": worker_id,
            "command": command,
            "now_ms": now_ms,
        },
    )


def leave(tx: Transaction, requests: Sequence[Leave]) -> list[int]:
    """End workers and their sessions; what they still hold is treated as after a death."""
    doubts = []
    for request in requests:
        doubts.append(
            bury(
                tx,
                request.worker_id,
                slot_ms=request.slot_ms,
                now_ms=request.now_ms,
                leaves=True,
            )
            or 0
        )
        tx.run(
            _END_SESSION,
            {
                "session_id": request.session_id,
                "exit_code": request.exit_code,
                "reasons": json.dumps(request.reasons),
                "now_ms": request.now_ms,
            },
        )
    return doubts
