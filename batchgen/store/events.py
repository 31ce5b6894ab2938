"""The audit trail: what happened to jobs, attempts and the job database itself."""

import json
from typing import Any

from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_EVENT = text(
    "INSERT INTO events (job_id, attempt_id, at_ms, kind, data) "
    "VALUES (:job_id, :attempt_id, :at_ms, :kind, :data)"
)


def note(
    tx: Transaction,
    kind: str,
    job_id: int | None,
    attempt_id: str | None,
    at_ms: int,
    **data: Any,
) -> None:
    """Append to the audit trail."""
    tx.run(
        _EVENT,
        {
            "job_id": job_id,
            "attempt_id": attempt_id,
            "at_ms": at_ms,
            "kind": kind,
            "data": json.dumps(data) if data else None,
        },
    )
