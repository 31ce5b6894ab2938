import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from exporters.paged import paged
from hypothesis import given
from hypothesis import strategies as st

from batchgen.exporters import Record, export
from batchgen.exporters.interface import Layout
from batchgen.exporters.jsonl import JSONL, to_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=10,
)


@given(value=VALUES)
def test_a_value_comes_back_with_its_type(value: object) -> None:
    layout = Layout(columns=["a"])
    text = b"".join(JSONL.render(paged([Record({"a": value}, {})]), layout)).decode()

    assert text.count("\n") == 1
    assert json.loads(text)["a"] == value


def test_an_object_holds_columns_results_and_details_in_order() -> None:
    record = Record(
        cells={"b": 1, "a": None, "extra": "kept"},
        results={"result_key": "j1", "result_cost_usd": Decimal("0.25")},
        details={"urls": ["https://x/1"], "at": datetime(2026, 11, 23, tzinfo=UTC)},
    )

    [line] = (
        b"".join(JSONL.render(paged([record]), Layout(columns=["a", "b"]))).decode().splitlines()
    )

    assert line == (
        '{"a":null,"b":1,"extra":"kept","result_key":"j1","result_cost_usd":0.25,'
        '"result_details":{"urls":["https://x/1"],"at":"2026-11-23T00:00:00.000Z"}}'
    )


def test_chosen_columns_come_in_the_order_of_the_choice() -> None:
    record = Record(cells={"b": 1, "a": None}, results={"result_key": "j1"}, details={"urls": []})
    layout = Layout(columns=["a", "b", "c"], chosen=["result_details", "c", "b"])

    [line] = b"".join(JSONL.render(paged([record]), layout)).splitlines()

    assert line == b'{"result_details":{"urls":[]},"b":1}'


def test_what_json_cannot_hold_becomes_null() -> None:
    assert to_json({"a": [float("nan"), (Decimal("Infinity"), 1.5)]}) == '{"a":[null,[null,1.5]]}'


def test_what_nobody_foresaw_is_an_error() -> None:
    with pytest.raises(TypeError, match="complex cannot be exported"):
        to_json(1j)


def test_many_lines_come_in_pieces() -> None:
    records = [Record(cells={"n": n}, results={}) for n in range(1000)]
    pieces = list(JSONL.render(paged(records), Layout(columns=["n"])))

    assert len(pieces) > 1
    assert [json.loads(line)["n"] for line in b"".join(pieces).splitlines()] == list(range(1000))


def test_no_jobs_make_an_empty_file(tmp_path: Path) -> None:
    export([], str(tmp_path / "x.jsonl"), columns=[], overwrite=False)
    export([], str(tmp_path / "x.jsonl"), columns=[], overwrite=False)

    assert (tmp_path / "x.jsonl").read_bytes() == b""
