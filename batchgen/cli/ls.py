"""`batchgen ls`: list jobs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import click

from batchgen.cli import common, tables
from batchgen.cli.selection import condition, named, where_option
from batchgen.cli.tables import Column
from batchgen.domain.errors import UsageError
from batchgen.domain.redaction import redact_all
from batchgen.domain.states import JobState
from batchgen.domain.where import COLUMN, FIELDS, Kind, Name, Where
from batchgen.domain.wording import lasting, usd
from batchgen.store import reads
from batchgen.store.reads import JobRow
from batchgen.store.transactions import Transaction

DEFAULT_LIMIT = 100
"""How many jobs are listed if nothing else is asked for."""

STATE_COLOURS: Mapping[str, str] = {
    JobState.PENDING: "cyan",
    JobState.SUBMITTING: "blue",
    JobState.RUNNING: "blue",
    JobState.DOWNLOADING: "blue",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
    JobState.IN_DOUBT: "magenta",
    JobState.EXPIRED: "red",
}
"""The colour of each state on a terminal."""

_Part = TypeVar("_Part")

_WIDE = 100  # cells; on less there is no room for all columns
_KEY_CHARACTERS = 10
_COLUMNS = (
    Column("KEY"),
    Column("BATCH"),
    Column("ID"),
    Column("STATE", colour=STATE_COLOURS.get),
    Column("ERROR"),
    Column("COST", is_number=True),
    Column("CHANGED"),
    Column("FILE OR WHY NOT"),
)


class _Limit(click.ParamType[int]):
    """A number of jobs, or `all` (-1)."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "all":
            return -1
        if not str(value).isascii() or not str(value).isdigit() or not 0 < int(value) < 2**31:
            self.fail(f"{value!r} is no number of jobs such as 500, nor all", param, ctx)
        return int(value)


