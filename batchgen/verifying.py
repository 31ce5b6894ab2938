"""Whether the clips are where they were put, and as they were fetched: changes nothing."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from batchgen.domain.errors import OutputError
from batchgen.domain.states import JobState
from batchgen.downloads.destination import Content, Destination
from batchgen.downloads.destinations import Destinations
from batchgen.store.reads import JobRow


class Verdict(StrEnum):
    """What was found of a job's clips; of several the worst, in this order from the best."""

    WHOLE = "whole"
    CHANGED = "changed"  # another size, other bytes, or no file at all under its name
    UNREADABLE = "unreadable"
    MISSING = "missing"


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


@dataclass(frozen=True)
class Verified:
    """One job whose clips were looked at.

    Attributes:
        row: The job.
        verdict: The worst of its clips.
        path: The clip that the verdict is about; None if the job has none.
        why: In words, "" if it is whole.
    """

    row: JobRow
    verdict: Verdict
    path: str | None
    why: str = ""


def verify(
    rows: Iterable[JobRow], destinations: Destinations, *, hashes: bool
) -> Iterator[Verified]:
    """Look at the clips of finished jobs; yield one verdict for each, in their order.

    Args:
        rows: Jobs; those that have not succeeded have no clip and are passed over.
        destinations: Of the job database.
        hashes: Read every byte and compare the SHA-256, where it is known; else only the size.
    """
    for row in rows:
        if row.state is JobState.SUCCEEDED:
            yield _verified(row, destinations.of(row.output_dir), hashes=hashes)


def _verified(row: JobRow, place: Destination, *, hashes: bool) -> Verified:
    worst = Verified(row, Verdict.WHOLE, None)
    for clip in row.files:
        name = str(clip.get("path", ""))
        verdict, why = _look(place, name, clip, hashes=hashes)
        if worst.path is None or _RANK[verdict] > _RANK[worst.verdict]:
            worst = Verified(row, verdict, place.path(name), why)
    if worst.path is None:
        return Verified(row, Verdict.MISSING, None, "no file of it is known")
    return worst


def _look(
    place: Destination, name: str, clip: Mapping[str, Any], *, hashes: bool
) -> tuple[Verdict, str]:
    try:
        with place.opened(name) as content:
            return _compare(content, clip, hashes=hashes)
    except (FileNotFoundError, NotADirectoryError):
        return Verdict.MISSING, "is not there"
    except OSError as error:
        return Verdict.UNREADABLE, f"cannot be read: {error.strerror}"
    except OutputError as error:
        return Verdict.UNREADABLE, f"cannot be read: {error}"


def _compare(content: Content, clip: Mapping[str, Any], *, hashes: bool) -> tuple[Verdict, str]:
    if content.size_bytes is None:
        return Verdict.CHANGED, "is no file"
    size_bytes = clip.get("size_bytes")
    if size_bytes is not None and content.size_bytes != size_bytes:
        return Verdict.CHANGED, f"has {content.size_bytes:,} bytes, the clip had {size_bytes:,}"
    sha256 = clip.get("sha256")
    if hashes and sha256 and _digest(content) != sha256:
        return Verdict.CHANGED, "has other bytes than the clip had (SHA-256)"
    return Verdict.WHOLE, ""


def _digest(content: Content) -> str:
    digest = hashlib.sha256()
    for block in content.blocks():
        digest.update(block)
    return digest.hexdigest()
