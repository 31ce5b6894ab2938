"""`batchgen export`: write the result table."""

from contextlib import closing

import click

from batchgen import results
from batchgen.cli import common


@click.command("export")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Where to; .csv or .jsonl says the format, - is stdout.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE even if it is no export.")
@common.batch_option
@click.option("--bom", is_flag=True, help="Begin a CSV with a byte order mark, for Excel.")
@click.option(
    "--excel-safe",
    is_flag=True,
    help="Escape your own cells too, so that no spreadsheet runs them.",
)
@common.json_option
@common.db_option
def command(
    *,
    output: str,
    overwrite: bool,
    batch: str | None,
    bom: bool,
    excel_safe: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """Write one line a job: your own columns unchanged, then what became of it.

    The file can be given to `add` and `run` again: its rows keep their jobs.
    """
    if as_json and output == "-":
        raise click.UsageError("--json and -o - would both write to stdout: leave one out")
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        with database.reading() as tx:
            batch_id = common.batch_id_of(tx, batch)
        written = results.write(
            database,
            output,
            batch_ids=None if batch_id is None else [batch_id],
            overwrite=overwrite,
            bom=bom,
            excel_safe=excel_safe,
        )
    if as_json:
        common.print_json({"file": output, "jobs": written})
    elif output != "-":
        click.echo(f"{common.plural(written, 'job')} written to {output}", err=True)
