"""One entry of a YAML manifest's `jobs`, with its defaults, variables and table: its rows.

What an entry does not say itself comes from the row of its table (`from`), and what that leaves
empty from `defaults`. Values are filled in with the variables of `vars`, then the columns of the
row, then the combination of its matrix; the later win.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.identity import canonical
from batchgen.domain.jobs import encoded
from batchgen.manifests import files, matrix, tables
from batchgen.manifests.interface import ENTRY_WORDS, NOTHING, ROW_WORDS, Expansion, Row, Source
from batchgen.manifests.positions import Node
from batchgen.manifests.templates import (
    Renderer,
    Template,
    TemplateFault,
    is_template,
    pick,
    refuse_unknown,
    variable_problem,
)
from batchgen.manifests.values import is_blank, shown

ROW = "row"
"""The variable that holds all columns of a table's row."""

_INSIDE = re.compile(r"[.\[].*", re.DOTALL)  # of a value: `[0].text` of `elements[0].text`
_Place = tuple[str, Node, int]  # a key of an entry: what to call it, its value, its line
_Text = tuple[str, int, str]


@dataclass(frozen=True)
class Scope:
    """What all entries of a manifest share.

    Attributes:
        path: The manifest, as the user wrote it.
        renderer: Fills in templates.
        variables: Of `vars`.
        defaults: A mapping.
    """

    path: str
    renderer: Renderer
    variables: Mapping[str, Any]
    defaults: Node


@dataclass(frozen=True, slots=True)
class _Field:
    """A key of an entry or of its `meta`, and what is known of its value beforehand."""

    name: str
    node: Node
    line: int
    plain: Any  # if there are no templates in it
    is_template: bool = False
    names: frozenset[str] = frozenset()  # of variables
    chooses: bool = False
    fault: Fault | None = None


@dataclass(slots=True)
class _Origin:
    """What one row is made of, beside the entry itself."""

    table_row: Row | None
    combination: Mapping[str, Any]
    variables: Mapping[str, Any]
    row_id: str = ""
    urls: Sequence[str] = ()
    may_choose: bool = False

    @property
    def place(self) -> str:
        """Say which row it is, for messages: " (rows.csv:7, subject: fox)"."""
        told = [f"{name}: {shown(value)}" for name, value in self.combination.items()]
        if self.table_row is not None:
            told.insert(0, f"{self.table_row.file}:{self.table_row.line}")
        return f" ({', '.join(told)})" if told else ""


@dataclass(frozen=True, slots=True)
class _Part:
    """What an entry and the defaults say about rows that are alike in what they leave open."""

    fields: Sequence[_Field]
    lines: Mapping[str, int]
    defaulted: frozenset[str]
    carried: frozenset[str]


