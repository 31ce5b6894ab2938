import asyncio
import contextlib

import pytest

from batchgen.cli import progress
from batchgen.runner.job import Stats


@pytest.mark.parametrize(("estimates", "money"), [(0, "$0.50 spent"), (1, "~$0.50 spent")])
def test_what_is_spent_so_far_is_marked_if_a_part_is_an_estimate(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    estimates: int,
    money: str,
) -> None:
    monkeypatch.setattr(progress, "_PLAIN_S", 0.0)
    stats = Stats(succeeded=2, charged_micros=500_000, estimates=estimates)

    async def show() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await progress.Progress(stats, total=3, in_flight=lambda: 1).show()

    asyncio.run(show())

    assert capsys.readouterr().err == f"0 s: 2/3 done, 1 in flight · {money}\n"
