"""What jobs without a clip have in common: few lines instead of hundreds."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from batchgen.domain.states import ErrorClass, JobState

UNFIT = "unfit"
"""The kind of a job that failed unpaid since a probe found that an input file cannot be used."""

_MOST = 1_000  # causes that are told apart
_MESSAGE_CHARACTERS = 300
_DIFFERS = re.compile(
    r"[a-z][a-z0-9+.-]*://\S+"  # URLs
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|\b(?=[a-z-]*[0-9])[0-9a-z]+(?:-[0-9a-z]+)+\b"  # ids such as req-12-ab
    r"|(?<![\w.])(?<!HTTP )(?<!code )(?=[a-z]*[0-9])[0-9a-z]+(?:\.[0-9]+)?(?![\w.])"
    r"|\"[^\"]{1,200}\"|'[^']{1,200}'",
    re.IGNORECASE,
)


def normalised(message: str) -> str:
    """Return what a message says whatever the job: ids, numbers, URLs and quotes as `…`."""
    said = _DIFFERS.sub("…", " ".join(message.split()))
    if len(said) > _MESSAGE_CHARACTERS:
        return said[:_MESSAGE_CHARACTERS] + "…"
    return said


@dataclass(frozen=True)
class Lost:
    """A job that came to rest without a clip.

    Attributes:
        job: Its batch and id.
        state: `failed`, `expired` or `cancelled`.
        error_class: Of a failed one.
        error: What was said of it.
        is_unfit: Whether it failed unpaid for its input file.
    """

    job: str
    state: JobState
    error_class: str | None
    error: str
    is_unfit: bool = False

    @property
    def kind(self) -> str:
        """The class of its failure, `unfit`, or its state."""
        if self.is_unfit:
            return UNFIT
        if self.state is JobState.FAILED:
            return self.error_class or ErrorClass.UNKNOWN
        return self.state


@dataclass
class Cause:
    """Why some jobs have no clip.

    Attributes:
        kind: `Lost.kind` of them all.
        words: What was said of the first.
        first: Which one that is.
        jobs: How many they are.
    """

    kind: str
    words: str
    first: str
    jobs: int = 0


def causes(lost: Iterable[Lost]) -> list[Cause]:
    """Return what jobs failed for, the most frequent first, each said as its first job says it.

    Messages that differ in numbers, URLs, names in quotes and ids only are one cause.
    """
    found: dict[tuple[str, str], Cause] = {}
    for one in lost:
        key = one.kind, normalised(one.error)
        if key not in found and len(found) >= _MOST:
            key = one.kind, ""
        cause = found.setdefault(key, Cause(one.kind, one.error, one.job))
        cause.jobs += 1
    return sorted(found.values(), key=lambda cause: -cause.jobs)
