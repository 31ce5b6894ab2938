"""`batchgen plan`: what adding manifests would change, job by job; nothing is stored."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import click

from batchgen import planning
from batchgen.cli import common, diffs, plans
from batchgen.cli.common import plural
from batchgen.cli.flags import manifest_flags, wishes
from batchgen.cli.probed import Candidate, Probed, planned, probe_jobs
from batchgen.domain.prices import Estimate, whole_cents
from batchgen.domain.states import JobState
from batchgen.domain.wording import usd
from batchgen.manifests import named
from batchgen.planning import Item, Plan, Verdict
from batchgen.settings import database_url
from batchgen.store import additions, upgrade
from batchgen.store.database import Database
from batchgen.store.transactions import Transaction

_GONE = 500  # jobs that are read together


@click.command("plan")
@common.manifests_argument(required=True)
@manifest_flags
@click.option("--prune", is_flag=True, help="Show what `add --prune` would do with what is gone.")
@click.option("--all", "show_all", is_flag=True, help="Also jobs that stay as they are.")
@common.probe_option("only if you say so")
@common.json_option
@common.db_option
def command(
    *,
    manifests: tuple[str, ...],
    prune: bool,
    show_all: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
    probe: bool | None,
    **wanted: Any,
) -> None:
    """Show what `add` and `run` would do with manifests, like a diff; nothing is stored or paid.

    For each job: whether it is new, changed (which input, from what to what), bought again,
    renamed, held back or gone, what it would cost, and why it would be paid for. Jobs that are
    at rest and stay so are counted; --all lists them too.
    """
    asked = wishes(manifests, **wanted)
    database = Database(database_url(db), allow_network_fs=allow_network_fs)
    with closing(database):
        if database.exists():
            upgrade.require_current(database)
        with common.looking(database) as tx:
            drafts = planning.draft(tx, asked)
            found = [planning.decide(tx, draft.prepared) for draft in drafts]
            for plan in found:
                planning.check_budget(plan)
        seen = _probe(database, found, wanted, quiet=as_json) if probe else None
        with common.looking(database) as tx:
            if seen is not None:
                for plan in found:
                    seen.spare(plan, tx)
            if as_json:
                common.print_json(
                    {
                        "database": database.shown,
                        "manifests": [
                            {
                                **plans.as_json(plan, tx),
                                "items": [diffs.as_json(plan, item) for item in plan.items(tx)],
                            }
                            for plan in found
                        ],
                        "probed": None if seen is None else seen.as_json(),
                    }
                )
                return
            for plan in found:
                for line in _lines(plan, tx, prune=prune, show_all=show_all):
                    click.echo(line)
            if seen is not None:
                for line in [*seen.lines(), _net(found, seen)]:
                    click.echo(line)


def _net(found: Sequence[Plan], seen: Probed) -> str:
    """Return what is left to pay for once the input files have been looked at."""
    left = seen.of([kind for plan in found for kind in plan.kinds])
    estimate = Estimate()
    for kind in left:
        prices = found[0].prices  # of the one account
        estimate.add(prices, kind.model, kind.settings, listed=kind.listed, jobs=kind.jobs)
    jobs = plural(sum(plan.to_pay for plan in found), "job")
    price = f": about {usd(whole_cents(estimate.micros))}" if estimate.micros else ""
    return f"with these input files, {estimate.jobs:,} of {jobs} to pay for{price}"


def _probe(
    database: Database, found: Sequence[Plan], wanted: Mapping[str, Any], *, quiet: bool
) -> Probed:
    def candidates() -> Iterator[Candidate]:
        with common.looking(database) as tx:
            yield from planned(found, tx)

    return probe_jobs(
        database, candidates, allow_private=wanted["allow_private_inputs"], quiet=quiet
    )


def _lines(plan: Plan, tx: Transaction | None, *, prune: bool, show_all: bool) -> Iterator[str]:
    batch = plan.batch
    yield f"{named(plan.prepared.wish.path)}: batch {batch.name}{'' if batch.id else ' (new)'}"
    yield from plans.notes(plan)
    yield f"  {diffs.LEGEND}"
    for item in plan.items(tx):
        if show_all or not _is_at_rest(item):
            yield from diffs.lines(plan, item)
    for job in _gone(plan, tx):
        yield diffs.gone_line(job, prune=prune)
    yield from plans.counts(plan, prune=prune)


def _is_at_rest(item: Item) -> bool:
    known = item.known
    return (
        item.verdict is Verdict.UNCHANGED
        and known is not None
        and known.state is not JobState.PENDING
    )


def _gone(plan: Plan, tx: Transaction | None) -> Iterator[additions.Known]:
    ids = iter(plan.gone)
    while tx is not None and (part := list(islice(ids, _GONE))):
        found = additions.by_ids(tx, part)
        yield from (found[job_id] for job_id in part)
