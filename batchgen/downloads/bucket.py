"""Clips in a bucket: no copy on this disk, and a name appears whole or not at all.

A clip below one part is one request, which refuses to overwrite. A larger one goes up part by
part while it is fetched, and gets its name with the last step. What a killed process has left of
that can be seen, by the name, and is aborted by whoever takes the job over.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from functools import cached_property
from threading import Lock, Thread

from batchgen.buckets import uploads
from batchgen.buckets.bucket import Bucket, Stored
from batchgen.buckets.location import Location
from batchgen.buckets.uploads import Upload
from batchgen.domain.errors import BucketError, BucketUnreachable, OutputError
from batchgen.downloads.content import MEDIA_EXTENSIONS, type_of
from batchgen.downloads.destination import Content, Named, Part, Room
from batchgen.downloads.names import folded, numbered, split_extension
from batchgen.failpoints import failpoint

LARGEST_SIDECAR_BYTES = 16 * 1024**2
TIDYING = "tidying"
"""The name of threads that abort uploads."""

_PROOF = ".batchgen-may-write"
_NUMBER = re.compile(r"-[0-9]+\Z")
_MOST_NAMES = 10_000  # tried before a foreign object's name is given up
_MOST_RACES = 100  # lost to others, for a name that was free


class BucketDestination:
    """A place in object storage; opened when it is first used.

    Attributes:
        location: Where.
    """

    def __init__(self, location: Location) -> None:
        self.location = location
        self._opening = Lock()

    @property
    def bucket(self) -> Bucket:
        """The bucket, opened.

        Raises:
            BucketError: If the libraries are not installed, or there are no credentials.
        """
        with self._opening:
            return self._bucket

    @cached_property
    def _bucket(self) -> Bucket:
        return Bucket(self.location)

    def path(self, name: str) -> str:
        """Return where a clip lies: `s3://bucket/prefix/name`."""
        return str(self.location.joined(name))

    def link(self, name: str, seconds: int) -> str | None:
        """Return a signed link with which anybody can read a clip for so long: a credential."""
        return self.bucket.sign(name, seconds)

    def part(self, name: str, room: Room) -> Part:
        """Return a new part; nothing is written yet."""
        return BucketPart(self, name, part_bytes=room.part_bytes)

    def check_writable(self) -> None:
        """Prove by writing that clips can be made here; what was written is removed."""
        # One name: what a process that is killed in between leaves is removed by the next.
        self.bucket.put(_PROOF, b"batchgen", overwrite=True)
        self.bucket.delete(_PROOF)

    def free_bytes(self) -> int | None:
        """Return None: a bucket is never full."""
        return None

    def remove_orphans(self, names: Iterable[str], *, named: Named) -> int:
        """Abort the uploads that killed processes left of some clips; return how many.

        A folder is listed once, however many jobs are taken over: few uploads are ever under way.
        """
        wanted: dict[str, set[str]] = defaultdict(set)
        for name in names:
            wanted[name.rpartition("/")[0]].add(name)
        removed = 0
        for folder, mine in wanted.items():
            stems = {_stem(name) for name in mine}
            for upload in uploads.unfinished(self.bucket, f"{folder}/" if folder else ""):
                is_mine = upload.name in mine
                if is_mine or (_may_be_of(upload.name, stems) and not named([folded(upload.name)])):
                    upload.abort()
                    removed += 1
        return removed

    def remove_leftovers(self, *, named: Named) -> int:
        """Abort the uploads of jobs that are at rest; return how many.

        A worker that was taken for dead, and woke up, may have begun one after all, under the next
        number since its clip was there by then; if it died of that, nobody takes its job over.
        """
        removed = 0
        for upload in uploads.unfinished(self.bucket, ""):
            stem = _stem(upload.name)
            stems = {stem, _NUMBER.sub("", stem)}
            names = [folded(f"{one}.{ext}") for one in stems for ext in MEDIA_EXTENSIONS]
            # Also a job that has the number in its name must be at rest.
            found = named(names) if _may_be_of(upload.name, stems) else {}
            if found and all(found.values()):
                upload.abort()
                removed += 1
        return removed

    @contextmanager
    def opened(self, name: str) -> Iterator[Content]:
        """Open an object."""
        found = self.bucket.head(name)
        if found is None:
            raise FileNotFoundError(self.path(name))
        yield Content(found.size_bytes, found.sha256, lambda: self.bucket.blocks(name))

    def has(self, name: str) -> bool:
        """Return whether there is an object of a name."""
        return self.bucket.head(name) is not None

    def write_beside(
        self, name: str, content: bytes, *, is_ours: Callable[[bytes], bool], room: Room
    ) -> bool:
        """Write a small object, but never over a stranger's; return whether."""
        bucket, kind = self.bucket, "application/json"
        found = bucket.head(name)
        if found is None:
            return bucket.put(name, content, content_type=kind)
        if found.size_bytes > LARGEST_SIDECAR_BYTES or not is_ours(self.read_beside(name) or b""):
            return False
        return bucket.put(name, content, content_type=kind, overwrite=True)

    def read_beside(self, name: str) -> bytes | None:
        """Return the content of a small object; None if it is not there."""
        return self.bucket.read(name, most_bytes=LARGEST_SIDECAR_BYTES)


