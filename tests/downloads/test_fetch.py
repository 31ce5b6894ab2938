import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from batchgen.domain.errors import DownloadError, OutputError
from batchgen.domain.jobs import Clip
from batchgen.downloads.destination import Room
from batchgen.downloads.fetch import Fetcher
from batchgen.downloads.folder import Folder, Part
from batchgen.http import file_client

MP4 = (
    b"\0\0\0\x10ftypisom\0\0\0\0"
    + (8 + 64).to_bytes(4, "big")
    + b"moov"
    + b"m" * 64
    + (8 + 3_000_000).to_bytes(4, "big")
    + b"mdat"
    + bytes(range(250)) * 12_000
)
PNG = b"\x89PNG\r\n\x1a\n" + b"p" * 100

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A server of raw answers on loopback; it keeps the requests it got."""

    answers: dict[str, bytes | Handler]
    requests: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    url: str = ""

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: its task could be cancelled before it ever ran.
        self.writers.append(writer)
        self.tasks.append(asyncio.create_task(self.serve(reader, writer)))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await self.reply(reader, writer)
            writer.close()
            await writer.wait_closed()

    async def reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(request)
            path = request.split()[1]
            answer = self.answers[path.partition("?")[0]]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(path, writer)

    async def stop(self, server: asyncio.Server) -> None:
        server.close()
        await _rounds()  # a connection may have been accepted a moment ago
        for task, writer in zip(self.tasks, self.writers, strict=True):
            task.cancel()
            # Nothing is flushed any more: the peer may have stopped reading.
            writer.transport.abort()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await _rounds()


async def _rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def answer(
    body: bytes,
    *,
    status: str = "200 OK",
    kind: str = "video/mp4",
    headers: str = "",
    length: Any = None,
) -> bytes:
    stated = len(body) if length is None else length
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {stated}\r\n"
        f"Connection: close\r\n{headers}\r\n".encode()
        + body
    )


def redirect(location: str) -> bytes:
    return answer(b"", status="302 Found", headers=f"Location: {location}\r\n")


def run(
    answers: dict[str, bytes | Handler],
    then: Callable[[Fetcher, Server], Awaitable[Any]],
    **options: Any,
) -> Any:
    async def main() -> Any:
        served = Server(answers)
        server = await asyncio.start_server(served.connected, "127.0.0.1", 0)
        served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        allow_private = options.setdefault("allow_private", True)
        async with server, file_client(connections=4, allow_private=allow_private) as client:
            try:
                return await then(Fetcher(client=client, **options), served)
            finally:
                await served.stop(server)

    return asyncio.run(main())


def fetch(
    answers: dict[str, bytes | Handler],
    folder: Path,
    *,
    path: str = "/a.mp4",
    name: str = "b/a.mp4",
    **options: Any,
) -> Clip:
    async def then(fetcher: Fetcher, server: Server) -> Clip:
        return await fetcher.fetch(server.url + path, into=Folder(folder), name=name)

    clip = run(answers, then, **options)
    assert isinstance(clip, Clip)
    return clip


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_clip_is_fetched_whole(tmp_path: Path) -> None:
    clip = fetch({"/a.mp4": answer(MP4)}, tmp_path)

    assert clip.path == "b/a.mp4"
    assert clip.size_bytes == len(MP4)
    assert clip.sha256 == sha256(MP4).hexdigest()
    assert (tmp_path / clip.path).read_bytes() == MP4
    assert files(tmp_path) == ["b/a.mp4"]


def test_the_event_loop_neither_opens_hashes_writes_nor_syncs(tmp_path: Path) -> None:
    threads: dict[str, set[int]] = {}

    class Noted(Folder):
        def part(self, name: str, room: Room) -> Part:
            made = super().part(name, room)
            for step in ("open", "write", "publish"):
                setattr(made, step, noting(step, getattr(made, step)))
            return made

    def noting(step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*given: Any) -> Any:
            threads.setdefault(step, set()).add(threading.get_ident())
            return call(*given)

        return noted

    async def then(fetcher: Fetcher, server: Server) -> Clip:
        return await fetcher.fetch(f"{server.url}/a.mp4", into=Noted(tmp_path), name="a.mp4")

    run({"/a.mp4": answer(MP4)}, then)

    assert threads.keys() == {"open", "write", "publish"}
    assert threading.get_ident() not in set().union(*threads.values())


def test_a_chunked_clip_is_fetched_whole(tmp_path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunked += f"{len(MP4):x}\r\n".encode() + MP4 + b"\r\n0\r\n\r\n"

    assert fetch({"/a.mp4": chunked}, tmp_path).size_bytes == len(MP4)


def test_the_extension_follows_the_content(tmp_path: Path) -> None:
    clip = fetch({"/a.mp4": answer(PNG)}, tmp_path)

    assert clip.path == "b/a.png"
    assert files(tmp_path) == ["b/a.png"]


def test_a_name_without_a_known_extension_stays_as_the_user_wants_it(tmp_path: Path) -> None:
    assert fetch({"/a.mp4": answer(PNG)}, tmp_path, name="shot.v2").path == "shot.v2"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        pytest.param(answer(MP4[:-9], length=len(MP4)), "connection failed", id="cut-body"),
        pytest.param(answer(MP4[:-9]), "not a whole file", id="cut-at-the-source"),
        pytest.param(answer(b""), "empty", id="empty"),
        pytest.param(answer(b"<html>sorry</html>"), "page of text", id="html-page"),
        pytest.param(answer(b'{"error":1}', kind="application/json"), "page of text", id="json"),
        pytest.param(answer(MP4, length=3 * 1024**3), "more than the limit", id="stated-oversize"),
        pytest.param(answer(MP4, status="206 Partial Content"), "HTTP 206", id="partial"),
        pytest.param(answer(MP4, status="500 Oops"), "HTTP 500", id="server-error"),
        pytest.param(b"", "connection failed", id="disconnect"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "connection failed", id="garbage"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc",
            "connection failed",
            id="cut-chunk",
        ),
        pytest.param(
            answer(b"junk", headers="Content-Encoding: gzip\r\n"),
            "connection failed",
            id="bad-gzip",
        ),
        pytest.param(answer(b"", status="302 Found"), "without a Location", id="no-location"),
    ],
)
def test_what_is_no_whole_clip_leaves_nothing(tmp_path: Path, reply: bytes, said: str) -> None:
    with pytest.raises(DownloadError, match=said) as refused:
        fetch({"/a.mp4": reply}, tmp_path)

    assert not refused.value.link_dead
    assert files(tmp_path) == []


def test_what_is_given_up_while_a_slow_disk_writes_is_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fstatvfs, writing = os.fstatvfs, threading.Event()

    def slow(fd: int) -> os.statvfs_result:  # asked before each write
        writing.set()
        time.sleep(0.1)
        return fstatvfs(fd)

    monkeypatch.setattr(os, "fstatvfs", slow)

    async def endless(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + MP4[:1_200_000])
        await asyncio.to_thread(writing.wait, 10)
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()

    async def then(fetcher: Fetcher, server: Server) -> list[str]:
        with pytest.raises(DownloadError, match="more than the limit"):
            await fetcher.fetch(f"{server.url}/a.mp4", into=Folder(tmp_path), name="a.mp4")
        return files(tmp_path)  # at once: what follows takes longer than the disk

    assert run({"/a.mp4": endless}, then, max_bytes=2 * 1024**2) == []


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_dead_link_is_told_apart(tmp_path: Path, status: int) -> None:
    with pytest.raises(DownloadError) as refused:
        fetch({"/a.mp4": answer(b"", status=f"{status} No")}, tmp_path)

    assert refused.value.link_dead
    # The reason comes before the address: what is long is cut, and addresses are long.
    assert str(refused.value).startswith(f"HTTP {status}: the link is dead <http")


async def _reset(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(MP4)[: len(MP4) // 2])
    await writer.drain()
    writer.transport.abort()


def test_a_reset_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="connection failed"):
        fetch({"/a.mp4": _reset}, tmp_path)

    assert files(tmp_path) == []


async def _long(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    for _piece in range(10):
        writer.write(MP4)
        await writer.drain()


def test_a_body_of_unstated_length_is_stopped_at_the_limit(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="more than the limit of 5000000"):
        fetch({"/a.mp4": _long}, tmp_path, max_bytes=5_000_000)

    assert files(tmp_path) == []


async def _silent(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(MP4)[:5000])
    await writer.drain()
    await asyncio.Event().wait()


def test_a_transfer_that_stalls_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="Timeout"):
        fetch({"/a.mp4": _silent}, tmp_path, stall_s=0.05)

    assert files(tmp_path) == []


async def _trickle(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(MP4)[:200])
    for byte in MP4:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.01)


def test_a_transfer_that_trickles_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="stalled"):
        fetch({"/a.mp4": _trickle}, tmp_path, stall_s=0.5)

    assert files(tmp_path) == []


def test_redirects_are_followed_and_carry_no_secret(tmp_path: Path) -> None:
    seen: list[str] = []

    async def then(fetcher: Fetcher, server: Server) -> Clip:
        # What a careless caller might have set on the client must not travel.
        fetcher._client.headers["Authorization"] = "Bearer secret"
        fetcher._client.cookies.set("session", "secret")
        clip = await fetcher.fetch(f"{server.url}/0?sig=x", into=Folder(tmp_path), name="a.mp4")
        await fetcher.fetch(f"{server.url}/5", into=Folder(tmp_path), name="a.mp4")
        seen.extend(server.requests)
        return clip

    answers: dict[str, bytes | Handler] = {
        f"/{hop}": answer(
            b"",
            status="302 Found",
            headers=f"Location: /{hop + 1}\r\nSet-Cookie: id=secret; Path=/\r\n",
        )
        for hop in range(5)
    }
    clip = run({**answers, "/5": answer(MP4)}, then)

    assert clip.path == "a.mp4"
    assert len(seen) == 7
    sent = "".join(seen).lower()
    assert "secret" not in sent
    assert "authorization" not in sent
    assert "cookie" not in sent


def test_the_sixth_redirect_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="more than 5 redirects"):
        fetch({"/a.mp4": redirect("/a.mp4")}, tmp_path)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://images.example.com/a.mp4", "http is not fetched"),
        ("file:///etc/passwd", "not an address"),
        ("ftp://127.0.0.1/a.mp4", "ftp is not fetched"),
        ("https://user:secret@images.example.com/a.mp4", "user name"),
        ("http://[::1", "no address"),
        ("http://10.0.0.1/a.mp4", "http is not fetched"),
    ],
)
def test_a_redirect_to_where_nothing_is_fetched_is_refused(
    tmp_path: Path, location: str, said: str
) -> None:
    with pytest.raises(DownloadError, match=said) as refused:
        fetch({"/a.mp4": redirect(location)}, tmp_path)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "sub.LOCALHOST.",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
        "[fd00::1]",
        "0.0.0.0",
        "2130706433",
        "0x7f.1",
    ],
)
def test_a_private_address_is_refused_before_a_byte_is_sent(tmp_path: Path, host: str) -> None:
    async def then(fetcher: Fetcher, server: Server) -> int:
        port = server.url.rpartition(":")[2]
        with pytest.raises(DownloadError):
            await fetcher.fetch(f"https://{host}:{port}/a.mp4", into=Folder(tmp_path), name="a.mp4")
        return len(server.requests)

    assert run({}, then, allow_private=False) == 0


def test_signed_links_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as refused:
        fetch({"/a.mp4": b""}, tmp_path, path="/a.mp4?X-Amz-Signature=5ecret")

    assert "/a.mp4" in str(refused.value)
    assert "5ecret" not in str(refused.value)


def test_a_strangers_file_stays_and_the_clip_is_kept_beside_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/a.mp4").write_bytes(b"mine")

    assert fetch({"/a.mp4": answer(MP4)}, tmp_path).path == "b/a-2.mp4"
    assert (tmp_path / "b/a.mp4").read_bytes() == b"mine"


def test_fetching_again_recognises_the_clip(tmp_path: Path) -> None:
    assert fetch({"/a.mp4": answer(MP4)}, tmp_path).path == "b/a.mp4"
    assert fetch({"/a.mp4": answer(MP4)}, tmp_path).path == "b/a.mp4"

    assert files(tmp_path) == ["b/a.mp4"]


@pytest.mark.parametrize("name", ["../a.mp4", "/a.mp4", "b/../../a.mp4", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name inside"):
        fetch({"/a.mp4": answer(MP4)}, tmp_path, name=name)


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"):
        fetch({"/a.mp4": answer(MP4)}, tmp_path, min_free_bytes=1 << 60)

    assert files(tmp_path) == []


def test_a_folder_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("a file")

    with pytest.raises(OutputError):
        fetch({"/a.mp4": answer(MP4)}, tmp_path)


def test_a_cancelled_fetch_leaves_nothing(tmp_path: Path) -> None:
    async def then(fetcher: Fetcher, server: Server) -> None:
        under_way = asyncio.create_task(
            fetcher.fetch(f"{server.url}/a.mp4", into=Folder(tmp_path), name="a.mp4")
        )
        await half_sent.wait()
        while not await asyncio.to_thread(files, tmp_path):  # the temporary file
            assert not under_way.done()
        under_way.cancel()
        with pytest.raises(asyncio.CancelledError):
            await under_way

    half_sent = asyncio.Event()

    async def half(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(MP4)[:2_000_000])
        await writer.drain()
        half_sent.set()
        await asyncio.Event().wait()

    run({"/a.mp4": half}, then)

    assert files(tmp_path) == []


KILLED = """
import asyncio, sys
from pathlib import Path
from batchgen.downloads.fetch import Fetcher
from batchgen.downloads.folder import Folder
from batchgen.http import file_client

