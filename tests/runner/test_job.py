import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from store.stored_jobs import MODEL, Store, accepted, spec_of

from batchgen.domain.errors import (
    AccountBlocked,
    BucketUnreachable,
    DownloadError,
    Exit,
    OutcomeUnknown,
    ProviderError,
    RequestLost,
    StoreError,
    Throttled,
    Unavailable,
)
from batchgen.domain.halting import Halting
from batchgen.domain.jobs import Clip
from batchgen.domain.prices import UnitPrice
from batchgen.domain.states import JobState
from batchgen.downloads.destination import Destination
from batchgen.downloads.destinations import Destinations
from batchgen.providers.interface import Accepted, Look, Phase
from batchgen.runner.job import Carrier, Settings, Stats
from batchgen.runner.limits import Limits
from batchgen.runner.spacing import Spacer
from batchgen.store import jobs
from batchgen.store.jobs import Job, NewSeed
from batchgen.store.statements import text
from batchgen.store.writer import Writer

URL = "https://files.example.com/clip.mp4"
DONE = Look(Phase.SUCCEEDED, "succeeded", "{}", output_urls=(URL,), cost_micros=250_000)
WAITING = Look(Phase.QUEUED, "in_queue", "{}", queue_position=3)
WORKING = Look(Phase.IN_PROGRESS, "in_progress", "{}")
EMPTY = Look(Phase.SUCCEEDED, "succeeded", "{}")


@dataclass
class Service:
    """Answers looks from a list, the last one again and again."""

    looks: Sequence[Look | ProviderError]
    submits: list[str] = field(default_factory=list)
    asked: int = 0
    name = "fake"
    origin = "https://api.example.com"

    async def submit(self, model: str, inputs: Mapping[str, Any]) -> Accepted:
        self.submits.append(inputs["promptText"])
        return Accepted(f"r-{len(self.submits)}", "{}")

    async def poll(self, model: str, request_id: str) -> Look:
        found = self.looks[min(self.asked, len(self.looks) - 1)]
        self.asked += 1
        if isinstance(found, ProviderError):
            raise found
        return found

    async def queue_position(self, request_id: str) -> int | None:
        return None

    async def cancel(self, request_id: str) -> bool:
        return False

    async def balance_micros(self) -> int:
        return 0

    async def price(self, model: str) -> UnitPrice | None:
        return None

    async def is_reachable(self) -> bool:
        return True

    def use_token(self, token: str) -> None:
        raise AssertionError("no token was refused")

    async def close(self) -> None:
        return None


@dataclass
class Files:
    """Hands out clips, after the errors it is told."""

    errors: list[DownloadError] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    async def fetch(self, url: str, *, into: Destination, name: str) -> Clip:
        self.fetched.append(name)
        if self.errors:
            raise self.errors.pop(0)
        return Clip(path=name, url=url, sha256="0" * 64, size_bytes=1)


@dataclass
class Rescue:
    kept: list[tuple[str, str]] = field(default_factory=list)

    def write(self, attempt_id: str, request_id: str) -> None:
        raise AssertionError("the job database took it in time")

    def keep(self, attempt_id: str, request_id: str) -> None:
        self.kept.append((attempt_id, request_id))


