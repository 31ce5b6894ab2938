"""The user's file: what it asks for, and everything that is wrong with it.

`read` opens a file, `check` types and validates its rows against the models of `load_models`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import files, sniffing, tables, yaml_format
from batchgen.manifests.catalog import Catalog, Folders, load_models
from batchgen.manifests.checks import DEFAULT_MODEL, Checked, check
from batchgen.manifests.interface import ROW_WORDS, Row, Source
from batchgen.manifests.names import MAX_BATCH, MAX_ID, name_problem
from batchgen.manifests.snapshots import snapshot

named = files.named
spooled = files.spooled

__all__ = [
    "DEFAULT_MODEL",
    "FORMATS",
    "MAX_BATCH",
    "MAX_ID",
    "ROW_WORDS",
    "Catalog",
    "Checked",
    "Folders",
    "Row",
    "Source",
    "check",
    "load_models",
    "name_problem",
    "named",
    "read",
    "snapshot",
    "spooled",
]

FORMATS: dict[str, Callable[[str], Source]] = {
    **tables.TABLES,
    ".yaml": yaml_format.read,
    ".yml": yaml_format.read,
}
"""What a manifest's suffix may be."""


def read(path: str | Path) -> Source:
    """Open a manifest; its suffix says which format it has, its content if it has no name.

    Raises:
        ManifestError: If there is no such file, or its form is wrong.
    """
    name = files.named(str(path))
    files.stamp(files.without_sheet(name)[0])
    suffix = tables.suffix_of(name)
    if suffix in FORMATS:
        return FORMATS[suffix](name)
    if files.is_spooled(name):
        return replace(FORMATS[sniffing.suffix(name)](name), stem="")
    raise ManifestError([Fault(name, 0, "", f"a manifest {tables.unknown(suffix, FORMATS)}")])
