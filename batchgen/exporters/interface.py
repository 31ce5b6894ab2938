"""What is exported, and what a format must do."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import repeat
from typing import Any, BinaryIO

from batchgen.domain.columns import RESULT_COLUMNS

_START_BYTES = 1024**2  # where a header is looked for


@dataclass(frozen=True)
class Record:
    """One job as it is exported.

    Attributes:
        cells: The row's own columns by name, as the user wrote them, and its variables.
        results: By the names of `RESULT_COLUMNS`; a missing one is empty.
        details: What only fits formats with structure: all URLs and files, the attempts,
            whether the cost is an estimate.
    """

    cells: Mapping[str, Any]
    results: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """Some jobs in a row as they are exported, column by column: a million take less time so.

    Attributes:
        cells: As of a `Record`, for each job.
        results: By the names of `RESULT_COLUMNS` a value for each job; a missing one is empty.
        details: As of a `Record`, for each job; empty if they are not wanted.
    """

    cells: Sequence[Mapping[str, Any]]
    results: Mapping[str, Sequence[Any]]
    details: Sequence[Mapping[str, Any]] = ()

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of one column."""
        if name in self.results:
            return self.results[name]
        return [cells.get(name) for cells in self.cells]


Table = Iterable[Page]
"""The jobs of an export, many at once."""


def records_of(table: Table) -> Iterator[Record]:
    """Yield a table job by job."""
    for page in table:
        rows = zip(*page.results.values(), strict=True)
        for cells, row, details in zip(page.cells, rows, page.details or repeat({})):  # noqa: B905
            yield Record(cells, dict(zip(page.results, row, strict=True)), details)


@dataclass(frozen=True)
class Layout:
    """How a table is laid out.

    Attributes:
        columns: The user's own columns, in order.
        chosen: What is written of own columns and results, in order; None is all.
        bom: Whether a byte order mark tells Excel that this is UTF-8.
        excel_safe: Whether the user's cells are escaped too, so that no spreadsheet runs them.
    """

    columns: Sequence[str]
    chosen: Sequence[str] | None = None
    bom: bool = False
    excel_safe: bool = False

    @property
    def header(self) -> tuple[str, ...]:
        """Return the names of all columns in order."""
        return (*self.columns, *RESULT_COLUMNS) if self.chosen is None else tuple(self.chosen)


@dataclass(frozen=True)
class Format:
    """One way to write a table.

    Attributes:
        render: Yields the file in pieces of some size, in constant memory.
        is_export: Whether a file that is open at its beginning is one of our exports.
        is_csv: Whether `bom` and `excel_safe` mean something.
        has_details: Whether it holds the details of a record.
        is_binary: Whether it is nothing for a terminal.
    """

    render: Callable[[Table, Layout], Generator[bytes]]
    is_export: Callable[[BinaryIO], bool]
    is_csv: bool = False
    has_details: bool = False
    is_binary: bool = False


def start_of(file: BinaryIO) -> str:
    """Return the first characters of a text file, without its byte order mark."""
    return file.read(_START_BYTES).decode("utf-8", errors="replace").removeprefix("\ufeff")


def encoded(text: str) -> bytes:
    """Return a text as UTF-8; half a character (from a JSON escape) has none, and is spelled."""
    return text.encode("utf-8", errors="backslashreplace")


def timestamp(at: date) -> str:
    """Return a date as ISO 8601, or a time as ISO 8601 in UTC with milliseconds and a `Z`.

    Raises:
        ValueError: If it is a time without a zone.
    """
    if not isinstance(at, datetime):
        return at.isoformat()
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone")
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
