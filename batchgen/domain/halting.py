"""When a run stops by itself: what `--halt` says, in the words of GNU parallel.

What is counted are verdicts, one a job, after its retries.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

NEVER = "never"
_COUNT = re.compile(r"[0-9]{1,9}")
_PERCENT = re.compile(r"([0-9]{1,3})%")
_KNOWN = "streak=N, moderated=N, soon,fail=N, soon,fail=N%, now,fail=N, now,fail=N% and never"


@dataclass(frozen=True)
class Share:
    """So many jobs, or so many percent of those of the run.

    Attributes:
        number: At least 1; of 100 if it is a percentage.
        is_percent: Whether it is one.
    """

    number: int
    is_percent: bool = False

    def of(self, jobs: int) -> int:
        """Return how many jobs that is, rounded up, at least one.

        A percentage is of all jobs that the run began with, as in GNU parallel, so that it
        means the same at its beginning and at its end.
        """
        return max(1, -(-jobs * self.number // 100)) if self.is_percent else self.number

    def __str__(self) -> str:
        """Return it as the user wrote it."""
        return f"{self.number}%" if self.is_percent else str(self.number)


@dataclass(frozen=True)
class Halting:
    """What stops a run; None never does.

    Attributes:
        streak: Service-class failures in a row: nothing more is submitted.
        moderated: Jobs that moderation refused, in a row or not: nothing more is submitted.
        soon: Jobs that failed, expired or came in doubt: nothing more is submitted.
        now: The same, but the run leaves at once.
    """

    streak: int | None = 10
    moderated: int | None = 50
    soon: Share | None = None
    now: Share | None = None


NEVER_HALTS = Halting(streak=None, moderated=None)


def parse_halting(specs: Iterable[str]) -> Halting:
    """Return what several `--halt` say together: each overrides the default of its own kind.

    Raises:
        ValueError: If one is unknown or out of bounds, or `never` is combined with another.
    """
    words = [spec.strip() for spec in specs]
    if NEVER in words:
        if set(words) != {NEVER}:
            raise ValueError("never switches every halt off: leave it out, or the others")
        return NEVER_HALTS
    halting = Halting()
    for word in words:
        kind, _, number = word.partition("=")
        match kind:
            case "streak":
                halting = replace(halting, streak=_count(word, number))
            case "moderated":
                halting = replace(halting, moderated=_count(word, number))
            case "soon,fail":
                halting = replace(halting, soon=_share(word, number))
            case "now,fail":
                halting = replace(halting, now=_share(word, number))
            case _:
                raise ValueError(f"{word!r} is none of {_KNOWN}")
    return halting


def _count(word: str, number: str) -> int:
    if not _COUNT.fullmatch(number) or int(number) < 1:
        raise ValueError(f"{word!r}: N must be a whole number, at least 1")
    return int(number)


def _share(word: str, number: str) -> Share:
    percent = _PERCENT.fullmatch(number)
    if percent is None:
        if "%" in number:
            raise ValueError(f"{word!r}: a percentage must be a whole number from 1 to 100")
        return Share(_count(word, number))
    if not 1 <= int(percent[1]) <= 100:
        raise ValueError(f"{word!r}: a percentage must be a whole number from 1 to 100")
    return Share(int(percent[1]), is_percent=True)
