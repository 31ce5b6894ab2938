"""What may be wrong before a night begins: checks that look at everything a run needs.

Each check yields findings, one line each, with what to type about it. All checks work at the
same time, and none is waited for longer than a bound: what it found until then counts. Nothing is
written but a nameless probe in folders that clips go to, and nothing is paid.
"""

import importlib.metadata
import os
import platform
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from batchgen import __version__, notify
from batchgen.domain.errors import PRECEDENCE, BatchgenError, Exit, OutputError, StoreError
from batchgen.domain.states import JobState
from batchgen.downloads.folder import KEPT_FREE_BYTES, free_bytes, in_mib
from batchgen.store import accounts, health, reads, sqlite, upgrade, workers
from batchgen.store.database import Database
from batchgen.store.revision import REVISION
from batchgen.store.transactions import Transaction

WAITED_S = 10.0
"""How long all checks together are waited for."""

SKEW_S = 30.0
"""A clock that is wrong by more is worth a warning: times are compared with the service's."""

_CHECKED_S = 6.0  # spent on reading a file through; `db check` reads all of it
_LOCK_MS = 2_000
_SLOW_SERVER_S = 0.05  # a claim is several questions
_DISTRIBUTION = "batchgen-cli"
_FOR_DEVELOPERS = ("test", "dev")
_EXTRA = re.compile(r"""^([A-Za-z0-9._-]+).*;.*extra\s*==\s*['"]([^'"]+)['"]""")
_USED = ("sqlalchemy", "httpx", "aiohttp", "click", "rich")


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"  # a run works all the same
    PROBLEM = "problem"  # a run would not, or not safely
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: What was looked at: one or two words.
        level: How bad it is.
        said: In one line.
        remedy: What to do, with what to type; "" if nothing needs to be done.
        exit_code: What a run would end with, for a problem.
    """

    check: str
    level: Level
    said: str
    remedy: str = ""
    exit_code: Exit = Exit.SUCCESS


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        name: What, where nothing else was found.
        look: Yields findings; an error of ours is a finding too.
        late: What it means that it takes too long.
    """

    name: str
    look: Callable[[], Iterator[Finding]]
    late: Exit = Exit.UNEXPECTED


def ok(check: str, said: str) -> Finding:
    """Return that all is well."""
    return Finding(check, Level.OK, said)


def skipped(check: str, said: str) -> Finding:
    """Return that there was nothing to look at."""
    return Finding(check, Level.SKIPPED, said)


def warning(check: str, said: str, remedy: str) -> Finding:
    """Return what a run can do without."""
    return Finding(check, Level.WARNING, said, remedy)


def problem(check: str, said: str, remedy: str, exit_code: Exit) -> Finding:
    """Return what a run would end for."""
    return Finding(check, Level.PROBLEM, said, remedy, exit_code)


def worst(findings: Sequence[Finding]) -> Exit:
    """Return the exit code of the worst problem, 0 if there is none."""
    codes = [one.exit_code for one in findings if one.level is Level.PROBLEM]
    return min(codes, key=PRECEDENCE.index, default=Exit.SUCCESS)


# -- doing them all --------------------------------------------------------------------------------


class _Looking:
    """One check in a thread of its own, which nobody waits for in the end."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.found: list[Finding] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._look, name=check.name, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        try:
            for finding in self.check.look():
                self.found.append(finding)
        except Exception as error:  # noqa: BLE001 - raised again, or told, where it is waited for
            self.error = error

    def findings(self, within_s: float) -> list[Finding]:
        self._thread.join(max(0.0, within_s))
        found, name = list(self.found), self.check.name
        if self._thread.is_alive():
            said = f"no answer within {WAITED_S:g} s"
            remedy = "try again; if it stays so, look at what hangs"
            return [*found, problem(name, said, remedy, self.check.late)]
        if self.error is None:
            return found
        if not isinstance(self.error, BatchgenError):
            raise self.error
        said, remedy = _parted(str(self.error))
        return [*found, problem(name, said, remedy, self.error.exit_code)]


def _parted(message: str) -> tuple[str, str]:
    """Return what is wrong and what to do, of a message that says both with a colon between."""
    said, colon, remedy = message.rpartition(": ")
    return (said, remedy) if colon else (message, "see above")


def findings_of(checks: Sequence[Check], *, within_s: float = WAITED_S) -> Iterator[Finding]:
    """Begin all checks at once, and yield what they find in their order.

    Args:
        checks: What to look at.
        within_s: How long all of them together may take.
    """
    ends = time.monotonic() + within_s
    for looking in [_Looking(check) for check in checks]:
        yield from looking.findings(ends - time.monotonic())


# -- this machine ----------------------------------------------------------------------------------


def installation() -> Iterator[Finding]:
    """Look at what is installed."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _USED)
    yield ok(
        "program",
        f"batchgen {__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}; {versions}",
    )
    here: list[str] = []
    missing: list[str] = []
    for extra, distributions in sorted(_extras().items()):
        lacking = [name for name in distributions if not _is_installed(name)]
        (missing if lacking else here).append(extra)
    said = [f"{', '.join(here)} installed"] if here else []
    if missing:
        names = ",".join(missing)
        said.append(f"{', '.join(missing)} not (if wanted: pip install '{_DISTRIBUTION}[{names}]')")
    yield ok("extras", "; ".join(said) or "there are none")