@dataclass
class World:
    """Everything around one job; its clock moves only when somebody sleeps."""

    store: Store
    now_s: float = 2_000_000.0
    suspended_s: float = 0.0
    may_pay: bool = True
    suspends_s: list[float] = field(default_factory=list)  # during the next waits
    slept: list[float] = field(default_factory=list)
    rescue: Rescue = field(default_factory=Rescue)
    stats: Stats = field(default_factory=Stats)

    def __post_init__(self) -> None:
        self.limits = Limits(halting=Halting(), clock=lambda: self.now_s)

    async def sleep(self, seconds: float) -> None:
        suspended_s = self.suspends_s.pop(0) if self.suspends_s else 0.0
        self.slept.append(seconds)
        self.now_s += seconds + suspended_s
        self.suspended_s += suspended_s

    def carrier(
        self,
        writer: Writer,
        service: Service,
        files: Files | None,
        *,
        settings: Settings | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> Carrier:
        sleep = sleep or self.sleep
        return Carrier(
            writer=writer,
            provider=service,
            fetcher=files,
            rescue=self.rescue,
            limits=self.limits,
            settings=settings or Settings(),
            account_id=self.store.account.id,
            worker_id="w1",
            destinations=Destinations(Path()),
            stats=self.stats,
            awake_s=lambda: self.now_s - self.suspended_s,
            sleep=sleep,
            random=lambda: 0.0,
            now_ms=lambda: int(self.now_s * 1000),
            slot_freed=lambda: None,
            may_pay=lambda: self.may_pay,
            doubt_slot_ms=lambda: 600_000,
            downloads=asyncio.Semaphore(4),
            looks=Spacer(None, clock=lambda: self.now_s, sleep=sleep),
        )

    def carry(
        self,
        job: Job,
        service: Service,
        files: Files | None = None,
        *,
        settings: Settings | None = None,
        prepare: Callable[[Carrier], None] = lambda _: None,
        beside: Sequence[Job] = (),
    ) -> None:
        """Carry a job, and others beside it, until they rest."""

        async def body() -> None:
            writer = Writer(self.store.database, on_stuck=print)
            writer.start()
            carrier = self.carrier(writer, service, files, settings=settings)
            prepare(carrier)
            try:
                await asyncio.gather(*map(carrier.carry, [job, *beside]))
            finally:
                await asyncio.to_thread(writer.close)

        asyncio.run(body())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store(tmp_path)
    yield World(store)
    store.check()
    store.close()


@pytest.fixture
def job(world: World) -> Job:
    world.store.fill(1)
    return world.store.claim(1)[0]


def states(world: World, job: Job) -> tuple[str, str | None]:
    row = world.store.job(job.id)
    return row.state, row.error_class


def drain(carrier: Carrier) -> None:
    carrier.draining = True


def pause(carrier: Carrier) -> None:
    carrier.limits.pause(Exit.NO_BALANCE, "empty")


@pytest.mark.parametrize("stop", [drain, pause])
def test_what_was_claimed_while_the_run_stopped_is_not_bought(
    world: World, job: Job, stop: Callable[[Carrier], None]
) -> None:
    service = Service([DONE])

    world.carry(job, service, prepare=stop)

    assert service.submits == []
    assert states(world, job) == ("pending", None)
    assert world.store.query("SELECT * FROM attempts") == []
    assert world.stats.unpaid == 1


def test_a_worker_that_may_have_been_replaced_pays_for_nothing(world: World, job: Job) -> None:
    service = Service([DONE])
    world.may_pay = False

    world.carry(job, service, Files())

    assert service.submits == []
    assert states(world, job) == ("pending", None)


class Unsigned:
    """Cannot sign a link just now."""

    def is_plain(self, job: Job) -> bool:
        return False

    def is_ready(self, inputs_json: str, uploads: str | None) -> bool:
        return True

    def prepare(self, job: Job) -> None:
        """Nothing is to be made ready."""

    def sent(self, job: Job) -> dict[str, Any]:
        raise BucketUnreachable("s3://in does not answer")


def test_a_job_whose_link_cannot_be_signed_just_now_waits_unpaid(world: World, job: Job) -> None:
    service = Service([DONE])

    world.carry(job, service, prepare=lambda carrier: setattr(carrier, "sender", Unsigned()))

    assert service.submits == []
    assert states(world, job)[0] == "pending"
    assert world.store.job(job.id).not_before_ms == int(world.now_s * 1000) + 30_000
    assert not world.limits.paused


@dataclass
class RefusesTwoAtOnce(Service):
    """Refuses the token of the first two looks, which are under way together."""

    both: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(2))

    async def poll(self, model: str, request_id: str) -> Look:
        self.asked += 1
        if self.asked > 2:
            return DONE
        await self.both.wait()
        raise AccountBlocked("HTTP 401", exit_code=Exit.TOKEN)


