"""`batchgen set`: change what runs go by, live ones too."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import click

from batchgen.cli import common, selection
from batchgen.cli.options import OrElse, PerSecond, Usd, Whole
from batchgen.cli.selection import Selection, name_of
from batchgen.domain.errors import Exit, UsageError
from batchgen.domain.wording import usd
from batchgen.runner.clocks import wall_ms
from batchgen.store import accounts, control, reads
from batchgen.store.control import HIGHEST_PRIORITY, Budget, Moved
from batchgen.store.database import Database, chunks
from batchgen.store.reads import Brief
from batchgen.store.transactions import Transaction

_MOST_JOBS = 10**9
_AUTO_MAX = 32


@click.group("set")
def command() -> None:
    """Change what runs go by; live ones follow within seconds. Nothing is paid by itself."""


@contextmanager
def _changing(db: str | None, *, allow_network_fs: bool) -> Iterator[tuple[Transaction, Database]]:
    database = common.open_to_change(db, allow_network_fs=allow_network_fs)
    with closing(database), database.transaction() as tx:
        yield tx, database


@command.command("jobs")
@click.argument("jobs", metavar="N|auto", type=OrElse(Whole(1, _MOST_JOBS), "auto"))
@click.option(
    "--max",
    "most",
    type=Whole(1, _MOST_JOBS),
    help="With auto: never above this (32).",
)
@common.account_option
@common.json_option
@common.db_option
def jobs_command(
    *,
    jobs: int | None,
    most: int | None,
    account: str,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """Have N jobs of an account in flight over all workers, or as many as it bears.

    With fewer than now, nothing is cancelled: no more is submitted until so few are left.
    """
    if jobs is not None and most is not None:
        raise UsageError("--max goes with auto: a number is the most that there is")
    with _changing(db, allow_network_fs=allow_network_fs) as (tx, database):
        was = common.account_of(tx, account)
        if jobs is None:
            accounts.set_auto(tx, was, most or _AUTO_MAX)
        else:
            accounts.set_cap(tx, was, jobs)
        now = common.account_of(tx, account)
        live = common.living(tx, database)
    if as_json:
        common.print_json(
            {
                "account": account,
                "jobs": now.cap,
                "auto_max": now.auto_max,
                "was_jobs": was.cap,
                "was_auto_max": was.auto_max,
                "live_workers": live,
            }
        )
        return
    old, new = (_cap(one.cap, one.auto_max) for one in (was, now))
    _say(f"account {account}: jobs in flight {old} → {new}", live)


def _cap(cap: int, auto_max: int | None) -> str:
    return str(cap) if auto_max is None else f"auto (now {cap}, up to {auto_max})"


def _say(changed: str, live: int) -> None:
    click.echo(changed + common.follow(live, "follows", "follow"), err=True)


@command.command("rate")
@click.argument("rate", metavar="N|none", type=OrElse(PerSecond(), "none"))
@common.account_option
@common.json_option
@common.db_option
def rate_command(
    *, rate: float | None, account: str, db: str | None, allow_network_fs: bool, as_json: bool
) -> None:
    """Submit at most N jobs of an account a second over all workers; none takes that away."""
    with _changing(db, allow_network_fs=allow_network_fs) as (tx, database):
        was = common.account_of(tx, account)
        accounts.set_rate(tx, was, rate)
        live = common.living(tx, database)
    if as_json:
        common.print_json(
            {
                "account": account,
                "rate_per_s": rate,
                "was_rate_per_s": was.rate_per_s,
                "live_workers": live,
            }
        )
        return
    old, new = (f"{one:g}" if one else "no bound" for one in (was.rate_per_s, rate))
    _say(f"account {account}: submits a second: {old} → {new}", live)


@command.command("budget")
@click.argument("budget_micros", metavar="USD|none", type=OrElse(Usd(), "none"))
@click.option("--batch", metavar="NAME", help="The batch; may be left out if there is only one.")
@common.json_option
@common.db_option
def budget_command(
    *,
    budget_micros: int | None,
    batch: str | None,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """Let a batch cost at most USD over its life; none takes that away.

    Below what is spent and reserved, nothing more is submitted. Above what it was, live runs
    pay for more.
    """
    with _changing(db, allow_network_fs=allow_network_fs) as (tx, database):
        batch_id = _batch(tx, batch)
        unpriced = control.unpriced(tx, batch_id) if budget_micros is not None else 0
        if unpriced:
            raise UsageError(
                f"a budget needs a known price, and the price of {common.plural(unpriced, 'job')} "
                "is not known: nothing was changed"
            )
        was = control.set_budget(tx, batch_id, budget_micros, now_ms=wall_ms())
        is_estimate = any(
            reads.has_estimates(tx, batch) for batch in reads.batches(tx) if batch.id == batch_id
        )
        live = common.living(tx, database)
    if as_json:
        common.print_json(
            {
                "batch": was.batch,
                "budget_usd": common.usd_number(budget_micros),
                "was_budget_usd": common.usd_number(was.micros),
                "spent_usd": common.usd_number(was.spent_micros),
                "reserved_usd": common.usd_number(was.reserved_micros),
                "live_workers": live,
            }
        )
        return
    spent = usd(was.spent_micros, is_estimate=is_estimate)
    click.echo(_budget(was, budget_micros, live, spent=spent), err=True)


def _batch(tx: Transaction, name: str | None) -> int:
    batch_id = common.batch_id_of(tx, name)
    if batch_id is not None:
        return batch_id
    known = reads.batches(tx)
    if len(known) != 1:
        names = ", ".join(batch.name for batch in known) or "none"
        raise UsageError(f"name a batch with --batch; the batches are: {names}")
    return known[0].id


def _budget(was: Budget, micros: int | None, live: int, *, spent: str) -> str:
    old, new = ("none" if one is None else usd(one) for one in (was.micros, micros))
    said = f"budget of batch {was.batch}: {old} → {new}"
    used = f"{spent} spent, {usd(was.reserved_micros)} reserved"
    if micros is not None and micros <= was.spent_micros + was.reserved_micros:
        said += f" ({used}): nothing more of it is submitted"
        return said + common.follow(live, "follows", "follow")
    said += f" ({used})"
    if was.micros is not None and (micros is None or micros > was.micros):
        return said + common.follow(live, "goes on and may pay", "go on and may pay")
    return said + common.follow(live, "follows", "follow")


@command.command("priority", context_settings={"ignore_unknown_options": True})
@click.argument("priority", metavar="N", type=Whole(-HIGHEST_PRIORITY, HIGHEST_PRIORITY))
@selection.jobs_argument
@selection.where_option
@click.option("--batch", metavar="NAME", help="With --where: only of this batch.")
@common.json_option
@common.db_option
def priority_command(
    *,
    priority: int,
    jobs: tuple[str, ...],
    where: str | None,
    batch: str | None,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> int:
    """Submit pending jobs before those of lower priority (-1000 to 1000; 0 unless set).

    Jobs in doubt that were resubmitted come before all others. Exit code 3 if a job was left
    alone, 0 if none was found. JOB may be - to read jobs from stdin.
    """
    chosen = Selection(jobs, where, batch)
    if chosen.is_empty:
        raise UsageError("name jobs, or select them with --where")
    moved: dict[int, Moved] = {}
    with closing(common.open_to_change(db, allow_network_fs=allow_network_fs)) as database:
        with database.reading() as tx:
            found = chosen.briefs(tx)
            live = common.living(tx, database)
        for some in chunks(found, selection.AT_ONCE):
            with database.transaction() as tx:
                ids = [job.id for job in some]
                moved |= control.set_priority(tx, ids, priority, now_ms=wall_ms())
    _print_moved(found, moved, priority, live, as_json=as_json)
    return Exit.SUCCESS if all(one.done for one in moved.values()) else Exit.SOME_FAILED


def _print_moved(
    jobs: Sequence[Brief], moved: dict[int, Moved], priority: int, live: int, *, as_json: bool
) -> None:
    if as_json:
        found = [_json(job, moved[job.id], priority) for job in jobs]
        common.print_json({"jobs": found, "live_workers": live})
        return
    told = common.follow(live, "follows", "follow")
    said = ((name_of(job), _moved(moved[job.id], priority, told)) for job in jobs)
    for line in selection.told(said):
        click.echo(line, err=True)
    if not jobs:
        click.echo("no such job: nothing is changed", err=True)


def _moved(one: Moved, priority: int, told: str) -> str:
    if not one.done:
        return f"left alone: is {one.state}"
    was = "before all others" if one.was > HIGHEST_PRIORITY else one.was
    return f"priority {was} → {priority}{told}"


def _json(job: Brief, moved: Moved, priority: int) -> dict[str, Any]:
    return {
        **selection.job_json(job),
        "state": str(moved.state),
        "changed": moved.done,
        "priority": priority if moved.done else moved.was,
        "was_priority": moved.was,
    }
