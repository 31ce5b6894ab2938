"""JSON Lines: one object a line, values with their types, and the details."""

import json
import math
from collections.abc import Generator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, BinaryIO

from batchgen.domain.columns import RESULT_DETAILS, RESULT_KEY
from batchgen.exporters.interface import (
    Format,
    Layout,
    Record,
    Table,
    encoded,
    records_of,
    start_of,
    timestamp,
)

_LINES_A_PIECE = 256


def to_json(value: Any) -> str:
    """Return a value as compact JSON; what JSON cannot hold (NaN, infinity) becomes null."""
    try:
        return _ENCODER.encode(value)
    except ValueError:
        return _ENCODER.encode(_finite(value))


def _plain(value: Any) -> Any:
    if isinstance(value, date):
        return timestamp(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be exported")


_ENCODER = json.JSONEncoder(  # one for all: to make one takes as long as to write a row
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return None
    return value


def _render(table: Table, layout: Layout) -> Generator[bytes]:
    lines: list[str] = []
    for record in records_of(table):
        lines.append(to_json(_named(record, layout)))
        if len(lines) == _LINES_A_PIECE:
            yield encoded("\n".join(lines) + "\n")
            lines.clear()
    if lines:
        yield encoded("\n".join(lines) + "\n")


def _named(record: Record, layout: Layout) -> dict[str, Any]:
    cells, results = record.cells, {**record.results, RESULT_DETAILS: record.details}
    if layout.chosen is not None:
        everything = {**cells, **results}
        return {name: everything[name] for name in layout.chosen if name in everything}
    ordered = {name: cells[name] for name in layout.columns if name in cells}
    return {**ordered, **cells, **results}


def _is_export(file: BinaryIO) -> bool:
    first = start_of(file).partition("\n")[0]
    try:
        found = json.loads(first)
    except ValueError:
        return False
    return isinstance(found, dict) and RESULT_KEY in found


JSONL = Format(render=_render, is_export=_is_export, has_details=True)
