"""The worker loop: claim under the gate, carry each job, until everything in scope is at rest."""

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from batchgen import __version__
from batchgen.domain.adapting import State
from batchgen.domain.errors import (
    BucketError,
    BucketUnreachable,
    DatabaseMoved,
    Exit,
    InputUnusable,
    OutputError,
    ProviderError,
    StoreError,
)
from batchgen.domain.prices import Prices
from batchgen.domain.retry import doubt_slot_ms
from batchgen.domain.states import JobState
from batchgen.domain.telling import Emit, dollars, silent
from batchgen.downloads.destinations import Destinations
from batchgen.downloads.folder import KEPT_FREE_BYTES, in_mib
from batchgen.failpoints import failpoint
from batchgen.http import POST_S
from batchgen.providers.interface import Provider
from batchgen.runner import rescue
from batchgen.runner.beside import beside
from batchgen.runner.clocks import carried_on, new_id, steady_s, wall_ms
from batchgen.runner.deadline import Deadline
from batchgen.runner.job import Carrier, Fetcher, Sender, Settings, Sidecars, Stats, names_of
from batchgen.runner.lease import Lease
from batchgen.runner.limits import LEFT, LONGEST_PROBE_S, NOTHING_LOST, Held, Limits, Reason
from batchgen.runner.listener import Listener, Watch, changes
from batchgen.runner.polling import Durations
from batchgen.runner.purse import Purse
from batchgen.runner.shutdown import Shutdown
from batchgen.runner.spacing import Spacer
from batchgen.runner.takeover import Takeover
from batchgen.runner.view import View
from batchgen.store import (
    additions,
    control,
    costs,
    extras,
    jobs,
    learned,
    moving,
    reads,
    sharing,
    step_back,
    workers,
)
from batchgen.store.control import Snapshot
from batchgen.store.database import Database
from batchgen.store.jobs import AdoptRequest, Claim, ClaimRequest, Job, NearlySpent, NewSeed
from batchgen.store.journal import Journal
from batchgen.store.scope import Scope
from batchgen.store.transactions import Transaction
from batchgen.store.writer import Writer

logger = logging.getLogger(__name__)

T = TypeVar("T")

_KEEP_S = 10.0  # between two looks at other workers, the disk, the lease
_BEATS_A_LEASE = 5
_PAUSED_LOOK_S = 2.0
_BETWEEN_BALANCES_S = 2.0
_CLOCK_S = 1.0  # between two looks at the clock on the wall, which may be set
_GRACE_S = 2.0  # for the job database, once told to leave at once
_LARGEST_CLAIM = 16  # what begins in one turn of the event loop
_TOLD_UNUSABLE = 10  # jobs that wait for an input file, each told of by name
_LONGEST_BUCKET_WAIT_S = 15.0
_MOST_ADOPTED = 500  # paid jobs taken over at once
# The fetcher's client has as many connections as clips may be received at once. More are under way,
# so that the line does not stand still while those that have arrived are synced and named.
_FINISHED_BESIDE = 2


@dataclass
class Outcome:
    """How a session ended; the caller judges the jobs of the scope beside it."""

    reasons: list[Reason] = field(default_factory=list)
    stats: Stats = field(default_factory=Stats)
    adapted: State | None = None  # what `-j auto` has found
    took_s: float = 0.0  # from its start to its end


