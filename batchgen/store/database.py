"""Open a job database: engines, pragmas, transactions.

There are two engines. The writer's transactions begin with `BEGIN IMMEDIATE`; the reader's
are plain and cannot write, so that looking never queues behind a writer.
"""

import contextlib
import sqlite3
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, Row, TextClause, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool, StaticPool

from batchgen.domain.errors import DatabaseMoved, DiskFull, StoreError
from batchgen.store import sqlite

_UPSERT_COUNTER = text(
    "INSERT INTO counters (batch_id, state, jobs) VALUES (:batch_id, :state, :delta) "
    "ON CONFLICT (batch_id, state) DO UPDATE SET jobs = counters.jobs + excluded.jobs"
)


class Transaction:
    """One open transaction, and the counters that its commit will move."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._moved: Counter[tuple[int, str]] = Counter()

    def run(self, statement: TextClause, values: Mapping[str, Any] | None = None) -> int:
        """Execute one statement; return how many rows it changed."""
        return self.connection.execute(statement, values or {}).rowcount

    def run_many(self, statement: TextClause, values: Sequence[Mapping[str, Any]]) -> int:
        """Execute a statement for each set of values; return how many rows changed in all."""
        if not values:
            return 0
        return self.connection.execute(statement, values).rowcount

    def rows(
        self, statement: TextClause, values: Mapping[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        """Return every row of a query."""
        return self.connection.execute(statement, values or {}).fetchall()

    def row(
        self, statement: TextClause, values: Mapping[str, Any] | None = None
    ) -> Row[Any] | None:
        """Return the first row of a query, or None."""
        return self.connection.execute(statement, values or {}).first()

    def value(self, statement: TextClause, values: Mapping[str, Any] | None = None) -> Any:
        """Return the first column of the first row, or None."""
        return self.connection.execute(statement, values or {}).scalar()

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
    """A job database by its URL: SQLite for now, the schema also speaks PostgreSQL.

    Attributes:
        url: `sqlite:///PATH`, or a plain path.
        path: The SQLite file.
    """

    def __init__(
        self,
        url: str,
        *,
        allow_network_fs: bool = False,
        busy_timeout_ms: int = sqlite.BUSY_TIMEOUT_MS,
    ) -> None:
        self.url = url
        self._busy_timeout_ms = busy_timeout_ms
        self.path = path_of(url)
        self._allow_network_fs = allow_network_fs
        self._writer: Engine | None = None
        self._reader: Engine | None = None
        self._opened: tuple[int, int] | None = None  # device and inode

    def exists(self) -> bool:
        """Return whether the file is there and holds something.

        Raises:
            StoreError: If something else has its name, or it cannot be looked at.
        """
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be looked at: {error.strerror}: name another job database "
                "with --db"
            ) from error
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a file"
            raise StoreError(
                f"{self.path}: is {what}: name a file for the job database, as --db batchgen.db"
            )
        return found.st_size > 0

    def check_place(self) -> None:
        """Check, before anything is asked, that the file could be made or written beside.

        Raises:
            StoreError: If its folder is not there or cannot be written.
        """
        self._check_folder()
        try:
            with tempfile.TemporaryFile(dir=self.path.parent):
                pass
        except OSError as error:
            raise StoreError(
                f"{self.path}: the folder {self.path.parent} cannot be written "
                f"({error.strerror}): name another job database with --db"
            ) from error
        sqlite.check_place(self.path, allow_network_fs=self._allow_network_fs)

    @property
    def folder(self) -> Path:
        """The folder that relative output folders start from."""
        return self.path.resolve().parent

    def connect_writer(self) -> Connection:
        """Return a connection whose transactions begin with `BEGIN IMMEDIATE`."""
        if self._writer is None:
            sqlite.check_place(self.path, allow_network_fs=self._allow_network_fs)
            self._writer = self._engine(read_only=False)
        with translated(self.path):
            connection = self._writer.connect()
        if self._opened is None:
            self._opened = sqlite.identity(self.path)
        return connection

    def check_in_place(self) -> None:
        """Check that the file that was opened for writing still has its name.

        Raises:
            DatabaseMoved: If another file has it by now, or none.
        """
        if self._opened is None:
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
        with translated(target), self._writer.connect() as connection:
            opened = connection.connection.dbapi_connection
            with contextlib.closing(sqlite3.connect(target)) as copy:
                cast(sqlite3.Connection, opened).backup(copy)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a short writing transaction of its own; commit at the end, roll back on error."""
        with translated(self.path), self.connect_writer() as connection, connection.begin():
            tx = Transaction(connection)
            yield tx
            tx.flush()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a read-only transaction: one snapshot, never in a writer's way."""
        if self._reader is None:
            self._reader = self._engine(read_only=True)
        with translated(self.path), self._reader.connect() as connection, connection.begin():
            yield Transaction(connection)

    def let_go(self) -> None:
        """Leave the writing connection to the thread that is stuck in it; `close` spares it."""
        self._writer = None

    def close(self) -> None:
        """Close every connection."""
        for engine in (self._writer, self._reader):
            if engine is not None:
                engine.dispose()
        self._writer = self._reader = None

    def _check_folder(self) -> None:
        if not self.path.parent.is_dir():
            raise StoreError(
                f"{self.path}: the folder {self.path.parent} does not exist: create it, or name "
                "another job database with --db"
            )

    def _engine(self, *, read_only: bool) -> Engine:
        if not read_only:
            self._check_folder()

        def connect() -> sqlite3.Connection:
            return sqlite.connect(
                self.path, read_only=read_only, busy_timeout_ms=self._busy_timeout_ms
            )

        # The writer's one connection is handed from the command's thread to the store
        # thread and never used by two at once.
        engine = create_engine(
            "sqlite://",
            creator=connect,
            poolclass=NullPool if read_only else StaticPool,
            hide_parameters=True,  # inputs hold signed URLs, and an error shows its parameters
        )
        begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

        def on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        event.listen(engine, "begin", on_begin)
        return engine


