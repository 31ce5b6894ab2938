"""Workbooks of Excel: one sheet, read as the CSV that it would be saved as.

The sheet is held in memory, so its size is bounded before it is loaded. Before that its XML is
also looked at for what the loader would pass over in silence: cells that hold an error such as
#N/A, and formulas whose result was never stored. Both would be sent as if they were empty.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.etree import ElementTree
from xml.parsers import expat

from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import files, sniffing
from batchgen.manifests.grid import Grid, index_of, letters_of
from batchgen.manifests.interface import Row, Source

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

MOST_ROWS = 200_000
MOST_CELLS = 2_000_000
"""A cell takes about 110 bytes of memory: as CSV a table of any size takes none."""

LARGEST_BYTES = 512 * 1024**2
"""Of all the XML in the file, unpacked."""

Problems = dict[int, list[tuple[int, str]]]
"""By line, the columns of cells that cannot be taken as they are, and why."""

_EXACT = 2**53  # beyond it not every whole number is a float


def read(path: str) -> Source:
    """Open a sheet of a workbook: `jobs.xlsx[Sheet name]`, else the first that shows something.

    Raises:
        ManifestError: If it is no workbook, is too large, or its header is wrong.
    """
    sheet = _Sheet(path)
    return Source(
        path=sheet.shown,
        stem=PurePath(sheet.path).stem,
        read_rows=sheet.rows,
        is_table=True,
        columns=sheet.grid.columns,
        header_line=sheet.grid.header_line,
        has_result_keys=sheet.grid.has_result_keys,
        read_results=sheet.results if sheet.grid.has_result_keys else None,
        other_sheets=sheet.others,
    )


class _Sheet:
    def __init__(self, path: str) -> None:
        self.path, self.name = files.without_sheet(path)
        self.shown = path
        self.others: tuple[str, ...] = ()
        self.stamp = files.stamp(self.path)
        head = files.head_of(self.path)
        if head.startswith(b"\xd0\xcf\x11\xe0"):
            message = "is locked with a password, or an old .xls by another name: save it as .xlsx"
            raise self._fault(0, f"{message} without a password")
        if not head.startswith(b"PK"):
            if files.is_text(head):
                suffix = sniffing.suffix(self.path)
                raise self._fault(0, f"is text, not a workbook of Excel: name it {suffix}")
            raise self._fault(0, "is not a workbook of Excel: save it as .xlsx or CSV")
        problems: Problems = {}
        first = next(self._records(problems), None)
        if first is None:
            raise self._fault(0, "is empty: it needs a header and at least one row")
        self.grid = Grid(self.shown, *first, letters=True)
        if problems.get(first[0]):
            raise ManifestError(self._told(first[0], problems[first[0]]))

    def rows(self) -> Iterator[Row]:
        if files.stamp(self.path) != self.stamp:
            raise files.changed(self.shown)
        problems: Problems = {}
        records = self._records(problems)
        next(records)  # the header
        for row in self.grid.rows(records):
            found = problems.get(row.line)
            yield row._replace(faults=row.faults + self._told(row.line, found)) if found else row

    def results(self) -> Iterator[Mapping[str, str]]:
        if files.stamp(self.path) != self.stamp:
            raise files.changed(self.shown)
        records = self._records({})
        next(records)  # the header
        return self.grid.results(records)

    def _told(self, line: int, problems: Sequence[tuple[int, str]]) -> tuple[Fault, ...]:
        return tuple(
            Fault(self.shown, line, self.grid.name_of(column), message)
            for column, message in problems
        )

    def _records(self, problems: Problems) -> Iterator[tuple[int, list[str]]]:
        """Yield each row that shows something, its cells from column A on.

        Args:
            problems: Is filled with what is wrong with the cells of a line.
        """
        with files.open_bytes(self.path) as file:
            sheet = self._load(file, problems)
        merged = _merged(sheet)
        margin = [""] * (sheet.start[1] if sheet.start else 0)
        is_header = True
        for line, values in enumerate(sheet.iter_rows(), 1):
            record = margin + [
                value if value.__class__ is str else _text(value) for value in values
            ]
            for column, message in problems.get(line, ()):
                record += [""] * (column + 1 - len(record))
                record[column] = message  # so that the row is not taken for an empty one
            if not any(cell.strip() for cell in record):
                continue
            for column, place in merged.get(line, ()):
                if not is_header and column < len(record) and record[column].strip():
                    message = f"{place} are merged, and only the first has the value: fill each"
                    problems.setdefault(line, []).append((column, message))
            yield line, record
            is_header = False

    def _load(self, file: BinaryIO, problems: Problems) -> "CalamineSheet":
        import python_calamine

        try:
            with zipfile.ZipFile(file) as archive:
                parts = _Parts(archive)
                if parts.size_bytes > LARGEST_BYTES:
                    raise self._fault(0, f"unpacked it has {parts.size_bytes:,} bytes: {_USE_CSV}")
                file.seek(0)
                workbook = python_calamine.CalamineWorkbook.from_filelike(file)
                for name in self._candidates(workbook):
                    self.shown = f"{self.path}[{name}]"
                    look = _Look(problems, self._refuse_size)
                    look.through(parts.open_sheet(name))
                    if self.name is not None or not look.is_empty:
                        self.others = _visible(workbook, but=name)
                        return workbook.get_sheet_by_name(name)
        except (
            *(python_calamine.CalamineError, zipfile.BadZipFile, zlib.error, OSError, EOFError),
            *(expat.ExpatError, ElementTree.ParseError, KeyError, RuntimeError, ValueError),
        ) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            message = f"cannot be read as a workbook ({reason}): save it anew, or as CSV"
            raise self._fault(0, message) from None
        self.shown = self.path
        raise self._fault(0, "has no sheet that shows something: it needs a header and rows")

    def _candidates(self, workbook: "CalamineWorkbook") -> list[str]:
        from python_calamine import SheetTypeEnum, SheetVisibleEnum

        sheets = [one for one in workbook.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
        if self.name is None:
            return [one.name for one in sheets if one.visible == SheetVisibleEnum.Visible]
        wanted = [one.name for one in sheets if one.name.casefold() == self.name.casefold()]
        if not wanted:
            known = ", ".join(one.name for one in sheets)
            raise self._fault(0, f"there is no such sheet: its sheets are {known}")
        return wanted[:1]

    def _refuse_size(self, what: str) -> ManifestError:
        return self._fault(0, f"{what}: {_USE_CSV}")

    def _fault(self, line: int, message: str) -> ManifestError:
        return ManifestError([Fault(self.shown, line, "", message)])


def _visible(workbook: "CalamineWorkbook", *, but: str) -> tuple[str, ...]:
    from python_calamine import SheetVisibleEnum

    sheets = workbook.sheets_metadata
    return tuple(
        one.name for one in sheets if one.visible == SheetVisibleEnum.Visible and one.name != but
    )


_USE_CSV = "a workbook is held in memory, so save it as CSV, which is not"


class _Parts:
    """The files inside a workbook."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = {info.filename.lower(): info.filename for info in archive.infolist()}
        self.size_bytes = sum(
            info.file_size
            for info in archive.infolist()
            if info.filename.lower().endswith((".xml", ".rels"))
        )

    def open_sheet(self, name: str) -> BinaryIO:
        """Open the XML of a sheet."""
        targets = {
            one.get("Id"): one.get("Target", "")
            for one in self._root("xl/_rels/workbook.xml.rels").findall("{*}Relationship")
        }
        for one in self._root("xl/workbook.xml").findall("{*}sheets/{*}sheet"):
            if one.get("name") == name:
                key = next(value for at, value in one.attrib.items() if at.endswith("}id"))
                target = targets[key]
                place = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
                return self._open(place)
        raise KeyError(name)

    def _root(self, name: str) -> ElementTree.Element:
        with self._open(name) as file:
            return ElementTree.parse(file).getroot()

    def _open(self, name: str) -> BinaryIO:
        return self._archive.open(self._names[name.lower()])  # type: ignore[return-value]


