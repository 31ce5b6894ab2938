"""CSV: the user's cells unchanged, and nothing that a spreadsheet would run.

What the service wrote is not ours to trust: a message such as `=HYPERLINK(...)` gets an
apostrophe before it. The user's own cells go back as they came.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from io import StringIO
from typing import Any

from batchgen.exporters.interface import (
    KEY_COLUMN,
    RESULT_COLUMNS,
    Format,
    Layout,
    Record,
    timestamp,
)
from batchgen.exporters.jsonl import to_json

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula (OWASP, "CSV Injection")."""

_FROM_SERVICE = frozenset({"result_request_id", "result_url", "result_error_class", "result_error"})
_ROWS_A_PIECE = 256


def escaped(text: str) -> str:
    """Return a text with an apostrophe before it if a spreadsheet would run it."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def text_of(value: Any) -> str:
    """Return a cell's text: empty for None, JSON for lists and objects, numbers in full."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float | Decimal):
        return _plain_number(value)
    if isinstance(value, date):
        return timestamp(value)
    return to_json(value)


def _plain_number(value: float | Decimal) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    return f"{Decimal(text):f}" if "e" in text.lower() else text


def _escaped_text(value: Any) -> str:
    # Numbers are no formulas, whatever their sign.
    return escaped(value) if isinstance(value, str) else text_of(value)


def _render(records: Iterable[Record], layout: Layout) -> Iterator[str]:
    own: Callable[[Any], str] = _escaped_text if layout.excel_safe else text_of
    result_texts = [
        (name, _escaped_text if name in _FROM_SERVICE else own) for name in RESULT_COLUMNS
    ]
    buffer = StringIO(newline="")
    # CRLF, as RFC 4180 has it; it also makes Python before 3.13 quote a lone CR in a cell.
    writer = csv.writer(buffer, lineterminator="\r\n")
    if layout.bom:
        buffer.write("\ufeff")
    writer.writerow([*map(own, (*layout.columns, *layout.variables)), *RESULT_COLUMNS])
    for count, record in enumerate(records, start=1):
        cells, variables, results = record.cells, record.variables, record.results
        writer.writerow(
            [own(cells.get(name)) for name in layout.columns]
            + [own(variables.get(name)) for name in layout.variables]
            + [text(results.get(name)) for name, text in result_texts]
        )
        if count % _ROWS_A_PIECE == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _is_export(start: str) -> bool:
    text = start.removeprefix("\ufeff")
    # A spreadsheet may have saved it again with the delimiter of its country.
    return any(KEY_COLUMN in _header(text, delimiter) for delimiter in ",;\t")


def _header(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:  # no table at all: a field without end
        return []


CSV = Format(render=_render, is_export=_is_export, for_spreadsheets=True)
