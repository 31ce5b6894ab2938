"""A job database over the years: copied, made smaller, freed of what nobody needs to keep."""

import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from batchgen.domain.errors import DiskFull, StoreError, UsageError
from batchgen.domain.states import FINAL, JobState
from batchgen.store import step_back, workers
from batchgen.store.database import Database
from batchgen.store.imports import PAUSE_S
from batchgen.store.statements import Statement, text
from batchgen.store.transactions import FileChanger, Transaction

_COUNTED = ("batches", "jobs", "attempts", "events")

# -- a copy --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copy:
    """A copy of a job database.

    Attributes:
        counts: How many rows of each table it holds, as many as the original at that moment.
    """

    path: Path
    size_bytes: int
    counts: Mapping[str, int]


def back_up(source: Path, target: Path) -> Copy:
    """Copy a job database while it is in use: one moment of it, whole or not at all.

    The copy is read back before it gets its name.

    Raises:
        UsageError: If something has that name.
        StoreError: If it cannot be read, or the copy cannot be written or is not sound.
    """
    if target.exists() or target.is_symlink():
        raise _is_there(target)
    _check_room(target.parent, source.stat().st_size)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        counts = _copy(source, temporary)
        try:
            os.link(temporary, target)  # unlike a rename, never over another file
        except FileExistsError:
            raise _is_there(target) from None
        temporary.unlink()
        _sync(target.parent)
    except sqlite3.Error as error:
        raise StoreError(f"{source}: cannot be copied to {target}: {error}") from error
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Copy(target, target.stat().st_size, counts)


def _copy(source: Path, temporary: Path) -> dict[str, int]:
    mode = source.stat().st_mode & 0o777
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode))
    with closing(sqlite3.connect(source, isolation_level=None)) as old:
        old.execute("PRAGMA query_only = 1")
        old.execute("BEGIN")  # what is counted is what is copied
        counts = _counts(old)
        with closing(sqlite3.connect(temporary, isolation_level=None)) as new:
            old.backup(new)
            new.execute("PRAGMA journal_mode = DELETE")  # all of it is in this one file
            _verify(new, counts)
    fd = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return counts


def _verify(new: sqlite3.Connection, counts: Mapping[str, int]) -> None:
    said = [str(row[0]) for row in new.execute("PRAGMA integrity_check")]
    lost = new.execute("PRAGMA foreign_key_check").fetchall()
    if said != ["ok"] or lost or _counts(new) != counts:
        raise StoreError(
            f"the copy is not sound ({said[0]}), and was thrown away: `batchgen db check` tells "
            "whether the job database is"
        )


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    return {
        name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in _COUNTED
    }


def _is_there(target: Path) -> UsageError:
    return UsageError(f"{target} exists already: name another file, nothing was written")


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def place(made: Path, target: Path) -> None:
    """Give a job database that was made beside it its name, unless another has that.

    Raises:
        UsageError: If another has.
        StoreError: If it cannot be done, or a part of it is in its log still.
    """
    log = made.with_name(f"{made.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreError(f"{made}: its log could not be taken in; nothing was made")
    try:
        if target.is_file() and not target.stat().st_size:
            target.unlink()  # without a byte, as `touch` leaves it
        os.link(made, target)
        made.unlink()
        _sync(target.parent)
    except FileExistsError:
        raise _is_there(target) from None
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror}") from error


# -- space ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shrunk:
    """How large a job database was and is, with its log."""

    before_bytes: int
    after_bytes: int


def vacuum(database: Database, path: Path) -> Shrunk:
    """Write the file of a job database anew, without the space that nothing uses any more.

    Raises:
        StoreError: If a worker lives, or there is not enough room: the copy needs its size again.
    """
    with database.reading() as tx:
        _refuse_living(tx, database)
    before = _size(path)
    # The copy is made in the folder for temporary files, and comes back through the log.
    _check_room(Path(tempfile.gettempdir()), before)
    _check_room(path.parent, 2 * before)
    with database.translated():
        file = cast(FileChanger, database.connect_writer()).file
        file.execute("VACUUM")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return Shrunk(before, _size(path))


def _refuse_living(tx: Transaction, database: Database) -> None:
    living = workers.living(tx, database.backend)
    if living:
        raise StoreError(
            f"{database.shown}: {len(living)} worker(s) are at work, which would be held up: let "
            "them end first (`batchgen workers` lists them)"
        )


