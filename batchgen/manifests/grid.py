"""A header and rows of text cells below it: what CSV and workbooks have in common."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from batchgen.domain.columns import (
    ESCAPED_MARK,
    FROM_SERVICE,
    RESULT_COLUMNS,
    RESULT_KEY,
    unescaped,
)
from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests.interface import NOTHING, ROW_WORDS, Row

_REST = Row(line=0, cells=NOTHING)[Row._fields.index("result_key") + 1 :]
_FAULTS = Row._fields.index("faults") - len(Row._fields)


class Grid:
    """What a table's header says of the rows below it.

    Attributes:
        file: The table as messages name it.
        header_line: Line of the header.
        columns: The table's own columns in order, without those of an export.
        has_result_keys: Whether it is an export.
    """

    def __init__(
        self, file: str, header_line: int, header: Sequence[str], *, letters: bool = False
    ) -> None:
        """Look at a header.

        Args:
            file: The table as messages name it.
            header_line: Line of the header.
            header: Its cells.
            letters: Messages call a column without a name by its letter, not its number.

        Raises:
            ManifestError: If it has a column twice.
        """
        self.file = file
        self.header_line = header_line
        self._letters = letters
        names = [name.strip() for name in header]
        ignored = set(RESULT_COLUMNS)
        self._escaped: int | None = None
        if {RESULT_KEY, ESCAPED_MARK} <= set(names):
            self._escaped = names.index(ESCAPED_MARK)
            ignored.add(ESCAPED_MARK)
            header = [unescaped(name) for name in header]
            names = [name.strip() for name in header]
        self._refuse_duplicates(names)
        self._names = names
        self._own = [i for i, name in enumerate(names) if name and name not in ignored]
        self._unnamed = [i for i, name in enumerate(names) if not name]
        self.columns = tuple(header[i] for i in self._own)
        self.has_result_keys = RESULT_KEY in names

    def rows(self, records: Iterable[tuple[int, list[str]]]) -> Iterator[Row]:
        """Return the rows of records, each with its line; the header is none of them."""
        width, columns, own = len(self._names), self.columns, self._own
        straight = own == list(range(width))
        unnamed, escaped = bool(self._unnamed), self._escaped
        # A word that is no column is the empty cell behind the last one.
        places = [
            self._names.index(word) if word in self._names else width
            for word in (*ROW_WORDS, RESULT_KEY)
        ]
        at_id, at_model, at_seeds, at_repeat, at_key = places
        new, rest = tuple.__new__, _REST  # a million rows pass here
        for line, record in records:
            if len(record) != width:
                record = record[:width] + [""] * (width - len(record)) + record[width:]
            # The user's own cells are verbatim, but in rows that say otherwise.
            if escaped is not None and record[escaped].strip():
                record = list(map(unescaped, record))
            faulty = unnamed or len(record) > width
            end = self._with_faults(line, record) if faulty else rest
            # `strict` given by name would cost a tenth of all this.
            cells = dict(zip(columns, record if straight else [record[i] for i in own]))  # noqa: B905
            record.insert(width, "")
            words = (
                line,
                cells,
                record[at_id].strip() or None,
                record[at_model].strip() or None,
                record[at_seeds].strip() or None,
                record[at_repeat].strip() or None,
                record[at_key].strip() or None,
            )
            yield new(Row, words + end)

    def results(self, records: Iterable[tuple[int, list[str]]]) -> Iterator[Mapping[str, str]]:
        """Return what an export's records say of their jobs, by the names of its columns."""
        places = [(name, at) for at, name in enumerate(self._names) if name in RESULT_COLUMNS]
        for _, record in records:
            width, marked = len(record), self._escaped
            is_escaped = marked is not None and marked < width and bool(record[marked].strip())
            yield {
                name: unescaped(record[at]) if is_escaped or name in FROM_SERVICE else record[at]
                for name, at in places
                if at < width
            }

    def name_of(self, index: int) -> str:
        """Return what messages call a column: its name, else its letter or number."""
        name = self._names[index] if index < len(self._names) else ""
        return name or (letters_of(index) if self._letters else str(index + 1))

    def _with_faults(self, line: int, record: Sequence[str]) -> tuple[object, ...]:
        message = self._problem(record)
        if message is None:
            return _REST
        end = list(_REST)
        end[_FAULTS] = (Fault(self.file, line, "", message),)
        return tuple(end)

    def _problem(self, record: Sequence[str]) -> str | None:
        width = len(self._names)
        # Spreadsheets leave delimiters of empty columns behind the last one.
        filled = next((i for i in range(len(record), width, -1) if record[i - 1].strip()), width)
        if filled > width and not self._letters:
            return (
                f"the row has {filled} cells, the header {width}: "
                f'quote a cell that contains the delimiter ("…")'
            )
        places = [*self._unnamed, *range(width, filled)]
        at = next((i for i in places if record[i].strip()), None)
        if at is None:
            return None
        return f"column {self.name_of(at)} has a value but no name in the header: name it"

    def _refuse_duplicates(self, names: Sequence[str]) -> None:
        seen: set[str] = set()
        faults = []
        for name in names:
            if name and name in seen:
                message = "the header has this column twice: rename one"
                faults.append(Fault(self.file, self.header_line, name, message))
            seen.add(name)
        if faults:
            raise ManifestError(faults)


def letters_of(index: int) -> str:
    """Return what a spreadsheet calls a column: 0 is A, 26 is AA."""
    name, index = "", index + 1
    while index:
        index, digit = divmod(index - 1, 26)
        name = chr(65 + digit) + name
    return name


def index_of(letters: str) -> int:
    """Return the index of a column that a spreadsheet calls so: the inverse of `letters_of`."""
    index = 0
    for letter in letters.upper():
        index = index * 26 + ord(letter) - 64
    return index - 1
