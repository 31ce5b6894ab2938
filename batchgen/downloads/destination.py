"""Where the clips of a batch go: a folder, or a place in a bucket, behind one interface.

A batch names it by a text, its `output_dir`: a folder, relative to the job database's, or
`s3://bucket/prefix` and the like.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batchgen.buckets.location import is_location, parse_location

Named = Callable[[Sequence[str]], Mapping[str, bool]]
"""Tells which of some names, folded, any job has, and whether all jobs that have it are at rest."""


@dataclass(frozen=True)
class Room:
    """What a clip may take up while it is fetched.

    Attributes:
        min_free_bytes: Disk space that it must leave.
        part_bytes: What is held in memory of one on its way to a bucket.
    """

    min_free_bytes: int = 0
    part_bytes: int = 8 * 1024**2


class Part(Protocol):
    """One clip that is being written, by threads, one block at a time.

    `abort` may be called at any moment, from any thread, also while another call is under way;
    after it, the others do nothing.
    """

    size_bytes: int
    """What was written so far."""

    @property
    def sha256(self) -> str:
        """The hex digest of what was written so far."""

    def open(self) -> None:
        """Begin.

        Raises:
            OutputError: If that fails.
        """

    def call(self, name: str) -> None:
        """Say what it shall be called, before the first block: as reserved, but the extension.

        Nothing is waited for.
        """

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append a block.

        Raises:
            OutputError: If it cannot be written.
        """

    def publish(self) -> str:
        """Give it its name, durably; return the name it got.

        What is already there stays as it is: if it has the same bytes it is ours (the process
        was killed before it could say so), else the next free `name-2`, `name-3` ... is taken.

        Raises:
            OutputError: If that fails.
        """

    def abort(self) -> None:
        """Leave nothing of it behind, at once or as soon as the call under way is over."""


@dataclass(frozen=True)
class Content:
    """What lies under a clip's name.

    Attributes:
        size_bytes: Its size; None of what is no file.
        sha256: Its hex digest, if the place has kept it; "" if not.
        blocks: Yields its bytes; may be called once.
    """

    size_bytes: int | None
    sha256: str
    blocks: Callable[[], Iterator[bytes]]


class Destination(Protocol):
    """Where clips go. Names are relative to it; every method is for threads, not for the loop."""

    def path(self, name: str) -> str:
        """Return where a clip lies, as people write it; "" is the whole place."""

    def link(self, name: str, seconds: int) -> str | None:
        """Return a signed link with which anybody can read a clip for so long: a credential.

        None if nothing is there that could be linked like that.

        Raises:
            OutputError: If it cannot be signed.
        """

    def part(self, name: str, room: Room) -> Part:
        """Return a new part for a job's reserved name; nothing is written yet."""

    def check_writable(self) -> None:
        """Prove by writing that clips can be made here; what was written is removed.

        Raises:
            OutputError: If not; the message says what to do.
        """

    def free_bytes(self) -> int | None:
        """Return how many bytes may still be written; None if there is no bound.

        Raises:
            OutputError: If that cannot be found out.
        """

    def remove_orphans(self, names: Iterable[str], *, named: Named) -> int:
        """Remove what killed processes left of clips on their way; return how many.

        Args:
            names: Reserved names, of jobs that no other worker holds.
            named: Tells of names.

        Raises:
            OutputError: If something cannot be removed.
        """

    def remove_leftovers(self, *, named: Named) -> int:
        """Remove clips on their way of jobs that are at rest; return how many.

        Args:
            named: Tells of names.

        Raises:
            OutputError: If something cannot be removed.
        """

    def opened(self, name: str) -> AbstractContextManager[Content]:
        """Open what lies under a name.

        Raises:
            OSError: `FileNotFoundError` if there is nothing, another if it cannot be read.
            OutputError: If a bucket cannot be read.
        """

    def has(self, name: str) -> bool:
        """Return whether a file lies under a name.

        Raises:
            OutputError: If a bucket cannot tell.
        """

    def write_beside(
        self, name: str, content: bytes, *, is_ours: Callable[[bytes], bool], room: Room
    ) -> bool:
        """Write a small file, whole and durably, but never over a stranger's; return whether.

        Args:
            name: Its name.
            content: All of it.
            is_ours: Whether a file of that name with this content may be replaced.
            room: What it may take up.

        Raises:
            OutputError: If it cannot be written.
        """

    def read_beside(self, name: str) -> bytes | None:
        """Return the content of a small file; None if it is not there.

        Raises:
            OutputError: If it cannot be read.
        """


def clip_path(output_dir: str, name: str) -> str:
    """Return where a clip lies, as its batch says it: relative if the folder is."""
    if is_location(output_dir):
        return str(parse_location(output_dir).joined(name))
    return str(Path(output_dir) / name)


def usual_form(output_dir: str) -> str:
    """Return a batch's text as it is stored: names are reserved under it.

    Raises:
        UsageError: If it looks like a place in object storage, and is none.
    """
    return str(parse_location(output_dir)) if is_location(output_dir) else output_dir


def folder_of(root: Path, output_dir: str) -> Path | None:
    """Return the folder that a batch's text names; None if it is in a bucket."""
    return None if is_location(output_dir) else root / Path(output_dir).expanduser()
