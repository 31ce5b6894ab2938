"""`batchgen show`: one job: inputs, attempts, what happened when."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import click

from batchgen.cli import common
from batchgen.domain.errors import UsageError
from batchgen.domain.identity import job_label
from batchgen.domain.redaction import printable, redact_all
from batchgen.store import reads
from batchgen.store.database import Transaction
from batchgen.store.reads import JobRow

_TOLD_OTHERWISE = ("no", "state", "inputs", "extra", "charged_usd", "charged_is_estimate")
_RAW = ("submit_raw", "status_raw", "result_raw")


@click.command("show")
@click.argument("job")
@common.json_option
@common.db_option
def command(*, job: str, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Show one job: its inputs, every attempt with its raw answers, and what happened when.

    JOB is a key or its beginning, an id, ID-VARIANT or BATCH/ID. The queries of URLs are left
    out: a signed one is a credential.
    """
    with (
        closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database,
        database.reading() as tx,
    ):
        job_id = _find(tx, job)
        row = reads.job_row(tx, job_id)
        attempts = reads.attempts(tx, job_id)
        events = reads.events(tx, job_id)
    if row is None:
        raise LookupError(f"job {job_id}")
    shown = redact_all(_json(row, attempts, events))
    if as_json:
        common.print_json(shown)
    else:
        click.echo(printable("\n".join(_lines(shown))))


def _find(tx: Transaction, said: str) -> int:
    found = common.find_jobs(tx, [said])
    if len(found) != 1:
        raise UsageError("name exactly one job: `batchgen ls` lists them")
    return found[0]


def _json(
    row: JobRow, attempts: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
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
        "cells": dict(row.cells),
        "estimate_usd": common.usd_number(row.est_micros),
        "cost_usd": common.usd_number(row.charged_micros),
        "cost_is_estimate": row.cost_is_estimate,
        "error_class": row.error_class,
        "error": row.error,
        "output_dir": row.output_dir,
        "file_name": row.name,
        "files": [dict(clip) for clip in row.files],
        "urls": list(row.urls),
        "attempts": [_attempt(attempt) for attempt in attempts],
        "events": [
            {
                "at": common.iso(event["at_ms"]),
                "kind": event["kind"],
                "attempt": event["attempt_id"],
                "data": event["data"],
            }
            for event in events
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
        "charged_usd": common.usd_number(attempt["charged_micros"]),
        "charged_is_estimate": bool(attempt["charged_micros"])
        and attempt["charged_micros"] != attempt["cost_micros"],
        **{f"{name}_at": common.iso(attempt[f"{name}_ms"]) for name in times},
        **{name: attempt[name] for name in [*said, *_RAW]},
    }


def _lines(shown: Mapping[str, Any]) -> list[str]:
    label = job_label(shown["id"], shown["variant"])
    lines = [f"{shown['batch']}/{label}  {shown['key']}  {shown['state']}"]
    for name in ("model", "remote_state", "queue_position", "error_class", "error"):
        if shown[name] is not None:
            lines.append(f"  {name.replace('_', ' ')}: {shown[name]}")
    if shown["cost_usd"] is not None:
        lines.append(f"  cost: {_money(shown['cost_usd'], is_estimate=shown['cost_is_estimate'])}")
    lines += [f"  file: {shown['output_dir']}/{clip['path']}" for clip in shown["files"]]
    lines.append("inputs")
    lines += [f"  {name}: {_text(value)}" for name, value in shown["inputs"].items()]
    for attempt in shown["attempts"]:
        lines.append(f"attempt {attempt['no']}: {attempt['state']}")
        lines += [
            f"  {name}: {_text(value)}"
            for name, value in attempt.items()
            if name not in _TOLD_OTHERWISE and value is not None
        ]
        if attempt["charged_usd"] is not None:
            charged = _money(attempt["charged_usd"], is_estimate=attempt["charged_is_estimate"])
            lines.append(f"  charged: {charged}")
    if shown["events"]:
        lines.append("events")
    for event in shown["events"]:
        data = f"  {_text(event['data'])}" if event["data"] else ""
        lines.append(f"  {event['at']}  {event['kind']}{data}")
    return lines


def _money(dollars: float, *, is_estimate: bool) -> str:
    return common.usd(round(dollars * 1_000_000), is_estimate=is_estimate)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
