"""What only PostgreSQL needs: the connection, its settings, leases on the server's clock.

The URL goes to libpq as it is, so that everything works that works with `psql`: `~/.pgpass`,
`PGPASSWORD`, services, certificates, several hosts. Nothing of it but user, host, port and
database is ever shown.
"""

import contextlib
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidRequestError, OperationalError
from sqlalchemy.pool import NullPool

from batchgen.domain.errors import DiskFull, StoreError, UsageError
from batchgen.store.backend import UNREADABLE
from batchgen.store.transactions import (
    Changer,
    ServerChanger,
    ServerLooker,
    Transaction,
)

if TYPE_CHECKING:
    import psycopg

_OLDEST = 140_000  # PostgreSQL 14, as libpq counts; the community looks after none older
_DEFAULTS = {
    "fallback_application_name": "batchgen",
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_ENCODING = "UTF8"
# LOCAL: behind pgbouncer in transaction mode a connection's settings would go on to strangers.
# All in one message, whatever role, database or server say otherwise.
_BEGIN = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '5s'; "
    "SET LOCAL statement_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '15s'; "
    # A lost intent is a lost purchase. A stricter level than `on` stays.
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') "
    "WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)"
)
# An export waits for whoever reads it, between two fetches of its cursor.
_BEGIN_READING = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '5s'; "
    "SET LOCAL statement_timeout = '60s'; SET LOCAL idle_in_transaction_session_timeout = '1h'"
)

# One manifest is stored at a time, so that two processes with the same one do not both find its
# rows new, and ids appear in the order in which they were drawn: a scope that ends at the newest
# one does not grow.
_ADDING = (
    "BEGIN; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; "
    "SET LOCAL idle_in_transaction_session_timeout = 0"
)
_TRY_ADDING = "SELECT pg_try_advisory_xact_lock(7238461204)"

_PASSING_CLASSES = ("08", "40", "53", "55", "57")
"""Connections, deadlocks, want of space or memory, locks, shutdowns and cancelled statements."""
_READ_ONLY = "25006"  # the server is a replica: a failover is under way


