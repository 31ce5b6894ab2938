"""What the commands of `db` share: the job database that must be there."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from batchgen.cli import common
from batchgen.domain.errors import NoConsent, NoDatabase, UsageError
from batchgen.settings import database_url
from batchgen.store import moving, upgrade
from batchgen.store.database import Database

Command = TypeVar("Command", bound=Callable[..., Any])


def open_existing(db: str | None, *, allow_network_fs: bool) -> Database:
    """Return a job database of any version.

    Raises:
        NoDatabase: If there is none.
        HalfCopied: If a copy to there was not finished.
    """
    database = Database(database_url(db), allow_network_fs=allow_network_fs)
    if not database.exists():
        raise NoDatabase(f"{database.shown}: there is no job database here: --db names another")
    found = upgrade.schema_of(database)
    if found is not None:
        moving.refuse_half(database.shown, found.copying)
    return database


def file_of(database: Database, *, instead: str) -> Path:
    """Return the file of a job database.

    Args:
        database: Opened.
        instead: What is done on a server.

    Raises:
        UsageError: If a server holds it.
    """
    if database.path is None:
        raise UsageError(f"{database.shown} is on a PostgreSQL server: {instead}")
    return database.path


def stamp() -> str:
    """Return the time as it stands in names of files, UTC."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S")


def size(size_bytes: int) -> str:
    """Return a number of bytes for people."""
    amount, unit = float(size_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{size_bytes:,} bytes" if unit == "bytes" else f"{amount:,.1f} {unit}"


def agree(question: str, *, yes: bool) -> None:
    """Ask before something is dropped.

    Raises:
        NoConsent: If the answer is no, or nobody can be asked.
    """
    if yes:
        return
    if not common.is_terminal():
        raise NoConsent("nobody can be asked: pass -y to agree. Nothing was dropped")
    if not click.confirm(question, err=True):
        raise NoConsent("not agreed: nothing was dropped")
