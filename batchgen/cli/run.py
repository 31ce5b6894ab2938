"""`batchgen run`: add manifests, ask, and work until every job in scope is at rest."""

import asyncio
import contextlib
import logging
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchgen import exporters, planning, results
from batchgen.cli.common import (
    confirm,
    db_option,
    json_option,
    plural,
    print_json,
    usd,
    usd_number,
)
from batchgen.cli.plans import as_json as plan_as_json
from batchgen.cli.plans import describe
from batchgen.cli.session import Errand, say, work
from batchgen.domain.errors import PRECEDENCE, BatchgenError, Exit, UsageError
from batchgen.domain.states import JobState
from batchgen.downloads.folder import check_writable
from batchgen.providers import factory
from batchgen.providers.interface import Provider
from batchgen.runner.job import Settings
from batchgen.runner.limits import Reason
from batchgen.runner.loop import Outcome, wall_ms
from batchgen.settings import (
    BASE_NAME,
    SIMULATED_CLIPS,
    Token,
    api_base,
    database_url,
    find_token,
    is_database_named,
)
from batchgen.store import accounts, by_hand, reads, sqlite, upgrade, workers
from batchgen.store.accounts import Account
from batchgen.store.database import Database, Transaction
from batchgen.store.jobs import Scope

REAL, SIMULATOR = "runcomfy", "simulator"
SIMULATED_ORIGIN = "simulator"
_SIMULATED_QUEUE_S = (0.0, 0.3)
_SIMULATED_RUN_S = (0.3, 2.0)
_POLL_S = 2.0
_SHORT_TOKEN_S = 12 * 3600  # a night
_SIMULATED_POLL_S = 0.2
_MOST_MICROS = 10**15


class _Dollars(click.ParamType[int]):
    """A positive amount of US dollars, as micro-dollars."""

    name = "USD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            micros = round(float(value) * 1_000_000)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not an amount of dollars", param, ctx)
        if not 0 < micros < _MOST_MICROS:
            self.fail(f"{value} is not an amount above 0 and below $1,000,000,000", param, ctx)
        return micros


class _Seconds(click.FloatRange):
    """A time from nothing to a year; `nan` and `inf` are none."""

    def __init__(self) -> None:
        super().__init__(min=0, max=366 * 86400)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


class _Halt(click.ParamType[int]):
    """`streak=N` or `never`, as the number of failures in a row (0: never)."""

    name = "SPEC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "never":
            return 0
        kind, _, number = str(value).partition("=")
        if kind != "streak" or not re.fullmatch("[0-9]{1,9}", number) or int(number) < 1:
            self.fail(f"{value!r} is neither streak=N (N at least 1) nor never", param, ctx)
        return int(number)


@dataclass(frozen=True)
class _Options:
    """The flags of `run`, as the user gave them."""

    manifests: tuple[str, ...]
    db: str | None
    allow_network_fs: bool
    model: str | None
    batch: str | None
    account: str
    jobs: int | None
    output_dir: str | None
    name: str | None
    output: str | None
    retries: int
    job_timeout: float
    poll_interval: float | None
    budget: int | None
    halt: int
    max_outage: float
    download: bool
    download_jobs: int
    limit: int | None
    max_expand: int
    allow_private_inputs: bool
    replace: bool
    new_batch: bool
    resubmit_in_doubt: bool
    dry_run: bool
    simulate: bool
    yes: bool
    verbose: bool
    quiet: bool
    as_json: bool

    @property
    def provider(self) -> str:
        return SIMULATOR if self.simulate else REAL

    def wish(self, manifest: str) -> planning.Wish:
        return planning.Wish(
            path=manifest,
            provider=self.provider,
            account=self.account,
            model=self.model,
            batch=self.batch,
            output_dir=self.output_dir,
            default_output_dir=SIMULATED_CLIPS if self.simulate else "clips",
            name_template=self.name,
            budget_micros=self.budget,
            replace=self.replace,
            new_batch=self.new_batch,
            max_expand=self.max_expand,
            allow_private_inputs=self.allow_private_inputs,
        )

    def settings(self, jobs: int) -> Settings:
        default_poll_s = _SIMULATED_POLL_S if self.simulate else _POLL_S
        return Settings(
            jobs=jobs,
            retries=self.retries,
            job_timeout_s=self.job_timeout,
            poll_interval_s=default_poll_s if self.poll_interval is None else self.poll_interval,
            download=self.download,
            download_jobs=self.download_jobs,
            limit=self.limit,
            streak=self.halt,
            max_outage_s=self.max_outage,
        )


