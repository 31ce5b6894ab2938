"""`batchgen validate`: check manifests; nothing is stored or spent."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import click

from batchgen import planning
from batchgen.cli import common, plans
from batchgen.domain.errors import Exit, Fault, ManifestError
from batchgen.manifests import named
from batchgen.planning import Wish
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
    found, lines, faults, total = _check(
        wishes, db=db, allow_network_fs=allow_network_fs, as_json=as_json
    )
    if as_json:
        common.print_json(
            {
                "valid": not faults,
                "manifests": found,
                **common.faults_json(faults, total),
            }
        )
        return Exit.MANIFEST if faults else Exit.SUCCESS
    for line in lines:
        click.echo(line)
    if faults:
        raise ManifestError(faults, total=total)
    return Exit.SUCCESS


_Found = tuple[list[dict[str, Any]], list[str], list[Fault], int]


def _check(
    wishes: Sequence[Wish], *, db: str | None, allow_network_fs: bool, as_json: bool
) -> _Found:
    if not Database(database_url(db)).exists():
        return _check_all(None, wishes, as_json=as_json)
    with (
        closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database,
        database.reading() as tx,
    ):
        return _check_all(tx, wishes, as_json=as_json)


def _check_all(tx: Transaction | None, wishes: Sequence[Wish], *, as_json: bool) -> _Found:
    """Return the plans of manifests without faults, the faults of the others, how many."""
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    faults: list[Fault] = []
    total = 0
    earlier: dict[str, str] = {}
    for wish in wishes:
        try:
            prepared = planning.prepare(tx, wish)
            planning.refuse_same_batch(prepared, earlier)
            plan = planning.decide(tx, prepared)
            planning.check_budget(plan)
        except ManifestError as error:
            faults += error.faults or [Fault(wish.path, 0, "", _without(wish.path, str(error)))]
            total += error.total or 1
            continue
        if as_json:
            found.append(plans.as_json(plan, tx))
        count = common.plural(plan.prepared.count, "job")
        lines.append(f"{named(wish.path)}: no faults, {count}; {plans.estimate(plan)}")
    return found, lines, faults, total


def _without(path: str, message: str) -> str:
    return message.removeprefix(f"{path}: ")
