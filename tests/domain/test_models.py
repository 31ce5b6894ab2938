"""What a schema tells by itself, and what is believed of a service's catalog."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.models import (
    aliases_of,
    friendly_name,
    id_problem,
    media_of,
    read_entry,
    schema_problem,
    seed_of,
)

TEXT = {"type": "string"}
IMAGE = {"type": "string", "format": "image_uri"}
IMAGES = {"type": "array", "items": {"type": "string"}, "format": "image_uris"}


def schema(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (IMAGE, "image"),
        (IMAGES, "image"),
        ({"type": "array", "items": {"type": "string", "format": "video_uri"}}, "video"),
        ({"type": "string", "format": "video_uris"}, "video"),
        ({"type": "string", "format": "audio_uri"}, "audio"),
        ({"type": "string", "format": "uri"}, None),
        ({"type": "string", "format": "image_uri_"}, None),
        ({"type": "string", "format": 7}, None),
        ({"type": "array", "items": True}, None),
    ],
)
def test_the_format_says_which_inputs_are_media(said: dict[str, Any], kind: str | None) -> None:
    assert media_of(schema(x=said)).get("x") == kind


@pytest.mark.parametrize(
    ("properties", "required", "aliases"),
    [
        ({"promptText": TEXT, "promptImage": IMAGE}, ["promptImage"], "PII"),
        ({"prompt": TEXT, "image": IMAGE}, ["image"], "--i"),
        ({"prompt": TEXT, "image_url": IMAGE}, ["image_url"], "-i-"),
        ({"text": TEXT, "a": IMAGE, "b": IMAGE}, ["b"], "tbb"),
        ({"text": TEXT, "promptText": TEXT, "a": IMAGE, "b": IMAGE}, [], "---"),
        ({"text": {"type": "integer"}, "a": IMAGE}, [], "-aa"),
        ({"text_prompt": TEXT, "img": IMAGES}, ["img"], "tii"),
        ({"video": {"type": "string", "format": "video_uri"}}, ["video"], "---"),
    ],
)
def test_which_inputs_the_friendly_names_stand_for(
    properties: dict[str, Any], required: list[str], aliases: str
) -> None:
    said = schema(*required, **properties)

    found = aliases_of(said, media_of(said))

    letters = {name: target[0] for name, target in found.items()}
    if "promptImage" in properties:
        letters = {name: target.removeprefix("prompt")[0] for name, target in found.items()}
        aliases = "TII"
    wanted = {n: a for n, a in zip(("prompt", "image", "image_url"), aliases, strict=True)}
    assert letters == {name: letter for name, letter in wanted.items() if letter != "-"}


def test_a_seed_is_a_whole_number_called_seed() -> None:
    assert seed_of(schema(seed={"type": "integer"})) == "seed"
    assert seed_of(schema(seed={"type": ["integer", "null"]})) == "seed"
    assert seed_of(schema(seed={"anyOf": [{"type": "int"}, {"type": "null"}]})) == "seed"
    assert seed_of(schema(seed={"type": "string"})) is None
    assert seed_of(schema(noise_seed={"type": "integer"})) is None


def test_the_model_s_own_word_is_shown_if_it_is_as_good() -> None:
    assert friendly_name("image", {"image_url": "image"}) == "image"
    assert friendly_name("promptText", {"prompt": "promptText"}) == "prompt"
    assert friendly_name("ratio", {"prompt": "promptText"}) == "ratio"


@pytest.mark.parametrize(
    "name",
    ["", " ", "a/../b", "/a", "a/", "a//b", "a b", "a\x1b[2Jb", "ä", "a" * 201, 7, None, ".."],
)
def test_what_cannot_be_a_model_s_id(name: Any) -> None:
    assert id_problem(name) is not None


@pytest.mark.parametrize("name", ["a", "kling/kling-video-o3/4K/image-to-video", "a_b/c.d@1"])
def test_what_can_be_one(name: str) -> None:
    assert id_problem(name) is None


def deep(levels: int) -> Any:
    value: Any = {"type": "string"}
    for _ in range(levels):
        value = {"type": "array", "items": value}
    return value


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({}, "no properties"),
        ({"properties": []}, "no properties"),
        (schema(x=True), "says nothing of its input x"),
        (schema(**{" x": TEXT}), "spaces around"),
        (schema(**{"a\x1bb": TEXT}), "no column can be called"),
        (schema(**{"x" * 101: TEXT}), "no column can be called"),
        (schema(x=deep(50)), "nested more than"),
        (schema(x=deep(5000)), "nested"),
        (schema(x={"description": "x" * 600_000}), "more than"),
        (schema(x={"minimum": float("inf")}), "holds what JSON cannot"),
        (schema(x={"$ref": "https://schemas.example.com/a.json"}), "only parts of itself"),
        (schema(x={"$dynamicRef": "file:///etc/passwd"}), "only parts of itself"),
    ],
)
def test_a_schema_that_nothing_could_be_checked_with(said: Any, problem: str) -> None:
    assert problem in (schema_problem(said) or "")


def test_a_reference_to_a_part_of_itself_is_fine() -> None:
    assert schema_problem(schema(x={"$ref": "#/$defs/x"})) is None


ENTRY = {
    "model_id": "a/b",
    "display_name": " A\x1b[2J b ",
    "base_price_usd": 0.05,
    "price_unit": "second",
    "pricing_note": "more\nat 4K",
    "required_inputs": ["p", "gone", 7],
    "input_schema": {"$schema": "x", "$id": "y", "properties": {"p": TEXT, "q": TEXT}},
}


def test_an_entry_of_the_catalog() -> None:
    found = read_entry(ENTRY)

    assert (found.id, found.title, found.note) == ("a/b", "A [2J b", "more at 4K")
    assert (found.price_micros, found.price_unit) == (50_000, "second")
    assert found.schema == {"properties": {"p": TEXT, "q": TEXT}, "required": ["p"]}


@pytest.mark.parametrize(
    ("usd", "unit", "micros"),
    [
        ("0.07", "output", 70_000),
        (None, "second", None),
        (0, "second", None),
        (-1, "second", None),
        (True, "second", None),
        ("free", "second", None),
        ("NaN", "second", None),
        (1e300, "second", None),
        (0.07, "frame", None),
        (0.07, None, None),
        (0.07, ["second"], None),
    ],
)
def test_a_price_that_is_none_is_not_believed(usd: Any, unit: Any, micros: int | None) -> None:
    found = read_entry({**ENTRY, "base_price_usd": usd, "price_unit": unit})

    assert found.price_micros == micros


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        "a/b",
        {},
        {**ENTRY, "model_id": "../../etc"},
        {**ENTRY, "model_id": 7},
        {**ENTRY, "input_schema": None},
        {**ENTRY, "input_schema": []},
        {**ENTRY, "input_schema": {"properties": {"x": deep(60)}}},
    ],
)
def test_an_entry_that_cannot_be_used(said: Any) -> None:
    with pytest.raises(ValueError, match=r"model_id|input_schema|JSON object"):
        read_entry(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "required", "items", "anyOf", "enum", "x", "$ref"]
            ),
            part,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON, JSON)
def test_whatever_a_service_says_is_read_or_refused(one: Any, two: Any, three: Any) -> None:
    said = {**ENTRY, "input_schema": {"properties": {"x": one, "seed": two}, "required": three}}
    try:
        found = read_entry(said)
    except ValueError:
        return

    media = media_of(found.schema)
    assert set(aliases_of(found.schema, media).values()) <= set(found.schema["properties"])
    assert seed_of(found.schema) in (None, "seed")
