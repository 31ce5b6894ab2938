import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifests.manifest_files import IMAGE, MODELS, faults_of, specs_of, write

from batchgen import manifests
from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.jobs import JobSpec, Model
from batchgen.manifests import Row, Source, checks

RUNWAY = "runwayml/runway-gen-4/turbo/image-to-video"
OTHER = "test/other"
KEEPS_FOLDER = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def identity(spec: JobSpec) -> tuple[str, str, str, str]:
    return spec.row_id, spec.variant_kind, spec.variant, spec.input_hash


def other_model(**properties: Any) -> dict[str, Model]:
    schema = {"type": "object", "properties": {"image": {"type": "string"}, **properties}}
    model = Model(id=OTHER, title="", provider="p", schema=schema, media={"image": "image"})
    return {**MODELS, OTHER: model}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        pytest.param({"duration": "7"}, "duration: 7 is not one of 5, 10", id="enum"),
        pytest.param(
            {"duration": "five"},
            "duration: five is not a whole number: write one of 5, 10",
            id="type",
        ),
        pytest.param(
            {"seed": "4294967296"}, "seed: 4294967296 is too large: at most 4294967295", id="max"
        ),
        pytest.param({"seed": "-1"}, "seed: -1 is too small: at least 0", id="min"),
        pytest.param(
            {"prompt": "x" * 1001},
            "prompt: 1,001 characters, at most 1,000 (UTF-16 units: an emoji counts 2): shorten it",
            id="too-long",
        ),
        pytest.param(
            {"prompt": "🦊" * 501},
            "prompt: 1,002 characters, at most 1,000 (UTF-16 units: an emoji counts 2): shorten it",
            id="too-long-in-utf-16",
        ),
        pytest.param({"repeat": "0"}, "repeat: 0 is not a whole number above 0", id="repeat-zero"),
        pytest.param(
            {"repeat": "200000"},
            "repeat: 200,000 takes, at most 100,000 are allowed (--max-expand)",
            id="repeat-too-many",
        ),
        pytest.param(
            {"seeds": "1,2", "repeat": "2"},
            "seeds: `seeds` and `repeat` in one row: keep one of them",
            id="seeds-and-repeat",
        ),
        pytest.param(
            {"seeds": "1,2", "seed": "2"},
            "seeds: `seeds` and `seed` in one row: keep one of them",
            id="seeds-and-seed",
        ),
        pytest.param(
            {"seeds": "1 2 1"},
            "seeds: the seed 1 is there twice: remove one, or use `repeat`",
            id="seed-twice",
        ),
        pytest.param(
            {"seeds": "1-5"},
            "seeds: 1-5 is not a seed: write whole numbers, as 1, 2, 3",
            id="seed-range",
        ),
        pytest.param(
            {"duration": "“5”"},
            "duration: “5” is not a whole number: the quotes “ ” around it are typographic: remove "
            "them: write one of 5, 10",
            id="curly-quotes",
        ),
        pytest.param(
            {"seeds": "1,"},
            "seeds: a seed is missing beside a comma: write whole numbers, as 1, 2, 3",
            id="seed-missing",
        ),
        pytest.param({"seeds": "-3"}, "seeds: -3 is too small: at least 0", id="seed-negative"),
        pytest.param(
            {"id": "a/b"},
            "id: the id a/b must not be a path: leave out `/`, `\\`, `.` and `..`",
            id="id-is-a-path",
        ),
        pytest.param(
            {"id": "-v"},
            "id: the id -v must not start with `-`: a command would take it for an option",
            id="id-is-an-option",
        ),
        pytest.param(
            {"id": "x" * 201},
            f"id: the id {'x' * 59}… has 201 characters, at most 200 are allowed",
            id="id-too-long",
        ),
        pytest.param(
            {"id": "a\x07b"},
            "id: the id a\x07b must not contain control characters or line breaks",
            id="id-control",
        ),
        pytest.param(
            {"model": "runwayml/runway-gen-4/turbo/image-to-vide"},
            f"model: unknown model runwayml/runway-gen-4/turbo/image-to-vide: did you mean "
            f"`{RUNWAY}`? `batchgen models list` shows those that are known, "
            f"`batchgen models fetch {RUNWAY[:-1]}` asks the service for it",
            id="unknown-model",
        ),
        pytest.param(
            {"image": "http://images.example.com/a.jpg"},
            "image: http://images.example.com/a.jpg must begin with https://",
            id="http",
        ),
    ],
)
def test_a_faulty_value_is_refused_with_its_rule(
    tmp_path: Path, columns: dict[str, str], expected: str
) -> None:
    columns = {"image": IMAGE, **columns}
    content = ",".join(columns) + "\n" + ",".join(f'"{cell}"' for cell in columns.values())

    assert faults_of(write(tmp_path, "m.csv", content)) == [f"m.csv:2: {expected}"]


