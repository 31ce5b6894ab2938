"""Store what a manifest asks for: batches, new jobs, changed jobs.

All of one manifest is stored in one transaction: other programs see all of it or nothing.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, text

from batchgen.domain.identity import job_label
from batchgen.domain.jobs import JobSpec
from batchgen.domain.states import PAID, JobState
from batchgen.failpoints import failpoint
from batchgen.store.database import Transaction, chunks
from batchgen.store.events import note
from batchgen.store.jobs import as_stored

_CHUNK = 500


@dataclass(frozen=True)
class Batch:
    """The jobs of one manifest."""

    id: int
    name: str
    account_id: int
    model: str
    source: str
    columns: tuple[str, ...]
    schemas: Mapping[str, Any]
    output_dir: str
    name_template: str
    budget_micros: int | None


@dataclass(frozen=True)
class Known:
    """A stored job as planning compares it with a row."""

    id: int
    key: str
    batch_id: int
    batch: str
    row_id: str
    has_id: bool
    variant_kind: str
    variant: str
    state: JobState
    input_hash: str
    inputs: Mapping[str, Any]
    cells: Mapping[str, Any]
    version: int
    name: str
    seed: int | None
    est_micros: int | None
    position: int
    is_unfit: bool = False  # failed unpaid, since its input could not be used

    @property
    def label(self) -> str:
        """Return id and variant, for people."""
        return job_label(self.row_id, self.variant)


# One manifest is stored at a time, so that two processes with the same one do not both find its
# rows new, and ids appear in the order in which they were drawn: a scope that ends at the newest
# one does not grow. On SQLite the transaction holds the one lock already.
_QUEUE = text("SELECT pg_advisory_xact_lock(7238461204)")
_WAIT_LONG = text(  # for the one before; then the rows of a large manifest are compared
    "SELECT set_config('lock_timeout', '10min', true), "
    "set_config('statement_timeout', '10min', true), "
    "set_config('idle_in_transaction_session_timeout', '10min', true)"
)
_BATCH = "SELECT * FROM batches WHERE "
_BY_NAME = text(_BATCH + "name = :name")
_BY_ID = text(_BATCH + "id = :id")
_KNOWN = "SELECT j.*, b.name AS batch FROM jobs j JOIN batches b ON b.id = j.batch_id WHERE "
_BY_ROW_ID = text(_KNOWN + "j.batch_id = :batch_id AND j.row_id IN :values").bindparams(
    bindparam("values", expanding=True)
)
_BY_KEY = text(_KNOWN + "j.key IN :values").bindparams(bindparam("values", expanding=True))
_BY_HASH = text(
    _KNOWN
    + "b.account_id = :account_id AND j.input_hash IN :values "
    + "AND (j.state IN ({}) OR (j.state = 'pending' AND j.batch_id = :batch_id)) "
    "ORDER BY j.id".format(", ".join(f"'{state}'" for state in sorted(PAID)))
).bindparams(bindparam("values", expanding=True))
_EARLIER = text(
    "SELECT j.*, b.name AS batch, a.input_hash AS paid_hash FROM jobs j "
    "JOIN batches b ON b.id = j.batch_id JOIN attempts a ON a.job_id = j.id "
    "WHERE b.account_id = :account_id AND j.version > 1 AND a.job_version < j.version "
    "AND a.state = 'succeeded' AND a.input_hash <> j.input_hash ORDER BY j.id, a.no"
)
_PENDING = text(_KNOWN + "j.batch_id = :batch_id AND j.state = 'pending' ORDER BY j.position, j.id")
_IDS = text("SELECT id FROM jobs WHERE batch_id = :batch_id")
_NAMES = text(
    "SELECT j.name_folded FROM jobs j JOIN batches b ON b.id = j.batch_id "
    "WHERE b.output_dir = :output_dir AND j.name_folded IN :values"
).bindparams(bindparam("values", expanding=True))
_KEYS = text("SELECT key FROM jobs WHERE key IN :values").bindparams(
    bindparam("values", expanding=True)
)
_ADD_BATCH = text(
    "INSERT INTO batches (name, account_id, model, source, columns, schemas, output_dir, "
    "name_template, budget_micros, created_ms, updated_ms) VALUES (:name, :account_id, :model, "
    ":source, :columns, :schemas, :output_dir, :name_template, :budget_micros, :now_ms, :now_ms)"
)
_RENEW_BATCH = text(
    "UPDATE batches SET model = :model, source = :source, columns = :columns, "
    "schemas = :schemas, output_dir = :output_dir, name_template = :name_template, "
    "budget_micros = coalesce(:budget_micros, budget_micros), updated_ms = :now_ms "
    "WHERE id = :id"
)
_ADD_JOB = text(
    "INSERT INTO jobs (batch_id, key, row_id, has_id, variant_kind, variant, position, model, "
    "inputs, input_hash, cells, seed, name, name_folded, est_micros, settings, state, updated_ms) "
    "VALUES (:batch_id, :key, :row_id, :has_id, :variant_kind, :variant, :position, :model, "
    ":inputs, :input_hash, :cells, :seed, :name, :name_folded, :est_micros, :settings, "
    "'pending', :now_ms)"
)
_CHANGE = text(
    "UPDATE jobs SET model = :model, inputs = :inputs, input_hash = :input_hash, cells = :cells, "
    "seed = :seed, est_micros = :est_micros, settings = :settings, position = :position, "
    "updated_ms = :now_ms WHERE id = :job_id AND state = 'pending'"
)
_REOPEN = text(
    "UPDATE jobs SET model = :model, inputs = :inputs, input_hash = :input_hash, cells = :cells, "
    "seed = :seed, est_micros = :est_micros, settings = :settings, position = :position, "
    "state = 'pending', retries_used = 0, policy_retries_used = 0, not_before_ms = 0, "
    "unfit = false, error = NULL, error_class = NULL, finished_ms = NULL, "
    "attempt_id = NULL, urls = NULL, files = NULL, version = :version, "
    "name = coalesce(:name, name), name_folded = coalesce(:name_folded, name_folded), "
    "updated_ms = :now_ms WHERE id = :job_id AND state = :state"
)
_FOLLOW = text(
    "UPDATE jobs SET cells = :cells, position = :position WHERE id = :job_id "
    "AND (cells <> :cells OR position <> :position)"
)
_REIDENTIFY = text(
    "UPDATE jobs SET row_id = :row_id, has_id = :has_id, variant_kind = :variant_kind, "
    "variant = :variant, cells = :cells, position = :position WHERE id = :job_id"
)


_RENAME_CLIP = text(
    "UPDATE jobs SET name = :name, name_folded = :name_folded "
    "WHERE id = :job_id AND state = 'pending'"
)


def find_batch(tx: Transaction, name: str) -> Batch | None:
    """Return a batch by its name."""
    row = tx.row(_BY_NAME, {"name": name})
    return None if row is None else _batch(row)


def batch_by_id(tx: Transaction, batch_id: int) -> Batch | None:
    """Return a batch by its row id."""
    row = tx.row(_BY_ID, {"id": batch_id})
    return None if row is None else _batch(row)


def _batch(row: Any) -> Batch:
    return Batch(
        id=row.id,
        name=row.name,
        account_id=row.account_id,
        model=row.model,
        source=row.source,
        columns=tuple(json.loads(row.columns)),
        schemas=json.loads(row.schemas),
        output_dir=row.output_dir,
        name_template=row.name_template,
        budget_micros=row.budget_micros,
    )


def _known(row: Any) -> Known:
    return Known(
        id=row.id,
        key=row.key,
        batch_id=row.batch_id,
        batch=row.batch,
        row_id=row.row_id,
        has_id=bool(row.has_id),
        variant_kind=row.variant_kind,
        variant=row.variant,
        state=JobState(row.state),
        input_hash=row.input_hash,
        inputs=json.loads(row.inputs),
        cells=json.loads(row.cells),
        version=row.version,
        name=row.name,
        seed=row.seed,
        est_micros=row.est_micros,
        position=row.position,
        is_unfit=bool(row.unfit),
    )


def by_row_ids(tx: Transaction, batch_id: int, row_ids: Iterable[str]) -> list[Known]:
    """Return the jobs of a batch with any of these row ids."""
    return _in_chunks(tx, _BY_ROW_ID, row_ids, batch_id=batch_id)


def by_keys(tx: Transaction, keys: Iterable[str]) -> list[Known]:
    """Return the jobs with these keys."""
    return _in_chunks(tx, _BY_KEY, keys)


def by_hashes(
    tx: Transaction, account_id: int, batch_id: int, hashes: Iterable[str]
) -> list[Known]:
    """Return the account's jobs of these inputs: paid ones, and of a batch the pending ones too.

    One statement for both: a worker may move a job between them at any time.
    """
    return _in_chunks(tx, _BY_HASH, hashes, account_id=account_id, batch_id=batch_id)


def paid_earlier(tx: Transaction, account_id: int) -> list[tuple[str, Known]]:
    """Return the inputs of clips that a new version has replaced, as hashes, with their jobs."""
    rows = tx.rows(_EARLIER, {"account_id": account_id})
    return [(row.paid_hash, _known(row)) for row in rows]


def pending(tx: Transaction, batch_id: int) -> list[Known]:
    """Return the pending jobs of a batch."""
    return [_known(row) for row in tx.rows(_PENDING, {"batch_id": batch_id})]


def ids_of_batch(tx: Transaction, batch_id: int) -> set[int]:
    """Return the row ids of every job of a batch."""
    return {row.id for row in tx.rows(_IDS, {"batch_id": batch_id})}


def taken_names(tx: Transaction, output_dir: str, folded: Iterable[str]) -> set[str]:
    """Return which folded file names are reserved in an output folder already."""
    return {
        row.name_folded
        for part in chunks(sorted(set(folded)), _CHUNK)
        for row in tx.rows(_NAMES, {"output_dir": output_dir, "values": list(part)})
    }


def taken_keys(tx: Transaction, keys: Iterable[str]) -> set[str]:
    """Return which keys belong to a job already."""
    return {
        row.key
        for part in chunks(sorted(set(keys)), _CHUNK)
        for row in tx.rows(_KEYS, {"values": list(part)})
    }


def _in_chunks(tx: Transaction, query: Any, values: Iterable[str], **key: Any) -> list[Known]:
    return [
        _known(row)
        for part in chunks(sorted(set(values)), _CHUNK)
        for row in tx.rows(query, {**key, "values": list(part)})
    ]


def queue(tx: Transaction) -> None:
    """Wait until nobody else compares or stores a manifest; until the end of the transaction."""
    if tx.is_postgresql:
        tx.run(_WAIT_LONG)
        tx.value(_QUEUE)


def save_batch(tx: Transaction, batch: Batch, *, now_ms: int) -> int:
    """Store a batch, or what its newest manifest says of it (id > 0); return its id."""
    values = {
        "id": batch.id,
        "name": batch.name,
        "account_id": batch.account_id,
        "model": batch.model,
        "source": batch.source,
        "columns": _json(batch.columns),
        "schemas": _json(batch.schemas),
        "output_dir": batch.output_dir,
        "name_template": batch.name_template,
        "budget_micros": batch.budget_micros,
        "now_ms": now_ms,
    }
    if batch.id:
        tx.run(_RENEW_BATCH, values)
        return batch.id
    tx.run(_ADD_BATCH, values)
    row = tx.row(_BY_NAME, values)
    if row is None:
        raise LookupError(f"batch {batch.name} was not stored")
    return int(row.id)


@dataclass(frozen=True)
class NewJob:
    """A job to be stored."""

    spec: JobSpec
    key: str
    name: str
    name_folded: str
    position: int
    inputs: Mapping[str, Any]
    seed: int | None


def add_jobs(tx: Transaction, batch_id: int, new: Sequence[NewJob], *, now_ms: int) -> None:
    """Store new jobs as `pending`."""
    for part in chunks(new, 10_000):
        tx.run_many(
            _ADD_JOB,
            [
                {
                    "batch_id": batch_id,
                    "key": job.key,
                    "name": job.name,
                    "name_folded": job.name_folded,
                    "position": job.position,
                    "now_ms": now_ms,
                    **_of_spec(job.spec, job.inputs, job.seed),
                    "row_id": job.spec.row_id,
                    "has_id": job.spec.has_id,
                    "variant_kind": job.spec.variant_kind,
                    "variant": job.spec.variant,
                }
                for job in part
            ],
        )
        failpoint("in-expansion")
    tx.moved(batch_id, None, "pending", len(new))


def _of_spec(spec: JobSpec, inputs: Mapping[str, Any], seed: int | None) -> dict[str, Any]:
    return {
        "model": spec.model,
        "inputs": as_stored(inputs),
        "input_hash": spec.input_hash,
        "cells": spec.cells_json,
        "seed": seed,
        "est_micros": spec.est_micros,
        "settings": spec.settings,
    }


@dataclass(frozen=True)
class Change:
    """A stored job that gets a row's inputs."""

    known: Known
    spec: JobSpec
    position: int
    inputs: Mapping[str, Any]
    seed: int | None
    name: str = ""  # of a new version; "" keeps the reserved one
    name_folded: str = ""


