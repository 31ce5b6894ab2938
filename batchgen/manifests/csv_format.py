"""CSV and TSV: read lazily, block by block, so that a million rows need no memory."""

import csv
import re
from collections.abc import Iterator, Mapping
from functools import partial
from io import StringIO
from itertools import chain
from pathlib import PurePath
from typing import TextIO

from batchgen.domain.columns import DELIMITERS, RESULT_KEY
from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import files
from batchgen.manifests.grid import Grid
from batchgen.manifests.interface import ROW_WORDS, Row, Source

LONGEST_CELL = 16 * 1024**2
"""Characters, of a line too: what is no table, or a quote left open, must not fill the memory."""

_BLOCK = 256 * 1024  # characters
_QUOTED = re.compile(r'"[^"]*("|$)')
_DECLARED = re.compile(r'"?sep=([^"\r\n])"?\s*', re.IGNORECASE)
_FRIENDLY = frozenset({*ROW_WORDS, RESULT_KEY, "prompt", "image", "image_url"})


def read(path: str) -> Source:
    """Open a table.

    Raises:
        ManifestError: If it is not text in UTF-8 or UTF-16, or its header is wrong.
    """
    table = _Table(path)
    return Source(
        path=path,
        stem=PurePath(path).stem,
        read_rows=table.rows,
        is_table=True,
        columns=table.grid.columns,
        header_line=table.grid.header_line,
        has_result_keys=table.grid.has_result_keys,
        read_results=table.results if table.grid.has_result_keys else None,
    )


class _Table:
    def __init__(self, path: str) -> None:
        self.path = path
        self.stamp = files.stamp(path)
        self.delimiter, self.is_declared = self._delimiter()
        first = next(self._records(), None)
        if first is None:
            raise self._fault(0, "is empty: it needs a header and at least one row")
        self.grid = Grid(path, *first)

    def rows(self) -> Iterator[Row]:
        return self.grid.rows(self._below_header())

    def results(self) -> Iterator[Mapping[str, str]]:
        return self.grid.results(self._below_header())

    def _below_header(self) -> Iterator[tuple[int, list[str]]]:
        if files.stamp(self.path) != self.stamp:
            raise files.changed(self.path)
        records = self._records()
        next(records)  # the header
        return records

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(LONGEST_CELL)  # the default refuses cells of more than 128 KiB
        with files.open_text(self.path) as file:
            lines = chain.from_iterable(self._blocks(file))
            line = 1
            if self.is_declared:
                next(lines)
                line = 2
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            next_line = line  # of the reader's line 0
            try:
                for record in reader:
                    # Spreadsheets leave rows of nothing but delimiters behind the last one.
                    if record and (record[0].strip() or any(cell.strip() for cell in record)):
                        yield line, record
                    line = reader.line_num + next_line
            except csv.Error as error:
                what = "a quote is not closed, or text follows a closing quote"
                raise self._fault(line, f"is not valid CSV ({error}): {what}") from None
            except UnicodeError:
                raise files.undecodable(self.path) from None

    def _blocks(self, file: TextIO) -> Iterator[StringIO]:
        """Yield whole lines, many at once: line by line would take as long as all the rest."""
        before, rest = 0, ""
        while block := file.read(_BLOCK):
            text = rest + block
            # The \n that belongs to a \r at the end may come with the next block.
            cut = max(text.rfind("\n"), text.rfind("\r", -_BLOCK, -1)) + 1
            if "\0" in text:
                line = self._line_at(before + text.index("\0"))
                raise self._fault(line, "contains a NUL byte: save it as text in UTF-8")
            yield StringIO(text[:cut], newline="")
            before, rest = before + cut, text[cut:]
            if len(rest) >= LONGEST_CELL:
                message = f"the line has {LONGEST_CELL:,} characters or more: is this a table?"
                raise self._fault(self._line_at(before), message)
        yield StringIO(rest, newline="")

    def _line_at(self, character: int) -> int:
        """Return in which line a character is; counted only when a message needs it."""
        line, is_return = 1, False
        with files.open_text(self.path) as file:
            while character and (text := file.read(min(character, _BLOCK))):
                line += files.line_ends(text, after_return=is_return)
                is_return = text.endswith("\r")
                character -= len(text)
        return line

    def _delimiter(self) -> tuple[str, bool]:
        """Return the delimiter, and whether the first line does nothing but name it."""
        header = ""
        with files.open_text(self.path) as file:
            try:
                for line in iter(partial(file.readline, LONGEST_CELL), ""):
                    declared = _DECLARED.fullmatch(line) if not header else None
                    if declared:
                        return declared[1], True
                    header += line
                    # A name in quotes may hold line breaks.
                    is_whole = header.strip() and header.count('"') % 2 == 0
                    if is_whole or len(header) >= LONGEST_CELL:
                        break
            except UnicodeError:
                raise files.undecodable(self.path) from None
        bare = _QUOTED.sub("", header)

        def fitness(delimiter: str) -> tuple[int, int]:
            names = {name.strip('" \r\n') for name in header.split(delimiter)}
            return len(names & _FRIENDLY) * (delimiter in bare), bare.count(delimiter)

        return max(DELIMITERS, key=fitness), False

    def _fault(self, line: int, message: str) -> ManifestError:
        return ManifestError([Fault(self.path, line, "", message)])
