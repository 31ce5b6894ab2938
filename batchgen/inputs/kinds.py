"""What a file is by its first bytes: an image, a video, a sound, or nothing that may be sent."""

HEAD_BYTES = 64 * 1024
"""How many first bytes are looked at."""

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\x00\x00\x01\xba", "mpg"),
    (b"\x00\x00\x01\xb3", "mpg"),
    (b"ID3", "mp3"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
)
_RIFF = {b"WEBP": "webp", b"AVI ": "avi", b"WAVE": "wav"}
_BRANDS = {b"qt  ": "mov", b"avif": "avif", b"avis": "avif", b"M4A ": "m4a"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "heic")
_MP4_BRANDS = (b"iso", b"mp4", b"avc", b"M4V", b"dash", b"MSNV", b"3g")
_MPEG_SYNC, _AAC_SYNC = (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"), (b"\xff\xf1", b"\xff\xf9")


def extension_of(head: bytes) -> str | None:
    """Return the extension that first bytes prove, None if they prove none that may be sent."""
    for magic, extension in _MAGIC:
        if head.startswith(magic):
            return extension
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head.startswith(b"\x1aE\xdf\xa3"):  # EBML: WebM is Matroska of that DocType
        return "webm" if b"webm" in head[:64] else "mkv"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return _BRANDS.get(brand) or ("mp4" if brand.startswith(_MP4_BRANDS) else None)
    if head[4:8] in (b"moov", b"wide") or (head[4:8] == b"mdat" and b"moov" in head):
        return "mov"
    if head.startswith(_MPEG_SYNC):
        return "mp3"
    return "aac" if head.startswith(_AAC_SYNC) else None
