import hashlib
import socket
import threading
from pathlib import Path

import pytest
from downloads.test_fetch import MP4, PNG, answer, run
from s3 import SMALLEST_PART_BYTES, TestBucket

from batchgen.buckets import uploads
from batchgen.buckets.location import parse_location
from batchgen.domain.errors import (
    BucketError,
    BucketUnreachable,
    DownloadError,
    OutputError,
    UsageError,
)
from batchgen.domain.jobs import Clip
from batchgen.downloads.bucket import TIDYING, BucketDestination
from batchgen.downloads.destination import Destination, Part, Room, clip_path
from batchgen.downloads.destinations import Destinations
from batchgen.downloads.fetch import Fetcher

ROOM = Room(part_bytes=SMALLEST_PART_BYTES)
SMALL = b"s" * 1000
LARGE = bytes(range(256)) * (SMALLEST_PART_BYTES // 100)
SIZES = pytest.mark.parametrize("clip", [SMALL, LARGE], ids=["one request", "parts"])


def place_of(bucket: TestBucket, prefix: str = "night") -> BucketDestination:
    return BucketDestination(parse_location(f"{bucket.url}/{prefix}"))


def written(place: Destination, clip: bytes, name: str = "b/a.mp4") -> Part:
    part = place.part(name, ROOM)
    part.open()
    part.call(name)
    for at in range(0, len(clip), 10_000):
        part.write([clip[at : at + 10_000]])
    return part


def settle() -> None:
    """Wait, as the program does before it ends, for what is being tidied up."""
    for thread in threading.enumerate():
        if thread.name == TIDYING:
            thread.join()


@SIZES
def test_a_clip_appears_whole_and_only_when_it_is_published(
    bucket: TestBucket, clip: bytes
) -> None:
    part = written(place_of(bucket), clip)
    assert bucket.names() == []

    assert part.publish() == "b/a.mp4"
    part.abort()  # too late to do anything

    assert bucket.contents() == {"night/b/a.mp4": clip}
    assert bucket.uploads() == []
    assert (part.size_bytes, part.sha256) == (len(clip), hashlib.sha256(clip).hexdigest())
    said = bucket.server.client.head_object(Bucket=bucket.name, Key="night/b/a.mp4")
    assert said["ContentType"] == "video/mp4"


@SIZES
def test_no_more_than_one_part_is_held_back(bucket: TestBucket, clip: bytes) -> None:
    part = place_of(bucket).part("a.mp4", ROOM)
    part.open()
    for at in range(0, len(clip), 10_000):
        part.write([clip[at : at + 10_000]])
        assert len(part._held_bytes) <= SMALLEST_PART_BYTES  # type: ignore[attr-defined]
    part.abort()


@SIZES
def test_a_strangers_object_is_never_overwritten(bucket: TestBucket, clip: bytes) -> None:
    other = b"x" * len(clip)
    bucket.write("night/b/a.mp4", other)
    bucket.write("night/b/a-2.mp4", b"shorter")

    assert written(place_of(bucket), clip).publish() == "b/a-3.mp4"

    assert bucket.contents() == {
        "night/b/a.mp4": other,
        "night/b/a-2.mp4": b"shorter",
        "night/b/a-3.mp4": clip,
    }
    assert bucket.uploads() == []


@SIZES
def test_one_that_comes_in_between_is_not_overwritten_either(
    bucket: TestBucket, clip: bytes
) -> None:
    part = written(place_of(bucket), clip)  # the parts have their name by now
    bucket.write("night/b/a.mp4", b"a stranger's")

    if clip is SMALL:
        assert part.publish() == "b/a-2.mp4"
    else:
        # A name that was promised to parts cannot be changed: the fetch is tried again.
        with pytest.raises(OutputError, match="somebody else took the name"):
            part.publish()
        part.abort()
        assert written(place_of(bucket), clip).publish() == "b/a-2.mp4"

    assert bucket.read("night/b/a.mp4") == b"a stranger's"


@SIZES
def test_an_object_with_the_same_bytes_is_taken_for_this_clip(
    bucket: TestBucket, clip: bytes
) -> None:
    assert written(place_of(bucket), clip).publish() == "b/a.mp4"  # and then it crashed

    assert written(place_of(bucket), clip).publish() == "b/a.mp4"

    assert bucket.names() == ["night/b/a.mp4"]
    assert bucket.uploads() == []


def test_two_workers_with_one_clip_make_one_object(bucket: TestBucket) -> None:
    slow, quick = written(place_of(bucket), LARGE), written(place_of(bucket), LARGE)

    assert quick.publish() == "b/a.mp4"
    # Its parts are gone by then: whoever is done first tidies up. The fetch is tried again.
    with pytest.raises(BucketUnreachable):
        slow.publish()
    slow.abort()
    assert written(place_of(bucket), LARGE).publish() == "b/a.mp4"

    assert bucket.names() == ["night/b/a.mp4"]
    assert bucket.uploads() == []


def test_what_a_killed_process_left_is_aborted_and_nothing_else(bucket: TestBucket) -> None:
    place = place_of(bucket)
    mine = ["night/b/a.mp4", "night/b/a.webm", "night/b/a-2.mp4"]
    others = ["night/b/ab.mp4", "night/b/a-3.mp4", "night/b/a-x.mp4", "night/a.mp4", "b/a.mp4"]
    for key in [*mine, *others]:
        bucket.begin_upload(key)

    removed = place.remove_orphans(
        ["b/a.mp4"], named=lambda names: dict.fromkeys({"b/a-3.mp4"} & set(names), False)
    )

    assert removed == 3
    assert sorted(bucket.uploads()) == sorted(others)
    assert place.remove_orphans(["b/a.mp4"], named=lambda _: {"b/a-3.mp4": False}) == 0


def test_what_was_begun_of_clips_that_are_there_is_aborted_and_nothing_else(
    bucket: TestBucket,
) -> None:
    place = place_of(bucket)
    known = {"b/a.mp4": True, "b/c.mp4": False, "b/d.mp4": True, "b/d-2.mp4": False}
    left = ["night/b/a.mp4", "night/b/a-2.mp4", "night/b/a.webm"]
    others = ["night/b/c-2.mp4", "night/b/d-2.mp4", "night/b/x.mp4", "night/b/a.txt", "b/a.mp4"]
    for key in [*left, *others]:
        bucket.begin_upload(key)

    removed = place.remove_leftovers(
        named=lambda names: {name: known[name] for name in names if name in known}
    )

    assert removed == 3
    assert sorted(bucket.uploads()) == sorted(others)


def test_an_aborted_part_leaves_nothing(bucket: TestBucket) -> None:
    part = written(place_of(bucket), LARGE)
    assert bucket.uploads() == ["night/b/a.mp4"]

    part.abort()
    part.write([LARGE])
    with pytest.raises(OutputError, match="given up"):
        part.publish()

    settle()
    assert bucket.uploads() == []
    assert bucket.names() == []


@pytest.mark.parametrize("said", ["no such bucket", "no credentials"])
def test_a_bucket_that_cannot_be_written_says_so_before(
    bucket: TestBucket, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    place_of(bucket).check_writable()
    assert bucket.names() == []

    if said == "no credentials":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    elsewhere = BucketDestination(parse_location("s3://no-such-bucket"))
    with pytest.raises(BucketError, match=said):
        elsewhere.check_writable()


def test_a_small_file_beside_a_clip_is_replaced_only_if_it_is_ours(bucket: TestBucket) -> None:
    place = place_of(bucket)

    def write(content: bytes) -> bool:
        return place.write_beside("a.json", content, is_ours=lambda it: it[:1] == b"{", room=ROOM)

    assert place.read_beside("a.json") is None
    assert write(b"{1}")
    assert write(b"{2}")
    assert place.read_beside("a.json") == b"{2}"
    bucket.write("night/a.json", b"mine")
    assert not write(b"{3}")
    assert bucket.read("night/a.json") == b"mine"


def test_an_object_for_services_that_cannot_refuse_at_the_end(
    bucket: TestBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Google and Azure get, tried on this server.
    monkeypatch.setenv("AWS_COPY_IF_NOT_EXISTS", "multipart")
    opened = place_of(bucket).bucket

    def staged() -> uploads.Staged:
        upload = uploads.Staged(opened, "b/a.mp4", content_type="video/mp4")
        upload.add(LARGE)
        return upload

    first, second, third = staged(), staged(), staged()
    assert first.complete()
    assert not second.complete()
    [left] = [key for key in bucket.names() if key.endswith(".part")]
    assert left.startswith("night/b/.a.mp4.")
    assert [one.name for one in uploads._staged(opened, "b/a")] == ["b/a.mp4"]
    second.abort()
    third.abort()

    assert bucket.contents() == {"night/b/a.mp4": LARGE}


# -- with the fetch ------------------------------------------------------------------------------


def fetch(bucket: TestBucket, *answers: bytes, name: str = "b/a.mp4") -> Clip:
    left = list(answers)

    async def then(fetcher: Fetcher, server: object) -> Clip:
        url = f"{server.url}/a.mp4"  # type: ignore[attr-defined]
        return await fetcher.fetch(url, into=place_of(bucket), name=name)

    async def reply(_path: str, writer: object) -> None:
        writer.write(left.pop(0))  # type: ignore[attr-defined]
        await writer.drain()  # type: ignore[attr-defined]

    clip = run({"/a.mp4": reply}, then, part_bytes=SMALLEST_PART_BYTES)
    assert isinstance(clip, Clip)
    return clip


def test_a_clip_is_fetched_into_a_bucket(bucket: TestBucket) -> None:
    clip = fetch(bucket, answer(MP4))

    assert clip.path == "b/a.mp4"
    assert bucket.contents() == {"night/b/a.mp4": MP4}
    assert clip.sha256 == hashlib.sha256(MP4).hexdigest()


def test_the_extension_follows_the_content_before_the_first_part_leaves(
    bucket: TestBucket,
) -> None:
    webm = b"\x1aE\xdf\xa3webm" + b"w" * 1_000_000

    assert fetch(bucket, answer(webm)).path == "b/a.webm"
    assert bucket.names() == ["night/b/a.webm"]


def test_a_clip_that_was_cut_goes_on_in_the_same_upload(bucket: TestBucket) -> None:
    half = len(MP4) // 2
    etag = 'ETag: "one"\r\n'
    rest = answer(
        MP4[half:],
        status="206 Partial Content",
        headers=f"{etag}Content-Range: bytes {half}-{len(MP4) - 1}/{len(MP4)}\r\n",
    )

    fetch(bucket, answer(MP4[:half], headers=etag, length=len(MP4)), rest)

    assert bucket.contents() == {"night/b/a.mp4": MP4}
    assert bucket.uploads() == []


@pytest.mark.parametrize(
    "reply",
    [answer(MP4[:-9]), answer(MP4[:-9], length=len(MP4)), answer(b"<html>sorry</html>")],
    ids=["not whole", "cut", "a page"],
)
def test_what_is_no_whole_clip_leaves_nothing_in_the_bucket(
    bucket: TestBucket, reply: bytes
) -> None:
    with pytest.raises(DownloadError):
        fetch(bucket, reply)

    settle()
    assert bucket.names() == []
    assert bucket.uploads() == []


# -- which destination ---------------------------------------------------------------------------


def test_a_text_names_a_folder_or_a_place_in_a_bucket(tmp_path: Path) -> None:
    here = Destinations(tmp_path)

    assert here.of("clips").path("b/a.mp4") == str(tmp_path / "clips/b/a.mp4")
    assert here.of("/elsewhere").path("a.mp4") == "/elsewhere/a.mp4"
    assert here.of("s3://clips/night").path("b/a.mp4") == "s3://clips/night/b/a.mp4"
    assert here.of("s3://clips").path("") == "s3://clips"
    assert here.of("s3://clips") is here.of("s3://clips")
    assert clip_path("s3://clips/night", "b/a.mp4") == "s3://clips/night/b/a.mp4"
    assert clip_path("clips", "b/a.mp4") == "clips/b/a.mp4"
    with pytest.raises(UsageError, match="no name of a bucket"):
        here.of("s3://")


def test_a_bucket_that_does_not_answer_is_tried_again(
    bucket: TestBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")

        with pytest.raises(DownloadError, match="does not answer"):
            fetch(bucket, answer(PNG))
