"""What a session does where only the order of two things decides it."""

import asyncio
import signal
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError
from store.stored_jobs import NOW, SLOT_MS, Store, doubt, put_back

from batchgen.domain.errors import BucketUnreachable, Exit, Rejected
from batchgen.domain.jobs import Clip
from batchgen.downloads.destination import Destination
from batchgen.downloads.destinations import Destinations
from batchgen.providers.interface import Accepted, Look, Phase, Provider
from batchgen.runner import loop, rescue
from batchgen.runner.job import Settings
from batchgen.runner.loop import Session
from batchgen.runner.view import View
from batchgen.store import accounts, jobs, sharing
from batchgen.store.database import Database
from batchgen.store.scope import Scope
from batchgen.store.transactions import Transaction
from batchgen.store.writer import Writer


class Refusing:
    """Refuses every submit."""

    def __init__(self) -> None:
        self.submits = 0

    async def submit(self, model: str, inputs: dict[str, Any]) -> None:
        self.submits += 1
        raise Rejected("no")


def session_of(store: Store, service: object) -> Session:
    return Session(
        database=store.database,
        provider=cast(Provider, service),
        fetcher=None,
        account_id=store.account.id,
        scope=Scope(None, 10**9),
        settings=Settings(),
        destinations=Destinations(store.path.parent),
        free_bytes=lambda: 2**40,
        say=print,
    )


def test_what_another_worker_gives_back_between_two_looks_is_not_left(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, url=postgres_url)
    store.fill(1)
    held = store.claim()
    look = sharing.elsewhere

    def elsewhere(tx: Transaction, views: Sequence[sharing.View]) -> list[int]:
        if held:
            store.do(jobs.put_back, put_back(held.pop()))
        return look(tx, views)

    monkeypatch.setattr(sharing, "elsewhere", elsewhere)
    service = Refusing()

    asyncio.run(session_of(store, service).run())

    assert service.submits == 1
    store.close()


class Accepting:
    """Accepts every submit."""

    async def submit(self, model: str, inputs: dict[str, Any]) -> Accepted:
        return Accepted("request-1", "{}")


@pytest.mark.parametrize("lands", [False, True], ids=["given up", "landed"])
def test_an_id_whose_commit_is_given_up_stays_in_the_rescue_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lands: bool
) -> None:
    store = Store(tmp_path)
    store.fill(1)
    given_up = threading.Event()
    give_up, record = Writer.give_up, jobs.record_accepted

    def give_up_and_tell(writer: Writer) -> None:
        give_up(writer)
        given_up.set()

    def locked(tx: Transaction, facts: Sequence[jobs.AcceptedFact]) -> list[None]:
        if not given_up.is_set():
            for _ in range(2):  # told to leave at once, before the first try has failed
                signal.raise_signal(signal.SIGINT)
            assert given_up.wait(30)
        if lands:
            return record(tx, facts)
        raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))

    monkeypatch.setattr(Writer, "give_up", give_up_and_tell)
    monkeypatch.setattr(jobs, "record_accepted", locked)

    asyncio.run(session_of(store, Accepting()).run())

    kept = [rescue.read(path).pairs for path in tmp_path.glob("*-rescue-*")]
    [attempt] = store.query("SELECT id, request_id FROM attempts")
    if lands:
        assert (kept, attempt.request_id) == ([], "request-1")
    else:
        assert (kept, attempt.request_id) == ([((attempt.id, "request-1"),)], None)
    store.close()


@dataclass
class Filling:
    """Makes clips while the disk fills up, the first one only once the session has noticed."""

    room_for: int  # so many jobs
    session: Session | None = None
    submits: int = 0
    fetched: list[str] = field(default_factory=list)

    def free_bytes(self) -> int:
        return 2**30 - 1 if self.submits >= self.room_for else 2**30

    async def submit(self, model: str, inputs: dict[str, Any]) -> Accepted:
        self.submits += 1
        return Accepted(f"request-{self.submits}", "{}")

    async def poll(self, model: str, request_id: str) -> Look:
        assert self.session is not None
        if not self.session.limits.paused:
            return Look(Phase.IN_PROGRESS, "in_progress", "{}")
        return Look(Phase.SUCCEEDED, "succeeded", "{}", output_urls=("https://x/1.mp4",))

    async def fetch(self, url: str, *, into: Destination, name: str) -> Clip:
        self.fetched.append(name)
        return Clip(path=name, url=url, sha256="0" * 64, size_bytes=1)


@pytest.mark.parametrize("bought", [0, 1], ids=["from the start", "later"])
def test_without_room_for_clips_nothing_more_is_bought_and_what_is_paid_for_is_fetched(
    tmp_path: Path, bought: int
) -> None:
    store = Store(tmp_path)
    store.fill(3)
    disk = Filling(room_for=bought)
    session = session_of(store, disk)
    disk.session = session
    session.fetcher = disk
    session.free_bytes = disk.free_bytes
    session.settings = Settings(jobs=1)
    if bought:  # else it looks before it pays, not at its first beat
        session.sleep = lambda _: asyncio.sleep(0.001)

    outcome = asyncio.run(asyncio.wait_for(session.run(), 30))

    assert [reason.exit_code for reason in outcome.reasons] == [Exit.OUTPUT]
    assert "(1,023 MiB)" in outcome.reasons[0].message
    assert (disk.submits, len(disk.fetched)) == (bought, bought)
    states = [row.state for row in store.query("SELECT state FROM jobs ORDER BY id")]
    assert states == ["succeeded"] * bought + ["pending"] * (3 - bought)
    store.check()
    store.close()


