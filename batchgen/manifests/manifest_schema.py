"""The JSON Schema of a YAML manifest, for editors that complete and check what is typed.

It knows what a file says, not what its tables hold or its templates become: `batchgen validate`
has the last word. A number must be written as one, where batchgen also takes it in quotes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from batchgen.domain.jobs import Model
from batchgen.domain.models import standard, types_of
from batchgen.manifests.describing import Described, inputs_of
from batchgen.manifests.names import MAX_BATCH, MAX_ID

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{|\{%", "description": "A template."}
_TEXT: Schema = {"type": ["string", "number", "boolean"]}


def manifest_schema(models: Sequence[Model], *, fallback: str) -> Schema:
    """Return the schema of manifests whose jobs are of these models.

    Args:
        models: At least one.
        fallback: The model of a manifest that names none.
    """
    definitions: Schema = {"template": _TEMPLATE}
    for number, model in enumerate(models):
        definitions[f"inputs-{number}"] = _inputs(model)
        definitions[f"job-{number}"] = _job(model, number)
        definitions[f"defaults-{number}"] = _defaults(model, number)
    whole: Schema = {
        "$schema": DRAFT,
        "title": "A manifest of batchgen",
        "type": "object",
        "required": ["jobs"],
        "additionalProperties": False,
        "properties": _top(models),
        "$defs": definitions,
    }
    if len(models) == 1:
        return {**whole, **_of_one(models[0], whole["properties"])}
    chosen = [
        {"if": _names(model, fallback=fallback), "then": _inherits(model, number)}
        for number, model in enumerate(models)
    ]
    own = [
        {
            "if": {"required": ["model"], "properties": {"model": {"const": model.id}}},
            "then": {"$ref": f"#/$defs/job-{number}"},
        }
        for number, model in enumerate(models)
    ]
    whole["properties"]["jobs"]["items"] = {"type": "object", "allOf": own}
    return {**whole, "allOf": chosen}


def _of_one(model: Model, top: Schema) -> Schema:
    top["defaults"] = {**top["defaults"], "$ref": "#/$defs/defaults-0"}
    top["jobs"]["items"] = {"$ref": "#/$defs/job-0"}
    needed = _needed(model, {})
    return {"properties": top, **({"allOf": needed} if needed else {})}


def _names(model: Model, *, fallback: str) -> Schema:
    says: Schema = {"required": ["model"], "properties": {"model": {"const": model.id}}}
    if model.id != fallback:
        return says
    return {"anyOf": [says, {"not": {"required": ["model"]}}]}


def _inherits(model: Model, number: int) -> Schema:
    """Return what holds for the jobs that name no model of their own."""
    no_model: Schema = {"not": {"required": ["model"]}}
    jobs: Schema = {"items": {"if": no_model, "then": {"$ref": f"#/$defs/job-{number}"}}}
    found: Schema = {
        "properties": {"defaults": {"$ref": f"#/$defs/defaults-{number}"}, "jobs": jobs}
    }
    needed = _needed(model, {"required": ["model"]})
    return {**found, "allOf": needed} if needed else found


def _needed(model: Model, exempt: Schema) -> list[Schema]:
    """Return that each required input is in the defaults, or in every job without a table."""
    found = []
    for one in inputs_of(model):
        if not one.is_required:
            continue
        names = [one.friendly, one.name, *one.aliases, f"input.{one.name}"]
        given = [{"required": [name]} for name in dict.fromkeys(names)]
        job: Schema = {"anyOf": [*given, {"required": ["from"]}, *([exempt] if exempt else [])]}
        in_defaults: Schema = {
            "required": ["defaults"],
            "properties": {"defaults": {"type": "object", "anyOf": given}},
        }
        found.append({"anyOf": [{"properties": {"jobs": {"items": job}}}, in_defaults]})
    return found


def _top(models: Sequence[Model]) -> Schema:
    return {
        "batch": {
            **_TEXT,
            "maxLength": MAX_BATCH,
            "description": "The batch's name; else the file's. Clips go to a folder called so.",
        },
        "model": {"enum": [model.id for model in models], "description": "Of every job."},
        "budget": {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^\s*\$?[0-9]*\.?[0-9]+\s*$"},
            ],
            "description": "US dollars that the batch may cost over its life.",
        },
        "uploads": {
            "type": "string",
            "pattern": r"^(s3|gs|az)://[^/]+",
            "description": "A bucket where files of this machine are uploaded to.",
        },
        "defaults": {
            "type": ["object", "null"],
            "description": "Every job has these keys unless it has them itself.",
        },
        "vars": {
            "type": ["object", "null"],
            "propertyNames": {"pattern": r"^[^\W\d]\w*$"},
            "description": "Variables for templates; one may use those above it.",
        },
        "jobs": {"type": "array", "minItems": 1, "description": "The clips to make."},
    }


def _job(model: Model, number: int) -> Schema:
    listed: Schema = {"type": "array", "items": {"type": "object"}}
    axes: Schema = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": r"^[^\W\d]\w*$"},
        "additionalProperties": {"anyOf": [{"type": "array", "minItems": 1}, _TEMPLATE]},
    }
    words: Schema = {
        "id": {**_TEXT, "maxLength": MAX_ID, "description": "Names the job and its clip."},
        "matrix": {**axes, "description": "Lists of variables: one row for each combination."},
        "zip": {**axes, "description": "Lists of equal length: one row for each position."},
        "include": {**listed, "description": "More combinations, or more variables for some."},
        "exclude": {**listed, "description": "Combinations that are left out."},
        "from": {"type": "string", "minLength": 1, "description": "A table beside this file."},
    }
    return _mapping(model, number, words)


def _defaults(model: Model, number: int) -> Schema:
    found = _mapping(model, number, {})
    return {**found, "type": ["object", "null"]}


def _mapping(model: Model, number: int, words: Schema) -> Schema:
    shared: Schema = {
        "model": {"const": model.id, "description": f"{model.title}; --model wins."},
        "seeds": {**_seeds(model), "description": "One clip for each seed."},
        "repeat": {
            "anyOf": [{"type": "integer", "minimum": 1}, _TEMPLATE, {"type": "null"}],
            "description": "So many takes, each with a seed that is drawn once and kept.",
        },
        "meta": {
            "type": ["object", "null"],
            "description": "Carried through to every export; never sent.",
        },
    }
    if model.seed is None:
        del shared["seeds"]
    names = {
        name: {"$ref": f"#/$defs/inputs-{number}/properties/{_pointer(one.name)}"}
        for one in inputs_of(model)
        for name in (*one.aliases, one.name)
    }
    nested = [
        one.name
        for one in inputs_of(model)
        if {"array", "object"} & set(types_of(model.schema["properties"][one.name]))
    ]
    patterns: Schema = {r"^input\.": {}, **{f"^{_escaped(name)}[.\\[]": {} for name in nested}}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**words, **names, **shared},
        "patternProperties": patterns,
        "not": {"type": "object", "required": ["seeds", "repeat"]},
    }


def _pointer(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1").replace("%", "%25").replace(" ", "%20")


def _escaped(name: str) -> str:
    return "".join(
        letter if letter.isalnum() or letter == "_" else f"\\{letter}" for letter in name
    )


def _seeds(model: Model) -> Schema:
    said = model.schema.get("properties", {}).get(model.seed or "", {})
    bounds = {name: said[name] for name in ("minimum", "maximum") if name in said}
    one: Schema = {"type": "integer", **bounds}
    items: Schema = {"anyOf": [one, _TEMPLATE]}
    several: Schema = {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}
    return {"anyOf": [several, one, {"type": "string", "minLength": 1}, {"type": "null"}]}


def _inputs(model: Model) -> Schema:
    properties = {
        one.name: _input(one, model.schema["properties"][one.name]) for one in inputs_of(model)
    }
    return {"properties": properties}


def _input(one: Described, said: Mapping[str, Any]) -> Schema:
    plain = {
        name: part
        for name, part in standard(said, follow=False).items()
        if name not in ("title", "description", "default")
    }
    default = f"; {one.default} if it is left out" if one.default else ""
    needed = " Required." if one.is_required else ""
    about = f"{one.about}. " if one.about else ""
    found: Schema = {
        "description": f"{about}{one.kind[:1].upper()}{one.kind[1:]}{default}.{needed}",
        "anyOf": [plain, *_other_spellings(said), {"$ref": "#/$defs/template"}, {"type": "null"}],
    }
    if "default" in said:
        found["default"] = said["default"]
    return found


def _other_spellings(said: Mapping[str, Any]) -> list[Schema]:
    types = types_of(said)
    if types == ["boolean"]:
        return [{"enum": ["yes", "no"]}]
    if types == ["array"] and types_of(said.get("items") or {}) in (["string"], []):
        return [{"type": "string", "minLength": 1}]  # a list of one
    if types == ["string"]:
        numbers = [int(one) for one in said.get("enum") or () if str(one).isdecimal()]
        return [{"enum": numbers}] if numbers else []
    return []
