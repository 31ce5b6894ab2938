"""From rows to jobs: every value typed and checked, every fault of every row at once.

A first pass over the rows validates and counts; the second, `Checked.specs`, expands them. Both
read the file anew, so a million rows stay on disk.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from batchgen.domain.columns import RESULT_COLUMNS
from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.expansion import (
    ONLY,
    RowIds,
    Variant,
    estimate_micros,
    occurrence_key,
    variants,
)
from batchgen.domain.identity import input_hash, settings_of
from batchgen.domain.jobs import JobSpec, Model, encoded
from batchgen.domain.models import friendly_name, id_problem
from batchgen.manifests import files
from batchgen.manifests.interface import ROW_WORDS, Row, Source
from batchgen.manifests.names import MAX_ID, fold, name_problem, nearly, suggestion
from batchgen.manifests.seeds import parse_repeat, parse_seeds
from batchgen.manifests.snapshots import with_remembered
from batchgen.manifests.values import Form, as_text, shown

DEFAULT_MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
_INPUT, _META = "input.", "meta."

Report = Callable[[str, str], None]


@dataclass(frozen=True)
class Checked:
    """A manifest without faults.

    Attributes:
        columns: The rows' own columns in order, as an export has them.
        count: How many jobs it asks for.
        models: The models it uses, each with the schema it was checked against.
        read_specs: Starts an expansion from the first row.
    """

    columns: tuple[str, ...]
    count: int
    models: Mapping[str, Model]
    read_specs: Callable[[], Iterator[JobSpec]]

    def specs(self) -> Iterator[JobSpec]:
        """Expand the rows in order, from the start.

        Raises:
            ManifestError: If the file has changed since it was checked.
        """
        return self.read_specs()


def check(
    source: Source,
    *,
    models: Mapping[str, Model],
    model: str | None = None,
    fallback_model: str | None = None,
    schemas: Mapping[str, Mapping[str, Any]] | None = None,
    max_expand: int = 100_000,
    allow_private_inputs: bool = False,
    allow_unknown_inputs: bool = False,
    use_result_keys: bool = True,
) -> Checked:
    """Validate every row of a manifest.

    Args:
        source: The manifest.
        models: The known models by id.
        model: The user's `--model`, which wins over the rows' and the manifest's.
        fallback_model: For rows whose manifest names none; else `DEFAULT_MODEL`.
        schemas: A batch's stored schemas by model id, which win over today's.
        max_expand: How many jobs `seeds` and `repeat` may make, together. Rows that are
            written out one by one are not bounded.
        allow_private_inputs: Media URLs may point to addresses and local names.
        allow_unknown_inputs: Send what the model's schema does not know: keys of YAML, and
            `input.NAME` columns.
        use_result_keys: Match exported rows by their key; else they are new rows.

    Raises:
        ManifestError: With all faults of all rows, sorted by line.
    """
    checker = _Checker(
        source=source,
        models=with_remembered(models, schemas or {}),
        flag=model,
        fallback=source.model or fallback_model or DEFAULT_MODEL,
        max_expand=max_expand,
        allow_private=allow_private_inputs,
        allow_unknown=allow_unknown_inputs,
        use_keys=use_result_keys and source.has_result_keys,
    )
    return checker.run()


@dataclass(slots=True)
class _Bound:
    """A model's form, and which of the columns fill it."""

    form: Form
    known: tuple[str, ...]
    targets: dict[str, str | None] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)  # a table's: column, input
    input_columns: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()  # required inputs that a row may lack


class _Repeated:
    """Finds values that occur twice among millions, in eight bytes each."""

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(64)]

    def add(self, number: int) -> None:
        self._buckets[number & 63].append(number)

    def found(self) -> frozenset[int]:
        repeated: set[int] = set()
        for bucket in self._buckets:
            if len(set(bucket)) < len(bucket):
                ordered = sorted(bucket)
                repeated.update(one for one, two in pairwise(ordered) if one == two)
        return frozenset(repeated)


