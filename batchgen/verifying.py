"""Whether the clips on disk are those that were fetched: looks only, changes nothing."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from batchgen.domain.states import JobState
from batchgen.store.reads import JobRow

_BLOCK = 1024 * 1024


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
    path: Path | None
    why: str = ""


def verify(rows: Iterable[JobRow], root: Path, *, hashes: bool) -> Iterator[Verified]:
    """Look at the clips of finished jobs; yield one verdict for each, in their order.

    Args:
        rows: Jobs; those that have not succeeded have no clip and are passed over.
        root: Where relative output folders start: the job database's folder.
        hashes: Read every byte and compare the SHA-256, where it is known; else only the size.
    """
    for row in rows:
        if row.state is JobState.SUCCEEDED:
            yield _verified(row, root, hashes=hashes)


def _verified(row: JobRow, root: Path, *, hashes: bool) -> Verified:
    worst = Verified(row, Verdict.WHOLE, None)
    folder = root / Path(row.output_dir).expanduser()
    for clip in row.files:
        path = folder / str(clip.get("path", ""))
        verdict, why = _look(path, clip, hashes=hashes)
        if worst.path is None or _RANK[verdict] > _RANK[worst.verdict]:
            worst = Verified(row, verdict, path, why)
    if worst.path is None:
        return Verified(row, Verdict.MISSING, None, "no file of it is known")
    return worst


def _look(path: Path, clip: Mapping[str, Any], *, hashes: bool) -> tuple[Verdict, str]:
    try:
        # Whatever has its name by now: a pipe must not be waited for.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return Verdict.MISSING, "is not there"
    except OSError as error:
        return Verdict.UNREADABLE, f"cannot be read: {error.strerror}"
    try:
        return _compare(fd, clip, hashes=hashes)
    except OSError as error:
        return Verdict.UNREADABLE, f"cannot be read: {error.strerror}"
    finally:
        os.close(fd)


def _compare(fd: int, clip: Mapping[str, Any], *, hashes: bool) -> tuple[Verdict, str]:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        return Verdict.CHANGED, "is no file"
    size_bytes = clip.get("size_bytes")
    if size_bytes is not None and found.st_size != size_bytes:
        return Verdict.CHANGED, f"has {found.st_size:,} bytes, the clip had {size_bytes:,}"
    sha256 = clip.get("sha256")
    if hashes and sha256 and _digest(fd) != sha256:
        return Verdict.CHANGED, "has other bytes than the clip had (SHA-256)"
    return Verdict.WHOLE, ""


def _digest(fd: int) -> str:
    digest = hashlib.sha256()
    while block := os.read(fd, _BLOCK):
        digest.update(block)
    return digest.hexdigest()
