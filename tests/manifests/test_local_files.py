"""Files of this machine in manifests of every format, and at every place of a model's inputs."""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter  # type: ignore[import-untyped]
from images import image

from batchgen import manifests
from batchgen.domain.errors import ManifestError
from batchgen.domain.jobs import JobSpec, Model
from batchgen.inputs.local import LocalFiles

MEDIA = {"type": "string", "format": "image_uri"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string"},
        "image": MEDIA,
        "frames": {"type": "array", "items": {"type": "string"}, "format": "image_uris"},
        "parts": {"type": "array", "items": {"type": "object", "properties": {"picture": MEDIA}}},
        "link": {**MEDIA, "pattern": "^https://"},
        "sound": {"type": "string", "format": "audio_uri"},
    },
}
MODEL = Model(
    id="m",
    title="M",
    provider="runcomfy",
    schema=SCHEMA,
    media={"image": "image", "frames": "image", "link": "image", "sound": "audio"},
)


def specs(path: Path, *, has_uploads: bool = False) -> list[JobSpec]:
    files = LocalFiles([path.parent])
    checked = manifests.check(
        manifests.read(str(path)),
        models={"m": MODEL},
        model="m",
        files=files,
        has_uploads=has_uploads,
    )
    with checked:
        return list(checked.specs())


def as_csv(path: Path, row: dict[str, Any]) -> None:
    text = io.StringIO()
    cells = {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}
    writer = csv.DictWriter(text, list(cells))
    writer.writeheader()
    writer.writerow(cells)
    path.write_text(text.getvalue())


def as_xlsx(path: Path, row: dict[str, Any]) -> None:
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        cells = [v if isinstance(v, str) else json.dumps(v) for v in row.values()]
        sheet.write_row(0, 0, list(row))
        sheet.write_row(1, 0, cells)


FORMATS: dict[str, Callable[[Path, dict[str, Any]], object]] = {
    "jobs.csv": as_csv,
    "jobs.xlsx": as_xlsx,
    "jobs.jsonl": lambda path, row: path.write_text(json.dumps(row)),
    "jobs.yaml": lambda path, row: path.write_text(json.dumps({"jobs": [row]})),
}


@pytest.fixture
def cat(tmp_path: Path) -> str:
    content = image(1280, 720)
    (tmp_path / "cat.png").write_bytes(content)
    return f"file:{hashlib.sha256(content).hexdigest()}.png:{tmp_path.resolve() / 'cat.png'}"


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_found_in_every_format_and_place(name: str, tmp_path: Path, cat: str) -> None:
    row = {
        "prompt": "cat.png",
        "image": " ./cat.png ",
        "frames": ["cat.png", "https://images.example.com/a.png", "s3://bucket/a.png"],
        "parts": [{"picture": "cat.png"}],
    }
    FORMATS[name](tmp_path / name, row)

    [spec] = specs(tmp_path / name)

    assert spec.inputs == {
        "prompt": "cat.png",
        "image": cat,
        "frames": [cat, "https://images.example.com/a.png", "s3://bucket/a.png"],
        "parts": [{"picture": cat}],
    }
    assert spec.cells["image"].strip() == "./cat.png"
    assert "sha256" not in spec.cells_json


def test_what_a_job_keeps_asks_for_the_same_file_wherever_it_went(tmp_path: Path, cat: str) -> None:
    (tmp_path / "new").mkdir()
    as_csv(tmp_path / "jobs.csv", {"image": cat})
    as_csv(tmp_path / "new" / "jobs.csv", {"image": cat})
    [before] = specs(tmp_path / "jobs.csv")
    (tmp_path / "cat.png").rename(tmp_path / "new" / "cat.png")

    [after] = specs(tmp_path / "new" / "jobs.csv")

    assert (after.input_hash, after.row_id) == (before.input_hash, before.row_id)
    assert after.inputs != before.inputs
    (tmp_path / "new" / "cat.png").write_bytes(image(1300, 720))
    with pytest.raises(ManifestError, match="is not the file that it was"):
        specs(tmp_path / "new" / "jobs.csv")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"sound": "cat.png"}, "cat.png: it is image/png, not an audio"),
        ({"link": "cat.png"}, "cat.png: m takes a URL only: name a bucket with --uploads"),
        ({"image": "big.png"}, "it has 7.0 MB: inside of a request an image may have 6.3"),
        ({"frames": ["cat.png", "none.png"]}, "none.png: no such file"),
        ({"image": "new/"}, "is a folder"),
        ({"image": "www.example.com/a.png"}, "add https:// in front"),
    ],
    ids=["kind", "pattern", "large", "in-a-list", "folder", "nearly-a-url"],
)
def test_a_file_that_cannot_be_sent_is_a_fault(
    row: dict[str, Any], words: str, tmp_path: Path, cat: str
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "big.png").write_bytes(image(64, 64).ljust(7_000_000, b"\0"))
    as_csv(tmp_path / "jobs.csv", row)

    with pytest.raises(ManifestError) as refused:
        specs(tmp_path / "jobs.csv")

    [fault] = refused.value.faults
    assert (fault.line, fault.column) == (2, next(iter(row)))
    assert words in fault.message


def test_with_a_bucket_a_link_will_do(tmp_path: Path, cat: str) -> None:
    as_csv(tmp_path / "jobs.csv", {"link": "cat.png"})

    [spec] = specs(tmp_path / "jobs.csv", has_uploads=True)

    assert spec.inputs == {"link": cat}


def test_a_manifest_names_its_bucket(tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text("uploads: s3://bucket/in/\njobs: [{prompt: a}]\n")
    assert manifests.read(str(path)).uploads == "s3://bucket/in"

    path.write_text("uploads: ./folder\njobs: [{prompt: a}]\n")
    with pytest.raises(ManifestError, match=r"jobs.yaml:1: uploads: .* is no place in object"):
        specs(path)