def _extras() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in importlib.metadata.requires(_DISTRIBUTION) or ():
        if (match := _EXTRA.match(line)) and match[2] not in _FOR_DEVELOPERS:
            found.setdefault(match[2], []).append(match[1])
    return found


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def terminal(encoding: str) -> Iterator[Finding]:
    """Look at how text is written to the terminal."""
    if encoding.lower().replace("-", "").replace("_", "") == "utf8":
        yield ok("terminal", "UTF-8")
        return
    yield warning(
        "terminal",
        f"its encoding is {encoding or 'unknown'}: not every prompt can be shown",
        "export LC_ALL=C.UTF-8, or PYTHONUTF8=1",
    )


def notifications(urls: Sequence[str]) -> Iterator[Finding]:
    """Look whether notification URLs are understood; nothing is sent."""
    if not urls:
        yield skipped("notify", "nobody is told how a run goes: BATCHGEN_NOTIFY is not set")
        return
    names = [one.name for one in notify.notifiers(urls)]
    yield ok("notify", f"{', '.join(names)}: understood, nothing was sent")


def state_folder(folder: Path | None) -> Iterator[Finding]:
    """Look where purchases are written down outside the job database."""
    purpose = "a job database that was restored from an older copy is not noticed without it"
    if folder is None:
        yield warning("journal", f"there is no folder for it: {purpose}", "set HOME")
        return
    place = _existing(folder)
    if os.access(place, os.W_OK | os.X_OK):
        yield ok("journal", f"goes to {folder}")
        return
    yield warning(
        "journal",
        f"{folder} cannot be written: {purpose}",
        f"make {place} writable, or set XDG_STATE_HOME to a folder that is",
    )


def clock(ahead_s: float, of_what: str) -> Finding:
    """Return how far a clock elsewhere is from this machine's.

    Args:
        ahead_s: How far this machine's is ahead of it; negative if behind.
        of_what: Whose it is.
    """
    if abs(ahead_s) <= SKEW_S:
        return ok("clock", f"within {max(1, round(abs(ahead_s)))} s of {of_what}")
    where = "ahead of" if ahead_s > 0 else "behind"
    return warning(
        "clock",
        f"{abs(ahead_s):,.0f} s {where} {of_what}",
        "set it right: timedatectl set-ntp true",
    )


# -- the job database ------------------------------------------------------------------------------


def database(url: str, *, allow_network_fs: bool) -> Iterator[Finding]:
    """Look at a job database, if there is one; it is not brought up to date."""
    found = Database(url, allow_network_fs=allow_network_fs)
    try:
        if found.path is not None:
            yield from _file_place(found.path, allow_network_fs=allow_network_fs)
        if not found.exists():
            yield skipped("database", f"{found.shown}: none yet: `batchgen run MANIFEST` makes one")
            yield from _folders(found.folder, ["clips"])
            return
        revision = upgrade.revision_of(found)
        yield from _schema(found, revision)
        with found.reading() as tx:
            yield from _engine(tx, found)
            if revision == REVISION:
                yield from _contents(tx, found)
            if found.path is not None:
                yield from _integrity(tx)
    finally:
        found.close()


