"""A TCP proxy on loopback that can cut, hold back and delay what passes through it."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_CHUNK_BYTES = 65_536


class Proxy:
    """Forwards to a port of this machine, in a thread of its own, until the `with` ends.

    Attributes:
        port: Where it listens on 127.0.0.1.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._delay_s = 0.0
        self._links: set[_Link] = set()
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live()), name="proxy", daemon=True
        )
        self._thread.start()
        self._loop = self._ready.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._call(lambda: len(self._links))

    def cut(self) -> int:
        """Reset every connection, at both ends; return how many there were."""
        return self._call(self._cut)

    def partition(self, *, requests: bool = True, answers: bool = True) -> None:
        """Let nothing pass and close nothing, also for connections to come, until `heal`.

        As in a network that is broken for a while, what was held back arrives afterwards.

        Args:
            requests: Hold back what clients send.
            answers: Hold back what the server sends.
        """

        def close_gates() -> None:
            for gate, closed in ((self._requests, requests), (self._answers, answers)):
                if closed:
                    gate.clear()

        self._call(close_gates)

    def heal(self) -> None:
        """End a partition."""

        def open_gates() -> None:
            self._requests.set()
            self._answers.set()

        self._call(open_gates)

    def delay(self, seconds: float) -> None:
        """Hold each piece back for so long, in both directions, from now on."""
        self._delay_s = seconds

    # -- in its thread ---------------------------------------------------------------------------

    async def _live(self) -> None:
        self._over = asyncio.Event()
        self._requests, self._answers = asyncio.Event(), asyncio.Event()
        self._requests.set()
        self._answers.set()
        try:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        except OSError as error:
            self._ready.set_exception(error)
            return
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set_result(asyncio.get_running_loop())
        await self._over.wait()
        server.close()
        self._cut()
        await asyncio.gather(*(link.ended.wait() for link in self._links))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _reset(writer)
            return
        link = _Link(writer, far_writer)
        self._links.add(link)
        pumps = asyncio.gather(
            self._pump(reader, far_writer, self._requests, link),
            self._pump(far_reader, writer, self._answers, link),
        )
        cut = asyncio.create_task(link.cut.wait())
        try:
            await asyncio.wait((pumps, cut), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pumps, cut):
                task.cancel()
            await asyncio.gather(pumps, cut, return_exceptions=True)
            self._links.discard(link)
            link.end()
            link.ended.set()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
        link: "_Link",
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await gate.wait()
                writer.write(data)
                await writer.drain()
            await gate.wait()  # also the end is held back
            writer.write_eof()
            return
        link.cut.set()  # a reset passes as a reset

    def _cut(self) -> int:
        for link in self._links:
            link.cut.set()
        return len(self._links)

    def _call(self, work: Callable[[], T]) -> T:
        async def wrapped() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(wrapped(), self._loop).result()


class _Link:
    """A client's connection and the proxy's own to the target."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.cut = asyncio.Event()
        self.ended = asyncio.Event()
        self._writers = writers

    def end(self) -> None:
        for writer in self._writers:
            if self.cut.is_set():
                _reset(writer)
            else:
                writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it may be closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
