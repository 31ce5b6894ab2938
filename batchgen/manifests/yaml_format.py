"""YAML: jobs with defaults, variables and templates, every value with its line."""

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from batchgen.domain.errors import Fault, ManifestError
from batchgen.manifests import files
from batchgen.manifests.interface import Row, Source
from batchgen.manifests.names import MAX_BATCH, name_problem, suggestion
from batchgen.manifests.positions import Node, compose
from batchgen.manifests.templates import Renderer, TemplateFault
from batchgen.manifests.values import shown

_TOP = ("batch", "model", "budget", "defaults", "vars", "jobs")
_LATER = frozenset({"matrix", "exclude", "include", "from", "zip"})
_MOST_USD = Decimal(1_000_000_000)

LARGEST_BYTES = 32 * 1024**2
"""A YAML file is held in memory as a whole, and takes many times its size; a table is not."""


def read(path: str) -> Source:
    """Open a YAML manifest.

    Raises:
        ManifestError: If it is not YAML, or no mapping. What is wrong with its keys is in
            `Source.faults`, so that it is told together with what is wrong with its rows.
    """
    size_bytes = files.stamp(path)[1]
    if size_bytes > LARGEST_BYTES:
        message = f"has {size_bytes:,} bytes, as YAML at most {LARGEST_BYTES:,} are read: use CSV"
        raise ManifestError([Fault(path, 0, "", message)])
    try:
        with files.open_text(path, newline=None) as file:
            text = file.read()
    except UnicodeError:
        raise files.undecodable(path) from None
    root = compose(text, file=path)
    if root is None or root.value is None:
        raise ManifestError([Fault(path, 0, "", "is empty: it needs at least one job")])
    return _Document(path, root).source()


