"""What a run finds of its input files before it asks, and what becomes of their jobs."""

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import click

from batchgen import planning
from batchgen.cli.common import looking, plural
from batchgen.domain.errors import Fault
from batchgen.domain.jobs import JobSpec, Model
from batchgen.library.known_models import known_models
from batchgen.planning import Verdict
from batchgen.probing import BELIEVED_MS, Finding, Inspection, Said
from batchgen.runner.clocks import steady_s, wall_ms
from batchgen.runner.deadline import in_words
from batchgen.store import probes
from batchgen.store.database import Database, chunks
from batchgen.store.probes import Seen, Waiting
from batchgen.store.reads import Kind
from batchgen.store.scope import Scope
from batchgen.store.transactions import Transaction

SHOWN = 10
"""Jobs that are named for each sort of trouble."""

_LOOKED_AT = tuple(
    verdict
    for verdict in Verdict
    if verdict not in (Verdict.LEFT, Verdict.BUSY, Verdict.HELD)  # nothing is paid for these
)
_KINDS = 1000  # of warnings that are told apart
_TELL_S = 0.2
_TOGETHER = 1000  # changes of one transaction


class Candidate(NamedTuple):
    """A job that the run would pay for if its input files can be used.

    Attributes:
        is_unfit: Whether an earlier probe found that they cannot.
        has_clip: Whether it is finished, and would be bought again as a new version.
        columns: What the user called its inputs.
    """

    place: str
    model: str
    inputs: Mapping[str, Any]
    settings: str | None
    listed: int | None
    is_unfit: bool
    has_clip: bool = False
    columns: Collection[str] = ()


