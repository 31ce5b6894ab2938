"""What a run finds before anything is stored, and the question it asks before it pays."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from batchgen import planning
from batchgen.cli import configured
from batchgen.cli.common import (
    REAL,
    batch_id_of,
    check_kind,
    confirm,
    is_database_named,
    looking,
    plural,
)
from batchgen.cli.flags import Flags
from batchgen.cli.plans import describe
from batchgen.cli.probed import Candidate, Probed, planned
from batchgen.cli.selection import condition
from batchgen.cli.session import say
from batchgen.domain.errors import BatchgenError, Exit, OutputError, ProviderError, UsageError
from batchgen.domain.expansion import estimate_micros
from batchgen.domain.jobs import Model
from batchgen.domain.prices import Estimate, Prices, UnitPrice, priced, whole_cents
from batchgen.domain.states import JobState
from batchgen.domain.wording import usd
from batchgen.downloads.destinations import Destinations
from batchgen.downloads.folder import KEPT_FREE_BYTES, in_mib
from batchgen.library import step_backs
from batchgen.library.known_models import known_models
from batchgen.library.service import Service
from batchgen.providers.interface import Provider
from batchgen.runner.deadline import in_words
from batchgen.store import accounts, costs, moving, probes, reads, upgrade
from batchgen.store.accounts import Account
from batchgen.store.database import Database
from batchgen.store.reads import JobRow, Kind
from batchgen.store.transactions import Transaction

logger = logging.getLogger(__name__)

_SHORT_TOKEN_S = 12 * 3600  # a night


@dataclass
class Look:
    """What a run found before it asked anything.

    Attributes:
        drafts: The manifests, checked.
        plans: What storing them would do, in the same order.
        account: Who pays, None if the job database does not know it yet.
        batch_ids: The batches of the run as far as they are stored; None is all of them.
        newest_job_id: Without manifests, what was stored later is not paid for.
        waiting: What would be paid for without manifests.
        only: All jobs that `--where` selects, None without it.
        prices: What finished jobs of the account cost.
        catalog: What the service's catalog stated last, by model.
        is_repriced: Whether it states another price now than what is stored.
        balance_micros: What the account holds, None if that could not be read.
        used_micros: What each batch has spent or reserved, by its id.
        estimated: The batches for which the service has not stated all that was spent.
        probed: What was found of the input files; None if nobody looked.
        again: Jobs in doubt that would be paid for again.
        still_in_doubt: How many more there are, for which `--limit` leaves no room.
    """

    drafts: list[planning.Draft] = field(default_factory=list)
    plans: list[planning.Plan] = field(default_factory=list)
    account: Account | None = None
    batch_ids: list[int] | None = None
    newest_job_id: int = 0
    waiting: list[Kind] = field(default_factory=list)
    only: frozenset[int] | None = None
    prices: Prices = field(default_factory=Prices)
    catalog: dict[str, UnitPrice] = field(default_factory=dict)
    is_repriced: bool = False
    balance_micros: int | None = None
    used_micros: dict[int, int] = field(default_factory=dict)
    estimated: frozenset[int] = frozenset()
    probed: Probed | None = None
    again: list[JobRow] = field(default_factory=list)
    still_in_doubt: int = 0

    @property
    def to_pay(self) -> int:
        """How many jobs would be paid for, those in doubt left out."""
        return sum(kind.jobs for kind in self.kinds)

    @property
    def kinds(self) -> list[Kind]:
        """The jobs of `to_pay`, those alike counted together."""
        return self._planned if self.probed is None else self.probed.of(self._planned)

    @property
    def planned(self) -> int:
        """How many jobs would be paid for if all of their input files could be used."""
        return sum(kind.jobs for kind in self._planned)

    @property
    def _planned(self) -> list[Kind]:
        if not self.plans:
            return self.waiting
        counts: Counter[tuple[str, str, int | None]] = Counter()
        for plan in self.plans:
            counts.update(plan.bought)
        return [Kind(*key, jobs=count) for key, count in counts.items()]

    @property
    def models(self) -> set[str]:
        """The models of the jobs that would be paid for."""
        return {kind.model for kind in self.kinds} | {row.model for row in self.again}

    def payments(self, limit: int | None) -> int:
        """Return how many jobs would be paid for in all."""
        wanted = self.to_pay + len(self.again)
        return wanted if limit is None else min(wanted, limit)

    def is_limited(self, limit: int | None) -> bool:
        """Return whether `--limit` leaves something that would be paid for without it."""
        everything = self.to_pay + len(self.again) + self.still_in_doubt
        return self.payments(limit) < everything

    def estimate(self, limit: int | None) -> Estimate:
        """Return what the payments will probably cost: those in doubt, and the dearest others."""
        found = Estimate()
        for row in self.again:
            found.add(self.prices, row.model, None, listed=row.est_micros)
        left = self.payments(limit) - len(self.again)
        for kind in sorted(self.kinds, key=self._micros, reverse=True):
            jobs = min(kind.jobs, left)
            if jobs > 0:
                found.add(self.prices, kind.model, kind.settings, listed=kind.listed, jobs=jobs)
                left -= jobs
        return found

    def is_most(self, limit: int | None) -> bool:
        """Return whether `estimate` is too high if `--limit` leaves dear jobs for later."""
        return self.is_limited(limit) and len({self._micros(kind) for kind in self.kinds}) > 1

    def most_micros(self, limit: int | None, *, retries: int) -> int:
        """Return what the payments cost if each of them needs every retry."""
        found = sum(row.est_micros or 0 for row in self.again)
        left = self.payments(limit) - len(self.again)
        for kind in sorted(self.kinds, key=self._request_micros, reverse=True):
            jobs = min(kind.jobs, left)
            found += jobs * self._request_micros(kind)
            left -= jobs
        return found * (1 + retries)

    @property
    def unit_micros(self) -> int:
        """What the dearest of the jobs costs."""
        again = [row.est_micros or 0 for row in self.again]
        return max([self._request_micros(kind) for kind in self.kinds] + again, default=0)

    def _micros(self, kind: Kind) -> int:
        return self.prices.of_job(kind.model, kind.settings, kind.listed) or 0

    def _request_micros(self, kind: Kind) -> int:
        listed = self.prices.of_request(kind.model, kind.settings, kind.listed) or 0
        return max(listed, self._micros(kind))


def look(database: Database, flags: Flags, service: Service) -> Look:
    """Plan every manifest against what is stored, without changing anything.

    Raises:
        ManifestError: If a manifest has a fault or must be refused.
        UsageError: If options contradict the job database.
        StoreError: If it cannot be used.
    """
    found = Look()
    if not database.exists():
        if not flags.manifests:
            upgrade.require_current(database)
        _plan(None, found, flags)
        return found
    upgrade.require_current(database)
    moving.refuse(database)
    with database.reading() as tx:
        check_kind(tx, database)
        found.account = accounts.find(tx, flags.provider, flags.account)
        accounts.check_origin(found.account, service.origin)
    step_backs.refuse(database, declare=not flags.dry_run)
    with database.reading() as tx:
        _plan(tx, found, flags)
        if found.account is not None:
            found.prices = costs.prices(tx, found.account.id)
            found.catalog = costs.catalog(tx, found.account.id)
        found.newest_job_id = reads.newest_job_id(tx)
        stored = reads.batches(tx)
        found.used_micros = {
            batch.id: batch.spent_micros + batch.reserved_micros for batch in stored
        }
        mine = {plan.batch.id for plan in found.plans}
        found.estimated = frozenset(
            batch.id for batch in stored if batch.id in mine and reads.has_estimates(tx, batch)
        )
        if not found.plans and flags.batch is not None:
            found.batch_ids = [batch_id_of(tx, flags.batch) or 0]
        where = condition(tx, flags.where)
        if where is not None:
            found.only = frozenset(reads.job_ids(tx, where=where))
        if found.account is not None:
            found.waiting = reads.waiting(tx, found.account.id, found.batch_ids, where=where)
            if flags.resubmit_in_doubt:
                doubts = _doubts(tx, found, found.account)
                found.again = doubts[: flags.limit]
                found.still_in_doubt = len(doubts) - len(found.again)
    return found


def _plan(tx: Transaction | None, found: Look, flags: Flags) -> None:
    if not flags.manifests:
        return
    found.drafts = planning.draft(tx, flags.wishes())
    _decide(tx, found)


def _decide(tx: Transaction | None, found: Look) -> None:
    found.plans = [planning.decide(tx, draft.prepared) for draft in found.drafts]
    found.batch_ids = [plan.batch.id for plan in found.plans if plan.batch.id]


def candidates(database: Database, found: Look) -> Iterator[Candidate]:
    """Yield the jobs that would be paid for if their input files can be used."""
    with looking(database) as tx:
        yield from planned(found.plans, tx)
        if found.plans or found.account is None or tx is None:
            return
        for job in probes.waiting(
            tx, found.account.id, found.batch_ids, max_job_id=found.newest_job_id
        ):
            if found.only is not None and job.id not in found.only:
                continue
            yield Candidate(
                f"{job.batch}/{job.label}",
                job.model,
                job.inputs,
                job.settings,
                job.est_micros,
                job.is_unfit,
                columns=job.columns,
            )


def _doubts(tx: Transaction, found: Look, account: Account) -> list[JobRow]:
    """Return the jobs in doubt that the run may pay for: those of its rows, of its account."""
    mine = {batch.id for batch in reads.batches(tx) if batch.account_id == account.id}
    if found.batch_ids is not None:
        mine &= set(found.batch_ids)
    return [
        row
        for row in reads.job_rows(tx, states=[JobState.IN_DOUBT])
        if row.batch_id in mine
        and (found.only is None or row.id in found.only)
        and (not found.plans or any(row.id in plan.claimed for plan in found.plans))
    ]


def check_database(database: Database, flags: Flags) -> None:
    """Check that a job database may be made or changed.

    Raises:
        StoreError: If it cannot be written.
        UsageError: If `-y` would make one that was not named.
    """
    database.check_place()
    unnamed = flags.provider == REAL and not is_database_named()
    if unnamed and flags.yes and not database.exists():
        raise UsageError(
            f"there is no job database {database.shown} yet, and -y never makes one that was "
            "not named: pass --db batchgen.db or set BATCHGEN_DB, or run once without -y"
        )


def check_places(database: Database, found: Look) -> None:
    """Check that clips can be written where those would go that are to be paid for.

    Raises:
        OutputError: If a folder is in the way of something, or cannot be written, or a bucket
            refuses or does not answer.
    """
    destinations = Destinations(database.folder)
    for output_dir in sorted(_names_to_fill(database, found)):
        destinations.of(output_dir).check_writable()


def check_space(database: Database, flags: Flags, found: Look) -> None:
    """Check that there is room for the clips of what would be paid for.

    Raises:
        OutputError: If less than 1 GiB is free where some of them would go.
    """
    if not found.payments(flags.limit):
        return
    destinations = Destinations(database.folder)
    for name in sorted(_names_to_fill(database, found)):
        place = destinations.of(name)
        free = place.free_bytes()
        if free is not None and free < KEPT_FREE_BYTES:
            raise OutputError(
                f"less than 1 GiB is free ({in_mib(free)}) on the disk of {place.path('')}, where "
                "clips go: make room or choose another --output-dir, then run again; nothing was "
                "stored or spent. What is paid for already is fetched by `batchgen download`"
            )


def _names_to_fill(database: Database, found: Look) -> set[str]:
    if found.plans:
        return {plan.batch.output_dir for plan in found.plans}
    again = {row.batch_id for row in found.again}
    with database.reading() as tx:
        return {
            batch.output_dir
            for batch in reads.batches(tx)
            if found.account is not None
            and batch.account_id == found.account.id
            and (found.batch_ids is None or batch.id in found.batch_ids)
            and (batch.counts.get(JobState.PENDING) or batch.id in again)
        }


def ask(database: Database, flags: Flags, service: Service, found: Look) -> None:
    """Show what is about to be paid, and ask.

    Raises:
        UsageError: If the answer is no, or nobody can be asked.
    """
    pays = found.payments(flags.limit) > 0
    if pays:
        read(database, service, found)
    for plan in found.plans:
        planning.check_budget(plan)
    if not flags.quiet:
        for line in plan_lines(found, flags):
            say(line)
    if not pays:
        return
    check_balance(flags, found)
    if flags.simulate:
        return
    _warn_of_token(found, service)
    if not (flags.quiet and flags.yes):  # else nobody is asked, and nobody wants to read it
        _say_where(database, flags)
        for line in [*price(found, flags), *_balance_lines(found, flags)]:
            say(line)
    confirm("Pay for them?", yes=flags.yes)


def plan_lines(found: Look, flags: Flags) -> list[str]:
    """Return what storing the manifests would do, and what was found of their input files.

    Nobody is asked by a simulated run or a dry one: what a question would say beyond that too.
    """
    is_limited = found.is_limited(flags.limit)
    lines = [line for plan in found.plans for line in describe(plan, is_limited=is_limited)]
    lines += [] if found.probed is None else found.probed.lines()
    says_more = is_limited or (flags.dry_run and (found.again or found.probed or not found.plans))
    if says_more and (flags.simulate or flags.dry_run):
        lines += price(found, flags)
    return lines


def _say_where(database: Database, flags: Flags) -> None:
    new = "" if database.exists() else " (new)"
    place = database.path.resolve() if database.path else database.shown
    say(f"job database {place}{new}, account {flags.account}")
    for line in configured.used():  # not silently: a folder's file may be somebody else's
        say(line)


def price(found: Look, flags: Flags) -> list[str]:
    """Return how many jobs would be paid for and about how much that is, in lines."""
    payments = found.payments(flags.limit)
    if not payments:
        return ["nothing to pay for"]
    lines = []
    if found.again:
        more = f" ({found.still_in_doubt:,} more left in doubt)" if found.still_in_doubt else ""
        lines.append(
            f"{plural(len(found.again), 'job')} in doubt to be paid for again{more}: each may have "
            "been paid for already"
        )
    estimate = found.estimate(flags.limit)
    micros = whole_cents(estimate.micros)
    retries = flags.retries + flags.policy_retries
    worst = whole_cents(found.most_micros(flags.limit, retries=retries))
    known = f", and {estimate.unpriced:,} without a known price" if estimate.unpriced else ""
    basis = estimate.basis(line for plan in found.plans for line in plan.list_bases)
    limited = " (--limit)" if found.is_limited(flags.limit) else ""
    head = f"{plural(payments, 'job')} to pay for{limited}"
    if estimate.unpriced == payments:
        lines.append(f"{head}: the price is unknown")
    else:
        lines.append(
            f"{head}: {'at most ' * found.is_most(flags.limit)}about {usd(micros)}, at worst "
            f"{usd(worst)} with retries (estimate: {basis}){known}"
        )
    lines += [
        _budget_line(plan, found, plan.batch.budget_micros)
        for plan in found.plans
        if plan.batch.budget_micros is not None
    ]
    if flags.max_duration is not None:
        lines.append(f"submits for {in_words(flags.max_duration)} at most (--max-duration)")
    if flags.until_s is not None:
        until = datetime.fromtimestamp(flags.until_s, UTC).astimezone()
        lines.append(f"submits until {until:%Y-%m-%d %H:%M} at most (--until)")
    return lines


def _budget_line(plan: planning.Plan, found: Look, budget_micros: int) -> str:
    """Return what a batch may cost, and how far that goes if it is not far enough."""
    used_micros = found.used_micros.get(plan.batch.id, 0)
    line = f"batch {plan.batch.name} spends at most {usd(budget_micros)} (budget)"
    if used_micros:
        used = usd(used_micros, is_estimate=plan.batch.id in found.estimated)
        line += f", {used} of it is used"
    estimate, left = plan.estimate, max(0, budget_micros - used_micros)
    if estimate.micros <= left:
        return line
    bears = left * (estimate.jobs - estimate.unpriced) // estimate.micros
    return f"{line}: enough for about {bears:,} of {plural(estimate.jobs, 'job')}; then exit 8"


def _warn_of_token(found: Look, service: Service) -> None:
    token = service.token
    if token is None:
        return
    used = found.account.token_hash if found.account else None
    if used and used != token.digest:
        say("note: the token is not the one that this account was last used with")
    if token.expires_at:
        left_s = (token.expires_at - datetime.now(UTC)).total_seconds()
        if left_s < _SHORT_TOKEN_S:
            at = token.expires_at.isoformat(timespec="minutes")
            say(f"warning: the token of {token.source} ends at {at}: log in again first")


# -- what the service says before anything is paid -----------------------------------------------


@dataclass(frozen=True)
class _Said:
    """What the service says of the account and of prices."""

    balance_micros: int | None
    catalog: dict[str, UnitPrice]


def read(database: Database, service: Service, found: Look) -> None:
    """Read the balance and the catalog's prices; decide anew if a price has changed."""
    said = asyncio.run(_ask_service(service.connect(), sorted(found.models)))
    found.balance_micros = said.balance_micros
    changed = {
        model: price for model, price in said.catalog.items() if found.catalog.get(model) != price
    }
    if not changed:
        return
    found.is_repriced = True
    found.catalog |= changed
    found.drafts = [planning.repriced(draft, found.catalog) for draft in found.drafts]
    models = priced(known_models(), found.catalog)
    found.waiting = [_relisted(kind, models) for kind in found.waiting]
    if found.probed is not None:
        found.probed.fit_again = [_relisted(kind, models) for kind in found.probed.fit_again]
    if not found.drafts:
        return
    if not database.exists():
        _decide(None, found)
        return
    with database.reading() as tx:
        _decide(tx, found)


