import hashlib
import os
from io import BytesIO
from pathlib import Path

import av
import pytest

from batchgen import posters
from batchgen.posters import Cache, Poster, Source, frames, making
from batchgen.providers.simulator.clip import clip_bytes

WHOLE = clip_bytes("one")
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nwhole.mp4\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile whole.mp4\n"


def source(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return Source(path, hashlib.sha256(data).hexdigest(), len(data))


def made(*sources: Source, cache: Path | None = None, **bounds: float) -> list[Poster | None]:
    return list(posters.make(sources, Cache(cache), **bounds))


def test_the_clip_of_the_simulator_has_a_poster(tmp_path: Path) -> None:
    (poster,) = made(source(tmp_path / "a.mp4", WHOLE))

    assert poster is not None
    assert poster.webp[:4] + poster.webp[8:12] == b"RIFFWEBP"
    assert (poster.width, poster.height, poster.duration_s) == (320, 180, 2.0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 5000, id="zeros"),
        pytest.param(WHOLE[:200], id="cut-in-the-header"),
        pytest.param(WHOLE[:40] + os.urandom(4000), id="garbage-behind-a-header"),
        pytest.param(PLAYLIST, id="playlist"),  # would open the file beside it
        pytest.param(CONCAT, id="list-of-files"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="svg"),
    ],
)
def test_a_broken_or_leading_clip_has_none_and_harms_no_other(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "whole.mp4").write_bytes(WHOLE)
    gone = Source(tmp_path / "gone.mp4", "0" * 64, 5)

    found = made(source(tmp_path / "bad.mp4", data), gone, source(tmp_path / "good.mp4", WHOLE))

    assert [poster is not None for poster in found] == [False, False, True]


def test_a_clip_that_takes_for_ever_is_given_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "waits.mp4")
    endless = Source(tmp_path / "waits.mp4", "0" * 64, 0)
    clips = [source(tmp_path / f"{number}.mp4", WHOLE) for number in range(4)]

    found = made(endless, *clips, deadline_s=3.0)

    assert found[0] is None
    assert None not in found[1:]


def test_a_child_that_dies_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = "import sys; print(flush=True); sys.stdin.readline(); sys.exit(1)"
    clip = source(tmp_path / "a.mp4", WHOLE)
    decoder = making.Decoder(deadline_s=60)
    with monkeypatch.context() as patched:
        patched.setattr(making, "_CHILD", dies)
        first = decoder.ask(clip.path)

    second = decoder.ask(clip.path)
    decoder.end()

    assert first is None
    assert second is not None


def test_a_poster_that_was_made_is_not_made_again(tmp_path: Path) -> None:
    clip = source(tmp_path / "a.mp4", WHOLE)
    first = made(clip, cache=tmp_path / "cache")
    clip.path.write_bytes(bytes(len(WHOLE)))  # nothing that could be decoded

    assert made(clip, cache=tmp_path / "cache") == first
    assert made(clip) == [None]


def test_a_file_of_another_length_is_not_the_clip_that_is_known(tmp_path: Path) -> None:
    clip = source(tmp_path / "a.mp4", WHOLE)
    made(clip, cache=tmp_path / "cache")
    clip.path.write_bytes(b"something else")

    assert made(clip, cache=tmp_path / "cache") == [None]


def test_a_cache_that_cannot_be_used_costs_no_poster(tmp_path: Path) -> None:
    clip = source(tmp_path / "a.mp4", WHOLE)
    made(clip, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("??/*")
    kept.write_bytes(kept.read_bytes()[:-1])  # it was cut

    assert made(clip, cache=tmp_path / "cache") != [None]
    assert made(clip, cache=tmp_path / "a.mp4") != [None]  # no folder


def test_what_no_report_used_for_long_is_forgotten(tmp_path: Path) -> None:
    made(source(tmp_path / "a.mp4", WHOLE), cache=tmp_path / "cache")
    made(source(tmp_path / "b.mp4", clip_bytes("two")), cache=tmp_path / "cache")
    old, _ = sorted((tmp_path / "cache").glob("??/*"))
    os.utime(old, (0, 0))

    Cache(tmp_path / "cache").forget_unused()

    assert old not in list((tmp_path / "cache").glob("??/*"))
    assert len(list((tmp_path / "cache").glob("??/*"))) == 1


@pytest.mark.parametrize(("width", "height"), [(64, 48), (720, 1280), (1281, 719)])
def test_a_poster_keeps_the_shape_of_its_clip_and_shows_more_than_black(
    tmp_path: Path, width: int, height: int
) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(6):
            shade = bytes([30 * number]) * (width // 2) + bytes(width - width // 2)
            gray = av.VideoFrame(width, height, "gray")
            plane = gray.planes[0]
            line = shade + bytes(plane.line_size - width)
            plane.update(line * height)
            container.mux(stream.encode(gray.reformat(format="yuv420p")))
        container.mux(stream.encode(None))

    facts, webp = frames.picture(str(path), longest=320)

    assert (facts["width"], facts["height"]) == (width, height)
    with av.open(BytesIO(webp), "r", format="webp_pipe") as picture:
        frame = next(picture.decode(video=0))
    assert max(frame.width, frame.height) <= 320
    assert abs(frame.width / frame.height - width / height) < 0.02
    assert frames.contrast(frame) > 20
