"""Values: from what the user wrote to what the model's schema wants, and what is wrong with it."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema_rs

from batchgen.domain.jobs import Model
from batchgen.manifests.media import url_problem

Convert = Callable[[Any], Any]
Schema = Mapping[str, Any]

_NUMBER = re.compile(
    r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?"
)
_WHOLE = re.compile(r"([-+]?[0-9]{1,40})(?:\.0*)?")
_WORDS = {"true": True, "yes": True, "false": False, "no": False}
_NAMES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty",
}
_HOUSE_TYPES = {"float": "number", "int": "integer", "double": "number", "bool": "boolean"}
_SHOWN = 60  # characters of a value in a message


class Form:
    """A model's inputs as a form to fill: typing and checking of its values."""

    def __init__(self, model: Model, *, allow_private_inputs: bool = False) -> None:
        """Compile the model's schema.

        Raises:
            ValueError: If it is not a JSON Schema.
        """
        self.model = model
        self.properties: Mapping[str, Schema] = model.schema.get("properties", {})
        self.required: tuple[str, ...] = tuple(model.schema.get("required", ()))
        self.convert: dict[str, Convert] = {
            name: _converter(schema, is_media=name in model.media)
            for name, schema in self.properties.items()
        }
        self._allow_private = allow_private_inputs
        self._lengths = [
            (name, schema.get("minLength", 0), schema.get("maxLength", math.inf))
            for name, schema in self.properties.items()
            if model.utf16_lengths and ("maxLength" in schema or "minLength" in schema)
        ]
        self._validator = jsonschema_rs.Draft202012Validator(self._compiled())

    def problems(self, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the name of each input that breaks a rule, and what to do about it.

        Missing inputs are not looked for here.
        """
        if not self._validator.is_valid(inputs):
            yield from self._broken_rules(inputs)
        for name, least, most in self._lengths:
            value = inputs.get(name)
            if isinstance(value, str) and (len(value) * 2 > most or least):
                units = len(value) if value.isascii() else len(value.encode("utf-16-le")) // 2
                if not least <= units <= most:
                    yield name, _length_message(units, least, most, utf16=True)
        for name in self.model.media:
            value = inputs.get(name)
            for url in value if isinstance(value, list) else (value,):
                problem = (
                    url_problem(url, allow_private=self._allow_private)
                    if isinstance(url, str)
                    else None
                )
                if problem:
                    yield name, problem

    def _compiled(self) -> dict[str, Any]:
        schema: dict[str, Any] = _standard(self.model.schema)
        # Missing and unknown names are reported under the user's own names instead.
        schema.pop("required", None)
        schema.pop("additionalProperties", None)
        for name, *_ in self._lengths:
            schema["properties"][name].pop("maxLength", None)
            schema["properties"][name].pop("minLength", None)
        return schema

    def _broken_rules(self, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for error in self._validator.iter_errors(inputs):
            path, rule_path = list(error.instance_path), list(error.schema_path)
            name = str(path[0]) if path else ""
            keyword = str(rule_path[-1]) if rule_path else ""
            value: Any = inputs
            for step in path:
                value = value[step]
            rule = self._rule(rule_path)
            place = "".join(f"[{step}]" for step in path[1:])
            message = _message(keyword, rule, value) or error.message
            yield name, f"{place}: {message}" if place else message

    def _rule(self, path: list[Any]) -> Any:
        rule: Any = self.model.schema
        for step in path:
            try:
                rule = rule[step]
            except (KeyError, IndexError, TypeError):  # behind a $ref
                return None
        return rule


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, and text as it is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text.replace("\n", "⏎").replace("\r", "")
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def as_text(value: Any) -> str:
    """Return a scalar as the text a table's cell would hold.

    Raises:
        ValueError: If it is a list or a mapping.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        raise ValueError(f"{shown(value)} is not text")  # noqa: TRY004 - the caller's one kind
    return str(value)


def _standard(schema: Any) -> Any:
    """Return a schema without what is this service's own: `float`, `validations`, `format`."""
    if isinstance(schema, list):
        return [_standard(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {}
    for key, value in schema.items():
        if key in {"validations", "format"} and not isinstance(value, Mapping):
            continue
        if key == "required" and not isinstance(value, list):
            continue
        if key == "type" and not isinstance(value, Mapping):
            names = [value] if isinstance(value, str) else value
            standard = [_HOUSE_TYPES.get(name, name) for name in names]
            kept[key] = standard[0] if isinstance(value, str) else standard
            continue
        kept[key] = value if key in {"default", "enum", "const"} else _standard(value)
    return kept


def _types(schema: Schema) -> list[str]:
    named = schema.get("type", [])
    types = [
        _HOUSE_TYPES.get(name, name) for name in ([named] if isinstance(named, str) else named)
    ]
    for keyword in ("anyOf", "oneOf"):
        for branch in schema.get(keyword, ()):
            types += [one for one in _types(branch) if one not in types]
    return types


def _converter(schema: Schema, *, is_media: bool) -> Convert:
    types = [name for name in _types(schema) if name != "null"]
    enum = schema.get("enum")
    if types == ["string"]:
        return _to_media if is_media else _text_converter(enum)
    if types == ["array"]:
        return _list_converter(schema.get("items", {}))
    if types == ["object"]:
        return _object_converter(schema)
    simple = {"integer": _to_integer, "number": _to_number, "boolean": _to_boolean}
    if len(types) == 1 and types[0] in simple:
        return _with_choices(simple[types[0]], enum)
    return _guess_converter(types, enum)


def _with_choices(convert: Convert, enum: list[Any] | None) -> Convert:
    if not enum:
        return convert

    def converted(value: Any) -> Any:
        try:
            return convert(value)
        except ValueError as error:
            raise ValueError(f"{error}: write one of {_choices(enum)}") from None

    return converted


def _text_converter(enum: list[Any] | None) -> Convert:
    if not enum:
        return lambda value: value if isinstance(value, str) else as_text(value)

    def choice(value: Any) -> str:
        text = value if isinstance(value, str) else as_text(value)
        return text if text in enum else text.strip()

    return choice


def _to_media(value: Any) -> str:
    return as_text(value).strip()


def _to_integer(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not a whole number")  # noqa: TRY004 - one kind
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return value
    whole = _WHOLE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not whole:
        raise ValueError(f"{shown(value)} is not a whole number")
    return int(whole[1])


def _to_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    text = value.strip() if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(text):
        hint = ": write a point, not a comma" if re.fullmatch(r"-?\d+,\d+", text) else ""
        raise ValueError(f"{shown(value)} is not a number{hint}")
    whole = _WHOLE.fullmatch(text)
    if whole:
        return int(whole[1])
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{shown(value)} is too large")
    return int(number) if number.is_integer() else number


def _to_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = _WORDS.get(value.strip().casefold()) if isinstance(value, str) else None
    if word is None:
        raise ValueError(f"{shown(value)} is not true or false")
    return word


def _list_converter(items: Schema) -> Convert:
    is_text = _types(items) in (["string"], [])
    convert = _converter(items, is_media=False)

    def converted(value: Any) -> list[Any]:
        if isinstance(value, str):
            text = value.strip()
            value = _parsed(text, list) if text.startswith("[") else [text] if is_text else value
        if not isinstance(value, list):
            raise ValueError(f'{shown(value)} is not a list: write it as JSON, as ["a", "b"]')  # noqa: TRY004 - one kind
        return [convert(part) for part in value]

    return converted


def _object_converter(schema: Schema) -> Convert:
    parts = {
        name: _converter(part, is_media=False)
        for name, part in schema.get("properties", {}).items()
    }

    def converted(value: Any) -> dict[str, Any]:
        if isinstance(value, str) and value.strip().startswith("{"):
            value = _parsed(value.strip(), dict)
        if not isinstance(value, dict):
            raise ValueError(f'{shown(value)} is not a mapping: write it as JSON, as {{"a": 1}}')  # noqa: TRY004 - one kind
        return {name: parts.get(name, lambda it: it)(part) for name, part in value.items()}

    return converted


def _guess_converter(types: list[str], enum: list[Any] | None) -> Convert:
    simple = {"integer": _to_integer, "number": _to_number, "boolean": _to_boolean}
    tried = [simple[name] for name in types if name in simple]

    def converted(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        for option in enum or ():
            if as_text(option) == value.strip() if not isinstance(option, list | dict) else False:
                return option
        text = value.strip()
        if text.startswith(("[", "{")) and not ("string" in types and len(types) == 1):
            try:
                return _parsed(text, list | dict)
            except ValueError:
                return value
        for convert in tried:
            try:
                return convert(text)
            except ValueError:
                continue
        return value

    return converted


def _parsed(text: str, kind: Any) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be sent
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{shown(text)} is not valid JSON: {reason}") from None
    if not isinstance(value, kind):
        raise ValueError(f"{shown(text)} is not the JSON that is wanted here")  # noqa: TRY004 - one kind
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _choices(values: list[Any]) -> str:
    return ", ".join(map(shown, values))


def _message(keyword: str, rule: Any, value: Any) -> str | None:
    say = _MESSAGES.get(keyword)
    return say(rule, value) if say and rule is not None else None


def _type_message(rule: Any, value: Any) -> str:
    names = [rule] if isinstance(rule, str) else rule
    wanted = " or ".join(_NAMES.get(_HOUSE_TYPES.get(name, name), name) for name in names)
    return f"{shown(value)} is not {wanted}"


def _length_message(length: int, least: int, most: float, *, utf16: bool) -> str:
    units = " (UTF-16 units: an emoji counts 2)" if utf16 else ""
    if length > most:
        return f"{length:,} characters, at most {most:,}{units}: shorten it"
    return f"{length:,} characters, at least {least:,}{units}: lengthen it"


_MESSAGES: dict[str, Callable[[Any, Any], str]] = {
    "type": _type_message,
    "enum": lambda rule, value: f"{shown(value)} is not one of {_choices(rule)}",
    "const": lambda rule, value: f"{shown(value)} is not {shown(rule)}",
    "maximum": lambda rule, value: f"{shown(value)} is too large: at most {rule}",
    "exclusiveMaximum": lambda rule, value: f"{shown(value)} is too large: it must be below {rule}",
    "minimum": lambda rule, value: f"{shown(value)} is too small: at least {rule}",
    "exclusiveMinimum": lambda rule, value: f"{shown(value)} is too small: it must be above {rule}",
    "maxLength": lambda rule, value: _length_message(len(value), 0, rule, utf16=False),
    "minLength": lambda rule, value: _length_message(len(value), rule, math.inf, utf16=False),
    "maxItems": lambda rule, value: f"{len(value):,} values, at most {rule:,}: remove some",
    "minItems": lambda rule, value: f"{len(value):,} values, at least {rule:,}: add some",
    "pattern": lambda rule, value: f"{shown(value)} does not match the pattern {rule}",
}
"""What is said for each JSON Schema keyword, from its rule and the value."""
