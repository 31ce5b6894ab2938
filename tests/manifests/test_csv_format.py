from pathlib import Path

import pytest
from exporters.paged import paged
from hypothesis import example, given
from hypothesis import strategies as st
from manifests.manifest_files import IMAGE, faults_of, specs_of, write

from batchgen import manifests
from batchgen.domain.columns import ESCAPED_MARK
from batchgen.exporters import Record, export
from batchgen.manifests import csv_format


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            f"id,Prompt,image\na,hi,{IMAGE}\n",
            "m.csv:1: Prompt: did you mean `prompt`? write `meta.Prompt` if it is meant to be "
            "carried along",
            id="case",
        ),
        pytest.param(
            f"duraton,image\n5,{IMAGE}\n",
            "m.csv:1: duraton: did you mean `duration`? write `meta.duraton` if it is meant to be "
            "carried along",
            id="misspelled",
        ),
        pytest.param(
            f"ID,image\n5,{IMAGE}\n",
            "m.csv:1: ID: did you mean `id`? write `meta.ID` if it is meant to be carried along",
            id="batchgen-word",
        ),
        pytest.param(
            f"image,image\n{IMAGE},\n",
            "m.csv:1: image: the header has this column twice: rename one",
            id="duplicate-column",
        ),
        pytest.param(
            f"image,\n{IMAGE},x\n",
            "m.csv:2: column 2 has a value but no name in the header: name it",
            id="unnamed-column",
        ),
        pytest.param(
            f"prompt,image\na, b,{IMAGE}\n",
            "m.csv:2: the row has 3 cells, the header 2: quote a cell that contains the delimiter "
            '("…")',
            id="too-many-cells",
        ),
        pytest.param(
            "prompt,client\nx,y\nz,y\n",
            "m.csv:1: image: there is no such column, and "
            "runwayml/runway-gen-4/turbo/image-to-video requires it: add it",
            id="no-image-column-is-one-fault",
        ),
        pytest.param(
            f'prompt,image\n"a\nb",{IMAGE}\n"c\nd",{IMAGE}\nx,\n',
            "m.csv:6: image: is missing: runwayml/runway-gen-4/turbo/image-to-video requires it, "
            "fill it in",
            id="lines-are-physical",
        ),
        pytest.param(
            f"input.durations,image\n5,{IMAGE}\n",
            "m.csv:1: input.durations: runwayml/runway-gen-4/turbo/image-to-video has no such "
            "input: did you mean `duration`? (--allow-unknown-inputs sends it as it is)",
            id="forced-unknown-input",
        ),
        pytest.param(
            f"image,prompt\n{IMAGE},a\0b\n",
            "m.csv:2: contains a NUL byte: save it as text in UTF-8",
            id="nul",
        ),
        pytest.param(
            f'image,prompt\n{IMAGE},"abc\n',
            "m.csv:2: is not valid CSV (unexpected end of data): a quote is not closed, or text "
            "follows a closing quote",
            id="open-quote",
        ),
        pytest.param(
            f"image,prompt,promptText\n{IMAGE},a,b\n",
            "m.csv:2: promptText: sets promptText, which `prompt` sets too: keep one",
            id="two-columns-for-one-input",
        ),
        pytest.param(
            "image\n",
            "m.csv: has no rows below its header: it needs at least one job",
            id="no-rows",
        ),
        pytest.param("\n\n", "m.csv: is empty: it needs a header and at least one row", id="blank"),
        pytest.param(
            f"image,prompt\n{IMAGE},caf\xe9\n".encode("latin-1"),
            "m.csv:2: is not UTF-8 (byte 0xe9; it may be Latin-1 or Windows-1252): save it as "
            "UTF-8 (in Excel: “CSV UTF-8”)",
            id="latin-1",
        ),
        pytest.param(
            f"image\r{IMAGE}\rcaf\xe9".encode("latin-1"),
            "m.csv:3: is not UTF-8 (byte 0xe9; it may be Latin-1 or Windows-1252): save it as "
            "UTF-8 (in Excel: “CSV UTF-8”)",
            id="latin-1-of-an-old-mac",
        ),
        pytest.param(
            f"image\r\n{IMAGE}\r\n".encode("utf-16") + b"x",
            "m.csv:3: is not UTF-16, as it begins: it may be cut off; save it as UTF-8 (in Excel: "
            "“CSV UTF-8”)",
            id="half-a-character",
        ),
        pytest.param(
            f"image,prompt\n{IMAGE},{'x' * 17 * 1024**2}\n",
            "m.csv:2: the line has 16,777,216 characters or more: is this a table?",
            id="no-end",
        ),
        pytest.param(
            f"sep=;\nimage;duration\n\n{IMAGE};7\n",
            "m.csv:4: duration: 7 is not one of 5, 10",
            id="lines-below-a-declared-delimiter",
        ),
        pytest.param(
            b"PK\x03\x04xxxx",
            "m.csv: is a spreadsheet or an archive, not text: export it as CSV, or name it .xlsx",
            id="xlsx-renamed",
        ),
    ],
)
def test_a_faulty_table_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, expected: str
) -> None:
    assert faults_of(write(tmp_path, "m.csv", content)) == [expected]


