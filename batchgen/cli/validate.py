"""`batchgen validate`: check manifests; nothing is stored or spent."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import click

from batchgen import planning
from batchgen.cli import common, plans
from batchgen.cli.known_models import known_models
from batchgen.domain.errors import Exit, Fault, ManifestError
from batchgen.manifests import named
from batchgen.planning import Prepared, Wish
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
    models = known_models()
    wishes = [Wish(path=path, models=models, **wanted) for path in manifests]
    found = _check(wishes, db=db, allow_network_fs=allow_network_fs, as_json=as_json)
    if as_json:
        common.print_json(
            {
                "valid": not found.faults,
                "manifests": found.plans,
                **common.faults_json(found.faults, found.total),
            }
        )
        return Exit.MANIFEST if found.faults else Exit.SUCCESS
    for line in found.lines:
        click.echo(line)
    if found.faults:
        raise ManifestError(found.faults, total=found.total)
    return Exit.SUCCESS


@dataclass
class _Found:
    """The manifests without faults, as data or in words, and every fault of the others."""

    plans: list[dict[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    total: int = 0


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
    found = _Found()
    others: list[Prepared] = []
    for wish in wishes:
        try:
            prepared = planning.prepare(tx, wish)
            planning.refuse_same_batch(prepared, others)
            plan = planning.decide(tx, prepared)
            planning.check_budget(plan)
        except ManifestError as error:
            path = named(wish.path)
            alone = Fault(path, 0, "", _without(path, str(error)))
            found.faults += error.faults or [alone]
            found.total += error.total or 1
            continue
        others.append(prepared)
        if as_json:
            found.plans.append(plans.as_json(plan, tx))
        count = common.plural(prepared.count, "job")
        found.lines.append(f"{named(wish.path)}: no faults, {count}; {plans.estimate(plan)}")
    return found


def _without(path: str, message: str) -> str:
    return message.removeprefix(f"{path}: ")
