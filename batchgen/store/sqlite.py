"""What only SQLite needs: pragmas, the place of the file, exact liveness by `flock`."""

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from batchgen.domain.errors import DiskFull, NoDatabase, StoreError
from batchgen.store import selecting
from batchgen.store.statements import text
from batchgen.store.transactions import Changer, Connected, FileChanger, FileLooker

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "afpfs", "drvfs", "ceph"}
    | {"fuse.sshfs", "fuse.s3fs", "lustre", "gpfs"}
)


_CACHE_KIB, _LOG_PAGES = 2_000, 1_000  # SQLite's own defaults
_BULK_CACHE_KIB, _BULK_LOG_PAGES = 24_000, 16_000

BUSY_TIMEOUT_MS = 30_000
"""How long a statement waits for another program's lock before it fails."""


def connect(
    path: Path, *, read_only: bool, busy_timeout_ms: int = BUSY_TIMEOUT_MS
) -> sqlite3.Connection:
    """Open the file as batchgen needs it: WAL, synced commits, foreign keys."""
    if read_only and not path.is_file():
        raise NoDatabase(
            f"{path}: there is no job database here yet: `batchgen run MANIFEST` or "
            "`batchgen add MANIFEST` makes one, --db names another"
        )
    # isolation_level None: sqlite3 would open transactions by itself, but late, after the
    # first read, and that loses updates. Whoever begins one says BEGIN instead.
    is_still = read_only and _is_still(path)
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?immutable=1" if is_still else path,
        uri=is_still,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
    connection.execute("PRAGMA foreign_keys = ON")
    selecting.add_functions(connection)
    if read_only:
        connection.execute("PRAGMA query_only = 1")
        return connection
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a lost intent is a lost purchase
    connection.execute("PRAGMA fullfsync = 1")  # macOS: a plain fsync does not flush the drive
    connection.execute("PRAGMA checkpoint_fullfsync = 1")
    return connection


def _is_still(path: Path) -> bool:
    """Whether a file is on a disk that nobody can write, so that no log can be made beside it.

    Raises:
        StoreError: If it has a log there: without that it would tell of an earlier time.
    """
    if not os.statvfs(path).f_flag & os.ST_RDONLY:
        return False
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreError(
            f"{path}: it was copied or mounted while a run changed it, and its log {log.name} "
            "cannot be taken in on a disk that is read-only: copy both to another folder, and "
            "name that with --db"
        )
    return True


def identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of what has this name, None if nothing has."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_place(path: Path, *, allow_network_fs: bool) -> None:
    """Refuse a file system on which WAL is not safe.

    Raises:
        StoreError: On a network file system, unless allowed.
    """
    kind = _file_system(path.resolve().parent)
    if kind in _NETWORK and not allow_network_fs:
        raise StoreError(
            f"{path}: this is a network file system ({kind}), where SQLite can lose data: put "
            "the job database on a local disk with --db, or pass --allow-network-fs if you know "
            "that only this machine uses it"
        )


def _file_system(folder: Path) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: there is no such table to ask
        return ""
    return file_system_of(folder, mounts)


def file_system_of(folder: Path, mounts: str) -> str:
    """Return the kind of file system a folder is on, by a table such as `/proc/self/mounts`."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        place = fields[1].replace("\\040", " ")
        inside = str(folder) == place or str(folder).startswith(place.rstrip("/") + "/")
        # The last of two mounts on one place hides the first.
        if inside and len(place) >= len(best):
            best, kind = place, fields[2]
    return kind


def cannot_make(path: Path, what: str, error: OSError) -> StoreError:
    """Return what it means that a file beside the job database cannot be made."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
    return kind(
        f"{path}: the {what} cannot be made beside the job database ({error.strerror}): make room "
        "there, or name another with --db"
    )


