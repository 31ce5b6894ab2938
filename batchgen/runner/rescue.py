"""The rescue file: request ids that the job database could not take.

When the id of a paid request cannot be committed (no space, a lock), it is written here and
to stderr while the commit is tried again. The space is allocated at the start, so that a
full disk does not matter. A later run reads what is left and records it.
"""

import os
from collections.abc import Callable
from pathlib import Path

from batchgen.downloads.folder import sync_folder

_SIZE_BYTES = 64 * 1024


class RescueFile:
    """One worker's rescue file, beside the job database."""

    def __init__(self, database: Path, worker_id: str, *, say: Callable[[str], None]) -> None:
        self._path = database.with_name(f"{database.name}-rescue-{worker_id}")
        self._say = say
        self._used = 0
        self._is_kept = False
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._file, b"\n" * _SIZE_BYTES, 0)
        os.fsync(self._file)
        sync_folder(self._path.parent)

    def write(self, attempt_id: str, request_id: str) -> None:
        """Keep a request id durably, and say it."""
        self._say(
            f"the job database does not take request id {request_id} of attempt {attempt_id} "
            f"yet; it is kept in {self._path} and tried again"
        )
        line = f"{attempt_id} {request_id}\n".encode()
        if self._used + len(line) > _SIZE_BYTES:
            return
        os.pwrite(self._file, line, self._used)
        os.fsync(self._file)
        self._used += len(line)

    def keep(self, attempt_id: str, request_id: str) -> None:
        """Keep a request id that this process will never record; `remove` leaves the file."""
        self.write(attempt_id, request_id)
        self._is_kept = True

    def remove(self) -> None:
        """Remove the file if everything in it is in the job database."""
        os.close(self._file)
        if not self._is_kept:
            self._path.unlink(missing_ok=True)


def left_behind(database: Path, worker_id: str) -> list[tuple[str, str]]:
    """Return the attempt and request ids that a dead worker could not record."""
    path = database.with_name(f"{database.name}-rescue-{worker_id}")
    if not path.is_file():
        return []
    pairs = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


def forget(database: Path, worker_id: str) -> None:
    """Remove a dead worker's file once its ids are recorded."""
    database.with_name(f"{database.name}-rescue-{worker_id}").unlink(missing_ok=True)
