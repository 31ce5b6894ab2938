"""Everything that only looks: counts, money, lists, the rows of an export."""

import json
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from batchgen.domain.causes import Lost
from batchgen.domain.errors import StoreError
from batchgen.domain.identity import job_label
from batchgen.domain.states import LOST, OWNED, JobState
from batchgen.domain.where import Name, Where
from batchgen.store import selecting
from batchgen.store.database import chunks
from batchgen.store.imports import BATCH_SHOWN, SHOWN
from batchgen.store.payloads import RAW_ANSWERS, unpacked
from batchgen.store.predicates import is_live, is_lost, is_owned
from batchgen.store.scope import Scope
from batchgen.store.statements import Statement, among, text
from batchgen.store.transactions import Transaction

_ROW = (
    "SELECT j.id, j.key, j.row_id, j.variant, j.batch_id, b.name AS batch, j.state, j.model, "
    "j.inputs, j.cells, j.seed, j.name, b.output_dir, j.version, j.urls, j.files, j.error_class, "
    "j.error, j.remote_state, j.queue_position, j.owner, -j.priority AS priority, j.est_micros, "
    "j.retries_used, "
    "j.not_before_ms, j.updated_ms, j.finished_ms, j.position, "
    "j.attempt_id, a.request_id, a.intent_ms, a.accepted_ms, a.started_ms, a.closed_ms, a.run_ms, "
    "(SELECT count(*) FROM attempts c WHERE c.job_id = j.id AND c.accepted_ms IS NOT NULL) "
    "AS accepted, "
    # Without CAST, PostgreSQL's sum is a decimal number.
    "(SELECT CAST(sum(c.cost_micros) AS bigint) FROM attempts c WHERE c.job_id = j.id) "
    "AS stated_micros, "
    "(SELECT CAST(sum(c.charged_micros) AS bigint) FROM attempts c WHERE c.job_id = j.id) "
    "AS charged_micros "
    "FROM jobs j JOIN batches b ON b.id = j.batch_id "
    "LEFT JOIN attempts a ON a.id = j.attempt_id "
)
_ORDER = " ORDER BY j.batch_id, j.position, j.id"
_ONE = text(_ROW + "WHERE j.id = :job_id")
_OF_IDS = among(f"{_ROW}WHERE j.id IN :values")
_IDS = (
    "SELECT j.id FROM jobs j JOIN batches b ON b.id = j.batch_id "
    "LEFT JOIN attempts a ON a.id = j.attempt_id "
)
_AT_ONCE = 500  # rows that are fetched together


@dataclass(frozen=True)
class JobRow:
    """A job with its newest attempt, as it is shown and exported; times in epoch milliseconds."""

    id: int
    key: str
    row_id: str
    variant: str
    batch_id: int
    batch: str
    state: JobState
    model: str
    inputs: Mapping[str, Any]
    cells: Mapping[str, Any]
    seed: int | None
    name: str
    output_dir: str
    version: int
    urls: Sequence[str]
    files: Sequence[Mapping[str, Any]]
    error_class: str | None
    error: str | None
    remote_state: str | None
    queue_position: int | None
    owner: str | None
    priority: int
    est_micros: int | None
    retries_used: int
    not_before_ms: int
    updated_ms: int
    finished_ms: int | None
    attempt_id: str | None
    request_id: str | None
    intent_ms: int | None
    accepted_ms: int | None
    started_ms: int | None
    closed_ms: int | None
    run_ms: int | None
    accepted: int
    stated_micros: int | None
    charged_micros: int | None

    @property
    def label(self) -> str:
        """Return id and variant, for people."""
        return job_label(self.row_id, self.variant)

    @property
    def cost_is_estimate(self) -> bool:
        """Whether some of what is booked was not stated by the service."""
        return is_estimate(self.charged_micros, self.stated_micros)


def is_estimate(charged_micros: int | None, stated_micros: int | None) -> bool:
    """Return whether some of what is booked for a job was not stated by the service."""
    return bool(charged_micros) and charged_micros != stated_micros


_BY_NAME = {str(state): state for state in JobState}


_parsed = json.JSONDecoder().raw_decode  # of what was stored as one value, without a space before


