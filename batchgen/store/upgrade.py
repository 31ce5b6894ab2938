"""Bring a job database to the schema of this version.

A new file gets the whole schema at once; an older one is copied with SQLite's backup, then
migrated by Alembic, which takes about a second to import and is loaded only for that.
"""

import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from batchgen.domain.errors import NoDatabase, StoreError
from batchgen.failpoints import failpoint
from batchgen.store import moving, step_back, workers
from batchgen.store.database import Database
from batchgen.store.imports import SHOWN
from batchgen.store.revision import REVISION
from batchgen.store.statements import Statement, text
from batchgen.store.transactions import OnFile, Transaction

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_TABLES = Statement(
    "SELECT name FROM sqlite_master WHERE type = 'table'",
    "SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()",
)
# All of batchgen's changes of the schema, on all hosts, one after the other.
_SCHEMA_LOCK = text("SELECT pg_advisory_xact_lock(7238461203)")
# Whoever holds it may migrate for long; a migration itself must not queue before live workers.
_WAIT_LONG = text(
    "SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true), "
    "set_config('idle_in_transaction_session_timeout', '0', true)"
)
_WAIT_SHORTLY = text("SET LOCAL lock_timeout = '30s'")
_VERSION = text("SELECT version_num FROM alembic_version")
_COPYING = text("SELECT copying FROM job_database")
_VERSION_TABLE = text(  # as Alembic makes it
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


def migrations_dir() -> Path:
    """Return the migrations folder: inside the wheel, or beside a source checkout."""
    package = Path(str(files("batchgen")))
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


@dataclass(frozen=True)
class Schema:
    """The schema that a job database has.

    Attributes:
        revision: Alembic's.
        copying: What a copy to here has yet to bring; None if it is whole.
    """

    revision: str
    copying: str | None = None


def revision_of(database: Database) -> str | None:
    """Return the schema revision of the file, None if it holds no schema yet.

    Raises:
        StoreError: If the file is a database of something else.
    """
    found = schema_of(database)
    return None if found is None else found.revision


def schema_of(database: Database) -> Schema | None:
    """Return the schema of the file, None if it holds none yet; as `revision_of`."""
    if not database.exists():
        return None
    with database.reading() as tx:
        tables = {row.name for row in tx.rows(_TABLES)}
        if not tables:
            return None
        if not {"alembic_version", "attempts"} <= tables:
            raise StoreError(
                f"{database.shown}: this database belongs to another program: name another "
                "one with --db"
            )
        revision = str(tx.value(_VERSION))
        return Schema(revision, tx.value(_COPYING) if revision == REVISION else None)


def open_current(database: Database) -> None:
    """Create the schema or bring it up to date, so that the database can be worked with.

    Raises:
        StoreError: If it is newer than this version, or a worker lives that uses the old schema;
            or if a copy has not brought all of it.
    """
    schema = schema_of(database)
    if schema is None:
        create(database)
        return
    found = schema.revision
    if found == REVISION:
        moving.refuse_half(database.shown, schema.copying)
        return
    refuse_newer(database, found)
    if database.path is None:
        raise StoreError(
            f"{database.shown}: this job database has schema {found}, this version wants "
            f"{REVISION}: let every worker end, back it up (pg_dump), then run "
            "`batchgen db upgrade`"
        )
    upgrade(database)


def require_current(database: Database) -> None:
    """Check that a database can be read as it is; used by commands that only look.

    Raises:
        StoreError: If there is no job database, or its schema is another version's.
    """
    if not database.exists():
        raise NoDatabase(
            f"{database.shown}: there is no job database here yet: `batchgen run MANIFEST` or "
            "`batchgen add MANIFEST` makes one, --db names another"
        )
    open_current(database)


def create(database: Database) -> None:
    """Write the whole schema in one transaction: all of it, or none."""
    is_file = database.path is not None
    with database.transaction() if is_file else database.changing_schema() as tx:
        _lock_schema(tx)
        # Another process may have been faster: the lock is ours only from here on.
        if any(row.name == "alembic_version" for row in tx.rows(_TABLES)):
            return
        _make_tables(tx)
        tx.run(_VERSION_TABLE)
        tx.run(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISION})
        step_back.create(tx, secrets.token_hex(8))


