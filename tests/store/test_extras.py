"""Purchases whose late answer finds the job bought again."""

import pytest
from store.stored_jobs import EST, NOW, Store, accepted, doubt, ended, finish, generated

from batchgen.domain.states import JobState
from batchgen.store import by_hand, extras, jobs
from batchgen.store.jobs import Job


@pytest.fixture
def extra(store: Store) -> Job:
    """The first purchase of a job that was bought twice, and has its clip from the second."""
    store.fill(1)
    first = store.claim()[0]
    store.do(jobs.record_doubt, doubt(first))
    assert store.by_hand(by_hand.resubmit, first.id).done
    store.do(jobs.finish, finish(store.downloading()[0]))
    assert waiting(store) == ()
    store.do(jobs.record_accepted, accepted(first))
    return waiting(store)[0]


def waiting(store: Store) -> tuple[Job, ...]:
    found = store.do(extras.waiting, store.account.id)[0]
    assert isinstance(found, tuple)
    return found


def test_it_is_carried_under_a_name_of_its_own(store: Store, extra: Job) -> None:
    stored = store.job(extra.id)

    assert extra.name == stored.name.replace(".mp4", "-extra1.mp4")
    assert extra.attempt_id != stored.attempt_id
    assert extra.state is JobState.RUNNING
    assert extra.request_id == f"req-{extra.attempt_id}"
    assert store.do(extras.waiting, store.account.id + 1) == [()]


def test_its_clip_closes_it_and_leaves_the_job_alone(store: Store, extra: Job) -> None:
    before = store.job(extra.id)

    store.do(extras.keep, extras.Kept(generated(extra, cost_micros=7), ("clips/a.mp4",)))
    store.do(extras.keep, extras.Kept(generated(extra, cost_micros=7), ("clips/a.mp4",)))

    assert store.job(extra.id) == before
    assert waiting(store) == ()
    assert store.attempt(extra.attempt_id).state == "succeeded"
    assert store.spent() == EST + 7  # of a second worker that fetched it too, nothing is booked
    assert store.reserved() == 0
    store.check()


def test_its_failure_closes_it_and_nothing_is_bought_for_it(store: Store, extra: Job) -> None:
    before = store.job(extra.id)

    store.do(jobs.record_ended, ended(extra, retry_at_ms=NOW))

    assert store.job(extra.id) == before
    assert waiting(store) == ()
    assert store.attempt(extra.attempt_id).state == "failed"
    store.check()
