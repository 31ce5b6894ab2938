"""What an account's finished requests teach of prices, and what its catalog said."""

from dataclasses import replace

from store.stored_jobs import EST, MODEL, NOW, Store, accepted, ended, generated, spec_of

from batchgen.domain.jobs import Model
from batchgen.domain.prices import Prices, UnitPrice
from batchgen.store import accounts, additions, costs, jobs, probes, reads

TEN = '{"duration":10}'
SCHEMA = {"properties": {"duration": {"type": "integer", "default": 5}}}


def batch_of(store: Store, *, settings: tuple[str, ...]) -> int:
    """Store a batch that knows its model, with a job of each of these settings."""
    batch_id = store.batch()
    with store.database.transaction() as tx:
        found = additions.batch_by_id(tx, batch_id)
        assert found is not None
        additions.save_batch(tx, replace(found, schemas={MODEL: SCHEMA}), now_ms=NOW)
    specs = [spec_of(f"r{n}")._replace(settings=text) for n, text in enumerate(settings)]
    store.add(batch_id, specs)
    return batch_id


def learned(store: Store) -> Prices:
    with store.database.reading() as tx:
        return costs.prices(tx, store.account.id)


def test_the_costs_of_clips_are_learned_by_settings(store: Store) -> None:
    batch_of(store, settings=("{}", "{}", TEN, "{}"))
    first, second, ten, unstated = store.running(4)
    store.do(jobs.record_generated, generated(first, cost_micros=100))
    store.do(jobs.record_generated, generated(second, cost_micros=300))
    store.do(jobs.record_generated, generated(ten, cost_micros=900))
    store.do(jobs.record_generated, generated(unstated))

    prices = learned(store)

    assert prices.of_job(MODEL, "{}", EST) == 200
    assert prices.of_job(MODEL, TEN, EST) == 900
    assert prices.jobs_seen(MODEL, "{}") == 2


def test_a_failed_request_counts_to_its_job_only(store: Store) -> None:
    batch_of(store, settings=("{}", "{}"))
    retried, failed = store.running(2)
    store.do(jobs.record_ended, ended(failed, cost_micros=50))
    store.do(jobs.record_ended, ended(retried, cost_micros=100, retry_at_ms=0))
    again = store.running(1)[0]
    assert again.id == retried.id
    store.do(jobs.record_generated, generated(again, cost_micros=200))

    prices = learned(store)

    assert prices.of_request(MODEL, "{}", EST) == 200
    assert prices.of_job(MODEL, "{}", EST) == 175


def test_other_accounts_teach_nothing(store: Store) -> None:
    batch_of(store, settings=("{}",))
    store.do(jobs.record_generated, generated(store.running()[0], cost_micros=100))
    with store.database.transaction() as tx:
        other = accounts.ensure(tx, "runcomfy", "other")

    with store.database.reading() as tx:
        assert costs.prices(tx, other.id) == Prices()


def test_what_is_learned_is_reserved_and_kept_within_the_budget(store: Store) -> None:
    batch_id = store.batch(budget_micros=3 * EST)
    store.add(batch_id, [spec_of(f"r{n}")._replace(settings="{}") for n in range(9)])
    prices = Prices()
    prices.add(MODEL, "{}", EST // 2, is_clip=True)

    claim = store.try_claim(4, prices=prices)

    assert [job.est_micros for job in claim.jobs] == [EST // 2] * 4
    assert store.reserved() == 2 * EST
    with store.database.transaction() as tx:
        accounts.set_cap(tx, store.account, 20)
    assert len(store.claim(9, prices=prices)) == 2
    assert store.reserved() == 3 * EST


def test_an_adopted_job_is_booked_with_what_was_reserved_for_it(store: Store) -> None:
    batch_id = store.batch()
    store.add(batch_id, [spec_of("r")._replace(settings="{}")])
    prices = Prices()
    prices.add(MODEL, "{}", 7, is_clip=True)
    store.do(jobs.record_accepted, accepted(store.claim(prices=prices)[0]))
    store.worker("w2")
    store.bury("w1")

    adopted = store.adopt(worker="w2")
    store.do(jobs.record_generated, generated(adopted[0], worker="w2"))

    assert store.spent() == 7
    store.check()


def test_a_warning_comes_at_four_fifths_of_a_budget(store: Store) -> None:
    batch_id = store.batch(budget_micros=5 * EST)
    store.add(batch_id, [spec_of(f"r{n}") for n in range(9)])

    assert store.try_claim(3).nearly_spent == ()
    claim = store.try_claim(1)

    assert claim.nearly_spent == (jobs.NearlySpent(batch_id, "night", 0, 4 * EST, 5 * EST),)


def test_the_catalog_is_kept_and_waiting_jobs_take_its_price(store: Store) -> None:
    batch_of(store, settings=("{}", TEN, TEN))
    claimed = store.claim(1)[0]
    with store.database.transaction() as tx:
        unfit, _ = probes.waiting(tx, store.account.id, None, max_job_id=10**9)
        probes.fail(tx, unfit, "gone", now_ms=NOW)
    stated = {MODEL: UnitPrice(70_000, "second")}
    model = Model(MODEL, "Turbo", "runcomfy", SCHEMA, price_micros=70_000, price_unit="second")

    with store.database.transaction() as tx:
        costs.keep_catalog(tx, store.account.id, {MODEL: UnitPrice(1, "output")}, now_ms=NOW)
        costs.keep_catalog(tx, store.account.id, stated, now_ms=NOW)
        costs.relist(tx, store.account.id, {MODEL: model})
        probes.revive(tx, unfit, now_ms=NOW)

    with store.database.reading() as tx:
        assert costs.catalog(tx, store.account.id) == stated
        assert reads.waiting(tx, store.account.id, None) == [reads.Kind(MODEL, TEN, 700_000, 2)]
    assert store.job(claimed.id).est_micros == EST  # reserved already


def test_the_newest_requests_are_found_without_a_sort(sqlite_store: Store) -> None:
    rows = sqlite_store.query(
        "EXPLAIN QUERY PLAN SELECT job_id, settings, state, cost_micros FROM attempts "
        "WHERE account_id = :account_id AND model = :model AND state IN ('succeeded', 'failed') "
        "ORDER BY id DESC LIMIT 1000",
        account_id=1,
        model=MODEL,
    )

    said = " ".join(row.detail for row in rows)
    assert "ix_attempts_closed" in said
    assert "TEMP B-TREE" not in said
