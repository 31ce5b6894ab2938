import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.runner.purse import Purse

MONEY = st.integers(0, 10**6)


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@given(balance=MONEY, reserved=MONEY, least=MONEY, unit=st.integers(1, 10**5))
def test_what_it_lets_through_never_leaves_less_than_the_least(
    balance: int, reserved: int, least: int, unit: int
) -> None:
    purse = Purse(Clock(), min_micros=least, unit_micros=unit, balance_micros=balance)

    room = purse.room(reserved, in_flight=0)

    assert room is not None
    assert room == 0 or balance - reserved - room * unit >= least
    assert balance - reserved - (room + 1) * unit < least  # nor does it hold back more


def test_without_a_least_it_bounds_nothing() -> None:
    assert Purse(Clock(), balance_micros=0, unit_micros=1).room(5, in_flight=1) is None


def test_without_a_known_price_jobs_go_one_at_a_time() -> None:
    purse = Purse(Clock(), min_micros=5, balance_micros=7)

    assert purse.room(0, in_flight=0) == 1
    assert purse.room(2, in_flight=0) == 0
    assert purse.room(0, in_flight=1) == 0


@pytest.mark.parametrize(
    ("least", "balances", "after_s", "expected"),
    [
        pytest.param(None, [None], 0, False, id="if-the-page-says-nothing"),
        pytest.param(None, [9], 0, False, id="less-than-a-job"),
        pytest.param(None, [10], 0, True, id="enough-for-a-job"),
        pytest.param(20, [29], 0, False, id="not-enough-above-the-least"),
        pytest.param(20, [30], 0, True, id="enough-above-the-least"),
        pytest.param(None, [3], 600, True, id="after-ten-minutes-a-try-tells-more"),
        pytest.param(None, [None], 600, True, id="also-if-the-page-says-nothing"),
        pytest.param(20, [3], 600, False, id="but-never-below-the-least"),
        pytest.param(20, [None], 600, False, id="nor-if-nobody-knows"),
    ],
)
def test_when_it_is_filled_again(
    least: int | None, balances: list[int | None], after_s: float, expected: bool
) -> None:
    clock = Clock()
    purse = Purse(clock, min_micros=least, waits=True, unit_micros=10, balance_micros=3)
    purse.emptied()

    clock.now_s = after_s
    for balance in balances:
        purse.looked(balance)

    assert purse.is_filled(0) is expected
    assert purse.is_filled(0) is expected


def test_while_the_balance_is_not_known_nothing_may_be_bought() -> None:
    assert Purse(Clock(), min_micros=5, unit_micros=1).room(0, in_flight=0) == 0


def test_what_may_yet_be_charged_is_counted_whatever_is_read_later() -> None:
    purse = Purse(Clock(), min_micros=0, unit_micros=1, balance_micros=10)

    purse.unsettled(4)
    purse.looking()
    purse.looked(10)

    assert purse.room(0, in_flight=0) == 6


def test_what_has_ended_since_the_balance_was_read_is_gone_from_it() -> None:
    purse = Purse(Clock(), min_micros=0, unit_micros=1, balance_micros=10)

    purse.spent(4)
    assert purse.room(0, in_flight=0) == 6
    purse.looking()
    purse.spent(1)  # while the page is being read: it may be in the answer or not
    purse.looked(6)

    assert purse.room(0, in_flight=0) == 5


def test_a_question_is_answered_by_a_look() -> None:
    async def asked() -> tuple[bool, bool]:
        purse = Purse(Clock(), min_micros=1)
        purse.ask()
        before = purse.is_asked
        await purse.next_look()  # at once: else the test would wait for a minute
        purse.looked(5)
        return before, purse.is_asked

    assert asyncio.run(asked()) == (True, False)
