from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.pages.interface import Stretch
from batchgen.reporting import nights
from batchgen.store.nights import Moment

MINUTE, HOUR = 60_000, 3_600_000
NIGHT = list(range(0, 8 * HOUR, 5 * MINUTE))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param([0], [(0, MINUTE)], id="one"),
        pytest.param(NIGHT, [(0, NIGHT[-1] + MINUTE)], id="a-night"),
        pytest.param(
            [*NIGHT, *(30 * 24 * HOUR + at for at in NIGHT)],
            [(0, NIGHT[-1] + MINUTE), (30 * 24 * HOUR, 30 * 24 * HOUR + NIGHT[-1] + MINUTE)],
            id="two-nights-a-month-apart",
        ),
        pytest.param(
            [*range(0, HOUR, MINUTE), *range(2 * HOUR, 3 * HOUR, MINUTE)],
            [(0, HOUR), (2 * HOUR, 3 * HOUR)],
            id="killed-and-resumed",
        ),
        pytest.param([0, MINUTE, 3 * MINUTE], [(0, 4 * MINUTE)], id="a-short-pause-is-no-gap"),
    ],
)
def test_idle_time_parts_the_stretches(seen: list[int], expected: list[tuple[int, int]]) -> None:
    assert nights.stretches(seen, MINUTE) == expected


@settings(deadline=None)  # a loaded machine takes its time
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60, unique=True))
def test_every_moment_is_in_exactly_one_stretch(slots: list[int]) -> None:
    seen = sorted(slot * MINUTE for slot in slots)

    parts = nights.stretches(seen, MINUTE)

    assert parts == sorted(parts)
    assert all(first < last for first, last in parts)
    assert all(before[1] < after[0] for before, after in pairwise(parts))
    assert all(sum(first <= at < last for first, last in parts) == 1 for at in seen)
    assert len(parts) <= 12


@settings(deadline=None)  # a loaded machine takes its time
@given(
    st.lists(
        st.tuples(st.integers(0, 40_000), st.integers(0, 300), st.booleans(), st.integers(0, 9)),
        min_size=1,
        max_size=50,
    )
)
def test_a_timeline_counts_every_attempt_once(attempts: list[tuple[int, int, bool, int]]) -> None:
    def at(minute: int, width_ms: int) -> int:
        return minute * MINUTE // width_ms

    def moments(width_ms: int) -> list[Moment]:
        found: dict[int, Moment] = {}
        for begun, took, is_clip, cents in attempts:
            slot = at(begun, width_ms)
            found.setdefault(slot, Moment(slot)).started += 1
            slot = at(begun + took, width_ms)
            end = found.setdefault(slot, Moment(slot))
            end.ended += 1
            end.succeeded += is_clip
            end.failed += not is_clip
            end.charged_micros += cents
        return [found[slot] for slot in sorted(found)]

    drawn: list[Stretch] = list(nights.drawn(moments, 0, 40_300 * MINUTE)[1])
    points = [point for stretch in drawn for point in stretch.points]

    assert [point.at_ms for point in points] == sorted({point.at_ms for point in points})
    assert sum(point.succeeded for point in points) == sum(it[2] for it in attempts)
    assert sum(point.failed for point in points) == sum(not it[2] for it in attempts)
    assert points[-1].spent_micros == sum(it[3] for it in attempts)
    assert all(0 <= point.in_flight <= len(attempts) for point in points)
    assert len(points) <= 2 * 160 + 2 * 12  # whatever there is