def path_of(url: str) -> Path:
    """Return the file of a SQLite URL or plain path.

    Raises:
        StoreError: If the URL names another kind of database, or no file.
    """
    if url.startswith("sqlite:///"):
        return _file(url.removeprefix("sqlite:///"))
    scheme, is_url, _ = url.partition("://")
    if is_url and scheme.startswith("postgres"):
        raise StoreError(
            "PostgreSQL job databases are not supported in this version: name a SQLite file "
            "with --db or BATCHGEN_DB"
        )
    if is_url:
        raise StoreError(
            f"the job database {scheme}://… is of an unknown kind: use sqlite:///PATH or a path"
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


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the driver's errors into a `StoreError` that says what to do."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise store_error(path, error) from error


def store_error(path: Path, error: Exception) -> StoreError:
    """Return what a driver's error means to a person."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = str(cause)
    if "locked" in said or "busy" in said:
        return StoreError(f"{path}: the job database is locked by another program; try again later")
    if "disk is full" in said:
        return DiskFull(f"{path}: the disk is full, the job database cannot grow; make room")
    if "readonly" in said or "unable to open" in said:
        return StoreError(
            f"{path}: cannot open the job database for writing ({said}): check the folder's "
            "permissions, or name another with --db"
        )
    if "not a database" in said or "malformed" in said:
        return StoreError(
            f"{path}: this is not a job database or it is damaged ({said}): look at it with "
            "`batchgen db check`, restore a copy, or name another with --db"
        )
    return StoreError(f"{path}: the job database failed: {said}")


def is_passing(error: BaseException) -> bool:
    """Return whether a failed commit may succeed later: no space, or a lock."""
    if not isinstance(error, OperationalError):
        return False
    said = str(error.orig)
    return any(word in said for word in ("locked", "busy", "full", "disk I/O"))


def chunks(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Yield a sequence in pieces of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