def _size(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _check_room(folder: Path, size_bytes: int) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder: create it, or name another")
    free = shutil.disk_usage(folder).free
    if free < size_bytes:
        raise DiskFull(
            f"{folder}: this needs {size_bytes:,} bytes of free disk, and there are {free:,}: make "
            "room"
        )


# -- what nobody needs to keep -------------------------------------------------------------------


@dataclass(frozen=True)
class Pruned:
    """How much was dropped, or would be; bytes are those of the texts.

    Attributes:
        answers: Attempts whose raw answers are among it.
    """

    answers: int = 0
    answer_bytes: int = 0
    events: int = 0
    event_bytes: int = 0
    sessions: int = 0
    probes: int = 0

    @property
    def rows(self) -> int:
        """Everything, counted."""
        return self.answers + self.events + self.sessions + self.probes


_RESTS = ", ".join(f"'{state}'" for state in sorted(FINAL - {JobState.IN_DOUBT}))
# Of a request that was given up, the first answer may yet tell what became of it.
_OLD_ANSWERS = (
    "FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE a.id > :after "
    f"AND j.state IN ({_RESTS}) AND j.finished_ms < :before_ms AND a.closed_ms < :before_ms "
    "AND a.state IN ('succeeded', 'failed', 'cancelled', 'rejected', 'abandoned') "
    "AND ((a.submit_raw IS NOT NULL AND a.state <> 'abandoned') "
    "OR a.status_raw IS NOT NULL OR a.result_raw IS NOT NULL) "
)


def _answers(octets: str) -> str:
    sizes = " + ".join(
        f"coalesce({octets.format(f'a.{name}')}, 0)" for name in ("status_raw", "result_raw")
    )
    submit = f"CASE WHEN a.state = 'abandoned' THEN 0 ELSE {octets.format('a.submit_raw')} END"
    return f"SELECT a.id, {sizes} + coalesce({submit}, 0) AS octets {_OLD_ANSWERS}"


_SQLITE_OCTETS, _POSTGRES_OCTETS = "length(CAST({} AS BLOB))", "octet_length({})"
_LIMIT = "ORDER BY a.id LIMIT :most"
_FIND_ANSWERS = Statement(_answers(_SQLITE_OCTETS) + _LIMIT, _answers(_POSTGRES_OCTETS) + _LIMIT)
_DROP_ANSWERS = text(
    "UPDATE attempts SET status_raw = NULL, result_raw = NULL, "
    "submit_raw = CASE WHEN state = 'abandoned' THEN submit_raw END WHERE id = :id"
)
# Without these, purchases would be missed or found again that are accounted for.
_KEPT_EVENTS = ", ".join(f"'{kind}'" for kind in step_back.LASTING)
_OLD_EVENTS = (
    "FROM events e JOIN jobs j ON j.id = e.job_id WHERE e.id > :after AND e.at_ms < :before_ms "
    f"AND j.state IN ({_RESTS}) AND j.finished_ms < :before_ms AND e.kind NOT IN ({_KEPT_EVENTS}) "
    "ORDER BY e.id LIMIT :most"
)
_FIND_EVENTS = Statement(
    f"SELECT e.id, coalesce({_SQLITE_OCTETS.format('e.data')}, 0) AS octets {_OLD_EVENTS}",
    f"SELECT e.id, coalesce({_POSTGRES_OCTETS.format('e.data')}, 0) AS octets {_OLD_EVENTS}",
)
_DROP_EVENT = text("DELETE FROM events WHERE id = :id")
# Those that died too; never the newest, which `status` tells of.
_OLD_SESSIONS = (
    "FROM sessions WHERE id < (SELECT max(id) FROM sessions) AND (ended_ms < :before_ms "
    "OR (ended_ms IS NULL AND started_ms < :before_ms "
    "AND worker_id NOT IN (SELECT id FROM workers WHERE state = 'live')))"
)
_OLD_PROBES = "FROM probes WHERE seen_ms < :before_ms"
_STEP = 2_000  # rows of one transaction, beside which workers go on


def prune(
    database: Database,
    *,
    before_ms: int,
    dry_run: bool,
    sleep: Callable[[float], None],
) -> Pruned:
    """Drop raw answers, events, sessions and probes from before a time; return how much.

    Of jobs that have come to rest only. What was sent, its request ids, costs, states, errors
    and the hashes of clips stay, and so does whatever a doubt or a step back is settled by.

    Args:
        database: Opened and current.
        before_ms: Epoch milliseconds: what came to rest later stays whole.
        dry_run: Only count.
        sleep: Waits so many seconds, for others to write.
    """
    pruning = _Pruning(database, before_ms, is_dry=dry_run, sleep=sleep)
    answers, answer_bytes = pruning.drop(_FIND_ANSWERS, _DROP_ANSWERS, first="")
    events, event_bytes = pruning.drop(_FIND_EVENTS, _DROP_EVENT, first=0)
    with pruning.transaction() as tx:
        values = {"before_ms": before_ms}
        sessions = int(tx.value(text(f"SELECT count(*) {_OLD_SESSIONS}"), values))
        probes = int(tx.value(text(f"SELECT count(*) {_OLD_PROBES}"), values))
        if not dry_run:
            tx.run(text(f"DELETE {_OLD_SESSIONS}"), values)
            tx.run(text(f"DELETE {_OLD_PROBES}"), values)
    return Pruned(answers, answer_bytes, events, event_bytes, sessions, probes)


class _Pruning:
    def __init__(
        self,
        database: Database,
        before_ms: int,
        *,
        is_dry: bool,
        sleep: Callable[[float], None],
    ) -> None:
        self._database = database
        self._before_ms = before_ms
        self._is_dry = is_dry
        self._sleep = sleep

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that writes only if it is meant."""
        return self._database.reading() if self._is_dry else self._database.transaction()

    def drop(self, find: Statement, drop: Statement, *, first: str | int) -> tuple[int, int]:
        """Drop what a query finds, some rows at a time; return how many, and their bytes."""
        count, octets, after = 0, 0, first
        while True:
            values = {"after": after, "before_ms": self._before_ms, "most": _STEP}
            with self.transaction() as tx:
                rows = tx.rows(find, values)
                if not self._is_dry:
                    tx.run_many(drop, [{"id": row.id} for row in rows])
            count += len(rows)
            octets += sum(int(row.octets) for row in rows)
            if len(rows) < _STEP:
                return count, octets
            after = rows[-1].id
            if not self._is_dry:
                self._sleep(PAUSE_S)
