"""How fast a session works, and how long it will still take: by what it has done itself.

What an earlier session began comes to its end soon after a start, all at once, and tells
nothing of the next jobs: the caller does not count it.
"""

from collections import deque

WINDOW_ENDS = 50
WINDOW_S = 60.0
"""The rate is that of the last so many ends, or of the last minute if that has more of them."""

FEWEST_ENDS = 3
"""Before so many there is no estimate of the end: one job may have been a lucky one."""


class Pace:
    """Ends of one session over its time, of which only the newest are remembered.

    Args:
        began_s: When the session began, by the clock that all times come from.
    """

    def __init__(self, began_s: float) -> None:
        self._samples = deque([(began_s, 0)])  # when, and how many had ended by then
        self._ends = 0

    def note(self, at_s: float, ends: int) -> None:
        """Note how many have ended by now; what was counted before is corrected."""
        if ends == self._ends:
            return
        self._ends = ends
        self._samples.append((at_s, ends))
        while len(self._samples) > 2:
            second_s, second = self._samples[1]
            if ends - second < WINDOW_ENDS or at_s - second_s < WINDOW_S:
                break
            self._samples.popleft()

    def per_s(self, at_s: float) -> float | None:
        """Return ends a second until now; None while nothing has ended.

        Time in which nothing ends counts, so that the rate of a session that stands still falls.
        """
        first_s, first = self._samples[0]
        ends, took_s = self._ends - first, at_s - first_s
        return ends / took_s if ends > 0 and took_s > 0 else None

    def left_s(self, at_s: float, jobs: int) -> float | None:
        """Return how long so many more jobs will take; None if too little is known."""
        rate = self.per_s(at_s)
        if jobs <= 0:
            return 0.0
        return None if rate is None or self._ends < FEWEST_ENDS else jobs / rate
