"""`batchgen show`: jobs: inputs, what happened when, attempts with their raw answers."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click

from batchgen.cli import common, tables, timeline
from batchgen.cli.ls import STATE_COLOURS
from batchgen.domain.errors import OutputError, UsageError
from batchgen.domain.redaction import redact_all
from batchgen.domain.states import ErrorClass, JobState
from batchgen.domain.wording import lasting, usd
from batchgen.downloads.destinations import Destinations
from batchgen.store import reads
from batchgen.store.control import HIGHEST_PRIORITY
from batchgen.store.payloads import RAW_ANSWERS
from batchgen.store.reads import JobRow
from batchgen.store.transactions import Transaction

_SHOWN_CHARACTERS = 300  # of an answer, unless it is asked for whole


@click.command("show")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--raw", is_flag=True, help="Print the service's answers whole.")
@common.json_option
@common.db_option
def command(
    *, jobs: tuple[str, ...], raw: bool, db: str | None, allow_network_fs: bool, as_json: bool
) -> None:
    """Show jobs: inputs, what happened when, and every attempt with its raw answers.

    JOB is a key or its beginning, an id, ID-VARIANT or BATCH/ID; - reads them from stdin. The
    queries of URLs are left out: a signed one is a credential. With --json, one JOB is an object,
    several are a list.
    """
    with (
        closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database,
        database.reading() as tx,
    ):
        found = common.find_jobs(tx, jobs)
        if not found:
            raise UsageError("name at least one job: `batchgen ls` lists them")
        if as_json:
            said = [redact_all(_json(_of(tx, job_id))) for job_id in found]
            is_one = len(jobs) == 1 and jobs[0] != "-"
            common.print_json(said[0] if is_one else {"jobs": said})
            return
        destinations = Destinations(database.folder)
        for number, job_id in enumerate(found):
            if number:
                click.echo()
            for line in _lines(_of(tx, job_id), destinations, raw=raw):
                click.echo(line)


@dataclass(frozen=True)
class _Job:
    """All that is known of a job."""

    row: JobRow
    attempts: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]


def _of(tx: Transaction, job_id: int) -> _Job:
    row = reads.job_row(tx, job_id)
    if row is None:
        raise LookupError(f"job {job_id}")
    return _Job(row, reads.attempts(tx, job_id), reads.events(tx, job_id))


# -- as data ---------------------------------------------------------------------------------------


def _json(job: _Job) -> dict[str, Any]:
    row = job.row
    return {
        "key": row.key,
        "batch": row.batch,
        "id": row.row_id,
        "variant": row.variant,
        "version": row.version,
        "state": str(row.state),
        "remote_state": row.remote_state,
        "queue_position": row.queue_position,
        "model": row.model,
        "inputs": dict(row.inputs),
        "columns": dict(row.cells),
        "estimate_usd": common.usd_number(row.est_micros),
        "cost_usd": common.usd_number(row.charged_micros),
        "cost_is_estimate": row.cost_is_estimate,
        "error_class": row.error_class,
        "error": row.error,
        "output_dir": row.output_dir,
        "file_name": row.name,
        "files": [dict(clip) for clip in row.files],
        "urls": list(row.urls),
        "attempts": [_attempt(attempt) for attempt in job.attempts],
        "events": [
            {
                "at": common.iso(event["at_ms"]),
                "kind": event["kind"],
                "attempt_id": event["attempt_id"],
                "data": event["data"],
            }
            for event in job.events
        ],
    }


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    times = ("intent", "accepted", "started", "closed")
    plain = ("id", "no", "job_version", "state", "request_id", "http_status")
    said = ("error_class", "error_code", "error", "resolution")
    return {
        **{name: attempt[name] for name in plain},
        "extra": bool(attempt["extra"]),
        "inputs": json.loads(attempt["inputs"]),
        "estimate_usd": common.usd_number(attempt["est_micros"]),
        "stated_cost_usd": common.usd_number(attempt["cost_micros"]),
        "cost_usd": common.usd_number(attempt["charged_micros"]),
        "cost_is_estimate": bool(attempt["charged_micros"])
        and attempt["charged_micros"] != attempt["cost_micros"],
        **{f"{name}_at": common.iso(attempt[f"{name}_ms"]) for name in times},
        **{name: attempt[name] for name in [*said, *RAW_ANSWERS]},
    }


# -- as lines --------------------------------------------------------------------------------------


def _lines(job: _Job, destinations: Destinations, *, raw: bool) -> Iterator[str]:
    """Yield a job in lines that fit the terminal."""
    width = tables.terminal_width()
    colour = STATE_COLOURS.get(job.row.state) if tables.has_colours() else None
    yield tables.coloured(tables.fitted(_title(job.row), width or 10_000), colour)
    for line in _all(job, destinations, raw=raw):
        indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
        yield tables.wrapped(tables.safe(line), width, indent=indent)


def _title(row: JobRow) -> str:
    return tables.one_line(f"{row.batch}/{row.label}  {row.key}  {row.state}")


def _all(job: _Job, destinations: Destinations, *, raw: bool) -> Iterator[str]:
    row = job.row
    yield from _facts(row)
    advice = _next(row, destinations)
    if advice is not None:
        why, colon, words = advice.partition(": batchgen ")
        typed = f"{why}: {common.command_line(words)}" if colon else common.meant(advice)
        yield f"  next: {typed}"
    yield "inputs"
    yield from _pairs(row.inputs)
    own = _own_columns(row)
    if own:
        yield "columns"
        yield from _pairs(own)
    if row.files:
        yield "files"
        yield from (f"  {_file(row, clip, destinations)}" for clip in row.files)
    yield from _timeline(job)
    for attempt in job.attempts:
        yield from _attempt_lines(attempt, raw=raw)


def _facts(row: JobRow) -> Iterator[str]:
    facts = {
        "model": row.model,
        "version": row.version if row.version > 1 else None,
        "at the service": row.remote_state if row.state is JobState.RUNNING else None,
        "place in its queue": row.queue_position if row.state is JobState.RUNNING else None,
        "priority": _priority(row),
        "error class": row.error_class,
        "error": row.error,
    }
    for name, value in facts.items():
        if value is not None:
            yield f"  {name}: {common.in_words(value)}"
    if row.charged_micros is not None:
        yield f"  cost: {usd(row.charged_micros, is_estimate=row.cost_is_estimate)}"
    elif row.est_micros is not None:
        yield f"  estimate: {usd(row.est_micros)}"


def _priority(row: JobRow) -> str | None:
    if row.priority > HIGHEST_PRIORITY:  # of what was resubmitted
        return "before all others"
    return str(row.priority) if row.priority else None


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"  {name}: {common.in_words(value)}" for name, value in values.items())


def _own_columns(row: JobRow) -> dict[str, Any]:
    """Return the user's columns, without those that are inputs anyway."""
    known = {common.in_words(value) for value in row.inputs.values()} | {row.row_id, ""}
    return {name: value for name, value in row.cells.items() if common.in_words(value) not in known}


