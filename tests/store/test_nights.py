"""What a report asks: the same answers from both kinds of job database."""

from datetime import UTC, datetime
from typing import Any

import pytest
from store.stored_jobs import Store, spec_of

from batchgen.domain.states import JobState
from batchgen.domain.where import parse
from batchgen.store import nights
from batchgen.store.nights import Choice, Moment, Paid, Span
from batchgen.store.statements import text

MINUTE = 60_000
T0 = 1_795_896_000_000  # at a full minute
CLIPS = 10
_ATTEMPT = text(
    "UPDATE attempts SET intent_ms = :begun - 200, accepted_ms = :begun, "
    "started_ms = :begun + 500, closed_ms = :ended, state = :state, "
    "charged_micros = :charged, cost_micros = :cost, "
    "est_micros = 300 WHERE job_id = :job"
)
_JOB = text(
    "UPDATE jobs SET state = :state, finished_ms = :ended, updated_ms = :ended, "
    "error_class = :why, error = :why WHERE id = :job"
)


@pytest.fixture
def tx(store: Store) -> Any:
    """Ten jobs one minute after the other: the n-th takes n seconds, the last one fails."""
    batch = store.batch()
    store.add(batch, [spec_of(f"c{number}") for number in range(1, CLIPS + 3)])
    with store.database.transaction() as tx:
        tx.run(text("UPDATE accounts SET cap = 20"))
    store.running(CLIPS)
    with store.database.transaction() as tx:
        ids = [row.id for row in tx.rows(text("SELECT id FROM jobs WHERE state = 'running'"))]
        for number, job in enumerate(sorted(ids), start=1):
            failed = number == CLIPS
            begun = T0 + number * MINUTE
            values = {
                "job": job,
                "begun": begun,
                "ended": begun + number * 1000,
                "charged": 0 if failed else 250,
                "cost": None if failed or number == 1 else 250,
                "why": "generation" if failed else None,
            }
            tx.run(_ATTEMPT, {**values, "state": "failed" if failed else "succeeded"})
            tx.run(_JOB, {**values, "state": "failed" if failed else "succeeded"})
    with store.database.reading() as found:
        yield found


def chosen(said: str) -> Choice:
    return Choice(None, parse(said, now=datetime.now(UTC)))


def test_what_happened_when(tx: Any) -> None:
    found = nights.moments(tx, Choice(), width_ms=MINUTE)

    first = T0 // MINUTE
    assert nights.span(tx, Choice()) == Span(T0 + MINUTE - 200, T0 + 10 * MINUTE + 10_000)
    assert found[:-1] == [Moment(first + number, 1, 1, 1, 0, 250) for number in range(1, CLIPS)]
    assert found[-1] == Moment(first + CLIPS, 1, 1, 0, 1, 0)


def test_how_long_clips_took(tx: Any) -> None:
    assert nights.took_ms(tx, Choice(), (0.0, 0.5, 0.9, 1.0)) == [1000, 5000, 9000, 9000]
    assert nights.took_ms(tx, chosen("state=failed"), (0.5,)) is None
    slow = nights.slowest(tx, Choice(), most=2)
    assert [(it.label, it.took_ms, it.queued_ms) for it in slow] == [
        ("c9", 9000, 500),
        ("c8", 8000, 500),
    ]


def test_what_was_paid_and_what_of_it_is_a_guess(tx: Any) -> None:
    (paid,) = nights.paid(tx, Choice()).values()
    (some,) = nights.paid(tx, chosen("id=c2 or id=c3 or id=c10")).values()

    assert paid == Paid(9, 9 * 300, 9 * 250, 250)
    assert some == Paid(2, 600, 500, 0)


def test_chosen_jobs_are_counted_one_by_one(tx: Any) -> None:
    (found,) = nights.counted(tx, chosen("id!=c1")).values()

    assert found.counts == {JobState.SUCCEEDED: 8, JobState.FAILED: 1, JobState.PENDING: 2}
    assert [it.label for it in nights.failures(tx, Choice())] == ["c10"]
    assert list(nights.failures(tx, chosen("id=c1"))) == []


def test_the_newest_come_in_the_order_of_the_manifest(tx: Any) -> None:
    touched = chosen("state!=pending")

    assert [row.label for row in nights.newest(tx, touched, most=3)] == ["c8", "c9", "c10"]
