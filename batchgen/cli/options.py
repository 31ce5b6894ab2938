"""Kinds of option values that several commands take."""

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import click

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


class Seconds(click.FloatRange):
    """A time from nothing to a year; `nan` and `inf` are none."""

    def __init__(self) -> None:
        super().__init__(min=0, max=_YEAR_S)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return a number of seconds."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


class PerSecond(click.FloatRange):
    """How often a second something may happen; `nan` is no number."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True, max=1_000_000)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return a number above 0."""
        rate: float = super().convert(value, param, ctx)
        if math.isnan(rate):
            self.fail(f"{value!r} is not a number a second", param, ctx)
        return rate


class Halt(click.ParamType[int]):
    """`streak=N` or `never`, as the number of failures in a row (0: never)."""

    name = "SPEC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return N of `streak=N`, 0 for `never`."""
        if isinstance(value, int):
            return value
        if value == "never":
            return 0
        kind, _, number = str(value).partition("=")
        if kind != "streak" or not re.fullmatch("[0-9]{1,9}", number) or int(number) < 1:
            self.fail(f"{value!r} is neither streak=N (N at least 1) nor never", param, ctx)
        return int(number)


class Span(click.ParamType[tuple[float, float]]):
    """A time span `A-B` in seconds, or one number."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Return the shortest and the longest time of `2-5` or `3`."""
        if isinstance(value, tuple):
            return value
        first, dash, last = str(value).partition("-")
        try:
            low = float(first)
            high = float(last) if dash else low
        except ValueError:
            self.fail(f"{value!r} is no time such as 3 or 2-5, in seconds", param, ctx)
        if not 0 <= low <= high < 10**6:
            self.fail(f"{value!r} must be a shortest and a longest time, as 2-5", param, ctx)
        return low, high