def _job_row(row: Any) -> JobRow:
    # A million rows pass here: texts are parsed without a look around them.
    values: dict[str, Any] = dict(zip(row._fields, row))  # noqa: B905 - as below
    del values["position"]
    values["state"] = _BY_NAME[values["state"]]
    values["inputs"] = _parsed(values["inputs"])[0]
    values["cells"] = _parsed(values["cells"])[0]
    values["urls"] = _parsed(values["urls"])[0] if values["urls"] else []
    values["files"] = _parsed(values["files"])[0] if values["files"] else []
    # A frozen class sets its fields one by one, slowly.
    found = object.__new__(JobRow)
    vars(found).update(values)
    return found


def job_rows(
    tx: Transaction,
    *,
    batch_id: int | None = None,
    states: Sequence[JobState] = (),
    where: Where | None = None,
) -> Generator[JobRow]:
    """Yield jobs in manifest order, without holding them all.

    Args:
        tx: A reading transaction.
        batch_id: Only of this batch.
        states: Only in one of these states; all if empty.
        where: Only those it is true of.
    """
    query, values = _chosen(tx, _ROW, batch_id=batch_id, states=states, where=where)
    yield from map(_job_row, tx.stream(text(query + _ORDER), values, at_once=_AT_ONCE))


def job_ids(
    tx: Transaction,
    *,
    batch_id: int | None = None,
    states: Sequence[JobState] = (),
    where: Where | None = None,
    order: Sequence[tuple[Name, bool]] = (),
    limit: int | None = None,
) -> list[int]:
    """Return the row ids of jobs, in manifest order unless another is asked for.

    Args:
        tx: A reading transaction.
        batch_id: Only of this batch.
        states: Only in one of these states; all if empty.
        where: Only those it is true of.
        order: Fields, columns or inputs, each with whether downwards.
        limit: At most so many.
    """
    wanted = _narrowed(states, where)
    counted = None if wanted is None else _counted(tx, wanted)
    if counted == 0:
        return []
    query, values = _chosen(tx, _IDS, batch_id=batch_id, states=states, where=where)
    ordered = selecting.order(order, is_postgresql=tx.is_postgresql, first=len(values))
    ordered_sql = ordered.sql
    if wanted is not None and counted is not None and counted <= _FEW:
        # Few among very many: SQLite would go through all of them in the order that is asked for.
        query = query.replace("j.batch_id = :batch_id", "+j.batch_id = :batch_id")
        query = query.replace(SHOWN, f"+{SHOWN}")
        query += "".join(f" AND {sql}" for some, sql in _INDEXED.items() if wanted <= some)
        ordered_sql = ordered_sql if order else f"+{ordered_sql}"
    query += f" ORDER BY {ordered_sql}"
    values |= ordered.values
    if limit is not None:
        query += " LIMIT :most"
        values["most"] = limit
    return [row.id for row in tx.rows(text(query), values)]


_FEW = 20_000  # jobs that are sorted in no time
_INDEXED = {  # in the words of partial indexes
    frozenset({JobState.PENDING}): "j.state = 'pending'",
    frozenset({JobState.IN_DOUBT}): "j.state = 'in_doubt'",
    OWNED: is_owned("j"),
    LOST: is_lost("j"),
}
_COUNTED = text("SELECT state, sum(jobs) AS jobs FROM counters GROUP BY state")


def _narrowed(states: Sequence[JobState], where: Where | None) -> frozenset[JobState] | None:
    """Return the states in which jobs are looked for; None if that may be any."""
    said = None if where is None else selecting.states_of(where)
    if not states or said is None:
        return frozenset(states) or said
    return said & frozenset(states)


def _counted(tx: Transaction, states: frozenset[JobState]) -> int:
    """Return how many jobs at most are in one of these states, by the stored counters."""
    return sum(int(row.jobs) for row in tx.rows(_COUNTED) if row.state in states)


_KEYS_OF_IDS = among("SELECT j.id, j.key FROM jobs j WHERE j.id IN :values")


def keys_of(tx: Transaction, job_ids: Sequence[int]) -> Generator[str]:
    """Yield the keys of jobs by their row ids, in the order of these."""
    for some in chunks(job_ids, _AT_ONCE):
        found = {row.id: row.key for row in tx.rows(_KEYS_OF_IDS, {"values": tx.listed(some)})}
        yield from (found[job_id] for job_id in some if job_id in found)


def rows_of(tx: Transaction, job_ids: Sequence[int]) -> Generator[JobRow]:
    """Yield jobs by their row ids, in the order of these."""
    for some in chunks(job_ids, _AT_ONCE):
        found = {row.id: row for row in tx.rows(_OF_IDS, {"values": tx.listed(some)})}
        for job_id in some:
            if job_id in found:
                yield _job_row(found[job_id])


