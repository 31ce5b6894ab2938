"""Whatever a model's file says, it is refused with a reason or can be used throughout."""

import json
from typing import Any

import jsonschema_rs
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batchgen.domain.errors import ManifestError
from batchgen.domain.expansion import seed_bounds
from batchgen.domain.models import read_entry
from batchgen.manifests.describing import inputs_of
from batchgen.manifests.examples import csv_example, yaml_example
from batchgen.manifests.manifest_schema import manifest_schema
from batchgen.manifests.model_files import as_data, checked_model, model_of
from batchgen.manifests.snapshots import remembered, snapshot

ODD = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=4)
VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["string", "integer", "float", "boolean", "array", "object", "int"])
    | st.lists(st.sampled_from(["string", "null", "number", "array"]), max_size=2),
    "enum": st.lists(st.integers(-3, 9) | st.text(max_size=3), min_size=1, max_size=3),
    "default": VALUES | st.lists(VALUES, max_size=2),
    "minimum": st.integers(-9, 9) | st.just(0.5),
    "maximum": st.integers(-9, 9),
    "maxLength": st.integers(0, 40),
    "minLength": st.integers(0, 9),
    "minItems": st.integers(0, 3),
    "format": st.sampled_from(["image_uri", "image_uris", "video_uri", "uri"]),
    "title": st.text(max_size=5),
    "description": st.text(max_size=9),
    "validations": VALUES | st.lists(st.dictionaries(st.just("validation_error"), VALUES)),
    "required": st.booleans() | st.lists(st.text(max_size=2), max_size=2, unique=True),
    "properties": st.just({"a": {"type": "string"}}),
    "items": st.just({"type": "string"}) | st.just({"type": "object", "required": ["a"]}),
    "anyOf": st.just([{"type": "string"}, {"type": "integer"}]),
    "$ref": st.just("#/$defs/x"),
}
SANE = st.fixed_dictionaries({}, optional=KEYWORDS)
ANY = st.fixed_dictionaries({}, optional={name: some | ODD for name, some in KEYWORDS.items()})
PROPERTY = st.one_of(SANE, SANE, SANE, ANY)
NAMES = st.sampled_from(["prompt", "promptText", "image", "seed", "duration", "a b", "é", "x/y"])


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(st.dictionaries(NAMES, PROPERTY, min_size=1, max_size=3), st.booleans(), st.booleans())
@example({"prompt": {"validations": 1}}, False, False)
@example({"promptText": {"enum": ["\x7f", "\u2028"], "title": "\u2028a: b"}}, True, False)
@example({"prompt": {"maxLength": 3.0, "minLength": 1.0}}, True, True)
@example({"prompt": {"type": "string", "minLength": 10**12}}, True, False)
@example({"x": {"type": "array", "items": {"type": "string"}, "minItems": 10**12}}, True, False)
def test_any_entry_of_a_catalog(
    properties: dict[str, Any], is_required: bool, is_priced: bool
) -> None:
    said = {
        "model_id": "a/b",
        "input_schema": {"type": "object", "properties": properties},
        "required_inputs": list(properties) if is_required else [],
        **({"base_price_usd": 0.1, "price_unit": "second"} if is_priced else {}),
    }
    try:
        model = checked_model(as_data(model_of(read_entry(said))), file="a/b")
    except (ValueError, ManifestError):
        return

    assert [one.name for one in inputs_of(model)]
    assert yaml.safe_load(yaml_example(model, file="jobs.yaml"))["model"] == "a/b"
    assert csv_example(model).startswith("id,")
    jsonschema_rs.meta.validate(manifest_schema([model], fallback="a/b"))
    bounds = seed_bounds(model)
    assert bounds is None or 0 <= bounds[0] <= bounds[1]
    assert remembered("a/b", json.loads(json.dumps(snapshot(model)))) == model
