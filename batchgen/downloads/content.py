"""What kind of file was fetched, and whether it is whole: judged by its bytes, not its name."""

import os
import re
from urllib.parse import unquote, urlsplit

from batchgen.domain.errors import DownloadError

HEAD_BYTES = 4096
"""How many first bytes `extension_of` and `refuse_text` want to see."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"FLV\x01", "flv"),
    (b"OggS", "ogv"),
    (b"\x00\x00\x01\xba", "mpg"),
    (b"\x00\x00\x01\xb3", "mpg"),
    (b"0&\xb2u\x8ef\xcf\x11", "wmv"),
)
_RIFF = {b"WEBP": "webp", b"AVI ": "avi", b"WAVE": "wav"}
_BRANDS = {b"qt  ": "mov", b"avif": "avif", b"avis": "avif", b"M4A ": "m4a", b"M4V ": "m4v"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "heic")
_STILLS = frozenset({"avif", "heic"})  # ISO files of pictures: `meta` in place of `moov`
_ISO_BOXES = frozenset(
    {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"sidx"}
)
_TYPES = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/x-m4v": "m4v",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/mpeg": "mpg",
    "video/ogg": "ogv",
    "video/x-msvideo": "avi",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
}
_ISO_EXTENSIONS = frozenset({"mp4", "mov", "m4v", "m4a"})
_SAME_KIND = {"jpeg": "jpg", "m4v": "mp4", "mpeg": "mpg", "heif": "heic"}
MEDIA_EXTENSIONS = frozenset(_TYPES.values()) | set(_SAME_KIND) | {"flv", "wmv", "wav", "m4a"}
"""Extensions that say what a file is; only these are corrected in a name."""

_TEXT_TYPE = re.compile(
    r"text/|application/(?:json|xml|xhtml|javascript|problem)|[^;]*\+(?:json|xml)"
)
_MOST_BOXES = 1_000_000  # bounds the walk over a hostile file


def extension_of(url: str, content_type: str, first_bytes: bytes) -> str:
    """Return the extension, without dot, that a file should bear.

    The bytes decide, then the content type, then the URL's path; `mp4` if all are silent.
    """
    kind = kind_of(first_bytes) or _TYPES.get(_bare(content_type))
    if kind:
        return kind
    suffix = unquote(urlsplit(url).path).rpartition("/")[2].rpartition(".")[2].lower()
    return suffix if suffix in MEDIA_EXTENSIONS else "mp4"


def kind_of(first_bytes: bytes) -> str | None:
    """Return the extension that a file's first bytes prove, None if they prove none."""
    for magic, kind in _MAGIC:
        if first_bytes.startswith(magic):
            return kind
    if first_bytes.startswith(b"RIFF"):
        return _RIFF.get(first_bytes[8:12])
    if first_bytes.startswith(b"\x1aE\xdf\xa3"):  # EBML: WebM is Matroska of that DocType
        return "webm" if b"webm" in first_bytes[:64] else "mkv"
    if first_bytes[4:8] in _ISO_BOXES:
        return _BRANDS.get(first_bytes[8:12], "mp4")
    return None


def is_same_kind(one: str, other: str) -> bool:
    """Return whether two extensions, without dot, name one kind of file."""
    one, other = one.lower(), other.lower()
    return _SAME_KIND.get(one, one) == _SAME_KIND.get(other, other)


def refuse_text(first_bytes: bytes, content_type: str) -> None:
    """Refuse an error page that came with status 200.

    Known magic bytes are believed against a wrong content type; without them, a text type
    or bytes that read as text are refused.

    Raises:
        DownloadError: If this is HTML, JSON, XML or plain text.
    """
    if kind_of(first_bytes):
        return
    if _TEXT_TYPE.match(_bare(content_type)) or _reads_as_text(first_bytes):
        shown = _bare(content_type) or "no content type"
        raise DownloadError(f"not a clip but a page of text ({shown})")


def check_whole(fd: int, size_bytes: int, *, first_bytes: bytes, content_type: str) -> None:
    """Check that an MP4 or QuickTime file is whole; other kinds are taken as they are.

    Raises:
        DownloadError: If boxes are missing, or reach beyond the end of the file.
    """
    kind = kind_of(first_bytes)
    if kind is None and _TYPES.get(_bare(content_type)) in _ISO_EXTENSIONS:
        raise DownloadError(f"declared as {_bare(content_type)}, but it has no such content")
    if kind in _ISO_EXTENSIONS or kind in _STILLS:
        boxes = _top_level_boxes(fd, size_bytes)
        wanted = {b"ftyp", b"meta" if kind in _STILLS else b"moov"}
        # An image sequence has both or either.
        if missing := wanted - boxes - ({b"meta"} if b"moov" in boxes else set()):
            names = " and ".join(sorted(name.decode() for name in missing))
            raise DownloadError(f"not a whole {kind} file: it has no {names} box")


def _top_level_boxes(fd: int, size_bytes: int) -> set[bytes]:
    """Return the types of the outermost boxes (ISO/IEC 14496-12, 4.2)."""
    boxes: set[bytes] = set()
    position = 0
    for _ in range(_MOST_BOXES):
        if position == size_bytes:
            return boxes
        header = os.pread(fd, 16, position)
        if len(header) < 8 and not header.strip(b"\0"):
            return boxes  # padding too short for a box
        length = int.from_bytes(header[:4], "big")
        if length == 1:  # the real length follows, in 64 bits
            length = int.from_bytes(header[8:16], "big") if len(header) == 16 else 0
            smallest = 16
        else:
            length = length or size_bytes - position  # 0: to the end of the file
            smallest = 8
        if length < smallest or position + length > size_bytes:
            raise DownloadError(
                f"not a whole file: the box at byte {position} does not fit into {size_bytes} bytes"
            )
        boxes.add(header[4:8])
        position += length
    raise DownloadError(f"not a clip: more than {_MOST_BOXES} boxes")


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _reads_as_text(first_bytes: bytes) -> bool:
    try:
        # A character that the cut has split is no reason to doubt.
        text = first_bytes[:HEAD_BYTES].decode("utf-8-sig", errors="strict")
    except UnicodeDecodeError as error:
        if len(first_bytes) - error.start > 3:
            return _looks_like_markup(first_bytes)
        text = first_bytes[: error.start].decode("utf-8-sig")
    return not any(ord(char) < 32 and char not in "\t\n\r\f\x1b" for char in text)


def _looks_like_markup(first_bytes: bytes) -> bool:
    # A page in another encoding than UTF-8.
    start = first_bytes.lstrip(b"\xff\xfe\xef\xbb\xbf\0 \t\r\n")[:16].replace(b"\0", b"").lower()
    return start.startswith((b"<!", b"<html", b"<?xml", b"<head", b"<error", b"<body"))
