"""The JSON Schemas of what batchgen prints and writes: `batchgen/schemas`, each in one piece."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

Schema = dict[str, Any]

_SHARED = "common"
_FILES = files("batchgen") / "schemas"


def names() -> list[str]:
    """Return what there are schemas of: commands (`db-check`), lines and files (`event`)."""
    found = (one.name.removesuffix(".json") for one in _FILES.iterdir())
    return sorted(name for name in found if name != _SHARED)


def schema(name: str) -> Schema:
    """Return a schema with all that it refers to, so that it can be used alone.

    Args:
        name: One of `names`.
    """
    whole = _read(name)
    found: Schema = {}
    missing = {ref for ref in _refs(whole) if not ref.startswith("#")}
    while missing:
        for ref in missing:
            found[_called(ref)] = _part(ref)
        missing = {
            ref for part in found.values() for ref in _refs(part) if _called(ref) not in found
        }
    parts = {name: _local(part) for name, part in sorted(found.items())}
    return {**_local(whole), **({"$defs": parts} if parts else {})}


def _read(name: str) -> Schema:
    read = json.loads((_FILES / f"{name}.json").read_text(encoding="utf-8"))
    return dict(read)


def _part(ref: str) -> Schema:
    """Return what a reference is to: a file, or a definition of the shared one."""
    file, _, _ = ref.partition("#")
    if file in ("", f"{_SHARED}.json"):
        return dict(_read(_SHARED)["$defs"][_called(ref)])
    whole = _read(file.removesuffix(".json"))
    return {key: value for key, value in whole.items() if key != "$schema"}


def _called(ref: str) -> str:
    """Return what a referenced schema is called among the definitions."""
    return ref.rpartition("/")[2].removesuffix(".json")


def _refs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for below in part.values():
            yield from _refs(below)
    elif isinstance(part, list):
        for below in part:
            yield from _refs(below)


def _local(part: Any) -> Any:
    """Return a schema that refers to its own definitions only."""
    if isinstance(part, dict):
        return {
            key: f"#/$defs/{_called(value)}"
            if key == "$ref" and isinstance(value, str)
            else _local(value)
            for key, value in part.items()
        }
    return [_local(below) for below in part] if isinstance(part, list) else part