class FileLock:
    """A lock file that is held until it is released; the kernel lets go when its process dies.

    Raises:
        StoreError: If it cannot be made.
        BlockingIOError: If another holds it, and nobody wants to wait.
    """

    def __init__(self, path: Path, *, waits: bool = True) -> None:
        self._path = path
        mode = fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB
        while True:
            self._file = self._open()
            try:
                fcntl.flock(self._file, mode)
            except BlockingIOError:
                os.close(self._file)
                raise
            if os.fstat(self._file).st_nlink:
                return
            os.close(self._file)  # taken for a dead worker's, and removed

    def _open(self) -> int:
        while True:
            try:
                self._path.parent.mkdir(exist_ok=True)
                return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # whoever leaves removes the folder
                continue
            except FileExistsError as error:
                if self._path.parent.exists():  # else it was removed between two looks
                    raise cannot_make(self._path, "lock file", error) from error
            except OSError as error:
                raise cannot_make(self._path, "lock file", error) from error

    def release(self) -> None:
        """Let go and remove the file."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        with contextlib.suppress(OSError):  # other workers' locks lie there too
            self._path.parent.rmdir()


def _try_lock(path: Path) -> FileLock | None:
    try:
        return FileLock(path, waits=False)
    except BlockingIOError:
        return None


class WorkerLock(FileLock):
    """What a worker holds while it lives; others hold it for no longer than a look."""

    def __init__(self, database: Path, worker_id: str) -> None:
        super().__init__(_lock_path(database, worker_id))


def is_alive(database: Path, worker_id: str) -> bool:
    """Return whether the worker's process still holds its lock."""
    try:
        file = os.open(_lock_path(database, worker_id), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that ask at the same moment must not take each other for the worker.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def locks(database: Path) -> list[str]:
    """Return the workers that have a lock file, held or not."""
    return [path.stem for path in _lock_path(database, "").parent.glob("*.lock")]


def forget(database: Path, worker_id: str) -> None:
    """Remove the lock file of a worker, unless it lives after all."""
    path = _lock_path(database, worker_id)
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        if os.fstat(file).st_nlink:  # under the lock: one that begins will see it
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _lock_path(database: Path, worker_id: str) -> Path:
    database = database.resolve()  # whatever links lead to it
    return database.with_name(database.name + "-workers") / f"{worker_id}.lock"


def _tune(file: sqlite3.Connection, *, cache_kib: int, log_pages: int, sync: str) -> None:
    file.execute(f"PRAGMA cache_size = -{cache_kib}")
    file.execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
    file.execute(f"PRAGMA synchronous = {sync}")


def _cause(error: BaseException) -> BaseException:
    """Return what sqlite3 said, where SQLAlchemy passes it on."""
    return getattr(error, "orig", None) or error


class SqliteFile:
    """A job database in a file; see `backend.Backend`."""

    is_remote = False

    def __init__(self, path: Path, *, allow_network_fs: bool, busy_timeout_ms: int) -> None:
        self.path = path
        self._allow_network_fs = allow_network_fs
        self._busy_timeout_ms = busy_timeout_ms
        self._file: sqlite3.Connection | None = None

    @property
    def shown(self) -> str:
        """The path as the user gave it."""
        return str(self.path)

    @property
    def folder(self) -> Path:
        """The file's folder."""
        return self.path.resolve().parent

    def exists(self) -> bool:
        """Return whether the file is there and holds something.

        Raises:
            StoreError: If something else has its name, or it cannot be looked at.
        """
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be looked at: {error.strerror}: name another job database "
                "with --db"
            ) from error
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "not a file"
            raise StoreError(
                f"{self.path}: is {what}: name a file for the job database, as --db batchgen.db"
            )
        return found.st_size > 0

    def check_place(self) -> None:
        """Check, before anything is asked, that the file could be made or written beside.

        Raises:
            StoreError: If its folder is not there or cannot be written.
        """
        self._check_folder()
        try:
            with tempfile.TemporaryFile(dir=self.path.parent):
                pass
        except OSError as error:
            raise StoreError(
                f"{self.path}: the folder {self.path.parent} cannot be written "
                f"({error.strerror}): name another job database with --db"
            ) from error
        check_place(self.path, allow_network_fs=self._allow_network_fs)

    def _check_folder(self) -> None:
        if not self.path.parent.is_dir():
            raise StoreError(
                f"{self.path}: the folder {self.path.parent} does not exist: create it, or name "
                "another job database with --db"
            )

    def changer(self) -> FileChanger:
        """Return a connection whose transactions begin with `BEGIN IMMEDIATE`."""
        return FileChanger(self._writing())

    def _writing(self) -> sqlite3.Connection:
        # The one connection is handed from the command's thread to the store thread and never
        # used by two at once.
        if self._file is None:
            self._file = self._open()
        return self._file

    def _open(self) -> sqlite3.Connection:
        check_place(self.path, allow_network_fs=self._allow_network_fs)
        self._check_folder()
        return connect(self.path, read_only=False, busy_timeout_ms=self._busy_timeout_ms)

    @contextlib.contextmanager
    def changing_schema(self) -> Iterator[Connected]:
        """Begin a writing transaction of SQLAlchemy, on a connection of its own."""
        engine = self._engine()
        try:
            with engine.connect() as connection, connection.begin():
                tx = Connected(connection)
                yield tx
                tx.flush()
                if tx.rows(text("PRAGMA foreign_key_check")):
                    raise StoreError(f"{self.shown}: the schema cannot be changed: rows are lost")
        finally:
            engine.dispose()

    def _engine(self) -> "Engine":
        from sqlalchemy import create_engine, event  # nobody else needs it
        from sqlalchemy.pool import StaticPool

        def open_file() -> sqlite3.Connection:
            file = self._open()
            file.execute("PRAGMA foreign_keys = OFF")  # else a dropped table takes others' rows
            return file

        engine = create_engine(
            "sqlite://",
            creator=open_file,
            poolclass=StaticPool,
            hide_parameters=True,  # inputs hold signed URLs, and an error shows its parameters
        )

        def on_begin(connection: "Connection") -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        event.listen(engine, "begin", on_begin)
        return engine

    def looker(self) -> FileLooker:
        """Return a connection whose transactions see one snapshot."""
        return FileLooker(connect(self.path, read_only=True, busy_timeout_ms=self._busy_timeout_ms))

    def save_opened(self, target: Path) -> None:
        """Copy the file that was opened for writing, whatever has its name by now, to another name.

        Raises:
            StoreError: If none is open any more.
        """
        if self._file is None:
            raise StoreError(f"{target}: the file is not open any more")
        with contextlib.closing(sqlite3.connect(target)) as copy:
            self._file.backup(copy)

    def let_go(self) -> None:
        """Leave the writing connection to the thread that is stuck in it."""
        self._file = None

    def close(self) -> None:
        """Close the writing connection; each look has one of its own."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def explain(self, error: Exception) -> StoreError:
        """Return what a driver's error means to a person."""
        path = self.path
        cause = _cause(error)
        said = str(cause)
        if "locked" in said or "busy" in said:
            return StoreError(
                f"{path}: the job database is locked by another program; try again later"
            )
        if "disk is full" in said:
            return DiskFull(f"{path}: the disk is full, the job database cannot grow; make room")
        if "readonly" in said or "unable to open" in said:
            return StoreError(
                f"{path}: cannot open the job database for writing ({said}): check the folder's "
                "permissions, or name another with --db"
            )
        if "not a database" in said or "malformed" in said:
            return StoreError(
                f"{path}: this is not a job database or it is damaged ({said}): look at it with "
                "`batchgen db check`, restore a copy, or name another with --db"
            )
        return StoreError(f"{path}: the job database failed: {said}")

    def is_passing(self, error: BaseException) -> bool:
        """Return whether a failed commit may succeed later: no space, or a lock."""
        cause = _cause(error)
        if not isinstance(cause, sqlite3.OperationalError):
            return False
        said = str(cause)
        return any(word in said for word in ("locked", "busy", "full", "disk I/O"))

    def cut(self, changer: Changer) -> None:
        """Do nothing: a file always answers."""

    @property
    def base(self) -> Path:
        """The file itself: others beside it begin with its name."""
        return self.path

    def enter(self, worker_id: str) -> WorkerLock:
        """Lock the worker's file; the kernel lets go when the process dies."""
        return WorkerLock(self.path, worker_id)

    @contextlib.contextmanager
    def bulk(self) -> Iterator[None]:
        """Keep what is written over and over in memory, check out the log less often.

        Commits are not synced: the next one that is, after it, makes all of them durable.
        """
        file = self._writing()
        _tune(file, cache_kib=_BULK_CACHE_KIB, log_pages=_BULK_LOG_PAGES, sync="NORMAL")
        try:
            yield
        finally:
            _tune(file, cache_kib=_CACHE_KIB, log_pages=_LOG_PAGES, sync="FULL")

    @contextlib.contextmanager
    def adding(self, wait: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of those who add manifests."""
        while (lock := _try_lock(_lock_path(self.path, "adding").with_suffix(""))) is None:
            wait()
        try:
            yield
        finally:
            lock.release()

    def is_alive(self, worker_id: str, *, expires_ms: int | None, now_ms: int) -> bool:
        """Return whether the worker's process still holds its lock; nothing is timed."""
        return is_alive(self.path, worker_id)

    def forget(self, worker_id: str) -> None:
        """Remove the lock file of a dead worker."""
        forget(self.path, worker_id)

    def traces(self) -> list[str]:
        """Return the workers that have a lock file."""
        return locks(self.path)
