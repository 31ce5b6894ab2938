import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.identity import (
    canonical,
    input_hash,
    job_key,
    job_keys,
    settings_of,
    unsigned_url,
)

SCHEMA = {"properties": {"duration": {"default": 5}, "sound": {"default": True}}}
BASE = {"promptText": "a fox", "promptImage": "https://images.example.com/a.jpg"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(TEXT, st.integers(), st.booleans(), st.lists(TEXT, max_size=3))


@pytest.mark.parametrize(
    ("model", "inputs", "golden"),
    [
        pytest.param(
            "m",
            {},
            "0d89239864716dad6d636af62d7ba79024fb87022c540a72b9e0741111441ff1",
            id="nothing",
        ),
        pytest.param(
            "m",
            BASE,
            "85a4625cb2f366d130d99be112d62157fde7573ce224f451e04552b1f743393e",
            id="plain",
        ),
        pytest.param(
            "m",
            {**BASE, "duration": 10, "seed": 7},
            "250b92697d6a2d61fb306ecf8b0a9f27901b95280dcc229b259d39bb07ab2314",
            id="numbers",
        ),
        pytest.param(
            "m",
            {"promptText": "Ĉu ŝi — 🦊\r\nwaits"},
            "167edce52959d335d1b9e79e5c5627fc19332fdd888c9975ecead66dcdbda174",
            id="unicode-line-end",
        ),
        pytest.param(
            "m",
            {"images": ["https://a.example/x?X-Amz-Signature=1&w=2"]},
            "1d31a28262e1a936ea8d25565f071fd830468fe28e45350a1dd36900253d7a3e",
            id="list",
        ),
        pytest.param(
            "n/m",
            {"cfg": 0.5, "sound": False},
            "c52b5b11f69ba8dfac3d3e7392f41b5520d928f94b7b88267337de76715c8e89",
            id="float-and-false",
        ),
    ],
)
def test_the_hash_of_known_inputs_never_changes(
    model: str, inputs: dict[str, Any], golden: str
) -> None:
    assert input_hash(model, inputs, SCHEMA) == golden


@pytest.mark.parametrize(
    ("batch", "row_id", "kind", "variant", "salt", "golden"),
    [
        pytest.param("harbor-night", "harbor", "", "", 0, "jb4ec6c332e182c18d407", id="plain"),
        pytest.param("harbor-night", "harbor", "seed", "1", 0, "j6fe0c6849388fb91a174", id="seed"),
        pytest.param("harbor-night", "harbor", "take", "1", 0, "j58d280b8a996d9c2b8ad", id="take"),
        pytest.param("harbor-night", "harbor", "", "", 1, "j62ebd2e173132f3d1f3b", id="salt"),
        pytest.param("nuit", "forêt", "", "", 0, "j993555d62e2acf02b159", id="unicode"),
    ],
)
def test_the_key_of_a_known_job_never_changes(
    batch: str, row_id: str, kind: str, variant: str, salt: int, golden: str
) -> None:
    assert job_key(batch, row_id, kind, variant, salt=salt) == golden


@given(st.dictionaries(TEXT, VALUES, max_size=5), st.randoms())
def test_the_order_of_inputs_does_not_matter(inputs: dict[str, Any], random: Any) -> None:
    names = list(inputs)
    random.shuffle(names)

    assert input_hash("m", {name: inputs[name] for name in names}, {}) == input_hash(
        "m", inputs, {}
    )


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_a_named_default_is_as_good_as_none(inputs: dict[str, Any]) -> None:
    bare = {name: value for name, value in inputs.items() if name not in SCHEMA["properties"]}

    assert input_hash("m", {**bare, "duration": 5, "sound": True}, SCHEMA) == input_hash(
        "m", bare, SCHEMA
    )


@given(TEXT)
def test_line_ends_do_not_matter(text: str) -> None:
    lf = text.replace("\r\n", "\n").replace("\r", "\n")

    assert input_hash("m", {"p": lf.replace("\n", "\r\n")}, {}) == input_hash("m", {"p": lf}, {})


@given(VALUES, VALUES)
def test_different_values_have_different_hashes(one: Any, other: Any) -> None:
    same = json.dumps(canonical(one)) == json.dumps(canonical(other))

    assert (input_hash("m", {"p": one}, {}) == input_hash("m", {"p": other}, {})) == same


@pytest.mark.parametrize(
    ("value", "default", "is_same"),
    [
        pytest.param(5.0, 5, True, id="whole-float"),
        pytest.param(True, 1, False, id="true-is-not-1"),
        pytest.param(0, False, False, id="0-is-not-false"),
        pytest.param("5", 5, False, id="text-is-not-a-number"),
    ],
)
def test_a_value_is_the_default_only_if_it_is_the_same(
    value: Any, default: Any, is_same: bool
) -> None:
    schema = {"properties": {"p": {"default": default}}}

    assert (input_hash("m", {"p": value}, schema) == input_hash("m", {}, schema)) == is_same


@pytest.mark.parametrize(
    ("signed", "bare"),
    [
        pytest.param(
            "https://b.s3.amazonaws.com/a.jpg?X-Amz-Date=1&X-Amz-Signature=ab&versionId=3",
            "https://b.s3.amazonaws.com/a.jpg?versionId=3",
            id="s3",
        ),
        pytest.param(
            "https://storage.googleapis.com/b/a.jpg?X-Goog-Date=1&X-Goog-Signature=ab",
            "https://storage.googleapis.com/b/a.jpg",
            id="google",
        ),
        pytest.param(
            "https://a.blob.core.windows.net/c/a.jpg?sv=2024&se=2026&sr=b&sp=r&sig=ab%3D",
            "https://a.blob.core.windows.net/c/a.jpg",
            id="azure",
        ),
        pytest.param(
            "https://d1.cloudfront.net/a.jpg?Expires=1&Signature=ab&Key-Pair-Id=K&w=2",
            "https://d1.cloudfront.net/a.jpg?w=2",
            id="cloudfront",
        ),
        pytest.param(
            "https://images.example.com/a.jpg?se=2&sp=b&expires=1",
            "https://images.example.com/a.jpg?se=2&sp=b&expires=1",
            id="not-signed",
        ),
        pytest.param("see https://a.example?sig=1", "see https://a.example?sig=1", id="prose"),
    ],
)
def test_signatures_are_left_out_of_urls(signed: str, bare: str) -> None:
    assert unsigned_url(signed) == bare


@given(TEXT, TEXT, st.integers(0, 3))
def test_a_key_is_short_safe_and_starts_with_a_letter(batch: str, row: str, salt: int) -> None:
    key = job_key(batch, row, "", "", salt=salt)

    assert key[0] == "j"
    assert len(key) == 21
    assert key.isalnum()


CHOICES = {
    "properties": {
        "duration": {"type": "integer", "default": 5},
        "ratio": {"type": "string", "enum": ["16:9", "9:16"], "default": "16:9"},
        "promptText": {"type": "string"},
        "sound": {"type": "boolean", "default": True},
        "seed": {"type": "integer"},
    }
}


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        pytest.param(BASE, "{}", id="texts-and-media-do-not-count"),
        pytest.param({**BASE, "seed": 7}, "{}", id="nor-does-the-seed"),
        pytest.param({"duration": 5, "ratio": "16:9", "sound": True}, "{}", id="nor-defaults"),
        pytest.param(
            {"ratio": "9:16", "duration": 10.0, "sound": False},
            '{"duration":10,"ratio":"9:16","sound":false}',
            id="choices-numbers-and-flags-do-in-one-order",
        ),
    ],
)
def test_settings_are_what_decides_price_and_time(inputs: dict[str, Any], expected: str) -> None:
    assert settings_of(inputs, CHOICES, seed="seed") == expected


_NAMES = st.text(max_size=12) | st.text(alphabet='abc0_-. "\\\n', max_size=12)


@given(batch=_NAMES, row_id=_NAMES, variant=_NAMES, salt=st.integers(0, 2))
def test_many_keys_are_made_as_one_is(batch: str, row_id: str, variant: str, salt: int) -> None:
    key_of = job_keys(batch)

    assert key_of(row_id, "seed", variant, salt=salt) == job_key(
        batch, row_id, "seed", variant, salt=salt
    )
