"""Rows that were checked, kept in a temporary file until they are stored.

It has no name, so nothing is left behind whatever ends the process. What is small stays in
memory.
"""

import errno
import marshal
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

from batchgen.domain.errors import OutputError

IN_MEMORY_BYTES = 8 * 1024**2


class Spool:
    """Chunks of plain values, written once and read as often as wanted."""

    def __init__(self, *, in_memory_bytes: int = IN_MEMORY_BYTES) -> None:
        self._in_memory_bytes = in_memory_bytes
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._ends = array("q")
        self._closed = False

    def append(self, chunk: Any) -> None:
        """Write a chunk behind the others.

        Raises:
            OutputError: If the temporary folder is full or cannot be written to.
        """
        # Read back by the same process only, so the fastest form that Python has will do.
        content = marshal.dumps(chunk)
        self._chunks.append(content)
        self._bytes += len(content)
        if self._file is not None or self._bytes > self._in_memory_bytes:
            self._flush()

    def chunks(self) -> Iterator[Any]:
        """Read the chunks from the first; several readings may go on at once.

        Raises:
            OutputError: If the temporary file cannot be read.
        """
        self._refuse_if_closed()
        start = 0
        for end in self._ends:
            yield marshal.loads(self._read(start, end))
            start = end
        for content in self._chunks:
            self._refuse_if_closed()
            yield marshal.loads(content)

    def close(self) -> None:
        """Free the file and the memory."""
        self._closed = True
        self._chunks = []
        if self._file is not None:
            self._file.close()

    def _flush(self) -> None:
        try:
            if self._file is None:
                # Without a buffer: on a full disk, closing must not fail once more.
                self._file = tempfile.TemporaryFile(buffering=0, prefix="batchgen-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            for content in self._chunks:
                rest = memoryview(content)
                while rest:
                    rest = rest[self._file.write(rest) :]
                self._ends.append((self._ends[-1] if self._ends else 0) + len(content))
        except OSError as error:
            raise _refused(error) from None
        self._chunks = []

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ValueError("the spool is closed")

    def _read(self, start: int, end: int) -> bytes:
        if self._file is None or self._closed:
            raise ValueError("the spool is closed")
        try:
            # Not `read`: two readings would share one position.
            content = os.pread(self._file.fileno(), end - start, start)
        except OSError as error:
            raise _refused(error) from None
        if len(content) < end - start:
            raise _refused(OSError(errno.EIO, os.strerror(errno.EIO)))
        return content


def _refused(error: OSError) -> OutputError:
    folder = "there is none"
    with suppress(OSError):
        folder = tempfile.gettempdir()
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = "is full" if is_full else f"cannot be used ({error.strerror or error})"
    return OutputError(
        f"the temporary folder ({folder}) {what}: checked rows are kept there until they are "
        f"stored. {'Free some space' if is_full else 'Make it writable'}, or name another folder "
        "with the environment variable TMPDIR. Nothing was stored or spent"
    )
