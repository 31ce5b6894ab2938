"""The store thread: group commit, what it promises to a waiter, and how it insists."""

import asyncio
import random
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event
from store.stored_jobs import Store, accepted, doubt, finish, generated

from batchgen.domain.errors import StoreError
from batchgen.store import jobs
from batchgen.store.database import Database
from batchgen.store.payloads import unpacked
from batchgen.store.statements import text
from batchgen.store.transactions import FileChanger, ServerChanger, Transaction
from batchgen.store.writer import Conflict, Writer


@contextmanager
def writing(database: Database, *, retry_s: float = 0.01) -> Iterator[tuple[Writer, list[str]]]:
    said: list[str] = []
    writer = Writer(database, on_stuck=said.append, retry_s=retry_s)
    writer.start()
    try:
        yield writer, said
    finally:
        writer.close()


class Door:
    """An operation that keeps the store thread inside a transaction until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _tx: Transaction, requests: Sequence[None]) -> list[None]:
        self.entered.set()
        assert self.opened.wait(30)
        return [None] * len(requests)


async def entered(door: Door) -> None:
    assert await asyncio.to_thread(door.entered.wait, 30)


def count_commits(database: Database, commits: list[int]) -> None:
    """Have each commit of the writing connection added."""
    with closing(database.connect_writer()) as changer:
        if isinstance(changer, ServerChanger):
            event.listen(changer.connection.engine, "commit", lambda _: commits.append(1))
        elif isinstance(changer, FileChanger):
            changer.file.set_trace_callback(
                lambda said: commits.append(1) if said == "COMMIT" else None
            )


def test_many_changes_cost_one_commit(store: Store) -> None:
    store.fill(40)
    with store.database.transaction() as tx:
        tx.run(text("UPDATE accounts SET cap = 40"))
    claimed = store.claim(40)
    commits: list[int] = []
    door = Door()

    async def main(writer: Writer) -> None:
        count_commits(store.database, commits)
        blocked = asyncio.ensure_future(writer.do(door, None))
        await entered(door)
        facts = [
            asyncio.ensure_future(writer.do(jobs.record_accepted, accepted(job))) for job in claimed
        ]
        await asyncio.sleep(0)  # each hands in its fact while the thread is busy
        assert not any(fact.done() for fact in facts)
        door.opened.set()
        await asyncio.gather(blocked, *facts)

    with writing(store.database) as (writer, _):
        asyncio.run(main(writer))

    assert len(commits) == 2
    store.check()
    assert {row.state for row in store.query("SELECT state FROM jobs")} == {"running"}


def test_the_waiters_of_one_commit_go_on_a_few_in_a_turn(sqlite_store: Store) -> None:
    many = 3 * 16 + 5
    door = Door()
    in_a_turn: list[int] = []

    async def main(writer: Writer) -> None:
        first = asyncio.create_task(writer.do(door, None))
        await entered(door)
        others = [asyncio.create_task(writer.do(door, None)) for _ in range(many)]
        await asyncio.sleep(0)
        door.opened.set()
        before = 0
        while before < many:
            await asyncio.sleep(0)
            done = sum(one.done() for one in others)
            in_a_turn.append(done - before)
            before = done
        await first

    with writing(sqlite_store.database) as (writer, _):
        asyncio.run(main(writer))

    assert max(in_a_turn) == 16


def test_a_waiter_is_told_only_after_the_commit(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]

    async def main(writer: Writer) -> str:
        await writer.do(jobs.record_accepted, accepted(job))
        return store.state(job.id)

    with writing(store.database) as (writer, _):
        assert asyncio.run(main(writer)) == "running"


def test_a_group_with_unusual_ones_is_done_singly_and_each_gets_its_own_answer(
    store: Store,
) -> None:
    store.fill(4)
    first, second, third, fourth = store.downloading(4)
    store.do(jobs.finish, finish(second))
    door = Door()

    async def main(writer: Writer) -> list[object]:
        blocked = asyncio.ensure_future(writer.do(door, None))
        await entered(door)
        waiting = [
            asyncio.ensure_future(writer.do(jobs.finish, finish(job)))
            for job in (first, second, third, fourth)
        ]
        await asyncio.sleep(0)
        door.opened.set()
        await blocked
        return list(await asyncio.gather(*waiting))

    with writing(store.database) as (writer, _):
        assert asyncio.run(main(writer)) == [True, False, True, True]
    store.check()


def test_late_and_usual_answers_of_one_group_are_all_recorded(store: Store) -> None:
    store.fill(3)
    first, late, third = store.claim(3)
    store.do(jobs.record_doubt, doubt(late))
    door = Door()

    async def main(writer: Writer) -> None:
        blocked = asyncio.ensure_future(writer.do(door, None))
        await entered(door)
        facts = [
            asyncio.ensure_future(writer.do(jobs.record_accepted, accepted(job)))
            for job in (first, late, third)
        ]
        await asyncio.sleep(0)
        door.opened.set()
        await asyncio.gather(blocked, *facts)

    with writing(store.database) as (writer, _):
        asyncio.run(main(writer))
    store.check()
    assert {row.state for row in store.query("SELECT state FROM jobs")} == {"running"}


def no_such_table(tx: Transaction, requests: Sequence[None]) -> list[None]:
    tx.run(text("UPDATE nothing SET x = 1"))
    return [None] * len(requests)


def broken(_tx: Transaction, _requests: Sequence[None]) -> list[None]:
    raise ZeroDivisionError("a mistake in the program")


def test_an_error_of_one_does_not_sink_the_others(store: Store) -> None:
    store.fill(2)
    good, bad = store.claim(2)
    door = Door()

    async def main(writer: Writer) -> list[object]:
        blocked = asyncio.ensure_future(writer.do(door, None))
        await entered(door)
        waiting = [
            asyncio.ensure_future(writer.do(no_such_table, None)),
            asyncio.ensure_future(writer.do(jobs.record_accepted, accepted(good, "same"))),
            asyncio.ensure_future(writer.do(broken, None)),
            asyncio.ensure_future(writer.do(jobs.record_accepted, accepted(bad, "same"))),
        ]
        await asyncio.sleep(0)
        door.opened.set()
        await blocked
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    with writing(store.database) as (writer, said):
        answers = asyncio.run(main(writer))

    assert [type(answer) for answer in answers] == [
        StoreError,
        type(None),
        ZeroDivisionError,
        Conflict,
    ]
    assert said == []
    assert (store.state(good.id), store.state(bad.id)) == ("running", "submitting")
    store.check()


def test_a_cancelled_coroutine_does_not_take_its_change_back(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    door = Door()

    async def main(writer: Writer) -> None:
        blocked = asyncio.ensure_future(writer.do(door, None))
        await entered(door)
        fact = asyncio.ensure_future(writer.do(jobs.record_accepted, accepted(job)))
        await asyncio.sleep(0)
        fact.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fact
        door.opened.set()
        await blocked

    with writing(store.database) as (writer, _):
        asyncio.run(main(writer))

    assert store.state(job.id) == "running"


def test_every_change_is_tried_until_it_lands(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fill(2)
    [job] = store.running(1)
    store.close()
    database = Database(str(store.path), busy_timeout_ms=10)
    locker = sqlite3.connect(store.path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")

    async def main(writer: Writer, stuck: asyncio.Event) -> None:
        fact = asyncio.ensure_future(writer.do(jobs.record_generated, generated(job)))
        waiting = asyncio.ensure_future(stuck.wait())
        await asyncio.wait({fact, waiting}, return_when=asyncio.FIRST_COMPLETED)
        assert waiting.done()
        assert "locked" in writer.stuck
        assert not fact.done()
        claim = asyncio.ensure_future(writer.do(jobs.claim, store.request(1)))
        locker.execute("ROLLBACK")
        assert await fact is True
        assert len((await claim).jobs) == 1
        assert writer.stuck == ""

    async def with_writer() -> list[str]:
        loop, stuck, said = asyncio.get_running_loop(), asyncio.Event(), []

        def on_stuck(message: str) -> None:
            said.append(message)
            loop.call_soon_threadsafe(stuck.set)

        writer = Writer(database, on_stuck=on_stuck, retry_s=0.01)
        writer.start()
        try:
            await main(writer, stuck)
        finally:
            writer.close()
        return said

    said = asyncio.run(with_writer())

    assert len(said) == 1  # said once, however often it is tried
    assert store.state(job.id) == "downloading"
    store.check()
    locker.close()
    database.close()
    store.close()


def test_a_full_disk_is_waited_out(sqlite_store: Store) -> None:
    sqlite_store.fill(1)
    job = sqlite_store.running()[0]
    raw = random.Random(1).randbytes(100_000).hex()
    result = jobs.Generated(job, "w1", (), None, None, raw, 1)
    with sqlite_store.database.transaction() as tx:
        pages = tx.value(text("PRAGMA page_count"))
        tx.value(text(f"PRAGMA max_page_count = {pages}"))

    async def with_writer() -> list[str]:
        loop, stuck, said = asyncio.get_running_loop(), asyncio.Event(), []

        def on_stuck(message: str) -> None:
            said.append(message)
            # The store thread is the connection's owner: make room from there.
            with sqlite_store.database.transaction() as tx:
                tx.value(text("PRAGMA max_page_count = 1000000"))
            loop.call_soon_threadsafe(stuck.set)

        writer = Writer(sqlite_store.database, on_stuck=on_stuck, retry_s=0.01)
        writer.start()
        try:
            assert await writer.do(jobs.record_generated, result) is True
        finally:
            writer.close()
        assert stuck.is_set()
        return said

    said = asyncio.run(with_writer())

    assert len(said) == 1
    assert "disk is full" in said[0]
    assert unpacked(sqlite_store.attempt(job.attempt_id).result_raw) == raw
    sqlite_store.check()


def test_what_was_handed_in_is_committed_before_the_thread_ends(store: Store) -> None:
    store.fill(3)
    claimed = store.claim(3)

    async def main(writer: Writer) -> None:
        door = Door()
        blocked = asyncio.ensure_future(writer.do(door, None))
        await entered(door)
        facts = [
            asyncio.ensure_future(writer.do(jobs.record_accepted, accepted(job))) for job in claimed
        ]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(writer.close))
        door.opened.set()
        await asyncio.gather(blocked, closing, *facts)

    writer = Writer(store.database, on_stuck=lambda _: None)
    writer.start()
    asyncio.run(main(writer))

    assert {row.state for row in store.query("SELECT state FROM jobs")} == {"running"}


def test_a_database_that_cannot_be_opened_is_told_to_every_waiter(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "nowhere" / "batchgen.db"))

    async def main(writer: Writer) -> None:
        with pytest.raises(StoreError, match="does not exist"):
            await writer.do(broken, None)

    with writing(database) as (writer, _):
        asyncio.run(main(writer))
