"""What a job database tells of itself: kind and version of its engine, locks, what SQLite finds.

Only looks: nothing is written, not even the schema of an older file brought up to date.
"""

import sqlite3
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

from batchgen.store.statements import text
from batchgen.store.transactions import OnFile, Transaction

FIXED_SQLITE = (3, 51, 3)
"""From here on two writers cannot damage a WAL file between them (sqlite.org/wal.html)."""

_PINGS = 3
_STEPS = 20_000  # of SQLite's machine between two looks at the clock
_SERVER = text(
    "SELECT current_setting('server_version') AS version, "
    "current_setting('server_encoding') AS encoding"
)
_IS_REPLICA = text("SELECT pg_is_in_recovery()")
_JOURNAL_MODE = text("PRAGMA journal_mode")
_QUICK_CHECK = text("PRAGMA quick_check(10)")
_PING = text("SELECT 1")


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server.

    Attributes:
        version: As it says.
        encoding: Of the database.
        is_replica: Whether it cannot be written.
        latency_s: From a question to its answer.
        ahead_s: How far its clock is ahead of this machine's; negative if behind.
    """

    version: str
    encoding: str
    is_replica: bool
    latency_s: float
    ahead_s: float


def server(tx: Transaction) -> Server:
    """Return what a PostgreSQL server says of itself."""
    row = tx.row(_SERVER)
    if row is None:
        raise LookupError("the server says nothing of itself")
    took = []
    for _ in range(_PINGS):
        began = time.monotonic()
        tx.value(_PING)
        took.append(time.monotonic() - began)
    before_s = time.time()
    there_s = tx.now_ms() / 1000
    ahead_s = there_s - (before_s + time.time()) / 2
    return Server(
        version=str(row.version),
        encoding=str(row.encoding),
        is_replica=bool(tx.value(_IS_REPLICA)),
        latency_s=statistics.median(took),
        ahead_s=ahead_s,
    )


def journal_mode(tx: Transaction) -> str:
    """Return how SQLite keeps changes that are not in the file yet: `wal` once it was worked with.

    Whoever writes sets `synchronous=FULL` on its own connection; the file does not tell.
    """
    return str(tx.value(_JOURNAL_MODE))


def quick_check(tx: Transaction, *, within_s: float) -> list[str] | None:
    """Return what SQLite finds wrong with its file, None if that takes longer than it may."""
    connection = cast(OnFile, tx).file
    ends = time.monotonic() + within_s
    connection.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
    try:
        said = [str(row[0]) for row in connection.execute(_QUICK_CHECK.sqlite)]
    except sqlite3.OperationalError:
        if time.monotonic() <= ends:
            raise
        return None
    finally:
        connection.set_progress_handler(None, 0)
    return [line for line in said if line != "ok"]


def write_trouble(path: Path, *, within_ms: int) -> str | None:
    """Return what keeps a file from being written just now, None if nothing does.

    The one lock of all writers is taken and given back; nothing is written.
    """
    try:
        with closing(
            sqlite3.connect(
                f"file:{quote(str(path))}?mode=rw",
                uri=True,
                isolation_level=None,
                timeout=within_ms / 1000,
            )
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        return str(error)
    return None
