"""A large manifest is stored in many transactions, and hidden until the last one.

One import is at work at a time, behind a lock that ends with its process. Whoever takes the lock
next and still finds an import knows that it is dead, and removes what it stored. Ids are drawn in
order and by imports only, so all jobs above a mark are hidden.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from batchgen.domain.errors import StoreError
from batchgen.store.database import Database
from batchgen.store.statements import locking, text
from batchgen.store.transactions import Transaction

SHOWN = "j.id <= (SELECT coalesce(min(after_job_id), 9223372036854775807) FROM imports)"
"""Of jobs `j`: not hidden by an import."""

SHOWN_ID = SHOWN.removeprefix("j.")
"""The same where the table has no other name."""

BATCH_SHOWN = "b.id NOT IN (SELECT batch_id FROM imports WHERE batch_is_new)"
"""Of batches `b`: not hidden by an import."""

logger = logging.getLogger(__name__)

_TRY_S = 0.2
PAUSE_S = 0.12
"""How long an import lets others write, after each of its transactions: SQLite looks for a lock
that is free at least every 100 ms."""

_REMOVED = 5_000  # jobs in one transaction
_BEGIN = text(
    "INSERT INTO imports (id, batch_id, batch_is_new, after_job_id, started_ms) "
    "SELECT :id, :batch_id, :is_new, coalesce(max(id), 0), :now_ms FROM jobs"
)
_FINISH = text("DELETE FROM imports WHERE id = :id")
_CHECK = locking("SELECT 1 FROM imports WHERE id = :id")
_TAKE_OVER = text("UPDATE imports SET id = 'dead ' || id WHERE id NOT LIKE 'dead %'")
_OPEN = text("SELECT id, batch_id, batch_is_new, after_job_id FROM imports")
_LAST = "FROM jobs WHERE batch_id = :batch_id AND id > :after_job_id ORDER BY id DESC LIMIT :count"
_REMOVE_KEYS = text(f"DELETE FROM job_keys WHERE key IN (SELECT key {_LAST})")
_REMOVE = text(f"DELETE FROM jobs WHERE id IN (SELECT id {_LAST})")
_REMOVE_BATCH = text("DELETE FROM batches WHERE id = :batch_id")


@contextlib.contextmanager
def adding(database: Database, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Be the only one who compares and stores manifests, and remove what a dead one left.

    Others wait here for as long as it takes.

    Raises:
        StoreError: If the job database cannot be used.
    """
    told = False

    def wait() -> None:
        nonlocal told
        if not told:
            logger.warning("waiting for another program that adds to this job database")
            told = True
        sleep(_TRY_S)

    with database.translated(), database.backend.adding(wait):
        remove_dead(database, sleep=sleep)
        yield


def begin(tx: Transaction, batch_id: int, *, is_new: bool, now_ms: int) -> str:
    """Hide the jobs that are stored from now on, and the batch if it is new; return an id."""
    import_id = f"{batch_id}-{now_ms}"
    tx.run(_BEGIN, {"id": import_id, "batch_id": batch_id, "is_new": is_new, "now_ms": now_ms})
    return import_id


def check(tx: Transaction, import_id: str) -> None:
    """Check that nobody has taken an import for dead; until the transaction ends, nobody can.

    Raises:
        StoreError: If somebody has: the lock was lost, with a connection for one.
    """
    if tx.row(_CHECK, {"id": import_id}) is None:
        raise StoreError(
            "the lock on adding to the job database was lost, and another program has taken over: "
            "nothing of this manifest is stored; run the command again"
        )


def finish(tx: Transaction, import_id: str) -> None:
    """Show everything that an import stored.

    Raises:
        StoreError: As `check`.
    """
    check(tx, import_id)
    tx.run(_FINISH, {"id": import_id})


def remove_dead(database: Database, *, sleep: Callable[[float], None]) -> int:
    """Remove what imports stored that never ended, under the lock; return how many jobs."""
    removed = 0
    with database.reading() as tx:
        if not tx.rows(_OPEN):
            return 0
    with database.transaction() as tx:
        # From here on, who stored it and lives after all can store no more.
        tx.run(_TAKE_OVER)
        dead = tx.rows(_OPEN)
    for one in dead:
        values = {"batch_id": one.batch_id, "after_job_id": one.after_job_id, "count": _REMOVED}
        gone = _REMOVED
        while gone == _REMOVED:
            with database.transaction() as tx:
                tx.run(_REMOVE_KEYS, values)
                gone = tx.run(_REMOVE, values)
            removed += gone
            if gone == _REMOVED:
                sleep(PAUSE_S)
        with database.transaction() as tx:
            tx.run(_FINISH, {"id": one.id})
            if one.batch_is_new:
                tx.run(_REMOVE_BATCH, values)
    return removed
