"""XLSX: one sheet that is easy to look at, and reads back as the CSV that it stands for.

Texts are texts: no formula and no link is made of one, and its cell is formatted as text, so
that a spreadsheet leaves `16:9` and `007` as they are, also when they are typed anew. What
Excel would not show in full is written as text too: it keeps fifteen digits of a number.
"""

import math
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from io import BytesIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import TracebackType
from typing import Any, BinaryIO, Self
from xml.etree import ElementTree

from batchgen.domain.columns import RESULT_KEY
from batchgen.domain.errors import OutputError
from batchgen.exporters.csv_table import text_of
from batchgen.exporters.interface import Format, Layout, Table, encoded, records_of

SHEET = "jobs"
MOST_CHARACTERS = 32_767
"""Of a cell, in UTF-16 units."""
MOST_ROWS = 1_048_576
"""Of a sheet, its header included."""
MOST_COLUMNS = 16_384

_EXACT = 10**15  # Excel shows no digit beyond the fifteenth
_NOT_IN_XML = "\ufffe\uffff"
_PIECE_BYTES = 1024**2
_MEASURED = 200  # rows that say how wide a column is
_NARROWEST, _WIDEST = 8, 50  # characters
_MOST_READ_BYTES = 1024**2  # of each part of a workbook, looking for its header
_MOST_SHEETS = 20


def _render(table: Table, layout: Layout) -> Generator[bytes]:
    with _temporary_folder() as folder:
        path = folder / "export.xlsx"
        with _Book(path, layout.header) as book:
            for record in records_of(table):
                with _temporary_errors():
                    book.add({**record.cells, **record.results})
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece


class _Book:
    """A workbook under way; its rows are in a temporary file, not in memory."""

    def __init__(self, path: Path, header: tuple[str, ...]) -> None:
        import xlsxwriter  # type: ignore[import-untyped] # and a tenth of a second

        if len(header) > MOST_COLUMNS:
            raise _unfit(f"{len(header):,} columns, and a sheet has {MOST_COLUMNS:,}")
        options = {
            "constant_memory": True,
            "tmpdir": str(path.parent),
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        }
        self._book = xlsxwriter.Workbook(str(path), options)
        self._book.use_zip64()
        self._sheet = self._book.add_worksheet(SHEET)
        # It takes every text from <r> to </r> for its own XML, and would write it as it is.
        plain = self._sheet._xml_inline_string
        self._sheet._xml_rich_inline_string = lambda text, places: plain(text, False, places)
        self._text = self._book.add_format({"num_format": "@"})
        self._header = header
        self._line = 0
        self._widths = [len(name) + 2 for name in header]  # the button of the filter beside it
        bold = self._book.add_format({"bold": True, "num_format": "@"})
        for column, name in enumerate(header):
            self._write_text(column, name, bold)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._sheet.row_data_fh.close()  # the folder around it goes, and it too
            return
        for column, width in enumerate(self._widths):
            width = min(max(width, _NARROWEST), _WIDEST)
            self._sheet.set_column(column, column, width, self._text)
        if self._header:
            self._sheet.freeze_panes(1, 0)
            self._sheet.autofilter(0, 0, self._line, len(self._header) - 1)
        with _temporary_errors():
            self._book.close()

    def add(self, values: dict[str, Any]) -> None:
        """Append a row.

        Raises:
            OutputError: If a sheet cannot hold it.
        """
        self._line += 1
        if self._line >= MOST_ROWS:
            raise _unfit(f"more than {MOST_ROWS - 1:,} jobs, which a sheet cannot hold")
        for column, name in enumerate(self._header):
            value = values.get(name)
            if value is None or value == "":
                continue
            if isinstance(value, bool):
                self._sheet.write_boolean(self._line, column, value)
            elif _is_number(value):
                self._sheet.write_number(self._line, column, value)
            else:
                text = text_of(value)
                self._write_text(column, text, self._text)
                if self._line <= _MEASURED:
                    longest = max(map(len, text.split("\n")))
                    self._widths[column] = max(self._widths[column], longest + 1)

    def _write_text(self, column: int, text: str, form: Any) -> None:
        self._check(column, text)
        text = encoded(text).decode()
        self._sheet.write_string(self._line, column, text, form)

    def _check(self, column: int, text: str) -> None:
        place = f"row {self._line + 1}, column {self._header[column]}"
        if len(text) > MOST_CHARACTERS // 2:
            units = len(text.encode("utf-16-le", errors="surrogatepass")) // 2
            if units > MOST_CHARACTERS:
                raise _unfit(f"{place}: {units:,} characters, and a cell holds {MOST_CHARACTERS:,}")
        if any(letter in text for letter in _NOT_IN_XML):
            raise _unfit(f"{place}: a character that a workbook cannot hold, U+FFFE or U+FFFF")


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < _EXACT
    if isinstance(value, float | Decimal):
        number = float(value)
        is_whole = float(f"{number:.15g}") == value
        return math.isfinite(number) and abs(number) < _EXACT and is_whole
    return False


def _unfit(what: str) -> OutputError:
    return OutputError(f"a workbook cannot hold the export: {what}; write .csv or .jsonl instead")


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with _temporary_errors():
        folder = TemporaryDirectory(prefix="batchgen-export-")
    with folder as name:
        yield Path(name)


@contextmanager
def _temporary_errors() -> Iterator[None]:
    from xlsxwriter.exceptions import FileCreateError  # type: ignore[import-untyped]

    try:
        yield
    except (OSError, FileCreateError) as error:
        raise OutputError(
            f"{gettempdir()}: {error}; a workbook is put together there: make room, name another "
            "folder with TMPDIR, or write .csv or .jsonl instead"
        ) from error


def _is_export(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            names = {name.lower(): name for name in archive.namelist()}
            sheets = [names[name] for name in sorted(names) if name.startswith("xl/worksheets/")]
            shared = names.get("xl/sharedstrings.xml")
            strings = [] if shared is None else list(_strings(archive, shared))
            return any(
                RESULT_KEY in _first_row(archive, name, strings)
                for name in sheets[:_MOST_SHEETS]
                if name.lower().endswith(".xml")
            )
    # What a stranger's file may be is only guessed at: it is no export then.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError):
        return False


def _strings(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Yield the first of the texts that the cells of all sheets refer to."""
    for element in _elements(archive, name):
        if _tag(element) == "si":
            yield _text_in(element)


def _first_row(archive: zipfile.ZipFile, name: str, strings: list[str]) -> list[str]:
    """Return the texts of a sheet's first row that has any."""
    for element in _elements(archive, name):
        if _tag(element) == "row":
            texts = [_text_of_cell(cell, strings) for cell in element]
            if any(texts):
                return texts
    return []


def _elements(archive: zipfile.ZipFile, name: str) -> Iterator[ElementTree.Element]:
    """Yield the elements that end within the first bytes of an XML file, inner ones first."""
    with archive.open(name) as part:
        start = BytesIO(part.read(_MOST_READ_BYTES))
    with suppress(ElementTree.ParseError):  # it is cut, mostly
        for _, element in ElementTree.iterparse(start):
            yield element


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text_of_cell(cell: ElementTree.Element, strings: list[str]) -> str:
    if cell.get("t") != "s":
        return _text_in(cell)
    at = _text_in(cell)
    return strings[int(at)] if at.isdecimal() and int(at) < len(strings) else ""


def _text_in(element: ElementTree.Element) -> str:
    return "".join(
        one.text or "" for one in islice(element.iter(), 1, None) if _tag(one) in ("t", "v")
    )


XLSX = Format(render=_render, is_export=_is_export, is_binary=True)
