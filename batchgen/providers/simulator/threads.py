"""The stand-in service beside something else: in a thread of its own, or as a command."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from batchgen.providers.simulator.books import Counters, Ledger
from batchgen.providers.simulator.catalog import Catalog
from batchgen.providers.simulator.server import Simulator
from batchgen.providers.simulator.settings import Settings

T = TypeVar("T")


class Handle:
    """A stand-in service that runs in a thread of its own, until `stop` or the `with` ends.

    Attributes:
        origin: `http://host:port`.
        base: The API's base, what `RUNCOMFY_MODEL_API_BASE` takes.
    """

    def __init__(
        self, settings: Settings | None, *, host: str, port: int, catalog: Catalog | None = None
    ) -> None:
        self._simulator = Simulator(settings, host=host, port=port, catalog=catalog)
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._over = asyncio.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live()), name="simulator", daemon=True
        )
        self._thread.start()
        self._loop = self._ready.result()
        self.origin = self._simulator.origin
        self.base = self._simulator.base

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def ledger(self) -> Ledger:
        """Return a copy of the books; also after `stop`."""
        return self._call(lambda: self._simulator.ledger)

    @property
    def counters(self) -> Counters:
        """Return a copy of the counters; also after `stop`."""
        return self.ledger.counters

    @property
    def settings(self) -> Settings:
        """How the service behaves; may be replaced at any time."""
        return self._simulator.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        def replace() -> None:
            self._simulator.settings = settings

        self._call(replace)

    def down(self) -> None:
        """Stop listening and cut every connection: connects are refused."""
        self._await(self._simulator.down())

    def up(self) -> None:
        """Listen again on the same port."""
        self._await(self._simulator.up())

    def finish_all(self) -> None:
        """End everything that is queued or generating, now."""
        self._call(self._simulator.finish_all)

    def wait_until(self, reached: Callable[[Counters], bool], *, timeout_s: float = 30.0) -> None:
        """Wait until the counters satisfy a condition, looked at after every request.

        Raises:
            TimeoutError: If they do not in time.
        """
        self._await(asyncio.wait_for(self._simulator.until(reached), timeout_s))

    def stop(self) -> None:
        """Stop listening and end the thread; the books can still be read."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()

    async def _live(self) -> None:
        try:
            async with self._simulator:
                self._ready.set_result(asyncio.get_running_loop())
                await self._over.wait()
        except OSError as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def _call(self, work: Callable[[], T]) -> T:
        if not self._thread.is_alive():
            return work()

        async def wrapped() -> T:
            return work()

        return self._await(wrapped())

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def start_in_thread(
    settings: Settings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    catalog: Catalog | None = None,
) -> Handle:
    """Start the stand-in service in a thread of its own.

    Raises:
        OSError: If the port is taken.
    """
    return Handle(settings, host=host, port=port, catalog=catalog)


def serve(
    settings: Settings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    catalog: Catalog | None = None,
    ready: Callable[[str], None],
) -> Ledger:
    """Serve until SIGINT or SIGTERM; return the books.

    Args:
        settings: How the service behaves.
        host: The address to listen on.
        port: The port to listen on, 0 for any.
        catalog: What it says of models.
        ready: Called with the API's base as soon as the service listens.

    Raises:
        OSError: If the port is taken.
    """

    async def live() -> Ledger:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, over.set)
        async with Simulator(settings, host=host, port=port, catalog=catalog) as simulator:
            ready(simulator.base)
            await over.wait()
            return simulator.ledger

    return asyncio.run(live())