def _chosen(
    tx: Transaction,
    select: str,
    *,
    batch_id: int | None,
    states: Sequence[JobState],
    where: Where | None,
) -> tuple[str, dict[str, Any]]:
    parts, values = [SHOWN], dict[str, Any]()
    if batch_id is not None:
        parts.append("j.batch_id = :batch_id")
        values["batch_id"] = batch_id
    if states:
        # As literals: only so can SQLite see that a partial index serves.
        parts.append("j.state IN ({})".format(", ".join(f"'{state}'" for state in states)))
    if where is not None:
        condition = selecting.condition(where, is_postgresql=tx.is_postgresql)
        parts.append(condition.sql)
        values |= condition.values
    return f"{select}WHERE {' AND '.join(parts)}", values


_NAMES = text(f"SELECT b.columns, b.schemas FROM batches b WHERE {BATCH_SHOWN} ORDER BY b.id")


def names(tx: Transaction) -> tuple[list[str], list[str]]:
    """Return the columns that manifests have, and the inputs of their models, in order."""
    columns: dict[str, None] = {}
    inputs: dict[str, None] = {}
    for row in tx.rows(_NAMES):
        columns |= dict.fromkeys(json.loads(row.columns))
        for schema in json.loads(row.schemas).values():
            inputs |= dict.fromkeys(schema.get("properties", {}))
    return list(columns), list(inputs)


def job_row(tx: Transaction, job_id: int) -> JobRow | None:
    """Return one job."""
    row = tx.row(_ONE, {"job_id": job_id})
    return None if row is None else _job_row(row)


_FIND_KEYS = among(
    f"SELECT k.key, j.id FROM job_keys k JOIN jobs j ON j.id = k.job_id WHERE {SHOWN} "
    "AND k.key IN :values"
)
_FIND_NAMES = among(  # by the index of batch and row id: an expression has none
    "SELECT j.id, j.row_id, j.variant, b.name AS batch FROM batches b CROSS JOIN jobs j "
    f"WHERE j.batch_id = b.id AND j.row_id IN :values AND {SHOWN} "
    "ORDER BY j.batch_id, j.position, j.id"
)
_FIND_PREFIX = text(
    f"SELECT j.id FROM job_keys k JOIN jobs j ON j.id = k.job_id WHERE {SHOWN} "
    "AND k.key >= :said AND k.key < :beyond LIMIT 2"
)
_SHORTEST_PREFIX = 6  # characters of a key


_OF_ATTEMPT = text(
    f"SELECT j.id FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.id = :id AND {SHOWN}"
)


def job_of_attempt(tx: Transaction, attempt_id: str) -> int | None:
    """Return the job that a paid request is for, None if there is no such request."""
    found = tx.value(_OF_ATTEMPT, {"id": attempt_id})
    return None if found is None else int(found)


def _row_ids(said: str) -> list[str]:
    """Return the ids of rows that a word may hold: without a batch, without a variant."""
    ends = [said, *(said[at + 1 :] for at, letter in enumerate(said) if letter == "/")]
    starts = [one[:at] for one in ends for at, letter in enumerate(one) if letter == "-"]
    return list(dict.fromkeys([*ends, *starts]))


def find(tx: Transaction, said: str) -> list[int]:
    """Return the jobs a person may mean: a key, its first 6 or more characters, an id, an id
    and variant (`harbor-2`), each also as `batch/id`.
    """  # noqa: D205 - one sentence
    return find_each(tx, [said])[said]


def find_each(tx: Transaction, said: Sequence[str]) -> dict[str, list[int]]:
    """Return `find` of many words; the jobs are looked through once, whatever their number."""
    found: dict[str, list[int]] = {word: [] for word in said}
    for row in tx.rows(_FIND_KEYS, {"values": tx.listed(found)}):
        found[row.key].append(row.id)
    names = [word for word, ids in found.items() if not ids]
    if not names:
        return found
    wanted = set(names)
    row_ids = dict.fromkeys(row_id for name in names for row_id in _row_ids(name))
    for row in tx.rows(_FIND_NAMES, {"values": tx.listed(row_ids)}):
        label = job_label(row.row_id, row.variant)
        for name in {row.row_id, label, f"{row.batch}/{row.row_id}", f"{row.batch}/{label}"}:
            if name in wanted:
                found[name].append(row.id)
    for word in names:
        if not found[word] and len(word) >= _SHORTEST_PREFIX:
            rows = tx.rows(_FIND_PREFIX, {"said": word, "beyond": word + "g"})
            found[word] = [row.id for row in rows]
    return found