class PostgresServer:
    """A job database on a PostgreSQL server; see `backend.Backend`.

    Raises:
        UsageError: If psycopg is not installed.
        StoreError: If the URL cannot be read.
    """

    is_remote = True
    path = None

    def __init__(self, url: str) -> None:
        self._psycopg = _psycopg()
        self._url = url
        self._writer: Engine | None = None
        self._reader: Engine | None = None
        try:
            self._said = self._psycopg.conninfo.conninfo_to_dict(url)
        except self._psycopg.ProgrammingError:
            # libpq repeats the part that it cannot read, which may be the password.
            raise StoreError(UNREADABLE) from None
        if _may_be_misread(url, self._said):
            raise StoreError(UNREADABLE)

    @property
    def shown(self) -> str:
        """User, host, port, database and service of the URL, nothing else."""
        said = {name: str(value) for name, value in self._said.items() if value}
        user = f"{said['user']}@" if "user" in said else ""
        hosts, ports = said.get("host", "").split(","), said.get("port", "").split(",")
        if len(ports) < len(hosts):  # one port for all hosts
            ports *= len(hosts)
        places = [
            f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False)
        ]
        service = f" (service {said['service']})" if "service" in said else ""
        return f"postgresql://{user}{','.join(places)}/{said.get('dbname', '')}{service}"

    @property
    def folder(self) -> Path:
        """The current folder."""
        return Path.cwd()

    def exists(self) -> bool:
        """Return whether the schema that the connection works in holds any table.

        Raises:
            StoreError: If the server cannot be asked.
        """
        try:
            with contextlib.closing(self._connect()) as connection:
                row = connection.execute(
                    "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema())"
                ).fetchone()
        except self._psycopg.Error as error:
            raise self.explain(error) from error
        return row is not None and bool(row[0])

    def check_place(self) -> None:
        """Check that tables could be made and written.

        Raises:
            StoreError: If the role may not, or the server is a read-only replica.
        """
        try:
            with contextlib.closing(self._connect()) as connection:
                row = connection.execute(
                    "SELECT current_schema(), has_schema_privilege(current_schema(), 'CREATE'), "
                    "pg_is_in_recovery()"
                ).fetchone()
        except self._psycopg.Error as error:
            raise self.explain(error) from error
        if row is not None and row[2]:
            raise StoreError(f"{self.shown}: this server is a read-only replica: name the primary")
        if row is None or row[0] is None:
            raise StoreError(
                f"{self.shown}: there is no schema of the search_path: CREATE SCHEMA, or name "
                "another in the URL's options"
            )
        if not row[1]:
            raise StoreError(
                f"{self.shown}: this role may not create tables there: grant it CREATE on the "
                f"schema {row[0]}, or name another job database with --db"
            )

    def changer(self) -> ServerChanger:
        """Return a connection whose commits are durable."""
        if self._writer is None:
            self._writer = self._engine(_BEGIN)
        return ServerChanger(self._writer.connect())

    @contextlib.contextmanager
    def changing_schema(self) -> Iterator[Transaction]:
        """Begin a writing transaction: tables may be changed in any."""
        with contextlib.closing(self.changer()) as changer, changer.changing() as tx:
            yield tx

    def looker(self) -> ServerLooker:
        """Return a connection whose transactions see one snapshot."""
        if self._reader is None:
            self._reader = self._engine(_BEGIN_READING)
        return ServerLooker(self._reader.connect())

    def let_go(self) -> None:
        """Leave the writing connection to the thread that is stuck in it."""
        self._writer = None

    def close(self) -> None:
        """Close what the engines keep."""
        for engine in (self._writer, self._reader):
            if engine is not None:
                engine.dispose()
        self._writer = self._reader = None

    def _engine(self, begin: str) -> Engine:
        engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            poolclass=NullPool,
            use_native_hstore=False,  # one query less a connection
            hide_parameters=True,
        )

        def on_begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        event.listen(engine, "begin", on_begin)
        return engine

    def _connect(self) -> "psycopg.Connection[Any]":
        connection: psycopg.Connection[Any] = self._psycopg.connect(
            self._psycopg.conninfo.make_conninfo(
                self._url,
                **{name: value for name, value in _DEFAULTS.items() if name not in self._said},
                client_encoding=_ENCODING,  # whatever PGCLIENTENCODING says
            ),
            # BEGIN is said by the engine, as on SQLite; between transactions nothing is open.
            autocommit=True,
            prepare_threshold=None,  # pgbouncer may give each transaction another connection
        )
        try:
            self._check_server(connection)
        except StoreError:
            connection.close()
            raise
        connection.adapters.register_dumper(str, _text_dumper())
        return connection

    def _check_server(self, connection: "psycopg.Connection[Any]") -> None:
        # The server says both when it greets, so this costs nothing.
        version, encoding = (
            connection.info.server_version,
            connection.info.parameter_status("server_encoding"),
        )
        if version < _OLDEST:
            raise StoreError(
                f"{self.shown}: this is PostgreSQL {version // 10_000}, batchgen needs "
                f"{_OLDEST // 10_000} or newer: upgrade the server, or name another job database "
                "with --db"
            )
        if encoding != _ENCODING:
            raise StoreError(
                f"{self.shown}: this database's encoding is {encoding}, and prompts may hold any "
                f"character: CREATE DATABASE … ENCODING '{_ENCODING}' TEMPLATE template0"
            )

    def explain(self, error: Exception) -> StoreError:
        """Return what a driver's error means to a person."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        state = str(getattr(cause, "sqlstate", None) or "")
        # The details of a broken constraint would be the row itself: prompts, URLs, ids.
        first = getattr(getattr(cause, "diag", None), "message_primary", None)
        said = str(first or cause).strip().replace("\n", "; ")
        if state == "53100":
            return DiskFull(f"{self.shown}: the server's disk is full; make room")
        if state in ("55P03", "57014", "40P01"):
            return StoreError(
                f"{self.shown}: the job database is locked by another program; try again later"
            )
        if state in ("42501", _READ_ONLY):
            return StoreError(
                f"{self.shown}: the job database cannot be written ({said}): grant the role its "
                "rights, or name the primary"
            )
        if not state or state.startswith(("08", "57P", "28", "3D")):
            return StoreError(
                f"{self.shown}: the PostgreSQL server cannot be used: {said}: check the URL, "
                "the network and the server"
            )
        return StoreError(f"{self.shown}: the job database failed: {said}")

    def is_passing(self, error: BaseException) -> bool:
        """Return whether a failed transaction may succeed later: lost server, lock, no space."""
        if not isinstance(error, DBAPIError):
            return False
        if error.connection_invalidated:
            return True
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            return isinstance(error, OperationalError | InterfaceError)
        return state == _READ_ONLY or str(state).startswith(_PASSING_CLASSES)

    def cut(self, changer: Changer) -> None:
        """End a connection whose server does not answer, under the thread that waits for it."""
        # It may end by itself at this very moment: then nobody waits for it any more.
        with contextlib.suppress(OSError, InvalidRequestError, self._psycopg.Error):
            raw: Any = cast(ServerChanger, changer).connection.connection.driver_connection
            with socket.socket(fileno=socket.dup(raw.fileno())) as copy:
                copy.shutdown(socket.SHUT_RDWR)

    @property
    def base(self) -> Path:
        """A path in the current folder.

        The same for each job database: one may be reached by many URLs, and the files beside it
        bear the names of workers, of which no two are alike.
        """
        return self.folder / "batchgen"

    def bulk(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: the server is tuned by those who keep it."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def adding(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of those who add manifests, in a transaction that does nothing else.

        A lock of the session would be left on a stranger's connection by pgbouncer, and who waits
        for it inside the server would keep a connection from the one who has it.
        """
        with contextlib.closing(self._connect()) as connection:
            # Our own BEGIN: the driver's would be a message of its own, and a server that ends
            # idle transactions soon could end this one before it is told not to.
            connection.autocommit = True
            while True:
                connection.execute(_ADDING)
                row = connection.execute(_TRY_ADDING).fetchone()
                if row is not None and row[0]:
                    yield
                    return  # closing ends the transaction, and lets go of the lock
                connection.execute("ROLLBACK")
                wait()

    def enter(self, worker_id: str) -> "Leased":
        """Do nothing: its lease in the job database shows that a worker lives."""
        return Leased()

    def is_alive(self, worker_id: str, *, expires_ms: int | None, now_ms: int) -> bool:
        """Return whether the worker's lease lasts, or has yet to begin, on the server's clock."""
        return expires_ms is None or expires_ms > now_ms

    def forget(self, worker_id: str) -> None:
        """Do nothing: a lease leaves no file."""

    def traces(self) -> list[str]:
        """Return none: a lease leaves no file."""
        return []


class Leased:
    """The presence of a worker whose lease is in the job database."""

    def release(self) -> None:
        """Do nothing: `workers.leave` ends the lease."""


def _may_be_misread(url: str, said: Mapping[str, Any]) -> bool:
    """Return whether libpq took a part of a password with `@`, `/` or `?` for host or database."""
    authority, _, rest = url.partition("://")[2].partition("/")
    return (
        authority.count("@") > 1
        or "@" in rest.partition("?")[0]
        or not re.fullmatch("[0-9,]*", str(said.get("port") or ""))
    )


def _psycopg() -> Any:
    try:
        import psycopg  # an extra: SQLite needs none of it
        import psycopg.conninfo
        import psycopg.types.string
    except ImportError as error:
        raise UsageError(
            "a PostgreSQL job database needs psycopg: pip install 'batchgen-cli[postgres]'"
        ) from error
    return psycopg


def _text_dumper() -> Any:
    from psycopg.types.string import StrDumperUnknown

    class Text(StrDumperUnknown):
        """PostgreSQL's text holds no NUL; an answer with one must be recorded all the same."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

    return Text
