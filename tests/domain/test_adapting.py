"""The controller against services of many kinds, on a clock that only the model moves."""

import math
from dataclasses import replace

import pytest
from domain.adapting_model import Night, Service
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.domain import adapting
from batchgen.domain.adapting import Limit, Memory, Progress, Refusal, Sent, State

NOW = 10_000_000
SETTLED_S = 900
HOLDS_S = 900  # looked at afterwards: time for three of the shortest holds after a refusal


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    at_once=st.one_of(st.integers(1, 30), st.just(math.inf)),
    a_second=st.one_of(st.integers(1, 10), st.just(math.inf)),
    run_s=st.sampled_from([2, 5, 20, 90]),
    workers=st.integers(1, 3),
    jitter_ms=st.integers(2, 50),
    seed=st.integers(0, 1000),
)
def test_what_is_borne_is_found_and_kept_to(
    at_once: float, a_second: float, run_s: int, workers: int, jitter_ms: int, seed: int
) -> None:
    service = Service(at_once, a_second, run_s * 1000)
    night = Night(service, workers=workers, jitter_ms=jitter_ms, seed=seed)

    night.go_on(SETTLED_S)
    accepted, refused = len(night.accepted), len(night.refused)
    night.go_on(HOLDS_S)

    most = min(at_once, night.most)
    best = min(most / (run_s + 0.35), a_second)
    assert all(1 <= cap <= night.most for cap in night.caps)
    assert night.most_live <= night.most
    assert (len(night.accepted) - accepted) / HOLDS_S >= 0.8 * best
    assert len(night.refused) - refused <= 1 + HOLDS_S * 1000 / adapting.FIRST_HOLD_MS
    if most / (run_s + 0.35) < 0.8 * night.state.pace:  # else the pace keeps the cap from mattering
        assert abs(night.state.cap - most) <= 1


@pytest.mark.parametrize("run_s", [5, 30])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((7, 2), (3, 2)),
        ((7, 2), (7, 1)),
        ((20, math.inf), (5, math.inf)),
        ((20, 5), (4, 1)),
        ((5, math.inf), (20, math.inf)),
        ((2, 2), (7, 2)),
    ],
)
def test_limits_that_change_are_followed(
    before: tuple[float, float], after: tuple[float, float], run_s: int
) -> None:
    service = Service(*before, run_s * 1000)
    night = Night(service, workers=2, jitter_ms=50)
    night.go_on(SETTLED_S)

    service.at_once, service.a_second = after
    night.go_on(3600)
    accepted = len(night.accepted)
    night.go_on(600)

    best = min(after[0] / (run_s + 0.35), after[1])
    assert (len(night.accepted) - accepted) / 600 >= 0.85 * best


def refusal(**changes: object) -> Refusal:
    values = {"claimed_ms": NOW - 20, "live": 8, "sent": running(7), **changes}
    return Refusal(NOW, **values)  # type: ignore[arg-type]


def running(count: int, *, since_ms: int = 60_000, apart_ms: int = 5_000) -> list[Sent]:
    """So many jobs in flight, the newest accepted `since_ms` ago."""
    return [Sent(NOW - since_ms - apart_ms * number) for number in range(count)]


def test_a_refusal_halves_what_it_is_about_and_the_ceiling_is_remembered() -> None:
    state = adapting.shrink(State(cap=8, pace=5.0), refusal())

    assert (state.cap, state.pace) == (4, 5.0)
    assert state.jobs.ceiling == 8
    assert state.rate.ceiling is None


def test_submits_that_were_refused_together_are_one_refusal() -> None:
    once = adapting.shrink(State(cap=32, pace=5.0), refusal(live=32))

    again = adapting.shrink(once, refusal(live=31, claimed_ms=NOW - 1))
    later = adapting.shrink(once, replace(refusal(), now_ms=NOW + 9_000, claimed_ms=NOW + 8_990))

    assert again == once
    assert later != once


def test_a_shrink_before_a_clock_was_set_back_silences_no_refusal() -> None:
    state = State(cap=8, pace=5.0, shrunk_ms=NOW + 3_600_000)

    assert adapting.shrink(state, refusal()).cap == 4


@pytest.mark.parametrize(
    ("state", "sent", "live", "limit"),
    [
        pytest.param(State(8), running(7), 8, Limit.JOBS, id="long-after-the-last"),
        pytest.param(State(4, pace=3.0), running(2, since_ms=100, apart_ms=400), 3, Limit.RATE,
                     id="two-just-before-and-room-left"),
        pytest.param(State(4, pace=2.0), running(1, since_ms=400), 2, Limit.RATE,
                     id="one-just-before-and-room-left"),
        pytest.param(State(4, pace=2.0), running(3, since_ms=400), 4, Limit.JOBS,
                     id="one-just-before-the-last-slot"),
        pytest.param(
            State(8, pace=3.0),
            [*running(3, since_ms=100, apart_ms=200),
             *(Sent(NOW - 60_000 - n, NOW - 30_000) for n in range(9))],
            4, Limit.RATE, id="more-jobs-were-borne-but-not-so-fast",
        ),
        pytest.param(
            State(8, pace=9.0),
            [*running(7, since_ms=100, apart_ms=100),
             *(Sent(NOW - 60_000 - 90 * n, NOW - 60_000 - 90 * n + 300) for n in range(9))],
            8, Limit.JOBS, id="faster-was-borne-but-not-so-many-jobs",
        ),
    ],
)  # fmt: skip
def test_a_refusal_is_held_against_what_was_borne(
    state: State, sent: list[Sent], live: int, limit: Limit
) -> None:
    less = adapting.shrink(state, refusal(sent=sent, live=live))

    assert (less.cap < state.cap, less.pace < state.pace) == (
        limit is Limit.JOBS,
        limit is Limit.RATE,
    )


