"""`batchgen export`: write the result table."""

import csv
from contextlib import closing

import click

from batchgen import exporters, results
from batchgen.cli import common, selection

_STDOUT = "-"


class Columns(click.ParamType[tuple[str, ...]]):
    """Names of columns with commas between; one that holds a comma is quoted as in CSV."""

    name = "LIST"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names of a list such as `id,shot,"a, b"`."""
        if isinstance(value, tuple):
            return value
        try:
            [names] = csv.reader([str(value)], skipinitialspace=True, strict=True)
        except (csv.Error, ValueError):
            names = []
        if not all(names) or not names:
            self.fail(f"{value!r} is no list of columns such as id,result_file", param, ctx)
        return tuple(names)


@click.command("export")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Where to; .csv, .jsonl or .xlsx says the format, - is stdout.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice([suffix.removeprefix(".") for suffix in exporters.FORMATS]),
    help="The format where the name of FILE does not say it; csv on stdout.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE even if it is no export.")
@common.batch_option
@selection.where_option
@click.option(
    "--columns", type=Columns(), help="Which columns, in which order, with commas between."
)
@click.option("--bom", is_flag=True, help="Begin a CSV with a byte order mark, for Excel.")
@click.option(
    "--excel-safe",
    is_flag=True,
    help="Escape your own cells of a CSV too, so that no spreadsheet runs them.",
)
@common.sign_option
@common.json_option
@common.db_option
def command(
    *,
    output: str,
    format_name: str | None,
    overwrite: bool,
    batch: str | None,
    where: str | None,
    columns: tuple[str, ...] | None,
    bom: bool,
    excel_safe: bool,
    sign_s: float | None,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """Write one line a job: your own columns unchanged, then what became of it.

    The file can be given to `add` and `run` again: its rows keep their jobs. With --sign,
    result_url is a link to the clip in its bucket.
    """
    if as_json and output == _STDOUT:
        raise click.UsageError("--json and -o - would both write to stdout: leave one out")
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        with database.reading() as tx:
            batch_id = common.batch_id_of(tx, batch)
            condition = selection.condition(tx, where)
        written = results.write(
            database,
            output,
            batch_ids=None if batch_id is None else [batch_id],
            overwrite=overwrite,
            where=condition,
            chosen=columns,
            format_name=format_name,
            bom=bom,
            excel_safe=excel_safe,
            signed_s=None if sign_s is None else int(sign_s),
        )
    if as_json:
        common.print_json({"file": output, "jobs": written.jobs, "is_manifest": not written.caveat})
    elif output != _STDOUT:
        click.echo(f"{common.plural(written.jobs, 'job')} written to {output}", err=True)
    if written.caveat:
        click.echo(written.caveat, err=True)
