"""The same table in every form in which people have it: the same jobs.

It has the shape of the image-to-video benchmark's: 559 rows, several prompts to an image, long
ones, commas, quotes, line breaks, other scripts.
"""

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import openpyxl  # type: ignore[import-untyped]
import pytest
from manifests.manifest_files import specs_of, write

from batchgen.domain.identity import job_key

Rows = Sequence[Sequence[str]]

_SCENES = (
    "a close up of a blue and orange liquid",
    "a “small” town, seen from the hill; at dusk",
    'a sign that says "open | closed", in the rain',
    "the pier - at 5 o'clock\n(second line)",
    "une forêt d'érables, l'hiver",
    "港の夜、船が出る",
    "a fox 🦊 and a heron 👩‍🔬",
    "=SUM(A1:A9) on a blackboard",
    "tabs\tand  double  spaces",
)
_MOVES = ("camera pans left", "camera pans right, slowly", "camera zooms in", "static; no motion")


def table() -> Rows:
    """Return 559 rows below their header, ids without a row number that anything could guess."""
    draw = random.Random(559)
    rows = [["id", "prompt", "image", "duration", "category", "dimensions", "weight"]]
    for number in range(559):
        scene = _SCENES[number % len(_SCENES)]
        prompt = f"{scene}, {_MOVES[number % 4]}" + ", in soft light" * draw.randrange(30)
        name = f"{scene[:9].encode().hex()}%20{number // 3}.jpg"
        image = f"https://images.example.com/vbench-i2v/{name}"
        duration = draw.choice(["5", "10", ""])
        weight = draw.choice(["", "0.25", "007", "12", "true"])
        extra = f"i2v_{draw.randrange(9)}|quality"
        rows.append([f"i2v-{number * 7:04}", prompt, image, duration, "abstract", extra, weight])
    return rows


def as_csv(rows: Rows, *, delimiter: str = ",", end: str = "\n", quote: bool = False) -> str:
    file = io.StringIO(newline="")
    csv.writer(
        file,
        delimiter=delimiter,
        lineterminator=end,
        quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL,
    ).writerows(rows)
    return file.getvalue()


def plain(rows: Rows) -> bytes:
    return as_csv(rows).encode()


def european(rows: Rows) -> bytes:
    return as_csv(rows, delimiter=";").encode("utf-8-sig")


def windows(rows: Rows) -> bytes:
    text = as_csv(rows, end="\r\n", quote=True)
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


def old_mac(rows: Rows) -> bytes:
    return as_csv(rows, quote=True).replace("\n", "\r").encode()


def declared(rows: Rows) -> bytes:
    return ("sep=|\r\n" + as_csv(rows, delimiter="|", end="||\r\n")).encode()


def unicode_text(rows: Rows) -> bytes:
    return as_csv(rows, delimiter="\t", end="\r\n").encode("utf-16")


def json_lines(rows: Rows) -> bytes:
    header, *others = rows
    lines = [dict(zip(header, row, strict=True)) for row in others]
    typed = [{k: int(v) if k == "duration" and v else v for k, v in line.items()} for line in lines]
    return "\n".join(json.dumps(line) for line in typed).encode()


def workbook(rows: Rows) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for line, row in enumerate(rows, 1):
        for column, text in enumerate(row, 1):
            if text in {"5", "10"}:
                sheet.cell(line, column, float(text))
            elif text:
                sheet.cell(line, column, text).data_type = "s"  # = is no formula
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def yaml(rows: Rows) -> bytes:
    # What a script would write: JSON is YAML.
    header, *others = rows
    jobs = [
        {
            **{name: text for name, text in zip(header[:4], row[:4], strict=True) if text},
            "meta": dict(zip(header[4:], row[4:], strict=True)),
        }
        for row in others
    ]
    return json.dumps({"jobs": jobs}, indent=1, ensure_ascii=False).encode()


def keys_of(path: Path) -> list[tuple[str, str]]:
    return [
        (job_key("vbench", spec.row_id, spec.variant_kind, spec.variant), spec.input_hash)
        for spec in specs_of(path)
    ]


def carried_by(path: Path) -> list[dict[str, str]]:
    carried = ("id", "category", "dimensions", "weight")
    return [{name: spec.cells.get(name) or "" for name in carried} for spec in specs_of(path)]


FORMS: dict[str, Callable[[Rows], bytes]] = {
    "european.csv": european,
    "windows.csv": windows,
    "old_mac.csv": old_mac,
    "declared.csv": declared,
    "unicode_text.tsv": unicode_text,
    "lines.jsonl": json_lines,
    "book.xlsx": workbook,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_table_gives_the_same_jobs(tmp_path: Path, name: str) -> None:
    rows = table()
    expected = keys_of(write(tmp_path, "plain.csv", plain(rows)))

    found = keys_of(write(tmp_path, name, FORMS[name](rows)))

    assert len(expected) == len({key for key, _ in expected}) == 559
    assert found == expected
    assert carried_by(tmp_path / name) == carried_by(tmp_path / "plain.csv")


def test_yaml_gives_the_same_jobs(tmp_path: Path) -> None:
    rows = table()
    expected = keys_of(write(tmp_path, "plain.csv", plain(rows)))

    assert keys_of(write(tmp_path, "jobs.yaml", yaml(rows))) == expected


def test_rows_without_ids_give_the_same_jobs(tmp_path: Path) -> None:
    rows = [row[1:] for row in table()]
    expected = keys_of(write(tmp_path, "plain.csv", plain(rows)))

    for name, form in FORMS.items():
        assert keys_of(write(tmp_path, name, form([*rows]))) == expected, name
