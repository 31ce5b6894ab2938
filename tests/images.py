"""A host of input files on loopback: a real HTTP server with every habit that hosts have."""

import asyncio
import io
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from PIL import Image

_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")
_PART = 16 * 1024


def image(width: int = 1280, height: int = 720, *, form: str = "PNG", exif_bytes: int = 0) -> bytes:
    """Return an image of one colour; a JPEG may have so much before its pixels."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), (40, 80, 120)).save(out, form)
    data = out.getvalue()
    if not exif_bytes:
        return data
    assert form == "JPEG"
    parts = [b"\0" * min(65_000, exif_bytes - at) for at in range(0, exif_bytes, 65_000)]
    segments = b"".join(b"\xff\xe1" + (len(part) + 2).to_bytes(2, "big") + part for part in parts)
    return data[:2] + segments + data[2:]


SMALL = image(64, 36)


@dataclass(frozen=True)
class Page:
    """How the host answers for one path.

    Attributes:
        status: Of GET; 0 answers nothing and -1 resets the connection.
        head: Of HEAD; None is as GET.
        kind: The content type; None states none.
        body: The file.
        length: The length that is stated; None is the file's, -1 states none.
        ranges: Whether a part of the file can be asked for.
        range_status: What a request for a part is refused with; None is not.
        drip_s: Waited after each byte.
        headers: More of them.
    """

    status: int = 200
    head: int | None = None
    kind: str | None = "image/png"
    body: bytes = SMALL
    length: int | None = None
    ranges: bool = True
    range_status: int | None = None
    drip_s: float = 0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Host:
    """What was asked, and by how many at once.

    Attributes:
        pages: By path; others are 404.
        asked: Method, path and range of each request.
        most_at_once: The most connections that were open at once.
        sent: Bytes of bodies by path.
    """

    pages: dict[str, Page] = field(default_factory=dict)
    port: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    open: int = 0
    most_at_once: int = 0
    sent: Counter[str] = field(default_factory=Counter)

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def add(self, path: str, page: Page) -> str:
        """Serve a page; return its URL."""
        self.pages[path] = page
        return self.url(path)

    def paths(self, method: str) -> Counter[str]:
        """Return how often each path was asked for by a method."""
        return Counter(path for one, path, _ in self.asked if one == method)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.open += 1
        self.most_at_once = max(self.most_at_once, self.open)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self.open -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        assert "authorization" not in request.lower()
        assert "user-agent: batchgen/" in request.lower()
        method, target, _ = request.split(" ", 2)
        path = target.partition("?")[0]
        wanted = _RANGE.search(request)
        self.asked.append((method, path, wanted[0] if wanted else ""))
        page = self.pages.get(path, Page(status=404, kind="text/html", body=b"<html>no"))
        status = page.head if method == "HEAD" and page.head is not None else page.status
        if status == 0:
            await reader.read(1)  # until the other side gives up
            return False
        if status == -1:
            return False
        if wanted and page.range_status is not None:
            status = page.range_status
        body, headers = page.body, dict(page.headers)
        if page.kind is not None:
            headers["Content-Type"] = page.kind
        total = len(body) if page.length is None else page.length
        if wanted and page.ranges and status == 200 and total >= 0:
            start, end = int(wanted[1]), min(int(wanted[2]) + 1, total)
            status = 206 if start < total else 416
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
            body, total = body[start:end], max(0, end - start)
        if status in (204, 304):
            body, total = b"", 0
        elif total >= 0:
            headers["Content-Length"] = str(total)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode())
        if method != "HEAD":
            await self._send(path, body, writer, drip_s=page.drip_s)
            if len(body) < total:
                await reader.read(1)  # the rest never comes
        await writer.drain()
        return total >= 0 and len(body) >= total

    async def _send(
        self, path: str, body: bytes, writer: asyncio.StreamWriter, *, drip_s: float
    ) -> None:
        step = 1 if drip_s else _PART
        for start in range(0, len(body), step):
            writer.write(body[start : start + step])
            await writer.drain()
            self.sent[path] += len(body[start : start + step])
            if drip_s:
                await asyncio.sleep(drip_s)


@contextmanager
def serving() -> Iterator[Host]:
    """Serve in a thread until the test is over."""
    host = Host()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(host.serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
        host.port = server.sockets[0].getsockname()[1]
        started.set_result((asyncio.get_running_loop(), over))
        await over.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, over = started.result()
    try:
        yield host
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
