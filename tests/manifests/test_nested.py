"""Inputs that are mappings and lists: filled by columns, by JSON in a cell, by YAML."""

import json
from pathlib import Path
from typing import Any

import pytest
from manifests.manifest_files import IMAGE, write

from batchgen import manifests
from batchgen.domain.errors import ManifestError
from batchgen.domain.jobs import Model
from batchgen.manifests.media import media_urls

SCHEMA: dict[str, Any] = {
    "type": "object",
    "$defs": {
        "Element": {
            "type": "object",
            "required": ["image"],
            "properties": {
                "image": {"type": "string", "format": "image_uri"},
                "weight": {"type": "float", "minimum": 0, "maximum": 1},
                "parts": {"type": "array", "items": {"$ref": "#/$defs/Element"}},
            },
            "additionalProperties": False,
        },
    },
    "properties": {
        "prompt": {"type": "string"},
        "camera": {
            "type": "object",
            "properties": {
                "zoom": {"type": "integer", "minimum": 0, "maximum": 10},
                "mode": {"type": "string", "enum": ["orbit", "static"]},
                "axis": {"type": "object", "properties": {"x": {"type": "number"}}},
            },
        },
        "elements": {"type": "array", "items": {"$ref": "#/$defs/Element"}, "maxItems": 3},
        "images": {"type": "array", "items": {"type": "string"}, "format": "image_uris"},
        "frame": {"anyOf": [{"$ref": "#/$defs/Element"}, {"type": "null"}]},
        "shot": {
            "oneOf": [
                {
                    "type": "object",
                    "required": ["clip"],
                    "properties": {"clip": {"type": "string", "format": "video_uri"}},
                },
                {
                    "type": "object",
                    "required": ["take"],
                    "properties": {"take": {"type": "integer"}},
                },
            ]
        },
        "pick": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"by": {"const": "place"}, "it": {"type": "integer"}},
                },
                {
                    "type": "object",
                    "properties": {"by": {"const": "name"}, "it": {"type": "string"}},
                },
            ]
        },
        "extra": {"type": "object"},
        "wrapped": {"allOf": [{"$ref": "#/$defs/Element"}]},
    },
}
MODEL = Model(id="n", title="", provider="p", schema=SCHEMA, aliases={"cam": "camera"})
OTHER_IMAGE = "https://images.example.com/b.jpg"


def inputs_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    checked = manifests.check(manifests.read(path), models={"n": MODEL}, model="n", **options)
    return [spec.inputs for spec in checked.specs()]


def table(folder: Path, cells: dict[str, str]) -> Path:
    rows = [list(cells), list(cells.values())]
    lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    return write(folder, "m.csv", "\n".join(lines))


def faults_of(path: Path, **options: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        inputs_of(path, **options)
    return [str(fault).replace(str(path), path.name) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        pytest.param({"camera.zoom": "5.0"}, {"camera": {"zoom": 5}}, id="key"),
        pytest.param({"input.camera.zoom": "5"}, {"camera": {"zoom": 5}}, id="forced"),
        pytest.param({"cam.zoom": "5"}, {"camera": {"zoom": 5}}, id="alias"),
        pytest.param({"camera.axis.x": "0.5"}, {"camera": {"axis": {"x": 0.5}}}, id="deep"),
        pytest.param(
            {"camera.zoom": "1", "prompt": "a", "camera.mode": "orbit"},
            {"camera": {"zoom": 1, "mode": "orbit"}, "prompt": "a"},
            id="two-keys",
        ),
        pytest.param(
            {"elements.1.image": OTHER_IMAGE, "elements.0.image": IMAGE, "elements.0.weight": "1"},
            {"elements": [{"image": IMAGE, "weight": 1}, {"image": OTHER_IMAGE}]},
            id="list-of-mappings",
        ),
        pytest.param(
            {"elements.0": json.dumps({"image": f" {IMAGE}", "weight": "0.5"})},
            {"elements": [{"image": IMAGE, "weight": 0.5}]},
            id="json-in-a-place",
        ),
        pytest.param({"images.0": IMAGE, "images.1": ""}, {"images": [IMAGE]}, id="list-of-texts"),
        pytest.param(
            {
                "elements": json.dumps(
                    [{"image": IMAGE, "parts": [{"image": IMAGE, "weight": "1"}]}]
                )
            },
            {"elements": [{"image": IMAGE, "parts": [{"image": IMAGE, "weight": 1}]}]},
            id="json-that-holds-its-own-kind",
        ),
        pytest.param({"frame.weight": "1", "frame.image": IMAGE}, None, id="nullable"),
        pytest.param({"wrapped.image": IMAGE, "wrapped.weight": ".5"}, None, id="wrapped"),
        pytest.param({"shot": '{"take": "3"}'}, {"shot": {"take": 3}}, id="alternatives"),
        pytest.param({"shot.take": "3"}, {"shot": {"take": 3}}, id="alternatives-by-column"),
        pytest.param(
            {"pick": '{"by": "name", "it": 5}'}, {"pick": {"by": "name", "it": "5"}}, id="by-name"
        ),
        pytest.param(
            {"pick": '{"by": "place", "it": "5"}'},
            {"pick": {"by": "place", "it": 5}},
            id="by-place",
        ),
        pytest.param({"extra.level": "3"}, {"extra": {"level": 3}}, id="open"),
        pytest.param({"extra.level": "high"}, {"extra": {"level": "high"}}, id="open-text"),
        pytest.param({"extra": '{"a": {"b": "1"}}'}, {"extra": {"a": {"b": "1"}}}, id="open-json"),
        pytest.param({"camera.zoom": "", "prompt": "a"}, {"prompt": "a"}, id="absent"),
        pytest.param({"prompt.note": "x", "prompt": "a"}, {"prompt": "a"}, id="no-parts-carried"),
    ],
)
def test_columns_fill_mappings_and_lists(
    tmp_path: Path, cells: dict[str, str], expected: dict[str, Any] | None
) -> None:
    path = table(tmp_path, {**cells, "note": "n"})

    (found,) = inputs_of(path)

    if expected is None:
        name = next(iter(cells)).split(".")[0]
        expected = {name: {"image": IMAGE, "weight": 1 if name == "frame" else 0.5}}
    assert found == expected
    assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True)


