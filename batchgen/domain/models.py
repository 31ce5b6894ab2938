"""What a model's input schema tells by itself, and what a service's catalog says of a model.

A schema that nobody has written notes on still tells which inputs are media, which takes the
seed, and which ones the friendly names `prompt`, `image` and `image_url` mean.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from batchgen.domain.prices import PRICE_UNITS

Schema = Mapping[str, Any]

MAX_SCHEMA_BYTES = 512 * 1024
MAX_DEPTH = 40
MAX_ID = 200
_MOST_USD = 100_000
_LONGEST_TITLE = 200
_LONGEST_NOTE = 1000
_ID = re.compile(r"[A-Za-z0-9._~:@+,=-]+(?:/[A-Za-z0-9._~:@+,=-]+)*")
_MEDIA = re.compile(r"(image|video|audio)_uris?")
FRIENDLY = ("prompt", "image", "image_url")
"""Names that people give to the inputs of any model."""

_PROMPTS = ("promptText", "prompt_text", "text_prompt", "text")
HOUSE_TYPES = {"float": "number", "int": "integer", "double": "number", "bool": "boolean"}
"""Types of the service's dialect, and what JSON Schema calls them."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


@dataclass(frozen=True)
class Entry:
    """What a service's catalog says of one model.

    Attributes:
        id: The id in the API's path.
        title: The name for people.
        schema: JSON Schema of its inputs, in the service's dialect.
        price_micros: Price of one unit in micro-dollars, None if it is not stated.
        price_unit: "second" or "output".
        note: What it says of the price in words.
    """

    id: str
    title: str
    schema: Schema
    price_micros: int | None = None
    price_unit: str = "output"
    note: str = ""


def id_problem(model_id: object) -> str | None:
    """Return why something cannot be the id of a model, None if it can."""
    if not isinstance(model_id, str) or not model_id.strip():
        return "is empty"
    if len(model_id) > MAX_ID:
        return f"has {len(model_id)} characters, at most {MAX_ID} are allowed"
    parts = model_id.split("/")
    if not _ID.fullmatch(model_id) or "." in parts or ".." in parts:
        return "may hold letters, digits and . _ - ~ : @ + , = between slashes only"
    return None


def read_entry(said: object) -> Entry:
    """Return a catalog's entry from what was parsed; nothing of it is trusted.

    Raises:
        ValueError: If it names no model, or no inputs that could be checked.
    """
    if not isinstance(said, Mapping):
        raise ValueError("is no JSON object")  # noqa: TRY004 - the caller's one kind
    model_id = said.get("model_id")
    problem = id_problem(model_id)
    if problem or not isinstance(model_id, str):
        raise ValueError(f"its model_id {problem}")
    schema = said.get("input_schema")
    if not isinstance(schema, Mapping):
        raise ValueError("states no input_schema")  # noqa: TRY004 - the caller's one kind
    problem = schema_problem(schema)
    if problem:
        raise ValueError(f"its input_schema {problem}")
    kept = {name: value for name, value in schema.items() if name not in ("$schema", "$id")}
    kept["required"] = _required(schema, said.get("required_inputs"))
    micros, unit = price_of(said.get("base_price_usd")), said.get("price_unit")
    return Entry(
        id=model_id,
        title=_line(said.get("display_name"), _LONGEST_TITLE) or model_id,
        schema=kept,
        price_micros=micros if unit in PRICE_UNITS else None,
        price_unit=str(unit) if unit in PRICE_UNITS else "output",
        note=_line(said.get("pricing_note"), _LONGEST_NOTE),
    )


def price_of(usd: object) -> int | None:
    """Return a price in micro-dollars, None if it is none that could be true."""
    if isinstance(usd, bool) or not isinstance(usd, int | float | str):
        return None
    try:
        amount = Decimal(str(usd).strip())
    except ArithmeticError:
        return None
    if not amount.is_finite() or not 0 < amount < _MOST_USD:
        return None
    return int(amount * 1_000_000) or None


def schema_problem(schema: Schema) -> str | None:
    """Return why a schema cannot be one of a model's inputs, None as far as can be seen."""
    try:
        if len(json.dumps(schema, allow_nan=False)) > MAX_SCHEMA_BYTES:
            return f"has more than {MAX_SCHEMA_BYTES:,} bytes"
        if any(depth > MAX_DEPTH for depth, _, _ in _parts(schema)):
            return f"is nested more than {MAX_DEPTH} levels deep"
    except (RecursionError, TypeError, ValueError):
        return "is nested too deeply, or holds what JSON cannot"
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return "has no properties: each input is one"
    return _name_problem(properties) or _reference_problem(schema)


def _name_problem(properties: Mapping[Any, Any]) -> str | None:
    for name, said in properties.items():
        if not isinstance(name, str) or not 0 < len(name) <= 100 or _CONTROL.search(name):
            return "names an input that no column can be called"
        if name != name.strip():
            return f"names an input with spaces around it: {name!r}"
        if not isinstance(said, Mapping):
            return f"says nothing of its input {name}: a property is a mapping"
    return None


