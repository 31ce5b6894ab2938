"""What a kind of database must offer beside SQL; one module a kind implements it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from batchgen.domain.errors import StoreError
from batchgen.store.transactions import Changer, Looker, Transaction

UNREADABLE = (
    "the PostgreSQL URL cannot be read (it is not repeated here, for it may hold a "
    "password): write postgresql://USER@HOST:PORT/DATABASE, with special characters as %XX"
)


class Presence(Protocol):
    """What shows that a worker lives, while it does."""

    def release(self) -> None:
        """Show it no more."""


class Backend(Protocol):
    """One kind of job database.

    Attributes:
        shown: Its name for people: never a password.
        path: The file, None if it is a server's.
        folder: Where relative output folders start.
        base: What the paths of files beside the job database begin with.
        is_remote: Whether a connection can be lost between a COMMIT and its answer.
    """

    @property
    def shown(self) -> str: ...  # noqa: D102 - an attribute
    @property
    def path(self) -> Path | None: ...  # noqa: D102 - an attribute
    @property
    def folder(self) -> Path: ...  # noqa: D102 - an attribute
    @property
    def base(self) -> Path: ...  # noqa: D102 - an attribute
    @property
    def is_remote(self) -> bool: ...  # noqa: D102 - an attribute

    def exists(self) -> bool:
        """Return whether a job database, or anything else, is there.

        Raises:
            StoreError: If it cannot be looked at.
        """

    def check_place(self) -> None:
        """Check, before anything is asked, that it could be made and written.

        Raises:
            StoreError: If not.
        """

    def changer(self) -> Changer:
        """Return a connection whose transactions may write, and take their lock at once.

        Raises:
            StoreError: If it cannot be written here.
        """

    def changing_schema(self) -> AbstractContextManager[Transaction]:
        """Begin a writing transaction of SQLAlchemy in which tables may be copied and dropped."""

    def looker(self) -> Looker:
        """Return a connection whose transactions only look, and never wait for a writer."""

    def let_go(self) -> None:
        """Leave what is kept for those that write to whoever is stuck in it."""

    def close(self) -> None:
        """Close what is kept for those that write, and for those that look."""

    def explain(self, error: Exception) -> StoreError:
        """Return what a driver's error means to a person."""

    def is_passing(self, error: BaseException) -> bool:
        """Return whether a failed transaction may succeed later."""

    def cut(self, changer: Changer) -> None:
        """End a connection under the thread that waits for its answer."""

    def bulk(self) -> AbstractContextManager[None]:
        """Let many large writing transactions follow each other."""

    def adding(self, wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the lock of those who add manifests, one at a time.

        Args:
            wait: Called while another one holds it, before the next try.
        """

    def enter(self, worker_id: str) -> Presence:
        """Show that a worker lives, from now on."""

    def is_alive(self, worker_id: str, *, expires_ms: int | None, now_ms: int) -> bool:
        """Return whether a worker that has not been declared dead lives.

        `expires_ms` is None of one that is not registered yet.
        """

    def forget(self, worker_id: str) -> None:
        """Remove what a dead worker left to show that it lived."""

    def traces(self) -> list[str]:
        """Return the workers that have left something to be forgotten, dead or not."""
