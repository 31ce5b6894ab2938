"""Opening a manifest's file: what it must be before any format is asked."""

import os
import re
import stat
from pathlib import Path

from batchgen.domain.errors import Fault, ManifestError

_ADVICE = "save it as UTF-8 (in Excel: “CSV UTF-8”)"
_HEAD_BYTES = 4096


def stamp(path: str) -> tuple[int, int, int]:
    """Return what tells one version of a file from the next.

    Raises:
        ManifestError: If it is not a readable, regular file with something in it.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - the path is shown as the user wrote it
    except FileNotFoundError:
        raise _refused(path, "no such file: check the name, and the folder you are in") from None
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise _refused(path, "is a folder: name the manifest file in it")
    if not stat.S_ISREG(status.st_mode):
        raise _refused(path, "is not a regular file: it is read twice, so save it to a file first")
    if status.st_size == 0:
        raise _refused(path, "is empty: it needs at least one job")
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def refuse_other_encodings(path: str) -> None:
    """Look at the first bytes of a file.

    Raises:
        ManifestError: If they cannot be UTF-8 text, or cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or _is_utf16(head):
        raise _refused(path, f"is UTF-16, not UTF-8: {_ADVICE}")
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise _refused(path, "is a spreadsheet or an archive, not text: export it as CSV")


def undecodable(path: str) -> ManifestError:
    """Return the fault of a file that turned out not to be UTF-8, with its line."""
    with Path(path).open("rb") as file:
        for line, content in enumerate(file, 1):
            try:
                content.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = content[error.start]
                return ManifestError(
                    [
                        Fault(
                            path,
                            line,
                            "",
                            f"is not UTF-8 (byte 0x{byte:02x}; it may be Latin-1 or "
                            f"Windows-1252): {_ADVICE}",
                        )
                    ]
                )
    return changed(path)


def changed(path: str) -> ManifestError:
    """Return the fault of a file that was written to between two readings."""
    return _refused(path, "changed while it was read: run the command again")


def _is_utf16(head: bytes) -> bool:
    # Every other byte of Latin text in UTF-16 without a mark is zero.
    return bool(re.match(rb"(?:[^\0]\0){4}|(?:\0[^\0]){4}", head))


def _refused(path: str, message: str) -> ManifestError:
    return ManifestError([Fault(path, 0, "", message)])
