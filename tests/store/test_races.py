"""Two transactions at once: one is held open while the other runs into it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from store.stored_jobs import (
    EST,
    NOW,
    SLOT_MS,
    Store,
    accepted,
    doubt,
    ended,
    finish,
    generated,
    put_back,
    refusal,
    spec_of,
)
from store.test_step_back import told

from batchgen import planning
from batchgen.domain import adapting
from batchgen.domain.states import JobState
from batchgen.planning import Verdict, storing
from batchgen.store import accounts, after_restore, by_hand, imports, jobs, workers
from batchgen.store.after_restore import Became
from batchgen.store.database import Database
from batchgen.store.journal import Entry
from batchgen.store.scope import Scope
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

T = TypeVar("T")
Step = Callable[[Transaction], T]

_WAITS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
)


class Other:
    """A transaction of another process: a connection and a thread of its own."""

    def __init__(self, store: Store, step: Step[Any]) -> None:
        self._store = store
        self._result: Future[Any] = Future()
        self._begins = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(step,), daemon=True)
        self._thread.start()
        assert self._begins.wait(30)

    def _work(self, step: Step[Any]) -> None:
        try:
            with closing(Database(self._store.database.url)) as database:
                database.exists()  # connects, where there is a server
                self._begins.set()
                with database.transaction() as tx:
                    result = step(tx)
            self._result.set_result(result)
        except BaseException as error:  # noqa: BLE001 - told to the test
            self._result.set_exception(error)

    def is_stopped(self) -> bool:
        """Whether it waits for a lock; on SQLite, where nobody can see it, it is taken to."""
        if self._store.database.path is not None:
            return not self._result.done()
        while not self._result.done():
            with self._store.database.reading() as tx:
                if tx.value(_WAITS):
                    return True
        return False

    def result(self) -> Any:
        return self._result.result(60)


def collide(store: Store, first: Step[T], second: Step[Any], *, waits: bool = True) -> Any:
    """Do one transaction while the other, all done but its commit, is open; return both results.

    Args:
        store: Where.
        first: Holds what it has locked.
        second: Begins when the first has done all but its commit.
        waits: Whether the second must wait for the commit of the first, on PostgreSQL.
    """
    with store.database.transaction() as tx:
        result = first(tx)
        other = Other(store, second)
        if store.database.path is not None:
            assert other.is_stopped()
        elif waits:
            assert other.is_stopped(), other.result()
        else:
            other.result()
    found = other.result()
    store.check()
    return result, found


def claiming(store: Store, worker: str, wanted: int = 1, **changes: Any) -> Step[jobs.Claim]:
    request = store.request(wanted, worker=worker, **changes)
    return lambda tx: jobs.claim(tx, [request])[0]


def doing(operation: Any, request: Any) -> Step[Any]:
    return lambda tx: operation(tx, [request])[0]


def deciding(decision: Any, job_id: int, *more: Any) -> Step[by_hand.Outcome]:
    return lambda tx: decision(tx, job_id, *more, now_ms=NOW)


def burying(store: Store, worker: str) -> Step[int | None]:
    with store.database.transaction() as tx:
        tx.run(text("UPDATE workers SET expires_ms = 0 WHERE id = :id"), {"id": worker})
    return lambda tx: workers.bury(tx, worker, slot_ms=SLOT_MS, now_ms=NOW)


def marking(worker: str, step: Step[T]) -> Step[T]:
    """Do what the store thread does first: lock the worker's own row."""

    def marked(tx: Transaction) -> T:
        tx.run(text("UPDATE workers SET mark = 'm' WHERE id = :id"), {"id": worker})
        return step(tx)

    return marked


def adopting(store: Store, worker: str) -> Step[tuple[jobs.Job, ...]]:
    request = jobs.AdoptRequest(worker, store.account.id, 10, downloads=True, now_ms=NOW)
    return doing(jobs.adopt, request)


@pytest.fixture
def two(store: Store) -> Store:
    """A job database with two workers, and four jobs."""
    store.worker("w2")
    store.fill(4)
    return store


def set_account(store: Store, **values: Any) -> Step[int]:
    columns = ", ".join(f"{name} = :{name}" for name in values)
    statement = text(f"UPDATE accounts SET {columns} WHERE id = {store.account.id}")
    return lambda tx: tx.run(statement, values)


