"""How a session goes: a panel on a terminal, a plain line now and then elsewhere, or JSON."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from enum import StrEnum
from typing import Any

import click

from batchgen.cli.common import usd, usd_number
from batchgen.cli.numbers import Meter, Numbers

_LIVE_S = 0.25
_FIRST_S = 1.0
_SOON_S = 5.0
_NIGHT_FROM_S = 600.0
_AT_NIGHT_S = 60.0
_JSON_S = 1.0
_MIB = 1024**2
_GIB = 1024**3
_TENTHS_BELOW = 10  # of a rate


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


# -- words ---------------------------------------------------------------------------------------


def line_of(numbers: Numbers) -> str:
    """Return the numbers as one plain line."""
    parts = [
        f"{numbers.done:,}/{numbers.total:,} done",
        *counts_of(numbers),
        *pace_of(numbers),
        *money_of(numbers),
    ]
    line = f"{span(numbers.elapsed_s)}: {', '.join(parts)}"
    said = [*numbers.hurdles[:1], *(f"last: {one}" for one in numbers.problems[-1:])]
    return "; ".join([line, *said])


def counts_of(numbers: Numbers) -> list[str]:
    """Return how many jobs are where, those that succeeded left out."""
    rest = numbers.rest
    found = []
    if numbers.spent_micros is not None:
        auto = " (auto)" if numbers.is_auto else ""
        found.append(f"{numbers.in_flight:,} of {numbers.cap:,}{auto} in flight")
    elif numbers.in_flight:  # nothing is submitted, so no cap matters
        found.append(f"{numbers.in_flight:,} in flight")
    fetching = numbers.downloading + numbers.to_download
    for count, word in (
        (numbers.elsewhere, "with other workers"),
        (fetching, "to download"),
        (numbers.waiting, "waiting"),
        (rest.failed, "failed"),
        (rest.cancelled, "cancelled"),
        (rest.in_doubt, "in doubt"),
    ):
        if count:
            found.append(f"{count:,} {word}")
    return found


def pace_of(numbers: Numbers) -> list[str]:
    """Return rate and time, as far as they are known."""
    found = []
    if numbers.per_min is not None:
        found.append(f"{rate(numbers.per_min)} a minute")
    if numbers.eta_s is not None and numbers.eta_s >= 1:
        found.append(f"about {span(numbers.eta_s)} left")
    if numbers.submits_for_s is not None:
        found.append(f"submits for {span(numbers.submits_for_s)} more")
    return found


def money_of(numbers: Numbers) -> list[str]:
    """Return what is spent and reserved by the batches, and the budget; nothing of a download."""
    if numbers.spent_micros is None:
        return []
    found = [f"{usd(numbers.spent_micros, is_estimate=numbers.is_estimate)} spent"]
    if numbers.is_resumed:
        session = usd(numbers.session_micros, is_estimate=numbers.is_estimate)
        found[0] += f" ({session} in this run)"
    if numbers.reserved_micros:
        found.append(f"{usd(numbers.reserved_micros, is_estimate=True)} reserved")
    if numbers.budget_micros is not None:
        found.append(f"budget {usd(numbers.budget_micros)}")
    return found


def span(seconds: float) -> str:
    """Return a time for people: `8 s`, `3 min 20 s`, `2 h 5 min`, `1 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86_400:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86_400, "d", 3600, "h")


def _two(whole: int, large_s: int, large: str, small_s: int, small: str) -> str:
    first, rest = divmod(whole, large_s)
    second = rest // small_s
    return f"{first} {large} {second} {small}" if second else f"{first} {large}"


def rate(per_min: float) -> str:
    """Return clips a minute with two digits that say something."""
    if per_min >= _TENTHS_BELOW:
        return f"{per_min:,.0f} clips"
    return f"{per_min:.1f} clips" if per_min >= 1 else f"{per_min:.2f} clips"


def size(size_bytes: float) -> str:
    """Return a number of bytes for people."""
    if size_bytes >= _GIB:
        return f"{size_bytes / _GIB:,.1f} GiB"
    return f"{size_bytes / _MIB:,.1f} MiB" if size_bytes >= _MIB / 10 else f"{size_bytes:,.0f} B"


def json_line(numbers: Numbers) -> str:
    """Return the numbers as one JSON object; `docs/operations.md` lists its fields."""
    return json.dumps(as_json(numbers), ensure_ascii=False)


def as_json(numbers: Numbers) -> dict[str, Any]:
    """Return the numbers as data; what is not known is None."""
    rest = numbers.rest
    return {
        "kind": "progress",
        "elapsed_s": round(numbers.elapsed_s, 1),
        "total": numbers.total,
        "done": numbers.done,
        "succeeded": rest.succeeded,
        "failed": rest.failed,
        "cancelled": rest.cancelled,
        "in_doubt": rest.in_doubt,
        "waiting": numbers.waiting,
        "in_flight": numbers.in_flight,
        "in_flight_elsewhere": numbers.elsewhere,
        "cap": numbers.cap,
        "downloading": numbers.downloading,
        "to_download": numbers.to_download,
        "received_bytes": numbers.received_bytes,
        "bytes_per_s": round(numbers.bytes_per_s),
        "rate_per_min": None if numbers.per_min is None else round(numbers.per_min, 2),
        "eta_s": None if numbers.eta_s is None else round(numbers.eta_s),
        "spent_usd": usd_number(numbers.spent_micros),
        "session_spent_usd": usd_number(numbers.session_micros),
        "spent_is_estimate": numbers.is_estimate,
        "reserved_usd": usd_number(numbers.reserved_micros),
        "budget_usd": usd_number(numbers.budget_micros),
        "is_ending": numbers.is_leaving,
        "in_the_way": list(numbers.hurdles),
        "problems": list(numbers.problems),
    }
