"""From rows to jobs: every value typed and checked, every fault of every row at once.

One reading of the manifest does it all. What it finds waits in a spool until it is stored, so
a million rows need little memory. Rows of a table that ask for one job each are checked many at
a time by `plain_rows`; what is said here of one row is the rule for both.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from types import TracebackType
from typing import Any, NamedTuple, Self

from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.expansion import (
    estimate_micros,
    numbered_id,
    occurrence_key,
    variants,
)
from batchgen.domain.identity import input_hash, settings_of
from batchgen.domain.jobs import JobSpec, Model, encoded, spec_columns, specs_of
from batchgen.domain.models import id_problem
from batchgen.domain.repeats import Occurrences, Repeats
from batchgen.inputs.local import LocalFiles
from batchgen.manifests.binding import META, Binding, Pair, overlap
from batchgen.manifests.faults import Faults
from batchgen.manifests.interface import NOTHING, ROW_WORDS, Row, Source
from batchgen.manifests.names import MAX_ID, ids_with, name_problem
from batchgen.manifests.plain_rows import PlainRows, plain_groups
from batchgen.manifests.schemas import Path
from batchgen.manifests.seeds import parse_repeat, parse_seeds
from batchgen.manifests.snapshots import with_remembered
from batchgen.manifests.spool import Spool
from batchgen.manifests.values import Form, as_text, dotted, is_blank, shown

DEFAULT_MODEL = "runwayml/runway-gen-4/turbo/image-to-video"

_CHUNK_ROWS = 200  # what the processor holds close; more are slower
_CHUNK_CHARACTERS = 4 * 1024**2

Report = Callable[[str, str], None]
Spec = tuple[Any, ...]
"""A `JobSpec` before its class: what the spool can hold."""

_CELLS = JobSpec._fields.index("cells_json")
_VARIANT = JobSpec._fields.index("variant")


class Checked:
    """A manifest without faults, and what its rows ask for, until it is closed.

    Attributes:
        columns: The rows' own columns in order, as an export has them.
        count: How many jobs it asks for.
        models: The models it uses, each with the schema it was checked against.
    """

    def __init__(
        self,
        *,
        columns: tuple[str, ...],
        count: int,
        models: Mapping[str, Model],
        spool: Spool,
        numbers: "array[int] | None",
    ) -> None:
        self.columns = columns
        self.count = count
        self.models = models
        self._spool = spool
        self._numbers = numbers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def specs(self) -> Iterator[JobSpec]:
        """Return the jobs in the order of their rows, from the start, as often as wanted.

        Raises:
            OutputError: If the temporary file cannot be read.
        """
        return chain.from_iterable(map(specs_of, self.pages()))

    def pages(self) -> Iterator[Any]:
        """Return the same, some hundreds of jobs at a time, as `spec_columns`.

        Raises:
            OutputError: If the temporary file cannot be read.
        """
        numbers = None if self._numbers is None else iter(self._numbers)
        for chunk in self._spool.chunks():
            page: Any = JobSpec._make(chunk)
            if numbers is not None:
                row_ids = [
                    row_id if has_id else numbered_id(row_id, next(numbers))
                    for row_id, has_id in zip(page.row_id, page.has_id, strict=True)
                ]
                page = page._replace(row_id=row_ids)
            yield page

    def close(self) -> None:
        """Free what is kept of the rows; it happens by itself when this is not used any more."""
        self._spool.close()


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
    files: LocalFiles | None = None,
    has_uploads: bool = False,
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
        files: The files of this machine that rows may name; None is none.
        has_uploads: Whether those are uploaded, and need not fit into a request.

    Raises:
        ManifestError: With the first faults of all rows, sorted by line, and their number.
        OutputError: If the temporary folder is full or cannot be written to.
    """
    spool = Spool()
    checker = _Checker(
        source=source,
        spool=spool,
        models=with_remembered(models, schemas or {}),
        flag=model,
        fallback=source.model or fallback_model or DEFAULT_MODEL,
        max_expand=max_expand,
        allow_private=allow_private_inputs,
        allow_unknown=allow_unknown_inputs,
        use_keys=use_result_keys and source.has_result_keys,
        files=files,
        has_uploads=has_uploads,
    )
    try:
        return checker.run()
    except BaseException:
        spool.close()
        raise


