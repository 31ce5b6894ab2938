"""Jobs that are selected and ordered by their fields: from a parsed `--where` to SQL.

Everything that a person wrote is a bound parameter. Queries name jobs `j`, their batch `b` and
the newest attempt `a`. What SQL cannot do alike on both kinds of job database (texts without
regard to case beyond ASCII, numbers in texts) SQLite gets from functions of ours.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from batchgen.domain.states import JobState
from batchgen.domain.where import COLUMN, Both, Comparison, Either, Kind, Name, Not, Value, Where

_SUM = "(SELECT {what} FROM attempts c WHERE c.job_id = j.id{which})"
_CHARGED = _SUM.format(what="CAST(sum(c.charged_micros) AS bigint)", which="")
_ACCEPTED = _SUM.format(what="count(*)", which=" AND c.accepted_ms IS NOT NULL")
_FIRST_FILE = {
    "sqlite": "json_extract(j.files, '$[0].{part}')",
    "postgresql": "(CAST(j.files AS json) -> 0 ->> '{part}')",
}
_PLAIN = {
    "batch": "b.name",
    "id": "j.row_id",
    "variant": "j.variant",
    "key": "j.key",
    "state": "j.state",
    "model": "j.model",
    "class": "j.error_class",
    "error": "j.error",
    "remote": "j.remote_state",
    "request": "a.request_id",
    "seed": "j.seed",
    "version": "j.version",
    "priority": "-j.priority",  # higher first for people
    "attempts": _ACCEPTED,
    "cost": f"{_CHARGED} / 1000000.0",
    "estimate": "j.est_micros / 1000000.0",
    "submitted": "a.intent_ms",
    "finished": "j.finished_ms",
    "changed": "j.updated_ms",
    "queue": "(a.started_ms - a.accepted_ms) / 1000.0",
    "run": "coalesce(a.run_ms, a.closed_ms - coalesce(a.started_ms, a.accepted_ms)) / 1000.0",
}
_EMPTY_IS_NONE = frozenset({"variant", "error"})
_NUMBER_IN_TEXT = r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,2})?\s*$"


@dataclass
class Condition:
    """A part of a statement, and the values it needs.

    Attributes:
        sql: What stands after WHERE, or between commas after ORDER BY.
        values: By the names of its parameters.
    """

    sql: str
    values: dict[str, Any] = field(default_factory=dict)


def add_functions(connection: sqlite3.Connection) -> None:
    """Give a connection to SQLite the functions that conditions use."""
    connection.create_function("batchgen_has", 2, _has, deterministic=True)
    connection.create_function("batchgen_number", 1, _number, deterministic=True)


def _has(text: Any, part: str) -> bool:
    return text is not None and part in str(text).casefold()


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def condition(where: Where, *, is_postgresql: bool) -> Condition:
    """Return an expression as SQL; it is true or false, never unknown."""
    builder = _Builder(is_postgresql=is_postgresql)
    return Condition(builder.said(where), builder.values)


def order(names: Sequence[tuple[Name, bool]], *, is_postgresql: bool, first: int = 0) -> Condition:
    """Return what ORDER BY takes: jobs without a value last, those alike in manifest order.

    Args:
        names: What is ordered by, and whether downwards.
        is_postgresql: Which SQL.
        first: The number of its first parameter; a condition of the same statement has lower ones.
    """
    builder = _Builder(is_postgresql=is_postgresql, first=first)
    parts = [
        f"{builder.value_of(name)} {'DESC' if down else 'ASC'} NULLS LAST" for name, down in names
    ]
    return Condition(", ".join([*parts, "j.batch_id, j.position, j.id"]), builder.values)


def states_of(where: Where) -> frozenset[JobState] | None:
    """Return the only states in which an expression may be true of a job; None if it says none."""
    match where:
        case Comparison(Name("", "state"), "=", values):
            return frozenset(JobState(value) for value in values if isinstance(value, str))
        case Both(parts):
            said = [some for some in map(states_of, parts) if some is not None]
            return frozenset.intersection(*said) if said else None
        case Either(parts):
            several = [states_of(part) for part in parts]
            known = [some for some in several if some is not None]
            return frozenset.union(*known) if len(known) == len(several) else None
        case _:
            return None


class _Builder:
    """Writes SQL and collects its parameters."""

    def __init__(self, *, is_postgresql: bool, first: int = 0) -> None:
        self._is_postgresql = is_postgresql
        self._first = first
        self.values: dict[str, Any] = {}

    def _bound(self, value: Any) -> str:
        name = f"w{self._first + len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def value_of(self, name: Name) -> str:
        """Return the SQL of a field's, column's or input's value; texts of the latter two."""
        if name.place:
            return self._member("j.cells" if name.place == COLUMN else "j.inputs", name.name)
        if name.name in ("file", "bytes"):
            part = "path" if name.name == "file" else "size_bytes"
            shape = _FIRST_FILE["postgresql" if self._is_postgresql else "sqlite"]
            found = shape.format(part=part)
            is_number = self._is_postgresql and name.name == "bytes"
            return f"CAST({found} AS bigint)" if is_number else found
        plain = _PLAIN[name.name]
        return f"nullif({plain}, '')" if name.name in _EMPTY_IS_NONE else plain

    def _member(self, column: str, name: str) -> str:
        bound = self._bound(name)
        if self._is_postgresql:
            return f"nullif(CAST({column} AS json) ->> CAST({bound} AS text), '')"
        # json_each gives true and false as numbers.
        return (
            "(SELECT nullif(CASE m.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' "
            f"ELSE CAST(m.value AS TEXT) END, '') FROM json_each({column}) m "
            f"WHERE m.key = {bound})"
        )

    def said(self, where: Where) -> str:
        """Return an expression as SQL."""
        match where:
            case Comparison():
                return f"coalesce({self._test(where)}, {self._false})"
            case Not(part):
                return f"NOT {self.said(part)}"
            case Both(parts):
                return _joined([self.said(one) for one in parts], "AND")
            case Either(parts):
                return _joined([self.said(one) for one in parts], "OR")
            case _:
                assert_never(where)

    @property
    def _false(self) -> str:
        return "false" if self._is_postgresql else "0"

    def _test(self, test: Comparison) -> str:
        if test.op == "~":
            return self._part(test.name, str(test.values[0]))
        if test.name.kind is Kind.TEXT and test.op != "=":
            return self._ordered_text(test.name, test.op, str(test.values[0]))
        parts = [self._compared(test.name, test.op, value) for value in test.values]
        return _joined(parts, "OR")

    def _part(self, name: Name, part: str) -> str:
        value = self.value_of(name)
        if self._is_postgresql:
            return f"position(lower({self._bound(part)}) in lower(CAST({value} AS text))) > 0"
        return f"batchgen_has({value}, {self._bound(part.casefold())})"

    def _compared(self, name: Name, op: str, value: Value) -> str:
        field_sql = self.value_of(name)
        if value is None:
            return f"{field_sql} IS NULL"
        if name.place and _number(value) is not None:  # 5 is 5.0 in a cell
            as_number = self._compared_as_number(field_sql, op, str(value))
            return f"({field_sql} {op} {self._bound(value)} OR {as_number})"
        return f"{field_sql} {op} {self._bound(value)}"

    def _compared_as_number(self, field_sql: str, op: str, value: str) -> str:
        return f"{self._as_number(field_sql)} {op} {self._bound(_number(value))}"

    def _as_number(self, field_sql: str) -> str:
        if not self._is_postgresql:
            return f"batchgen_number({field_sql})"
        pattern = self._bound(_NUMBER_IN_TEXT)
        return f"CASE WHEN {field_sql} ~ {pattern} THEN CAST({field_sql} AS double precision) END"

    def _ordered_text(self, name: Name, op: str, value: str) -> str:
        field_sql = self.value_of(name)
        if name.place and _number(value) is not None:
            return self._compared_as_number(field_sql, op, value)
        collation = ' COLLATE "C"' if self._is_postgresql else ""
        return f"{field_sql}{collation} {op} {self._bound(value)}"


def _joined(parts: Sequence[str], word: str) -> str:
    """Return parts as one condition; in halves, since SQLite bounds how deep a tree is."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return f"({_joined(parts[:middle], word)} {word} {_joined(parts[middle:], word)})"
