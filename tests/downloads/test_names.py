import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.errors import UsageError
from batchgen.downloads.names import (
    COMPONENT_BYTES,
    DEFAULT_TEMPLATE,
    folded,
    numbered,
    parse_template,
    render_name,
    renderer,
    safe_component,
    safe_path,
    versioned,
    with_extension,
)

ANY_TEXT = st.text(st.characters(), max_size=300)  # lone surrogates too
NASTY = st.text(st.sampled_from('./\\ -:*?"<>|\n\0conCOM1aé\u0301漢\u202e{}'), max_size=200)
TEXTS = ANY_TEXT | NASTY
DEVICES = ["con", "COM1", "aux.x", "nul.", "lpt9.mp4", "com", "console", "prn-1", "a", "_", "-"]
TEMPLATES = st.sampled_from(
    [DEFAULT_TEMPLATE, "{id}", "{batch}/../{id}.{ext}", "/{id}{variant}.{ext}", "a//{variant}/{id}"]
)


@pytest.mark.parametrize(
    ("template", "batch", "row", "variant", "expected"),
    [
        pytest.param(DEFAULT_TEMPLATE, "night", "harbor", "", "night/harbor.mp4", id="plain"),
        pytest.param(DEFAULT_TEMPLATE, "night", "harbor", "7", "night/harbor-7.mp4", id="variant"),
        pytest.param("{id}_{variant}.{ext}", "b", "a", "", "a.mp4", id="other-separator"),
        pytest.param("{variant}-{id}.{ext}", "b", "a", "", "a.mp4", id="variant-first"),
        pytest.param("{id}.{variant}.{ext}", "b", "a", "3", "a.3.mp4", id="dot-separator"),
        pytest.param("{id}", "b", "a", "", "a", id="no-extension"),
        pytest.param("x {{1}}/{id}.{ext}", "b", "a", "", "x {1}/a.mp4", id="plain-braces"),
        pytest.param(DEFAULT_TEMPLATE, "a/b", "c/../d", "", "a-b/c-..-d.mp4", id="slash-in-value"),
        pytest.param(DEFAULT_TEMPLATE, "..", "..", "", "_/_.mp4", id="dots"),
        pytest.param("../../{id}.{ext}", "b", "a", "", "a.mp4", id="climbing-template"),
        pytest.param("/etc/{id}.{ext}", "b", "a", "", "etc/a.mp4", id="absolute-template"),
        pytest.param(DEFAULT_TEMPLATE, "b", "-rf", "", "b/rf.mp4", id="leading-dash"),
        pytest.param(DEFAULT_TEMPLATE, "b", ".hidden ", "", "b/hidden.mp4", id="hidden"),
        pytest.param(DEFAULT_TEMPLATE, "b", "a\nb\x00c", "", "b/a-b-c.mp4", id="control"),
        pytest.param(DEFAULT_TEMPLATE, "b", 'a:*?"<>|\\z', "", "b/a--------z.mp4", id="hostile"),
        pytest.param(DEFAULT_TEMPLATE, "b", "NUL", "", "b/NUL_.mp4", id="windows-device"),
        pytest.param("{id}.{ext}", "b", "com1.x", "", "com1_.x.mp4", id="device-with-dots"),
        pytest.param(DEFAULT_TEMPLATE, "b", "console", "", "b/console.mp4", id="no-device"),
        pytest.param(DEFAULT_TEMPLATE, "b", "cafe\u0301", "", "b/caf\u00e9.mp4", id="nfc"),
        pytest.param(DEFAULT_TEMPLATE, "b", "港の夜明け", "", "b/港の夜明け.mp4", id="any-script"),
        pytest.param(DEFAULT_TEMPLATE, "b", "a\u202e4pm", "", "b/a-4pm.mp4", id="turned-text"),
    ],
)
def test_render_name(template: str, batch: str, row: str, variant: str, expected: str) -> None:
    assert render_name(template, batch=batch, id=row, variant=variant) == expected


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{id", "expected '}'"),
        ("id}", "encountered"),
        ("", "names no file"),
        ("../", "names no file"),
    ],
)
def test_a_template_that_cannot_be_rendered_is_refused(template: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_template(template)


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("{client}/{shot}-{seed}.{ext}", {"client": "acme", "shot": "12a"}, "acme/12a-7.mp4"),
        ("{client}/{shot}-{seed}.{ext}", {}, "7.mp4"),
        ("{client}/{shot}.{ext}", {"client": "acme"}, "acme/harbor.mp4"),
        ("{client}/{shot}.{ext}", {"client": " "}, "harbor.mp4"),
        ("{client}-{shot}-{look}.{ext}", {"look": "dusk"}, "dusk.mp4"),
        ("{client}-{shot}-{look}.{ext}", {"shot": "x"}, "x.mp4"),
        ("{client}_{shot}", {"client": "../.."}, "harbor"),
        ("{client}/{id}.{ext}", {"client": "../../etc/pass"}, "etc-pass/harbor.mp4"),
        ("{client}/{id}.{ext}", {"client": "NUL"}, "NUL_/harbor.mp4"),
        ("{client}-{seed}.{ext}", {"client": "é" * 90}, "é" * 30 + "-7.mp4"),
        ("{a: b!c}.{ext}", {"a: b!c": "named"}, "named.mp4"),
    ],
)
def test_a_name_is_made_of_any_column(template: str, values: dict[str, str], expected: str) -> None:
    known = dict.fromkeys(("client", "shot", "look"), "") | {"seed": "7", "id": "harbor"}

    assert parse_template(template).render({**known, "ext": "mp4", **values}) == expected


