"""Store what a manifest asks for: batches, new jobs, changed jobs.

What a large manifest adds is hidden until all of it is stored: see `store.imports`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice, repeat
from typing import Any, NamedTuple, cast

from batchgen.domain.identity import job_label
from batchgen.domain.input_files import START, parse_input_file
from batchgen.domain.jobs import JobSpec, spec_columns
from batchgen.domain.states import UNFINISHED, JobState
from batchgen.failpoints import failpoint
from batchgen.store.database import chunks
from batchgen.store.events import note
from batchgen.store.imports import BATCH_SHOWN, SHOWN
from batchgen.store.predicates import is_paid
from batchgen.store.statements import Statement, among, text
from batchgen.store.transactions import OnFile, Transaction

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
    uploads: str | None = None


class Known(NamedTuple):
    """A stored job as planning compares it with a row; inputs and cells as they are stored."""

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
    inputs_json: str
    cells_json: str
    version: int
    name: str
    seed: int | None
    est_micros: int | None
    position: int
    is_unfit: bool = False  # failed unpaid, since its input could not be used

    @property
    def inputs(self) -> dict[str, Any]:
        """Return its inputs, decoded anew at each call."""
        found: dict[str, Any] = json.loads(self.inputs_json)
        return found

    @property
    def cells(self) -> dict[str, Any]:
        """Return its row's own columns, decoded anew at each call."""
        found: dict[str, Any] = json.loads(self.cells_json)
        return found

    @property
    def label(self) -> str:
        """Return id and variant, for people."""
        return job_label(self.row_id, self.variant)


