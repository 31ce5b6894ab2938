"""The folder that clips go to: whole files only, and nothing that is not ours touched.

A file under way has a temporary name in its final folder, `.NAME.XXXXXXXX.part`, and its
process holds a lock on it (flock). So what a killed process left behind can be told from
what a live one is writing.

The output folder may be a symbolic link: the user named it. What lies below it is named after
ids, so links there are not followed, not even one that is put there while a clip is fetched:
every folder is opened from the one above it, and files by their names in it.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Lock

from batchgen.domain.errors import OutputError
from batchgen.downloads.destination import Content, Named, Room
from batchgen.downloads.names import numbered
from batchgen.failpoints import failpoint

_PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part", re.DOTALL)
_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LARGEST_SIDECAR_BYTES = 16 * 1024**2
_BLOCK_BYTES = 1024**2
_MOST_NAMES = 10_000  # tried before a foreign file's name is given up


SIDECAR = ".json"
"""What the name of a sidecar has behind the name of its clip."""

KEPT_FREE_BYTES = 1024**3
"""Below this, nothing is paid for whose clips would go to that disk."""


def in_mib(size_bytes: int) -> str:
    """Return a size for people: `412 MiB`."""
    return f"{size_bytes // 1024**2:,} MiB"


def free_bytes(folder: Path) -> int:
    """Return how many bytes this user may still write where a folder is, or would be made.

    Raises:
        OutputError: If that cannot be found out.
    """
    with _output_errors(folder):
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def check_writable(folder: Path) -> None:
    """Make a folder if needed, and prove by writing that files can be made in it.

    Raises:
        OutputError: If not; the message says what to do.
    """
    make_folder(folder)
    part = Part(folder, "check", min_free_bytes=0, told=folder)
    try:
        part.open()
        part.write([b"batchgen"])
    finally:
        part.abort()


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably.

    Raises:
        OutputError: If that is not allowed or there is no space.
    """
    with _output_errors(folder):
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            sync_folder(new.parent)


def remove_orphans(folder: Path, names: Iterable[str] | None = None) -> int:
    """Remove the temporary files that killed processes left; return how many.

    A file that a live process of this machine is writing is left alone, and so are all on a
    file system without locks.

    Args:
        folder: The folder of the clips.
        names: Names of clips, relative to it; None for every one below it.

    Raises:
        OutputError: If a file cannot be removed.
    """
    with _output_errors(folder):
        found = _parts(folder) if names is None else _parts_of(folder, names)
        return sum(_remove_dead(inside, leaf) for inside, leaf in found)


def write_beside(
    folder: Path,
    name: str,
    content: bytes,
    *,
    is_ours: Callable[[bytes], bool],
    min_free_bytes: int,
) -> bool:
    """Write a small file, whole and durably, but never over a stranger's; return whether.

    Args:
        folder: The folder of the clips.
        name: Its name, relative to it.
        content: All of it.
        is_ours: Whether a file of that name with this content may be replaced.
        min_free_bytes: Disk space that it must leave.

    Raises:
        OutputError: If it cannot be written.
    """
    part = Part(folder, name, min_free_bytes=min_free_bytes)
    try:
        part.open()
        part.write([content])
        return part.publish_over(is_ours)
    finally:
        part.abort()


def read_beside(folder: Path, name: str) -> bytes | None:
    """Return the content of a small file, nothing of one that is none; None if it is not there.

    Raises:
        OutputError: If it cannot be read.
    """
    path = PurePosixPath(name)
    with _output_errors(folder / name):
        try:
            inside = _opened(folder, path.parent.parts, make=False)
        except FileNotFoundError:
            return None
        try:
            return _content(inside, path.name)
        except FileNotFoundError:
            return None
        finally:
            os.close(inside)


class Folder:
    """A folder that clips go to; see `destination.Destination`.

    Attributes:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> str:
        """Return where a clip lies."""
        return str(self.folder / name)

    def link(self, name: str, seconds: int) -> str | None:
        """Return None: a file has no link that others could use."""
        return None

    def part(self, name: str, room: Room) -> "Part":
        """Return a new part; nothing is written yet."""
        return Part(self.folder, name, min_free_bytes=room.min_free_bytes)

    def check_writable(self) -> None:
        """Prove by writing that files can be made here, or where this would be made."""
        folder = self.folder
        # One that is missing is made only once there is consent.
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        check_writable(folder)

    def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        return free_bytes(self.folder)

    def remove_orphans(self, names: Iterable[str], *, named: Named) -> int:
        """Remove the temporary files that killed processes left; return how many.

        Locks tell what a live process is writing: nobody is asked who has which name.
        """
        return remove_orphans(self.folder, names)

    def remove_leftovers(self, *, named: Named) -> int:
        """Do nothing: a process that is killed leaves its files to `remove_orphans`."""
        return 0

    @contextmanager
    def opened(self, name: str) -> Iterator[Content]:
        """Open a file; nothing is waited for if it is a pipe by now."""
        fd = os.open(self.folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            size_bytes = found.st_size if stat.S_ISREG(found.st_mode) else None
            yield Content(size_bytes, "", lambda: iter(partial(os.read, fd, _BLOCK_BYTES), b""))
        finally:
            os.close(fd)

    def has(self, name: str) -> bool:
        """Return whether a file lies under a name."""
        return (self.folder / name).is_file()

    def write_beside(
        self, name: str, content: bytes, *, is_ours: Callable[[bytes], bool], room: Room
    ) -> bool:
        """Write a small file, but never over a stranger's; return whether."""
        return write_beside(
            self.folder, name, content, is_ours=is_ours, min_free_bytes=room.min_free_bytes
        )

    def read_beside(self, name: str) -> bytes | None:
        """Return the content of a small file; None if it is not there."""
        return read_beside(self.folder, name)


