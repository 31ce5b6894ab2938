"""An event loop whose turns stay short, however many sockets are ready at once.

asyncio serves all that one look at its sockets reports before it looks again, and nobody else
meanwhile: with ten thousand jobs in flight that took a tenth of a second.
"""

import asyncio
import selectors
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TOGETHER = 16
"""So many things of a kind are served in one turn of the event loop."""

_Ready = tuple[selectors.SelectorKey, int]


class Selector(selectors.DefaultSelector):
    """Reports what is ready a few at a time.

    What was found ready is reported to its end before anything is looked for anew: nobody waits
    for ever, whoever else is ready again and again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._found: deque[_Ready] = deque()

    def select(self, timeout: float | None = None) -> list[_Ready]:
        """Return what is ready, `TOGETHER` at most."""
        if not self._found:
            ready = super().select(timeout)
            if len(ready) <= TOGETHER:
                return ready
            self._found.extend(ready)
        known = self.get_map()
        ready = [self._found.popleft() for _ in range(min(TOGETHER, len(self._found)))]
        # Since they were found, a socket may have been closed, and another got its number.
        return [one for one in ready if known.get(one[0].fd) is one[0]]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in such a loop, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Selector())) as runner:
        return runner.run(main)
