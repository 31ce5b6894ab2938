"""The formats of tables: a format is one module and one line for each of its suffixes."""

from collections.abc import Callable
from pathlib import PurePath

from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import csv_format, jsonl_format
from batchgen.manifests.interface import Source

TABLES: dict[str, Callable[[str], Source]] = {
    ".csv": csv_format.read,
    ".tsv": csv_format.read,
    ".jsonl": jsonl_format.read,
    ".ndjson": jsonl_format.read,
}
"""The registry."""


def read(path: str) -> Source:
    """Open a table; its suffix says which format it has.

    Raises:
        ManifestError: If it is no table, or its form is wrong.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix not in TABLES:
        message = f"a table ends in {', '.join(TABLES)}: rename it, or save it as CSV"
        raise ManifestError([Fault(path, 0, "", message)])
    return TABLES[suffix](path)
