"""When a session stops submitting by the clock: `--until` and `--max-duration`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

_UNITS_S = ((86_400, "d"), (3600, "h"), (60, "m"))


def in_words(seconds: float) -> str:
    """Return a time as it may be typed: 5400 seconds are `1h30m`."""
    parts = []
    for unit_s, unit in _UNITS_S:
        count, seconds = divmod(seconds, unit_s)
        if count:
            parts.append(f"{count:.0f}{unit}")
    if seconds or not parts:
        parts.append(f"{seconds:g}s")
    return "".join(parts)


def next_moment(at: time, now_s: float, *, zone: tzinfo | None = None) -> float:
    """Return when the clock on the wall next shows a time of day, in epoch seconds.

    Today or tomorrow. A time that a change to summer time skips is taken as that much after the
    change; of one that comes twice, the next to come.

    Args:
        at: The hour and the minute.
        now_s: Epoch seconds.
        zone: Where the wall is; None is here.
    """
    today = datetime.fromtimestamp(now_s, zone).date()
    found = [
        moment_s
        for days in range(3)
        for moment_s in _moments(at, today + timedelta(days=days), zone)
        if moment_s > now_s
    ]
    return min(found)


def _moments(at: time, day: date, zone: tzinfo | None) -> list[float]:
    """Return when a day shows a time: once, or twice as summer time ends."""
    both = [
        datetime.combine(day, at.replace(fold=fold), tzinfo=zone).timestamp() for fold in (0, 1)
    ]
    shown = [one for one in both if datetime.fromtimestamp(one, zone).time().replace(fold=0) == at]
    return shown or both[:1]


@dataclass
class Deadline:
    """What ends a session's submitting.

    Attributes:
        lasts_s: So long after it was made; None is no bound.
        until_s: At this moment, epoch seconds; None is no bound.
        steady_s: Seconds of a clock that goes on in sleep and that nobody sets.
        wall_s: Epoch seconds of the clock on the wall.
    """

    lasts_s: float | None
    until_s: float | None
    steady_s: Callable[[], float]
    wall_s: Callable[[], float]

    def __post_init__(self) -> None:
        self._began_s = self.steady_s()

    @property
    def left_s(self) -> float | None:
        """How long it is until then, by the clocks as they stand; None without a bound."""
        left = []
        if self.lasts_s is not None:
            left.append(self._began_s + self.lasts_s - self.steady_s())
        if self.until_s is not None:
            left.append(self.until_s - self.wall_s())
        return min(left, default=None)

    def reached(self) -> str | None:
        """Return what was reached, None if nothing was yet."""
        if self.lasts_s is not None and self.steady_s() - self._began_s >= self.lasts_s:
            return f"--max-duration {in_words(self.lasts_s)} was over at {_here(self.wall_s())}"
        if self.until_s is not None and self.wall_s() >= self.until_s:
            return f"--until {_here(self.until_s)} was reached"
        return None


def _here(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC).astimezone():%H:%M}"
