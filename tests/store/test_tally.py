from collections import Counter

import pytest
from store.stored_jobs import NOW, Store, ended

from batchgen.domain.states import JobState
from batchgen.store import jobs, reads
from batchgen.store.scope import Scope
from batchgen.store.statements import text

ALL = Counter({JobState.PENDING: 3, JobState.RUNNING: 1, JobState.FAILED: 1})
NEWEST = 10**9


@pytest.fixture
def mixed(store: Store) -> Store:
    """Five jobs: the first is running, the second has failed, three wait."""
    store.fill(5)
    _, second = store.running(2)
    store.do(jobs.record_ended, ended(second))
    return store


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(None, NEWEST), ALL),
        (Scope((1,), NEWEST), ALL),
        (Scope((99,), NEWEST), Counter()),
        (Scope(None, 2), Counter({JobState.RUNNING: 1, JobState.FAILED: 1})),
        (
            Scope(None, NEWEST, outside=frozenset({1, 5})),
            ALL - Counter({JobState.RUNNING: 1, JobState.PENDING: 1}),
        ),
        (
            Scope(None, NEWEST, only=frozenset({2, 3})),
            Counter({JobState.FAILED: 1, JobState.PENDING: 1}),
        ),
        (Scope(None, NEWEST, only=frozenset()), Counter()),
    ],
)
def test_jobs_are_counted_as_the_scope_says_whoever_counts(
    mixed: Store, scope: Scope, expected: Counter[JobState]
) -> None:
    with mixed.database.reading() as tx:
        for by_counters in (False, True):
            found = reads.tally(tx, scope, mixed.account.id, by_counters=by_counters)
            assert (by_counters, found) == (by_counters, expected)


def test_stored_counters_are_believed_only_where_they_tell_all(mixed: Store) -> None:
    with mixed.database.transaction() as tx:
        tx.run(text("UPDATE counters SET jobs = 70 WHERE state = 'pending'"))
    with mixed.database.reading() as tx:
        pending = {
            scope: reads.tally(tx, scope, mixed.account.id, by_counters=True)[JobState.PENDING]
            for scope in (
                Scope(None, NEWEST),
                Scope(None, 4),
                Scope((1,), NEWEST, outside=frozenset({5})),
            )
        }
        counted = reads.tally(tx, Scope(None, NEWEST), mixed.account.id)
        late = reads.tally(
            tx, Scope(None, NEWEST), mixed.account.id, since_ms=NOW + 1, by_counters=True
        )
    assert list(pending.values()) == [70, 2, 2]
    assert counted == ALL
    assert late == ALL - Counter({JobState.FAILED: 1})
