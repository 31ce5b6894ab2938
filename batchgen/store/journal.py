"""The journal: what this host has bought, written down outside the job database's folder.

Lines of JSON, one for each intent after its commit and before its request, one for each
request id after its commit. They are not synced: they guard against a job database that is
restored from an older copy, not against a loss of power. A file may be torn by a crash, and
several workers append to it; so every line stands alone, and what is no line of ours is
passed over.
"""

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from batchgen.store.jobs import Job
from batchgen.store.step_back import Witness

LONGEST_BYTES = 16 * 1024 * 1024
"""Above this the older half is cut off when a worker starts."""

_TAIL_BYTES = 64 * 1024
_NAME = "purchases.jsonl"
_DATABASE_ID = re.compile("[0-9a-f]{16}")
_encode = json.JSONEncoder(separators=(",", ":")).encode
_MOST = 2**62  # no number of ours is larger, and no job database could take it


@dataclass(frozen=True)
class Entry:
    """One paid request as the journal tells it.

    Attributes:
        key: The key of its job, "" if only the request id is known.
        label: Batch and id, for people.
        no: Which attempt of the job it was.
        request_id: None if the answer was never written down.
        is_unpaid: Whether it provably was refused or never sent.
    """

    attempt_id: str
    job_id: int = 0
    key: str = ""
    label: str = ""
    no: int = 0
    version: int = 0
    account_id: int = 0
    input_hash: str = ""
    model: str = ""
    est_micros: int = 0
    intent_ms: int = 0
    request_id: str | None = None
    is_unpaid: bool = False

    @property
    def witness(self) -> Witness:
        """What a worker looks for in the job database."""
        return Witness(self.attempt_id, self.job_id, is_accepted=self.request_id is not None)


_TYPES: Mapping[str, type] = {
    **{name: int for name in ("job_id", "no", "version", "account_id", "est_micros", "intent_ms")},
    **{name: str for name in ("attempt_id", "key", "label", "input_hash", "model", "request_id")},
    "is_unpaid": bool,
}


@dataclass(frozen=True)
class Contents:
    """What a journal holds.

    Attributes:
        entries: Every paid request once, oldest first.
        after: The purchase that was the newest when the journal begins, None if none was made.
        unreadable: How many lines are not of a journal.
    """

    entries: tuple[Entry, ...] = ()
    after: Witness | None = None
    unreadable: int = 0


def folder_of(state_folder: Path, database_id: str) -> Path | None:
    """Return where the journal of a job database lies; None if the id cannot name a folder."""
    if not _DATABASE_ID.fullmatch(database_id):
        return None
    return state_folder / "batchgen" / database_id


def every(state_folder: Path) -> list[tuple[str, Path]]:
    """Return the journals of this host: the id of their job database, and their file.

    Raises:
        OSError: If the folder cannot be looked at.
    """
    folder = state_folder / "batchgen"
    if not folder.is_dir():
        return []
    return [
        (one.name, one / _NAME)
        for one in sorted(folder.iterdir())
        if _DATABASE_ID.fullmatch(one.name) and (one / _NAME).is_file()
    ]