@pytest.mark.parametrize(("newer", "reasons"), [(1, []), (0, [Exit.TOKEN])])
def test_the_refusal_of_an_old_token_tells_nothing_of_the_new_one(
    world: World, newer: int, reasons: list[Exit]
) -> None:
    world.store.fill(2)
    first, second = world.store.claim(2)
    stored = ["a newer token"] * newer

    def prepare(carrier: Carrier) -> None:
        carrier.renew_token = lambda: bool(stored and stored.pop())

    world.carry(first, RefusesTwoAtOnce([]), Files(), prepare=prepare, beside=[second])

    assert [reason.exit_code for reason in world.limits.reasons] == reasons
    state = "running" if reasons else "succeeded"
    assert [states(world, one) for one in (first, second)] == [(state, None)] * 2


def test_a_job_goes_from_claim_to_clip(world: World, job: Job) -> None:
    service, files = Service([WAITING, WORKING, DONE]), Files()

    world.carry(job, service, files)

    assert states(world, job) == ("succeeded", None)
    assert len(service.submits) == 1
    assert files.fetched == [job.name]
    assert world.store.spent() == 250_000


def test_an_id_that_cannot_be_recorded_is_left_to_the_next_process(world: World, job: Job) -> None:
    def lose_the_table(carrier: Carrier) -> None:
        with world.store.database.transaction() as tx:
            tx.run(text("ALTER TABLE attempts RENAME TO attempts_gone"))

    with pytest.raises(StoreError):
        world.carry(job, Service([DONE]), prepare=lose_the_table)

    assert world.rescue.kept == [(job.attempt_id, "r-1")]
    with world.store.database.transaction() as tx:
        tx.run(text("ALTER TABLE attempts_gone RENAME TO attempts"))


def test_a_request_is_lost_only_after_a_quarter_of_an_hour(world: World, job: Job) -> None:
    began = world.now_s

    world.carry(job, Service([WORKING, RequestLost("404001", code="404001")]))

    assert states(world, job) == ("failed", "remote_lost")
    assert 900 <= world.now_s - began < 1100


def test_a_request_that_is_found_again_was_never_lost(world: World, job: Job) -> None:
    lost: list[Look | ProviderError] = [RequestLost("404001") for _ in range(15)]

    world.carry(job, Service([*lost, WORKING, *lost, DONE]), Files())

    assert states(world, job) == ("succeeded", None)


def test_a_success_without_a_clip_may_only_be_early(world: World, job: Job) -> None:
    world.carry(job, Service([EMPTY, EMPTY, DONE]), Files())

    assert states(world, job) == ("succeeded", None)


def test_a_success_that_never_gets_a_clip_has_failed(world: World, job: Job) -> None:
    began = world.now_s

    world.carry(job, Service([EMPTY]), Files())

    assert states(world, job) == ("failed", "unknown")
    assert 120 <= world.now_s - began < 300


@pytest.mark.parametrize(("look", "limit_s"), [(WORKING, 3600), (WAITING, 4 * 3600)])
def test_a_job_past_its_timeout_rests_and_is_no_failure(
    world: World, job: Job, look: Look, limit_s: float
) -> None:
    began = world.now_s

    world.carry(job, Service([look]), Files())

    assert states(world, job) == ("running", None)
    assert limit_s <= world.now_s - began <= limit_s + 35
    assert world.store.attempt(job.attempt_id).slot_until_ms <= world.now_s * 1000


def test_the_timeout_stands_still_during_an_outage(world: World, job: Job) -> None:
    troubles = [Unavailable("no answer") for _ in range(5)]
    service = Service([WORKING, *troubles, WORKING, DONE])

    async def outage(limits: Limits) -> None:
        await limits.outage()
        world.now_s += 7200
        limits.go_online()

    def meanwhile(carrier: Carrier) -> None:
        asyncio.get_running_loop().create_task(outage(carrier.limits))

    world.carry(job, service, Files(), prepare=meanwhile)

    assert states(world, job) == ("succeeded", None)


def test_the_timeout_stands_still_while_the_machine_sleeps(world: World, job: Job) -> None:
    world.suspends_s = [0, 7200]

    world.carry(job, Service([WORKING, WORKING, WORKING, DONE]), Files())

    assert world.suspended_s == 7200
    assert states(world, job) == ("succeeded", None)


