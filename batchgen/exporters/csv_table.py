"""CSV: the user's cells unchanged, and nothing that a spreadsheet would run.

What the service wrote is not ours to trust: a message such as `=HYPERLINK(...)` gets an
apostrophe before it. The user's own cells go back as they came; if they are escaped too, a
column says so.
"""

import csv
from collections.abc import Callable, Generator, Sequence
from datetime import date, datetime
from decimal import Decimal
from io import StringIO
from types import NoneType
from typing import Any, BinaryIO

from batchgen.domain.columns import (
    DELIMITERS,
    ESCAPED_MARK,
    FROM_SERVICE,
    RESULT_KEY,
    all_escaped,
    escaped,
)
from batchgen.exporters.interface import (
    Format,
    Layout,
    Table,
    encoded,
    start_of,
    timestamp,
)
from batchgen.exporters.jsonl import to_json


def text_of(value: Any) -> str:
    """Return a cell's text: empty for None, JSON for lists and objects, numbers in full."""
    found = _TEXTS.get(type(value))
    return found(value) if found else to_json(value)


def _plain_number(value: float | Decimal) -> str:
    text = str(value)
    return f"{Decimal(text):f}" if "e" in text or "E" in text else text


_TEXTS: dict[type, Callable[[Any], str]] = {
    NoneType: lambda _: "",
    str: str,
    bool: lambda value: "true" if value else "false",
    int: str,
    float: _plain_number,
    Decimal: _plain_number,
    datetime: timestamp,
    date: timestamp,
}
_MARKS = ',"\r\n'  # a cell with one of them is put in quotes
_END = "\r\n"  # as RFC 4180 has it


def _render(table: Table, layout: Layout) -> Generator[bytes]:
    names = layout.header
    header = all_escaped(names) if layout.excel_safe else names
    if layout.excel_safe:
        header = [*header, ESCAPED_MARK]
    # What reads it again finds the delimiter in the header: other ones there must be quoted.
    misleading = any(set(name) & set(DELIMITERS[1:]) for name in header)
    quoted = [_in_quotes(name) for name in header] if misleading else _quoted(header)
    yield encoded("\ufeff" * layout.bom + _lines([[name] for name in quoted]))
    for page in table:
        columns = [
            _cells(page.column(name), escape=layout.excel_safe or name in FROM_SERVICE)
            for name in names
        ]
        if layout.excel_safe:
            columns.append([text_of(True)] * len(page.cells))
        yield encoded(_lines(columns))


def _cells(values: Sequence[Any], *, escape: bool) -> Sequence[str]:
    """Return a column as it is written; most hold one kind of value, and nothing to quote."""
    kinds = set(map(type, values))
    if kinds == {float} and "e" not in "".join(texts := list(map(str, values))):
        return texts
    if escape and kinds == {str}:
        values = all_escaped(values)
    elif escape:  # only texts: a number is no formula, whatever its sign
        values = [escaped(value) if isinstance(value, str) else value for value in values]
    to_text = _TEXTS.get(next(iter(kinds)), to_json) if len(kinds) == 1 else text_of
    return _quoted(list(map(to_text, values)))


# The csv module looks at each character by itself: that takes four times as long as this.


def _quoted(texts: Sequence[str]) -> Sequence[str]:
    everything = "".join(texts)
    if not any(mark in everything for mark in _MARKS):
        return texts
    return [_in_quotes(text) if any(map(text.__contains__, _MARKS)) else text for text in texts]


def _in_quotes(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""'))


def _lines(columns: Sequence[Sequence[str]]) -> str:
    if len(columns) == 1:  # an empty line would be no row
        columns = [[text or '""' for text in columns[0]]]
    return "".join([f"{line}{_END}" for line in map(",".join, zip(*columns, strict=True))])


def _is_export(file: BinaryIO) -> bool:
    text = start_of(file)
    # A spreadsheet may have saved it again with the delimiter of its country.
    return any(RESULT_KEY in _header(text, delimiter) for delimiter in DELIMITERS)


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:  # no table at all: a field without end
        return []


CSV = Format(render=_render, is_export=_is_export, is_csv=True)
