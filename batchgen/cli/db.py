"""`batchgen db`: check or upgrade the job database."""

from contextlib import closing
from typing import Any

import click

from batchgen.cli import common
from batchgen.domain.errors import NoDatabase, StoreError
from batchgen.domain.states import JobState
from batchgen.settings import database_url
from batchgen.store import reads, upgrade
from batchgen.store.database import Database, Transaction
from batchgen.store.jobs import Scope
from batchgen.store.revision import REVISION


@click.group("db")
def command() -> None:
    """Check or upgrade the job database."""


@command.command("check")
@common.json_option
@common.db_option
def check(*, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Check the file, its references and its counters; exit code 11 if something is wrong."""
    with closing(_existing(db, allow_network_fs=allow_network_fs)) as database:
        found = upgrade.revision_of(database)
        problems = upgrade.integrity(database)
        if found == REVISION and not problems:
            with database.reading() as tx:
                problems = _miscounted(tx)
    if as_json:
        common.print_json(_report(database, found, problems))
    else:
        state = "current" if found == REVISION else f"this version wants {REVISION}"
        click.echo(f"{database.shown}: schema {found} ({state})")
        click.echo("\n".join(problems) if problems else "sound: file, references, counters")
    if problems:
        raise StoreError(
            f"{database.shown}: {common.plural(len(problems), 'problem')}; restore a copy, or "
            "export what can be read"
        )


def _report(database: Database, found: str | None, problems: list[str]) -> dict[str, Any]:
    return {
        "database": database.shown,
        "schema": found,
        "schema_is_current": found == REVISION,
        "problems": problems,
    }


def _miscounted(tx: Transaction) -> list[str]:
    """Compare the stored counters with the jobs."""
    newest = reads.newest_job_id(tx)
    problems = []
    for batch in reads.batches(tx):
        counted = reads.tally(tx, Scope((batch.id,), newest), batch.account_id)
        problems += [
            f"batch {batch.name}: {counted[state]} jobs are {state}, "
            f"the counter says {batch.counts.get(state, 0)}"
            for state in JobState
            if counted[state] != batch.counts.get(state, 0)
        ]
    return problems


@command.command("upgrade")
@common.json_option
@common.db_option
def upgrade_command(*, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Bring the schema to this version, after a copy; says where the copy lies.

    A PostgreSQL server's job database is not copied: take a backup first (pg_dump).
    """
    copy = None
    with closing(_existing(db, allow_network_fs=allow_network_fs)) as database:
        before = upgrade.revision_of(database)
        if database.path is None and before not in (None, REVISION):
            upgrade.refuse_newer(database, str(before))
            upgrade.upgrade(database)
        else:
            upgrade.open_current(database)
        if database.path is not None and before not in (None, REVISION):
            copy = database.path.with_name(f"{database.path.name}.before-{before}")
    if as_json:
        said = {"database": database.shown, "from": before, "to": REVISION}
        common.print_json({**said, "copy": None if copy is None else str(copy)})
    elif copy is not None:
        click.echo(str(copy))
        click.echo(f"upgraded from {before} to {REVISION}; above is the copy before it", err=True)
    elif before not in (None, REVISION):
        click.echo(f"{database.shown}: upgraded from {before} to {REVISION}", err=True)
    else:
        click.echo(f"{database.shown}: the schema is current ({REVISION})", err=True)


def _existing(db: str | None, *, allow_network_fs: bool) -> Database:
    database = Database(database_url(db), allow_network_fs=allow_network_fs)
    if not database.exists():
        raise NoDatabase(f"{database.shown}: there is no job database here: --db names another")
    return database
