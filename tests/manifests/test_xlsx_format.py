import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pytest
from manifests.manifest_files import IMAGE, faults_of, specs_of, write

from batchgen import manifests
from batchgen.domain.errors import ManifestError
from batchgen.domain.jobs import Model
from batchgen.manifests import xlsx_format
from batchgen.manifests.grid import index_of, letters_of
from batchgen.manifests.values import Form


def save(folder: Path, *sheets: Sequence[Sequence[Any]], name: str = "m.xlsx") -> Path:
    """Write a workbook whose sheets are called One, Two, …; return where."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in zip(("One", "Two", "Three"), sheets, strict=False):
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(folder / name)
    return folder / name


def change(path: Path, old: str, new: str) -> None:
    """Replace a text in the XML of the first sheet."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    assert old.encode() in parts[sheet]
    parts[sheet] = parts[sheet].replace(old.encode(), new.encode())
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.0, "5"),
        (12, "12"),
        (-0.5, "-0.5"),
        (0.1 + 0.2, "0.3"),
        (4294967295, "4294967295"),
        (1e15, "1000000000000000"),
        (1e300, "1e+300"),
        ("007", "007"),
        (" two\nlines ", " two\nlines "),
        ("é🦊", "é🦊"),
        ("x" * 32_767, "x" * 32_767),
        (True, "true"),
        (False, "false"),
        (date(2026, 11, 25), "2026-11-25"),
        (datetime(2026, 11, 25, 0, 0), "2026-11-25"),  # noqa: DTZ001 - as a workbook has it
        (datetime(2026, 11, 25, 12, 30, 5), "2026-11-25T12:30:05"),  # noqa: DTZ001
        (time(16, 9), "16:09:00"),
        (timedelta(hours=1292), "1292:00:00"),
    ],
)
def test_cells_are_the_text_that_a_csv_would_have(tmp_path: Path, value: Any, text: str) -> None:
    (row,) = manifests.read(save(tmp_path, [["image", "note"], [IMAGE, value]])).rows()

    assert row.cells == {"image": IMAGE, "note": text}


def test_a_number_is_an_id_and_a_number(tmp_path: Path) -> None:
    path = save(tmp_path, [["id", "image", "seeds", "duration"], [12.0, IMAGE, 7.0, 5.0]])

    (spec,) = specs_of(path)

    assert (spec.row_id, spec.inputs["seed"], spec.inputs["duration"]) == ("12", 7, 5)
    assert spec.file == f"{path}[One]"


def test_what_is_empty_around_the_table_is_left_out(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for place, value in {
        "B3": "id", "C3": "prompt", "D3": "image", "E3": " ",
        "B5": "a", "D5": IMAGE, "B6": "b", "C6": "x", "D6": IMAGE, "C9": " ", "F40": "",
    }.items():  # fmt: skip
        sheet[place] = value
    sheet["Z99"].font = openpyxl.styles.Font(bold=True)
    path = tmp_path / "m.xlsx"
    book.save(path)

    rows = list(manifests.read(path).rows())

    assert [(row.line, row.id, row.cells["prompt"]) for row in rows] == [
        (5, "a", ""),
        (6, "b", "x"),
    ]
    assert manifests.read(path).columns == ("id", "prompt", "image")


FINE = [["image", "prompt"], [IMAGE, "x"]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([], ["m.xlsx: has no sheet that shows something: it needs a header and rows"]),
        pytest.param(
            [["image"]], ["m.xlsx[One]: has no rows below its header: it needs at least one job"]
        ),
        pytest.param([*FINE, [IMAGE, "#N/A"]], ["m.xlsx[One]:3: prompt: the cell shows #N/A"]),
        pytest.param([*FINE, [IMAGE, "=A1"]], ["m.xlsx[One]:3: prompt: the formula has no stored"]),
        pytest.param([*FINE, [None, "#REF!"]], ["m.xlsx[One]:3: prompt: the cell shows #REF!"]),
        pytest.param([*FINE, [IMAGE, "x", "=A1"]], ["m.xlsx[One]:3: C: the formula", "column C"]),
        pytest.param([["image", "#N/A"], [IMAGE, 1]], ["m.xlsx[One]:1: the cell shows"]),
        pytest.param([*FINE, [IMAGE, "x", "y"]], ["m.xlsx[One]:3: column C has a value but no"]),
        pytest.param([["image", "image"], [IMAGE]], ["m.xlsx[One]:1: image: the header has this"]),
        pytest.param([["image", "duration"], [IMAGE, 7]], ["m.xlsx[One]:2: duration: 7 is not"]),
    ],
    ids=[
        "empty",
        "header",
        "error",
        "formula",
        "error-only",
        "far",
        "top",
        "unnamed",
        "twice",
        "enum",
    ],
)
def test_a_fault_names_sheet_and_row(
    tmp_path: Path, rows: Sequence[Sequence[Any]], expected: list[str]
) -> None:
    faults = faults_of(save(tmp_path, rows))

    text = "\n".join(faults).replace(": #N/A: the cell shows", ": the cell shows")
    assert all(part in text for part in expected), text
    assert len(faults) == len(expected), faults


def test_a_choice_that_excel_took_for_a_time_is_told(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["image", "prompt", "ratio"], [IMAGE, "x", time(16, 9)]]
    schema = {"properties": {"ratio": {"type": "string", "enum": ["16:9", "9:16"]}}}

    [problem] = Form(model(schema)).problems({"ratio": specs_cell(save(tmp_path, rows), "ratio")})

    assert problem[1] == (
        "16:09:00 is not one of 16:9, 9:16: Excel took it for a time; format the column as text, "
        "then write 16:9"
    )