@click.command("ls")
@common.batch_option
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in JobState]),
    help="Only jobs in this state; may be given again.",
)
@where_option
@click.option(
    "--columns",
    "shown",
    metavar="LIST",
    help="What to show of each: fields, columns of the manifest, inputs, with commas between.",
)
@click.option(
    "--sort",
    metavar="LIST",
    help="By which of these, with commas between; -FIELD is downwards. Else as in the manifest.",
)
@click.option(
    "--limit",
    type=_Limit(),
    metavar="N|all",
    help=f"At most so many; {DEFAULT_LIMIT} unless --keys asks for all.",
)
@click.option("--keys", is_flag=True, help="Print only the keys, one a line, of all of them.")
@common.json_option
@common.db_option
def command(
    *,
    batch: str | None,
    states: tuple[str, ...],
    where: str | None,
    shown: str | None,
    sort: str | None,
    limit: int | None,
    keys: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """List jobs in manifest order.

    The fields are those of --where. On a terminal long texts are cut, so that no line is longer
    than the window; elsewhere they are whole. `batchgen ls --keys --where … | batchgen retry -`
    hands jobs on.
    """
    if keys and (shown is not None or as_json):
        raise UsageError("--keys prints keys alone: leave --columns and --json out")
    if limit is None:
        limit = -1 if keys else DEFAULT_LIMIT
    with (
        closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database,
        database.reading() as tx,
    ):
        wanted = _Wanted(
            batch_id=common.batch_id_of(tx, batch),
            states=[JobState(state) for state in states],
            where=condition(tx, where),
            order=_order(tx, sort),
            most=None if limit == -1 else limit,
        )
        columns = None if shown is None else named(tx, _split(shown, "--columns"), what="--columns")
        found, more = wanted.ids(tx)
        if as_json:
            total = wanted.total(tx, len(found), more=more)
            jobs = [_json(row, columns) for row in reads.rows_of(tx, found)]
            common.print_json({"jobs": jobs, "total": total, "more": more})
            return
        if keys:
            for key in reads.keys_of(tx, found):
                click.echo(key)
        elif found:
            is_one = batch is not None or len(reads.batches(tx)) == 1
            rows = reads.rows_of(tx, found)
            _print(rows, columns, now_ms=tx.now_ms(), is_one_batch=is_one)
        _say_rest(tx, wanted, len(found), more=more)


class _Wanted:
    """Which jobs are listed, in which order, and how many at most (None: all)."""

    def __init__(
        self,
        *,
        batch_id: int | None,
        states: Sequence[JobState],
        where: Where | None,
        order: Sequence[tuple[Name, bool]],
        most: int | None,
    ) -> None:
        self._batch_id = batch_id
        self._states = states
        self._where = where
        self._order = order
        self._most = most

    def ids(self, tx: Transaction) -> tuple[list[int], bool]:
        """Return the row ids of the jobs, and whether there are more."""
        found = reads.job_ids(
            tx,
            batch_id=self._batch_id,
            states=self._states,
            where=self._where,
            order=self._order,
            limit=None if self._most is None else self._most + 1,
        )
        return found[: self._most], self._most is not None and len(found) > self._most

    def total(self, tx: Transaction, listed: int, *, more: bool) -> int | None:
        """Return how many there are in all; None if they would have to be counted."""
        if not more:
            return listed
        if self._where is not None:
            return None
        counts = [
            summary.counts for summary in reads.batches(tx) if self._batch_id in (None, summary.id)
        ]
        return sum(one.get(state, 0) for one in counts for state in self._states or JobState)


def _split(text: str, option: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(f"{option} {text!r}: say names with commas between, such as id,state,cost")
    return words


def _order(tx: Transaction, sort: str | None) -> list[tuple[Name, bool]]:
    if sort is None:
        return []
    words = _split(sort, "--sort")
    names = named(tx, [word.removeprefix("-") for word in words], what="--sort")
    return [(name, word.startswith("-")) for name, word in zip(names, words, strict=True)]


def _say_rest(tx: Transaction, wanted: _Wanted, listed: int, *, more: bool) -> None:
    if not listed:
        click.echo("no such job", err=True)
    elif more:
        total = wanted.total(tx, listed, more=more)
        of_all = "there are more" if total is None else f"there are {total:,}"
        click.echo(
            f"only the first {common.plural(listed, 'job')}, {of_all}: --limit N or --limit all "
            "lists more, --where fewer",
            err=True,
        )


def _left_out(width: int | None, *, is_one_batch: bool) -> frozenset[str]:
    """Return which of the usual columns a terminal has no room for; elsewhere all are there."""
    if width is None:
        return frozenset()
    same = {"BATCH"} if is_one_batch else set()
    return frozenset(same | ({"CHANGED"} if width < _WIDE else set()))


def _kept(parts: Sequence[_Part], left_out: frozenset[str]) -> tuple[_Part, ...]:
    pairs = zip(parts, _COLUMNS, strict=True)
    return tuple(part for part, column in pairs if column.title not in left_out)


def _print(
    rows: Iterator[JobRow], names: Sequence[Name] | None, *, now_ms: int, is_one_batch: bool
) -> None:
    width = tables.terminal_width()
    if names is None:
        left_out = _left_out(width, is_one_batch=is_one_batch)
        columns: Sequence[Column] = _kept(_COLUMNS, left_out)
        cells = (_kept(_cells(row, now_ms), left_out) for row in rows)
    else:
        columns = [_column(name) for name in names]
        cells = (tuple(_text(row, name) for name in names) for row in rows)
    for line in tables.table(cells, columns, width=width, colours=tables.has_colours()):
        click.echo(line)


def _file(row: JobRow) -> str:
    return str(Path(row.output_dir) / row.files[0]["path"]) if row.files else ""


def _cells(row: JobRow, now_ms: int) -> tuple[str, ...]:
    return (
        row.key[:_KEY_CHARACTERS],
        tables.one_line(row.batch),
        tables.one_line(row.label),
        row.state,
        row.error_class or "",
        _cost(row),
        tables.ago(row.updated_ms, now_ms),
        tables.one_line(_file(row) or row.error or ""),
    )


def _cost(row: JobRow) -> str:
    if row.charged_micros is None:
        return ""
    return usd(row.charged_micros, is_estimate=row.cost_is_estimate)


# -- fields ----------------------------------------------------------------------------------------


def _queue_s(row: JobRow) -> float | None:
    if row.started_ms is None or row.accepted_ms is None:
        return None
    return (row.started_ms - row.accepted_ms) / 1000


def _run_s(row: JobRow) -> float | None:
    if row.run_ms is not None:
        return row.run_ms / 1000
    begin_ms = row.started_ms if row.started_ms is not None else row.accepted_ms
    if row.closed_ms is None or begin_ms is None:
        return None
    return (row.closed_ms - begin_ms) / 1000


FIELD_VALUES: Mapping[str, Callable[[JobRow], Any]] = {
    "batch": lambda row: row.batch,
    "id": lambda row: row.row_id,
    "variant": lambda row: row.variant or None,
    "key": lambda row: row.key,
    "state": lambda row: str(row.state),
    "model": lambda row: row.model,
    "class": lambda row: row.error_class,
    "error": lambda row: row.error or None,
    "remote": lambda row: row.remote_state,
    "request": lambda row: row.request_id,
    "file": lambda row: _file(row) or None,
    "bytes": lambda row: row.files[0]["size_bytes"] if row.files else None,
    "seed": lambda row: row.seed,
    "version": lambda row: row.version,
    "priority": lambda row: row.priority,
    "attempts": lambda row: row.accepted,
    "cost": lambda row: common.usd_number(row.charged_micros),
    "estimate": lambda row: common.usd_number(row.est_micros),
    "submitted": lambda row: row.intent_ms,
    "finished": lambda row: row.finished_ms,
    "changed": lambda row: row.updated_ms,
    "queue": _queue_s,
    "run": _run_s,
}
"""What each field of `domain.where.FIELDS` is of a job; times in epoch milliseconds."""


def _column(name: Name) -> Column:
    title = tables.one_line(name.name).upper()
    if name.place:
        return Column(title)
    is_number = FIELDS[name.name] in (Kind.NUMBER, Kind.SECONDS, Kind.BYTES)
    return Column(title, is_number, STATE_COLOURS.get if name.name == "state" else None)


def _value(row: JobRow, name: Name) -> Any:
    if name.place:
        return (row.cells if name.place == COLUMN else row.inputs).get(name.name)
    value = FIELD_VALUES[name.name](row)
    return common.iso(value) if FIELDS[name.name] is Kind.TIME else value


def _text(row: JobRow, name: Name) -> str:
    """Return a value for people: money and times are written as such."""
    if name == Name("", "cost"):
        return _cost(row)
    value = FIELD_VALUES[name.name](row) if not name.place else _value(row, name)
    if value is None:
        return ""
    kind = name.kind
    if kind is Kind.TIME:
        return tables.local(value)
    if kind is Kind.SECONDS:
        return lasting(value)
    if name == Name("", "estimate"):
        return usd(row.est_micros)
    return tables.one_line(common.in_words(value))


def _json(row: JobRow, columns: Sequence[Name] | None) -> dict[str, Any]:
    said: dict[str, Any] = {
        "key": row.key,
        "batch": row.batch,
        "id": row.row_id,
        "variant": row.variant,
        "state": str(row.state),
        "model": row.model,
        "request_id": row.request_id,
        "error_class": row.error_class,
        "error": row.error,
        "cost_usd": common.usd_number(row.charged_micros),
        "cost_is_estimate": row.cost_is_estimate,
        "estimate_usd": common.usd_number(row.est_micros),
        "file": _file(row) or None,
    }
    if columns is not None:
        said["columns"] = {name.name: redact_all(_value(row, name)) for name in columns}
    return said
