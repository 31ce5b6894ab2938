"""What may be typed next: the same on both kinds of job database."""

from store.stored_jobs import Store, spec_of

from batchgen.domain.states import JobState
from batchgen.store import candidates
from batchgen.store.statements import text


def test_jobs_are_found_by_the_beginning_of_their_ids(store: Store) -> None:
    batch = store.batch()
    store.add(batch, [spec_of(name) for name in ("ab", "abc", "b", "aB", "äb", "a%")])

    with store.database.reading() as tx:
        (batch_id,) = candidates.batches(tx).values()

        def found(said: str, most: int = 9) -> list[str]:
            jobs = candidates.jobs(tx, said, batch_ids=[batch_id], most=most)
            return sorted(one.label for one in jobs)

        assert found("ab") == ["ab", "abc"]
        assert found("a%") == ["a%"]
        assert len(found("")) == 6
        assert len(found("", most=2)) == 2
        assert candidates.jobs(tx, "a", batch_ids=[], most=9) == []


def test_jobs_in_doubt_are_found(store: Store) -> None:
    batch = store.batch()
    store.add(batch, [spec_of("a"), spec_of("b")])
    with store.database.transaction() as tx:
        tx.run(text("UPDATE jobs SET state = 'in_doubt' WHERE row_id = 'b'"))

    with store.database.reading() as tx:
        (one,) = candidates.in_doubt(tx, most=9)

    assert (one.label, one.state) == ("b", JobState.IN_DOUBT)