ADVICE = "(--allow-unknown-inputs sends it as it is)"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        pytest.param(
            {"camera.zom": "5"},
            f"1: camera.zom: `camera` has no key zom: did you mean `zoom`? {ADVICE}. Write "
            "`meta.camera.zom` if it is meant to be carried along",
            id="misspelled-column",
        ),
        pytest.param(
            {"input.prompt.x": "5"},
            f"1: input.prompt.x: n has no such input: did you mean `prompt`? {ADVICE}",
            id="no-parts",
        ),
        pytest.param(
            {"camera.zoom.x": "5"},
            "1: camera.zoom.x: `camera.zoom` is a whole number and has no parts: name that. Write "
            "`meta.camera.zoom.x` if it is meant to be carried along",
            id="too-deep",
        ),
        pytest.param(
            {"elements.first.image": IMAGE},
            "1: elements.first.image: `elements` is a list: write a place from 0, as `elements.0`. "
            "Write `meta.elements.first.image` if it is meant to be carried along",
            id="no-place",
        ),
        pytest.param(
            {"camera.zoom": "11"}, "2: camera.zoom: 11 is too large: at most 10", id="maximum"
        ),
        pytest.param(
            {"camera.zoom": "far"}, "2: camera.zoom: far is not a whole number", id="type"
        ),
        pytest.param(
            {"camera.mode": "Orbit"},
            "2: camera.mode: Orbit is not one of orbit, static: did you mean `orbit`?",
            id="enum",
        ),
        pytest.param(
            {"camera": '{"zoom": 1}', "camera.mode": "orbit"},
            "2: camera.mode: sets camera, which `camera` sets too: keep one",
            id="twice",
        ),
        pytest.param(
            {"camera.zoom": "1", "cam.zoom": "2"},
            "2: cam.zoom: sets camera.zoom, which `camera.zoom` sets too: keep one",
            id="twice-by-alias",
        ),
        pytest.param(
            {"elements.0.image": "", "elements.1.image": IMAGE},
            "2: elements.1.image: `elements.0` is empty: fill the places of a list from 0 on",
            id="gap",
        ),
        pytest.param(
            {"elements.0.image": "http://images.example.com/a.jpg"},
            "2: elements.0.image: http://images.example.com/a.jpg must begin with https://",
            id="url",
        ),
        pytest.param(
            {"elements.0.weight": "1"},
            "2: elements.0.weight: lacks image: fill it in",
            id="required-inside",
        ),
        pytest.param(
            {"elements": json.dumps([{"image": IMAGE, "parts": [{"image": "a.jpg"}]}])},
            "2: elements: [0].parts[0].image: a.jpg is not a URL: put the file on the web and give "
            "its https URL",
            id="url-in-json",
        ),
        pytest.param(
            {"images": json.dumps([IMAGE, "a.jpg"])},
            "2: images: [1]: a.jpg is not a URL: put the file on the web and give its https URL",
            id="url-in-list",
        ),
        pytest.param(
            {"images": json.dumps([IMAGE, None])},
            "2: images: [1]: null is not text",
            id="null-in-list",
        ),
        pytest.param(
            {"elements": json.dumps([{"image": IMAGE, "wieght": 1}])},
            f"2: elements: [0]: unknown key wieght: did you mean `weight`? {ADVICE}",
            id="unknown-key-in-json",
        ),
        pytest.param(
            {"elements": json.dumps([{"image": IMAGE, "weight": 7}])},
            "2: elements: [0].weight: 7 is too large: at most 1",
            id="maximum-in-json",
        ),
        pytest.param(
            {"images": '["a'},
            '2: images: ["a is not valid JSON: Unterminated string starting at character 2',
            id="broken-json",
        ),
        pytest.param(
            {"images": '["\\ud800"]'},
            "2: images: [\"\\ud800\"] is not valid JSON: 'utf-8' codec can't encode character "
            "'\\ud800' in position 2: surrogates not allowed",
            id="half-a-character",
        ),
        pytest.param(
            {"camera": '{"axis": {"y": 1}}'},
            f"2: camera: axis: unknown key y: its keys are x {ADVICE}",
            id="unknown-key-deep",
        ),
    ],
)
def test_a_fault_inside_names_its_place(
    tmp_path: Path, cells: dict[str, str], expected: str
) -> None:
    assert faults_of(table(tmp_path, cells)) == [f"m.csv:{expected}"]