def now_set(store: Store, **values: Any) -> None:
    with store.database.transaction() as tx:
        set_account(store, **values)(tx)


PROMPT = adapting.dump(adapting.State(cap=0, pace=1000.0))
"""Learned before: the rate is no matter."""


# -- claims: cap, budget, rate, freeze, pause ----------------------------------------------------


def test_two_claim_the_last_slot_of_the_cap(two: Store) -> None:
    two.running(3)

    first, second = collide(two, claiming(two, "w1"), claiming(two, "w2"))

    assert (len(first.jobs), len(second.jobs), second.live) == (1, 0, 4)


def test_two_claim_the_last_dollar_of_a_budget(two: Store) -> None:
    poor = two.batch("poor", budget_micros=EST)
    two.add(poor, [spec_of("p0"), spec_of("p1")])
    scope = Scope((poor,), 10**9)

    first, second = collide(two, claiming(two, "w1", scope=scope), claiming(two, "w2", scope=scope))

    assert (len(first.jobs), len(second.jobs), second.over_budget) == (1, 0, {poor})


def test_money_that_is_spent_meanwhile_is_neither_forgotten_nor_counted_twice(two: Store) -> None:
    """What was reserved and what is spent are seen at one moment."""
    poor = two.batch("poor", budget_micros=2 * EST)
    two.add(poor, [spec_of("p0"), spec_of("p1"), spec_of("p2")])
    scope = Scope((poor,), 10**9)
    [job] = two.claim(scope=scope)
    two.do(jobs.record_accepted, accepted(job))
    spending = doing(jobs.record_generated, generated(job))

    _, claim = collide(two, spending, claiming(two, "w2", 4, scope=scope), waits=False)

    assert len(claim.jobs) == 1
    assert two.spent() + two.reserved() == 2 * EST


def test_two_workers_together_stay_below_the_rate(two: Store) -> None:
    """Also after a silence: a second's worth at once would be too much for any second."""
    now_set(two, rate_per_s=2, cap=50)

    first, second = collide(two, claiming(two, "w1", 2), claiming(two, "w2", 2))
    soon = two.try_claim(4, now_ms=NOW + 500)
    never_more = two.try_claim(4, now_ms=NOW + 60_000)

    assert [len(claim.jobs) for claim in (first, second, soon, never_more)] == [1, 0, 1, 1]
    assert (first.wait_until_ms, second.wait_until_ms) == (NOW + 500, NOW + 500)


def test_two_workers_together_stay_below_a_cap_that_rises(two: Store) -> None:
    now_set(two, cap=2, auto_max=3, adapting=PROMPT)
    more = {"accepted": 2, "ended": 2}

    first, second = collide(two, claiming(two, "w1", 9, **more), claiming(two, "w2", 9, **more))

    assert [(len(claim.jobs), claim.cap, claim.live) for claim in (first, second)] == [
        (3, 3, 3),
        (0, 3, 3),
    ]


def test_a_refusal_that_is_recorded_while_a_claim_waits_is_heeded_by_it(two: Store) -> None:
    now_set(two, cap=4, auto_max=9, adapting=PROMPT)
    [job] = two.claim()
    freeze = jobs.Freeze(two.account.id, NOW + 50, now_ms=NOW, attempt_id=job.attempt_id)
    refuse = doing(jobs.freeze, freeze)

    _, claim = collide(two, refuse, claiming(two, "w2"))

    assert (claim.jobs, claim.wait_until_ms) == ((), NOW + 50)
    assert two.query("SELECT cap FROM accounts")[0].cap < 4


def test_a_freeze_set_while_a_claim_waits_is_seen_by_it(two: Store) -> None:
    freeze = doing(jobs.freeze, jobs.Freeze(two.account.id, NOW + 50, now_ms=NOW))

    _, claim = collide(two, freeze, claiming(two, "w2"))

    assert (claim.jobs, claim.wait_until_ms) == ((), NOW + 50)


def test_a_pause_set_while_a_claim_waits_is_seen_by_it(two: Store) -> None:
    _, claim = collide(
        two,
        lambda tx: accounts.set_paused(tx, two.account, paused=True),
        claiming(two, "w2"),
    )

    assert (claim.jobs, claim.paused) == ((), True)