class _Expansion(NamedTuple):
    """What `seeds` and `repeat` make of a row."""

    jobs: int = 1
    seeds: Sequence[int] | None = None
    repeat: int | None = None


_SINGLE = _Expansion()


class _Checker:
    def __init__(
        self,
        *,
        source: Source,
        spool: Spool,
        models: Mapping[str, Model],
        flag: str | None,
        fallback: str,
        max_expand: int,
        allow_private: bool,
        allow_unknown: bool,
        use_keys: bool,
        files: LocalFiles | None,
        has_uploads: bool,
    ) -> None:
        self.files = files
        self.has_uploads = has_uploads
        self.source = source
        self.spool = spool
        self.models = models
        self.flag = flag
        self.fallback = fallback
        self.max_expand = max_expand
        self.allow_private = allow_private
        self.allow_unknown = allow_unknown
        self.use_keys = use_keys
        self.faults = Faults()
        self.faults.update(source.faults)
        self.bound: dict[str, Binding | None] = {}
        self.plain: dict[str, PlainRows | None] = {}
        self.table: str | None = None  # where a table's header stands: with its first row
        self.count = 0
        self.expanded = 0
        self.is_cut = False
        self.ids = Repeats()
        self.keyed_ids = Repeats()  # those of exported rows may be the same
        self.keys = Repeats()
        self.occurrences = Occurrences()
        self.front: dict[str, None] = {}
        self.inputs: dict[str, None] = {}
        self.carried: dict[str, None] = {}
        self.variables: dict[str, None] = {}

    def run(self) -> Checked:
        excess = self.source.excess(self.max_expand)
        if excess:
            self.faults.add(excess)
            raise self.faults.error()
        try:
            for rows in _chunks(self.source.rows()):
                if self.expanded > self.max_expand and self.source.expansions:
                    self.is_cut = True  # a matrix may go on for long
                    break
                self._take(rows)
        except ManifestError as error:
            self.faults.update(error.faults)
        else:
            self._look_at_the_whole()
        if self.faults:
            raise self.faults.error()
        own = self.source.columns or (*self.front, *self.inputs)
        return Checked(
            columns=tuple(dict.fromkeys((*own, *self.carried, *self.variables))),
            count=self.count,
            models={name: bound.form.model for name, bound in self.bound.items() if bound},
            spool=self.spool,
            numbers=self.occurrences.numbers(),
        )

    def _take(self, rows: Sequence[Row]) -> None:
        """Check some rows and spool their jobs, in their order."""
        self.table = self.table or rows[0].file or self.source.path
        ready: Sequence[Spec | None] = [None] * len(rows)
        if self.source.is_table:
            whole, ready = self._plain_specs(rows)
            if whole is not None:
                self._keep(whole)
                return
        specs: list[Spec] = []
        room = _CHUNK_CHARACTERS
        for row, spec in zip(rows, ready, strict=True):
            if spec is not None:
                specs.append(spec)
                continue
            for other in self._row(row):
                specs.append(other)
                room -= len(other[_CELLS])
                if len(specs) >= _CHUNK_ROWS or room < 0:
                    self._keep(spec_columns(specs))
                    specs, room = [], _CHUNK_CHARACTERS
        if specs:
            self._keep(spec_columns(specs))

    def _keep(self, columns: Any) -> None:
        """Spool jobs as `spec_columns`."""
        if self.faults:
            return
        if not all(columns.has_id):
            add = self.occurrences.add
            names = zip(columns.row_id, columns.variant_kind, columns.variant, strict=True)
            for has_id, name in zip(columns.has_id, names, strict=True):
                if not has_id:
                    add(occurrence_key(*name))
        self.spool.append(tuple(columns))

    def _plain_specs(self, rows: Sequence[Row]) -> tuple[Any, Sequence[Spec | None]]:
        """Return the job of each row that is plain and has no fault, None for the others.

        If it is all of them, they come as `spec_columns` instead, before nothing.
        """
        found: list[Spec | None] = [None] * len(rows)
        columns, use_keys = self.source.columns, self.use_keys
        groups = plain_groups(rows, columns, use_keys=use_keys)
        for places in groups.values():
            first = rows[places[0]]
            name = self._model_name(first)
            if name not in self.plain:
                bound = self._bind(first)
                self.plain[name] = (
                    PlainRows.of(bound, columns, use_keys=use_keys) if bound else None
                )
            plain = self.plain[name]
            if plain is None:
                continue
            chosen = rows if len(places) == len(rows) else [rows[place] for place in places]
            taken = plain.check(chosen, file=self.source.path)
            self.ids.update(taken.id_hashes)
            self.keyed_ids.update(taken.keyed_id_hashes)
            self.keys.update(taken.key_hashes)
            self.count += taken.jobs
            if len(places) == len(rows) and not taken.faulty:
                return taken.columns, ()
            specs: list[Spec | None] = list(zip(*taken.columns, strict=True))
            for faulty in taken.faulty:
                specs[faulty] = None
            for place, spec in zip(places, specs, strict=True):
                found[place] = spec
        return None, found

    # One row.

    def _row(self, row: Row) -> Iterator[Spec]:
        """Check a row; yield its jobs if there is no fault so far."""
        self.faults.update(row.faults)
        if row.faults and self.source.is_table:
            self.count += 1  # its cells may have slipped into other columns
            return
        file = row.file or self.source.path

        def report(name: str, message: str) -> None:
            # What has a line of its own stands in the manifest itself.
            place = (self.source.path, row.lines[name]) if name in row.lines else (file, row.line)
            self.faults.add(Fault(*place, name, message))

        self._look_at_names(row, report)
        bound = self._bind(row)
        if bound is None:
            self.count += 1
            return
        _refuse_idle(row, bound, report)
        pairs = self._pairs(row, bound, report)
        inputs = _typed(row, pairs, report)
        self._validate(inputs, bound, pairs, report, row)
        expansion = self._expansion(row, bound, inputs, report)
        self.count += expansion.jobs
        if expansion is not _SINGLE or row.variables:
            self.expanded += expansion.jobs
        carried = self._carried(row, bound, pairs, report)
        if not self.source.is_table:
            self._collect_columns(row, bound, pairs, expansion)
        self.carried.update(dict.fromkeys(carried[0]))
        self.variables.update(dict.fromkeys(carried[1]))
        if not self.faults and self.expanded <= self.max_expand:
            yield from self._specs(row, bound, pairs, inputs, expansion, carried)

    def _look_at_names(self, row: Row, report: Report) -> None:
        try:
            row_id = _text(row.id)
        except ValueError as error:
            report("id", str(error))
            return
        if row_id:
            problem = name_problem(row_id, most=MAX_ID)
            if problem:
                report("id", f"the id {shown(row_id)} {problem}")
        has_key = self.use_keys and bool(row.result_key)
        if row_id:
            (self.keyed_ids if has_key else self.ids).add(hash(row_id))
        if has_key:
            self.keys.add(hash(row.result_key))

    def _pairs(self, row: Row, bound: Binding, report: Report) -> Sequence[Pair]:
        if self.source.is_table:
            return bound.pairs
        pairs, faults = bound.pairs_of(row)
        for name, message in faults:
            if name in row.carried:  # the column's fault, not the row's
                file = row.file or self.source.path
                self.faults.add(Fault(file, row.header_line, name, message))
            else:
                report(name, message)
        return pairs

    def _validate(
        self,
        inputs: Mapping[str, Any],
        bound: Binding,
        pairs: Sequence[Pair],
        report: Report,
        row: Row,
    ) -> None:
        for target in bound.missing:
            if target not in inputs and not _was_refused(target, pairs, row):
                names = [pair.name for pair in pairs if pair.path[0] == target]
                name = names[0] if names else bound.friendly(target)
                report(name, f"is missing: {bound.form.model.id} requires it, fill it in")
        for path, message in bound.form.problems(inputs):
            name, place = _named(path, pairs, row)
            report(name, f"{place}: {message}" if place else message)

    def _expansion(
        self, row: Row, bound: Binding, inputs: Mapping[str, Any], report: Report
    ) -> _Expansion:
        if (row.seeds is None and row.repeat is None) or (self.use_keys and row.result_key):
            return _SINGLE
        seeds, repeat = _own_words(row, has_seed=bound.form.model.seed in inputs)
        if seeds is not None and repeat is not None:
            report("seeds", "`seeds` and `repeat` in one row: keep one of them")
            return _SINGLE
        try:
            if seeds is not None:
                chosen = self._seeds(seeds, bound, inputs, report)
                return _Expansion(len(chosen), seeds=chosen)
            count = None if repeat is None else parse_repeat(repeat, most=self.max_expand)
        except ValueError as error:
            report("repeat" if seeds is None else "seeds", str(error))
            return _SINGLE
        return _SINGLE if count is None else _Expansion(count, repeat=count)

    def _seeds(
        self, written: Any, bound: Binding, inputs: Mapping[str, Any], report: Report
    ) -> Sequence[int]:
        seed_input = bound.form.model.seed
        if seed_input is None:
            raise ValueError(f"{bound.form.model.id} takes no seed: use `repeat`")
        if seed_input in inputs:
            raise ValueError(f"`seeds` and `{seed_input}` in one row: keep one of them")
        seeds = parse_seeds(written, most=self.max_expand)
        for seed in seeds:
            for _, message in bound.form.problems({seed_input: seed}):
                report("seeds", message)
        return seeds

    def _carried(
        self, row: Row, bound: Binding, pairs: Sequence[Pair], report: Report
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what is carried besides a table's own cells, and the variables."""
        given = {pair.name for pair in pairs}
        carried = {
            # An input that another one overrules comes back as what is only carried.
            f"{META}{name}" if bound.of_column(name).pair else name: value
            for name, value in row.cells.items()
            if name in row.carried and name not in given and name not in ("id", "model")
        }
        for name, value in row.meta.items():
            column = bound.carried_name(name)
            # What the table's row says itself, `meta` of the defaults need not.
            if f"{META}{name}" not in row.defaulted or is_blank(carried.get(column)):
                carried[column] = value
        own = carried.keys() | (row.cells.keys() if self.source.is_table else given)
        variables = {}
        for name, value in row.variables.items():
            column = bound.carried_name(name)
            if column in own or column in variables:
                message = (
                    f"a variable and a column that is carried along are both called {shown(name)}: "
                    "both come back in the export, so rename one"
                )
                report(name, message)
            variables[column] = value
        return carried, variables

    def _collect_columns(
        self, row: Row, bound: Binding, pairs: Sequence[Pair], expansion: _Expansion
    ) -> None:
        given = {pair.name for pair in pairs}
        for name in row.cells:
            if name in ("id", "model"):
                self.front[name] = None
            elif name in given:
                self.inputs[name] = None
        if expansion.seeds and bound.form.model.seed:
            self.inputs[bound.form.model.seed] = None

    def _specs(
        self,
        row: Row,
        bound: Binding,
        pairs: Sequence[Pair],
        inputs: Mapping[str, Any],
        expansion: _Expansion,
        carried: tuple[dict[str, Any], dict[str, Any]],
    ) -> Iterator[Spec]:
        model, is_table = bound.form.model, self.source.is_table
        base = input_hash(model.id, inputs, model.schema)
        row_id = _text(row.id)
        names = bound.input_columns if is_table else frozenset(pair.name for pair in pairs)
        own = {
            name: value
            for name, value in row.cells.items()
            if is_table or name in names or name in ("id", "model")
        }
        behind = carried[0] | carried[1]
        settings = settings_of(inputs, model.schema, seed=model.seed)
        spec: Spec | None = None
        for variant in variants(seeds=expansion.seeds, repeat=expansion.repeat):
            if spec is not None and variant.seed is None:  # the next take of the same
                spec = (*spec[:_VARIANT], variant.name, *spec[_VARIANT + 1 :])
                yield spec
                continue
            sent, hashed, given = inputs, base, {}
            if variant.seed is not None and model.seed:
                given = {model.seed: variant.seed}
                sent = {**inputs, **given}
                hashed = input_hash(model.id, sent, model.schema)
            own_given = {} if is_table else given
            # A plain tuple, in the order of the fields: see `Spec`.
            spec = tuple(
                JobSpec(
                    file=row.file or self.source.path,
                    line=row.line,
                    row_id=row_id or numbered_id(base, 1),
                    has_id=bool(row_id),
                    variant=variant.name,
                    variant_kind=variant.kind,
                    model=model.id,
                    inputs_json=encoded(sent),
                    input_hash=hashed,
                    cells_json=encoded(own | own_given | behind),
                    input_columns=names.union(own_given),
                    result_key=row.result_key if self.use_keys else None,
                    est_micros=estimate_micros(model, sent),
                    settings=settings,
                    draw_seed=variant.kind == "take"
                    and model.seed is not None
                    and model.seed not in inputs,
                )
            )
            yield spec

    # All rows together.

    def _look_at_the_whole(self) -> None:
        path = self.source.path
        self._look_at_header()
        if self.count == 0 and not self.faults:
            message = "has no rows below its header: it needs at least one job"
            self.faults.add(Fault(path, 0, "", message))
        if self.expanded > self.max_expand:
            makers = "`matrix`, `zip`, " if self.source.expansions else ""
            most = f"{self.max_expand:,}"
            made = f"more than {most}" if self.is_cut else f"{self.expanded:,}"
            message = (
                f"{makers}`seeds` and `repeat` make {made} jobs, at most {most} are allowed: "
                "shorten them, or raise --max-expand"
            )
            self.faults.add(Fault(path, 0, "", message))
        ids = self.ids.found() | self.ids.shared_with(self.keyed_ids)
        keys = self.keys.found()
        if ids or keys:
            try:
                self._name_duplicates(ids, keys)
            except ManifestError as error:  # the file is another one now
                self.faults.update(error.faults)

    def _look_at_header(self) -> None:
        """Bind the columns of a table none of whose rows can be read: they may be the reason."""
        columns = map(str.strip, self.source.columns)
        if self.count and self.source.is_table and not self.bound and "model" not in columns:
            self._bind(Row(self.source.header_line, NOTHING))

    def _name_duplicates(self, ids: frozenset[int], keys: frozenset[int]) -> None:
        first_ids: dict[str, tuple[int, str, int, bool]] = {}
        first_keys: dict[str, tuple[int, str, int]] = {}
        for number, row in enumerate(self.source.rows()):
            file = row.file or self.source.path
            key = row.result_key if self.use_keys else None
            if key and hash(key) in keys:
                earlier = first_keys.setdefault(key, (number, file, row.line))
                if earlier[0] != number:
                    self._duplicate_key(row, _line_of(earlier[1], earlier[2], file))
            row_id = _text_or_none(row.id)
            if row_id and hash(row_id) in ids:
                first = first_ids.setdefault(row_id, (number, file, row.line, bool(key)))
                if first[0] != number and not (first[3] and key):
                    where = _line_of(first[1], first[2], file)
                    message = f"{row_id} is already the id in {where}: ids must be unique"
                    if "id" in row.lines:
                        file = self.source.path
                    line = row.lines.get("id", row.line)
                    self.faults.add(Fault(file, line, "id", message))

    def _duplicate_key(self, row: Row, first: str) -> None:
        message = (
            f"{row.result_key} is already in {first}: remove one of the two rows, or pass "
            "--new-batch to pay for both as new jobs"
        )
        file = row.file or self.source.path
        self.faults.add(Fault(file, row.line, "result_key", message))

    # Models.

    def _model_name(self, row: Row) -> str:
        return self.flag or _text_or_none(row.model) or self.fallback

    def _bind(self, row: Row) -> Binding | None:
        name = self._model_name(row)
        if name not in self.bound:
            self.bound[name] = self._new_binding(name, row)
        elif self.bound[name] is None and self._names_model(row):
            self._unknown_model(name, row)
        return self.bound[name]

    def _new_binding(self, name: str, row: Row) -> Binding | None:
        model = self.models.get(name)
        if model is None:
            self._unknown_model(name, row)
            return None
        try:
            form = Form(
                model,
                allow_private_inputs=self.allow_private,
                allow_unknown_inputs=self.allow_unknown,
                files=self.files,
                has_uploads=self.has_uploads,
            )
        except ValueError as error:
            reason = str(error).splitlines()[0]
            message = f"the input schema of {name} cannot be used: {reason}"
            raise ManifestError([Fault(self.source.path, 0, "model", message)]) from None
        bound = Binding(form)
        if self.source.is_table:
            file, line = self.table or self.source.path, self.source.header_line
            faults = bound.bind(self.source.columns)
            doubt = self._doubt_header(bound)
            for column, problem in faults:
                self.faults.add(Fault(file, line, column, problem + doubt))
                doubt = ""
        return bound

    def _doubt_header(self, bound: Binding) -> str:
        """Return what is said of a header without any known column, else ""."""
        columns = self.source.columns
        if bound.pairs or any(column.strip() in ROW_WORDS for column in columns):
            return ""
        if any(bound.of_column(column).problem for column in columns):
            return ""  # it is known what was meant
        others = ", ".join(self.source.other_sheets)
        sheets = f" Other sheets of the workbook are {others}" if others else ""
        return f". Line {self.source.header_line} is taken for the header: is it one?{sheets}"

    def _names_model(self, row: Row) -> bool:
        return self.flag is None and _text_or_none(row.model) is not None

    def _unknown_model(self, name: str, row: Row) -> None:
        file, line, column = self.source.path, self.source.key_lines.get("model", 0), "model"
        if self.flag is not None:
            line, column = 0, "--model"
        elif self._names_model(row):
            file, line = row.file or file, row.lines.get("model", row.line)
        message = (
            f"unknown model {shown(name)}: {ids_with(name, self.models)}"
            "`batchgen models list` shows those that are known"
        )
        if id_problem(name) is None:
            message += f", `batchgen models fetch {name}` asks the service for it"
        self.faults.add(Fault(file, line, column, message))


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield rows in order, so many at a time that they need little memory."""
    rows = iter(rows)
    for row in rows:
        chunk = [row]
        room = _CHUNK_CHARACTERS
        for other in islice(rows, _CHUNK_ROWS - 1):
            chunk.append(other)
            room -= _size(other)
            if room < 0:
                break
        yield chunk


def _size(row: Row) -> int:
    try:
        return len("".join(row.cells.values()))
    except TypeError:  # not all are texts
        return len(str(row.cells))


def _refuse_idle(row: Row, bound: Binding, report: Report) -> None:
    """Tell of a prompt or an image that would be carried along, and never sent."""
    for name in (*bound.idle, *filter(bound.is_idle, row.carried)):
        if not is_blank(row.cells.get(name)):
            message = (
                f"{bound.form.model.id} has no such input, and would not get it: leave the cell "
                f"empty, or call the column `{META}{name.strip()}`"
            )
            report(name, message)


def _typed(row: Row, pairs: Sequence[Pair], report: Report) -> dict[str, Any]:
    """Return the inputs of a row with their types."""
    inputs: dict[str, Any] = {}
    given: list[Pair] = []
    cells = row.cells
    for pair in pairs:
        name, path, convert = pair
        value = cells.get(name)
        if is_blank(value):
            continue
        clash = None
        if path[0] in inputs:
            clash = next((it for it in given if overlap(it.path, path)), None)
        if clash is not None:
            common = dotted(min(clash.path, path, key=len))
            report(name, f"sets {common}, which `{clash.name}` sets too: keep one")
            continue
        try:
            converted = convert(value)
        except ValueError as error:
            report(name, str(error))
            continue
        given.append(pair)
        _place(inputs, path, converted)
    for name, value in inputs.items():
        inputs[name] = _settled(value, (name,), given, report)
    return inputs


class _Parts(dict[Any, Any]):
    """A list or mapping that is filled by several columns."""


def _place(inputs: dict[str, Any], path: Path, value: Any) -> None:
    whole: Any = inputs
    for step in path[:-1]:
        whole = whole.setdefault(step, _Parts())
    whole[path[-1]] = value


def _settled(value: Any, path: Path, given: Sequence[Pair], report: Report) -> Any:
    """Return what several columns fill as the list or mapping it is."""
    if not isinstance(value, _Parts):
        return value
    parts = {step: _settled(part, (*path, step), given, report) for step, part in value.items()}
    if not any(isinstance(step, int) for step in parts):
        return parts
    if sorted(map(str, parts)) == sorted(map(str, range(len(parts)))):
        return [parts[place] for place in range(len(parts))]
    last = max(step for step in parts if isinstance(step, int))
    name = next(pair.name for pair in given if pair.path[: len(path) + 1] == (*path, last))
    gap = next((place for place in range(last + 1) if place not in parts), last + 1)
    report(name, f"`{dotted((*path, gap))}` is empty: fill the places of a list from 0 on")
    return [parts[step] for step in sorted(parts, key=str)]


def _named(path: Path, pairs: Sequence[Pair], row: Row) -> tuple[str, str]:
    """Return the column that a place was filled by, and where in it the place is."""
    filled = [pair for pair in pairs if not is_blank(row.cells.get(pair.name))]
    above = [pair for pair in filled if path[: len(pair.path)] == pair.path]
    if above:
        pair = max(above, key=lambda pair: len(pair.path))
        rest = path[len(pair.path) :]
        place = "".join(f"[{it}]" if isinstance(it, int) else f".{it}" for it in rest)
        return pair.name, place.removeprefix(".")
    inside = [pair.name for pair in filled if pair.path[: len(path)] == path]
    return (inside[0] if inside else dotted(path)), ""


def _own_words(row: Row, *, has_seed: bool) -> tuple[Any, Any]:
    """Return `seeds` and `repeat`: a row's own words win over the manifest's defaults."""
    seeds, repeat = row.seeds, row.repeat
    own_seeds = seeds is not None and "seeds" not in row.defaulted
    own_repeat = repeat is not None and "repeat" not in row.defaulted
    if not own_seeds and (has_seed or own_repeat):
        seeds = None
    if not own_repeat and own_seeds:
        repeat = None
    return seeds, repeat


def _was_refused(target: str, pairs: Sequence[Pair], row: Row) -> bool:
    # Its value is there but could not be typed or rendered: that is the fault to tell.
    given = any(pair.path[0] == target and not is_blank(row.cells.get(pair.name)) for pair in pairs)
    return given or bool(row.faults)


def _text(value: Any) -> str:
    return "" if value is None else as_text(value).strip()


def _text_or_none(value: Any) -> str | None:
    return None if isinstance(value, list | dict) else _text(value) or None


def _line_of(file: str, line: int, here: str) -> str:
    return f"line {line}" if file == here else f"{file}:{line}"
