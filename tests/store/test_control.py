"""What is changed under live runs, and the look by which they notice."""

from pathlib import Path

import pytest
from store.plans import plans_of
from store.stored_jobs import EST, NOW, Store, doubt, ended, put_back, spec_of

from batchgen.domain.states import JobState
from batchgen.store import accounts, by_hand, control, jobs
from batchgen.store.control import Snapshot
from batchgen.store.statements import text


def look(store: Store) -> Snapshot:
    with store.database.reading() as tx:
        return control.snapshot(tx, store.account.id)


def set_budget(store: Store, batch_id: int, micros: int | None) -> control.Budget:
    with store.database.transaction() as tx:
        return control.set_budget(tx, batch_id, micros, now_ms=NOW)


def set_priority(store: Store, priority: int, *job_ids: int) -> dict[int, control.Moved]:
    with store.database.transaction() as tx:
        return control.set_priority(tx, job_ids, priority, now_ms=NOW)


def test_a_look_tells_what_a_run_goes_by(store: Store) -> None:
    store.fill(3)
    other = store.batch("morning", budget_micros=7)
    first = look(store)
    (job,) = store.running()
    with store.database.transaction() as tx:
        accounts.set_cap(tx, store.account, 9)
        accounts.set_auto(tx, store.account, 20)
        accounts.set_rate(tx, store.account, 0.5)
        accounts.set_paused(tx, store.account, paused=True)
        control.set_budget(tx, other, None, now_ms=NOW)
        control.set_budget(tx, job.batch_id, 5, now_ms=NOW)
        control.record_cancel(tx, [job.attempt_id], now_ms=NOW)
        jobs.freeze(tx, [jobs.Freeze(store.account.id, NOW + 50, NOW)])

    assert first == Snapshot(cap=4, budgets={"morning": 7}, pending=3)
    assert look(store) == Snapshot(
        cap=9,
        auto_max=20,
        rate_per_s=0.5,
        paused=True,
        frozen_until_ms=NOW + 50,
        budgets={"night": 5},
        pending=2,
        cancels={job.attempt_id: NOW},
    )


def test_a_look_at_another_account_tells_nothing_of_this_one(store: Store) -> None:
    store.fill(2)
    with store.database.transaction() as tx:
        other = accounts.ensure(tx, "runcomfy", "other")
        found = control.snapshot(tx, other.id)

    assert found == Snapshot(cap=4)


def test_a_cancellation_is_noted_while_the_attempt_lives_and_seen_until_it_ends(
    store: Store,
) -> None:
    store.fill(2)
    first, second = store.running(2)
    store.do(jobs.record_ended, ended(second))

    with store.database.transaction() as tx:
        noted = control.record_cancel(tx, [first.attempt_id, second.attempt_id], now_ms=NOW)
    seen = look(store).cancels
    store.do(jobs.record_ended, ended(first, state="cancelled", error_class=None))

    assert noted == 1
    assert seen == {first.attempt_id: NOW}
    assert look(store).cancels == {}
    assert store.attempt(first.attempt_id).charged_micros == 0
    store.check()


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_look_costs_the_same_whatever_the_number_of_jobs(
    tmp_path: Path, *, analyzed: bool
) -> None:
    store = Store(tmp_path)
    store.fill(500)
    with store.database.transaction() as tx:
        if analyzed:
            tx.run(text("ANALYZE"))
        with plans_of(tx) as plans:
            control.snapshot(tx, store.account.id)
    store.close()

    steps = [step for plan in plans for step in plan.splitlines()]
    assert not any("jobs" in step for step in steps), plans
    assert [step for step in steps if "attempts" in step] == [
        "SEARCH attempts USING INDEX ix_attempts_live (account_id=?)"
    ]
    scanned = {step for step in steps if "SCAN" in step}
    assert scanned <= {"SCAN batches", "SCAN b", "SCAN c"}  # batches, and their counters


# -- budgets ---------------------------------------------------------------------------------------


