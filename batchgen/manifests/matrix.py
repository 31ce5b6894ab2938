"""From `matrix`, `zip`, `exclude` and `include` to an ordered list of combinations of variables.

Every list of `matrix` is an axis, and all lists of `zip` together are one more, the last. The
combinations are the product of the axes, the last varying fastest, without those that an entry
of `exclude` matches. An entry of `include` that has further names adds them to each combination
it matches; one that matches none, or names exactly the axes, is one more combination at the end.

Combinations are counted without making them, and made one by one.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from batchgen.domain.spelling import suggestion
from batchgen.manifests.positions import Node
from batchgen.manifests.templates import variable_problem
from batchgen.manifests.values import shown

KEYS = ("matrix", "zip", "exclude", "include")
"""The keys of a job that are read here."""

Assignment = Mapping[str, Any]
Report = Callable[[int, str, str], None]
Value = Callable[[Node, str], Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """Variables that vary together.

    Attributes:
        names: One, or all of `zip`.
        line: Where the first of them stands.
        steps: Their values, one assignment after the other.
        marks: The same as texts that are equal only if the values are.
    """

    names: tuple[str, ...]
    line: int
    steps: tuple[Assignment, ...]
    marks: tuple[Mapping[str, str], ...]
    _indexes: dict[tuple[str, ...], set[tuple[str, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def has(self, wanted: Mapping[str, str]) -> bool:
        """Return whether one of the steps has all these values."""
        names = tuple(wanted)
        if names not in self._indexes:
            self._indexes[names] = {tuple(marks[name] for name in names) for marks in self.marks}
        return tuple(wanted.values()) in self._indexes[names]


class _Lookup:
    """Finds which of many partial assignments a combination matches, without trying each."""

    def __init__(self, numbered: Iterable[tuple[int, Mapping[str, str]]]) -> None:
        self._groups: dict[tuple[str, ...], dict[tuple[str, ...], list[int]]] = {}
        for number, marks in numbered:
            names = tuple(sorted(marks))
            group = self._groups.setdefault(names, {})
            group.setdefault(tuple(marks[name] for name in names), []).append(number)

    def matching(self, marks: Mapping[str, str]) -> list[int]:
        found: list[int] = []
        for names, group in self._groups.items():
            found += group.get(tuple(marks[name] for name in names), ())
        return sorted(found)


@dataclass(frozen=True)
class Matrix:
    """What an entry asks for, without faults.

    Attributes:
        line: Where `matrix` or `zip` stands.
        key: Which of them it is.
        axes: At least one.
        excludes: Partial assignments.
        includes: Assignments.
    """

    line: int
    key: str
    axes: tuple[Axis, ...]
    excludes: tuple[Assignment, ...] = ()
    includes: tuple[Assignment, ...] = ()
    _excluded: _Lookup = field(init=False, repr=False, compare=False)
    _extending: _Lookup = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = set(self.axis_names)
        extending = [
            (number, _marks(include, names))
            for number, include in enumerate(self.includes)
            if not include.keys() <= names
        ]
        # Frozen, but these two follow from the rest.
        object.__setattr__(self, "_extending", _Lookup(extending))
        object.__setattr__(self, "_excluded", _Lookup(enumerate(map(_marks, self.excludes))))

    @property
    def axis_names(self) -> tuple[str, ...]:
        """The variables that every product has."""
        return tuple(name for axis in self.axes for name in axis.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Every variable that some combination has."""
        further = [name for include in self.includes for name in include]
        return tuple(dict.fromkeys([*self.axis_names, *further]))

    @property
    def most(self) -> int:
        """How many combinations there are at most: `exclude` may take some away."""
        return math.prod(len(axis.steps) for axis in self.axes) + len(self.includes)

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Make the combinations one by one, always in the same order."""
        matched: set[int] = set()
        paired = [tuple(zip(axis.steps, axis.marks, strict=True)) for axis in self.axes]
        for steps in product(*paired):
            values: dict[str, Any] = {}
            marks: dict[str, str] = {}
            for assignment, texts in steps:
                values.update(assignment)
                marks.update(texts)
            if self._excluded.matching(marks):
                continue
            for number in self._extending.matching(marks):
                matched.add(number)
                values.update(self.includes[number])
            yield values
        yield from self._added(matched)

    def _added(self, matched: set[int]) -> Iterator[dict[str, Any]]:
        names = set(self.axis_names)
        there: set[tuple[tuple[str, str], ...]] = set()
        for number, include in enumerate(self.includes):
            if include.keys() <= names:
                marks = _marks(include)
                known = tuple(sorted(marks.items()))
                if known in there or self._makes(marks):
                    continue
                there.add(known)
                yield dict(include)
            elif number not in matched:
                yield dict(include)

    def _makes(self, marks: Mapping[str, str]) -> bool:
        parts = ({name: marks[name] for name in axis.names} for axis in self.axes)
        in_product = all(axis.has(part) for axis, part in zip(self.axes, parts, strict=True))
        return in_product and not self._excluded.matching(marks)


def parse(entry: Node, *, value: Value, report: Report) -> Matrix | None:
    """Read the matrix of an entry; None if it has none, or a faulty one.

    Args:
        entry: The entry, a mapping.
        value: Returns what a node stands for, told what to call it.
        report: Takes every fault: line, name, message.
    """
    return _Parser(entry, value, report).matrix()


class _List(NamedTuple):
    line: int
    values: Any  # a list, if nothing is wrong
    lines: list[int]


class _Parser:
    def __init__(self, entry: Node, value: Value, report: Report) -> None:
        self.entry = entry
        self.value = value
        self.tell = report
        self.faults = 0

    def report(self, line: int, name: str, message: str) -> None:
        self.faults += 1
        self.tell(line, name, message)

    def matrix(self) -> Matrix | None:
        if not any(key in self.entry.value for key in KEYS):
            return None
        axes = self._axes()
        if self.faults == 0 and not axes:
            for key in ("exclude", "include"):
                if key in self.entry.value:
                    self._about(key, "needs a `matrix` or `zip` in the same job")
        if self.faults > 0:
            return None
        excludes = tuple(self._exclude(node, axes) for node in self._assignments("exclude"))
        includes = tuple(self._include(node, axes) for node in self._assignments("include"))
        if self.faults > 0:
            return None
        key = "matrix" if self.entry.value.get("matrix") else "zip"
        return Matrix(self.entry.key_lines[key], key, tuple(axes), excludes, includes)

    def _axes(self) -> list[Axis]:
        lists = self._lists("matrix")
        zipped = self._lists("zip")
        for name, node in zipped.items():
            if name in lists:
                self.report(node.line, name, "is in `matrix` and in `zip`: rename one")
        axes = [self._axis([name], {name: node}) for name, node in lists.items()]
        lengths = {name: len(node.values) for name, node in zipped.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"`{name}` has {length}" for name, length in lengths.items())
            self._about("zip", f"its lists differ in length ({told}): they go side by side")
        elif zipped:
            axes.append(self._axis(list(zipped), zipped))
        return axes

    def _lists(self, key: str) -> dict[str, _List]:
        node = self.entry.value.get(key)
        if node is None:
            return {}
        if not isinstance(node.value, dict) or not node.value:
            self._about(key, "must be a mapping of names to lists, such as {subject: [fox, heron]}")
            return {}
        lists = {}
        for name, values in node.value.items():
            line = node.key_lines[name]
            problem = variable_problem(name)
            if problem:
                self.report(line, name, problem)
            found = self._list(values, name, line)
            if not isinstance(found.values, list):
                self.report(line, name, "must be a list of values: write [ ] around them")
            elif not found.values:
                self.report(line, name, "the list is empty: give it a value, or take it out")
            else:
                lists[name] = found
        return lists

    def _list(self, node: Node, name: str, line: int) -> _List:
        if isinstance(node.value, list):
            values = [self.value(part, name) for part in node.value]
            return _List(line, values, [part.line for part in node.value])
        # It may be a variable of `vars` that holds a list.
        whole = self.value(node, name) if isinstance(node.value, str) else None
        return _List(line, whole, [line] * (len(whole) if isinstance(whole, list) else 0))

    def _axis(self, names: list[str], lists: Mapping[str, _List]) -> Axis:
        steps: list[Assignment] = []
        marks: list[Mapping[str, str]] = []
        first = lists[names[0]]
        seen: set[str] = set()
        rows = zip(*(lists[name].values for name in names), strict=True)
        for line, values in zip(first.lines, rows, strict=True):
            step = dict(zip(names, values, strict=True))
            mark = _marks(step)
            text = json.dumps(mark)
            if text in seen:
                what = ", ".join(shown(value) for value in step.values())
                message = f"{what} is there twice: remove one, or use `repeat` for several takes"
                self.report(line, ", ".join(names), message)
            seen.add(text)
            steps.append(step)
            marks.append(mark)
        return Axis(tuple(names), first.line, tuple(steps), tuple(marks))

    def _assignments(self, key: str) -> list[Node]:
        node = self.entry.value.get(key)
        if node is None or node.value is None:
            return []
        kept = node.value if isinstance(node.value, list) else [node]
        if not isinstance(node.value, list) or not all(
            isinstance(part.value, dict) and part.value for part in kept
        ):
            self._about(key, "must be a list of mappings, such as [{subject: fox}]")
            return []
        return list(kept)

    def _exclude(self, node: Node, axes: list[Axis]) -> Assignment:
        names = [name for axis in axes for name in axis.names]
        values = {}
        for name, part in node.value.items():
            if name in names:
                values[name] = self.value(part, name)
            else:
                message = f"there is no such variable: {suggestion(name, names)}"
                message += f"there are {', '.join(names)}"
                self.report(node.key_lines[name], "exclude", f"{name}: {message}")
        for axis in axes:
            self._look_for(values, axis, node)
        return values

    def _look_for(self, wanted: Assignment, axis: Axis, node: Node) -> None:
        own = {name: wanted[name] for name in axis.names if name in wanted}
        for name, value in own.items():
            if not axis.has(_marks({name: value})):
                there = [shown(step[name]) for step in axis.steps]
                hint = suggestion(str(value), [str(step[name]) for step in axis.steps])
                few = ", ".join(there[:10]) + (", …" if len(there) > 10 else "")
                message = f"{name}: {shown(value)} is none of its values: {hint}there are {few}"
                self.report(node.key_lines[name], "exclude", message)
                return
        if own and not axis.has(_marks(own)):
            told = " and ".join(f"{name} {shown(value)}" for name, value in own.items())
            self.report(node.line, "exclude", f"{told} never come together in `zip`")

    def _include(self, node: Node, axes: list[Axis]) -> Assignment:
        names = [name for axis in axes for name in axis.names]
        values = {}
        for name, part in node.value.items():
            line = node.key_lines[name]
            problem = variable_problem(name)
            if problem:
                self.report(line, "include", f"{name}: {problem}")
            values[name] = self.value(part, name)
        missing = [name for name in names if name not in values]
        if missing and values.keys() <= set(names):
            message = (
                f"lacks {', '.join(missing)}: a combination of its own needs all variables, and "
                "to extend others an entry needs a further one"
            )
            self.report(node.line, "include", message)
        return values

    def _about(self, key: str, message: str) -> None:
        self.report(self.entry.key_lines[key], key, message)


def _marks(values: Assignment, names: Iterable[str] | None = None) -> dict[str, str]:
    return {
        name: json.dumps(value, sort_keys=True)
        for name, value in values.items()
        if names is None or name in names
    }