OF_KEYS = "(SELECT k.job_id FROM job_keys k WHERE k.key IN :values)"
_BATCH = f"SELECT * FROM batches b WHERE {BATCH_SHOWN} AND "
_BY_NAME = text(_BATCH + "b.name = :name")
_BY_ID = text(_BATCH + "b.id = :id")
_COLUMNS = (
    "SELECT j.id, j.key, j.batch_id, b.name AS batch, j.row_id, j.has_id, j.variant_kind, "
    "j.variant, j.state, j.input_hash, j.inputs, j.cells, j.version, j.name, j.seed, "
    "j.est_micros, j.position, j.unfit"
)
_OF_BATCHES = " FROM jobs j JOIN batches b ON b.id = j.batch_id "
_KNOWN = f"{_COLUMNS}{_OF_BATCHES}WHERE {SHOWN} AND "
_BY_ROW_ID = among(_KNOWN + "j.batch_id = :batch_id AND j.row_id IN :values")
_BY_IDS = among(_KNOWN + "j.id IN :values")
_BATCH_OF_KEY = among(f"SELECT j.key, b.name{_OF_BATCHES}WHERE {SHOWN} AND j.id IN {OF_KEYS}")
_BY_KEY = among(f"{_KNOWN}j.id IN {OF_KEYS}")
_PAID_BY_HASH = among(
    f"{_KNOWN}b.account_id = :account_id AND j.input_hash IN :values AND {is_paid('j')} "
    "ORDER BY j.id"
)
_EARLIER = text(
    f"{_COLUMNS}, a.input_hash AS paid_hash{_OF_BATCHES}JOIN attempts a ON a.job_id = j.id "
    "WHERE b.account_id = :account_id AND j.version > 1 AND a.job_version < j.version "
    "AND a.state = 'succeeded' AND a.input_hash <> j.input_hash ORDER BY j.id, a.no"
)
_PENDING = text(
    f"SELECT j.id, j.input_hash FROM jobs j WHERE {SHOWN} AND j.batch_id = :batch_id "
    "AND j.state = 'pending' ORDER BY j.position, j.id"
)
_WITH_FILES = text(
    f"SELECT j.inputs FROM jobs j WHERE {SHOWN} AND j.batch_id = :batch_id AND j.inputs LIKE :mark"
)
_COUNT = text(f"SELECT count(*) FROM jobs j WHERE {SHOWN} AND j.batch_id = :batch_id")
_AT_PLACES = text(
    "SELECT j.id, j.state, j.position, j.row_id, j.variant_kind, j.variant, j.input_hash, "
    f"j.inputs, j.cells FROM jobs j WHERE {SHOWN} AND j.batch_id = :batch_id "
    "AND j.position >= :first AND j.position < :behind ORDER BY j.position, j.id"
)
_IDS = text(f"SELECT j.id FROM jobs j WHERE {SHOWN} AND j.batch_id = :batch_id")
_ANY_NAME = text(f"SELECT 1{_OF_BATCHES}WHERE b.output_dir = :output_dir LIMIT 1")
_NAMES = among(
    "SELECT j.name_folded, j.state FROM jobs j JOIN batches b ON b.id = j.batch_id "
    "WHERE b.output_dir = :output_dir AND j.name_folded IN :values"
)
_KEYS = among("SELECT key FROM job_keys WHERE key IN :values")
_ADD_BATCH = text(
    "INSERT INTO batches (name, account_id, model, source, columns, schemas, output_dir, "
    "name_template, budget_micros, uploads, created_ms, updated_ms) VALUES (:name, :account_id, "
    ":model, :source, :columns, :schemas, :output_dir, :name_template, :budget_micros, :uploads, "
    ":now_ms, :now_ms)"
)
_BATCH_ID = text("SELECT id FROM batches WHERE name = :name")
_RENEW_BATCH = text(
    "UPDATE batches SET model = :model, source = :source, columns = :columns, "
    "schemas = :schemas, output_dir = :output_dir, name_template = :name_template, "
    "budget_micros = coalesce(:budget_micros, budget_micros), uploads = :uploads, "
    "updated_ms = :now_ms WHERE id = :id"
)
_FILES = text("SELECT id, files FROM jobs WHERE batch_id = :batch_id AND files IS NOT NULL")
_FILES_OF = text("SELECT files FROM jobs WHERE id = :job_id")
_PUT_FILES = text("UPDATE jobs SET files = :files WHERE id = :job_id")
_OWNERS = text("SELECT DISTINCT owner FROM jobs WHERE batch_id = :batch_id AND owner IS NOT NULL")
_JOB_COLUMNS = (
    "batch_id, key, row_id, has_id, variant_kind, variant, position, model, inputs, input_hash, "
    "cells, seed, name, name_folded, est_micros, settings, state, updated_ms"
)
_NEWEST = text("SELECT coalesce(max(id), 0) FROM jobs")
_INDEX_KEYS = text(
    "INSERT INTO job_keys (key, job_id) SELECT key, id FROM jobs WHERE id > :after_id ORDER BY key"
)
_COPY_JOBS = f"COPY jobs ({_JOB_COLUMNS}) FROM STDIN"
_CHANGE = text(
    "UPDATE jobs SET model = :model, inputs = :inputs, input_hash = :input_hash, cells = :cells, "
    "seed = :seed, est_micros = :est_micros, settings = :settings, position = :position, "
    "updated_ms = :now_ms WHERE id = :job_id AND state = 'pending'"
)
_REOPEN = text(
    "UPDATE jobs SET model = :model, inputs = :inputs, input_hash = :input_hash, cells = :cells, "
    "seed = :seed, est_micros = :est_micros, settings = :settings, position = :position, "
    "state = 'pending', retries_used = 0, policy_retries_used = 0, not_before_ms = 0, "
    "error = NULL, error_class = NULL, finished_ms = NULL, unfit = false, "
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
        uploads=row.uploads,
    )


_STATES = {str(state): state for state in JobState}


def _known(row: Any) -> Known:
    values = list(row[: len(Known._fields)])
    values[_HAS_ID] = bool(values[_HAS_ID])
    values[_IS_UNFIT] = bool(values[_IS_UNFIT])
    values[_STATE] = _STATES[values[_STATE]]
    return Known._make(values)


_HAS_ID, _STATE, _IS_UNFIT = map(Known._fields.index, ("has_id", "state", "is_unfit"))