@dataclass
class Session:
    """One invocation of `run`: a worker, its scope, and the loop.

    Attributes:
        database: Opened and current.
        provider: Closed by the caller.
        fetcher: None if nothing is downloaded.
        account_id: Who pays.
        scope: Which pending jobs may be paid for.
        settings: What the user chose.
        destinations: Where clips go.
        free_bytes: Free space of the output disk.
        say: Tells the user something, on stderr.
        journal: Where purchases are written down too; closed by the caller.
        purse: What the account holds, and what must be left of it.
        total: How many jobs of the scope were not at rest when it began.
        reseed: Gives a job that is bought again another seed; None if its model takes none.
        sender: Makes input files ready before their job is claimed; None if none has to be.
        sidecars: Writes what clips were made of beside them; None if nobody wants that.
        renew_token: Looks for a newer token after a refusal; returns whether there was one.
        session_id: Its id, which sorts by time.
        emit: Told what happens.
        watch: Told where the batches stand.
        untouched: Paid jobs that it does not take over though nobody holds them: others than were
            asked for. Only where nothing is bought, since they take slots of the cap.
        minds_signals: Leave in good order at Ctrl-C, SIGTERM and SIGHUP; only in a main thread.
    """

    database: Database
    provider: Provider
    fetcher: Fetcher | None
    account_id: int
    scope: Scope
    settings: Settings
    destinations: Destinations
    free_bytes: Callable[[], int]
    say: Callable[[str], None]
    command: str = "run"
    journal: Journal = field(default_factory=Journal)
    purse: Purse = field(default_factory=lambda: Purse(steady_s))
    total: int = 0
    reseed: Callable[[Job], NewSeed | None] = lambda _: None
    sender: Sender | None = None
    sidecars: Sidecars | None = None
    renew_token: Callable[[], bool] = lambda: False
    session_id: str = field(default_factory=lambda: new_id("s", wall_ms()))
    emit: Emit = silent
    watch: Watch | None = None
    untouched: frozenset[int] = frozenset()
    minds_signals: bool = True
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    random: Callable[[], float] = lambda: secrets.randbelow(1_000_000) / 1_000_000
    now_ms: Callable[[], int] = field(default_factory=lambda: carried_on(wall_ms(), steady_s()))
    limits: Limits = field(init=False)
    stats: Stats = field(default_factory=Stats)

    def __post_init__(self) -> None:
        self.limits = Limits(
            halting=self.settings.halting, clock=steady_s, jobs=self.total, emit=self.emit
        )
        self.worker_id = new_id("w", self.now_ms())
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._leaving = False
        self._left = asyncio.Event()  # at once, whatever is under way
        self._left_s = 0.0
        self._is_idle = False  # nothing to do but to wait for other workers
        self._extras: set[str] = set()  # extra purchases that were taken up, by attempt
        self._rested = self.untouched  # and what is given back: another may try its luck
        self._fenced = False
        self._orphans = True  # whether paid jobs that nobody holds may be there
        self._new_payments = 0
        self._may_rise = False  # it would, for a submit that is accepted
        self._told = (0, 0)  # of `Stats`, submitted and ended, at the last claim that counted
        self._adapted: State | None = None
        self._over_budget: frozenset[int] = frozenset()
        self._doubts = (0, 0)  # that leave no slot free, and until when
        self._told_paused = False
        self._warned_of: set[int] = set()  # batches whose budget comes to its end
        self._prices = Prices()
        self._longest_ms = 0
        self._durations = Durations()
        self._crash: BaseException | None = None
        self._held: dict[int, Job] = {}
        self._preparing: dict[int, asyncio.Task[None]] = {}  # jobs whose files are made ready
        self._is_bucket_silent = False  # which they need
        self._unusable: dict[int, InputUnusable] = {}  # jobs with one that cannot be
        self._was_moved: DatabaseMoved | None = None
        self._rescue_file: rescue.RescueFile
        self._takeover = Takeover(
            self.database.backend,
            self.worker_id,
            doubt_slot_ms=lambda: self._doubt_slot_ms,
            now_ms=lambda: self.now_ms(),
            say=self.say,
            emit=self.emit,
        )
        self._lease = Lease(steady_s, time.time)
        self._deadline = Deadline(
            self.settings.max_duration_s, self.settings.until_s, steady_s, time.time
        )
        self._known: Snapshot
        self._cap = 0
        self._out_of_time: Reason | None = None
        self._carrier: Carrier

    @property
    def held(self) -> dict[int, Job]:
        """The jobs that hold a slot through this worker, by row id."""
        return self._held

    def view(self, most: int) -> View:
        """Return how the session stands, with at most so many of its jobs in flight.

        Asked several times a second: it costs what is shown, not what is in flight.
        """
        limits, carrier = self.limits, self._carrier
        cap = self._cap if self.settings.jobs is None else min(self._cap, self.settings.jobs)
        held = [one for one in limits.reasons if isinstance(one, Held)]
        doubts_for_s = max(0.0, (self._doubts[1] - self.now_ms()) / 1000)
        return View(
            in_flight=len(self._held),
            cap=cap,
            is_auto=self._adapted is not None,
            flights=tuple(map(carrier.flight, islice(self._held.values(), most))),
            unanswered=carrier.unanswered,
            is_leaving=self._leaving,
            is_account_paused=self._told_paused,
            reasons=tuple(one.message for one in limits.reasons if one not in held),
            held=tuple(one.message for one in held),
            lacks_money=limits.lacks_money,
            outage_s=limits.outage_s(),
            throttled_s=max(0.0, (self._known.frozen_until_ms - self.now_ms()) / 1000),
            doubts=self._doubts[0] if doubts_for_s > 0 and not self._held else 0,
            doubts_for_s=doubts_for_s,
            is_over_budget=bool(self._over_budget),
            stuck=str(carrier.writer.stuck),
            is_waiting_for_others=self._is_idle,
            is_one_by_one=limits.one_at_a_time,
            submits_for_s=self._deadline.left_s,
        )

    async def run(self) -> Outcome:
        """Work until every job in scope is at rest, or there is a reason to stop.

        Raises:
            StoreError: If the job database fails for good.
        """
        loop = asyncio.get_running_loop()
        # Soon, not here: the coroutine that reports is one of those that are cancelled.
        self.limits.on_change(self._wake.set, leave=lambda: loop.call_soon(self._leave))

        def on_stuck(said: str) -> None:
            self.say(said)
            loop.call_soon_threadsafe(self._carrier.rescue_unrecorded)

        writer = Writer(self.database, on_stuck=on_stuck, worker_id=self.worker_id)
        presence = self.database.backend.enter(self.worker_id)
        try:
            failpoint("in-start")
            self._enter()
            failpoint("in-start")
            # Not before: nobody would ever take in the file of a worker that nobody knows.
            self._rescue_file = rescue.RescueFile(
                self.database.backend.base, self.worker_id, say=self.say
            )
        except BaseException:
            presence.release()
            raise
        shutdown = Shutdown(on_first=self._asked_to_stop, on_second=self._leave)
        try:
            self._carrier = self._new_carrier(writer, self._rescue_file)
            writer.start()
            if self.minds_signals:
                shutdown.install(loop)
            keeper = asyncio.create_task(self._keep(writer))
            listener = self._new_listener()
            listener.start()
            try:
                await self._unless_left(self._work(writer))
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
                await listener.end()
                await self._cancel_tasks()
            if self._crash is not None:  # of the last job, or while leaving
                raise self._crash
            return await self._unless_left(self._end(writer, shutdown))
        finally:
            await self._close(writer)
            if self.minds_signals:
                shutdown.remove(loop)
            self._rescue_file.remove()
            presence.release()
            if self._was_moved is not None:
                self._save_moved()

    async def _unless_left(self, work: Coroutine[Any, Any, T]) -> T:
        """Await what needs the job database; after a second signal, only a moment longer.

        Raises:
            StoreError: If the job database was stuck until then.
        """
        task = asyncio.create_task(work)
        left = asyncio.create_task(self._left.wait())
        try:
            await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait({task}, timeout=max(0.0, self._left_s + _GRACE_S - steady_s()))
            if task.done():
                return task.result()
        finally:
            left.cancel()
            task.cancel()
        raise StoreError(
            f"{self.database.shown}: the job database took no change until the end; what it does "
            "not know is in the rescue file beside it, which the next run reads"
        )

    async def _close(self, writer: Writer) -> None:
        """Have what was handed in committed; leave it, and what is known, if that is stuck."""
        try:
            await self._unless_left(writer.end())
        except StoreError:
            self.database.let_go()
            self._carrier.keep_unrecorded()
            return
        if writer.stuck or not self._has_recorded(self._carrier.unrecorded):
            self._carrier.keep_unrecorded()

    def _has_recorded(self, pairs: Mapping[str, str]) -> bool:
        """Whether commits have landed that nobody waited for any more."""
        if not pairs:
            return True
        try:
            with self.database.reading() as tx:
                found = [jobs.recorded_as(tx, *pair) for pair in pairs.items()]
        except StoreError as error:
            self.say(str(error))
            return False
        return set(found) == {jobs.Recorded.SO}

    def _enter(self) -> None:
        info = workers.WorkerInfo(
            id=self.worker_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            lease_ms=self._lease_ms,
        )
        asked = self._lease.asked()
        with self.database.transaction() as tx:
            moving.hold(tx)
            now_ms = tx.now_ms()
            workers.register(tx, info)
            workers.begin_session(tx, self.session_id, self.worker_id, self.command, now_ms=now_ms)
            longest_ms = workers.longest_generation_ms(tx, self.account_id)
            self._prices = costs.prices(tx, self.account_id)
            self._known = control.snapshot(tx, self.account_id)
        self._cap = self._known.cap
        self._lives(asked, now_ms)
        self._longest_ms = longest_ms or 0
        self._remember()
        self.emit(
            "session_started",
            command=self.command,
            version=info.version,
            host=info.host,
            pid=info.pid,
            worker=info.id,
            database=self.database.shown,
        )

    def _remember(self) -> None:
        """Take up how long generations took in earlier sessions, the newest last."""
        with self.database.reading() as tx:
            for one in learned.durations(tx, self.account_id):
                self._durations.add(one.model, one.settings, one.run_ms)

    @property
    def _doubt_slot_ms(self) -> int:
        return doubt_slot_ms(self._longest_ms)

    @property
    def _keep_s(self) -> float:
        if not self.database.backend.is_remote:
            return _KEEP_S
        return min(_KEEP_S, self.settings.lease_s / _BEATS_A_LEASE)

    @property
    def _lease_ms(self) -> int:
        return int(self.settings.lease_s * 1000)

    def _lives(self, asked: tuple[float, float], now_ms: int) -> None:
        """Note that the job database has renewed the lease of this worker."""
        if self.database.backend.is_remote:
            self._lease.renewed(asked, self.settings.lease_s)
            # One clock for all workers, whatever this machine's wall clock does.
            self.now_ms = carried_on(now_ms, asked[0])

    def _may_pay(self) -> bool:
        """Whether this worker surely holds its lease: asked just before money is spent."""
        return not self._fenced and self._lease.holds()

    async def _learn(self, ran_ms: int) -> None:
        """Bound the slots of doubts by the longest generation seen, also those held already."""
        if ran_ms <= self._longest_ms:
            return
        first = self._longest_ms == 0
        self._longest_ms = ran_ms
        if first:
            request = jobs.ShortenDoubts(self.account_id, self._doubt_slot_ms)
            await self._carrier.writer.do(jobs.shorten_doubts, request)

    def _new_carrier(self, writer: Writer, rescue_file: rescue.RescueFile) -> Carrier:
        return Carrier(
            writer=writer,
            provider=self.provider,
            fetcher=self.fetcher,
            rescue=rescue_file,
            limits=self.limits,
            settings=self.settings,
            account_id=self.account_id,
            worker_id=self.worker_id,
            destinations=self.destinations,
            stats=self.stats,
            sleep=self.sleep,
            random=self.random,
            now_ms=lambda: self.now_ms(),
            may_pay=self._may_pay,
            slot_freed=self._wake.set,
            doubt_slot_ms=lambda: self._doubt_slot_ms,
            downloads=asyncio.Semaphore(self.settings.download_jobs + _FINISHED_BESIDE),
            looks=Spacer(self.settings.poll_rate, clock=steady_s, sleep=self.sleep),
            durations=self._durations,
            fetches=Spacer(self.settings.download_rate, sleep=self.sleep),
            in_flight=self._held,
            went_well=self._went_well,
            renew_token=self.renew_token,
            learned=self._learn,
            in_place=self._in_place,
            reseed=self.reseed,
            sidecars=self.sidecars,
            sender=self.sender,
            unusable=self._hold,
            journal=self.journal,
            prices=self._prices,
            lacks_money=self._lacks_money,
            spent=self.purse.spent,
            unsettled=self.purse.unsettled,
            emit=self.emit,
        )

    # -- the loop --------------------------------------------------------------------------------

    async def _work(self, writer: Writer) -> None:
        await self._look_back(writer)
        await self._take_over(writer)
        await self._check_space(writer)
        seen_alone = False
        while not self._leaving:
            if self._crash is not None:
                raise self._crash
            self._wake.clear()
            await self._take_up_extras(writer)
            adopted = await self._adopt(writer)
            wanted = self._wanted()
            claim = await self._claim(writer, wanted) if wanted > 0 else None
            if claim is not None and claim.jobs and not claim.wait_until_ms:
                continue
            if not self._tasks and not adopted and not await self._may_go_on(writer, claim):
                if not await self._others_work(writer):
                    if seen_alone:
                        await self._carrier.settle_costs()
                        return
                    # Between the two looks another may have given back what it had in hand.
                    seen_alone = True
                    continue
                seen_alone = False
                await self._wait(_PAUSED_LOOK_S)
                await self._take_over(writer)
                self._orphans = True
                continue
            await self._wait(self._wait_s(claim))

    async def _may_go_on(self, writer: Writer, claim: Claim | None) -> bool:
        """Whether something may yet be submitted, although nothing is in flight here."""
        if self.limits.paused or self._fenced:
            return False
        if self.limits.lacks_money or self.purse.is_asked:
            return await self._may_buy(writer)
        if claim is None:
            return self.limits.offline or bool(self._carrier.writer.stuck)
        if claim.paused or claim.wait_until_ms:  # the moment may have come since the claim
            return await self._has_pending(writer)
        # Slots that other workers or doubts use will be free some time.
        return claim.live >= claim.cap and await self._has_pending(writer)

    async def _others_work(self, writer: Writer) -> bool:
        """Whether other workers hold jobs of the scope, so that not everything is at rest yet."""
        if self.limits.paused or self._fenced or self._leaving:
            return False
        view = sharing.View(
            self.worker_id,
            self.account_id,
            self.scope,
            downloads=self.fetcher is not None,
            rested=self._rested,
        )
        held = await writer.do(sharing.elsewhere, view)
        if held and not self._is_idle:
            self._is_idle = True
            # What rests here is free for others: else two could wait for each other for ever.
            self._rested |= await writer.do(sharing.let_go, self.worker_id)
            jobs_ = "1 job" if held == 1 else f"{held} jobs"
            self.say(f"waiting for {jobs_} that another worker has in hand")
        return bool(held)

    async def _may_buy(self, writer: Writer) -> bool:
        """Whether there is a job that this session would pay for if only there were money."""
        return self._limit_left != 0 and await self._has_pending(writer)

    @property
    def _limit_left(self) -> int | None:
        """How many more payments `--limit` allows; None if it is not given."""
        if self.settings.limit is None:
            return None
        return max(0, self.settings.limit - (self._new_payments - self.stats.unpaid))

    async def _has_pending(self, writer: Writer) -> bool:
        return await writer.do(_has_claimable, self._request(1))

    def _wait_s(self, claim: Claim | None) -> float | None:
        """How long to sleep unless something happens; None for as long as it takes."""
        if self._carrier.writer.stuck:
            return _PAUSED_LOOK_S
        if claim is None:
            return None
        if claim.paused or claim.live >= claim.cap > len(self._held):
            return _PAUSED_LOOK_S
        if claim.wait_until_ms:
            return max(0.05, (claim.wait_until_ms - self.now_ms()) / 1000)
        return None

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _claim_in_place(self, tx: Transaction, requests: Sequence[ClaimRequest]) -> list[Claim]:
        self.database.check_in_place()
        return jobs.claim(tx, requests)

    def _in_place(self) -> bool:
        """Return whether the job database still has its name; react if it has not."""
        try:
            self.database.check_in_place()
        except DatabaseMoved as error:
            self._moved(error)
        return self._was_moved is None

    def _moved(self, error: DatabaseMoved) -> None:
        """Pay for nothing more; keep what is paid for outside the job database too."""
        if self._was_moved is None:
            self._was_moved = error
            self.say(str(error))
            self.limits.pause(error.exit_code, str(error))
            for job in self._held.values():
                if job.request_id is not None:
                    self._rescue_file.keep(job.attempt_id, job.request_id)

    def _save_moved(self) -> None:
        """Give the file that this run worked with a name again, with all that it recorded."""
        base = self.database.backend.base
        target = base.with_name(f"{base.name}.saved-{self.worker_id}")
        try:
            self.database.save_moved(target)
        except StoreError as error:
            raise DatabaseMoved(f"{self._was_moved}; nor can it be saved: {error}") from error
        raise DatabaseMoved(
            f"{self._was_moved}. With all that this run recorded it is saved as {target}: look "
            "which of the two is right, and give that one the name"
        )

    async def _claim(self, writer: Writer, wanted: int, scope: Scope | None = None) -> Claim | None:
        if not self._may_pay():
            await self._renew(writer)  # suspended for longer than the lease, and nobody noticed
        request = self._request(wanted, scope)
        try:
            claim = await writer.do(self._claim_in_place, request)
        except DatabaseMoved as error:
            self._moved(error)
            return None
        failpoint("after-claim-commit")
        self.journal.intended(claim.jobs, account_id=self.account_id, now_ms=self.now_ms())
        self._stepped_back(claim.stepped_back)
        self._over_budget = claim.over_budget
        self._doubts = claim.doubts, claim.doubts_until_ms
        self._warn_of_budgets(claim.nearly_spent)
        if claim.cap:  # else it came back before it looked at what a person has set
            self._tell_pause(claim.paused)
        if claim.fenced:
            self._fence()
        self._new_payments += len(claim.jobs)
        for job in claim.jobs:
            self._spawn(job)
        for job in claim.unready:
            self._preparing[job.id] = self._start(self._prepare(job))
        self._follow(request, claim)
        return claim

    def _warn_of_budgets(self, batches: Sequence[NearlySpent]) -> None:
        mine = self.scope.batch_ids
        for one in batches:
            if one.batch_id not in self._warned_of and (mine is None or one.batch_id in mine):
                self._warned_of.add(one.batch_id)
                self.emit(
                    "budget_warning",
                    batch=one.batch,
                    spent_usd=dollars(one.spent_micros),
                    reserved_usd=dollars(one.reserved_micros),
                    budget_usd=dollars(one.budget_micros),
                )
                used, budget = one.used_micros / 1_000_000, one.budget_micros / 1_000_000
                self.say(
                    f"batch {one.batch} has used ${used:,.2f} of its budget of ${budget:,.2f}, "
                    "what is reserved included: `batchgen set budget` raises it"
                )

    def _follow(self, request: ClaimRequest, claim: Claim) -> None:
        """Note what the gate allows by now, whoever has changed it."""
        if claim.fenced or claim.stepped_back:
            return
        if claim.counted:
            submitted, ended = self._told
            self._told = (submitted + request.accepted, ended + request.ended)
        self._cap = claim.cap or self._cap
        self._may_rise = claim.may_rise
        state = claim.state
        if state is not None and (
            self._adapted is None
            or (state.cap, state.pace) != (self._adapted.cap, self._adapted.pace)
        ):
            self._adapted = state
            logger.info("-j auto: %s", state)

    @property
    def adapted(self) -> State | None:
        """What `-j auto` allowed at the last claim; None if the cap is fixed."""
        return self._adapted

    def _went_well(self) -> None:
        if self._may_rise:
            self._wake.set()

    def _room(self) -> int:
        """How many more jobs the cap would let this worker have in flight, as far as it knows."""
        share = self._cap
        if self.settings.jobs is not None:
            share = min(share, self.settings.jobs)
        elif self._may_rise:
            share += max(self.stats.submitted - self._told[0], self.stats.ended - self._told[1])
        return share - len(self._held)

    def _tell_pause(self, paused: bool) -> None:
        if paused != self._told_paused:
            self._told_paused = paused
            said = (
                "the account is paused: nothing is submitted until `batchgen unpause`"
                if paused
                else "the account is no longer paused"
            )
            self.say(said)
            if paused:
                self.emit("paused", exit_code=None, message=said)  # it waits, and does not end
            else:
                self.emit("resumed", message=said)

    def _fence(self) -> None:
        """Submit nothing more: another worker has taken this one's jobs over, or soon will."""
        self._fenced = True
        self.limits.pause(
            Exit.HALTED,
            "this worker was silent for longer than its lease and another one declared it dead: "
            f"it submits nothing more; run again; {NOTHING_LOST}, the other one goes on with it",
        )

    def _wanted(self) -> int:
        """How many jobs this worker has room for; 0 if nothing may be submitted now."""
        if self.limits.paused or self.limits.offline or self._fenced or self._carrier.writer.stuck:
            return 0
        if self.limits.lacks_money:
            return 0
        wanted = min(self._room() - len(self._preparing), _LARGEST_CLAIM)
        if self._limit_left is not None:
            wanted = min(wanted, self._limit_left - len(self._preparing))
        if self.limits.one_at_a_time:
            unanswered = sum(job.request_id is None for job in self._held.values())
            wanted = min(wanted, 1 - unanswered)
        if wanted <= 0:
            return 0
        if self.purse.min_micros is not None:  # else nobody adds up all that is in flight
            room = self.purse.room(self._reserved_micros, in_flight=len(self._held))
            wanted = min(wanted, room or 0)
            if not room:
                self.purse.ask()
        return wanted

    @property
    def _reserved_micros(self) -> int:
        """What this worker has in flight, as estimated."""
        return sum(job.est_micros for job in self._held.values())

    def _request(self, wanted: int, scope: Scope | None = None) -> ClaimRequest:
        now_ms = self.now_ms()
        return ClaimRequest(
            worker_id=self.worker_id,
            account_id=self.account_id,
            scope=scope or self.scope,
            attempt_ids=tuple(new_id("a", now_ms) for _ in range(wanted)),
            held_models=frozenset(self.limits.held_models),
            now_ms=now_ms,
            watch=step_back.Watch(self.journal.newest, int(self.settings.lease_s * 1000)),
            prices=self._prices,
            accepted=self.stats.submitted - self._told[0],
            ended=self.stats.ended - self._told[1],
            is_ready=_always if self.sender is None else self.sender.is_ready,
            unready=frozenset({*self._preparing, *self._unusable}),
        )

    async def _prepare(self, job: Job) -> None:
        """Have the input files of a job made ready; it is claimed by the next claim."""
        sender = self.sender
        if sender is None:
            raise ValueError("who has no sender finds every job ready")
        since_s = steady_s()
        try:
            while not await self._is_prepared(sender, job, since_s):
                wait_s = min(1.0 + (steady_s() - since_s) / 2, _LONGEST_BUCKET_WAIT_S)
                await self.sleep(min(wait_s, self.settings.max_outage_s))
        except InputUnusable as error:
            self._hold(job, error)
        except BucketError as error:
            self.limits.pause(error.exit_code, f"{error}. {LEFT}")
        finally:
            self._preparing.pop(job.id, None)

    async def _is_prepared(self, sender: Sender, job: Job, since_s: float) -> bool:
        """Have a job's files made ready; return whether that is done with.

        A bucket that does not answer is waited for, as the service is.
        """
        try:
            await beside(lambda: sender.prepare(job))
        except BucketUnreachable as error:
            if self.limits.paused:
                return True  # nothing is submitted any more: the job waits for the next run
            if steady_s() - since_s >= self.settings.max_outage_s:
                raise
            if not self._is_bucket_silent:
                self._is_bucket_silent = True
                said = f"{error}: jobs that need it wait until it does"
                self.say(said)
                self.emit("outage", message=said)
            return False
        if self._is_bucket_silent:
            self._is_bucket_silent = False
            said = "the bucket for input files answers again"
            self.say(said)
            self.emit("outage_over", outage_s=round(steady_s() - since_s, 3))
        return True

    def _hold(self, job: Job, error: InputUnusable) -> None:
        """Leave a job to wait, whose input file cannot be used."""
        self._unusable[job.id] = error
        said = f"{job.batch}/{job.label}: {error}"
        if len(self._unusable) <= _TOLD_UNUSABLE:
            self.say(f"{said}; it waits, unpaid")
        self.limits.hold_job(job.model, said)

    async def _take_up_extras(self, writer: Writer) -> None:
        """Poll what was bought once too often; no slot and no scope is asked for that."""
        if not self._orphans or self._fenced or self.fetcher is None:
            return
        for extra in await writer.do(extras.waiting, self.account_id):
            if extra.attempt_id not in self._extras:
                self._extras.add(extra.attempt_id)
                await self._remove_parts([replace(extra, state=JobState.DOWNLOADING)])
                self._start(self._carrier.carry_extra(extra))

    async def _adopt(self, writer: Writer) -> int:
        """Take paid jobs that nobody holds, whatever the scope: they must not block the cap."""
        room = _MOST_ADOPTED - len(self._tasks)
        if room <= 0 or self._fenced or not self._orphans:
            return 0
        adopted = await writer.do(
            jobs.adopt,
            AdoptRequest(
                worker_id=self.worker_id,
                account_id=self.account_id,
                wanted=room,
                downloads=self.fetcher is not None,
                now_ms=self.now_ms(),
                rested=self._rested,
            ),
        )
        self._orphans = len(adopted) == room
        if adopted:
            self.emit("took_over", what="adopted", jobs=len(adopted))
        await self._remove_parts(adopted)
        for job in adopted:
            self._spawn(job)
        return len(adopted)

    async def _remove_parts(self, adopted: Sequence[Job]) -> None:
        """Remove what a killed process left of the clips that it was fetching."""
        wanted: dict[str, list[str]] = {}
        for job in adopted:
            if job.state is JobState.DOWNLOADING:
                wanted.setdefault(job.output_dir, []).extend(names_of(job))
        try:
            for output_dir, names in wanted.items():
                await asyncio.to_thread(
                    self.destinations.of(output_dir).remove_orphans,
                    names,
                    named=partial(self._named, output_dir),
                )
        except BucketUnreachable as error:
            # What is left of them is removed when their clips have arrived.
            logger.info("%s", error)
        except OutputError as error:
            self.limits.pause(Exit.OUTPUT, str(error))

    async def _remove_leftovers(self) -> None:
        """Remove what workers that were taken for dead have begun of clips that are there."""
        wanted = self.scope.batch_ids
        with self.database.reading() as tx:
            output_dirs = {
                batch.output_dir
                for batch in reads.batches(tx)
                if batch.account_id == self.account_id and (wanted is None or batch.id in wanted)
            }
        for output_dir in sorted(output_dirs):
            try:
                removed = await asyncio.to_thread(
                    self.destinations.of(output_dir).remove_leftovers,
                    named=partial(self._named, output_dir),
                )
            except OutputError as error:  # the next run tries it again
                logger.info("%s", error)
                continue
            if removed:
                logger.info("%d uploads of finished jobs were left in %s", removed, output_dir)

    def _named(self, output_dir: str, folded: Sequence[str]) -> Mapping[str, bool]:
        """Return which of some names of one destination any job has, and whether it is at rest."""
        with self.database.reading() as tx:
            return additions.named_jobs(tx, output_dir, folded)

    async def _look_back(self, writer: Writer) -> None:
        """Hold what this host has written down against the job database."""
        try:
            witnesses = await asyncio.to_thread(self.journal.recent)
        except OSError as error:
            logger.warning("%s cannot be read: %s", self.journal.path, error.strerror)
            witnesses = ()
        said = await writer.do(step_back.look, step_back.Look(witnesses, self.now_ms()))
        self._stepped_back(said)

    def _stepped_back(self, said: str | None) -> None:
        if said is not None:
            self.limits.pause(Exit.DATABASE, step_back.explain(said))

    def _spawn(self, job: Job) -> None:
        self._is_idle = False
        # Registered here, not when the task first runs: the next claim counts it.
        if job.state is not JobState.DOWNLOADING:
            self._held[job.id] = job
        self._start(self._carrier.carry(job))

    def _start(self, carrying: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(carrying)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._crash = self._crash or task.exception()
        self._wake.set()

    # -- control ---------------------------------------------------------------------------------

    def _new_listener(self) -> Listener:
        return Listener(
            self.database,
            self.account_id,
            self._known,
            heard=self._heard,
            failed=self._has_crashed,
            worker_id=self.worker_id,
            watch=self.watch,
        )

    def _heard(self, was: Snapshot, now: Snapshot) -> None:
        """Go by what somebody has changed, and say so."""
        self._cap = now.cap
        self._known = now
        for line in changes(was, now):
            self.say(line)
        if was.paused != now.paused:
            self._tell_pause(now.paused)
        self._carrier.look_now(now.cancels.keys() - was.cancels.keys())
        self._wake.set()

    async def _watch_clock(self) -> None:
        """End submitting when the time has come; what is paid for goes on to its end."""
        while (left_s := self._deadline.left_s) is not None:
            said = self._deadline.reached()
            if said is not None:
                said += (
                    ": nothing more is submitted, what is paid for is finished; run again to go on "
                    "with the rest"
                )
                self.say(said)
                self._out_of_time = Reason(Exit.BUDGET, said)
                self.limits.pause(Exit.BUDGET, said)
                return
            await self.sleep(min(max(left_s, 0.01), _CLOCK_S))

    def _has_crashed(self, error: BaseException) -> None:
        self._crash = self._crash or error
        self._wake.set()

    # -- keeping ---------------------------------------------------------------------------------

    async def _keep(self, writer: Writer) -> None:
        """Renew the lease, look for the dead, the disk and the service."""
        beats = asyncio.create_task(self._beat(writer))
        watch = asyncio.create_task(self._watch(writer))
        purse = asyncio.create_task(self._guarded(self._mind_purse(writer)))
        clock = asyncio.create_task(self._guarded(self._watch_clock()))
        try:
            while not self._leaving:
                if self.limits.offline:
                    await self._probe()
                else:
                    await self.limits.outage()
        except Exception as error:  # noqa: BLE001 - handed to the loop, which raises it
            self._crash = error
            self._wake.set()
        finally:
            beats.cancel()
            watch.cancel()
            purse.cancel()
            clock.cancel()
            await asyncio.gather(beats, watch, purse, clock, return_exceptions=True)

    async def _watch(self, writer: Writer) -> None:
        """Free the store thread from a server that has gone silent; a beat waits behind it."""
        while True:
            await self.sleep(_KEEP_S)
            writer.cut_if_hung()

    async def _check_space(self, writer: Writer) -> None:
        """Pay for nothing more if there is too little room for its clips."""
        if self.fetcher is None:
            return
        free_bytes = self.free_bytes()
        if free_bytes < KEPT_FREE_BYTES and self._in_place() and await self._has_pending(writer):
            self.limits.pause(
                Exit.OUTPUT,
                f"less than 1 GiB is free ({in_mib(free_bytes)}) on the disk of the output folder: "
                f"make room, then run again; {NOTHING_LOST}",
            )

    async def _beat(self, writer: Writer) -> None:
        try:
            while True:
                await self.sleep(self._keep_s)
                await self._renew(writer)
                await self._check_space(writer)
                self._orphans = True
                self._wake.set()
                await self._look_back(writer)
                await self._take_over(writer)
        except Exception as error:  # noqa: BLE001 - handed to the loop, which raises it
            self._crash = error
            self._wake.set()

    async def _renew(self, writer: Writer) -> None:
        asked = self._lease.asked()
        pulse = await writer.do(workers.beat, workers.Beat(self.worker_id, self._lease_ms))
        if pulse.alive:
            self._lives(asked, pulse.now_ms)
        else:
            self._fence()

    async def _probe(self) -> None:
        """Ask for something free, less and less often, until the service answers."""
        wait_s = self.limits.first_probe_s
        # Even a service that answers at once is given a moment: else submits that fail to leave
        # for a reason of this machine's would be tried without end.
        await self.sleep(min(wait_s, self.settings.max_outage_s))
        told = False
        while not await self.provider.is_reachable():
            if not told:
                said = "the service cannot be reached: nothing is submitted until it answers"
                self.say(said)
                self.emit("outage", message=said)
                told = True
            if self.limits.outage_s() >= self.settings.max_outage_s:
                self.limits.pause(
                    Exit.UNREACHABLE,
                    f"the service has been out of reach for {self.limits.outage_s():.0f} s: look "
                    "at the network and RUNCOMFY_MODEL_API_BASE, then run again; "
                    f"{NOTHING_LOST}, the next run looks at it again",
                )
                self._drain()
                return
            wait_s = min(wait_s, max(0.05, self.settings.max_outage_s - self.limits.outage_s()))
            await self.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_PROBE_S)
        if told:
            self.say(f"the service answers again after {self.limits.outage_s():.0f} s")
            self.emit("outage_over", outage_s=round(self.limits.outage_s(), 3))
        self.stats.last_problem = ""
        self.limits.go_online()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """Await what goes on beside the loop; hand the loop what it raises."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - handed to the loop, which raises it
            self._has_crashed(error)

    async def _mind_purse(self, writer: Writer) -> None:
        """Look at the balance where it is asked for; react when it falls too low, or rises."""
        while self.purse.is_minded:
            await self.purse.next_look()
            self.purse.looking()
            try:
                balance = await self.provider.balance_micros()
            except ProviderError as error:
                logger.info("the balance could not be read: %s", error)
                balance = None
            self.purse.looked(balance)
            await self._judge_purse(writer, is_known=balance is not None)
            self._wake.set()
            await self.sleep(_BETWEEN_BALANCES_S)

    async def _judge_purse(self, writer: Writer, *, is_known: bool) -> None:
        reserved = self._reserved_micros
        if self.limits.lacks_money:
            if self.purse.is_filled(reserved):
                said = "the account can pay again: going on"
                self.say(said)
                self.emit("resumed", message=said)
                self.limits.has_money()
            return
        # What is in flight may have been taken already: only without it is the answer plain.
        lacks = self.purse.room(reserved, in_flight=len(self._held)) == 0 and not self._held
        if lacks and await self._may_buy(writer):
            least = (self.purse.min_micros or 0) / 1_000_000
            left = (self.purse.balance_micros or 0) / 1_000_000
            said = f"the balance is ${left:,.2f}, and --min-balance keeps ${least:,.2f} of it"
            if not is_known:
                said = f"the balance cannot be read, and --min-balance keeps ${least:,.2f}"
            if not self._lacks_money(said):
                self.limits.pause(
                    Exit.NO_BALANCE,
                    f"{said}: top it up or lower --min-balance, then run again; nothing that was "
                    "paid for is lost",
                )

    def _lacks_money(self, said: str) -> bool:
        """Wait for more money, if the user wants that; return whether the run does."""
        if not self.purse.waits:
            return False
        if not self.limits.lacks_money:
            said = (
                f"no money to go on ({said}): waiting until the account is topped up; what is paid "
                "for goes on"
            )
            self.say(said)
            self.emit("paused", exit_code=int(Exit.NO_BALANCE), message=said)
            self.purse.emptied()
            self.limits.wait_for_money()
        return True

    async def _take_over(self, writer: Writer) -> None:
        if not self._in_place():  # looking would be at another file
            return
        if await self._takeover.from_others(writer):
            self._orphans = True
            self._wake.set()

    # -- leaving ---------------------------------------------------------------------------------

    def _asked_to_stop(self) -> None:
        waiting = self._carrier.unanswered
        if waiting:
            answers = "1 answer" if waiting == 1 else f"{waiting} answers"
            self.say(
                f"stopping: waiting for {answers}, at most {POST_S:.0f} s; what is paid for goes "
                "on in the next run. Once more leaves at once and puts them in doubt"
            )
        else:
            self.say("stopping: what is paid for goes on in the next run")
        self._drain()

    def _drain(self) -> None:
        """Submit nothing more; let answers that are under way be recorded, then leave."""
        self._leaving = True
        self._carrier.draining = True
        self._wake.set()

    def _leave(self) -> None:
        self._leaving = True
        if not self._left.is_set():
            self._left_s = steady_s()
            self._left.set()
        self._carrier.writer.give_up()
        for task in self._tasks:
            task.cancel()
        self._wake.set()

    async def _cancel_tasks(self) -> None:
        """End what remains: paid requests are awaited, looks and downloads are not."""
        # One that was claimed last must begin before it can be put back.
        await asyncio.sleep(0)
        submitting = {task for task in self._tasks if self._carrier.is_submitting(task)}
        for task in self._tasks - submitting:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _end(self, writer: Writer, shutdown: Shutdown) -> Outcome:
        if self.fetcher is not None and not self._leaving and not self._fenced:
            await self._remove_leftovers()
        reasons = list(self.limits.reasons)
        if self._out_of_time in reasons and not await self._has_pending(writer):
            reasons.remove(self._out_of_time)  # there was nothing more to submit
        if shutdown.exit_code is not None:
            reasons.append(Reason(shutdown.exit_code, "stopped by a signal"))
        if self._over_budget and not self._leaving:
            said = (
                "the budget leaves no room for the next job: raise it with `batchgen set budget`, "
                "then run again"
            )
            reasons.append(Reason(Exit.BUDGET, said))
            self.emit("paused", exit_code=int(Exit.BUDGET), message=said)
        await writer.do(
            workers.leave,
            workers.Leave(
                worker_id=self.worker_id,
                session_id=self.session_id,
                exit_code=int(reasons[0].exit_code) if reasons else 0,
                reasons=tuple(reason.message for reason in reasons),
                slot_ms=self._doubt_slot_ms,
                now_ms=self.now_ms(),
            ),
        )
        return Outcome(reasons, self.stats, self._adapted)


def _always(inputs_json: str, uploads: str | None) -> bool:
    return True


def _has_claimable(tx: Transaction, requests: Sequence[ClaimRequest]) -> list[bool]:
    return [jobs.has_claimable(tx, request) for request in requests]