def _make_tables(tx: Transaction) -> None:
    if isinstance(tx, OnFile):
        for statement in _statements((files("batchgen.store") / "tables.sql").read_text("utf-8")):
            tx.file.execute(statement)
        return
    from batchgen.store.schema import metadata  # a file has them written out

    metadata.create_all(tx.connection)


def _statements(script: str) -> list[str]:
    return [one for one in script.split(";\n") if one]


def _lock_schema(tx: Transaction) -> None:
    if tx.is_postgresql:
        tx.run(_WAIT_LONG)
        tx.value(_SCHEMA_LOCK)
        tx.run(_WAIT_SHORTLY)


def upgrade(database: Database, revision: str = "head") -> Path | None:
    """Migrate; a file is copied before: return where the copy lies.

    Raises:
        StoreError: If a worker lives that uses the old schema.
    """
    from alembic import command  # a second to import, seldom needed

    found = revision_of(database) or "empty"
    with database.reading() as tx:
        _refuse_living(tx, database)
    copy = None
    if database.path is not None:
        copy = database.path.with_name(f"{database.path.name}.before-{found}")
        back_up(database.path, copy)
    failpoint("in-migration")
    with database.changing_schema() as tx:
        _lock_schema(tx)
        _refuse_living(tx, database)  # one may have come while this waited
        command.upgrade(_config(tx.connection), revision)
        failpoint("in-migration")
    return copy


def bring_up(database: Database) -> str | None:
    """Bring the schema to this version because somebody asked for it, on a server too.

    Returns:
        Which it had before, None if there was none.

    Raises:
        StoreError: As `open_current`, but for the age of a server's.
    """
    before = revision_of(database)
    if database.path is None and before not in (None, REVISION):
        refuse_newer(database, str(before))
        upgrade(database)
    else:
        open_current(database)
    return before


def _refuse_living(tx: Transaction, database: Database) -> None:
    living = workers.living(tx, database.backend)
    if living:
        raise StoreError(
            f"{database.shown}: {len(living)} worker(s) of an older version still use this job "
            "database: let them end first, then try again"
        )


def back_up(source: Path, target: Path) -> None:
    """Copy a job database with SQLite's backup API, whole even while it is in use.

    Raises:
        StoreError: If it cannot be read, or the copy cannot be written.
    """
    try:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
    except sqlite3.Error as error:
        raise StoreError(f"{source}: cannot be copied to {target}: {error}") from error


def _config(connection: "Connection") -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def refuse_newer(database: Database, found: str) -> None:
    """Refuse a schema that this version does not know.

    Raises:
        StoreError: If it is a newer version's.
    """
    known = {path.name.split("_", 1)[0] for path in (migrations_dir() / "versions").glob("*.py")}
    if found not in known:
        raise StoreError(
            f"{database.shown}: this job database was written by a newer batchgen (schema {found}, "
            f"this version knows {REVISION}): install the newer version"
        )


_WITHOUT_KEY = text(
    f"SELECT count(*) FROM jobs j WHERE {SHOWN} AND NOT EXISTS "
    "(SELECT 1 FROM job_keys k WHERE k.key = j.key AND k.job_id = j.id)"
)


def integrity(database: Database) -> list[str]:
    """Return what is wrong with the tables of keys, and what SQLite finds wrong with the file.

    A PostgreSQL server looks after its own.
    """
    is_current = revision_of(database) == REVISION
    with database.reading() as tx:
        lost = int(tx.value(_WITHOUT_KEY)) if is_current else 0
        found = [f"keys: {lost:,} jobs cannot be found by theirs"] if lost else []
        if tx.is_postgresql:
            return found
        said = [str(row[0]) for row in tx.rows(text("PRAGMA integrity_check"))]
        keys = tx.rows(text("PRAGMA foreign_key_check"))
        found += [line for line in said if line != "ok"]
        return found + [f"foreign key: {row}" for row in keys]
