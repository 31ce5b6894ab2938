"""When things happened: what many attempts were, as a few hundred points in time."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from batchgen.pages.interface import Point, Stretch, Timeline
from batchgen.store import nights
from batchgen.store.nights import Choice, Moment
from batchgen.store.transactions import Transaction

_POINTS = 160  # about so many are drawn
_LOOKED_AT = 4096  # slots in which idle times are looked for
_MOST_GAPS = 11
_LEAST_GAP_MS = 120_000
_GAP_SHARE = 0.08  # of the time that is left: less idle time is part of a night
_SECOND, _MINUTE, _HOUR, _DAY = 1000, 60_000, 3_600_000, 86_400_000
WIDTHS_MS = (
    *(250, 500, _SECOND, 2 * _SECOND, 5 * _SECOND, 10 * _SECOND, 15 * _SECOND, 30 * _SECOND),
    *(_MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 6 * _HOUR, 12 * _HOUR, _DAY, 7 * _DAY, 28 * _DAY),
)
"""How wide a slot may be, so that people can read it."""


def timeline(tx: Transaction, choice: Choice) -> Timeline | None:
    """Return what happened when, None if nothing was ever sent."""
    span = nights.span(tx, choice)
    if span is None:
        return None
    width_ms, found = drawn(
        lambda width_ms: nights.moments(tx, choice, width_ms=width_ms), span.first_ms, span.last_ms
    )
    return Timeline(width_ms=width_ms, stretches=found, sessions=nights.sessions(tx, span))


def drawn(
    moments: Callable[[int], list[Moment]], first_ms: int, last_ms: int
) -> tuple[int, list[Stretch]]:
    """Return how wide a slot should be, and the stretches of time in such slots.

    Args:
        moments: Returns what happened, by the width of a slot in milliseconds.
        first_ms: When the first thing happened.
        last_ms: When the last did.
    """
    coarse_ms = max(WIDTHS_MS[0], (last_ms - first_ms) // _LOOKED_AT + 1)
    # Where nothing was accepted and nothing ended, there is the moment of the first request.
    seen = [moment.slot * coarse_ms for moment in moments(coarse_ms)]
    parts = stretches(seen or [first_ms // coarse_ms * coarse_ms], coarse_ms)
    busy_ms = sum(last - first for first, last in parts)
    width_ms = next((it for it in WIDTHS_MS if it * _POINTS >= busy_ms), WIDTHS_MS[-1])
    return width_ms, _filled(parts, moments(width_ms), width_ms)


def stretches(seen: Sequence[int], width_ms: int) -> list[tuple[int, int]]:
    """Return from when to when something happened every now and then.

    Args:
        seen: Beginnings of slots in which something happened, in order.
        width_ms: Of a slot.
    """
    idle = sorted(
        ((after - before - width_ms, after) for before, after in pairwise(seen)),
        reverse=True,
    )
    left_ms = seen[-1] + width_ms - seen[0]
    cuts = []
    for gap_ms, after in idle[:_MOST_GAPS]:
        left_ms -= gap_ms
        if gap_ms < max(_LEAST_GAP_MS, _GAP_SHARE * left_ms):
            break
        cuts.append(after)
    begins = [seen[0], *sorted(cuts)]
    ends = [
        max(one for one in seen if one < later) + width_ms for later in [*begins[1:], seen[-1] + 1]
    ]
    return list(zip(begins, ends, strict=True))


def _filled(
    parts: Iterable[tuple[int, int]], found: Sequence[Moment], width_ms: int
) -> list[Stretch]:
    by_slot = {moment.slot: moment for moment in found}
    in_flight = spent_micros = 0
    drawn: list[Stretch] = []
    for first_ms, last_ms in parts:
        points = []
        # Idle time is many slots long: no slot belongs to two stretches.
        for slot in range(first_ms // width_ms, (last_ms - 1) // width_ms + 1):
            moment = by_slot.get(slot, Moment(slot))
            before, in_flight = in_flight, in_flight + moment.started - moment.ended
            spent_micros += moment.charged_micros
            points.append(
                Point(
                    at_ms=slot * width_ms,
                    in_flight=max(before, in_flight, 1 if moment.started else 0),
                    succeeded=moment.succeeded,
                    failed=moment.failed,
                    spent_micros=spent_micros,
                )
            )
        if points:
            drawn.append(Stretch(points[0].at_ms, points[-1].at_ms + width_ms, points))
    return drawn