class Entry:
    """An entry, read once; its rows are made one by one, as often as wanted."""

    def __init__(self, job: Node, scope: Scope) -> None:
        """Read an entry; what is wrong with it as a whole is in `faults`."""
        self.faults: list[Fault] = []
        self._scope = scope
        self._job = job
        self._known = set(scope.variables)
        self._table = self._open_table()
        self._matrix = matrix.parse(job, value=self._constant, report=self._report)
        self._columns = self._usable_columns()
        self._is_whole = not self.faults
        self._has_good_ids = True
        self._known.update(self._matrix.names if self._matrix else ())
        self._known.update({*self._columns, ROW} if self._table else ())
        self._own, self._given = frozenset(_keys(job)), frozenset(_keys(scope.defaults))
        self._parts: dict[tuple[Any, ...], _Part] = {}
        self._fields = [self._field(*key) for key in _merged(_keys(job), _keys(scope.defaults))]
        self._meta = [self._field(*key) for key in _merged(_meta(job), _meta(scope.defaults))]
        own_meta = {f"meta.{name}" for name in _meta(job)}
        self._given_meta = frozenset(field.name for field in self._meta) - own_meta
        everything = [*self._fields, *self._meta]
        self._uses_templates = any(field.is_template for field in everything)
        self._chooses = any(field.chooses for field in everything)
        faults = [field.fault for field in everything if field.fault]
        if self._is_whole:
            self.faults += faults
            if not faults:
                self._check_use(everything)
            self._check_id()

    @property
    def expansion(self) -> Expansion | None:
        """How many jobs its matrix makes at most, None if it has none."""
        if self._matrix is None:
            return None
        jobs = self._matrix.most
        for field in self._fields:
            if field.name == "seeds" and isinstance(field.plain, list) and "seeds" in self._own:
                jobs *= max(1, len(field.plain))
            if field.name == "repeat" and isinstance(field.plain, int) and "repeat" in self._own:
                jobs *= max(1, field.plain)
        return Expansion(self._matrix.line, self._matrix.key, jobs)

    def rows(self) -> Iterator[Row]:
        """Make the rows: those of the table outermost, then the combinations in order."""
        if not self._is_whole:
            return
        if self._table is None:
            yield from self._combined(None)
            return
        number = 0
        for number, table_row in enumerate(self._table.rows(), 1):  # noqa: B007 - counted
            placed = table_row._replace(file=table_row.file or self._table.path)
            if placed.faults:  # its cells may have slipped into other columns
                yield Row(placed.line, NOTHING, file=placed.file, faults=placed.faults)
            else:
                yield from self._combined(placed)
        if number == 0:
            message = f"{self._table.path} has no rows below its header: it needs at least one"
            yield self._faulty("from", message)

    # Reading.

    def _open_table(self) -> Source | None:
        node = self._job.value.get("from")
        if node is None:
            return None
        name = self._constant(node, "from")
        if not isinstance(name, str) or not name.strip():
            self._about("from", "must be the path of a table, such as rows.csv")
            return None
        path = str(Path(self._scope.path).parent / name.strip())
        if not Path(files.without_sheet(path)[0]).exists():
            folder = Path(path).parent.absolute()
            self._about("from", f"{path}: no such file: it was looked for in {folder}")
            return None
        try:
            table = tables.read(path)
        except ManifestError as error:
            for fault in error.faults:
                self._about("from", str(fault))
            return None
        for fault in table.faults:
            self._about("from", str(fault))
        if table.has_result_keys:
            message = "is a result table, whose rows have their jobs: run it by itself"
            self._about("from", f"{path} {message}")
        return table

    def _usable_columns(self) -> dict[str, str]:
        """Return the columns that are variables, each with its name in the table."""
        if self._table is None:
            return {}
        columns = {column.strip(): column for column in self._table.columns}
        if self._matrix:
            for name in self._matrix.names:
                if name in columns or name == ROW:
                    message = f"{name} is a variable of {self._table.path} too: rename one"
                    self._report(self._matrix.line, self._matrix.key, message)
        return {
            name: column
            for name, column in columns.items()
            if name != ROW and not variable_problem(name)
        }

    def _field(self, name: str, node: Node, line: int) -> _Field:
        templates: list[Template] = []
        fault = None
        for place, part_line, text in _texts(node, name, line):
            try:
                template = self._scope.renderer.template(text)
                if self._is_whole:
                    refuse_unknown(template, self._known)
                templates.append(template)
            except TemplateFault as error:
                fault = fault or Fault(self._scope.path, part_line, place, str(error))
        return _Field(
            name=name,
            node=node,
            line=line,
            plain=None if templates or fault else node.plain(),
            is_template=bool(templates),
            names=frozenset[str]().union(*(template.names for template in templates)),
            chooses=any(template.chooses for template in templates),
            fault=fault,
        )

    def _check_use(self, everything: Sequence[_Field]) -> None:
        used = frozenset[str]().union(*(field.names for field in everything))
        for axis in self._matrix.axes if self._matrix else ():
            if len(axis.steps) > 1 and used.isdisjoint(axis.names):
                name = axis.names[0]
                message = (
                    f"no value of the job uses it, so its clips would be the same: write "
                    f"{{{{ {name} }}}} where it belongs, or use `repeat` for several takes"
                )
                self._report(axis.line, name, message)

    def _check_id(self) -> None:
        """Refuse an id that is surely the same in several rows."""
        axes = self._matrix.axes if self._matrix and self._matrix.most > 1 else ()
        wanted = [f"{{{{ {axis.names[0]} }}}}" for axis in axes]
        if self._table is not None and "id" not in self._own:
            if self._matrix and axes and "id" in self._columns:
                self._about_id(self._matrix.line, ["{{ row.id }}", *wanted])
            return
        field = next((field for field in self._fields if field.name == "id"), None)
        if field is None or field.fault or field.node.value is None:
            return
        lacking = []
        if self._table is not None and field.names.isdisjoint({ROW, *self._columns}):
            lacking.append(f"{{{{ {next(iter(self._columns), 'row.NAME')} }}}}")
        if self._matrix and axes and field.names.isdisjoint(self._matrix.names):
            lacking += wanted
        if lacking:
            self._about_id(field.line, [str(field.node.value), *lacking])

    def _about_id(self, line: int, parts: Sequence[str]) -> None:
        message = f"the id must contain the variables, such as {'-'.join(parts)}"
        self._report(line, "id", message)
        self._has_good_ids = False

    # Making rows.

    def _combined(self, table_row: Row | None) -> Iterator[Row]:
        if self._matrix is None:
            yield self._row(_Origin(table_row, NOTHING, NOTHING))
            return
        none = True
        for combination in self._matrix.combinations():
            none = False
            yield self._row(_Origin(table_row, combination, NOTHING))
        if none:
            message = "takes every combination away: leave one, or take the job out"
            yield self._faulty("exclude", message)

    def _row(self, origin: _Origin) -> Row:
        faults: list[Fault] = []
        table_row = origin.table_row
        columns = {} if table_row is None else _stripped(table_row.cells)
        if self._uses_templates:
            origin.variables = self._variables(origin)
        part = self._part(columns)
        values = self._filled(part.fields, origin, faults)
        meta = {field.name: self._value(field, origin, faults) for field in self._meta}
        words: dict[str, Any] = {}
        for word in ROW_WORDS:
            words[word] = values.pop(word, None)
            if table_row is not None and words[word] is None and word not in self._own:
                words[word] = getattr(table_row, word)
        if not self._has_good_ids:  # told already; that they are there twice would be too much
            words["id"] = None
        cells = {word: words[word] for word in ("id", "model") if words[word] is not None}
        for name, cell in columns.items():
            back = self._carried_name(name)
            if back != name or name not in cells:
                value = values.pop(name, None) if back == name else None
                cells[back] = cell if value is None else value
        cells |= {name: value for name, value in values.items() if value is not None}
        return Row(
            line=self._job.line if table_row is None else table_row.line,
            cells=cells,
            **words,
            meta={name[len("meta.") :]: value for name, value in meta.items() if value is not None},
            lines=part.lines,
            defaulted=part.defaulted,
            faults=tuple(faults),
            variables=origin.combination,
            file=None if table_row is None else table_row.file,
            carried=part.carried,
            header_line=1 if self._table is None else self._table.header_line,
        )

    def _part(self, columns: Mapping[str, Any]) -> _Part:
        """Return what the entry and the defaults have to say about a row."""
        # What the table's row gives, `defaults` need not.
        filled = frozenset(
            name
            for name in self._given
            if name not in self._own and not is_blank(columns.get(name))
        )
        alike = (filled, *columns)
        part = self._parts.get(alike)
        if part is None:
            fields = [field for field in self._fields if field.name not in filled]
            lines = {field.name: field.line for field in fields}
            carried = frozenset(self._carried_name(name) for name in columns)
            self._parts[alike] = part = _Part(
                fields=fields,
                lines=lines | {field.name: field.line for field in self._meta},
                defaulted=(frozenset(lines) - self._own) | self._given_meta,
                carried=carried - lines.keys(),
            )
        return part

    def _carried_name(self, column: str) -> str:
        # What has done its work already, or is overruled, comes back all the same.
        has_gone = column in self._own or column in ("seeds", "repeat")
        return f"meta.{column}" if has_gone else column

    def _variables(self, origin: _Origin) -> dict[str, Any]:
        variables = dict(self._scope.variables)
        if origin.table_row is not None:
            columns = _stripped(origin.table_row.cells)
            row = {name: cell for name, cell in columns.items() if not is_blank(cell)}
            variables |= {name: row[name] for name in self._columns if name in row}
            variables[ROW] = row
        return {**variables, **origin.combination}

    def _filled(
        self, fields: Sequence[_Field], origin: _Origin, faults: list[Fault]
    ) -> dict[str, Any]:
        # What `choice` picks follows from the rest of the row, so that comes first.
        early = {
            field.name: self._value(field, origin, faults)
            for field in fields
            if field.name == "id" or not field.chooses
        }
        if self._chooses:
            row_id = early.get("id")
            if row_id is None and origin.table_row is not None and "id" not in self._own:
                row_id = origin.table_row.id
            origin.row_id = "" if row_id is None else str(row_id).strip()
            inputs = (value for name, value in early.items() if name not in ROW_WORDS)
            origin.urls = sorted(_urls(list(inputs)))
            origin.may_choose = True
        if not self._chooses:
            return early
        return {
            field.name: early[field.name]
            if field.name in early
            else self._value(field, origin, faults)
            for field in fields
        }

    def _value(self, field: _Field, origin: _Origin, faults: list[Fault]) -> Any:
        if field.fault:
            faults.append(field.fault)
            return None
        if not field.is_template:
            return field.plain
        return self._fill(field.node, field.name, field.line, origin, faults)

    def _fill(self, node: Node, place: str, line: int, origin: _Origin, faults: list[Fault]) -> Any:
        if isinstance(node.value, list):
            return [
                self._fill(part, f"{place}[{number}]", part.line, origin, faults)
                for number, part in enumerate(node.value)
            ]
        if isinstance(node.value, dict):
            return {
                key: self._fill(part, f"{place}.{key}", node.key_lines[key], origin, faults)
                for key, part in node.value.items()
            }
        if not isinstance(node.value, str) or not is_template(node.value):
            return node.value
        try:
            return self._rendered(node.value, place, origin)
        except TemplateFault as fault:
            faults.append(Fault(self._scope.path, line, place, f"{fault}{origin.place}"))
            return None

    def _rendered(self, text: str, place: str, origin: _Origin) -> Any:
        template = self._scope.renderer.template(text)

        def choose(call: int, options: list[Any]) -> Any:
            return pick(self._identity(template, place, origin), call, options)

        return self._scope.renderer.render(
            text,
            origin.variables,
            choose=choose if origin.may_choose else None,
            absent=self._known,
        )

    def _identity(self, template: Template, place: str, origin: _Origin) -> str:
        """Return what a pick hangs on: never on where the row stands, or on other rows.

        Nothing that could change without making the row another job anyway; so of a table's row
        only its id will do, because here nobody knows which of its columns are inputs, and the
        key does not count, because an input has several names.
        """
        part = _INSIDE.search(place)
        text = [part[0] if part else "", template.literal]
        if origin.row_id:
            return encoded(["id", origin.row_id, *text])
        if origin.table_row is not None:
            raise TemplateFault(
                "template: `choice` needs an id in rows of a table, so that what it picks stays: "
                "give the row one"
            )
        used = {name: origin.combination.get(name) for name in sorted(template.names)}
        own = {name: value for name, value in used.items() if name in origin.combination}
        return encoded(["content", *text, own, origin.urls])

    # Faults.

    def _constant(self, node: Node, name: str) -> Any:
        """Return what a part of the entry stands for that is the same for all its rows."""
        faults: list[Fault] = []
        origin = _Origin(None, NOTHING, self._scope.variables)
        value = self._fill(node, name, node.line, origin, faults)
        self.faults += faults
        return value

    def _report(self, line: int, name: str, message: str) -> None:
        self.faults.append(Fault(self._scope.path, line, name, message))

    def _about(self, key: str, message: str) -> None:
        self._report(self._job.key_lines[key], key, message)

    def _faulty(self, key: str, message: str) -> Row:
        line = self._job.key_lines[key]
        return Row(line, NOTHING, faults=(Fault(self._scope.path, line, key, message),))


