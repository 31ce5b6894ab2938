"""The result table: from the job database to an export, one line a job."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchgen import exporters
from batchgen.domain.redaction import public_url, redact_all
from batchgen.exporters.interface import Record
from batchgen.store import reads
from batchgen.store.database import Database
from batchgen.store.reads import JobRow


def write(
    database: Database,
    path: str,
    *,
    batch_ids: Sequence[int] | None,
    overwrite: bool,
    bom: bool = False,
    excel_safe: bool = False,
) -> int:
    """Write the results of some batches, or of all, to a file; return how many jobs it has.

    Raises:
        UsageError: If the suffix is unknown, or a file that is no export is in the way.
        OutputError: If it cannot be written.
    """
    written = 0

    def records() -> Iterator[Record]:
        nonlocal written
        for batch_id in [None] if batch_ids is None else batch_ids:
            for row in reads.job_rows(tx, batch_id=batch_id):
                written += 1
                yield record(row, root=database.folder)

    with database.reading() as tx:
        columns = [
            column
            for batch in reads.batches(tx)
            if batch_ids is None or batch.id in batch_ids
            for column in batch.columns
        ]
        exporters.export(
            records(),
            path,
            columns=list(dict.fromkeys(columns)),
            overwrite=overwrite,
            bom=bom,
            excel_safe=excel_safe,
        )
    return written


def record(row: JobRow, *, root: Path) -> Record:
    """Return one job as it is exported; file paths start at the job database's folder."""
    first = row.files[0] if row.files else {}
    started_ms = row.started_ms or row.accepted_ms
    results: dict[str, Any] = {
        "result_key": row.key,
        "result_state": str(row.state),
        "result_model": row.model,
        "result_seed": row.seed,
        "result_attempts": row.accepted,
        "result_request_id": row.request_id,
        "result_url": public_url(row.urls[0]) if row.urls else None,
        "result_file": _file(row, first, root=root),
        "result_sha256": first.get("sha256"),
        "result_bytes": first.get("size_bytes"),
        "result_cost_usd": _usd(row.stated_micros),
        "result_error_class": row.error_class,
        "result_error": row.error,
        "result_submitted_at": _time(row.intent_ms),
        "result_finished_at": _time(row.finished_ms),
        "result_queue_s": _seconds(row.accepted_ms, row.started_ms),
        "result_run_s": row.run_ms / 1000
        if row.run_ms is not None
        else (_seconds(started_ms, row.closed_ms)),
        "result_batch": row.batch,
    }
    details = {
        "urls": [public_url(url) for url in row.urls],
        "files": [
            {
                "file": _file(row, clip, root=root),
                "sha256": clip.get("sha256"),
                "bytes": clip.get("size_bytes"),
            }
            for clip in row.files
        ],
        "inputs": redact_all(row.inputs),
        "version": row.version,
        "charged_usd": _usd(row.charged_micros),
        "cost_is_estimate": row.cost_is_estimate,
        "estimate_usd": _usd(row.est_micros),
        "remote_state": row.remote_state,
    }
    return Record(cells=row.cells, results=results, details=details)


def _file(row: JobRow, clip: Any, *, root: Path) -> str | None:
    if not clip:
        return None
    path = root / Path(row.output_dir).expanduser() / clip["path"]
    try:
        return str(path.relative_to(root))
    except ValueError:
        return str(path)


def _usd(micros: int | None) -> float | None:
    return None if micros is None else micros / 1_000_000


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _seconds(begin_ms: int | None, end_ms: int | None) -> float | None:
    if begin_ms is None or end_ms is None:
        return None
    return max(0, end_ms - begin_ms) / 1000
