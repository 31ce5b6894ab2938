"""`batchgen status`: counts, money, and what stands in the way."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click

from batchgen.cli import common, restored
from batchgen.domain.prices import Estimate, Prices, whole_cents
from batchgen.domain.states import ErrorClass, JobState
from batchgen.store import accounts, costs, reads, step_back, workers
from batchgen.store.accounts import Account
from batchgen.store.database import Transaction
from batchgen.store.reads import BatchSummary

_MOST_CLASSED = 20_000  # failed jobs whose classes are counted one by one


@dataclass(frozen=True)
class Standing:
    """Where a batch stands: its summary, and what its stored counters do not tell."""

    summary: BatchSummary
    waiting: Estimate
    classes: Mapping[str, int]
    spent_is_estimate: bool


@click.command("status")
@common.batch_option
@common.json_option
@common.db_option
def command(*, batch: str | None, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Show how many jobs are where, the money, and what stands in the way."""
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        witnesses = restored.witnesses_of(database)
        with database.reading() as tx:
            batch_id = common.batch_id_of(tx, batch)
            found = standings(tx, None if batch_id is None else [batch_id])
            known = accounts.every(tx)
            live = len(workers.living(tx, database.backend))
            missed = restored.missed(tx, witnesses)
    paused = [account.name for account in known if account.paused]
    if as_json:
        common.print_json(
            {
                "database": database.shown,
                "live_workers": live,
                "accounts": [_account_json(account) for account in known],
                "paused": bool(paused),
                "paused_accounts": paused,
                "stepped_back": missed,
                "batches": [_json(standing) for standing in found],
            }
        )
        return
    for standing in found:
        click.echo("\n".join(lines_of(standing)))
    if not found:
        click.echo("no batch: `batchgen add MANIFEST` or `batchgen run MANIFEST` stores one")
    click.echo(f"{common.plural(live, 'worker')} at work in {database.shown}", err=True)
    for account in known:
        click.echo(_account_line(account), err=True)
        if account.adapted is not None:
            click.echo(
                f"account {account.name}: -j auto allows {account.adapted}, never more than "
                f"{account.auto_max} jobs",
                err=True,
            )
    for name in paused:
        click.echo(
            f"account {name} is paused: nothing is submitted until `batchgen unpause`", err=True
        )
    if missed is not None:
        click.echo(step_back.explain(missed), err=True)


def _account_json(account: Account) -> dict[str, Any]:
    return {
        "account": account.name,
        "provider": account.provider,
        "jobs": account.cap,
        "auto_max": account.auto_max,
        "auto": common.adapted_json(account.adapted),
        "rate_per_s": account.rate_per_s,
        "paused": account.paused,
    }


def _account_line(account: Account) -> str:
    line = f"account {account.name}: at most {common.plural(account.cap, 'job')} in flight"
    if account.auto_max is not None:
        line += f" (auto, up to {account.auto_max})"
    if account.rate_per_s is not None:
        line += f", {account.rate_per_s:g} submits a second"
    return line


def standings(tx: Transaction, batch_ids: Sequence[int] | None) -> list[Standing]:
    """Return where batches stand, by their row ids; None is all of them."""
    prices = {account.id: costs.prices(tx, account.id) for account in accounts.every(tx)}
    return [
        _standing(tx, summary, prices[summary.account_id])
        for summary in reads.batches(tx)
        if batch_ids is None or summary.id in batch_ids
    ]


def _standing(tx: Transaction, summary: BatchSummary, prices: Prices) -> Standing:
    waiting = Estimate()
    if summary.counts.get(JobState.PENDING):
        for kind in reads.waiting(tx, summary.account_id, [summary.id]):
            waiting.add(prices, kind.model, kind.settings, listed=kind.listed, jobs=kind.jobs)
    classes: Counter[str] = Counter()
    if 0 < summary.counts.get(JobState.FAILED, 0) <= _MOST_CLASSED:
        failed = reads.job_rows(tx, batch_id=summary.id, states=[JobState.FAILED])
        classes.update(row.error_class or "unknown" for row in failed)
    return Standing(summary, waiting, classes, reads.has_estimates(tx, summary))


def _json(standing: Standing) -> dict[str, Any]:
    summary, waiting = standing.summary, standing.waiting
    return {
        "batch": summary.name,
        "source": summary.source,
        "output_dir": summary.output_dir,
        "jobs": sum(summary.counts.values()),
        "counts": {str(state): summary.counts.get(state, 0) for state in JobState},
        "failed_by_class": dict(standing.classes),
        "spent_usd": common.usd_number(summary.spent_micros),
        "spent_is_estimate": standing.spent_is_estimate,
        "reserved_usd": common.usd_number(summary.reserved_micros),
        "budget_usd": common.usd_number(summary.budget_micros),
        "waiting_estimate_usd": common.usd_number(waiting.micros),
        "waiting_unpriced": waiting.unpriced,
        "waiting_basis": waiting.basis(()),
    }


def lines_of(standing: Standing) -> list[str]:
    """Return that in lines: counts, money, and what stands in the way."""
    summary, counts = standing.summary, standing.summary.counts
    states = ", ".join(
        f"{counts[state]:,} {state.replace('_', ' ')}" for state in JobState if counts.get(state)
    )
    lines = [f"{summary.name}: {common.plural(sum(counts.values()), 'job')}"]
    lines.append(f"  {states or 'none'}")
    spent = common.usd(summary.spent_micros, is_estimate=standing.spent_is_estimate)
    money = f"  {spent} spent"
    if summary.reserved_micros:
        money += f", {common.usd(summary.reserved_micros)} reserved"
    if summary.budget_micros is not None:
        money += f", budget {common.usd(summary.budget_micros)}"
    return [*lines, money, *_in_the_way(standing)]


def _in_the_way(standing: Standing) -> list[str]:
    counts, waiting, name = standing.summary.counts, standing.waiting, standing.summary.name
    lines = []
    if waiting.jobs:
        price = f"about {common.usd(whole_cents(waiting.micros))}"
        if waiting.unpriced:
            price += f" and {waiting.unpriced:,} of unknown price"
        basis = f", by {waiting.basis(())}" if waiting.learned else ""
        lines.append(
            f"  {waiting.jobs:,} to be paid for ({price}{basis}): batchgen run --batch {name}"
        )
    if counts.get(JobState.IN_DOUBT):
        lines.append(
            f"  {counts[JobState.IN_DOUBT]:,} in doubt, maybe paid for: batchgen reconcile --list"
        )
    if counts.get(JobState.FAILED):
        classes = ", ".join(f"{count:,} {name}" for name, count in standing.classes.items())
        lines.append(
            f"  {counts[JobState.FAILED]:,} failed ({classes or 'many'}): "
            f"batchgen ls --state failed --batch {name} says why; correct the rows and add them "
            "again, or batchgen retry"
        )
    if refused := standing.classes.get(ErrorClass.MODERATION):
        lines.append(
            f"  {refused:,} of them refused by moderation, repeats of which may get the account "
            f"suspended: change what batchgen ls --state failed --batch {name} says was refused"
        )
    if counts.get(JobState.DOWNLOADING):
        lines.append(f"  {counts[JobState.DOWNLOADING]:,} to be fetched: batchgen download")
    if counts.get(JobState.EXPIRED):
        lines.append(
            f"  {counts[JobState.EXPIRED]:,} paid for, but the link died: "
            "batchgen download --refresh"
        )
    return lines
