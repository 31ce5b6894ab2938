"""The formats of tables: a format is one module and one line for each of its suffixes."""

from collections.abc import Callable, Iterable
from pathlib import PurePath

from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import csv_format, files, jsonl_format, xlsx_format
from batchgen.manifests.interface import Source

TABLES: dict[str, Callable[[str], Source]] = {
    ".csv": csv_format.read,
    ".tsv": csv_format.read,
    ".jsonl": jsonl_format.read,
    ".ndjson": jsonl_format.read,
    ".xlsx": xlsx_format.read,
    ".xlsm": xlsx_format.read,
}
"""The registry."""

_OTHER_WORKBOOKS = frozenset({".xls", ".xlsb", ".ods", ".numbers"})


def read(path: str) -> Source:
    """Open a table; its suffix says which format it has.

    Raises:
        ManifestError: If it is no table, or its form is wrong.
    """
    suffix = suffix_of(path)
    if suffix not in TABLES:
        raise ManifestError([Fault(path, 0, "", f"a table {unknown(suffix, TABLES)}")])
    return TABLES[suffix](path)


def suffix_of(path: str) -> str:
    """Return the suffix that tells a file's format, without the sheet of a workbook."""
    return PurePath(files.without_sheet(path)[0]).suffix.lower()


def unknown(suffix: str, known: Iterable[str]) -> str:
    """Return what is said of a file in none of the known formats."""
    if suffix in _OTHER_WORKBOOKS:
        return f"cannot be read from {suffix}: save it as .xlsx or CSV"
    return f"ends in {', '.join(known)}: rename it, or save it as CSV"