def test_a_claim_does_not_hold_up_what_another_worker_spends(two: Store) -> None:
    """Nor can two that have spent, and then claim, wait for each other."""
    [job] = two.running(1)
    record = doing(jobs.record_cost, jobs.LateCost(job, "w1", 1, "{}"))

    def spend_first(tx: Transaction) -> None:
        jobs.spend(tx, job.attempt_id, "w2", 0)  # the first of its worker: refers to the account
        record(tx)

    collide(two, claiming(two, "w2"), spend_first, waits=False)


def test_a_job_that_is_being_cancelled_is_not_claimed(two: Store) -> None:
    first_id = two.query("SELECT min(id) FROM jobs")[0][0]

    outcome, claim = collide(
        two, deciding(by_hand.cancel_pending, first_id), claiming(two, "w1"), waits=False
    )

    assert outcome.done
    assert [job.id for job in claim.jobs] == [first_id + 1]


def test_a_claim_that_finds_every_job_locked_is_told_to_come_again(postgres_store: Store) -> None:
    batch_id = postgres_store.fill(1)
    poor = postgres_store.batch("poor", budget_micros=0)
    postgres_store.add(poor, [spec_of("p1")])

    outcome, claim = collide(
        postgres_store,
        deciding(by_hand.cancel_pending, min_id(postgres_store)),
        claiming(postgres_store, "w1"),
        waits=False,
    )

    assert outcome.done
    assert claim.jobs == ()
    assert claim.wait_until_ms == NOW + 1_000
    after = postgres_store.try_claim()
    assert (after.jobs, after.wait_until_ms) == ((), 0)
    assert after.over_budget == {poor} != {batch_id}


def test_a_job_that_is_being_claimed_is_not_cancelled(two: Store) -> None:
    claim, outcome = collide(
        two, claiming(two, "w1"), deciding(by_hand.cancel_pending, min_id(two))
    )

    assert outcome == by_hand.Outcome(done=False, was=JobState.SUBMITTING)
    assert two.state(claim.jobs[0].id) == "submitting"


def min_id(store: Store) -> int:
    return int(store.query("SELECT min(id) FROM jobs")[0][0])


# -- burials and adoption ------------------------------------------------------------------------


def test_a_burial_does_not_overtake_the_claim_of_a_worker_that_lives_after_all(two: Store) -> None:
    bury = burying(two, "w1")

    claim, doubts = collide(two, claiming(two, "w1"), bury, waits=False)
    later = two.bury("w1")

    if two.database.path is None:
        assert (doubts, later) == (None, 1)
    else:
        assert (doubts, later) == (1, 0)
    assert two.state(claim.jobs[0].id) == "in_doubt"


def test_a_claim_that_waits_for_the_burial_of_its_worker_gets_nothing(two: Store) -> None:
    doubts, claim = collide(two, burying(two, "w1"), claiming(two, "w1"))

    assert (doubts, claim.jobs, claim.fenced) == (0, (), True)


def test_an_adoption_that_waits_for_the_burial_of_its_worker_gets_nothing(two: Store) -> None:
    [job] = two.running(1, worker="w2")
    two.bury("w2")

    _, adopted = collide(two, burying(two, "w1"), adopting(two, "w1"))

    assert adopted == ()
    assert two.job(job.id).owner is None


@pytest.mark.parametrize("is_marked", [True, False])
def test_an_answer_that_waits_for_a_burial_comes_late(two: Store, *, is_marked: bool) -> None:
    [job] = two.claim()
    answer = doing(jobs.record_accepted, accepted(job))

    doubts, _ = collide(two, burying(two, "w1"), marking("w1", answer) if is_marked else answer)

    assert doubts == 1
    assert (two.state(job.id), two.job(job.id).owner) == ("running", None)
    assert len(two.query("SELECT 1 FROM events WHERE kind = 'accepted_late'")) == 1
    assert [one.id for one in two.adopt(worker="w2")] == [job.id]


