"""`batchgen workers`: who lives, and what each holds."""

from contextlib import closing
from typing import Any

import click

from batchgen.cli import common
from batchgen.domain.states import JobState
from batchgen.store import workers
from batchgen.store.workers import Seen

_HEADER = ("WORKER", "HOST", "PID", "SINCE", "LAST SEEN", "LEASE", "HOLDS")


@click.command("workers")
@common.json_option
@common.db_option
def command(*, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """List the workers that live, and what each holds.

    A worker that has died and that no other has noticed yet is listed as dead; its jobs wait
    for the next run.
    """
    with (
        closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database,
        database.reading() as tx,
    ):
        now_ms = tx.now_ms()
        found = workers.seen(tx, database.backend)
        unheld = workers.unheld(tx)
    if as_json:
        common.print_json(
            {
                "database": database.shown,
                "workers": [_json(worker, now_ms) for worker in found],
                "unheld": {str(state): count for state, count in unheld.items()},
            }
        )
        return
    if found:
        click.echo(common.table([_cells(worker, now_ms) for worker in found], header=_HEADER))
    else:
        click.echo(f"no worker in {database.shown}", err=True)
    if unheld:
        click.echo(f"held by nobody, for the next run: {_counts(unheld)}", err=True)


def _counts(held: dict[JobState, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in held.items())


def _lease(worker: Seen, now_ms: int) -> str:
    if not worker.lives:
        return "dead"
    if worker.expires_ms is None:
        return "lock"
    return f"{max(0, worker.expires_ms - now_ms) / 1000:.0f} s"


def _cells(worker: Seen, now_ms: int) -> tuple[str, ...]:
    return (
        worker.id,
        worker.host,
        str(worker.pid),
        common.iso(worker.started_ms) or "",
        f"{max(0, now_ms - worker.seen_ms) / 1000:.0f} s ago",
        _lease(worker, now_ms),
        _counts(worker.held) or "nothing",
    )


def _json(worker: Seen, now_ms: int) -> dict[str, Any]:
    left_ms = None if worker.expires_ms is None else worker.expires_ms - now_ms
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "lives": worker.lives,
        "started_at": common.iso(worker.started_ms),
        "seen_at": common.iso(worker.seen_ms),
        "lease_left_s": None if left_ms is None else round(left_ms / 1000, 1),
        "holds": {str(state): count for state, count in worker.held.items()},
    }