def test_every_fault_of_every_row_is_told_at_once_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "m.csv",
        f"id,image,duration\na,{IMAGE},7\nb,ftp://x.example.com/a,5\na,,x\n",
    )

    assert [fault.split(": ")[0:2] for fault in faults_of(path)] == [
        ["m.csv:2", "duration"],
        ["m.csv:3", "image"],
        ["m.csv:4", "duration"],
        ["m.csv:4", "id"],
        ["m.csv:4", "image"],
    ]


def test_a_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv", f"id,image\na,{IMAGE}\nA,{IMAGE}\na,{IMAGE}\n")

    assert faults_of(path) == ["m.csv:4: id: a is already the id in line 2: ids must be unique"]


def test_exported_rows_may_share_an_id_but_not_a_key(tmp_path: Path) -> None:
    fine = f"id,image,result_key\na,{IMAGE},j1\na,{IMAGE},j2\n"

    assert len(specs_of(write(tmp_path, "fine.csv", fine))) == 2
    assert faults_of(write(tmp_path, "m.csv", fine + f"a,{IMAGE},j1\n")) == [
        (
            "m.csv:4: result_key: j1 is already in line 2: remove one of the two rows, or pass "
            "--new-batch to pay for both as new jobs"
        )
    ]
    assert faults_of(write(tmp_path, "new.csv", fine + f"a,{IMAGE},\n")) == [
        "new.csv:4: id: a is already the id in line 2: ids must be unique"
    ]
    before = fine.replace("a,", "b,", 1).replace("j1", "")
    assert faults_of(write(tmp_path, "before.csv", before.replace("\nb,", "\na,"))) == [
        "before.csv:3: id: a is already the id in line 2: ids must be unique"
    ]
    assert len(faults_of(tmp_path / "fine.csv", use_result_keys=False)) == 1


