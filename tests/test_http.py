import asyncio
import gzip
import logging
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import aiohttp
import httpx
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from batchgen.http import (
    Answer,
    Client,
    PrivateAddress,
    PublicResolver,
    Request,
    encoded,
    exchange,
    explain,
    file_client,
    is_private,
    is_public,
    is_unsent,
    opened,
    origin_of,
    poll_client,
    probe_client,
    retry_after_s,
    submit_client,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def reply(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(OK)


@contextmanager
def serving(serve: Callable[[socket.socket], None], *, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve connections one by one until the test is over; give the base URL."""
    with socket.create_server((host, 0)) as server:
        port = server.getsockname()[1]
        stop = threading.Event()

        def loop() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    if stop.is_set():
                        return
                    serve(connection)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield f"http://{host}:{port}"
        finally:
            stop.set()
            socket.create_connection((host, port)).close()
            thread.join()


AnyClient = Client | httpx.AsyncClient


def fetch(client: Callable[[], AnyClient], *urls: str, method: str = "GET") -> list[Answer]:
    async def fetching() -> list[Answer]:
        async with client() as opened_client:
            return [await ask(opened_client, url, method=method) for url in urls]

    return asyncio.run(fetching())


async def ask(
    client: AnyClient, url: str, *, method: str = "GET", body: bytes | None = None
) -> Answer:
    if isinstance(client, Client):
        request = Request(method, url, {}, body)
        return await exchange(client, request, total_s=5, limit_bytes=1000)
    async with opened(client, client.build_request(method, url)) as response:
        return Answer(response.status_code, response.headers, await response.aread())


def failure(client: Callable[[], AnyClient], url: str, *, method: str = "GET") -> Exception:
    with pytest.raises((httpx.HTTPError, aiohttp.ClientError)) as caught:
        fetch(client, url, method=method)
    return caught.value


def public_files() -> httpx.AsyncClient:
    return file_client(connections=2, allow_private=False)


def any_files() -> httpx.AsyncClient:
    return file_client(connections=2, allow_private=True)


def any_probes() -> httpx.AsyncClient:
    return probe_client(connections=2, allow_private=True, connect_s=5, read_s=5)


CLIENTS: list[Callable[[], AnyClient]] = [submit_client, poll_client, any_files]


# -- clients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_no_client_follows_a_redirect_or_keeps_a_cookie(
    client: Callable[[], AnyClient],
) -> None:
    seen: list[bytes] = []

    def redirect(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(
            b"HTTP/1.1 302 Found\r\nLocation: /next\r\nSet-Cookie: a=b\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )

    with serving(redirect) as base:
        answers = fetch(client, base, base)
    assert [answer.status for answer in answers] == [302, 302]
    assert len(seen) == 2
    assert b"cookie" not in b"".join(seen).lower()


def test_link_with_a_signature_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(reply) as base:
        fetch(any_files, f"{base}/a.mp4?signature=abc")
    assert "abc" not in caplog.text


def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(reply) as base:
        for client in CLIENTS:
            assert fetch(client, base)[0].body == b"{}"


# -- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "whole"), [(2, True), (3, False)])
def test_answer_is_whole_if_its_length_says_so(length: int, whole: bool) -> None:
    def cut_off(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{}" % length)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serving(cut_off) as base:
        [answer] = fetch(submit_client, base)
    assert answer.body == b"{}"
    assert (answer.broken is None) == whole


@pytest.mark.parametrize(
    ("packing", "body", "expected"),
    [
        ("gzip", gzip.compress(b"{}"), (b"{}", False)),
        ("deflate", zlib.compress(b"{}"), (b"{}", False)),
        ("gzip", gzip.compress(b"x" * 10**7)[:900], (b"x" * 1000, True)),
        ("gzip, gzip", b"packed twice", (b"packed twice", False)),
        ("br", b"?", (b"?", False)),
    ],
    ids=["gzip", "deflate", "large", "twice", "unknown"],
)
def test_a_packed_answer_is_unpacked_as_far_as_the_limit(
    packing: str, body: bytes, expected: tuple[bytes, bool]
) -> None:
    """Nobody asks for one, but an answer to a paid request is read whatever it looks like."""

    def packed(connection: socket.socket) -> None:
        connection.recv(65536)
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {packing}\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)

    with serving(packed) as base:
        [answer] = fetch(submit_client, base)
    assert (answer.body, answer.cut, answer.broken) == (*expected, None)


def test_an_answer_that_cannot_be_unpacked_is_broken() -> None:
    def spoilt(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
        )

    with serving(spoilt) as base:
        [answer] = fetch(submit_client, base)
    assert isinstance(answer.broken, httpx.DecodingError)


def test_a_url_is_sent_as_it_is_encoded() -> None:
    seen: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        connection.sendall(OK)

    with serving(listen) as base:
        fetch(submit_client, f"{base}/a%2Fb/result?include_cost=true&search=a+b%26c")
    assert seen[0].startswith(b"GET /a%2Fb/result?include_cost=true&search=a+b%26c HTTP/1.1\r\n")
    assert encoded("http://bücher.test/é") == "http://xn--bcher-kva.test/%C3%A9"


def test_body_is_cut_at_the_limit() -> None:
    def long(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001)

    with serving(long) as base:
        [answer] = fetch(poll_client, base)
    assert (len(answer.body), answer.cut, answer.broken) == (1000, True, None)


def test_opened_gives_the_body_in_parts() -> None:
    async def parts(url: str) -> bytes:
        async with (
            any_files() as client,
            opened(client, client.build_request("GET", url)) as response,
        ):
            return b"".join([chunk async for chunk in response.aiter_raw()])

    with serving(reply) as base:
        assert asyncio.run(parts(base)) == b"{}"


@pytest.mark.parametrize(
    ("client", "encoding", "most_bytes"),
    [
        pytest.param(any_files, "", 256 * 1024, id="file"),
        # What is unpacked at one step is bounded by what goes in.
        pytest.param(any_files, "gzip", 16 * 1024, id="packed-file"),
        pytest.param(any_probes, "", 16 * 1024, id="probe"),
    ],
)
def test_a_file_comes_in_large_parts_where_all_of_it_is_wanted(
    client: Callable[[], httpx.AsyncClient], encoding: str, most_bytes: int
) -> None:
    body, sent = b"x" * 300_000, threading.Event()  # less than a client and the system hold

    def long(connection: socket.socket) -> None:
        connection.recv(65536)
        packed = f"Content-Encoding: {encoding}\r\n" if encoding else ""
        head = f"HTTP/1.1 200 OK\r\n{packed}Content-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        sent.set()

    async def parts(url: str) -> list[int]:
        async with client() as asked, opened(asked, asked.build_request("GET", url)) as response:
            await asyncio.to_thread(sent.wait)
            return [len(part) async for part in response.aiter_raw()]

    with serving(long) as base:
        found = asyncio.run(parts(base))

    assert sum(found) == len(body)
    assert most_bytes / 2 < max(found) <= most_bytes


def test_httpx_comes_without_its_command_line() -> None:
    program = "import sys, batchgen.http; print(sorted({'rich', 'pygments'} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")


# -- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::a00:1",
        "2001:db8::1",
    ],
)
def test_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
def test_file_client_refuses_a_private_host(host: str) -> None:
    reached: list[bytes] = []
    with serving(lambda connection: reached.append(connection.recv(65536))) as base:
        error = failure(public_files, base.replace("127.0.0.1", host))
    assert is_private(error)
    assert is_unsent(error)
    assert reached == []


def test_file_client_names_the_host_that_led_inside() -> None:
    with serving(reply) as base:
        error = failure(public_files, base.replace("127.0.0.1", "localhost"))
    assert "localhost (" in explain(error)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
def test_file_client_refuses_other_spellings_of_loopback(host: str) -> None:
    reached: list[bytes] = []
    with (
        serving(lambda connection: reached.append(connection.recv(65536))) as base,
        pytest.raises((httpx.HTTPError, httpx.InvalidURL)) as caught,
    ):
        fetch(public_files, base.replace("127.0.0.1", host))
    assert is_unsent(caught.value)
    assert reached == []


def test_file_client_reaches_loopback_where_it_is_allowed() -> None:
    with serving(reply) as base:
        assert fetch(any_files, base)[0].body == b"{}"
        assert fetch(any_files, base.replace("127.0.0.1", "localhost"))[0].body == b"{}"


class Changing(AbstractResolver):
    """Gives the next list of addresses each time."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=found, port=port, family=family, proto=6, flags=0)
            for found in self.answers.pop(0)
        ]

    async def close(self) -> None:
        self.closed = True


def test_every_answer_of_a_name_is_checked() -> None:
    async def thrice() -> bool:
        changing = Changing(("1.1.1.1",), ("10.0.0.1",), ("1.1.1.1", "10.0.0.1"))
        resolver = PublicResolver(changing)
        assert [found["host"] for found in await resolver.resolve("x.test", 443)] == ["1.1.1.1"]
        for _ in range(2):
            with pytest.raises(PrivateAddress, match=r"x\.test \(10\.0\.0\.1\)"):
                await resolver.resolve("x.test", 443)
        await resolver.close()
        return changing.closed

    assert asyncio.run(thrice())


def test_other_failures_are_no_private_address() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        error = failure(any_files, f"http://127.0.0.1:{bound.getsockname()[1]}/")
    assert not is_private(error)


# -- what a failure proves -------------------------------------------------------------------


def test_stale_connection_is_not_unsent() -> None:
    """A kept connection that the server closed as the next request came: aiohttp says so raw."""
    posts: list[bytes] = []

    def closing(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(OK)  # kept, as far as the client knows
        posts.append(connection.recv(65536))  # and closed without an answer

    async def twice(url: str) -> Exception:
        async with poll_client() as client:
            await ask(client, url, method="POST", body=b"1")
            with pytest.raises(aiohttp.ClientError) as caught:
                await ask(client, url, method="POST", body=b"2")
            return caught.value

    with serving(closing) as base:
        error = asyncio.run(twice(base))
    assert not is_unsent(error)
    assert len(posts) == 1
    assert posts[0].startswith(b"POST")


def test_full_pool_is_unsent() -> None:
    """The wait for a free connection ends before any connection is made."""
    arrived = threading.Event()
    seen: list[bytes] = []

    def hold(connection: socket.socket) -> None:
        seen.append(connection.recv(65536))
        arrived.set()
        connection.recv(1)

    async def both(url: str) -> Exception:
        async with poll_client(connections=1, free_s=0.1) as client:
            first = asyncio.create_task(ask(client, url))
            await asyncio.to_thread(arrived.wait)
            with pytest.raises(aiohttp.ClientError) as caught:
                await ask(client, url, method="POST", body=b"2")
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            return caught.value

    with serving(hold) as base:
        error = asyncio.run(both(base))
    assert is_unsent(error)
    assert len(seen) == 1


def test_class_of_the_httpx_error_proves_nothing() -> None:
    for kind in (
        httpx.ConnectTimeout,
        httpx.ConnectError,
        httpx.PoolTimeout,
        httpx.LocalProtocolError,
    ):
        assert not is_unsent(kind("made up"))
    error = httpx.ConnectTimeout("closed")
    error.__cause__ = aiohttp.ServerDisconnectedError()
    assert not is_unsent(error)


def test_earlier_failure_in_the_context_proves_nothing() -> None:
    later = httpx.ReadError("reset")
    later.__context__ = aiohttp.ConnectionTimeoutError("an earlier request")
    assert not is_unsent(later)


def test_failure_below_another_librarys_error_proves_nothing() -> None:
    outer = RuntimeError("cancelled half way")
    outer.__cause__ = aiohttp.ConnectionTimeoutError("of something else")
    assert not is_unsent(outer)


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        TimeoutError(),
        ConnectionRefusedError(),
        aiohttp.ClientOSError(),
        aiohttp.ClientConnectionError("Connector is closed."),
        aiohttp.ServerTimeoutError(),
        aiohttp.SocketTimeoutError(),
        aiohttp.ClientPayloadError(),
    ],
)
def test_is_not_unsent(error: BaseException) -> None:
    assert not is_unsent(error)


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ConnectionTimeoutError(),
        httpx.UnsupportedProtocol("ftp"),
        httpx.InvalidURL("no"),
    ],
)
def test_is_unsent(error: Exception) -> None:
    assert is_unsent(error)


