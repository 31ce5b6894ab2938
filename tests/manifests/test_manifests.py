from pathlib import Path

import pytest
from manifests.manifest_files import IMAGE, write

from batchgen import manifests
from batchgen.domain.errors import ManifestError


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "m.txt",
            "x",
            (
                "a manifest ends in .csv, .tsv, .jsonl, .ndjson, .xlsx, .xlsm, .yaml, .yml: rename "
                "it, or save it as CSV"
            ),
        ),
        ("m.ods", "PK", "a manifest cannot be read from .ods: save it as .xlsx or CSV"),
        ("m.csv", "", "is empty: it needs at least one job"),
        ("m.yaml", b"jobs: \xe9\n", "is not UTF-8 (byte 0xe9"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, name: str, content: str | bytes, expected: str
) -> None:
    path = write(tmp_path, name, content)

    with pytest.raises(ManifestError) as caught:
        manifests.read(path)

    assert expected in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"m\.csv: no such file"):
        manifests.read(tmp_path / "m.csv")
    with pytest.raises(ManifestError, match="is a folder"):
        manifests.read(tmp_path)


def test_the_path_stays_as_the_user_wrote_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.b.CSV", f"image\n{IMAGE}\n")

    source = manifests.read(str(path))

    assert (source.path, source.stem, source.batch) == (str(path), "a.b", None)
