"""Alembic's migrations against the schema in `batchgen.store.schema`, and old databases."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import later_version
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from store.stored_jobs import NOW, accepted, check

from batchgen.domain.errors import Exit, StoreError
from batchgen.domain.states import JobState
from batchgen.store import by_hand, jobs, reads, schema, sqlite, upgrade, workers
from batchgen.store.database import Database
from batchgen.store.revision import REVISION
from batchgen.store.schema import metadata
from batchgen.store.scope import Scope
from batchgen.store.statements import text

OLD = Path(__file__).parent / "old_databases"


def config_of(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config


def migrated(database: Database, revision: str = "head") -> None:
    with database.changing_schema() as tx:
        config = config_of(upgrade.migrations_dir())
        config.attributes["connection"] = tx.connection
        command.upgrade(config, revision)


def schema_of(database: Database) -> dict[tuple[str, str], str]:
    """Return the definitions of all tables and indices, without regard to layout."""
    with database.reading() as tx:
        rows = tx.rows(text("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    return {(row.type, row.name): normalised(row.sql) for row in rows}


def normalised(sql: str) -> str:
    head, _, body = re.sub(r"\s+", " ", sql.replace('"', "")).partition("(")
    body = body.replace("DEFAULT (false)", "DEFAULT false").strip()
    parts = re.split(r", (?=CONSTRAINT |[a-z_]+ [A-Z])", body.removesuffix(")").strip())
    # The order of constraints means nothing, that of columns does.
    columns = [part.strip() for part in parts if not part.startswith("CONSTRAINT")]
    constraints = sorted(part.strip() for part in parts if part.startswith("CONSTRAINT"))
    return f"{head.strip()} ({', '.join([*columns, *constraints])})"


def path_of(database: Database) -> Path:
    assert database.path is not None
    return database.path


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(str(tmp_path / "batchgen.db"))
    yield made
    made.close()


def test_the_revision_is_the_newest_migration() -> None:
    scripts = ScriptDirectory.from_config(config_of(upgrade.migrations_dir()))

    assert scripts.get_heads() == [REVISION]


def test_every_migration_is_named_by_its_revision() -> None:
    scripts = ScriptDirectory.from_config(config_of(upgrade.migrations_dir()))

    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")


def test_migrating_an_empty_file_gives_the_schema_of_a_new_one(
    tmp_path: Path, database: Database
) -> None:
    new = Database(str(tmp_path / "new.db"))
    upgrade.create(new)
    migrated(database)

    assert schema_of(database) == schema_of(new)
    assert len(schema_of(new)) > 15
    assert upgrade.revision_of(database) == upgrade.revision_of(new) == REVISION
    new.close()


def test_the_migrated_schema_is_the_one_in_the_code(database: Database) -> None:
    migrated(database)

    with database.changing_schema() as tx:
        context = MigrationContext.configure(tx.connection)
        assert compare_metadata(context, metadata) == []


def test_the_tables_that_are_written_out_are_those_in_the_code(database: Database) -> None:
    written = Path(schema.__file__).with_name("tables.sql").read_text(encoding="utf-8")
    assert written == schema.script()

    upgrade.open_current(database)
    with database.changing_schema() as tx:
        assert compare_metadata(MigrationContext.configure(tx.connection), metadata) == []


def test_opening_creates_once(database: Database) -> None:
    upgrade.open_current(database)
    before = path_of(database).read_bytes()
    upgrade.open_current(database)
    upgrade.create(database)  # another process was faster
    upgrade.require_current(database)

    assert path_of(database).read_bytes() == before
    assert sorted(path.name for path in path_of(database).parent.glob("*before*")) == []


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A later batchgen: one more migration; return where it lies."""
    folder = tmp_path / "later"
    path = later_version.make_migrations(folder)
    monkeypatch.setattr(upgrade, "migrations_dir", lambda: folder)
    monkeypatch.setattr(upgrade, "REVISION", later_version.LATER)
    return path


def old_database(database: Database, name: str = "0001.sql") -> None:
    with sqlite3.connect(path_of(database)) as connection:
        connection.executescript((OLD / name).read_text(encoding="utf-8"))
    connection.close()


def test_an_upgrade_keeps_a_copy_of_the_old_file(database: Database, next_version: Path) -> None:
    assert next_version.is_file()
    old_database(database)

    upgrade.open_current(database)

    copy = path_of(database).with_name("batchgen.db.before-0001")
    assert upgrade.revision_of(database) == "9001"
    assert upgrade.revision_of(Database(str(copy))) == "0001"
    with database.reading() as tx:
        assert tx.value(text("SELECT note FROM accounts")) == "migrated"
        check(tx)
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (9,)
    connection.close()


def test_a_migration_that_fails_half_way_leaves_nothing_behind(
    database: Database, next_version: Path
) -> None:
    later_version.write_migration(next_version, after='raise RuntimeError("half way")')
    old_database(database)
    before = schema_of(database)

    with pytest.raises(RuntimeError, match="half way"):
        upgrade.open_current(database)

    assert schema_of(database) == before
    assert upgrade.revision_of(database) == "0001"


def test_an_upgrade_waits_for_workers_of_the_old_version(
    database: Database, next_version: Path
) -> None:
    assert next_version.is_file()
    old_database(database)
    lock = sqlite.WorkerLock(path_of(database), "w1")

    with pytest.raises(StoreError, match="1 worker") as caught:
        upgrade.open_current(database)

    assert caught.value.exit_code is Exit.DATABASE
    assert upgrade.revision_of(database) == "0001"
    lock.release()
    upgrade.open_current(database)
    assert upgrade.revision_of(database) == "9001"


@pytest.mark.parametrize("name", sorted(path.name for path in OLD.glob("*.sql")))
def test_an_old_database_opens_and_works(database: Database, name: str) -> None:
    old_database(database, name)

    upgrade.open_current(database)

    assert upgrade.revision_of(database) == REVISION
    assert upgrade.integrity(database) == []
    with database.reading() as tx:
        check(tx)
        assert {row.state for row in reads.job_rows(tx)} == set(JobState)
        account_id = reads.batches(tx)[0].account_id
    slot_ms = 1
    with database.transaction() as tx:
        assert workers.bury(tx, "w1", slot_ms=slot_ms, now_ms=NOW) == 1
    with database.transaction() as tx:
        workers.register(tx, workers.WorkerInfo("w9", "host", 1, "0", 1))
        adopted = jobs.adopt(
            tx, [jobs.AdoptRequest("w9", account_id, 9, downloads=True, now_ms=NOW)]
        )
        assert [job.label for job in adopted[0]] == ["running", "downloading"]
        scope = Scope(None, 10**9)
        request = jobs.ClaimRequest("w9", account_id, scope, ("n1",), frozenset(), NOW)
        claim = jobs.claim(tx, [request])[0]
        assert [job.label for job in claim.jobs] == ["pending"]
        jobs.record_accepted(tx, [accepted(claim.jobs[0])])
    with database.transaction() as tx:
        for row in reads.job_rows(tx, states=[JobState.IN_DOUBT]):
            assert by_hand.write_off(tx, row.id, now_ms=NOW).done
    with database.reading() as tx:
        check(tx)


def test_there_is_an_old_database_of_every_revision() -> None:
    scripts = ScriptDirectory.from_config(config_of(upgrade.migrations_dir()))
    revisions = {script.revision for script in scripts.walk_revisions()}

    assert {path.stem for path in OLD.glob("*.sql")} == revisions
