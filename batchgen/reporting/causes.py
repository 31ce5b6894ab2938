"""Failures by what caused them: those that say the same, but for ids and numbers, are one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from batchgen.domain.causes import normalised
from batchgen.pages.interface import Cause, Mention
from batchgen.reporting.advice import MOST_KEYS, Typist, advice, commands
from batchgen.store.nights import Failure

_MOST_KINDS = 300  # that are told apart; bounds memory
_MOST_SHOWN = 30
_EXAMPLES = 3


@dataclass
class _Kind:
    error_class: str
    code: str
    message: str
    is_unfit: bool
    jobs: int = 0
    keys: list[str] = field(default_factory=list)
    batches: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    examples: list[Mention] = field(default_factory=list)

    def add(self, failure: Failure, said: str, label: str, batch: str) -> None:
        self.jobs += 1
        if len(self.keys) < MOST_KEYS:
            self.keys.append(failure.key)
        if len(self.batches) < 2:
            self.batches.add(failure.batch)
        if len(self.sources) < 2:
            self.sources.add(failure.source)
        if len(self.examples) < _EXAMPLES:
            self.examples.append(Mention(failure.key, label, batch, said))


def grouped(
    failures: Iterable[Failure], typist: Typist, hide: Callable[[str], str]
) -> tuple[list[Cause], int]:
    """Return the causes of failures, the most frequent first, and how many jobs have others.

    Args:
        failures: Of any number; they are not kept.
        typist: Writes the commands that help.
        hide: Takes secrets out of a text.
    """
    kinds: dict[tuple[str, str, str, bool], _Kind] = {}
    others = 0
    for failure in failures:
        said = hide(failure.error)
        told = (failure.error_class, hide(failure.error_code or ""), normalised(said))
        key = (*told, failure.is_unfit)
        if key not in kinds and len(kinds) >= _MOST_KINDS:
            others += 1
            continue
        kind = kinds.setdefault(key, _Kind(*key))
        kind.add(failure, said[:1000], hide(failure.label), hide(failure.batch))
    ranked = sorted(kinds.values(), key=lambda kind: -kind.jobs)
    others += sum(kind.jobs for kind in ranked[_MOST_SHOWN:])
    return [_cause(kind, typist) for kind in ranked[:_MOST_SHOWN]], others


def _cause(kind: _Kind, typist: Typist) -> Cause:
    return Cause(
        error_class=kind.error_class,
        code=kind.code,
        message=kind.message,
        jobs=kind.jobs,
        examples=kind.examples,
        advice=advice(kind.error_class, is_unfit=kind.is_unfit),
        commands=commands(
            typist,
            kind.error_class,
            kind.keys,
            jobs=kind.jobs,
            batch=_only(kind.batches),
            source=_only(kind.sources),
            is_unfit=kind.is_unfit,
        ),
    )


def _only(found: set[str]) -> str:
    return next(iter(found)) if len(found) == 1 else ""
