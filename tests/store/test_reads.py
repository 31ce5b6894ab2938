"""How a few jobs are found among very many: by the partial index of their states."""

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

    with sqlite_store.database.reading() as tx, plans_of(tx) as plans:
        found = reads.waiting(tx, sqlite_store.account.id, None)

    assert [kind.jobs for kind in found] == [9]
    assert "SCAN j USING INDEX ix_jobs_pending" in plans[0]
