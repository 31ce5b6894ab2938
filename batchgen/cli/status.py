"""`batchgen status`: counts, money, and what stands in the way."""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click

from batchgen.cli import common, restored
from batchgen.domain.states import JobState
from batchgen.store import accounts, reads, step_back, workers
from batchgen.store.accounts import Account
from batchgen.store.database import Transaction
from batchgen.store.reads import BatchSummary, Waiting

_MOST_CLASSED = 20_000  # failed jobs whose classes are counted one by one


@dataclass(frozen=True)
class _Standing:
    """A batch with what its stored counters do not tell."""

    summary: BatchSummary
    waiting: Waiting
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
            found = [
                _standing(tx, summary)
                for summary in reads.batches(tx)
                if batch_id in (None, summary.id)
            ]
            payers = accounts.every(tx)
            live = len(workers.living(tx, database.backend))
            missed = restored.missed(tx, witnesses)
    paused = [account.name for account in payers if account.paused]
    if as_json:
        common.print_json(
            {
                "database": database.shown,
                "live_workers": live,
                "paused": bool(paused),
                "paused_accounts": paused,
                "accounts": [_account_json(account) for account in payers],
                "stepped_back": missed,
                "batches": [_json(standing) for standing in found],
            }
        )
        return
    for standing in found:
        click.echo("\n".join(_lines(standing)))
    if not found:
        click.echo("no batch: `batchgen add MANIFEST` or `batchgen run MANIFEST` stores one")
    click.echo(f"{common.plural(live, 'worker')} at work in {database.shown}", err=True)
    for account in payers:
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


def _standing(tx: Transaction, summary: BatchSummary) -> _Standing:
    waiting = Waiting(0, 0, 0)
    if summary.counts.get(JobState.PENDING):
        waiting = reads.waiting(tx, summary.account_id, [summary.id])
    classes: Counter[str] = Counter()
    if 0 < summary.counts.get(JobState.FAILED, 0) <= _MOST_CLASSED:
        failed = reads.job_rows(tx, batch_id=summary.id, states=[JobState.FAILED])
        classes.update(row.error_class or "unknown" for row in failed)
    return _Standing(summary, waiting, classes, reads.has_estimates(tx, summary))


def _json(standing: _Standing) -> dict[str, Any]:
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
    }


def _account_json(account: Account) -> dict[str, Any]:
    return {
        "account": account.name,
        "provider": account.provider,
        "cap": account.cap,
        "jobs_max": account.auto_max,
        "auto": common.adapted_json(account.adapted),
        "submit_rate": account.rate_per_s,
    }


def _lines(standing: _Standing) -> list[str]:
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


def _in_the_way(standing: _Standing) -> list[str]:
    counts, waiting, name = standing.summary.counts, standing.waiting, standing.summary.name
    lines = []
    if waiting.jobs:
        price = f"about {common.usd(waiting.micros)}"
        if waiting.unpriced:
            price += f" and {waiting.unpriced:,} of unknown price"
        lines.append(f"  {waiting.jobs:,} to be paid for ({price}): batchgen run --batch {name}")
    if counts.get(JobState.IN_DOUBT):
        lines.append(
            f"  {counts[JobState.IN_DOUBT]:,} in doubt, maybe paid for: batchgen reconcile --list"
        )
    if counts.get(JobState.FAILED):
        classes = ", ".join(f"{count:,} {name}" for name, count in standing.classes.items())
        lines.append(
            f"  {counts[JobState.FAILED]:,} failed ({classes or 'many'}): "
            f"batchgen ls --state failed --batch {name}, then batchgen retry"
        )
    if counts.get(JobState.DOWNLOADING):
        lines.append(f"  {counts[JobState.DOWNLOADING]:,} to be fetched: batchgen download")
    if counts.get(JobState.EXPIRED):
        lines.append(
            f"  {counts[JobState.EXPIRED]:,} paid for, but the link died: "
            "batchgen download --refresh"
        )
    return lines
