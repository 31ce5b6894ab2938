"""Kinds of option values that several commands take."""

from decimal import Decimal, InvalidOperation
from typing import Any

import click

_MOST_USD = 1_000_000_000


class Usd(click.ParamType[int]):
    """Dollars on the command line, micro-dollars inside."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return micro-dollars of an amount such as `12.50` or `$12.50`."""
        if isinstance(value, int):
            return value
        try:
            amount = Decimal(str(value).strip().removeprefix("$"))
        except InvalidOperation:
            self.fail(f"{value!r} is no amount of dollars, such as 12.50", param, ctx)
        if not amount.is_finite() or not 0 < amount <= _MOST_USD:
            self.fail(f"{value} must be more than 0 and a sane amount of dollars", param, ctx)
        return max(1, int(amount * 1_000_000))


class Seconds(click.ParamType[tuple[float, float]]):
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
