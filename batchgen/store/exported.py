"""The jobs of an export: some hundreds at a time, column by column.

A million rows pass here: nothing is read, or made of one, that the table does not show.
"""

from collections.abc import Iterator
from typing import NamedTuple

from batchgen.domain.where import Where
from batchgen.store import selecting
from batchgen.store.imports import SHOWN
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

JOBS_A_PAGE = 256

_JOBS = (
    "FROM jobs j JOIN batches b ON b.id = j.batch_id "
    "LEFT JOIN attempts a ON a.id = j.attempt_id "
    f"WHERE {SHOWN}"
)
_ORDER = " ORDER BY j.batch_id, j.position, j.id"
_SUM = "(SELECT CAST(sum({}) AS bigint) FROM attempts c WHERE c.job_id = j.id)"
_COLUMNS = {
    "batch_id": "j.batch_id",
    "key": "j.key",
    "state": "j.state",
    "model": "j.model",
    "cells": "j.cells",
    "seed": "j.seed",
    "urls": "j.urls",
    "files": "j.files",
    "error_class": "j.error_class",
    "error": "j.error",
    "finished_ms": "j.finished_ms",
    "request_id": "a.request_id",
    "intent_ms": "a.intent_ms",
    "accepted_ms": "a.accepted_ms",
    "started_ms": "a.started_ms",
    "closed_ms": "a.closed_ms",
    "run_ms": "a.run_ms",
    "accepted": "(SELECT count(c.accepted_ms) FROM attempts c WHERE c.job_id = j.id)",
    # Without CAST, PostgreSQL's sum is a decimal number.
    "stated_micros": _SUM.format("c.cost_micros"),
}
_DETAILS = {
    "inputs": "j.inputs",
    "version": "j.version",
    "charged_micros": _SUM.format("c.charged_micros"),
    "est_micros": "j.est_micros",
    "remote_state": "j.remote_state",
}


class Page(NamedTuple):
    """Jobs in manifest order: each attribute holds a value for every one of them.

    Of the newest attempt are request id, moments and run; times are epoch milliseconds, money
    is micro-dollars, `cells`, `inputs`, `urls` and `files` are JSON. The last five are empty
    unless details were asked for.
    """

    batch_id: tuple[int, ...]
    key: tuple[str, ...]
    state: tuple[str, ...]
    model: tuple[str, ...]
    cells: tuple[str, ...]
    seed: tuple[int | None, ...]
    urls: tuple[str | None, ...]
    files: tuple[str | None, ...]
    error_class: tuple[str | None, ...]
    error: tuple[str | None, ...]
    finished_ms: tuple[int | None, ...]
    request_id: tuple[str | None, ...]
    intent_ms: tuple[int | None, ...]
    accepted_ms: tuple[int | None, ...]
    started_ms: tuple[int | None, ...]
    closed_ms: tuple[int | None, ...]
    run_ms: tuple[int | None, ...]
    accepted: tuple[int, ...]
    stated_micros: tuple[int | None, ...]
    inputs: tuple[str, ...] = ()
    version: tuple[int, ...] = ()
    charged_micros: tuple[int | None, ...] = ()
    est_micros: tuple[int | None, ...] = ()
    remote_state: tuple[str | None, ...] = ()


def pages(
    tx: Transaction, *, batch_id: int | None, where: Where | None, has_details: bool
) -> Iterator[Page]:
    """Yield jobs in manifest order, without holding them all.

    Args:
        tx: A reading transaction.
        batch_id: Only of this batch.
        where: Only those it is true of.
        has_details: Whether the last five columns are wanted.
    """
    wanted = {**_COLUMNS, **_DETAILS} if has_details else _COLUMNS
    query, values = f"SELECT {', '.join(wanted.values())} {_JOBS}", {}
    if batch_id is not None:
        query += " AND j.batch_id = :batch_id"
        values["batch_id"] = batch_id
    if where is not None:
        condition = selecting.condition(where, is_postgresql=tx.is_postgresql)
        query += f" AND {condition.sql}"
        values |= condition.values
    for rows in tx.pages(text(query + _ORDER), values, at_once=JOBS_A_PAGE):
        yield Page(**dict(zip(wanted, zip(*rows, strict=True), strict=True)))
