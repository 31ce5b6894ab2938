"""Input files in object storage: what a look at one tells, before anything is paid."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from batchgen.buckets.bucket import Bucket
from batchgen.buckets.location import Location, parse_location
from batchgen.domain.errors import BucketError
from batchgen.domain.fitness import Facts, Problem
from batchgen.inputs.picture import pixels

_AT_ONCE = 8


def look_at(wanted: Sequence[tuple[str, bool]]) -> Iterator[tuple[str, Facts]]:
    """Yield what is found of objects, each as it is known.

    Args:
        wanted: Places like `s3://bucket/cat.png`, and whether pixels are needed of them.

    Raises:
        UsageError: If the libraries for buckets are not installed.
    """
    buckets: dict[str, Bucket | BucketError] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        waiting = {}
        for written, needs_pixels in wanted:
            place = parse_location(written)
            if place.root not in buckets:
                buckets[place.root] = _opened(place)
            bucket = buckets[place.root]
            waiting[pool.submit(_facts, bucket, place.path, needs_pixels)] = written
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _opened(place: Location) -> Bucket | BucketError:
    try:
        return Bucket(Location(place.scheme, place.bucket))
    except BucketError as error:
        return error


def _facts(bucket: Bucket | BucketError, name: str, needs_pixels: bool) -> Facts:
    try:
        if isinstance(bucket, BucketError):
            raise bucket
        found = bucket.head(name)
        if found is None:
            return Facts(Problem.STATUS, http_status=404)
        if not found.size_bytes:
            return Facts(Problem.EMPTY, "it is empty")
        # Only its first block is read: the rest of the answer is left.
        size = pixels(next(bucket.blocks(name), b"")) if needs_pixels else None
    except BucketError as error:  # the run says it too, before it pays for anything
        return Facts(Problem.UNREACHABLE, str(error))
    width, height = size or (None, None)
    content_type = found.content_type.partition(";")[0].strip().lower()
    return Facts(content_type=content_type, size_bytes=found.size_bytes, width=width, height=height)
