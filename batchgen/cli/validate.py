"""`batchgen validate`: check manifests; nothing is stored or spent."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from batchgen import planning
from batchgen.cli import common, plans
from batchgen.domain.errors import Exit, Fault, ManifestError
from batchgen.manifests import named
from batchgen.planning import Plan, Wish
from batchgen.settings import database_url
from batchgen.store.database import Database, Transaction


@click.command("validate")
@common.manifests_argument(required=True)
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
@common.json_option
@common.db_option
def command(
    *,
    manifests: tuple[str, ...],
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
    **wanted: Any,
) -> int:
    """Check manifests: every fault of every row at once, as FILE:LINE: COLUMN: MESSAGE.

    Where the job database exists, they are also compared with what it holds. Nothing is
    stored or spent. Exit code 5 if there is a fault.
    """
    wishes = [Wish(path=path, **wanted) for path in manifests]
    found, faults, total = _check(wishes, db=db, allow_network_fs=allow_network_fs)
    if as_json:
        common.print_json(
            {
                "valid": not faults,
                "manifests": [plans.as_json(plan) for plan in found],
                **common.faults_json(faults, total),
            }
        )
        return Exit.MANIFEST if faults else Exit.SUCCESS
    for plan in found:
        count = common.plural(len(plan.prepared.specs), "job")
        click.echo(f"{named(plan.prepared.wish.path)}: no faults, {count}; {plans.estimate(plan)}")
    if faults:
        raise ManifestError(faults, total=total)
    return Exit.SUCCESS


def _check(
    wishes: Sequence[Wish], *, db: str | None, allow_network_fs: bool
) -> tuple[list[Plan], list[Fault], int]:
    if not Database(database_url(db)).exists():
        return check_all(None, wishes)
    with (
        closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database,
        database.reading() as tx,
    ):
        return check_all(tx, wishes)


def check_all(
    tx: Transaction | None, wishes: Sequence[Wish]
) -> tuple[list[Plan], list[Fault], int]:
    """Return the plans of manifests without faults, the faults of the others, how many."""
    found: list[Plan] = []
    faults: list[Fault] = []
    total = 0
    for wish in wishes:
        try:
            prepared = planning.prepare(tx, wish)
            planning.refuse_same_batch(prepared, [plan.prepared for plan in found])
            found.append(planning.decide(tx, prepared))
            planning.check_budget(found[-1])
        except ManifestError as error:
            faults += error.faults or [Fault(wish.path, 0, "", _without(wish.path, str(error)))]
            total += error.total or 1
    return found, faults, total


def _without(path: str, message: str) -> str:
    return message.removeprefix(f"{path}: ")
