"""Who may pay for what: cap, budget, scope, order, and the plans of the hot queries."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from store.plans import plans_of
from store.stored_jobs import (
    EST,
    MODEL,
    NOW,
    SLOT_MS,
    Store,
    accepted,
    doubt,
    ended,
    generated,
    put_back,
    spec_of,
)

from batchgen.store import accounts, jobs
from batchgen.store.database import Database
from batchgen.store.scope import Scope
from batchgen.store.statements import text


def test_the_cap_counts_what_the_service_works_on(store: Store) -> None:
    store.fill(9)
    running = store.running(9)
    assert len(running) == 4
    assert store.claim(9) == []

    store.do(jobs.record_generated, generated(running[0]))  # its clip is not on disk yet

    assert len(store.claim(9)) == 1
    store.check()


def test_the_cap_holds_over_many_connections_at_once(store: Store) -> None:
    store.fill(60)
    seen: list[int] = []
    start = threading.Barrier(6)

    def work(name: str) -> None:
        database = Database(store.database.url)
        for turn in range(10):
            if turn == 0:
                start.wait()
            with database.transaction() as tx:
                ids = tuple(f"{name}-{turn}-{n}" for n in range(3))
                request = store.request(0, worker=name, attempt_ids=ids)
                claimed = jobs.claim(tx, [request])[0]
                live = tx.value(jobs._LIVE, {"account_id": store.account.id, "now_ms": NOW})
                seen.append(live)
            for job in claimed.jobs:
                with database.transaction() as tx:
                    jobs.record_accepted(tx, [accepted(job)])
                with database.transaction() as tx:
                    jobs.record_generated(tx, [generated(job, worker=name)])
        database.close()

    names = [f"t{n}" for n in range(6)]
    for name in names:
        store.worker(name)
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 60
    assert max(seen) <= 4
    store.check()
    counts = store.query("SELECT job_id FROM attempts GROUP BY job_id HAVING count(*) > 1")
    assert counts == []


def test_several_requests_of_one_transaction_share_the_cap(store: Store) -> None:
    store.fill(9)

    claims = store.do(jobs.claim, store.request(3), store.request(3))

    assert [len(claim.jobs) for claim in claims] == [3, 1]


def test_a_budget_is_kept_to_the_micro_dollar(store: Store) -> None:
    batch_id = store.batch(budget_micros=3 * EST - 1)
    store.add(batch_id, [spec_of(f"r{n}") for n in range(4)])

    claim = store.try_claim(4)

    assert len(claim.jobs) == 2
    assert store.try_claim(4).over_budget == {batch_id}
    store.do(jobs.record_accepted, *map(accepted, claim.jobs))
    store.do(jobs.record_generated, generated(claim.jobs[0], cost_micros=EST - 1))
    assert len(store.claim(4)) == 1  # spent, reserved and this one are the budget exactly
    assert store.claim(4) == []


def test_a_budget_counts_failures_doubts_and_what_was_given_up(store: Store) -> None:
    batch_id = store.batch(budget_micros=3 * EST)
    store.add(batch_id, [spec_of(f"r{n}") for n in range(4)])
    failed, doubtful = store.running()[0], store.claim()[0]
    store.do(jobs.record_ended, ended(failed))
    store.do(jobs.record_doubt, doubt(doubtful))

    assert len(store.claim(4, now_ms=NOW + SLOT_MS)) == 1


def test_a_batch_without_money_does_not_block_another(store: Store) -> None:
    poor = store.batch("poor", budget_micros=EST)
    store.add(poor, [spec_of(f"p{n}") for n in range(30)])
    rich = store.batch("rich", budget_micros=100 * EST)
    store.add(rich, [spec_of(f"r{n}") for n in range(30)])

    claim = store.try_claim(4)

    assert [job.batch for job in claim.jobs] == ["poor", "rich", "rich", "rich"]
    assert claim.over_budget == {poor}


def test_a_freeze_from_before_a_clock_was_set_back_holds_nobody(store: Store) -> None:
    store.fill(2)
    store.do(
        jobs.freeze, jobs.Freeze(store.account.id, NOW + jobs.LONGEST_FREEZE_MS + 1, now_ms=NOW)
    )
    free = store.try_claim()
    store.do(jobs.freeze, jobs.Freeze(store.account.id, NOW + 50, now_ms=NOW))

    frozen = store.try_claim()

    assert len(free.jobs) == 1
    assert (frozen.jobs, frozen.wait_until_ms) == ((), NOW + 50)


def test_a_frozen_account_says_until_when(store: Store) -> None:
    store.fill(1)
    store.do(jobs.freeze, jobs.Freeze(store.account.id, NOW + 50, now_ms=NOW))
    store.do(jobs.freeze, jobs.Freeze(store.account.id, NOW + 20, now_ms=NOW))  # never shortens

    claim = store.try_claim()

    assert (claim.jobs, claim.wait_until_ms) == ((), NOW + 50)
    assert len(store.claim(now_ms=NOW + 50)) == 1


def test_a_paused_account_gives_nothing(store: Store) -> None:
    store.fill(1)
    for paused in (True, False):
        with store.database.transaction() as tx:
            accounts.set_paused(tx, store.account, paused=paused)
        claim = store.try_claim()
        assert (claim.paused, len(claim.jobs)) == (paused, 0 if paused else 1)


def test_a_worker_that_was_declared_dead_pays_for_nothing(store: Store) -> None:
    store.fill(1)
    store.bury("w1")

    claim = store.try_claim()

    assert (claim.jobs, claim.fenced) == ((), True)


def test_an_unknown_account_is_an_error(store: Store) -> None:
    with pytest.raises(LookupError):
        store.try_claim(account_id=99)


@pytest.mark.parametrize(
    ("scope", "ids"),
    [
        (Scope(None, 4), [1, 2, 3, 4]),
        (Scope((2,), 9), [3, 4]),
        (Scope((1, 2), 9, frozenset({1, 3})), [2, 4]),
        (Scope(None, 3, frozenset({2})), [1, 3]),
        (Scope((), 9), []),
    ],
)
def test_only_jobs_in_scope_are_claimed(store: Store, scope: Scope, ids: list[int]) -> None:
    store.add(store.batch("one"), [spec_of("a"), spec_of("b")])
    store.add(store.batch("two"), [spec_of("c"), spec_of("d")])

    request = store.request(4, scope=scope)
    with store.database.reading() as tx:
        assert jobs.has_claimable(tx, request) is bool(ids)
    assert [job.id for job in store.claim(4, scope=scope)] == ids
    with store.database.reading() as tx:
        assert not jobs.has_claimable(tx, request)


def test_jobs_of_a_held_model_wait(store: Store) -> None:
    store.fill(1)

    assert store.claim(held_models=frozenset({MODEL})) == []
    assert len(store.claim(held_models=frozenset({"another"}))) == 1


def test_jobs_of_another_account_are_never_claimed(store: Store) -> None:
    store.fill(1)
    with store.database.transaction() as tx:
        other = accounts.ensure(tx, "runcomfy", "other")

    assert store.claim(account_id=other.id) == []


def test_the_order_is_priority_then_time_then_age(store: Store) -> None:
    store.fill(4)
    with store.database.transaction() as tx:
        for job_id, priority, not_before in ((1, 1, 0), (2, 0, 9), (3, 0, 5), (4, 0, 5)):
            tx.run(
                text(
                    f"UPDATE jobs SET priority = {priority}, not_before_ms = {not_before} "
                    f"WHERE id = {job_id}"
                )
            )

    assert [job.id for job in store.claim(4)] == [3, 4, 2, 1]


def test_a_job_that_is_not_due_says_when_it_will_be(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.do(jobs.put_back, put_back(job, not_before_ms=NOW + 70))

    assert store.try_claim().wait_until_ms == NOW + 70
    with store.database.reading() as tx:
        assert jobs.has_claimable(tx, store.request(1))


def plan_of(store: Store, act: str) -> list[str]:
    """Return the steps of the queries of a claim or an adoption, as they really run."""
    with store.database.transaction() as tx, plans_of(tx) as plans:
        if act == "claim":
            scope = Scope((1, 2), 10**9, frozenset({5}))
            jobs.claim(tx, [store.request(2, scope=scope)])
        else:
            jobs.adopt(
                tx, [jobs.AdoptRequest("w1", store.account.id, 9, downloads=True, now_ms=NOW)]
            )
    return [step for plan in plans for step in plan.splitlines()]


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize(
    ("act", "index"), [("claim", "ix_jobs_pending"), ("adopt", "ix_jobs_owned")]
)
def test_the_hot_queries_walk_their_partial_index_in_order(
    tmp_path: Path, act: str, index: str, *, analyzed: bool
) -> None:
    store = Store(tmp_path, cap=50)
    for name in ("one", "two", "three"):
        store.add(store.batch(name), [spec_of(f"{name}{n}") for n in range(100)])
    store.running(20)
    if analyzed:
        with store.database.transaction() as tx:
            tx.run(text("ANALYZE"))
        store.close()

    plans = plan_of(store, act)

    assert plans
    assert any(index in line for line in plans), plans
    assert not any("TEMP B-TREE" in line for line in plans), plans
    assert not any(line == "SCAN j" for line in plans), plans
    store.close()


def test_a_claim_without_a_free_slot_says_how_many_of_them_doubts_hold(store: Store) -> None:
    store.fill(9)
    first, second = store.claim(2)
    store.do(jobs.record_doubt, doubt(first))
    second_doubt = replace(doubt(second), slot_until_ms=NOW + 7)
    store.do(jobs.record_doubt, second_doubt)
    full = [store.try_claim(2), store.try_claim(2)]

    assert [(len(claim.jobs), claim.doubts, claim.doubts_until_ms) for claim in full] == [
        (2, 0, 0),
        (0, 2, NOW + 7),
    ]


def test_doubts_hold_their_slots_no_longer_than_generations_take(store: Store) -> None:
    store.fill(2)
    [job] = store.claim()
    store.do(jobs.record_doubt, doubt(job))
    held = store.attempt(job.attempt_id).slot_until_ms - NOW

    first = store.do(jobs.shorten_doubts, jobs.ShortenDoubts(store.account.id, slot_ms=held - 1))
    longer = store.do(jobs.shorten_doubts, jobs.ShortenDoubts(store.account.id, slot_ms=held))

    assert (first, longer) == ([1], [0])
    assert store.attempt(job.attempt_id).slot_until_ms == NOW + held - 1
    store.check()
