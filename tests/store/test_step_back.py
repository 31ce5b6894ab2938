"""Noticing that purchases are missing, and putting them back: on both kinds of database."""

import re
from typing import Any

import pytest
from store.stored_jobs import EST, NOW, Store, accepted, doubt, ended, put_back
from store.test_journal import entry_of

from batchgen.domain.errors import StoreError
from batchgen.domain.states import ErrorClass
from batchgen.reconciling import repair
from batchgen.store import by_hand, jobs, step_back
from batchgen.store.after_restore import Became
from batchgen.store.journal import Contents, Entry
from batchgen.store.stamp import stamp_of
from batchgen.store.statements import text
from batchgen.store.step_back import Look, Watch, Witness

LEASE_MS = 30_000


def witness(job: jobs.Job, *, is_accepted: bool = False) -> Witness:
    return Witness(job.attempt_id, job.id, is_accepted=is_accepted)


def execute(store: Store, sql: str, **values: Any) -> None:
    with store.database.transaction() as tx:
        tx.run(text(sql), values)


def forget(store: Store, *attempts: str) -> None:
    """Take attempts out of the database, as a restore does, and let their jobs wait."""
    for attempt_id in attempts:
        execute(
            store,
            "UPDATE jobs SET state = 'pending', owner = NULL, attempt_id = NULL, "
            "finished_ms = NULL WHERE attempt_id = :id",
            id=attempt_id,
        )
        execute(store, "DELETE FROM attempts WHERE id = :id", id=attempt_id)
    execute(store, "DELETE FROM counters")
    execute(
        store,
        "INSERT INTO counters SELECT batch_id, state, count(*) FROM jobs GROUP BY batch_id, state",
    )


def told(job: jobs.Job, **changes: Any) -> Entry:
    """What the journal tells of a claimed job."""
    values: dict[str, Any] = {
        "attempt_id": job.attempt_id,
        "job_id": job.id,
        "key": job.key,
        "label": f"{job.batch}/{job.label}",
        "no": job.no,
        "account_id": 1,
        "input_hash": job.input_hash,
        "model": job.model,
        "est_micros": EST,
        "intent_ms": NOW,
        **changes,
    }
    return Entry(**values)


def put_right(store: Store, *entries: Entry, write_off: bool = False) -> list[tuple[str, Became]]:
    done, left = repair(store.database, [Contents(entries)], write_off=write_off, now_ms=NOW)
    assert left == []
    store.check()
    return [(change.entry.attempt_id, change.became) for change in done.changes]


# -- noticing --------------------------------------------------------------------------------------


def test_a_claim_pays_for_nothing_if_the_newest_purchase_is_missing(store: Store) -> None:
    store.fill(3)
    job = store.running()[0]
    watch = Watch(witness(job, is_accepted=True), LEASE_MS)
    assert store.try_claim(watch=watch).stepped_back is None
    store.bury("w1")
    store.worker("w2")
    forget(store, job.attempt_id)

    claim = store.try_claim(worker="w2", watch=watch)

    assert claim.jobs == ()
    assert claim.stepped_back is not None
    assert job.attempt_id in claim.stepped_back
    # Durably, and for everybody: also for a worker that has nothing to miss.
    store.worker("w3")
    assert store.try_claim(worker="w3").stepped_back == claim.stepped_back
    with store.database.transaction() as tx:
        assert step_back.look(tx, [Look((), NOW)]) == [claim.stepped_back]


def test_an_acceptance_that_is_missing_is_noticed_too(store: Store) -> None:
    store.fill(2)
    job = store.claim()[0]

    assert store.try_claim(watch=Watch(witness(job))).stepped_back is None
    claim = store.try_claim(watch=Watch(witness(job, is_accepted=True)))

    assert claim.jobs == ()
    assert claim.stepped_back is not None


@pytest.mark.parametrize("keep", [False, True])
def test_an_attempt_that_was_put_back_is_not_missed(store: Store, *, keep: bool) -> None:
    store.fill(2)
    job = store.claim()[0]
    store.do(jobs.put_back, put_back(job, keep=keep))

    claim = store.try_claim(watch=Watch(witness(job)))

    assert claim.stepped_back is None
    assert len(claim.jobs) == 1


def test_however_an_attempt_ends_it_is_not_missed(store: Store) -> None:
    store.fill(4)
    failed, doubted, abandoned, done = store.claim(4)
    store.do(jobs.record_accepted, accepted(failed), accepted(done))
    store.do(jobs.record_ended, ended(failed, error_class=ErrorClass.MODERATION))
    store.do(jobs.record_doubt, doubt(doubted), doubt(abandoned))
    store.by_hand(by_hand.resubmit, abandoned.id)
    witnesses = (
        witness(failed, is_accepted=True),
        witness(doubted),
        witness(abandoned),
        witness(done, is_accepted=True),
    )

    with store.database.transaction() as tx:
        assert step_back.look(tx, [Look(witnesses, NOW)]) == [None]


