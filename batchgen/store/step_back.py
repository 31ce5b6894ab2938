"""Whether the job database has stepped back: restored from an older copy, or failed over.

A job database that lost its newest commits calls jobs `pending` that were paid for. So a
worker writes each purchase down elsewhere too (`store/journal.py`), and before it pays it
looks whether the newest of them is still here. Commits are lost from the end: if the last
one is there, all are. What is missing is declared in the job database itself, and from then
on nobody submits until `batchgen reconcile --after-restore` has cleared it.
"""

import json
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from batchgen.domain.errors import StoreError
from batchgen.store.database import chunks
from batchgen.store.events import note
from batchgen.store.stamp import stamp_of
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_CHUNK = 500
_LEASES_OF_QUIET = 2  # in one, every live worker has looked at its journal

PUT_BACK = "put_back"
"""The event of an attempt that was removed, because it provably was not paid for."""

SETTLED = "settled"
"""The event of a journalled purchase that is accounted for without an attempt of its id."""

_STEPPED_BACK = "stepped_back"

LASTING = (PUT_BACK, SETTLED, _STEPPED_BACK, "after_restore")
"""The events that tell which purchases are missing: they are never dropped."""


class SteppedBack(StoreError):
    """The job database lacks purchases that were made from it."""

    kind = "database_stepped_back"


@dataclass(frozen=True)
class Witness:
    """A purchase that was written down outside the job database.

    Attributes:
        job_id: Row id of its job, 0 if unknown.
        is_accepted: Whether its request id was in the job database.
    """

    attempt_id: str
    job_id: int
    is_accepted: bool


@dataclass(frozen=True)
class Watch:
    """What a worker must see before it pays.

    Attributes:
        newest: Its newest purchase, None if it has made none.
        lease_ms: How long a silent worker keeps its jobs.
    """

    newest: Witness | None = None
    lease_ms: int = 0


NOTHING_BOUGHT = Watch()


@dataclass(frozen=True)
class Identity:
    """The facts of the job database itself.

    Attributes:
        id: 16 random hex digits, the same in every copy.
        stepped_back: Who missed what; None if all is well.
        stamp: The server's stamp when a worker last looked, "" if there is none.
    """

    id: str
    stepped_back: str | None
    stamp: str


_CREATE = text("INSERT INTO job_database (id) VALUES (:id)")
_ADOPT = text("UPDATE job_database SET id = :id")
_IDENTITY = text("SELECT id, stepped_back, stamp FROM job_database")
_GUARD = text(
    "SELECT d.stepped_back, d.stamp, a.id AS known, a.request_id "
    "FROM job_database d LEFT JOIN attempts a ON a.id = :attempt_id"
)
_ATTEMPTS = text("SELECT id, request_id FROM attempts WHERE id IN :ids").listing(ids=str)
_GONE = text(
    "SELECT 1 FROM events WHERE (job_id = :job_id OR job_id IS NULL) "
    f"AND attempt_id = :attempt_id AND kind IN ('{PUT_BACK}', '{SETTLED}')"
)
_NEWEST = text("SELECT id, job_id FROM attempts ORDER BY id DESC LIMIT 1")
_DECLARE = text("UPDATE job_database SET stepped_back = :said WHERE stepped_back IS NULL")
_DECLARED = text(
    f"SELECT DISTINCT job_id, attempt_id, data FROM events WHERE kind = '{_STEPPED_BACK}'"
)
_CLEAR = text(
    "UPDATE job_database SET stepped_back = NULL, stamp = :stamp, new_stamp = NULL, "
    "quiet_until_ms = NULL"
)
_TAKE = text("UPDATE job_database SET stamp = :stamp, new_stamp = NULL, quiet_until_ms = NULL")
_QUIET = text("UPDATE job_database SET new_stamp = :stamp, quiet_until_ms = :until_ms")
_QUIET_SINCE = text("SELECT new_stamp, quiet_until_ms FROM job_database")
_STAMP = text("UPDATE job_database SET stamp = :stamp WHERE stamp = ''")


def create(tx: Transaction, database_id: str) -> None:
    """Give a new job database its id."""
    tx.run(_CREATE, {"id": database_id})


def adopt(tx: Transaction, database_id: str) -> None:
    """Let a job database that is made anew take the id, and so the journal, of the lost one."""
    tx.run(_ADOPT, {"id": database_id})


def identity(tx: Transaction) -> Identity:
    """Return the facts of the job database itself."""
    row = tx.row(_IDENTITY)
    if row is None:
        raise LookupError("the job database has no identity")
    return Identity(row.id, row.stepped_back, row.stamp)


def newest(tx: Transaction) -> Witness | None:
    """Return the newest purchase in the job database, if there is one."""
    row = tx.row(_NEWEST)
    return None if row is None else Witness(row.id, row.job_id, is_accepted=False)


