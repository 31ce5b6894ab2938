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
from batchgen.store import additions, upgrade
from batchgen.store.database import Database


@click.command("add")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@manifest_flags
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan; touch nothing.")
@common.json_option
@common.db_option
def command(
    *,
    manifests: tuple[str, ...],
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
        drafts = _prepare(database, wishes, is_new=is_new)
        found = _decide(database, drafts, is_new)
        for plan in found:
            planning.check_budget(plan)
        if not dry_run:
            found = _store(database, drafts)
    if as_json:
        common.print_json(
            {
                "database": database.shown,
                "database_is_new": is_new,
                "stored": not dry_run,
                "manifests": [plans.as_json(plan) for plan in found],
            }
        )
        return
    for plan in found:
        click.echo("\n".join(plans.describe(plan)))
    click.echo(
        "dry run: nothing was stored"
        if dry_run
        else f"stored in {database.shown}; `batchgen run` pays for it after asking",
        err=True,
    )


def _prepare(database: Database, wishes: Sequence[Wish], *, is_new: bool) -> list[Draft]:
    if is_new:
        return planning.draft(None, wishes)
    with database.reading() as tx:
        return planning.draft(tx, wishes)


def _decide(database: Database, drafts: Sequence[Draft], is_new: bool) -> list[Plan]:
    if is_new:
        return [planning.decide(None, draft.prepared) for draft in drafts]
    with database.reading() as tx:
        return [planning.decide(tx, draft.prepared) for draft in drafts]


def _store(database: Database, drafts: Sequence[Draft]) -> list[Plan]:
    upgrade.open_current(database)
    draw = random.SystemRandom().randint
    found = []
    with database.transaction() as tx:
        additions.queue(tx)
        for draft in drafts:
            plan = planning.decide_anew(tx, draft)
            planning.check_budget(plan)
            planning.store(tx, plan, now_ms=wall_ms(), draw=draw)
            found.append(plan)
    return found
