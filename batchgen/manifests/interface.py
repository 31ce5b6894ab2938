"""What every manifest format gives: a source of rows, with faults instead of exceptions.

A format is one module with a function `(path: str) -> Source` and one line in the registry
of `batchgen.manifests`. It knows files, not models: which of its cells are inputs is decided
by `batchgen.manifests.checks`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from batchgen.domain.errors import Fault

ROW_WORDS = ("id", "model", "seeds", "repeat")
"""Columns and keys of a row that are batchgen's, not the model's."""

ENTRY_WORDS = ("meta", "from", "matrix", "zip", "exclude", "include")
"""Further keys of a YAML job that are batchgen's."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Row(NamedTuple):
    """One entry of a manifest before expansion, its values as the user wrote them.

    Attributes:
        line: 1-based physical line where it starts.
        cells: Its own columns in order, as they return in an export, `meta` left out.
        id: The user's id as written, None if there is none.
        model: The model as written, None if the row names none.
        seeds: As written, None if there are none.
        repeat: As written, None if there is none.
        result_key: The key an exported row came with.
        meta: Values that are carried whatever they are called.
        lines: The lines of single cells, where they differ from the row's.
        defaulted: Names of `cells`, `seeds` and `repeat`, and `meta.NAME` of those of `meta`,
            that come from the manifest's defaults: the row's own words win over them.
        faults: What is wrong with the row before any model is asked.
        variables: Of the matrix or zip it comes from, in order: each becomes a column of the
            export behind all others.
        file: Where the row stands if not in the manifest itself: a table that it names, or a
            sheet of a workbook. Messages show it instead of the manifest's path, but for what
            has a line of its own in `lines`.
        carried: Names of `cells` that are columns of a table, although the manifest is none:
            they follow a table's rules, and are carried through if they are no inputs.
        header_line: Line of that table's header.
    """

    line: int
    cells: Mapping[str, Any]
    id: Any = None
    model: Any = None
    seeds: Any = None
    repeat: Any = None
    result_key: str | None = None
    meta: Mapping[str, Any] = NOTHING
    lines: Mapping[str, int] = NOTHING
    defaulted: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()
    variables: Mapping[str, Any] = NOTHING
    file: str | None = None
    carried: frozenset[str] = frozenset()
    header_line: int = 1


class Expansion(NamedTuple):
    """How many jobs one entry of a manifest makes, as far as it can be told without making them.

    Attributes:
        line: Where the entry says so.
        key: The key that says so.
        jobs: How many at most.
    """

    line: int
    key: str
    jobs: int


@dataclass(frozen=True)
class Source:
    """One manifest, opened: what it says of itself, and its rows as often as wanted.

    Attributes:
        path: As the user wrote it.
        stem: The file's name without its suffix.
        read_rows: Starts a reading from the first row.
        is_table: Whether `columns` hold for every row and unknown ones are carried.
        columns: A table's own columns in order, without those of an export.
        header_line: Line of a table's header.
        batch: The name the manifest gives itself.
        model: The model the manifest names.
        budget_micros: The budget the manifest names, in micro-dollars.
        uploads: Where the manifest wants files of this machine uploaded to.
        has_result_keys: Whether it is an export, with keys to match its rows by.
        key_lines: Lines of the manifest's own keys (`batch`, `model`, …).
        faults: What is wrong with the manifest's own keys; `check` raises them with the rows'.
        expansions: What `matrix` and `zip` make, counted before any row is read.
        other_sheets: Of a workbook, the visible ones that are not read.
        read_results: Of an export, starts a reading of what its rows say of their jobs.
    """

    path: str
    stem: str
    read_rows: Callable[[], Iterator[Row]]
    is_table: bool
    columns: tuple[str, ...] = ()
    header_line: int = 1
    batch: str | None = None
    model: str | None = None
    budget_micros: int | None = None
    uploads: str | None = None
    has_result_keys: bool = False
    key_lines: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    expansions: tuple[Expansion, ...] = ()
    other_sheets: tuple[str, ...] = ()
    read_results: Callable[[], Iterator[Mapping[str, Any]]] | None = None

    def excess(self, most: int) -> Fault | None:
        """Return what is wrong if the manifest would expand to more than `most` jobs."""
        total = sum(expansion.jobs for expansion in self.expansions)
        if total <= most:
            return None
        largest = max(self.expansions, key=lambda expansion: expansion.jobs)
        makes = f"makes {largest.jobs:,} jobs"
        if largest.jobs < total:
            makes += f", and all of them together {total:,}"
        message = f"{makes}, at most {most:,} are allowed: shorten it, or raise --max-expand"
        return Fault(self.path, largest.line, largest.key, message)

    def rows(self) -> Iterator[Row]:
        """Read the rows in order, from the start.

        Raises:
            ManifestError: If the file cannot be read to its end, or has changed since.
        """
        return self.read_rows()

    def results(self) -> Iterator[Mapping[str, Any]]:
        """Read what an export says of its rows' jobs: one for each of `rows`, from the start.

        Raises:
            LookupError: If it is no export.
            ManifestError: As `rows`.
        """
        if self.read_results is None:
            raise LookupError(f"{self.path} is no export")
        return self.read_results()