def test_a_budget_is_followed_by_the_next_claim(store: Store) -> None:
    batch_id = store.fill(4)
    set_budget(store, batch_id, EST)
    first = store.try_claim(4)
    was = set_budget(store, batch_id, 3 * EST)
    second = store.try_claim(4)
    set_budget(store, batch_id, None)
    third = store.try_claim(4)

    assert (len(first.jobs), first.over_budget) == (1, frozenset({batch_id}))
    assert was == control.Budget("night", EST, 0, EST)
    assert (len(second.jobs), second.over_budget) == (2, frozenset({batch_id}))
    assert (len(third.jobs), third.over_budget) == (1, frozenset())


def test_a_budget_below_what_is_spent_lets_nothing_more_through(store: Store) -> None:
    batch_id = store.fill(3)
    (job,) = store.downloading()
    set_budget(store, batch_id, 1)

    assert store.claim(2) == []
    assert store.state(job.id) == "downloading"
    assert set_budget(store, batch_id, 2 * EST).spent_micros == EST
    assert len(store.claim(2)) == 1


def test_what_may_be_paid_for_without_a_price_is_counted(store: Store) -> None:
    batch_id = store.fill(2, est_micros=None)
    store.add(batch_id, [spec_of("priced")])

    with store.database.reading() as tx:
        assert control.unpriced(tx, batch_id) == 2


# -- priorities ------------------------------------------------------------------------------------


def test_a_higher_priority_goes_first(store: Store) -> None:
    store.fill(5)
    set_priority(store, 1000, 4)
    set_priority(store, 7, 5, 3)
    moved = set_priority(store, -1000, 1)

    assert [job.id for job in store.claim(4)] == [4, 3, 5, 2]
    assert moved == {1: control.Moved(done=True, state=JobState.PENDING, was=0)}
    assert set_priority(store, 0, 1)[1].was == -1000


def test_what_is_not_pending_keeps_its_priority(store: Store) -> None:
    store.fill(2)
    (job,) = store.claim()

    moved = set_priority(store, 5, 1, 2)
    store.do(jobs.put_back, put_back(job))

    assert moved[1] == control.Moved(done=False, state=JobState.SUBMITTING, was=0)
    assert moved[2].done
    assert [one.id for one in store.claim(2)] == [2, 1]


def test_what_was_resubmitted_goes_before_any_priority(store: Store) -> None:
    store.fill(3)
    (job,) = store.claim()
    store.do(jobs.record_doubt, doubt(job))
    set_priority(store, 1000, 3)
    store.by_hand(by_hand.resubmit, job.id)

    assert [one.id for one in store.claim(2)] == [job.id, 3]


# -- cancelling what waits -------------------------------------------------------------------------


def test_all_that_waits_in_a_batch_is_cancelled_and_nothing_else(store: Store) -> None:
    batch_id = store.fill(4)
    store.running()
    other = store.batch("morning")
    store.add(other, [spec_of("m")])

    with store.database.transaction() as tx:
        done = control.cancel_pending(tx, batch_id, now_ms=NOW)

    states = [row.state for row in store.query("SELECT state FROM jobs ORDER BY id")]
    assert done == 3
    assert states == ["running", "cancelled", "cancelled", "cancelled", "pending"]
    noted = store.query("SELECT job_id, kind FROM events WHERE kind = 'cancelled' ORDER BY job_id")
    assert [row.job_id for row in noted] == [2, 3, 4]
    store.check()


def stands(store: Store, *batch_ids: int) -> control.Standing:
    with store.database.reading() as tx:
        return control.standing(tx, store.account.id, batch_ids or None, worker_id="w1")


def test_where_batches_stand_follows_their_jobs_and_their_money(store: Store) -> None:
    night = store.fill(3)
    morning = store.batch("morning", budget_micros=7 * EST)
    store.add(morning, [spec_of("m1")])
    store.worker("w2")
    (job,) = store.downloading()
    store.running()

    assert stands(store, night) == control.Standing(
        counts={"pending": 1, "submitting": 0, "running": 1, "downloading": 1},
        spent_micros=store.spent(),
        reserved_micros=EST,
        budget_micros=None,
        other_workers=1,
    )
    assert store.spent() > 0
    assert stands(store, morning).budget_micros == 7 * EST
    assert stands(store, morning).counts == {"pending": 1}
    assert stands(store).counts["pending"] == 2
    assert stands(store).budget_micros is None  # one of the two has none
    set_budget(store, job.batch_id, 2 * EST)
    assert stands(store).budget_micros == 9 * EST
