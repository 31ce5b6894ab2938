import json
from pathlib import Path

import pytest
from exporters.paged import paged
from hypothesis import example, given
from hypothesis import strategies as st
from manifests.manifest_files import IMAGE, faults_of, specs_of, write

from batchgen import manifests
from batchgen.exporters import Record, export

ADVICE = 'write one object a line, such as {"id": "a", "prompt": "…"}'
GOOD = json.dumps({"image": IMAGE})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"image"}', f"is not valid JSON (character 9: Expecting ':' delimiter): {ADVICE}"),
        (f"{GOOD} {GOOD}", f"is not valid JSON (character 46: more follows): {ADVICE}"),
        ("{} x", f"is not valid JSON (character 3: more follows): {ADVICE}"),
        ("5", f"5 is not an object: {ADVICE}"),
        ('["a", 1]', f'["a", 1] is not an object: {ADVICE}'),
        ('{"seed": 1, "seed": 1}', "the key seed is there twice: remove one"),
        ('{"seed" :1, "seed":1}', "the key seed is there twice: remove one"),
        ('{"a\\":": 1, "seed" : 1, "seed" : 2}', "the key seed is there twice: remove one"),
        ('{"note": {"a": 1, "a": 2}}', "the key a is there twice: remove one"),
        ('{"seed": NaN}', "NaN is not JSON: write null, or leave the key out"),
        ('{"note": [-Infinity]}', "-Infinity is not JSON: write null, or leave the key out"),
        ('{"seed": 1e999}', "1e999 is too large a number: write it as text"),
        (f'{{"seed": {"9" * 5000}}}', "has a number of thousands of digits: write it as text"),
        ('{"": 1}', "a key has no name: name it"),
        ('{" id": 1}', 'the key " id" has spaces around it: rename it'),
        (
            '{"prompt": "a\\u0000"}',
            "contains a NUL or half a character (\\u0000, \\ud800): remove it",
        ),
        (
            '{"\\ud83e": "a"}',
            "contains a NUL or half a character (\\u0000, \\ud800): remove it",
        ),
        (f'{{"note": {"[" * 64}1{"]" * 64}}}', "is nested more than 64 deep: simplify it"),
        (f'{{"note": {"[" * 100_000}', "is nested more than 64 deep: simplify it"),
    ],
    ids=lambda value: value[:30] + value[-9:],
)
def test_a_faulty_line_is_told_and_the_others_are_read(
    tmp_path: Path, line: str, expected: str
) -> None:
    path = write(tmp_path, "m.jsonl", f"{GOOD}\n\n{line}\n{GOOD}\n5\n")

    assert faults_of(path) == [f"m.jsonl:3: {expected}", f"m.jsonl:5: 5 is not an object: {ADVICE}"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("\n \n", "m.jsonl: has no rows below its header: it needs at least one job"),
        (
            f"[\n{GOOD},\n{GOOD}\n]",
            f"m.jsonl:1: is a JSON array, not JSON Lines: {ADVICE} (jq -c '.[]' does it)",
        ),
        (
            b'{"image": "caf\xe9"}',
            (
                "m.jsonl:1: is not UTF-8 (byte 0xe9; it may be Latin-1 or Windows-1252): save it "
                "as UTF-8 (in Excel: “CSV UTF-8”)"
            ),
        ),
        (
            f'{GOOD}\n{{"image": "{"x" * 17 * 1024**2}"}}',
            (
                "m.jsonl:2: the line has 16,777,216 characters or more: put each object on a line "
                "of its own"
            ),
        ),
        (
            "\n".join(json.dumps({f"k{n}": n}) for n in range(16_386)),
            "m.jsonl:16385: there are more than 16,384 different keys: is this a table?",
        ),
        (
            f'{GOOD}\n{{"image": "{IMAGE}", "duration": 7, "seed": true, "id": []}}',
            (
                "m.jsonl:2: duration: 7 is not one of 5, 10 | m.jsonl:2: id: [] is not text | "
                "m.jsonl:2: seed: true is not a whole number"
            ),
        ),
        (
            f'{{"image": "{IMAGE}", "duraton": 7}}',
            (
                "m.jsonl:1: duraton: did you mean `duration`? write `meta.duraton` if it is meant "
                "to be carried along"
            ),
        ),
    ],
    ids=["blank", "array", "latin-1", "no-end", "keys", "values", "misspelled"],
)
def test_a_faulty_file_is_refused(tmp_path: Path, content: str | bytes, expected: str) -> None:
    assert " | ".join(faults_of(write(tmp_path, "m.jsonl", content))) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\n\r\n"])
@pytest.mark.parametrize("name", ["m.jsonl", "m.NDJSON"])
def test_objects_are_rows(tmp_path: Path, encoding: str, end: str, name: str) -> None:
    rows = [
        {"id": 7, "image": IMAGE, "note": {"a": [1, None]}, "empty": None},
        {"id": "é", "prompt": "a\u2028b", "image": IMAGE, "duration": 10, "seeds": [1, 2]},
    ]
    text = end.join(json.dumps(row, ensure_ascii=False) for row in rows)

    first, *others = specs_of(write(tmp_path, name, text.encode(encoding)))

    assert (first.row_id, first.cells["note"]) == ("7", {"a": [1, None]})
    assert dict(first.inputs) == {"promptImage": IMAGE}
    assert first.line == 1
    assert [spec.row_id for spec in others] == ["é", "é"]
    assert [spec.inputs["seed"] for spec in others] == [1, 2]
    assert others[0].inputs["promptText"] == "a\u2028b"
    assert others[0].line == 1 + end.count("\n")


def test_columns_stand_where_their_lines_have_them(tmp_path: Path) -> None:
    lines = [{"image": IMAGE, "z": 1}, {"a": 1, "image": IMAGE, "prompt": "x", "z": 1, "y": 2}]
    path = write(tmp_path, "m.jsonl", "\n".join(map(json.dumps, lines)))

    assert manifests.read(path).columns == ("a", "image", "prompt", "z", "y")


KEYS = st.text(st.sampled_from('ab":\\'), max_size=3)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(st.sampled_from('":\\ {é,x'), max_size=4).map(lambda name: f"x{name}x")


@example(cells={"x": '":'}, results=True)
@given(cells=st.dictionaries(NAMES, VALUES, max_size=4), results=st.booleans())
def test_any_cells_come_back_from_an_export(
    tmp_path_factory: pytest.TempPathFactory, cells: dict[str, object], results: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.jsonl"
    key = "j01" if results else None
    record = Record(
        cells=cells, results={"result_key": key, "result_error": "=1"}, details={"is_estimate": 1}
    )

    export(paged([record]), str(path), columns=[*cells], overwrite=True)
    source = manifests.read(path)
    (row,) = source.rows()

    assert dict(row.cells) == cells
    assert row.result_key == key
    assert source.columns == tuple(cells)
    assert source.has_result_keys