def test_an_endless_wait_that_a_look_is_told_is_bounded(world: World, job: Job) -> None:
    service = Service([Throttled("429", retry_after_s=86_400), DONE])

    world.carry(job, service, Files())

    assert states(world, job) == ("succeeded", None)
    assert max(world.slept) <= 300


def test_a_clip_that_cannot_be_fetched_rests_without_another_payment(
    world: World, job: Job
) -> None:
    service, files = Service([DONE]), Files([DownloadError("500") for _ in range(99)])
    began = world.now_s

    world.carry(job, service, files)

    assert states(world, job) == ("downloading", None)
    assert len(files.fetched) == 10
    assert 600 <= world.now_s - began <= 1900
    assert len(service.submits) == 1


def test_a_dead_link_is_replaced_by_a_fresh_one(world: World, job: Job) -> None:
    fresh = Look(Phase.SUCCEEDED, "succeeded", "{}", output_urls=(URL + "?2",), cost_micros=1)
    files = Files([DownloadError("403", link_dead=True)])

    world.carry(job, Service([DONE, fresh]), files)

    assert states(world, job) == ("succeeded", None)
    assert '"url": "https://files.example.com/clip.mp4?2"' in world.store.job(job.id).files


def test_a_clip_is_lost_only_after_fresh_links_were_dead_for_an_hour(
    world: World, job: Job
) -> None:
    service, files = Service([DONE]), Files()
    dead = [DownloadError("404", link_dead=True) for _ in range(99)]
    files.errors = dead
    world.carry(job, service, files)
    first = states(world, job)
    world.now_s += 3600
    with world.store.database.transaction() as tx:
        tx.run(text("UPDATE jobs SET owner = NULL"))
    again = world.store.adopt()[0]

    world.carry(again, service, files)

    assert first == ("downloading", None)
    assert states(world, job) == ("expired", None)


def test_a_clip_is_not_lost_because_an_old_link_was_dead_long_ago(world: World, job: Job) -> None:
    service, files = Service([DONE]), Files()
    dead = DownloadError("403", link_dead=True)
    files.errors = [dead, *[DownloadError("500") for _ in range(9)]]
    world.carry(job, service, files)
    world.now_s += 3600
    with world.store.database.transaction() as tx:
        tx.run(text("UPDATE jobs SET owner = NULL"))
    files.errors = [dead, dead]  # of the fresh links the first

    world.carry(world.store.adopt()[0], service, files)

    assert states(world, job) == ("succeeded", None)


def test_every_output_of_a_job_is_fetched(world: World, job: Job) -> None:
    two = Look(Phase.SUCCEEDED, "succeeded", "{}", output_urls=(URL, URL + "?b"), cost_micros=1)
    files = Files()

    world.carry(job, Service([two]), files)

    stem = job.name.removesuffix(".mp4")
    assert files.fetched == [job.name, f"{stem}-2.mp4"]


def test_an_answer_that_never_came_is_in_doubt(world: World, job: Job) -> None:
    class Silent(Service):
        async def submit(self, model: str, inputs: Mapping[str, Any]) -> Accepted:
            raise OutcomeUnknown("sent, but no answer came")

    world.carry(job, Silent([DONE]))

    assert states(world, job) == ("in_doubt", None)
    assert world.store.reserved() == 250_000
    assert world.store.attempt(job.attempt_id).slot_until_ms == int(world.now_s * 1000) + 600_000


@dataclass
class Awake(World):
    """A world in which nobody wakes up by himself."""

    asks: bool = False
    carriers: list[Carrier] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        if self.asks:
            self.carriers[0].look_now(["unknown", "a000002"])
        await asyncio.Event().wait()


@dataclass
class AsksMeanwhile(Service):
    """Is asked for another look while it looks."""

    carriers: list[Carrier] = field(default_factory=list)

    async def poll(self, model: str, request_id: str) -> Look:
        for carrier in self.carriers:
            carrier.look_now(["a000002"])
        return await super().poll(model, request_id)


