"""Commented example manifests of any model, made from what its schema says."""

import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from batchgen.domain.expansion import estimate_micros, seed_bounds
from batchgen.domain.jobs import Model
from batchgen.domain.models import types_of
from batchgen.manifests.describing import Described, inputs_of

_SCENES = (
    ("harbor", "Boats leave the harbor at dawn"),
    ("lighthouse", "The beam of the lighthouse sweeps over the waves"),
    ("market", "Camera pans right over the fish market"),
)
_FILES = {
    "image": "https://images.example.com/{}.jpg",
    "video": "https://videos.example.com/{}.mp4",
    "audio": "https://sounds.example.com/{}.mp3",
}
_STYLE = "35mm film, soft light"
_WIDTH = 98  # characters of a line with its comment


def yaml_example(model: Model, *, file: str) -> str:
    """Return a YAML manifest with every input of a model, those that may be left out as comments.

    Args:
        model: Of all its jobs.
        file: What it will be called.
    """
    inputs = _sorted_inputs(model)
    lines = [
        f"# A batch of clips with {_visible(model.title)}.",
        f"# Its inputs:                      batchgen models show {model.id}",
        f"# Check it, and see the cost:      batchgen plan {file}",
        f"# Try it without token or money:   batchgen run {file} --simulate",
        f"batch: {_batch(model)}".ljust(26) + " # names the folder of the clips",
        f"model: {model.id}",
        _budget(model, inputs),
        "",
        "defaults:                  # every job has these unless it says otherwise",
        *_defaults(model, inputs),
        "  meta:",
        "    client: acme           # `meta` is never sent: it comes back in every export",
        "",
        "vars:                      # for {{ … }} below",
        f"  style: {_STYLE}",
        "",
        "jobs:",
    ]
    for number, (scene, text) in enumerate(_SCENES):
        lines += _job(model, inputs, number, scene, text)
    return "\n".join(lines).rstrip() + "\n"