class BucketPart:
    """One clip on its way to a bucket.

    Attributes:
        size_bytes: What was written so far.
    """

    def __init__(self, place: BucketDestination, name: str, *, part_bytes: int) -> None:
        self.size_bytes = 0
        self._place = place
        self._name = name
        self._part_bytes = part_bytes
        self._held_bytes = bytearray()
        self._digest = hashlib.sha256()
        self._upload: Upload | None = None
        self._target = ""  # what the upload's object will be called
        self._there: dict[str, Stored] = {}  # objects whose names were tried before it
        self._lock = Lock()
        self._is_aborted = False

    @property
    def sha256(self) -> str:
        """The hex digest of what was written so far."""
        return self._digest.hexdigest()

    def open(self) -> None:
        """Begin: nothing is to be made before there is something to send."""

    def call(self, name: str) -> None:
        """Say what it shall be called, before the first block."""
        self._name = name

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append a block; a part that is full is sent."""
        with self._held() as is_live:
            if not is_live:
                return
            for chunk in chunks:
                self._digest.update(chunk)
                self._held_bytes += chunk
                self.size_bytes += len(chunk)
            # The last part is sent when it is known to be the last: a clip that fills one part
            # and no more is one request.
            while len(self._held_bytes) > self._part_bytes:
                self._send(bytes(self._held_bytes[: self._part_bytes]))
                del self._held_bytes[: self._part_bytes]

    def publish(self) -> str:
        """Give the clip its name; return the name it got."""
        with self._held() as is_live:
            if not is_live:
                raise OutputError(f"{self._place.path(self._name)}: the download was given up")
            if self._upload is None:
                name = self._put()
            else:
                self._send(bytes(self._held_bytes))
                name = self._complete(self._upload)
            self._held_bytes.clear()
            failpoint("after-rename")
            return name

    def abort(self) -> None:
        """Leave nothing behind, at once or as soon as the call under way is over."""
        self._is_aborted = True
        # Whoever holds the lock looks at the flag after letting go.
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._held_bytes.clear()
            upload, self._upload = self._upload, None
        finally:
            self._lock.release()
        if upload is not None:
            # This may be the event loop. The process waits for the thread before it ends.
            Thread(target=_abort, args=(upload,), name=TIDYING).start()

    @contextmanager
    def _held(self) -> Iterator[bool]:
        try:
            with self._lock:
                yield not self._is_aborted
        finally:
            if self._is_aborted:
                self.abort()

    def _send(self, part: bytes) -> None:
        bucket = self._place.bucket
        if self._upload is None:
            self._target = self._free()
            self._upload = uploads.begin(bucket, self._target, content_type=type_of(self._target))
        self._upload.add(part)
        failpoint("in-upload")

    def _free(self) -> str:
        """Return the first name that is free, and keep what lies under those before it."""
        self._there.clear()
        for number in range(1, _MOST_NAMES):
            name = numbered(self._name, number)
            found = self._place.bucket.head(name)
            if found is None:
                return name
            self._there[name] = found
        raise BucketError(f"{self._place.path(self._name)}: {_MOST_NAMES} of this name exist")

    def _ours(self) -> str | None:
        """Return which of the objects that are there already is this very clip."""
        for name, found in self._there.items():
            if found.size_bytes == self.size_bytes and self._has_our_bytes(name, found):
                return name
        return None

    def _has_our_bytes(self, name: str, found: Stored) -> bool:
        if found.sha256:
            return found.sha256 == self.sha256
        digest = hashlib.sha256()
        for block in self._place.bucket.blocks(name):
            digest.update(block)
        return digest.hexdigest() == self.sha256

    def _put(self) -> str:
        content = bytes(self._held_bytes)
        for _ in range(_MOST_RACES):
            name = self._free()
            ours = self._ours()
            if ours is not None:
                return ours
            kind = type_of(name)
            if self._place.bucket.put(name, content, content_type=kind, sha256=self.sha256):
                return name
        raise self._lost()

    def _complete(self, upload: Upload) -> str:
        ours = self._ours()
        if ours is None and upload.complete():
            self._upload = None
            self._forget_others()
            return self._target
        if ours is None:
            # Somebody has taken the name since: who held this job before, mostly.
            self._free()
            ours = self._ours()
        if ours is None:
            raise self._lost()
        # Before the job is known to have its clip: nobody would look for it later.
        upload.abort()
        self._upload = None
        self._forget_others()
        return ours

    def _forget_others(self) -> None:
        """Abort other uploads of this very clip: what a dead worker sent may arrive late."""
        for other in uploads.unfinished(self._place.bucket, self._target):
            if other.name == self._target:
                other.abort()

    def _lost(self) -> BucketUnreachable:
        return BucketUnreachable(
            f"{self._place.path(self._name)}: somebody else took the name meanwhile"
        )


def _abort(upload: Upload) -> None:
    # One that cannot be reached is left to whoever takes the job up next.
    with suppress(BucketError):
        upload.abort()


def _stem(name: str) -> str:
    folder, slash, leaf = name.rpartition("/")
    return f"{folder}{slash}{split_extension(leaf)[0]}"


def _may_be_of(found: str, stems: AbstractSet[str]) -> bool:
    """Whether an upload may be of a job with one of these names, and another extension or number.

    Another job may have that name.
    """
    extension = split_extension(found)[1].removeprefix(".").lower()
    stem = _stem(found)
    return extension in MEDIA_EXTENSIONS and (stem in stems or _NUMBER.sub("", stem) in stems)
