"""A job database that was restored from an older copy: what it forgot is put back."""

import socket
from collections.abc import Sequence
from pathlib import Path

import click

from batchgen import reconciling
from batchgen.cli import common
from batchgen.domain.errors import Exit, UsageError
from batchgen.library.step_backs import folder_of
from batchgen.runner import rescue
from batchgen.runner.clocks import wall_ms
from batchgen.store import journal, step_back, workers
from batchgen.store.after_restore import Became, Repair
from batchgen.store.database import Database
from batchgen.store.journal import Contents, Entry
from batchgen.store.step_back import SteppedBack

# -- reconcile --after-restore -------------------------------------------------------------------


def reconcile(
    database: Database, files: Sequence[Path], *, write_off: bool, yes: bool, as_json: bool
) -> int:
    """Put back what a restored job database forgot.

    Raises:
        SteppedBack: If something is left that forbids to submit.
    """
    with database.reading() as tx:
        identity = step_back.identity(tx)
        elsewhere = sorted(workers.hosts(tx) - {socket.gethostname()})
    mine = folder_of(identity)
    paths = [*([journal.path_of(mine)] if mine else []), *files]
    if not files and elsewhere:
        click.echo(
            f"this host knows only its own journal; workers also ran on {', '.join(elsewhere)}: "
            "pass their journals with --journal",
            err=True,
        )
        common.confirm("Go on without them?", yes=yes)
    journals = [_read(path) for path in paths]
    saved = _saved(database)
    done, left = reconciling.repair(
        database, [*journals, saved], write_off=write_off, now_ms=wall_ms()
    )
    _show(done, left, journals=paths, as_json=as_json)
    if left:
        raise SteppedBack(_LEFT.format("; ".join(left)))
    is_doubt = any(change.became is Became.IN_DOUBT for change in done.changes)
    return Exit.IN_DOUBT if is_doubt else Exit.SUCCESS


_LEFT = (
    "nothing is submitted yet: {}. Add the manifests of missing jobs again (`batchgen add`) and "
    "repeat this, or pass --write-off to give up what has no place"
)


def _read(path: Path) -> Contents:
    try:
        found = journal.read(path)
    except OSError as error:
        raise UsageError(f"{path}: the journal cannot be read: {error.strerror}") from error
    if found.unreadable:
        click.echo(f"{path}: {common.plural(found.unreadable, 'line')} could not be read", err=True)
    return found


def _saved(database: Database) -> Contents:
    with database.reading() as tx:
        files = rescue.left_behind(tx, database.backend)
    pairs = [pair for path in files for pair in rescue.read(path).pairs]
    return Contents(tuple(Entry(attempt_id, request_id=found) for attempt_id, found in pairs))


def _show(done: Repair, left: Sequence[str], *, journals: Sequence[Path], as_json: bool) -> None:
    if as_json:
        common.print_json(
            {
                "put_back": [
                    {**entry_json(change.entry), "became": change.became.name.lower()}
                    for change in done.changes
                ],
                "unplaced": [{**entry_json(one.entry), "why": one.why} for one in done.unplaced],
                "left": list(left),
                "journals": [str(path) for path in journals],
            }
        )
        return
    for change in done.changes:
        click.echo(f"{_name(change.entry)}: {change.became}")
    for one in done.unplaced:
        click.echo(f"{_name(one.entry)}: {one.why}", err=True)
    if not done.changes and not left:
        click.echo("the job database lacks nothing that is written down", err=True)
    elif not left:
        common.echo("`batchgen run` goes on with them", err=True)


def _name(entry: Entry) -> str:
    request = f", request {entry.request_id}" if entry.request_id else ""
    return f"{entry.label or 'unknown job'} (attempt {entry.attempt_id}{request})"


def entry_json(entry: Entry) -> dict[str, object]:
    """Return a purchase that is written down outside of the job database as data."""
    return {
        "job": entry.label or None,
        "key": entry.key or None,
        "attempt_id": entry.attempt_id,
        "request_id": entry.request_id,
        "estimate_usd": common.usd_number(entry.est_micros),
        "sent_at": common.iso(entry.intent_ms or None),
    }
