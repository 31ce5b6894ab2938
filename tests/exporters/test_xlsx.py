import gc
import io
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pytest
from exporters.paged import paged
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batchgen import manifests
from batchgen.domain.columns import FORMULA_STARTS, RESULT_COLUMNS
from batchgen.domain.errors import OutputError
from batchgen.exporters import Record, check_target, export
from batchgen.exporters.csv_table import text_of
from batchgen.exporters.xlsx import MOST_CHARACTERS, MOST_COLUMNS, MOST_ROWS, XLSX

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufffe\uffff"), min_size=1)
BREAKING = st.lists(
    st.sampled_from(
        ["\r", "\n", "\t", " ", "\x01", "_x000D_", "_x", "<r>", "</r>", "<t>", "&", '"', "=", "007"]
    ),
    min_size=1,
).map("".join)


def written(path: Path, records: Sequence[Record], columns: Sequence[str]) -> Path:
    export(paged(records), str(path), columns=columns, overwrite=True)
    return path


def read_back(path: Path) -> list[dict[str, Any]]:
    return [dict(row.cells) for row in manifests.read(path).read_rows()]


@settings(deadline=None, max_examples=25)
@example(cells=["<r><t>&amp;</t></r>"])  # xlsxwriter takes it for its own
@example(cells=["<r>\r _x000D_</r>"])
@given(cells=st.lists(TEXTS | BREAKING, min_size=1, max_size=5))
def test_the_users_texts_come_back_letter_for_letter(cells: list[str]) -> None:
    columns = [f"c{number}" for number in range(len(cells))]
    record = Record(dict(zip(columns, cells, strict=True)), {"result_key": "j1"})
    with tempfile.TemporaryDirectory() as folder:
        [row] = read_back(written(Path(folder, "x.xlsx"), [record], columns))

    assert row == record.cells


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (5, "n", "5"),
        (-0.25, "n", "-0.25"),
        (4294967295, "n", "4294967295"),
        (Decimal("1.5"), "n", "1.5"),
        (True, "b", "true"),
        ("5", "s", "5"),
        ("true", "s", "true"),
        ("2026-11-25", "s", "2026-11-25"),
        (10**15, "s", str(10**15)),  # Excel would show zeros for what is beyond 15 digits
        (0.1 + 0.2, "s", "0.30000000000000004"),
        (float("inf"), "s", "inf"),
        ([1, "é"], "s", '[1,"é"]'),
        ({"a": 1}, "s", '{"a":1}'),
        (datetime(2026, 11, 23, 9, 30, tzinfo=UTC), "s", "2026-11-23T09:30:00.000Z"),
    ],
)
def test_numbers_are_numbers_and_all_else_is_text(
    tmp_path: Path, value: Any, kind: str, text: str
) -> None:
    path = written(tmp_path / "x.xlsx", [Record({"a": value}, {"result_key": "j1"})], ["a"])
    cell = openpyxl.load_workbook(path).active["A2"]

    assert (cell.data_type, read_back(path)[0]["a"]) == (kind, text)
    assert text == (text_of(value) if not isinstance(value, Decimal) else "1.5")


@pytest.mark.parametrize("start", [*FORMULA_STARTS, "{=", "https://x.example/", "mailto:a@b.c"])
def test_nothing_is_a_formula_or_a_link(tmp_path: Path, start: str) -> None:
    said = f"{start}HYPERLINK(1)"
    record = Record({"a": said}, {"result_key": "j1", "result_error": said})
    path = written(tmp_path / "x.xlsx", [record], ["a"])
    sheet = openpyxl.load_workbook(path).active

    assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n"}
    assert all(cell.hyperlink is None for row in sheet.iter_rows() for cell in row)
    assert sheet["A2"].number_format == "@"  # so that to edit it makes no formula of it
    with zipfile.ZipFile(path) as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")


