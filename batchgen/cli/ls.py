"""`batchgen ls`: list jobs."""

from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import click

from batchgen.cli import common
from batchgen.cli.selection import condition, where_option
from batchgen.domain.redaction import printable, redact_text
from batchgen.domain.states import JobState
from batchgen.store import reads
from batchgen.store.reads import JobRow

_HEADER = ("KEY", "BATCH", "ID", "STATE", "ERROR", "COST", "FILE OR WHY NOT")
_KEY_CHARACTERS = 10
_WHY_CHARACTERS = 120


@click.command("ls")
@common.batch_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in JobState]),
    help="Only jobs in this state; may be given again.",
)
@where_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@common.json_option
@common.db_option
def command(
    *,
    batch: str | None,
    states: tuple[str, ...],
    where: str | None,
    limit: int | None,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """List jobs in manifest order."""
    with (
        closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database,
        database.reading() as tx,
    ):
        batch_id = common.batch_id_of(tx, batch)
        wanted = [JobState(state) for state in states]
        # Closed: a server keeps a cursor that was not read to its end.
        chosen = condition(tx, where)
        with closing(reads.job_rows(tx, batch_id=batch_id, states=wanted, where=chosen)) as found:
            rows = list(islice(found, limit))
    if as_json:
        common.print_json({"jobs": [_json(row) for row in rows]})
    elif rows:
        click.echo(common.table([_cells(row) for row in rows], header=_HEADER))
    else:
        click.echo("no such job", err=True)


def _file(row: JobRow) -> str:
    return str(Path(row.output_dir) / row.files[0]["path"]) if row.files else ""


def _cells(row: JobRow) -> tuple[str, ...]:
    booked = row.charged_micros is not None
    cost = common.usd(row.charged_micros, is_estimate=row.cost_is_estimate) if booked else ""
    key = row.key[:_KEY_CHARACTERS]
    why = printable(redact_text(row.error or ""))[:_WHY_CHARACTERS]
    shown = _file(row) or why
    return (key, row.batch, row.label, row.state, row.error_class or "", cost, shown)


def _json(row: JobRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "batch": row.batch,
        "id": row.row_id,
        "variant": row.variant,
        "state": str(row.state),
        "model": row.model,
        "request_id": row.request_id,
        "error_class": row.error_class,
        "error": row.error,
        "cost_usd": common.usd_number(row.charged_micros),
        "cost_is_estimate": row.cost_is_estimate,
        "estimate_usd": common.usd_number(row.est_micros),
        "file": _file(row) or None,
    }
