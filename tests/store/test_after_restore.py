"""Every case of a purchase that a restored job database forgot."""

import pytest
from store.stored_jobs import NOW, Store, accepted, doubt, ended, spec_of
from store.test_journal import entry_of
from store.test_step_back import execute, forget, put_right, told

from batchgen.domain.states import ErrorClass
from batchgen.reconciling import repair
from batchgen.store import jobs, step_back
from batchgen.store.after_restore import Became
from batchgen.store.journal import Contents, Entry
from batchgen.store.step_back import Look, Witness


@pytest.fixture
def store(sqlite_store: Store) -> Store:
    """Of one kind: the statements have met the other in `test_step_back.py`."""
    return sqlite_store


def test_an_attempt_whose_acceptance_was_forgotten_learns_its_request_id(store: Store) -> None:
    store.fill(2)
    one, other = store.claim(2)
    store.do(jobs.record_doubt, doubt(other))

    changes = put_right(store, told(one, request_id="req-1"), told(other, request_id="req-2"))

    assert [became for _, became in changes] == [Became.RUNNING] * 2
    assert store.state(one.id) == store.state(other.id) == "running"


def test_an_attempt_that_was_never_sent_lets_its_job_wait(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]

    assert put_right(store, told(job, is_unpaid=True)) == [(job.attempt_id, Became.PUT_BACK)]

    assert store.state(job.id) == "pending"
    assert store.claim()[0].id == job.id


@pytest.mark.parametrize("state", ["running", "in_doubt", "submitting", "failed"])
def test_the_newest_purchase_decides_what_becomes_of_its_job(store: Store, state: str) -> None:
    """The copy knows an attempt that a later one, which it forgot, had made way for."""
    store.fill(1)
    job = store.claim()[0]
    if state in ("running", "failed"):
        store.do(jobs.record_accepted, accepted(job))
    if state == "in_doubt":
        store.do(jobs.record_doubt, doubt(job))
    if state == "failed":
        store.do(jobs.record_ended, ended(job, error_class=ErrorClass.UNKNOWN))
    later = told(job, attempt_id="b1", no=2, intent_ms=NOW + 1, request_id="req-b1")

    assert put_right(store, later) == [("b1", Became.RUNNING)]

    assert (store.state(job.id), store.job(job.id).attempt_id) == ("running", "b1")
    before = store.attempt(job.attempt_id)
    assert (before.state, bool(before.extra)) == {
        "running": ("accepted", True),
        "failed": ("failed", False),
    }.get(state, ("abandoned", False))
    assert store.attempt("b1").no == 2


def test_a_purchase_of_a_job_that_was_bought_again_since_is_an_extra_one(store: Store) -> None:
    store.fill(1)
    job = store.running()[0]
    early = told(job, attempt_id="A1", no=1, intent_ms=NOW - 1, request_id="req-early")

    assert put_right(store, early) == [("A1", Became.EXTRA)]

    assert store.state(job.id) == "running"
    assert store.job(job.id).attempt_id == job.attempt_id
    assert bool(store.attempt("A1").extra)


def test_a_request_that_another_attempt_carries_is_known(store: Store) -> None:
    store.fill(2)
    one, other = store.running(), store.claim()
    carried = store.attempt(one[0].attempt_id).request_id
    lost = told(other[0], attempt_id="b1", intent_ms=NOW + 1, request_id=carried)

    assert put_right(store, lost) == [("b1", Became.KNOWN)]

    assert put_right(store, lost) == []
    with store.database.transaction() as tx:
        assert step_back.look(tx, [Look((lost.witness,), NOW)]) == [None]


def test_a_purchase_without_a_job_waits_for_its_manifest(store: Store) -> None:
    batch_id = store.fill(1)
    lost = entry_of(99, key="j000099", input_hash="hash-new", request_id="req-9", account_id=1)
    with store.database.transaction() as tx:
        assert step_back.look(tx, [Look((lost.witness,), NOW)])[0] is not None

    done, left = repair(store.database, [Contents((lost,))], write_off=False, now_ms=NOW)

    assert [one.entry for one in done.unplaced] == [lost]
    assert left
    assert store.try_claim().stepped_back is not None

    store.add(batch_id, [spec_of("new")])  # under another key, with the same inputs
    job_id = store.query("SELECT id FROM jobs WHERE row_id = 'new'")[0].id
    assert put_right(store, lost) == [(lost.attempt_id, Became.RUNNING)]
    assert store.state(job_id) == "running"
    assert store.try_claim().stepped_back is None


