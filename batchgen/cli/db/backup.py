"""`batchgen db backup`: a copy of the job database while it is in use."""

from contextlib import closing
from pathlib import Path

import click

from batchgen.cli import common
from batchgen.cli.db.existing import file_of, open_existing, size, stamp
from batchgen.domain.errors import StoreError
from batchgen.store import upgrade, upkeep


@click.command("backup")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@common.json_option
@common.db_option
def command(*, file: Path | None, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Copy the job database to FILE, also under live runs; by default beside it, with the time.

    The copy is one moment of it, read back before it gets its name, and never goes over
    another file. It is for the day on which the job database is lost or damaged, not to go
    back: it does not know what is bought after it. If you restore it, `run` notices and buys
    nothing until `batchgen reconcile --after-restore` has put back what it lacks.
    """
    with closing(open_existing(db, allow_network_fs=allow_network_fs)) as database:
        source = file_of(
            database, instead="`pg_dump --format=custom --file=batchgen.dump …` copies it"
        )
        if upgrade.revision_of(database) is None:
            raise StoreError(f"{database.shown}: there is nothing in it to be copied")
        target = file or source.with_name(f"{source.name}.backup-{stamp()}")
        copy = upkeep.back_up(source, target)
    if as_json:
        common.print_json(
            {
                "database": database.shown,
                "copy": str(copy.path),
                "size_bytes": copy.size_bytes,
                "rows": dict(copy.counts),
            }
        )
        return
    click.echo(str(copy.path))
    click.echo(
        f"{common.plural(copy.counts['jobs'], 'job')}, {size(copy.size_bytes)}; the copy is sound",
        err=True,
    )
