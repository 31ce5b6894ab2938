import errno
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from batchgen.domain.errors import OutputError
from batchgen.manifests.spool import Spool

CHUNKS: list[list[tuple[Any, ...]]] = [
    [("a", 1, None, frozenset({"x"})), ("\ud800é", True, 0.5, frozenset())],
    [],
    [("b" * 100_000, 2**40, "", frozenset())],
]


def spool_of(in_memory_bytes: int) -> Spool:
    spool = Spool(in_memory_bytes=in_memory_bytes)
    for chunk in CHUNKS:
        spool.append(chunk)
    return spool


def open_files() -> list[str]:
    folder = "/proc/self/fd"
    found = []
    for name in os.listdir(folder):  # noqa: PTH208 - links to files that have no name
        try:
            found.append(os.readlink(f"{folder}/{name}"))  # noqa: PTH115
        except OSError:
            continue
    return [name for name in found if "(deleted)" in name or "batchgen-" in name]


@pytest.mark.parametrize("in_memory_bytes", [0, 1000, 10**6])
def test_chunks_come_back_as_often_as_wanted_also_side_by_side(in_memory_bytes: int) -> None:
    spool = spool_of(in_memory_bytes)

    assert list(spool.chunks()) == CHUNKS
    assert list(zip(spool.chunks(), spool.chunks(), strict=True)) == [(it, it) for it in CHUNKS]


def test_the_file_has_no_name_and_goes_with_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = open_files()
    closed, dropped = spool_of(0), spool_of(0)
    while_open = open_files()

    closed.close()
    del dropped
    gc.collect()

    assert list(tmp_path.iterdir()) == []
    assert (len(while_open) - len(before), len(open_files()) - len(before)) == (2, 0)


@pytest.mark.parametrize("in_memory_bytes", [0, 10**6])
def test_what_is_closed_cannot_be_read(in_memory_bytes: int) -> None:
    spool = spool_of(in_memory_bytes)
    under_way = spool.chunks()
    next(under_way)
    spool.close()

    with pytest.raises(ValueError, match="closed"):
        list(under_way)
    with pytest.raises(ValueError, match="closed"):
        list(spool.chunks())


def test_a_temporary_folder_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    with pytest.raises(OutputError, match=r"/gone\) cannot be used .*TMPDIR.*Nothing was stored"):
        spool_of(0)


def test_a_full_temporary_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")

    def always_full(**_: Any) -> Any:
        return Path("/dev/full").open("r+b", buffering=0)

    monkeypatch.setattr(tempfile, "TemporaryFile", always_full)

    with pytest.raises(OutputError, match=r"is full: .*Free some space, .*TMPDIR") as caught:
        spool_of(0)

    assert os.strerror(errno.ENOSPC) not in str(caught.value)
    assert caught.value.exit_code == 13


def test_a_file_that_was_cut_is_told() -> None:
    spool = spool_of(0)
    assert spool._file is not None
    spool._file.truncate(10)

    with pytest.raises(OutputError, match="cannot be used"):
        list(spool.chunks())