def test_seeds_and_repeat_have_no_effect_in_a_row_with_a_key(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv", f'image,seeds,result_key\n{IMAGE},"1,2",j1\n{IMAGE},"1,2",\n')

    assert [(spec.variant, spec.result_key) for spec in specs_of(path)] == [
        ("", "j1"),
        ("1", None),
        ("2", None),
    ]


@pytest.mark.parametrize("written", ["3,1", "3 1", "3; 1", "[3, 1]"])
def test_seeds_make_a_job_each_with_the_seed_in_its_hash(tmp_path: Path, written: str) -> None:
    first, second = specs_of(write(tmp_path, "m.csv", f'image,seeds\n{IMAGE},"{written}"\n'))
    (plain,) = specs_of(write(tmp_path, "plain.csv", f"image\n{IMAGE}\n"))
    (explicit,) = specs_of(write(tmp_path, "seed.csv", f"image,seed\n{IMAGE},3\n"))

    assert (first.variant_kind, first.variant, first.inputs["seed"]) == ("seed", "3", 3)
    assert (second.variant, second.inputs["seed"]) == ("1", 1)
    assert first.input_hash == explicit.input_hash != second.input_hash
    assert first.row_id == second.row_id == plain.row_id == plain.input_hash[:16]
    assert not first.draw_seed


def test_takes_share_a_hash_and_draw_their_seed_later(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv", f"image,repeat,seed\n{IMAGE},2,\n{IMAGE},1,9\n")

    one, two, fixed = specs_of(path)

    assert (one.variant_kind, one.variant, two.variant) == ("take", "1", "2")
    assert one.input_hash == two.input_hash
    assert (one.draw_seed, fixed.draw_seed, fixed.variant) == (True, False, "1")
    assert "seed" not in one.inputs


def test_equal_rows_without_id_are_numbered(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "m.csv",
        f"image,duration,seeds\n{IMAGE},,\n{IMAGE},5,\n{IMAGE},,1 2\n{IMAGE},,2 3\n{IMAGE},10,\n",
    )

    ids = [spec.row_id for spec in specs_of(path)]

    base = ids[0]
    assert ids[:6] == [base, f"{base}-2", base, base, f"{base}-2", base]
    assert not ids[6].startswith(base)


def test_only_what_seeds_and_repeat_make_is_bounded(tmp_path: Path) -> None:
    plain = write(tmp_path, "plain.csv", "image\n" + f"{IMAGE}\n" * 20)
    path = write(tmp_path, "m.csv", f"image,repeat\n{IMAGE},6\n{IMAGE},6\n")

    assert len(specs_of(plain, max_expand=10)) == 20
    assert faults_of(path, max_expand=10) == [
        (
            "m.csv: `seeds` and `repeat` make 12 jobs, at most 10 are allowed: shorten them, "
            "or raise --max-expand"
        )
    ]


def test_the_model_comes_from_flag_row_manifest_fallback_in_this_order(tmp_path: Path) -> None:
    models = other_model()
    row = write(tmp_path, "row.csv", f"image,model\n{IMAGE},{OTHER}\n{IMAGE},\n")

    assert [it.model for it in specs_of_with(models, row)] == [OTHER, RUNWAY]
    assert [it.model for it in specs_of_with(models, row, model=RUNWAY)] == [RUNWAY, RUNWAY]
    assert [it.model for it in specs_of_with(models, row, fallback_model=OTHER)] == [OTHER, OTHER]
    assert (
        faults_of(row, model="x/y")[0]
        == "row.csv: --model: unknown model x/y: `batchgen models list` shows those that are "
        "known, `batchgen models fetch x/y` asks the service for it"
    )


def specs_of_with(models: dict[str, Model], path: Path, **options: Any) -> list[JobSpec]:
    return list(manifests.check(manifests.read(path), models=models, **options).specs())


def test_a_batchs_stored_schema_wins_over_todays(tmp_path: Path) -> None:
    schema = dict(MODELS[RUNWAY].schema)
    schema["properties"] = {**schema["properties"], "duration": {"type": "integer", "default": 7}}
    path = write(tmp_path, "m.csv", f"image,duration\n{IMAGE},7\n{IMAGE},\n")

    checked = manifests.check(manifests.read(path), models=MODELS, schemas={RUNWAY: schema})

    one, other = checked.specs()
    assert one.input_hash == other.input_hash
    assert other.est_micros == 350_000
    assert checked.models[RUNWAY] == replace(MODELS[RUNWAY], schema=schema)


@pytest.mark.parametrize(
    ("schema", "cell", "expected"),
    [
        pytest.param({"type": "integer"}, " 5 ", 5, id="integer"),
        pytest.param({"type": "integer"}, "5.0", 5, id="whole-decimal"),
        pytest.param({"type": "string", "enum": ["auto", "5"]}, "5", "5", id="string-enum"),
        pytest.param({"type": "float"}, "0.5", 0.5, id="house-float"),
        pytest.param({"type": "number"}, "5", 5, id="whole-number"),
        pytest.param({"type": "boolean"}, "Yes", True, id="yes"),
        pytest.param({"type": "boolean"}, "FALSE", False, id="false"),
        pytest.param({"type": "array", "items": {"type": "string"}}, IMAGE, [IMAGE], id="one-url"),
        pytest.param({"type": "array"}, "[1, 2]", [1, 2], id="json-list"),
        pytest.param({"type": "object"}, '{"a": 1}', {"a": 1}, id="json-object"),
        pytest.param({"type": ["integer", "null"]}, "3", 3, id="nullable"),
        pytest.param({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "3", 3, id="union"),
        pytest.param({"enum": [5, 10]}, "10", 10, id="enum-without-type"),
    ],
)
def test_a_cell_takes_its_type_from_the_schema(
    tmp_path: Path, schema: dict[str, Any], cell: str, expected: Any
) -> None:
    quoted = cell.replace('"', '""')
    path = write(tmp_path, "m.csv", f'image,value_x\n{IMAGE},"{quoted}"\n')

    (spec,) = specs_of_with(other_model(value_x=schema), path, model=OTHER)

    value = spec.inputs["value_x"]
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("schema", "cell", "expected"),
    [
        pytest.param(
            {"type": "number"}, "0,5", "0,5 is not a number: write a point, not a comma", id="comma"
        ),
        pytest.param({"type": "boolean"}, "maybe", "maybe is not true or false", id="boolean"),
        pytest.param({"type": "number"}, "nan", "nan is not a number", id="nan"),
        pytest.param({"type": "number"}, "1e999", "1e999 is too large", id="infinite"),
        pytest.param(
            {"type": "array", "items": {"type": "integer", "maximum": 3}},
            "[1, 9]",
            "[1]: 9 is too large: at most 3",
            id="nested",
        ),
        pytest.param(
            {"type": "array", "maxItems": 1},
            "[1, 2]",
            "2 values, at most 1: remove some",
            id="items",
        ),
        pytest.param(
            {"type": "object"},
            "x",
            'x is not a mapping: write it as JSON, as {"a": 1}',
            id="object",
        ),
        pytest.param(
            {"type": "string", "enum": ["5", "10"]},
            "15",
            "15 is not one of 5, 10",
            id="near-number",
        ),
        pytest.param(
            {"type": "string", "pattern": "^a"},
            "b",
            "b does not match the pattern ^a",
            id="pattern",
        ),
    ],
)
def test_a_cell_of_the_wrong_type_is_refused(
    tmp_path: Path, schema: dict[str, Any], cell: str, expected: str
) -> None:
    path = write(tmp_path, "m.csv", f'image,value_x\n{IMAGE},"{cell}"\n')

    with pytest.raises(ManifestError) as caught:
        specs_of_with(other_model(value_x=schema), path, model=OTHER)

    assert [fault.message for fault in caught.value.faults] == [expected]


# What never changes a key.


ROWS = [
    ("one", f"{IMAGE}?a=1", "", "", ""),
    ("two\nlines", IMAGE, "10", "", "2"),
    ("", IMAGE, "5", "1 2", ""),
    ("x; y, z\tq", IMAGE, "", "", ""),
]


def as_csv(rows: Sequence[tuple[str, ...]], *, delimiter: str, end: str, mark: str) -> bytes:
    header = ("prompt", "image", "duration", "seeds", "repeat")
    lines = [delimiter.join('"' + c.replace("\n", end) + '"' for c in r) for r in [header, *rows]]
    return (mark + end.join(lines)).encode()


@KEEPS_FOLDER
@given(
    st.permutations(ROWS),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff"]),
    st.booleans(),
    st.integers(0, 10**9),
)
def test_the_form_of_a_table_never_changes_what_a_job_is(
    tmp_path: Path,
    rows: list[tuple[str, ...]],
    delimiter: str,
    end: str,
    mark: str,
    names_default: bool,
    signature: int,
) -> None:
    plain = specs_of(write(tmp_path, "a.csv", as_csv(ROWS, delimiter=",", end="\n", mark="")))
    signed = [
        (p, f"{u}{'&' if '?' in u else '?'}X-Amz-Signature={signature}&X-Amz-Date=1", *rest)
        for p, u, *rest in rows
    ]
    if names_default:
        signed = [(p, u, d or "5", *rest) for p, u, d, *rest in signed]

    changed = specs_of(
        write(tmp_path, "b.csv", as_csv(signed, delimiter=delimiter, end=end, mark=mark))
    )

    assert sorted(map(identity, changed)) == sorted(map(identity, plain))


@KEEPS_FOLDER
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_carried_cells_come_back_as_they_were(tmp_path: Path, texts: list[str]) -> None:
    rows = [f'{IMAGE},"' + text.replace('"', '""') + '"' for text in texts]
    path = write(tmp_path, "m.csv", "\n".join(["image,note", *rows, f"{IMAGE},end"]))

    assert [spec.cells["note"] for spec in specs_of(path)] == [*texts, "end"]


def test_golden_ids_of_rows_never_change(tmp_path: Path) -> None:
    specs = specs_of(write(tmp_path, "m.csv", as_csv(ROWS, delimiter=",", end="\n", mark="")))

    assert [(spec.row_id, spec.variant_kind, spec.variant) for spec in specs] == [
        ("0763af60c5a0b7e7", "", ""),
        ("ea4fa91df1dce7d8", "take", "1"),
        ("ea4fa91df1dce7d8", "take", "2"),
        ("7d5a1732f2de10e8", "seed", "1"),
        ("7d5a1732f2de10e8", "seed", "2"),
        ("bfc121e606689457", "", ""),
    ]


def test_many_equal_ids_are_found_among_many(tmp_path: Path) -> None:
    ids = [f"r{number}" for number in range(2000)]
    random.Random(1).shuffle(ids)
    ids.append(ids[7])
    path = write(tmp_path, "m.csv", "id,image\n" + "".join(f"{it},{IMAGE}\n" for it in ids))

    assert faults_of(path) == [
        f"m.csv:2002: id: {ids[7]} is already the id in line 9: ids must be unique"
    ]


# Rows that the formats of tables and YAML's own words make.


def source_of(*rows: Row, is_table: bool = False, **changes: Any) -> Source:
    columns = tuple(rows[0].cells) if is_table else ()
    return Source(
        path="m",
        stem="m",
        read_rows=lambda: iter(rows),
        is_table=is_table,
        columns=columns,
        **changes,
    )


def checked(source: Source, **options: Any) -> tuple[tuple[str, ...], list[JobSpec]]:
    with manifests.check(source, models=MODELS, **options) as found:
        return found.columns, list(found.specs())


def refused(source: Source, **options: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        checked(source, **options)
    return [str(fault) for fault in caught.value.faults]


def test_variables_are_columns_behind_all_others_and_in_no_hash() -> None:
    cells = {"image": IMAGE, "prompt": "a fox"}
    plain = Row(2, cells, meta={"client": "acme"})
    first = plain._replace(variables={"subject": "a fox", "duration": 5, "id": "x"})
    second = plain._replace(variables={"move": [1], "subject": None})

    columns, (one, two, three) = checked(source_of(first, second, plain))

    assert columns == ("image", "prompt", "client", "subject", "meta.duration", "meta.id", "move")
    assert list(one.cells.items())[2:] == [
        ("client", "acme"),
        ("subject", "a fox"),
        ("meta.duration", 5),
        ("meta.id", "x"),
    ]
    assert (two.cells["move"], two.cells["subject"]) == ([1], None)
    assert one.input_hash == two.input_hash == three.input_hash
    assert one.input_columns == {"image", "prompt"}
    assert [one.row_id, two.row_id] == [three.row_id[:16], f"{three.row_id[:16]}-2"]


def test_variables_come_back_as_carried_columns(tmp_path: Path) -> None:
    row = Row(2, {"image": IMAGE}, variables={"subject": "a fox", "duration": "x", "Seed": "y"})
    columns, (spec,) = checked(source_of(row))
    text = ",".join(columns) + "\n" + ",".join(spec.cells.values()) + "\n"

    (again,) = specs_of(write(tmp_path, "m.csv", text))

    assert list(again.cells) == ["image", "subject", "meta.duration", "meta.Seed"]
    assert (again.cells, again.input_hash) == (spec.cells, spec.input_hash)


@pytest.mark.parametrize("other", [{"meta": {"shot": 1}}, {"carried": frozenset({"shot"})}])
def test_a_variable_and_a_carried_column_of_one_name_are_one_fault(other: dict[str, Any]) -> None:
    row = Row(3, {"image": IMAGE, "shot": 1}, variables={"shot": 2}, **other)
    if "meta" in other:
        row = row._replace(cells={"image": IMAGE})

    assert refused(source_of(row, row._replace(variables={"shot": 3}))) == [
        (
            "m:3: shot: a variable and a column that is carried along are both called shot: both "
            "come back in the export, so rename one"
        )
    ]


def test_rows_of_a_table_inside_yaml_follow_a_tables_rules() -> None:
    cells = {"image": IMAGE, "shot": "12a", "meta.duraton": "x", "prompt": "p", "duration": ""}
    carried = frozenset(cells) - {"prompt"}
    row = Row(2, cells, carried=carried, file="rows.csv", meta={"client": "acme"})

    columns, (spec,) = checked(source_of(row))

    assert columns == ("image", "prompt", "duration", "shot", "meta.duraton", "client")
    assert (spec.file, spec.place) == ("rows.csv", "rows.csv:2")
    assert list(spec.cells) == ["image", "prompt", "duration", "shot", "meta.duraton", "client"]
    assert spec.inputs == {"promptImage": IMAGE, "promptText": "p"}


def test_faults_of_a_table_inside_yaml_stand_in_its_file() -> None:
    cells = {"image": IMAGE, "duraton": "5", "seed": "x"}
    row = Row(2, cells, carried=frozenset(cells), file="rows.csv", header_line=1)
    own = Row(9, {"image": IMAGE, "duraton": 5})

    assert refused(source_of(row, row._replace(line=3), own)) == [
        (
            "m:9: duraton: unknown key: did you mean `duration`? what is to be carried along goes "
            "under `meta` (--allow-unknown-inputs sends it as it is)"
        ),
        (
            "rows.csv:1: duraton: did you mean `duration`? write `meta.duraton` if it is meant to "
            "be carried along"
        ),
        "rows.csv:2: seed: x is not a whole number",
        "rows.csv:3: seed: x is not a whole number",
    ]


def test_the_same_id_in_two_files_names_both() -> None:
    row = Row(2, {"image": IMAGE}, id="a")

    assert refused(source_of(row, row._replace(file="rows.csv", line=5))) == [
        "rows.csv:5: id: a is already the id in m:2: ids must be unique"
    ]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("5", 5),
        ("-0.5", -0.5),
        ("1e3", 1000),
        ("true", True),
        ("[1]", [1]),
        (' {"a": null} ', {"a": None}),
        ("05", "05"),
        ("1e999", "1e999"),
        ("null", "null"),
        ('"x"', '"x"'),
        ("yes", "yes"),
        ("[1", "[1"),
        ("a b", "a b"),
        (7, 7),
    ],
)
def test_unknown_inputs_may_be_sent(cell: Any, expected: Any) -> None:
    table = source_of(Row(2, {"image": IMAGE, "input.new": cell}), is_table=True)
    key = source_of(Row(2, {"image": IMAGE, "new": cell}))

    (by_column,) = checked(table, allow_unknown_inputs=True)[1]
    (by_key,) = checked(key, allow_unknown_inputs=True)[1]

    found = by_column.inputs["new"]
    assert (found, type(found)) == (expected, type(expected))
    assert by_key.inputs["new"] == cell
    assert by_key.cells == {"image": IMAGE, "new": cell}
    assert "new" in by_key.input_columns
    assert by_column.input_hash != checked(source_of(Row(2, {"image": IMAGE})))[1][0].input_hash
    assert len(refused(table)) == len(refused(key)) == 1


def test_unknown_inputs_are_nested_by_their_dots_too() -> None:
    cells = {"image": IMAGE, "input.a.b": "1", "input.c.0": "x", "input.a..b": "2", "other": "y"}

    (spec,) = checked(source_of(Row(2, cells), is_table=True), allow_unknown_inputs=True)[1]

    assert spec.inputs == {"promptImage": IMAGE, "a": {"b": 1}, "c": ["x"], "a..b": 2}


def test_values_with_a_type_are_typed_by_the_same_rules() -> None:
    cells = {"image": IMAGE, "duration": 5.0, "seed": 7, "prompt": 12, "shot": True, "note": [1.5]}
    texts = {"image": IMAGE, "duration": "5", "seed": "7", "prompt": "12", "shot": "", "note": ""}

    (typed,) = checked(source_of(Row(2, cells, id=5), is_table=True))[1]
    (plain,) = checked(source_of(Row(2, texts), is_table=True))[1]

    assert (typed.inputs_json, typed.input_hash) == (plain.inputs_json, plain.input_hash)
    assert (typed.cells, typed.row_id) == (cells, "5")


# Very many.


def test_of_very_many_faults_the_first_are_kept_and_all_are_counted() -> None:
    def rows() -> Iterator[Row]:
        for line in range(9_000, 1, -1):
            yield Row(line, {"image": IMAGE, "seed": "x"})
        yield Row(2, {"image": IMAGE, "seed": "x"})

    source = replace(source_of(Row(2, {"image": "", "seed": ""}), is_table=True), read_rows=rows)
    with pytest.raises(ManifestError) as caught:
        manifests.check(source, models=MODELS)

    error = caught.value
    assert [fault.line for fault in error.faults] == list(range(2, 1002))
    assert error.total == 8_999
    assert str(error).splitlines()[0] == "m:2: seed: x is not a whole number"
    assert str(error).splitlines()[50:] == ["and 8,949 more"]


def test_what_seeds_and_repeat_would_make_is_not_made_first() -> None:
    rows = [Row(line, {"image": IMAGE}, repeat=10**4) for line in range(2, 5_002)]

    assert refused(source_of(*rows), max_expand=10**4) == [
        (
            "m: `seeds` and `repeat` make 50,000,000 jobs, at most 10,000 are allowed: shorten "
            "them, or raise --max-expand"
        )
    ]


def test_many_takes_of_one_row_come_in_order_and_as_often_as_wanted() -> None:
    source = source_of(Row(2, {"image": IMAGE}, repeat=1000), Row(3, {"image": IMAGE}, repeat=3))

    with manifests.check(source, models=MODELS) as found:
        once, again = list(found.specs()), list(found.specs())
        side_by_side = list(zip(found.specs(), found.specs(), strict=True))

    base = once[0].row_id
    assert [spec.variant for spec in once] == [*map(str, range(1, 1001)), "1", "2", "3"]
    assert [spec.row_id for spec in once] == [base] * 1000 + [f"{base}-2"] * 3
    assert once == again == [one for one, _ in side_by_side]
    with pytest.raises(ValueError, match="closed"):
        next(found.specs())


def test_a_long_row_does_not_wait_for_many_others() -> None:
    alive = 0

    def rows() -> Iterator[Row]:
        nonlocal alive
        for line in range(2, 12):
            alive += 1
            yield Row(line, {"image": IMAGE, "note": "x" * 3 * 1024**2})

    source = replace(source_of(Row(2, {"image": "", "note": ""}), is_table=True), read_rows=rows)
    chunks = checks._chunks(source.rows())

    assert len(next(chunks)) == alive == 3


def test_long_jobs_of_one_row_do_not_wait_for_each_other() -> None:
    row = Row(2, {"image": IMAGE}, seeds=list(range(12)), meta={"note": "x" * 1024**2})

    with manifests.check(source_of(row), models=MODELS) as found:
        sizes = [len(page.row_id) for page in found.pages()]

    assert sizes == [4, 4, 4]


def test_a_duplicate_is_named_though_the_file_cannot_be_read_again() -> None:
    readings = 0
    row = Row(2, {"image": IMAGE}, id="a")

    def rows() -> Iterator[Row]:
        nonlocal readings
        readings += 1
        if readings > 1:
            raise ManifestError([Fault("m", 0, "", "changed while it was read")])
        yield from (row, row)

    assert refused(replace(source_of(row), read_rows=rows)) == ["m: changed while it was read"]