def test_a_mishap_lowers_no_ceiling_unless_it_happens_again() -> None:
    borne = [Sent(NOW - 90_000 - n, NOW - 60_000) for n in range(9)]
    state = State(cap=7, jobs=Memory(ceiling=8))

    once = adapting.shrink(state, refusal(sent=[*running(3), *borne], live=4))
    twice = adapting.shrink(
        once,
        Refusal(NOW + 10_000, NOW + 9_990, live=4, sent=[*running(3), *borne]),
    )

    assert (once.cap, once.jobs.ceiling) == (3, 8)
    assert (twice.cap, twice.jobs.ceiling) == (1, 3)


def progress(**changes: object) -> Progress:
    values = {"binds": Limit.JOBS, "accepted": 3, "ended": 2, "most": 32, **changes}
    return Progress(NOW, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "seen", "cap", "pace"),
    [
        pytest.param(State(4), progress(), 6, 1.0, id="climbs-by-what-ended"),
        pytest.param(State(4), progress(binds=Limit.RATE), 4, 4.0, id="climbs-the-rate"),
        pytest.param(State(4), progress(binds=Limit.NEITHER), 4, 1.0, id="nothing-binds"),
        pytest.param(State(31), progress(), 32, 1.0, id="never-above-the-most"),
        pytest.param(State(4), progress(is_queueing=True), 4, 1.0, id="the-service-queues"),
        pytest.param(
            State(4, jobs=Memory(ceiling=8)), progress(), 7, 1.0, id="back-to-below-the-ceiling"
        ),
        pytest.param(
            State(4, pace=1.0, rate=Memory(ceiling=2.0)),
            progress(binds=Limit.RATE), 4, 1.6, id="back-by-steps",
        ),
        pytest.param(
            State(4, pace=2.0), progress(binds=Limit.RATE, most_pace=2.0), 4, 2.0,
            id="the-user's-rate-stands",
        ),
        pytest.param(
            State(8, pace=1.8, rate=Memory(2.0), jobs=Memory(8, probe_from=7, held_until_ms=NOW+1)),
            progress(binds=Limit.RATE), 8, 1.8, id="one-probe-at-a-time",
        ),
        pytest.param(
            State(8, pace=1.8, rate=Memory(2.0), jobs=Memory(8, probe_from=7, held_until_ms=NOW)),
            progress(binds=Limit.RATE), 8, 2.0, id="no-probe-is-alone-for-ever",
        ),
        pytest.param(
            State(7, jobs=Memory(ceiling=8, held_until_ms=NOW + 1)), progress(), 7, 1.0,
            id="held",
        ),
        pytest.param(
            State(7, jobs=Memory(ceiling=8, held_until_ms=NOW)), progress(), 8, 1.0, id="probe"
        ),
        pytest.param(
            State(7, jobs=Memory(ceiling=8, held_until_ms=NOW + 2 * adapting.LONGEST_HOLD_MS)),
            progress(), 8, 1.0, id="held-before-a-clock-was-set-back",
        ),
    ],
)  # fmt: skip
def test_only_what_binds_is_raised(state: State, seen: Progress, cap: int, pace: float) -> None:
    more = adapting.grow(state, seen)

    assert (more.cap, more.pace) == (cap, pace)


def test_a_probe_that_is_refused_steps_back_and_doubles_the_hold() -> None:
    held = State(7, jobs=Memory(ceiling=8, held_until_ms=NOW))
    holds = []
    for _ in range(6):
        probing = adapting.grow(replace(held, shrunk_ms=0), progress())
        held = adapting.shrink(probing, refusal())
        holds.append((held.cap, (held.jobs.held_until_ms - NOW) // 60_000))
        held = replace(held, jobs=replace(held.jobs, held_until_ms=NOW))

    assert holds == [(7, 10), (7, 20), (7, 40), (7, 60), (7, 60), (7, 60)]


def test_a_probe_that_is_borne_raises_the_ceiling_and_shortens_the_hold() -> None:
    state = State(7, jobs=Memory(ceiling=8, held_until_ms=NOW))
    for _ in range(4):  # one to begin, eight accepted submits as its proof
        state = adapting.grow(state, progress())

    assert (state.cap, state.jobs.ceiling) == (8, 9)
    assert state.jobs.hold_ms < adapting.FIRST_HOLD_MS


def test_what_is_learned_survives_being_stored() -> None:
    state = adapting.shrink(State(cap=8, pace=5.0), refusal())

    assert adapting.load(adapting.dump(state), cap=state.cap) == state
    assert adapting.load(None, cap=5) == State(5)
