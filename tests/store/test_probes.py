from store.stored_jobs import NOW, Store

from batchgen.domain.fitness import Facts, Problem
from batchgen.store import by_hand, probes
from batchgen.store.probes import Seen, Waiting, hash_of
from batchgen.store.statements import text

GOOD = Facts(None, "HEAD is refused (HTTP 403)", 206, "image/png", 10**11, 64, 36)
URL = "https://images.example.com/a.png"


def waiting(store: Store) -> list[Waiting]:
    with store.database.reading() as tx:
        return list(probes.waiting(tx, store.account.id, None, max_job_id=10**9))


def fail(store: Store, job: Waiting, reason: str = "gone", *, now_ms: int = NOW) -> bool:
    with store.database.transaction() as tx:
        return probes.fail(tx, job, reason, now_ms=now_ms)


def revive(store: Store, job: Waiting) -> bool:
    with store.database.transaction() as tx:
        return probes.revive(tx, job, now_ms=NOW)


def test_a_signed_link_has_no_name_and_others_have_one_each() -> None:
    assert hash_of(URL + "?X-Amz-Signature=1") is None
    assert hash_of(URL + "?token=1") is None
    assert len({hash_of(URL), hash_of(URL + "?v=1"), hash_of(URL + "?v=2")}) == 3


def test_what_a_url_answered_is_believed_for_a_time_and_only_if_it_was_a_file(
    store: Store,
) -> None:
    with store.database.transaction() as tx:
        probes.keep(tx, [("a", Seen(GOOD, 5)), ("b", Seen(Facts(Problem.STATUS, "", 404), 5))])
        probes.keep(tx, [("c", Seen(GOOD, 5)), ("c", Seen(Facts(Problem.STATUS, "", 404), 6))])

    with store.database.reading() as tx:
        assert probes.seen(tx, ["a", "b", "c", "d"], since_ms=5) == {"a": Seen(GOOD, 5)}
        assert probes.seen(tx, ["a"], since_ms=6) == {}


def test_a_job_fails_unpaid_and_waits_again(store: Store) -> None:
    store.fill(3)
    job = waiting(store)[1]

    assert fail(store, job)

    row = store.job(job.id)
    assert (row.state, row.error_class, row.error) == ("failed", "invalid_input", "gone")
    assert row.unfit
    assert row.attempt_id is None
    assert [(one.id, one.is_unfit) for one in waiting(store)] == [(1, False), (2, True), (3, False)]
    assert len(store.claim(4)) == 2
    store.check()

    unfit = waiting(store)[0]
    assert fail(store, unfit, "still gone", now_ms=NOW + 5)
    assert (store.job(job.id).error, store.job(job.id).finished_ms) == ("still gone", NOW + 5)
    assert revive(store, unfit)
    assert not revive(store, unfit)

    row = store.job(job.id)
    assert (row.state, row.error_class, row.error, row.finished_ms) == ("pending", *[None] * 3)
    assert not row.unfit
    kinds = [row.kind for row in store.query("SELECT kind FROM events ORDER BY id")]
    assert kinds == ["unfit", "fit_again"]
    store.check()


def test_two_that_find_a_job_unfit_at_once_count_it_once(store: Store) -> None:
    store.fill(1)
    [job] = waiting(store)

    assert fail(store, job)
    assert not fail(store, job)

    store.check()


def test_a_job_that_another_worker_took_meanwhile_is_left_alone(store: Store) -> None:
    store.fill(1)
    job = waiting(store)[0]
    store.claim(1)

    assert not fail(store, job)

    assert store.state(job.id) == "submitting"
    store.check()


def test_a_job_that_failed_otherwise_is_neither_unfit_nor_revived(store: Store) -> None:
    store.fill(1)
    job = waiting(store)[0]
    with store.database.transaction() as tx:
        tx.run(text("UPDATE jobs SET state = 'failed', error = 'other'"))
        tx.moved(job.batch_id, "pending", "failed")

    assert waiting(store) == []
    assert not fail(store, job)
    assert not revive(store, job)
    assert store.job(job.id).error == "other"


def test_a_retry_by_hand_makes_it_fit_until_the_next_look(store: Store) -> None:
    store.fill(1)
    job = waiting(store)[0]
    fail(store, job)

    assert store.by_hand(by_hand.retry, job.id).done

    assert [one.is_unfit for one in waiting(store)] == [False]
    store.check()