@dataclass
class _Service:
    """The service that a run talks to: the real one, or the stand-in on loopback."""

    make: Callable[[], Provider]
    origin: str
    token: Token | None
    is_loopback: bool


@dataclass
class _Look:
    """What a run found before it asked anything."""

    plans: list[planning.Plan] = field(default_factory=list)
    account: Account | None = None
    waiting: reads.Waiting = field(default_factory=lambda: reads.Waiting(0, 0, 0))
    doubts: list[int] = field(default_factory=list)
    doubt_prices: list[int] = field(default_factory=list)
    at_work: int = 0

    @property
    def to_pay(self) -> int:
        """How many jobs would be paid for."""
        if not self.plans:
            return self.waiting.jobs
        return sum(len(plan.to_pay) for plan in self.plans)

    @property
    def micros(self) -> int:
        if not self.plans:
            return self.waiting.micros
        return sum(plan.estimate_micros for plan in self.plans)

    def most_micros(self, payments: int) -> int:
        """Return what so many payments cost at most, of those that may be made."""
        if self.plans:
            prices = [spec.est_micros or 0 for plan in self.plans for spec in plan.to_pay]
        else:
            count = max(1, self.waiting.jobs)
            prices = [-(-self.waiting.micros // count)] * self.waiting.jobs
        return sum(sorted(prices + self.doubt_prices, reverse=True)[:payments])

    @property
    def unpriced(self) -> int:
        if not self.plans:
            return self.waiting.unpriced
        return sum(plan.unpriced for plan in self.plans)


_POSITIVE = click.IntRange(min=1, max=10**9)
_SECONDS = _Seconds()


@click.command()
@click.argument("manifests", nargs=-1, metavar="[MANIFEST]...", type=click.Path())
@db_option
@click.option("--model", metavar="ID", help="The model, whatever the rows say.")
@click.option("--batch", metavar="NAME", help="The batch; else the manifest's, else its file name.")
@click.option("--account", metavar="NAME", default="default", show_default=True, help="Who pays.")
@click.option(
    "-j", "--jobs", type=_POSITIVE, help="Jobs in flight over all workers (4 unless stored)."
)
@click.option("--output-dir", metavar="DIR", help="Where clips go (clips); kept per batch.")
@click.option("--name", metavar="TEMPLATE", help="Clip names ({batch}/{id}-{variant}.{ext}).")
@click.option("-o", "--output", metavar="FILE", help="Write the results, on every way out.")
@click.option(
    "--retries",
    type=click.IntRange(min=0, max=100),
    default=1,
    show_default=True,
    help="New paid attempts after a transient generation failure.",
)
@click.option(
    "--job-timeout",
    type=_SECONDS,
    default=3600,
    show_default=True,
    metavar="S",
    help="Let a job rest that runs longer; a later run looks again.",
)
@click.option(
    "--poll-interval",
    type=_SECONDS,
    metavar="S",
    help="Shortest time between two looks at a job (2; 0.2 with --simulate).",
)
@click.option(
    "--budget",
    type=_Dollars(),
    help="Submit nothing that would lift the batch above this, over its life.",
)
@click.option(
    "--halt",
    type=_Halt(),
    default="streak=10",
    show_default=True,
    help="Pause after N failures in a row: streak=N, or never.",
)
@click.option(
    "--max-outage",
    type=_SECONDS,
    default=6 * 3600,
    show_default=True,
    metavar="S",
    help="How long to wait for a service that cannot be reached.",
)
@click.option("--download/--no-download", default=True, help="Fetch the clips (default).")
@click.option(
    "--download-jobs", type=_POSITIVE, default=4, show_default=True, help="Downloads at once."
)
@click.option("--limit", type=click.IntRange(min=0), help="At most N new payments in this session.")
@click.option(
    "--max-expand",
    type=_POSITIVE,
    default=100_000,
    show_default=True,
    help="Refuse a manifest that expands beyond this.",
)
@click.option(
    "--allow-private-inputs", is_flag=True, help="Input URLs may point to private addresses."
)
@click.option("--replace", is_flag=True, help="Buy finished clips again whose inputs changed.")
@click.option("--new-batch", is_flag=True, help="The rows are new jobs, whatever they resemble.")
@click.option(
    "--resubmit-in-doubt",
    is_flag=True,
    help="Pay again for jobs in doubt; they may have been paid for already.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would happen; touch nothing.")
@click.option("--simulate", is_flag=True, help="Against the built-in stand-in: no token, no money.")
@click.option("-y", "--yes", is_flag=True, help="Agree to what is about to be paid.")
@click.option("-v", "--verbose", is_flag=True, help="Say what happens to each job, on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="No plan and no progress; errors only.")
@json_option
def command(**flags: Any) -> int:
    """Add the jobs of each MANIFEST and work until all of them are at rest.

    Without a manifest, go on with every job that is not at rest. Resuming is running:
    whatever interrupted a run, the same command goes on.
    """
    options = _Options(**flags)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s"
    )
    _check_flags(options)
    if options.output is not None:
        exporters.check_target(options.output, overwrite=False)
    database = Database(
        database_url(options.db, simulate=options.simulate),
        allow_network_fs=options.allow_network_fs,
    )
    if options.output not in (None, "-") and Path(options.output).resolve() == (
        database.path.resolve()
    ):
        raise UsageError(f"{options.output} is the job database: name another --output")
    with contextlib.closing(database), _service(options) as service:
        look = _look(database, options, service)
        if options.dry_run:
            return _show_dry_run(look, options)
        _check_before_paying(database, options, look)
        if not options.simulate:
            service.token = find_token()  # after the manifests: their faults are told first
        _check_folders(database, options, look)
        _ask(database, options, service, look)
        return _run(database, options, service, look)


def _check_flags(options: _Options) -> None:
    """Refuse flags that would do nothing: what they set belongs to a manifest's batch."""
    given = {
        "--model": options.model,
        "--output-dir": options.output_dir,
        "--name": options.name,
        "--budget": options.budget,
        "--replace": options.replace,
        "--new-batch": options.new_batch,
    }
    idle = [flag for flag, value in given.items() if value]
    if idle and not options.manifests:
        raise UsageError(
            f"{', '.join(idle)} without a manifest would do nothing: name the manifest of the "
            "batch too"
        )


# -- before anything is stored -------------------------------------------------------------------


@contextlib.contextmanager
def _service(options: _Options) -> Iterator[_Service]:
    if options.simulate:
        # Only now: the stand-in brings a web server with it.
        from batchgen.providers import simulator

        if options.dry_run:
            yield _Service(_no_provider, SIMULATED_ORIGIN, None, is_loopback=True)
            return
        settings = simulator.Settings(
            queue_s=_SIMULATED_QUEUE_S, run_s=_SIMULATED_RUN_S, recognise_earlier=True
        )
        with simulator.start_in_thread(settings) as handle:
            base = handle.base
            yield _Service(
                lambda: factory(REAL)(base=base, token="simulated"),
                SIMULATED_ORIGIN,
                None,
                is_loopback=True,
            )
        return
    from batchgen.providers.runcomfy import DEFAULT_BASE, checked_base, is_loopback_base

    try:
        base = checked_base(api_base() or DEFAULT_BASE)
    except UsageError as error:
        raise UsageError(f"{BASE_NAME}: {error}: correct it, or unset it") from error

    def make() -> Provider:
        return factory(REAL)(base=base, token=service.token.text if service.token else "")

    service = _Service(make, _origin(base), None, is_loopback=is_loopback_base(base))
    yield service


def _no_provider() -> Provider:
    raise UsageError("a dry run talks to no service")


def _origin(base: str) -> str:
    from batchgen.http import origin_of

    return origin_of(base)


def _look(database: Database, options: _Options, service: _Service) -> _Look:
    """Plan every manifest against what is stored, without changing anything."""
    look = _Look()
    if not database.exists():
        if not options.manifests:
            upgrade.require_current(database)
        _plan_all(None, look, options)
        return look
    upgrade.require_current(database)
    with database.reading() as tx:
        _check_kind(tx, database, options)
        look.account = accounts.find(tx, options.provider, options.account)
        accounts.check_origin(look.account, service.origin)
        _plan_all(tx, look, options)
        batch_ids = _batch_ids(tx, look, options)
        if look.account is not None:
            look.waiting = reads.waiting(tx, look.account.id, batch_ids)
            look.at_work = _at_work(tx)
        if options.resubmit_in_doubt:
            for row in reads.job_rows(tx, states=[JobState.IN_DOUBT]):
                if batch_ids is None or row.batch_id in batch_ids:
                    look.doubts.append(row.id)
                    look.doubt_prices.append(row.est_micros or 0)
    return look


def _plan_all(tx: Transaction | None, look: _Look, options: _Options) -> None:
    for manifest in options.manifests:
        prepared = planning.prepare(tx, options.wish(manifest))
        look.plans.append(planning.decide(tx, prepared))


def _batch_ids(tx: Transaction, look: _Look, options: _Options) -> list[int] | None:
    if look.plans:
        return [plan.batch.id for plan in look.plans]
    if options.batch is None:
        return None
    from batchgen.cli.common import batch_id_of

    found = batch_id_of(tx, options.batch)
    return None if found is None else [found]


def _at_work(tx: Transaction) -> int:
    return sum(
        count
        for batch in reads.batches(tx)
        for state, count in batch.counts.items()
        if state in (JobState.RUNNING, JobState.DOWNLOADING, JobState.SUBMITTING)
    )


def _check_kind(tx: Transaction, database: Database, options: _Options) -> None:
    """Keep simulated jobs and real ones in databases of their own."""
    kinds = accounts.providers(tx)
    if options.simulate and kinds - {SIMULATOR}:
        raise UsageError(
            f"{database.path} holds real jobs: --simulate keeps its own job database "
            "(batchgen-simulated.db); leave --db out"
        )
    if not options.simulate and SIMULATOR in kinds:
        raise UsageError(
            f"{database.path} holds simulated jobs: name another job database with --db, or pass "
            "--simulate"
        )


def _show_dry_run(look: _Look, options: _Options) -> int:
    if options.as_json:
        print_json({"plans": [plan_as_json(plan) for plan in look.plans]})
        return Exit.SUCCESS
    for plan in look.plans:
        for line in describe(plan):
            click.echo(line)
    if not look.plans:
        click.echo(f"{plural(look.waiting.jobs, 'job')} to pay for, {usd(look.waiting.micros)}")
    click.echo("dry run: nothing was stored or spent")
    return Exit.SUCCESS


def _check_before_paying(database: Database, options: _Options, look: _Look) -> None:
    database.check_place()
    unnamed = not options.simulate and not is_database_named(options.db)
    if unnamed and options.yes and not database.exists():
        raise UsageError(
            f"there is no job database {database.path} yet, and -y never makes one that was "
            "not named: pass --db batchgen.db or set BATCHGEN_DB, or run once without -y"
        )
    if look.account is not None and look.account.paused:
        raise _Paused(
            f"account {options.account!r} is paused: nothing was submitted; unpause it first"
        )


def _check_folders(database: Database, options: _Options, look: _Look) -> None:
    if not options.download:
        return
    folders = {plan.batch.output_dir for plan in look.plans}
    for folder in folders:
        _check_folder(planning.clips_folder(database.folder, folder))


def _check_folder(folder: Path) -> None:
    # A folder that is missing is made only once there is consent.
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    check_writable(folder)


class _Paused(BatchgenError):
    """A person has paused the account."""

    exit_code = Exit.HALTED


def _ask(database: Database, options: _Options, service: _Service, look: _Look) -> None:
    """Show what is about to be paid, and ask."""
    payments = look.to_pay + len(look.doubts)
    if options.limit is not None:
        payments = min(payments, options.limit)
    if not options.quiet:
        for plan in look.plans:
            for line in describe(plan):
                say(line)
    if payments == 0 or options.simulate:
        return
    new = "" if database.exists() else " (new)"
    say(f"job database {database.path.resolve()}{new}, account {options.account}")
    _warn_of_token(look, service)
    if look.doubts:
        say(
            f"{plural(len(look.doubts), 'job')} in doubt will be paid for again: each may have "
            "been paid for already"
        )
    micros = look.most_micros(payments)
    worst = micros * (1 + options.retries)
    known = "" if not look.unpriced else f", and {look.unpriced} without a known price"
    said = "" if payments == look.to_pay + len(look.doubts) else " (--limit)"
    say(
        f"{plural(payments, 'job')} to pay for{said}: about {usd(micros)}, at worst {usd(worst)} "
        f"with retries (estimate){known}"
    )
    for plan in look.plans:
        if plan.batch.budget_micros is not None:
            say(f"batch {plan.batch.name} spends at most {usd(plan.batch.budget_micros)} (budget)")
    balance = _balance(service)
    if balance is not None:
        say(f"balance {usd(balance)}")
    confirm("Pay for them?", yes=options.yes)


def _warn_of_token(look: _Look, service: _Service) -> None:
    used = look.account.token_hash if look.account else None
    if used and service.token and used != service.token.digest:
        say("note: the token is not the one that this account was last used with")
    if service.token and service.token.expires_at:
        left_s = (service.token.expires_at - datetime.now(UTC)).total_seconds()
        if left_s < _SHORT_TOKEN_S:
            at = service.token.expires_at.isoformat(timespec="minutes")
            say(f"warning: the token of {service.token.source} ends at {at}: log in again first")


def _balance(service: _Service) -> int | None:
    async def ask() -> int | None:
        provider = service.make()
        try:
            return await provider.balance_micros()
        finally:
            await provider.close()

    return asyncio.run(ask())


# -- work ----------------------------------------------------------------------------------------


def _run(database: Database, options: _Options, service: _Service, look: _Look) -> int:
    began_ms = wall_ms()
    upgrade.open_current(database)
    with database.transaction() as tx:
        account = accounts.ensure(tx, options.provider, options.account)
        digest = service.token.digest if service.token else ""
        accounts.bind(tx, account, origin=service.origin, token_hash=digest)
        scope, batch_ids = _store(tx, options, look, began_ms)
        for job_id in look.doubts:
            by_hand.resubmit(tx, job_id, now_ms=began_ms)
        jobs = _cap(tx, database, account, options)
    with database.reading() as tx:
        total = _unfinished(reads.tally(tx, scope, account.id))
    errand = Errand(
        database=database,
        make_provider=service.make,
        account_id=account.id,
        scope=scope,
        settings=options.settings(jobs),
        allow_private=service.is_loopback,
        renew_token=_renewal(service.token),
        total=total,
        quiet=options.quiet or options.as_json,
    )
    try:
        outcome = work(errand)
    finally:
        _export(database, options, batch_ids)
    with database.reading() as tx:
        since_ms = 0 if options.manifests else began_ms
        tally = reads.tally(tx, scope, account.id, since_ms=since_ms)
        summaries = [
            batch for batch in reads.batches(tx) if batch_ids is None or batch.id in batch_ids
        ]
    reasons = judge(outcome, tally, download=options.download, limited=options.limit is not None)
    _summarise(database, options, outcome, tally, reasons, summaries)
    return reasons[0].exit_code


def _renewal(token: Token | None) -> Callable[[Provider], bool]:
    """Return what gives a provider the token that was stored since, if one was."""
    used = {token.text} if token else set()

    def renew(provider: Provider) -> bool:
        try:
            found = find_token()
        except BatchgenError as error:
            say(str(error))
            return False
        if found.text in used:
            return False
        used.add(found.text)
        provider.use_token(found.text)
        say(f"the token was refused; going on with the newer one of {found.source}")
        return True

    return renew


def _store(
    tx: Transaction, options: _Options, look: _Look, now_ms: int
) -> tuple[Scope, list[int] | None]:
    """Store the manifests and fix the scope; what was not shown is not stored."""
    if not options.manifests:
        batch_ids = _batch_ids(tx, look, options)
        chosen = None if batch_ids is None else tuple(batch_ids)
        return Scope(chosen, reads.newest_job_id(tx)), batch_ids
    gone: dict[int, frozenset[int]] = {}
    outside: dict[int, frozenset[int]] = {}
    to_pay = 0
    for manifest in options.manifests:
        plan = planning.decide(tx, planning.prepare(tx, options.wish(manifest)))
        to_pay += len(plan.to_pay)
        stored = planning.store(tx, plan, now_ms=now_ms, draw=random.SystemRandom().randint)
        batch_id = stored.batch_id
        gone[batch_id] = gone.get(batch_id, stored.gone) & stored.gone
        outside[batch_id] = outside.get(batch_id, stored.outside) & stored.outside
    if to_pay > look.to_pay:
        raise UsageError(
            "the manifest or the job database has changed since you were asked: nothing was "
            "stored or spent; run again"
        )
    scope = Scope(
        tuple(gone),
        reads.newest_job_id(tx),
        excluded=frozenset().union(*gone.values()),
        outside=frozenset().union(*outside.values()),
    )
    return scope, list(gone)


def _cap(tx: Transaction, database: Database, account: Account, options: _Options) -> int:
    """Return this worker's share of the cap, storing `-j` if no other worker lives."""
    if options.jobs is None:
        return account.cap
    living = [one for one in workers.others(tx, "") if sqlite.is_alive(database.path, one)]
    if living:
        share = min(options.jobs, account.cap)
        say(
            f"{plural(len(living), 'other worker')} at work: the cap stays {account.cap}, this "
            f"one takes at most {share}"
        )
        return share
    accounts.set_cap(tx, account, options.jobs)
    return options.jobs


def _unfinished(tally: Counter[JobState]) -> int:
    return sum(
        tally[state]
        for state in (
            JobState.PENDING,
            JobState.SUBMITTING,
            JobState.RUNNING,
            JobState.DOWNLOADING,
        )
    )


def _export(database: Database, options: _Options, batch_ids: list[int] | None) -> None:
    if options.output is not None:
        results.write(database, options.output, batch_ids=batch_ids, overwrite=False)


# -- the end -------------------------------------------------------------------------------------


def judge(
    outcome: Outcome, tally: Counter[JobState], *, download: bool, limited: bool
) -> list[Reason]:
    """Return why a run ends as it does, the reason for its exit code first.

    Args:
        outcome: What the session met.
        tally: The jobs in scope by state.
        download: Whether clips were to be fetched; else `downloading` is as good as done.
        limited: Whether `--limit` may have left jobs waiting.
    """
    reasons = list(outcome.reasons)
    if tally[JobState.IN_DOUBT]:
        reasons.append(
            Reason(
                Exit.IN_DOUBT,
                f"{plural(tally[JobState.IN_DOUBT], 'job')} in doubt: `batchgen reconcile --list`",
            )
        )
    lost = tally[JobState.FAILED] + tally[JobState.CANCELLED] + tally[JobState.EXPIRED]
    good = tally[JobState.SUCCEEDED] + (0 if download else tally[JobState.DOWNLOADING])
    open_ = tally[JobState.RUNNING] + (tally[JobState.DOWNLOADING] if download else 0)
    waiting = 0 if limited else tally[JobState.PENDING]
    if lost and not good and not open_ and not waiting:
        reasons.append(Reason(Exit.ALL_FAILED, f"{plural(lost, 'job')} failed, none succeeded"))
    elif lost or open_ or (waiting and not reasons):
        said = [
            f"{count} {word}"
            for count, word in (
                (lost, "failed, cancelled or expired"),
                (open_, "still running or downloading"),
                (waiting, "waiting"),
            )
            if count
        ]
        reasons.append(Reason(Exit.SOME_FAILED, ", ".join(said)))
    if not reasons:
        left = f"; {tally[JobState.PENDING]} left waiting by --limit" if limited else ""
        said_good = "every job succeeded" if good else "nothing to do"
        if tally[JobState.PENDING]:
            said_good = "all that was paid for succeeded" + left
        reasons.append(Reason(Exit.SUCCESS, said_good))
    return sorted(reasons, key=lambda reason: PRECEDENCE.index(reason.exit_code))


def _summarise(
    database: Database,
    options: _Options,
    outcome: Outcome,
    tally: Counter[JobState],
    reasons: list[Reason],
    batches: list[reads.BatchSummary],
) -> None:
    spent = sum(batch.spent_micros for batch in batches)
    reserved = sum(batch.reserved_micros for batch in batches)
    if options.as_json:
        print_json(
            {
                "exit_code": int(reasons[0].exit_code),
                "reasons": [
                    {"exit_code": int(reason.exit_code), "message": reason.message}
                    for reason in reasons
                ],
                "jobs": {str(state): count for state, count in tally.items() if count},
                "submitted": outcome.stats.submitted,
                "spent_usd": usd_number(spent),
                "reserved_usd": usd_number(reserved),
                "database": str(database.path),
                "output": options.output,
            }
        )
        return
    if options.quiet and reasons[0].exit_code is Exit.SUCCESS:
        return
    counts = ", ".join(f"{tally[state]} {state}" for state in JobState if tally[state])
    say(f"{counts or 'no jobs'}; {outcome.stats.submitted} paid for in this run")
    held = f", {usd(reserved)} reserved" if reserved else ""
    say(f"{usd(spent)} spent in all{held}")
    folders = sorted(
        {str(planning.clips_folder(database.folder, one.output_dir)) for one in batches}
    )
    if options.download and tally[JobState.SUCCEEDED]:
        say(f"clips: {', '.join(_short(Path(folder)) for folder in folders)}")
    if options.output not in (None, "-"):
        say(f"results: {options.output}")
    for reason in reasons:
        if reason.exit_code is not Exit.SUCCESS:
            say(reason.message)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