class _Document:
    def __init__(self, path: str, root: Node) -> None:
        self.path = path
        self.faults: list[Fault] = []
        if not isinstance(root.value, dict):
            message = "must be a mapping with the key `jobs`"
            raise ManifestError([Fault(path, root.line, "", message)])
        self.root = root
        self._refuse_unknown_keys()
        self.renderer = Renderer({})
        self.variables = self._variables()
        self.renderer = Renderer(self.variables)
        self.defaults = self._mapping("defaults")
        self._check_meta(self.defaults)
        self.jobs = self._jobs()

    def source(self) -> Source:
        batch, model, budget = self._batch(), self._text("model"), self._budget()
        return Source(
            path=self.path,
            stem=Path(self.path).stem,
            read_rows=self.rows,
            is_table=False,
            batch=batch,
            model=model,
            budget_micros=budget,
            key_lines=self.root.key_lines,
            faults=tuple(self.faults),
        )

    def rows(self) -> Iterator[Row]:
        for job in self.jobs:
            yield self._row(job)

    def _row(self, job: Node) -> Row:
        faults: list[Fault] = []
        own, given = job.value, self.defaults.value
        lines = self.defaults.key_lines | job.key_lines
        # `key: null` in a job takes a default away.
        merged = own | {key: node for key, node in given.items() if key not in own}
        meta_nodes = self._meta(own.get("meta")) | {}
        for key, node in self._meta(given.get("meta")).items():
            meta_nodes.setdefault(key, node)
        meta = {
            key: self._rendered(node, key, node.line, faults) for key, node in meta_nodes.items()
        }
        values = {
            key: self._rendered(node, key, lines[key], faults)
            for key, node in merged.items()
            if key != "meta"
        }
        seeds, repeat = values.pop("seeds", None), values.pop("repeat", None)
        row_id, model = values.pop("id", None), values.pop("model", None)
        words = {"id": row_id, "model": model}
        cells = {key: value for key, value in words.items() if value is not None}
        cells |= {key: value for key, value in values.items() if value is not None}
        return Row(
            line=job.line,
            cells=cells,
            id=row_id,
            model=model,
            seeds=seeds,
            repeat=repeat,
            meta={key: value for key, value in meta.items() if value is not None},
            lines=lines | {f"meta.{key}": node.line for key, node in meta_nodes.items()},
            defaulted=frozenset(given) - frozenset(own),
            faults=tuple(faults),
        )

    def _rendered(self, node: Node, key: str, line: int, faults: list[Fault]) -> Any:
        try:
            return _render(node.plain(), self.renderer)
        except TemplateFault as fault:
            faults.append(Fault(self.path, line, key, str(fault)))
            return None

    def _jobs(self) -> list[Node]:
        node = self.root.value.get("jobs")
        if node is None or node.value in (None, []):
            self._fault("jobs", "there are none: the manifest needs at least one job")
            return []
        if not isinstance(node.value, list):
            self._fault("jobs", "must be a list: begin each job with `- `")
            return []
        jobs = []
        for job in node.value:
            if not isinstance(job.value, dict):
                message = "a job must be a mapping such as `- image: https://…`"
                self.faults.append(Fault(self.path, job.line, "jobs", message))
                continue
            later = sorted(_LATER & job.value.keys())
            for key in later:
                message = "not supported in this version: write the jobs out, or use a CSV"
                self.faults.append(Fault(self.path, job.key_lines[key], key, message))
            self._check_meta(job)
            if not later:
                jobs.append(job)
        return jobs

    def _check_meta(self, job: Node) -> None:
        meta = job.value.get("meta")
        if meta is not None and meta.value is not None and not isinstance(meta.value, dict):
            message = "must be a mapping, such as {client: acme}"
            self.faults.append(Fault(self.path, job.key_lines["meta"], "meta", message))

    def _meta(self, node: Node | None) -> dict[str, Node]:
        return node.value if node is not None and isinstance(node.value, dict) else {}

    def _variables(self) -> Mapping[str, Any]:
        node = self._mapping("vars")
        variables: dict[str, Any] = {}
        for name, value in node.value.items():
            # A variable may use those above it.
            try:
                variables[name] = _render(value.plain(), Renderer(variables))
            except TemplateFault as fault:
                variables[name] = ""
                self.faults.append(Fault(self.path, node.key_lines[name], name, str(fault)))
            if not name.isidentifier():
                message = "is not a name a template can use: letters, digits and _ only"
                self.faults.append(Fault(self.path, node.key_lines[name], name, message))
        return variables

    def _mapping(self, key: str) -> Node:
        node = self.root.value.get(key)
        if node is not None and isinstance(node.value, dict):
            if key == "defaults":
                for later in sorted(_LATER & node.value.keys()):
                    message = "not supported in this version"
                    self.faults.append(Fault(self.path, node.key_lines[later], later, message))
            kept = {name: part for name, part in node.value.items() if name not in _LATER}
            return Node(kept if key == "defaults" else node.value, node.line, node.key_lines)
        if node is not None and node.value is not None:
            self._fault(key, "must be a mapping of names to values")
        return Node({}, self.root.line)

    def _text(self, key: str) -> str | None:
        node = self.root.value.get(key)
        if node is None or node.value is None:
            return None
        if isinstance(node.value, list | dict):
            self._fault(key, "must be one value, not a list or mapping: write it after the colon")
            return None
        return str(node.value).strip() or None

    def _batch(self) -> str | None:
        batch = self._text("batch")
        problem = None if batch is None else name_problem(batch, most=MAX_BATCH)
        if problem:
            self._fault("batch", f"the name {shown(batch)} {problem}")
            return None
        return batch

    def _budget(self) -> int | None:
        text = self._text("budget")
        if text is None:
            return None
        try:
            usd = Decimal(text.removeprefix("$"))
        except InvalidOperation:
            usd = Decimal("NaN")
        if not usd.is_finite() or not Decimal(0) < usd < _MOST_USD:
            self._fault("budget", f"{text} is not an amount: write US dollars above 0, such as 60")
            return None
        micros = int(usd * 1_000_000)
        if micros == 0:
            self._fault("budget", f"{text} is less than a millionth of a dollar")
        return micros

    def _refuse_unknown_keys(self) -> None:
        for key in self.root.value:
            if key in _LATER:
                self._fault(key, "not supported in this version")
            elif key not in _TOP:
                hint = suggestion(key, _TOP) or f"known are {', '.join(_TOP)}; "
                self._fault(key, f"unknown key: {hint}a job's keys go under `jobs`")

    def _fault(self, key: str, message: str) -> None:
        line = self.root.key_lines.get(key, self.root.line)
        self.faults.append(Fault(self.path, line, key, message))


def _render(value: Any, renderer: Renderer) -> Any:
    if isinstance(value, str):
        return renderer.render(value)
    if isinstance(value, list):
        return [_render(part, renderer) for part in value]
    if isinstance(value, dict):
        return {key: _render(part, renderer) for key, part in value.items()}
    return value
