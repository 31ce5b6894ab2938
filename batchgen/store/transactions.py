"""One open transaction: what is asked and changed in it, whatever runs it.

A file is reached through sqlite3 itself, which is there at once: SQLAlchemy takes longer to start
than most commands take, and as long again for each statement as SQLite does. A server is reached
through SQLAlchemy, and so is a file whose tables are made or changed.
"""

import json
import sqlite3
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from batchgen.store.statements import Statement, text

if TYPE_CHECKING:
    from sqlalchemy import Connection, RootTransaction

_UPSERT_COUNTER = text(
    "INSERT INTO counters (batch_id, state, jobs) VALUES (:batch_id, :state, :delta) "
    "ON CONFLICT (batch_id, state) DO UPDATE SET jobs = counters.jobs + excluded.jobs"
)
_POSTGRES_NOW = text("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
_NO_VALUES: Mapping[str, Any] = {}


class Transaction(ABC):
    """One open transaction, and the counters that its commit will move.

    A row is a tuple whose columns are attributes too, with `_fields` and `_mapping`.

    Attributes:
        is_postgresql: Which SQL it speaks.
    """

    is_postgresql = False

    def __init__(self) -> None:
        self._moved: Counter[tuple[int, str]] = Counter()

    @property
    def connection(self) -> "Connection":
        """SQLAlchemy's connection.

        Raises:
            TypeError: If this is a transaction on a file, which has none.
        """
        raise TypeError("a transaction on a file is sqlite3's")

    def now_ms(self) -> int:
        """Return the job database's clock: one for all workers, in epoch milliseconds."""
        if self.is_postgresql:
            return int(self.value(_POSTGRES_NOW))
        return time.time_ns() // 1_000_000

    def listed(self, values: Iterable[int] | Iterable[str]) -> Any:
        """Return values as the parameter of a query that `among` made."""
        found = list(values)
        return found if self.is_postgresql else json.dumps(found, ensure_ascii=False)

    @abstractmethod
    def run(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> int:
        """Execute one statement; return how many rows it changed."""

    @abstractmethod
    def run_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """Execute a statement for each set of values; return how many rows changed in all."""

    @abstractmethod
    def rows(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> Sequence[Any]:
        """Return every row of a query."""

    @abstractmethod
    def row(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> Any | None:
        """Return the first row of a query, or None."""

    @abstractmethod
    def stream(
        self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES, *, at_once: int = 500
    ) -> Iterator[Any]:
        """Yield the rows of a query without holding them all.

        Args:
            statement: The query.
            values: Its parameters.
            at_once: How many rows are fetched together from a server.
        """

    @abstractmethod
    def pages(
        self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES, *, at_once: int
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """Yield the rows of a query, so many together and without their names, quickly."""

    def value(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> Any:
        """Return the first column of the first row, or None."""
        row = self.row(statement, values)
        return None if row is None else row[0]

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


class Connected(Transaction):
    """A transaction of a connection of SQLAlchemy, which begins and ends it."""

    def __init__(self, connection: "Connection") -> None:
        super().__init__()
        self._connection = connection
        self.is_postgresql = connection.dialect.name == "postgresql"

    @property
    def connection(self) -> "Connection":
        """SQLAlchemy's connection."""
        return self._connection

    def _result(self, statement: Statement, values: Any) -> Any:
        clause = statement.clause(is_postgresql=self.is_postgresql)
        return self._connection.execute(clause, values)

    def run(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> int:
        """Execute one statement; return how many rows it changed."""
        return int(self._result(statement, values).rowcount)

    def run_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """Execute a statement for each set of values; return how many rows changed in all."""
        return int(self._result(statement, values).rowcount) if values else 0

    def rows(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> Sequence[Any]:
        """Return every row of a query."""
        found: Sequence[Any] = self._result(statement, values).fetchall()
        return found

    def row(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> Any | None:
        """Return the first row of a query, or None."""
        return self._result(statement, values).first()

    def stream(
        self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES, *, at_once: int = 500
    ) -> Iterator[Any]:
        """Yield the rows of a query without holding them all."""
        for rows in self.pages(statement, values, at_once=at_once):
            yield from rows

    def pages(
        self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES, *, at_once: int
    ) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query, so many together."""
        clause = statement.clause(is_postgresql=self.is_postgresql)
        # Of this statement alone: as an option of the connection it would make each later one,
        # also an UPDATE, declare a cursor on PostgreSQL.
        options = {"yield_per": at_once}
        with self._connection.execute(clause, values, execution_options=options) as result:
            yield from result.partitions()


class OnFile(Transaction):
    """A transaction of a connection of sqlite3, which is begun and ended there.

    Attributes:
        file: The connection.
    """

    def __init__(self, file: sqlite3.Connection) -> None:
        super().__init__()
        self.file = file

    def _cursor(self, statement: Statement, values: Mapping[str, Any]) -> sqlite3.Cursor:
        return self.file.execute(*statement.on_file(values))

    def run(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> int:
        """Execute one statement; return how many rows it changed."""
        return self._cursor(statement, values).rowcount

    def run_many(self, statement: Statement, values: Sequence[Mapping[str, Any]]) -> int:
        """Execute a statement for each set of values; return how many rows changed in all."""
        if statement.lists:
            return sum(self.run(statement, some) for some in values)
        return self.file.executemany(statement.sqlite, values).rowcount if values else 0

    def rows(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> Sequence[Any]:
        """Return every row of a query."""
        return list(_named(self._cursor(statement, values)))

    def row(self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES) -> Any | None:
        """Return the first row of a query, or None."""
        with closing(self._cursor(statement, values)) as cursor:
            return next(_named(cursor), None)

    def stream(
        self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES, *, at_once: int = 500
    ) -> Iterator[Any]:
        """Yield the rows of a query without holding them all."""
        # Never closed here: whoever left half of them may have closed the connection before.
        yield from _named(self._cursor(statement, values))

    def pages(
        self, statement: Statement, values: Mapping[str, Any] = _NO_VALUES, *, at_once: int
    ) -> Iterator[Sequence[Any]]:
        """Yield the rows of a query, so many together, as plain tuples."""
        cursor = self._cursor(statement, values)
        while rows := cursor.fetchmany(at_once):
            yield rows


# -- connections that look ---------------------------------------------------------------------


class Looker(Protocol):
    """A connection whose transactions only look, one after the other."""

    def looking(self) -> AbstractContextManager[Transaction]:
        """Begin one: it sees one snapshot."""

    def close(self) -> None:
        """Close the connection."""


class FileLooker:
    """Looks at a file, over a connection of sqlite3 that cannot write."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    @contextmanager
    def looking(self) -> Iterator[OnFile]:
        """Begin a transaction: it sees one snapshot."""
        self._file.execute("BEGIN")
        try:
            yield OnFile(self._file)
        finally:
            self._file.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self._file.close()


class ServerLooker:
    """Looks at a server's, over a connection of SQLAlchemy whose transactions cannot write."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    @contextmanager
    def looking(self) -> Iterator[Connected]:
        """Begin a transaction: it sees one snapshot."""
        with self._connection.begin():
            yield Connected(self._connection)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


# -- connections that change -------------------------------------------------------------------


class Changer(ABC):
    """A connection whose transactions may write, one after the other."""

    @abstractmethod
    def begin(self) -> Transaction:
        """Begin a transaction, with whatever lock it needs."""

    @abstractmethod
    def commit(self) -> None:
        """Make durable what was changed; after an error, `rollback` is due."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo what was changed, unless the connection is lost and it is undone already."""

    @abstractmethod
    def close(self) -> None:
        """End the connection's use here; what is not committed is undone."""

    @contextmanager
    def changing(self) -> Iterator[Transaction]:
        """Begin a transaction; commit it at the end of the block, with its counters, or undo it."""
        tx = self.begin()
        try:
            yield tx
            tx.flush()
            self.commit()
        except BaseException:
            self.rollback()
            raise


class FileChanger(Changer):
    """Changes a file, over a connection of sqlite3 that outlives it.

    Attributes:
        file: The connection.
    """

    def __init__(self, file: sqlite3.Connection) -> None:
        self.file = file

    def begin(self) -> OnFile:
        """Begin a transaction that has the write lock at once."""
        self.file.execute("BEGIN IMMEDIATE")
        return OnFile(self.file)

    def commit(self) -> None:
        """Make durable what was changed."""
        self.file.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was changed; some errors have SQLite do so by itself."""
        if self.file.in_transaction:
            self.file.execute("ROLLBACK")

    def close(self) -> None:
        """Undo what is not committed; the connection stays for the next one."""
        self.rollback()


class ServerChanger(Changer):
    """Changes a server's, over a connection of SQLAlchemy.

    Attributes:
        connection: The connection.
    """

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self._begun: RootTransaction | None = None

    def begin(self) -> Connected:
        """Begin a transaction."""
        self._begun = self.connection.begin()
        return Connected(self.connection)

    def commit(self) -> None:
        """Make durable what was changed."""
        if self._begun is not None:
            self._begun.commit()

    def rollback(self) -> None:
        """Undo what was changed, also after a COMMIT that failed."""
        if self._begun is not None:
            self._begun.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


# -- what a driver raises ----------------------------------------------------------------------


def is_of_driver(error: BaseException) -> bool:
    """Return whether an error is a driver's, also as SQLAlchemy passes it on."""
    return isinstance(error, sqlite3.Error) or _is_passed_on(error, "DBAPIError")


def is_conflict(error: BaseException) -> bool:
    """Return whether a constraint forbids the change."""
    return isinstance(error, sqlite3.IntegrityError) or _is_passed_on(error, "IntegrityError")


def is_lost(error: BaseException) -> bool:
    """Return whether the connection broke, so that nobody knows what the server has done."""
    return _is_passed_on(error, "DBAPIError") and bool(
        getattr(error, "connection_invalidated", False)
    )


def _is_passed_on(error: BaseException, kind: str) -> bool:
    known = sys.modules.get("sqlalchemy.exc")  # none of its errors before it is loaded
    return known is not None and isinstance(error, getattr(known, kind))


# -- rows of a file ----------------------------------------------------------------------------


def _named(cursor: sqlite3.Cursor) -> Iterator[Any]:
    return map(_record(tuple(column[0] for column in cursor.description or ())), cursor)


class _Record(tuple[Any, ...]):
    __slots__ = ()
    _fields: tuple[str, ...] = ()

    @property
    def _mapping(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))


@cache
def _record(names: tuple[str, ...]) -> type[_Record]:
    """Return a kind of row, much as `namedtuple` makes one, but quickly."""
    columns: dict[str, Any] = {name: property(itemgetter(at)) for at, name in enumerate(names)}
    return type("Record", (_Record,), {**columns, "__slots__": (), "_fields": names})
