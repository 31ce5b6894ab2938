"""How a session goes: a panel on a terminal, a plain line now and then elsewhere, or JSON."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from enum import StrEnum
from typing import Any

import click

from batchgen.cli.figures import counts_of, json_line, line_of, money_of
from batchgen.cli.numbers import Meter, Numbers

_LIVE_S = 0.25
_FIRST_S = 1.0
_SOON_S = 5.0
_NIGHT_FROM_S = 600.0
_AT_NIGHT_S = 60.0
_JSON_S = 1.0


class Mode(StrEnum):
    """How progress is shown: `--progress`."""

    LIVE = "live"  # a panel that is drawn anew
    PLAIN = "plain"  # a line now and then, if something has changed
    JSON = "json"  # an object a line
    NONE = "none"


def mode_of(said: str | None, *, is_silent: bool) -> Mode:
    """Return how progress is shown on this stderr.

    Args:
        said: `--progress`, None if it was not given.
        is_silent: Whether `-q` or `--json` was given, which `--progress` overrides.
    """
    if said is None and is_silent:
        return Mode.NONE
    wanted = Mode.LIVE if said is None else Mode(said)
    return Mode.PLAIN if wanted is Mode.LIVE and not _can_be_drawn_on() else wanted


def _can_be_drawn_on() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextlib.asynccontextmanager
async def shown(meter: Meter, mode: Mode) -> AsyncIterator[None]:
    """Show the numbers on stderr meanwhile."""
    if mode is Mode.NONE:
        yield
        return
    with contextlib.ExitStack() as stack:
        showing = asyncio.create_task(_showing(meter, mode, stack))
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
    if mode is Mode.JSON:
        click.echo(json_line(meter.read()), err=True)


def _showing(meter: Meter, mode: Mode, stack: contextlib.ExitStack) -> Coroutine[Any, Any, None]:
    if mode is Mode.PLAIN:
        return _plain(meter)
    if mode is Mode.JSON:
        return _json(meter)
    from batchgen.cli.terminal import drawn  # a tenth of a second, for rich

    screen = stack.enter_context(drawn())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCONT, screen.renew)
    stack.callback(loop.remove_signal_handler, signal.SIGCONT)
    return _live(meter, screen.draw)


async def _live(meter: Meter, draw: Callable[[Numbers], None]) -> None:
    while True:
        draw(meter.read())
        await asyncio.sleep(_LIVE_S)


async def _plain(meter: Meter) -> None:
    before: object = None
    pauses = pauses_s()
    while True:
        await asyncio.sleep(next(pauses))
        numbers = meter.read()
        news = _news_of(numbers)
        if news != before:
            click.echo(line_of(numbers), err=True)
            before = news


def _news_of(numbers: Numbers) -> tuple[object, ...]:
    """Return what a plain line tells that time alone does not change."""
    said = numbers.problems[-1:], len(numbers.hurdles)
    return (numbers.done, *counts_of(numbers), *money_of(numbers), *said)


def pauses_s() -> Iterator[float]:
    """Yield how long to wait before each plain line: soon, then seldom in a long night."""
    yield _FIRST_S
    elapsed_s = _FIRST_S
    while elapsed_s < _NIGHT_FROM_S:
        yield _SOON_S
        elapsed_s += _SOON_S
    while True:
        yield _AT_NIGHT_S


async def _json(meter: Meter) -> None:
    before: object = None
    while True:
        await asyncio.sleep(_JSON_S)
        numbers = meter.read()
        if numbers.state != before:
            click.echo(json_line(numbers), err=True)
            before = numbers.state
