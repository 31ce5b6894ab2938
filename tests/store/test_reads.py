"""How a few jobs are found among very many: by the partial index of their states."""

from collections import Counter

import pytest
from store.plans import plans_of
from store.stored_jobs import Store

from batchgen.domain.states import JobState
from batchgen.store import reads
from batchgen.store.statements import text


@pytest.mark.parametrize(
    ("state", "index"),
    [
        (JobState.PENDING, "ix_jobs_pending"),
        (JobState.RUNNING, "ix_jobs_owned"),
        (JobState.IN_DOUBT, "ix_jobs_in_doubt"),
        (JobState.FAILED, "ix_jobs_lost"),
        (JobState.CANCELLED, "ix_jobs_lost"),
        (JobState.EXPIRED, "ix_jobs_lost"),
    ],
)
def test_few_jobs_of_a_state_are_found_by_its_index(
    sqlite_store: Store, state: JobState, index: str
) -> None:
    sqlite_store.fill(9)
    with sqlite_store.database.transaction() as tx:
        tx.run(text("UPDATE jobs SET state = :state WHERE id = 3"), {"state": state})
        tx.run(text("DELETE FROM counters"))
        tx.run(
            text("INSERT INTO counters SELECT batch_id, state, count(*) FROM jobs GROUP BY 1, 2")
        )

    with sqlite_store.database.reading() as tx, plans_of(tx) as plans:
        reads.job_ids(tx, batch_id=1, states=[state], limit=100)

    assert any(index in plan for plan in plans), plans


def test_what_waits_is_counted_by_its_index(sqlite_store: Store) -> None:
    sqlite_store.fill(9)
    with sqlite_store.database.transaction() as tx:
        tx.run(text("UPDATE jobs SET settings = NULL, est_micros = NULL WHERE id = 3"))

    with sqlite_store.database.reading() as tx, plans_of(tx) as plans:
        found = reads.waiting(tx, sqlite_store.account.id, None)

    assert [kind.jobs for kind in found] == [8, 1]
    assert len(plans) == 2
    assert all("SCAN j USING INDEX ix_jobs_pending" in plan for plan in plans), plans
    assert not any("TEMP B-TREE" in plan for plan in plans), plans


A = ("m/a", "{}", 500_000)
UNKNOWN = ("m/a", None, None)


@pytest.mark.parametrize(
    "stored",
    [
        [],
        [A] * 5,
        [UNKNOWN] * 5,
        # Those that differ come behind the first ones, which alone are looked at one by one.
        *([A] * 1005 + [other] for other in [
            ("m/b", "{}", 500_000),
            ("m/a", '{"duration":10}', 500_000),
            ("m/a", None, 500_000),
            ("m/a", "{}", None),
            ("m/a", "{}", 600_000),
            UNKNOWN,
        ]),
        [UNKNOWN] * 1005 + [A],
        [A, ("m/b", "{}", 500_000), UNKNOWN, A, UNKNOWN],
        [("m/a", "{}", price) for price in range(9)] * 2,
    ],
)  # fmt: skip
def test_what_waits_is_counted_by_kind(
    store: Store, stored: list[tuple[str, str | None, int | None]]
) -> None:
    store.fill(len(stored))
    with store.database.transaction() as tx:
        for at, (model, settings, est_micros) in enumerate(stored):
            if at in (0, len(stored) - 1) or stored[at] != stored[at - 1]:
                tx.run(
                    text(
                        "UPDATE jobs SET model = :model, settings = :settings, "
                        "est_micros = :est WHERE position >= :at"
                    ),
                    {"model": model, "settings": settings, "est": est_micros, "at": at},
                )

    with store.database.reading() as tx:
        found = reads.waiting(tx, store.account.id, None)

    counted = Counter({(kind.model, kind.settings, kind.listed): kind.jobs for kind in found})
    assert len(found) == len(counted)
    assert counted == Counter(stored)