def by_ids(tx: Transaction, ids: Iterable[int]) -> dict[int, Known]:
    """Return jobs by their row ids."""
    return {
        row.id: _known(row)
        for part in chunks(sorted(set(ids)), _CHUNK)
        for row in tx.rows(_BY_IDS, {"values": tx.listed(part)})
    }


def batches_of_keys(tx: Transaction, keys: Iterable[str]) -> dict[str, str]:
    """Return the names of the batches that jobs with these keys belong to."""
    return {
        row.key: row.name
        for part in chunks(sorted(set(keys)), _CHUNK)
        for row in tx.rows(_BATCH_OF_KEY, {"values": tx.listed(part)})
    }


def by_row_ids(tx: Transaction, batch_id: int, row_ids: Iterable[str]) -> list[Known]:
    """Return the jobs of a batch with any of these row ids."""
    return _in_chunks(tx, _BY_ROW_ID, row_ids, batch_id=batch_id)


class Placed(NamedTuple):
    """Stored jobs in the order of their places; each attribute holds a value for all of them."""

    id: tuple[int, ...] = ()
    state: tuple[str, ...] = ()
    position: tuple[int, ...] = ()
    row_id: tuple[str, ...] = ()
    variant_kind: tuple[str, ...] = ()
    variant: tuple[str, ...] = ()
    input_hash: tuple[str, ...] = ()
    inputs_json: tuple[str, ...] = ()
    cells_json: tuple[str, ...] = ()


def at_places(tx: Transaction, batch_id: int, places: range) -> Placed:
    """Return the jobs of a batch whose rows have these places in its newest manifest."""
    values = {"batch_id": batch_id, "first": places.start, "behind": places.stop}
    found = Placed()
    for rows in tx.pages(_AT_PLACES, values, at_once=len(places) + 1):
        found = Placed._make(map(tuple.__add__, found, zip(*rows, strict=True)))
    return found


def by_keys(tx: Transaction, keys: Iterable[str]) -> list[Known]:
    """Return the jobs with these keys."""
    return _in_chunks(tx, _BY_KEY, keys)


def paid_by_hashes(tx: Transaction, account_id: int, hashes: Iterable[str]) -> list[Known]:
    """Return the account's jobs of these inputs that have been, or may have been, paid for."""
    return _in_chunks(tx, _PAID_BY_HASH, hashes, account_id=account_id)


def paid_earlier(tx: Transaction, account_id: int) -> list[tuple[str, Known]]:
    """Return the inputs of clips that a new version has replaced, as hashes, with their jobs."""
    rows = tx.rows(_EARLIER, {"account_id": account_id})
    return [(row.paid_hash, _known(row)) for row in rows]


def pending(tx: Transaction, batch_id: int) -> Iterator[tuple[int, str]]:
    """Yield row id and input hash of the pending jobs of a batch, in the order of its manifest."""
    for row in _streamed(tx, _PENDING, batch_id):
        yield row.id, row.input_hash


def count(tx: Transaction, batch_id: int) -> int:
    """Return how many jobs a batch has."""
    return int(tx.value(_COUNT, {"batch_id": batch_id}))


def ids_of_batch(tx: Transaction, batch_id: int) -> Iterator[int]:
    """Yield the row ids of every job of a batch."""
    for row in _streamed(tx, _IDS, batch_id):
        yield row.id


def _streamed(tx: Transaction, query: Statement, batch_id: int) -> Iterator[Any]:
    return tx.stream(query, {"batch_id": batch_id}, at_once=10_000)


def has_names(tx: Transaction, output_dir: str) -> bool:
    """Return whether any job's file name is reserved in an output folder."""
    return tx.value(_ANY_NAME, {"output_dir": output_dir}) is not None


def taken_names(tx: Transaction, output_dir: str, folded: Iterable[str]) -> set[str]:
    """Return which folded file names are reserved in an output folder already."""
    return set(named_jobs(tx, output_dir, folded))


