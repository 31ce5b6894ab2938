"""Exports read as what they tell of a lost job database: batches, jobs, every fault of every row.

Nothing holds all rows: they are read once to be checked, and again to be stored.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple, Self

from batchgen import manifests
from batchgen.buckets.location import is_location, parse_location
from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.jobs import JobSpec, Model
from batchgen.downloads import names
from batchgen.inputs.local import LocalFiles, folder_of
from batchgen.manifests import Checked, Row, Source
from batchgen.manifests.files import changed
from batchgen.rebuilding.journals import Candidate
from batchgen.rebuilding.told import Report, Told, told

_NOBODY = -1  # a row with a fault


@dataclass
class ToldBatch:
    """What exports tell of a batch.

    Attributes:
        columns: Its own, in order.
        jobs: How many.
        roots: Where its clips lie, by how many say so.
        filled: By export, the columns in which any of its rows has something.
    """

    name: str
    model: str
    columns: dict[str, None] = field(default_factory=dict)
    jobs: int = 0
    roots: Counter[str] = field(default_factory=Counter)
    filled: dict[int, set[str]] = field(default_factory=dict)
    checked: dict[int, Checked] = field(default_factory=dict)

    @property
    def root(self) -> str | None:
        """Where most of its clips lie, None if it has none."""
        return next((root for root, _ in self.roots.most_common(1)), None)

    def models(self) -> Mapping[str, Model]:
        """Return the models of its jobs."""
        return {
            name: one for checked in self.checked.values() for name, one in checked.models.items()
        }


class PastRow(NamedTuple):
    """One row: what it tells of its job, as it stands in the file, and what it asks for."""

    batch: ToldBatch
    told: Told
    row: Row
    spec: JobSpec


class Exports:
    """Exports without faults, until they are closed."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._owners = [array("l") for _ in sources]
        self._batches: list[ToldBatch] = []
        self._stack = ExitStack()

    @classmethod
    def read(
        cls,
        paths: Sequence[str],
        *,
        models: Mapping[str, Model] | None,
        journals: Sequence[Candidate] = (),
        files_anywhere: bool = False,
    ) -> Self:
        """Read and check exports.

        Args:
            paths: The files.
            models: The known models; None is those that ship with batchgen.
            journals: Held against every row.
            files_anywhere: Input files of this machine may lie outside of an export's folder.

        Raises:
            ManifestError: With the faults of all of them.
        """
        exports = cls(_opened(paths))
        try:
            faults = exports._look(journals)
            exports._share_columns()
            faults += exports._check(
                models or manifests.load_models(), files_anywhere=files_anywhere
            )
            _refuse(faults)
        except BaseException:
            exports.close()
            raise
        return exports

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free what is kept of the rows."""
        self._stack.close()

    @property
    def batches(self) -> Sequence[ToldBatch]:
        """The batches, in the order in which they appear."""
        return self._batches

    def rows(self) -> Iterator[PastRow]:
        """Read every row again, in order."""
        for number, source in enumerate(self._sources):
            specs = {
                owner: batch.checked[number].specs()
                for owner, batch in enumerate(self._batches)
                if number in batch.checked
            }
            for owner, row, found in self._told(number, source):
                yield PastRow(self._batches[owner], found, row, next(specs[owner]))

    def _told(self, number: int, source: Source) -> Iterator[tuple[int, Row, Told]]:
        pairs = zip(source.rows(), source.results(), self._owners[number], strict=True)
        for row, results, owner in pairs:
            if owner == _NOBODY:
                continue
            found = told(row.result_key, results, _place(row, source), _silent)
            if found is None:
                raise changed(source.path)
            yield owner, row, found

    # The first reading.

    def _look(self, journals: Sequence[Candidate]) -> list[Fault]:
        keys: dict[str, tuple[str, int]] = {}
        requests: dict[str, tuple[str, int]] = {}
        numbers: dict[str, int] = {}
        faults: list[Fault] = []
        for number, source in enumerate(self._sources):
            for row, results in zip(source.rows(), source.results(), strict=True):
                place = _place(row, source)
                report = partial(_add, faults, place)
                found = None if row.faults else told(row.result_key, results, place, report)
                if found is not None and not _is_twice(found, keys, requests, report):
                    owner = numbers.setdefault(found.batch, len(numbers))
                    self._note(owner, number, row, found)
                    for journal in journals:
                        journal.see(found)
                else:
                    owner = _NOBODY
                    faults += row.faults
                self._owners[number].append(owner)
        return faults

    def _note(self, owner: int, number: int, row: Row, found: Told) -> None:
        if owner == len(self._batches):
            self._batches.append(ToldBatch(found.batch, found.model))
        batch = self._batches[owner]
        batch.jobs += 1
        filled = batch.filled.setdefault(number, set())
        filled.update(name for name, value in row.cells.items() if value not in (None, ""))
        if found.files:
            batch.roots[root_of(found.files[0].file, found.batch)] += 1

    def _share_columns(self) -> None:
        """Give each batch the columns that it had, so far as they show.

        An export of several batches has the columns of the first, then what the next one has
        beside them, and so on: a column without any value is its who has one behind it.
        """
        for number, source in enumerate(self._sources):
            there = [batch for batch in self._batches if number in batch.filled]
            left = list(source.columns)
            for batch in there:
                filled = batch.filled[number]
                last = max((at for at, name in enumerate(left) if name in filled), default=-1)
                own = left if batch is there[-1] else left[: last + 1]
                mine = filled.union(own)
                batch.columns |= dict.fromkeys(one for one in source.columns if one in mine)
                left = left[len(own) :]

    # The second reading.

    def _check(self, models: Mapping[str, Model], *, files_anywhere: bool) -> list[Fault]:
        faults: list[Fault] = []
        for owner, batch in enumerate(self._batches):
            for number in batch.filled:
                try:
                    source = self._sources[number]
                    checked = manifests.check(
                        self._part(number, owner),
                        models=models,
                        allow_private_inputs=True,  # they were sent already
                        allow_unknown_inputs=True,
                        files=LocalFiles([folder_of(source.path)], anywhere=files_anywhere),
                        has_uploads=True,
                    )
                except ManifestError as error:
                    faults += error.faults
                    continue
                batch.checked[number] = checked
                self._stack.callback(checked.close)
        return faults

    def _part(self, number: int, owner: int) -> Source:
        """Return one batch's rows of one file, each with the model that its job has."""
        source, batch = self._sources[number], self._batches[owner]
        columns = tuple(name for name in source.columns if name in batch.columns)

        def rows() -> Iterator[Row]:
            for mine, row, found in self._told(number, source):
                if mine == owner:
                    cells = {name: row.cells[name] for name in columns if name in row.cells}
                    yield row._replace(cells=cells, model=found.model)

        return replace(source, columns=columns, read_rows=rows)


