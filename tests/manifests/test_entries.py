"""Entries of a YAML manifest with a matrix or a table: their rows, and what `choice` picks."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests.manifest_files import IMAGE, MODELS, faults_of, specs_of, write

from batchgen import manifests
from batchgen.manifests import Row
from batchgen.manifests.tables import TABLES
from batchgen.manifests.templates import pick

HEADER = "id,subject,image,shot\n"
TABLE = f"{HEADER}a,a fox,{IMAGE},12a\nb,a {{{{ heron }}}},{IMAGE},\n"


def rows_of(path: Path) -> list[Row]:
    source = manifests.read(path)
    assert source.faults == ()
    rows = list(source.rows())
    assert rows == list(source.rows())
    assert [row.faults for row in rows] == [()] * len(rows)
    return rows


def prompts(path: Path) -> list[str]:
    return [row.cells["prompt"] for row in rows_of(path)]


def job(**values: Any) -> str:
    return f"jobs:\n  - {json.dumps({'image': IMAGE, **values})}\n"


# -- matrix --------------------------------------------------------------------------------------


def test_every_value_of_a_job_may_use_the_variables(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "m.yaml",
        "vars: {subject: shadowed, style: soft}\n"
        "defaults: {ratio: '{{ wide }}', meta: {by: '{{ subject }}'}}\n"
        "jobs:\n"
        "  - matrix:\n"
        "      subject: [fox, '{{ style }} owl']\n"
        "      look: [{name: warm, seeds: [1, 2]}]\n"
        "    zip: {wide: ['1280:720', '720:1280'], d: [5, 10]}\n"
        "    exclude: [{subject: fox, d: 10}]\n"
        "    id: '{{ subject }}-{{ d }}'\n"
        "    image: https://images.example.com/{{ subject | replace(' ', '-') }}.jpg\n"
        "    prompt: 'A {{ subject }}, {{ style }}, {{ look.name }}'\n"
        "    duration: '{{ d }}'\n"
        "    seeds: '{{ look.seeds }}'\n"
        "    nested: {list: ['{{ d }}', 'x{{ d }}']}\n"
        "    meta: {shot: '{{ d }}'}\n",
    )

    rows = rows_of(path)

    assert [row.id for row in rows] == ["fox-5", "soft owl-5", "soft owl-10"]
    last = rows[-1]
    assert dict(last.cells) == {
        "id": "soft owl-10",
        "image": "https://images.example.com/soft-owl.jpg",
        "prompt": "A soft owl, soft, warm",
        "duration": 10,
        "nested": {"list": [10, "x10"]},
        "ratio": "720:1280",
    }
    assert last.seeds == [1, 2]
    assert last.meta == {"shot": 10, "by": "soft owl"}
    assert list(last.variables.items()) == [
        ("subject", "soft owl"),
        ("look", {"name": "warm", "seeds": [1, 2]}),
        ("wide", "720:1280"),
        ("d", 10),
    ]
    assert last.line == 4


def test_an_axis_may_be_a_list_of_vars(tmp_path: Path) -> None:
    text = "vars: {all: [fox, \"{{ '{{' }} owl\"], one: fox}\n"
    good = text + job(matrix={"a": "{{ all }}"}, prompt="{{ a }}")
    bad = text + job(matrix={"a": "{{ one }}"}, prompt="{{ a }}")

    assert prompts(write(tmp_path, "m.yaml", good)) == ["fox", "{{ owl"]
    assert faults_of(write(tmp_path, "m.yaml", bad)) == [
        "m.yaml:3: a: must be a list of values: write [ ] around them"
    ]


def test_a_variable_with_one_value_need_not_be_used(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, "m.yaml", job(matrix={"client": ["acme"]}, prompt="x")))

    assert [row.variables for row in rows] == [{"client": "acme"}]


def test_seeds_multiply_within_each_combination(tmp_path: Path) -> None:
    text = job(matrix={"a": ["x", "y"]}, id="h-{{ a }}", prompt="{{ a }}", seeds=[7, 8])

    specs = specs_of(write(tmp_path, "m.yaml", text))

    assert [(it.row_id, it.variant) for it in specs] == [
        ("h-x", "7"),
        ("h-x", "8"),
        ("h-y", "7"),
        ("h-y", "8"),
    ]


def test_an_axis_that_grows_keeps_the_hashes_of_all_that_was_there(tmp_path: Path) -> None:
    def hashes(*moves: str) -> dict[str, str]:
        text = job(
            matrix={"move": list(moves), "subject": ["fox", "owl"]},
            prompt="{{ subject }} {{ move }} {{ choice(['fog', 'rain', 'snow']) }}",
        )
        specs = specs_of(write(tmp_path, "m.yaml", text))
        return {it.row_id: it.input_hash for it in specs}

    before, after = hashes("left", "right"), hashes("left", "right", "up")

    assert len(after) == 6
    assert before.items() < after.items()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            job(matrix={"a": [1, 2], "b": [3]}, prompt="{{ a }}{{ b }}", id="harbor"),
            "m.yaml:2: id: the id must contain the variables, such as harbor-{{ a }}-{{ b }}",
            id="id-without-variables",
        ),
        pytest.param(
            job(matrix={"a": [1, 2]}, prompt="x"),
            "m.yaml:2: a: no value of the job uses it, so its clips would be the same: "
            "write {{ a }} where it belongs, or use `repeat` for several takes",
            id="unused-variable",
        ),
        pytest.param(
            job(matrix={"a": [1]}, prompt="{{ a }} {{ b }}"),
            "m.yaml:2: prompt: the variable `b` is not defined: variables come from "
            "`vars`, `matrix`, `zip` and `from` (there: a)",
            id="undefined",
        ),
        pytest.param(
            job(
                matrix={"a": [1]},
                include=[{"a": 1, "b": 2}, {"a": 3, "c": 1}],
                prompt="{{ a }}{{ b }}",
            ),
            "m.yaml:2: prompt: the variable `b` has no value here: give it one, or write "
            "{{ b | default('…') }} (a: 3, c: 1)",
            id="undefined-in-one-combination",
        ),
        pytest.param(
            job(matrix={"a": [1]}, exclude=[{"a": 1}], prompt="{{ a }}"),
            "m.yaml:2: exclude: takes every combination away: leave one, or take the job out",
            id="nothing-left",
        ),
        pytest.param(
            job(matrix={"a": ["{{ b }}"], "b": [1]}, prompt="{{ a }}{{ b }}"),
            "m.yaml:2: a: the variable `b` is not defined: variables come from `vars`, "
            "`matrix`, `zip` and `from` (there: none)",
            id="a-variable-in-a-variable",
        ),
        pytest.param(
            job(matrix={"a": [1]}, prompt=[{"x": "{{ a }}"}, {"text": "{{ aa }}"}]),
            "m.yaml:2: prompt[1].text: the variable `aa` is not defined: did you mean `a`? "
            "variables come from `vars`, `matrix`, `zip` and `from` (there: a)",
            id="nested",
        ),
        pytest.param(
            "vars: {a: '{{ m }}'}\n" + job(matrix={"m": [1]}, prompt="{{ m }}"),
            "m.yaml:1: a: the variable `m` is not defined: variables come from `vars`, "
            "`matrix`, `zip` and `from` (there: none)",
            id="vars-do-not-see-the-matrix",
        ),
        pytest.param(
            "vars: {range: 1}\n" + job(prompt="x"),
            "m.yaml:1: range: is a word of the templates themselves: take another name",
            id="vars-named-like-a-function",
        ),
        pytest.param(
            "matrix: {a: [1]}\n" + job(prompt="x"),
            "m.yaml:1: matrix: belongs to a job: write it under `jobs`, as a key of one",
            id="at-the-top",
        ),
        pytest.param(
            "defaults: {matrix: {a: [1]}, from: x.csv}\n" + job(prompt="x"),
            "m.yaml:1: from: cannot be a default: write it in each job that needs it\n"
            "m.yaml:1: matrix: cannot be a default: write it in each job that needs it",
            id="in-defaults",
        ),
    ],
)
def test_a_misuse_of_variables_is_told_with_its_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert "\n".join(faults_of(write(tmp_path, "m.yaml", text))) == expected


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param(
            [{"matrix": {f"v{n}": list(range(1000)) for n in range(4)}}],
            "m.yaml:2: matrix: makes 1,000,000,000,000 jobs, at most 100 are allowed: shorten "
            "it, or raise --max-expand",
            id="matrix",
        ),
        pytest.param(
            [{"zip": {"v0": list(range(40))}, "seeds": [1, 2, 3]}],
            "m.yaml:2: zip: makes 120 jobs, at most 100 are allowed: shorten it, or raise "
            "--max-expand",
            id="with-seeds",
        ),
        pytest.param(
            [{"matrix": {"v0": [1, 2]}, "repeat": 60}],
            "m.yaml:2: matrix: makes 120 jobs, at most 100 are allowed: shorten it, or raise "
            "--max-expand",
            id="with-repeat",
        ),
        pytest.param(
            [{"matrix": {"v0": [1, 2]}, "repeat": 30}, {"matrix": {"v0": list(range(50))}}],
            "m.yaml:2: matrix: makes 60 jobs, and all of them together 110, at most 100 are "
            "allowed: shorten it, or raise --max-expand",
            id="together",
        ),
    ],
)
def test_what_would_expand_too_far_is_refused_before_it_is_expanded(
    tmp_path: Path, entries: list[dict[str, Any]], expected: str
) -> None:
    used = "{{ v0 }}{{ v1 }}{{ v2 }}{{ v3 }}" if "v3" in str(entries) else "{{ v0 }}"
    jobs = [{"image": IMAGE, "prompt": used, **entry} for entry in entries]
    text = "jobs:\n" + "".join(f"  - {json.dumps(entry)}\n" for entry in jobs)

    assert faults_of(write(tmp_path, "m.yaml", text), max_expand=100) == [expected]


# -- from ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("defaults", "own", "expected"),
    [
        ("acme", "", ["borealis", "acme"]),  # an empty cell says nothing
        ("acme", "    meta: {client: own}\n", ["own", "own"]),  # what the entry says wins over both
        ("null", "", ["borealis", ""]),
    ],
)
def test_a_tables_cell_wins_over_the_meta_of_the_defaults(
    tmp_path: Path, defaults: str, own: str, expected: list[str]
) -> None:
    table = f"id,image,client,seed\na,{IMAGE},borealis,3\nb,{IMAGE},,4\n"
    write(tmp_path, "rows.csv", table)
    text = f"defaults: {{meta: {{client: {defaults}, seed: x}}}}\njobs:\n  - from: rows.csv\n{own}"

    specs = specs_of(write(tmp_path, "m.yaml", text))

    assert [it.cells["client"] for it in specs] == expected
    # The name of an input is another column.
    assert [(it.cells["seed"], it.cells["meta.seed"]) for it in specs] == [("3", "x"), ("4", "x")]


def test_each_row_of_a_table_is_a_row_with_its_columns(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", TABLE)
    path = write(
        tmp_path,
        "m.yaml",
        "defaults: {duration: 5, meta: {client: acme}}\n"
        "jobs:\n  - from: rows.csv\n    prompt: 'See {{ subject }}'\n",
    )

    first, second = rows_of(path)

    assert list(first.cells.items()) == [
        ("id", "a"),
        ("subject", "a fox"),
        ("image", IMAGE),
        ("shot", "12a"),
        ("prompt", "See a fox"),
        ("duration", 5),
    ]
    assert (first.id, first.line, first.file) == ("a", 2, str(tmp_path / "rows.csv"))
    assert first.meta == {"client": "acme"}
    assert first.carried == {"id", "subject", "image", "shot"}
    assert first.variables == {}
    assert (first.lines["prompt"], first.lines["duration"]) == (4, 1)
    assert "image" not in first.lines
    # A cell is plain text, and an empty one comes back empty.
    assert second.cells["prompt"] == "See a {{ heron }}"
    assert second.cells["shot"] == ""


def test_what_the_job_says_wins_over_the_row_and_the_row_over_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", "id,duration,ratio,seeds,x y\n1,10,,'',z\n2,,,\"3,4\",\n")
    path = write(
        tmp_path,
        "m.yaml",
        f"defaults: {{duration: 5, ratio: '720:1280', seeds: [9], image: '{IMAGE}'}}\n"
        "jobs:\n"
        "  - from: rows.csv\n"
        "    id: n{{ row.id }}{{ row['x y'] | default('-') }}\n"
        "    ratio: '960:960'\n",
    )

    one, two = rows_of(path)

    assert (one.id, two.id) == ("n1z", "n2-")
    assert (one.cells["ratio"], one.cells["duration"], two.cells["duration"]) == (
        "960:960",
        "10",
        5,
    )
    assert one.defaulted == {"image"}
    assert two.defaulted == {"image", "duration"}
    assert two.seeds == "3,4"
    assert two.cells["meta.seeds"] == "3,4"
    # What is overruled comes back beside it.
    assert (one.cells["meta.id"], one.cells["meta.ratio"], one.cells["meta.seeds"]) == (
        "1",
        "",
        "''",
    )
    assert {"meta.id", "meta.ratio", "meta.seeds"} < one.carried
    assert "ratio" not in one.carried
    assert "duration" in one.carried
    assert "duration" not in two.carried


def test_an_empty_seed_cell_leaves_the_default(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", f"image,seeds\n{IMAGE},\n")
    path = write(tmp_path, "m.yaml", "defaults: {seeds: [9]}\njobs: [{from: rows.csv}]\n")

    (row,) = rows_of(path)

    assert row.seeds == [9]
    assert "seeds" in row.defaulted


def test_a_table_of_json_lines_keeps_its_types(tmp_path: Path) -> None:
    lines = [
        {"image": IMAGE, "n": 2, "look": {"name": "warm"}, "duration": 10},
        {"image": IMAGE, "n": 3, "look": {"name": "cold"}, "shot": "12a"},
    ]
    write(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    path = write(
        tmp_path,
        "m.yaml",
        "defaults: {duration: 5}\njobs:\n  - from: rows.jsonl\n"
        "    prompt: '{{ n * 2 }} {{ look.name }} {{ shot | default(\"-\") }}'\n",
    )

    specs = specs_of(path)

    assert [it.inputs["promptText"] for it in specs] == ["4 warm -", "6 cold 12a"]
    assert [it.inputs["duration"] for it in specs] == [10, 5]
    assert [it.cells["look"] for it in specs] == [{"name": "warm"}, {"name": "cold"}]


def test_a_table_multiplies_with_a_matrix_rows_outermost(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", TABLE)
    path = write(
        tmp_path,
        "m.yaml",
        "jobs:\n"
        "  - from: rows.csv\n"
        "    id: '{{ row.id }}-{{ move }}'\n"
        "    matrix: {move: [left, right]}\n"
        "    prompt: '{{ move }}'\n",
    )

    rows = rows_of(path)

    assert [row.id for row in rows] == ["a-left", "a-right", "b-left", "b-right"]
    assert [row.line for row in rows] == [2, 2, 3, 3]
    assert rows[0].variables == {"move": "left"}


@pytest.mark.parametrize(
    ("table", "entry", "expected"),
    [
        pytest.param(
            None,
            "from: no.csv",
            "m.yaml:2: from: no.csv: no such file: it was looked for in FOLDER",
            id="no-such-table",
        ),
        pytest.param(
            None,
            "from: m.yaml",
            f"m.yaml:2: from: m.yaml: a table ends in {', '.join(TABLES)}: rename it, or save it "
            "as CSV",
            id="no-table",
        ),
        pytest.param(
            None,
            "from: [a.csv]",
            "m.yaml:2: from: must be the path of a table, such as rows.csv",
            id="no-path",
        ),
        pytest.param(
            "a,a\n1,2\n",
            "from: rows.csv",
            "m.yaml:2: from: rows.csv:1: a: the header has this column twice: rename one",
            id="faulty-header",
        ),
        pytest.param(
            "image\n",
            "from: rows.csv",
            "m.yaml:2: from: rows.csv has no rows below its header: it needs at least one",
            id="no-rows",
        ),
        pytest.param(
            f"image,result_key\n{IMAGE},jabc\n",
            "from: rows.csv",
            "m.yaml:2: from: rows.csv is a result table, whose rows have their jobs: run "
            "it by itself",
            id="an-export",
        ),
        pytest.param(
            TABLE,
            "from: rows.csv\n    id: x",
            "m.yaml:3: id: the id must contain the variables, such as x-{{ id }}",
            id="one-id-for-all",
        ),
        pytest.param(
            TABLE,
            "from: rows.csv\n    matrix: {m: [1, 2]}\n    prompt: '{{ m }}'",
            "m.yaml:3: id: the id must contain the variables, such as {{ row.id }}-{{ m }}",
            id="ids-of-the-table-with-a-matrix",
        ),
        pytest.param(
            TABLE,
            "from: rows.csv\n    id: '{{ id }}{{ shot }}'\n    matrix: {shot: [1, 2]}",
            "m.yaml:4: matrix: shot is a variable of rows.csv too: rename one",
            id="a-variable-and-a-column",
        ),
        pytest.param(
            TABLE,
            "from: rows.csv\n    prompt: '{{ subjct }}'",
            "m.yaml:3: prompt: the variable `subjct` is not defined: did you mean "
            "`subject`? variables come from `vars`, `matrix`, `zip` and `from` (there: id, "
            "image, row, shot, subject)",
            id="undefined-once-for-all-rows",
        ),
        pytest.param(
            TABLE,
            "from: rows.csv\n    prompt: '{{ shot }}'",
            "m.yaml:3: prompt: the variable `shot` has no value here: give it one, or "
            "write {{ shot | default('…') }} (rows.csv:3)",
            id="an-empty-cell",
        ),
        pytest.param(
            TABLE,
            "from: rows.csv\n    prompt: '{{ row.sht }}'",
            "m.yaml:3: prompt: template: there is no `sht`: did you mean `shot`? there are "
            "id, subject, image, shot (rows.csv:2)\n"
            "m.yaml:3: prompt: template: there is no `sht`: there are id, subject, image "
            "(rows.csv:3)",
            id="no-such-column-of-row",
        ),
        pytest.param(
            f"image\n{IMAGE}\n",
            "from: rows.csv\n    prompt: '{{ choice([1, 2]) }}'",
            "m.yaml:3: prompt: template: `choice` needs an id in rows of a table, so that "
            "what it picks stays: give the row one (rows.csv:2)",
            id="choice-without-id",
        ),
        pytest.param(
            f"image,x\n{IMAGE},1,2\n",
            "from: rows.csv",
            "rows.csv:2: the row has 3 cells, the header 2: quote a cell that contains the "
            'delimiter ("…")',
            id="a-faulty-row",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_told_where_it_stands(
    tmp_path: Path, table: str | None, entry: str, expected: str
) -> None:
    if table is not None:
        write(tmp_path, "rows.csv", table)
    path = write(tmp_path, "m.yaml", f"jobs:\n  - {entry}\n")

    source = manifests.read(path)
    found = {*source.faults, *(fault for row in source.rows() for fault in row.faults)}

    assert "\n".join(map(str, sorted(found))).replace(f"{tmp_path}/", "") == expected.replace(
        "FOLDER", str(tmp_path)
    )


def test_the_jobs_of_a_table_are_those_of_the_table_as_a_manifest(tmp_path: Path) -> None:
    text = f'id,image,duration,seeds,shot,input.ratio\na,{IMAGE},5,"1,2",x,960:960\n,{IMAGE},,,,\n'
    table = write(tmp_path, "rows.csv", text)
    path = write(tmp_path, "m.yaml", "jobs: [{from: rows.csv}]\n")

    alone, within = specs_of(table), specs_of(path)

    same = [(it.row_id, it.variant, it.input_hash, it.inputs, it.file, it.line) for it in alone]
    assert same == [
        (it.row_id, it.variant, it.input_hash, it.inputs, it.file, it.line) for it in within
    ]
    assert [it.cells["shot"] for it in within] == ["x", "x", ""]
    assert within[0].cells["meta.seeds"] == "1,2"


def test_what_is_told_of_a_value_names_the_file_it_stands_in(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", f"id,image,duration,promt\na,{IMAGE},7,x\nb,{IMAGE},5,x\n")
    path = write(
        tmp_path, "m.yaml", "jobs:\n  - from: rows.csv\n    ratio: wide\n    model_: '{{ id }}'\n"
    )

    told = "\n".join(faults_of(path)).replace(f"{tmp_path}/", "")

    assert [line.split(": ")[:2] for line in told.splitlines()] == [
        ["m.yaml:3", "ratio"],
        ["m.yaml:4", "model_"],
        ["rows.csv:1", "promt"],
        ["rows.csv:2", "duration"],
    ]


def test_the_same_id_twice_is_told_also_if_both_come_from_one_line(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", f"id,image\na,{IMAGE}\nb,{IMAGE}\n")
    text = (
        "jobs:\n  - {from: rows.csv}\n"
        "  - matrix: {n: [1, 2], m: [3]}\n    id: b{{ m }}\n"
        f"    prompt: '{{{{ n }}}}'\n    image: {IMAGE}\n"
        f"  - {{id: a, image: '{IMAGE}'}}\n"
    )

    told = "\n".join(faults_of(write(tmp_path, "m.yaml", text))).replace(f"{tmp_path}/", "")

    assert told == (
        "m.yaml:4: id: b3 is already the id in line 3: ids must be unique\n"
        "m.yaml:7: id: a is already the id in rows.csv:2: ids must be unique"
    )


def test_an_alias_in_the_job_overrules_a_column_and_a_column_a_default(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", f"image_url,promptText,prompt note\n{IMAGE},cell,\n{IMAGE},,\n")
    text = (
        "defaults: {prompt: default}\njobs:\n  - from: rows.csv\n"
        "  - {from: rows.csv, prompt: 'A {{ promptText | default(1) }}'}\n"
    )

    specs = specs_of(write(tmp_path, "m.yaml", text))

    assert [it.inputs["promptText"] for it in specs] == ["cell", "default", "A cell", "A 1"]
    assert specs[2].cells["meta.promptText"] == "cell"
    assert specs[2].input_columns == {"image_url", "prompt"}


def test_a_column_may_fill_the_input_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", f"image,prompt,seed\n{IMAGE},A fox,7\n")
    text = "jobs: [{from: rows.csv, prompt: '{{ prompt }} at dusk', seeds: [1]}]\n"

    (spec,) = specs_of(write(tmp_path, "m.yaml", text))

    assert spec.inputs == {"promptImage": IMAGE, "promptText": "A fox at dusk", "seed": 1}
    assert spec.cells["prompt"] == "A fox at dusk"
    assert (spec.cells["meta.prompt"], spec.cells["meta.seed"]) == ("A fox", "7")


def test_variables_come_back_as_the_last_columns(tmp_path: Path) -> None:
    text = job(
        matrix={"subject": ["fox", "owl"], "duration": [5, 10]},
        include=[{"subject": "owl", "sky": "fog"}],
        prompt="{{ subject }}",
        duration="{{ duration }}",
        meta={"shot": "12a"},
    )
    path = write(tmp_path, "m.yaml", text)

    checked = manifests.check(manifests.read(path), models=MODELS)

    inputs = ("image", "prompt", "duration")
    assert checked.columns == (*inputs, "shot", "subject", "meta.duration", "sky")
    last = list(checked.specs())[-1]
    assert list(last.cells.items())[2:] == [
        ("duration", 10),
        ("shot", "12a"),
        ("subject", "owl"),
        ("meta.duration", 10),
        ("sky", "fog"),
    ]


def test_rows_of_a_table_are_not_bounded_but_what_a_matrix_makes_of_them(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", "id,image\n" + "".join(f"{n},{IMAGE}\n" for n in range(3000)))
    plain = write(tmp_path, "plain.yaml", "jobs: [{from: rows.csv}]\n")
    path = write(
        tmp_path,
        "m.yaml",
        "jobs:\n  - from: rows.csv\n    id: '{{ row.id }}{{ m }}'\n    matrix: {m: [x, y]}\n",
    )

    assert len(specs_of(plain, max_expand=10)) == 3000
    assert faults_of(path, max_expand=10) == [
        (
            "m.yaml: `matrix`, `zip`, `seeds` and `repeat` make more than 10 jobs, at most 10 are "
            "allowed: shorten them, or raise --max-expand"
        )
    ]


def test_a_table_is_read_row_by_row(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        write(tmp_path, "rows.csv", HEADER + f"x,y,{IMAGE},z\n" * rows)
        path = write(tmp_path, "m.yaml", "jobs: [{from: rows.csv, prompt: '{{ subject }}'}]\n")
        tracemalloc.start()
        count = sum(1 for _ in manifests.read(path).rows())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == rows
        return most

    peak(10)  # Jinja loads its modules

    # Two thousand rows take three megabytes; what Jinja leaves to the collector varies.
    assert peak(2000) < peak(200) + 500_000


# -- choice --------------------------------------------------------------------------------------

OPTIONS = st.lists(st.text(max_size=5), min_size=1, max_size=6, unique=True)


@given(identity=st.text(), call=st.integers(1, 5), options=OPTIONS, data=st.data())
def test_a_pick_does_not_hang_on_the_order_of_options_or_on_those_that_lost(
    identity: str, call: int, options: list[str], data: st.DataObject
) -> None:
    picked = pick(identity, call, list(options))

    assert pick(identity, call, data.draw(st.permutations(options))) == picked
    fewer = [it for it in options if it == picked or data.draw(st.booleans())]
    assert pick(identity, call, fewer) == picked
    more = [*options, data.draw(st.text(min_size=6, max_size=7))]
    assert pick(identity, call, list(more)) in (picked, more[-1])


def test_picks_are_even_and_an_option_that_is_there_twice_counts_twice() -> None:
    picks = [pick(str(number), 1, ["a", "a", "b"]) for number in range(3000)]

    assert 1800 < picks.count("a") < 2200


def test_what_is_picked_never_changes() -> None:
    options = ["fog", "rain", 3, {"b": 1, "a": 2}, None]

    assert [pick("id", call, options) for call in range(1, 9)] == [
        3,
        "fog",
        "fog",
        None,
        3,
        {"b": 1, "a": 2},
        3,
        "rain",
    ]
    assert pick("", 1, [{"a": 1, "b": 2}, {"b": 2, "a": 1}]) == {"a": 1, "b": 2}


def chosen(tmp_path: Path, jobs: Sequence[dict[str, Any]], name: str = "m.yaml") -> dict[str, str]:
    text = "vars: {lights: [dawn, noon, dusk, night]}\njobs:\n"
    text += "".join(f"  - {json.dumps(entry)}\n" for entry in jobs)
    rows = rows_of(write(tmp_path, name, text))
    return {f"{row.id} {row.cells['image']}": row.cells["prompt"] for row in rows}


ENTRIES: list[dict[str, Any]] = [
    *(
        {"id": f"i{number}", "image": IMAGE, "prompt": "{{ choice(lights) }}"}
        for number in range(4)
    ),
    *(
        {"image": f"https://images.example.com/{number}.jpg", "prompt": "By {{ choice(lights) }}"}
        for number in range(4)
    ),
    {
        "matrix": {"n": list(range(10, 16)), "more": ["x"]},
        "image": "https://images.example.com/{{ n }}-{{ more }}.jpg",
        "prompt": "At {{ choice(lights) }}, {{ choice(lights) }}",
    },
]


@settings(max_examples=30)
@given(data=st.data())
def test_a_pick_stays_whatever_happens_to_other_jobs(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    before = chosen(folder, ENTRIES)
    others = [
        {"id": f"o{number}", "image": IMAGE, "prompt": "x"}
        for number in range(data.draw(st.integers(0, 2)))
    ]
    more = data.draw(st.lists(st.integers(20, 29), unique=True))
    last = {**ENTRIES[-1], "matrix": {"n": [*more, *range(10, 16)], "more": ["x", "y"]}}
    edited = data.draw(st.permutations([*others, *ENTRIES[:-1], last]))
    kept = [
        {
            **entry,
            "meta": {"note": data.draw(st.text("ab", max_size=2))},
            "duration": data.draw(st.sampled_from([5, 10])),
            "seeds": data.draw(st.sampled_from([[1], [1, 2]])),
        }
        for entry in edited
    ]

    after = chosen(folder, kept, data.draw(st.sampled_from(["m.yaml", "renamed.yml"])))

    assert {name: after[name] for name in before} == before


def test_picks_of_different_jobs_calls_and_keys_differ(tmp_path: Path) -> None:
    jobs = [
        {
            "id": str(number),
            "image": IMAGE,
            "prompt": "{{ choice(lights) }} {{ choice(lights) }}",
            "other": "{{ choice(lights) }}",
        }
        for number in range(40)
    ]
    text = "vars: {lights: [dawn, noon, dusk, night]}\njobs:\n"
    text += "".join(f"  - {json.dumps(entry)}\n" for entry in jobs)

    rows = rows_of(write(tmp_path, "m.yaml", text))

    picked = [(*row.cells["prompt"].split(), row.cells["other"]) for row in rows]
    assert all(len({*parts}) == 4 for parts in zip(*picked, strict=True))
    assert sum(len({*parts}) > 1 for parts in picked) > 25


@pytest.mark.parametrize(
    "jobs",
    [
        pytest.param([{"id": str(n), "image": IMAGE} for n in range(30)], id="id"),
        pytest.param([{"image": f"{IMAGE}?{n}"} for n in range(30)], id="url"),
        pytest.param([{"image": IMAGE, "prompt": f"{n}: PICK"} for n in range(30)], id="text"),
        pytest.param(
            [{"image": IMAGE, "matrix": {"n": list(range(30))}, "prompt": "{{ n }}: PICK"}],
            id="variable",
        ),
        pytest.param([{"id": "a", "image": IMAGE, "prompt": ["PICK"] * 30}], id="place"),
        pytest.param([{"image": IMAGE, "prompt": ["PICK"] * 30}], id="place-without-id"),
        pytest.param([{"id": "a", "prompt": [f"{n} PICK" for n in range(30)]}], id="text-and-id"),
    ],
)
def test_picks_differ_where_what_they_hang_on_differs(
    tmp_path: Path, jobs: list[dict[str, Any]]
) -> None:
    text = "jobs:\n" + "".join(f"  - {json.dumps({'prompt': 'PICK', **it})}\n" for it in jobs)
    text = text.replace("PICK", "{{ choice(range(9)) }}")

    rows = rows_of(write(tmp_path, "m.yaml", text))

    values = [row.cells["prompt"] for row in rows]
    picked = {str(pick)[-1] for it in values for pick in (it if isinstance(it, list) else [it])}
    assert len(picked) > 5


@pytest.mark.parametrize("row_id", ["", "id: a, "])
def test_a_pick_does_not_hang_on_what_the_input_is_called(tmp_path: Path, row_id: str) -> None:
    picked = []
    for name in ("prompt", "promptText"):
        pick_one = "{{ choice(range(1000)) }}"
        text = f"jobs:\n  - {{{row_id}image: '{IMAGE}', {name}: '{pick_one}'}}\n"
        [row] = rows_of(write(tmp_path, "m.yaml", text))
        picked.append(row.cells[name])

    assert picked[0] == picked[1]


def test_the_picks_of_jobs_never_change(tmp_path: Path) -> None:
    pick_one = "{{ choice(range(1000)) }}"
    text = (
        f"jobs:\n  - {{id: a, image: '{IMAGE}', prompt: '{pick_one}'}}\n"
        f"  - {{image: '{IMAGE}?X-Amz-Signature=1', prompt: '{pick_one}'}}\n"
        f"  - {{image: '{IMAGE}', prompt: 'n {{{{ n }}}} {pick_one}', matrix: {{n: [1, 2]}}}}\n"
    )

    picked = [244, 339, "n 1 337", "n 2 41"]

    assert prompts(write(tmp_path, "m.yaml", text)) == picked
    # Signing a link anew changes nothing, and with an id no URL counts.
    again = text.replace("Signature=1", "Signature=2").replace(IMAGE, f"{IMAGE}?v=2", 1)
    assert prompts(write(tmp_path, "m.yaml", again)) == picked


def test_equal_jobs_share_their_pick_and_vars_are_picked_once(tmp_path: Path) -> None:
    text = "vars: {sky: '{{ choice([fog, rain]) }}', fog: 1}\njobs: []\n"
    assert faults_of(write(tmp_path, "m.yaml", text))[0].startswith("m.yaml:1: sky: the variable")
    entry = {"image": IMAGE, "prompt": "{{ sky }} {{ choice(range(100)) }}"}
    text = 'vars: {sky: \'{{ choice(["fog", "rain"]) }}\'}\njobs:\n'
    text += f"  - {json.dumps(entry)}\n" * 2

    one, other = prompts(write(tmp_path, "m.yaml", text))

    assert one == other
    assert one.split()[0] in ("fog", "rain")


def test_a_pick_follows_the_id_whatever_else_changes(tmp_path: Path) -> None:
    write(tmp_path, "rows.csv", HEADER + f"a,x,{IMAGE},1\nb,y,{IMAGE},2\n")
    text = "jobs:\n  - from: rows.csv\n    prompt: '{{ choice(range(1000)) }}'\n"
    before = prompts(write(tmp_path, "m.yaml", text))
    write(tmp_path, "rows.csv", f"note,{HEADER}n,b,z,{IMAGE}x,\n,c,,{IMAGE},\n!,a,,{IMAGE},9\n")

    after = prompts(tmp_path / "m.yaml")

    assert [after[2], after[0]] == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            job(id="{{ choice([1, 2]) }}"),
            "m.yaml:2: id: template: `choice` cannot be used here: it is for `vars`, and for the "
            "values of a job but its id",
            id="in-the-id",
        ),
        pytest.param(
            job(matrix={"a": ["{{ choice([1, 2]) }}"]}, prompt="{{ a }}"),
            "m.yaml:2: a: template: `choice` cannot be used here: it is for `vars`, and for the "
            "values of a job but its id",
            id="in-a-matrix",
        ),
        pytest.param(
            job(prompt="{{ choice([]) }}"),
            "m.yaml:2: prompt: template: `choice` needs at least one option",
            id="of-nothing",
        ),
        pytest.param(
            job(prompt="{{ choice('ab') }}"),
            "m.yaml:2: prompt: template: `choice` needs a list, as choice([1, 2])",
            id="of-a-text",
        ),
    ],
)
def test_where_choice_cannot_be_is_told(tmp_path: Path, text: str, expected: str) -> None:
    assert faults_of(write(tmp_path, "m.yaml", text)) == [expected]
