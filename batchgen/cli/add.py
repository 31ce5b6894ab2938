"""`batchgen add`: store the jobs of manifests, to be run later."""

import gc
import random
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple

import click

from batchgen import planning
from batchgen.cli import common, plans
from batchgen.cli.flags import manifest_flags, wishes
from batchgen.planning import Plan, Wish
from batchgen.runner.clocks import wall_ms
from batchgen.settings import database_url
from batchgen.store import by_hand, imports, reads, upgrade
from batchgen.store.database import Database, chunks
from batchgen.store.transactions import Transaction

_GARBAGE = 500_000
_PRUNED = 1_000  # jobs that are cancelled in one transaction


@click.command("add")
@common.manifests_argument(required=True)
@manifest_flags
@click.option("--prune", is_flag=True, help="Cancel pending jobs that are gone from the manifest.")
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan; touch nothing.")
@common.json_option
@common.db_option
def command(
    *,
    manifests: tuple[str, ...],
    prune: bool,
    dry_run: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Store the jobs of manifests: all of them, or none if one has a fault. Nothing is paid.

    Rows that are known already are not stored twice.
    """
    gc.set_threshold(_GARBAGE)  # millions of short tuples, and none in a circle
    asked = wishes(manifests, **wanted)
    with closing(Database(database_url(db), allow_network_fs=allow_network_fs)) as database:
        is_new = not database.exists()
        if not is_new:
            upgrade.open_current(database)
        found: list[_Looked] = []
        if dry_run or is_new:  # a fault makes no job database
            found = _look(database, asked, as_json=as_json)
        if not dry_run:
            upgrade.open_current(database)
            with imports.adding(database):
                if not is_new or _has_batches(database):
                    found = _look(database, asked, as_json=as_json)
                found = _store(database, found, as_json=as_json)
                if prune:
                    _prune(database, [one.plan for one in found])
    if as_json:
        common.print_json(
            {
                "database": database.shown,
                "database_is_new": is_new,
                "dry_run": dry_run,
                "manifests": [one.shown for one in found],
            }
        )
        return
    for one in found:
        click.echo("\n".join(plans.describe(one.plan, prune=prune)))
    does = "works on it, for no money" if common.is_simulated() else "pays for it after asking"
    click.echo(
        "dry run: nothing was stored"
        if dry_run
        else f"stored in {database.shown}; `{common.command_line('run')}` {does}",
        err=True,
    )


class _Looked(NamedTuple):
    """What storing a manifest would do, and that as data if it is asked for."""

    plan: Plan
    shown: dict[str, Any] | None


def _look(database: Database, wishes: Sequence[Wish], *, as_json: bool) -> list[_Looked]:
    """Check and compare all manifests, before the first of them is stored."""
    with common.looking(database) as tx:
        drafts = planning.draft(tx, wishes)
        found = [planning.decide(tx, draft.prepared) for draft in drafts]
        for plan in found:
            planning.check_budget(plan)
        return [_looked(plan, tx, as_json=as_json) for plan in found]


def _looked(plan: Plan, tx: Transaction | None, *, as_json: bool) -> _Looked:
    return _Looked(plan, plans.as_json(plan, tx) if as_json else None)


def _has_batches(database: Database) -> bool:
    """Return whether somebody has stored something since there was no job database."""
    with database.reading() as tx:
        return bool(reads.batches(tx))


def _store(database: Database, found: Sequence[_Looked], *, as_json: bool) -> list[_Looked]:
    draw = random.SystemRandom().randint
    done: list[_Looked] = []
    for one in found:
        if done:  # the one before may have stored some of its jobs
            with database.reading() as tx:
                one = _looked(planning.decide_after(tx, one.plan), tx, as_json=as_json)
        stored = planning.store(database, one.plan, now_ms=wall_ms(), draw=draw)
        if stored.late:
            click.echo(
                f"note: {common.plural(stored.late, 'job')} of {one.plan.batch.name} were being "
                "paid for meanwhile, and keep their old inputs",
                err=True,
            )
        done.append(one)
    return done


def _prune(database: Database, found: Sequence[Plan]) -> None:
    """Cancel what is gone from every manifest of its batch."""
    gone: dict[str, set[int]] = {}
    for plan in found:
        here = set(plan.gone)
        gone[plan.batch.name] = gone.get(plan.batch.name, here) & here
    for job_ids in gone.values():
        _cancel(database, sorted(job_ids))


def _cancel(database: Database, job_ids: Sequence[int]) -> None:
    for part in chunks(job_ids, _PRUNED):
        with database.transaction() as tx:
            for job_id in part:
                by_hand.cancel_pending(tx, job_id, now_ms=wall_ms())
