"""A model's inputs in words: for people who look at it, and for the examples that `init` writes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchgen.domain.jobs import Model
from batchgen.domain.models import friendly_name, types_of
from batchgen.domain.redaction import printable
from batchgen.manifests import schemas
from batchgen.manifests.values import shown

_MEDIA = {"image": "an image", "video": "a video", "audio": "a sound"}
_MEDIA_LISTS = {"image": "images", "video": "videos", "audio": "sounds"}
_NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
    "null": "empty",
}


@dataclass(frozen=True)
class Described:
    """One input of a model.

    Attributes:
        name: As the service calls it.
        aliases: Other names that a manifest may use.
        is_required: Whether every job needs it.
        kind: What its value is, its choices and bounds included.
        default: What the service takes if it is left out, as JSON writes it; "" if not stated.
        about: What the model says of it.
        media: "image", "video", "audio", or "".
        is_list: Whether it takes several values.
        rules: What its media must be.
    """

    name: str
    aliases: tuple[str, ...]
    is_required: bool
    kind: str
    default: str
    about: str
    media: str
    is_list: bool
    rules: tuple[str, ...]

    @property
    def friendly(self) -> str:
        """The name that people use for it."""
        return friendly_name(self.name, dict.fromkeys(self.aliases, self.name))


def inputs_of(model: Model) -> list[Described]:
    """Return a model's inputs, required ones first."""
    required = list(model.schema.get("required", ()))
    found = [
        _described(model, name, said, is_required=name in required)
        for name, said in model.schema.get("properties", {}).items()
    ]
    return sorted(found, key=lambda one: not one.is_required)


def _described(model: Model, name: str, said: Mapping[str, Any], *, is_required: bool) -> Described:
    media = model.media.get(name, "")
    is_list = types_of(said) == ["array"]
    about = [str(said.get(key) or "").strip() for key in ("title", "description")]
    rules = [
        str(rule.get("validation_error") or "").strip()
        for rule in _listed(said.get("validations"))
        if isinstance(rule, Mapping)
    ]
    return Described(
        name=name,
        aliases=tuple(alias for alias, target in model.aliases.items() if target == name),
        is_required=is_required,
        kind=printable(
            _kind(said, media=media, is_list=is_list) + _keys(said, model, is_list=is_list)
        ),
        default=printable(shown(said["default"])) if "default" in said else "",
        about=printable(". ".join(part.rstrip(".") for part in about if part)),
        media=media,
        is_list=is_list,
        rules=tuple(dict.fromkeys(printable(rule) for rule in rules if rule)),
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind(said: Mapping[str, Any], *, media: str, is_list: bool) -> str:
    if media and is_list:
        return f"list of https URLs of {_MEDIA_LISTS[media]}{_bounds(said)}"
    if media:
        return f"https URL of {_MEDIA[media]}"
    if said.get("enum"):
        return f"one of {', '.join(map(shown, said['enum']))}"
    if is_list:
        items = said.get("items")
        parts = types_of(items) if isinstance(items, Mapping) else []
        of = f" of {' or '.join(_NAMES.get(one, one) for one in parts)}" if parts else ""
        return f"list{of}{_bounds(said)}"
    types = [_NAMES.get(one, one) for one in types_of(said)]
    return f"{' or '.join(types) or 'anything'}{_bounds(said)}"


def _keys(said: Mapping[str, Any], model: Model, *, is_list: bool) -> str:
    """Return what is said of the keys that a mapping, or each mapping of a list, has."""
    of = schemas.below(said, model.schema, 0) if is_list else said
    keys = schemas.keys_of(of, model.schema) if of else []
    return f", keys: {', '.join(keys)}" if keys else ""


def _bounds(said: Mapping[str, Any]) -> str:
    for low, high, unit in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", ""),
    ):
        least, most = said.get(low), said.get(high)
        if least is not None and most is not None:
            return f", {least} to {most}{unit}"
        if most is not None:
            return f", at most {most}{unit}"
        if least is not None:
            return f", at least {least}{unit}"
    return ""
