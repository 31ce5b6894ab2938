"""What living workers do about each other's jobs."""

from dataclasses import replace
from typing import Any

import pytest
from store.stored_jobs import Store, accepted, ended, finish, generated

from batchgen.store import jobs, sharing, workers
from batchgen.store.scope import Scope
from batchgen.store.statements import text

ALL = Scope(None, 10**9)
MINUTE_MS = 60_000


def elsewhere(store: Store, **changes: Any) -> int:
    view = sharing.View("w2", store.account.id, ALL, downloads=True, rested=frozenset())
    return int(store.do(sharing.elsewhere, replace(view, **changes))[0])


def take(store: Store, *, worker: str = "w2") -> int:
    return int(store.do(sharing.take_from_silent, sharing.Silence(worker, MINUTE_MS))[0])


def silence(store: Store, worker: str) -> None:
    with store.database.transaction() as tx:
        values = {"seen_ms": store.now_ms - 2 * MINUTE_MS, "id": worker}
        tx.run(text("UPDATE workers SET seen_ms = :seen_ms WHERE id = :id"), values)


@pytest.fixture
def held(store: Store) -> dict[str, jobs.Job]:
    """One job that is submitted, one that runs, one that downloads, one that waits."""
    store.worker("w2")
    batch_id = store.fill(4)
    downloading = store.downloading()[0]
    running = store.running()[0]
    submitting = store.claim()[0]
    assert batch_id
    return {"downloading": downloading, "running": running, "submitting": submitting}


def test_a_session_waits_for_what_others_hold_of_its_scope(
    store: Store, held: dict[str, jobs.Job]
) -> None:
    batch_id = held["running"].batch_id
    running = frozenset({held["running"].id})

    assert elsewhere(store) == 3
    assert elsewhere(store, worker_id="w1") == 0
    assert elsewhere(store, downloads=False) == 2
    assert elsewhere(store, rested=running) == 2
    assert elsewhere(store, scope=Scope((batch_id,), 10**9, outside=running)) == 2
    assert elsewhere(store, scope=Scope((batch_id + 1,), 10**9)) == 0
    assert elsewhere(store, scope=Scope(None, held["downloading"].id)) == 1
    assert elsewhere(store, account_id=store.account.id + 1) == 0


def test_what_rests_with_a_worker_is_let_go_and_not_taken_up_again(
    store: Store, held: dict[str, jobs.Job]
) -> None:
    rested = store.do(sharing.let_go, "w1")[0]

    assert rested == {held["running"].id, held["downloading"].id}
    assert elsewhere(store) == 3  # free, and not tried by this worker yet
    assert store.adopt(worker="w1", rested=rested) == []
    assert {job.id for job in store.adopt(worker="w2")} == rested
    assert store.do(sharing.let_go, "w1") == [frozenset()]
    store.check()


def test_a_silent_worker_loses_its_paid_jobs_and_decides_nothing_about_them(
    store: Store, held: dict[str, jobs.Job]
) -> None:
    silence(store, "w1")
    assert take(store) == 2

    adopted = {job.state: job for job in store.adopt(worker="w2")}
    fact = accepted(held["submitting"])
    store.do(jobs.record_accepted, fact)  # what it was sending is still its own
    mine = store.do(jobs.record_generated, generated(held["running"], cost_micros=7))
    late = store.do(jobs.finish, finish(held["downloading"]))

    assert [job.id for job in adopted.values()] == [held["downloading"].id, held["running"].id]
    assert [mine, late] == [[False], [False]]
    assert store.attempt(held["running"].attempt_id).cost_micros == 7
    assert store.job(held["submitting"].id).owner == "w1"
    assert store.state(held["submitting"].id) == "running"
    assert len(store.query("SELECT 1 FROM events WHERE kind = 'taken_from_silent'")) == 1


def test_a_worker_that_stirs_keeps_its_jobs(store: Store, held: dict[str, jobs.Job]) -> None:
    silence(store, "w1")
    assert take(store, worker="w1") == 0  # nobody is silent to itself
    store.do(workers.beat, workers.Beat("w1", 30_000))

    assert take(store) == 0
    assert store.job(held["running"].id).owner == "w1"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_clip_wins_over_an_end_that_a_former_owner_was_told(store: Store, state: str) -> None:
    store.fill(1)
    (mine,) = store.running()
    store.worker("w2")
    store.do(sharing.let_go, "w1")
    (theirs,) = store.adopt(worker="w2")

    ended_here = store.do(jobs.record_ended, ended(mine, state=state, cost_micros=5))
    made_there = store.do(jobs.record_generated, generated(theirs, worker="w2", cost_micros=7))

    assert (ended_here, made_there) == ([False], [True])
    attempt = store.attempt(mine.attempt_id)
    assert (attempt.state, attempt.cost_micros, attempt.error) == ("succeeded", 7, None)
    assert store.spent() == 7
    assert store.state(mine.id) == "downloading"
    store.check()