@dataclass
class Probed:
    """What was found of the input files of a run's jobs.

    Attributes:
        inspection: The files.
        seconds: How long it took.
        found_ms: When.
        faults: Jobs that cannot be paid for, the first few: place and reason.
        unfit: How many they are.
        warned: What else is to be said of files: how many jobs, and the first of them.
        warnings: How many jobs in all.
        less: Of the unfit ones, those that would have been paid for, by what they are alike in.
        fit_again: Jobs that earlier could not be paid for, and can now.
    """

    inspection: Inspection
    seconds: float = 0
    found_ms: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    unfit: int = 0
    warned: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    warnings: int = 0
    less: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    fit_again: list[Kind] = field(default_factory=list)

    def of(self, planned: Iterable[Kind]) -> list[Kind]:
        """Return those of the planned jobs that can be paid for, and those that can be again."""
        less = self.less.copy()
        found = list(self.fit_again)
        for kind in planned:
            taken = min(kind.jobs, less[kind.model, kind.settings])
            less[kind.model, kind.settings] -= taken
            if kind.jobs > taken:
                found.append(replace(kind, jobs=kind.jobs - taken))
        return found

    def lines(self) -> list[str]:
        """Return what is to be said before anything is paid."""
        looked = self.inspection
        if not looked.files:
            return []
        head = f"{plural(looked.files, 'input file')}: {looked.looked_at:,} looked at"
        if self.seconds >= 1:
            head += f" in {self.seconds:.0f} s"
        if looked.believed and looked.oldest_ms is not None:
            age_s = max(60, (self.found_ms - looked.oldest_ms) // 60_000 * 60)
            head += f", {looked.believed:,} believed from a look up to {in_words(age_s)} ago"
        found = [head]
        if self.unfit:
            found.append(
                f"  {plural(self.unfit, 'job')} not paid for: an input file cannot be used; each "
                "run looks again"
            )
            found += [f"    {place}: {words}" for place, words in self.faults]
            found += _rest(self.unfit - len(self.faults))
        if again := sum(kind.jobs for kind in self.fit_again):
            found.append(f"  {plural(again, 'job')} to be paid for now: the input files are fine")
        if self.warnings:
            have = "has" if self.warnings == 1 else "have"
            found.append(
                f"  warning: {plural(self.warnings, 'job')} {have} an input file that may not do, "
                "and will be paid for"
            )
            for (name, words), (jobs, place) in list(self.warned.items())[:SHOWN]:
                found.append(f"    {plural(jobs, 'job')}, the first {place}: {name}: {words}")
            found += _rest(len(self.warned) - SHOWN)
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the same as data."""
        return {
            "files": self.inspection.files,
            "looked_at": self.inspection.looked_at,
            "believed": self.inspection.believed,
            "unfit": self.unfit,
            "fit_again": sum(kind.jobs for kind in self.fit_again),
            "warnings": self.warnings,
        }

    def spare(self, plan: planning.Plan, tx: Transaction | None) -> None:
        """Leave those finished jobs of a plan alone whose new input files cannot be used.

        Else a clip that was paid for would be given up for a version that is never bought.
        """
        plan.leave(
            item
            for item in plan.items(tx, Verdict.REPLACED)
            if self.inspection.check(item.spec.model, item.spec.inputs).faults
        )

    def sift(self, database: Database, account_id: int, scope: Scope, *, now_ms: int) -> None:
        """Fail the jobs of a scope that cannot be paid for, let wait those that can again.

        They are judged without the lock of writers, and written a few at a time: each change
        holds only for a job that is still as it was.
        """
        for kept in chunks(self.inspection.to_keep(self.found_ms), _TOGETHER):
            with database.transaction() as tx:
                probes.keep(tx, kept)
        with database.reading() as tx:
            chosen = list(self._judged(tx, account_id, scope))
        for part in chunks(chosen, _TOGETHER):
            with database.transaction() as tx:
                for job, reason in part:
                    if reason is None:
                        probes.revive(tx, job, now_ms=now_ms)
                    else:
                        probes.fail(tx, job, reason, now_ms=now_ms)

    def _judged(
        self, tx: Transaction, account_id: int, scope: Scope
    ) -> Iterator[tuple[Waiting, str | None]]:
        """Yield the jobs to be changed: why each cannot be paid for, None if it can again."""
        models = known_models()
        for job in probes.waiting(tx, account_id, scope.batch_ids, max_job_id=scope.max_job_id):
            if job.id in scope.excluded or not scope.judges(job.id):
                continue
            finding = self.inspection.check(job.model, job.inputs)
            slim = replace(job, inputs={}, columns=())  # many of them are held
            if finding.faults:
                yield slim, _in_words(finding.faults, job.columns, models.get(job.model))
            elif job.is_unfit:
                yield slim, None if finding.is_fit else job.error or ""


def probe_jobs(
    database: Database,
    candidates: Callable[[], Iterable[Candidate]],
    *,
    allow_private: bool,
    quiet: bool,
) -> Probed:
    """Look at the input files of jobs, and judge each of them.

    Args:
        database: What was found lately is believed, if there is one.
        candidates: Gives the jobs; asked twice, so that nobody holds them all.
        allow_private: `--allow-private-inputs`.
        quiet: Show no progress.
    """
    models = known_models()
    probed = Probed(Inspection(models, allow_private=allow_private))
    inspection = probed.inspection
    inspection.collect((one.model, one.inputs) for one in candidates())
    began_s = steady_s()
    _look(inspection, database if database.exists() else None, quiet=quiet)
    probed.seconds = steady_s() - began_s
    probed.found_ms = wall_ms()
    for one in candidates():
        _sort(probed, one, models.get(one.model), inspection.check(one.model, one.inputs))
    return probed


def _sort(probed: Probed, one: Candidate, model: Model | None, finding: Finding) -> None:
    if finding.reason is not None or (one.is_unfit and not finding.is_fit):
        probed.unfit += 1
        if not (one.is_unfit or one.has_clip):  # those with a clip are taken out of their plan
            probed.less[one.model, one.settings] += 1
        if len(probed.faults) < SHOWN:
            words = _in_words(finding.faults or finding.warnings, one.columns, model)
            if one.has_clip:
                words += "; its clip is kept"
            probed.faults.append((one.place, words))
        return
    if one.is_unfit:
        probed.fit_again.append(Kind(one.model, one.settings, one.listed, 1))
    probed.warnings += bool(finding.warnings)
    for said in finding.warnings:
        kind = (_column(one.columns, model, said.input), said.words)
        jobs, first = probed.warned.get(kind, (0, one.place))
        if jobs or len(probed.warned) < _KINDS:
            probed.warned[kind] = jobs + 1, first


def _rest(count: int) -> list[str]:
    return [f"    and {count:,} more"] if count > 0 else []


def planned(plans: Iterable[planning.Plan], tx: Transaction | None) -> Iterator[Candidate]:
    """Yield the jobs of plans that a run would pay for if their input files can be used."""
    for plan in plans:
        for item in _to_probe(plan, tx):
            spec, known = item.spec, item.known
            is_unfit = not item.is_bought
            inputs = known.inputs if is_unfit and known is not None else spec.inputs
            yield Candidate(
                spec.place,
                spec.model,
                inputs,
                spec.settings,
                spec.est_micros,
                is_unfit,
                item.verdict is Verdict.REPLACED,
                spec.input_columns,
            )


def _to_probe(plan: planning.Plan, tx: Transaction | None) -> Iterator[planning.Item]:
    """Yield what a run would pay for, and what it would have if an input file had been fit."""
    for item in plan.items(tx, *_LOOKED_AT):
        if item.is_bought or (item.known is not None and item.known.is_unfit):
            yield item


@dataclass(frozen=True)
class Checks:
    """What was found of the input files of plans.

    Attributes:
        faults: What is wrong with rows.
        warnings: What may be.
        faulty: The numbers of the plans with faults.
        told: The warnings in lines, the same of several rows in one.
    """

    faults: list[Fault]
    warnings: list[Fault]
    faulty: set[int]
    told: list[str]


def check_plans(
    plans: Sequence[planning.Plan], database: Database, *, allow_private: bool, quiet: bool
) -> Checks:
    """Look at the input files of what the rows of manifests would pay for."""
    models = {name: model for plan in plans for name, model in plan.prepared.models.items()}
    inspection = Inspection(models, allow_private=allow_private)
    with looking(database) as tx:
        for plan in plans:
            inspection.collect((item.spec.model, item.spec.inputs) for item in _to_probe(plan, tx))
    _look(inspection, None, quiet=quiet)
    faults: dict[Fault, None] = {}
    warnings: dict[Fault, str] = {}
    faulty: set[int] = set()
    with looking(database) as tx:
        for number, plan in enumerate(plans):
            for spec in (item.spec for item in _to_probe(plan, tx)):
                model = plan.prepared.models[spec.model]
                finding = inspection.check(spec.model, spec.inputs)
                if finding.faults:
                    faulty.add(number)
                faults |= {_fault(spec, model, said): None for said in finding.faults}
                warnings |= {_fault(spec, model, said): said.words for said in finding.warnings}
    return Checks(sorted(faults), sorted(warnings), faulty, _folded(warnings))


def _folded(warnings: Mapping[Fault, str]) -> list[str]:
    """Return warnings, with what each says without its URL, in lines: the same once."""
    alike: dict[tuple[str, str], list[Fault]] = {}
    for one in sorted(warnings):
        alike.setdefault((one.column, warnings[one]), []).append(one)
    lines = []
    for (column, words), (first, *more) in alike.items():
        count, place = plural(len(more) + 1, "row"), f"{first.file}:{first.line}"
        lines.append(f"{count}, the first {place}: {column}: {words}" if more else str(first))
    return lines


def _fault(spec: JobSpec, model: Model, said: Said) -> Fault:
    column = _column(spec.input_columns, model, said.input)
    return Fault(spec.file, spec.line, column, said.message)


def _in_words(found: Iterable[Said], columns: Collection[str], model: Model | None) -> str:
    return "; ".join(f"{_column(columns, model, said.input)}: {said.message}" for said in found)


def _column(columns: Collection[str], model: Model | None, name: str) -> str:
    """Return what the user called an input."""
    aliases = {} if model is None else model.aliases
    for wanted in (name, name.partition(".")[0]):  # the very place, else all of the input
        # The cells of a stored job are not all inputs: one that says so is meant.
        for column in sorted(columns, key=lambda one: (not one.startswith("input."), one)):
            bare = column.removeprefix("input.")
            if wanted in (bare, aliases.get(bare)):
                return column
    return name


def _look(inspection: Inspection, database: Database | None, *, quiet: bool) -> None:
    """Look at the files, and show on a terminal how it goes."""

    def cached(hashes: Sequence[str]) -> Mapping[str, Seen]:
        if database is None:
            return {}
        with database.reading() as tx:
            return probes.seen(tx, hashes, since_ms=wall_ms() - BELIEVED_MS)

    is_shown = sys.stderr.isatty() and not quiet
    told_s = steady_s()

    def tell(done: int, total: int) -> None:
        nonlocal told_s
        if is_shown and steady_s() - told_s >= _TELL_S:
            told_s = steady_s()
            click.echo(f"\r\x1b[Klooking at input files: {done:,} of {total:,}", nl=False, err=True)

    try:
        inspection.look(cached=cached, tell=tell)
    finally:
        if is_shown:
            click.echo("\r\x1b[K", nl=False, err=True)
