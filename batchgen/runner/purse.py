"""What the account holds: how much of it may be spent, and when to look again.

Whether the service takes the money when it accepts a request or when it has made the clip is
not documented: what is in flight is counted as not taken yet, so that the balance never falls
below the least that the user wants left, whichever it is.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from batchgen.domain.retry import backoff_s

_KNOWN_FOR_S = 60.0
_FIRST_LOOK_S = 5.0
_LONGEST_LOOK_S = 60.0
_TRIED_ANYWAY_S = 600.0  # a refused submit costs nothing, and the page may be wrong


@dataclass
class Purse:
    """The account's balance as one session sees it; money in micro-dollars.

    Attributes:
        min_micros: What must be left (`--min-balance`); None minds no balance.
        waits: Whether the run waits for money (`--wait-for-balance`) instead of ending.
        unit_micros: What one job costs at most, as far as it is known.
        balance_micros: What was read last, None if nothing could be.
        clock: Seconds of a clock that does not stand still while the machine sleeps.
    """

    clock: Callable[[], float]
    min_micros: int | None = None
    waits: bool = False
    unit_micros: int = 0
    balance_micros: int | None = None
    _asked: asyncio.Event = field(default_factory=asyncio.Event)
    _spent_micros: int = 0  # on what has ended since the balance was read
    _unsettled_micros: int = 0  # of requests that this session has stopped waiting for
    _spent_before_micros: int = 0  # of that, before the present look began
    _empty_since_s: float | None = None
    _filled_at_s: float | None = None
    _looks: int = 0

    @property
    def is_minded(self) -> bool:
        """Whether anybody ever needs the balance."""
        return self.waits or self.min_micros is not None

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for a look at the balance."""
        return self._asked.is_set()

    def room(self, reserved_micros: int, *, in_flight: int) -> int | None:
        """Return how many more jobs the balance bears; None if that is not asked.

        While the balance is not known, none: it must not fall below the least by accident.

        Args:
            reserved_micros: What is in flight, whether taken from the balance yet or not.
            in_flight: How many jobs that is.
        """
        if self.min_micros is None:
            return None
        if self.balance_micros is None:
            return 0
        gone = self._spent_micros + self._unsettled_micros + reserved_micros
        left = self.balance_micros - gone - self.min_micros
        if self.unit_micros <= 0:  # nobody knows what a job costs: one at a time
            return 1 if left > 0 and not in_flight else 0
        return max(0, left // self.unit_micros)

    def spent(self, micros: int) -> None:
        """Note that something in flight has ended, and what it cost."""
        self._spent_micros += micros

    def unsettled(self, micros: int) -> None:
        """Note a request that may be charged at any time, or never: in doubt, or overdue."""
        self._unsettled_micros += micros

    def ask(self) -> None:
        """Have the balance looked at soon."""
        self._asked.set()

    async def next_look(self) -> None:
        """Wait until it is time to look at the balance."""
        longest_s = _KNOWN_FOR_S
        if self._empty_since_s is not None:
            longest_s = backoff_s(
                max(1, self._looks), first_s=_FIRST_LOOK_S, longest_s=_LONGEST_LOOK_S
            )
        try:
            async with asyncio.timeout(longest_s):
                await self._asked.wait()
        except TimeoutError:
            return

    def looking(self) -> None:
        """Note that a look begins: what ends from now on may not be in its answer."""
        self._spent_before_micros = self._spent_micros

    def looked(self, balance_micros: int | None) -> None:
        """Note what the balance page said, None if it said nothing."""
        self._asked.clear()
        self._looks += 1
        if balance_micros is not None:
            self.balance_micros = balance_micros
            self._spent_micros -= self._spent_before_micros

    def emptied(self) -> None:
        """Note that the money does not suffice."""
        if self._empty_since_s is not None:
            return
        now_s = self.clock()
        self._empty_since_s = now_s
        if self._filled_at_s is None or now_s - self._filled_at_s > _LONGEST_LOOK_S:
            self._looks = 0  # else the page promised too much: look less and less often
            self.ask()

    def is_filled(self, reserved_micros: int) -> bool:
        """Return whether it is worth while to submit again; then it counts as filled."""
        since_s = self._empty_since_s
        if since_s is None:
            return True
        needed = (self.min_micros or 0) + reserved_micros + max(1, self.unit_micros)
        holds = self.balance_micros is not None and self.balance_micros >= needed
        # A try tells more than a page; but never below what must be left.
        tries = self.min_micros is None and self.clock() - since_s >= _TRIED_ANYWAY_S
        if not holds and not tries:
            return False
        self._empty_since_s = None
        self._filled_at_s = self.clock()
        return True
