"""The result table: from the job database to an export, one line a job."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
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
from batchgen.exporters.interface import Page
from batchgen.manifests.xlsx_format import MOST_CELLS, MOST_ROWS
from batchgen.store import exported, reads
from batchgen.store.database import Database
from batchgen.store.reads import BatchSummary


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

    def pages() -> Iterator[Page]:
        nonlocal written
        for batch_id in [None] if batch_ids is None else batch_ids:
            for jobs in exported.pages(
                tx, batch_id=batch_id, where=where, has_details=wanted.has_details
            ):
                written += len(jobs.key)
                yield made.page(jobs)

    wanted = exporters.format_of(path, format_name)
    with database.reading() as tx:
        batches = reads.batches(tx)
        columns = _columns(batches, batch_ids)
        if chosen is not None:
            _check_chosen(chosen, columns, has_details=wanted.has_details)
        made = _Pages(database.folder, batches, signed_s=signed_s)
        exporters.export(
            pages(),
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


def _columns(batches: Sequence[BatchSummary], batch_ids: Sequence[int] | None) -> list[str]:
    """Return the own columns of some batches, or of all, each once."""
    columns = [
        column
        for batch in batches
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


class _Pages:
    """Makes pages of an export of stored jobs; file paths start at the job database's folder.

    Args:
        root: That folder.
        batches: Those of the jobs.
        signed_s: Let `result_url` be a link to the clip in its bucket, for so many seconds.
    """

    def __init__(
        self, root: Path, batches: Sequence[BatchSummary], *, signed_s: int | None
    ) -> None:
        self._root = root
        self._names = {batch.id: batch.name for batch in batches}
        self._output_dirs = {batch.id: batch.output_dir for batch in batches}
        self._below: dict[int, str] = {}
        self._destinations = Destinations(root)
        self._signed_s = signed_s

    def page(self, jobs: exported.Page) -> Page:
        """Return some jobs as they are exported."""
        files = _parsed(jobs.files)
        urls = _parsed(jobs.urls)
        firsts: list[Any] = [clips[0] if clips else {} for clips in files]
        results: dict[str, Sequence[Any]] = {
            "result_key": jobs.key,
            "result_state": jobs.state,
            "result_model": jobs.model,
            "result_seed": jobs.seed,
            "result_attempts": jobs.accepted,
            "result_request_id": jobs.request_id,
            "result_url": [public_url(some[0]) if some else None for some in urls],
            "result_file": list(map(self._file, jobs.batch_id, firsts)),
            "result_sha256": [clip.get("sha256") for clip in firsts],
            "result_bytes": [clip.get("size_bytes") for clip in firsts],
            "result_cost_usd": _usd(jobs.stated_micros),
            "result_error_class": jobs.error_class,
            "result_error": jobs.error,
            "result_submitted_at": _times(jobs.intent_ms),
            "result_finished_at": _times(jobs.finished_ms),
            "result_queue_s": list(map(_seconds, jobs.accepted_ms, jobs.started_ms)),
            "result_run_s": list(
                map(_run_s, jobs.run_ms, jobs.accepted_ms, jobs.started_ms, jobs.closed_ms)
            ),
            "result_batch": [self._names[batch_id] for batch_id in jobs.batch_id],
        }
        if self._signed_s is not None:
            links = map(self._link, jobs.batch_id, firsts, repeat(self._signed_s))
            urls_or_links = zip(links, results["result_url"], strict=True)
            results["result_url"] = [link or url for link, url in urls_or_links]
        details = self._details(jobs, urls, files) if jobs.inputs else ()
        return Page(_parsed(jobs.cells), results, details)

    def _file(self, batch_id: int, clip: Mapping[str, Any]) -> str | None:
        if not clip:
            return None
        if str(clip["path"]).startswith("/"):  # where its batch went before
            return _below(self._root, str(clip["path"])).rstrip("/")
        below = self._below.get(batch_id)
        if below is None:
            below = self._below[batch_id] = _below(self._root, self._output_dirs[batch_id])
        return below + str(clip["path"])

    def _link(self, batch_id: int, clip: Mapping[str, Any], seconds: int) -> str | None:
        if not clip:
            return None
        destination = self._destinations.of(self._output_dirs[batch_id])
        return destination.link(clip["path"], seconds)

    def _details(
        self,
        jobs: exported.Page,
        urls: Sequence[Sequence[str]],
        files: Sequence[Sequence[Mapping[str, Any]]],
    ) -> list[dict[str, Any]]:
        columns = {
            "urls": [[public_url(url) for url in some] for some in urls],
            "files": [
                [
                    {
                        "file": self._file(batch_id, clip),
                        "sha256": clip.get("sha256"),
                        "bytes": clip.get("size_bytes"),
                    }
                    for clip in some
                ]
                for batch_id, some in zip(jobs.batch_id, files, strict=True)
            ],
            "inputs": list(map(redact_all, _parsed(jobs.inputs))),
            "version": jobs.version,
            "charged_usd": _usd(jobs.charged_micros),
            "cost_is_estimate": list(
                map(reads.is_estimate, jobs.charged_micros, jobs.stated_micros)
            ),
            "estimate_usd": _usd(jobs.est_micros),
            "remote_state": jobs.remote_state,
        }
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]


def _parsed(texts: Sequence[str | None]) -> list[Any]:
    """Return what JSON texts hold, an empty list for none: all are parsed as one, in less time."""
    if not any(texts):
        return [[]] * len(texts)
    found: list[Any] = json.loads(f"[{','.join([text or '[]' for text in texts])}]")
    return found


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


def _usd(column: Sequence[int | None]) -> list[float | None]:
    return [None if micros is None else micros / 1_000_000 for micros in column]


def _times(column: Sequence[int | None]) -> list[str | None]:
    """Return moments as ISO 8601 in UTC with milliseconds."""
    return [
        None
        if ms is None
        else _minute(ms // 60_000) + _SECONDS[ms % 60_000 // 1000] + _MILLISECONDS[ms % 1000]
        for ms in column
    ]


_SECONDS = [f"{second:02}." for second in range(60)]  # to look one up takes a third of the time
_MILLISECONDS = [f"{ms:03}Z" for ms in range(1000)]


@functools.lru_cache(maxsize=4096)  # jobs that follow each other were often sent in one minute
def _minute(minutes: int) -> str:
    """Return the start of an ISO 8601 time, up to the seconds."""
    return datetime.fromtimestamp(minutes * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def _seconds(begin_ms: int | None, end_ms: int | None) -> float | None:
    if begin_ms is None or end_ms is None:
        return None
    return max(0, end_ms - begin_ms) / 1000


def _run_s(
    run_ms: int | None, accepted_ms: int | None, started_ms: int | None, closed_ms: int | None
) -> float | None:
    if run_ms is not None:
        return run_ms / 1000
    return _seconds(started_ms or accepted_ms, closed_ms)


def _meant(name: str, known: Sequence[str]) -> str:
    """Return which column is meant: `file` is `result_file`."""
    ours = f"result_{name}"
    return f"did you mean `{ours}`? " if ours in known else suggestion(name, known)
