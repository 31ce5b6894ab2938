"""The pixels of an image, from its first bytes."""

import io

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_KINDS = {
    _SIGNATURES[0]: "image/png",
    _SIGNATURES[1]: "image/jpeg",
    _SIGNATURES[2]: "image/gif",
    b"%PDF": "application/pdf",
}
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"{", b"[")
_TELLING_BYTES = 4096  # in which every format but these two states its pixels, if at all


def pixels(head: bytes) -> tuple[int, int] | None:
    """Return width and height as they are stored; None if the first bytes do not tell."""
    if not (head.startswith(_SIGNATURES) or head[8:12] == b"WEBP" or head[4:8] == b"ftyp"):
        return None  # nor is anything else asked: imagesize would read XML
    import imagesize  # type: ignore[import-untyped]  # only where images are probed

    width, height = imagesize.get(io.BytesIO(head), exif_rotation=False)
    return (int(width), int(height)) if width > 0 and height > 0 else None


def kind_of(head: bytes) -> str | None:
    """Return the type of an image by its first bytes, None if they do not tell one."""
    if head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for mark, kind in _KINDS.items() if head.startswith(mark)), None)


def may_tell_more(head: bytes) -> bool:
    """Return whether more bytes may tell the pixels: what comes first in a JPEG has any length."""
    if pixels(head):
        return False
    has_any_length = head.startswith(b"\xff\xd8") or head[4:8] == b"ftyp"
    return has_any_length or len(head) < _TELLING_BYTES


def is_text(head: bytes) -> bool:
    """Return whether a file is surely a page or another text, and no image, video or sound."""
    if head.startswith(b"%PDF"):
        return False
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:16].lower()
    if start.startswith(b"<svg"):
        return False
    if start.startswith(_MARKUP):
        return True
    return bool(head) and not any(byte < 9 or 13 < byte < 32 or byte >= 127 for byte in head)
