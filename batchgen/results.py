"""The result table: from the job database to an export, one line a job."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from batchgen import exporters
from batchgen.domain.columns import RESULT_COLUMNS, RESULT_DETAILS, RESULT_KEY
from batchgen.domain.errors import UsageError
from batchgen.domain.redaction import public_url, redact_all
from batchgen.domain.spelling import suggestion
from batchgen.domain.where import Where
from batchgen.downloads.destination import clip_path, folder_of
from batchgen.downloads.destinations import Destinations
from batchgen.exporters.interface import Record
from batchgen.manifests.xlsx_format import MOST_CELLS, MOST_ROWS
from batchgen.store import reads
from batchgen.store.database import Database
from batchgen.store.reads import JobRow
from batchgen.store.transactions import Transaction


@dataclass(frozen=True)
class Written:
    """What an export holds.

    Attributes:
        jobs: How many lines, besides the header.
        caveat: Why it is no manifest whose rows find their jobs again; "" if it is one.
    """

    jobs: int
    caveat: str = ""


def write(
    database: Database,
    path: str,
    *,
    batch_ids: Sequence[int] | None,
    overwrite: bool,
    where: Where | None = None,
    chosen: Sequence[str] | None = None,
    format_name: str | None = None,
    bom: bool = False,
    excel_safe: bool = False,
    signed_s: int | None = None,
) -> Written:
    """Write the results of some batches, or of all, to a file; return what it holds.

    Args:
        database: The job database.
        path: Where to; `-` is stdout.
        batch_ids: Of which batches; None is all.
        overwrite: Replace a file whatever it is.
        where: Only the jobs of which this is true.
        chosen: Which columns, in order; None is all.
        format_name: As of `exporters.format_of`.
        bom: Begin a CSV with a byte order mark.
        excel_safe: Escape the user's cells of a CSV too.
        signed_s: Let `result_url` be a link to the clip in its bucket, for so many seconds.

    Raises:
        UsageError: If the suffix is unknown, a file that is no export is in the way, or a chosen
            column does not exist.
        OutputError: If it cannot be written.
    """
    written = 0

    def records() -> Iterator[Record]:
        nonlocal written
        for batch_id in [None] if batch_ids is None else batch_ids:
            for row in reads.job_rows(tx, batch_id=batch_id, where=where):
                written += 1
                link = None if links is None or signed_s is None else links(row, signed_s)
                yield record(row, root=root, has_details=wanted.has_details, link=link)

    root = database.folder
    links = None if signed_s is None else partial(_link, Destinations(root))
    wanted = exporters.format_of(path, format_name)
    with database.reading() as tx:
        columns = _columns(tx, batch_ids)
        if chosen is not None:
            _check_chosen(chosen, columns, has_details=wanted.has_details)
        exporters.export(
            records(),
            path,
            columns=columns,
            overwrite=overwrite,
            chosen=chosen,
            format_name=format_name,
            bom=bom,
            excel_safe=excel_safe,
        )
    header = (*columns, *RESULT_COLUMNS) if chosen is None else chosen
    return Written(written, _caveat(header, written + 1, is_workbook=wanted.is_binary))


def _caveat(header: Sequence[str], lines: int, *, is_workbook: bool) -> str:
    if RESULT_KEY not in header:
        return (
            f"without {RESULT_KEY} it is no manifest whose rows keep their jobs, and no export "
            "that the next one may replace"
        )
    if is_workbook and (lines > MOST_ROWS or lines * len(header) > MOST_CELLS):
        return (
            f"it is too large to be read as a manifest again, which takes workbooks of "
            f"{MOST_ROWS:,} rows and {MOST_CELLS:,} cells: write .csv or .jsonl for that"
        )
    return ""


def _columns(tx: Transaction, batch_ids: Sequence[int] | None) -> list[str]:
    """Return the own columns of some batches, or of all, each once."""
    columns = [
        column
        for batch in reads.batches(tx)
        if batch_ids is None or batch.id in batch_ids
        for column in batch.columns
    ]
    return list(dict.fromkeys(columns))


def _check_chosen(chosen: Sequence[str], columns: Sequence[str], *, has_details: bool) -> None:
    known = [*columns, *RESULT_COLUMNS]
    if has_details:
        known.append(RESULT_DETAILS)
    for at, name in enumerate(chosen):
        if name in chosen[:at]:
            raise UsageError(f"--columns: {name} is there twice: leave one out")
        if name == RESULT_DETAILS and not has_details:
            raise UsageError(f"--columns: {name} is of JSON Lines: write .jsonl, or leave it out")
        if name not in known:
            raise UsageError(
                f"--columns: there is no column {name!r}: {_meant(name, known)}the columns are "
                f"{', '.join(known)}"
            )


def _link(destinations: Destinations, row: JobRow, seconds: int) -> str | None:
    if not row.files:
        return None
    return destinations.of(row.output_dir).link(row.files[0]["path"], seconds)


def record(row: JobRow, *, root: Path, has_details: bool = True, link: str | None = None) -> Record:
    """Return one job as it is exported; file paths start at the job database's folder.

    Args:
        row: The job.
        root: That folder.
        has_details: Whether what only fits formats with structure is wanted.
        link: What `result_url` is, if not the service's.
    """
    first = row.files[0] if row.files else {}
    started_ms = row.started_ms or row.accepted_ms
    results: dict[str, Any] = {
        "result_key": row.key,
        "result_state": str(row.state),
        "result_model": row.model,
        "result_seed": row.seed,
        "result_attempts": row.accepted,
        "result_request_id": row.request_id,
        "result_url": link or (public_url(row.urls[0]) if row.urls else None),
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
    details = _details(row, root=root) if has_details else {}
    return Record(cells=row.cells, results=results, details=details)


def _details(row: JobRow, *, root: Path) -> dict[str, Any]:
    return {
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


def _file(row: JobRow, clip: Any, *, root: Path) -> str | None:
    if not clip:
        return None
    return _below(root, row.output_dir) + str(clip["path"])


@functools.lru_cache(maxsize=64)  # a few places, a million clips
def _below(root: Path, output_dir: str) -> str:
    """Return what stands before the names of clips of an output folder, or a bucket."""
    folder = folder_of(root, output_dir)
    if folder is None:
        return clip_path(output_dir, "") + "/"
    path = folder / "."
    try:
        shown = str(path.relative_to(root))
    except ValueError:
        shown = str(path)
    return "" if shown == "." else shown.rstrip("/") + "/"


def _usd(micros: int | None) -> float | None:
    return None if micros is None else micros / 1_000_000


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _seconds(begin_ms: int | None, end_ms: int | None) -> float | None:
    if begin_ms is None or end_ms is None:
        return None
    return max(0, end_ms - begin_ms) / 1000


def _meant(name: str, known: Sequence[str]) -> str:
    """Return which column is meant: `file` is `result_file`."""
    ours = f"result_{name}"
    return f"did you mean `{ours}`? " if ours in known else suggestion(name, known)
