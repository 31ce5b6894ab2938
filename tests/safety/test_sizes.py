"""Whatever a server sends, only so much of it is read, held in memory or written."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from batchgen import manifests
from batchgen.domain.errors import (
    BatchgenError,
    DownloadError,
    ManifestError,
    OutcomeUnknown,
    Unavailable,
)
from batchgen.downloads.fetch import Fetcher
from batchgen.downloads.folder import Folder
from batchgen.http import file_client
from batchgen.manifests import csv_format, yaml_format
from batchgen.providers.runcomfy import LONGEST_BODY, RunComfy

MIB = 1024**2
BOMB_BYTES = 160 * MIB
MOST_MEMORY = 96 * MIB  # far below the bomb; one read, unpacked, is some 45

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


BOMBS = ("gzip", "gzip, gzip")


@cache
def bomb(encoding: str) -> bytes:
    """Return what unpacks to a bomb, packed once or twice."""
    return gzip.compress(b"\0" * BOMB_BYTES if encoding == "gzip" else bomb("gzip"), 6)


def head(headers: str = "", *, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n{headers}\r\n".encode()


def measured(
    serve: Serve, ask: Callable[[str], Awaitable[Any]]
) -> tuple[BatchgenError | None, int]:
    """Ask a server; return what was raised, and how much memory was held at most."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await serve(writer)
        writer.transport.abort()

    async def main() -> BatchgenError | None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            try:
                await ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            except BatchgenError as error:
                return error
        return None

    for encoding in BOMBS:
        bomb(encoding)  # to pack it takes memory too
    tracemalloc.start()
    try:
        error = asyncio.run(main())
        return error, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def packed(encoding: str, *, kind: str = "application/json") -> Serve:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(head(f"Content-Encoding: {encoding}\r\n", kind=kind) + bomb(encoding))
        await writer.drain()

    return serve


def endless(start: bytes, *, kind: str = "application/json") -> Serve:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(head(kind=kind) + start)
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    return serve


@asynccontextmanager
async def provider(base: str) -> AsyncIterator[RunComfy]:
    opened = RunComfy(base=f"{base}/v1", token="t", connect_s=5, get_s=20, post_s=20)
    try:
        yield opened
    finally:
        await opened.close()


async def submitted(base: str) -> None:
    async with provider(base) as asked:
        await asked.submit("m/x", {})


async def polled(base: str) -> None:
    async with provider(base) as asked:
        await asked.poll("m/x", "r1")


SERVED = {
    "endless": endless(b'{"request_id": "r1", "status": "succeeded", "x": "'),
    **{name: packed(name) for name in BOMBS},
}


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize(("ask", "kind"), [(submitted, OutcomeUnknown), (polled, Unavailable)])
def test_an_answer_without_end_is_read_to_its_limit(
    name: str, ask: Callable[[str], Awaitable[None]], kind: type[Exception]
) -> None:
    error, most = measured(SERVED[name], ask)

    assert isinstance(error, kind), error
    assert len(getattr(error, "raw", None) or "") <= LONGEST_BODY
    assert most < MOST_MEMORY


@pytest.mark.parametrize("name", ["endless", *BOMBS])
def test_a_clip_without_end_is_read_to_its_limit(tmp_path: Path, name: str) -> None:
    start = b"\0\0\0\x10ftypisom\0\0\0\0"
    serve = (
        endless(start, kind="video/mp4") if name == "endless" else packed(name, kind="video/mp4")
    )

    async def ask(base: str) -> None:
        async with file_client(connections=1, allow_private=True) as client:
            fetcher = Fetcher(client=client, allow_private=True, max_bytes=8 * MIB)
            await fetcher.fetch(f"{base}/a.mp4", into=Folder(tmp_path), name="a.mp4")

    error, most = measured(serve, ask)

    assert isinstance(error, DownloadError), error
    assert ("limit" in str(error)) == (name != "gzip, gzip")  # which is not unpacked at all
    assert most < MOST_MEMORY
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "start", "says"),
    [
        ("jobs.csv", b"prompt,image\n" + b"x" * 3000, "jobs.csv:2: the line has 1,000 characters"),
        ("jobs.csv", b"x" * 3000, "jobs.csv:1: the line has 1,000 characters"),
        ("jobs.csv", b'prompt,image\n"' + b"x\n" * 3000, "a quote is not closed"),
        ("jobs.yaml", b"jobs: [" + b" " * 3000, "has 3,007 bytes, as YAML at most 1,000 are read"),
    ],
)
def test_a_manifest_that_is_none_is_read_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: bytes, says: str
) -> None:
    monkeypatch.setattr(csv_format, "LONGEST_CELL", 1000)
    monkeypatch.setattr(yaml_format, "LARGEST_BYTES", 1000)
    (tmp_path / name).write_bytes(start)

    with pytest.raises(ManifestError) as refused:
        list(manifests.read(tmp_path / name).rows())

    assert says in "".join(map(str, refused.value.faults))
