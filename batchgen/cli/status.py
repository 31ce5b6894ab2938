"""`batchgen status`: counts, money, what stands in the way, and how long it will take."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click

from batchgen.cli import common, session_logs, standing, tables
from batchgen.cli.logs import session_json
from batchgen.cli.options import Number
from batchgen.cli.reply import Reply
from batchgen.cli.standing import Obstacle, Standing, lines_of, standings
from batchgen.cli.tables import Column
from batchgen.domain.errors import Exit
from batchgen.domain.states import JobState
from batchgen.domain.wording import lasting, usd
from batchgen.library import step_backs
from batchgen.store import accounts, moving, sessions, workers
from batchgen.store.accounts import Account
from batchgen.store.database import Database
from batchgen.store.sessions import Pace, Session
from batchgen.store.step_back import Witness
from batchgen.store.transactions import Transaction
from batchgen.store.workers import Seen

__all__ = ["command", "lines_of", "standings"]

_DETAILED = 10  # batches; of more there is a line each
_FEWEST_ENDS = 3  # before so many there is no estimate: one job may have been a lucky one
_LOOKED_THROUGH = 50  # sessions among which the last run is looked for
_OPEN = (JobState.PENDING, JobState.SUBMITTING, JobState.RUNNING)
_COLUMNS = (
    Column("BATCH"),
    Column("JOBS", is_number=True),
    Column("DONE", is_number=True),
    Column("SPENT", is_number=True),
    Column("BUDGET", is_number=True),
    Column("STATES"),
)


@dataclass(frozen=True)
class Report:
    """Everything that is told.

    Attributes:
        standings: Of the batches that are asked for.
        live: Sessions at work, the newest first.
        last: The session that began last, if none is at work.
        pace: How fast those, or that, went.
        hold_ups: What keeps the live sessions from submitting.
        missed: What a restored job database lacks.
        moved_to: Where the jobs are now, None if they are here.
    """

    database: Database
    standings: Sequence[Standing]
    known: Sequence[Account]
    workers: Sequence[Seen]
    live: Sequence[Session]
    last: Session | None
    pace: Pace
    hold_ups: Sequence[str]
    missed: str | None
    moved_to: str | None
    now_ms: int

    @property
    def open_jobs(self) -> int:
        """How many jobs are still to be generated."""
        return sum(one.summary.counts.get(state, 0) for one in self.standings for state in _OPEN)

    @property
    def goes_on(self) -> int:
        """How many of them are not kept waiting by a budget that is used up."""
        return self.open_jobs - sum(
            one.summary.counts.get(JobState.PENDING, 0)
            for one in self.standings
            if one.is_out_of_budget
        )

    @property
    def left_s(self) -> float | None:
        """How long those will take at that pace; None if that is not known, or nothing goes on."""
        is_held = bool(self.hold_ups) or any(account.paused for account in self.known)
        if self.pace.ended < _FEWEST_ENDS or not self.goes_on or is_held:
            return None
        return self.pace.takes_s(self.goes_on)

    @property
    def is_over(self) -> bool:
        """Whether nobody is at work."""
        return not any(worker.lives for worker in self.workers)

    def general(self) -> list[Obstacle]:
        """Return what stands in the way of all batches."""
        return standing.obstacles(
            self.known, self.workers, self.missed, self.now_ms, moved_to=self.moved_to
        )

    def obstacles(self) -> list[Obstacle]:
        """Return all that stands in the way."""
        found = [Obstacle("held_up", tables.one_line(one)) for one in self.hold_ups]
        found += self.general()
        for one in self.standings:
            found += standing.obstacles_of(one, is_worked_on=not self.is_over)
        return found


@click.command("status")
@common.batch_option
@click.option(
    "--watch",
    is_flag=False,
    flag_value=2.0,
    type=Number(min=0.1, max=86_400),
    metavar="[SECONDS]",
    help="Show it again and again, every 2 seconds, until no run is at work or Ctrl-C.",
)
@common.json_option
@common.db_option
def command(
    *, batch: str | None, watch: float | None, db: str | None, allow_network_fs: bool, as_json: bool
) -> None:
    """Show how many jobs are where, the money, and what stands in the way.

    With --watch and --json, one envelope a line.
    """
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        witnesses = step_backs.witnesses_of(database)
        if watch is not None:
            _watch(database, batch, witnesses, watch, as_json=as_json)
            return
        report = _look(database, batch, witnesses)
    if as_json:
        common.print_json(_json(report))
        return
    click.echo("\n".join(_fitted(_lines(report, is_detailed=batch is not None))))
    for line in _fitted(_lines_beside(report), err=True):
        click.echo(line, err=True)


def _look(database: Database, batch: str | None, witnesses: Sequence[Witness]) -> Report:
    with database.reading() as tx:
        batch_id = common.batch_id_of(tx, batch)
        now_ms = tx.now_ms()
        live = sessions.living(tx, database.backend)
        last = None if live else _last_run(tx, database)
        timed = live or ([] if last is None else [last])
        pace = Pace(0, 0)
        if timed:
            pace = sessions.pace(
                tx,
                {session.worker_id for session in timed},
                since_ms=min(session.started_ms for session in timed),
                until_ms=max(one.started_ms + one.lasted_ms(now_ms) for one in timed),
            )
        return Report(
            database=database,
            standings=standings(tx, None if batch_id is None else [batch_id]),
            known=accounts.every(tx),
            workers=workers.seen(tx, database.backend),
            live=live,
            last=last,
            pace=pace,
            hold_ups=[said for session in live for said in _hold_ups(database, session)],
            missed=step_backs.missed(tx, witnesses),
            moved_to=moving.stand(tx).moved_to,
            now_ms=now_ms,
        )


def _last_run(tx: Transaction, database: Database) -> Session | None:
    """Return the newest session that could pay; `download` is none."""
    newest = sessions.newest(tx, database.backend, most=_LOOKED_THROUGH)
    return next((session for session in newest if session.command == "run"), None)


def _hold_ups(database: Database, session: Session) -> list[str]:
    path = session_logs.path_of(database, session.id)
    if path is None:
        return []
    try:
        return session_logs.hold_ups(path)
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror}"]


# -- as lines --------------------------------------------------------------------------------------


def _lines(report: Report, *, is_detailed: bool) -> list[str]:
    if not report.standings:
        stores = common.meant("`batchgen add MANIFEST` or `batchgen run MANIFEST` stores one")
        return [f"no batch: {stores}"]
    if is_detailed or len(report.standings) <= _DETAILED:
        is_worked_on = not report.is_over
        lines = [
            line for one in report.standings for line in lines_of(one, is_worked_on=is_worked_on)
        ]
    else:
        lines = list(_overview(report))
    left = _left_in_words(report)
    lines += [] if left is None else [left]
    lines += [f"held up: {tables.one_line(said)}" for said in report.hold_ups]
    if report.last is not None:
        lines += standing.last_run_in_words(report.last, report.now_ms)
    return [tables.safe(line) for line in lines]


def _overview(report: Report) -> Iterator[str]:
    rows = [
        (
            tables.one_line(one.summary.name),
            f"{(jobs := sum(one.summary.counts.values())):,}",
            f"{one.summary.counts.get(JobState.SUCCEEDED, 0) * 100 // max(1, jobs)} %",
            usd(one.summary.spent_micros, is_estimate=one.spent_is_estimate),
            "" if one.summary.budget_micros is None else usd(one.summary.budget_micros),
            standing.counts_in_words(one.summary.counts),
        )
        for one in report.standings
    ]
    yield from tables.table(rows, _COLUMNS, width=tables.terminal_width())
    one = common.command_line("status --batch NAME")
    yield f"{len(rows)} batches: {one} tells what stands in the way of one"


def _left_in_words(report: Report) -> str | None:
    left_s, jobs = report.left_s, common.plural(report.goes_on, "open job")
    if left_s is None:
        return None
    took = f"{report.pace.ended:,} ended in {lasting(report.pace.over_ms / 1000)}"
    if report.live:
        return f"about {lasting(left_s)} left for {jobs}: {took}"
    return (
        f"no run is at work; as fast as the last one, the {jobs} would take about "
        f"{lasting(left_s)}: {took}"
    )


def _lines_beside(report: Report) -> Iterator[str]:
    """Yield what is not of the batches."""
    live = sum(worker.lives for worker in report.workers)
    yield f"{common.plural(live, 'worker')} at work in {report.database.shown}"
    for account in report.known:
        yield _account_line(account)
        if account.adapted is not None:
            yield (
                f"account {account.name}: -j auto allows {account.adapted}, never more than "
                f"{account.auto_max} jobs"
            )
    for one in report.general():
        yield tables.safe(str(one))


def _account_line(account: Account) -> str:
    line = f"account {account.name}: at most {common.plural(account.cap, 'job')} in flight"
    if account.auto_max is not None:
        line += f" (auto, up to {account.auto_max})"
    if account.rate_per_s is not None:
        line += f", {account.rate_per_s:g} submits a second"
    return line


# -- again and again -------------------------------------------------------------------------------


def _watch(
    database: Database,
    batch: str | None,
    witnesses: Sequence[Witness],
    every_s: float,
    *,
    as_json: bool,
) -> None:
    try:
        if as_json:
            _watch_as_json(database, batch, witnesses, every_s)
        elif sys.stdout.isatty():
            _watch_live(database, batch, witnesses, every_s)
        else:
            for report in _reports(database, batch, witnesses, every_s):
                click.echo(f"-- {tables.local(report.now_ms)}")
                click.echo("\n".join(_block(report, batch)))
                sys.stdout.flush()
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.SUCCESS) from None


def _reports(
    database: Database, batch: str | None, witnesses: Sequence[Witness], every_s: float
) -> Iterator[Report]:
    """Yield a report now and then, the last one when nobody is at work."""
    while True:
        report = _look(database, batch, witnesses)
        yield report
        if report.is_over:
            return
        time.sleep(every_s)


def _block(report: Report, batch: str | None) -> list[str]:
    lines = [*_lines(report, is_detailed=batch is not None), *_lines_beside(report)]
    return list(_fitted(lines))


def _fitted(lines: Iterable[str], *, err: bool = False) -> Iterator[str]:
    """Yield lines that fit a terminal; a command stays in one piece, to be copied."""
    width = tables.terminal_width(err=err)
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
        said, colon, command = line.partition(": batchgen ")
        if width is None or tables.width_of(line) <= width or not colon:
            yield tables.wrapped(line, width, indent=indent)
        else:
            yield tables.wrapped(f"{said}:", width, indent=indent)
            yield f"{indent}batchgen {command}"


def _watch_as_json(
    database: Database, batch: str | None, witnesses: Sequence[Witness], every_s: float
) -> None:
    reply = click.get_current_context().find_object(Reply)
    if reply is None:
        raise LookupError("no reply to put it in")
    for report in _reports(database, batch, witnesses, every_s):
        reply.data = _json(report)
        common.print_line(reply.envelope(Exit.SUCCESS))
    reply.command = None  # all is said


def _watch_live(
    database: Database, batch: str | None, witnesses: Sequence[Witness], every_s: float
) -> None:
    from rich.console import Console  # a tenth of a second, and only for a terminal
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for report in _reports(database, batch, witnesses, every_s):
            at = f"{tables.local(report.now_ms)}, every {lasting(every_s)}, Ctrl-C ends"
            live.update(Text("\n".join([*_block(report, batch), at])), refresh=True)


# -- as data ---------------------------------------------------------------------------------------


def _json(report: Report) -> dict[str, Any]:
    paused = [account.name for account in report.known if account.paused]
    return {
        "database": report.database.shown,
        "live_workers": sum(worker.lives for worker in report.workers),
        "accounts": [_account_json(account) for account in report.known],
        "paused": bool(paused),
        "paused_accounts": paused,
        "stepped_back": report.missed,
        "batches": [_batch_json(one) for one in report.standings],
        "open_jobs": report.open_jobs,
        "left_s": None if report.left_s is None else round(report.left_s, 1),
        "left_by": "live" if report.live else "last_run",
        "live_sessions": [_session(report, one) for one in report.live],
        "last_session": None if report.last is None else _session(report, report.last),
        "in_the_way": [one.json() for one in report.obstacles()],
    }


def _session(report: Report, session: Session) -> dict[str, Any]:
    return session_json(report.database, session, report.now_ms)


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


def _batch_json(one: Standing) -> dict[str, Any]:
    summary, waiting = one.summary, one.waiting
    return {
        "batch": summary.name,
        "source": summary.source,
        "output_dir": summary.output_dir,
        "jobs": sum(summary.counts.values()),
        "counts": {str(state): summary.counts.get(state, 0) for state in JobState},
        "failed_by_class": dict(one.classes),
        "spent_usd": common.usd_number(summary.spent_micros),
        "spent_is_estimate": one.spent_is_estimate,
        "reserved_usd": common.usd_number(summary.reserved_micros),
        "budget_usd": common.usd_number(summary.budget_micros),
        "waiting_estimate_usd": common.usd_number(waiting.micros),
        "waiting_unpriced": waiting.unpriced,
        "waiting_basis": waiting.basis(()),
        "waiting_is_sampled": one.is_sampled,
    }