def _relisted(kind: Kind, models: Mapping[str, Model]) -> Kind:
    if kind.settings is None or kind.model not in models:
        return kind
    listed = estimate_micros(models[kind.model], json.loads(kind.settings))
    return kind if listed is None else replace(kind, listed=listed)


async def _ask_service(provider: Provider, models: Sequence[str]) -> _Said:
    try:
        balance, *prices = await asyncio.gather(
            _unless_refused(provider.balance_micros()),
            *(_unless_refused(provider.price(model)) for model in models),
        )
    finally:
        await provider.close()
    stated = zip(models, prices, strict=True)
    return _Said(
        balance if isinstance(balance, int) else None,
        {model: price for model, price in stated if isinstance(price, UnitPrice)},
    )


async def _unless_refused(answer: Awaitable[int | UnitPrice | None]) -> int | UnitPrice | None:
    try:
        return await answer
    except ProviderError as error:
        # Nothing that the run cannot do without: a bad token is told by the first submit.
        logger.info("not read before the run: %s", error)
        return None


def check_balance(flags: Flags, found: Look) -> None:
    """Check that the account holds more than must be left, unless the run may wait for it.

    Raises:
        NoBalance: If it does not, or nobody knows.
    """
    if flags.min_balance_micros is None or flags.wait_for_balance:
        return
    least = usd(flags.min_balance_micros)
    if found.balance_micros is None:
        raise NoBalance(
            f"the balance cannot be read, so that nobody knows whether {least} would be left: try "
            "again, or leave --min-balance out. Nothing was stored or spent"
        )
    if found.balance_micros - found.unit_micros < flags.min_balance_micros:
        raise NoBalance(
            f"the balance is {usd(found.balance_micros)}, and --min-balance keeps {least} of it: "
            "top it up or lower --min-balance. Nothing was stored or spent"
        )


class NoBalance(BatchgenError):
    """The account does not hold enough."""

    kind = "no_balance"
    exit_code = Exit.NO_BALANCE


def _balance_lines(found: Look, flags: Flags) -> list[str]:
    balance = found.balance_micros
    if balance is None:
        return ["the balance could not be read"]
    estimate = found.estimate(flags.limit)
    known = estimate.jobs - estimate.unpriced
    left = balance - (flags.min_balance_micros or 0)
    if not known or estimate.micros <= left:
        return [f"balance {usd(balance)}"]
    bears = max(0, left * known // max(1, estimate.micros))
    then = "the run waits then" if flags.wait_for_balance else "the run ends then, with exit 7"
    return [f"balance {usd(balance)}: enough for about {bears:,} of them; {then}"]
