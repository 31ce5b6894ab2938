"""YAML: jobs with defaults, variables and templates, every value with its line."""

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from batchgen.buckets.location import parse_location
from batchgen.domain.errors import Fault, ManifestError, UsageError
from batchgen.domain.spelling import suggestion
from batchgen.manifests import files
from batchgen.manifests.entries import Entry, Scope
from batchgen.manifests.interface import ENTRY_WORDS, Row, Source
from batchgen.manifests.names import MAX_BATCH, name_problem
from batchgen.manifests.positions import Node, compose
from batchgen.manifests.templates import Renderer, TemplateFault, pick, variable_problem
from batchgen.manifests.values import shown

_TOP = ("batch", "model", "budget", "uploads", "defaults", "vars", "jobs")
_OF_JOBS = frozenset(ENTRY_WORDS) - {"meta"}
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
        self.renderer = Renderer()
        variables = self._variables()
        defaults = self._mapping("defaults")
        self._refuse_keys_of_jobs(defaults)
        self._check_meta(defaults)
        self.scope = Scope(path, self.renderer, variables, defaults)
        self.entries = [Entry(job, self.scope) for job in self._jobs()]
        for entry in self.entries:
            self.faults += entry.faults

    def source(self) -> Source:
        batch, model, budget = self._batch(), self._text("model"), self._budget()
        uploads = self._uploads()
        return Source(
            path=self.path,
            stem=Path(self.path).stem,
            read_rows=self.rows,
            is_table=False,
            batch=batch,
            model=model,
            budget_micros=budget,
            uploads=uploads,
            key_lines=self.root.key_lines,
            faults=tuple(self.faults),
            expansions=tuple(entry.expansion for entry in self.entries if entry.expansion),
        )

    def rows(self) -> Iterator[Row]:
        for entry in self.entries:
            yield from entry.rows()

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
            self._check_meta(job)
            jobs.append(job)
        return jobs

    def _check_meta(self, job: Node) -> None:
        meta = job.value.get("meta")
        if meta is not None and meta.value is not None and not isinstance(meta.value, dict):
            message = "must be a mapping, such as {client: acme}"
            self.faults.append(Fault(self.path, job.key_lines["meta"], "meta", message))

    def _variables(self) -> Mapping[str, Any]:
        node = self._mapping("vars")
        variables: dict[str, Any] = {}
        for name, value in node.value.items():
            line = node.key_lines[name]
            # A variable may use those above it.
            try:
                variables[name] = self._rendered(value, name, variables)
            except TemplateFault as fault:
                variables[name] = ""
                self.faults.append(Fault(self.path, line, name, str(fault)))
            problem = variable_problem(name)
            if problem:
                self.faults.append(Fault(self.path, line, name, problem))
        return variables

    def _rendered(self, node: Node, place: str, variables: Mapping[str, Any]) -> Any:
        if isinstance(node.value, list):
            return [
                self._rendered(part, f"{place}[{number}]", variables)
                for number, part in enumerate(node.value)
            ]
        if isinstance(node.value, dict):
            return {
                key: self._rendered(part, f"{place}.{key}", variables)
                for key, part in node.value.items()
            }
        if not isinstance(node.value, str):
            return node.value

        def choose(call: int, options: list[Any]) -> Any:
            return pick(f"vars {place}", call, options)

        return self.renderer.render(node.value, variables, choose=choose)

    def _mapping(self, key: str) -> Node:
        node: Node | None = self.root.value.get(key)
        if node is not None and isinstance(node.value, dict):
            return node
        if node is not None and node.value is not None:
            self._fault(key, "must be a mapping of names to values")
        return Node({}, self.root.line)

    def _refuse_keys_of_jobs(self, defaults: Node) -> None:
        for key in sorted(_OF_JOBS & defaults.value.keys()):
            message = "cannot be a default: write it in each job that needs it"
            self.faults.append(Fault(self.path, defaults.key_lines[key], key, message))

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

    def _uploads(self) -> str | None:
        text = self._text("uploads")
        if text is None:
            return None
        try:
            return str(parse_location(text))
        except UsageError as error:
            self._fault("uploads", str(error))
            return None

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
            if key in _OF_JOBS:
                self._fault(key, "belongs to a job: write it under `jobs`, as a key of one")
            elif key not in _TOP:
                hint = suggestion(key, _TOP) or f"known are {', '.join(_TOP)}; "
                self._fault(key, f"unknown key: {hint}a job's keys go under `jobs`")

    def _fault(self, key: str, message: str) -> None:
        line = self.root.key_lines.get(key, self.root.line)
        self.faults.append(Fault(self.path, line, key, message))
