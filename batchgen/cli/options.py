"""Kinds of option values that several commands take."""

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import click

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
