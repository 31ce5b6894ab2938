"""The thread that hears what was changed from elsewhere."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from store.stored_jobs import Store

from batchgen.domain.errors import StoreError
from batchgen.runner import listener as listening
from batchgen.runner.listener import Listener, Watch, changes
from batchgen.store import accounts, control
from batchgen.store.control import Snapshot
from batchgen.store.statements import text

Change = Callable[[], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A job database of each kind."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    made = Store(tmp_path, url=url)
    yield made
    made.close()


def set_cap(store: Store, cap: int) -> None:
    with store.database.transaction() as tx:
        accounts.set_cap(tx, store.account, cap)


def caps_heard(store: Store, *steps: Change) -> list[tuple[int, int]]:
    """Do one step after the other, each once the one before was heard; return what was told."""

    async def body() -> list[tuple[int, int]]:
        heard: list[tuple[int, int]] = []
        news = asyncio.Event()

        def hear(was: Snapshot, now: Snapshot) -> None:
            heard.append((was.cap, now.cap))
            news.set()

        listener = Listener(
            store.database,
            store.account.id,
            Snapshot(cap=4),
            heard=hear,
            failed=lambda error: pytest.fail(repr(error)),
            every_s=0.01,
        )
        listener.start()
        async with asyncio.timeout(30):
            for step in steps:
                news.clear()
                await asyncio.to_thread(step)
                await news.wait()
        await listener.end()
        return heard

    return asyncio.run(body())


def test_each_change_is_heard_once(store: Store) -> None:
    found = caps_heard(store, lambda: set_cap(store, 5), lambda: set_cap(store, 2))

    assert found == [(4, 5), (5, 2)]


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
def test_it_hears_again_after_its_connection_was_lost(store: Store) -> None:

    def cut() -> None:
        with store.database.transaction() as tx:
            tx.run(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        set_cap(store, 6)

    assert caps_heard(store, lambda: set_cap(store, 5), cut) == [(4, 5), (5, 6)]


def test_it_hears_again_once_the_job_database_can_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = control.snapshot
    refusals = [StoreError("locked"), StoreError("locked")]

    def unread(tx: object, account_id: int) -> Snapshot:
        if refusals:
            raise refusals.pop()
        return looks(tx, account_id)  # type: ignore[arg-type]

    monkeypatch.setattr(control, "snapshot", unread)

    assert caps_heard(store, lambda: set_cap(store, 5)) == [(4, 5)]


def test_a_look_that_hangs_keeps_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, released = threading.Event(), threading.Event()

    def hang(*_: object) -> Snapshot:
        hangs.set()
        released.wait(30)
        return Snapshot(cap=9)

    monkeypatch.setattr(control, "snapshot", hang)
    monkeypatch.setattr(listening, "_LEFT_AFTER_S", 0)
    heard: list[Snapshot] = []

    async def body() -> bool:
        listener = Listener(
            store.database,
            store.account.id,
            Snapshot(cap=4),
            heard=lambda _, now: heard.append(now),
            failed=lambda error: pytest.fail(repr(error)),
            every_s=0,
        )
        listener.start()
        await asyncio.to_thread(hangs.wait, 30)
        await listener.end()
        return released.is_set()

    waited = asyncio.run(body())
    released.set()

    assert hangs.is_set()
    assert not waited
    assert heard == []


def test_an_error_that_no_look_should_meet_is_told(
    store: Store,
) -> None:
    async def body() -> BaseException:
        told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        listener = Listener(
            store.database,
            10**6,  # no such account
            Snapshot(cap=4),
            heard=lambda *_: None,
            failed=told.set_result,
            every_s=0,
        )
        listener.start()
        async with asyncio.timeout(30):
            return await told

    assert isinstance(asyncio.run(body()), LookupError)


KNOWN = Snapshot(cap=4, budgets={"night": 500_000})


@pytest.mark.parametrize(
    ("was", "now", "lines"),
    [
        pytest.param(KNOWN, Snapshot(cap=4, budgets={"night": 500_000}, pending=9), [], id="work"),
        pytest.param(
            KNOWN,
            Snapshot(cap=8, rate_per_s=0.5, budgets={"day": 1}),
            [
                "jobs in flight: 4 → 8",
                "submits a second: no bound → 0.5",
                "budget of batch day: none → $0.0000",
                "budget of batch night: $0.50 → none",
            ],
            id="everything",
        ),
        pytest.param(
            Snapshot(4), Snapshot(4, auto_max=32), ["jobs in flight: 4 → auto, up to 32"], id="auto"
        ),
        pytest.param(Snapshot(4, auto_max=32), Snapshot(9, auto_max=32), [], id="it-moves"),
        pytest.param(
            Snapshot(9, auto_max=32),
            Snapshot(2),
            ["jobs in flight: auto, up to 32 → 2"],
            id="fixed",
        ),
    ],
)
def test_only_what_a_person_has_changed_is_said(
    was: Snapshot, now: Snapshot, lines: Sequence[str]
) -> None:
    assert changes(was, now) == [f"{line}, set from elsewhere" for line in lines]


def test_whoever_watches_hears_where_the_batches_stand_once_each_time(store: Store) -> None:
    batch = store.fill(2)
    told: list[control.Standing] = []

    async def body() -> None:
        news = asyncio.Event()

        def stood(now: control.Standing) -> None:
            told.append(now)
            news.set()

        with store.database.reading() as tx:
            known = control.snapshot(tx, store.account.id)
        listener = Listener(
            store.database,
            store.account.id,
            known,
            heard=lambda was, now: None,
            failed=lambda error: pytest.fail(repr(error)),
            watch=Watch((batch,), stood),
            every_s=0.01,
        )
        listener.start()
        async with asyncio.timeout(30):
            await news.wait()
            news.clear()
            await asyncio.to_thread(store.claim)
            await news.wait()
        await listener.end()

    asyncio.run(body())

    assert [dict(one.counts) for one in told] == [
        {"pending": 2},
        {"pending": 1, "submitting": 1},
    ]