def test_a_long_name_is_cut_between_characters_and_keeps_its_extension() -> None:
    name = render_name("{id}.{ext}", batch="b", id="é" * 200)

    assert name == "é" * 58 + ".mp4"
    assert len(name.encode()) == COMPONENT_BYTES


def test_numbers_and_versions_fit_into_a_name_that_is_full() -> None:
    full = "b/" + "x" * 116 + ".mp4"

    assert numbered("b/a.mp4", 2) == "b/a-2.mp4"
    assert numbered("b/a.mp4", 1) == "b/a.mp4"
    assert versioned("b/a.mp4", 2) == "b/a-v2.mp4"
    assert versioned("b/a.mp4", 1) == "b/a.mp4"
    assert numbered(versioned("a.mp4", 3), 2) == "a-v3-2.mp4"
    assert numbered("b.x/plain name", 2) == "b.x/plain name-2"
    assert numbered(full, 12) == "b/" + "x" * 113 + "-12.mp4"
    assert versioned(full, 2) == "b/" + "x" * 113 + "-v2.mp4"


def test_an_extension_is_replaced_only_in_the_last_part() -> None:
    assert with_extension("b.mp4/a.mp4", "webm") == "b.mp4/a.webm"
    assert with_extension("b.mp4/a", "webm") == "b.mp4/a.webm"


@pytest.mark.parametrize(
    ("one", "other"),
    [("A.mp4", "a.MP4"), ("caf\u00e9", "CAFE\u0301"), ("straße", "STRASSE"), ("ΣΑΣ", "σας")],
)
def test_names_that_some_system_takes_for_one_fold_to_one(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@given(template=TEMPLATES, batch=TEXTS, row=TEXTS, variant=TEXTS)
def test_every_name_lies_inside_its_folder_and_within_the_limits(
    template: str, batch: str, row: str, variant: str
) -> None:
    name = render_name(template, batch=batch, id=row, variant=variant)

    parts = name.split("/")
    assert name == str(PurePosixPath(name))
    assert not PurePosixPath(name).is_absolute()
    for part in parts:
        assert part not in {"", ".", ".."}
        assert len(part.encode()) <= COMPONENT_BYTES
        assert not part.startswith((".", "-", " "))
        assert not part.endswith((".", " "))
        assert not set(part) & set('\\:*?"<>|')
        assert all(unicodedata.category(char) not in {"Cc", "Cs"} for char in part)
        assert unicodedata.is_normalized("NFC", part)
        assert part.split(".")[0].strip().upper() not in {"CON", "NUL", "COM1", "LPT9"}
    assert safe_path(name) == name


@given(text=TEXTS)
def test_a_safe_name_is_safe_again(text: str) -> None:
    assert safe_component(safe_component(text)) == safe_component(text)


@given(text=st.from_regex(r"[A-Za-z0-9._-]{1,125}", fullmatch=True) | st.sampled_from(DEVICES))
def test_what_is_safe_already_is_found_without_taking_it_apart(text: str) -> None:
    assert safe_component(text) == safe_component(f" {text}")  # with a space it is taken apart


@given(text=TEXTS, number=st.integers(1, 10**6))
def test_a_numbered_name_is_as_safe_as_the_name(text: str, number: int) -> None:
    name = numbered(versioned(safe_component(text), number), number)

    assert safe_component(name) == name


@given(text=ANY_TEXT)
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


_PARTS = st.sampled_from(
    ["{batch}", "{id}", "{variant}", "-", "_", ".", "/", "COM", " ", "v", "\u0301", "é", "{id}"]
)
_TEMPLATES = st.just(DEFAULT_TEMPLATE) | st.lists(_PARTS, min_size=1, max_size=6).map(
    lambda parts: "".join([*parts, "{id}.{ext}"])
)
_IDS = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_-]{0,60}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    st.sampled_from(
        ["con-", "com1", "aux-1", "nul", "a-1", "x_jpg", "lpt-9", "-a", "a--", "com-1"]
    ),
    st.text(min_size=1, max_size=8),
)


@given(
    template=_TEMPLATES,
    batch=_IDS,
    row_id=_IDS,
    variant=st.sampled_from(["", "1", "77"]),
)
def test_many_names_are_made_as_one_is(
    template: str, batch: str, row_id: str, variant: str
) -> None:
    render = renderer(parse_template(template), batch=batch)

    assert render(row_id, variant) == render_name(template, batch=batch, id=row_id, variant=variant)
