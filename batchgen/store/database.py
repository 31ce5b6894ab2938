"""Open a job database: engines, transactions, and what SQL says differently on each kind.

There are two engines. The writer's transactions take the write lock at once on SQLite; the
reader's see one snapshot and cannot write, so that looking never queues behind a writer.
"""

import contextlib
import json
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import BindParameter, Connection, Engine, Row, TextClause, text
from sqlalchemy.exc import DBAPIError

from batchgen.domain.errors import DatabaseMoved, StoreError
from batchgen.store import sqlite
from batchgen.store.backend import UNREADABLE, Backend

_UPSERT_COUNTER = text(
    "INSERT INTO counters (batch_id, state, jobs) VALUES (:batch_id, :state, :delta) "
    "ON CONFLICT (batch_id, state) DO UPDATE SET jobs = counters.jobs + excluded.jobs"
)


# Not a file's name, and repeating it might show a password.
_NEARLY_POSTGRES = re.compile(
    r"^postgres[\w+]*:|(?:^|\s)(?:host|hostaddr|user|password|dbname|service)\s*=", re.IGNORECASE
)
_POSTGRES_NOW = text("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")


@dataclass(frozen=True)
class ByDialect:
    """One statement in both kinds of SQL."""

    sqlite: TextClause
    postgresql: TextClause

    def bindparams(self, *parameters: BindParameter[Any]) -> "ByDialect":
        """Return the statement with declared parameters."""
        return ByDialect(
            self.sqlite.bindparams(*parameters), self.postgresql.bindparams(*parameters)
        )


Statement = TextClause | ByDialect


_LOCK = " FOR NO KEY UPDATE"  # rows that refer to it may be stored meanwhile


def locking(query: str, *, of: str = "", skip_locked: bool = False) -> ByDialect:
    """Return a query that locks what it finds; on SQLite the transaction holds the one lock."""
    lock = _LOCK + (f" OF {of}" if of else "") + (" SKIP LOCKED" if skip_locked else "")
    return ByDialect(text(query), text(query + lock))


def among(query: str, *, locks: bool = False) -> ByDialect:
    """Return a query with `IN :values`, whose values come as one parameter: `Transaction.listed`.

    One parameter each would have a statement compiled anew for every number of them.

    Args:
        query: The query.
        locks: Lock what it finds; on SQLite the transaction holds the one lock.
    """
    return ByDialect(
        text(query.replace("IN :values", "IN (SELECT value FROM json_each(:values))")),
        text(query.replace("IN :values", "= ANY(:values)") + _LOCK * locks),
    )


