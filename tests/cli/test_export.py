"""`export`: which columns and rows, in which format, and what it is good for afterwards."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, write

from batchgen import results


def sheet(path: str) -> list[dict[str, Any]]:
    header, *lines = openpyxl.load_workbook(path).active.values
    return [dict(zip(header, line, strict=True)) for line in lines]


def counts(path: str, *words: str) -> dict[str, int]:
    [plan] = ok("run", path, "-n", "--json", *words).said["manifests"]
    return {name: count for name, count in plan["counts"].items() if count}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "xlsx"])
def test_a_table_of_models_with_a_seed_and_without_is_a_manifest_again(
    monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    one, other = rows("a", "b")
    other |= {"model": "bytedance/seedance-2.5/image-to-video/720p"}
    manifest = [{**one, "model": "", "seed": "7"}, {**other, "seed": ""}]
    with service(monkeypatch):
        ok("run", write("jobs.csv", manifest), "-y", "--db", "batchgen.db", "-o", f"out.{suffix}")

    assert counts(f"out.{suffix}") == {"unchanged": 2}
    told = call("plan", write("more.csv", [{**other, "seed": "7"}]))
    assert told.code == 5
    assert "more.csv:2: seed: bytedance/seedance-2.5/image-to-video/720p has no such input" in (
        told.err
    )


def test_a_workbook_is_a_manifest_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        manifest = [{**row, "ratio": "1280:720", "shot": "007"} for row in rows("a", "b")]
        ok("run", write("jobs.csv", manifest), "-y", "--db", "batchgen.db", "-o", "out.xlsx")
    found = sheet("out.xlsx")

    assert [{name: row[name] for name in manifest[0]} for row in found] == manifest
    assert [row["result_state"] for row in found] == ["succeeded"] * 2
    assert [row["result_cost_usd"] for row in found] == [0.25] * 2
    assert all(isinstance(row["result_bytes"], int) for row in found)
    assert all(Path(row["result_file"]).is_file() for row in found)
    assert counts("out.xlsx") == {"unchanged": 2}

    book = openpyxl.load_workbook("out.xlsx")  # as somebody who edits it in a spreadsheet
    columns = {cell.value: cell.column for cell in book.active[1]}
    book.active.cell(2, columns["prompt"]).value = "another scene"
    book.active.cell(3, columns["shot"]).value = "008"
    book.save("out.xlsx")

    assert counts("out.xlsx") == {"left": 1, "unchanged": 1}
    assert counts("out.xlsx", "--replace") == {"replaced": 1, "unchanged": 1}
    ok("add", "out.xlsx")
    ok("export", "-o", "out.xlsx")
    assert [row["shot"] for row in sheet("out.xlsx")] == ["007", "008"]


def test_chosen_columns_come_in_their_order_and_are_no_manifest() -> None:
    ok("add", write("jobs.csv", [{**row, "a, b": "c"} for row in rows("a", "b")]))

    done = ok("export", "-o", "out.csv", "--columns", 'result_state,id, "a, b"', "--json")

    assert Path("out.csv").read_bytes() == (
        b'result_state,id,"a, b"\r\npending,a,c\r\npending,b,c\r\n'
    )
    assert done.said == {"file": "out.csv", "jobs": 2, "is_manifest": False}
    assert "without result_key it is no manifest" in done.err
    assert "is not an export" in call("export", "-o", "out.csv").err
    kept = ok("export", "-o", "new.csv", "--columns", "result_key,image,prompt")
    assert "no manifest" not in kept.err
    assert counts("new.csv") == {"unchanged": 2}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("id,promt", "there is no column 'promt': did you mean `prompt`? the columns are id,"),
        ("id,result_stat", "did you mean `result_state`?"),
        ("id,id", "id is there twice"),
        ("id,result_details", "result_details is of JSON Lines"),
        ("", "is no list of columns"),
        ("id,,image", "is no list of columns"),
        ('id,"image', "is no list of columns"),
    ],
)
def test_a_wrong_choice_of_columns_is_told(columns: str, said: str) -> None:
    ok("add", write("jobs.csv", rows("a")))

    done = call("export", "-o", "out.csv", "--columns", columns)

    assert done.code == 2
    assert said in done.err
    assert not Path("out.csv").exists()


def test_an_expression_selects_what_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a")
    ok("add", write("more.csv", rows("b", "c")))

    def exported(*words: str) -> list[str]:
        out = ok("export", "-o", "-", *words).out
        return [row["id"] for row in csv.DictReader(io.StringIO(out, newline=""))]

    assert exported("--where", "state=pending") == ["b", "c"]
    assert exported("--where", "id!=b", "--batch", "more") == ["c"]
    assert exported("--where", "cost>9") == []
    assert call("export", "-o", "-", "--where", "sate=pending").code == 2


def test_stdout_has_a_format_too() -> None:
    ok("add", write("jobs.csv", rows("a")))

    done = ok("export", "-o", "-", "--format", "jsonl", "--columns", "result_details,id")
    details = json.loads(done.out)["result_details"]

    assert details["cost_is_estimate"] is False
    assert details["estimate_usd"] == 0.25
    assert call("export", "-o", "x.csv", "--format", "xlsx").code == 2
    assert call("export", "-o", "x.xlsx", "--bom").code == 2
    assert not any(map(Path.exists, map(Path, ("x.csv", "x.xlsx"))))


def test_a_workbook_that_is_too_large_to_be_a_manifest_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ok("add", write("jobs.csv", rows("a", "b")))

    ok_then = ok("export", "-o", "out.xlsx", "--json")
    monkeypatch.setattr(results, "MOST_CELLS", 62)
    done = ok("export", "-o", "out.xlsx", "--json")

    assert (ok_then.said["is_manifest"], done.said["is_manifest"]) == (True, False)
    assert "too large to be read as a manifest again" in done.err
    assert "too large" not in ok("export", "-o", "out.csv").err
