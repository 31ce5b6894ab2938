import asyncio

import pytest

from batchgen.runner.spacing import Spacer


@pytest.mark.parametrize(
    ("rate", "expected"), [(2.0, [0.0, 0.5, 1.0, 10.0, 10.5]), (None, [0.0, 0.0, 0.0, 10.0, 10.0])]
)
def test_turns_are_evenly_spaced_and_none_is_saved_up(
    rate: float | None, expected: list[float]
) -> None:
    now = 0.0
    begun: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def body() -> None:
        nonlocal now
        spacer = Spacer(rate, clock=lambda: now, sleep=sleep)
        for number in range(5):
            if number == 3:
                now = 10.0
            await spacer.turn()
            begun.append(now)

    asyncio.run(body())

    assert begun == expected
