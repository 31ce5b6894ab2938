"""How a worker sees its own lease: asked just before money is spent."""

import math
from collections.abc import Callable
from dataclasses import dataclass

_TRUSTED = 0.8  # of a lease: clocks drift, and a request takes a moment


@dataclass
class Lease:
    """A lease by two clocks; whichever says that it has ended is believed.

    A clock that goes on while the machine sleeps is missing on some systems and stands still
    while a virtual machine is paused; the wall clock is set now and then. Without `renewed`
    the lease lasts as long as the process, as that of a worker that holds a lock.

    Attributes:
        steady_s: Seconds of a clock that nobody sets.
        wall_s: Seconds of the wall clock.
    """

    steady_s: Callable[[], float]
    wall_s: Callable[[], float]
    _ends: tuple[float, float] = (math.inf, math.inf)

    def asked(self) -> tuple[float, float]:
        """Return the moment at which the job database is asked to renew it, by both clocks."""
        return self.steady_s(), self.wall_s()

    def renewed(self, asked: tuple[float, float], lease_s: float) -> None:
        """Note that the job database has renewed it, for so many seconds from that moment."""
        self._ends = (asked[0] + lease_s * _TRUSTED, asked[1] + lease_s * _TRUSTED)

    def holds(self) -> bool:
        """Return whether nobody else can hold it yet."""
        return self.steady_s() < self._ends[0] and self.wall_s() < self._ends[1]