def csv_example(model: Model) -> str:
    """Return a table with a column for each input of a model that a cell can hold."""
    inputs = [one for one in _sorted_inputs(model) if one.name != model.seed]
    rest: list[str] = [*(["seeds"] if model.seed else []), "model", "client"]
    columns = [one for one in inputs if one.is_required or _is_simple(model, one)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", *(one.friendly for one in columns), *rest])
    for number, (scene, text) in enumerate(_SCENES):
        cells = [
            _cell(_value(model, one, scene, text, number))
            if one.is_required or _is_prompt(one) or (number == 0 and _is_choice(model, one))
            else ""
            for one in columns
        ]
        seeds = [", ".join(map(str, _seeds(model))) if number == 0 else ""] if model.seed else []
        writer.writerow([scene, *cells, *seeds, model.id, "acme"])
    return out.getvalue()


def _batch(model: Model) -> str:
    # One for each model: rows of the same ids in one batch would be taken for edits.
    return re.sub(r"[^A-Za-z0-9.]+", "-", model.id.rpartition("/")[0] or model.id)[-60:].strip("-.")


def _sorted_inputs(model: Model) -> list[Described]:
    """Return the inputs as a job is written: the prompt, the media, then the rest."""

    def place(one: Described) -> int:
        if _is_prompt(one):
            return 0
        return (1 if one.is_required else 2) if one.media else 3

    return sorted(inputs_of(model), key=place)


def _is_prompt(one: Described) -> bool:
    return one.friendly == "prompt"


def _is_job_like(one: Described) -> bool:
    """Return whether an input is each job's own, rather than the same for all."""
    return _is_prompt(one) or bool(one.media)


def _is_simple(model: Model, one: Described) -> bool:
    types = types_of(model.schema["properties"][one.name])
    return not one.media and bool(types) and not {"array", "object"} & set(types)


def _is_choice(model: Model, one: Described) -> bool:
    said = model.schema["properties"][one.name]
    return "enum" in said or types_of(said) in (["integer"], ["number"], ["boolean"])


def _budget(model: Model, inputs: Sequence[Described]) -> str:
    sent = {one.name: _value(model, one, "", "", 0) for one in inputs if _is_set(model, one)}
    if estimate_micros(model, sent) is None:
        return (
            "# budget: 5                # US dollars; needs a price, and this model's is not known"
        )
    return "budget: 5                  # US dollars; the batch never submits beyond it"


def _is_set(model: Model, one: Described) -> bool:
    # A price of a second is only known for a duration that is.
    counts = one.name == "duration" and model.price_unit == "second" and bool(model.price_micros)
    return one.is_required or (counts and not one.default)


def _defaults(model: Model, inputs: Sequence[Described]) -> Iterator[str]:
    for one in inputs:
        if not _is_job_like(one) and one.name != model.seed:
            value = _value(model, one, "harbor", "", 0)
            yield from _line("  ", one, value, is_set=_is_set(model, one))


def _job(
    model: Model, inputs: Sequence[Described], number: int, scene: str, text: str
) -> Iterator[str]:
    note = "             # names the clip; without it a hash of the content does"
    yield f"  - id: {scene}{note if number == 0 else ''}"
    for one in inputs:
        if not _is_job_like(one):
            continue
        is_set = one.is_required or _is_prompt(one)
        template = f"{text}, {{{{ style }}}}"
        fits = len(template) <= model.schema["properties"][one.name].get("maxLength", math.inf)
        value = _value(model, one, scene, template if fits else text, number)
        if number == 0 or is_set:
            yield from _line("    ", one, value, is_set=is_set, is_first=number == 0)
    if number == 0 and model.seed is not None:
        seeds = ", ".join(map(str, _seeds(model)))
        yield f"    seeds: [{seeds}]       # one clip for each seed; or seed: {_seeds(model)[0]}"
    if number == len(_SCENES) - 1:
        drawn = "" if model.seed is None else ", each with a seed drawn once and kept"
        yield f"    repeat: 2              # two takes{drawn}"
    yield ""


def _line(
    indent: str, one: Described, value: Any, *, is_set: bool, is_first: bool = True
) -> Iterator[str]:
    body = f"{indent}{'' if is_set else '# '}{one.friendly}: {_yaml(value)}"
    if not is_first:
        yield body
        return
    said = [
        *(["required"] if one.is_required else []),
        one.kind,
        *([f"{one.default} if left out"] if one.default else []),
        *([one.about] if one.about and not _is_prompt(one) else []),
        *(rule.rstrip(".") for rule in one.rules),
    ]
    comment = _visible("; ".join(" ".join(part.split()) for part in said))
    if len(body) + len(comment) + 3 <= _WIDTH:
        yield f"{body.ljust(26)} # {comment}"
        return
    for line in textwrap.wrap(comment, _WIDTH - len(indent) - 2, break_on_hyphens=False):
        yield f"{indent}# {line}"
    yield body


def _yaml(value: Any) -> str:
    # JSON is YAML, and means the same in both; plain URLs need no quotes.
    if isinstance(value, str) and value.startswith("https://"):
        return value
    return _visible(json.dumps(value, ensure_ascii=False))


def _visible(text: str) -> str:
    # Some characters that JSON leaves alone end a line in YAML, or are not allowed.
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _seeds(model: Model) -> list[int]:
    low, high = seed_bounds(model) or (0, 0)
    return [seed for seed in range(low + 1, low + 4) if seed <= high] or [low]


# -- values that a schema allows -------------------------------------------------------------------


def _value(model: Model, one: Described, scene: str, text: str, number: int) -> Any:
    said = model.schema["properties"][one.name]
    if one.media:
        url = _FILES[one.media].format(scene if one.is_required else f"{scene}-{one.name}")
        return [url] * max(1, _least(said, "minItems")) if one.is_list else url
    if _is_prompt(one):
        return _fitting(text, said)
    choices = said.get("enum")
    if choices:
        return said.get("default", choices[min(number, len(choices) - 1)])
    return placeholder(said)


def placeholder(said: Mapping[str, Any]) -> Any:
    """Return a value that a schema allows, as far as it says what it allows."""
    for name in ("default", "const"):
        if name in said:
            return said[name]
    if said.get("enum"):
        return said["enum"][0]
    types = [one for one in types_of(said) if one != "null"]
    kind = types[0] if types else "string"
    if kind in ("integer", "number"):
        return _number(said, is_whole=kind == "integer")
    if kind == "boolean":
        return True
    if kind == "array":
        items = said.get("items")
        each = placeholder(items) if isinstance(items, Mapping) else "text"
        return [each] * max(_least(said, "minItems"), 1 if isinstance(items, Mapping) else 0)
    if kind == "object":
        parts = said.get("properties") or {}
        return {name: placeholder(parts.get(name, {})) for name in said.get("required") or ()}
    return _fitting("text", said)


def _fitting(text: str, said: Mapping[str, Any]) -> str:
    return text[: int(said.get("maxLength", len(text)))].ljust(_least(said, "minLength"), ".")


def _least(said: Mapping[str, Any], name: str) -> int:
    # A service may say anything: an example need not be longer than a page.
    return min(int(said.get(name, 0)), 2000)


def _number(said: Mapping[str, Any], *, is_whole: bool) -> int | float:
    low, high = float(said.get("minimum", -math.inf)), float(said.get("maximum", math.inf))
    value = low if low > -math.inf else min(1.0, high)
    if not is_whole and math.isfinite(low) and math.isfinite(high):
        value = (low + high) / 2
    return math.ceil(value) if is_whole or value.is_integer() else value
