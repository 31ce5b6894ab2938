"""Kinds of option values that several commands take."""

import datetime as clock
import math
import re
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from batchgen.domain.halting import Halting, parse_halting
from batchgen.runner.deadline import in_words, next_moment

OCCASIONS = ("done", "failed", "paused", "budget", "in-doubt")
"""What somebody can be told about."""

AUTO = "auto"

_SLOWEST, _FASTEST = 0.001, 1_000_000  # a second
_MOST_USD = 1_000_000_000
_YEAR_S = 366 * 86400


class Usd(click.ParamType[int]):
    """Dollars on the command line, micro-dollars inside."""

    name = "USD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return micro-dollars of an amount such as `12.50` or `$12.50`."""
        if isinstance(value, int):
            return value
        try:
            amount = Decimal(str(value).strip().removeprefix("$"))
        except InvalidOperation:
            amount = Decimal("nan")
        if not amount.is_finite():
            self.fail(f"{value!r} is not an amount of dollars, such as 12.50", param, ctx)
        micros = round(amount * 1_000_000) if 0 < amount < _MOST_USD else 0
        if micros < 1:
            self.fail(f"{value} is not an amount above 0 and below ${_MOST_USD:,}", param, ctx)
        return micros


class Seconds(click.ParamType[float]):
    """A time: `90`, `90s`, `15m`, `8h`, `1h30m`, `2d`; seconds inside.

    Args:
        shortest_s: The least that is taken.
        longest_s: The most.
    """

    name = "TIME"

    def __init__(self, *, shortest_s: float = 0, longest_s: float = _YEAR_S) -> None:
        self._shortest_s = shortest_s
        self._longest_s = longest_s

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return a number of seconds."""
        seconds = float(value) if isinstance(value, int | float) else seconds_of(str(value))
        if seconds is None or not self._shortest_s <= seconds <= self._longest_s:
            self.fail(
                f"{value!r} is no time from {in_words(self._shortest_s)} to "
                f"{in_words(self._longest_s)}, such as 90, 90s, 15m, 8h, 1h30m or 2d",
                param,
                ctx,
            )
        return seconds


_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_BARE = re.compile(_NUMBER)
_WITH_UNITS = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in "dhms"))
_UNITS_S = (86_400, 3600, 60, 1)


class Jobs(click.ParamType[int | str]):
    """A number of jobs, or `auto`."""

    name = "N|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return the number, or `auto` as it is."""
        if value == AUTO or isinstance(value, int):
            return AUTO if value == AUTO else int(value)
        if not re.fullmatch("[0-9]{1,9}", str(value)) or int(value) < 1:
            self.fail(f"{value!r} is neither a number of jobs, at least 1, nor auto", param, ctx)
        return int(value)


class Rate(click.ParamType[float]):
    """So many a second; `none` is no bound, told apart from no word at all as infinity."""

    name = "N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return a number a second."""
        if value in ("none", math.inf):
            return math.inf
        try:
            rate = float(value)
        except ValueError:
            rate = math.nan
        if not _SLOWEST <= rate <= _FASTEST:
            self.fail(
                f"{value!r} is neither a number a second, from {_SLOWEST} to {_FASTEST:,}, nor "
                "none",
                param,
                ctx,
            )
        return rate


def seconds_of(text: str) -> float | None:
    """Return the seconds of a time such as `90` or `1h30m`, None if it is none."""
    if _BARE.fullmatch(text):
        return float(text)
    found = _WITH_UNITS.fullmatch(text)
    if not text or found is None:
        return None
    return sum(
        float(part) * unit_s for part, unit_s in zip(found.groups(), _UNITS_S, strict=True) if part
    )


class NextTimeOfDay(click.ParamType[float]):
    """A time on the clock of this machine, `07:00`; the next such moment inside."""

    name = "HH:MM"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return epoch seconds."""
        if isinstance(value, float):
            return value
        found = _HOUR_AND_MINUTE.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no time of day such as 07:00 or 23:30", param, ctx)
        return next_moment(clock.time(int(found[1]), int(found[2])), time.time())


_HOUR_AND_MINUTE = re.compile("([01]?[0-9]|2[0-3]):([0-5][0-9])")


class Whole(click.IntRange):
    """A whole number in a range, called so in messages and in the help."""

    name = "whole number"


class Number(click.FloatRange):
    """A number in a range, called so in messages and in the help."""

    name = "number"


class PerSecond(Number):
    """How many a second: above nothing, and a number."""

    def __init__(self) -> None:
        super().__init__(min=0.0001, max=10_000)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return how many."""
        rate: float = super().convert(value, param, ctx)
        if math.isnan(rate):  # it is in every range, as comparisons go
            self.fail(f"{value!r} is not a number such as 2 or 0.5", param, ctx)
        return rate


class OrElse(click.ParamType[Any]):
    """A value of another kind, or one word that stands for None."""

    def __init__(self, kind: click.ParamType[Any], word: str) -> None:
        self._kind = kind
        self._word = word
        self.name = f"{kind.name}|{word}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, None for the word."""
        if value is None or value == self._word:
            return None
        return self._kind.convert(value, param, ctx)


def halting(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> Halting:
    """Return what every `--halt` says together."""
    try:
        return parse_halting(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


class Occasions(click.ParamType[frozenset[str]]):
    """A comma list of what somebody is told about."""

    name = "LIST"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> frozenset[str]:
        """Return the words of a list such as `done,failed`."""
        if isinstance(value, frozenset):
            return value
        words = [word.strip() for word in str(value).split(",")]
        for word in words:
            if word not in OCCASIONS:
                self.fail(f"{word!r} is none of {', '.join(OCCASIONS)}", param, ctx)
        return frozenset(words)


class Span(click.ParamType[tuple[float, float]]):
    """A time span `A-B`, or one time."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Return the shortest and the longest time of `2-5` or `3`."""
        if isinstance(value, tuple):
            return value
        first, dash, last = str(value).partition("-")
        low = seconds_of(first)
        high = seconds_of(last) if dash else low
        if low is None or high is None:
            self.fail(f"{value!r} is no time such as 3, 2-5 or 30s-2m", param, ctx)
        if not 0 <= low <= high < 10**6:
            self.fail(f"{value!r} must be a shortest and a longest time, as 2-5", param, ctx)
        return low, high