class Transaction:
    """One open transaction, and the counters that its commit will move."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.is_postgresql = connection.dialect.name == "postgresql"
        self._moved: Counter[tuple[int, str]] = Counter()

    def now_ms(self) -> int:
        """Return the job database's clock: one for all workers, in epoch milliseconds."""
        if self.is_postgresql:
            return int(self.value(_POSTGRES_NOW))
        return time.time_ns() // 1_000_000

    def said(self, statement: Statement) -> TextClause:
        """Return a statement in the SQL of this job database."""
        if isinstance(statement, ByDialect):
            return statement.postgresql if self.is_postgresql else statement.sqlite
        return statement

    def listed(self, values: Iterable[int] | Iterable[str]) -> Any:
        """Return values as the parameter of a query that `among` made."""
        found = list(values)
        return found if self.is_postgresql else json.dumps(found, ensure_ascii=False)

    def run(self, statement: Statement, values: Mapping[str, Any] | None = None) -> int:
        """Execute one statement; return how many rows it changed."""
        return self.connection.execute(self.said(statement), values or {}).rowcount

    def run_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """Execute a statement for each set of values; return how many rows changed in all."""
        if not values:
            return 0
        return self.connection.execute(self.said(statement), values).rowcount

    def rows(
        self, statement: Statement, values: Mapping[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        """Return every row of a query."""
        return self.connection.execute(self.said(statement), values or {}).fetchall()

    def row(self, statement: Statement, values: Mapping[str, Any] | None = None) -> Row[Any] | None:
        """Return the first row of a query, or None."""
        return self.connection.execute(self.said(statement), values or {}).first()

    def value(self, statement: Statement, values: Mapping[str, Any] | None = None) -> Any:
        """Return the first column of the first row, or None."""
        return self.connection.execute(self.said(statement), values or {}).scalar()

    def moved(self, batch_id: int, old: str | None, new: str | None, jobs: int = 1) -> None:
        """Note that jobs of a batch went from one state to another, for the counters."""
        if old is not None:
            self._moved[batch_id, old] -= jobs
        if new is not None:
            self._moved[batch_id, new] += jobs

    def flush(self) -> None:
        """Write the counters; called once, just before the commit."""
        deltas = [
            {"batch_id": batch_id, "state": state, "delta": delta}
            for (batch_id, state), delta in sorted(self._moved.items())
            if delta
        ]
        self.run_many(_UPSERT_COUNTER, deltas)
        self._moved.clear()


class Database:
    """A job database by its URL: a SQLite file, or a PostgreSQL server's.

    Attributes:
        url: `sqlite:///PATH`, a plain path, or `postgresql://…`.
        backend: What the two kinds do differently.
    """

    def __init__(
        self,
        url: str,
        *,
        allow_network_fs: bool = False,
        busy_timeout_ms: int = sqlite.BUSY_TIMEOUT_MS,
    ) -> None:
        self.url = url
        self.backend = _backend(
            url, allow_network_fs=allow_network_fs, busy_timeout_ms=busy_timeout_ms
        )
        self._writer: Engine | None = None
        self._reader: Engine | None = None
        self._opened: tuple[int, int] | None = None  # device and inode

    @property
    def shown(self) -> str:
        """The job database's name for people, without any password."""
        return self.backend.shown

    @property
    def path(self) -> Path | None:
        """The file, None on a server."""
        return self.backend.path

    @property
    def folder(self) -> Path:
        """The folder that relative output folders start from."""
        return self.backend.folder

    def exists(self) -> bool:
        """Return whether a job database, or anything else, is there.

        Raises:
            StoreError: If it cannot be looked at.
        """
        return self.backend.exists()

    def check_place(self) -> None:
        """Check, before anything is asked, that the job database could be made and written.

        Raises:
            StoreError: If not.
        """
        self.backend.check_place()

    def connect_writer(self) -> Connection:
        """Return a connection whose transactions may write."""
        if self._writer is None:
            self._writer = self.backend.engine(read_only=False)
        with self.translated():
            connection = self._writer.connect()
        if self._opened is None and self.path is not None:
            self._opened = sqlite.identity(self.path)
        return connection

    def check_in_place(self) -> None:
        """Check that the file that was opened for writing still has its name.

        Raises:
            DatabaseMoved: If another file has it by now, or none.
        """
        if self._opened is None or self.path is None:
            return
        found = sqlite.identity(self.path)
        if found != self._opened:
            done = "removed" if found is None else "replaced by another file"
            raise DatabaseMoved(
                f"{self.path}: the job database was {done} while this run used it: nothing more is "
                "paid for"
            )

    def save_moved(self, target: Path) -> None:
        """Copy the file that was opened, which has lost its name, to another name.

        Raises:
            StoreError: If that fails.
        """
        if self._writer is None:
            raise StoreError(f"{target}: the file is not open any more")
        with self.translated(), self._writer.connect() as connection:
            opened = connection.connection.dbapi_connection
            with contextlib.closing(sqlite3.connect(target)) as copy:
                cast(sqlite3.Connection, opened).backup(copy)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a short writing transaction of its own; commit at the end, roll back on error."""
        with self.translated(), self.connect_writer() as connection, connection.begin():
            tx = Transaction(connection)
            yield tx
            tx.flush()

    @contextlib.contextmanager
    def changing_schema(self) -> Iterator[Transaction]:
        """Open a writing transaction in which tables may be copied and dropped."""
        if self.path is None:
            with self.transaction() as tx:
                yield tx
            return
        with self.translated(), self.connect_writer() as connection:
            raw: Any = connection.connection.dbapi_connection
            raw.execute(
                "PRAGMA foreign_keys = OFF"
            )  # else a dropped table takes others' rows along
            try:
                with connection.begin():
                    tx = Transaction(connection)
                    yield tx
                    tx.flush()
                    if tx.rows(text("PRAGMA foreign_key_check")):
                        raise StoreError(
                            f"{self.shown}: the schema cannot be changed: rows are lost"
                        )
            finally:
                raw.execute("PRAGMA foreign_keys = ON")

    @contextlib.contextmanager
    def bulk(self) -> Iterator[None]:
        """Let many large transactions follow each other: more memory, fewer checkpoints."""
        with self.translated():
            if self._writer is None:
                self._writer = self.backend.engine(read_only=False)
            with self.backend.bulk(self._writer):
                yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a read-only transaction: one snapshot, never in a writer's way."""
        with self.translated(), self.connect_reader() as connection, connection.begin():
            yield Transaction(connection)

    def connect_reader(self) -> Connection:
        """Return a connection whose transactions only look."""
        if self._reader is None:
            self._reader = self.backend.engine(read_only=True)
        with self.translated():
            return self._reader.connect()

    def let_go(self) -> None:
        """Leave the writing connection to the thread that is stuck in it; `close` spares it."""
        self._writer = None

    def close(self) -> None:
        """Close every connection."""
        for engine in (self._writer, self._reader):
            if engine is not None:
                engine.dispose()
        self._writer = self._reader = None

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Let what a driver raises come out as what it means to a person."""
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            raise self.backend.explain(error) from error


class Watcher:
    """Looks at a job database again and again, in one thread, over one connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a read-only transaction; after an error, the next one has a new connection.

        Raises:
            StoreError: If it cannot be read, or another file has its name by now.
        """
        if self._connection is None:
            self._database.check_in_place()
            self._connection = self._database.connect_reader()
        try:
            with self._database.translated(), self._connection.begin():
                yield Transaction(self._connection)
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with self._database.translated():
                connection.close()


def _backend(url: str, *, allow_network_fs: bool, busy_timeout_ms: int) -> Backend:
    if url.startswith(("postgresql://", "postgres://")):
        from batchgen.store.postgres import PostgresServer  # an extra

        return PostgresServer(url)
    return sqlite.SqliteFile(
        path_of(url), allow_network_fs=allow_network_fs, busy_timeout_ms=busy_timeout_ms
    )


def path_of(url: str) -> Path:
    """Return the file of a SQLite URL or plain path.

    Raises:
        StoreError: If the URL names another kind of database, or no file.
    """
    if url.startswith("sqlite:///"):
        return _file(url.removeprefix("sqlite:///"))
    scheme, is_url, _ = url.partition("://")
    if not is_url and _NEARLY_POSTGRES.search(url):
        raise StoreError(UNREADABLE)
    if is_url:
        raise StoreError(
            f"the job database {scheme}://… is of an unknown kind: use sqlite:///PATH, a path, or "
            "postgresql://…"
        )
    return _file(url)


def _file(text: str) -> Path:
    if text == ":memory:":
        raise StoreError(
            ":memory: would forget what was paid for: name a file for the job database with --db"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise StoreError(
            f"{text}: {error} Write the whole path of the job database instead of ~"
        ) from error


def chunks(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Yield a sequence in pieces of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
