"""A file of this machine as an input: what a job keeps of it, and what it is known by.

A job keeps `file:SHA256.EXTENSION:/PATH`. The content makes the job what it is; the path only
says where the content was seen last, and may change.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "avi": "video/x-msvideo",
    "mpg": "video/mpeg",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
}
"""The content type of every kind of file that may be sent, by the extension it gets."""

START = "file:"
_KEPT = re.compile(
    rf"{START}(?P<sha256>[0-9a-f]{{64}})\.(?P<extension>{'|'.join(TYPES)}):(?P<path>/.+)", re.DOTALL
)


@dataclass(frozen=True)
class InputFile:
    """A file of this machine.

    Attributes:
        sha256: The hex digest of its content.
        extension: Of its kind, by its bytes; one of `TYPES`.
        path: Where it was seen, absolute.
    """

    sha256: str
    extension: str
    path: str

    def __str__(self) -> str:
        """Return what a job keeps of it."""
        return f"{START}{self.name}:{self.path}"

    @property
    def name(self) -> str:
        """What it is called where it is uploaded to: the same wherever it was found."""
        return f"{self.sha256}.{self.extension}"

    @property
    def content_type(self) -> str:
        """Its type."""
        return TYPES[self.extension]

    @property
    def kind(self) -> str:
        """`image`, `video` or `audio`."""
        return self.content_type.partition("/")[0]


def parse_input_file(text: str) -> InputFile | None:
    """Return the file that a job keeps so, None if the text is none."""
    found = _KEPT.fullmatch(text) if text.startswith(START) else None
    return None if found is None else InputFile(**found.groupdict())


def is_link_to(kept: str, link: str) -> bool:
    """Return whether a link may be what was sent for an input file.

    Args:
        kept: What its job keeps of it: a file of this machine, or a place in object storage.
        link: What a service says that it was sent.
    """
    file = parse_input_file(kept)
    if file is not None and link.startswith("data:"):
        return link.startswith(f"data:{file.content_type};")  # what is in it may be cut away
    try:
        path = unquote(urlsplit(link).path)
        name = file.name if file is not None else urlsplit(kept).path.lstrip("/")
    except ValueError:
        return False
    is_kept = file is not None or kept.startswith(("s3://", "gs://", "az://"))
    return is_kept and bool(name) and path.endswith(f"/{name}")