def _file_place(path: Path, *, allow_network_fs: bool) -> Iterator[Finding]:
    folder = path.resolve().parent
    sqlite.check_place(path, allow_network_fs=allow_network_fs)
    if not folder.is_dir():
        raise StoreError(
            f"{path}: the folder {folder} does not exist: mkdir -p {folder}, or name another job "
            "database with --db"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem(
            "database",
            f"{path}: the folder {folder} cannot be written",
            "make it writable, or name another job database with --db",
            Exit.DATABASE,
        )


def _schema(found: Database, revision: str | None) -> Iterator[Finding]:
    if revision == REVISION:
        yield ok("database", f"{found.shown}: schema {revision}")
        return
    if revision is None:
        yield skipped("database", f"{found.shown}: empty: `batchgen run MANIFEST` fills it")
        return
    upgrade.refuse_newer(found, revision)
    yield warning(
        "database",
        f"{found.shown}: schema {revision}, this version works with {REVISION}",
        "`batchgen db upgrade` brings it up to date, a file after a copy",
    )


def _engine(tx: Transaction, found: Database) -> Iterator[Finding]:
    if found.path is None:
        server = health.server(tx)
        said = f"PostgreSQL {server.version}, {server.encoding}"
        if server.is_replica:
            yield problem(
                "server",
                f"{said}: a read-only replica",
                "name the primary with --db",
                Exit.DATABASE,
            )
        slow = server.latency_s > _SLOW_SERVER_S
        took = f"{said}, answers in {server.latency_s * 1000:.1f} ms"
        if slow:
            yield warning("server", took, "run nearer to it: each paid request asks it first")
        else:
            yield ok("server", took)
        yield clock(-server.ahead_s, "the PostgreSQL server's")
        return
    yield from _sqlite(tx, found.path)


def _sqlite(tx: Transaction, path: Path) -> Iterator[Finding]:
    mode = health.journal_mode(tx)
    sizes = [
        f"{in_mib(one.stat().st_size)} {what}"
        for one, what in ((path, "file"), (path.with_name(path.name + "-wal"), "log"))
        if one.exists()
    ]
    said = f"journal mode {mode}, {', '.join(sizes)}"
    if mode == "wal":
        yield ok("sqlite file", f"{said}; each commit is synced")
    else:
        yield warning("sqlite file", said, "nothing to type: the next run sets WAL")
    trouble = health.write_trouble(path, within_ms=_LOCK_MS)
    if trouble is not None:
        yield problem(
            "locks",
            f"it cannot be written just now: {trouble}",
            "look which program uses it: lsof " + str(path) + "; or at its permissions",
            Exit.DATABASE,
        )


def _contents(tx: Transaction, found: Database) -> Iterator[Finding]:
    live = len(workers.living(tx, found.backend))
    if found.path is not None:
        yield _sqlite_version(live)
    yield ok("workers", f"{live} at work")
    for account in accounts.every(tx):
        if account.paused:
            yield warning(
                "paused",
                f"account {account.name} is paused: nothing of it is submitted",
                f"`batchgen unpause --account {account.name}`",
            )
    batches = reads.batches(tx)
    doubts = sum(batch.counts.get(JobState.IN_DOUBT, 0) for batch in batches)
    if doubts:
        yield warning(
            "doubts", f"{doubts:,} in doubt, maybe paid for", "`batchgen reconcile --list`"
        )
    folders = list(dict.fromkeys(batch.output_dir for batch in batches)) or ["clips"]
    yield from _folders(found.folder, folders)


def _sqlite_version(live: int) -> Finding:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= health.FIXED_SQLITE or live < 2:
        return ok("sqlite", version)
    fixed = ".".join(map(str, health.FIXED_SQLITE))
    return warning(
        "sqlite",
        f"{version}, and {live} workers write: before {fixed} that can damage the file, rarely",
        f"let one run work, use PostgreSQL, or a Python with SQLite {fixed}",
    )


def _integrity(tx: Transaction) -> Iterator[Finding]:
    said = health.quick_check(tx, within_s=_CHECKED_S)
    if said is None:
        yield skipped(
            "integrity", "the file is too large to be read through now: `batchgen db check` does"
        )
    elif said:
        yield problem(
            "integrity",
            f"SQLite finds it damaged: {said[0]}",
            "restore a copy, then `batchgen reconcile --after-restore`",
            Exit.DATABASE,
        )
    else:
        yield ok("integrity", "sound (quick check)")


# -- folders of clips ------------------------------------------------------------------------------


def _folders(root: Path, names: Sequence[str]) -> Iterator[Finding]:
    folders = [root / Path(name).expanduser() for name in names]
    bad = [finding for folder in folders for finding in _unwritable(folder)]
    yield from bad
    if not bad:
        shown = ", ".join(map(str, folders[:3])) + (", …" if len(folders) > 3 else "")
        yield ok("output", f"clips can be written to {shown}")
    for disk in _disks([root, *folders]).values():
        yield from _space(disk, f"the disk of {disk}")


def _disks(folders: Sequence[Path]) -> Mapping[int, Path]:
    found: dict[int, Path] = {}
    for folder in folders:
        found.setdefault(_existing(folder).stat().st_dev, folder)
    return found


def _unwritable(folder: Path) -> Iterator[Finding]:
    place = _existing(folder)
    try:
        if not place.is_dir():
            raise NotADirectoryError(20, os.strerror(20))
        if place == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        yield problem(
            "output",
            f"{folder}: clips cannot be written there: {place}: {error.strerror}",
            "make it a folder that can be written, or name another with --output-dir",
            Exit.OUTPUT,
        )


def _space(folder: Path, what: str) -> Iterator[Finding]:
    try:
        free = free_bytes(folder)
    except OutputError as error:
        yield problem("disk", str(error), "name another folder", Exit.OUTPUT)
        return
    said = f"{in_mib(free)} free on {what}"
    if free >= KEPT_FREE_BYTES:
        yield ok("disk", said)
        return
    yield problem(
        "disk",
        f"{said}: below {in_mib(KEPT_FREE_BYTES)} nothing is paid for",
        "make room, or name another folder with --output-dir",
        Exit.OUTPUT,
    )


def _existing(folder: Path) -> Path:
    """Return the folder, or where it would be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
