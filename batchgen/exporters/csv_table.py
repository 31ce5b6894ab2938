"""CSV: the user's cells unchanged, and nothing that a spreadsheet would run.

What the service wrote is not ours to trust: a message such as `=HYPERLINK(...)` gets an
apostrophe before it. The user's own cells go back as they came; if they are escaped too, a
column says so.
"""

import csv
from collections.abc import Callable, Generator, Iterable
from datetime import date, datetime
from decimal import Decimal
from io import StringIO
from types import NoneType
from typing import Any, BinaryIO

from batchgen.domain.columns import DELIMITERS, ESCAPED_MARK, FROM_SERVICE, RESULT_KEY, escaped
from batchgen.exporters.interface import Format, Layout, Record, encoded, start_of, timestamp
from batchgen.exporters.jsonl import to_json

_ROWS_A_PIECE = 256


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


def _render(records: Iterable[Record], layout: Layout) -> Generator[bytes]:
    buffer = StringIO(newline="")
    # CRLF, as RFC 4180 has it; it also makes Python before 3.13 quote a lone CR in a cell.
    writer = csv.writer(buffer, lineterminator="\r\n")
    if layout.bom:
        buffer.write("\ufeff")
    names = layout.header
    header: list[Any] = list(names)
    not_ours = [at for at, name in enumerate(header) if name in FROM_SERVICE]
    to_escape = list(range(len(header))) if layout.excel_safe else not_ours
    if layout.excel_safe:
        _escape(header, to_escape)
        header.append(ESCAPED_MARK)
    # What reads it again finds the delimiter in the header: other ones there must be quoted.
    misleading = any(set(name) & set(DELIMITERS[1:]) for name in header)
    csv.writer(
        buffer,
        lineterminator="\r\n",
        quoting=csv.QUOTE_ALL if misleading else csv.QUOTE_MINIMAL,
    ).writerow(header)
    for count, record in enumerate(records, start=1):
        row: list[Any] = list(map({**record.cells, **record.results}.get, names))
        _escape(row, to_escape)
        if layout.excel_safe:
            row.append(True)
        # A million rows pass here: only what needs it is converted.
        writer.writerow([value if type(value) in _AS_THEY_ARE else text_of(value) for value in row])
        if count % _ROWS_A_PIECE == 0:
            yield encoded(buffer.getvalue())
            buffer.seek(0)
            buffer.truncate()
    yield encoded(buffer.getvalue())


def _escape(row: list[Any], places: Iterable[int]) -> None:
    for at in places:
        value = row[at]
        # Only texts: a number is no formula, whatever its sign.
        if isinstance(value, str):
            row[at] = escaped(value)


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