def change_pending(tx: Transaction, changes: Sequence[Change], *, now_ms: int) -> None:
    """Give pending jobs the inputs of the newest manifest."""
    for change in changes:
        tx.run(
            _CHANGE,
            {
                "job_id": change.known.id,
                "position": change.position,
                "now_ms": now_ms,
                **_of_spec(change.spec, change.inputs, change.seed),
            },
        )


def reopen(tx: Transaction, changes: Sequence[Change], *, now_ms: int) -> None:
    """Make finished jobs `pending` again with new inputs; a named one is a new version."""
    for change in changes:
        known = change.known
        moved = tx.run(
            _REOPEN,
            {
                "job_id": known.id,
                "state": str(known.state),
                "version": known.version + (1 if change.name else 0),
                "name": change.name or None,
                "name_folded": change.name_folded or None,
                "position": change.position,
                "now_ms": now_ms,
                **_of_spec(change.spec, change.inputs, change.seed),
            },
        )
        if moved:
            tx.moved(known.batch_id, str(known.state), "pending")
            note(tx, "reopened", known.id, None, now_ms, was=str(known.state), by=change.spec.place)


def follow(tx: Transaction, rows: Sequence[tuple[int, Mapping[str, Any], int]]) -> None:
    """Give jobs the carried cells and the position of the newest manifest."""
    tx.run_many(
        _FOLLOW,
        [
            {"job_id": job_id, "cells": _json(dict(cells)), "position": position}
            for job_id, cells, position in rows
        ],
    )


def rename_clips(tx: Transaction, clips: Sequence[tuple[int, str, str]]) -> None:
    """Give pending jobs another file name: job id, name, folded name."""
    tx.run_many(
        _RENAME_CLIP,
        [
            {"job_id": job_id, "name": name, "name_folded": name_folded}
            for job_id, name, name_folded in clips
        ],
    )


def reidentify(tx: Transaction, rows: Sequence[tuple[Known, JobSpec, int]], *, now_ms: int) -> None:
    """Let jobs be known by what their row is called now; their keys stay."""
    for known, spec, position in rows:
        tx.run(
            _REIDENTIFY,
            {
                "job_id": known.id,
                "row_id": spec.row_id,
                "has_id": spec.has_id,
                "variant_kind": spec.variant_kind,
                "variant": spec.variant,
                "cells": spec.cells_json,
                "position": position,
            },
        )
        note(tx, "renamed", known.id, None, now_ms, was=known.label)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