def explain(said: str) -> str:
    """Return what a step back means and what to do, for people."""
    return (
        f"the job database is older than what was bought from it: {said}. It was restored from a "
        "copy, has lost its newest changes, or is itself a copy of one that went on. Nothing is "
        "submitted until `batchgen reconcile --after-restore` has put back what it forgot"
    )


def missing(tx: Transaction, witnesses: Iterable[Witness]) -> list[Witness]:
    """Return the purchases that the job database does not know, or not as accepted."""
    wanted = list(witnesses)
    found = {
        row.id: row.request_id
        for part in chunks([one.attempt_id for one in wanted], _CHUNK)
        for row in tx.rows(_ATTEMPTS, {"ids": list(part)})
    }
    return [
        one
        for one in wanted
        if _lacks(one, one.attempt_id in found, found.get(one.attempt_id)) and not is_gone(tx, one)
    ]


def _lacks(witness: Witness, is_known: bool, request_id: str | None) -> bool:
    return not is_known or (witness.is_accepted and request_id is None)


def is_gone(tx: Transaction, witness: Witness) -> bool:
    """Return whether an attempt was removed on purpose, or accounted for otherwise."""
    values = {"job_id": witness.job_id, "attempt_id": witness.attempt_id}
    return tx.row(_GONE, values) is not None


@dataclass(frozen=True)
class Look:
    """A worker holds what it has written down against the job database."""

    witnesses: tuple[Witness, ...]
    now_ms: int


def look(tx: Transaction, looks: Sequence[Look]) -> list[str | None]:
    """Return for each who missed what, None if all is well; what is missing is declared."""
    return [_look(tx, one) for one in looks]


def _look(tx: Transaction, one: Look) -> str | None:
    known = identity(tx)
    if not known.stamp and (stamp := stamp_of(tx)):
        tx.run(_STAMP, {"stamp": stamp})
    lost = missing(tx, one.witnesses)
    return declare(tx, lost[-1], now_ms=one.now_ms) if lost else known.stepped_back


def declare(tx: Transaction, lost: Witness, *, now_ms: int) -> str:
    """Let nobody submit until the step back is repaired; return who missed what."""
    host = socket.gethostname()
    tx.run(_DECLARE, {"said": said_of(lost)})
    if lost.attempt_id not in {row.attempt_id for row in tx.rows(_DECLARED)}:
        note(tx, _STEPPED_BACK, lost.job_id or None, lost.attempt_id, now_ms, host=host)
    return identity(tx).stepped_back or ""


def said_of(lost: Witness) -> str:
    """Return who missed what."""
    return f"{socket.gethostname()} bought attempt {lost.attempt_id}, which is not in it"


def declared(tx: Transaction) -> list[tuple[Witness, str]]:
    """Return every purchase that was ever missed, and the host that missed it."""
    return [
        (Witness(row.attempt_id, row.job_id or 0, is_accepted=False), json.loads(row.data)["host"])
        for row in tx.rows(_DECLARED)
    ]


@dataclass(frozen=True)
class Guard:
    """Whether a worker may pay.

    Attributes:
        stepped_back: Who missed what; None if all is well.
        quiet_until_ms: Nobody submits before: another server answers, and the workers look.
    """

    stepped_back: str | None = None
    quiet_until_ms: int = 0


def guard(tx: Transaction, watch: Watch, *, now_ms: int) -> Guard:
    """Look, in the transaction of a claim, whether a worker may pay."""
    mine = watch.newest
    row = tx.row(_GUARD, {"attempt_id": mine.attempt_id if mine else ""})
    if row is None:
        raise LookupError("the job database has no identity")
    if row.stepped_back is not None:
        return Guard(row.stepped_back)
    is_lacking = mine and _lacks(mine, row.known is not None, row.request_id)
    if mine and is_lacking and not is_gone(tx, mine):
        return Guard(declare(tx, mine, now_ms=now_ms))
    stamp = stamp_of(tx) if row.stamp else ""
    if not stamp or stamp == row.stamp:
        return Guard()
    return Guard(quiet_until_ms=keep_quiet(tx, stamp, watch.lease_ms, now_ms=now_ms))


def keep_quiet(tx: Transaction, stamp: str, lease_ms: int, *, now_ms: int) -> int:
    """Return when submits may go on at a server with a new stamp; 0 if that is now.

    It takes two leases, in which every live worker looks at what it has written down.
    """
    row = tx.row(_QUIET_SINCE)
    if row is None or row.new_stamp != stamp:
        until_ms = now_ms + _LEASES_OF_QUIET * lease_ms
        tx.run(_QUIET, {"stamp": stamp, "until_ms": until_ms})
        return until_ms
    if now_ms < row.quiet_until_ms:
        return int(row.quiet_until_ms)
    tx.run(_TAKE, {"stamp": stamp})  # and not what others may have declared meanwhile
    return 0


def clear(tx: Transaction) -> None:
    """Let everybody submit again: what was forgotten has been put back."""
    tx.run(_CLEAR, {"stamp": stamp_of(tx)})
