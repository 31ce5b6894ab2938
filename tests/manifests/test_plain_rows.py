"""The fast way through a table finds what the rule for one row finds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests.manifest_files import IMAGE, MODELS

from batchgen import manifests
from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.jobs import JobSpec, Model
from batchgen.manifests import Row, Source, plain_rows
from batchgen.manifests.binding import Binding
from batchgen.manifests.values import Form

RUNWAY = "runwayml/runway-gen-4/turbo/image-to-video"
OTHER = "test/other"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["image", "seconds"],
    "properties": {
        "image": {"type": "string", "format": "image_uri"},
        "images": {"type": "array", "items": {"type": "string"}, "format": "image_uris"},
        "prompt": {"type": "string", "maxLength": 8},
        "hint": {"type": "string", "minLength": 2, "default": "none"},
        "seconds": {"type": "integer", "minimum": 2, "maximum": 30},
        "duration": {"type": "string", "enum": ["auto", "5", "10"], "default": "5"},
        "scale": {"type": "float", "minimum": 0, "maximum": 1, "default": 0.5},
        "sound": {"type": "boolean", "default": True},
        "size": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "camera": {"type": "object", "properties": {"zoom": {"type": "integer"}}},
        "seed": {"type": "int", "minimum": -1, "maximum": 99},
    },
}
KNOWN = {
    **MODELS,
    OTHER: Model(
        id=OTHER,
        title="",
        provider="p",
        schema=SCHEMA,
        media={"images": "image"},
        seed="seed",
        price_micros=1_000,
        price_unit="second",
    ),
}

TEXTS = (
    *("", " ", "\t", IMAGE, f" {IMAGE}", f"{IMAGE}?X-Amz-Signature=1&w=2", "a.jpg"),
    *(
        "https://images.example.com",
        "https://images.example.com\\",
        "https://b\u00fccher.example/\u00e9",
    ),
    "https://images.example.com]",
    *("https://localhost/a.jpg", "http://images.example.com/a", "https://images.example.com/a b"),
    *("https://images.example.com/" + "a" * length for length in (2021, 2022)),
    *("5", "10", "5.0", " 7", "07", "-1", "1e1", "0.5", "31", "2", "30", "1" * 10, "1" * 30, "x"),
    *("auto", "1280:720", "1280x720", "yes", "FALSE", "true", "none", "\u00e9", "a fox", "why?"),
    *("two\r\nlines", "two\nlines", "\U0001f98a" * 5, "x" * 8, "x" * 9, "\ud800", '"', "\x01"),
    *("x" * 500, "x" * 1000, "x" * 1001, "\u00e9" * 1000, *("\U0001f98a" * n for n in (500, 501))),
    *('{"zoom": "3"}', '{"zom": 3}', f'["{IMAGE}", "x"]', f'["{IMAGE}?sig=1"]', "[", "[1, 2]"),
)
TYPED: tuple[Any, ...] = (None, True, False, 5, 5.0, 0.5, -3, [], [IMAGE], {"zoom": 2.0}, {"a": 1})
IDS = (None, "a", "\u00f6 1", "a/b", "-v", " c", "..", "x" * 160, "x" * 201, "\u202a", 5, 5.5, [1])


ANY_TEXT = st.text(st.characters(exclude_characters="\0"), max_size=12)


def columns_of(draw: Any) -> tuple[str, ...]:
    names = [*SCHEMA["properties"], "promptText", "ratio", "shot", "input.seed", "meta.prompt"]
    chosen = draw(st.lists(st.sampled_from(names), max_size=6, unique=True))
    return tuple(dict.fromkeys(["image", "seconds", *chosen]))


@st.composite
def tables(draw: Any) -> tuple[tuple[str, ...], list[Row]]:
    columns = columns_of(draw)
    rows = []
    for line in range(2, draw(st.integers(3, 9))):
        cells = {name: draw(st.sampled_from([*TEXTS, *TYPED]) | ANY_TEXT) for name in columns}
        if draw(st.booleans()):
            cells = dict.fromkeys(columns, "") | {"image": IMAGE, "seconds": "5"}
        rows.append(
            Row(
                line,
                cells,
                id=draw(st.sampled_from([None, str(line), *IDS])),
                model=draw(st.sampled_from([None, OTHER, OTHER, RUNWAY, "x/y", 5])),
                repeat=draw(st.sampled_from([None, None, None, "2"])),
                result_key=draw(st.sampled_from([None, None, "j1", f"j{line}"])),
                file=draw(st.sampled_from([None, None, "other.csv"])),
            )
        )
    return columns, rows


def source_of(columns: Sequence[str], rows: Sequence[Row], **changes: Any) -> Source:
    return Source(
        path="m.csv",
        stem="m",
        read_rows=lambda: iter(rows),
        is_table=True,
        columns=tuple(columns),
        **changes,
    )


def one_by_one(source: Source) -> Source:
    """Return the same rows, each with something that keeps it from the fast way."""

    def rows() -> Iterator[Row]:
        for row in source.rows():
            yield row._replace(lines={"": row.line})

    return replace(source, read_rows=rows)


def found(source: Source, **options: Any) -> tuple[list[JobSpec], Sequence[Fault], Any]:
    try:
        with manifests.check(source, models=KNOWN, fallback_model=OTHER, **options) as checked:
            specs = list(checked.specs())
            return specs, (), (checked.columns, checked.count, sorted(checked.models))
    except ManifestError as error:
        return [], error.faults, error.total


@settings(deadline=None, max_examples=100)
@given(tables(), st.booleans(), st.booleans())
def test_many_rows_at_once_are_checked_as_one_by_one(
    table: tuple[tuple[str, ...], list[Row]], has_keys: bool, only_fine: bool
) -> None:
    columns, rows = table
    if only_fine:
        alone = [one_by_one(source_of(columns, [row])) for row in rows]
        rows = [row for row, it in zip(rows, alone, strict=True) if not found(it)[1]]
    source = source_of(columns, rows, has_result_keys=has_keys)

    assert found(source) == found(one_by_one(source))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (model, name)
        for model in (OTHER, RUNWAY)
        for name in [*KNOWN[model].schema["properties"], "shot", "meta.a", "id"]
    ],
)
def test_every_value_is_taken_as_by_the_rule_for_one(model: str, name: str) -> None:
    needed = {"image": IMAGE, "seconds": "5"} if model == OTHER else {"promptImage": IMAGE}
    columns = tuple(dict.fromkeys([*needed, name]))
    ids = IDS if name == "id" else ["a"]
    rows = [
        Row(2, {**needed, name: value}, model=model, id=row_id)
        for value in (("a", 5) if name == "id" else (*TEXTS, *TYPED))
        for row_id in ids
    ]
    fine: list[Row] = []
    for row in rows:
        source = source_of(columns, [row])
        alone = found(one_by_one(source))
        assert found(source) == alone
        if not alone[1]:
            fine.append(row._replace(id=None, line=len(fine) + 2))
    together = source_of(columns, fine)
    everything = source_of(columns, [*rows, rows[0]._replace(cells={**needed, name: 1})])

    assert found(everything) == found(one_by_one(everything))
    assert len(fine) > 2
    assert found(together) == found(one_by_one(together))
    assert all(isinstance(spec.input_columns, frozenset) for spec in found(together)[0])


def plain(**cells: Any) -> Row:
    return Row(2, {"image": IMAGE, "seconds": "5", **cells})


@pytest.mark.parametrize(
    ("row", "is_fast"),
    [
        pytest.param(plain(), True, id="plain"),
        pytest.param(plain()._replace(id="a", file="b.csv", model=OTHER), True, id="with-id"),
        pytest.param(plain(prompt=None, shot=5), True, id="typed"),
        pytest.param(plain()._replace(repeat="2"), False, id="repeat"),
        pytest.param(plain()._replace(meta={"a": 1}), False, id="meta"),
        pytest.param(plain()._replace(variables={"a": 1}), False, id="variables"),
        pytest.param(plain()._replace(faults=(Fault("m", 1, "", "x"),)), False, id="fault"),
        pytest.param(plain(image="x"), False, id="wrong-url"),
    ],
)
def test_only_plain_rows_without_a_fault_go_the_fast_way(row: Row, is_fast: bool) -> None:
    columns = tuple(row.cells)
    groups = plain_rows.plain_groups([row], columns, use_keys=False)
    bound = Binding(Form(KNOWN[OTHER]))
    assert bound.bind(columns) == []
    fast = plain_rows.PlainRows.of(bound, columns, use_keys=False)
    assert fast is not None

    assert bool(groups and not fast.check([row], file="m.csv").faulty) == is_fast


def test_a_value_that_comes_too_often_to_be_remembered_is_still_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plain_rows, "MOST_REMEMBERED", 3)
    columns = ("image", "seconds", "scale", "duration")
    rows = [
        Row(line, dict(zip(columns, (IMAGE, "5", f"0.{line}", "auto"), strict=True)))
        for line in range(2, 9)
    ]
    source = source_of(columns, rows * 2)

    assert found(source) == found(one_by_one(source))


def plain_schema(**more: Any) -> Mapping[str, Any]:
    return {**SCHEMA, **more}


@pytest.mark.parametrize(
    "rule",
    [
        {"allOf": [{"properties": {"seconds": {"maximum": 4}}}]},
        {"dependentRequired": {"image": ["prompt"]}},
        {"maxProperties": 1},
    ],
)
def test_a_rule_about_several_inputs_is_kept(rule: dict[str, Any]) -> None:
    columns = ("image", "seconds")
    source = source_of(columns, [plain()])

    faults = found(source, schemas={OTHER: plain_schema(**rule)})[1]

    assert len(faults) == 1