def named_jobs(tx: Transaction, output_dir: str, folded: Iterable[str]) -> dict[str, bool]:
    """Return which folded file names jobs of an output folder have, and whether all are at rest."""
    found: dict[str, bool] = {}
    for part in chunks(sorted(set(folded)), _CHUNK):
        for row in tx.rows(_NAMES, {"output_dir": output_dir, "values": tx.listed(part)}):
            rests = row.state not in UNFINISHED
            found[row.name_folded] = found.get(row.name_folded, True) and rests
    return found


def taken_keys(tx: Transaction, keys: Iterable[str]) -> set[str]:
    """Return which keys belong to a job already."""
    return {
        row.key
        for part in chunks(sorted(set(keys)), _CHUNK)
        for row in tx.rows(_KEYS, {"values": tx.listed(part)})
    }


def input_files(tx: Transaction, batch_id: int) -> Iterator[str]:
    """Yield what the jobs of a batch keep of input files of a machine."""
    for row in tx.rows(_WITH_FILES, {"batch_id": batch_id, "mark": f'%"{START}%'}):
        yield from _files_in(json.loads(row.inputs))


def _files_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if parse_input_file(value) is not None:
            yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _files_in(part)


def _in_chunks(tx: Transaction, query: Any, values: Iterable[str], **key: Any) -> list[Known]:
    return [
        _known(row)
        for part in chunks(sorted(set(values)), _CHUNK)
        for row in tx.rows(query, {**key, "values": tx.listed(part)})
    ]


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
        "uploads": batch.uploads,
        "now_ms": now_ms,
    }
    if batch.id:
        tx.run(_RENEW_BATCH, values)
        return batch.id
    tx.run(_ADD_BATCH, values)
    return int(tx.value(_BATCH_ID, values))


def owners(tx: Transaction, batch_id: int) -> set[str]:
    """Return the workers that hold jobs of a batch."""
    return {row.owner for row in tx.rows(_OWNERS, {"batch_id": batch_id})}


def clip_paths(tx: Transaction, batch_id: int) -> Iterator[str]:
    """Yield where the clips of a batch lie, from its output folder."""
    for row in tx.stream(_FILES, {"batch_id": batch_id}):
        yield from (clip["path"] for clip in json.loads(row.files))


def repath(tx: Transaction, batch_id: int, path: Callable[[str], str]) -> None:
    """Let the clips of a batch have other paths.

    Args:
        tx: A writing transaction.
        batch_id: The batch.
        path: Told where a clip lies from the batch's output folder; returns that anew.
    """
    changed = []
    for row in tx.rows(_FILES, {"batch_id": batch_id}):
        was = json.loads(row.files)
        now = [{**clip, "path": path(clip["path"])} for clip in was]
        if now != was:
            changed.append({"job_id": row.id, "files": json.dumps(now)})
    tx.run_many(_PUT_FILES, changed)


class NewJob(NamedTuple):
    """A job to be stored; or many of them, each field with the values of all."""

    spec: JobSpec
    key: str
    name: str
    name_folded: str
    position: int
    inputs_json: str
    seed: int | None


def add_jobs(tx: Transaction, batch_id: int, new: Sequence[NewJob], *, now_ms: int) -> None:
    """Store new jobs as `pending`.

    Args:
        tx: A writing transaction.
        batch_id: Their batch.
        new: In the order of their ids to be.
        now_ms: Epoch milliseconds.
    """
    if new:
        columns: Any = NewJob._make(zip(*new, strict=True))
        columns = columns._replace(spec=spec_columns(columns.spec))
        add_columns(tx, batch_id, columns, now_ms=now_ms)