def test_a_burial_that_waits_for_an_answer_leaves_nothing_in_doubt(two: Store) -> None:
    [job] = two.claim()
    bury = burying(two, "w1")

    _, doubts = collide(two, doing(jobs.record_accepted, accepted(job)), bury)

    assert doubts == 0
    assert (two.state(job.id), two.job(job.id).owner) == ("running", None)
    assert [one.id for one in two.adopt(worker="w2")] == [job.id]


def test_an_answer_and_a_burial_of_a_worker_that_marks_its_row(two: Store) -> None:
    [job] = two.claim()
    bury = burying(two, "w1")
    answer = marking("w1", doing(jobs.record_accepted, accepted(job)))

    _, doubts = collide(two, answer, bury, waits=False)

    assert doubts == (None if two.database.path is None else 0)
    assert two.state(job.id) == "running"


def test_a_takeover_that_waits_for_a_finish_finds_nothing_to_take(two: Store) -> None:
    [job] = two.downloading(1)
    bury = burying(two, "w1")

    done, doubts = collide(two, doing(jobs.finish, finish(job)), bury)

    assert (done, doubts, two.adopt(worker="w2")) == (True, 0, [])
    assert two.state(job.id) == "succeeded"


def test_a_finish_that_waits_for_a_takeover_changes_nothing(two: Store) -> None:
    [job] = two.downloading(1)
    bury, adopt = burying(two, "w1"), adopting(two, "w2")

    def take_over(tx: Transaction) -> tuple[jobs.Job, ...]:
        bury(tx)
        return adopt(tx)

    adopted, done = collide(two, take_over, doing(jobs.finish, finish(job)))

    assert done is False
    assert [one.id for one in adopted] == [job.id]
    assert two.job(job.id).owner == "w2"
    assert two.do(jobs.finish, finish(adopted[0], worker="w2")) == [True]


def test_an_end_that_waits_for_a_takeover_books_the_money_and_leaves_the_job(two: Store) -> None:
    [job] = two.running(1)
    bury, adopt = burying(two, "w1"), adopting(two, "w2")

    def take_over(tx: Transaction) -> tuple[jobs.Job, ...]:
        bury(tx)
        return adopt(tx)

    result = doing(jobs.record_generated, generated(job, cost_micros=7))
    [mine], theirs = collide(two, take_over, result)
    again = two.do(jobs.record_generated, generated(mine, worker="w2", cost_micros=7))

    assert (theirs, again, two.spent()) == (False, [True], 7)
    assert two.state(job.id) == "downloading"
    two.check()


def test_two_that_bury_each_other_do_not_wait_for_each_other(two: Store) -> None:
    first, second = two.running(1)[0], two.running(1, worker="w2")[0]
    bury_second, bury_first = burying(two, "w2"), burying(two, "w1")

    doubts = collide(two, marking("w1", bury_second), marking("w2", bury_first), waits=True)

    # The second finds itself dead, and may still bury the first.
    assert doubts == (0, 0)
    assert {row.owner for row in two.query("SELECT owner FROM jobs")} == {None}
    assert {two.state(first.id), two.state(second.id)} == {"running"}


def test_two_that_are_in_the_middle_of_a_transaction_leave_each_other_alone(
    postgres_store: Store,
) -> None:
    postgres_store.worker("w2")
    postgres_store.fill(4)
    bury_second, bury_first = burying(postgres_store, "w2"), burying(postgres_store, "w1")
    other: list[Other] = []

    def first(tx: Transaction) -> int | None:
        marked, go = threading.Event(), threading.Event()

        def second(other_tx: Transaction) -> int | None:
            marking("w2", lambda _: None)(other_tx)
            marked.set()
            assert go.wait(30)
            return bury_first(other_tx)

        other.append(Other(postgres_store, second))
        assert marked.wait(30)
        doubts = bury_second(tx)
        go.set()
        assert other[0].result() is None
        return doubts

    with postgres_store.database.transaction() as tx:
        assert marking("w1", first)(tx) is None

    assert {row.state for row in postgres_store.query("SELECT state FROM workers")} == {"live"}


def test_two_adopt_and_each_job_gets_one_of_them(two: Store) -> None:
    two.worker("w3")
    held = two.running(2, worker="w3")
    two.bury("w3")

    first, second = collide(two, adopting(two, "w1"), adopting(two, "w2"), waits=False)

    assert [job.id for job in first] == [job.id for job in held]
    assert second == ()
    assert {row.owner for row in two.query("SELECT owner FROM jobs WHERE state = 'running'")} == {
        "w1"
    }


