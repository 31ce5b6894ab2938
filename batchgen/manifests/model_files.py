"""One model as a file: its content, and everything that can be wrong with it.

What ships with batchgen is parsed, not checked (a test does that); what a user wrote and what a
service said is looked at from its size to the last name.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import jsonschema_rs

from batchgen.domain.errors import Fault, ManifestError, OutputError
from batchgen.domain.jobs import Model
from batchgen.domain.models import (
    Entry,
    aliases_of,
    id_problem,
    media_of,
    read_entry,
    schema_problem,
    seed_of,
    standard,
    takes_integer,
)
from batchgen.domain.prices import CATALOG, PRICE_UNITS
from batchgen.domain.redaction import printable
from batchgen.domain.spelling import suggestion
from batchgen.manifests.positions import compose
from batchgen.manifests.values import Form

MAX_FILE_BYTES = 1024 * 1024
_MICROS = 1_000_000
_KINDS = ("image", "video", "audio")
_KEYS = frozenset(
    {"id", "title", "provider", "schema", "aliases", "media", "seed", "utf16_lengths", "price"}
    | {"fetcher"}
)


def text_of(path: Path) -> str:
    """Return what a model's file holds.

    Raises:
        ManifestError: If it cannot be read, is too large, or no UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ManifestError([fault(path, f"cannot be read: {error.strerror}")]) from None
    if len(content) > MAX_FILE_BYTES:
        raise ManifestError([fault(path, f"has more than {MAX_FILE_BYTES:,} bytes")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ManifestError([fault(path, "is not UTF-8")]) from None


def fault(path: Path | str, message: str) -> Fault:
    """Return what is wrong with a file as a whole."""
    return Fault(str(path), 0, "", message)


def parsed(text: str, *, file: str) -> Any:
    """Return what a text means: JSON if the file is called so, else YAML.

    Raises:
        ManifestError: If it is neither.
    """
    if not file.endswith(".json"):
        root = compose(text, file=file)
        return root.plain() if root else None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ManifestError([fault(file, f"is not JSON: {reason}")]) from None


def parse_model(text: str, *, file: str) -> Model:
    """Return the model that a file describes; its rules are not checked here.

    Raises:
        ManifestError: If it is not YAML.
        ValueError: If it lacks its id, provider or schema.
    """
    data = parsed(text, file=file)
    if not isinstance(data, dict) or not {"id", "provider", "schema"} <= data.keys():
        raise ValueError(f"{file}: a model needs id, provider and schema")
    return model_from(data)


def model_from(data: Mapping[str, Any]) -> Model:
    """Return the model that data describe, taken as they are."""
    price = data.get("price") or {}
    schema = data["schema"]
    media = {**media_of(schema), **(data.get("media") or {})}
    return Model(
        id=data["id"],
        title=str(data.get("title") or data["id"]),
        provider=data["provider"],
        schema=schema,
        aliases={**aliases_of(schema, media), **(data.get("aliases") or {})},
        media=media,
        seed=data.get("seed", seed_of(schema)),
        utf16_lengths=bool(data.get("utf16_lengths", False)),
        price_micros=int(Decimal(str(price["usd"])) * _MICROS) if price else None,
        price_unit=price.get("unit", "output"),
        price_basis=price.get("basis", ""),
        fetcher=str(data.get("fetcher") or ""),
    )


# -- a file that somebody else wrote ---------------------------------------------------------------


def read_model(path: Path, *, model_id: str | None = None) -> Model:
    """Return the model that a user's file describes, fully checked.

    It is a model's YAML, an entry of the service's catalog, or a plain JSON Schema of the inputs.

    Args:
        path: The file.
        model_id: The id to give it; a plain schema has none.

    Raises:
        ManifestError: If there is something wrong with it.
    """
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise ManifestError([fault(path, "a model's file ends in .yaml, .yml or .json: rename it")])
    file = str(path)
    data = parsed(text_of(path), file=file)
    if isinstance(data, dict) and "input_schema" in data:
        said = {**data, "model_id": model_id} if model_id else data
        try:
            return checked_model(as_data(model_of(read_entry(said))), file=file)
        except ValueError as error:
            raise ManifestError([fault(file, str(error))]) from None
    if isinstance(data, dict) and "schema" not in data and "properties" in data:
        if model_id is None:
            message = "is a JSON Schema without a model's id: say which model it is of with --id"
            raise ManifestError([fault(file, message)])
        return checked_model({"id": model_id, "provider": "runcomfy", "schema": data}, file=file)
    if isinstance(data, dict) and model_id:
        data["id"] = model_id
    return checked_model(data, file=file)


def checked_model(data: Any, *, file: str) -> Model:
    """Return the model that data describe, after looking at everything they say.

    Raises:
        ManifestError: With all that is wrong.
    """
    problems = list(_problems(data))
    if not problems:
        try:
            jsonschema_rs.meta.validate(standard(data["schema"]))
            model = model_from(data)
            Form(model)
        except jsonschema_rs.ValidationError as error:
            place = ".".join(map(str, error.instance_path))
            message = printable(f"{place}: {error.message}"[:300])
            problems.append(("schema", f"is no JSON Schema that can be used: {message}"))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            reason = printable((str(error) or type(error).__name__).splitlines()[0][:300])
            problems.append(("schema", f"is no JSON Schema that can be used: {reason}"))
        else:
            return model
    raise ManifestError([Fault(file, 0, name, message) for name, message in problems])


def _problems(data: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(data, dict):
        yield "", "must be a mapping with the keys id, provider and schema"
        return
    for key in data:
        if key not in _KEYS:
            hint = suggestion(str(key), _KEYS) or f"known are {', '.join(sorted(_KEYS))}"
            yield str(key)[:100], f"unknown key: {hint}".rstrip()
    missing = [key for key in ("id", "provider", "schema") if not data.get(key)]
    for key in missing:
        yield key, "is missing: a model needs id, provider and schema"
    if missing:
        return
    problem = id_problem(data["id"])
    if problem:
        yield "id", problem
    if not isinstance(data["provider"], str):
        yield "provider", "must be a provider's name, such as runcomfy"
    schema = data["schema"]
    problem = schema_problem(schema) if isinstance(schema, dict) else "must be a mapping"
    if problem:
        yield "schema", problem
        return
    yield from _schema_problems(schema)
    yield from _fact_problems(data, schema["properties"])
    yield from _price_problems(data.get("price"))


def _schema_problems(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if schema.get("type", "object") != "object":
        yield "schema", "must be of the type object: its properties are the inputs"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield "schema", "its `required` must be a list of inputs"
        return
    for name in required:
        if name not in schema["properties"]:
            yield "schema", f"requires {name}, which is none of its properties"


def _fact_problems(
    data: Mapping[str, Any], properties: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    for key in ("aliases", "media"):
        said = data.get(key) or {}
        if not isinstance(said, dict):
            yield key, "must be a mapping"
            continue
        for one, other in said.items():
            name = other if key == "aliases" else one
            if name not in properties:
                hint = suggestion(str(name), properties)
                yield key, f"{name} is no input of its schema: {hint}".rstrip(": ")
            if key == "media" and other not in _KINDS:
                yield key, f"{one}: {other} is none of {', '.join(_KINDS)}"
            if key == "aliases" and one in properties:
                yield key, f"{one} is an input itself: it needs no alias"
    seed = data.get("seed")
    if seed is not None and (seed not in properties or not takes_integer(properties[seed])):
        yield "seed", f"{seed} is no input of its schema that takes a whole number"
    if not isinstance(data.get("fetcher") or "", str):
        yield "fetcher", "must be the name of one whose rules are known"
    if not isinstance(data.get("utf16_lengths", False), bool):
        yield "utf16_lengths", "must be true or false"


def _price_problems(price: Any) -> Iterator[tuple[str, str]]:
    if price is None:
        return
    if not isinstance(price, dict) or not price.keys() <= {"usd", "unit", "basis"}:
        yield "price", "must be a mapping of usd, unit and basis"
        return
    try:
        usd = Decimal(str(price.get("usd")))
    except InvalidOperation:
        usd = Decimal(0)
    if not usd.is_finite() or not 0 < usd <= 10_000 or isinstance(price.get("usd"), bool):
        yield "price", f"{price.get('usd')} is no price: write US dollars of one unit, such as 0.05"
    if price.get("unit", "output") not in PRICE_UNITS:
        yield "price", f"{price.get('unit')} is none of the units {', '.join(PRICE_UNITS)}"
    if not isinstance(price.get("basis", ""), str):
        yield "price", "its basis must be text: where the price comes from"


# -- what a service said ---------------------------------------------------------------------------


def model_of(entry: Entry, *, shipped: Model | None = None) -> Model:
    """Return the model that a service's catalog describes.

    Args:
        entry: What the service says.
        shipped: The model of the same id that ships with batchgen: what its notes say of inputs
            that the service still knows holds on.
    """
    schema = entry.schema
    properties = schema["properties"]
    media = media_of(schema)
    aliases = aliases_of(schema, media)
    seed = seed_of(schema)
    utf16 = False
    price = (entry.price_micros, entry.price_unit, CATALOG)
    if shipped is not None:
        media = {name: kind for name, kind in shipped.media.items() if name in properties} | media
        noted = {
            alias: name
            for alias, name in shipped.aliases.items()
            if name in properties and alias not in properties
        }
        aliases = aliases_of(schema, media) | noted
        seed = seed or (shipped.seed if shipped.seed in properties else None)
        utf16 = shipped.utf16_lengths
        if entry.price_micros is None:
            price = (shipped.price_micros, shipped.price_unit, shipped.price_basis)
    return Model(
        id=entry.id,
        title=entry.title if shipped is None else shipped.title,
        provider="runcomfy",
        schema=schema,
        aliases=aliases,
        media=media,
        seed=seed,
        utf16_lengths=utf16,
        price_micros=price[0],
        price_unit=price[1],
        price_basis=price[2] if price[0] is not None else "",
        fetcher="" if shipped is None else shipped.fetcher,
    )


def entry_of(model: Model) -> dict[str, Any]:
    """Return a model as a service's catalog would state it."""
    schema = dict(model.schema)
    required = list(schema.get("required", ()))
    price = None if model.price_micros is None else model.price_micros / _MICROS
    return {
        "model_id": model.id,
        "display_name": model.title,
        "kind": "model",
        "categories": [model.id.rpartition("/")[2]],
        "base_price_usd": price,
        "price_unit": model.price_unit,
        "pricing_note": model.price_basis,
        "input_schema": schema,
        "inputs": sorted(schema["properties"]),
        "required_inputs": required,
    }


def as_data(model: Model) -> dict[str, Any]:
    """Return a model as the content of its file, its id first."""
    data: dict[str, Any] = {
        "id": model.id,
        "title": model.title,
        "provider": model.provider,
        "aliases": dict(model.aliases),
        "media": dict(model.media),
        "seed": model.seed,
        "utf16_lengths": model.utf16_lengths,
        "fetcher": model.fetcher,
    }
    if model.price_micros is not None:
        usd = Decimal(model.price_micros) / _MICROS
        data["price"] = {"usd": str(usd), "unit": model.price_unit, "basis": model.price_basis}
    return {**data, "schema": dict(model.schema)}


# -- keeping a model -------------------------------------------------------------------------------


def file_name(model_id: str, suffix: str) -> str:
    """Return the name of a model's file: readable, safe, and no other model's."""
    digest = hashlib.sha256(model_id.encode()).hexdigest()[:8]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "--", model_id).lstrip(".-")[:120]
    return f"{readable}.{digest}{suffix}"


def store_model(folder: Path, name: str, text: str) -> Path:
    """Write a model's file, whole or not at all.

    Raises:
        OutputError: If the folder cannot be made or written.
    """
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=folder, prefix=".", suffix=".part", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OutputError(
            f"{path}: {error.strerror}: see that its folder may be written, and has room"
        ) from error
    return path