@dataclass
class Silent:
    """Prepares nothing while its bucket is silent: so many times, or for ever."""

    silences: int
    is_done: bool = False

    def is_plain(self, job: jobs.Job) -> bool:
        return True

    def is_ready(self, inputs_json: str, uploads: str | None) -> bool:
        return self.is_done

    def prepare(self, job: jobs.Job) -> None:
        self.silences -= 1
        if self.silences >= 0:
            raise BucketUnreachable("s3://in does not answer")
        self.is_done = True

    def sent(self, job: jobs.Job) -> dict[str, Any]:
        raise AssertionError("a plain job is sent as it is")


def with_sender(store: Store, service: object, sender: Silent) -> tuple[Session, list[str]]:
    said = list[str]()
    session = session_of(store, service)
    session.sender, session.say = sender, said.append
    session.sleep = lambda _: asyncio.sleep(0.001)
    return session, said


def test_a_bucket_for_inputs_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fill(2)
    service = Refusing()
    session, said = with_sender(store, service, Silent(3))

    outcome = asyncio.run(session.run())

    assert (service.submits, outcome.reasons) == (2, [])
    assert [line for line in said if "s3://in" in line] == [
        "s3://in does not answer: jobs that need it wait until it does"
    ]
    assert "the bucket for input files answers again" in said
    store.close()


def test_a_bucket_for_inputs_is_waited_for_no_longer_than_an_outage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fill(2)
    service = Refusing()
    session, _ = with_sender(store, service, Silent(10**9))
    session.settings = Settings(max_outage_s=0.05)

    outcome = asyncio.run(session.run())

    assert service.submits == 0
    assert [reason.exit_code for reason in outcome.reasons] == [Exit.OUTPUT]
    assert "s3://in does not answer" in outcome.reasons[0].message
    assert {row.state for row in store.query("SELECT state FROM jobs")} == {"pending"}
    store.close()


class Finishing:
    """Makes every clip at once; of those under way, one is received and all others are synced."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.submits = 0
        self.under_way = 0
        self.seen: set[tuple[int, int]] = set()  # how many are under way, how many are shown
        self._synced = asyncio.Barrier(3)

    async def submit(self, model: str, inputs: dict[str, Any]) -> Accepted:
        self.submits += 1
        return Accepted(f"request-{self.submits}", "{}")

    async def poll(self, model: str, request_id: str) -> Look:
        return Look(Phase.SUCCEEDED, "succeeded", "{}", output_urls=("https://x/1.mp4",))

    async def fetch(self, url: str, *, into: Destination, name: str) -> Clip:
        assert self.session is not None
        self.under_way += 1
        self.seen.add((self.under_way, self.session.stats.downloading))
        await self._synced.wait()
        self.under_way -= 1
        return Clip(path=name, url=url, sha256="0" * 64, size_bytes=1)


def test_the_next_clips_are_fetched_while_those_that_have_arrived_are_synced(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    store.fill(6)

    async def run() -> Finishing:
        disk = Finishing()
        session = disk.session = session_of(store, disk)
        session.fetcher = disk
        session.settings = Settings(jobs=6, download_jobs=1)
        async with asyncio.timeout(60):  # else it would wait for ever
            await session.run()
        return disk

    disk = asyncio.run(run())

    assert disk.seen == {(1, 1), (2, 1), (3, 1)}
    assert {row.state for row in store.query("SELECT state FROM jobs")} == {"succeeded"}
    store.close()


def test_nothing_more_is_waited_for_once_nothing_more_is_bought(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fill(2)
    session, _ = with_sender(store, Refusing(), Silent(10**9))

    def say(said: str) -> None:
        if "s3://in" in said:
            session.limits.pause(Exit.NO_BALANCE, "no money")

    session.say = say

    outcome = asyncio.run(asyncio.wait_for(session.run(), 60))

    assert [reason.message for reason in outcome.reasons] == ["no money"]
    assert {row.state for row in store.query("SELECT state FROM jobs")} == {"pending"}
    store.close()


class Unhurried(Accepting):
    """Has the account's rate lifted while its first job is waited for; a second one ends it all."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.submits = 0

    async def submit(self, model: str, inputs: dict[str, Any]) -> Accepted:
        self.submits += 1
        if self.submits == 2:
            signal.raise_signal(signal.SIGINT)
        return Accepted(f"request-{self.submits}", "{}")

    async def poll(self, model: str, request_id: str) -> Look:
        await asyncio.to_thread(set_rate, self._store, None)
        return Look(Phase.IN_PROGRESS, "in_progress", "{}")


def set_rate(store: Store, rate_per_s: float | None) -> None:
    # Not `store.database`: that connection is the store thread's.
    with closing(Database(str(store.path))) as database, database.transaction() as tx:
        accounts.set_rate(tx, store.account, rate_per_s)


def test_what_is_heard_wakes_a_run_in_which_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_KEEP_S", 10**6)
    store = Store(tmp_path)
    store.fill(2)
    set_rate(store, 0.0001)
    service = Unhurried(store)

    async def body() -> None:
        async with asyncio.timeout(30):
            await session_of(store, service).run()

    asyncio.run(body())

    assert service.submits == 2
    store.close()


def test_slots_that_doubts_keep_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, cap=1)
    store.fill(2)
    [job] = store.claim()
    store.do(jobs.record_doubt, doubt(job))
    session = session_of(store, Refusing())
    session.now_ms = lambda: NOW
    seen: list[View] = []

    async def wait(self: Session, seconds: float | None) -> None:
        seen.append(self.view(0))
        signal.raise_signal(signal.SIGINT)
        await self._wake.wait()

    monkeypatch.setattr(Session, "_wait", wait)
    asyncio.run(session.run())

    assert (seen[0].doubts, seen[0].doubts_for_s) == (1, SLOT_MS / 1000)
    session._held[job.id] = job  # with something in flight the run goes on meanwhile
    assert session.view(0).doubts == 0
    store.close()