@pytest.mark.parametrize("asks", [True, False], ids=["asleep", "looking"])
def test_a_look_that_is_asked_for_happens_at_once(tmp_path: Path, *, asks: bool) -> None:
    world = Awake(Store(tmp_path), asks=asks)
    world.store.fill(1)
    (job,) = world.store.claim()
    cancelled = Look(Phase.CANCELLED, "cancelled", "{}")
    service = AsksMeanwhile([WAITING, cancelled])

    def prepare(carrier: Carrier) -> None:
        (world.carriers if asks else service.carriers).append(carrier)

    world.carry(job, service, prepare=prepare)

    assert job.attempt_id == "a000002"
    assert states(world, job) == ("cancelled", None)
    assert service.asked == 2
    world.store.check()
    world.store.close()


REFUSED = Look(Phase.FAILED, "failed", "{}", error_code="SAFETY.INPUT.TEXT", error_text="no")
FAILED = Look(Phase.FAILED, "failed", "{}", error_code="INTERNAL", error_text="no")


@pytest.mark.parametrize(
    ("look", "policy_retries", "new_seed", "has_seed", "state", "reseeded", "warned"),
    [
        (REFUSED, 0, False, True, "failed", False, False),
        (REFUSED, 0, True, True, "failed", False, False),
        (REFUSED, 1, False, True, "pending", True, False),
        (REFUSED, 1, False, False, "failed", False, True),
        (FAILED, 1, False, True, "pending", False, False),
        (FAILED, 0, True, True, "pending", True, False),
        (FAILED, 0, True, False, "pending", False, True),
    ],
)
def test_what_is_bought_again_and_with_which_seed(
    world: World,
    job: Job,
    caplog: pytest.LogCaptureFixture,
    look: Look,
    policy_retries: int,
    new_seed: bool,
    has_seed: bool,
    state: str,
    reseeded: bool,
    warned: bool,
) -> None:
    chosen = Settings(policy_retries=policy_retries, new_seed_on_retry=new_seed)
    new = NewSeed({**job.inputs, "seed": 4}, 4) if has_seed else None

    def prepare(carrier: Carrier) -> None:
        carrier.reseed = lambda _: new

    world.carry(job, Service([look]), Files(), settings=chosen, prepare=prepare)

    row = world.store.job(job.id)
    assert (row.state, row.seed) == (state, 4 if reseeded else None)
    assert world.stats.failed == (state == "failed")
    assert any("takes no other seed" in text for text in caplog.messages) is warned


def test_a_model_without_a_seed_is_told_once_and_refused_jobs_are_not_asked_for_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.store.fill(3)
    first, *others = world.store.claim(3)
    service = Service([REFUSED])

    world.carry(first, service, settings=Settings(policy_retries=5), beside=others)

    assert [states(world, one) for one in (first, *others)] == [("failed", "moderation")] * 3
    assert len(service.submits) == 3
    assert len([text for text in caplog.messages if "takes no other seed" in text]) == 1


@pytest.mark.parametrize("mine", [True, False])
def test_only_who_brings_a_job_to_rest_counts_its_verdict(
    world: World, job: Job, mine: bool
) -> None:
    world.limits.halting = Halting(streak=1)
    held = job if mine else replace(job, epoch=job.epoch + 1)  # another has taken it over

    world.carry(held, Service([Look(Phase.FAILED, "failed", "{}")]))

    assert world.limits.paused is mine


# -- when to look --------------------------------------------------------------------------------

KIND = '{"duration":10}'


def knows(*runs_s: float) -> Callable[[Carrier], None]:
    """Let a carrier have seen generations of these lengths."""

    def prepare(carrier: Carrier) -> None:
        for run_s in runs_s:
            carrier.durations.add(MODEL, KIND, int(run_s * 1000))

    return prepare


def of_kind(job: Job) -> Job:
    return replace(job, settings=KIND)


def test_a_job_is_looked_at_first_when_others_had_ended(world: World, job: Job) -> None:
    world.carry(of_kind(job), Service([DONE]), Files(), prepare=knows(*[60.0] * 50))

    assert world.slept == [pytest.approx(60, rel=0.03)]


