import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from exporters.paged import paged
from hypothesis import example, given
from hypothesis import strategies as st

from batchgen.domain.columns import ESCAPED_MARK, FORMULA_STARTS, RESULT_COLUMNS
from batchgen.exporters import Record, export
from batchgen.exporters.csv_table import CSV, text_of
from batchgen.exporters.interface import Layout

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
BREAKING = st.text(st.sampled_from("\"',;\r\n\t =a\u2028\ufeff"))


def rendered(records: Sequence[Record], **layout: Any) -> str:
    return b"".join(CSV.render(paged(records), Layout(**layout))).decode()


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(StringIO(text, newline="")))


@given(cells=st.lists(CELLS | BREAKING, min_size=1, max_size=5), bom=st.booleans())
def test_the_users_cells_come_back_byte_for_byte(cells: list[str], bom: bool) -> None:
    columns = [f"c{number}" for number in range(len(cells))]

    text = rendered(
        [Record(cells=dict(zip(columns, cells, strict=True)), results={})] * 2,
        columns=columns,
        bom=bom,
    )

    header, first, second = rows(text.removeprefix("\ufeff") if bom else text)
    assert header == [*columns, *RESULT_COLUMNS]
    assert first[: len(cells)] == second[: len(cells)] == cells


VALUES = CELLS | BREAKING | st.none() | st.integers() | st.floats(allow_nan=False) | st.booleans()
TABLES = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[VALUES] * width), min_size=1, max_size=4)
)


@given(table=TABLES)
@example(table=[(1e22,), (0.5,)])
@example(table=[("",), (None,)])
def test_a_table_is_written_as_the_csv_module_writes_it(table: list[tuple[Any, ...]]) -> None:
    columns = [f"c{number}" for number in range(len(table[0]))]
    expected = StringIO(newline="")
    writer = csv.writer(expected, lineterminator="\r\n")
    writer.writerows([columns, *([text_of(value) for value in row] for row in table)])

    records = [Record(cells=dict(zip(columns, row, strict=True)), results={}) for row in table]

    assert rendered(records, columns=columns, chosen=columns) == expected.getvalue()


@given(columns=st.lists(CELLS | BREAKING, unique=True))
def test_column_names_come_back_too(columns: list[str]) -> None:
    [header] = rows(rendered([], columns=columns))

    assert header == [*columns, *RESULT_COLUMNS]


def test_columns_then_results_in_order() -> None:
    record = Record(cells={"b": "1", "a": 2}, results={"result_batch": "night", "result_key": "j1"})

    header, row = rows(rendered([record], columns=["b", "a"]))

    assert header == ["b", "a", *RESULT_COLUMNS]
    assert header[-1] == "result_batch"
    assert row == ["1", "2", "j1", *[""] * 16, "night"]


def test_chosen_columns_come_in_the_order_of_the_choice() -> None:
    record = Record(cells={"b": "1", "a": 2}, results={"result_error": "=1", "result_key": "j1"})

    text = rendered([record], columns=["b", "a"], chosen=["result_error", "a", "result_file"])

    assert rows(text) == [["result_error", "a", "result_file"], ["'=1", "2", ""]]


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_what_the_service_wrote_is_never_run_and_the_users_cells_stay(start: str) -> None:
    text = f"{start}HYPERLINK(1)"
    results = {"result_error": text, "result_url": text, "result_batch": text}
    record = Record(cells={"a": text}, results=results)

    header, row = rows(rendered([record], columns=["a"]))
    found: Mapping[str, str] = dict(zip(header, row, strict=True))

    assert found["a"] == text
    assert found["result_error"] == f"'{text}"
    assert found["result_url"] == f"'{text}"
    assert found["result_batch"] == text


def test_everything_is_escaped_if_the_user_says_so_but_numbers() -> None:
    record = Record(
        cells={"=a": "=1+1", "n": -5, "x": -0.5}, results={"result_batch": "@b", "result_key": "j1"}
    )

    header, row = rows(rendered([record], columns=["=a", "n", "x"], excel_safe=True))

    assert header[:3] == ["'=a", "n", "x"]
    assert row[:4] == ["'=1+1", "-5", "-0.5", "j1"]
    assert row[-2] == "'@b"
    assert (header[-1], row[-1]) == (ESCAPED_MARK, "true")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (10**20, "100000000000000000000"),
        (0.25, "0.25"),
        (1e-07, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (5.0, "5.0"),
        (float("nan"), "nan"),
        (Decimal("1E-7"), "0.0000001"),
        (datetime(2026, 11, 23, 9, 30, tzinfo=UTC), "2026-11-23T09:30:00.000Z"),
        (
            datetime(2026, 11, 23, 9, 30, 1, 999, tzinfo=timezone(timedelta(hours=2))),
            "2026-11-23T07:30:01.000Z",
        ),
        (date(2026, 11, 23), "2026-11-23"),
        ([1, "é", None], '[1,"é",null]'),
        ({"a": {"b": True}}, '{"a":{"b":true}}'),
        ((1, 2), "[1,2]"),
    ],
)
def test_text_of(value: Any, text: str) -> None:
    assert text_of(value) == text
    assert rows(rendered([Record(cells={"a": value}, results={})], columns=["a"]))[1][0] == text


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        text_of(datetime(2026, 11, 23))  # noqa: DTZ001


def test_rows_come_in_small_pieces() -> None:
    records = (Record(cells={"a": "x" * 100}, results={}) for _ in range(10_000))

    pieces = CSV.render(paged(records), Layout(columns=["a"]))

    assert max(map(len, pieces)) < 100_000


def test_half_a_character_does_not_break_the_export(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"

    record = Record(cells={"a": "\ud800"}, results={})

    export(paged([record]), str(path), columns=["a"], overwrite=False)

    assert b"\\ud800" in path.read_bytes()
