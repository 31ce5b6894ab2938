"""CSV and TSV: read lazily, line by line, so that a million rows need no memory."""

import csv
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from batchgen.domain.columns import ESCAPED_MARK, RESULT_COLUMNS, RESULT_KEY, unescaped
from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import files
from batchgen.manifests.interface import ROW_WORDS, Row, Source

LONGEST_CELL = 16 * 1024**2
"""Characters, of a line too: what is no table, or a quote left open, must not fill the memory."""

_QUOTED = re.compile(r'"[^"]*("|$)')
_DELIMITERS = ",;\t"


def read(path: str) -> Source:
    """Open a table.

    Raises:
        ManifestError: If it is not text in UTF-8, or its header is wrong.
    """
    files.refuse_other_encodings(path)
    table = _Table(path)
    return Source(
        path=path,
        stem=Path(path).stem,
        read_rows=table.rows,
        is_table=True,
        columns=tuple(table.header[index] for index in table.own),
        header_line=table.header_line,
        has_result_keys=RESULT_KEY in table.names,
    )


class _Table:
    def __init__(self, path: str) -> None:
        self.path = path
        self.stamp = files.stamp(path)
        self.delimiter = _delimiter(path)
        first = next(self._records(), None)
        if first is None:
            raise self._fault(0, "", "is empty: it needs a header and at least one row")
        self.header_line, self.header = first
        self.names = [name.strip() for name in self.header]
        self._refuse_duplicates()
        ignored = set(RESULT_COLUMNS)
        self.escaped: int | None = None
        if {RESULT_KEY, ESCAPED_MARK} <= set(self.names):
            self.escaped = self._index(ESCAPED_MARK)
            ignored.add(ESCAPED_MARK)
            self.header = [unescaped(name) for name in self.header]
            self.names = [name.strip() for name in self.header]
        self.own = [i for i, name in enumerate(self.names) if name and name not in ignored]
        self.unnamed = [i for i, name in enumerate(self.names) if not name]

    def rows(self) -> Iterator[Row]:
        if files.stamp(self.path) != self.stamp:
            raise files.changed(self.path)
        own, width, escaped = self.own, len(self.header), self.escaped
        columns = [self.header[index] for index in own]
        straight = own == list(range(width))
        words = [self._index(word) for word in ROW_WORDS]
        key = self._index(RESULT_KEY)
        records = self._records()
        next(records)  # the header
        for line, record in records:
            # The user's own cells are verbatim, but in rows that say otherwise.
            if escaped is not None and escaped < len(record) and record[escaped].strip():
                record = list(map(unescaped, record))
            faults = self._faults(line, record) if self.unnamed or len(record) > width else ()
            if len(record) < width:
                record = record + [""] * (width - len(record))
            cells = dict(
                zip(columns, record if straight else [record[i] for i in own], strict=False)
            )
            row_id, model, seeds, repeat = [
                None if i is None else record[i].strip() or None for i in words
            ]
            result_key = None if key is None else record[key].strip() or None
            yield Row(line, cells, row_id, model, seeds, repeat, result_key, faults=faults)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(LONGEST_CELL)  # the default refuses cells of more than 128 KiB
        with Path(self.path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(self._lines(file), delimiter=self.delimiter, strict=True)
            line = 1
            try:
                for record in reader:
                    # Spreadsheets leave rows of nothing but delimiters behind the last one.
                    if record and (record[0].strip() or any(cell.strip() for cell in record)):
                        yield line, record
                    line = reader.line_num + 1
            except csv.Error as error:
                what = "a quote is not closed, or text follows a closing quote"
                raise self._fault(line, "", f"is not valid CSV ({error}): {what}") from None
            except UnicodeDecodeError:
                raise files.undecodable(self.path) from None

    def _lines(self, file: TextIO) -> Iterator[str]:
        for number, line in enumerate(_lines_of(file), 1):
            if len(line) == LONGEST_CELL:
                message = f"the line has {LONGEST_CELL:,} characters or more: is this a table?"
                raise self._fault(number, "", message)
            if "\0" in line:
                raise self._fault(number, "", "contains a NUL byte: save it as text in UTF-8")
            yield line

    def _faults(self, line: int, record: Sequence[str]) -> tuple[Fault, ...]:
        width = len(self.header)
        if len(record) > width:
            message = (
                f"the row has {len(record)} cells, the header {width}: "
                f'quote a cell that contains the delimiter ("…")'
            )
            return (Fault(self.path, line, "", message),)
        if any(record[i].strip() for i in self.unnamed if i < len(record)):
            column = next(i for i in self.unnamed if record[i].strip()) + 1
            message = f"column {column} has a value but no name in the header: name it"
            return (Fault(self.path, line, "", message),)
        return ()

    def _refuse_duplicates(self) -> None:
        seen: set[str] = set()
        faults = []
        for name in self.names:
            if name and name in seen:
                message = "the header has this column twice: rename one"
                faults.append(Fault(self.path, self.header_line, name, message))
            seen.add(name)
        if faults:
            raise ManifestError(faults)

    def _index(self, name: str) -> int | None:
        return self.names.index(name) if name in self.names else None

    def _fault(self, line: int, column: str, message: str) -> ManifestError:
        return ManifestError([Fault(self.path, line, column, message)])


def _lines_of(file: TextIO) -> Iterator[str]:
    return iter(partial(file.readline, LONGEST_CELL), "")


def _delimiter(path: str) -> str:
    header = ""
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        try:
            for line in _lines_of(file):
                header += line
                # A name in quotes may hold line breaks.
                if len(header) >= LONGEST_CELL or (header.strip() and header.count('"') % 2 == 0):
                    break
        except UnicodeDecodeError:
            raise files.undecodable(path) from None
    bare = _QUOTED.sub("", header)
    return max(_DELIMITERS, key=bare.count)
