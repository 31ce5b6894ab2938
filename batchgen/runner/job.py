"""Carry each claimed job from submit to clip on disk.

One job is one coroutine that reads from top to bottom. Each step does its I/O, then has the
result recorded by the store thread. A job that was cut off goes on at the first step whose
result is not recorded yet, so there is no separate recovery path: resuming is running.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from batchgen.domain.errors import (
    AccountBlocked,
    BucketError,
    BucketUnreachable,
    DownloadError,
    Exit,
    InputUnusable,
    Misrouted,
    ModelBlocked,
    OutcomeUnknown,
    OutputError,
    ProviderError,
    Rejected,
    RequestLost,
    StoreError,
    Throttled,
    Unavailable,
    Unsent,
)
from batchgen.domain.halting import Halting
from batchgen.domain.jobs import Clip
from batchgen.domain.moderation import explain_refusal
from batchgen.domain.prices import Prices
from batchgen.domain.retry import backoff_s, failure_class, is_policy_retried, is_retried
from batchgen.domain.states import ErrorClass, JobState
from batchgen.domain.telling import Emit, dollars, silent
from batchgen.downloads.destination import Destination, clip_path
from batchgen.downloads.destinations import Destinations
from batchgen.failpoints import failpoint
from batchgen.providers.interface import Accepted, Look, Phase, Provider
from batchgen.runner.beside import beside
from batchgen.runner.limits import LEFT, NOTHING_LOST, Limits
from batchgen.runner.polling import FIRST_ENDINGS, Durations, after_trouble_s
from batchgen.runner.spacing import Spacer
from batchgen.runner.view import Flight
from batchgen.store import extras, jobs
from batchgen.store.jobs import Job, NewSeed
from batchgen.store.journal import Journal
from batchgen.store.writer import Conflict, Writer

logger = logging.getLogger(__name__)

_LOST_FOR_S = 900.0  # 404001 for so long before a request counts as lost
_NO_OUTPUT_FOR_S = 120.0  # a success without any URL may only be early
_DOWNLOAD_TRIES = 10
_DOWNLOAD_FIRST_S = 2.0
_DOWNLOAD_LONGEST_S = 600.0
_EXPIRED_AFTER_S = 3600.0
_MISROUTED_WAIT_MS = 5_000
_UNSIGNED_WAIT_MS = 30_000  # where whoever signs links does not answer
_RESCUE_AFTER_S = 2.0
_LATE_COSTS_TRIED = 3  # in vain, one after the other
_MOST_UNCOSTED = 1000  # that are asked for again at the end of the session
_OUTAGE_AFTER_LOOKS = 5
_PLANNED_TOGETHER = 25  # in one turn of the event loop
_SERVER_TROUBLE = 500
_LONGEST_LOOK_WAIT_S = 300.0
_TELLING_S = 3.0  # a first look so early tells when a generation began, a later one does not
_SERVICE_CLASS = (ErrorClass.GENERATION, ErrorClass.UNKNOWN, ErrorClass.REMOTE_LOST)


KEPT_PROBLEMS = 3
"""So many of the newest problems are kept to be shown."""


class Fetcher(Protocol):
    """Fetches one file; see `batchgen.downloads.fetch.Fetcher`."""

    def fetch(self, url: str, *, into: Destination, name: str) -> Awaitable[Clip]:
        """Fetch a URL to a whole file."""
        ...


class Sender(Protocol):
    """Makes input files ready, and what is sent of them; see `batchgen.inputs.sending`."""

    def is_plain(self, job: Job) -> bool:
        """Return whether what a job keeps of its inputs is what is sent."""
        ...

    def is_ready(self, inputs_json: str, uploads: str | None) -> bool:
        """Return whether all files of a job are where they can be sent from."""
        ...

    def prepare(self, job: Job) -> None:
        """See to it that a job is ready; it may take long."""
        ...

    def sent(self, job: Job) -> Mapping[str, Any]:
        """Return the inputs that are sent for a job."""
        ...


class Sidecars(Protocol):
    """Writes what a clip was made of beside it; see `batchgen.sidecars`."""

    def write(
        self, job_id: int, place: Destination, clips: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """Write the sidecars of a job; return why one is not written, "" if all are."""
        ...


class Rescue(Protocol):
    """Keeps a request id when the job database cannot; see `batchgen.runner.rescue`."""

    def write(self, attempt_id: str, request_id: str) -> None:
        """Keep a request id durably, and say it on stderr."""
        ...

    def keep(self, attempt_id: str, request_id: str) -> None:
        """Do that, and leave the file to the next process."""
        ...


@dataclass
class Stats:
    """What happened in this session, for the display; money in micro-dollars."""

    submitted: int = 0
    ended: int = 0  # generations that came to an end, whatever it was
    unpaid: int = 0  # claimed, and provably not paid for
    succeeded: int = 0
    failed: int = 0
    moderated: int = 0  # of the failed ones
    cancelled: int = 0
    in_doubt: int = 0
    downloading: int = 0
    waiting_downloads: int = 0
    charged_micros: int = 0
    estimates: int = 0  # clips whose cost the service has not stated
    last_problem: str = ""
    problems: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_PROBLEMS))
    fresh: int = 0  # jobs that this session paid for and brought to rest: they tell its pace
    fresh_clips: int = 0  # of them, those with a clip
    unfetched: int = 0  # paid for, and left to `batchgen download` as the user wants
    left: int = 0  # left to a later run: past their timeout, or not to be fetched now
    warned: set[str] = field(default_factory=set)
    late_costs: int = 0
    sidecars_missing: int = 0  # jobs with a clip that has none, though it was to have one
    extras: tuple[str, ...] = ()  # clips of extra purchases, below the output root
    troubled_looks: int = 0


@dataclass(frozen=True)
class Settings:
    """What the user chose for a session; times in seconds.

    Attributes:
        jobs: This worker's share of the account's cap; None is all of it, whatever it becomes.
        max_duration_s: Submits end so long after the session began.
        until_s: They end at this moment, epoch seconds.
    """

    jobs: int | None = None
    retries: int = 1
    policy_retries: int = 0
    new_seed_on_retry: bool = False
    job_timeout_s: float = 3600.0
    poll_interval_s: float = 2.0
    poll_rate: float | None = 100.0  # looks a second; None is as many as there are
    download: bool = True
    download_jobs: int = 4
    download_rate: float | None = None  # files a second; None has no bound
    limit: int | None = None
    halting: Halting = field(default_factory=Halting)
    max_outage_s: float = 6 * 3600.0
    lease_s: float = 30.0
    max_duration_s: float | None = None
    until_s: float | None = None


@dataclass
class Carrier:
    """Everything a job needs on its way."""

    writer: Writer
    provider: Provider
    fetcher: Fetcher | None
    rescue: Rescue
    limits: Limits
    settings: Settings
    account_id: int
    worker_id: str
    destinations: Destinations
    stats: Stats
    sleep: Callable[[float], Awaitable[Any]]
    random: Callable[[], float]
    now_ms: Callable[[], int]
    slot_freed: Callable[[], None]
    may_pay: Callable[[], bool]  # whether the worker surely holds its jobs
    doubt_slot_ms: Callable[[], int]
    downloads: asyncio.Semaphore
    looks: Spacer = field(default_factory=lambda: Spacer(None))
    durations: Durations = field(default_factory=Durations)
    fetches: Spacer = field(default_factory=lambda: Spacer(None))
    journal: Journal = field(default_factory=Journal)
    in_flight: dict[int, Job] = field(default_factory=dict)
    prices: Prices = field(default_factory=Prices)  # learns what finished requests cost
    lacks_money: Callable[[str], bool] = lambda _: False  # whether the run waits for more
    spent: Callable[[int], None] = lambda _: None  # told what each ended request cost
    unsettled: Callable[[int], None] = lambda _: None  # told what one may cost that is left
    draining: bool = False
    renew_token: Callable[[], bool] = lambda: False
    awake_s: Callable[[], float] = time.monotonic  # stands still while the machine sleeps
    learned: Callable[[int], Awaitable[None]] | None = None  # how long a generation took, ms
    went_well: Callable[[], None] = lambda: None  # a submit was accepted
    in_place: Callable[[], bool] = lambda: True  # whether the job database still has its name
    reseed: Callable[[Job], NewSeed | None] = lambda _: None  # None if the model takes no seed
    sidecars: Sidecars | None = None  # None if none are wanted
    sender: Sender | None = None  # None if no job has an input file that is to be made ready
    unusable: Callable[[Job, InputUnusable], None] = lambda job, error: None
    download_tries: int = _DOWNLOAD_TRIES
    emit: Emit = silent
    _downloading: int = 0
    _submitting: set[asyncio.Task[Any]] = field(default_factory=set)
    _tokens: int = 1  # that have been used
    _unrecorded: dict[str, str] = field(default_factory=dict)  # request ids by attempt
    _uncosted: "dict[str, _Uncosted]" = field(default_factory=dict)  # by attempt
    _watches: "dict[str, _Watch]" = field(default_factory=dict)  # by attempt
    _asked: set[str] = field(default_factory=set)  # attempts to be looked at at once
    _news: set[tuple[str, str | None]] = field(default_factory=set)  # kinds: model and settings
    _to_plan: deque[str] = field(default_factory=deque)  # attempts whose next look is stale
    _is_planning: bool = False

    async def carry(self, job: Job) -> None:
        """Take one job through every step that is still to do."""
        holds_slot = job.state is not JobState.DOWNLOADING
        if holds_slot:
            self.in_flight[job.id] = job
            try:
                paid = await self._generate(job)
            finally:
                self.in_flight.pop(job.id, None)
                self._asked.discard(job.attempt_id)
                self.slot_freed()
            if paid is None:
                return
            job = paid
        if self.fetcher is None:
            self.stats.unfetched += 1
            self._rests(job, has_clip=True)
            return
        await self._download(job, self.fetcher)

    def _rests(self, job: Job, *, has_clip: bool = False) -> None:
        """Count a job that this session brought to rest, if it had paid for it too."""
        if not job.is_adopted:
            self.stats.fresh += 1
            self.stats.fresh_clips += has_clip

    async def _generate(self, job: Job) -> Job | None:
        if job.request_id is None:
            accepted = await self._submit(job)
            if accepted is None:
                return None
            if self.draining:
                return None  # recorded; the next run goes on from here
            job = replace(
                job,
                state=JobState.RUNNING,
                request_id=accepted.request_id,
                accepted_ms=self.now_ms(),
            )
            self.in_flight[job.id] = job
        return await self._wait(job)

    # -- one step, for `runner.steps` ------------------------------------------------------------

    async def submit_only(self, job: Job) -> None:
        """Send the paid request of a claimed job, and record what came of it."""
        try:
            await self._submit(job)
        finally:
            self.in_flight.pop(job.id, None)

    async def ask(self, model: str, request_id: str) -> Look:
        """Ask once how an accepted request stands, in its turn among all looks.

        Raises:
            ProviderError: If that is not to be learned now.
        """
        await self.looks.turn()
        return await self.provider.poll(model, request_id)

    async def settle(self, job: Job, look: Look) -> None:
        """Record the end of a generation."""
        self.stats.ended += 1
        await self._ended(job, look)

    async def fetch_only(self, job: Job) -> None:
        """Fetch what was generated, and record it."""
        if self.fetcher is not None:
            await self._download(job, self.fetcher)

    def polls_answered(self) -> None:
        """Note that the service answers looks."""
        self.stats.troubled_looks = 0

    def polls_troubled(self, said: str) -> None:
        """Note a look that failed; many in a row, with no answer between, are an outage."""
        self.stats.troubled_looks += 1
        self.stats.last_problem = said
        if self.stats.troubled_looks >= _OUTAGE_AFTER_LOOKS:
            self.stats.troubled_looks = 0
            self.limits.go_offline()

    def flight(self, job: Job) -> Flight:
        """Return how a job in flight stands, as far as it was seen."""
        watch = self._watches.get(job.attempt_id)
        word, position = (job.remote_state or "", None) if watch is None else watch.seen
        since_ms = job.accepted_ms or job.intent_ms
        return Flight(
            job=f"{job.batch}/{job.label}",
            word=word,
            position=position,
            is_accepted=job.request_id is not None,
            age_s=0.0 if since_ms is None else max(0.0, (self.now_ms() - since_ms) / 1000),
        )

    # -- submit ----------------------------------------------------------------------------------

    @property
    def unanswered(self) -> int:
        """How many paid requests are under way, or answered and not recorded yet."""
        return len(self._submitting)

    def is_submitting(self, task: asyncio.Task[Any]) -> bool:
        """Whether a coroutine is between its paid request and the record of its answer."""
        return task in self._submitting

    async def _submit(self, job: Job) -> Accepted | None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a job is carried by a task")
        self._submitting.add(task)
        try:
            return await self._send(job)
        finally:
            self._submitting.discard(task)

    async def _send(self, job: Job) -> Accepted | None:
        if self.draining or self.limits.paused:
            # Claimed before it was known that nothing more is to be bought.
            await self._return(job, "not sent: the run was stopping")
            return None
        inputs = await self._inputs(job)
        if inputs is None:
            return None
        if not self.may_pay():
            # Suspended, or cut off from the job database: the job may be another worker's by now.
            await self._return(job, "not sent: this worker was silent for longer than its lease")
            return None
        failpoint("before-post")
        tokens = self._tokens
        sent_at = self.limits.clock()
        try:
            accepted = await self.provider.submit(job.model, inputs)
        except OutcomeUnknown as error:
            await self._doubt(job, error)
            return None
        except Rejected as error:
            await self._refused(job, error)
            return None
        except ProviderError as error:
            await self._put_back(job, error, tokens, sent_at)
            return None
        self.stats.submitted += 1
        self.limits.answered()
        if not await self._record_accepted(job, accepted):
            return None
        self.went_well()
        failpoint("after-id-commit")
        return accepted

    async def _inputs(self, job: Job) -> Mapping[str, Any] | None:
        """Return what is sent for a job; None if it was put back, since that cannot be made."""
        if self.sender is None or self.sender.is_plain(job):
            return job.inputs
        sender, not_before_ms = self.sender, 0
        try:
            return await beside(lambda: sender.sent(job))
        except InputUnusable as error:
            self.unusable(job, error)
            said = str(error)
        except BucketUnreachable as error:
            said, not_before_ms = str(error), self.now_ms() + _UNSIGNED_WAIT_MS
        except BucketError as error:
            said = str(error)
            self.limits.pause(error.exit_code, f"{said}. {LEFT}")
        await self._return(job, f"not sent: {said}", not_before_ms=not_before_ms)
        return None

    async def _record_accepted(self, job: Job, accepted: Accepted) -> bool:
        fact = jobs.AcceptedFact(job, accepted.request_id, accepted.raw, self.now_ms())
        self._unrecorded[job.attempt_id] = accepted.request_id
        if not self.in_place():
            self.rescue.keep(job.attempt_id, accepted.request_id)
        if self.writer.stuck:
            self.rescue.write(job.attempt_id, accepted.request_id)
        # Should the commit take long, the id is kept elsewhere too.
        late = asyncio.get_running_loop().call_later(
            _RESCUE_AFTER_S, self.rescue.write, job.attempt_id, accepted.request_id
        )
        try:
            failpoint("after-answer")
            await self.writer.do(jobs.record_accepted, fact)
        except Conflict:
            del self._unrecorded[job.attempt_id]
            await self._doubt(
                job,
                OutcomeUnknown(
                    f"the service answered with request id {accepted.request_id}, which another "
                    "job carries already",
                    raw=accepted.raw,
                ),
            )
            return False
        except Exception:
            # It will never be recorded by this process: the next one reads it from there.
            self.rescue.keep(job.attempt_id, accepted.request_id)
            del self._unrecorded[job.attempt_id]
            raise
        finally:
            # If this is cancelled, the commit lands without a waiter, or the id is kept elsewhere.
            late.cancel()
        del self._unrecorded[job.attempt_id]
        self.journal.accepted(job, accepted.request_id)
        self.emit("submitted", **_of(job), model=job.model, request_id=accepted.request_id)
        return True

    @property
    def unrecorded(self) -> Mapping[str, str]:
        """The request ids, by attempt, whose commit nobody has seen yet."""
        return self._unrecorded

    def rescue_unrecorded(self) -> None:
        """Keep the request ids whose commit is still awaited elsewhere too."""
        for attempt_id, request_id in self._unrecorded.items():
            self.rescue.write(attempt_id, request_id)

    def keep_unrecorded(self) -> None:
        """Leave the request ids whose commit this process will not see to the next one."""
        for attempt_id, request_id in self._unrecorded.items():
            self.rescue.keep(attempt_id, request_id)

    async def _doubt(self, job: Job, error: ProviderError) -> None:
        self.stats.in_doubt += 1
        self._rests(job)
        self.unsettled(job.est_micros)
        self._problem(job, f"in doubt: {error}")
        await self.writer.do(
            jobs.record_doubt,
            jobs.Doubt(
                job,
                slot_until_ms=self.now_ms() + self.doubt_slot_ms(),
                error=str(error),
                now_ms=self.now_ms(),
                status=error.status,
                raw=error.raw,
            ),
        )
        self.emit("in_doubt", **_of(job), message=str(error))
        self.limits.doubted(str(error))
        self.limits.lost(str(error))

    async def _refused(self, job: Job, error: Rejected) -> None:
        self.stats.failed += 1
        self.stats.unpaid += 1
        self._rests(job)
        self._problem(job, f"refused: {error}")
        self.journal.unpaid(job)
        await self.writer.do(
            jobs.record_refused,
            jobs.Refusal(
                job,
                error=str(error),
                now_ms=self.now_ms(),
                code=error.code,
                status=error.status,
                raw=error.raw,
            ),
        )
        self.emit("refused", **_of(job), code=error.code, message=str(error))
        self.limits.answered()
        self.limits.bad(str(error))
        self.limits.lost(str(error))

    async def _put_back(self, job: Job, error: ProviderError, tokens: int, sent_at: float) -> None:
        not_before_ms = 0
        keep = False
        match error:
            case Unsent():
                self.limits.unsent()
            case Throttled():
                wait_s = self.limits.throttle_s(error.retry_after_s, str(error), sent_at=sent_at)
                if wait_s is not None:
                    now_ms = self.now_ms()
                    until_ms = now_ms + int(wait_s * 1000)
                    freeze = jobs.Freeze(self.account_id, until_ms, now_ms, job.attempt_id)
                    await self.writer.do(jobs.freeze, freeze)
            case AccountBlocked():
                self._blocked(error, tokens)
            case ModelBlocked():
                self.limits.hold_model(
                    job.model,
                    f"the service does not take the model {job.model} ({error}): its jobs wait, "
                    "unpaid, and the others go on; correct the model in the manifest or with "
                    f"--model, then run again; {NOTHING_LOST}",
                )
            case Misrouted():
                keep = True
                not_before_ms = self.now_ms() + _MISROUTED_WAIT_MS
                self.limits.bad(str(error))
            case _:
                raise error
        self._problem(job, str(error))
        await self._return(
            job,
            str(error),
            not_before_ms=not_before_ms,
            keep=keep,
            status=error.status,
            raw=error.raw,
        )

    async def _return(
        self,
        job: Job,
        said: str,
        *,
        not_before_ms: int = 0,
        keep: bool = False,
        status: int | None = None,
        raw: str | None = None,
    ) -> None:
        self.stats.unpaid += 1
        self.journal.unpaid(job)
        await self.writer.do(
            jobs.put_back,
            jobs.PutBack(
                job,
                not_before_ms=not_before_ms,
                error=said,
                now_ms=self.now_ms(),
                keep=keep,
                status=status,
                raw=raw,
            ),
        )
        self.emit("put_back", **_of(job), message=said)

    # -- wait ------------------------------------------------------------------------------------

    async def carry_extra(self, extra: Job) -> None:
        """Poll an extra purchase and keep its clip; the job that it was for is not touched."""
        if self.fetcher is None:
            return
        look = await self._until_ended(extra)
        if look is None:
            return
        if look.phase is not Phase.SUCCEEDED or not look.output_urls:
            await self._ended(extra, look)
            return
        files = await self._fetch_all(replace(extra, urls=look.output_urls), self.fetcher)
        if files is None:
            return  # still to be polled: the next run tries again
        result = self._result(extra, look)
        paths = tuple(clip_path(extra.output_dir, clip.path) for clip in files)
        await self.writer.do(extras.keep, extras.Kept(result, paths))
        self._book(extra, look.cost_micros)
        self.stats.extras += paths
        self._downloaded(extra, files)

    async def _wait(self, job: Job) -> Job | None:
        """Wait for the end and record it; None if there is no clip to fetch, or not now."""
        look = await self._until_ended(job)
        if look is None:
            return None
        self.stats.ended += 1
        return await self._ended(job, look)

    async def _until_ended(self, job: Job) -> Look | None:
        """Look at the job until it has ended; None if it rests before."""
        watch = self._watches[job.attempt_id] = _Watch(job, self)
        try:
            return await self._watched(watch)
        finally:
            del self._watches[job.attempt_id]
            self._asked.discard(job.attempt_id)

    async def _watched(self, watch: "_Watch") -> Look | None:
        tries = 0
        # One that was taken over may have ended long ago.
        if not watch.job.is_adopted:
            await self._rest(watch, watch.due_in_s)
        while True:
            look = await self._look(watch)
            if look is None:
                if watch.given_up:
                    return None
                if not self.limits.offline and watch.is_overdue():
                    await self._overdue(watch.job)
                    return None
                tries += 1
                await self._rest_after_trouble(watch, tries)
                continue
            tries = 0
            if watch.is_success_without_output(look):
                await self._rest_after_trouble(watch, 1)
                continue
            if look.phase in (Phase.QUEUED, Phase.IN_PROGRESS):
                await watch.note(look)
                if watch.is_overdue():
                    await self._overdue(watch.job)
                    return None
                await self._rest(watch, watch.due_in_s)
                continue
            return look

    @property
    def _interval_s(self) -> float:
        return self.settings.poll_interval_s

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self.sleep(seconds)
        await self.limits.online()

    async def _rest_after_trouble(self, watch: "_Watch", tries: int) -> None:
        until_ms = self.now_ms() + 1000 * after_trouble_s(tries, shortest_s=self._interval_s)
        await self._rest(watch, lambda: (until_ms - self.now_ms()) / 1000)

    async def _rest(self, watch: "_Watch", left_s: Callable[[], float]) -> None:
        """Leave a job alone until nothing is left to wait, or it is to be looked at at once."""
        attempt_id = watch.job.attempt_id
        while attempt_id not in self._asked and (seconds := left_s()) > 0:
            if await watch.sleeps(seconds):
                break
        self._asked.discard(attempt_id)
        await self.limits.online()

    def look_now(self, attempt_ids: Iterable[str]) -> None:
        """Look at once at those of these attempts that this worker waits for, or soon will.

        A look that is under way may have been answered already, so another follows it.
        """
        wanted = set(attempt_ids)
        if not wanted:  # as a rule: ten thousand in flight are not gone through for nothing
            return
        flying = self._watches.keys() | {job.attempt_id for job in self.in_flight.values()}
        for attempt_id in flying & wanted:
            self._asked.add(attempt_id)
            if attempt_id in self._watches:
                self._watches[attempt_id].wake()

    def _learn(self, job: Job, ms: int) -> None:
        """Remember how long a generation took; plan anew for those that wait, if that is news."""
        self.durations.add(job.model, job.settings, ms)
        of_model = self.durations.seen(job.model) <= FIRST_ENDINGS
        if not of_model and self.durations.seen(job.model, job.settings) > FIRST_ENDINGS:
            return
        self._news.add((job.model, None if of_model else job.settings))
        if not self._is_planning:
            self._is_planning = True
            self._plan_some()

    def _plan_some(self) -> None:
        """Wake a few of those that are to plan anew: ten thousand at once would stall the loop.

        What is learned meanwhile waits until all of them are through: to go through what is in
        flight for each of many endings would stall it too.
        """
        if not self._to_plan:
            news, self._news = self._news, set()
            self._to_plan.extend(
                attempt_id
                for attempt_id, watch in self._watches.items()
                if (watch.job.model, None) in news or (watch.job.model, watch.job.settings) in news
            )
        for _ in range(min(_PLANNED_TOGETHER, len(self._to_plan))):
            watch = self._watches.get(self._to_plan.popleft())
            if watch is not None:
                watch.wake()
        self._is_planning = bool(self._to_plan or self._news)
        if self._is_planning:
            asyncio.get_running_loop().call_soon(self._plan_some)

    async def _look(self, watch: "_Watch") -> Look | None:
        job = watch.job
        if job.request_id is None:
            raise ValueError(f"job {job.key} has no request id to look at")
        failpoint("in-poll")
        tokens = self._tokens
        try:
            look = await self.ask(job.model, job.request_id)
        except RequestLost as error:
            if watch.is_lost_for_good():
                watch.given_up = True
                await self._lost(job, error)
            return None
        except AccountBlocked as error:
            # The paid job rests as it is; a later run with a good token looks again.
            watch.given_up = self._blocked(error, tokens)
            return None
        except Throttled as error:
            await self.sleep(min(error.retry_after_s or self._interval_s, _LONGEST_LOOK_WAIT_S))
            return None
        except Unavailable as error:
            # An answer of the service itself, a plain 404 say, is no sign of an outage.
            if error.status is None or error.status >= _SERVER_TROUBLE:
                watch.seen_trouble(str(error))
            return None
        watch.seen_answer()
        if not look.known_word and look.remote_state not in self.stats.warned:
            self.stats.warned.add(look.remote_state)
            logger.warning(
                "the service calls a job %r, a word batchgen does not know: taken as still running",
                look.remote_state,
            )
        return look

    def _blocked(self, error: AccountBlocked, tokens: int) -> bool:
        """Pause the run, unless a newer token has been stored; return whether it is paused.

        Args:
            error: What the service said.
            tokens: How many tokens there had been when it was asked: an answer to an older one
                tells nothing of the one in use.
        """
        if error.exit_code is Exit.TOKEN:
            if tokens == self._tokens and self.renew_token():
                self._tokens += 1
            if tokens != self._tokens:
                return False
        if error.exit_code is Exit.NO_BALANCE and self.lacks_money(str(error)):
            return False
        said = (
            f"the token was refused ({error}): set a good one in RUNCOMFY_TOKEN, then run again"
            if error.exit_code is Exit.TOKEN
            else f"the account has no balance left ({error}): top it up, then run again"
        )
        self.limits.pause(error.exit_code, f"{said}; {NOTHING_LOST}")
        return True

    async def _ended(self, job: Job, look: Look) -> Job | None:
        if look.phase is Phase.SUCCEEDED and look.output_urls:
            return await self._generated(job, look)
        end = jobs.Ended(
            job,
            worker_id=self.worker_id,
            state="failed",
            error_class=ErrorClass.UNKNOWN,
            error="the service says succeeded, without any output",
            code=look.error_code,
            cost_micros=look.cost_micros,
            raw=look.raw,
            retry_at_ms=None,
            now_ms=self.now_ms(),
        )
        if look.phase is Phase.CANCELLED:
            end = replace(
                end, state="cancelled", error_class=None, error="cancelled at the service"
            )
        elif look.phase is Phase.FAILED:
            end = self._failed(end, look)
        await self._closed(end)
        return None

    def _failed(self, end: jobs.Ended, look: Look) -> jobs.Ended:
        """Return why a generation failed, and whether its job is bought again by itself."""
        job, chosen = end.job, self.settings
        error_class = failure_class(look.error_code)
        said = look.error_text or look.error_code or "the service says failed, without a reason"
        if error_class is ErrorClass.MODERATION:
            said = explain_refusal(look.error_code, said, inputs=job.inputs, settings=job.settings)
        transient = is_retried(error_class, retries_used=job.retries_used, retries=chosen.retries)
        refused = is_policy_retried(
            error_class, retries_used=job.policy_retries_used, retries=chosen.policy_retries
        )
        wants_seed = refused or (transient and chosen.new_seed_on_retry)
        new_seed = self._new_seed(job) if wants_seed else None
        again = transient or (refused and new_seed is not None)
        return replace(
            end,
            error_class=error_class,
            error=said,
            # Due before anything new: else a service that fails everything would be paid
            # for every job of the batch once before the first verdict counts in the streak.
            retry_at_ms=0 if again else None,
            new_seed=new_seed,
        )

    def _new_seed(self, job: Job) -> NewSeed | None:
        new_seed = self.reseed(job)
        if new_seed is None and f"seed {job.model}" not in self.stats.warned:
            self.stats.warned.add(f"seed {job.model}")
            logger.warning(
                "the model %s takes no other seed: what moderation refuses is not bought again, "
                "since the same request would be refused again; other retries send the same",
                job.model,
            )
        return new_seed

    async def _generated(self, job: Job, look: Look) -> Job | None:
        result = self._result(job, look)
        run_ms = result.run_ms
        mine = await self.writer.do(jobs.record_generated, result)
        self.limits.good()
        if run_ms is not None:
            self._learn(job, self._possible_ms(job, run_ms))
            if self.learned is not None:
                await self.learned(run_ms)
        self.spent(job.est_micros if look.cost_micros is None else look.cost_micros)
        if look.cost_micros is not None:
            self.prices.add(job.model, job.settings, look.cost_micros, is_clip=True)
        elif len(self._uncosted) < _MOST_UNCOSTED:
            self._uncosted[job.attempt_id] = _Uncosted(job, is_counted=True)
        self._book(job, look.cost_micros)
        self.emit(
            "generated",
            **_of(job),
            cost_usd=dollars(job.est_micros if look.cost_micros is None else look.cost_micros),
            cost_is_estimate=look.cost_micros is None,
            run_s=None if run_ms is None else run_ms / 1000,
        )
        if not mine:
            return None
        if look.cost_micros is not None:
            self.stats.late_costs = 0
        return replace(
            job,
            state=JobState.DOWNLOADING,
            urls=look.output_urls,
            is_costed=look.cost_micros is not None,
        )

    def _result(self, job: Job, look: Look) -> jobs.Generated:
        return jobs.Generated(
            job,
            worker_id=self.worker_id,
            urls=look.output_urls,
            cost_micros=look.cost_micros,
            run_ms=self._duration_ms(job, look),
            raw=look.raw,
            now_ms=self.now_ms(),
        )

    def _duration_ms(self, job: Job, look: Look) -> int | None:
        """Return how long a generation took: as the service says, else as this session saw it.

        A job that was taken over may have been done long before anybody looked.
        """
        if look.created_at and look.finished_at and look.finished_at >= look.created_at:
            return int((look.finished_at - look.created_at).total_seconds() * 1000)
        if job.is_adopted or job.accepted_ms is None:
            return None
        return self.now_ms() - job.accepted_ms

    def _possible_ms(self, job: Job, run_ms: int) -> int:
        """Return a stated duration, but no longer than the job has been known."""
        return run_ms if job.accepted_ms is None else min(run_ms, self.now_ms() - job.accepted_ms)

    async def _closed(self, end: jobs.Ended) -> None:
        """Record a generation that gave no clip, and count what it means for the session."""
        mine = await self.writer.do(jobs.record_ended, end)
        self.spent(end.job.est_micros if end.cost_micros is None else end.cost_micros)
        if end.state == "cancelled":
            self.stats.charged_micros += end.cost_micros or 0
        else:
            self._book(end.job, end.cost_micros)
        if end.cost_micros is not None and end.state == "failed":
            is_end = end.retry_at_ms is None
            job = end.job
            self.prices.add(job.model, job.settings, end.cost_micros, is_clip=False, is_end=is_end)
        if end.retry_at_ms is not None:
            self._problem(end.job, f"failed, to be bought again: {end.error}")
            self.emit("retried", **_of(end.job), **_why(end))
        elif end.state == "cancelled":
            self.stats.cancelled += 1
            self._rests(end.job)
            self.emit("cancelled", **_of(end.job), message=end.error)
        else:
            self.stats.failed += 1
            self._rests(end.job)
            self.emit("failed", **_of(end.job), **_why(end))
            self._problem(end.job, f"failed ({end.error_class}): {end.error}")
            if mine:
                self._judge(end)

    def _book(self, job: Job, cost_micros: int | None) -> None:
        """Count what a request that has ended cost, as the job database books it."""
        self.stats.charged_micros += job.est_micros if cost_micros is None else cost_micros
        self.stats.estimates += cost_micros is None

    def _judge(self, end: jobs.Ended) -> None:
        """Count a verdict: of a job that came to rest here, after its retries."""
        if end.error_class in _SERVICE_CLASS:
            self.limits.bad(end.error)
        if end.error_class is ErrorClass.MODERATION:
            self.stats.moderated += 1
            self.limits.moderated(end.error)
        self.limits.lost(end.error)

    async def _lost(self, job: Job, error: ProviderError) -> None:
        await self._closed(
            jobs.Ended(
                job,
                worker_id=self.worker_id,
                state="failed",
                error_class=ErrorClass.REMOTE_LOST,
                error=str(error),
                code=error.code,
                cost_micros=None,
                raw=error.raw,
                retry_at_ms=None,
                now_ms=self.now_ms(),
            )
        )

    async def _overdue(self, job: Job) -> None:
        self.unsettled(job.est_micros)
        self.stats.left += 1
        said = "still running after --job-timeout: a later run looks again"
        self._problem(job, said)
        await self.writer.do(jobs.record_timed_out, jobs.TimedOut(job, self.now_ms()))
        self.emit("timed_out", **_of(job), message=said)

    # -- download --------------------------------------------------------------------------------

    async def _download(self, job: Job, fetcher: Fetcher) -> None:
        self.stats.waiting_downloads += 1
        try:
            files = await self._fetch_all(job, fetcher)
        finally:
            self.stats.waiting_downloads -= 1
        if files is None:
            return
        clips = tuple(
            {
                "path": clip.path,
                "url": clip.url,
                "sha256": clip.sha256,
                "size_bytes": clip.size_bytes,
            }
            for clip in files
        )
        # First: a job that has succeeded is not looked at again.
        await self._write_sidecars(job, clips)
        failpoint("before-last-commit")
        done = jobs.Finish(job, worker_id=self.worker_id, files=clips, now_ms=self.now_ms())
        finished = await self.writer.do(jobs.finish, done)
        if finished:
            self.stats.succeeded += 1
            self._rests(job, has_clip=True)
            self._downloaded(job, files)
            if not job.is_costed:
                # One that an earlier session generated is not among this one's estimates.
                self._uncosted.setdefault(job.attempt_id, _Uncosted(job, is_counted=False))
            if self.stats.late_costs < _LATE_COSTS_TRIED:
                await self._late_cost(job)

    async def _write_sidecars(
        self, job: Job, clips: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Write what the clips were made of beside them; without it they are as good."""
        if self.sidecars is None:
            return
        try:
            said = await asyncio.to_thread(self.sidecars.write, job.id, self.place(job), clips)
        except (OutputError, StoreError) as error:
            said = str(error)
        except Exception:  # whatever it is: the clip is paid for and on disk
            logger.exception("no sidecar of %s", job.label)
            said = "unexpected: the log tells"
        if said:
            self.stats.sidecars_missing += 1
            self._problem(job, f"no sidecar: {said}")

    async def _fetch_all(self, job: Job, fetcher: Fetcher) -> list[Clip] | None:
        fresh = False
        for attempt in range(1, self.download_tries + 1):
            try:
                async with self.downloads:
                    self._count_download(1)
                    try:
                        return [
                            await self._fetch(fetcher, url, job, name)
                            for url, name in zip(job.urls, names_of(job), strict=True)
                        ]
                    finally:
                        self._count_download(-1)
            except OutputError as error:
                self.limits.pause(Exit.OUTPUT, str(error))
                self.stats.left += 1
                await self._trouble(job, str(error))
                return None
            except DownloadError as error:
                self._problem(job, f"download: {error}")
                if await self._is_expired(job, error, fresh=fresh):
                    return None
                refreshed = await self._refresh(job) if error.link_dead else None
                if refreshed is not None:
                    at_once = not fresh
                    job, fresh = refreshed, True
                    if at_once:
                        continue
            if attempt < self.download_tries:
                await self._pause(
                    backoff_s(attempt, first_s=_DOWNLOAD_FIRST_S, longest_s=_DOWNLOAD_LONGEST_S)
                )
        self.stats.left += 1
        return None

    def _count_download(self, change: int) -> None:
        self._downloading += change
        # The others are being finished, or wait for a connection.
        self.stats.downloading = min(self._downloading, self.settings.download_jobs)

    async def _fetch(self, fetcher: Fetcher, url: str, job: Job, name: str) -> Clip:
        await self.fetches.turn()
        return await fetcher.fetch(url, into=self.place(job), name=name)

    async def _is_expired(self, job: Job, error: DownloadError, *, fresh: bool) -> bool:
        # That an old link is dead by now tells nothing of the clip.
        is_gone = error.link_dead and fresh
        gone_since_ms = await self._trouble(job, str(error), link_dead=is_gone)
        if not is_gone or gone_since_ms is None:
            return False
        if self.now_ms() - gone_since_ms < _EXPIRED_AFTER_S * 1000:
            return False
        said = f"paid, but the clip is gone: {error}"
        await self._trouble(job, said, expired=True)
        self.stats.failed += 1
        self._rests(job)
        self.limits.lost(said)
        self.emit("expired", **_of(job), message=said)
        return True

    async def _trouble(
        self, job: Job, said: str, *, link_dead: bool = False, expired: bool = False
    ) -> int | None:
        return await self.writer.do(
            jobs.record_download_trouble,
            jobs.DownloadTrouble(
                job,
                worker_id=self.worker_id,
                error=said,
                now_ms=self.now_ms(),
                link_dead=link_dead,
                expired=expired,
            ),
        )

    async def _refresh(self, job: Job) -> Job | None:
        """Ask for fresh links; None if the service gives none now."""
        if job.request_id is None:
            return None
        try:
            look = await self.ask(job.model, job.request_id)
        except ProviderError as error:
            self._problem(job, f"no fresh link: {error}")
            return None
        if not look.output_urls:
            return None
        return replace(job, urls=look.output_urls)

    async def settle_costs(self) -> None:
        """Ask once more for the costs that came neither with the result nor with the clip."""
        for one in list(self._uncosted.values()):
            if self.draining:
                return
            await self._late_cost(one.job)
            if self.stats.late_costs >= 2 * _LATE_COSTS_TRIED:
                return  # this service states them later still, or never

    async def _late_cost(self, job: Job) -> None:
        """Read a cost again that was not stated with the result; costs may come late."""
        if job.attempt_id not in self._uncosted or job.request_id is None:
            return
        self.stats.late_costs += 1
        try:
            look = await self.ask(job.model, job.request_id)
        except ProviderError as error:
            logger.debug("the cost of %s could not be read: %s", job.key, error)
            return
        if look.cost_micros is not None:
            was_counted = self._uncosted.pop(job.attempt_id).is_counted
            self.stats.late_costs = 0
            if was_counted:
                self.stats.charged_micros += look.cost_micros - job.est_micros
                self.stats.estimates -= 1
            self.prices.add(job.model, job.settings, look.cost_micros, is_clip=True)
            await self.writer.do(
                jobs.record_cost,
                jobs.LateCost(job, self.worker_id, look.cost_micros, look.raw),
            )
            self.emit("costed", **_of(job), cost_usd=dollars(look.cost_micros))
            await self._write_sidecars(job)  # with what it cost

    def _downloaded(self, job: Job, files: Sequence[Clip]) -> None:
        self.emit(
            "downloaded",
            **_of(job),
            paths=[clip_path(job.output_dir, clip.path) for clip in files],
            size_bytes=sum(clip.size_bytes for clip in files),
        )

    def place(self, job: Job) -> Destination:
        """Return where the clips of a job go."""
        return self.destinations.of(job.output_dir)

    def _problem(self, job: Job, said: str) -> None:
        self.stats.last_problem = f"{job.batch}/{job.label}: {said}"
        self.stats.problems.append(self.stats.last_problem)
        logger.info("%s", self.stats.last_problem)


