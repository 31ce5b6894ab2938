"""`batchgen validate`: check manifests; nothing is stored or spent."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from batchgen import planning
from batchgen.cli import common, plans, probed
from batchgen.cli.session import say
from batchgen.domain.errors import Exit, Fault, ManifestError
from batchgen.planning import Plan, Wish
from batchgen.settings import database_url
from batchgen.store import upgrade
from batchgen.store.database import Database, Transaction

_SHOWN = 50  # warnings


@click.command("validate")
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("--model", metavar="ID", help="Check every row against this model.")
@click.option("--batch", metavar="NAME", help="The batch; else the manifest's, else its file name.")
@common.account_option
@click.option("--max-expand", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option(
    "--allow-private-inputs",
    is_flag=True,
    help="Input URLs may point to private or loopback addresses.",
)
@common.unknown_inputs_option
@common.probe_option("default")
@common.json_option
@common.db_option
def command(
    *,
    manifests: tuple[str, ...],
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
    probe: bool | None,
    **wanted: Any,
) -> int:
    """Check manifests: every fault of every row at once, as FILE:LINE: COLUMN: MESSAGE.

    Each input URL is looked at, and what its server says of the file.

    Where the job database exists, they are also compared with what it holds. Nothing is
    stored or spent. Exit code 5 if there is a fault.
    """
    wishes = [Wish(path=path, **wanted) for path in manifests]
    warnings: list[Fault] = []
    with closing(Database(database_url(db), allow_network_fs=allow_network_fs)) as database:
        if database.exists():
            upgrade.require_current(database)
        with common.looking(database) as tx:
            found, faults = _check_all(tx, wishes)
            shown = [plans.as_json(plan, tx) for plan in found] if as_json else []
        if probe is not False:
            unfit, warnings = probed.check_plans(
                found, database, allow_private=wanted["allow_private_inputs"], quiet=as_json
            )
            faults += unfit
    if as_json:
        common.print_json(
            {
                "valid": not faults,
                "manifests": shown,
                "faults": [vars(fault) for fault in faults],
                "warnings": [vars(warning) for warning in warnings],
            }
        )
        return Exit.MANIFEST if faults else Exit.SUCCESS
    for warning in warnings[:_SHOWN]:
        say(f"warning: {warning}")
    if len(warnings) > _SHOWN:
        say(f"and {len(warnings) - _SHOWN:,} more warnings: --json names them all")
    faulty = {fault.file for fault in faults}
    for plan in found:
        path = plan.prepared.wish.path
        if path not in faulty:
            count = common.plural(plan.prepared.count, "job")
            click.echo(f"{path}: no faults, {count}; {plans.estimate(plan)}")
    if faults:
        raise ManifestError(faults)
    return Exit.SUCCESS


def _check_all(tx: Transaction | None, wishes: Sequence[Wish]) -> tuple[list[Plan], list[Fault]]:
    """Return the plans of the manifests without faults, and every fault of the others."""
    found: list[Plan] = []
    faults: list[Fault] = []
    for wish in wishes:
        try:
            plan = planning.decide(tx, planning.prepare(tx, wish))
            planning.check_budget(plan)
        except ManifestError as error:
            faults += error.faults or [Fault(wish.path, 0, "", _without(wish.path, str(error)))]
            continue
        found.append(plan)
    return found, faults


def _without(path: str, message: str) -> str:
    return message.removeprefix(f"{path}: ")
