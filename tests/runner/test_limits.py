import asyncio

import pytest

from batchgen.domain.errors import Exit
from batchgen.domain.halting import NEVER_HALTS, Halting, parse_halting
from batchgen.runner.limits import NOTHING_LOST, Limits
from batchgen.runner.turns import TOGETHER


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_limits(*, streak: int = 3) -> tuple[Limits, Clock]:
    clock = Clock()
    return Limits(halting=Halting(streak=streak or None), clock=clock), clock


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


def test_moderation_has_a_ceiling_of_its_own_and_belongs_to_no_streak() -> None:
    limits, _ = make_limits(streak=2)
    for _ in range(49):
        limits.moderated("the text")
    limits.bad("why")
    limits.good()
    limits.bad("why")
    before = limits.paused

    limits.moderated("the text")
    limits.moderated("the text")

    assert not before
    assert codes(limits) == [Exit.HALTED]
    assert "suspended" in limits.reasons[0].message


def test_moderation_ends_no_streak() -> None:
    limits, _ = make_limits(streak=2)

    limits.bad("why")
    limits.moderated("the text")
    limits.bad("why")

    assert limits.paused


@pytest.mark.parametrize(
    ("spec", "jobs", "lost"),
    [("fail=3", 100, 3), ("fail=3%", 100, 3), ("fail=3%", 101, 4), ("fail=1%", 5, 1)],
)
@pytest.mark.parametrize("when", ["soon", "now"])
def test_failures_of_any_kind_stop_a_run(when: str, spec: str, jobs: int, lost: int) -> None:
    limits = Limits(halting=parse_halting([f"{when},{spec}"]), clock=lambda: 0.0, jobs=jobs)
    told: list[str] = []
    limits.on_change(lambda: told.append("wake"), leave=lambda: told.append("leave"))

    for _ in range(lost - 1):
        limits.lost("why")
        limits.good()
    before = list(told)
    limits.lost("why")
    limits.lost("why")

    assert before == []
    assert told == (["wake"] if when == "soon" else ["wake", "leave"])
    assert codes(limits) == [Exit.HALTED]


def test_every_halt_says_that_nothing_is_lost_and_what_to_do() -> None:
    halting = parse_halting(["streak=1", "moderated=1", "soon,fail=1", "now,fail=2%"])
    limits = Limits(halting=halting, clock=lambda: 0.0, jobs=100)

    limits.bad("why")
    limits.moderated("why")
    limits.lost("why")
    limits.lost("why")
    limits.throttle_s(7200, "429")

    said = [reason.message for reason in limits.reasons]
    assert len(said) == 5
    assert all(NOTHING_LOST in message and "run again" in message for message in said)
    assert "2 jobs failed, expired or came in doubt (--halt, 2% of 100)" in said[3]


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
    limits.on_change(lambda: woken.append(limits.paused), leave=lambda: None)

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


def test_the_looks_that_waited_go_on_a_few_in_a_turn() -> None:
    many = 3 * TOGETHER + 5

    async def body() -> list[int]:
        limits, _ = make_limits()
        limits.go_offline()
        looking = [asyncio.create_task(limits.online()) for _ in range(many)]
        looking[1].cancel()
        await asyncio.sleep(0)
        limits.go_online()
        ended: list[int] = []
        while not all(one.done() for one in looking):
            before = sum(one.done() for one in looking)
            await asyncio.sleep(0)
            ended.append(sum(one.done() for one in looking) - before)
            if len(ended) == 2:  # those that still wait are not forgotten
                limits.go_offline()
                for _ in range(3):
                    await asyncio.sleep(0)
                limits.go_online()
        return ended

    ended = asyncio.run(body())

    assert max(ended) == TOGETHER


def test_submits_that_never_leave_are_tried_less_and_less_often() -> None:
    limits = Limits(halting=NEVER_HALTS, clock=lambda: 0.0)
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