def specs_cell(path: Path, name: str) -> Any:
    [row] = manifests.read(path).rows()
    return row.cells[name]


def model(schema: dict[str, Any]) -> Model:
    return replace(manifests.load_models()[manifests.DEFAULT_MODEL], schema=schema)


def test_a_header_without_a_known_column_is_doubted_and_other_sheets_are_named(
    tmp_path: Path,
) -> None:
    path = save(tmp_path, [["Plan of May"], *FINE], [["image"]])

    faults = faults_of(path)

    told = ". Line 1 is taken for the header: is it one? Other sheets of the workbook are Two"
    assert told in faults[0]
    assert sum(told in fault for fault in faults) == 1
    assert "is it one" not in faults_of(save(tmp_path, [["id"], [1]], name="n.xlsx"))[0]


def test_a_formula_counts_with_its_stored_result(tmp_path: Path) -> None:
    path = save(tmp_path, [["image", "prompt", "note"], [IMAGE, "=A1", "=B1"]])
    change(path, '<c r="B2"><f>A1</f><v /></c>', '<c r="B2" t="str"><f>A1</f><v>fox</v></c>')
    change(path, '<c r="C2"><f>B1</f><v /></c>', '<c r="C2" t="str"><f>B1</f><v></v></c>')

    (row,) = manifests.read(path).rows()

    assert (row.cells["prompt"], row.cells["note"], row.faults) == ("fox", "", ())


def test_shared_strings_and_prefixed_names_are_those_of_other_programs(tmp_path: Path) -> None:
    path = save(tmp_path, [["image", "prompt"], [IMAGE, "x"], [IMAGE, "=A1"]])
    change(path, '<c r="B2" t="inlineStr"><is><t>x</t></is></c>', '<c r="B2" t="s"><v>1</v></c>')
    with zipfile.ZipFile(path) as archive:
        inside = archive.read("xl/worksheets/sheet1.xml").decode()
    prefixed = re.sub(r"<(/?)(\w)", r"<\1x:\2", inside).replace("xmlns=", "xmlns:x=")
    change(path, inside, prefixed)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            "xl/sharedStrings.xml",
            '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>no</t>'
            '</si><si><r><t xml:space="preserve">a </t></r><r><t>fox</t></r></si></sst>',
        )

    first, second = manifests.read(path).rows()

    assert first.cells == {"image": IMAGE, "prompt": "a fox"}
    assert [fault.column for fault in second.faults] == ["prompt"]


def test_merged_cells_below_the_header_are_a_fault(tmp_path: Path) -> None:
    path = save(tmp_path, [["image", "prompt"], [IMAGE, "x"], [IMAGE], [IMAGE, None]])
    book = openpyxl.load_workbook(path)
    book.worksheets[0].merge_cells("B2:B3")
    book.worksheets[0].merge_cells("B4:C4")
    book.worksheets[0].merge_cells("B1:C1")
    book.save(path)

    assert faults_of(path) == [
        "m.xlsx[One]:2: prompt: B2:B3 are merged, and only the first has the value: fill each"
    ]


def test_the_first_sheet_that_shows_something_is_read_or_the_one_that_is_named(
    tmp_path: Path,
) -> None:
    path = save(tmp_path, [["hidden"]], [], [["image"], [IMAGE]])
    book = openpyxl.load_workbook(path)
    book["One"].sheet_state = "hidden"
    book.save(path)

    assert manifests.read(path).path == f"{path}[Three]"
    assert manifests.read(f"{path}[one]").columns == ("hidden",)
    assert manifests.read(f"{path}[One]").stem == "m"
    with pytest.raises(ManifestError, match="no such sheet: its sheets are One, Two, Three"):
        manifests.read(f"{path}[Four]")
    with pytest.raises(ManifestError, match=r"\[Two\]: is empty: it needs a header"):
        manifests.read(f"{path}[Two]")


def test_a_file_may_be_called_as_a_sheet_would_be(tmp_path: Path) -> None:
    path = write(tmp_path, "m.csv[1].csv", f"image\n{IMAGE}\n")

    assert manifests.read(path).stem == "m.csv[1]"


@pytest.mark.parametrize("place", ["A200001", "B1048576", "CVE1000", "XFD200"])
def test_a_sheet_that_would_fill_the_memory_is_refused(tmp_path: Path, place: str) -> None:
    path = save(tmp_path, FINE)
    book = openpyxl.load_workbook(path)
    book.worksheets[0][place] = 1
    book.save(path)

    (fault,) = faults_of(path)

    assert fault == (
        f"m.xlsx[One]: there is a value in {place}, but at most 200,000 rows and 2,000,000 cells "
        "are read: a workbook is held in memory, so save it as CSV, which is not"
    )


def test_a_workbook_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, FINE)
    monkeypatch.setattr(xlsx_format, "LARGEST_BYTES", 1000)

    (fault,) = faults_of(path)

    assert fault.startswith("m.xlsx: unpacked it has ")


def test_columns_have_letters() -> None:
    names = [letters_of(index) for index in range(16_384)]

    assert names[:3] + names[25:28] + names[-1:] == ["A", "B", "C", "Z", "AA", "AB", "XFD"]
    assert [index_of(name) for name in names] == list(range(16_384))