class _Look:
    """What is seen of a sheet before it is loaded: its size, and what the loader passes over.

    Attributes:
        is_empty: Whether no cell has a value.
    """

    def __init__(self, problems: Problems, refuse_size: Callable[[str], ManifestError]) -> None:
        self.is_empty = True
        self._problems = problems
        self._refuse_size = refuse_size
        self._prefix = ""
        self._line = 0
        self._column = -1
        self._widest = 0
        self._kind = ""
        self._has_formula = False
        self._said: list[str] = []
        self._letters: dict[str, int] = {}

    def through(self, file: BinaryIO) -> None:
        """Read a sheet's XML to its end.

        Raises:
            ManifestError: If it has too many rows or cells.
        """
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        self._parser = parser
        with file:
            parser.ParseFile(file)
        self._end_cell()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._line and not self._prefix and name.endswith(":worksheet"):
            self._prefix = name.removesuffix("worksheet")
        name = name.removeprefix(self._prefix)
        if name == "c":
            self._start_cell(attributes)
        elif name == "f":
            self._has_formula = True
        elif name in {"v", "is"}:
            self._start_value(name)
        elif name == "row":
            self._end_cell()
            self._line = int(attributes.get("r", self._line + 1))
            self._column = -1

    def _start_cell(self, attributes: dict[str, str]) -> None:
        self._end_cell()
        self._kind = attributes.get("t", "")
        place = attributes.get("r")
        if place is None:
            self._column += 1
            return
        letters = place.rstrip("0123456789")
        if letters not in self._letters:
            self._letters[letters] = index_of(letters)
        self._column = self._letters[letters]

    def _start_value(self, name: str) -> None:
        self.is_empty = False
        self._widest = max(self._widest, self._column + 1)
        if self._line > MOST_ROWS or self._line * self._widest > MOST_CELLS:
            place = f"{letters_of(self._column)}{self._line}"
            bound = f"at most {MOST_ROWS:,} rows and {MOST_CELLS:,} cells are read"
            raise self._refuse_size(f"there is a value in {place}, but {bound}")
        if name == "v" and (self._has_formula or self._kind == "e"):
            self._parser.CharacterDataHandler = self._said.append

    def _end_cell(self) -> None:
        if self._has_formula or self._kind == "e":
            self._parser.CharacterDataHandler = None
            said = "".join(self._said)
            self._said.clear()
            if self._kind == "e":
                self._problem(f"the cell shows {said or 'an error'}: correct it, or clear it")
            elif not said and self._kind != "str":
                message = "the formula has no stored result: open the file in Excel and save it"
                self._problem(f"{message}, or write the value itself")
        self._has_formula = False
        self._kind = ""

    def _problem(self, message: str) -> None:
        self._problems.setdefault(self._line, []).append((self._column, message))


def _merged(sheet: "CalamineSheet") -> dict[int, list[tuple[int, str]]]:
    """Return by line the columns where merged cells begin, and what they are called."""
    found: dict[int, list[tuple[int, str]]] = {}
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        place = f"{letters_of(left)}{top + 1}:{letters_of(right)}{bottom + 1}"
        found.setdefault(top + 1, []).append((left, place))
    return found


def _text(value: Any) -> str:
    """Return a value as the text that it would have in a CSV."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, datetime):
        is_day = value.time() == time()
        return value.date().isoformat() if is_day else value.isoformat(timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, time):
        return value.isoformat("seconds")
    if isinstance(value, timedelta):
        seconds = round(value.total_seconds())
        sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return str(value)


def _number(value: float) -> str:
    if value.is_integer() and abs(value) <= _EXACT:
        return str(int(value))
    # Spreadsheets show 15 digits: of 0.1 + 0.2 they store 0.30000000000000004.
    text = f"{value:.15g}"
    return f"{float(text):.0f}" if float(text).is_integer() and abs(value) < _EXACT else text
