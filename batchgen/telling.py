"""The stream of events and the log of a session: whole JSON lines, without secrets.

Whoever tells something only puts it in a queue. Each file has a thread of its own that makes
the lines and writes them, so that a slow disk, or a reader of `--events` that stands still,
holds up neither the work nor the other file. A file that cannot be written is told once, and
harms nothing.
"""

import contextlib
import json
import logging
import os
import queue
import re
import stat
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from batchgen.domain.errors import OutputError, UsageError
from batchgen.domain.redaction import redact_text, secret_pattern

KEPT_LOGS = 30
"""How many session logs are kept, the newest."""

_TOGETHER_S = 0.1  # events that come within it are written together
_CLOSE_S = 5.0  # for what is still to be written at the end
_LOG_NAME = re.compile(r"s[0-9a-f]{25}\.jsonl")

_BEGINNING = b'{"seq": '  # of a file of events
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)

Line = Mapping[str, Any]


class Cleaner:
    """Takes secrets out of what is written.

    Args:
        secrets: The tokens that may be in use just now; those seen before stay secret.
    """

    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        self._secrets = secrets
        self._patterns: dict[str, re.Pattern[str]] = {}

    def look_again(self) -> None:
        """Learn which tokens are in use by now."""
        for secret in self._secrets():
            if secret not in self._patterns:
                self._patterns[secret] = secret_pattern(secret)

    def clean(self, value: Any) -> Any:
        """Return JSON-like data without tokens and signatures in its texts."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {name: self.clean(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean(part) for part in value]
        return value

    def _text(self, text: str) -> str:
        # Most texts hold none, there are thousands a second, and patterns are slow.
        for secret, pattern in self._patterns.items():
            if secret in text:
                text = pattern.sub("[token]", text)
        return redact_text(text)


class Stream:
    """One file of JSON lines, and the thread that writes it.

    Args:
        fd: Open for appending; closed by `close`.
        shown: Its name for people.
        cleaner: Takes secrets out; used by the thread alone.
        say: Tells the user something.
    """

    def __init__(
        self, fd: int, shown: str, *, cleaner: Cleaner, say: Callable[[str], None]
    ) -> None:
        self.shown = shown
        self._fd = fd
        self._cleaner = cleaner
        self._say = say
        self._lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._is_torn = False  # the last line may be a half one
        self._has_told = False
        # Not waited for by the interpreter: a pipe that nobody reads may hold it for ever.
        self._thread = threading.Thread(target=self._work, name=f"to {shown}", daemon=True)
        self._thread.start()

    def put(self, line: Line) -> None:
        """Have a line written; returns at once."""
        self._lines.put(line)

    def close(self) -> None:
        """Write what is left, for a few seconds at most."""
        self._ending.set()
        self._lines.put(None)
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            self._tell("its reader does not keep up: the last lines are missing")
            return
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def _work(self) -> None:
        is_open = True
        while is_open:
            lines = [self._lines.get()]
            if lines[0] is not None:
                self._ending.wait(_TOGETHER_S)
            with contextlib.suppress(queue.Empty):
                while True:
                    lines.append(self._lines.get_nowait())
            is_open = None not in lines
            self._write([line for line in lines if line is not None])

    def _write(self, lines: Sequence[Line]) -> None:
        if not lines:
            return
        self._cleaner.look_again()
        text = "".join(map(self._json, lines))
        # What no file can hold, as half of a surrogate pair, is written as JSON spells it.
        data = text.encode("utf-8", "backslashreplace")
        if self._is_torn:
            data = b"\n" + data
        try:
            self._write_all(data)
        except OSError as error:
            self._tell(f"it cannot be written: {error.strerror}")

    def _json(self, line: Line) -> str:
        return _ENCODER.encode(self._cleaner.clean(line)) + "\n"

    def _write_all(self, data: bytes) -> None:
        while data:
            written = os.write(self._fd, data)
            self._is_torn = not data[:written].endswith(b"\n")
            data = data[written:]

    def _tell(self, what: str) -> None:
        if not self._has_told:
            self._has_told = True
            self._say(f"warning: {self.shown}: {what}; the work goes on")


def open_events(path: str) -> int:
    """Open a file for appending events, and return its descriptor.

    Raises:
        OutputError: If it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
        _mend(path, fd)
    except OSError as error:
        raise OutputError(_unwritable(path, error)) from error
    return fd