class Part:
    """One file under its temporary name, written and hashed by threads, one block at a time.

    `abort` may be called at any moment, from any thread, also while another call is under
    way; after it, the others do nothing.

    Args:
        folder: Where it is made.
        name: Relative to that.
        min_free_bytes: Disk space that it must leave.
        told: What errors name; the file if None.

    Attributes:
        fd: Open for reading and writing, once `open` was called.
        size_bytes: What was written so far.
    """

    def __init__(
        self, folder: Path, name: str, *, min_free_bytes: int, told: Path | None = None
    ) -> None:
        self.fd = -1
        self.size_bytes = 0
        self._folder = folder
        self._name = PurePosixPath(name)
        self._target = told or folder / name
        self._inside = -1
        self._leaf = ""
        self._final = self._name.name
        self._min_free_bytes = min_free_bytes
        self._digest = hashlib.sha256()
        self._lock = Lock()
        self._is_aborted = False
        self._is_open = False

    def call(self, name: str) -> None:
        """Say what it shall be called, if not as the part: the same with another extension."""
        self._final = PurePosixPath(name).name

    def open(self) -> None:
        """Open a new temporary file beside the target, whose folder is made if needed.

        Raises:
            OutputError: If that fails.
        """
        with self._held() as is_live:
            if is_live:
                make_folder(self._folder)
                with _output_errors(self._target):
                    self._inside = _opened(self._folder, self._name.parent.parts, make=True)
                    try:
                        self._leaf, self.fd = _open_locked(self._inside, self._name.name)
                    except BaseException:
                        os.close(self._inside)
                        raise
                self._is_open = True

    @property
    def sha256(self) -> str:
        """The hex digest of what was written so far."""
        return self._digest.hexdigest()

    def write(self, chunks: Sequence[bytes]) -> None:
        """Append a block.

        Raises:
            OutputError: If it cannot be written, or would leave too little free space.
        """
        block = b"".join(chunks)
        with self._held() as is_live:
            if not is_live:
                return
            with _output_errors(self._target):
                self._require_space(len(block))
                self._digest.update(block)
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(self.fd, rest) :]
                self.size_bytes += len(block)

    def publish(self) -> str:
        """Give the file its final name, durably; return the name it got.

        A file that is already there stays as it is: if it has the same bytes it is ours (the
        process was killed before it could say so), else the next free `name-2`, `name-3` ...
        is taken.

        Raises:
            OutputError: If that fails.
        """
        with self._held() as is_live:
            if not is_live:
                raise OutputError(f"{self._target}: the download was given up")
            with _output_errors(self._target):
                os.fsync(self.fd)
                leaf = self._link(self._final)
                failpoint("after-rename")
                with suppress(FileNotFoundError):  # renamed, where there are no hard links
                    os.unlink(self._leaf, dir_fd=self._inside)
                _sync(self._inside)
                self._close()
                return str(self._name.with_name(leaf))

    def publish_over(self, is_ours: Callable[[bytes], bool]) -> bool:
        """Give the file its own name, durably; return False if a stranger's file has it.

        Args:
            is_ours: Whether a file of that name with this content may be replaced.

        Raises:
            OutputError: If that fails.
        """
        with self._held() as is_live, _output_errors(self._target):
            if not is_live:
                return False
            os.fsync(self.fd)
            leaf = self._name.name
            if not _rename_without_replacing(self._inside, self._leaf, leaf):
                if not is_ours(_content(self._inside, leaf)):
                    return False
                os.replace(self._leaf, leaf, src_dir_fd=self._inside, dst_dir_fd=self._inside)
            failpoint("after-rename")
            with suppress(FileNotFoundError):  # it is where the name was free
                os.unlink(self._leaf, dir_fd=self._inside)
            _sync(self._inside)
            self._close()
            return True

    def abort(self) -> None:
        """Remove the temporary file, at once or as soon as the block under way is written."""
        self._is_aborted = True
        # Never waited for: this runs on the event loop, and a disk may hang. Whoever holds
        # the lock looks at the flag after letting go.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._is_open:
                with _output_errors(self._target):
                    try:
                        with suppress(FileNotFoundError):
                            os.unlink(self._leaf, dir_fd=self._inside)
                    finally:
                        self._close()
        finally:
            self._lock.release()

    @contextmanager
    def _held(self) -> Iterator[bool]:
        try:
            with self._lock:
                yield not self._is_aborted
        finally:
            if self._is_aborted:
                self.abort()

    def _close(self) -> None:
        self._is_open = False
        os.close(self.fd)
        os.close(self._inside)

    def _require_space(self, size_bytes: int) -> None:
        found = os.fstatvfs(self.fd)
        if found.f_bavail * found.f_frsize - size_bytes < self._min_free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _link(self, leaf: str) -> str:
        for number in range(1, _MOST_NAMES):
            candidate = numbered(leaf, number)
            if _rename_without_replacing(self._inside, self._leaf, candidate):
                return candidate
            if self._is_same(candidate):
                return candidate
        raise FileExistsError(errno.EEXIST, f"{_MOST_NAMES} files of this name exist")

    def _is_same(self, leaf: str) -> bool:
        found = os.stat(leaf, dir_fd=self._inside, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) or found.st_size != self.size_bytes:
            return False
        with open(_opened_file(self._inside, leaf), "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
                return False
            os.fsync(file.fileno())  # its writer may have died before this
        return True


def _rename_without_replacing(inside: int, source: str, target: str) -> bool:
    """Give a file a second name, or its only one; return False if that name is taken."""
    try:
        os.link(source, target, src_dir_fd=inside, dst_dir_fd=inside)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # exFAT and some mounts have no hard links. What is left is to look first; names are
        # reserved in the job database, so only a stranger could slip in between.
        with suppress(FileNotFoundError):
            os.stat(target, dir_fd=inside, follow_symlinks=False)
            return False
        os.rename(source, target, src_dir_fd=inside, dst_dir_fd=inside)
    return True


def _opened(folder: Path, below: Sequence[str], *, make: bool) -> int:
    """Open a folder some levels below the output folder; no level may be a symbolic link."""
    inside = os.open(folder, _FOLDER)
    for level in below:
        outer = inside
        try:
            inside = _opened_below(outer, level, make=make)
        finally:
            os.close(outer)
    return inside


def _opened_below(outer: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
    except FileNotFoundError:
        if not make:
            raise
    except OSError:
        if stat.S_ISLNK(os.stat(name, dir_fd=outer, follow_symlinks=False).st_mode):
            said = f"{name} is a symbolic link, and clips are not written through one"
            raise OSError(errno.ELOOP, said) from None
        raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=outer)
        _sync(outer)
    return _opened_below(outer, name, make=False)


def _opened_file(inside: int, leaf: str) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(leaf, flags, dir_fd=inside)


def _content(inside: int, leaf: str) -> bytes:
    """Return what is in a file, nothing if it is too large for a sidecar, or no file."""
    found = os.stat(leaf, dir_fd=inside, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_SIDECAR_BYTES:
        return b""
    with open(_opened_file(inside, leaf), "rb") as file:
        return file.read(_LARGEST_SIDECAR_BYTES)


def _open_locked(inside: int, leaf: str) -> tuple[str, int]:
    while True:
        part = f".{leaf}.{secrets.token_hex(4)}.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(part, flags, 0o666, dir_fd=inside)
        except FileExistsError:
            continue
        try:
            _lock(fd, wait=True)
            # Between the two calls another process may have taken it for an orphan.
            if os.fstat(fd).st_nlink:
                return part, fd
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=inside)
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int, *, wait: bool) -> bool:
    """Lock a file; return False if it is locked, or if this file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _parts(folder: Path) -> Iterator[tuple[int, str]]:
    if folder.is_dir():
        for _, _, files, inside in os.fwalk(folder):
            yield from ((inside, file) for file in files if _PART.fullmatch(file))


def _parts_of(folder: Path, names: Iterable[str]) -> Iterator[tuple[int, str]]:
    wanted: dict[PurePosixPath, set[str]] = defaultdict(set)
    for name in names:
        path = PurePosixPath(name)
        wanted[path.parent].add(path.name)
    for parent, leaves in wanted.items():
        try:
            inside = _opened(folder, parent.parts, make=False)
        except OSError as error:
            if error.errno in _NO_FOLDER:  # then no clip of ours is in it
                continue
            raise
        try:
            with os.scandir(inside) as entries:
                found = [_PART.fullmatch(entry.name) for entry in entries]
            yield from (
                (inside, part[0])
                for part in found
                if part and part["name"].removesuffix(SIDECAR) in leaves
            )
        finally:
            os.close(inside)


def _remove_dead(inside: int, leaf: str) -> bool:
    try:
        fd = _opened_file(inside, leaf)
    except FileNotFoundError:
        return False
    try:
        if not _lock(fd, wait=False):
            return False
        with suppress(FileNotFoundError):
            os.unlink(leaf, dir_fd=inside)
    finally:
        os.close(fd)
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, _FOLDER)
    try:
        _sync(fd)
    finally:
        os.close(fd)


def _sync(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in {errno.EINVAL, *_NO_LOCKS}:  # not every mount syncs a folder
            raise


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}; {_advice(error.errno)}") from error


def _advice(number: int | None) -> str:
    if number in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return "free some space or choose another --output-dir, then run again: nothing is lost"
    if number == errno.ELOOP:
        return "put a folder there or choose another --output-dir, then run again: nothing is lost"
    return "make it writable or choose another --output-dir, then run again: nothing is lost"
