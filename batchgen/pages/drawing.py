"""The timeline as shapes: coordinates for inline SVG.

Text and stretches are placed in percent of the width, so letters keep their size on any
screen; what is inside a stretch is drawn in its own units and stretched by the browser.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.domain.wording import usd
from batchgen.pages import words
from batchgen.pages.interface import Point, Stretch, Timeline

HEIGHT = 100
"""Of a lane, in its own units."""

_GAP_PERCENT = 3.2
_LEAST_PERCENT = 5.0  # of a stretch, however short
_TICKS = 6
_MINUTE_MS, _HOUR_MS, _DAY_MS = 60_000, 3_600_000, 86_400_000
_STEPS_MS = (
    *(1000, 2000, 5000, 10_000, 15_000, 30_000),
    *(_MINUTE_MS * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(_HOUR_MS * hours for hours in (1, 2, 3, 6, 12)),
    *(_DAY_MS * days for days in (1, 2, 7, 14, 28, 91, 365)),
)


@dataclass(frozen=True)
class Tick:
    """A time on the axis."""

    x: float
    at_ms: int
    label: str
    anchor: str
    is_minor: bool


@dataclass(frozen=True)
class Part:
    """One stretch of time: where it stands, and its shapes."""

    x: float
    width: float
    slots: int
    in_flight: str
    succeeded: str
    failed: str
    spent: str
    spent_line: str
    ticks: Sequence[Tick]
    first_ms: int
    last_ms: int


@dataclass(frozen=True)
class Gap:
    """Idle time between stretches."""

    x: float
    width: float
    label: str


@dataclass(frozen=True)
class Drawing:
    """The whole timeline.

    Attributes:
        parts: The stretches.
        gaps: Between them.
        most_in_flight: The height of the first lane.
        most_ended: Of the second, in one slot.
        spent_micros: Of the third.
        slot: How long a slot is, in words.
        kind: How times on the axis are said: second | minute | day
        points: What the script shows under the pointer.
    """

    parts: Sequence[Part]
    gaps: Sequence[Gap]
    most_in_flight: int
    most_ended: int
    spent_micros: int
    slot: str
    kind: str
    points: Sequence[Any]


def draw(timeline: Timeline) -> Drawing:
    """Return the shapes of a timeline."""
    stretches = timeline.stretches
    points = [point for stretch in stretches for point in stretch.points]
    most_in_flight = max((point.in_flight for point in points), default=0) or 1
    most_ended = max((point.succeeded + point.failed for point in points), default=0) or 1
    spent = (points[-1].spent_micros if points else 0) or 1
    total_ms = sum(stretch.last_ms - stretch.first_ms for stretch in stretches) or 1
    step_ms = next((it for it in _STEPS_MS if it * _TICKS >= total_ms), _STEPS_MS[-1])
    kind = "day" if step_ms >= _DAY_MS else "minute" if step_ms >= _MINUTE_MS else "second"
    parts: list[Part] = []
    gaps: list[Gap] = []
    x = 0.0
    for stretch, width in zip(stretches, _widths(stretches), strict=True):
        if parts:
            idle_ms = stretch.first_ms - parts[-1].last_ms
            gaps.append(Gap(round(x, 3), _GAP_PERCENT, words.span(idle_ms)))
            x += _GAP_PERCENT
        parts.append(
            Part(
                x=round(x, 3),
                width=round(width, 3),
                slots=len(stretch.points),
                in_flight=_area(stretch.points, lambda point: point.in_flight / most_in_flight),
                succeeded=_bars((0.0, point.succeeded / most_ended) for point in stretch.points),
                failed=_bars(
                    (point.succeeded / most_ended, (point.succeeded + point.failed) / most_ended)
                    for point in stretch.points
                ),
                spent=_area(stretch.points, lambda point: point.spent_micros / spent),
                spent_line=_line(stretch.points, lambda point: point.spent_micros / spent),
                ticks=_ticks(stretch, x, width, step_ms, kind),
                first_ms=stretch.first_ms,
                last_ms=stretch.last_ms,
            )
        )
        x += width
    return Drawing(
        parts=parts,
        gaps=gaps,
        most_in_flight=most_in_flight if points else 0,
        most_ended=most_ended,
        spent_micros=points[-1].spent_micros if points else 0,
        slot=words.span(timeline.width_ms),
        kind=kind,
        points=[
            {
                "x": part.x,
                "width": part.width,
                "points": [
                    [
                        point.at_ms,
                        point.in_flight,
                        point.succeeded,
                        point.failed,
                        usd(point.spent_micros),
                    ]
                    for point in stretch.points
                ],
            }
            for part, stretch in zip(parts, stretches, strict=True)
        ],
    )


def _widths(stretches: Sequence[Stretch]) -> list[float]:
    """Return how wide each stretch is: by its time, but never too narrow to be seen."""
    room = 100.0 - _GAP_PERCENT * (len(stretches) - 1)
    least = min(_LEAST_PERCENT, room / max(1, len(stretches)))
    spare = room - least * len(stretches)
    lengths = [stretch.last_ms - stretch.first_ms for stretch in stretches]
    total = sum(lengths) or 1
    return [least + spare * length / total for length in lengths]


def _ticks(stretch: Stretch, x: float, width: float, step_ms: int, kind: str) -> list[Tick]:
    length = stretch.last_ms - stretch.first_ms
    first = -(-stretch.first_ms // step_ms) * step_ms
    times = list(range(first, stretch.last_ms + 1, step_ms)) or [stretch.first_ms]
    found = []
    for number, at_ms in enumerate(times):
        where = x + width * (at_ms - stretch.first_ms) / length
        anchor = "start" if where < 2 else "end" if where > 98 else "middle"
        found.append(
            Tick(round(where, 3), at_ms, _tick_label(at_ms, kind), anchor, number % 2 == 1)
        )
    return found


def _tick_label(at_ms: int, kind: str) -> str:
    said = words.iso(at_ms)
    if kind == "day":
        return said[:10]
    return said[11:19] if kind == "second" else said[11:16]


def _y(share: float) -> str:
    return f"{HEIGHT * (1 - share):.1f}".removesuffix(".0")


def _line(points: Sequence[Point], share: Callable[[Point], float]) -> str:
    steps = " ".join(f"V{_y(share(point))}H{slot + 1}" for slot, point in enumerate(points))
    return f"M0 {_y(share(points[0]))} {steps}"


def _area(points: Sequence[Point], share: Callable[[Point], float]) -> str:
    steps = " ".join(f"V{_y(share(point))}H{slot + 1}" for slot, point in enumerate(points))
    return f"M0 {HEIGHT} {steps} V{HEIGHT}Z"


def _bars(spans: Iterable[tuple[float, float]]) -> str:
    """Return a bar for each slot from one share of the height to another."""
    return " ".join(
        f"M{slot + 0.12:g} {_y(low)}V{_y(high)}H{slot + 0.88:g}V{_y(low)}Z"
        for slot, (low, high) in enumerate(spans)
        if high > low
    )