def test_a_job_that_was_taken_over_is_looked_at_at_once(world: World, job: Job) -> None:
    running = replace(
        of_kind(job),
        state=JobState.RUNNING,
        request_id="r-1",
        accepted_ms=int(world.now_s * 1000),
        is_adopted=True,
    )
    world.store.do(jobs.record_accepted, accepted(job, "r-1"))

    world.carry(running, Service([DONE]), Files(), prepare=knows(*[60.0] * 50))

    assert world.slept == []


@pytest.mark.parametrize(
    ("runs_s", "looks", "is_told"),
    [
        pytest.param([], [WORKING, DONE], True, id="at-once"),
        pytest.param([60.0] * 50, [WORKING, DONE], False, id="somewhere-before-the-first-look"),
        pytest.param([60.0] * 50, [WAITING, WORKING, DONE], True, id="between-two-looks"),
    ],
)
def test_when_a_generation_began_is_stored_only_if_looks_could_tell(
    world: World, job: Job, runs_s: list[float], looks: list[Look], *, is_told: bool
) -> None:
    world.carry(of_kind(job), Service(looks), Files(), prepare=knows(*runs_s))

    assert (world.store.attempt(job.attempt_id).started_ms is not None) == is_told


def test_the_timeout_is_judged_although_the_next_look_would_be_later(
    world: World, job: Job
) -> None:
    began = world.now_s

    world.carry(
        of_kind(job),
        Service([WORKING]),
        settings=Settings(job_timeout_s=10),
        prepare=knows(*[250.0] * 50),
    )

    assert world.now_s - began <= 4 * 10 + 10
    assert states(world, job) == ("running", None)


def test_how_long_a_generation_took_is_learned(world: World, job: Job) -> None:
    learned = []

    def prepare(carrier: Carrier) -> None:
        learned.append(carrier.durations)

    world.carry(of_kind(job), Service([WORKING, DONE]), Files(), prepare=prepare)

    assert learned[0].seen(MODEL, KIND) == 1
    assert world.store.attempt(job.attempt_id).run_ms == pytest.approx(2000, rel=0.2)


def test_a_stated_duration_longer_than_the_job_is_known_is_not_believed(
    world: World, job: Job
) -> None:
    learned = []

    def prepare(carrier: Carrier) -> None:
        learned.append(carrier.durations)

    year = replace(
        DONE,
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
        finished_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    world.carry(of_kind(job), Service([WORKING, year]), Files(), prepare=prepare)

    assert learned[0].schedule(MODEL, KIND).longest_s < 10


def another(world: World) -> Job:
    world.store.add(world.store.batch("other"), [spec_of("other")])
    return world.store.claim(1)[0]


class Hall:
    """Where jobs wait: every sleep lasts until the test ends it, or for ever."""

    def __init__(self) -> None:
        self.asleep: dict[int, asyncio.Future[None]] = {}
        self.slept: list[float] = []
        self.changed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        waiting = self.asleep[len(self.slept)] = asyncio.get_running_loop().create_future()
        self.changed.set()
        await waiting

    async def sleepers(self, count: int) -> None:
        """Wait until so many sleeps have begun in all."""
        while len(self.slept) < count:
            self.changed.clear()
            await self.changed.wait()


def waiting_for(world: World, body: Callable[[Carrier, Hall], Any], service: Service) -> None:
    """Run a test's body beside a carrier whose sleeps do not end."""

    async def run() -> None:
        hall = Hall()
        writer = Writer(world.store.database, on_stuck=print)
        writer.start()
        carrier = world.carrier(writer, service, Files(), sleep=hall.sleep)
        try:
            async with asyncio.timeout(30):
                await body(carrier, hall)
        finally:
            await asyncio.to_thread(writer.close)

    asyncio.run(run())


def test_a_job_can_be_looked_at_at_once_and_the_others_wait_on(world: World, job: Job) -> None:
    other = another(world)

    async def body(carrier: Carrier, hall: Hall) -> None:
        knows(*[60.0] * 50)(carrier)
        first = asyncio.create_task(carrier.carry(of_kind(job)))
        second = asyncio.create_task(carrier.carry(of_kind(other)))
        await hall.sleepers(2)

        carrier.look_now([job.attempt_id, "of-another-worker"])

        await first
        assert not second.done()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)

    service = Service([DONE])
    waiting_for(world, body, service)

    assert service.asked == 1
    assert [states(world, one)[0] for one in (job, other)] == ["succeeded", "running"]


