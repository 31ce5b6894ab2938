"""One bucket: look, read, write small things, delete, sign. Safe to use from several threads."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from batchgen.buckets.location import Location
from batchgen.domain.errors import BucketError

if TYPE_CHECKING:
    from batchgen.buckets.s3 import S3Access

SHA256 = "sha256"
"""The object's metadata that holds the hex digest of its content, where it was known in time."""

LONGEST_SIGNED_S = 7 * 24 * 3600
"""What a signature can be valid for, at S3 and Google."""

_CLIENT: Any = {
    "connect_timeout": timedelta(seconds=10),
    "timeout": timedelta(minutes=5),
}
_RETRY: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=60)}
_BLOCK_BYTES = 1024**2


@dataclass(frozen=True)
class Stored:
    """What a bucket says of an object.

    Attributes:
        size_bytes: Its size.
        sha256: The hex digest that was stored with it; "" if none was.
        etag: Names this very content, if the service says so.
        content_type: As it is served; "" if that is not known.
    """

    size_bytes: int
    sha256: str = ""
    etag: str = ""
    content_type: str = ""


class Bucket:
    """A place in object storage, opened. Names are relative to it.

    Every method raises `BucketError` if the bucket refuses, `BucketUnreachable` if it does not
    answer for now.

    Args:
        location: Where.
        environ: Where credentials, region and endpoint come from; the process's own if None,
            which obstore reads in any case.

    Attributes:
        location: Where.

    Raises:
        BucketError: If the libraries are not installed, there are no credentials, or the
            endpoint is not one to use.
    """

    def __init__(self, location: Location, *, environ: Mapping[str, str] | None = None) -> None:
        self.location = location
        try:
            import obstore
            import obstore.store as stores

            from batchgen.buckets import s3
            from batchgen.buckets.errors import bucket_errors
        except ImportError as error:
            raise BucketError(
                f"{location.root}: object storage needs two libraries: "
                "`pip install 'batchgen-cli[s3]'`"
            ) from error
        self._obstore, self._mapped = obstore, bucket_errors
        self.s3: S3Access | None = None
        try:
            if location.scheme == "s3":
                self.s3 = s3.S3Access(location, os.environ if environ is None else environ)
                self.store: Any = self.s3.store(retry=_RETRY, client=_CLIENT)
            else:
                kind = stores.GCSStore if location.scheme == "gs" else stores.AzureStore
                self.store = kind(location.bucket, client_options=_CLIENT, retry_config=_RETRY)
        except obstore.exceptions.BaseError as error:
            with bucket_errors(location):
                raise error from None
            raise AssertionError("it has raised") from error

    def errors(self) -> AbstractContextManager[None]:
        """Return what turns the errors of the libraries into those of batchgen."""
        return self._mapped(self.location)

    def head(self, name: str) -> Stored | None:
        """Return what there is under a name, None if nothing."""
        with self.errors():
            try:
                found = self._obstore.get(
                    self.store, self.location.key(name), options={"head": True}
                )
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                    raise
                return None
        said = {key.lower(): value for key, value in found.attributes.items()}
        meta = found.meta
        content_type = said.get("content-type", "")
        return Stored(meta["size"], said.get(SHA256, ""), meta["e_tag"] or "", content_type)

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object in blocks; nothing at all if it is not there."""
        with self.errors(), suppress(FileNotFoundError):
            found = self._obstore.get(self.store, self.location.key(name))
            for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                yield bytes(block)

    def read(self, name: str, *, most_bytes: int) -> bytes | None:
        """Return the content of a small object; None if it is not there.

        Raises:
            BucketError: If it is larger than `most_bytes`.
        """
        found = self.head(name)
        if found is None:
            return None
        if found.size_bytes > most_bytes:
            raise BucketError(f"{self.location.joined(name)}: larger than {most_bytes} bytes")
        return b"".join(self.blocks(name))

    def put(
        self,
        name: str,
        content: bytes,
        *,
        overwrite: bool = False,
        content_type: str = "",
        sha256: str = "",
    ) -> bool:
        """Write a small object, whole or not at all; return False if the name is taken.

        Args:
            name: Its name.
            content: All of it.
            overwrite: Whether what is there may be replaced.
            content_type: As it is to be served.
            sha256: The hex digest of its content, to be stored with it.
        """
        attributes = {"Content-Type": content_type} if content_type else {}
        if sha256:
            attributes[SHA256] = sha256
        with self.errors():
            try:
                self._put(name, content, "overwrite" if overwrite else "create", attributes)
            except self._obstore.exceptions.AlreadyExistsError:
                return False
            except self._obstore.exceptions.BaseError as error:
                if overwrite or "NotImplemented" not in str(error):
                    raise
                # A server without `If-None-Match`: what is left is to look first.
                if self.head(name) is not None:
                    return False
                self._put(name, content, "overwrite", attributes)
        return True

    def _put(
        self,
        name: str,
        content: bytes,
        mode: Literal["create", "overwrite"],
        attributes: dict[str, str],
    ) -> None:
        self._obstore.put(
            self.store,
            self.location.key(name),
            content,
            mode=mode,
            attributes={**attributes},
            use_multipart=False,
        )

    def writer(self, name: str, *, content_type: str) -> Any:
        """Return what writes an object of any size, over one that is there; to be closed."""
        with self.errors():
            return self._obstore.open_writer(
                self.store,
                self.location.key(name),
                attributes={"Content-Type": content_type} if content_type else None,
                max_concurrency=1,
            )

    def copy(self, name: str, target: str) -> bool:
        """Copy an object within the service; return False if the target's name is taken."""
        with self.errors():
            try:
                self._obstore.copy(
                    self.store,
                    self.location.key(name),
                    self.location.key(target),
                    overwrite=False,
                )
            except self._obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def delete(self, name: str) -> None:
        """Delete an object; one that is not there is no error."""
        with self.errors(), suppress(FileNotFoundError):
            self._obstore.delete(self.store, self.location.key(name))

    def names(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of all objects that begin with a prefix, in their order."""
        start = self.location.key(prefix)
        folder = start.rpartition("/")[0]
        cut = len(start) - len(prefix)
        with self.errors():
            # The libraries take whole folders; services list by name, from an offset on.
            for some in self._obstore.list(self.store, prefix=folder or None, offset=start or None):
                for one in some:
                    if not one["path"].startswith(start):
                        return
                    yield one["path"][cut:]

    def sign(self, name: str, seconds: int) -> str:
        """Return a link with which anybody may read an object for so long; it is a credential.

        The object need not exist. Nothing is asked of the service where the credentials hold a key.
        """
        with self.errors():
            return str(
                self._obstore.sign(
                    self.store, "GET", self.location.key(name), timedelta(seconds=seconds)
                )
            )