def test_yaml_gives_mappings_and_lists_as_such(tmp_path: Path) -> None:
    text = f"""
defaults: {{camera: {{zoom: 3}}, camera.mode: orbit}}
vars: {{level: 0.5, name: a}}
jobs:
  - camera: {{zoom: "5", axis: {{x: 1}}}}
    elements:
      - {{image: "https://images.example.com/{{{{ name }}}}.jpg", weight: "{{{{ level }}}}"}}
  - elements.0.image: {IMAGE}
    camera.zoom: 7
"""

    assert inputs_of(write(tmp_path, "m.yaml", text)) == [
        {"camera": {"zoom": 5, "axis": {"x": 1}}, "elements": [{"image": IMAGE, "weight": 0.5}]},
        {"elements": [{"image": IMAGE}], "camera": {"zoom": 7, "mode": "orbit"}},
    ]


def test_a_fault_inside_of_yaml_names_its_line(tmp_path: Path) -> None:
    text = f"jobs:\n  - prompt: a\n    elements:\n      - {{image: {IMAGE}, weight: 3}}\n"

    assert faults_of(write(tmp_path, "m.yaml", text)) == [
        "m.yaml:3: elements: [0].weight: 3 is too large: at most 1"
    ]


def test_an_export_gives_nested_inputs_back_the_same(tmp_path: Path) -> None:
    path = table(tmp_path, {"id": "a", "camera.zoom": "5", "elements.0.image": IMAGE})
    (spec,) = manifests.check(manifests.read(path), models={"n": MODEL}, model="n").specs()

    again = table(tmp_path, {**spec.cells, "result_key": "j1"})
    (other,) = manifests.check(manifests.read(again), models={"n": MODEL}, model="n").specs()

    assert spec.input_columns == {"camera.zoom", "elements.0.image"}
    assert (other.inputs_json, other.input_hash) == (spec.inputs_json, spec.input_hash)


def test_keys_that_the_schema_does_not_know_may_be_sent(tmp_path: Path) -> None:
    path = table(tmp_path, {"camera.zom": "5", "elements": json.dumps([{"image": IMAGE, "x": 1}])})

    assert inputs_of(path, allow_unknown_inputs=True) == [
        {"camera": {"zom": 5}, "elements": [{"image": IMAGE, "x": 1}]}
    ]


def test_every_media_url_is_found_wherever_it_is() -> None:
    model = Model(
        id="m", title="", provider="p", schema=SCHEMA, media={"still": "image", "sounds": "audio"}
    )
    inputs = {
        "prompt": IMAGE,
        "still": "https://x.example.com/1",
        "sounds": ["https://x.example.com/2", 3, {"note": "x"}],
        "images": ["https://x.example.com/3"],
        "elements": [{"image": "https://x.example.com/4", "parts": [{"image": "5"}], "x": IMAGE}],
        "frame": {"image": "6", "weight": 1},
        "wrapped": {"image": "7"},
        "shot": {"clip": "8"},
        "extra": {"image": IMAGE},
        "unknown": IMAGE,
    }

    assert list(media_urls(model, inputs)) == [
        ("still", "https://x.example.com/1", "image"),
        ("sounds.0", "https://x.example.com/2", "audio"),
        ("images.0", "https://x.example.com/3", "image"),
        ("elements.0.image", "https://x.example.com/4", "image"),
        ("elements.0.parts.0.image", "5", "image"),
        ("frame.image", "6", "image"),
        ("wrapped.image", "7", "image"),
        ("shot.clip", "8", "video"),
    ]
