"""JSON Lines: an object a line, read lazily, so that a million lines need no memory.

Its columns are the keys of all objects: opening the file reads it once to find them. A key
that the lines before do not have comes behind the one that it stands behind in its own line,
so that the columns of an export, whose lines leave out what they lack, keep their order.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, NoReturn

from batchgen.domain.columns import RESULT_COLUMNS, RESULT_DETAILS, RESULT_KEY
from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import files
from batchgen.manifests.interface import NOTHING, Row, Source
from batchgen.manifests.values import shown

LONGEST_LINE = 16 * 1024**2
"""Bytes: what is no table must not fill the memory."""

MOST_COLUMNS = 16_384
MAX_DEPTH = 64


def read(path: str) -> Source:
    """Open a table of JSON objects.

    Raises:
        ManifestError: If it is not text in UTF-8 or UTF-16, or has no end of columns. What is
            wrong with a line is in its row.
    """
    table = _Table(path)
    return Source(
        path=path,
        stem=PurePath(path).stem,
        read_rows=table.rows,
        is_table=True,
        columns=table.columns,
        has_result_keys=table.is_export,
        read_results=table.results if table.is_export else None,
    )


class _Table:
    def __init__(self, path: str) -> None:
        self.path = path
        self.stamp = files.stamp(path)
        names = self._names()
        self.is_export = RESULT_KEY in names
        results = {*RESULT_COLUMNS, *([RESULT_DETAILS] if self.is_export else [])}
        self.ignored = results.intersection(names)
        self.columns = tuple(name for name in names if name not in self.ignored)

    def rows(self) -> Iterator[Row]:
        if files.stamp(self.path) != self.stamp:
            raise files.changed(self.path)
        ignored = self.ignored
        sound: set[str] = set()
        for line, text in self._lines():
            found = _parsed(text, sound)
            if isinstance(found, str):
                yield Row(line, NOTHING, faults=(Fault(self.path, line, "", found),))
                continue
            get = found.get
            key = get(RESULT_KEY)
            yield Row(
                line,
                {name: found[name] for name in found if name not in ignored} if ignored else found,
                _given(get("id")),
                _given(get("model")),
                _given(get("seeds")),
                _given(get("repeat")),
                None if key is None else str(key).strip() or None,
            )

    def results(self) -> Iterator[Mapping[str, Any]]:
        if files.stamp(self.path) != self.stamp:
            raise files.changed(self.path)
        sound: set[str] = set()
        for _, text in self._lines():
            found = _parsed(text, sound)
            said = {} if isinstance(found, str) else found
            yield {name: said[name] for name in said if name in self.ignored}

    def _names(self) -> list[str]:
        """Return all keys, whatever else is wrong with their lines: their rows will say it."""
        names: list[str] = []
        known: set[str] = set()
        for line, text in self._lines():
            if not names and text.startswith("["):
                message = f"is a JSON array, not JSON Lines: {_ADVICE} (jq -c '.[]' does it)"
                raise ManifestError([Fault(self.path, line, "", message)])
            try:
                found = _DECODER.raw_decode(text)[0]
            except (ValueError, RecursionError):
                continue
            if not isinstance(found, dict) or found.keys() <= known:
                continue
            at = 0
            for name in found:
                if name in known:
                    at = names.index(name) + 1
                    continue
                names.insert(at, name)
                known.add(name)
                at += 1
            if len(names) > MOST_COLUMNS:
                message = f"there are more than {MOST_COLUMNS:,} different keys: is this a table?"
                raise ManifestError([Fault(self.path, line, "", message)])
        return names

    def _lines(self) -> Iterator[tuple[int, str]]:
        with files.open_text(self.path, newline=None) as file:
            line = 0
            try:
                while text := file.readline(LONGEST_LINE):
                    line += 1
                    if len(text) == LONGEST_LINE:
                        message = (
                            f"the line has {LONGEST_LINE:,} characters or more: put each object "
                            "on a line of its own"
                        )
                        raise ManifestError([Fault(self.path, line, "", message)])
                    text = text.strip()
                    if text:
                        yield line, text
            except UnicodeError:
                raise files.undecodable(self.path) from None


class _NotTaken(ValueError):
    """What is JSON to Python, but no value for a manifest."""


def _parsed(text: str, sound: set[str]) -> dict[str, Any] | str:
    """Return a line's object, or what is wrong with it; `sound` are names known to be right."""
    try:
        found = _decoded(text)
    except RecursionError:
        return _TOO_DEEP
    except json.JSONDecodeError as error:
        return f"is not valid JSON (character {error.colno}: {error.msg}): {_ADVICE}"
    except _NotTaken as error:
        return str(error)
    except ValueError:  # Python's own bound on the digits of an integer
        return "has a number of thousands of digits: write it as text"
    if not isinstance(found, dict):
        return f"{shown(found)} is not an object: {_ADVICE}"
    if not found.keys() <= sound:
        problem = next(filter(None, map(_name_problem, found)), None)
        if problem:
            return problem
        sound.update(found)
    # A backslash is rare, and so are many brackets: most lines need no second look.
    if "\\u" in text and not _is_text(found):
        return "contains a NUL or half a character (\\u0000, \\ud800): remove it"
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(found) > MAX_DEPTH:
        return _TOO_DEEP
    return found


_ADVICE = 'write one object a line, such as {"id": "a", "prompt": "…"}'


_TOO_DEEP = f"is nested more than {MAX_DEPTH} deep: simplify it"


def _decoded(text: str) -> Any:
    found, end = _DECODER.raw_decode(text)
    if end < len(text):
        raise json.JSONDecodeError("more follows", text, end)
    # A flat object has as many colons behind quotes as keys, unless a key is there twice: only
    # lines where this does not show are looked at pair by pair.
    is_flat = isinstance(found, dict) and text.count('":') == len(found)
    return found if is_flat and not _SPACED.search(text) else _CAREFUL.raw_decode(text)[0]


def _name_problem(name: str) -> str | None:
    if not name.strip():
        return "a key has no name: name it"
    if name != name.strip():
        return f"the key {json.dumps(name, ensure_ascii=False)} has spaces around it: rename it"
    return None


def _is_text(value: Any) -> bool:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return "\\u0000" not in text.replace("\\\\", "")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner = [part.values() if isinstance(part, dict) else part for part in level]
        level = [part for parts in inner for part in parts if isinstance(part, dict | list)]
    return depth


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotTaken(f"the key {shown(twice)} is there twice: remove one")
    return found


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _NotTaken(f"{shown(text)} is too large a number: write it as text")
    return value


def _refuse(name: str) -> NoReturn:
    raise _NotTaken(f"{name} is not JSON: write null, or leave the key out")


def _given(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip() or None
    return value


_SPACED = re.compile(r'"[ \t]:')
_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_refuse)
_CAREFUL = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_constant=_refuse)