def test_the_sheet_is_easy_to_look_at(tmp_path: Path) -> None:
    records = [
        Record({"id": "a", "prompt": "x" * 300}, {"result_key": "j1", "result_bytes": 5}),
        Record({"id": "b" * 20, "prompt": ""}, {"result_key": "j2"}),
    ]
    book = openpyxl.load_workbook(written(tmp_path / "x.xlsx", records, ["id", "prompt"]))
    sheet = book.active

    assert book.sheetnames == ["jobs"]
    assert [cell.value for cell in sheet[1]] == ["id", "prompt", *RESULT_COLUMNS]
    assert all(cell.font.bold for cell in sheet[1])
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:T3"
    assert 20 < sheet.column_dimensions["A"].width < 23
    assert 49 < sheet.column_dimensions["B"].width < 52
    assert sheet["B3"].value is None


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"a": "x" * (MOST_CHARACTERS + 1)}, "row 3, column a: 32,768 characters"),
        ({"a": "🦊" * (MOST_CHARACTERS // 2 + 1)}, "row 3, column a: 32,768 characters"),
        ({"a": "x\uffff"}, "row 3, column a: a character that a workbook cannot hold"),
    ],
)
def test_what_no_cell_can_hold_is_told_and_nothing_is_left(
    tmp_path: Path, cells: Mapping[str, Any], said: str
) -> None:
    path = written(tmp_path / "x.xlsx", [Record({"a": "1"}, {"result_key": "j1"})], ["a"])
    before = path.read_bytes()

    with pytest.raises(OutputError, match=f"{said}.*write .csv or .jsonl"):
        written(path, [Record({"a": "1"}, {}), Record(cells, {})], ["a"])

    gc.collect()  # what was left open would be told now
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_text_fits(tmp_path: Path) -> None:
    text = "🦊" * (MOST_CHARACTERS // 2) + "x"
    path = written(tmp_path / "x.xlsx", [Record({"a": text}, {"result_key": "j"})], ["a"])

    assert read_back(path)[0]["a"] == text


def test_a_sheet_has_so_many_columns_and_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [f"c{number}" for number in range(MOST_COLUMNS)]
    with pytest.raises(OutputError, match="16,402 columns"):
        written(tmp_path / "x.xlsx", [], columns)
    monkeypatch.setattr("batchgen.exporters.xlsx.MOST_ROWS", 3)  # a million takes minutes
    written(tmp_path / "x.xlsx", [Record({}, {})] * 2, [])
    with pytest.raises(OutputError, match="more than 2 jobs"):
        written(tmp_path / "x.xlsx", [Record({}, {})] * 3, [])
    assert MOST_ROWS == 1_048_576


def test_a_workbook_that_a_spreadsheet_saved_again_is_an_export(tmp_path: Path) -> None:
    path = written(tmp_path / "x.xlsx", [Record({"a": "1"}, {"result_key": "j1"})], ["a"])
    book = openpyxl.load_workbook(path)
    book.active.insert_rows(1)
    book.create_sheet("notes", 0)
    book.save(path)

    check_target(str(path), overwrite=False)


def test_a_workbook_that_only_mentions_the_key_is_none(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["id", "note"])
    book.active.append(["a", "result_key"])
    file = io.BytesIO()
    book.save(file)

    assert not XLSX.is_export(file)


def test_rows_are_not_held_in_memory(tmp_path: Path) -> None:
    def many() -> Iterator[Record]:
        for number in range(3000):
            yield Record({"a": f"{number}" + "x" * 2000}, {"result_key": f"j{number}"})

    written(tmp_path / "x.xlsx", [], ["a"])  # what is imported stays
    tracemalloc.start()
    try:
        export(paged(many()), str(tmp_path / "x.xlsx"), columns=["a"], overwrite=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 3_000_000  # of 6,000,000 characters


def test_a_full_temporary_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))

    with pytest.raises(OutputError, match=r"none: .*name another folder with TMPDIR"):
        written(tmp_path / "x.xlsx", [], ["a"])
