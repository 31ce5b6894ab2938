"""What is exported, and what a format must do."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any


@dataclass(frozen=True)
class Record:
    """One job as it is exported.

    Attributes:
        cells: The row's own columns by name, as the user wrote them.
        variables: The matrix variables of its expansion.
        results: By the names of `RESULT_COLUMNS`; a missing one is empty.
        details: What only fits formats with structure: all URLs and files, the attempts,
            whether the cost is an estimate.
    """

    cells: Mapping[str, Any]
    results: Mapping[str, Any]
    variables: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """How a table is laid out.

    Attributes:
        columns: The user's own columns, in order.
        variables: The matrix variables, in order.
        bom: Whether a byte order mark tells Excel that this is UTF-8.
        excel_safe: Whether the user's cells are escaped too, so that no spreadsheet runs them.
    """

    columns: Sequence[str]
    variables: Sequence[str] = ()
    bom: bool = False
    excel_safe: bool = False


@dataclass(frozen=True)
class Format:
    """One way to write a table.

    Attributes:
        render: Yields the file's text in pieces of some size, in constant memory.
        is_export: Whether the first characters of a file show one of our exports.
        for_spreadsheets: Whether `bom` and `excel_safe` mean something.
    """

    render: Callable[[Iterable[Record], Layout], Iterator[str]]
    is_export: Callable[[str], bool]
    for_spreadsheets: bool = False


def timestamp(at: date) -> str:
    """Return a date as ISO 8601, or a time as ISO 8601 in UTC with milliseconds and a `Z`.

    Raises:
        ValueError: If it is a time without a zone.
    """
    if not isinstance(at, datetime):
        return at.isoformat()
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone")
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
