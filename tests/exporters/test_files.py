import os
import pty
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import forked
import pytest
from exporters.paged import paged

from batchgen.domain.errors import OutputError, UsageError
from batchgen.exporters import Record, check_target, export
from batchgen.exporters.files import FORMATS

RECORD = Record(cells={"a": "1"}, results={"result_key": "j1"})


def write(path: Path, *, overwrite: bool = False, records: int = 1) -> None:
    export(paged([RECORD] * records), str(path), columns=["a"], overwrite=overwrite)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("suffix", [*FORMATS, ".CSV"])
def test_an_export_replaces_an_export(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write(path)
    check_target(str(path), overwrite=False)
    write(path, records=2)

    assert count_of(path) == 2
    assert names(tmp_path) == [path.name]


def count_of(path: Path) -> int:
    """How many jobs a table holds that has only `RECORD`s."""
    data = path.read_bytes()
    if path.suffix == ".xlsx":
        with zipfile.ZipFile(path) as archive:
            data = archive.read("xl/worksheets/sheet1.xml")
    return data.count(b"j1")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("x.csv", "id,prompt\na,result_key\n", id="table"),
        pytest.param("x.csv", 'a"' + "x" * 200_000, id="no-table"),
        pytest.param("x.csv", "\0\0\0", id="binary"),
        pytest.param("x.jsonl", '{"prompt": "result_key"}\n', id="objects"),
        pytest.param("x.jsonl", '["result_key"]\n', id="list"),
        pytest.param("x.jsonl", "result_key", id="text"),
        pytest.param("x.xlsx", "result_key", id="text-by-another-name"),
        pytest.param("x.xlsx", "PK\x03\x04result_key", id="cut-workbook"),
    ],
)
def test_a_file_that_is_no_export_stays(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(UsageError, match=r"is not an export.*--overwrite"):
        check_target(str(path), overwrite=False)
    with pytest.raises(UsageError, match="is not an export"):
        write(path)
    assert path.read_text() == text

    check_target(str(path), overwrite=True)
    write(path, overwrite=True)
    assert count_of(path) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_an_export_that_a_spreadsheet_saved_again_is_one(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f'\ufeff"a"{delimiter}"result_key"\n')

    check_target(str(path), overwrite=False)


def test_an_empty_file_has_nothing_to_lose(tmp_path: Path) -> None:
    (tmp_path / "x.csv").touch()

    check_target(str(tmp_path / "x.csv"), overwrite=False)


@pytest.mark.parametrize("name", ["x.txt", "x", "/dev/null", "x.csv.gz"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UsageError, match=r"unknown format; end the name in \.csv, \.jsonl or \.xlsx"
    ):
        check_target(str(tmp_path / name), overwrite=True)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    (tmp_path / "y.csv").mkdir()

    for name in ("x.csv", "y.csv"):
        with pytest.raises(UsageError, match="is not a file"):
            check_target(str(tmp_path / name), overwrite=True)


def test_a_missing_or_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "x.csv", Path("/proc/self/x.csv")):
        with pytest.raises(OutputError, match="choose another --output"):
            check_target(str(path), overwrite=False)


def test_a_check_leaves_nothing(tmp_path: Path) -> None:
    check_target(str(tmp_path / "x.csv"), overwrite=False)
    check_target("-", overwrite=False)

    assert names(tmp_path) == []


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    def failing() -> Iterator[Record]:
        yield from [RECORD] * 5000
        raise RuntimeError("the database went away")

    path = tmp_path / "x.csv"
    write(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError):
        export(paged(failing()), str(path), columns=["a"], overwrite=True)

    assert path.read_bytes() == before
    assert names(tmp_path) == ["x.csv"]


def test_a_strangers_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"

    def slow() -> Iterator[Record]:
        yield RECORD
        path.write_text("mine")

    with pytest.raises(UsageError):
        export(paged(slow()), str(path), columns=["a"], overwrite=False)

    assert path.read_text() == "mine"
    assert names(tmp_path) == ["x.csv"]


def test_a_link_stays_a_link_and_permissions_stay(tmp_path: Path) -> None:
    real = tmp_path / "real.csv"
    write(real)
    real.chmod(0o600)
    (tmp_path / "link.csv").symlink_to(real)

    write(tmp_path / "link.csv", records=2)

    assert (tmp_path / "link.csv").is_symlink()
    assert real.read_text().count("j1") == 2
    assert real.stat().st_mode & 0o777 == 0o600


def test_stdout_gets_csv() -> None:
    out = BytesIO()

    export(paged([RECORD]), "-", columns=["a"], overwrite=False, bom=True, stdout=out)

    assert out.getvalue().startswith(b"\xef\xbb\xbfa,result_key,")
    assert out.getvalue().endswith(b"\r\n")


def test_stdout_gets_the_format_that_is_named() -> None:
    lines, book = BytesIO(), BytesIO()

    export(paged([RECORD]), "-", columns=["a"], overwrite=False, format_name="jsonl", stdout=lines)
    export(paged([RECORD]), "-", columns=["a"], overwrite=False, format_name="xlsx", stdout=book)

    assert lines.getvalue().startswith(b'{"a":"1","result_key":"j1"')
    with zipfile.ZipFile(book) as archive:
        assert archive.testzip() is None


def test_a_name_without_a_suffix_may_have_a_format(tmp_path: Path) -> None:
    path = tmp_path / "x.out"

    export(paged([RECORD]), str(path), columns=["a"], overwrite=False, format_name="jsonl")

    assert count_of(path) == 1
    with pytest.raises(UsageError, match="its name does not say xlsx"):
        export([], str(tmp_path / "x.csv"), columns=[], overwrite=True, format_name="xlsx")


def test_a_terminal_gets_no_workbook() -> None:
    _, inner = pty.openpty()
    with os.fdopen(inner, "wb", buffering=0) as terminal:
        with pytest.raises(UsageError, match="nothing for a terminal"):
            export([], "-", columns=[], overwrite=False, format_name="xlsx", stdout=terminal)
        export(paged([RECORD]), "-", columns=["a"], overwrite=False, stdout=terminal)


@pytest.mark.parametrize(("bom", "excel_safe"), [(True, False), (False, True)])
@pytest.mark.parametrize("suffix", ["jsonl", "xlsx"])
def test_what_is_for_spreadsheets_is_refused_elsewhere(
    tmp_path: Path, suffix: str, bom: bool, excel_safe: bool
) -> None:
    path = str(tmp_path / f"x.{suffix}")

    with pytest.raises(UsageError, match="are for CSV"):
        export([], path, columns=[], overwrite=False, bom=bom, excel_safe=excel_safe)


def test_a_full_device_is_an_output_error() -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OutputError, match="No space"),
    ):
        export(paged([RECORD]), "-", columns=["a"], overwrite=False, stdout=full)


LIMITED = """
import resource, signal, sys
from batchgen.domain.errors import OutputError
from batchgen.exporters import Page, export
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    export([Page([{"a": "x" * 100}], {"result_key": [""]})] * 5000, sys.argv[1], columns=["a"],
           overwrite=True)
except OutputError as error:
    print(error)
"""


def test_a_file_that_cannot_grow_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write(path)
    before = path.read_bytes()

    out, err = forked.Piped(["-c", LIMITED, str(path)], os.environ, tmp_path).communicate()

    assert err == ""
    assert "File too large" in out
    assert path.read_bytes() == before
    assert names(tmp_path) == ["x.csv"]