def test_columns_people_have_are_carried(tmp_path: Path) -> None:
    names = (
        "category,dimensions,client,note,scene,name,image_name,time,rating,rate,uid,vid,style,"
        "camera,location,date,result_foo,status,url,tags,seed_note"
    )
    row = ",".join("x" for _ in names.split(","))
    path = write(tmp_path, "m.csv", f"image,{names}\n{IMAGE},{row}\n")

    (spec,) = specs_of(path)

    assert dict(spec.inputs) == {"promptImage": IMAGE}
    assert list(spec.cells) == ["image", *names.split(",")]
    assert spec.input_columns == {"image"}


def test_a_file_like_the_benchmark_of_image_to_video_is_taken_as_it_is(tmp_path: Path) -> None:
    lines = ["id,prompt,image,category,dimensions"]
    for number in range(0, 40, 2):
        lines.append(
            f'i2v-{number:04},"a liquid, camera pans right",https://images.example.com/'
            "vbench-i2v/a%20close%20up%20of%20a%20liquid.jpg,abstract,i2v_background|quality"
        )
    path = write(tmp_path, "vbench.csv", "\n".join(lines))

    specs = specs_of(path)

    assert [spec.row_id for spec in specs[:2]] == ["i2v-0000", "i2v-0002"]
    assert specs[0].cells["dimensions"] == "i2v_background|quality"
    assert specs[-1].line == 21
    assert manifests.read(path).columns == ("id", "prompt", "image", "category", "dimensions")


def test_input_and_meta_prefixes_decide_what_a_column_is(tmp_path: Path) -> None:
    path = write(
        tmp_path, "m.csv", f"input.image,input.duration,meta.duration\n{IMAGE},10,two weeks\n"
    )

    (spec,) = specs_of(path)

    assert dict(spec.inputs) == {"promptImage": IMAGE, "duration": 10}
    assert spec.cells["meta.duration"] == "two weeks"
    assert spec.input_columns == {"input.image", "input.duration"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_delimiter_encoding_and_line_ends_are_found_out(
    tmp_path: Path, delimiter: str, encoding: str, end: str
) -> None:
    header = delimiter.join(["id", "image", '"a,b;c,d;e"', "prompt"])
    row = delimiter.join(["x", IMAGE, "kept", '"one, two; three| é 🦊"'])
    path = write(tmp_path, "m.csv", (header + end + end + row + end).encode(encoding))

    (spec,) = specs_of(path)

    assert spec.inputs["promptText"] == "one, two; three| é 🦊"
    assert spec.cells["a,b;c,d;e"] == "kept"
    assert spec.line == 3


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("note,image,a|b|c|d", ","),
        ("image|one, two, three|note", "|"),
        ("image", ","),
        ("sep=|", "|"),
        ('"SEP=;"', ";"),
        ("sep=\t", "\t"),
    ],
)
def test_the_delimiter_is_the_one_that_gives_known_columns(
    tmp_path: Path, header: str, delimiter: str
) -> None:
    names = header if "image" in header else f"image{delimiter}x,y|z;w,v"
    above = "" if names == header else f"{header}\r\n"
    row = delimiter.join([IMAGE] * len(names.split(delimiter)))
    path = write(tmp_path, "m.csv", f"{above}{names}\r\n{row}\r\n")

    (spec,) = specs_of(path)

    assert list(spec.cells) == names.split(delimiter)