@dataclass(frozen=True)
class _Uncosted:
    """A clip whose cost the service has not stated yet.

    Attributes:
        is_counted: Whether its estimate is among the session's numbers.
    """

    job: Job
    is_counted: bool


def _of(job: Job) -> dict[str, Any]:
    """Return which job an event is about: `domain.telling.JOB_FIELDS`."""
    return {"batch": job.batch, "job": job.label, "key": job.key, "attempt_id": job.attempt_id}


def _why(end: jobs.Ended) -> dict[str, Any]:
    error_class = None if end.error_class is None else str(end.error_class)
    return {"error_class": error_class, "code": end.code, "message": end.error}


def names_of(job: Job) -> list[str]:
    """Return the file name of each output: the reserved one, then `-2`, `-3`, …."""
    stem, dot, ext = job.name.rpartition(".")
    return [job.name] + [f"{stem}-{number}{dot}{ext}" for number in range(2, len(job.urls) + 1)]


class _Watch:
    """What is remembered of one running job between looks."""

    def __init__(self, job: Job, carrier: Carrier) -> None:
        self.job = job
        self.given_up = False
        self._carrier = carrier
        self._word = job.remote_state
        self._position: int | None = None
        self._started_ms = job.started_ms
        self._lost_since_ms: int | None = None
        self._empty_since_ms: int | None = None
        self._began_ms = job.accepted_ms or carrier.now_ms()
        self._was_ms = carrier.now_ms()
        self._awake_at_s = carrier.awake_s() - carrier.limits.offline_total_s()
        self._seen_s: float | None = None  # its age at the last look
        self._is_queued = False
        self._chance = carrier.random()
        self._sleep: asyncio.Future[Any] | None = None

    @property
    def seen(self) -> tuple[str, int | None]:
        """The service's own word at the last look, and the place in its queue."""
        return self._word or "", self._position

    def _age_s(self) -> float:
        return max(0.0, (self._carrier.now_ms() - self._began_ms) / 1000)

    def due_in_s(self) -> float:
        """Return how long to wait for the next look, as it is planned now."""
        carrier = self._carrier
        shortest_s = carrier.settings.poll_interval_s
        if shortest_s == 0:
            return 0.0
        schedule = carrier.durations.schedule(self.job.model, self.job.settings)
        next_s = schedule.next_look_s(
            self._seen_s,
            is_queued=self._is_queued,
            shortest_s=shortest_s,
            chance=self._chance,
        )
        # The timeout is judged after a look.
        return min(next_s - self._age_s(), max(shortest_s, self._left_s()))

    async def sleeps(self, seconds: float) -> bool:
        """Wait; return False if woken before."""
        self._sleep = asyncio.ensure_future(self._carrier.sleep(seconds))
        try:
            await asyncio.wait({self._sleep})
            if self._sleep.cancelled():
                return False
            self._sleep.result()
            return True
        finally:
            self._sleep.cancel()
            self._sleep = None

    def wake(self) -> None:
        """End the wait, so that it is planned anew."""
        if self._sleep is not None:
            self._sleep.cancel()

    def seen_answer(self) -> None:
        self._lost_since_ms = None
        self._carrier.polls_answered()

    def seen_trouble(self, said: str) -> None:
        self._carrier.polls_troubled(said)

    def is_lost_for_good(self) -> bool:
        now_ms = self._carrier.now_ms()
        self._lost_since_ms = self._lost_since_ms or now_ms
        return now_ms - self._lost_since_ms >= _LOST_FOR_S * 1000

    def is_success_without_output(self, look: Look) -> bool:
        """Whether a success without any URL may yet get one."""
        if look.phase is not Phase.SUCCEEDED or look.output_urls:
            return False
        now_ms = self._carrier.now_ms()
        self._empty_since_ms = self._empty_since_ms or now_ms
        return now_ms - self._empty_since_ms < _NO_OUTPUT_FOR_S * 1000

    async def note(self, look: Look) -> None:
        """Note what a look said, and record a changed remote word; polls write nothing else."""
        unseen_s = self._age_s() - (self._seen_s or 0.0)
        was_queued, self._is_queued = self._is_queued, look.phase is Phase.QUEUED
        self._seen_s, self._chance = self._age_s(), self._carrier.random()
        in_progress = look.phase is Phase.IN_PROGRESS
        first = in_progress and self._started_ms is None
        if first:
            self._started_ms = self._carrier.now_ms()
        if not first and look.remote_state == self._word and look.queue_position == self._position:
            return
        self._word, self._position = look.remote_state, look.queue_position
        await self._carrier.writer.do(
            jobs.record_remote_state,
            jobs.RemoteState(
                self.job,
                word=look.remote_state,
                queue_position=look.queue_position,
                in_progress=first and (was_queued or unseen_s < _TELLING_S),
                now_ms=self._carrier.now_ms(),
            ),
        )

    def is_overdue(self) -> bool:
        """Whether the job is past its timeout."""
        return self._left_s() <= 0

    def _left_s(self) -> float:
        """Return what is left of a job's time: four times as much while it only queues.

        The time in which the machine slept or the service was out of reach does not count.
        """
        limit_s = self._carrier.settings.job_timeout_s
        since_ms = self._started_ms
        if since_ms is None:
            since_ms, limit_s = self._began_ms, 4 * limit_s
        awake_s = (
            self._carrier.awake_s() - self._carrier.limits.offline_total_s() - self._awake_at_s
        )
        before_s = (self._was_ms - since_ms) / 1000  # negative if it began while watched
        return limit_s - before_s - awake_s
