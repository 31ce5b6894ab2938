"""Let things begin one after the other, evenly spaced."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


class Spacer:
    """Gives turns, so many a second; nobody waits if that is None.

    No turn is saved up while nobody asks for one: what begins together would be a burst.
    """

    def __init__(
        self,
        rate_per_s: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._gap_s = 0.0 if rate_per_s is None else 1 / rate_per_s
        self._clock = clock
        self._sleep = sleep
        self._next_s = clock()

    async def turn(self) -> None:
        """Wait for a turn: they are given in the order in which they are asked for."""
        now_s = self._clock()
        at_s = max(now_s, self._next_s)
        self._next_s = at_s + self._gap_s
        if at_s > now_s:
            await self._sleep(at_s - now_s)
