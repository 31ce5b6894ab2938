"""`batchgen db upgrade`: bring the schema to this version."""

from contextlib import closing

import click

from batchgen.cli import common
from batchgen.cli.db.existing import open_existing
from batchgen.store import upgrade
from batchgen.store.revision import REVISION


@click.command("upgrade")
@common.json_option
@common.db_option
def command(*, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Bring the schema to this version, after a copy; says where the copy lies.

    A PostgreSQL server's job database is not copied: take a backup first (pg_dump).
    """
    copy = None
    with closing(open_existing(db, allow_network_fs=allow_network_fs)) as database:
        before = upgrade.bring_up(database)
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