def check_events(path: str) -> None:
    """Check, without making it, that events can be appended to a file.

    Raises:
        OutputError: If not.
        UsageError: If it holds something else.
    """
    if not os.path.lexists(path):
        folder = Path(path).parent
        if not folder.is_dir():
            raise OutputError(f"{path}: there is no folder {folder}: make it, or name another")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{path}: {folder} cannot be written: name another file for events")
        return
    if Path(path).is_fifo():  # opening it waits for its reader
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
        start = _start(path)
    except OSError as error:
        raise OutputError(_unwritable(path, error)) from error
    if not _BEGINNING.startswith(start):
        raise UsageError(f"{path}: holds something else than events: name another file")


def _start(path: str) -> bytes:
    if not Path(path).is_file():  # a device, a terminal
        return b""
    with Path(path).open("rb") as file:
        return file.read(len(_BEGINNING))


def _unwritable(path: str, error: OSError) -> str:
    return f"{path}: events cannot be written there ({error.strerror}): name another file"


def _mend(path: str, fd: int) -> None:
    """End the half line that a full disk may have left: the next one must be whole."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return
    with contextlib.suppress(PermissionError), Path(path).open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            os.write(fd, b"\n")


def open_log(folder: Path, session_id: str) -> tuple[Path, int]:
    """Make the log of a session, and remove the oldest beyond `KEPT_LOGS`.

    Raises:
        OSError: If it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{session_id}.jsonl"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    # Their names begin with the time.
    logs = sorted(one for one in folder.iterdir() if _LOG_NAME.fullmatch(one.name))
    for old in logs[:-KEPT_LOGS]:
        old.unlink(missing_ok=True)
    return path, fd


class Telling:
    """Numbers the events of a session and hands them to whoever wants them.

    Attributes:
        session_id: Whose they are.
    """

    def __init__(
        self,
        session_id: str,
        *,
        cleaner: Callable[[], Cleaner],
        say: Callable[[str], None],
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.session_id = session_id
        self._cleaner = cleaner
        self._say = say
        self._now_ms = now_ms
        self._seq = 0
        self._lock = threading.Lock()  # what has a lower number is written first
        self._events: list[Stream] = []
        self._records: list[Stream] = []
        self._handler: logging.Handler | None = None
        self._listeners: list[Callable[[str, Mapping[str, Any]], None]] = []

    def emit(self, kind: str, /, **fields: Any) -> None:
        """Tell that something happened; see `domain.telling.Emit`."""
        at = _iso(self._now_ms())
        with self._lock:
            self._seq += 1
            line = {"seq": self._seq, "at": at, "session": self.session_id, "kind": kind, **fields}
            for stream in self._events:
                stream.put(line)
        for heard in self._listeners:
            heard(kind, fields)

    def listen(self, heard: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Call this with each event too, in the thread in which it happens."""
        self._listeners.append(heard)

    def write_events(self, fd: int, shown: str) -> None:
        """Write each event to an open file."""
        self._events.append(Stream(fd, shown, cleaner=self._cleaner(), say=self._say))

    def write_log(self, fd: int, shown: str) -> None:
        """Write each event, and each record of batchgen's own loggers, to an open file."""
        stream = Stream(fd, shown, cleaner=self._cleaner(), say=self._say)
        self._events.append(stream)
        self._records.append(stream)
        self._handler = _Records(self._record)
        own = logging.getLogger("batchgen")
        own.addHandler(self._handler)
        own.setLevel(logging.DEBUG)  # what goes to stderr is decided there

    def _record(self, record: logging.LogRecord) -> None:
        line = {
            "at": _iso(int(record.created * 1000)),
            "session": self.session_id,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        for stream in self._records:
            stream.put(line)

    def record_error(self, error: BaseException) -> None:
        """Write to the log with which error the program ends; others show it to the user."""
        said = (type(error), error, error.__traceback__)
        self._record(
            logging.LogRecord(
                __name__, logging.ERROR, "", 0, "the run ends with %r", (error,), said
            )
        )

    def close(self) -> None:
        """Write what is left; whatever is told later is lost."""
        if self._handler is not None:
            own = logging.getLogger("batchgen")
            own.removeHandler(self._handler)
            own.setLevel(logging.NOTSET)
            self._handler = None
        with self._lock:
            streams, self._events, self._records = self._events, [], []
        for stream in streams:
            stream.close()


class _Records(logging.Handler):
    """Hands each record on."""

    def __init__(self, take: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(logging.DEBUG)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._take(record)
        except Exception:  # noqa: BLE001 - as every handler: a record never harms the program
            self.handleError(record)


def _iso(ms: int) -> str:
    return f"{_second(ms // 1000)}.{ms % 1000:03}Z"


@lru_cache(maxsize=4)  # a busy second has hundreds of lines
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
