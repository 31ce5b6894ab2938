"""YAML with positions and without surprises: every value knows its line.

PyYAML's parser gives the events; what they mean is decided here. Only what looks the same in
JSON gets a type: `true`, `false`, `null`, `~`, plain integers and plain decimals. `no`, `007`,
`12:30`, `1_000` and dates stay the text they are. Keys are always text, duplicate keys are
faults, and what aliases add up to is bounded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from batchgen.domain.errors import Fault, ManifestError

MAX_DEPTH = 64
MAX_ALIASED = 1_000_000
"""Values that aliases may stand for in one file, together."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster where it exists
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?")
UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # YAML 1.1, 5.1
)
_ADVICE = (
    "check this line and the one above: indent with spaces, not tabs, and quote text that holds "
    "`: `, `#`, `{`, `[` or quotes"
)
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(slots=True)
class Node:
    """A value and where it stands.

    Attributes:
        value: A scalar, a list of nodes, or a dict of nodes by key.
        line: 1-based line of its beginning.
        key_lines: Of a dict, the lines of its keys.
        weight: How many values it holds, itself and aliases included.
    """

    value: Any
    line: int
    key_lines: dict[str, int] = field(default_factory=dict)
    weight: int = 1

    def plain(self) -> Any:
        """Return the value as plain Python, without positions."""
        if isinstance(self.value, list):
            return [part.plain() for part in self.value]
        if isinstance(self.value, dict):
            return {key: part.plain() for key, part in self.value.items()}
        return self.value


@dataclass(slots=True)
class _Frame:
    node: Node
    anchor: str | None
    key: str | None = None
    key_line: int = 0
    merging: bool = False
    merged: list[Node] = field(default_factory=list)


def compose(text: str, *, file: str) -> Node | None:
    """Return the one document of a YAML text, None if there is nothing in it.

    Raises:
        ManifestError: With every duplicate key, or the first thing that is not YAML.
    """
    bad = UNPRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise _stopped(file, line, f"contains the character U+{ord(bad[0]):04X}: remove it")
    composer = _Composer(file)
    for event in _events(text, file):
        composer.take(event)
    if composer.faults:
        raise ManifestError(composer.faults)
    return composer.root


def _events(text: str, file: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise _stopped(
            file, line, f"is not valid YAML: {error.problem or error}: {_ADVICE}"
        ) from None
    except yaml.YAMLError as error:
        raise _stopped(file, 0, f"is not valid YAML: {error}: {_ADVICE}") from None


class _Composer:
    def __init__(self, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.root: Node | None = None
        self._frames: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._aliased = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        match event:
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(str(event.anchor), line)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise _stopped(self.file, line, "a second document: put all jobs in one")
            case _:
                pass  # begin and end of stream and document say nothing

    def _scalar(self, event: Any, line: int) -> None:
        plain, tag = event.implicit[0], event.tag
        if tag not in (None, "!", "tag:yaml.org,2002:str"):
            raise _stopped(self.file, line, f"the tag {tag} is not supported: remove it")
        frame = self._frames[-1] if self._frames else None
        if frame and isinstance(frame.node.value, dict) and frame.key is None:
            self._key(frame, event.value, line, merging=plain and event.value == "<<")
            return
        node = Node(_resolved(event.value) if plain and tag is None else event.value, line)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._place(node)

    def _key(self, frame: _Frame, key: str, line: int, *, merging: bool) -> None:
        first = frame.node.key_lines.get(key)
        if first is not None and not merging:
            message = f"duplicate key, first on line {first}: remove one"
            self.faults.append(Fault(self.file, line, key, message))
        frame.key, frame.key_line, frame.merging = key, line, merging

    def _open(self, event: Any, line: int) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"tag:yaml.org,2002:{'map' if is_mapping else 'seq'}"):
            raise _stopped(self.file, line, f"the tag {event.tag} is not supported: remove it")
        if self._expects_key():
            raise _stopped(
                self.file, line, "a key must be text (quote it if it starts with { or [)"
            )
        if len(self._frames) >= MAX_DEPTH:
            raise _stopped(
                self.file, line, f"is nested more than {MAX_DEPTH} levels deep: flatten it"
            )
        self._frames.append(_Frame(Node({} if is_mapping else [], line), event.anchor))

    def _close(self) -> None:
        frame = self._frames.pop()
        if frame.merged:
            _merge(frame)
        if frame.anchor:
            self._anchors[frame.anchor] = frame.node
        self._place(frame.node)

    def _alias(self, anchor: str, line: int) -> None:
        node = self._anchors.get(anchor)
        if node is None:
            raise _stopped(self.file, line, f"the alias *{anchor} has no anchor &{anchor} above it")
        if self._expects_key():
            raise _stopped(self.file, line, "an alias cannot be a key: write the key out")
        self._aliased += node.weight
        if self._aliased > MAX_ALIASED:
            raise _stopped(
                self.file,
                line,
                f"aliases stand for more than {MAX_ALIASED:,} values together: write some out",
            )
        self._place(node)

    def _expects_key(self) -> bool:
        frame = self._frames[-1] if self._frames else None
        return frame is not None and isinstance(frame.node.value, dict) and frame.key is None

    def _place(self, node: Node) -> None:
        if not self._frames:
            self.root = node
            return
        frame = self._frames[-1]
        frame.node.weight += node.weight
        if isinstance(frame.node.value, list):
            frame.node.value.append(node)
            return
        if frame.merging:
            sources = node.value if isinstance(node.value, list) else [node]
            if not all(isinstance(source.value, dict) for source in sources):
                raise _stopped(self.file, frame.key_line, "`<<` merges mappings only")
            frame.merged += sources
        elif frame.key is not None:
            frame.node.value[frame.key] = node
            frame.node.key_lines[frame.key] = frame.key_line
        frame.key = None


def _merge(frame: _Frame) -> None:
    # The mapping's own keys win, then the first source that has one (YAML merge type).
    own, own_lines = frame.node.value, frame.node.key_lines
    values: dict[str, Node] = {}
    lines: dict[str, int] = {}
    for source in frame.merged:
        for key, node in source.value.items():
            values.setdefault(key, node)
            lines.setdefault(key, source.key_lines[key])
    frame.node.value = values | own
    frame.node.key_lines = lines | own_lines


def _resolved(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    # 1.10 may be a version: it gets a type only if it comes back as it was written.
    if _DECIMAL.fullmatch(text) and repr(float(text)) == text:
        return float(text)
    return text


def _stopped(file: str, line: int, message: str) -> ManifestError:
    return ManifestError([Fault(file, line, "", message)])