# -- a person and an answer ----------------------------------------------------------------------

DECISIONS = {
    "resubmit": (by_hand.resubmit, (), "pending"),
    "write off": (by_hand.write_off, (), "failed"),
    "adopt": (by_hand.adopt, ("found",), "running"),
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_an_answer_that_waits_for_a_decision_about_its_doubt(two: Store, decision: str) -> None:
    operation, more, _ = DECISIONS[decision]
    [job] = two.claim()
    two.do(jobs.record_doubt, doubt(job))

    outcome, _ = collide(
        two, deciding(operation, job.id, *more), doing(jobs.record_accepted, accepted(job))
    )

    assert outcome.done
    assert (two.state(job.id), two.attempt(job.attempt_id).state) == ("running", "accepted")
    assert (two.spent(), two.reserved()) == (0, EST)


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_about_a_doubt_that_waits_for_its_answer(two: Store, decision: str) -> None:
    operation, more, _ = DECISIONS[decision]
    [job] = two.claim()
    two.do(jobs.record_doubt, doubt(job))

    _, outcome = collide(
        two, doing(jobs.record_accepted, accepted(job)), deciding(operation, job.id, *more)
    )

    assert outcome == by_hand.Outcome(done=False, was=JobState.RUNNING)
    assert two.attempt(job.attempt_id).request_id == f"req-{job.attempt_id}"
    assert (two.state(job.id), two.spent(), two.reserved()) == ("running", 0, EST)


@pytest.mark.parametrize("decision", DECISIONS)
def test_two_people_decide_the_same_doubt(two: Store, decision: str) -> None:
    operation, more, state = DECISIONS[decision]
    [job] = two.claim()
    two.do(jobs.record_doubt, doubt(job))

    first, second = collide(
        two, deciding(operation, job.id, *more), deciding(by_hand.resubmit, job.id)
    )

    assert (first.done, second.done) == (True, False)
    assert second.was == two.state(job.id) == state


# -- manifests -----------------------------------------------------------------------------------


def manifest(folder: Path, name: str, rows: int, *, ids: bool = True) -> str:
    """Write a manifest; the rows of all of them have the same inputs."""
    lines = ["id,prompt,image" if ids else "prompt,image"]
    for number in range(rows):
        inputs = f"prompt {number},https://images.example.com/{number}.jpg"
        lines.append(f"{name}{number},{inputs}" if ids else inputs)
    path = folder / f"{name}.csv"
    path.write_text("\n".join(lines))
    return str(path)


def add(store: Store, path: str, **wish: Any) -> planning.Plan:
    """Do what `add` does."""
    database = store.database
    with imports.adding(database):
        with database.reading() as tx:
            plan = planning.decide(tx, planning.prepare(tx, planning.Wish(path, **wish)))
        planning.store(database, plan, now_ms=NOW, draw=lambda low, _: low)
    return plan


def adding(store: Store, path: str, **wish: Any) -> Step[planning.Plan]:
    """Return what `add` does once it has compared a small manifest with what is stored."""
    with store.database.reading() as tx:
        plan = planning.decide(tx, planning.prepare(tx, planning.Wish(path, **wish)))

    def step(tx: Transaction) -> planning.Plan:
        work = storing._Storing(store.database, plan, now_ms=NOW, draw=lambda low, _: low)
        work.look(tx)
        for one in work.steps(is_hidden=False):
            one(tx)
        return plan

    return step


def test_many_add_the_same_batch_and_each_job_is_stored_once(store: Store, tmp_path: Path) -> None:
    path = manifest(tmp_path, "night", 3)
    others = [Database(store.database.url) for _ in range(3)]

    def add_there(database: Database) -> int:
        with imports.adding(database):
            with database.reading() as tx:
                plan = planning.decide(tx, planning.prepare(tx, planning.Wish(path)))
            planning.store(database, plan, now_ms=NOW, draw=lambda low, _: low)
        database.close()
        return plan.count(Verdict.NEW)

    with ThreadPoolExecutor(len(others)) as pool:
        new = sorted(pool.map(add_there, others))

    assert new == [0, 0, 3]
    assert store.query("SELECT count(*) FROM jobs")[0][0] == 3


def test_two_add_to_one_batch_and_both_have_stored_theirs(store: Store, tmp_path: Path) -> None:
    one, other = manifest(tmp_path, "a", 2), manifest(tmp_path, "b", 3)

    first, second = add(store, one, batch="night"), add(store, other, batch="night")

    # The rows of the second that have the inputs of the first's are the same clips.
    assert first.count(Verdict.NEW) == 2
    assert (second.count(Verdict.NEW), second.count(Verdict.RENAMED)) == (1, 2)
    assert store.query("SELECT count(*) FROM jobs")[0][0] == 3


def test_adding_holds_up_no_claim_and_no_answer(postgres_store: Store, tmp_path: Path) -> None:
    postgres_store.worker("w2")
    postgres_store.fill(4)
    add = adding(postgres_store, manifest(tmp_path, "a", 2))
    [job] = postgres_store.claim()

    def claim_and_record(tx: Transaction) -> jobs.Claim:
        jobs.record_accepted(tx, [accepted(job)])
        return claiming(postgres_store, "w2")(tx)

    plan, claim = collide(postgres_store, add, claim_and_record, waits=False)

    assert (plan.count(Verdict.NEW), len(claim.jobs)) == (2, 1)


def test_a_pending_job_that_is_claimed_meanwhile_keeps_its_inputs(
    postgres_store: Store, tmp_path: Path
) -> None:
    path = manifest(tmp_path, "a", 1)
    with postgres_store.database.transaction() as tx:
        adding(postgres_store, path)(tx)
    Path(path).write_text("id,prompt,image\na0,another,https://images.example.com/0.jpg")
    change = adding(postgres_store, path)

    claim, plan = collide(postgres_store, claiming(postgres_store, "w1"), change)

    assert plan.count(Verdict.CHANGED) == 1  # as it was seen; what is being sent stays
    assert (
        postgres_store.job(claim.jobs[0].id).inputs
        == postgres_store.attempt(claim.jobs[0].attempt_id).inputs
    )
    assert postgres_store.state(claim.jobs[0].id) == "submitting"


def test_a_job_that_is_put_back_while_a_manifest_is_compared_is_not_stored_twice(
    postgres_store: Store, tmp_path: Path
) -> None:
    """Neither among the pending jobs when those were asked for, nor then among the paid ones."""
    add(postgres_store, manifest(tmp_path, "a", 1, ids=False))
    [job] = postgres_store.claim()
    path = manifest(tmp_path, "a", 1)

    with postgres_store.database.reading() as tx:
        prepared = planning.prepare(tx, planning.Wish(path))  # the snapshot is taken here
        postgres_store.do(jobs.put_back, put_back(job))
        plan = planning.decide(tx, prepared)
    planning.store(postgres_store.database, plan, now_ms=NOW, draw=lambda low, _: low)

    assert (plan.count(Verdict.NEW), plan.count(Verdict.RENAMED)) == (0, 1)
    assert postgres_store.query("SELECT count(*) FROM jobs")[0][0] == 1
    postgres_store.check()


def repairing(entry: Entry) -> Step[after_restore.Repair]:
    return lambda tx: after_restore.repair(
        tx, [entry], write_off=False, slot_ms=SLOT_MS, now_ms=NOW
    )


def test_a_repair_waits_for_the_worker_that_polls_the_purchase_before(two: Store) -> None:
    [job] = two.running()
    later = told(job, attempt_id="b1", no=2, intent_ms=NOW + 1, request_id="req-b1")

    _, done = collide(two, doing(jobs.record_ended, ended(job, retry_at_ms=0)), repairing(later))

    assert [change.became for change in done.changes] == [Became.RUNNING]
    assert (two.state(job.id), two.attempt(job.attempt_id).state) == ("running", "failed")


def test_a_repair_leaves_a_refusal_alone_that_its_worker_has_just_recorded(two: Store) -> None:
    [job] = two.claim()
    unpaid = told(job, is_unpaid=True)

    _, done = collide(two, doing(jobs.record_refused, refusal(job)), repairing(unpaid))

    assert done.changes == []
    assert (two.state(job.id), two.attempt(job.attempt_id).state) == ("failed", "rejected")
