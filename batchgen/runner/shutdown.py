"""Ctrl-C, SIGTERM and SIGHUP: the first drains, the second leaves at once."""

import asyncio
import signal
from collections.abc import Callable

from batchgen.domain.errors import Exit

_EXITS = {
    signal.SIGINT: Exit.SIGINT,
    signal.SIGTERM: Exit.SIGTERM,
    signal.SIGHUP: Exit.SIGHUP,
}


class Shutdown:
    """Counts the signals of a session.

    Attributes:
        exit_code: What the first signal means for the exit, None before it.
    """

    def __init__(self, *, on_first: Callable[[], None], on_second: Callable[[], None]) -> None:
        self.exit_code: Exit | None = None
        self._on_first = on_first
        self._on_second = on_second

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen for the signals; `remove` undoes it."""
        for number in _EXITS:
            loop.add_signal_handler(number, self.received, number)

    def remove(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop listening."""
        for number in _EXITS:
            loop.remove_signal_handler(number)

    def received(self, number: signal.Signals) -> None:
        """Act on one signal."""
        if self.exit_code is None:
            self.exit_code = _EXITS[number]
            self._on_first()
        else:
            self._on_second()
