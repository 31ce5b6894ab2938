"""Input files on their way to a service: uploaded once, then a link for each request.

A file of this machine is uploaded under the digest of its content, before its job is claimed, and
only if it is not there yet. A link is signed just before each request: it goes nowhere else.
Without a bucket the file goes into the request itself. Safe to use from several threads.
"""

import base64
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from batchgen.buckets.bucket import Bucket
from batchgen.buckets.location import Location, is_location, parse_location
from batchgen.domain.errors import BucketError, InputUnusable, UsageError
from batchgen.domain.input_files import InputFile, parse_input_file
from batchgen.failpoints import failpoint
from batchgen.inputs import local

LONGEST_LINK = 2048
"""Characters of a link; a service may refuse a longer one."""

_MARKS = ('"file:', '"s3://', '"gs://', '"az://')

Step = str | int
Place = tuple[tuple[Step, ...], str, str]
"""Where an input file stands in the inputs, what a job keeps of it, and its kind."""


class Wanted(Protocol):
    """A job that is to be sent."""

    @property
    def batch_id(self) -> int:
        """Its batch."""
        ...

    @property
    def model(self) -> str:
        """Its model."""
        ...

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What it keeps of its inputs."""
        ...

    @property
    def uploads(self) -> str | None:
        """Where files of this machine are uploaded to."""
        ...


class Sender:
    """Makes of what jobs keep of their input files what a service can fetch.

    Args:
        places: Returns the input files of a job.
        link_s: How long a link opens its file, seconds.
        pretends: Nothing is uploaded, asked or read: for a service that fetches nothing.

    Attributes:
        uploaded: How many files have been uploaded.
    """

    def __init__(
        self,
        places: Callable[[Wanted], Iterable[Place]],
        *,
        link_s: int,
        pretends: bool = False,
    ) -> None:
        self.uploaded = 0
        self._places = places
        self._link_s = link_s
        self._pretends = pretends
        self._ready: set[tuple[str | None, str]] = set()
        self._buckets: dict[str, Bucket] = {}
        self._opening = threading.Lock()
        self._one_by_one: defaultdict[tuple[str | None, str], threading.Lock] = defaultdict(
            threading.Lock
        )

    def is_plain(self, job: Wanted) -> bool:
        """Return whether what a job keeps of its inputs is what is sent."""
        return next(_texts(job.inputs), None) is None

    def is_ready(self, inputs_json: str, uploads: str | None) -> bool:
        """Return whether a job may be paid for: all of its files are where they can be sent from.

        Args:
            inputs_json: What it keeps of its inputs.
            uploads: Where its batch has files uploaded to.
        """
        if self._pretends or not any(mark in inputs_json for mark in _MARKS):
            return True
        return all(_key(text, uploads) in self._ready for text in _texts(json.loads(inputs_json)))

    def prepare(self, job: Wanted) -> None:
        """See to it that a job is ready.

        Raises:
            InputUnusable: If a file is gone or has changed: this job cannot be sent.
            BucketError: If a bucket cannot be used: no job that needs it can.
        """
        for _, text, _ in self._places(job):
            if (key := _key(text, job.uploads)) is None:
                continue
            with self._opening:
                turn = self._one_by_one[key]
            with turn:
                if key not in self._ready:
                    self._make_ready(text, job.uploads)
                    self._ready.add(key)
        # A text that is no input file, but looks like one, is sent as it is.
        self._ready.update(filter(None, (_key(it, job.uploads) for it in _texts(job.inputs))))

    def sent(self, job: Wanted) -> Mapping[str, Any]:
        """Return the inputs that are sent for a job, with links that were signed just now.

        Raises:
            InputUnusable: If a file is gone or has changed.
            BucketError: If a link cannot be signed.
        """
        files = [(path, text) for path, text, _ in self._places(job) if _key(text, job.uploads)]
        if not files:
            return job.inputs
        inputs: dict[str, Any] = json.loads(json.dumps(job.inputs))
        for path, text in files:
            whole: Any = inputs
            for step in path[:-1]:
                whole = whole[step]
            whole[path[-1]] = self._link(text, job.uploads)
        return inputs

    def _make_ready(self, text: str, uploads: str | None) -> None:
        file = parse_input_file(text)
        if file is None:
            self._signed(_location(text))
        elif uploads is None:
            local.read(file)
        else:
            place = parse_location(uploads).joined(file.name)
            bucket = self._bucket(place)
            if bucket.head(place.path) is None:
                self._upload(bucket, place, file)
            self._signed(place)

    def _upload(self, bucket: Bucket, place: Location, file: InputFile) -> None:
        content = local.read(file)
        # Somebody else may have been faster, with the same content.
        bucket.put(place.path, content, content_type=file.content_type, sha256=file.sha256)
        self.uploaded += 1
        failpoint("after-upload")

    def _link(self, text: str, uploads: str | None) -> str:
        file = parse_input_file(text)
        if self._pretends:
            return f"https://inputs.example.com/{text if file is None else file.name}"
        if file is None:
            return self._signed(_location(text))
        if uploads is None:
            content = base64.b64encode(local.read(file)).decode()
            return f"data:{file.content_type};base64,{content}"
        return self._signed(parse_location(uploads).joined(file.name))

    def _signed(self, place: Location) -> str:
        link = self._bucket(place).sign(place.path, self._link_s)
        if len(link) > LONGEST_LINK:
            raise BucketError(
                f"{place.root}: a signed link has {len(link):,} characters, and a service may "
                f"refuse more than {LONGEST_LINK:,}: use a key of your own, without a session "
                "token, and shorter names"
            )
        return link

    def _bucket(self, place: Location) -> Bucket:
        with self._opening:
            if place.root not in self._buckets:
                self._buckets[place.root] = Bucket(Location(place.scheme, place.bucket))
            return self._buckets[place.root]


def _location(text: str) -> Location:
    try:
        return parse_location(text)
    except UsageError as error:
        raise InputUnusable(str(error)) from error


def _key(text: str, uploads: str | None) -> tuple[str | None, str] | None:
    """Return by what is known that an input file is ready; None if it is none."""
    file = parse_input_file(text)
    if file is not None:
        # Uploaded it is the same for all, wherever it was found.
        return (None, text) if uploads is None else (uploads, file.name)
    return (None, text) if is_location(text) else None


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in inputs that may be input files."""
    if isinstance(value, str):
        if _key(value, None) is not None:
            yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
