"""The store thread and a server that breaks off, goes silent, restarts or is only a replica."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pytest
from postgres import PostgresServer
from proxy import Proxy
from sqlalchemy import Connection, event
from store.stored_jobs import (
    NOW,
    Store,
    accepted,
    doubt,
    ended,
    finish,
    generated,
    put_back,
    refusal,
)

from batchgen.store import jobs, workers
from batchgen.store.database import Database
from batchgen.store.statements import text
from batchgen.store.transactions import ServerChanger, Transaction
from batchgen.store.writer import Writer

Kind = Callable[[Store], tuple[Any, Any]]


def _late(store: Store) -> tuple[Any, Any]:
    [job] = store.claim()
    store.do(jobs.record_doubt, doubt(job))
    return jobs.record_accepted, accepted(job)


def _cost(store: Store) -> tuple[Any, Any]:
    [job] = store.running()
    store.do(jobs.record_generated, generated(job))
    return jobs.record_cost, jobs.LateCost(job, "w1", 7, "{}")


def _orphan(store: Store) -> tuple[Any, Any]:
    dead = f"dead{store.query('SELECT count(*) FROM workers')[0][0]}"
    store.worker(dead)
    store.running(worker=dead)
    store.bury(dead)
    return jobs.adopt, jobs.AdoptRequest("w1", store.account.id, 1, downloads=True, now_ms=NOW)


# What a request is made of is there twice, for one that is harmed and one that is not.
KINDS: dict[str, Kind] = {
    "claim": lambda store: (jobs.claim, store.request(1)),
    "accepted": lambda store: (jobs.record_accepted, accepted(store.claim()[0])),
    "accepted late": _late,
    "put back": lambda store: (jobs.put_back, put_back(store.claim()[0], not_before_ms=NOW)),
    "refused": lambda store: (jobs.record_refused, refusal(store.claim()[0])),
    "in doubt": lambda store: (jobs.record_doubt, doubt(store.claim()[0])),
    "word": lambda store: (
        jobs.record_remote_state,
        jobs.RemoteState(store.running()[0], "in_queue", 3, in_progress=True, now_ms=NOW),
    ),
    "timed out": lambda store: (
        jobs.record_timed_out,
        jobs.TimedOut(store.running()[0], NOW),
    ),
    "generated": lambda store: (
        jobs.record_generated,
        generated(store.running()[0], cost_micros=7),
    ),
    "failed": lambda store: (jobs.record_ended, ended(store.running()[0])),
    "again": lambda store: (jobs.record_ended, ended(store.running()[0], retry_at_ms=NOW)),
    "cost": _cost,
    "finish": lambda store: (jobs.finish, finish(store.downloading()[0])),
    "adopt": _orphan,
    "beat": lambda _: (workers.beat, workers.Beat("w1", 30_000)),
}
_MEASURES = {
    "events": "SELECT count(*) FROM events",
    "attempts": "SELECT count(*) FROM attempts",
    "epochs": "SELECT sum(epoch) FROM jobs",
    "retries": "SELECT sum(retries_used) FROM jobs",
    "spent": "SELECT coalesce(sum(spent_micros), 0) FROM spending",
    **{
        state: f"SELECT count(*) FROM jobs WHERE state = '{state}'"
        for state in ("pending", "submitting", "running", "downloading", "succeeded", "failed")
    },
}


def measure(store: Store) -> dict[str, int]:
    query = ", ".join(f"({sql}) AS {name}" for name, sql in _MEASURES.items())
    return {name: int(value) for name, value in store.query(f"SELECT {query}")[0]._mapping.items()}


def told(result: Any) -> Any:
    """Return of a result what does not depend on which job it is about."""
    if isinstance(result, jobs.Claim):
        return len(result.jobs)
    if isinstance(result, workers.Pulse):
        return result.alive
    return len(result) if isinstance(result, tuple) else result


class Line:
    """The way from the store thread to its server, and how to break it once.

    Attributes:
        database: What the store thread uses: by way of the proxy.
        moment: When the connection is lost next, "" for never.
        broken: How often it was.
    """

    def __init__(self, store: Store, server: PostgresServer, proxy: Proxy) -> None:
        name = store.database.url.rpartition("/")[2]
        self.database = Database(server.url(name, port=proxy.port))
        self.moment = ""
        self.broken = 0
        self._store = store
        self._proxy = proxy
        with closing(connected(self.database)) as changer:
            engine = changer.connection.engine
        event.listen(engine, "commit", self._on_commit)
        event.listen(engine, "after_cursor_execute", self._on_statement)

    def _on_statement(self, connection: Connection, _: object, sql: str, *__: object) -> None:
        if self.moment == "in the transaction" and "SET mark" in sql:
            self.moment = ""
            self.terminate(connection)

    def _on_commit(self, connection: Connection) -> None:
        moment, self.moment = self.moment, ""
        if moment == "before COMMIT":
            self.terminate(connection)
        elif moment == "after COMMIT":
            self._proxy.partition(requests=False)
            threading.Thread(target=self._lose_answer, args=(pid_of(connection),)).start()

    def terminate(self, connection: Connection) -> None:
        self._store.query("SELECT pg_terminate_backend(:pid, 5000)", pid=pid_of(connection))
        self.broken += 1

    def _lose_answer(self, pid: int) -> None:
        wait_for_end(self._store, pid)
        self._proxy.cut()
        self._proxy.heal()
        self.broken += 1


def connected(database: Database) -> ServerChanger:
    changer = database.connect_writer()
    assert isinstance(changer, ServerChanger)
    return changer


def pid_of(connection: Connection) -> int:
    raw: Any = connection.connection.driver_connection
    return int(raw.info.backend_pid)


def wait_for_end(store: Store, pid: int) -> None:
    """Return once a connection has no transaction any more."""
    while store.query(
        "SELECT 1 FROM pg_stat_activity WHERE pid = :pid AND state <> 'idle'", pid=pid
    ):
        pass


@pytest.fixture
def line(postgres_store: Store, postgres: PostgresServer) -> Iterator[Line]:
    with Proxy(postgres.port) as proxy:
        made = Line(postgres_store, postgres, proxy)
        yield made
        made.database.close()


@contextmanager
def writing(database: Database, **settings: Any) -> Iterator[Writer]:
    settings = {"on_stuck": lambda _: None, "retry_s": 0.01, **settings}
    writer = Writer(database, worker_id="w1", **settings)
    writer.start()
    try:
        yield writer
    finally:
        writer.close()


def plenty(store: Store, count: int) -> None:
    store.fill(count)
    with store.database.transaction() as tx:
        tx.run(text("UPDATE accounts SET cap = :count"), {"count": count})


@pytest.mark.parametrize("moment", ["in the transaction", "before COMMIT", "after COMMIT"])
def test_a_connection_that_is_lost_does_nothing_twice_and_forgets_nothing(
    postgres_store: Store, line: Line, moment: str
) -> None:
    store = postgres_store
    plenty(store, 60)

    async def main(writer: Writer) -> None:
        for name, kind in KINDS.items():
            found = []
            for harm in ("", moment):
                operation, request = kind(store)
                before, line.moment = measure(store), harm
                result = await asyncio.wait_for(writer.do(operation, request), 60)
                after = measure(store)
                found.append((told(result), {key: after[key] - before[key] for key in after}))
            assert found[0] == found[1], name
            store.check()

    with writing(line.database) as writer:
        asyncio.run(main(writer))

    assert line.broken == len(KINDS)


def test_a_server_that_says_nothing_is_left_as_often_as_it_falls_silent(
    postgres_store: Store, line: Line
) -> None:
    """In COMMIT, and again while the next connection asks whether it landed."""
    store = postgres_store
    store.fill(1)
    [job] = store.downloading()
    silent = [threading.Event(), threading.Event()]
    pids: list[int] = []

    def fall_silent(connection: Connection) -> None:
        if len(pids) < len(silent):
            pids.append(pid_of(connection))
            line._proxy.partition(requests=False)
            silent[len(pids) - 1].set()

    def on_begin(connection: Connection) -> None:
        if pids:
            fall_silent(connection)

    with closing(connected(line.database)) as changer:
        engine = changer.connection.engine
    event.listen(engine, "commit", fall_silent)
    event.listen(engine, "begin", on_begin)

    async def main(writer: Writer) -> bool:
        done = asyncio.ensure_future(writer.do(jobs.finish, finish(job)))
        assert await asyncio.to_thread(silent[0].wait, 30)
        await asyncio.to_thread(wait_for_end, store, pids[0])
        writer.cut_if_hung()
        line._proxy.heal()
        assert await asyncio.to_thread(silent[1].wait, 30)
        assert not done.done()
        writer.cut_if_hung()
        line._proxy.heal()
        return await asyncio.wait_for(done, 60)

    with writing(line.database, hung_after_s=0.0) as writer:
        assert asyncio.run(main(writer)) is True

    assert len(set(pids)) == 2
    assert store.state(job.id) == "succeeded"
    store.check()


def test_a_server_that_answers_in_time_is_not_left(postgres_store: Store) -> None:
    inside, out = threading.Event(), threading.Event()

    def slow(_: Transaction, requests: Sequence[None]) -> list[None]:
        inside.set()
        assert out.wait(30)
        return list(requests)

    async def main(writer: Writer) -> None:
        writer.cut_if_hung()  # nothing is asked
        done = asyncio.ensure_future(writer.do(slow, None))
        assert await asyncio.to_thread(inside.wait, 30)
        writer.cut_if_hung()
        out.set()
        await done
        assert writer.stuck == ""

    stuck: list[str] = []
    with writing(postgres_store.database, on_stuck=stuck.append) as writer:
        asyncio.run(main(writer))
    assert stuck == []


def test_what_waits_while_the_server_restarts_is_all_recorded(
    postgres_store: Store, postgres: PostgresServer
) -> None:
    store = postgres_store
    plenty(store, 50)
    claimed = store.claim(50)
    inside, out = threading.Event(), threading.Event()

    def stay(_: Transaction, requests: Sequence[None]) -> list[None]:
        inside.set()
        assert out.wait(60)
        return list(requests)

    async def main(writer: Writer) -> None:
        blocked = asyncio.ensure_future(writer.do(stay, None))
        assert await asyncio.to_thread(inside.wait, 30)
        facts = [
            asyncio.ensure_future(writer.do(jobs.record_accepted, accepted(job))) for job in claimed
        ]
        await asyncio.sleep(0)  # each hands in its fact
        await asyncio.to_thread(postgres.restart, "immediate")
        out.set()
        await asyncio.wait_for(asyncio.gather(blocked, *facts), 60)

    with writing(store.database) as writer:
        asyncio.run(main(writer))

    assert {row.state for row in store.query("SELECT state FROM jobs")} == {"running"}
    store.check()


def test_the_loser_of_a_deadlock_tries_again(
    postgres_store: Store, postgres: PostgresServer
) -> None:
    store = postgres_store
    store.worker("w2")
    # Who looks for a deadlock first loses it.
    impatient = Database(f"{store.database.url}?options=-c%20deadlock_timeout%3D10ms")
    rename = text("UPDATE workers SET host = :host WHERE id = 'w2'")
    recap = text("UPDATE accounts SET cap = cap + 1")
    held, taken = threading.Event(), threading.Event()
    tries: list[int] = []

    def crossing(tx: Transaction, requests: Sequence[None]) -> list[None]:
        tries.append(1)
        tx.run(recap)
        if len(tries) == 1:
            taken.set()
            waiting = (
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
                "AND wait_event_type = 'Lock'"
            )
            while not store.query(waiting):
                pass
        tx.run(rename, {"host": "mine"})
        return list(requests)

    def cross() -> None:
        with store.database.transaction() as tx:
            tx.run(rename, {"host": "theirs"})
            held.set()
            assert taken.wait(30)
            tx.run(recap)

    async def main(writer: Writer) -> None:
        other = asyncio.create_task(asyncio.to_thread(cross))
        assert await asyncio.to_thread(held.wait, 30)
        await asyncio.wait_for(writer.do(crossing, None), 60)
        await other

    with writing(impatient) as writer:
        asyncio.run(main(writer))
    impatient.close()

    assert len(tries) >= 2
    assert store.query("SELECT cap FROM accounts")[0].cap == 4 + 2
    assert store.query("SELECT host FROM workers WHERE id = 'w2'")[0].host == "mine"


_FAILOVER = (
    "CREATE TABLE failover (under_way boolean)",
    "INSERT INTO failover VALUES (true)",
    """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT under_way FROM failover) THEN
    RAISE 'cannot execute UPDATE in a read-only transaction' USING ERRCODE = '25006';
    END IF; RETURN NEW; END $$
    """,
    "CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION refuse()",
)


def test_a_replica_is_waited_for_until_it_is_the_primary(postgres_store: Store) -> None:
    """Between a failover and its end, a server refuses to write."""
    store = postgres_store
    store.fill(1)
    [job] = store.claim()
    with store.database.transaction() as tx:
        for statement in _FAILOVER:
            tx.connection.exec_driver_sql(statement)
    said: list[str] = []

    def end_failover(message: str) -> None:
        said.append(message)
        with store.database.transaction() as tx:
            tx.connection.exec_driver_sql("UPDATE failover SET under_way = false")

    async def main(writer: Writer) -> None:
        fact = writer.do(jobs.record_accepted, accepted(job))
        await asyncio.wait_for(fact, 60)

    with writing(store.database, on_stuck=end_failover) as writer:
        asyncio.run(main(writer))

    assert len(said) == 1
    assert "name the primary" in said[0]
    assert store.state(job.id) == "running"
    store.check()


def test_an_answer_with_a_nul_is_recorded(postgres_store: Store) -> None:
    store = postgres_store
    store.fill(1)
    [job] = store.claim()
    fact = jobs.AcceptedFact(job, "req-1", '{"a":\0"b\\u0000"}', NOW)

    async def main(writer: Writer) -> None:
        await asyncio.wait_for(writer.do(jobs.record_accepted, fact), 60)

    with writing(store.database) as writer:
        asyncio.run(main(writer))

    assert store.attempt(job.attempt_id).submit_raw == '{"a":\N{REPLACEMENT CHARACTER}"b\\u0000"}'


def test_a_connection_that_has_ended_by_itself_needs_no_cut(postgres_store: Store) -> None:
    """Else the task that frees the store thread would end, and free it no more."""
    database = postgres_store.database
    changer = connected(database)
    raw: Any = changer.connection.connection.driver_connection

    for end in (lambda: database.backend.cut(changer), raw.close, changer.close):
        end()
        database.backend.cut(changer)

    assert raw.closed
