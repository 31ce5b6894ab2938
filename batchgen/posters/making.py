"""Have posters made: from the cache, else by children that decode, several at once."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import batchgen
from batchgen.posters.cache import Cache

LONGEST = 320
"""The longer side of a poster, in pixels."""

_DEADLINE_S = 10.0  # for one clip
_START_S = 60.0  # for a child to be ready, on a machine that has much to do
_MOST_BYTES = 256 * 1024  # of one poster; those of this size take about 10 KB
_HEAD_BYTES = 4096
_CHILDREN = 4
# `-P` keeps the current folder, which may hold a file of any name, off the child's path.
_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); import batchgen.posters.frames as f; f.main()"
)


@dataclass(frozen=True)
class Source:
    """A clip on disk, as the job database knows it."""

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Poster:
    """A small picture of a clip, and what is known of the clip since it was opened."""

    webp: bytes
    width: int
    height: int
    duration_s: float | None


def are_possible() -> bool:
    """Return whether PyAV is installed (the extra `media`)."""
    return find_spec("av") is not None


def make(
    sources: Iterable[Source], cache: Cache, *, deadline_s: float = _DEADLINE_S
) -> Iterator[Poster | None]:
    """Yield a poster for each clip, in their order; None for one that shows nothing.

    A clip that is broken, gone, or takes longer than `deadline_s` has none; that is no error.
    """
    decoders: SimpleQueue[Decoder] = SimpleQueue()
    made = [
        Decoder(deadline_s=deadline_s) for _ in range(max(1, min(_CHILDREN, os.cpu_count() or 1)))
    ]
    for decoder in made:
        decoders.put(decoder)

    def one(source: Source) -> Poster | None:
        try:
            is_as_known = source.path.stat().st_size == source.size_bytes
        except OSError:
            return None
        digest = source.sha256 if is_as_known else ""
        found = cache.get(digest, LONGEST)
        if found is None:
            decoder = decoders.get()
            try:
                found = decoder.ask(source.path)
            finally:
                decoders.put(decoder)
            if found is None:
                return None
            cache.put(digest, LONGEST, *found)
        return _poster(*found)

    try:
        with ThreadPoolExecutor(len(made)) as pool:
            yield from pool.map(one, sources)
    finally:
        for decoder in made:
            decoder.end()


def _poster(facts: dict[str, Any], data: bytes) -> Poster | None:
    width, height, duration_s = (facts.get(name) for name in ("width", "height", "duration_s"))
    if not (data and isinstance(width, int) and isinstance(height, int)):
        return None
    return Poster(data, width, height, float(duration_s) if duration_s else None)


class Decoder:
    """A child that decodes one clip after the other; started when it is first needed."""

    def __init__(self, *, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._child: subprocess.Popen[bytes] | None = None
        self._started = False

    def ask(self, path: Path) -> tuple[dict[str, Any], bytes] | None:
        """Return facts of a clip and its picture, None if it has none."""
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", _CHILD, str(Path(batchgen.__file__).parents[1])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
            self._started = False
        assert self._child.stdin is not None
        asked = json.dumps({"path": str(path.absolute()), "longest": LONGEST})
        try:
            if not self._started:
                self._line(time.monotonic() + _START_S)
                self._started = True
            self._child.stdin.write(asked.encode() + b"\n")
            facts, data = self._answer(time.monotonic() + self._deadline_s)
        except (OSError, ValueError):  # it died, or is out of time: the next clip gets another
            self.end()
            return None
        return (facts, data) if data else None

    def _answer(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        head, data = self._line(deadline)
        facts = json.loads(head)
        size_bytes = facts.get("bytes") if isinstance(facts, dict) else None
        if not isinstance(size_bytes, int) or not 0 <= size_bytes <= _MOST_BYTES:
            raise ValueError("no answer of ours, or too large")
        while len(data) < size_bytes:
            data += self._read(deadline)
        return facts, data

    def _line(self, deadline: float) -> tuple[bytes, bytes]:
        """Return a line, and what has come after it."""
        received = b""
        while b"\n" not in received:
            received += self._read(deadline)
            if len(received) > _HEAD_BYTES + _MOST_BYTES:
                raise ValueError("no end of the line")
        head, _, rest = received.partition(b"\n")
        return head, rest

    def _read(self, deadline: float) -> bytes:
        assert self._child is not None
        assert self._child.stdout is not None
        fd = self._child.stdout.fileno()
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        found = os.read(fd, 65_536) if ready else b""
        if not found:
            raise ValueError("it ended, or is out of time")
        return found

    def end(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()
