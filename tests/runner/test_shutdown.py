import asyncio
import os
import signal

import pytest

from batchgen.domain.errors import Exit
from batchgen.runner.shutdown import Shutdown


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (signal.SIGINT, Exit.SIGINT),
        (signal.SIGTERM, Exit.SIGTERM),
        (signal.SIGHUP, Exit.SIGHUP),
    ],
)
def test_the_first_signal_drains_and_names_the_exit(first: signal.Signals, expected: Exit) -> None:
    calls: list[str] = []
    shutdown = Shutdown(
        on_first=lambda: calls.append("drain"), on_second=lambda: calls.append("leave")
    )

    shutdown.received(first)
    shutdown.received(signal.SIGTERM)
    shutdown.received(signal.SIGINT)

    assert calls == ["drain", "leave", "leave"]
    assert shutdown.exit_code is expected


def test_signals_reach_it_until_it_is_removed() -> None:
    async def body() -> Exit | None:
        came = asyncio.Event()
        shutdown = Shutdown(on_first=came.set, on_second=came.set)
        loop = asyncio.get_running_loop()
        shutdown.install(loop)
        os.kill(os.getpid(), signal.SIGTERM)
        await came.wait()
        shutdown.remove(loop)
        return shutdown.exit_code

    before = signal.getsignal(signal.SIGTERM)

    assert asyncio.run(body()) is Exit.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
