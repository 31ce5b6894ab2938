import asyncio

import pytest

from batchgen.domain.errors import Exit
from batchgen.runner.limits import Limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_limits(*, streak: int = 3) -> tuple[Limits, Clock]:
    clock = Clock()
    return Limits(streak_limit=streak, clock=clock), clock


def codes(limits: Limits) -> list[Exit]:
    return [reason.exit_code for reason in limits.reasons]


@pytest.mark.parametrize(
    ("verdicts", "paused"),
    [
        ("bb", False),
        ("bbb", True),
        ("bbgbb", False),
        ("bbgbbb", True),
        ("ddd", True),
        ("bdb", True),
        ("babab", True),  # a submit that is answered is no success
        ("bbbg", True),  # a pause is for the session
    ],
)
def test_failures_in_a_row_pause(verdicts: str, paused: bool) -> None:
    limits, _ = make_limits()

    for verdict in verdicts:
        if verdict == "g":
            limits.good()
        elif verdict == "a":
            limits.answered()
        else:
            (limits.bad if verdict == "b" else limits.doubted)("why")

    assert limits.paused is paused
    assert codes(limits) == ([Exit.HALTED] if paused else [])


def test_a_streak_is_told_once_however_long_it_gets() -> None:
    limits, _ = make_limits()

    for number in range(8):
        limits.bad(f"failure {number}")

    assert codes(limits) == [Exit.HALTED]


def test_no_streak_pauses_a_session_that_never_halts() -> None:
    limits, _ = make_limits(streak=0)

    for _ in range(100):
        limits.bad("why")

    assert not limits.paused


def test_after_three_doubts_submits_go_one_by_one_until_one_is_answered() -> None:
    limits, _ = make_limits(streak=10)
    seen = []

    for _ in range(3):
        limits.doubted("silence")
        seen.append(limits.one_at_a_time)
    limits.answered()

    assert seen == [False, False, True]
    assert not limits.one_at_a_time


def test_a_held_model_does_not_pause_the_others() -> None:
    limits, _ = make_limits()

    limits.hold_model("a/b", "unknown")
    limits.hold_model("a/b", "unknown")

    assert limits.held_models == {"a/b"}
    assert not limits.paused
    assert codes(limits) == [Exit.HALTED]


def test_a_pause_is_told_once_and_wakes_the_loop() -> None:
    limits, _ = make_limits()
    woken: list[bool] = []
    limits.on_change(lambda: woken.append(limits.paused))

    limits.pause(Exit.TOKEN, "refused")
    limits.pause(Exit.TOKEN, "refused")

    assert codes(limits) == [Exit.TOKEN]
    assert woken[0] is True


def test_waits_after_refusals_double_until_a_submit_is_answered() -> None:
    limits, _ = make_limits()

    waits = [limits.throttle_s(None, "429") for _ in range(8)]
    limits.answered()

    assert waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert limits.throttle_s(None, "429") == 5


def test_what_the_service_asks_for_wins() -> None:
    limits, _ = make_limits()

    assert limits.throttle_s(42.5, "429") == 42.5
    assert limits.throttle_s(3600, "429") == 3600
    assert not limits.paused


def test_a_wait_that_is_over_already_is_short_but_grows() -> None:
    limits, _ = make_limits()

    assert [limits.throttle_s(0.0, "429") for _ in range(3)] == [0.25, 0.5, 1]


def test_a_wait_of_more_than_an_hour_ends_the_session() -> None:
    limits, _ = make_limits()

    assert limits.throttle_s(7200, "429") is None
    assert codes(limits) == [Exit.HALTED]


def test_time_out_of_reach_is_counted() -> None:
    limits, clock = make_limits()

    limits.go_offline()
    clock.now = 7
    limits.go_offline()
    during = (limits.outage_s(), limits.offline_total_s())
    limits.go_online()
    limits.go_online()
    clock.now = 10
    limits.go_offline()
    clock.now = 11
    after = (limits.outage_s(), limits.offline_total_s())

    assert (during, after) == ((7, 7), (1, 8))


def test_looks_wait_for_the_service() -> None:
    async def body() -> list[str]:
        limits, _ = make_limits()
        order = []

        async def look() -> None:
            await limits.online()
            order.append("look")

        limits.go_offline()
        looking = asyncio.create_task(look())
        await limits.outage()
        order.append("outage")
        limits.go_online()
        await looking
        return order

    assert asyncio.run(body()) == ["outage", "look"]


def test_submits_that_never_leave_are_tried_less_and_less_often() -> None:
    limits = Limits(streak_limit=0, clock=lambda: 0.0)
    waits = []
    for _ in range(12):
        limits.unsent()
        limits.unsent()  # of the same outage
        waits.append(limits.first_probe_s)
        limits.go_online()
    limits.answered()
    limits.unsent()

    assert waits == [min(60.0, 0.25 * 2**n) for n in range(12)]
    assert limits.first_probe_s == 0.25


def test_submits_that_are_refused_together_double_the_wait_once() -> None:
    limits, clock = make_limits()
    clock.now = 10

    waits = [limits.throttle_s(None, "429", sent_at=9.0 + n / 10) for n in range(5)]
    clock.now = 20
    later = limits.throttle_s(None, "429", sent_at=15.0)

    assert waits == [5, 5, 5, 5, 5]
    assert later == 10
