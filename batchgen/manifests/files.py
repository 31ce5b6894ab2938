"""Opening a manifest's file: what it must be, in which encoding, and read as often as wanted.

Every format opens its file here: what can be read only once (standard input, a pipe) has been
copied to a temporary file without a name, which is gone when the command ends, however it ends.
"""

import codecs
import io
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from batchgen.domain.errors import Fault, ManifestError, UsageError

STDIN = "stdin"
"""How messages call standard input; as a file's name it would need a suffix."""

_OF_STDIN = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})
_ADVICE = "save it as UTF-8 (in Excel: “CSV UTF-8”)"
_HEAD_BYTES = 4096
_BLOCK_BYTES = 1024**2
_SHEET = re.compile(r"(.+\.[^./\[\]]+)\[([^\[\]]+)\]")
_KINDS = {
    b"%PDF-": "a PDF",
    b"\x89PNG": "an image (PNG)",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"GIF87a": "an image (GIF)",
    b"GIF89a": "an image (GIF)",
    b"RIFF": "an image or a sound",
    b"\x1f\x8b": "compressed (gzip)",
    b"7z\xbc\xaf": "an archive (7z)",
    b"Rar!\x1a": "an archive (RAR)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"SQLite format 3\0": "a database (SQLite)",
    b"PAR1": "a table in Parquet",
    b"{\\rtf": "a text document (RTF)",
}
"""What files begin with that are named as a manifest now and then."""

_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class _Spooled(io.RawIOBase):
    """One reading of a temporary file that others read too: it has a position of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        ends = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: _size(self._file)}
        self._at = max(0, ends[whence] + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = os.pread(self._file.fileno(), len(buffer), self._at)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


_spools: dict[str, BinaryIO] = {}


def named(path: str) -> str:
    """Return a manifest as messages name it: as the user wrote it, but `stdin` for `-`."""
    return STDIN if path == "-" else path


def without_sheet(path: str) -> tuple[str, str | None]:
    """Return the file of `jobs.xlsx[Sheet name]`, and the sheet if one is named."""
    found = _SHEET.fullmatch(path)
    return (found[1], found[2]) if found and not Path(path).exists() else (path, None)


@contextmanager
def spooled(paths: Iterable[str]) -> Iterator[None]:
    """Keep what can be read only once for as long as this lasts: standard input, pipes.

    Raises:
        UsageError: If one of them is named twice.
        ManifestError: If it cannot be read or kept.
    """
    once = [path for path, _ in map(without_sheet, paths) if _is_read_once(path)]
    keys = [STDIN if path in _OF_STDIN else path for path in once]
    twice = next((path for path, key in zip(once, keys, strict=True) if keys.count(key) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} can be read only once: name it once")
    with ExitStack() as stack:
        for path in once:
            name = named(path)
            _spools[name] = stack.enter_context(_spool(path))
            stack.callback(_spools.pop, name)
        yield


def is_spooled(path: str) -> bool:
    """Return whether a manifest is kept by `spooled`."""
    return path in _spools


def stamp(path: str) -> tuple[int, int, int]:
    """Return what tells one version of a file from the next; its size in bytes is the second.

    Raises:
        ManifestError: If it is not a readable, regular file with something in it.
    """
    try:
        status = os.fstat(_spools[path].fileno()) if path in _spools else _status(path)
    except FileNotFoundError:
        raise _refused(path, "no such file: check the name, and the folder you are in") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _refused(path, f"cannot be read: {reason}") from None
    if stat.S_ISDIR(status.st_mode):
        raise _refused(path, "is a folder: name the manifest file in it")
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "is not a regular file: it is read twice, so save it to a file first")
    if status.st_size == 0:
        raise _refused(path, "is empty: it needs at least one job")
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def open_bytes(path: str) -> BinaryIO:
    """Open a manifest from its start.

    Raises:
        ManifestError: If it cannot be read.
    """
    if path in _spools:
        return io.BufferedReader(_Spooled(_spools[path]), _BLOCK_BYTES)
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None


def open_text(path: str, *, newline: str | None = "") -> TextIO:
    """Open a manifest as text, line ends as they are unless `newline` is None.

    Raises:
        ManifestError: If it is no text in UTF-8 or UTF-16 from its first bytes on.
    """
    encoding = encoding_of(path)
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, newline=newline)


def line_ends(text: str, *, after_return: bool = False) -> int:
    """Return how many lines end in a text: with LF, CRLF or CR.

    Args:
        text: A part of a file.
        after_return: A CR stands before it, so that a LF at its start ends no other line.
    """
    count = text.count("\n")
    if "\r" in text:
        count += text.count("\r") - text.count("\r\n")
    return count - 1 if after_return and text.startswith("\n") else count


def encoding_of(path: str) -> str:
    """Return the encoding of a text by its first bytes: UTF-16 if they show it, else UTF-8.

    Raises:
        ManifestError: If they cannot be text, or cannot be read.
    """
    head = head_of(path)
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        message = "is a spreadsheet or an archive, not text: export it as CSV, or name it .xlsx"
        raise _refused(path, message)
    what = _kind_of(head)
    if what:
        message = f"is {what}, not text: save the manifest as CSV, JSON Lines, YAML or .xlsx"
        raise _refused(path, message)
    if head.startswith(_MARKS):
        return "utf-16"
    # Every other byte of Latin text in UTF-16 without a mark is zero.
    if re.match(rb"(?:[^\0]\0){4}", head):
        return "utf-16-le"
    return "utf-16-be" if re.match(rb"(?:\0[^\0]){4}", head) else "utf-8-sig"


def is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a text."""
    if head.startswith(_MARKS):
        return True
    if b"\0" in head or _kind_of(head):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _kind_of(head: bytes) -> str | None:
    found = (what for start, what in _KINDS.items() if head.startswith(start))
    return next(found, "a video or a photo" if head[4:8] == b"ftyp" else None)