@dataclass(frozen=True, slots=True)
class Brief:
    """The little that is needed of a job to do something to it, of a million too."""

    id: int
    key: str
    batch_id: int
    batch: str
    account_id: int
    row_id: str
    variant: str
    state: JobState
    model: str
    settings: str | None
    error_class: str | None
    est_micros: int | None
    attempt_id: str | None
    request_id: str | None

    @property
    def label(self) -> str:
        """Return id and variant, for people."""
        return job_label(self.row_id, self.variant)


_BRIEF = among(
    "SELECT j.id, j.key, j.batch_id, b.name AS batch, b.account_id, j.row_id, j.variant, j.state, "
    "j.model, j.settings, j.error_class, j.est_micros, j.attempt_id, a.request_id "
    "FROM jobs j JOIN batches b ON b.id = j.batch_id LEFT JOIN attempts a ON a.id = j.attempt_id "
    "WHERE j.id IN :values"
)
_BRIEFS_AT_ONCE = 10_000
_STATE_AT = [field.name for field in fields(Brief)].index("state")


def _brief(row: Any) -> Brief:
    values: list[Any] = list(row)  # in the order of `_BRIEF`, which is that of the fields
    values[_STATE_AT] = JobState(values[_STATE_AT])
    return Brief(*values)


def briefs(tx: Transaction, job_ids: Sequence[int]) -> list[Brief]:
    """Return jobs by their row ids, in the order of these."""
    found = {
        row.id: _brief(row)
        for some in chunks(job_ids, _BRIEFS_AT_ONCE)
        for row in tx.rows(_BRIEF, {"values": tx.listed(some)})
    }
    return [found[job_id] for job_id in job_ids if job_id in found]


_INPUTS = among("SELECT id, inputs FROM jobs WHERE id IN :values")


