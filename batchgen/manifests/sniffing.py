"""Which format a manifest without a name has: standard input, a pipe."""

import json
import re

from batchgen.domain.spelling import nearly
from batchgen.manifests import files

_HEAD_BYTES = 1024**2
_KEYS = ("batch", "model", "budget", "defaults", "vars", "jobs", "matrix", "zip", "from")
_KEY = re.compile(r"""(["']?)([A-Za-z_]\w*)\1\s*:(?:\s|$)""")
_JOBS = re.compile(r"""^["']?jobs["']?\s*:(?:\s|$)""", re.MULTILINE)
_ASIDE = re.compile(r"#|%|---(?:\s|$)")


def suffix(path: str) -> str:
    """Return the suffix that a manifest would have by its first bytes.

    A workbook begins as an archive, JSON Lines with an object on a line of its own, YAML with
    one of its keys; everything else is a table.

    Raises:
        ManifestError: If it cannot be read.
    """
    head = files.head_of(path, size=_HEAD_BYTES)
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return ".xlsx"
    text = head.decode(files.encoding_of(path), "replace").removeprefix("\ufeff")
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not _ASIDE.match(line)), "")
    if first.startswith("["):
        return ".jsonl"  # its reader says how an array becomes lines
    if first.startswith("{"):
        return ".jsonl" if _is_object_of_a_row(first) else ".yaml"
    if first.startswith("- ") or first == "-":
        return ".yaml"
    key = _KEY.match(first)
    is_yaml = key and (nearly(key[2], _KEYS) or _JOBS.search(text))
    return ".yaml" if is_yaml else ".csv"


def _is_object_of_a_row(line: str) -> bool:
    # A whole manifest may stand on one line too: JSON is YAML.
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return line.startswith('{"') and line.endswith("}")
    return isinstance(found, dict) and not isinstance(found.get("jobs"), list)