def test_circle_of_causes_ends() -> None:
    first, second = httpx.ReadError("a"), httpx.ReadError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_unsent(first)
    assert explain(first) == "ReadError: a ← ReadError: b"


def test_what_causes_repeat_is_told_once_and_in_one_line() -> None:
    chain = [httpx.ReadError("cut"), OSError("cut"), TimeoutError(), ValueError("400:\n  cut")]
    for error, cause in pairwise(chain):
        error.__cause__ = cause
    assert explain(chain[0]) == "ReadError: cut ← TimeoutError ← ValueError: 400: cut"


def test_unreadable_answer_hides_the_headers_of_the_request() -> None:
    def garbage(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"garbage\r\n\r\n")

    async def send(url: str) -> Exception:
        async with submit_client() as client:
            request = Request("POST", url, {"Authorization": "Bearer secret"}, b"1")
            with pytest.raises(httpx.RemoteProtocolError) as caught:
                await exchange(client, request, total_s=5, limit_bytes=1000)
            return caught.value

    with serving(garbage) as base:
        error = asyncio.run(send(base))
    assert error.__cause__ is None
    assert "secret" not in repr(error) + repr(error.__context__)


def test_private_address_is_an_os_error() -> None:
    assert issubclass(PrivateAddress, OSError)  # else aiohttp would not wrap it as a connect error


# -- URLs and headers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.test/x?y#z", "https://a.test:443"),
        ("http://a.test.", "http://a.test:80"),
        ("HTTPS://u:p@a.test:8443", "https://a.test:8443"),
        ("http://[::1]:80/", "http://[::1]:80"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["", "a.test", "//a.test", "ftp://a.test", "https://", "https://a.test:x", "http://[::1"]
)
def test_no_origin(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts are urllib's
        origin_of(url)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("5", 5.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after(said: str | None, seconds: float | None) -> None:
    assert retry_after_s(said) == seconds


def test_retry_after_a_date() -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    seconds = retry_after_s(format_datetime(at, usegmt=True))
    assert seconds is not None
    assert 0 < seconds <= 3600