def add_columns(
    tx: Transaction, batch_id: int, new: Any, *, now_ms: int, is_hidden: bool = False
) -> None:
    """Store many new jobs as `pending`.

    Args:
        tx: A writing transaction.
        batch_id: Their batch.
        new: A `NewJob` of columns in the order of their ids to be; that of specs is
            `spec_columns`.
        now_ms: Epoch milliseconds.
        is_hidden: Whether their keys, and their number, are stored later: those of an import.
    """
    after_id = 0 if is_hidden else newest_id(tx)
    rows = _rows(batch_id, new, now_ms)
    if tx.is_postgresql:
        _copy(tx, rows)
    else:
        file = cast(OnFile, tx).file
        while values := tuple(chain.from_iterable(islice(rows, _ROWS))):
            file.execute(_insert(len(values) // _PLACES), values)
    failpoint("in-expansion")
    if not is_hidden:
        index_keys(tx, after_id)
        tx.moved(batch_id, None, "pending", len(new.key))


def newest_id(tx: Transaction) -> int:
    """Return the id of the job that was stored last, hidden or not; 0 if there is none."""
    return int(tx.value(_NEWEST))


def index_keys(tx: Transaction, after_id: int) -> int:
    """Store the keys of the jobs above an id; return the id of the newest job."""
    tx.run(_INDEX_KEYS, {"after_id": after_id})
    return newest_id(tx)


_PLACES = _JOB_COLUMNS.count(",") + 1
_ROWS = 1_000  # of one statement; a statement a row takes half as long again


@cache
def _insert(rows: int) -> str:
    places = ", ".join("?" * _PLACES)
    return f"INSERT INTO jobs ({_JOB_COLUMNS}) VALUES " + ", ".join([f"({places})"] * rows)


def _copy(tx: Transaction, rows: Iterable[tuple[Any, ...]]) -> None:
    raw: Any = tx.connection.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy(_COPY_JOBS) as copy:
        for row in rows:
            copy.write_row(row)


def _rows(batch_id: int, new: Any, now_ms: int) -> Iterator[tuple[Any, ...]]:
    """Return the values of `_JOB_COLUMNS`; a million jobs pass here, so column by column."""
    of = new.spec
    return zip(
        repeat(batch_id),
        new.key,
        of.row_id,
        of.has_id,
        of.variant_kind,
        of.variant,
        new.position,
        of.model,
        new.inputs_json,
        of.input_hash,
        of.cells_json,
        new.seed,
        new.name,
        new.name_folded,
        of.est_micros,
        of.settings,
        repeat("pending"),
        repeat(now_ms),
        strict=False,
    )


def _of_spec(spec: JobSpec, inputs_json: str, seed: int | None) -> dict[str, Any]:
    return {
        "model": spec.model,
        "inputs": inputs_json,
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
    inputs_json: str
    seed: int | None
    name: str = ""  # of a new version; "" keeps the reserved one
    name_folded: str = ""


def change_pending(tx: Transaction, changes: Sequence[Change], *, now_ms: int) -> int:
    """Give pending jobs the inputs of the newest manifest; return how many were still pending."""
    return sum(
        tx.run(
            _CHANGE,
            {
                "job_id": change.known.id,
                "position": change.position,
                "now_ms": now_ms,
                **_of_spec(change.spec, change.inputs_json, change.seed),
            },
        )
        for change in changes
    )


def reopen(tx: Transaction, changes: Sequence[Change], *, now_ms: int) -> None:
    """Make finished jobs `pending` again with new inputs; a named one is a new version."""
    for change in changes:
        known = change.known
        # They stay where they are, and only the audit trail knows of them from now on.
        stored = tx.value(_FILES_OF, {"job_id": known.id}) if change.name else None
        clips = [clip["path"] for clip in json.loads(stored or "[]")]
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
                **_of_spec(change.spec, change.inputs_json, change.seed),
            },
        )
        if moved:
            tx.moved(known.batch_id, str(known.state), "pending")
            note(
                tx,
                "reopened",
                known.id,
                None,
                now_ms,
                was=str(known.state),
                by=change.spec.place,
                clips=clips or None,
            )


def follow(tx: Transaction, rows: Sequence[tuple[int, str, int]]) -> None:
    """Give jobs the carried cells and the position of the newest manifest."""
    tx.run_many(
        _FOLLOW,
        [
            {"job_id": job_id, "cells": cells_json, "position": position}
            for job_id, cells_json, position in rows
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
