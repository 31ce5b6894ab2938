"""Every way a paid request can fail, against raw sockets: what it means, and that it went once."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from batchgen.domain.errors import (
    AccountBlocked,
    Exit,
    Misrouted,
    ModelBlocked,
    OutcomeUnknown,
    ProviderError,
    Rejected,
    Throttled,
    Unavailable,
    Unsent,
)
from batchgen.providers.interface import Accepted
from batchgen.providers.runcomfy import RunComfy

TOKEN = "secret-token-Kj3"
MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
INPUTS = {"promptText": "a fox läuft 🦊", "duration": 5}


@dataclass
class Peer:
    """A server on loopback that does one thing to each connection."""

    port: int
    posts: list[bytes] = field(default_factory=list)  # heads of the requests it saw
    bodies: list[bytes] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def read_head(self, connection: socket.socket) -> bytes:
        """Read the head of a request; return what came of the body with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return b""
            data += part
        head, _, rest = data.partition(b"\r\n\r\n")
        self.posts.append(head)
        return rest

    def read_request(self, connection: socket.socket) -> bool:
        """Read one whole request; return whether there was one."""
        count = len(self.posts)
        body = self.read_head(connection)
        if len(self.posts) == count:
            return False
        head = self.posts[-1].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
        while len(body) < length:
            body += connection.recv(65536)
        self.bodies.append(body)
        return True


Behaviour = Callable[[Peer, socket.socket], None]


@contextmanager
def peer(behave: Behaviour) -> Iterator[Peer]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = Peer(server.getsockname()[1])
        stop = threading.Event()
        failures: list[Exception] = []

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                if stop.is_set():
                    connection.close()
                    return
                try:
                    with connection:
                        behave(found, connection)
                except ConnectionError:
                    pass  # the client gave up first: that is one of the cases
                except Exception as error:  # noqa: BLE001 - shown by the test below
                    failures.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield found
        finally:
            stop.set()
            socket.create_connection(("127.0.0.1", found.port)).close()
            thread.join()
        assert failures == []


def answer(
    status: str, body: Any, *headers: str, kind: str = "application/json", length: int | None = None
) -> bytes:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    size = len(data) if length is None else length
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {size}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data


def saying(data: bytes) -> Behaviour:
    def behave(seen: Peer, connection: socket.socket) -> None:
        seen.read_request(connection)
        connection.sendall(data)

    return behave


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def close_at_once(_: Peer, connection: socket.socket) -> None:
    connection.close()


def close_before_body(seen: Peer, connection: socket.socket) -> None:
    seen.read_head(connection)


def close_after_body(seen: Peer, connection: socket.socket) -> None:
    seen.read_request(connection)


def reset_at_once(_: Peer, connection: socket.socket) -> None:
    reset(connection)


def reset_before_body(seen: Peer, connection: socket.socket) -> None:
    seen.read_head(connection)
    reset(connection)


def reset_after_body(seen: Peer, connection: socket.socket) -> None:
    seen.read_request(connection)
    reset(connection)


def reset_within_answer(seen: Peer, connection: socket.socket) -> None:
    seen.read_request(connection)
    connection.sendall(answer("200 OK", '{"request_id":', length=40))
    reset(connection)


def silent(seen: Peer, connection: socket.socket) -> None:
    seen.read_request(connection)
    connection.recv(1)  # until the client gives up


def silent_after_headers(seen: Peer, connection: socket.socket) -> None:
    seen.read_request(connection)
    connection.sendall(answer("200 OK", "", length=40))
    connection.recv(1)


def dribbling(seen: Peer, connection: socket.socket) -> None:
    """Never silent for as long as a read timeout, never done either."""
    seen.read_request(connection)
    connection.sendall(answer("200 OK", "", length=10_000_000))
    connection.settimeout(0.05)
    while True:
        try:
            if not connection.recv(1):
                return
        except TimeoutError:
            connection.sendall(b" ")


async def submit(base: str, **options: Any) -> Accepted:
    provider = RunComfy(base=base, token=TOKEN, **options)
    try:
        return await provider.submit(MODEL, INPUTS)
    finally:
        await provider.close()


