"""What a run finds before anything is stored, and the question it asks before it pays."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from batchgen import planning
from batchgen.cli import restored
from batchgen.cli.common import batch_id_of, confirm, plural, usd
from batchgen.cli.flags import REAL, SIMULATED, Flags
from batchgen.cli.plans import describe
from batchgen.cli.service import Service
from batchgen.cli.session import say
from batchgen.domain.errors import OutputError, UsageError
from batchgen.domain.states import JobState
from batchgen.downloads.folder import KEPT_FREE_BYTES, check_writable, free_bytes, in_mib
from batchgen.settings import is_database_named
from batchgen.store import accounts, reads, upgrade
from batchgen.store.accounts import Account
from batchgen.store.database import Database, Transaction
from batchgen.store.reads import JobRow, Waiting

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
        again: Jobs in doubt that would be paid for again.
        still_in_doubt: How many more there are, for which `--limit` leaves no room.
    """

    drafts: list[planning.Draft] = field(default_factory=list)
    plans: list[planning.Plan] = field(default_factory=list)
    account: Account | None = None
    batch_ids: list[int] | None = None
    newest_job_id: int = 0
    waiting: Waiting = field(default_factory=lambda: Waiting(0, 0, 0))
    again: list[JobRow] = field(default_factory=list)
    still_in_doubt: int = 0

    @property
    def to_pay(self) -> int:
        """How many jobs would be paid for, those in doubt left out."""
        if not self.plans:
            return self.waiting.jobs
        return sum(len(plan.to_pay) for plan in self.plans)

    @property
    def unpriced(self) -> int:
        """How many of `to_pay` have no known price."""
        if not self.plans:
            return self.waiting.unpriced
        return sum(plan.unpriced for plan in self.plans)

    def payments(self, limit: int | None) -> int:
        """Return how many jobs would be paid for in all."""
        wanted = self.to_pay + len(self.again)
        return wanted if limit is None else min(wanted, limit)

    def most_micros(self, payments: int) -> int:
        """Return what so many payments cost at most: those in doubt, and of the others any."""
        again = [row.est_micros or 0 for row in self.again]
        if self.plans:
            prices = [spec.est_micros or 0 for plan in self.plans for spec in plan.to_pay]
        else:
            count = max(1, self.waiting.jobs)
            prices = [-(-self.waiting.micros // count)] * self.waiting.jobs
        return sum(again + sorted(prices, reverse=True)[: payments - len(again)])


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
    with database.reading() as tx:
        _check_kind(tx, database, flags)
        found.account = accounts.find(tx, flags.provider, flags.account)
        accounts.check_origin(found.account, service.origin)
    restored.refuse(database, declare=not flags.dry_run)
    with database.reading() as tx:
        _plan(tx, found, flags)
        found.newest_job_id = reads.newest_job_id(tx)
        if not found.plans and flags.batch is not None:
            found.batch_ids = [batch_id_of(tx, flags.batch) or 0]
        if found.account is not None:
            found.waiting = reads.waiting(tx, found.account.id, found.batch_ids)
            if flags.resubmit_in_doubt:
                doubts = _doubts(tx, found, found.account)
                found.again = doubts[: flags.limit]
                found.still_in_doubt = len(doubts) - len(found.again)
    return found


def _plan(tx: Transaction | None, found: Look, flags: Flags) -> None:
    if not flags.manifests:
        return
    found.drafts = planning.draft(tx, map(flags.wish, flags.manifests))
    found.plans = [planning.decide(tx, draft.prepared) for draft in found.drafts]
    found.batch_ids = [plan.batch.id for plan in found.plans if plan.batch.id]


def _doubts(tx: Transaction, found: Look, account: Account) -> list[JobRow]:
    """Return the jobs in doubt that the run may pay for: those of its rows, of its account."""
    mine = {batch.id for batch in reads.batches(tx) if batch.account_id == account.id}
    if found.batch_ids is not None:
        mine &= set(found.batch_ids)
    claimed = {job_id for plan in found.plans for job_id in plan.claimed_ids}
    return [
        row
        for row in reads.job_rows(tx, states=[JobState.IN_DOUBT])
        if row.batch_id in mine and (not found.plans or row.id in claimed)
    ]


def _check_kind(tx: Transaction, database: Database, flags: Flags) -> None:
    """Keep simulated jobs and real ones in databases of their own."""
    kinds = {account.provider for account in accounts.every(tx)}
    if flags.simulate and kinds - {SIMULATED}:
        raise UsageError(
            f"{database.shown} holds real jobs: --simulate keeps its own job database "
            "(batchgen-simulated.db); leave --db out"
        )
    if not flags.simulate and SIMULATED in kinds:
        raise UsageError(
            f"{database.shown} holds simulated jobs: name another job database with --db, or pass "
            "--simulate"
        )


def check_database(database: Database, flags: Flags) -> None:
    """Check that a job database may be made or changed.

    Raises:
        StoreError: If it cannot be written.
        UsageError: If `-y` would make one that was not named.
    """
    database.check_place()
    unnamed = flags.provider == REAL and not is_database_named(flags.db)
    if unnamed and flags.yes and not database.exists():
        raise UsageError(
            f"there is no job database {database.shown} yet, and -y never makes one that was "
            "not named: pass --db batchgen.db or set BATCHGEN_DB, or run once without -y"
        )


def check_folders(database: Database, plans: Sequence[planning.Plan]) -> None:
    """Check that clips can be written.

    Raises:
        OutputError: If a folder is in the way of something, or cannot be written.
    """
    for output_dir in {plan.batch.output_dir for plan in plans}:
        folder = planning.clips_folder(database.folder, output_dir)
        # A folder that is missing is made only once there is consent.
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        check_writable(folder)


def check_space(database: Database, flags: Flags, found: Look) -> None:
    """Check that there is room for the clips of what would be paid for.

    Raises:
        OutputError: If less than 1 GiB is free where some of them would go.
    """
    if not found.payments(flags.limit):
        return
    for folder in sorted(_folders_to_fill(database, found)):
        free = free_bytes(folder)
        if free < KEPT_FREE_BYTES:
            raise OutputError(
                f"less than 1 GiB is free ({in_mib(free)}) on the disk of {folder}, where clips "
                "go: make room or choose another --output-dir, then run again; nothing was stored "
                "or spent. What is paid for already is fetched by `batchgen download`"
            )


def _folders_to_fill(database: Database, found: Look) -> set[Path]:
    if found.plans:
        named = [plan.batch.output_dir for plan in found.plans]
    else:
        again = {row.batch_id for row in found.again}
        with database.reading() as tx:
            named = [
                batch.output_dir
                for batch in reads.batches(tx)
                if found.account is not None
                and batch.account_id == found.account.id
                and (found.batch_ids is None or batch.id in found.batch_ids)
                and (batch.counts.get(JobState.PENDING) or batch.id in again)
            ]
    return {planning.clips_folder(database.folder, name) for name in named}


def ask(database: Database, flags: Flags, service: Service, found: Look) -> None:
    """Show what is about to be paid, and ask.

    Raises:
        UsageError: If the answer is no, or nobody can be asked.
    """
    if not flags.quiet:
        for plan in found.plans:
            for line in describe(plan):
                say(line)
    if found.payments(flags.limit) == 0 or flags.simulate:
        return
    new = "" if database.exists() else " (new)"
    place = database.path.resolve() if database.path else database.shown
    say(f"job database {place}{new}, account {flags.account}")
    _warn_of_token(found, service)
    for line in price(found, flags):
        say(line)
    balance = _balance(service)
    if balance is not None:
        say(f"balance {usd(balance)}")
    confirm("Pay for them?", yes=flags.yes)


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
    micros = found.most_micros(payments)
    worst = micros * (1 + flags.retries + flags.policy_retries)
    known = f", and {found.unpriced:,} without a known price" if found.unpriced else ""
    everything = found.to_pay + len(found.again) + found.still_in_doubt
    limited = " (--limit)" if payments < everything else ""
    lines.append(
        f"{plural(payments, 'job')} to pay for{limited}: about {usd(micros)}, at worst "
        f"{usd(worst)} with retries (estimate){known}"
    )
    lines += [
        f"batch {plan.batch.name} spends at most {usd(plan.batch.budget_micros)} (budget)"
        for plan in found.plans
        if plan.batch.budget_micros is not None
    ]
    return lines


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


def _balance(service: Service) -> int | None:
    async def ask_service() -> int | None:
        provider = service.connect()
        try:
            return await provider.balance_micros()
        finally:
            await provider.close()

    return asyncio.run(ask_service())
