"""The logs of sessions: where they lie, read without trust, and told in words.

A log may grow while it is read, end in half a line, or hold what somebody else put there: lines
are bounded, and whatever is no JSON object is said to be none.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from batchgen import settings
from batchgen.cli import common, tables
from batchgen.domain.wording import lasting, usd
from batchgen.store.database import Database

LONGEST_LINE = 1 << 20
"""Bytes of a line that are read; of a longer one nothing is shown but that it is there."""

_LOOKED_THROUGH = 4 << 20  # bytes at the end of a log
_ENDS = {"resumed": "paused", "outage_over": "outage"}
_LONGEST_SHOWN = 4000  # characters of a line for people
_KIND_CELLS = 15
_MOST_LINES = 200  # of a traceback
_TOLD_OTHERWISE = frozenset(
    {"seq", "at", "session", "kind", "level", "logger", "batch", "job", "key", "attempt_id"}
    | {"cost_is_estimate", "spent_is_estimate", "message", "traceback"}
)


@dataclass(frozen=True)
class Line:
    """A line of a log.

    Attributes:
        said: The JSON object that it is; None if it is none.
        fault: What is wrong with it, if it is none.
    """

    said: Mapping[str, Any] | None
    fault: str = ""


def folder_of(database: Database) -> Path | None:
    """Return where the logs of a job database's sessions lie; None if there is no such place."""
    return settings.log_folder(database.path)


def path_of(database: Database, session_id: str) -> Path | None:
    """Return the file of a session's log; None if it is not there."""
    folder = folder_of(database)
    if folder is None:
        return None
    path = folder / f"{session_id}.jsonl"
    return path if path.is_file() else None


class Reader:
    """Reads a log that may still grow.

    Args:
        path: A regular file.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        self._begun = b""
        self._is_too_long = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def skip_to_last(self, size_bytes: int) -> None:
        """Leave out all but about so many bytes at the end."""
        at = self._file.seek(0, 2)
        if at > size_bytes:
            self._file.seek(at - size_bytes)
            self._file.readline(LONGEST_LINE)  # the rest of a line
        else:
            self._file.seek(0)

    def lines(self) -> Iterator[Line]:
        """Yield the whole lines that are there and were not read yet."""
        while part := self._file.readline(LONGEST_LINE):
            if not self._is_too_long:
                self._begun += part
            if part.endswith(b"\n"):
                yield self._taken()
            elif len(self._begun) >= LONGEST_LINE:
                self._begun, self._is_too_long = b"", True

    def rest(self) -> Iterator[Line]:
        """Yield the last line if it was never ended."""
        if self._begun.strip() or self._is_too_long:
            yield self._taken()

    def _taken(self) -> Line:
        text, too_long = self._begun, self._is_too_long
        self._begun, self._is_too_long = b"", False
        if too_long:
            return Line(None, f"a line of more than {LONGEST_LINE:,} bytes is left out")
        try:
            said = json.loads(text.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict):
            return Line(said)
        return Line(None, "a line that is no event is left out: it was cut off, or is not ours")


def read(path: Path) -> Iterator[Line]:
    """Yield the lines of a log as it is now."""
    reader = Reader(path)
    try:
        yield from reader.lines()
        yield from reader.rest()
    finally:
        reader.close()


def hold_ups(path: Path) -> list[str]:
    """Return what keeps a run that lives from submitting, as the end of its log tells."""
    found: dict[str, str] = {}
    reader = Reader(path)
    try:
        reader.skip_to_last(_LOOKED_THROUGH)
        for line in reader.lines():
            said = line.said or {}
            kind, message = str(said.get("kind")), str(said.get("message") or "")
            if kind in ("paused", "outage"):
                found[kind] = message
            elif kind == "held":
                found[f"held {said.get('model')}"] = message
            elif kind in _ENDS:
                found.pop(_ENDS[kind], None)
    finally:
        reader.close()
    return list(found.values())


def in_words(line: Line) -> str:
    """Return a line for people: when, what, about which job, and the rest of it.

    Below it, line by line, where in the program an error came from.
    """
    said = line.said
    if said is None:
        return f"({line.fault})"
    what = tables.one_line(str(said.get("kind") or said.get("level") or "?"))
    job = f"{said.get('batch')}/{said['job']}: " if "job" in said else ""
    head = f"{tables.one_line(_moment(said.get('at')))}  {what:<{_KIND_CELLS}}"
    lines = [f"{head}  {_bounded(job + '; '.join(_details(said)))}".rstrip()]
    traceback = str(said.get("traceback") or "").splitlines()[:_MOST_LINES]
    return "\n".join([*lines, *(f"    {_bounded(line)}" for line in traceback)])


def _bounded(text: str) -> str:
    line = tables.one_line(text)
    return line if len(line) <= _LONGEST_SHOWN else line[:_LONGEST_SHOWN] + "…"


def _moment(at: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(at))
        return tables.local(round(moment.timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        return str(at)


def _details(said: Mapping[str, Any]) -> Iterator[str]:
    if said.get("message"):
        yield str(said["message"])
    for name, value in said.items():
        if name not in _TOLD_OTHERWISE and value not in (None, "", [], {}):
            yield _detail(name, value, said)


def _detail(name: str, value: Any, said: Mapping[str, Any]) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and name.endswith("_usd"):
        stem = name.removesuffix("_usd")
        is_estimate = bool(said.get(f"{stem}_is_estimate"))
        return f"{stem} {usd(round(value * 1_000_000), is_estimate=is_estimate)}"
    if is_number and name.endswith("_s"):
        return f"{name.removesuffix('_s')} {lasting(value)}"
    if isinstance(value, list):
        return ", ".join(common.in_words(part) for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{part} {common.in_words(count)}" for part, count in value.items())
    return f"{name.replace('_', ' ')} {common.in_words(value)}"
