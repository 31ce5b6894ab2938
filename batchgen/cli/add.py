"""`batchgen add`: store the jobs of manifests, to be run later."""

import random
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from batchgen import planning
from batchgen.cli import common, plans
from batchgen.cli.flags import manifest_flags
from batchgen.cli.known_models import known_models
from batchgen.planning import Draft, Plan, Wish
from batchgen.runner.loop import wall_ms
from batchgen.settings import database_url
from batchgen.store import by_hand, imports, upgrade
from batchgen.store.database import Database, chunks

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
    models = known_models()
    wishes = [Wish(path=path, models=models, **wanted) for path in manifests]
    with closing(Database(database_url(db), allow_network_fs=allow_network_fs)) as database:
        is_new = not database.exists()
        if not is_new:
            upgrade.open_current(database)
        with common.looking(database) as tx:
            drafts = planning.draft(tx, wishes)
            found = [planning.decide(tx, draft.prepared) for draft in drafts]
            for plan in found:
                planning.check_budget(plan)
            shown = [plans.as_json(plan, tx) for plan in found] if as_json and dry_run else []
        if not dry_run:
            found, shown = _store(database, drafts, prune=prune, as_json=as_json)
    if as_json:
        common.print_json(
            {
                "database": database.shown,
                "database_is_new": is_new,
                "stored": not dry_run,
                "manifests": shown,
            }
        )
        return
    for plan in found:
        click.echo("\n".join(plans.describe(plan, prune=prune)))
    click.echo(
        "dry run: nothing was stored"
        if dry_run
        else f"stored in {database.shown}; `batchgen run` pays for it after asking",
        err=True,
    )


def _store(
    database: Database, drafts: Sequence[Draft], *, prune: bool, as_json: bool
) -> tuple[list[Plan], list[dict[str, Any]]]:
    upgrade.open_current(database)
    draw = random.SystemRandom().randint
    found, shown = [], []
    with imports.adding(database):
        for draft in drafts:
            with database.reading() as tx:
                plan = planning.decide_anew(tx, draft)
                planning.check_budget(plan)
                if as_json:
                    shown.append(plans.as_json(plan, tx))
            planning.store(database, plan, now_ms=wall_ms(), draw=draw)
            if prune:
                _cancel(database, plan.gone)
            found.append(plan)
    return found, shown


def _cancel(database: Database, job_ids: Sequence[int]) -> None:
    for part in chunks(job_ids, _PRUNED):
        with database.transaction() as tx:
            for job_id in part:
                by_hand.cancel_pending(tx, job_id, now_ms=wall_ms())
