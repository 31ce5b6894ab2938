"""The schema on PostgreSQL: made once, never changed by itself, and by one at a time."""

import sqlite3
import time
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import later_version
import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from cli import commands
from cli.commands import ok, rows, write
from postgres import PostgresServer
from runs import DEADLINE_S, Place
from store.stored_jobs import check

from batchgen.cli.main import COMMANDS
from batchgen.domain.errors import Exit, StoreError
from batchgen.providers import simulator
from batchgen.store import postgres as product
from batchgen.store import reads, upgrade, workers
from batchgen.store.database import Database
from batchgen.store.revision import REVISION
from batchgen.store.schema import metadata
from batchgen.store.statements import text

OLD = Path(__file__).parents[1] / "old_databases"
WITHOUT_DATABASE = {"init", "validate", "plan", "models", "schema", "balance", "simulate"}
WITHOUT_DATABASE |= {"config", "completion", "doctor"}  # a doctor says it among other things
NEEDED = {
    "show": ["a"],
    "cancel": ["a"],
    "set": ["jobs", "4"],
    "retry": ["a", "-y"],
    "run": ["-y"],
    "add": ["jobs.csv"],
    "export": ["-o", "-"],
    "db": ["check"],
}
DEFINITIONS = text(
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL "
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE connamespace = 'public'::regnamespace UNION ALL "
    "SELECT table_name, column_name, concat_ws(' ', row_number() OVER "
    "(PARTITION BY table_name ORDER BY ordinal_position), data_type, is_nullable, "
    "column_default) FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2, 3"
)


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    made = Database(postgres_url)
    yield made
    made.close()


def definitions(database: Database) -> list[Any]:
    with database.reading() as tx:
        return [tuple(row) for row in tx.rows(DEFINITIONS)]


def migrate(database: Database, revision: str) -> None:
    """Do as `alembic -x url=… upgrade` does."""
    config = Config(cmd_opts=Namespace(x=[f"url={database.url}"]))
    config.set_main_option("script_location", str(upgrade.migrations_dir()))
    command.upgrade(config, revision)


def fill_old(database: Database, revision: str) -> None:
    """Make a job database of an old revision, with the rows of the one that is kept as SQLite."""
    migrate(database, revision)
    with (
        closing(sqlite3.connect(":memory:")) as old,
        database.transaction() as tx,
    ):
        old.row_factory = sqlite3.Row
        old.executescript((OLD / f"{revision}.sql").read_text(encoding="utf-8"))
        known = {row["name"] for row in old.execute("SELECT name FROM sqlite_master")}
        for table in metadata.sorted_tables:
            if table.name not in known:
                continue
            found = [dict(row) for row in old.execute(f"SELECT * FROM {table.name}")]
            for row in found:
                for name in {"paused", "has_id", "extra", "unfit", "batch_is_new"} & set(row):
                    row[name] = bool(row[name])
            if not found:
                continue
            names = list(found[0])
            tx.run_many(
                text(
                    f"INSERT INTO {table.name} ({', '.join(names)}) "
                    f"VALUES ({', '.join(f':{name}' for name in names)})"
                ),
                found,
            )
            if isinstance(found[0].get("id"), int):
                tx.value(
                    text(
                        f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) "
                        f"FROM {table.name}"
                    )
                )


@contextmanager
def held(url: str, lock: Any) -> Iterator[psycopg.Connection[Any]]:
    """Hold an advisory lock until the block ends."""
    with closing(psycopg.connect(url)) as connection:
        connection.execute(str(lock).encode())
        yield connection
        connection.rollback()


