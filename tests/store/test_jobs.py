"""Every change of a job while it runs, over a real database."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

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
    trouble,
)

from batchgen import reconciling
from batchgen.domain.errors import StoreError, UsageError
from batchgen.domain.states import ErrorClass
from batchgen.reconciling import Adoption
from batchgen.store import by_hand, jobs, reads, workers
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction, is_conflict


def test_a_job_goes_its_way_from_pending_to_succeeded(store: Store) -> None:
    store.fill(1)

    job = store.claim()[0]
    store.check()
    assert (store.state(job.id), store.attempt(job.attempt_id).state) == ("submitting", "intent")
    assert (store.reserved(), store.spent()) == (EST, 0)

    store.do(jobs.record_accepted, accepted(job))
    store.check()
    assert (store.state(job.id), store.attempt(job.attempt_id).state) == ("running", "accepted")
    assert store.attempt(job.attempt_id).request_id == f"req-{job.attempt_id}"

    assert store.do(jobs.record_generated, generated(job, cost_micros=300_000)) == [True]
    store.check()
    assert (store.state(job.id), store.attempt(job.attempt_id).state) == (
        "downloading",
        "succeeded",
    )
    assert (store.reserved(), store.spent()) == (0, 300_000)

    assert store.do(jobs.finish, finish(job)) == [True]
    store.check()
    assert store.state(job.id) == "succeeded"
    assert store.job(job.id).owner is None


def test_a_cost_the_service_did_not_state_counts_as_the_estimate(store: Store) -> None:
    store.fill(1)
    job = store.downloading()[0]

    assert store.spent() == EST
    assert store.attempt(job.attempt_id).cost_micros is None
    store.check()


def test_a_cost_stated_later_replaces_the_estimate_once(store: Store) -> None:
    store.fill(1)
    job = store.downloading()[0]

    for _ in range(2):
        store.do(jobs.record_cost, jobs.LateCost(job, "w1", 100_000, "{}"))
        assert store.spent() == 100_000
        store.check()


def test_a_cost_of_a_generation_that_has_not_ended_is_not_booked_yet(store: Store) -> None:
    store.fill(1)
    job = store.running()[0]

    store.do(jobs.record_cost, jobs.LateCost(job, "w1", 100_000, "{}"))
    store.do(jobs.record_generated, generated(job, cost_micros=100_000))

    assert store.spent() == 100_000
    store.check()


ENDS: list[tuple[str, Any, str, str, int]] = [
    ("failed", ended, "failed", "failed", EST),
    ("failed, stated", lambda job: ended(job, cost_micros=0), "failed", "failed", 0),
    (
        "cancelled",
        lambda job: ended(job, state="cancelled", error_class=None),
        "cancelled",
        "cancelled",
        0,
    ),
    (
        "cancelled, stated",
        lambda job: ended(job, state="cancelled", error_class=None, cost_micros=7),
        "cancelled",
        "cancelled",
        7,
    ),
    ("bought again", lambda job: ended(job, retry_at_ms=NOW + 5), "pending", "failed", EST),
]


@pytest.mark.parametrize(
    ("end", "job_state", "attempt_state", "spent"),
    [pytest.param(*case[1:], id=case[0]) for case in ENDS],
)
def test_an_end_without_a_clip(
    store: Store,
    end: Callable[[jobs.Job], jobs.Ended],
    job_state: str,
    attempt_state: str,
    spent: int,
) -> None:
    store.fill(1)
    job = store.running()[0]

    assert store.do(jobs.record_ended, end(job)) == [True]

    store.check()
    assert (store.state(job.id), store.attempt(job.attempt_id).state) == (job_state, attempt_state)
    assert (store.reserved(), store.spent()) == (0, spent)
    assert store.job(job.id).retries_used == (1 if job_state == "pending" else 0)


def test_a_retry_gets_a_new_attempt_with_the_next_number(store: Store) -> None:
    store.fill(1)
    first = store.running()[0]
    store.do(jobs.record_ended, ended(first, retry_at_ms=NOW))

    second = store.claim()[0]

    assert second.id == first.id
    assert [store.attempt(job.attempt_id).no for job in (first, second)] == [1, 2]
    assert second.epoch == first.epoch + 1
    store.check()


@pytest.mark.parametrize("error_class", [ErrorClass.GENERATION, ErrorClass.MODERATION])
def test_a_retry_with_a_new_seed_is_the_same_job_and_sends_the_new_seed(
    store: Store, error_class: ErrorClass
) -> None:
    store.fill(1)
    first = store.running()[0]
    new = jobs.NewSeed({**first.inputs, "seed": 4}, 4)
    end = ended(first, error_class=error_class, retry_at_ms=NOW)

    store.do(jobs.record_ended, replace(end, new_seed=new))
    second = store.claim()[0]

    row = store.job(first.id)
    assert (second.inputs, row.seed) == ({**first.inputs, "seed": 4}, 4)
    assert (second.input_hash, row.input_hash) == (first.input_hash, first.input_hash)
    assert [json.loads(store.attempt(one.attempt_id).inputs) for one in (first, second)] == [
        first.inputs,
        second.inputs,
    ]
    used = (row.retries_used, row.policy_retries_used)
    assert used == ((0, 1) if error_class is ErrorClass.MODERATION else (1, 0))
    assert (second.retries_used, second.policy_retries_used) == used
    store.check()


def test_a_worker_that_lost_a_job_gives_it_no_seed(store: Store) -> None:
    store.fill(1)
    job = store.running()[0]
    end = replace(ended(job, retry_at_ms=NOW), new_seed=jobs.NewSeed({"seed": 4}, 4))

    moved = store.do(jobs.record_ended, replace(end, worker_id="w2"))

    assert moved == [False]
    assert (store.job(job.id).seed, json.loads(store.job(job.id).inputs)) == (None, job.inputs)


@pytest.mark.parametrize("sent", [None, 3])
def test_a_late_answer_brings_back_the_seed_that_was_sent(store: Store, sent: int | None) -> None:
    asked = {} if sent is None else {"seed": sent}
    store.add(store.batch(), [spec_of("r0", **asked)])
    with store.database.transaction() as tx:
        tx.run(text("UPDATE jobs SET seed = :seed"), {"seed": sent})
    first = store.claim()[0]
    store.do(jobs.record_doubt, doubt(first))
    store.by_hand(by_hand.resubmit, first.id)
    second = store.running()[0]
    new = jobs.NewSeed({**second.inputs, "seed": 4}, 4)
    store.do(jobs.record_ended, replace(ended(second, retry_at_ms=NOW), new_seed=new))

    store.do(jobs.record_accepted, accepted(first))

    row = store.job(first.id)
    assert (row.state, row.attempt_id, row.seed) == ("running", first.attempt_id, sent)
    assert json.loads(row.inputs) == first.inputs
    store.check()


@pytest.mark.parametrize("keep", [False, True], ids=["unsent", "refused for now"])
def test_putting_back_spends_no_attempt(store: Store, *, keep: bool) -> None:
    store.fill(1)
    job = store.claim()[0]

    store.do(jobs.put_back, put_back(job, keep=keep, not_before_ms=NOW + 9))

    store.check()
    assert (store.state(job.id), store.job(job.id).retries_used) == ("pending", 0)
    kept = store.query("SELECT state FROM attempts")
    assert [row.state for row in kept] == (["rejected"] if keep else [])
    assert store.claim() == []
    assert len(store.claim(now_ms=NOW + 9)) == 1


def test_a_refusal_fails_the_job_unpaid(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]

    store.do(jobs.record_refused, refusal(job))

    store.check()
    row = store.job(job.id)
    assert (row.state, row.error_class, row.owner) == ("failed", "invalid_input", None)
    assert (store.reserved(), store.spent()) == (0, 0)


def test_doubt_keeps_the_money_reserved_and_the_slot_for_a_while(store: Store) -> None:
    store.fill(6)
    job = store.claim()[0]

    store.do(jobs.record_doubt, doubt(job))

    store.check()
    assert (store.state(job.id), store.attempt(job.attempt_id).state) == ("in_doubt", "in_doubt")
    assert (store.reserved(), store.spent()) == (EST, 0)
    assert store.try_claim(9).live == 4
    assert len(store.claim(9, now_ms=NOW + SLOT_MS)) == 1


@pytest.mark.parametrize(
    ("operation", "request_of"),
    [
        (jobs.record_generated, generated),
        (jobs.record_ended, ended),
        (jobs.record_ended, lambda job: ended(job, retry_at_ms=NOW)),
    ],
    ids=["generated", "ended", "ended with a retry"],
)
def test_a_worker_that_lost_its_job_books_the_money_but_does_not_move_the_job(
    store: Store, operation: Any, request_of: Callable[[jobs.Job], Any]
) -> None:
    store.fill(1)
    stale = store.running()[0]
    store.worker("w2")
    store.bury("w1")
    fresh = store.adopt(worker="w2")[0]

    assert store.do(operation, request_of(stale)) == [False]

    store.check()
    assert (store.state(stale.id), store.job(stale.id).owner) == ("running", "w2")
    assert store.spent() == EST
    # The worker that holds the job moves it, and the money is not booked twice.
    assert store.do(jobs.record_generated, generated(fresh, worker="w2")) == [True]
    assert store.spent() == EST


def test_an_end_that_two_workers_see_is_booked_once(store: Store) -> None:
    store.fill(1)
    stale = store.running()[0]
    store.worker("w2")
    store.bury("w1")
    fresh = store.adopt(worker="w2")[0]

    assert store.do(jobs.record_ended, ended(stale)) == [False]
    assert store.do(jobs.record_ended, ended(fresh, worker="w2")) == [True]

    store.check()
    assert (store.state(stale.id), store.spent()) == ("failed", EST)


def test_a_worker_that_took_its_job_up_anew_does_not_move_it_by_what_it_knew_before(
    store: Store,
) -> None:
    store.fill(1)
    before = store.running()[0]
    store.do(jobs.record_ended, ended(before, error_class=ErrorClass.REMOTE_LOST))
    store.by_hand(by_hand.download_again, before.id)
    again = store.adopt()[0]
    assert (again.attempt_id, again.epoch) == (before.attempt_id, before.epoch + 1)

    assert store.do(jobs.record_generated, generated(before)) == [False]
    assert store.do(jobs.record_ended, ended(before)) == [False]

    assert store.state(before.id) == "running"
    assert store.do(jobs.record_generated, generated(again)) == [True]
    store.check()
    assert store.spent() == EST


def test_only_the_holder_may_finish_or_expire(store: Store) -> None:
    store.fill(1)
    stale = store.downloading()[0]
    store.worker("w2")
    store.bury("w1")
    fresh = store.adopt(worker="w2")[0]

    assert store.do(jobs.finish, finish(stale)) == [False]
    store.do(jobs.record_download_trouble, trouble(stale, expired=True))
    assert store.do(jobs.finish, finish(stale, worker="w2")) == [False]  # the epoch is old
    assert store.state(stale.id) == "downloading"
    assert store.do(jobs.finish, finish(fresh, worker="w2")) == [True]
    store.check()


def test_dead_links_are_dated_from_the_first(store: Store) -> None:
    store.fill(1)
    job = store.downloading()[0]

    assert store.do(jobs.record_download_trouble, trouble(job)) == [None]
    assert store.do(jobs.record_download_trouble, trouble(job, link_dead=True)) == [NOW]
    later = jobs.DownloadTrouble(job, "w1", "403", NOW + 50, link_dead=True)
    assert store.do(jobs.record_download_trouble, later) == [NOW]
    assert store.state(job.id) == "downloading"

    store.do(jobs.record_download_trouble, trouble(job, link_dead=True, expired=True))
    assert store.state(job.id) == "expired"
    store.check()


def test_the_remote_word_is_noted_and_the_start_is_kept(store: Store) -> None:
    store.fill(1)
    job = store.running()[0]

    store.do(jobs.record_remote_state, jobs.RemoteState(job, "in_queue", 3, False, NOW))
    assert (store.job(job.id).queue_position, store.attempt(job.attempt_id).started_ms) == (3, None)
    for later in (1, 2):
        change = jobs.RemoteState(job, "in_progress", None, True, NOW + later)
        store.do(jobs.record_remote_state, change)

    assert store.job(job.id).remote_state == "in_progress"
    assert store.attempt(job.attempt_id).started_ms == NOW + 1


def test_a_job_past_its_timeout_frees_its_slot_and_stays_running(store: Store) -> None:
    store.fill(5)
    job = store.running(4)[0]
    assert store.claim() == []

    store.do(jobs.record_timed_out, jobs.TimedOut(job, NOW))

    store.check()
    assert store.state(job.id) == "running"
    assert len(store.claim(4)) == 1
    assert store.reserved() == 5 * EST


def test_the_database_forbids_two_live_attempts_of_a_job(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    second = text(
        "INSERT INTO attempts (id, job_id, no, job_version, account_id, batch_id, worker_id, "
        "model, inputs, input_hash, state, intent_ms) SELECT 'other', job_id, 2, 1, account_id, "
        "batch_id, worker_id, model, inputs, input_hash, :state, 0 FROM attempts WHERE id = :id"
    )

    for state in ("intent", "accepted", "in_doubt"):
        with (
            pytest.raises(StoreError) as caught,
            store.database.transaction() as tx,
        ):
            tx.run(second, {"state": state, "id": job.attempt_id})
        assert is_conflict(caught.value.__cause__ or caught.value)
    with store.database.transaction() as tx:
        tx.run(second, {"state": "rejected", "id": job.attempt_id})


# Several requests at once.


def test_a_group_of_the_usual_kind_is_one_call(store: Store) -> None:
    store.fill(4)
    group = store.claim(4)

    store.do(jobs.record_accepted, *map(accepted, group))
    store.check()
    assert store.do(jobs.record_generated, *map(generated, group)) == [True] * 4
    store.check()
    assert store.do(jobs.finish, *map(finish, group)) == [True] * 4

    store.check()
    assert store.spent() == 4 * EST
    assert {row.state for row in store.query("SELECT state FROM jobs")} == {"succeeded"}


def test_a_group_with_an_unusual_one_changes_nothing_and_asks_to_be_done_singly(
    store: Store,
) -> None:
    store.fill(2)
    usual, late = store.claim(2)
    store.do(jobs.record_doubt, doubt(late))

    with pytest.raises(jobs.Regroup):
        store.do(jobs.record_accepted, accepted(usual), accepted(late))

    assert (store.state(usual.id), store.state(late.id)) == ("submitting", "in_doubt")
    store.check()


def test_a_group_of_decisions_with_a_lost_job_asks_to_be_done_singly(store: Store) -> None:
    store.fill(2)
    first, second = store.downloading(2)
    store.do(jobs.finish, finish(first))

    with pytest.raises(jobs.Regroup):
        store.do(jobs.finish, finish(first), finish(second))
    with pytest.raises(jobs.Regroup):
        store.do(jobs.record_generated, generated(first), generated(second))

    assert store.state(second.id) == "downloading"
    store.check()


# Late facts.


def test_an_answer_that_comes_after_the_doubt_lets_the_job_run(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.do(jobs.record_doubt, doubt(job))

    store.do(jobs.record_accepted, accepted(job))

    store.check()
    assert store.state(job.id) == "running"
    assert store.attempt(job.attempt_id).extra == 0
    assert [job.id for job in store.adopt()] == [job.id]


def test_an_answer_that_comes_after_writing_off_gives_the_money_back(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.do(jobs.record_doubt, doubt(job))
    store.by_hand(by_hand.write_off, job.id)
    assert store.spent() == EST

    store.do(jobs.record_accepted, accepted(job))

    store.check()
    assert (store.state(job.id), store.spent(), store.reserved()) == ("running", 0, EST)


def test_an_answer_that_comes_before_the_job_is_bought_again_saves_the_payment(
    store: Store,
) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.do(jobs.record_doubt, doubt(job))
    store.by_hand(by_hand.resubmit, job.id)

    store.do(jobs.record_accepted, accepted(job))

    store.check()
    assert (store.state(job.id), store.spent(), store.reserved()) == ("running", 0, EST)
    assert store.claim() == []


def test_an_answer_that_comes_after_the_job_was_bought_again_is_an_extra_purchase(
    store: Store,
) -> None:
    store.fill(1)
    first = store.claim()[0]
    store.do(jobs.record_doubt, doubt(first))
    store.by_hand(by_hand.resubmit, first.id)
    second = store.claim()[0]

    store.do(jobs.record_accepted, accepted(first))

    store.check()
    row = store.attempt(first.attempt_id)
    assert (row.state, row.extra, row.request_id) == ("accepted", 1, f"req-{first.attempt_id}")
    assert (store.state(first.id), store.job(first.id).attempt_id) == (
        "submitting",
        second.attempt_id,
    )
    store.do(jobs.record_accepted, accepted(second))
    store.do(jobs.record_generated, generated(second))
    store.check()


def test_an_extra_purchase_does_not_hold_its_slot_for_ever(store: Store) -> None:
    store.fill(1)
    first = store.claim()[0]
    store.do(jobs.record_doubt, doubt(first))
    store.by_hand(by_hand.resubmit, first.id)
    second = store.downloading()[0]
    store.do(jobs.record_accepted, accepted(first))

    assert store.state(second.id) == "downloading"
    assert store.try_claim().live == 1
    assert store.try_claim(now_ms=NOW + SLOT_MS).live == 0


def test_a_fact_that_is_recorded_twice_changes_nothing(store: Store) -> None:
    store.fill(1)
    job = store.running()[0]
    store.do(jobs.record_accepted, accepted(job))
    store.check()
    assert (store.state(job.id), store.attempt(job.attempt_id).extra) == ("running", 0)

    store.do(jobs.record_generated, generated(job))
    store.do(jobs.record_accepted, accepted(job))

    store.check()
    assert store.attempt(job.attempt_id).state == "succeeded"
    assert store.spent() == EST


def test_an_unknown_attempt_is_an_error(store: Store) -> None:
    with store.database.transaction() as tx, pytest.raises(LookupError):
        jobs.accept_late(tx, "nobody", "req", None, NOW)


def test_whether_a_rescued_id_is_recorded_already(store: Store) -> None:
    store.fill(2)
    job, other = store.claim(2)

    request_id = accepted(job).request_id

    def recorded_as(attempt_id: str, request_id: str) -> jobs.Recorded:
        with store.database.reading() as tx:
            return jobs.recorded_as(tx, attempt_id, request_id)

    before = recorded_as(job.attempt_id, request_id)
    store.do(jobs.record_accepted, accepted(job))

    assert before is jobs.Recorded.NOT_YET
    assert recorded_as(job.attempt_id, request_id) is jobs.Recorded.SO
    assert recorded_as(job.attempt_id, "another") is jobs.Recorded.OTHERWISE
    assert recorded_as(other.attempt_id, request_id) is jobs.Recorded.OTHERWISE
    assert recorded_as("nobody", "r") is jobs.Recorded.OTHERWISE


def test_a_request_id_belongs_to_one_attempt_only(store: Store) -> None:
    store.fill(2)
    first, second = store.claim(2)
    store.do(jobs.record_accepted, accepted(first, "same"))

    with pytest.raises(StoreError) as caught:
        store.do(jobs.record_accepted, accepted(second, "same"))
    assert is_conflict(caught.value.__cause__ or caught.value)

    assert store.state(second.id) == "submitting"
    store.check()


# A worker that dies, and one that was only thought dead.


def test_the_jobs_of_a_dead_worker(store: Store) -> None:
    store.fill(4)
    running = store.running()[0]
    downloading = store.downloading()[0]
    submitting = store.claim()[0]
    store.worker("w2")

    assert store.bury("w1") == 1
    store.check()
    assert store.state(submitting.id) == "in_doubt"
    assert [job.id for job in store.adopt(worker="w2")] == [running.id, downloading.id]
    assert store.adopt(worker="w2") == []
    assert store.bury("w1") == 0
    store.check()


def test_what_is_adopted_comes_with_its_request(store: Store) -> None:
    store.fill(2)
    job = store.running(2)[0]
    store.bury("w1")
    store.worker("w2")

    adopted = store.adopt(worker="w2", wanted=1, downloads=False)

    assert [(one.id, one.request_id, one.epoch) for one in adopted] == [
        (job.id, f"req-{job.attempt_id}", job.epoch + 2)
    ]
    assert [one.id for one in store.adopt(worker="w2")] == [job.id + 1]


def test_without_downloads_only_running_jobs_are_adopted(store: Store) -> None:
    store.fill(1)
    store.downloading()
    store.bury("w1")
    store.worker("w2")

    assert store.adopt(worker="w2", downloads=False) == []
    assert len(store.adopt(worker="w2")) == 1


def test_a_worker_that_was_declared_dead_adopts_nothing(store: Store) -> None:
    store.fill(1)
    store.running()
    store.bury("w1")

    assert store.adopt(worker="w1") == []


def test_a_worker_thought_dead_may_still_prove_that_nothing_was_sent(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.bury("w1")

    store.do(jobs.put_back, put_back(job))

    store.check()
    assert store.state(job.id) == "pending"
    store.worker("w2")
    assert [again.id for again in store.claim(worker="w2")] == [job.id]


def test_a_worker_thought_dead_may_still_record_a_refusal(store: Store) -> None:
    store.fill(2)
    first, second = store.claim(2)
    store.bury("w1")

    store.do(jobs.put_back, put_back(first, keep=True))
    store.do(jobs.record_refused, refusal(second))

    store.check()
    assert (store.state(first.id), store.state(second.id)) == ("pending", "failed")
    assert store.reserved() == 0


@pytest.mark.parametrize("decision", ["adopt", "resubmit", "write_off"])
def test_what_a_person_says_of_a_doubt_is_not_said_of_the_next_one(
    store: Store, decision: str
) -> None:
    store.fill(1)
    [job] = store.claim()
    store.do(jobs.record_doubt, doubt(job))
    with store.database.reading() as tx:
        shown = reads.job_row(tx, job.id)
    assert shown is not None
    store.by_hand(by_hand.resubmit, job.id)  # somebody else, while the first is being asked
    store.do(jobs.record_doubt, doubt(store.claim()[0]))
    decide: Callable[[Transaction], None] = {
        "adopt": lambda tx: reconciling.adopt(tx, [Adoption(shown, "req-1")], now_ms=NOW),
        "resubmit": lambda tx: reconciling.resubmit(tx, [shown], now_ms=NOW),
        "write_off": lambda tx: reconciling.write_off(tx, [shown], now_ms=NOW),
    }[decision]

    with (
        pytest.raises(UsageError, match="bought again meanwhile"),
        store.database.transaction() as tx,
    ):
        decide(tx)

    store.check()
    assert store.state(job.id) == "in_doubt"


def test_a_late_refusal_leaves_the_request_alone_that_a_person_adopted(store: Store) -> None:
    store.fill(1)
    [job] = store.claim()
    store.bury("w1")
    store.by_hand(by_hand.adopt, job.id, "req-1")

    store.do(jobs.record_refused, refusal(job))

    store.check()
    assert store.state(job.id) == "running"
    store.worker("w2")
    assert [again.request_id for again in store.adopt(worker="w2")] == ["req-1"]


def test_leaving_ends_the_session_and_gives_the_jobs_up(store: Store) -> None:
    store.fill(2)
    store.running()
    store.claim()
    with store.database.transaction() as tx:
        workers.begin_session(tx, "s1", "w1", "run", now_ms=NOW)

    assert store.do(workers.leave, workers.Leave("w1", "s1", 3, ("x",), SLOT_MS, NOW)) == [1]

    store.check()
    session = store.query("SELECT exit_code, reasons FROM sessions")[0]
    assert tuple(session) == (3, '["x"]')


def test_a_beat_tells_a_worker_that_it_was_declared_dead(store: Store) -> None:
    store.worker("w2")
    store.bury("w2")

    beats = [workers.Beat(name, 30_000) for name in ("w1", "w2")]
    assert [pulse.alive for pulse in store.do(workers.beat, *beats)] == [True, False]
    with store.database.reading() as tx:
        backend = store.database.backend
        known = workers.living(tx, backend) + workers.fallen(tx, backend, but="")
        assert known == ["w1"]
        assert workers.living(tx, backend, but="w1") == []


def test_the_longest_generation_is_looked_up(store: Store) -> None:
    store.fill(1)
    with store.database.reading() as tx:
        assert workers.longest_generation_ms(tx, store.account.id) is None
    job = store.running()[0]
    store.do(jobs.record_generated, jobs.Generated(job, "w1", (), None, 77, "{}", NOW))
    with store.database.reading() as tx:
        assert workers.longest_generation_ms(tx, store.account.id) == 77


# What a person does.


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
def test_a_retry_by_hand_makes_a_job_payable_again(store: Store, end: str) -> None:
    store.fill(1)
    if end == "expired":
        job = store.downloading()[0]
        store.do(jobs.record_download_trouble, trouble(job, expired=True))
    else:
        job = store.running()[0]
        store.do(jobs.record_ended, ended(job, state=end))

    outcome = store.by_hand(by_hand.retry, job.id)

    assert (outcome.done, outcome.was) == (True, end)
    store.check()
    assert (store.state(job.id), store.job(job.id).error) == ("pending", None)


def test_what_a_person_may_not_do(store: Store) -> None:
    store.fill(4)
    submitting = store.claim()[0]
    running = store.running()[0]
    succeeded = store.downloading()[0]
    store.do(jobs.finish, finish(succeeded))
    in_doubt = store.claim()[0]
    store.do(jobs.record_doubt, doubt(in_doubt))

    for job in (submitting, running, succeeded, in_doubt):
        assert not store.by_hand(by_hand.retry, job.id).done
        assert not store.by_hand(by_hand.cancel_pending, job.id).done
    for job in (submitting, running, succeeded):
        assert not store.by_hand(by_hand.adopt, job.id, "req").done
        assert not store.by_hand(by_hand.resubmit, job.id).done
        assert not store.by_hand(by_hand.write_off, job.id).done
    for job in (submitting, running, in_doubt):
        assert not store.by_hand(by_hand.download_again, job.id).done
    store.check()
    for operation in (
        by_hand.retry,
        by_hand.cancel_pending,
        by_hand.resubmit,
        by_hand.download_again,
    ):
        with pytest.raises(LookupError):
            store.by_hand(operation, 999)
    with pytest.raises(LookupError):
        store.by_hand(by_hand.adopt, 999, "req")


def test_a_pending_job_is_cancelled_and_taken_up_again(store: Store) -> None:
    store.fill(1)

    assert store.by_hand(by_hand.cancel_pending, 1).done
    store.check()
    assert store.claim() == []
    assert store.by_hand(by_hand.retry, 1).done
    store.check()
    assert len(store.claim()) == 1


def test_many_jobs_are_retried_and_cancelled_together(store: Store) -> None:
    store.fill(5)
    failed, gone = store.running(2)
    store.do(jobs.record_ended, ended(failed), ended(gone, state="cancelled"))
    running = store.running()[0]
    seed = jobs.NewSeed({"promptText": "r0", "seed": 9}, 9)

    with store.database.transaction() as tx:
        done = by_hand.retry_each(
            tx, [gone.id, running.id, failed.id, 5], now_ms=NOW, seeds={failed.id: seed}
        )
    store.check()
    with store.database.transaction() as tx:
        cancelled = by_hand.cancel_each(tx, [gone.id, running.id, 4], now_ms=NOW)

    store.check()
    assert {job: (one.done, str(one.was)) for job, one in done.items()} == {
        gone.id: (True, "cancelled"),
        running.id: (False, "running"),
        failed.id: (True, "failed"),
        5: (False, "pending"),
    }
    assert {job for job, one in cancelled.items() if one.done} == {gone.id, 4}
    assert (store.job(failed.id).seed, store.job(gone.id).seed) == (9, None)
    told = store.query("SELECT job_id, data FROM events WHERE kind = 'retried' ORDER BY job_id")
    assert {one.job_id: json.loads(one.data) for one in told} == {
        failed.id: {"was": "failed", "new_seed": "9"},
        gone.id: {"was": "cancelled"},
    }


def test_a_doubt_is_answered_by_adopting_its_request(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.do(jobs.record_doubt, doubt(job))

    assert store.by_hand(by_hand.adopt, job.id, "req-found").done

    store.check()
    assert (store.state(job.id), store.spent(), store.reserved()) == ("running", 0, EST)
    assert store.adopt()[0].request_id == "req-found"


def test_a_request_that_another_job_carries_is_not_adopted(store: Store) -> None:
    store.fill(2)
    store.running()
    job = store.claim()[0]
    store.do(jobs.record_doubt, doubt(job))
    carried = store.query("SELECT request_id FROM attempts WHERE state = 'accepted'")[0][0]

    with pytest.raises(UsageError, match="belongs to another job"):
        store.by_hand(by_hand.adopt, job.id, carried)

    assert store.state(job.id) == "in_doubt"


@pytest.mark.parametrize(
    ("operation", "state"), [(by_hand.resubmit, "pending"), (by_hand.write_off, "failed")]
)
def test_a_doubt_that_is_given_up_counts_its_estimate(
    store: Store, operation: Any, state: str
) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.do(jobs.record_doubt, doubt(job))

    assert store.by_hand(operation, job.id).done

    store.check()
    assert store.state(job.id) == state
    assert (store.attempt(job.attempt_id).state, store.spent(), store.reserved()) == (
        "abandoned",
        EST,
        0,
    )


@pytest.mark.parametrize("expired", [False, True], ids=["succeeded", "expired"])
def test_a_paid_clip_is_fetched_again_without_paying(store: Store, *, expired: bool) -> None:
    store.fill(1)
    job = store.downloading()[0]
    if expired:
        store.do(jobs.record_download_trouble, trouble(job, expired=True))
    else:
        store.do(jobs.finish, finish(job))

    assert store.by_hand(by_hand.download_again, job.id).done

    store.check()
    again = store.adopt()[0]
    assert (again.id, again.state) == (job.id, "downloading")
    assert store.spent() == EST


def test_a_lost_request_is_looked_at_again_and_charged_once(store: Store) -> None:
    store.fill(1)
    job = store.running()[0]
    store.do(jobs.record_ended, ended(job, error_class=ErrorClass.REMOTE_LOST))
    assert store.spent() == EST

    assert store.by_hand(by_hand.download_again, job.id).done
    store.check()
    assert (store.state(job.id), store.spent(), store.reserved()) == ("running", 0, EST)

    again = store.adopt()[0]
    store.do(jobs.record_generated, generated(again, cost_micros=1))
    store.check()
    assert store.spent() == 1
