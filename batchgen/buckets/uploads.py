"""Large objects, part by part: a name appears with the last step, whole, or not at all.

On S3 through botocore, which tells the ids of uploads: so one that a killed process left can be
found and aborted, which obstore cannot. Elsewhere through obstore, under a temporary name beside
the final one, whose object is then copied to a name that must be free and deleted.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Any, Protocol

from batchgen.buckets.bucket import Bucket
from batchgen.domain.errors import BucketError

_STAGED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part", re.DOTALL)
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_NOT_KNOWN = "NotImplemented"  # what some servers say of `If-None-Match`


class Upload(Protocol):
    """One object on its way, a part at a time; errors are those of `Bucket`."""

    def add(self, part: bytes) -> None:
        """Send a part; all but the last have one size, of 5 MiB at least on a real service."""

    def complete(self) -> bool:
        """Give the object its name; return False, with nothing changed, if it is taken."""

    def abort(self) -> None:
        """Leave nothing of it behind; nothing happens if it is complete."""


def begin(bucket: Bucket, name: str, *, content_type: str) -> Upload:
    """Begin to upload an object."""
    if bucket.s3 is not None:
        return _Multipart(bucket, name, content_type=content_type)
    return Staged(bucket, name, content_type=content_type)


def unfinished(bucket: Bucket, prefix: str) -> "Iterator[Unfinished]":
    """Yield the uploads under way, or left over, of names that begin with a prefix."""
    if bucket.s3 is None:
        yield from _staged(bucket, prefix)
        return
    key = bucket.location.key(prefix)
    cut = len(key) - len(prefix)
    with bucket.errors():
        pages = bucket.s3.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket.location.bucket, Prefix=key
        )
        for page in pages:
            for one in page.get("Uploads", ()):
                yield Unfinished(bucket, one["Key"][cut:], upload_id=one["UploadId"])


class Unfinished:
    """An upload that is not complete.

    Attributes:
        name: What its object would be called.
    """

    def __init__(self, bucket: Bucket, name: str, *, upload_id: str = "", staged: str = "") -> None:
        self.name = name
        self._bucket, self._id, self._staged = bucket, upload_id, staged

    def abort(self) -> None:
        """Remove what there is of it; one that has gone meanwhile is no error."""
        if self._staged:
            self._bucket.delete(self._staged)
        else:
            _abort(self._bucket, self.name, self._id)


class _Multipart:
    """A multipart upload of S3."""

    def __init__(self, bucket: Bucket, name: str, *, content_type: str) -> None:
        if bucket.s3 is None:
            raise ValueError("this is for S3")
        self._bucket, self._name, self._client = bucket, name, bucket.s3.client
        self._parts: list[dict[str, Any]] = []
        self._is_over = False
        extra = {"ContentType": content_type} if content_type else {}
        with bucket.errors():
            begun = self._client.create_multipart_upload(**self._object, **extra)
        self._id = begun["UploadId"]

    @property
    def _object(self) -> dict[str, str]:
        location = self._bucket.location
        return {"Bucket": location.bucket, "Key": location.key(self._name)}

    def add(self, part: bytes) -> None:
        """Send a part."""
        number = len(self._parts) + 1
        with self._bucket.errors():
            sent = self._client.upload_part(
                **self._object, UploadId=self._id, PartNumber=number, Body=part
            )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})

    def complete(self) -> bool:
        """Give the object its name."""
        try:
            self._complete({"IfNoneMatch": "*"})
        except BucketError as error:
            code = _code_of(error)
            if code in _TAKEN:
                return False
            if code != _NOT_KNOWN:
                raise
            # Whoever calls has looked, and names are reserved in the job database.
            self._complete({})
        self._is_over = True
        return True

    def _complete(self, condition: dict[str, str]) -> None:
        with self._bucket.errors():
            self._client.complete_multipart_upload(
                **self._object,
                **condition,
                UploadId=self._id,
                MultipartUpload={"Parts": self._parts},
            )

    def abort(self) -> None:
        """Leave nothing of it behind."""
        if not self._is_over:
            self._is_over = True
            _abort(self._bucket, self._name, self._id)


def _abort(bucket: Bucket, name: str, upload_id: str) -> None:
    if bucket.s3 is None:
        raise ValueError("this is for S3")
    location = bucket.location
    try:
        with bucket.errors():
            bucket.s3.client.abort_multipart_upload(
                Bucket=location.bucket, Key=location.key(name), UploadId=upload_id
            )
    except BucketError as error:
        if _code_of(error) != "NoSuchUpload":
            raise


def _code_of(error: BucketError) -> str:
    said = getattr(error.__cause__, "response", {})
    return str(said.get("Error", {}).get("Code", ""))


class Staged:
    """An object under a temporary name: where the service cannot refuse at the last step."""

    def __init__(self, bucket: Bucket, name: str, *, content_type: str) -> None:
        self._bucket, self._name = bucket, name
        folder, slash, leaf = name.rpartition("/")
        self._staged = f"{folder}{slash}.{leaf}.{secrets.token_hex(4)}.part"
        self._is_written = self._is_over = False
        self._writer = bucket.writer(self._staged, content_type=content_type)

    def add(self, part: bytes) -> None:
        """Send a part."""
        with self._bucket.errors():
            self._writer.write(part)

    def complete(self) -> bool:
        """Give the object its name."""
        if not self._is_written:
            with self._bucket.errors():
                self._writer.close()
            self._is_written = True
        if not self._bucket.copy(self._staged, self._name):
            return False
        self.abort()
        return True

    def abort(self) -> None:
        """Leave nothing of it behind."""
        if self._is_over:
            return
        self._is_over = True
        # A writer that is dropped leaves parts that nobody sees and nobody can name: Azure
        # removes them after a week, Google by a rule of the bucket (docs/buckets.md).
        if self._is_written:
            self._bucket.delete(self._staged)


def _staged(bucket: Bucket, prefix: str) -> Iterator[Unfinished]:
    folder, slash, start = prefix.rpartition("/")
    for name in bucket.names(f"{folder}{slash}.{start}"):
        inside, _, leaf = name.rpartition("/")
        found = _STAGED.fullmatch(leaf)
        if found and inside == folder:
            yield Unfinished(bucket, f"{folder}{slash}{found['name']}", staged=name)
