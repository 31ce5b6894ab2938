import asyncio
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.runner.polling import BLIND, NEWEST, Durations, Schedule, after_trouble_s
from batchgen.runner.spacing import Spacer

MODEL = "runwayml/gen"
LONGEST_WAIT_S = 300.0

ages = st.floats(0, 10**6)
chances = st.floats(0, 1, exclude_max=True)
intervals = st.floats(0.001, 100)
seen = st.lists(st.integers(0, 10**9), max_size=40)


def learned(runs_ms: list[int], settings: str = "{}") -> Durations:
    known = Durations()
    for ms in runs_ms:
        known.add(MODEL, settings, ms)
    return known


def next_s(
    schedule: Schedule, seen_s: float | None, *, shortest_s: float = 0.001, queued: bool = False
) -> float:
    return schedule.next_look_s(seen_s, is_queued=queued, shortest_s=shortest_s, chance=0.0)


# -- what is true of every schedule --------------------------------------------------------------


@given(seen, ages, intervals, chances, st.booleans())
def test_a_wait_is_never_too_short_and_no_job_is_forgotten(
    runs_ms: list[int], age_s: float, shortest_s: float, chance: float, queued: bool
) -> None:
    schedule = learned(runs_ms).schedule(MODEL, "{}")

    at_s = schedule.next_look_s(age_s, is_queued=queued, shortest_s=shortest_s, chance=chance)
    first_s = schedule.next_look_s(None, shortest_s=shortest_s, chance=chance)

    assert at_s - age_s >= shortest_s * 0.999_999
    assert at_s - age_s <= max(LONGEST_WAIT_S, 1.1 * shortest_s) * 1.000_001
    assert 0 <= first_s <= LONGEST_WAIT_S


@given(seen, ages, ages, st.booleans())
def test_an_older_job_is_never_looked_at_before_a_younger_age(
    runs_ms: list[int], one_s: float, other_s: float, queued: bool
) -> None:
    schedule = learned(runs_ms).schedule(MODEL, "{}")
    young_s, old_s = sorted([one_s, other_s])

    assert next_s(schedule, young_s, queued=queued) <= next_s(schedule, old_s, queued=queued) + 1e-6


@given(seen, st.floats(1, 10**4), st.floats(1, 10**4), st.booleans())
def test_beyond_all_that_was_seen_waits_only_stretch(
    runs_ms: list[int], one_s: float, other_s: float, queued: bool
) -> None:
    schedule = learned(runs_ms).schedule(MODEL, "{}")
    young_s, old_s = sorted(schedule.longest_s + beyond for beyond in (one_s, other_s))

    young_wait_s = next_s(schedule, young_s, queued=queued) - young_s
    old_wait_s = next_s(schedule, old_s, queued=queued) - old_s

    assert young_wait_s <= old_wait_s + 1e-6


@given(seen, st.one_of(st.none(), ages), chances)
def test_without_an_interval_there_is_no_wait(
    runs_ms: list[int], age_s: float | None, chance: float
) -> None:
    schedule = learned(runs_ms).schedule(MODEL, "{}")

    assert schedule.next_look_s(age_s, shortest_s=0, chance=chance) == (age_s or 0)


@given(seen, ages, intervals)
def test_chance_moves_a_look_by_at_most_a_tenth_of_the_wait(
    runs_ms: list[int], age_s: float, shortest_s: float
) -> None:
    schedule = learned(runs_ms).schedule(MODEL, "{}")

    waits = [
        schedule.next_look_s(age_s, shortest_s=shortest_s, chance=chance) - age_s
        for chance in (0.0, 0.5, 0.999)
    ]

    assert max(waits) <= 1.112 * min(waits) + 1e-6
    assert len(set(waits)) > 1


# -- what is learned -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "shortest_s", "expected"),
    [
        pytest.param(None, 2, 0, id="at-once"),
        pytest.param(0, 2, 2, id="young"),
        pytest.param(10, 2, 13, id="three-tenths-later"),
        pytest.param(1000, 2, 1030, id="bounded"),
        pytest.param(1000, 90, 1090, id="never-before-what-was-asked"),
    ],
)
def test_while_nothing_is_known_ages_grow(
    age_s: float | None, shortest_s: float, expected: float
) -> None:
    assert learned([]).schedule(MODEL, "{}") == BLIND
    assert next_s(BLIND, age_s, shortest_s=shortest_s) == pytest.approx(expected)


def test_the_first_look_comes_when_a_tenth_had_ended() -> None:
    runs_ms = list(range(61_000, 161_000, 1000))

    schedule = learned(runs_ms).schedule(MODEL, "{}")

    assert next_s(schedule, None) == pytest.approx(71, rel=0.02)


def test_what_takes_longer_than_ever_is_looked_at_less_often() -> None:
    schedule = learned([60_000] * 50).schedule(MODEL, "{}")

    waits = [next_s(schedule, age_s) - age_s for age_s in (60, 300, 900)]

    assert waits == pytest.approx([3.6, 18, 30])


def test_what_queues_is_looked_at_less_often() -> None:
    schedule = learned([60_000] * 50).schedule(MODEL, "{}")

    assert next_s(schedule, 60) - 60 < next_s(schedule, 60, queued=True) - 60


def test_only_the_newest_durations_count() -> None:
    schedule = learned([600_000] * 1000 + [6_000] * NEWEST).schedule(MODEL, "{}")

    assert schedule == learned([6_000] * NEWEST).schedule(MODEL, "{}")


