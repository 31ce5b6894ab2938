"""What somebody may be about to type, for shells: few, soon, and of any number of jobs."""

from collections.abc import Sequence
from dataclasses import dataclass

from batchgen.domain.identity import job_label
from batchgen.domain.states import JobState
from batchgen.store.imports import BATCH_SHOWN, SHOWN
from batchgen.store.statements import Statement, text
from batchgen.store.transactions import Transaction

_BATCHES = text(f"SELECT b.id, b.name FROM batches b WHERE {BATCH_SHOWN} ORDER BY b.id")
_BEYOND = "\U0010ffff"
_JOB = "SELECT j.row_id, j.variant, j.state, b.name AS batch FROM jobs j "
_OF_BATCH = f"{_JOB}JOIN batches b ON b.id = j.batch_id WHERE b.id = :batch_id AND {SHOWN} AND "
_NAMED = Statement(
    # A range, since LIKE would use no index.
    f"{_OF_BATCH}j.row_id >= :said AND j.row_id < :beyond ORDER BY j.row_id LIMIT :most",
    f"{_OF_BATCH}starts_with(j.row_id, :said) LIMIT :most",
)
_IN_DOUBT = text(
    f"{_JOB}JOIN batches b ON b.id = j.batch_id WHERE j.state = 'in_doubt' AND {SHOWN} "
    "ORDER BY j.id LIMIT :most"
)


@dataclass(frozen=True)
class Candidate:
    """A job by its batch, and by id and variant in it."""

    batch: str
    label: str
    state: JobState


def batches(tx: Transaction) -> dict[str, int]:
    """Return the row ids of batches by their names."""
    return {row.name: row.id for row in tx.rows(_BATCHES)}


def jobs(tx: Transaction, said: str, *, batch_ids: Sequence[int], most: int) -> list[Candidate]:
    """Return jobs whose id begins with a text, of each batch at most so many."""
    found: list[Candidate] = []
    for batch_id in batch_ids:
        values = {"batch_id": batch_id, "said": said, "beyond": said + _BEYOND, "most": most}
        found += [
            Candidate(row.batch, job_label(row.row_id, row.variant), JobState(row.state))
            for row in tx.rows(_NAMED, values)
        ]
    return found


def in_doubt(tx: Transaction, *, most: int) -> list[Candidate]:
    """Return jobs in doubt, at most so many."""
    return [
        Candidate(row.batch, job_label(row.row_id, row.variant), JobState(row.state))
        for row in tx.rows(_IN_DOUBT, {"most": most})
    ]