def _stripped(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {column.strip(): cell for column, cell in cells.items()}


def _keys(entry: Node) -> dict[str, _Place]:
    return {
        name: (name, node, entry.key_lines[name])
        for name, node in entry.value.items()
        if name not in ENTRY_WORDS
    }


def _meta(entry: Node) -> dict[str, _Place]:
    node = entry.value.get("meta")
    if node is None or not isinstance(node.value, dict):
        return {}
    return {name: (f"meta.{name}", part, part.line) for name, part in node.value.items()}


def _merged(own: dict[str, _Place], given: dict[str, _Place]) -> list[_Place]:
    # `key: null` in a job takes a default away.
    return [*own.values(), *(place for name, place in given.items() if name not in own)]


def _texts(node: Node, place: str, line: int) -> Iterator[_Text]:
    """Find the templates in a value: what to call each, its line, its text."""
    if isinstance(node.value, list):
        for number, part in enumerate(node.value):
            yield from _texts(part, f"{place}[{number}]", part.line)
    elif isinstance(node.value, dict):
        for key, part in node.value.items():
            yield from _texts(part, f"{place}.{key}", node.key_lines[key])
    elif isinstance(node.value, str) and is_template(node.value):
        yield place, line, node.value


def _urls(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith(
        ("https://", "http://", "s3://", "gs://", "az://")
    ):
        yield canonical(value)
    elif isinstance(value, list):
        for part in value:
            yield from _urls(part)
    elif isinstance(value, dict):
        yield from _urls(list(value.values()))
