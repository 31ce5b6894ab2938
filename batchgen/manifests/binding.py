"""Which column or key is which input of a model, and under which name the others are carried."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from batchgen.domain.columns import RESULT_COLUMNS
from batchgen.domain.models import FRIENDLY, friendly_name
from batchgen.domain.spelling import fold, nearly, suggestion
from batchgen.manifests.interface import ENTRY_WORDS, ROW_WORDS, Row
from batchgen.manifests.schemas import Path
from batchgen.manifests.values import AS_IT_IS, Convert, Form, is_blank, unknown_cell

INPUT, META = "input.", "meta."
_SEED = "seed"


class Pair(NamedTuple):
    """A column or key, the input that it fills, and what gives its values their type."""

    name: str
    path: Path
    convert: Convert


class Target(NamedTuple):
    """What a column or key is for: an input, or else something wrong, or else neither."""

    pair: Pair | None = None
    problem: str | None = None


_CARRIED = Target()


class Binding:
    """A model's form, and what fills it.

    Attributes:
        form: The model's.
        pairs: The columns of a table that are inputs.
        input_columns: Their names.
        missing: Required inputs that a row may lack.
        nested: Inputs that columns with dots may fill.
        idle: Columns of a table that are called as an input, which this model does not have.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self.known = (*form.properties, *form.model.aliases)
        self.pairs: tuple[Pair, ...] = ()
        self.input_columns: frozenset[str] = frozenset()
        self.nested = tuple(
            name
            for name, schema in form.properties.items()
            if schema.get("type") in ("object", "array")
        )
        self.missing = form.required
        self.idle: tuple[str, ...] = ()
        self._columns: dict[str, Target] = {}
        self._keys: dict[str, Target] = {}
        self._carried: dict[str, str] = {}

    def bind(self, columns: Sequence[str]) -> list[tuple[str, str]]:
        """Take the columns of a table; return which of them are wrong, and why."""
        faults = []
        pairs = []
        for column in columns:
            if column.strip() in ROW_WORDS:
                continue
            target = self.of_column(column)
            if target.problem:
                faults.append((column, target.problem))
            if target.pair:
                pairs.append(target.pair)
        self.idle = tuple(filter(self.is_idle, columns))
        present = {pair.path[0] for pair in pairs}
        guessed = {nearly(column, self.known) for column, _ in faults}
        for name in self.form.required:
            if name not in present and not {name, self.friendly(name)} & guessed:
                message = f"there is no such column, and {self.form.model.id} requires it: add it"
                faults.append((self.friendly(name), message))
        self.pairs = tuple(pairs)
        self.input_columns = frozenset(pair.name for pair in pairs)
        self.missing = tuple(name for name in self.form.required if name in present)
        return faults

    def pairs_of(self, row: Row) -> tuple[list[Pair], list[tuple[str, str]]]:
        """Return what the keys of a YAML row fill, and which of them are wrong, and why."""
        pairs = []
        faults = []
        for name in row.cells:
            if name in ROW_WORDS:
                continue
            target = self.of_column(name) if name in row.carried else self.of_key(name)
            if target.pair:
                pairs.append(target.pair)
            elif target.problem:
                faults.append((name, target.problem))
        if row.defaulted or row.carried:
            pairs = self._without_overruled(row, pairs)
        return pairs, faults

    def is_idle(self, column: str) -> bool:
        """Return whether a column is called as an input that this model does not have."""
        return column.strip() in (*FRIENDLY, _SEED) and self.of_column(column) == _CARRIED

    def of_column(self, column: str) -> Target:
        """Return what a table's column is for."""
        if column not in self._columns:
            self._columns[column] = self._of_column(column)
        return self._columns[column]

    def of_key(self, key: str) -> Target:
        """Return what a key of YAML is for."""
        if key not in self._keys:
            self._keys[key] = self._of_key(key)
        return self._keys[key]

    def carried_name(self, name: str) -> str:
        """Return the column under which a value comes back as carried, whatever it is called."""
        if name not in self._carried:
            taken = (
                name in ROW_WORDS
                or name in RESULT_COLUMNS
                or name.startswith((INPUT, META))
                or name != name.strip()
                or not name
            )
            is_carried = not taken and self.of_column(name) == _CARRIED
            self._carried[name] = name if is_carried else f"{META}{name}"
        return self._carried[name]

    def friendly(self, target: str) -> str:
        """Return the name people use for an input: its first alias, else its own."""
        return friendly_name(target, self.form.model.aliases)

    def _of_column(self, column: str) -> Target:
        name = column.strip()
        if name.startswith(META):
            return _CARRIED
        forced = name.startswith(INPUT)
        wanted = name.removeprefix(INPUT) if forced else name
        path, problem = self._path(wanted)
        if path:
            return self._target(column, path, is_cell=True)
        if problem and not forced:
            problem += f". Write `{META}{name}` if it is meant to be carried along"
        if problem:
            return Target(problem=problem)
        if not forced:
            # Beside rows of a model that takes one, it is no misspelled `seeds`; see `is_idle`.
            words = () if name == _SEED else ROW_WORDS
            meant = nearly(name, self.known) or nearly(name, words)
            first, dot, rest = name.partition(".")
            if meant is None and dot and first not in self.known:
                guess = nearly(first, self.nested)
                meant = f"{guess}.{rest}" if guess else None
            if meant is None:
                return _CARRIED
            return Target(
                problem=f"did you mean `{meant}`? write `{META}{name}` if it is meant to be "
                "carried along"
            )
        if self.form.allow_unknown and wanted:
            return self._target(column, _unknown_path(wanted), is_cell=True)
        hint = suggestion(wanted, self.known) or f"its inputs are {self._listed()} "
        return Target(problem=f"{self.form.model.id} has no such input: {hint}{AS_IT_IS}")

    def _of_key(self, key: str) -> Target:
        wanted = key.removeprefix(INPUT)
        path, problem = self._path(wanted)
        if path is None and problem is None and self.form.allow_unknown and wanted:
            path = _unknown_path(wanted)
        if path:
            return self._target(key, path, is_cell=False)
        if problem is None:
            hint = suggestion(key, (*self.known, *ROW_WORDS, *ENTRY_WORDS))
            hint = hint or f"the inputs of {self.form.model.id} are {self._listed()}; "
            problem = f"unknown key: {hint}what is to be carried along goes under `meta` {AS_IT_IS}"
        return Target(problem=problem)

    def _path(self, wanted: str) -> tuple[Path | None, str | None]:
        model, properties = self.form.model, self.form.properties
        if wanted in properties:
            return (wanted,), None
        if wanted in model.aliases:
            return (model.aliases[wanted],), None
        head, dot, rest = wanted.partition(".")
        head = model.aliases.get(head, head) if head not in properties else head
        if not dot or head not in properties:
            return None, None
        return self.form.nested(head, rest.split("."))

    def _target(self, name: str, path: Path, *, is_cell: bool) -> Target:
        convert = self.form.converter(path) or (unknown_cell if is_cell else _as_it_is)
        return Target(Pair(name, path, convert))

    def _without_overruled(self, row: Row, pairs: list[Pair]) -> list[Pair]:
        """Leave out what the row says itself of what comes from a table, or from defaults."""

        def rank(name: str) -> int:
            return 2 if name in row.defaulted else int(name in row.carried)

        ranked = [(rank(pair.name), pair) for pair in pairs]
        said = [(its, pair.path) for its, pair in ranked if not is_blank(row.cells[pair.name])]
        if row.seeds is not None and "seeds" not in row.defaulted and self.form.model.seed:
            said.append((0 if "seeds" in row.lines else 1, (self.form.model.seed,)))
        return [
            pair
            for its, pair in ranked
            if not any(other < its and overlap(pair.path, path) for other, path in said)
        ]

    def _listed(self) -> str:
        names = {fold(name): name for name in self.known}
        return ", ".join(names.values())


def overlap(one: Path, other: Path) -> bool:
    """Return whether two places are the same, or one is inside of the other."""
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _unknown_path(name: str) -> Path:
    steps = name.split(".")
    if not all(steps):
        return (name,)
    return (steps[0], *(int(it) if it.isdecimal() and len(it) < 4 else it for it in steps[1:]))


def _as_it_is(value: Any) -> Any:
    return value