def _reference_problem(schema: Schema) -> str | None:
    # What stands elsewhere would be fetched from there.
    for _, name, value in _parts(schema):
        if name in ("$ref", "$dynamicRef") and isinstance(value, str) and value[:1] != "#":
            return f"refers to {_line(value, 100)}: only parts of itself can be used"
    return None


def _parts(value: Any) -> Iterator[tuple[int, str, Any]]:
    waiting: list[tuple[int, str, Any]] = [(0, "", value)]
    while waiting:
        depth, name, part = waiting.pop()
        yield depth, name, part
        if isinstance(part, Mapping):
            waiting += [(depth + 1, str(key), inner) for key, inner in part.items()]
        elif isinstance(part, list):
            waiting += [(depth + 1, "", inner) for inner in part]


def _required(schema: Schema, listed: object) -> list[str]:
    own = schema.get("required")
    names = [*(own if isinstance(own, list) else ()), *(listed if isinstance(listed, list) else ())]
    known = schema["properties"]
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and name in known))


def _line(value: object, most: int) -> str:
    return _CONTROL.sub(" ", value).strip()[:most] if isinstance(value, str) else ""


def media_of(schema: Schema) -> dict[str, str]:
    """Return the inputs whose `format` says that they are URLs of media, with their kind.

    `image_uri`, `image_uris` and the like for video and audio; of a list also at its items.
    """
    found = {}
    for name, said in schema.get("properties", {}).items():
        items = said.get("items")
        formats = (said.get("format"), items.get("format") if isinstance(items, Mapping) else None)
        for text in formats:
            match = _MEDIA.fullmatch(text) if isinstance(text, str) else None
            if match:
                found[name] = match[1]
                break
    return found


def seed_of(schema: Schema) -> str | None:
    """Return the input that takes a seed: one called `seed` that is a whole number."""
    said = schema.get("properties", {}).get("seed")
    return "seed" if said is not None and takes_integer(said) else None


def types_of(said: Schema) -> list[str]:
    """Return the standard JSON types that an input takes; none if it does not say."""
    named = said.get("type", [])
    listed = [named] if isinstance(named, str) else _listed(named)
    types = [HOUSE_TYPES.get(one, one) for one in listed if isinstance(one, str)]
    for branch in (*_listed(said.get("anyOf")), *_listed(said.get("oneOf"))):
        if isinstance(branch, Mapping):
            types += [one for one in types_of(branch) if one not in types]
    return types


def standard(said: Any, *, follow: bool = True) -> Any:
    """Return a schema in the words of JSON Schema: without the service's own types and rules.

    Args:
        said: A schema, or a part of one.
        follow: Keep references to other parts; else what refers to one allows anything.
    """
    if isinstance(said, list):
        return [standard(part, follow=follow) for part in said]
    if not isinstance(said, Mapping):
        return said
    if not follow and ("$ref" in said or "$dynamicRef" in said):
        return {}
    found = {}
    for name, part in said.items():
        if name in ("validations", "format") and not isinstance(part, Mapping):
            continue
        if name == "required" and not isinstance(part, list):
            continue
        if name == "type" and not isinstance(part, Mapping):
            found[name] = _standard_type(part)
            continue
        is_value = name in ("default", "enum", "const")
        found[name] = part if is_value else standard(part, follow=follow)
    return found


def _standard_type(named: Any) -> Any:
    if isinstance(named, str):
        return HOUSE_TYPES.get(named, named)
    if not isinstance(named, list):
        return named
    types = [HOUSE_TYPES.get(one, one) if isinstance(one, str) else one for one in named]
    return types[0] if len(types) == 1 else types


def takes_integer(said: Schema) -> bool:
    """Return whether an input is a whole number, maybe among other things."""
    return "integer" in types_of(said)


def aliases_of(schema: Schema, media: Mapping[str, str]) -> dict[str, str]:
    """Return which inputs the names `prompt`, `image` and `image_url` stand for.

    An input of the model's own that is called so wins: then there is no alias. `prompt` is the
    one text input called `promptText`, `prompt_text`, `text_prompt` or `text`. `image` and
    `image_url` are the first required input that takes an image, else the only one.
    """
    properties = schema.get("properties", {})
    texts = [name for name in _PROMPTS if properties.get(name, {}).get("type") == "string"]
    images = [name for name in properties if media.get(name) == "image"]
    required = [name for name in images if name in _listed(schema.get("required"))]
    prompt = texts[0] if len(texts) == 1 else None
    image = required[0] if required else images[0] if len(images) == 1 else None
    wanted = dict(zip(FRIENDLY, (prompt, image, image), strict=True))
    return {
        alias: name
        for alias, name in wanted.items()
        if name is not None and alias not in properties
    }


def friendly_name(name: str, aliases: Mapping[str, str]) -> str:
    """Return the name that people use for an input: its first alias, unless its own is as good."""
    if name in FRIENDLY:
        return name
    return next((alias for alias, target in aliases.items() if target == name), name)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