def test_a_job_that_is_just_being_looked_at_is_looked_at_once_more(world: World, job: Job) -> None:
    async def body(carrier: Carrier, hall: Hall) -> None:
        service.then = lambda: carrier.look_now([job.attempt_id])
        await carrier.carry(job)
        assert hall.slept == []

    service = Telling([WORKING, DONE])
    waiting_for(world, body, service)

    assert service.asked == 2
    assert states(world, job) == ("succeeded", None)


@dataclass
class Telling(Service):
    """Does something while it answers its first look."""

    then: Callable[[], None] = lambda: None

    async def poll(self, model: str, request_id: str) -> Look:
        if not self.asked:
            self.then()
        return await super().poll(model, request_id)


def test_what_is_learned_first_changes_the_plans_of_those_that_wait(world: World, job: Job) -> None:
    other = another(world)

    async def body(carrier: Carrier, hall: Hall) -> None:
        knows(200.0)(carrier)
        first = asyncio.create_task(carrier.carry(of_kind(job)))
        second = asyncio.create_task(carrier.carry(of_kind(other)))
        await hall.sleepers(2)

        world.now_s += 10
        hall.asleep[1].set_result(None)

        await asyncio.gather(first, second)
        assert hall.slept == [pytest.approx(hall.slept[0])] * 2
        assert hall.slept[0] > 100

    waiting_for(world, body, Service([DONE]))


def test_ten_thousand_plans_are_made_anew_a_few_in_a_turn(world: World, job: Job) -> None:
    """One ending among ten thousand jobs in flight must not hold up the event loop."""

    async def body(carrier: Carrier, hall: Hall) -> None:
        knows(200.0)(carrier)
        running = replace(
            of_kind(job),
            state=JobState.RUNNING,
            request_id="r-1",
            accepted_ms=int(world.now_s * 1000),
        )
        carriers = [
            asyncio.create_task(carrier.carry(replace(running, id=number, attempt_id=f"a{number}")))
            for number in range(60)
        ]
        await hall.sleepers(60)

        for _ in range(3):  # one after the other: those that wait are gone through once
            carrier._learn(of_kind(job), 100_000)
        cut_short = []
        for _ in range(4):
            cut_short.append(sum(sleeper.cancelled() for sleeper in hall.asleep.values()))
            await asyncio.sleep(0)

        assert cut_short == [25, 50, 60, 60]
        for task in carriers:
            task.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)

    waiting_for(world, body, Service([DONE]))


def test_later_endings_leave_the_plans_as_they_are(world: World, job: Job) -> None:
    other = another(world)

    async def body(carrier: Carrier, hall: Hall) -> None:
        knows(*[200.0] * 20)(carrier)
        first = asyncio.create_task(carrier.carry(of_kind(job)))
        second = asyncio.create_task(carrier.carry(of_kind(other)))
        await hall.sleepers(2)

        hall.asleep[1].set_result(None)

        await first
        assert len(hall.slept) == 2
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)

    waiting_for(world, body, Service([DONE]))


def test_every_look_takes_its_turn(world: World, job: Job) -> None:
    turns = []

    def prepare(carrier: Carrier) -> None:
        turn = carrier.looks.turn

        async def counted() -> None:
            turns.append(1)
            await turn()

        carrier.looks.turn = counted  # type: ignore[method-assign]

    late = replace(DONE, cost_micros=None)
    service = Service([WORKING, late, late, DONE])
    files = Files([DownloadError("403", link_dead=True)])

    world.carry(job, service, files, prepare=prepare)

    assert states(world, job) == ("succeeded", None)
    assert len(turns) == service.asked == 4  # two looks, a fresh link, a late cost