def inputs_of(tx: Transaction, job_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Return what is sent for jobs, by their row ids."""
    return {
        row.id: json.loads(row.inputs)
        for some in chunks(job_ids, _BRIEFS_AT_ONCE)
        for row in tx.rows(_INPUTS, {"values": tx.listed(some)})
    }


_ATTEMPTS = text("SELECT * FROM attempts WHERE job_id = :job_id ORDER BY no")
_EVENTS = text("SELECT * FROM events WHERE job_id = :job_id ORDER BY id")


def attempts(tx: Transaction, job_id: int) -> list[dict[str, Any]]:
    """Return every attempt of a job, oldest first, with its raw answers."""
    found = []
    for row in tx.rows(_ATTEMPTS, {"job_id": job_id}):
        attempt = dict(row._mapping)
        found.append(attempt | {name: _answer(attempt[name]) for name in RAW_ANSWERS})
    return found


def _answer(stored: str | bytes | None) -> str | None:
    try:
        return unpacked(stored)
    except StoreError as error:  # the rest of the attempt is worth showing
        return f"({error})"


def events(tx: Transaction, job_id: int) -> list[dict[str, Any]]:
    """Return the audit trail of a job, oldest first."""
    found = []
    for row in tx.rows(_EVENTS, {"job_id": job_id}):
        event = dict(row._mapping)
        event["data"] = json.loads(event["data"]) if event["data"] else {}
        found.append(event)
    return found


@dataclass(frozen=True)
class BatchSummary:
    """Where a batch stands; money in micro-dollars."""

    id: int
    name: str
    account_id: int
    source: str
    output_dir: str
    columns: tuple[str, ...]
    counts: Mapping[JobState, int]
    spent_micros: int
    reserved_micros: int
    budget_micros: int | None


_BATCHES = text(f"SELECT * FROM batches b WHERE {BATCH_SHOWN} ORDER BY b.id")
_COUNTS = text("SELECT batch_id, state, jobs FROM counters")
_SPENT = text("SELECT batch_id, sum(spent_micros) AS micros FROM spending GROUP BY batch_id")
_RESERVED = text(
    f"SELECT batch_id, sum(est_micros) AS micros FROM attempts WHERE {is_live()} GROUP BY batch_id"
)


def batches(tx: Transaction) -> list[BatchSummary]:
    """Return every batch with its stored counts and its money."""
    counts: dict[int, dict[JobState, int]] = {}
    for row in tx.rows(_COUNTS):
        if row.jobs:
            counts.setdefault(row.batch_id, {})[JobState(row.state)] = row.jobs
    spent = {row.batch_id: int(row.micros) for row in tx.rows(_SPENT)}
    reserved = {row.batch_id: int(row.micros) for row in tx.rows(_RESERVED)}
    return [
        BatchSummary(
            id=row.id,
            name=row.name,
            account_id=row.account_id,
            source=row.source,
            output_dir=row.output_dir,
            columns=tuple(json.loads(row.columns)),
            counts=counts.get(row.id, {}),
            spent_micros=spent.get(row.id, 0),
            reserved_micros=reserved.get(row.id, 0),
            budget_micros=row.budget_micros,
        )
        for row in tx.rows(_BATCHES)
    ]


_BOOKED = text(
    "SELECT b.name, coalesce(c.micros, 0) AS charged, coalesce(s.micros, 0) AS spent "
    "FROM batches b LEFT JOIN (SELECT batch_id, sum(charged_micros) AS micros FROM attempts "
    "GROUP BY batch_id) c ON c.batch_id = b.id "
    "LEFT JOIN (SELECT batch_id, sum(spent_micros) AS micros FROM spending GROUP BY batch_id) s "
    f"ON s.batch_id = b.id WHERE {BATCH_SHOWN} ORDER BY b.id"
)


def misbooked(tx: Transaction) -> list[tuple[str, int, int]]:
    """Return the batches whose books differ from their attempts: name, charged, booked."""
    rows = [(row.name, int(row.charged), int(row.spent)) for row in tx.rows(_BOOKED)]
    return [row for row in rows if row[1] != row[2]]


_MOST_LOOKED_THROUGH = 100_000  # jobs; there is no index for it
_ESTIMATED = text(
    "SELECT 1 FROM attempts WHERE batch_id = :batch_id AND charged_micros > 0 "
    "AND (cost_micros IS NULL OR cost_micros <> charged_micros) LIMIT 1"
)


def has_estimates(tx: Transaction, batch: BatchSummary) -> bool:
    """Return whether some of what a batch spent may be an estimate.

    Said too of one whose attempts are too many to look through.
    """
    if not batch.spent_micros:
        return False
    if sum(batch.counts.values()) > _MOST_LOOKED_THROUGH:
        return True
    return tx.value(_ESTIMATED, {"batch_id": batch.id}) is not None


_MAX_JOB = text(
    "SELECT coalesce((SELECT min(after_job_id) FROM imports), (SELECT max(id) FROM jobs), 0)"
)
_TALLY = (
    "SELECT j.state, count(*) AS jobs FROM jobs j JOIN batches b ON b.id = j.batch_id "
    "WHERE b.account_id = :account_id AND j.id <= :max_job_id "
    "AND (:all_batches = 1 OR j.batch_id IN :batch_ids) "
    "AND (:since_ms = 0 OR j.finished_ms IS NULL OR j.finished_ms >= :since_ms "
    "OR j.state = 'in_doubt'){which} GROUP BY j.state"
)
_TALLY_ALL = text(_TALLY.format(which="")).listing(batch_ids=int)
_TALLY_OF = among(_TALLY.format(which=" AND j.id IN :values")).listing(batch_ids=int)
_TALLY_STORED = text(
    "SELECT c.state, sum(c.jobs) AS jobs FROM counters c JOIN batches b ON b.id = c.batch_id "
    "WHERE b.account_id = :account_id AND (:all_batches = 1 OR c.batch_id IN :batch_ids) "
    "GROUP BY c.state"
).listing(batch_ids=int)
_IMPORTING = text("SELECT 1 FROM imports LIMIT 1")


def kept_schema(tx: Transaction, batch_id: int, model: str) -> dict[str, Any] | None:
    """Return what a batch has kept of a model, None if it has nothing."""
    rows = tx.rows(text("SELECT schemas FROM batches WHERE id = :id"), {"id": batch_id})
    found: dict[str, Any] | None = next((json.loads(row.schemas).get(model) for row in rows), None)
    return found


def newest_job_id(tx: Transaction) -> int:
    """Return the id of the job stored last, 0 if there is none."""
    return int(tx.value(_MAX_JOB))


def tally(
    tx: Transaction,
    scope: Scope,
    account_id: int,
    *,
    since_ms: int = 0,
    by_counters: bool = False,
) -> Counter[JobState]:
    """Count the jobs of a scope by state.

    Args:
        tx: A reading transaction.
        scope: Which jobs.
        account_id: Of which account.
        since_ms: Leave out what had come to rest before; 0 counts everything. Jobs in doubt
            always count.
        by_counters: Read the stored counters where they tell it, instead of a million jobs.
    """
    values = {
        "account_id": account_id,
        "max_job_id": scope.max_job_id,
        "all_batches": int(scope.batch_ids is None),
        "batch_ids": list(scope.batch_ids or ()),
        "since_ms": since_ms,
    }

    def count(statement: Statement, ids: Iterable[int] = ()) -> Counter[JobState]:
        rows = tx.rows(statement, {**values, "values": tx.listed(ids)} if ids else values)
        return Counter({JobState(row.state): int(row.jobs) for row in rows})

    if scope.only is not None:
        return count(_TALLY_OF, scope.only) if scope.only else Counter()
    if by_counters and not (scope.outside or since_ms) and _has_all(tx, scope):
        return +count(_TALLY_STORED)
    found = count(_TALLY_ALL)
    return found - count(_TALLY_OF, scope.outside) if scope.outside else found


def _has_all(tx: Transaction, scope: Scope) -> bool:
    """Whether no job is beyond a scope's newest, shown or hidden."""
    return scope.max_job_id >= newest_job_id(tx) and tx.row(_IMPORTING) is None


_PENDING = (
    "SELECT {columns} FROM jobs j{joined} "
    f"WHERE {SHOWN} AND j.state = 'pending' "
    "AND j.batch_id IN (SELECT id FROM batches WHERE account_id = :account_id) "
    "AND (:all_batches = 1 OR j.batch_id IN :batch_ids)"
    "{where}{end}"
)
_KIND = "j.model, j.settings, j.est_micros"
_KINDS = {"columns": f"{_KIND}, count(*) AS jobs", "end": f" GROUP BY {_KIND}"}
# Joined for what a condition may name.
_JOINED = " JOIN batches b ON b.id = j.batch_id LEFT JOIN attempts a ON a.id = j.attempt_id"


def _all_pending(columns: str, end: str = "") -> Statement:
    """Read by the index of pending jobs, however many there are: no finished one is looked at."""
    said = _PENDING.format(columns=columns, joined="", where="", end=end)
    said = said.replace(SHOWN, f"+{SHOWN}").replace("j.batch_id IN", "+j.batch_id IN")
    return text(said).listing(batch_ids=int)


_ALL_PENDING = _all_pending(**_KINDS)
_SOME_PENDING = _all_pending(_KIND, " LIMIT 1000")
_PENDING_RANGE = _all_pending(
    "min(j.model) AS model, max(j.model) AS last_model, "
    "min(j.settings) AS settings, max(j.settings) AS last_settings, "
    "min(j.est_micros) AS est_micros, max(j.est_micros) AS last_est_micros, "
    "count(j.settings) AS with_settings, count(j.est_micros) AS with_price, count(*) AS jobs"
)


@dataclass(frozen=True)
class Kind:
    """Pending jobs that are alike in all that decides their price.

    Attributes:
        model: Model id.
        settings: `identity.settings_of` their inputs; None if not known.
        listed: Their list price in micro-dollars, None if there is none.
        jobs: How many they are.
    """

    model: str
    settings: str | None
    listed: int | None
    jobs: int


def waiting(
    tx: Transaction,
    account_id: int,
    batch_ids: Sequence[int] | None,
    *,
    where: Where | None = None,
) -> list[Kind]:
    """Return the jobs that wait to be paid for, those alike counted together."""
    values: dict[str, Any] = {
        "account_id": account_id,
        "all_batches": int(batch_ids is None),
        "batch_ids": list(batch_ids or ()),
    }
    if where is None:
        if alike := _all_alike(tx, values):
            return [alike]
        rows = tx.rows(_ALL_PENDING, values)
    else:
        condition = selecting.condition(where, is_postgresql=tx.is_postgresql)
        said = _PENDING.format(joined=_JOINED, where=f" AND {condition.sql}", **_KINDS)
        rows = tx.rows(text(said).listing(batch_ids=int), values | condition.values)
    return [Kind(row.model, row.settings, row.est_micros, row.jobs) for row in rows]


def _all_alike(tx: Transaction, values: Mapping[str, Any]) -> Kind | None:
    """Return what all waiting jobs are, or None if they differ.

    To group half a million takes as long again as to read them, and most are of one kind.
    """
    if len({tuple(row) for row in tx.rows(_SOME_PENDING, values)}) != 1:
        return None
    row = tx.row(_PENDING_RANGE, values)
    if (
        row is None
        or (row.model, row.settings, row.est_micros)
        != (row.last_model, row.last_settings, row.last_est_micros)
        or row.with_settings not in (0, row.jobs)
        or row.with_price not in (0, row.jobs)
    ):
        return None
    return Kind(row.model, row.settings, row.est_micros, row.jobs)


# With `+`: sorted, for in the order of their rows a file's planner would go through all jobs.
_LOST = text(
    "SELECT j.id, b.name AS batch, j.row_id, j.variant, j.state, j.error_class, j.error, j.unfit "
    "FROM jobs j JOIN batches b ON b.id = j.batch_id "
    "WHERE b.account_id = :account_id AND +j.id <= :max_job_id "
    "AND (:all_batches = 1 OR j.batch_id IN :batch_ids) "
    f"AND {is_lost('j')} "
    "AND (:since_ms = 0 OR j.finished_ms IS NULL OR j.finished_ms >= :since_ms) "
    "ORDER BY +j.batch_id, j.position, j.id"
).listing(batch_ids=int)


def lost(tx: Transaction, scope: Scope, account_id: int, *, since_ms: int = 0) -> Generator[Lost]:
    """Yield the jobs of a scope that are at rest without a clip, as `tally` counts them."""
    values = {
        "account_id": account_id,
        "max_job_id": scope.max_job_id,
        "all_batches": int(scope.batch_ids is None),
        "batch_ids": list(scope.batch_ids or ()),
        "since_ms": since_ms,
    }
    for row in tx.stream(_LOST, values):
        if scope.judges(row.id):
            job = f"{row.batch}/{job_label(row.row_id, row.variant)}"
            state = JobState(row.state)
            yield Lost(job, state, row.error_class, row.error or "", bool(row.unfit))


_SAMPLED = 2000  # rows of a manifest
_LAST_POSITION = text("SELECT max(position) FROM jobs WHERE batch_id = :batch_id")
_SAMPLE = among(
    "SELECT j.model, j.settings, j.est_micros, count(*) AS jobs FROM jobs j "
    "WHERE j.batch_id = :batch_id AND j.position IN :values AND j.state = 'pending' "
    "GROUP BY j.model, j.settings, j.est_micros"
)


def waiting_of(tx: Transaction, batch: BatchSummary) -> tuple[list[Kind], bool]:
    """Return the jobs of a batch that wait to be paid for, and whether that is extrapolated.

    Of very many a sample is looked at, evenly spread over the manifest.
    """
    pending = batch.counts.get(JobState.PENDING, 0)
    if not pending:
        return [], False
    if pending > _FEW and (sample := _sampled(tx, batch.id, pending)):
        return sample, True
    return waiting(tx, batch.account_id, [batch.id]), False


def _sampled(tx: Transaction, batch_id: int, pending: int) -> list[Kind]:
    last = int(tx.value(_LAST_POSITION, {"batch_id": batch_id}) or 0)
    positions = range(0, last + 1, max(1, last // _SAMPLED))
    rows = tx.rows(_SAMPLE, {"batch_id": batch_id, "values": tx.listed(list(positions))})
    seen = sum(row.jobs for row in rows)
    kinds, left = [], pending
    for number, row in enumerate(rows, 1):
        jobs = left if number == len(rows) else round(pending * row.jobs / seen)
        kinds.append(Kind(row.model, row.settings, row.est_micros, jobs))
        left -= jobs
    return kinds


_CLASSES = text(
    "SELECT error_class, count(*) AS jobs FROM jobs "
    "WHERE batch_id = :batch_id AND state = 'failed' GROUP BY error_class"
)


def failed_classes(tx: Transaction, batch: BatchSummary) -> Counter[str]:
    """Return how many jobs of a batch failed, by class."""
    if not batch.counts.get(JobState.FAILED):
        return Counter()
    rows = tx.rows(_CLASSES, {"batch_id": batch.id})
    return Counter({row.error_class or "unknown": row.jobs for row in rows})