def _file(row: JobRow, clip: Mapping[str, Any], destinations: Destinations) -> str:
    place, name, size = destinations.of(row.output_dir), str(clip["path"]), clip.get("size_bytes")
    path = place.path(name)
    try:
        with place.opened(name) as content:
            there = content.size_bytes
    except OSError:
        return f"{path}: missing"
    except OutputError as error:
        return f"{path}: {error}"
    if there is None:
        return f"{path}: no file"
    if size is not None and there != size:
        return f"{path}: {there:,} bytes, but {size:,} were fetched"
    return f"{path}: {there:,} bytes"


def _is_there(row: JobRow, destinations: Destinations) -> bool:
    place = destinations.of(row.output_dir)
    try:
        return all(place.has(str(clip["path"])) for clip in row.files)
    except OutputError:  # which is said where the file is named
        return True


def _timeline(job: _Job) -> Iterator[str]:
    found = timeline.moments(job.row, job.attempts, job.events)
    if not found:
        return
    yield "what happened"
    before_ms = found[0].at_ms
    for moment in found:
        since = "" if moment is found[0] else f"+{lasting((moment.at_ms - before_ms) / 1000)}"
        yield f"  {tables.local(moment.at_ms)}  {since:>12}  {moment.words}"
        before_ms = moment.at_ms


def _attempt_lines(attempt: Mapping[str, Any], *, raw: bool) -> Iterator[str]:
    extra = ", bought once too often" if attempt["extra"] else ""
    yield f"attempt {attempt['no']}: {attempt['state']}{extra}"
    for name in ("request_id", "http_status", "error_class", "error_code", "error", "resolution"):
        if attempt[name] is not None:
            yield f"  {name.replace('_', ' ')}: {attempt[name]}"
    if attempt["charged_micros"] is not None:
        is_estimate = attempt["charged_micros"] not in (0, attempt["cost_micros"])
        yield f"  charged: {usd(attempt['charged_micros'], is_estimate=is_estimate)}"
        if is_estimate:
            stated = "nothing" if attempt["cost_micros"] is None else usd(attempt["cost_micros"])
            yield f"  the service states: {stated}"
    for name in RAW_ANSWERS:
        if attempt[name] is not None:
            yield f"  {name.removesuffix('_raw')} answer: {_answer(attempt[name], raw=raw)}"


def _answer(text: str, *, raw: bool) -> str:
    if raw:
        try:
            return json.dumps(redact_all(json.loads(text)), ensure_ascii=False, indent=2)
        except (ValueError, RecursionError):
            return text
    line = tables.one_line(text)
    if len(line) <= _SHOWN_CHARACTERS:
        return line
    return f"{line[:_SHOWN_CHARACTERS]}… (--raw shows all {len(line):,} characters)"


def _next(row: JobRow, destinations: Destinations) -> str | None:
    """Return what to do about a job in its state; None if there is nothing to do."""
    job = shlex.quote(f"{row.batch}/{row.label}")
    match row.state:
        case JobState.SUCCEEDED:
            if _is_there(row, destinations):
                return None
            return f"a file is missing: batchgen download --refresh {job}"
        case JobState.PENDING:
            return f"it waits to be paid for: batchgen run --batch {shlex.quote(row.batch)}"
        case JobState.SUBMITTING | JobState.RUNNING:
            return "a run is at it" if row.owner else "the next run goes on with it: batchgen run"
        case JobState.DOWNLOADING:
            return "a run fetches it" if row.owner else f"to fetch it: batchgen download {job}"
        case JobState.IN_DOUBT:
            return (
                "look for it in your account at RunComfy, then adopt it with `batchgen reconcile "
                f"--adopt {job}=REQUEST_ID`, pay for it again with `batchgen reconcile --resubmit "
                f"{job}`, or leave it with `batchgen reconcile --write-off {job}`"
            )
        case JobState.EXPIRED:
            return f"to try again for its clip: batchgen download --refresh {job}"
        case JobState.CANCELLED:
            return f"to have it after all: batchgen retry {job}"
        case JobState.FAILED:
            return _after_failure(row, job)


def _after_failure(row: JobRow, job: str) -> str:
    match row.error_class:
        case ErrorClass.MODERATION:
            return (
                "change what was refused and add the row again; the same again may get the "
                f"account suspended: batchgen retry {job}"
            )
        case ErrorClass.INVALID_INPUT:
            return f"correct the row and add it again; as it is: batchgen retry {job}"
        case _:
            return f"to pay for it again: batchgen retry {job}"