def test_at_a_server_with_another_stamp_nobody_submits_for_two_leases(store: Store) -> None:
    with store.database.transaction() as tx:
        until_ms = step_back.keep_quiet(tx, "1/00000002", LEASE_MS, now_ms=NOW)
        assert until_ms == NOW + 2 * LEASE_MS
        assert step_back.keep_quiet(tx, "1/00000002", LEASE_MS, now_ms=NOW + 1) == until_ms
        later = step_back.keep_quiet(tx, "1/00000003", LEASE_MS, now_ms=NOW + 2)
        assert later == until_ms + 2
        assert step_back.keep_quiet(tx, "1/00000003", LEASE_MS, now_ms=later) == 0
        assert step_back.identity(tx).stamp == "1/00000003"


def test_a_claim_waits_while_another_server_answers(store: Store) -> None:
    store.fill(1)
    with store.database.transaction() as tx:
        step_back.look(tx, [Look((), NOW)])
        stamp = step_back.identity(tx).stamp
        assert bool(stamp) == tx.is_postgresql
    execute(store, "UPDATE job_database SET stamp = '1/00000001' WHERE stamp <> ''")

    first = store.try_claim(watch=Watch(lease_ms=LEASE_MS))
    store.now_ms = NOW + 2 * LEASE_MS
    second = store.try_claim(watch=Watch(lease_ms=LEASE_MS), now_ms=store.now_ms)

    if stamp:
        assert (first.jobs, first.wait_until_ms) == ((), NOW + 2 * LEASE_MS)
        assert len(second.jobs) == 1
    else:  # SQLite has no server that could be another
        assert len(first.jobs) == 1


def test_a_server_that_does_not_tell_its_stamp_has_none(postgres_store: Store) -> None:
    with postgres_store.database.transaction() as tx:
        assert re.fullmatch(r"\d+/[0-9A-F]{8}", stamp_of(tx))
        tx.run(text("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"))
        tx.run(text("SET LOCAL ROLE pg_signal_backend"))
        assert stamp_of(tx) == ""
        tx.run(text("RESET ROLE"))
        tx.run(text("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC"))


def test_a_server_that_goes_away_is_not_one_without_a_stamp(postgres_store: Store) -> None:
    def ask() -> None:
        with postgres_store.database.transaction() as tx:
            pid = tx.value(text("SELECT pg_backend_pid()"))
            postgres_store.query("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
            stamp_of(tx)

    with pytest.raises(StoreError, match="the PostgreSQL server cannot be used"):
        ask()


# -- putting right ---------------------------------------------------------------------------------


def test_what_was_bought_runs_and_what_may_have_been_is_in_doubt(store: Store) -> None:
    store.fill(4)
    known, doubtful, unpaid, other = store.claim(4)
    store.bury("w1")
    forget(store, *(job.attempt_id for job in (known, doubtful, unpaid, other)))
    entries = (told(known, request_id="req-1"), told(doubtful), told(unpaid, is_unpaid=True))

    assert put_right(store, *entries) == [
        (known.attempt_id, Became.RUNNING),
        (doubtful.attempt_id, Became.IN_DOUBT),
    ]

    assert store.state(known.id) == "running"
    assert store.attempt(known.attempt_id).request_id == "req-1"
    assert store.attempt(known.attempt_id).inputs == store.job(known.id).inputs
    assert store.state(doubtful.id) == "in_doubt"
    assert store.state(unpaid.id) == store.state(other.id) == "pending"
    assert store.reserved() == 2 * EST
    store.worker("w2")
    assert [job.id for job in store.adopt(worker="w2")] == [known.id]
    assert {job.id for job in store.claim(4, worker="w2")} == {unpaid.id, other.id}
    assert put_right(store, *entries) == []


def test_of_several_purchases_of_a_job_the_newest_runs(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.bury("w1")
    forget(store, job.attempt_id)
    entries = [
        told(job, attempt_id=name, no=number, intent_ms=NOW + number, request_id=request_id)
        for number, (name, request_id) in enumerate(
            [("b1", "req-1"), ("b2", None), ("b3", "req-3")], start=1
        )
    ]

    assert put_right(store, *entries) == [
        ("b1", Became.EXTRA),
        ("b2", Became.COUNTED),
        ("b3", Became.RUNNING),
    ]

    assert store.job(job.id).attempt_id == "b3"
    assert (store.spent(), store.reserved()) == (EST, 2 * EST)
    assert [store.attempt(entry.attempt_id).no for entry in entries] == [1, 2, 3]


def test_what_has_no_place_can_be_written_off(store: Store) -> None:
    store.fill(1)
    lost = entry_of(99, request_id="req-9")
    with store.database.transaction() as tx:
        step_back.look(tx, [Look((lost.witness,), NOW)])

    assert put_right(store, lost, write_off=True) == [(lost.attempt_id, Became.WRITTEN_OFF)]

    with store.database.transaction() as tx:
        assert step_back.look(tx, [Look((lost.witness,), NOW)]) == [None]
    assert len(store.claim()) == 1
