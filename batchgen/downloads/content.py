"""What kind of file was fetched, and whether it is whole: judged by its bytes, not its name."""

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


class Boxes:
    """The outermost boxes of an ISO file (ISO/IEC 14496-12, 4.2), seen while its bytes pass."""

    def __init__(self) -> None:
        self._types: set[bytes] = set()
        self._size_bytes = 0
        self._begin = 0  # of the box that was entered last
        self._next = 0  # of the one behind it
        self._header = b""  # what has passed of that one's
        self._count = 0
        self._is_over = False  # the last box reaches to the end, or one is impossible
        self._is_impossible = False

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the file."""
        while not self._is_over:
            wanted = self._wanted
            if not wanted:
                self._enter()
                continue
            at = self._next + len(self._header) - self._size_bytes
            if at >= len(block):
                break
            self._header += block[at : at + wanted]
        self._size_bytes += len(block)

    @property
    def _wanted(self) -> int:
        """How many more bytes of a header are needed to know its box."""
        is_long = self._header[:4] == b"\0\0\0\1"  # the real length follows, in 64 bits
        return (16 if is_long else 8) - len(self._header)

    def _enter(self) -> None:
        self._begin, header, self._header = self._next, self._header, b""
        length = int.from_bytes(header[8:] or header[:4], "big")
        self._count += 1
        self._types.add(header[4:8])
        self._next += length
        is_last = not length and len(header) == 8
        self._is_impossible = not is_last and length < len(header)
        self._is_over = is_last or self._is_impossible or self._count > _MOST_BOXES
        if is_last:
            self._next = 0

    def types(self) -> set[bytes]:
        """Return the types of all boxes, once the whole file has passed.

        Raises:
            DownloadError: If one reaches beyond the end.
        """
        if self._count > _MOST_BOXES:
            raise DownloadError(f"not a clip: more than {_MOST_BOXES} boxes")
        is_padding = len(self._header) < 8 and not self._header.strip(b"\0")  # too short for a box
        if self._is_impossible or self._next > self._size_bytes or not is_padding:
            begin = self._begin if is_padding else self._next
            raise DownloadError(
                f"not a whole file: the box at byte {begin} does not fit into "
                f"{self._size_bytes} bytes"
            )
        return self._types


def check_whole(boxes: Boxes, *, first_bytes: bytes, content_type: str) -> None:
    """Check that an MP4 or QuickTime file is whole; other kinds are taken as they are.

    Args:
        boxes: That have seen all of it.
        first_bytes: Its head.
        content_type: As stated.

    Raises:
        DownloadError: If boxes are missing, or reach beyond the end of the file.
    """
    kind = kind_of(first_bytes)
    if kind is None and _TYPES.get(_bare(content_type)) in _ISO_EXTENSIONS:
        raise DownloadError(f"declared as {_bare(content_type)}, but it has no such content")
    if kind in _ISO_EXTENSIONS or kind in _STILLS:
        found = boxes.types()
        wanted = {b"ftyp", b"meta" if kind in _STILLS else b"moov"}
        # An image sequence has both or either.
        if missing := wanted - found - ({b"meta"} if b"moov" in found else set()):
            names = " and ".join(sorted(name.decode() for name in missing))
            raise DownloadError(f"not a whole {kind} file: it has no {names} box")


def type_of(name: str) -> str:
    """Return the content type that a file of this name is to be served as; "" if unknown."""
    ext = name.rpartition(".")[2].lower()
    return next((kind for kind, known in _TYPES.items() if known == ext), "")


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
