"""`batchgen db vacuum`: give back the space of what was dropped."""

from contextlib import closing

import click

from batchgen.cli import common
from batchgen.cli.db.existing import file_of, open_existing, size
from batchgen.store import upgrade, upkeep


@click.command("vacuum")
@common.json_option
@common.db_option
def command(*, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Write the job database's file anew without the space that nothing uses any more.

    Not while a run lives, and with about twice its size of free disk. What `batchgen db prune`
    drops becomes free only so.
    """
    with closing(open_existing(db, allow_network_fs=allow_network_fs)) as database:
        path = file_of(
            database,
            instead="it gives back space by itself (autovacuum); `vacuumdb --analyze …` does it "
            "now",
        )
        upgrade.require_current(database)
        shrunk = upkeep.vacuum(database, path)
    if as_json:
        said = {"before_bytes": shrunk.before_bytes, "after_bytes": shrunk.after_bytes}
        common.print_json({"database": database.shown, **said})
        return
    click.echo(
        f"{database.shown}: {size(shrunk.before_bytes)} before, {size(shrunk.after_bytes)} now"
    )
