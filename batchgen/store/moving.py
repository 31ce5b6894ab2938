"""A job database that has moved to another: one of the two is worked with, never both.

What has moved says where to, and from then on is only looked at. What a copy has not brought
wholly yet is not even looked at. `store/copying.py` brings it.
"""

import json
from dataclasses import dataclass
from typing import Any

from batchgen.domain.errors import StoreError
from batchgen.store.database import Database
from batchgen.store.events import note
from batchgen.store.statements import Statement, text
from batchgen.store.transactions import Transaction

_MOVED = "moved"
_RELEASED = "move_undone"


class MovedAway(StoreError):
    """The jobs are in another job database by now."""

    kind = "database_moved_away"


class HalfCopied(StoreError):
    """A copy to here was not finished."""

    kind = "database_half_copied"


@dataclass(frozen=True)
class Stand:
    """Where a job database stands on its way to another.

    Attributes:
        id: The job database's id, the same in every copy.
        moved_to: Where the jobs are now, for people; None if they are here.
        copying: What a copy to here has yet to bring; None if it is whole.
        move: What tells its newest move from all others, "" if there was none.
    """

    id: str
    moved_to: str | None
    copying: str | None
    move: str


_STAND = "SELECT id, moved_to, copying FROM job_database"
_READ = text(_STAND)
# Shared: workers that begin do not wait for each other, only for a move, or it for them.
_HELD = Statement(_STAND, f"{_STAND} FOR SHARE")
_MOVES = text(f"SELECT data FROM events WHERE kind = '{_MOVED}' ORDER BY id DESC LIMIT 1")
_LEAVE = text("UPDATE job_database SET moved_to = :where WHERE moved_to IS NULL")
_RETURN = text("UPDATE job_database SET moved_to = NULL")


def stand(tx: Transaction) -> Stand:
    """Return where a job database stands."""
    row = tx.row(_READ)
    if row is None:
        raise LookupError("the job database has no identity")
    said = tx.value(_MOVES)
    move = "" if said is None else str(json.loads(said)["move"])
    return Stand(row.id, row.moved_to, row.copying, move)


def hold(tx: Transaction) -> None:
    """Let the jobs move nowhere until the transaction ends.

    Raises:
        MovedAway: If they have.
        HalfCopied: If not all of them are here yet.
    """
    _refuse("this job database", tx.row(_HELD))


def refuse(database: Database) -> None:
    """Refuse to change a job database whose jobs are elsewhere.

    Raises:
        MovedAway: If they are.
        HalfCopied: If not all of them are here yet.
    """
    with database.reading() as tx:
        _refuse(database.shown, tx.row(_READ))


def _refuse(shown: str, row: Any | None) -> None:
    if row is None:
        return
    refuse_half(shown, row.copying)
    if row.moved_to is not None:
        raise MovedAway(
            f"{shown}: its jobs have moved to {row.moved_to}: name that one with --db. Nothing is "
            "bought or changed here; `batchgen db copy … --undo` lets this one go on instead"
        )


def refuse_half(shown: str, copying: str | None) -> None:
    """Refuse what a copy has not brought wholly.

    Raises:
        HalfCopied: If it has not.
    """
    if copying is None:
        return
    raise HalfCopied(
        f"{shown}: a copy of {json.loads(copying)['from']} to here was not finished, so it lacks "
        "jobs that are paid for: repeat the same `batchgen db copy`, which goes on where it was"
    )


def leave(tx: Transaction, where: str, move: str, *, now_ms: int) -> None:
    """Say that the jobs are elsewhere from now on.

    Raises:
        MovedAway: If somebody else has said so.
    """
    if not tx.run(_LEAVE, {"where": where}):
        raise MovedAway("the job database was moved by another program just now: look again")
    note(tx, _MOVED, None, None, now_ms, to=where, move=move)


def come_back(tx: Transaction, *, now_ms: int) -> None:
    """Say that the jobs are here again."""
    tx.run(_RETURN)
    note(tx, _RELEASED, None, None, now_ms)
