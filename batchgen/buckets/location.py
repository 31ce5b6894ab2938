"""Where something is in object storage: `s3://bucket/prefix`, as one small value."""

import re
from dataclasses import dataclass, replace
from typing import Self

from batchgen.domain.errors import UsageError

SCHEMES = ("s3", "gs", "az")
"""S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""

_URL = re.compile(rf"(?P<scheme>{'|'.join(SCHEMES)})://(?P<bucket>[^/]*)(?P<path>.*)", re.DOTALL)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.IGNORECASE)
_HOSTILE = re.compile(r"[\x00-\x1f\x7f\\?#*]")
_LONGEST_BYTES = 700  # the services take 1,024; what is left is for names


@dataclass(frozen=True, order=True)
class Location:
    """A bucket, and a place in it.

    Attributes:
        scheme: One of `SCHEMES`.
        bucket: Its name; at Azure that of a container.
        path: A prefix or the name of an object, without a slash at either end; "" is all of it.
    """

    scheme: str
    bucket: str
    path: str = ""

    def __str__(self) -> str:
        """Return it as it is written: `s3://bucket/prefix`."""
        return f"{self.root}/{self.path}" if self.path else self.root

    @property
    def root(self) -> str:
        """The bucket alone, as it is written."""
        return f"{self.scheme}://{self.bucket}"

    def key(self, name: str) -> str:
        """Return the name in the bucket of what is called `name` below this place."""
        return f"{self.path}/{name}" if self.path else name

    def joined(self, name: str) -> Self:
        """Return the place of what is called `name` below this one."""
        return replace(self, path=self.key(name).strip("/"))

    def split(self) -> tuple[Self, str]:
        """Return where an object lies, and its name there."""
        folder, _, name = self.path.rpartition("/")
        return replace(self, path=folder), name


def is_location(text: str) -> bool:
    """Return whether a text names a place in object storage, a wrong one too."""
    return text.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def parse_location(text: str) -> Location:
    """Return the place that a text like `s3://bucket/prefix` names.

    Raises:
        UsageError: If it names none; the message says how it is written.
    """
    found = _URL.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no place in object storage: write s3://BUCKET/PREFIX")
    scheme, bucket = found["scheme"], found["bucket"]
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(
            f"{text!r}: {bucket!r} is no name of a bucket: write {scheme}://BUCKET/PREFIX"
        )
    path = found["path"].strip("/")
    parts = path.split("/") if path else []
    if _HOSTILE.search(path) or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"{text!r}: write the place in the bucket as plain names with single slashes, "
            "without `.`, `..`, `?`, `#`, `*` and `\\`"
        )
    if len(path.encode()) > _LONGEST_BYTES:
        raise UsageError(f"{text[:80]!r}…: longer than the {_LONGEST_BYTES} bytes that fit")
    return Location(scheme, bucket, path)
