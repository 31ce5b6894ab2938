"""The rescue file: request ids that the job database could not take.

When the id of a paid request cannot be committed (no space, a lock), it is written here and
to stderr while the commit is tried again. The space is allocated at the start, so that a
full disk does not matter. Whatever a dead worker left is taken in by the next run, or by
`batchgen reconcile --from-rescue`; taking a file in twice changes nothing.
"""

import contextlib
import fcntl
import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchgen.domain.errors import UsageError
from batchgen.downloads.folder import sync_folder
from batchgen.store import jobs, sqlite, workers
from batchgen.store.backend import Backend
from batchgen.store.transactions import Transaction

_SIZE_BYTES = 64 * 1024
_LARGEST_BYTES = 16 * _SIZE_BYTES  # of a file that may be one of ours
_HEADER = (
    "# batchgen: attempts and the request ids that the job database did not take, with a "
    "checksum; `batchgen reconcile --from-rescue` takes them in\n"
)
_WORD = re.compile(r"[A-Za-z0-9_-]{1,128}")

Pair = tuple[str, str]
"""An attempt's id, and the request id that the service gave it."""


class RescueFile:
    """One worker's rescue file, beside the job database.

    Raises:
        StoreError: If it cannot be made or there is no space for it.
    """

    def __init__(self, base: Path, worker_id: str, *, say: Callable[[str], None]) -> None:
        self.path = _path(base, worker_id)
        self._say = say
        self._written: set[Pair] = set()
        self._is_kept = False
        header = _HEADER.encode()
        self._used = len(header)
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # A lease tells of the job database only: whose lease has ended may yet write here.
            with contextlib.suppress(OSError):  # no locks on this file system
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fill(header.ljust(_SIZE_BYTES, b"\n"), 0)
            sync_folder(self.path.parent)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise sqlite.cannot_make(self.path, "rescue file", error) from error

    def write(self, attempt_id: str, request_id: str) -> None:
        """Keep a request id durably, and say it; once is enough."""
        if (attempt_id, request_id) in self._written:
            return
        self._written.add((attempt_id, request_id))
        said = f"the job database does not take request id {request_id} of attempt {attempt_id} yet"
        line = _line(attempt_id, request_id).encode()
        if self._used + len(line) > _SIZE_BYTES:
            self._say(f"{said}, and {self.path} is full: write it down")
            return
        try:
            self._fill(line, self._used)
        except OSError as error:
            self._say(f"{said}, nor does {self.path} ({error.strerror}): write it down")
            return
        self._used += len(line)
        self._say(f"{said}; it is kept in {self.path} and tried again")

    def _fill(self, content: bytes, at: int) -> None:
        while content:  # where there is little room, less is written than asked
            written = os.pwrite(self._file, content, at)
            content, at = content[written:], at + written
        os.fsync(self._file)

    def keep(self, attempt_id: str, request_id: str) -> None:
        """Keep a request id that this process will never record; `remove` leaves the file."""
        self.write(attempt_id, request_id)
        self._is_kept = True

    def remove(self) -> None:
        """Remove the file if everything in it is in the job database."""
        os.close(self._file)
        if not self._is_kept:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Contents:
    """What a rescue file holds.

    Attributes:
        pairs: What is whole.
        damaged: The numbers of the lines that are not.
    """

    pairs: tuple[Pair, ...]
    damaged: tuple[int, ...]


def left_behind(tx: Transaction, backend: Backend) -> list[Path]:
    """Return the rescue files beside a job database whose workers are dead, oldest first."""
    prefix = _path(backend.base, "").name
    return sorted(
        path
        for path in backend.base.parent.iterdir()
        if path.name.startswith(prefix) and not is_in_use(tx, backend, path)
    )


def is_in_use(tx: Transaction, backend: Backend, path: Path) -> bool:
    """Return whether a worker may yet write a rescue file: its process or its lease lives."""
    if _is_held(path):
        return True
    worker_id = path.name.removeprefix(_path(backend.base, "").name)
    return path.parent.resolve() == backend.base.parent.resolve() and not workers.has_ended(
        tx, backend, worker_id
    )


def _is_held(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # gone, or `read` tells why
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks on this file system
        return False
    finally:
        os.close(file)
    return False


def read(path: Path) -> Contents:
    """Return what a rescue file holds.

    Raises:
        UsageError: If it cannot be read, or is no rescue file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if not content.startswith(_HEADER.split(":")[0].encode()):
        raise UsageError(
            f"{path}: this is not a rescue file of batchgen: they lie beside the job database and "
            "are called DATABASE-rescue-WORKER. Nothing was changed"
        )
    pairs, damaged = [], []
    for number, line in enumerate(content.decode("utf-8", "replace").split("\n")[1:], start=2):
        words = line.split(" ")
        if len(words) == 3 and f"{line}\n" == _line(words[0], words[1]):
            pairs.append((words[0], words[1]))
        elif line:
            damaged.append(number)
    return Contents(tuple(pairs), tuple(damaged))


@dataclass(frozen=True)
class Taken:
    """What became of the pairs of a rescue file.

    Attributes:
        recorded: Those that the job database did not know.
        known: How many it knew.
        foreign: Those that do not belong to it: their attempt is unknown, or their request
            belongs to another.
    """

    recorded: tuple[Pair, ...]
    known: int
    foreign: tuple[Pair, ...]


def take_in(tx: Transaction, pairs: Sequence[Pair], *, now_ms: int) -> Taken:
    """Record request ids that a dead worker could not; nothing is paid."""
    recorded, foreign, known = [], [], 0
    for attempt_id, request_id in pairs:
        match jobs.recorded_as(tx, attempt_id, request_id):
            case jobs.Recorded.NOT_YET:
                jobs.accept_late(tx, attempt_id, request_id, None, now_ms)
                recorded.append((attempt_id, request_id))
            case jobs.Recorded.SO:
                known += 1
            case jobs.Recorded.OTHERWISE:
                foreign.append((attempt_id, request_id))
    return Taken(tuple(recorded), known, tuple(foreign))


def trouble(path: Path, contents: Contents, taken: Taken) -> str:
    """Return what a person must know of a file that was not taken in wholly, "" if it was."""
    said = []
    if contents.damaged:
        lines = ", ".join(map(str, contents.damaged))
        said.append(f"line {lines} is damaged: look for the request id on the run's stderr")
    if taken.foreign:
        ids = ", ".join(request_id for _, request_id in taken.foreign)
        said.append(
            f"{ids} belongs to no open attempt of this job database: name the one it was bought "
            "for with --db"
        )
    return f"{path}: {'; '.join(said)}. The file is kept" if said else ""


def _path(base: Path, worker_id: str) -> Path:
    return base.with_name(f"{base.name}-rescue-{worker_id}")


def _line(attempt_id: str, request_id: str) -> str:
    # The file is full of line ends: without a sum, half an id would look like a whole one.
    pair = f"{attempt_id} {request_id}"
    return f"{pair} {zlib.crc32(pair.encode()):08x}\n"
