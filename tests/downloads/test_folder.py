import os
import threading
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import forked
import pytest

from batchgen.domain.errors import Exit, OutputError
from batchgen.downloads.folder import (
    Part,
    check_writable,
    free_bytes,
    make_folder,
    remove_orphans,
)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def written(folder: Path, name: str = "a.mp4", data: bytes = b"clip") -> Part:
    part = Part(folder, name, min_free_bytes=0)
    part.open()
    part.write([data])
    return part


def test_a_part_is_seen_under_its_own_name_until_it_is_published(tmp_path: Path) -> None:
    part = written(tmp_path, "b/a.mp4", b"one")
    part.write([b"two", b"three"])

    [name] = files(tmp_path)
    assert name.startswith("b/.a.mp4.")
    assert name.endswith(".part")

    assert part.publish() == "b/a.mp4"
    part.abort()  # too late to do anything

    assert files(tmp_path) == ["b/a.mp4"]
    assert (tmp_path / "b/a.mp4").read_bytes() == b"onetwothree"
    assert part.sha256 == sha256(b"onetwothree").hexdigest()
    assert part.size_bytes == 11


def test_a_strangers_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"mine")
    (tmp_path / "a-2.mp4").symlink_to("nowhere")
    (tmp_path / "a-3.mp4").mkdir()

    assert written(tmp_path).publish() == "a-4.mp4"

    assert (tmp_path / "a.mp4").read_bytes() == b"mine"
    assert (tmp_path / "a-4.mp4").read_bytes() == b"clip"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_with_the_same_bytes_is_taken_for_this_clip(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"clip")

    assert written(tmp_path).publish() == "a.mp4"
    assert files(tmp_path) == ["a.mp4"]


def test_an_aborted_part_leaves_nothing_and_does_nothing(tmp_path: Path) -> None:
    part = written(tmp_path)

    part.abort()
    part.abort()
    part.write([b"more"])
    part.open()

    assert files(tmp_path) == []
    with pytest.raises(OutputError, match="given up"):
        part.publish()


def test_an_abort_during_a_write_never_waits_and_leaves_nothing(tmp_path: Path) -> None:
    part = Part(tmp_path, "a.mp4", min_free_bytes=0)
    part.open()
    started = threading.Event()
    block = [b"x" * (1 << 20)] * 64

    def write() -> None:
        started.set()
        for _ in range(4):
            part.write(block)

    writer = threading.Thread(target=write)
    writer.start()
    started.wait()
    part.abort()
    writer.join()

    assert files(tmp_path) == []


def test_a_clip_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    part = Part(tmp_path, "a.mp4", min_free_bytes=1 << 60)
    part.open()

    with pytest.raises(OutputError, match=r"No space left.*free some space") as refused:
        part.write([b"x"])
    part.abort()

    assert refused.value.exit_code is Exit.OUTPUT
    assert files(tmp_path) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
from batchgen.domain.errors import OutputError
from batchgen.downloads.folder import Part
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
part = Part(Path(sys.argv[1]), "a.mp4", min_free_bytes=0)
part.open()
try:
    part.write([b"x" * 60_000])
    part.write([b"x" * 60_000])
except OutputError as error:
    print(error)
part.abort()
"""


def test_a_write_that_the_system_cuts_short_is_an_output_error(tmp_path: Path) -> None:
    out, err = forked.Piped(["-c", LIMITED, str(tmp_path)], os.environ, tmp_path).communicate()

    assert err == ""
    assert "File too large; free some space" in out
    assert files(tmp_path) == []


def test_a_folder_is_proved_writable_by_writing(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "deep")

    assert (tmp_path / "new" / "deep").is_dir()
    assert files(tmp_path) == []


@pytest.mark.parametrize("place", ["file/clips", "file"])
def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(OutputError, match="choose another --output-dir"):
        check_writable(tmp_path / place)


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="needs a folder that even root cannot write"
)
def test_a_folder_that_cannot_be_written_is_an_output_error() -> None:
    with pytest.raises(OutputError, match=r"^/proc/self: "):
        check_writable(Path("/proc/self"))


def test_free_space_is_told_also_of_a_folder_to_be_made(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0


def test_making_a_folder_twice_is_fine(tmp_path: Path) -> None:
    make_folder(tmp_path / "a")
    make_folder(tmp_path / "a")


KILLED = """
import os, signal, sys
from pathlib import Path
from batchgen.downloads.folder import Part
part = Part(Path(sys.argv[1]), "b/a.mp4", min_free_bytes=0)
part.open()
part.write([b"half a clip"])
print("ready", flush=True)
signal.pause()
"""


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(
    tmp_path: Path,
) -> None:
    process = forked.Piped(["-c", KILLED, str(tmp_path)], os.environ, tmp_path)
    with closing(process):
        assert process.stdout.readline() == "ready\n"
        live = written(tmp_path, "b/other.mp4")

        assert remove_orphans(tmp_path) == 0
        process.kill()

    [half, _] = files(tmp_path)
    assert half.startswith("b/.a.mp4.")
    assert remove_orphans(tmp_path) == 1
    assert live.publish() == "b/other.mp4"
    assert files(tmp_path) == ["b/other.mp4"]


def test_only_the_orphans_of_the_named_clips_are_removed(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    kept = [
        "b/.z.mp4.0123abcd.part",  # of another clip
        "b/a.mp4",
        "b/.a.mp4.short.part",  # not ours
        "b/a.mp4.0123abcd.part",
    ]
    for name in [*kept, "b/.a.mp4.0123abcd.part", "b/.a.mp4.89abcdef.part"]:
        (tmp_path / name).touch()

    assert remove_orphans(tmp_path, ["b/a.mp4", "nowhere/a.mp4"]) == 2
    assert files(tmp_path) == sorted(kept)


def test_a_link_that_looks_like_an_orphan_does_not_lead_elsewhere(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("x")
    (tmp_path / ".a.mp4.0123abcd.part").symlink_to(target)

    with pytest.raises(OutputError):
        remove_orphans(tmp_path)

    assert target.read_text() == "x"


def test_a_new_clip_has_the_permissions_that_the_user_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        written(tmp_path).publish()
    finally:
        os.umask(before)

    assert (tmp_path / "a.mp4").stat().st_mode & 0o777 == 0o640