@pytest.mark.parametrize("header", ["image,prompt,,", "image,prompt", "image,prompt,"])
def test_delimiters_behind_the_last_column_are_forgiven(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, "m.csv", f"{header}\n{IMAGE},hi,,\n,,,\n{IMAGE},\n,,,,,\n")

    assert [dict(spec.cells) for spec in specs_of(path)] == [
        {"image": IMAGE, "prompt": "hi"},
        {"image": IMAGE, "prompt": ""},
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("shift", [-2, -1, 0, 1])
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_table_is_read_whole_wherever_its_blocks_end(
    tmp_path: Path, blocks: int, shift: int, end: str
) -> None:
    above = f"id,image,prompt,note{end}"
    row = f'0,{IMAGE},"a{end}b",'
    note = "x" * (blocks * csv_format._BLOCK + shift - len(above + row))  # then a block ends
    text = f'{above}{row}{note}{end}1,{IMAGE},"c{end}d"{end}2,{IMAGE}'
    path = write(tmp_path, "m.csv", text)

    first, *others = manifests.read(path).rows()

    assert first.cells["note"] == note
    assert first.cells["prompt"] == f"a{end}b"
    assert [row.line for row in others] == [4, 6]
    write(tmp_path, "m.csv", f"{text}\0")
    assert faults_of(path) == ["m.csv:6: contains a NUL byte: save it as text in UTF-8"]
    write(tmp_path, "m.csv", text.encode() + b"\xe9")
    assert faults_of(path)[0].startswith("m.csv:6: is not UTF-8 (byte 0xe9;")


def test_braces_in_a_cell_are_plain_text(tmp_path: Path) -> None:
    (spec,) = specs_of(write(tmp_path, "m.csv", f"image,prompt\n{IMAGE},{{{{ x }}}}\n"))

    assert spec.inputs["promptText"] == "{{ x }}"


def test_a_huge_carried_cell_comes_back_whole(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv", f"image,note\n{IMAGE},{'x' * 1_000_000}\n")

    assert len(specs_of(path)[0].cells["note"]) == 1_000_000


def test_short_and_blank_rows_are_forgiven(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv", f"image,prompt,note\n{IMAGE}\n,,\n\n{IMAGE},hi\n")

    specs = specs_of(path)

    assert [spec.line for spec in specs] == [2, 5]
    assert dict(specs[0].cells) == {"image": IMAGE, "prompt": "", "note": ""}


def test_an_export_loses_its_result_columns_and_nothing_else(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "out.csv",
        "id,image,prompt,result_key,result_error,result_foo\n"
        f"a,{IMAGE},'=1+1,j01,boom,mine\nb,{IMAGE},'tis,,,\n",
    )

    first, second = specs_of(path)

    assert (first.result_key, second.result_key) == ("j01", None)
    assert first.inputs["promptText"] == "'=1+1"
    assert second.inputs["promptText"] == "'tis"
    assert list(first.cells) == ["id", "image", "prompt", "result_foo"]
    assert manifests.read(path).has_result_keys


def test_formula_escapes_are_undone_where_the_row_says_that_there_are_any(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "out.csv",
        f"id,image,prompt,'@who,result_key,{ESCAPED_MARK}\n"
        f"a,{IMAGE},'=1+1,'tis,j01,TRUE\n"  # as a spreadsheet saves it
        f"b,{IMAGE},'=1+1,'-,,\n",  # a row that the user added
    )

    first, second = (dict(spec.cells) for spec in specs_of(path))

    assert first == {"id": "a", "image": IMAGE, "prompt": "=1+1", "@who": "'tis"}
    assert second == {"id": "b", "image": IMAGE, "prompt": "'=1+1", "@who": "'-"}


def test_a_mark_is_the_users_own_in_a_file_that_is_no_export(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv", f"image,prompt,{ESCAPED_MARK}\n{IMAGE},'=1+1,true\n")

    (spec,) = specs_of(path)

    assert dict(spec.cells) == {"image": IMAGE, "prompt": "'=1+1", ESCAPED_MARK: "true"}


CELLS = st.text(st.sampled_from("'=+-@\t\r\n,\";é 1"), max_size=6)
NAMES = CELLS.map(lambda text: f"{text}x").filter(str.strip)


@example(table={";;x": "", "\rx": ""}, excel_safe=False, bom=False)
@example(table={"=x": "", " '=x": ""}, excel_safe=True, bom=False)  # alike until it is undone
@given(
    table=st.dictionaries(NAMES, CELLS, max_size=4).filter(
        lambda table: len({name.strip() for name in table}) == len(table)
    ),
    excel_safe=st.booleans(),
    bom=st.booleans(),
)
def test_any_cells_come_back_from_an_export(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, str], excel_safe: bool, bom: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    record = Record(cells=table, results={"result_key": "j01", "result_error": "=1+1"})

    export(
        paged([record]), str(path), columns=[*table], overwrite=True, excel_safe=excel_safe, bom=bom
    )
    (row,) = manifests.read(path).rows()

    assert (dict(row.cells), row.result_key) == (table, "j01")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Plan of May\nimage,prompt\na,b\n", id="title"),
        pytest.param("https://images.example.com/a.jpg,x\nc,d\n", id="no-header"),
    ],
)
def test_a_header_without_a_known_column_is_doubted(tmp_path: Path, text: str) -> None:
    faults = faults_of(write(tmp_path, "m.csv", text))

    doubted = [it for it in faults if it.endswith("Line 1 is taken for the header: is it one?")]
    assert doubted == faults[:1]
