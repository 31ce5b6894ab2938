"""Open a job database: to change it, or only to look at it.

The writer's transactions take the write lock at once on SQLite; the reader's see one snapshot and
cannot write, so that looking never queues behind a writer.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from batchgen.domain.errors import DatabaseMoved, StoreError
from batchgen.store import sqlite
from batchgen.store.backend import UNREADABLE, Backend
from batchgen.store.transactions import Changer, Looker, Transaction, is_of_driver

# Not a file's name, and repeating it might show a password.
_NEARLY_POSTGRES = re.compile(
    r"^postgres[\w+]*:|(?:^|\s)(?:host|hostaddr|user|password|dbname|service)\s*=", re.IGNORECASE
)


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

    def connect_writer(self) -> Changer:
        """Return a connection whose transactions may write."""
        with self.translated():
            changer = self.backend.changer()
        if self._opened is None and self.path is not None:
            self._opened = sqlite.identity(self.path)
        return changer

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
        with self.translated():
            cast(sqlite.SqliteFile, self.backend).save_opened(target)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a short writing transaction of its own; commit at the end, roll back on error."""
        with (
            self.translated(),
            contextlib.closing(self.connect_writer()) as changer,
            changer.changing() as tx,
        ):
            yield tx

    @contextlib.contextmanager
    def changing_schema(self) -> Iterator[Transaction]:
        """Open a writing transaction of SQLAlchemy in which tables may be copied and dropped."""
        with self.translated(), self.backend.changing_schema() as tx:
            yield tx

    @contextlib.contextmanager
    def bulk(self) -> Iterator[None]:
        """Let many large transactions follow each other: more memory, fewer checkpoints."""
        with self.translated(), self.backend.bulk():
            yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a read-only transaction: one snapshot, never in a writer's way."""
        with (
            self.translated(),
            contextlib.closing(self.backend.looker()) as looker,
            looker.looking() as tx,
        ):
            yield tx

    def let_go(self) -> None:
        """Leave the writing connection to the thread that is stuck in it; `close` spares it."""
        self.backend.let_go()

    def close(self) -> None:
        """Close every connection."""
        self.backend.close()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Let what a driver raises come out as what it means to a person."""
        try:
            yield
        except Exception as error:
            if not is_of_driver(error):
                raise
            raise self.backend.explain(error) from error


class Watcher:
    """Looks at a job database again and again, in one thread, over one connection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looker: Looker | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a read-only transaction; after an error, the next one has a new connection.

        Raises:
            StoreError: If it cannot be read, or another file has its name by now.
        """
        if self._looker is None:
            self._database.check_in_place()
            with self._database.translated():
                self._looker = self._database.backend.looker()
        try:
            with self._database.translated(), self._looker.looking() as tx:
                yield tx
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        looker, self._looker = self._looker, None
        if looker is not None:
            with self._database.translated():
                looker.close()


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
