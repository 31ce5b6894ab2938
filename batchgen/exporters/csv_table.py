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
_AS_THEY_ARE = frozenset({NoneType, str, int})  # the csv module writes them as `text_of` does


def _render(table: Table, layout: Layout) -> Generator[bytes]:
    buffer = StringIO(newline="")
    # CRLF, as RFC 4180 has it; it also makes Python before 3.13 quote a lone CR in a cell.
    writer = csv.writer(buffer, lineterminator="\r\n")
    if layout.bom:
        buffer.write("\ufeff")
    names = layout.header
    header = all_escaped(names) if layout.excel_safe else names
    if layout.excel_safe:
        header = [*header, ESCAPED_MARK]
    # What reads it again finds the delimiter in the header: other ones there must be quoted.
    misleading = any(set(name) & set(DELIMITERS[1:]) for name in header)
    csv.writer(
        buffer,
        lineterminator="\r\n",
        quoting=csv.QUOTE_ALL if misleading else csv.QUOTE_MINIMAL,
    ).writerow(header)
    for page in table:
        columns = [
            _cells(page.column(name), escape=layout.excel_safe or name in FROM_SERVICE)
            for name in names
        ]
        if layout.excel_safe:
            columns.append([text_of(True)] * len(page.cells))
        writer.writerows(zip(*columns, strict=True))
        yield encoded(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()
    yield encoded(buffer.getvalue())  # without any job, the header


def _cells(values: Sequence[Any], *, escape: bool) -> Sequence[Any]:
    """Return a column as the csv module may write it; most hold one kind of value."""
    kinds = set(map(type, values))
    if escape and str in kinds:
        if kinds == {str}:
            return all_escaped(values)
        # Only texts: a number is no formula, whatever its sign.
        values = [escaped(value) if isinstance(value, str) else value for value in values]
    return values if kinds <= _AS_THEY_ARE else list(map(text_of, values))


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
