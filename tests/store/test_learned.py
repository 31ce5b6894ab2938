from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from store.plans import plans_of
from store.stored_jobs import MODEL, NOW, Store, ended, generated, spec_of

from batchgen.store import accounts, jobs, learned
from batchgen.store.learned import Duration
from batchgen.store.statements import text


def told(store: Store) -> list[Duration]:
    with store.database.reading() as tx:
        return list(learned.durations(tx, store.account.id))


def finished(store: Store, runs_ms: Sequence[int | None], **changes: Any) -> None:
    """Store a batch of jobs that took so long, in this order."""
    specs = [spec_of(f"{changes}{n}")._replace(**changes) for n in range(len(runs_ms))]
    store.add(store.batch(str(changes)), specs)
    for run_ms in runs_ms:
        [job] = store.running()
        store.do(jobs.record_generated, replace(generated(job), run_ms=run_ms))


def test_durations_are_told_by_model_and_settings_oldest_first(store: Store) -> None:
    finished(store, [10_000, 12_000], settings='{"duration":10}')
    finished(store, [5_000])
    finished(store, [70_000], model="runwayml/other")

    assert told(store) == [
        Duration("runwayml/other", "{}", 70_000),
        Duration(MODEL, '{"duration":10}', 10_000),
        Duration(MODEL, '{"duration":10}', 12_000),
        Duration(MODEL, "{}", 5_000),
    ]


def test_what_did_not_end_or_was_not_timed_tells_nothing(store: Store) -> None:
    finished(store, [None, 5_000])
    store.add(store.batch("more"), [spec_of("failed"), spec_of("still running")])
    failed, _ = store.running(2)
    store.do(jobs.record_ended, ended(failed))

    assert told(store) == [Duration(MODEL, "{}", 5_000)]


def test_attempts_from_before_settings_were_stored_count_for_their_model(store: Store) -> None:
    finished(store, [5_000])
    with store.database.transaction() as tx:
        tx.run(text("UPDATE attempts SET settings = NULL"))

    assert told(store) == [Duration(MODEL, "", 5_000)]


def test_an_account_learns_nothing_from_another(store: Store) -> None:
    finished(store, [5_000])
    with store.database.transaction() as tx:
        store.account = accounts.ensure(tx, "runcomfy", "other")

    assert told(store) == []


def test_only_the_newest_are_read_whatever_is_stored(store: Store) -> None:
    store.fill(1)
    [job] = store.running()
    store.do(jobs.record_generated, generated(job))
    with store.database.transaction() as tx:
        tx.run_many(
            text(
                "INSERT INTO attempts (id, job_id, no, job_version, account_id, batch_id, "
                "worker_id, model, inputs, input_hash, state, intent_ms, run_ms) SELECT :id, "
                "job_id, :no, 1, account_id, batch_id, worker_id, model, inputs, input_hash, "
                "'succeeded', :now_ms, :no FROM attempts WHERE id = :like"
            ),
            [
                {"id": f"z{no:06}", "no": no, "now_ms": NOW, "like": job.attempt_id}
                for no in range(2, 1503)
            ],
        )

    assert [one.run_ms for one in told(store)] == list(range(503, 1503))


def plans_of_durations(store: Store) -> list[str]:
    """Return the query plans of what `durations` asks, as it really runs."""
    with store.database.reading() as tx, plans_of(tx) as plans:
        list(learned.durations(tx, store.account.id))
    return plans


def test_durations_are_read_along_the_index_of_closed_attempts(store: Store) -> None:
    finished(store, [5_000] * 3)
    with store.database.transaction() as tx:
        # Enough of others that a server's planner thinks of an index at all.
        tx.run(
            text(
                "WITH RECURSIVE more(n) AS (SELECT 4 UNION ALL SELECT n + 1 FROM more "
                "WHERE n < 20000) "
                "INSERT INTO attempts (id, job_id, no, job_version, account_id, batch_id, "
                "worker_id, model, inputs, input_hash, state, intent_ms, run_ms) SELECT "
                "'z' || n, job_id, n, 1, account_id, batch_id, worker_id, 'm' || (n % 50), inputs, "
                "input_hash, 'succeeded', intent_ms, n FROM attempts, more "
                "WHERE attempts.id = (SELECT min(id) FROM attempts)"
            )
        )
        tx.run(text("ANALYZE attempts"))

    plans = plans_of_durations(store)

    assert len(plans) == 51 * 2 + 1  # each model, what it took, and that there is no other
    assert all("ix_attempts_closed" in plan for plan in plans), plans[:2]
    assert not any("TEMP B-TREE" in plan or "Seq Scan" in plan for plan in plans), plans[:2]


def test_nothing_is_learned_from_nothing(store: Store) -> None:
    assert told(store) == []