async def main():
    async with file_client(connections=1, allow_private=True) as client:
        fetcher = Fetcher(client=client, allow_private=True)
        await fetcher.fetch(sys.argv[1], into=Folder(Path(sys.argv[2])), name="a.mp4")

asyncio.run(main())
"""


def test_a_kill_in_the_middle_leaves_no_final_name(tmp_path: Path) -> None:
    async def then(fetcher: Fetcher, server: Server) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            KILLED,
            f"{server.url}/half",
            str(tmp_path),
            stderr=subprocess.PIPE,
        )
        while not await asyncio.to_thread(has_begun):
            assert process.returncode is None
        process.kill()
        await process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "a.mp4").exists()
        clip = await fetcher.fetch(f"{server.url}/a.mp4", into=Folder(tmp_path), name="a.mp4")
        assert clip.path == "a.mp4"

    def has_begun() -> bool:
        return any(path.stat().st_size for path in tmp_path.iterdir())

    async def half(_: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(MP4)[:2_500_000])
        await writer.drain()
        await asyncio.Event().wait()

    run({"/half": half, "/a.mp4": answer(MP4)}, then)

    assert (tmp_path / "a.mp4").read_bytes() == MP4


# -- files that come in pieces ---------------------------------------------------------------------

HALF = len(MP4) // 2
ETAG = 'ETag: "one"\r\n'
NEW = MP4.replace(b"m" * 64, b"n" * 64)


def piece(start: int, stop: int, *, said: str = "", etag: str = ETAG) -> bytes:
    content_range = said or f"bytes {start}-{stop - 1}/{len(MP4)}"
    headers = f"{etag}Content-Range: {content_range}\r\n"
    return answer(MP4[start:stop], status="206 Partial Content", headers=headers)


def in_turn(*answers: bytes) -> Handler:
    left = list(answers)

    async def handler(_path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0))
        await writer.drain()

    return handler


def cut(etag: str = ETAG) -> bytes:
    return answer(MP4[:HALF], headers=etag, length=len(MP4))


PIECES: dict[str, tuple[list[bytes], bytes | str]] = {
    # What the server answers in turn, and the file, or what is said where there is none.
    "the rest": ([cut(), piece(HALF, len(MP4))], MP4),
    "a third piece": ([cut(), piece(HALF, HALF + 9), piece(HALF + 9, len(MP4))], MP4),
    "the file has changed": ([cut(), answer(NEW, headers='ETag: "two"\r\n')], NEW),
    "it changed and is cut, too": (
        [cut(), answer(NEW[:HALF], headers=ETAG, length=len(MP4)), piece(HALF, len(MP4))],
        NEW[:HALF] + MP4[HALF:],
    ),
    "another piece": ([cut(), piece(HALF - 1, len(MP4))], "another part"),
    "of another version": ([cut(), piece(HALF, len(MP4), etag='ETag: "2"\r\n')], "another part"),
    "of another length": ([cut(), piece(HALF, len(MP4), said=f"bytes {HALF}-9/10")], "another"),
    "no range stated": ([cut(), piece(HALF, len(MP4), said="none")], "another part"),
    "nothing more": ([cut(), piece(HALF, HALF)], "bytes of"),
    "not to be told apart": ([cut("")], "the connection failed"),
    "weakly told apart": ([cut('ETag: W/"one"\r\n')], "the connection failed"),
    "a piece nobody asked for": ([piece(0, HALF)], "HTTP 206"),
    "the link has died": ([cut(), answer(b"", status="403 Forbidden")], "the link is dead"),
}


@pytest.mark.parametrize(("answers", "expected"), PIECES.values(), ids=PIECES.keys())
def test_a_file_that_was_cut_goes_on_only_as_the_same_file(
    tmp_path: Path, answers: list[bytes], expected: bytes | str
) -> None:
    asked: list[str] = []

    async def then(fetcher: Fetcher, server: Server) -> Clip:
        try:
            return await fetcher.fetch(server.url + "/a.mp4", into=Folder(tmp_path), name="a.mp4")
        finally:
            asked.extend(server.requests)

    if isinstance(expected, str):
        with pytest.raises(DownloadError, match=expected):
            run({"/a.mp4": in_turn(*answers)}, then)
        assert files(tmp_path) == []
    else:
        clip = run({"/a.mp4": in_turn(*answers)}, then)
        assert (tmp_path / "a.mp4").read_bytes() == expected
        assert (clip.sha256, clip.size_bytes) == (sha256(expected).hexdigest(), len(expected))
        assert files(tmp_path) == ["a.mp4"]

    assert len(asked) == len(answers)
    for request in asked[1:]:
        assert "range: bytes=" in request.lower()
        assert 'if-range: "one"' in request.lower()


def test_a_file_that_is_cut_again_and_again_is_given_up(tmp_path: Path) -> None:
    crumbs = [piece(HALF + n, HALF + n + 1) for n in range(50)]

    with pytest.raises(DownloadError, match="bytes of"):
        fetch({"/a.mp4": in_turn(cut(), *crumbs)}, tmp_path)

    assert files(tmp_path) == []