def wait_until_wait(connection: psycopg.Connection[Any], count: int) -> None:
    """Wait until so many others wait for an advisory lock of this database."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    deadline = time.monotonic() + DEADLINE_S
    while connection.execute(query.encode()).fetchone() != (count,):
        assert time.monotonic() < deadline, "they do not wait"
        connection.execute("SELECT pg_sleep(0.01)")


# -- the same everywhere ---------------------------------------------------------------------------


def test_migrating_an_empty_database_gives_the_schema_of_a_new_one(
    postgres: PostgresServer, database: Database
) -> None:
    other = postgres.fresh()
    with closing(Database(postgres.url(other))) as new:
        upgrade.create(new)
        migrate(database, "head")
        expected = definitions(new)
    postgres.drop(other)

    assert definitions(database) == expected
    assert len(expected) > 100
    assert upgrade.revision_of(database) == REVISION
    with database.reading() as tx:
        assert compare_metadata(MigrationContext.configure(tx.connection), metadata) == []


# -- never by itself -------------------------------------------------------------------------------


def test_every_command_refuses_an_old_schema_and_names_the_command(
    database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHGEN_DB", postgres_url)
    monkeypatch.setenv("RUNCOMFY_TOKEN", "a-token")
    fill_old(database, "0001")
    before = definitions(database)
    write("jobs.csv", rows("a"))

    for name in sorted(set(COMMANDS) - WITHOUT_DATABASE - {"db"}):
        done = commands.call(name, *NEEDED.get(name, []))
        assert done.code == Exit.DATABASE, name
        assert "schema 0001" in done.err
        assert "back it up (pg_dump), then run `batchgen db upgrade`" in done.err
    checked = ok("db", "check", "--json").said
    unchanged = definitions(database)
    upgraded = ok("db", "upgrade")
    again = ok("db", "upgrade")

    assert (checked["schema"], checked["schema_is_current"]) == ("0001", False)
    assert unchanged == before
    assert f"upgraded from 0001 to {REVISION}" in upgraded.err
    assert "is current" in again.err
    assert ok("status", "--json").said["batches"][0]["jobs"] == 9


@pytest.mark.parametrize("revision", sorted(path.stem for path in OLD.glob("*.sql")))
def test_an_old_job_database_is_upgraded_with_all_its_jobs(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    fill_old(database, revision)
    later_version.make_migrations(tmp_path / "later")
    monkeypatch.setattr(upgrade, "migrations_dir", lambda: tmp_path / "later")
    monkeypatch.setattr(upgrade, "REVISION", later_version.LATER)

    with pytest.raises(StoreError, match="db upgrade"):
        upgrade.open_current(database)
    assert upgrade.revision_of(database) == revision
    assert upgrade.upgrade(database) is None

    upgrade.open_current(database)
    with database.reading() as tx:
        check(tx)
        assert len(list(reads.job_rows(tx))) == 9
        assert tx.value(text("SELECT note FROM accounts")) == "migrated"


def test_a_migration_that_fails_half_way_leaves_nothing_behind(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_old(database, "0001")
    before = definitions(database)
    path = later_version.make_migrations(tmp_path / "later")
    later_version.write_migration(path, after='raise RuntimeError("half way")')
    monkeypatch.setattr(upgrade, "migrations_dir", lambda: tmp_path / "later")

    with pytest.raises(RuntimeError, match="half way"):
        upgrade.upgrade(database)

    assert definitions(database) == before
    assert upgrade.revision_of(database) == "0001"


def test_an_upgrade_waits_for_workers_of_the_old_version(
    database: Database, postgres_url: str
) -> None:
    fill_old(database, "0001")
    with database.transaction() as tx:
        tx.run(text("UPDATE workers SET state = 'dead'"))
        workers.register(tx, workers.WorkerInfo("w9", "host", 1, "0", 60_000))

    refused = commands.call("db", "upgrade", "--db", postgres_url)
    with database.transaction() as tx:
        tx.run(text("UPDATE workers SET expires_ms = 0"))

    assert refused.code == Exit.DATABASE
    assert "1 worker(s) of an older version still use" in refused.err
    ok("db", "upgrade", "--db", postgres_url)


# -- one at a time ---------------------------------------------------------------------------------


def test_of_two_upgrades_one_waits_however_long_and_both_end_well(
    database: Database, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_old(database, "0001")
    # Shorter than the one that holds the lock takes.
    short = product._BEGIN.replace("'5s'", "'50ms'").replace("'30s'", "'50ms'")
    monkeypatch.setattr(product, "_BEGIN", short)

    def run(_: int) -> Path | None:
        with closing(Database(postgres_url)) as mine:
            return upgrade.upgrade(mine)

    with ThreadPoolExecutor(2) as pool:
        with held(postgres_url, upgrade._SCHEMA_LOCK) as connection:
            done = pool.map(run, range(2))
            wait_until_wait(connection, 2)
            connection.execute("SELECT pg_sleep(0.2)")
            wait_until_wait(connection, 2)
        assert list(done) == [None, None]

    assert upgrade.revision_of(database) == REVISION


@pytest.mark.parametrize("first", [True, False], ids=["new-database", "known-database"])
def test_two_processes_that_store_the_same_manifest_store_it_once(
    postgres_url: str, tmp_path: Path, first: bool
) -> None:
    lock = upgrade._SCHEMA_LOCK if first else text(product._TRY_ADDING)
    with simulator.start_in_thread(simulator.Settings()) as service:
        place = Place(tmp_path, service, url=postgres_url)
        place.write(rows("a", "b", "c"))
        if not first:
            ok("add", write("other.csv", rows("x")), "--db", postgres_url)
        with held(postgres_url, lock) as connection:
            started = [place.start("add", "jobs.csv", "--db", postgres_url) for _ in range(2)]
            if first:
                wait_until_wait(connection, 2)
            else:
                for one in started:
                    one.wait_said("waiting for another program")
        done = [one.wait() for one in started]

    assert [one.code for one in done] == [0, 0], [one.err for one in done]
    assert sorted(job["row_id"] for job in place.jobs() if job["row_id"] != "x") == ["a", "b", "c"]
    assert sorted("3 jobs new" in one.out for one in done) == [False, True]
