"""The JSON Schema that editors get."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from batchgen.manifests import DEFAULT_MODEL, load_models
from batchgen.manifests.examples import yaml_example
from batchgen.manifests.interface import ROW_WORDS
from batchgen.manifests.manifest_schema import manifest_schema

REPOSITORY = Path(__file__).parents[2]
MODELS = load_models()
KLING = "kling/kling-3.0/pro/image-to-video"
IMAGE = "https://images.example.com/a.jpg"
ONE = manifest_schema([MODELS[DEFAULT_MODEL]], fallback=DEFAULT_MODEL)
ALL = manifest_schema(list(MODELS.values()), fallback=DEFAULT_MODEL)
EVERY = pytest.mark.parametrize("schema", [ONE, ALL], ids=["one", "all"])


VALIDATORS = [(schema, jsonschema_rs.Draft202012Validator(schema)) for schema in (ONE, ALL)]


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    known = (compiled for one, compiled in VALIDATORS if one is schema)  # the large one takes long
    return next(known, None) or jsonschema_rs.Draft202012Validator(schema)


def problems(schema: dict[str, Any], said: Any) -> list[str]:
    return [error.message for error in validator(schema).iter_errors(said)]


@EVERY
def test_it_is_a_schema(schema: dict[str, Any]) -> None:
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@EVERY
def test_the_shipped_example_is_valid(schema: dict[str, Any]) -> None:
    said = yaml.safe_load((REPOSITORY / "jobs.example.yaml").read_text())

    assert problems(schema, said) == []


@pytest.mark.parametrize("model", list(MODELS))
def test_the_example_of_every_model_is_valid(model: str) -> None:
    said = yaml.safe_load(yaml_example(MODELS[model], file="jobs.yaml"))

    assert problems(ALL, said) == []
    assert problems(manifest_schema([MODELS[model]], fallback=model), said) == []


@EVERY
@pytest.mark.parametrize(
    "said",
    [
        {"jobs": [{"image": IMAGE}]},
        {"jobs": [{"promptImage": IMAGE, "promptText": "x", "seed": 4294967295}]},
        {"jobs": [{"input.promptImage": IMAGE, "input.new": 5}]},
        {"jobs": [{"image": IMAGE, "duration": "{{ seconds }}", "seeds": ["{{ a }}", 2]}]},
        {"jobs": [{"image": IMAGE, "duration": None, "repeat": 3, "id": 7}]},
        {"defaults": {"image": IMAGE, "repeat": 2}, "jobs": [{"prompt": "a"}, {"prompt": "b"}]},
        {"defaults": None, "vars": None, "jobs": [{"from": "rows.csv", "ratio": "960:960"}]},
        {"batch": "x", "budget": 5.5, "model": DEFAULT_MODEL, "jobs": [{"image": IMAGE}]},
        {"budget": "$5", "jobs": [{"image": IMAGE, "seeds": "1, 2", "meta": {"a": [1]}}]},
        {
            "jobs": [
                {
                    "matrix": {"subject": ["fox", "heron"], "move": ["left"]},
                    "zip": {"a": [1, 2], "b": [3, 4]},
                    "exclude": [{"subject": "fox"}],
                    "include": [{"subject": "owl", "move": "up"}],
                    "prompt": "{{ subject }} {{ move }}",
                    "image": IMAGE,
                }
            ]
        },
    ],
)
def test_what_is_right(schema: dict[str, Any], said: Any) -> None:
    assert problems(schema, said) == []


@EVERY
@pytest.mark.parametrize(
    "said",
    [
        [],
        {},
        {"jobs": []},
        {"jobs": {}},
        {"jobs": [IMAGE]},
        {"jobs": [{"prompt": "no image"}]},
        {"jobs": [{"image": IMAGE}, {"prompt": "no image"}]},
        {"defaults": {"prompt": "x"}, "jobs": [{"prompt": "no image"}]},
        {"jobs": [{"image": IMAGE, "duraton": 5}]},
        {"jobs": [{"image": IMAGE, "duration": 7}]},
        {"jobs": [{"image": IMAGE, "duration": "long"}]},
        {"jobs": [{"image": IMAGE, "ratio": "1:1"}]},
        {"jobs": [{"image": IMAGE, "prompt": "x" * 1001}]},
        {"jobs": [{"image": IMAGE, "seed": -1}]},
        {"jobs": [{"image": IMAGE, "seed": 1.5}]},
        {"jobs": [{"image": IMAGE, "seeds": []}]},
        {"jobs": [{"image": IMAGE, "seeds": [1, 1]}]},
        {"jobs": [{"image": IMAGE, "seeds": [4294967296]}]},
        {"jobs": [{"image": IMAGE, "seeds": [1], "repeat": 2}]},
        {"jobs": [{"image": IMAGE, "repeat": 0}]},
        {"jobs": [{"image": IMAGE, "meta": "acme"}]},
        {"jobs": [{"image": IMAGE, "matrix": {"a": []}}]},
        {"jobs": [{"image": IMAGE, "matrix": {"a b": [1]}}]},
        {"jobs": [{"image": IMAGE, "exclude": {"a": 1}}]},
        {"jobs": [{"from": 5}]},
        {"jobs": [{"image": IMAGE}], "job": 1},
        {"jobs": [{"image": IMAGE}], "budget": 0},
        {"jobs": [{"image": IMAGE}], "budget": "lots"},
        {"jobs": [{"image": IMAGE}], "batch": "x" * 101},
        {"jobs": [{"image": IMAGE}], "model": "no/such"},
        {"jobs": [{"image": IMAGE}], "vars": {"a b": 1}},
        {"jobs": [{"image": IMAGE}], "defaults": {"duraton": 5}},
        {"jobs": [{"image": IMAGE}], "defaults": {"id": "x"}},
        {"jobs": [{"image": IMAGE}], "defaults": [1]},
    ],
)
def test_what_is_wrong(schema: dict[str, Any], said: Any) -> None:
    assert problems(schema, said) != []


def test_jobs_of_several_models_are_checked_by_their_own() -> None:
    runway, kling = {"image": IMAGE}, {"image": IMAGE, "prompt": "x", "cfg_scale": 0.5}

    assert problems(ALL, {"jobs": [runway, {**kling, "model": KLING}]}) == []
    assert (
        problems(ALL, {"model": KLING, "jobs": [kling, {**runway, "model": DEFAULT_MODEL}]}) == []
    )
    assert problems(ALL, {"jobs": [runway, {**kling, "model": KLING, "cfg_scale": 2}]}) != []
    assert problems(ALL, {"model": KLING, "jobs": [runway]}) != []
    assert problems(ALL, {"jobs": [kling]}) != []


def test_it_names_every_key_and_input_with_what_it_is() -> None:
    job = ONE["$defs"]["job-0"]["properties"]
    model = MODELS[DEFAULT_MODEL]

    assert {*ROW_WORDS, "meta", "matrix", "zip", "include", "exclude", "from"} <= set(job)
    assert {*model.schema["properties"], *model.aliases} <= set(job)
    described = ONE["$defs"]["inputs-0"]["properties"]
    assert all(one["description"] for one in described.values())
    assert "one of 5, 10" in described["duration"]["description"].lower()
    assert described["duration"]["default"] == 5


def test_a_reference_inside_a_model_s_schema_leads_nowhere_here() -> None:
    said = {"properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "string"}}}
    model = replace(MODELS[KLING], id="me/mine", schema=said, media={}, aliases={}, seed=None)

    schema = manifest_schema([model], fallback="me/mine")

    assert problems(schema, {"jobs": [{"x": {"a": 1}}]}) == []
    assert problems(schema, {"jobs": [{"y": 1}]}) != []