def _opened(paths: Sequence[str]) -> list[Source]:
    sources: list[Source] = []
    faults: list[Fault] = []
    for path in dict.fromkeys(paths):
        try:
            source = manifests.read(path)
        except ManifestError as error:
            faults += error.faults
            continue
        if source.read_results is None:
            message = (
                "is no export of batchgen: it has no column result_key. `batchgen add` stores the "
                "jobs of a manifest"
            )
            faults.append(Fault(source.path, 0, "", message))
        sources.append(source)
    if faults:
        raise ManifestError(faults)
    return sources


def _is_twice(
    found: Told,
    keys: dict[str, tuple[str, int]],
    requests: dict[str, tuple[str, int]],
    report: Report,
) -> bool:
    is_twice = False
    for name, known, value in (
        ("result_key", keys, found.key),
        ("result_request_id", requests, found.request_id),
    ):
        first = None if value is None else known.setdefault(value, found.place)
        if first is not None and first is not found.place:
            message = f"{value} is already in {first[0]}:{first[1]}: keep the newer of the two rows"
            report(name, message)
            is_twice = True
    return is_twice


def _add(faults: list[Fault], place: tuple[str, int], column: str, message: str) -> None:
    faults.append(Fault(*place, column, message))


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise ManifestError(sorted(set(faults)))


def _place(row: Row, source: Source) -> tuple[str, int]:
    return row.file or source.path, row.line


def _silent(column: str, message: str) -> None:
    """Say nothing: it was said at the first reading."""


def root_of(file: str, batch: str) -> str:
    """Return the output folder of a clip, as far as its path shows.

    By default a clip lies in a folder called as its batch, and the output folder is what that
    folder lies in.
    """
    if is_location(file):
        place = parse_location(file)
        inside = root_of(place.path, batch)
        return str(replace(place, path="" if inside == "." else inside))
    path = PurePosixPath(file)
    folder, slug = path.parent, names.safe_component(batch)
    for above in (folder, *folder.parents):
        if above.name == slug:
            return str(above.parent)
    return str(folder)
