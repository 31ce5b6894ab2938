"""What `-j auto` and a rate let through, in the job database."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store.stored_jobs import NOW, Store, accepted, generated

from batchgen.domain import adapting
from batchgen.store import accounts, jobs
from batchgen.store.gate import Bucket
from batchgen.store.statements import text


@given(
    rate=st.floats(0.05, 100),
    waits=st.lists(st.integers(0, 3_000), min_size=1, max_size=60),
    greed=st.integers(1, 50),
)
def test_no_second_sees_more_than_the_rate_and_a_fifth(
    rate: float, waits: Sequence[int], greed: int
) -> None:
    empty_ms, now_ms = None, NOW
    sent: list[int] = []
    for wait in waits:
        now_ms += wait
        bucket = Bucket.of(rate, empty_ms, now_ms)
        taken = min(greed, bucket.tokens)
        if taken:
            empty_ms = bucket.after(taken)
            sent += [now_ms] * taken
        next_ms = Bucket.of(rate, empty_ms, now_ms).after(1)
        assert Bucket.of(rate, empty_ms, next_ms).tokens >= 1
        assert next_ms <= now_ms or Bucket.of(rate, empty_ms, next_ms - 2).tokens < 1

    for number, at in enumerate(sent):
        assert sum(at <= other < at + 1000 for other in sent[number:]) <= rate + max(1, rate / 5)


def test_two_a_second_are_one_each_half_second_however_long_nothing_went(store: Store) -> None:
    store.fill(4)
    with store.database.transaction() as tx:
        accounts.set_rate(tx, store.account, 2.0)

    first = store.try_claim(4)
    early = store.try_claim(4, now_ms=NOW + 499)
    second = store.try_claim(4, now_ms=NOW + 500)

    assert [len(claim.jobs) for claim in (first, early, second)] == [1, 0, 1]
    assert [claim.wait_until_ms for claim in (first, early, second)] == [
        NOW + 500,
        NOW + 500,
        NOW + 1000,
    ]


def test_a_claim_that_took_all_there_is_does_not_wait_for_the_rate(store: Store) -> None:
    store.fill(1)
    with store.database.transaction() as tx:
        accounts.set_rate(tx, store.account, 10.0)

    assert store.try_claim(4).wait_until_ms == 0


def auto(store: Store, *, most: int = 9, state: adapting.State | None = None) -> None:
    """Let the cap move, with a rate that is no matter unless a state says otherwise."""
    state = state or adapting.State(cap=4, pace=1000.0)
    with store.database.transaction() as tx:
        accounts.set_auto(tx, store.account, most)
        values = {"cap": state.cap, "adapting": adapting.dump(state)}
        tx.run(text("UPDATE accounts SET cap = :cap, adapting = :adapting"), values)


def learned(store: Store) -> adapting.State:
    with store.database.reading() as tx:
        account = accounts.find(tx, "runcomfy", "default")
    assert account is not None
    assert account.adapted is not None
    return account.adapted


def test_the_cap_rises_with_what_ended_and_only_as_far_as_it_is_used(store: Store) -> None:
    store.fill(11)
    auto(store)
    first = store.running(9)
    store.do(jobs.record_generated, *(generated(job) for job in first[:2]))

    more = store.try_claim(9, accepted=4, ended=2, now_ms=NOW + 1000)
    store.do(jobs.record_accepted, *map(accepted, more.jobs))
    store.do(jobs.record_generated, *(generated(job) for job in more.jobs))
    last = store.try_claim(9, accepted=4, ended=4, now_ms=NOW + 2000)

    assert (len(first), len(more.jobs), more.cap) == (4, 4, 6)
    # Three were left, for which there was room without any change.
    assert (len(last.jobs), last.cap, learned(store).cap) == (3, 6, 6)
    store.check()


def test_the_cap_does_not_rise_while_the_service_lets_most_jobs_wait(store: Store) -> None:
    store.fill(9)
    auto(store)
    running = store.running(9)
    store.do(
        jobs.record_remote_state,
        *(jobs.RemoteState(job, "in_queue", 3, in_progress=False, now_ms=NOW) for job in running),
    )

    queueing = store.try_claim(9, ended=2)
    store.do(
        jobs.record_remote_state,
        *(
            jobs.RemoteState(job, "in_progress", None, in_progress=True, now_ms=NOW)
            for job in running[:2]
        ),
    )
    working = store.try_claim(9, ended=2)

    assert (queueing.jobs, queueing.cap) == ((), 4)
    assert (len(working.jobs), working.cap) == (2, 6)


def test_a_refusal_freezes_and_halves_in_one_go(store: Store) -> None:
    store.fill(9)
    auto(store, state=adapting.State(cap=8, pace=1000.0))
    running = store.running(7)
    later = NOW + 60_000
    [refused] = store.claim(1, now_ms=later)

    freeze = jobs.Freeze(store.account.id, later + 5_000, later, refused.attempt_id)
    store.do(jobs.freeze, freeze, freeze)

    state = learned(store)
    assert len(running) == 7
    assert (state.cap, state.jobs.ceiling) == (4, 8)
    assert store.try_claim(now_ms=later).wait_until_ms == later + 5_000


def test_a_refusal_moves_no_cap_that_is_fixed(store: Store) -> None:
    store.fill(2)
    [job] = store.claim()

    store.do(jobs.freeze, jobs.Freeze(store.account.id, NOW + 50, NOW, job.attempt_id))

    assert store.query("SELECT cap, adapting FROM accounts") == [(4, None)]


@pytest.mark.parametrize(("rate", "taken"), [(None, 1), (0.5, 1), (1000.0, 1)])
def test_the_slower_of_what_was_learned_and_what_the_user_set_counts(
    store: Store, rate: float | None, taken: int
) -> None:
    store.fill(4)
    auto(store, state=adapting.State(cap=4, pace=1.0))
    with store.database.transaction() as tx:
        accounts.set_rate(tx, store.account, rate)

    claim = store.try_claim(4)

    assert len(claim.jobs) == taken
    assert claim.wait_until_ms == NOW + (2000 if rate == 0.5 else 1000)


def test_a_fixed_cap_forgets_what_was_learned_and_auto_begins_where_it_is(store: Store) -> None:
    auto(store, state=replace(adapting.State(cap=8), pace=7.0))
    with store.database.transaction() as tx:
        accounts.set_cap(tx, store.account, 20)
        accounts.set_auto(tx, store.account, 12)

    assert learned(store) == adapting.State(cap=12)
