import struct

import pytest

from batchgen.domain.errors import DownloadError
from batchgen.downloads.content import (
    Boxes,
    check_whole,
    extension_of,
    is_same_kind,
    kind_of,
    refuse_text,
    type_of,
)


def box(kind: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack(">I", 8 + len(body) if length is None else length) + kind + body


FTYP = box(b"ftyp", b"isom\0\0\0\0")
MP4 = FTYP + box(b"moov", b"m" * 40) + box(b"mdat", b"d" * 100)


@pytest.mark.parametrize(
    ("first_bytes", "kind"),
    [
        pytest.param(MP4, "mp4", id="mp4"),
        pytest.param(box(b"ftyp", b"qt  \0\0\0\0"), "mov", id="mov"),
        pytest.param(box(b"ftyp", b"avif\0\0\0\0"), "avif", id="avif"),
        pytest.param(b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x82\x84webm", "webm", id="webm"),
        pytest.param(b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x82\x88matroska", "mkv", id="mkv"),
        pytest.param(b"\x89PNG\r\n\x1a\nxx", "png", id="png"),
        pytest.param(b"\xff\xd8\xff\xe0", "jpg", id="jpg"),
        pytest.param(b"RIFF\0\0\0\0WEBP", "webp", id="webp"),
        pytest.param(b"RIFF\0\0\0\0XXXX", None, id="riff-of-another-kind"),
        pytest.param(b"GIF89a", "gif", id="gif"),
        pytest.param(b"\0\1\2\3\4\5\6\7", None, id="unknown"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_the_first_bytes_tell_the_kind(first_bytes: bytes, kind: str | None) -> None:
    assert kind_of(first_bytes) == kind


@pytest.mark.parametrize(
    ("url", "content_type", "first_bytes", "expected"),
    [
        ("https://x/a.mp4", "video/mp4", b"\x89PNG\r\n\x1a\n", "png"),
        ("https://x/a.mp4", "video/webm; codecs=vp9", b"\0\1", "webm"),
        ("https://x/a.WEBM?sig=1.mov", "application/octet-stream", b"\0\1", "webm"),
        ("https://x/a.exe", "", b"\0\1", "mp4"),
        ("https://x/", "", b"\0\1", "mp4"),
    ],
)
def test_extension_of(url: str, content_type: str, first_bytes: bytes, expected: str) -> None:
    assert extension_of(url, content_type, first_bytes) == expected


def test_two_extensions_of_one_kind_are_the_same() -> None:
    assert is_same_kind("MP4", "m4v")
    assert is_same_kind("jpeg", "jpg")
    assert not is_same_kind("mp4", "mov")


@pytest.mark.parametrize(
    ("first_bytes", "content_type"),
    [
        pytest.param(b"<!DOCTYPE html><html>", "video/mp4", id="html-called-video"),
        pytest.param(b'{"error": "expired"}', "application/octet-stream", id="json"),
        pytest.param(b"\xef\xbb\xbf<?xml version='1.0'?>", "", id="xml-with-bom"),
        pytest.param("Zugriff verweigert: ä".encode(), "video/mp4", id="plain-text"),
        pytest.param(("x" * 4095 + "ä").encode()[:4096], "video/mp4", id="cut-character"),
        pytest.param("<html>ä</html>".encode("latin-1") + b"\xe4" * 9, "", id="latin-1"),
        pytest.param("<html>".encode("utf-16"), "", id="utf-16"),
        pytest.param(b"\0\1\2", "text/html; charset=utf-8", id="declared-text"),
        pytest.param(b"\0\1\2", "application/problem+json", id="declared-json"),
    ],
)
def test_text_is_refused(first_bytes: bytes, content_type: str) -> None:
    with pytest.raises(DownloadError, match="page of text"):
        refuse_text(first_bytes, content_type)


@pytest.mark.parametrize(
    ("first_bytes", "content_type"),
    [
        pytest.param(MP4, "text/plain", id="magic-is-believed"),
        pytest.param(b"\0\1\xff\xfe\x80" * 9, "video/x-unheard-of", id="unknown-video"),
        pytest.param(b"\x80\x81\x00\x05" * 9, "application/octet-stream", id="unknown-bytes"),
    ],
)
def test_what_is_no_text_is_accepted(first_bytes: bytes, content_type: str) -> None:
    refuse_text(first_bytes, content_type)


def check(data: bytes, content_type: str = "video/mp4", *, pieces: int = 1 << 20) -> None:
    boxes = Boxes()
    for at in range(0, len(data), pieces):
        boxes.feed(data[at : at + pieces])
    check_whole(boxes, first_bytes=data, content_type=content_type)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(MP4, id="plain"),
        pytest.param(MP4 + box(b"free", b"f" * 9), id="trailing-free"),
        pytest.param(MP4 + b"\0\0\0", id="padding"),
        pytest.param(MP4[:-108] + box(b"mdat", b"d" * 50, length=0), id="to-the-end"),
        pytest.param(
            FTYP + box(b"moov") + struct.pack(">I4sQ", 1, b"mdat", 26) + b"d" * 10, id="64-bit"
        ),
        pytest.param(box(b"ftyp", b"avif\0\0\0\0") + box(b"meta", b"x"), id="avif"),
        pytest.param(b"\x1aE\xdf\xa3" + b"w" * 20, id="webm-is-taken-as-it-is"),
    ],
)
def test_a_whole_file_is_accepted(data: bytes) -> None:
    for pieces in (1, 3, 7, 16, len(data)):
        check(data, pieces=pieces)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(MP4[:-1], "does not fit", id="one-byte-short"),
        pytest.param(MP4 + b"\0\0\0\x20free", "does not fit", id="box-beyond-the-end"),
        pytest.param(MP4 + b"xyz", "does not fit", id="trailing-garbage"),
        pytest.param(MP4 + box(b"free", length=4), "does not fit", id="impossible-length"),
        pytest.param(MP4 + b"\0\0\0\1free", "does not fit", id="cut-64-bit-header"),
        pytest.param(FTYP + box(b"mdat", b"d"), "no moov box", id="no-moov"),
        pytest.param(box(b"moov") + box(b"mdat"), "no ftyp box", id="no-ftyp"),
        pytest.param(b"\x80\0\0\0garbage", "no such content", id="not-at-all"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(data: bytes, said: str) -> None:
    for pieces in (1, 3, 7, 16, len(data)):
        with pytest.raises(DownloadError, match=said):
            check(data, pieces=pieces)


def test_a_file_is_served_as_what_its_name_says() -> None:
    assert type_of("night/a.mp4") == "video/mp4"
    assert type_of("a.WEBM") == "video/webm"
    assert type_of("a.unheard") == ""
