"""`batchgen validate`: check manifests; nothing is stored or spent."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import click

from batchgen import planning
from batchgen.cli import common, plans, probed
from batchgen.cli.flags import wishes
from batchgen.cli.session import say
from batchgen.domain.errors import Exit, Fault, ManifestError
from batchgen.manifests import named
from batchgen.planning import Plan, Wish
from batchgen.settings import database_url
from batchgen.store import upgrade
from batchgen.store.database import Database
from batchgen.store.transactions import Transaction

_SHOWN = 50  # warnings


@click.command("validate")
@common.manifests_argument(required=True)
@click.option("--model", metavar="ID", help="Check every row against this model.")
@click.option("--batch", metavar="NAME", help="The batch; else the manifest's, else its file name.")
@common.account_option
@common.new_batch_option
@common.max_expand_option
@click.option(
    "--allow-private-inputs",
    is_flag=True,
    help=common.PRIVATE_INPUTS,
)
@common.unknown_inputs_option
@common.uploads_option
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
    asked = wishes(manifests, **wanted)
    warnings: list[Fault] = []
    told: list[str] = []
    unfit: set[int] = set()
    with closing(Database(database_url(db), allow_network_fs=allow_network_fs)) as database:
        if database.exists():
            upgrade.require_current(database)
        with common.looking(database) as tx:
            found = _check_all(tx, asked)
            shown = [plans.as_json(plan, tx) for plan in found.plans] if as_json else []
        if probe is not False:
            looked = probed.check_plans(
                found.plans, database, allow_private=wanted["allow_private_inputs"], quiet=as_json
            )
            warnings, told = looked.warnings, looked.told
            found.faults += looked.faults
            found.total += len(looked.faults)
            unfit = looked.faulty
    if as_json:
        common.print_json(
            {
                "valid": not found.faults,
                "manifests": shown,
                **common.faults_json(found.faults, found.total),
                "warnings": [vars(warning) for warning in warnings],
            }
        )
        return Exit.MANIFEST if found.faults else Exit.SUCCESS
    for line in told[:_SHOWN]:
        say(f"warning: {line}")
    if len(told) > _SHOWN:
        say(f"and {len(told) - _SHOWN:,} more warnings: --json names them all")
    for number, plan in enumerate(found.plans):
        if number not in unfit:
            path, count = named(plan.prepared.wish.path), plan.prepared.count
            said = f"no faults, {common.plural(count, 'job')}; {plans.estimate(plan)}"
            click.echo(f"{path}: {said}")
    if found.faults:
        raise ManifestError(found.faults, total=found.total)
    return Exit.SUCCESS


@dataclass
class _Found:
    """The plans of the manifests without faults, and every fault of the others."""

    plans: list[Plan] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    total: int = 0


def _check_all(tx: Transaction | None, wishes: Sequence[Wish]) -> _Found:
    found = _Found()
    siblings = planning.Siblings()
    for wish in wishes:
        try:
            prepared = planning.prepare(tx, wish, siblings)
            plan = planning.decide(tx, prepared)
            planning.check_budget(plan)
        except ManifestError as error:
            path = named(wish.path)
            alone = Fault(path, 0, "", _without(path, str(error)))
            found.faults += error.faults or [alone]
            found.total += error.total or 1
            continue
        found.plans.append(plan)
    return found


def _without(path: str, message: str) -> str:
    return message.removeprefix(f"{path}: ")