def head_of(path: str, *, size: int = _HEAD_BYTES) -> bytes:
    """Return the first bytes of a manifest.

    Raises:
        ManifestError: If they cannot be read.
    """
    with open_bytes(path) as file:
        try:
            return file.read(size)
        except OSError as error:
            raise _refused(path, f"cannot be read: {error.strerror}") from None


def undecodable(path: str) -> ManifestError:
    """Return the fault of a file that turned out not to be in its encoding, with its line."""
    encoding = encoding_of(path)
    decoder = codecs.getincrementaldecoder(encoding)()
    line, after_return = 1, False
    with open_bytes(path) as file:
        block = b"more"
        while block:
            block = file.read(_BLOCK_BYTES)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                before = error.object[: error.start].decode(encoding, "replace")
                line += line_ends(before, after_return=after_return)
                return ManifestError([Fault(path, line, "", _not_text(error))])
            line += line_ends(text, after_return=after_return)
            after_return = text.endswith("\r") if text else after_return
    return changed(path)


def changed(path: str) -> ManifestError:
    """Return the fault of a file that was written to between two readings."""
    return _refused(path, "changed while it was read: run the command again")


def _not_text(error: UnicodeDecodeError) -> str:
    if error.encoding.startswith("utf-16"):
        return f"is not UTF-16, as it begins: it may be cut off; {_ADVICE}"
    byte = error.object[error.start]
    hint = f"byte 0x{byte:02x}; it may be Latin-1 or Windows-1252"
    return f"is not UTF-8 ({hint}): {_ADVICE}"


def _is_read_once(path: str) -> bool:
    # Opened anew, a file under /dev/fd goes on where it is on some systems.
    if path == "-" or path.startswith(("/dev/", "/proc/")):
        return True
    try:
        return stat.S_ISFIFO(_status(path).st_mode)
    except (OSError, ValueError):
        return False  # the format says what is wrong


@contextmanager
def _spool(path: str) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as kept:
        for block in _blocks(path):
            try:
                kept.write(block)
                kept.flush()
            except OSError as error:
                message = f"cannot be copied to {tempfile.gettempdir()}: {error.strerror}"
                raise _refused(named(path), message) from None
        yield kept


def _blocks(path: str) -> Iterator[bytes]:
    try:
        if path == "-":
            yield from _standard_input()
            return
        mode = _status(path).st_mode
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or _is_terminal_or_null(path, mode):
            with Path(path).open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    yield block
            return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _refused(named(path), f"cannot be read: {reason}") from None
    raise _refused(path, "is not a regular file: save the manifest to a file first")


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:
        raise _refused(STDIN, "is closed: pipe a manifest into it, or name a file")
    # It is not ours to close: a question may be answered on it later.
    binary = getattr(sys.stdin, "buffer", None)
    while block := binary.read(_BLOCK_BYTES) if binary else sys.stdin.read(_BLOCK_BYTES).encode():
        yield block


def _is_terminal_or_null(path: str, mode: int) -> bool:
    # A disk or a source of noise never ends.
    if not stat.S_ISCHR(mode):
        return False
    with Path(path).open("rb") as file:
        return file.isatty() or os.fstat(file.fileno()).st_rdev == _status(os.devnull).st_rdev


def _status(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 - the path is shown as the user wrote it


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _refused(path: str, message: str) -> ManifestError:
    return ManifestError([Fault(path, 0, "", message)])
