"""How a run goes: a bar on a terminal, a plain line now and then elsewhere."""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from batchgen.cli.common import usd
from batchgen.runner.job import Stats

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_LIVE_S = 0.25
_PLAIN_S = 5.0


class Progress:
    """Shows a session's numbers until it is cancelled.

    Args:
        stats: The session's, read again and again.
        total: How many jobs there are to finish.
        in_flight: How many jobs are being generated.
        auto: How many `-j auto` allows; None if the cap is fixed.
    """

    def __init__(
        self,
        stats: Stats,
        *,
        total: int,
        in_flight: Callable[[], int],
        auto: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._stats = stats
        self._total = total
        self._in_flight = in_flight
        self._auto = auto
        self._began = time.monotonic()

    async def show(self) -> None:
        """Show the numbers on stderr until cancelled."""
        if sys.stderr.isatty():
            await self._live()
        else:
            await self._plain()

    async def _plain(self) -> None:
        before = ""
        while True:
            await asyncio.sleep(_PLAIN_S)
            line = self._line()
            if line != before:
                click.echo(line, err=True)
                before = line

    async def _live(self) -> None:
        from rich.console import Console  # a tenth of a second, and only for a terminal
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as bar:
            task = bar.add_task("", total=max(self._total, 1))
            while True:
                self._update(bar, task)
                await asyncio.sleep(_LIVE_S)

    def _update(self, bar: "Bar", task: "TaskID") -> None:
        bar.update(task, completed=min(self._done, self._total), description=self._words())

    @property
    def _done(self) -> int:
        stats = self._stats
        return stats.succeeded + stats.failed + stats.cancelled + stats.in_doubt

    def _words(self) -> str:
        stats = self._stats
        words = [f"{self._in_flight()} in flight"]
        cap = self._auto()
        if cap is not None:
            words[0] += f" of {cap} (auto)"
        if stats.downloading or stats.waiting_downloads:
            words.append(f"{stats.waiting_downloads} to download")
        if stats.failed:
            words.append(f"{stats.failed} failed")
        if stats.in_doubt:
            words.append(f"{stats.in_doubt} in doubt")
        words.append(f"{usd(stats.charged_micros, is_estimate=stats.estimates > 0)} spent")
        return " · ".join(words)

    def _line(self) -> str:
        elapsed = int(time.monotonic() - self._began)
        line = f"{elapsed} s: {self._done}/{self._total} done, {self._words()}"
        return f"{line}; last: {self._stats.last_problem}" if self._stats.last_problem else line
