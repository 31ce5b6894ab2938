"""`batchgen db prune`: drop what nobody needs to keep."""

import time
from contextlib import closing

import click

from batchgen.cli import common
from batchgen.cli.db.existing import agree, size
from batchgen.cli.options import Seconds
from batchgen.store import upkeep
from batchgen.store.upkeep import Pruned

_LONGEST_S = 100 * 365 * 86_400


@click.command("prune")
@click.option(
    "--older-than",
    type=Seconds(longest_s=_LONGEST_S),
    default="30d",
    show_default=True,
    help="Only of jobs that came to rest longer ago than this.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be dropped; drop nothing.")
@click.option("-y", "--yes", is_flag=True, help="Drop it without asking.")
@common.json_option
@common.db_option
def command(
    *,
    older_than: float,
    dry_run: bool,
    yes: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """Drop the raw answers of the service and the events of jobs that are long at rest.

    Also old sessions, and what input URLs answered. Everything that money or identity depends
    on stays: attempts with their request ids, costs and inputs, the hashes of clips, and
    whatever is in doubt, with its raw answers. `batchgen show` tells less of those jobs then.
    `batchgen db vacuum` makes the file smaller afterwards.
    """
    before_ms = time.time_ns() // 1_000_000 - round(older_than * 1000)
    with closing(common.open_to_change(db, allow_network_fs=allow_network_fs)) as database:
        found = upkeep.prune(database, before_ms=before_ms, dry_run=True, sleep=time.sleep)
        if not dry_run and found.rows:
            if not as_json:
                _show(found)
            agree("Drop all of this?", yes=yes)
            found = upkeep.prune(database, before_ms=before_ms, dry_run=False, sleep=time.sleep)
    if as_json:
        common.print_json({"dry_run": dry_run, **_json(found)})
    elif not found.rows:
        click.echo("there is nothing to drop", err=True)
    elif dry_run:
        _show(found)
        click.echo("nothing was dropped (--dry-run)", err=True)
    else:
        smaller = "; `batchgen db vacuum` makes the file smaller"
        common.echo(f"dropped{'' if database.path is None else smaller}", err=True)


def _show(found: Pruned) -> None:
    click.echo(
        f"raw answers of {common.plural(found.answers, 'attempt')}: {size(found.answer_bytes)}"
    )
    click.echo(f"{common.plural(found.events, 'event')}: {size(found.event_bytes)}")
    click.echo(
        f"{common.plural(found.sessions, 'session')}, {common.plural(found.probes, 'probe')}"
    )


def _json(found: Pruned) -> dict[str, int]:
    return {
        "answers": found.answers,
        "answer_bytes": found.answer_bytes,
        "events": found.events,
        "event_bytes": found.event_bytes,
        "sessions": found.sessions,
        "probes": found.probes,
    }