def read(path: Path, *, newest_bytes: int | None = None) -> Contents:
    """Read a journal, or its end; an absent one is empty.

    Raises:
        OSError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = 0 if newest_bytes is None else max(0, size - newest_bytes)
            file.seek(begin)
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return Contents()
    return _contents(lines[1:] if begin else lines)


def _contents(lines: Iterable[bytes]) -> Contents:
    entries: dict[str, dict[str, Any]] = {}
    after: Witness | None = None
    unreadable = 0
    for line in lines:
        if not line.strip():
            continue
        said = _parsed(line)
        if said is None:
            unreadable += 1
        elif said.pop("is_start", False):
            after = after or Witness(said["attempt_id"], said.get("job_id", 0), is_accepted=False)
        else:
            entries.setdefault(said["attempt_id"], {}).update(said)
    return Contents(tuple(Entry(**said) for said in entries.values()), after, unreadable)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("attempt_id"), str):
        return None
    is_start = said.pop("is_start", None) is True
    if not all(_is_storable(name, value) for name, value in said.items()):
        return None
    return {**said, "is_start": True} if is_start else said


def _is_storable(name: str, value: object) -> bool:
    if type(value) is not _TYPES.get(name):
        return False
    if isinstance(value, str):
        return value.isascii() or value.encode("utf-8", "replace").decode() == value
    return abs(value) <= _MOST if isinstance(value, int) else True


class Journal:
    """A worker's end of the journal; without a file it only remembers the newest purchase.

    Attributes:
        path: None if nothing is written down.
        newest: The newest purchase of this worker.
    """

    def __init__(
        self, path: Path | None = None, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.path = path
        self.newest: Witness | None = None
        self._say = say
        self._fd = -1

    @classmethod
    def begin(
        cls,
        folder: Path,
        *,
        after: Witness | None,
        say: Callable[[str], None],
        longest_bytes: int = LONGEST_BYTES,
    ) -> Self:
        """Open the journal of a job database for appending, made if need be, cut if too long.

        Args:
            folder: Where it lies: `folder_of`.
            after: The newest purchase in the job database, for a journal that begins here.
            say: Told, once, if it can be written no more.
            longest_bytes: Above this the older half is cut off.

        Raises:
            OSError: If it cannot be written.
        """
        folder.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for one in (folder.parent, folder):
            one.mkdir(exist_ok=True, mode=0o700)
        journal = cls(folder / _NAME, say=say)
        journal._open(longest_bytes)
        if os.fstat(journal._fd).st_size == 0 and after is not None:
            journal._append([_start(after)])
        return journal

    def recent(self) -> tuple[Witness, ...]:
        """Return the newest purchases that this host has written down, oldest first.

        Raises:
            OSError: If the journal cannot be read.
        """
        if self.path is None:
            return ()
        return newest_of(self.path)

    def intended(self, jobs: Sequence[Job], *, account_id: int, now_ms: int) -> None:
        """Write down intents that are durable, before their requests leave."""
        if not jobs:
            return
        self.newest = Witness(jobs[-1].attempt_id, jobs[-1].id, is_accepted=False)
        self._append(
            {
                "attempt_id": job.attempt_id,
                "job_id": job.id,
                "key": job.key,
                "label": f"{job.batch}/{job.label}",
                "no": job.no,
                "version": job.version,
                "account_id": account_id,
                "input_hash": job.input_hash,
                "model": job.model,
                "est_micros": job.est_micros,
                "intent_ms": now_ms,
            }
            for job in jobs
        )

    def accepted(self, job: Job, request_id: str) -> None:
        """Write down a request id that is durable."""
        self.newest = Witness(job.attempt_id, job.id, is_accepted=True)
        self._append([{"attempt_id": job.attempt_id, "request_id": request_id}])

    def unpaid(self, job: Job) -> None:
        """Write down that a request was refused or never left."""
        self._append([{"attempt_id": job.attempt_id, "is_unpaid": True}])

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        if self._fd < 0:
            return
        data = "".join(_line(line) for line in lines).encode()
        try:
            written = os.write(self._fd, data)  # one write: other workers append too
        except OSError as error:
            self._give_up(error.strerror or str(error))
            return
        if written < len(data):
            self._give_up("no space")

    def _give_up(self, why: str) -> None:
        self._say(f"{self.path}: {why}: purchases are not written down there any more")
        self.close()

    def _open(self, longest_bytes: int) -> None:
        if self.path is None:
            return
        self._fd = _locked(self.path)
        if os.fstat(self._fd).st_size > longest_bytes and _is_alone(self._fd):
            _cut(self.path)
            self.close()
            self._fd = _locked(self.path)
        if not _ends_whole(self._fd):
            os.write(self._fd, b"\n")  # a torn line must not spoil the next


def newest_of(path: Path) -> tuple[Witness, ...]:
    """Return the newest purchases that a journal tells of, oldest first; none if it is absent.

    Raises:
        OSError: If it cannot be read.
    """
    found = read(path, newest_bytes=_TAIL_BYTES)
    paid = [
        entry.witness
        for entry in found.entries
        if (entry.key or entry.request_id) and not entry.is_unpaid
    ]
    return (*([found.after] if found.after else []), *paid)


def path_of(folder: Path) -> Path:
    """Return the journal's file in its folder."""
    return folder / _NAME


def _line(said: Mapping[str, Any]) -> str:
    return _encode(said) + "\n"


def _start(after: Witness) -> Mapping[str, Any]:
    return {"is_start": True, "attempt_id": after.attempt_id, "job_id": after.job_id}


def _locked(path: Path) -> int:
    """Open a journal, and hold it so that nobody cuts it meanwhile."""
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        with contextlib.suppress(OSError):  # no locks here: `_is_alone` finds the same
            fcntl.flock(fd, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        os.close(fd)  # it was cut between the two


def _is_alone(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _ends_whole(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return size == 0 or os.pread(fd, 1, size - 1) == b"\n"


def _cut(path: Path) -> None:
    """Keep the newer half of the purchases, each on one line."""
    found = read(path)
    half = len(found.entries) // 2
    gone = [entry.witness for entry in found.entries[:half] if entry.key and not entry.is_unpaid]
    after = gone[-1] if gone else found.after
    kept = [_kept(entry) for entry in found.entries[half:]]
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.writelines(_line(line) for line in ([_start(after)] if after else []))
        file.writelines(_line(line) for line in kept)
    Path(file.name).replace(path)


def _kept(entry: Entry) -> Mapping[str, Any]:
    plain = {field.name: field.default for field in fields(Entry)}
    return {name: value for name, value in asdict(entry).items() if value != plain[name]}
