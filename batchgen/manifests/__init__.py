"""The user's file: what it asks for, and everything that is wrong with it.

`read` opens a file, `check` types and validates its rows against the models of `load_models`.
"""

from collections.abc import Callable
from pathlib import Path, PurePath

from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import files, yaml_format
from batchgen.manifests.catalog import Catalog, Folders, load_models
from batchgen.manifests.checks import DEFAULT_MODEL, Checked, check
from batchgen.manifests.interface import Row, Source
from batchgen.manifests.names import MAX_BATCH, MAX_ID, name_problem
from batchgen.manifests.snapshots import snapshot
from batchgen.manifests.tables import TABLES

__all__ = [
    "DEFAULT_MODEL",
    "FORMATS",
    "MAX_BATCH",
    "MAX_ID",
    "Catalog",
    "Checked",
    "Folders",
    "Row",
    "Source",
    "check",
    "load_models",
    "name_problem",
    "read",
    "snapshot",
]

FORMATS: dict[str, Callable[[str], Source]] = {
    **TABLES,
    ".yaml": yaml_format.read,
    ".yml": yaml_format.read,
}
"""What a manifest's suffix may be."""

_LATER = frozenset({".jsonl", ".ndjson", ".xlsx"})


def read(path: str | Path) -> Source:
    """Open a manifest; its suffix says which format it has.

    Raises:
        ManifestError: If there is no such file, or its form is wrong.
    """
    name = str(path)
    if name == "-":
        message = "standard input is not supported in this version: save it to a file first"
        raise ManifestError([Fault(name, 0, "", message)])
    files.stamp(name)
    suffix = PurePath(name).suffix.lower()
    if suffix in _LATER:
        message = f"{suffix} is not supported in this version: save it as CSV"
        raise ManifestError([Fault(name, 0, "", message)])
    if suffix not in FORMATS:
        message = f"a manifest ends in {', '.join(FORMATS)}: rename it, or save it as CSV"
        raise ManifestError([Fault(name, 0, "", message)])
    return FORMATS[suffix](name)