def failed(base: str, **options: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        asyncio.run(submit(base, **options))
    error = caught.value
    shown = f"{error} {error!r} {error.raw} {error.__cause__!r} {error.__context__!r}"
    assert TOKEN not in shown
    return error


# -- provably unsent -------------------------------------------------------------------------


def test_refused_connection_is_unsent() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, but nobody listens
        error = failed(f"http://127.0.0.1:{bound.getsockname()[1]}/v1")
    assert type(error) is Unsent


def test_unresolvable_name_is_unsent() -> None:
    assert type(failed("https://no-such-host.invalid/v1")) is Unsent


def test_tls_failure_is_unsent() -> None:
    seen_bytes: list[bytes] = []

    def plain(_: Peer, connection: socket.socket) -> None:
        seen_bytes.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with peer(plain) as server:
        error = failed(f"https://127.0.0.1:{server.port}/v1")
    assert type(error) is Unsent
    assert all(TOKEN.encode() not in data for data in seen_bytes)


def test_close_within_the_tls_handshake_is_unsent() -> None:
    with peer(close_at_once) as server:
        assert type(failed(f"https://127.0.0.1:{server.port}/v1")) is Unsent


def test_silence_within_the_tls_handshake_is_unsent() -> None:
    def mute(_: Peer, connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with peer(mute) as server:
        error = failed(f"https://127.0.0.1:{server.port}/v1", connect_s=0.2)
    assert type(error) is Unsent


def test_connect_timeout_is_unsent() -> None:
    # A full backlog: the kernel drops the handshake's packets without an answer.
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        error = failed(f"http://127.0.0.1:{address[1]}/v1", connect_s=0.2)
        for client in waiting:
            client.close()
    assert type(error) is Unsent


def test_submit_after_close_is_unsent() -> None:
    async def closed() -> None:
        provider = RunComfy(base="http://127.0.0.1:9/v1", token=TOKEN)
        await provider.close()
        with pytest.raises(Unsent):
            await provider.submit(MODEL, INPUTS)

    asyncio.run(closed())


# -- in doubt --------------------------------------------------------------------------------


DOUBTFUL = {
    "garbage bytes": b"\x00\xff garbage \r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "half the headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "headers only": answer("200 OK", "", length=40),
    "half a body": answer("200 OK", '{"request_id": "abc', length=40),
    "half a refusal": answer("400 Bad Request", '{"error_code": 400', length=40),
    "half a chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"req\r\n',
    "false encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "no JSON": answer("200 OK", "not json"),
    "empty body": answer("200 OK", ""),
    "a list": answer("200 OK", [1]),
    "no id": answer("200 OK", {"status": "in_queue"}),
    "an id of another shape": answer("200 OK", {"request_id": "no/such shape"}),
    "a number as id": answer("200 OK", {"request_id": 17}),
    "an unknown code": answer("200 OK", {"error_code": 499999, "error_message": "new"}),
    "a failure's code": answer("200 OK", {"error_code": 500001, "error_message": "internal"}),
    "a known code and an odd id": answer("200 OK", {"error_code": 400002, "request_id": "odd id"}),
    "a known code and a link": answer(
        "200 OK", {"error_code": 400002, "status_url": "https://x.test/r/1"}
    ),
    "a boolean code": answer("200 OK", {"error_code": True}),
    "a zero code": answer("200 OK", {"error_code": 0}),
    "500 with JSON": answer("500 Internal Server Error", {"error_code": 500001}),
    "500 with a refusal's code": answer("500 Internal Server Error", {"error_code": 400002}),
    "502 HTML": answer("502 Bad Gateway", "<html>bad gateway</html>", kind="text/html"),
    "503": answer("503 Service Unavailable", "", "Retry-After: 5"),
    "504 HTML": answer("504 Gateway Timeout", "<html>", kind="text/html"),
    "408": answer("408 Request Timeout", {"error_code": 400001}),
    "a redirect with an id": answer("307 Temporary Redirect", {"request_id": "r1"}),
    "303": answer("303 See Other", "", "Location: /elsewhere"),
    "304": answer("304 Not Modified", ""),
}


@pytest.mark.parametrize(
    "behave",
    [
        close_at_once,
        close_before_body,
        close_after_body,
        reset_before_body,
        reset_after_body,
        reset_within_answer,
    ],
)
def test_broken_connection_is_in_doubt(behave: Behaviour) -> None:
    with peer(behave) as server:
        error = failed(server.base)
    assert type(error) is OutcomeUnknown
    assert len(server.posts) <= 1


def test_reset_at_once_is_unsent_only_if_it_met_the_connect() -> None:
    """Which of the two it is, the kernel decides; what it proves must agree with the cause."""
    with peer(reset_at_once) as server:
        error = failed(server.base)
    assert type(error) is (Unsent if "ClientConnectorError" in str(error) else OutcomeUnknown)
    assert server.posts == []


@pytest.mark.parametrize("data", DOUBTFUL.values(), ids=DOUBTFUL)
def test_answer_that_proves_nothing_is_in_doubt(data: bytes) -> None:
    with peer(saying(data)) as server:
        error = failed(server.base)
    assert type(error) is OutcomeUnknown
    assert len(server.posts) == 1


@pytest.mark.parametrize("behave", [silent, silent_after_headers, dribbling])
def test_silence_is_in_doubt(behave: Behaviour) -> None:
    with peer(behave) as server:
        error = failed(server.base, connect_s=0.2, post_s=0.4)
    assert type(error) is OutcomeUnknown
    assert len(server.posts) == 1


@pytest.mark.parametrize("behave", [silent, silent_after_headers, dribbling])
def test_silence_after_a_look_says_nothing_about_the_job(behave: Behaviour) -> None:
    async def look(base: str) -> None:
        provider = RunComfy(base=base, token=TOKEN, connect_s=0.2, get_s=0.4)
        try:
            await provider.poll("a/model", "a-request")
        finally:
            await provider.close()

    with peer(behave) as server, pytest.raises(Unavailable) as caught:
        asyncio.run(look(server.base))
    # Without a status it counts as trouble of the service: five in a row are an outage.
    assert caught.value.status in (None, 200)


def test_half_an_answer_is_kept() -> None:
    with peer(saying(answer("200 OK", '{"request_id": "abc', length=99))) as server:
        error = failed(server.base)
    assert error.raw == '{"request_id": "abc'
    assert error.status == 200


def test_an_endless_body_is_not_read_to_its_end() -> None:
    def endless(seen: Peer, connection: socket.socket) -> None:
        seen.read_request(connection)
        connection.sendall(answer("200 OK", "", length=10**12))
        while True:
            connection.sendall(b" " * 65536)

    with peer(endless) as server:
        error = failed(server.base)
    assert type(error) is OutcomeUnknown
    assert error.raw is not None
    assert len(error.raw) == 4 * 1024 * 1024


def test_cancellation_stays_a_cancellation() -> None:
    arrived = threading.Event()

    def hold(seen: Peer, connection: socket.socket) -> None:
        seen.read_request(connection)
        arrived.set()
        connection.recv(1)

    async def cancelled(base: str) -> None:
        task = asyncio.create_task(submit(base))
        await asyncio.to_thread(arrived.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with peer(hold) as server:
        asyncio.run(cancelled(server.base))
    assert len(server.posts) == 1


def test_closing_the_client_under_a_request_leaves_it_in_doubt() -> None:
    arrived = threading.Event()

    def hold(seen: Peer, connection: socket.socket) -> None:
        seen.read_request(connection)
        arrived.set()
        connection.recv(1)

    async def closed_under(base: str) -> None:
        provider = RunComfy(base=base, token=TOKEN)
        task = asyncio.create_task(provider.submit(MODEL, INPUTS))
        await asyncio.to_thread(arrived.wait)
        await provider.close()
        with pytest.raises(OutcomeUnknown):
            await task

    with peer(hold) as server:
        asyncio.run(closed_under(server.base))


# -- refused ---------------------------------------------------------------------------------

HTML = "<html><title>404</title></html>"


@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [
        (answer("429 Too Many Requests", {"message": "slow down"}), Throttled, None),
        (answer("429 Too Many Requests", HTML), Throttled, None),
        (answer("402 Payment Required", {}), AccountBlocked, None),
        (answer("400 Bad Request", {"error_code": 400002}), AccountBlocked, "400002"),
        (answer("200 OK", {"error_code": 400002}), AccountBlocked, "400002"),
        (answer("200 OK", {"error_code": " 400002 "}), AccountBlocked, "400002"),
        (answer("200 OK", {"error_code": 400002.0}), AccountBlocked, "400002"),
        (answer("200 OK", {"error": {"code": 400002}}), AccountBlocked, "400002"),
        (answer("400 Bad Request", {"detail": {"error_code": 400004}}), AccountBlocked, "400004"),
        (answer("401 Unauthorized", HTML), AccountBlocked, None),
        (answer("403 Forbidden", {"error_code": 403001}), AccountBlocked, "403001"),
        (answer("200 OK", {"error_code": 400004}), AccountBlocked, "400004"),
        (answer("400 Bad Request", {"error_code": 400001}), ModelBlocked, "400001"),
        (answer("404 Not Found", {"error_code": 400001}), ModelBlocked, "400001"),
        (answer("200 OK", {"error_code": "400001"}), ModelBlocked, "400001"),
        (answer("422 Unprocessable", {"error_code": 422001}), Rejected, "422001"),
        (answer("400 Bad Request", {"error_code": 499999}), Rejected, "499999"),
        (answer("400 Bad Request", {"error": {"code": "bad_ratio"}}), Rejected, "bad_ratio"),
        (answer("200 OK", {"error_code": 422001}), Rejected, "422001"),
        (answer("200 OK", {"error_code": 422001, "request_id": None}), Rejected, "422001"),
        (answer("404 Not Found", {"error_code": 404001}), Rejected, "404001"),
        (answer("404 Not Found", HTML, kind="text/html"), Misrouted, None),
        (answer("403 Forbidden", HTML, kind="text/html"), Misrouted, None),
        (answer("405 Method Not Allowed", {"detail": "Method Not Allowed"}), Misrouted, None),
        (answer("413 Too Large", ""), Misrouted, None),
    ],
)
def test_is_refused(data: bytes, kind: type[ProviderError], code: str | None) -> None:
    with peer(saying(data)) as server:
        error = failed(server.base)
    assert type(error) is kind
    assert error.code == code
    assert error.status == int(data.split()[1])
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("status", "body", "exit_code"),
    [
        ("402 Payment Required", HTML, Exit.NO_BALANCE),
        ("400 Bad Request", {"error_code": 400002}, Exit.NO_BALANCE),
        ("401 Unauthorized", {"error_code": 401001}, Exit.TOKEN),
        ("400 Bad Request", {"error_code": 400004}, Exit.TOKEN),
        ("403 Forbidden", {"error_code": 403001}, Exit.TOKEN),
    ],
)
def test_account_names_its_exit_code(status: str, body: Any, exit_code: Exit) -> None:
    with peer(saying(answer(status, body))) as server:
        error = failed(server.base)
    assert isinstance(error, AccountBlocked)
    assert error.exit_code is exit_code


def test_throttle_carries_the_wait() -> None:
    with peer(saying(answer("429 Too Many Requests", "", "Retry-After: 17"))) as server:
        error = failed(server.base)
    assert isinstance(error, Throttled)
    assert error.retry_after_s == 17.0


def test_message_and_raw_hold_neither_token_nor_signature() -> None:
    said = f"Bearer {TOKEN} may not fetch https://b.test/a.png?X-Amz-Signature=abc123 \n now"
    with peer(saying(answer("400 Bad Request", {"error_code": 422001, "message": said}))) as server:
        error = failed(server.base)
    assert str(error) == (
        "HTTP 400, code 422001: Bearer [token] may not fetch https://b.test/a.png?[redacted] now"
    )


# -- sent once, and only where it belongs ----------------------------------------------------


def test_accepted_request_is_sent_as_documented() -> None:
    with peer(saying(answer("200 OK", {"request_id": "r-1_A", "error_code": 400002}))) as server:
        accepted = asyncio.run(submit(server.base))
    assert accepted == Accepted("r-1_A", '{"request_id": "r-1_A", "error_code": 400002}')
    lines = server.posts[0].decode().split("\r\n")
    assert lines[0] == f"POST /v1/models/{MODEL} HTTP/1.1"
    assert f"Authorization: Bearer {TOKEN}" in lines
    assert "Content-Type: application/json" in lines
    assert json.loads(server.bodies[0]) == INPUTS
    assert len(server.posts) == 1


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_redirect_is_in_doubt_and_not_followed(status: str) -> None:
    with peer(saying(answer("200 OK", {"request_id": "r1"}))) as other:
        target = f"Location: http://127.0.0.1:{other.port}/v1/models/{MODEL}"
        with peer(saying(answer(status, "", target))) as server:
            error = failed(server.base)
    assert type(error) is OutcomeUnknown
    assert len(server.posts) == 1
    assert other.posts == []


def test_every_paid_request_has_its_own_connection() -> None:
    served: list[int] = []

    def keeping(seen: Peer, connection: socket.socket) -> None:
        count = 0
        while seen.read_request(connection):
            count += 1
            connection.sendall(answer("200 OK", {"request_id": "r1"}, "Connection: keep-alive"))
        served.append(count)

    async def three(base: str) -> None:
        provider = RunComfy(base=base, token=TOKEN)
        for _ in range(3):
            await provider.submit(MODEL, INPUTS)
        await provider.close()

    with peer(keeping) as server:
        asyncio.run(three(server.base))
    assert served == [1, 1, 1]


def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(saying(answer("200 OK", {"request_id": "proxied"}))) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with peer(saying(answer("200 OK", {"request_id": "direct"}))) as server:
            assert asyncio.run(submit(server.base)).request_id == "direct"
    assert proxy.posts == []


@pytest.mark.parametrize(
    "model", ["", "/a", "a/", "a//b", "a/../b", "..", "a b", "a?b", "a#b", "a%2e", "a\nb", "ä"]
)
def test_impossible_model_is_not_sent(model: str) -> None:
    async def send(base: str) -> None:
        provider = RunComfy(base=base, token=TOKEN)
        try:
            await provider.submit(model, INPUTS)
        finally:
            await provider.close()

    with peer(close_at_once) as server, pytest.raises(ModelBlocked):
        asyncio.run(send(server.base))
    assert server.posts == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\ud800", b"bytes"])
def test_inputs_that_are_no_json_are_not_sent(value: Any) -> None:
    async def send(base: str) -> None:
        provider = RunComfy(base=base, token=TOKEN)
        try:
            await provider.submit(MODEL, {"promptText": value})
        finally:
            await provider.close()

    with peer(close_at_once) as server, pytest.raises(Rejected):
        asyncio.run(send(server.base))
    assert server.posts == []
