"""Values: from what the user wrote to what the model's schema wants, and what is wrong with it."""

import copy
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jsonschema_rs

from batchgen.buckets.location import is_location
from batchgen.domain import fitness
from batchgen.domain.input_files import START, InputFile, parse_input_file
from batchgen.domain.jobs import Model
from batchgen.domain.spelling import suggestion
from batchgen.inputs.local import LocalFiles, is_path
from batchgen.manifests import media, schemas
from batchgen.manifests.names import quotes_hint
from batchgen.manifests.schemas import ANYTHING, HOUSE_TYPES, Path, Schema, Step, types_of

Convert = Callable[[Any], Any]

_NUMBER = re.compile(
    r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?"
)
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::00)?")
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
_LINK = "https://files.example.com/file"  # what the rules see in place of a link that comes later
_SHOWN = 60  # characters of a value in a message
_PLACE = re.compile(r"0|[1-9][0-9]{0,3}")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
AS_IT_IS = "(--allow-unknown-inputs sends it as it is)"


class Form:
    """A model's inputs as a form to fill: typing and checking of its values."""

    def __init__(
        self,
        model: Model,
        *,
        allow_private_inputs: bool = False,
        allow_unknown_inputs: bool = False,
        files: LocalFiles | None = None,
        has_uploads: bool = False,
    ) -> None:
        """Compile the model's schema.

        Args:
            model: The model.
            allow_private_inputs: URLs may point to addresses and local names.
            allow_unknown_inputs: What the schema does not know is sent.
            files: The files of this machine that may be named; None is none.
            has_uploads: Whether they are uploaded, and need not fit into a request.

        Raises:
            ValueError: If it is not a JSON Schema.
        """
        self.model = model
        self.properties: Mapping[str, Schema] = model.schema.get("properties", {})
        self.required: tuple[str, ...] = tuple(model.schema.get("required", ()))
        self.allow_unknown = allow_unknown_inputs
        self.allow_private = allow_private_inputs
        self._files = files
        self._has_uploads = has_uploads
        self._needs: dict[tuple[str, str], fitness.Need] = {}
        self._typing = _Typing(model.schema, self._media)
        self._converters: dict[Path, Convert] = {}
        self._lengths = [
            (name, schema.get("minLength", 0), schema.get("maxLength", math.inf))
            for name, schema in self.properties.items()
            if model.utf16_lengths and ("maxLength" in schema or "minLength" in schema)
        ]
        self._validator = jsonschema_rs.Draft202012Validator(self._compiled())

    def converter(self, path: Path) -> Convert | None:
        """Return what gives a value its type, None if the schema says nothing of it."""
        if path not in self._converters:
            schema, kind = self._at(path)
            if schema is None or (len(path) > 1 and not schema):
                return None
            self._converters[path] = self._typing.converter(schema, is_media=kind is not None)
        return self._converters[path]

    def nested(self, name: str, rest: Sequence[str]) -> tuple[Path | None, str | None]:
        """Return where `camera.zoom` leads, and what is wrong with it.

        Args:
            name: An input.
            rest: The keys and places behind it.

        Returns:
            Nothing of both if the input is neither a list nor a mapping.
        """
        root, schema = self.model.schema, self.properties[name]
        path: list[Step] = [name]
        for word in rest:
            kinds = _structures(schema, root)
            if not kinds:
                return None, (_no_parts(path, schema, root) if len(path) > 1 else None)
            step: Step = int(word) if "array" in kinds and _PLACE.fullmatch(word) else word
            found = None
            if isinstance(step, int) or "object" in kinds:
                found = schemas.below(schema, root, step)
            if found is None and not self.allow_unknown:
                return None, _no_such_part(path, word, schema, root, kinds)
            path.append(step)
            schema = ANYTHING if found is None else found
        return tuple(path), None

    def problems(self, inputs: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
        """Yield where each value stands that breaks a rule, and what to do about it.

        Missing and unknown inputs are not looked for here; unknown keys inside of them are.
        """
        files = list(media.urls_at(self.model, inputs))
        linked = _linked(inputs, files)
        try:
            broken = () if self._validator.is_valid(linked) else list(self._broken_rules(linked))
        except UnicodeEncodeError:
            yield from _half_characters((), inputs)
            return
        yield from broken
        yield from self._wrong_lengths(linked)
        yield from self._wrong_files(files)
        if not self.allow_unknown:
            for name, value in inputs.items():
                if isinstance(value, list | dict) and name in self.properties:
                    yield from self._unknown_keys((name,), value, self.properties[name])

    def _wrong_files(self, files: Sequence[tuple[Path, str, str]]) -> Iterator[tuple[Path, str]]:
        inside_bytes = 0
        for path, url, kind in files:
            file = parse_input_file(url)
            if file is None:
                problem = media.url_problem(url, allow_private=self.allow_private)
                if problem:
                    yield path, problem
                continue
            seen = None if self._files is None else self._files.found.get(url)
            if seen is None:  # stored earlier: it is looked at when it is sent
                continue
            need = self._need(path, kind)
            problems = list(fitness.judge(seen.facts, need).faults)
            if not problems and not self._has_uploads:
                inside_bytes += seen.size_bytes
                problems = list(self._not_inside(path, file, seen.facts, need))
            yield from ((path, f"{file.path}: {problem}") for problem in problems)
        if inside_bytes * 4 // 3 > fitness.LARGEST_REQUEST_BYTES:
            message = (
                f"the row's files have {inside_bytes / 1e6:,.0f} MB, which is too much inside of "
                "one request: name a bucket with --uploads"
            )
            yield files[0][0], message

    def _not_inside(
        self, path: Path, file: InputFile, facts: fitness.Facts, need: fitness.Need
    ) -> Iterator[str]:
        """Yield why a file cannot be put into the request itself."""
        if problem := fitness.inline_problem(facts, need):
            yield problem
            return
        schema = self._at(path)[0] or {}
        start = f"data:{file.content_type};base64,"
        length = fitness.inline_characters(file.content_type, facts.size_bytes or 0)
        pattern = schema.get("pattern")
        fits_pattern = pattern is None or _matches(pattern, f"{start}AAAA")
        if length > schema.get("maxLength", math.inf) or not fits_pattern or "enum" in schema:
            yield f"{self.model.id} takes a URL only: name a bucket with --uploads"

    def _need(self, path: Path, kind: str) -> fitness.Need:
        key = (".".join("" if isinstance(step, int) else step for step in path), kind)
        if key not in self._needs:
            self._needs[key] = fitness.need_of(self.model, dotted(path), kind)
        return self._needs[key]

    def _media(self, text: str) -> str:
        """Return a URL as it is; of a file of this machine, what a job keeps of it."""
        if self._files is None or not is_path(text):
            return text
        try:
            return self._files.kept(text)
        except ValueError as error:
            raise ValueError(media.nearly_url(text) or str(error)) from None

    def _wrong_lengths(self, inputs: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
        for name, least, most in self._lengths:
            value = inputs.get(name)
            if isinstance(value, str) and (len(value) * 2 > most or least):
                units = len(value) if value.isascii() else len(value.encode("utf-16-le")) // 2
                if not least <= units <= most:
                    yield (name,), _length_message(units, least, most, utf16=True)

    def _at(self, path: Path) -> tuple[Schema | None, str | None]:
        """Return the schema at a place, and what kind of media its URL is for."""
        root = self.model.schema
        schema: Schema | None = self.properties.get(str(path[0]))
        kind = self.model.media.get(str(path[0]))
        for step in path[1:]:
            if schema is None:
                break
            kind = kind or schemas.media_kind(schema, root)
            schema = schemas.below(schema, root, step)
            kind = kind if isinstance(step, int) else None
        if schema is None:
            return None, None
        return schema, kind or schemas.media_kind(schema, root)

    def _unknown_keys(self, path: Path, value: Any, schema: Schema) -> Iterator[tuple[Path, str]]:
        root = self.model.schema
        if isinstance(value, list):
            parts: Iterable[tuple[Step, Any]] = enumerate(value)
        else:
            parts = value.items()
        for step, part in parts:
            below = schemas.below(schema, root, step, value)
            if below is None:
                if isinstance(step, str):
                    known = schemas.keys_of(schema, root)
                    hint = suggestion(step, known) or f"its keys are {', '.join(known)} "
                    yield path, f"unknown key {shown(step)}: {hint}{AS_IT_IS}"
            elif isinstance(part, list | dict):
                yield from self._unknown_keys((*path, step), part, below)

    def _compiled(self) -> dict[str, Any]:
        schema: dict[str, Any] = _standard(self.model.schema)
        # Missing and unknown names are reported under the user's own names instead.
        schema.pop("required", None)
        schema.pop("additionalProperties", None)
        for name, *_ in self._lengths:
            schema["properties"][name].pop("maxLength", None)
            schema["properties"][name].pop("minLength", None)
        return schema

    def _broken_rules(self, inputs: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
        for error in self._validator.iter_errors(inputs):
            path, rule_path = tuple(error.instance_path), list(error.schema_path)
            keyword = str(rule_path[-1]) if rule_path else ""
            value: Any = inputs
            for step in path:
                value = value[step]
            message = _message(keyword, self._rule(rule_path), value) or error.message
            yield path, message

    def _rule(self, path: list[Any]) -> Any:
        rule: Any = self.model.schema
        for step in path:
            try:
                # The path leads through a reference, not to where it leads.
                whole = isinstance(rule, Mapping) and "$ref" in rule and step not in rule
                rule = (schemas.resolved(rule, self.model.schema) if whole else rule)[step]
            except (KeyError, IndexError, TypeError):
                return None
        return rule


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, and text as it is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text.replace("\n", "⏎").replace("\r", "")
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def is_blank(value: Any) -> bool:
    """Return whether a cell holds nothing."""
    return value is None or (isinstance(value, str) and (not value or value.isspace()))


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
        if key == "additionalProperties" and value is False:
            continue  # unknown keys are told with what was meant
        if key == "type" and not isinstance(value, Mapping):
            names = [value] if isinstance(value, str) else value
            standard = [HOUSE_TYPES.get(name, name) for name in names]
            kept[key] = standard[0] if isinstance(value, str) else standard
            continue
        kept[key] = value if key in {"default", "enum", "const"} else _standard(value)
    return kept


class _Typing:
    """Makes converters from the schemas of one model, each when it is first needed.

    Not before: a schema may hold itself.
    """

    def __init__(self, root: Schema, media_text: Callable[[str], str]) -> None:
        self._root = root
        self._media_text = media_text
        self._known: dict[tuple[int, bool], Convert] = {}

    def converter(self, schema: Schema, *, is_media: bool) -> Convert:
        key = (id(schema), is_media)  # it lives as long as the model
        if key not in self._known:
            self._known[key] = self._new(schema, is_media=is_media)
        return self._known[key]

    def _new(self, schema: Schema, *, is_media: bool) -> Convert:
        options = schemas.alternatives(schema, self._root)
        types = list(dict.fromkeys(name for it in options for name in types_of(it) or ()))
        enum = schema.get("enum") or [choice for it in options for choice in it.get("enum", ())]
        if types == ["string"]:
            return self._to_media if is_media else _text_converter(enum)
        if types == ["array"]:
            return self._list_converter(schema, is_media=is_media)
        if types == ["object"]:
            return self._object_converter(schema)
        if len(types) == 1 and types[0] in _SIMPLE:
            return _with_choices(_SIMPLE[types[0]], enum)
        return self._guess_converter(schema, types, enum, is_media=is_media)

    def _below(self, schema: Schema, step: Step, whole: Any, *, is_media: bool) -> Any:
        """Return one part of a list or mapping with its type."""
        part, below = whole[step], schemas.below(schema, self._root, step, whole)
        if below is None or part is None:
            return part
        is_media = is_media or schemas.media_kind(below, self._root) is not None
        return self.converter(below, is_media=is_media)(part)

    def _list_converter(self, schema: Schema, *, is_media: bool) -> Convert:
        items = schemas.below(schema, self._root, 0) or ANYTHING
        kinds = {name for it in schemas.alternatives(items, self._root) for name in _named(it)}
        is_text = kinds <= {"string"}

        def converted(value: Any) -> list[Any]:
            if isinstance(value, str):
                text = value.strip()
                value = _parsed(text, list) if text.startswith("[") else [text] if is_text else text
            if not isinstance(value, list):
                raise ValueError(f'{shown(value)} is not a list: write it as JSON, as ["a", "b"]')  # noqa: TRY004 - one kind
            return [
                self._below(schema, place, value, is_media=is_media) for place in range(len(value))
            ]

        return converted

    def _object_converter(self, schema: Schema) -> Convert:
        def converted(value: Any) -> dict[str, Any]:
            if isinstance(value, str) and value.strip().startswith("{"):
                value = _parsed(value.strip(), dict)
            if not isinstance(value, dict):
                raise ValueError(  # noqa: TRY004 - one kind
                    f'{shown(value)} is not a mapping: write it as JSON, as {{"a": 1}}'
                )
            return {key: self._below(schema, key, value, is_media=False) for key in value}

        return converted

    def _guess_converter(
        self, schema: Schema, types: list[str], enum: list[Any], *, is_media: bool
    ) -> Convert:
        tried = [_SIMPLE[name] for name in types if name in _SIMPLE]
        as_list = self._list_converter(schema, is_media=is_media) if "array" in types else _same
        as_mapping = self._object_converter(schema) if "object" in types else _same

        def converted(value: Any) -> Any:
            if isinstance(value, str):
                value = _guessed(value, enum, tried)
            if isinstance(value, list):
                return as_list(value)
            if isinstance(value, dict):
                return as_mapping(value)
            return self._to_media(value) if is_media and isinstance(value, str) else value

        return converted

    def _to_media(self, value: Any) -> str:
        return self._media_text(as_text(value).strip())


def unknown_cell(value: Any) -> Any:
    """Return a cell for an input that no schema describes: as JSON if it looks like it."""
    text = value.strip() if isinstance(value, str) else ""
    if text in ("true", "false") or text.startswith(("[", "{")) or _JSON_NUMBER.fullmatch(text):
        try:
            return _finite(_parsed(text, int | float | bool | list | dict))
        except ValueError:
            return value
    return value


def dotted(path: Sequence[Step]) -> str:
    """Return a place as a column names it: `elements.0.image`."""
    return ".".join(map(str, path))


def _guessed(value: str, enum: list[Any], tried: list[Convert]) -> Any:
    text = value.strip()
    for option in enum:
        if not isinstance(option, list | dict) and as_text(option) == text:
            return option
    if text.startswith(("[", "{")):
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


def _linked(inputs: Mapping[str, Any], files: Sequence[tuple[Path, str, str]]) -> Mapping[str, Any]:
    """Return inputs as they will look once every file in them has a link."""
    others = [path for path, url, _ in files if url.startswith(START) or is_location(url)]
    if not others:
        return inputs
    linked: dict[str, Any] = copy.deepcopy(dict(inputs))
    for path in others:
        whole: Any = linked
        for step in path[:-1]:
            whole = whole[step]
        whole[path[-1]] = _LINK
    return linked


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # of a dialect that Python does not have
        return True


def _half_characters(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    """Yield where texts are that no JSON can hold: of a surrogate pair only one."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"U+{ord(value[error.start]):04X}"
            yield path, f"contains {half}, which is half of a character: write it anew"
    elif isinstance(value, list | dict):
        for step in value if isinstance(value, dict) else range(len(value)):
            yield from _half_characters((*path, step), value[step])


def _same(value: Any) -> Any:
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        raise ValueError("no JSON has it")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _named(schema: Schema) -> list[str]:
    return types_of(schema) or []


def _structures(schema: Schema, root: Schema) -> set[str]:
    """Return whether a value may be a mapping or a list, by what the schema says."""
    kinds: set[str] = set()
    for option in schemas.alternatives(schema, root):
        kinds |= {"array", "object"} & set(_named(option))
        kinds |= {"object"} if "properties" in option else set()
        kinds |= {"array"} if "items" in option else set()
        kinds |= {"array", "object"} if not option else set()
    return kinds


def _no_parts(path: Sequence[Step], schema: Schema, root: Schema) -> str:
    names = [name for it in schemas.alternatives(schema, root) for name in _named(it)]
    kind = " or ".join(_NAMES.get(name, name) for name in names) or "one value"
    return f"`{dotted(path)}` is {kind} and has no parts: name that"


def _no_such_part(
    path: Sequence[Step], word: str, schema: Schema, root: Schema, kinds: set[str]
) -> str:
    name = dotted(path)
    if kinds == {"array"}:
        return f"`{name}` is a list: write a place from 0, as `{name}.0`"
    known = schemas.keys_of(schema, root)
    hint = suggestion(word, known) or f"its keys are {', '.join(known)} "
    return f"`{name}` has no key {shown(word)}: {hint}{AS_IT_IS}"


def _with_choices(convert: Convert, enum: list[Any]) -> Convert:
    if not enum:
        return convert

    def converted(value: Any) -> Any:
        try:
            return convert(value)
        except ValueError as error:
            raise ValueError(f"{error}: write one of {_choices(enum)}") from None

    return converted


def _text_converter(enum: list[Any]) -> Convert:
    if not enum:
        return lambda value: value if isinstance(value, str) else as_text(value)

    def choice(value: Any) -> str:
        text = value if isinstance(value, str) else as_text(value)
        return text if text in enum else text.strip()

    return choice


def _to_integer(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not a whole number")  # noqa: TRY004 - one kind
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int):
        return value
    whole = _WHOLE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not whole:
        raise ValueError(f"{shown(value)} is not a whole number{_quotes(value)}")
    return int(whole[1])


def _to_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if isinstance(value, float) and value.is_integer() else value
    text = value.strip() if isinstance(value, str) else ""
    if not _NUMBER.fullmatch(text):
        hint = ": write a point, not a comma" if re.fullmatch(r"-?\d+,\d+", text) else _quotes(text)
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
        raise ValueError(f"{shown(value)} is not true or false{_quotes(value)}")
    return word


def _quotes(value: Any) -> str:
    hint = quotes_hint(value.strip()) if isinstance(value, str) else ""
    return f": {hint}" if hint else ""


def _json_problem(text: str, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    if "“" in text or "”" in text:
        return 'its quotes are typographic (“ ”): write plain ones (")'
    return f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"


def _parsed(text: str, kind: Any) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be sent
    except (ValueError, RecursionError) as error:
        reason = _json_problem(text, error)
        raise ValueError(f"{shown(text)} is not valid JSON: {reason}") from None
    if not isinstance(value, kind):
        raise ValueError(f"{shown(text)} is not the JSON that is wanted here")  # noqa: TRY004 - one kind
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_SIMPLE: dict[str, Convert] = {
    "integer": _to_integer,
    "number": _to_number,
    "boolean": _to_boolean,
}


def _choices(values: list[Any]) -> str:
    return ", ".join(map(shown, values))


def _message(keyword: str, rule: Any, value: Any) -> str | None:
    say = _MESSAGES.get(keyword)
    return say(rule, value) if say and rule is not None else None


def _type_message(rule: Any, value: Any) -> str:
    names = [rule] if isinstance(rule, str) else rule
    wanted = " or ".join(_NAMES.get(HOUSE_TYPES.get(name, name), name) for name in names)
    return f"{shown(value)} is not {wanted}"


def _enum_message(rule: Any, value: Any) -> str:
    message = f"{shown(value)} is not one of {_choices(rule)}"
    if not isinstance(value, str) or value.isdigit():
        return message  # which number is near says little
    quoted = _quotes(value)
    if quoted:
        return message + quoted
    time = _TIME.fullmatch(value)
    if time and f"{int(time[1])}:{int(time[2])}" in rule:
        meant = f"{int(time[1])}:{int(time[2])}"
        return f"{message}: Excel took it for a time; format the column as text, then write {meant}"
    words = [choice for choice in rule if isinstance(choice, str)]
    hint = suggestion(value, words).rstrip()
    return f"{message}: {hint}" if hint else message


def _length_message(length: int, least: int, most: float, *, utf16: bool) -> str:
    units = " (UTF-16 units: an emoji counts 2)" if utf16 else ""
    if length > most:
        return f"{length:,} characters, at most {most:,}{units}: shorten it"
    return f"{length:,} characters, at least {least:,}{units}: lengthen it"


_MESSAGES: dict[str, Callable[[Any, Any], str]] = {
    "type": _type_message,
    "enum": _enum_message,
    "const": lambda rule, value: f"{shown(value)} is not {shown(rule)}",
    "maximum": lambda rule, value: f"{shown(value)} is too large: at most {rule}",
    "exclusiveMaximum": lambda rule, value: f"{shown(value)} is too large: it must be below {rule}",
    "minimum": lambda rule, value: f"{shown(value)} is too small: at least {rule}",
    "exclusiveMinimum": lambda rule, value: f"{shown(value)} is too small: it must be above {rule}",
    "maxLength": lambda rule, value: _length_message(len(value), 0, rule, utf16=False),
    "minLength": lambda rule, value: _length_message(len(value), rule, math.inf, utf16=False),
    "maxItems": lambda rule, value: f"{len(value):,} values, at most {rule:,}: remove some",
    "minItems": lambda rule, value: f"{len(value):,} values, at least {rule:,}: add some",
    "required": lambda rule, value: (
        f"lacks {_choices([key for key in rule if key not in value])}: fill it in"
    ),
    "pattern": lambda rule, value: f"{shown(value)} does not match the pattern {rule}",
}
"""What is said for each JSON Schema keyword, from its rule and the value."""
