"""Names come from strangers: inside the output folder, over nobody's file."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runs import Place, rows_of

from batchgen.domain.errors import OutputError
from batchgen.downloads.folder import Part, check_writable, remove_orphans
from batchgen.downloads.names import DEFAULT_TEMPLATE, render_name
from batchgen.providers import simulator

CLIP = b"a clip"
LOOKALIKES = [
    "\ufb01",
    "fi",
    "\u212a",
    "K",
    "k",
    "\u017f",
    "S",
    "\u0130",
    "\uff0e\uff0e",
    "%2e%2e%2f",
]
HOSTILE = [
    *("..", "../..", "../../etc/passwd", "/etc/passwd", "~/x", "a/../../b", "\\..\\x", "C:\\x"),
    *("a\0b", "a\nb", "\x1b[2J", "\u202egpm", "NUL", "com1.txt", "aux", " ", ".", ".hidden", "-rf"),
    *("x" * 300, "\u6f22" * 300, "\ud800", "$(id)", "a;b|c", *LOOKALIKES),
]
NAMES = st.sampled_from(HOSTILE) | st.text(st.characters(), max_size=20)
TEMPLATES = st.sampled_from(
    [DEFAULT_TEMPLATE, "{id}.{ext}", "../{batch}/{id}.{ext}", "/{id}/{batch}", "{batch}/{id}/../x"]
)
TRAPS = st.sampled_from(["none", "link at a folder", "link at the name", "file at the name"])


@contextmanager
def scene() -> Iterator[tuple[Path, Path]]:
    """An output folder, behind a link that the user made, and a folder that nothing may enter."""
    with tempfile.TemporaryDirectory() as base:
        outside = Path(base, "outside")
        outside.mkdir()
        (outside / "precious").write_bytes(b"mine")
        Path(base, "disk").mkdir()
        clips = Path(base, "clips")
        clips.symlink_to("disk")
        yield clips, outside
        assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"precious": b"mine"}


def set_trap(trap: str, clips: Path, name: str, outside: Path) -> None:
    parts = PurePosixPath(name).parts
    if trap == "link at a folder" and len(parts) > 1:
        clips.joinpath(parts[0]).symlink_to(outside)
        return
    target = clips / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if trap == "link at the name":
        target.symlink_to(outside / "precious")
    elif trap == "file at the name":
        target.write_bytes(b"a stranger's")


def store(clips: Path, name: str) -> str:
    part = Part(clips, name, min_free_bytes=0)
    try:
        part.open()
        part.write([CLIP])
        return part.publish()
    finally:
        part.abort()


@settings(max_examples=60, deadline=None)
@given(template=TEMPLATES, batch=NAMES, row=NAMES, variant=st.just("") | NAMES, trap=TRAPS)
@example(DEFAULT_TEMPLATE, "b", "a", "", "link at a folder")
@example(DEFAULT_TEMPLATE, "b", "a", "", "link at the name")
@example(DEFAULT_TEMPLATE, "b", "a", "", "file at the name")
def test_whatever_a_name_holds_and_finds_the_clip_is_inside_and_nothing_is_overwritten(
    template: str, batch: str, row: str, variant: str, trap: str
) -> None:
    name = render_name(template, batch=batch, id=row, variant=variant)
    with scene() as (clips, outside):
        set_trap(trap, clips, name, outside)
        if trap == "link at a folder" and "/" in name:
            with pytest.raises(OutputError, match="symbolic link"):
                store(clips, name)
            return
        final = store(clips, name)
        found = clips / final
        assert found.read_bytes() == CLIP
        assert not found.is_symlink()
        assert found.resolve().is_relative_to(clips.resolve())
        if trap == "file at the name":
            assert (clips / name).read_bytes() == b"a stranger's"
        [whole] = [path for path in clips.rglob("*") if path.is_file() and path == found]
        assert whole.stat().st_nlink == 1


def test_a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere() -> None:
    with scene() as (clips, outside):
        part = Part(clips, "b/a.mp4", min_free_bytes=0)
        part.open()
        (clips / "b").rename(clips / "moved")
        (clips / "b").symlink_to(outside)
        part.write([CLIP])

        assert part.publish() == "b/a.mp4"

        assert (clips / "moved" / "a.mp4").read_bytes() == CLIP


def test_orphans_are_not_looked_for_behind_a_link() -> None:
    with scene() as (clips, outside):
        orphan = outside / ".a.mp4.0123abcd.part"
        orphan.touch()
        (clips / "b").symlink_to(outside)

        assert remove_orphans(clips, ["b/a.mp4"]) == 0
        assert remove_orphans(clips) == 0
        assert orphan.exists()
        orphan.unlink()


def test_the_output_folder_itself_may_be_a_link() -> None:
    with scene() as (clips, _):
        check_writable(clips)
        check_writable(clips / "night")

        assert sorted(path.name for path in clips.iterdir()) == ["night"]


def test_jobs_of_hostile_and_alike_ids_each_keep_their_own_clip(tmp_path: Path) -> None:
    ids = [
        *LOOKALIKES,
        "NUL",
        "con.x",
        ".hidden",
        "~root",
        "$(id)",
        "a;b|c",
        "x" * 200,
        "\u6f22" * 200,
    ]
    rows = [{**row, "id": name} for row, name in zip(rows_of(len(ids)), ids, strict=True)]
    mine = tmp_path / "clips" / "jobs" / "K.mp4"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (mine.parent / "fi.mp4").symlink_to(tmp_path / "precious")
    with simulator.start_in_thread() as service:
        place = Place(tmp_path, service)
        place.write(rows)

        done = place.run("jobs.csv", "-j", "8", "-o", "out.csv")

        assert done.code == 0, done.err
        exported = place.export()
    assert [row["id"] for row in exported] == ids
    found = [tmp_path / row["result_file"] for row in exported]
    for path, row in zip(found, exported, strict=True):
        assert path.parent == mine.parent
        assert not path.is_symlink()
        assert sha256(path.read_bytes()).hexdigest() == row["result_sha256"]
    assert len(set(found)) == len(ids)
    assert len({row["result_sha256"] for row in exported}) == len(ids)
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "precious").exists()


def test_a_link_in_place_of_the_batchs_folder_pauses_the_run_and_loses_nothing(
    tmp_path: Path,
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "jobs").symlink_to(outside)
    with simulator.start_in_thread() as service:
        place = Place(tmp_path, service)
        place.write(rows_of(2))

        first = place.run("jobs.csv")
        (tmp_path / "clips" / "jobs").unlink()
        second = place.run("jobs.csv")

        assert first.code == 13
        assert "symbolic link" in first.err
        assert list(outside.iterdir()) == []
        assert second.code == 0, second.err
        assert service.counters.accepted == 2
