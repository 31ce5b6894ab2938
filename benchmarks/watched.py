"""Run batchgen, and write down how long its event loop did anything but wait.

python benchmarks/watched.py OUT.json run jobs.csv …
"""

import asyncio
import json
import resource
import selectors
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from batchgen.runner import turns

_KEPT = 50


class _Watching(selectors.BaseSelector):
    """Notes the time from the end of one wait to the begin of the next: a turn of the loop."""

    watched: ClassVar[list["_Watching"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.watched.append(self)
        self.turns = 0
        self.longest: list[tuple[float, float]] = []  # on the wall, of this thread's processor time
        self._since = (time.perf_counter(), time.thread_time())

    def select(self, timeout: float | None = None) -> Any:
        wall, cpu = self._since
        turn = (time.perf_counter() - wall, time.thread_time() - cpu)
        self.turns += 1
        if len(self.longest) < _KEPT or turn[0] > self.longest[-1][0]:
            self.longest = sorted([*self.longest, turn], reverse=True)[:_KEPT]
        found = super().select(timeout)
        self._since = (time.perf_counter(), time.thread_time())
        return found


class _Plain(_Watching, selectors.DefaultSelector):
    """Of the loops that are asyncio's own."""


class _OfTurns(_Watching, turns.Selector):
    """Of those that are batchgen's."""


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(_Plain())


def main() -> None:
    """Run batchgen's command line with a watched loop."""
    from batchgen.cli.main import main as batchgen

    out = Path(sys.argv[1])
    sys.argv = ["batchgen", *sys.argv[2:]]
    asyncio.set_event_loop_policy(_Policy())
    turns.Selector = _OfTurns  # type: ignore[misc]
    try:
        batchgen()
    finally:
        longest = sorted((turn for one in _Watching.watched for turn in one.longest), reverse=True)
        said = {
            "turns": sum(one.turns for one in _Watching.watched),
            "longest_ms": [[1000 * wall, 1000 * cpu] for wall, cpu in longest[:_KEPT]],
            "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        out.write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main()