def test_a_job_with_other_inputs_takes_no_purchase_until_they_are_the_same(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.bury("w1")
    forget(store, job.attempt_id)
    lost = told(job, input_hash="hash-other", request_id="req-1")

    done, left = repair(store.database, [Contents((lost,))], write_off=False, now_ms=NOW)

    assert (len(done.changes), len(done.unplaced), len(left)) == (0, 1, 1)
    execute(store, "UPDATE jobs SET input_hash = 'hash-other'")
    assert put_right(store, lost) == [(lost.attempt_id, Became.RUNNING)]


def test_a_copy_that_is_older_than_the_journal_is_not_put_right(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.bury("w1")
    forget(store, job.attempt_id)
    before = Witness("a-before", 5, is_accepted=False)
    journal = Contents((told(job, request_id="req-1"),), after=before)

    done, left = repair(store.database, [journal], write_off=False, now_ms=NOW)

    assert (done.changes, len(left)) == ([], 1)
    assert "older than the journal" in left[0]
    older = Contents((told(job, attempt_id="a-before", intent_ms=NOW - 1, request_id="req-0"),))
    done, left = repair(store.database, [journal, older], write_off=False, now_ms=NOW)
    assert [change.became for change in done.changes] == [Became.EXTRA, Became.RUNNING]
    assert left == []


def test_what_another_host_missed_is_not_forgotten_for_it(store: Store) -> None:
    store.fill(1)
    elsewhere = Witness("a-elsewhere", 1, is_accepted=False)
    with store.database.transaction() as tx:
        step_back.look(tx, [Look((elsewhere,), NOW)])

    _, left = repair(store.database, [Contents()], write_off=False, now_ms=NOW)

    assert "--journal" in left[0]
    assert store.try_claim().stepped_back is not None


def test_every_repair_leaves_a_trace(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.bury("w1")
    forget(store, job.attempt_id)

    put_right(store, told(job, request_id="req-1"))

    events = store.query("SELECT kind FROM events WHERE job_id = :id ORDER BY id", id=job.id)
    assert [event.kind for event in events][-1] == "after_restore"


def test_a_request_id_without_a_job_has_no_place(store: Store) -> None:
    store.fill(1)
    saved = Contents((Entry("a-saved", request_id="req-1"),))

    done, left = repair(store.database, [saved], write_off=False, now_ms=NOW)

    assert [one.why for one in done.unplaced] == [
        "only its request id was written down, not its job"
    ]
    assert left


def test_what_several_journals_tell_of_a_purchase_is_taken_together(store: Store) -> None:
    store.fill(1)
    job = store.claim()[0]
    store.bury("w1")
    forget(store, job.attempt_id)
    saved = Contents((Entry(job.attempt_id, request_id="req-1"),))
    journals = [Contents((told(job),)), saved]

    done, _ = repair(store.database, journals, write_off=False, now_ms=NOW)

    assert [change.became for change in done.changes] == [Became.RUNNING]
    assert store.attempt(job.attempt_id).request_id == "req-1"


def test_a_doubt_whose_request_another_attempt_carries_stays_in_doubt(store: Store) -> None:
    store.fill(2)
    one, other = store.running()[0], store.claim()[0]
    store.do(jobs.record_doubt, doubt(other))
    carried = store.attempt(one.attempt_id).request_id

    assert put_right(store, told(other, request_id=carried)) == [(other.attempt_id, Became.KNOWN)]

    assert store.state(other.id) == "in_doubt"
    assert put_right(store, told(other, request_id=carried)) == []


def test_a_purchase_beside_a_clip_that_is_there_is_an_extra_one(store: Store) -> None:
    store.fill(1)
    job = store.downloading()[0]
    later = told(job, attempt_id="b1", no=2, intent_ms=NOW + 1, request_id="req-b1")

    assert put_right(store, later) == [("b1", Became.EXTRA)]

    assert store.state(job.id) == "downloading"


def test_a_copy_older_than_the_journal_can_be_given_up(store: Store) -> None:
    store.fill(1)
    before = Witness("a-before", 5, is_accepted=False)
    with store.database.transaction() as tx:
        said = step_back.look(tx, [Look((before,), NOW)])[0]
    assert said is not None
    assert "reconcile --after-restore" in step_back.explain(said)

    _, left = repair(store.database, [Contents((), before)], write_off=True, now_ms=NOW)

    assert left == []
    with store.database.transaction() as tx:
        assert step_back.look(tx, [Look((before,), NOW)]) == [None]


def test_the_newest_purchase_is_where_a_journal_begins(store: Store) -> None:
    store.fill(2)
    with store.database.reading() as tx:
        assert step_back.newest(tx) is None
    last = store.claim(2)[-1]

    with store.database.reading() as tx:
        assert step_back.newest(tx) == Witness(last.attempt_id, last.id, is_accepted=False)