class _Checker:
    def __init__(
        self,
        *,
        source: Source,
        models: Mapping[str, Model],
        flag: str | None,
        fallback: str,
        max_expand: int,
        allow_private: bool,
        allow_unknown: bool,
        use_keys: bool,
    ) -> None:
        self.source = source
        self.models = models
        self.flag = flag
        self.fallback = fallback
        self.max_expand = max_expand
        self.allow_private = allow_private
        self.allow_unknown = allow_unknown
        self.use_keys = use_keys
        self.faults: list[Fault] = list(source.faults)
        self.bound: dict[str, _Bound | None] = {}
        self.count = 0
        self.expanded = 0
        self.ids = _Repeated()
        self.keys = _Repeated()
        self.contents = _Repeated()
        self.repeated_contents: frozenset[int] = frozenset()
        self.front: dict[str, None] = {}
        self.inputs: dict[str, None] = {}
        self.carried: dict[str, None] = {}

    def run(self) -> Checked:
        try:
            for row in self.source.rows():
                self._look(row)
        except ManifestError as error:
            self.faults += error.faults
        else:
            self._look_at_the_whole()
        if self.faults:
            raise ManifestError(sorted(set(self.faults)))
        self.repeated_contents = self.contents.found()
        return Checked(
            columns=self.source.columns or (*self.front, *self.inputs, *self.carried),
            count=self.count,
            models={name: bound.form.model for name, bound in self.bound.items() if bound},
            read_specs=self._specs,
        )

    # First pass.

    def _look(self, row: Row) -> None:
        self.faults += row.faults
        if row.faults and self.source.is_table:
            self.count += 1  # its cells may have slipped into other columns
            return

        def report(name: str, message: str) -> None:
            line = row.lines.get(name, row.line)
            self.faults.append(Fault(self.source.path, line, name, message))

        has_id = self._look_at_names(row, report)
        bound = self._bind(row)
        if bound is None:
            self.count += 1
            return
        pairs = self._pairs(row, bound, report)
        inputs = self._typed(row, bound, pairs, report)
        self._validate(inputs, bound, pairs, report, row)
        chosen = self._variants(row, bound, inputs, report)
        self.count += len(chosen)
        if chosen is not _SINGLE:
            self.expanded += len(chosen)
        if not has_id:
            base = self._hash(bound.form.model, inputs)
            for variant in chosen:
                self.contents.add(occurrence_key(base, variant))
        if not self.source.is_table:
            self._collect_columns(row, bound, pairs, chosen)

    def _look_at_names(self, row: Row, report: Report) -> bool:
        """Check the names of a row; return whether it has an id, be it a wrong one."""
        try:
            row_id = _text(row.id)
        except ValueError as error:
            report("id", str(error))
            return True
        if row_id:
            problem = name_problem(row_id, most=MAX_ID)
            if problem:
                report("id", f"the id {shown(row_id)} {problem}")
            self.ids.add(hash(row_id))
        if self.use_keys and row.result_key:
            self.keys.add(hash(row.result_key))
        return bool(row_id)

    def _look_at_the_whole(self) -> None:
        if self.count == 0 and not self.faults:
            message = "has no rows below its header: it needs at least one job"
            self.faults.append(Fault(self.source.path, 0, "", message))
        if self.expanded > self.max_expand:
            message = (
                f"`seeds` and `repeat` make {self.expanded:,} jobs, at most {self.max_expand:,} "
                f"are allowed: shorten them, or raise --max-expand"
            )
            self.faults.append(Fault(self.source.path, 0, "", message))
        ids, keys = self.ids.found(), self.keys.found()
        if ids or keys:
            self._name_duplicates(ids, keys)

    def _name_duplicates(self, ids: frozenset[int], keys: frozenset[int]) -> None:
        first_ids: dict[str, tuple[int, bool]] = {}
        first_keys: dict[str, int] = {}
        for row in self.source.rows():
            key = row.result_key if self.use_keys else None
            if key and hash(key) in keys:
                first = first_keys.setdefault(key, row.line)
                if first != row.line:
                    self._duplicate_key(row, first)
            row_id = _text_or_none(row.id)
            if row_id and hash(row_id) in ids:
                line, has_key = first_ids.setdefault(row_id, (row.line, bool(key)))
                if row_id in first_ids and line != row.line and not (has_key and key):
                    message = f"{row_id} is already the id in line {line}: ids must be unique"
                    where = row.lines.get("id", row.line)
                    self.faults.append(Fault(self.source.path, where, "id", message))

    def _duplicate_key(self, row: Row, first: int) -> None:
        message = (
            f"{row.result_key} is already in line {first}: remove one of the two rows, or pass "
            "--new-batch to pay for both as new jobs"
        )
        self.faults.append(Fault(self.source.path, row.line, "result_key", message))

    def _validate(
        self,
        inputs: Mapping[str, Any],
        bound: _Bound,
        pairs: Sequence[tuple[str, str]],
        report: Report,
        row: Row,
    ) -> None:
        for target in bound.missing:
            if target not in inputs and not self._was_refused(target, pairs, row):
                names = [name for name, other in pairs if other == target]
                name = names[0] if names else _friendly(target, bound.form.model)
                report(name, f"is missing: {bound.form.model.id} requires it, fill it in")
        for target, message in bound.form.problems(inputs):
            name = next((name for name, other in pairs if other == target), target)
            report(name, message)

    def _was_refused(self, target: str, pairs: Sequence[tuple[str, str]], row: Row) -> bool:
        # Its value is there but could not be typed or rendered: that is the fault to tell.
        given = any(
            other == target and not _is_absent(row.cells.get(name)) for name, other in pairs
        )
        return given or bool(row.faults)

    def _collect_columns(
        self,
        row: Row,
        bound: _Bound,
        pairs: Sequence[tuple[str, str]],
        chosen: Sequence[Variant],
    ) -> None:
        given = {name for name, _ in pairs}
        for name in row.cells:
            if name in ("id", "model"):
                self.front[name] = None
            elif name in given:
                self.inputs[name] = None
        if chosen and chosen[0].seed is not None and bound.form.model.seed:
            self.inputs[bound.form.model.seed] = None
        for name in row.meta:
            self.carried[self._carried_name(name, bound)] = None

    # Which column is which input.

    def _bind(self, row: Row) -> _Bound | None:
        name = self.flag or _text_or_none(row.model) or self.fallback
        if name not in self.bound:
            self.bound[name] = self._new_bound(name, row)
        elif self.bound[name] is None and self._names_model(row):
            self._unknown_model(name, row)
        return self.bound[name]

    def _new_bound(self, name: str, row: Row) -> _Bound | None:
        model = self.models.get(name)
        if model is None:
            self._unknown_model(name, row)
            return None
        try:
            form = Form(model, allow_private_inputs=self.allow_private)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            message = f"the input schema of {name} cannot be used: {reason}"
            raise ManifestError([Fault(self.source.path, 0, "model", message)]) from None
        bound = _Bound(form, known=(*form.properties, *model.aliases), missing=form.required)
        if self.source.is_table:
            self._bind_columns(bound)
        return bound

    def _bind_columns(self, bound: _Bound) -> None:
        path, line = self.source.path, self.source.header_line
        for column in self.source.columns:
            if column.strip() in ROW_WORDS:
                continue
            target, problem = self._target(column.strip(), bound)
            if problem:
                self.faults.append(Fault(path, line, column, problem))
            if target:
                bound.pairs.append((column, target))
        bound.input_columns = frozenset(column for column, _ in bound.pairs)
        present = {target for _, target in bound.pairs}
        for target in bound.form.required:
            if target not in present:
                name = _friendly(target, bound.form.model)
                message = f"there is no such column, and {bound.form.model.id} requires it: add it"
                self.faults.append(Fault(path, line, name, message))
        bound.missing = tuple(name for name in bound.form.required if name in present)

    def _target(self, name: str, bound: _Bound) -> tuple[str | None, str | None]:
        """Return the input that a table's column is for, and what is wrong with its name."""
        model = bound.form.model
        forced = name.startswith(_INPUT)
        wanted = name.removeprefix(_INPUT) if forced else name
        target = wanted if wanted in bound.form.properties else model.aliases.get(wanted)
        if target or name.startswith(_META):
            return target, None
        if forced:
            hint = suggestion(wanted, bound.known) or f"its inputs are {_listed(bound)}"
            return None, f"{model.id} has no such input: {hint}".rstrip()
        meant = nearly(name, bound.known) or nearly(name, ROW_WORDS)
        if meant is None:
            return None, None
        return None, (
            f"did you mean `{meant}`? write `meta.{name}` if it is meant to be carried along"
        )

    def _pairs(self, row: Row, bound: _Bound, report: Report | None) -> Sequence[tuple[str, str]]:
        if self.source.is_table:
            return bound.pairs
        pairs = []
        for name in row.cells:
            if name in ("id", "model"):
                continue
            if name not in bound.targets:
                bound.targets[name] = self._key_target(name, bound)
            target = bound.targets[name]
            if target:
                pairs.append((name, target))
            elif report:
                report(name, self._unknown_key(name, bound))
        own = {target for name, target in pairs if name not in row.defaulted}
        if _is_given(row, "seeds") and bound.form.model.seed:
            own.add(bound.form.model.seed)
        return [(n, t) for n, t in pairs if n not in row.defaulted or t not in own]

    def _key_target(self, name: str, bound: _Bound) -> str | None:
        wanted = name.removeprefix(_INPUT)
        return wanted if wanted in bound.form.properties else bound.form.model.aliases.get(wanted)

    def _unknown_key(self, name: str, bound: _Bound) -> str:
        hint = suggestion(name, (*bound.known, *ROW_WORDS, "meta"))
        hint = hint or f"the inputs are {_listed(bound)}; "
        return f"unknown key: {hint}what is to be carried along goes under `meta`"

    def _carried_name(self, name: str, bound: _Bound) -> str:
        """Return the column under which a YAML `meta` value comes back as the same."""
        taken = (
            name in ROW_WORDS
            or name in RESULT_COLUMNS
            or name.startswith((_INPUT, _META))
            or name != name.strip()
            or not name
        )
        if taken or any(self._target(name, bound)):
            return f"{_META}{name}"
        return name

    # Both passes.

    def _typed(
        self,
        row: Row,
        bound: _Bound,
        pairs: Sequence[tuple[str, str]],
        report: Report,
    ) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        convert = bound.form.convert
        cells = row.cells
        for name, target in pairs:
            value = cells.get(name)
            if not value and _is_absent(value):
                continue
            if value.__class__ is str and value.isspace():
                continue
            if target in inputs:
                other = next(n for n, t in pairs if t == target)
                report(name, f"sets {target}, which `{other}` sets too: keep one")
                continue
            try:
                inputs[target] = convert[target](value)
            except ValueError as error:
                report(name, str(error))
        return inputs

    def _variants(
        self, row: Row, bound: _Bound, inputs: Mapping[str, Any], report: Report
    ) -> Sequence[Variant]:
        if (row.seeds is None and row.repeat is None) or (self.use_keys and row.result_key):
            return _SINGLE
        seed_input = bound.form.model.seed
        own_seed = seed_input in inputs
        seeds, repeat = row.seeds, row.repeat
        # A row's own words win over the manifest's defaults.
        if (
            seeds is not None
            and "seeds" in row.defaulted
            and (own_seed or _is_given(row, "repeat"))
        ):
            seeds = None
        if repeat is not None and "repeat" in row.defaulted and _is_given(row, "seeds"):
            repeat = None
        if seeds is not None and repeat is not None:
            report("seeds", "`seeds` and `repeat` in one row: keep one of them")
            return _SINGLE
        try:
            if seeds is not None:
                return self._seed_variants(seeds, bound, own_seed=own_seed, report=report)
            count = None if repeat is None else parse_repeat(repeat, most=self.max_expand)
        except ValueError as error:
            report("repeat" if seeds is None else "seeds", str(error))
            return _SINGLE
        return _SINGLE if count is None else tuple(variants(seeds=None, repeat=count))

    def _seed_variants(
        self, written: Any, bound: _Bound, *, own_seed: bool, report: Report
    ) -> Sequence[Variant]:
        seed_input = bound.form.model.seed
        if seed_input is None:
            raise ValueError(f"{bound.form.model.id} takes no seed: use `repeat`")
        if own_seed:
            raise ValueError(f"`seeds` and `{seed_input}` in one row: keep one of them")
        seeds = parse_seeds(written, most=self.max_expand)
        for seed in seeds:
            for _, message in bound.form.problems({seed_input: seed}):
                report("seeds", message)
        return tuple(variants(seeds=seeds, repeat=None))

    def _hash(self, model: Model, inputs: Mapping[str, Any]) -> str:
        return input_hash(model.id, inputs, model.schema)

    # Second pass.

    def _specs(self) -> Iterator[JobSpec]:
        numbers = RowIds(self.repeated_contents)
        for row in self.source.rows():
            if row.faults:
                raise files.changed(self.source.path)
            yield from self._row_specs(row, numbers)

    def _changed(self, _name: str, _message: str) -> None:
        # The first pass found no fault, so the file is another one now.
        raise files.changed(self.source.path)

    def _row_specs(self, row: Row, numbers: RowIds) -> Iterator[JobSpec]:
        changed = self._changed
        bound = self._bind(row)
        if bound is None:
            raise files.changed(self.source.path)
        model = bound.form.model
        pairs = self._pairs(row, bound, None)
        inputs = self._typed(row, bound, pairs, changed)
        base = self._hash(model, inputs)
        settings = settings_of(inputs, model.schema, seed=model.seed)
        row_id = _text(row.id)
        key = row.result_key if self.use_keys else None
        names = (
            bound.input_columns if self.source.is_table else frozenset(name for name, _ in pairs)
        )
        for variant in self._variants(row, bound, inputs, changed):
            sent: Mapping[str, Any] = inputs
            hashed = base
            if variant.seed is not None and model.seed:
                sent = {**inputs, model.seed: variant.seed}
                hashed = self._hash(model, sent)
            yield JobSpec(
                file=self.source.path,
                line=row.line,
                row_id=row_id or numbers.next(base, variant),
                has_id=bool(row_id),
                variant=variant.name,
                variant_kind=variant.kind,
                model=model.id,
                inputs_json=encoded(sent),
                input_hash=hashed,
                cells_json=encoded(
                    row.cells if self.source.is_table else self._cells(row, bound, names, variant)
                ),
                input_columns=names
                if self.source.is_table or variant.seed is None
                else names | {str(model.seed)},
                result_key=key,
                est_micros=estimate_micros(model, sent),
                settings=settings,
                draw_seed=variant.kind == "take"
                and model.seed is not None
                and model.seed not in inputs,
            )

    def _cells(
        self, row: Row, bound: _Bound, names: frozenset[str], variant: Variant
    ) -> dict[str, Any]:
        cells = {
            name: value
            for name, value in row.cells.items()
            if name in names or name in ("id", "model")
        }
        if variant.seed is not None and bound.form.model.seed:
            cells[bound.form.model.seed] = variant.seed
        for name, value in row.meta.items():
            cells[self._carried_name(name, bound)] = value
        return cells

    # Models that are not there.

    def _names_model(self, row: Row) -> bool:
        return self.flag is None and _text_or_none(row.model) is not None

    def _unknown_model(self, name: str, row: Row) -> None:
        line, column = self.source.key_lines.get("model", 0), "model"
        if self.flag is not None:
            line, column = 0, "--model"
        elif self._names_model(row):
            line = row.lines.get("model", row.line)
        message = (
            f"unknown model {shown(name)}: {suggestion(name, self.models)}"
            "`batchgen models list` shows those that are known"
        )
        if id_problem(name) is None:
            message += f", `batchgen models fetch {name}` asks the service for it"
        self.faults.append(Fault(self.source.path, line, column, message))


_SINGLE: Sequence[Variant] = (ONLY,)


def _is_absent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and (not value or value.isspace()))


def _is_given(row: Row, word: str) -> bool:
    return getattr(row, word) is not None and word not in row.defaulted


def _text(value: Any) -> str:
    return "" if value is None else as_text(value).strip()


def _text_or_none(value: Any) -> str | None:
    return None if isinstance(value, list | dict) else _text(value) or None


def _friendly(target: str, model: Model) -> str:
    return friendly_name(target, model.aliases)


def _listed(bound: _Bound) -> str:
    names = {fold(name): name for name in bound.known}
    return ", ".join(names.values())