def test_other_settings_serve_until_there_are_enough_of_its_own() -> None:
    known = learned([60_000] * 50, settings='{"duration":10}')
    before = known.schedule(MODEL, "{}")
    for _ in range(5):
        known.add(MODEL, "{}", 20_000)

    assert 15 < next_s(before, None) < 45  # they may well be twice as fast
    assert known.schedule(MODEL, "{}") == learned([20_000] * 5).schedule(MODEL, "{}")


def test_a_model_tells_nothing_of_another() -> None:
    assert learned([60_000] * 50).schedule("runwayml/other", "{}") == BLIND


def test_the_kinds_that_are_remembered_are_bounded() -> None:
    known = Durations()
    for number in range(3000):
        known.add(MODEL, f'{{"strength":{number}}}', 1000)

    assert known.seen(MODEL) == NEWEST
    assert known.seen(MODEL, '{"strength":0}') == 0
    assert known.seen(MODEL, '{"strength":2999}') == 1


def lognormal(rng: random.Random) -> float:
    return rng.lognormvariate(4, 0.3)


def two_humps(rng: random.Random) -> float:
    return rng.choice([60, 150]) * rng.lognormvariate(0, 0.1)


def heavy_tail(rng: random.Random) -> float:
    return rng.lognormvariate(4, 0.3) * (1 if rng.random() < 0.95 else rng.uniform(2, 20))


@pytest.mark.parametrize(
    ("draw", "most_lag", "most_looks"),
    [
        pytest.param(lognormal, 0.04, 8, id="lognormal"),
        pytest.param(two_humps, 0.05, 8, id="two-humps"),
        pytest.param(heavy_tail, 0.045, 9, id="heavy-tail"),
        pytest.param(lambda _: 60.0, 0.04, 4, id="constant"),
    ],
)
def test_an_end_is_noticed_soon_with_few_looks(
    draw: Callable[[random.Random], float], most_lag: float, most_looks: float
) -> None:
    rng = random.Random(4)
    known = learned([int(draw(rng) * 1000) for _ in range(50)])
    looks, lag_s, all_s, jobs = 0, 0.0, 0.0, 2000

    for _ in range(jobs):
        ends_s, seen_s = draw(rng), None
        while seen_s is None or seen_s < ends_s:
            schedule = known.schedule(MODEL, "{}")
            seen_s = schedule.next_look_s(seen_s, shortest_s=2, chance=rng.random())
            looks += 1
        lag_s += seen_s - ends_s
        all_s += ends_s
        known.add(MODEL, "{}", int(ends_s * 1000))

    assert looks / jobs <= most_looks
    assert lag_s / all_s <= most_lag


# -- one bound for all looks ---------------------------------------------------------------------


class Clock:
    """Time that passes only by sleeping; as many may sleep as like."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._numbers = itertools.count()

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now_s + seconds, next(self._numbers), woken))
        await woken.wait()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0)
            if self._sleepers:
                first = min(self._sleepers)
                self._sleepers.remove(first)
                self.now_s = max(self.now_s, first[0])
                first[2].set()


def starts_of(per_s: float | None, arrivals_s: list[float]) -> list[float]:
    """Return when each look started, in the order in which they came."""
    clock = Clock()
    pace = Spacer(per_s, clock=lambda: clock.now_s, sleep=clock.sleep)
    starts: list[float] = []

    async def look(arrives_s: float) -> float:
        if arrives_s:
            await clock.sleep(arrives_s)
        await pace.turn()
        starts.append(clock.now_s - 1000)
        return starts[-1]

    async def body() -> list[float]:
        running = asyncio.create_task(clock.run())
        try:
            return list(await asyncio.gather(*map(look, arrivals_s)))
        finally:
            running.cancel()

    found = asyncio.run(body())
    assert found == sorted(found)  # first come, first served
    return found


def test_looks_that_come_together_are_spaced_evenly() -> None:
    assert starts_of(4, [0.0] * 5) == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_looks_that_are_rare_anyway_do_not_wait() -> None:
    assert starts_of(4, [0, 0.25, 0.6, 5]) == pytest.approx([0, 0.25, 0.6, 5])


def test_time_in_which_nobody_looked_is_not_saved_up() -> None:
    assert starts_of(4, [0, 100, 100, 100]) == pytest.approx([0, 100, 100.25, 100.5])


def test_without_a_bound_nobody_waits() -> None:
    assert starts_of(None, [0.0] * 100) == [0] * 100


@given(st.floats(0.5, 1000), st.lists(st.floats(0, 10), max_size=20))
def test_no_look_starts_sooner_after_another_than_the_bound_says(
    per_s: float, arrivals_s: list[float]
) -> None:
    starts = starts_of(per_s, sorted(arrivals_s))

    assert all(b - a >= 1 / per_s - 1e-6 for a, b in itertools.pairwise(starts))
    assert all(at <= 10 + len(starts) / per_s + 1e-6 for at in starts)


# -- trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tries", "shortest_s", "expected"),
    [(1, 2, 2), (2, 2, 4), (3, 2, 8), (1, 0, 0.5), (40, 0.05, 60), (5000, 2, 60)],
)
def test_the_wait_after_failed_looks_doubles(
    tries: int, shortest_s: float, expected: float
) -> None:
    assert after_trouble_s(tries, shortest_s=shortest_s) == expected
