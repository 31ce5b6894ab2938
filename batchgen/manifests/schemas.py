"""Schemas as trees: references followed, alternatives told apart, one step down at a time."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
Step = str | int
Path = tuple[Step, ...]
"""Where a value stands: the input's name, then keys of mappings and places in lists."""

HOUSE_TYPES = {"float": "number", "int": "integer", "double": "number", "bool": "boolean"}
"""What the service calls some types, and what JSON Schema does."""

ANYTHING: Schema = {}
_MOST_REFERENCES = 32
_FORMATS = {
    f"{kind}_{ending}": kind for kind in ("image", "video", "audio") for ending in ("uri", "uris")
}


def resolved(schema: Schema, root: Schema) -> Schema:
    """Return a schema, or what it refers to."""
    for _ in range(_MOST_REFERENCES):
        reference, whole = schema.get("$ref"), schema.get("allOf")
        if isinstance(reference, str):
            schema = _behind(reference, root)
        elif isinstance(whole, list) and len(whole) == 1 and not _says_more(schema):
            schema = whole[0]
        else:
            return schema
    return ANYTHING


def alternatives(schema: Schema, root: Schema) -> list[Schema]:
    """Return the schemas one of which a value has to fit, those for null left out."""
    return [option for option in _alternatives(schema, root, depth=0) if types_of(option) != []]


def types_of(schema: Schema) -> list[str] | None:
    """Return the types a resolved schema names, without null; None if it names none."""
    named = schema.get("type")
    if named is None:
        return None
    names = [named] if isinstance(named, str) else named
    return [HOUSE_TYPES.get(name, name) for name in names if name != "null"]


def fitting(schema: Schema, root: Schema, kind: str, value: Any) -> Schema | None:
    """Return the alternative for a list ("array") or mapping ("object"), the best for its keys."""
    options = [
        option for option in alternatives(schema, root) if kind in (types_of(option) or (kind,))
    ]
    if len(options) < 2 or not isinstance(value, Mapping):
        return options[0] if options else None
    return min(options, key=lambda option: _misfits(option, value))


def below(schema: Schema, root: Schema, step: Step, value: Any = None) -> Schema | None:
    """Return the schema of what is under a key or at a place, None if there can be nothing.

    Args:
        schema: Of the list or mapping.
        root: Where references begin.
        step: Key or place.
        value: The list or mapping, if it is there: it tells alternatives apart.
    """
    if isinstance(step, int):
        option = fitting(schema, root, "array", value)
        return None if option is None else _item(option, step)
    options = [
        option
        for option in alternatives(schema, root)
        if "object" in (types_of(option) or ("object",))
    ]
    if isinstance(value, Mapping) and options:
        options = [min(options, key=lambda option: _misfits(option, value))]
    for option in options:
        found = _property(option, step)
        if found is not None:
            return found
    return None


def keys_of(schema: Schema, root: Schema) -> list[str]:
    """Return the keys that the mappings of a schema may have."""
    return list(
        dict.fromkeys(
            key for option in alternatives(schema, root) for key in option.get("properties", ())
        )
    )


def media_kind(schema: Schema, root: Schema) -> str | None:
    """Return what a value, or each value of a list, is the URL of: an image, video or audio."""
    for option in (schema, *alternatives(schema, root)):
        kind = _FORMATS.get(str(option.get("format")))
        if kind:
            return kind
    return None


def _alternatives(schema: Schema, root: Schema, *, depth: int) -> Iterator[Schema]:
    schema = resolved(schema, root)
    options = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    # Beside a type or keys, `anyOf` only says which of them go together.
    if not options or "type" in schema or "properties" in schema or depth > _MOST_REFERENCES:
        yield schema
        return
    for option in options:
        yield from _alternatives(option, root, depth=depth + 1)


def _behind(reference: str, root: Schema) -> Schema:
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if reference.startswith("#") and isinstance(found, Mapping) else ANYTHING


def _says_more(schema: Schema) -> bool:
    return any(key in schema for key in ("type", "properties", "enum", "anyOf", "oneOf"))


def _misfits(option: Schema, value: Mapping[str, Any]) -> int:
    known = option.get("properties", {})
    required = option.get("required")
    missing = [key for key in required if key not in value] if isinstance(required, list) else []
    fixed = [
        key
        for key, part in known.items()
        if key in value and "const" in part and part["const"] != value[key]
    ]
    return len(missing) + 2 * len(fixed) + sum(key not in known for key in value)


def _item(option: Schema, place: int) -> Schema | None:
    first = option.get("prefixItems", ())
    if place < len(first):
        found: Schema = first[place]
        return found
    items = option.get("items", ANYTHING)
    return items if isinstance(items, Mapping) else None


def _property(option: Schema, key: str) -> Schema | None:
    known = option.get("properties")
    if known and key in known:
        found: Schema = known[key]
        return found
    others = option.get("additionalProperties")
    if isinstance(others, Mapping):
        return others
    return None if known or others is False else ANYTHING
