"""Make the HTTP clients, and say what a failure of theirs proves.

aiohttp is the transport of all. The two that ask the API, a thousand times a second at best, use it
as it is: one for paid requests (a new connection each, so that no server's idle close can race a
request), one for looks. Those for files have httpx's API over it. None follows redirects, keeps
cookies, or reads proxy settings from the environment.
"""

import asyncio
import contextlib
import functools
import ipaddress
import logging
import math
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

# httpx loads its own command line where rich is installed, and with it rich and pygments: a
# twentieth of what a command takes to start. It does without where that module is missing.
if "httpx" not in sys.modules:
    sys.modules["httpx._main"] = None  # type: ignore[assignment]

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from httpx_aiohttp import AiohttpTransport
from httpx_aiohttp.transport import AiohttpResponseStream
from yarl import URL

from batchgen import __version__
from batchgen.domain.redaction import redact_text, redact_url
from batchgen.failpoints import Armed, failpoint, is_armed

log = logging.getLogger(__name__)

# httpx logs every URL at INFO, the signatures of signed links included.
logging.getLogger("httpx").setLevel(logging.WARNING)

USER_AGENT = f"batchgen/{__version__}"

CONNECT_S = 10.0
POST_S = 100.0
GET_S = 30.0

_UNPACKED = frozenset({"gzip", "deflate"})
_PACKED_PART = 16 * 1024
_FILE_PART = 256 * 1024  # what asyncio takes off a socket at once
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NO_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_CERTIFICATE_FAULTS = {  # X509_V_ERR_… of OpenSSL
    10: "has expired",
    62: "belongs to another host",
    64: "belongs to another address",
}
_DEFAULT_PORTS = {"http": 80, "https": 443}


class PrivateAddress(OSError):
    """A file host leads to an address inside the user's network or machine."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        method: GET or POST.
        url: Encoded, as `encoded` returns it.
        headers: All but those of the connection and the body's length.
        body: What is sent, if anything.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """What came back of one exchange.

    Attributes:
        status: HTTP status.
        headers: The headers of the answer; their names without regard to case.
        body: What was read of the body.
        cut: Whether the body is longer than what was asked to be read.
        broken: What ended the body before its end, None if it is whole.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False
    broken: Exception | None = None


# -- clients ---------------------------------------------------------------------------------


class Client:
    """Asks an API, straight over aiohttp: httpx in between cost a quarter of the jobs a second.

    Its connections are made inside the running loop, with the first request; what takes long of
    it, the certificates of a hundred authorities, is read before, where a client is made.
    """

    def __init__(
        self,
        connector: Callable[[], aiohttp.TCPConnector],
        timeout: aiohttp.ClientTimeout,
        *,
        request_class: type[aiohttp.ClientRequest] = aiohttp.ClientRequest,
    ) -> None:
        self._connector = connector
        self._timeout = timeout
        self._request_class = request_class
        self._session: aiohttp.ClientSession | None = None
        self.is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        self.is_closed = True
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Request) -> aiohttp.ClientResponse:
        """Send a request once; return its answer with the body still to be read.

        Raises:
            RuntimeError: If the client has been closed.
            Exception: Whatever prevented an answer's headers from arriving; see `is_unsent`.
        """
        if self.is_closed:
            raise RuntimeError("the client has been closed")
        if self._session is None:
            self._session = _session(self._connector(), self._request_class)
        try:
            return await self._session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
                auto_decompress=False,
                timeout=self._timeout,
            )
        except aiohttp.ClientResponseError as error:
            # Its repr shows the request's headers: the token.
            said = error.message
        raise httpx.RemoteProtocolError(f"unreadable answer: {said!r}")


def _session(
    connector: aiohttp.TCPConnector, request_class: type[aiohttp.ClientRequest]
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        request_class=request_class,
    )


def submit_client(
    *, connect_s: float = CONNECT_S, total_s: float = POST_S, tls: bool = True
) -> Client:
    """Return a client for paid requests: every one on a new connection, never repeated.

    The number of connections is not limited here: a paid request that waits for a
    connection would only fail; the runner's slots are the limit.

    Args:
        connect_s: Longest wait for a connection to be made.
        total_s: Longest wait for the next bytes.
        tls: Whether the API is asked over TLS.
    """
    return Client(
        functools.partial(
            _connector, limit=0, force_close=True, tls=_ssl_context() if tls else None
        ),
        aiohttp.ClientTimeout(sock_connect=connect_s, sock_read=total_s, connect=connect_s),
        request_class=_Watched if is_armed("after-send") else aiohttp.ClientRequest,
    )


def poll_client(
    *,
    connections: int = 200,
    connect_s: float = CONNECT_S,
    total_s: float = GET_S,
    free_s: float = GET_S,
    tls: bool = True,
) -> Client:
    """Return a client for looks: connections are kept and shared.

    Args:
        connections: How many at most.
        connect_s: Longest wait for a connection to be made.
        total_s: Longest wait for the next bytes.
        free_s: Longest wait for one to be free and made.
        tls: Whether the API is asked over TLS.
    """
    return Client(
        functools.partial(_connector, limit=connections, tls=_ssl_context() if tls else None),
        aiohttp.ClientTimeout(sock_connect=connect_s, sock_read=total_s, connect=free_s),
    )


def file_client(
    *,
    connections: int,
    allow_private: bool,
    connect_s: float = CONNECT_S,
    read_s: float = GET_S,
) -> "FileClient":
    """Return a client for clips and reference images; it carries no token.

    Args:
        connections: How many connections at most.
        allow_private: Whether addresses that are not public may be reached. Otherwise they are
            refused where the connection is made, so neither a literal address nor a name whose
            answer changes gets around it: `httpx.ConnectError` with a `PrivateAddress` among
            its causes (`is_private`).
        connect_s: Longest wait for a connection.
        read_s: Longest wait for the next bytes; a large file may take longer in all.
    """
    return _client(
        functools.partial(
            _connector, limit=connections, public_only=not allow_private, tls=_ssl_context()
        ),
        httpx.Timeout(read_s, connect=connect_s, pool=2 * read_s),
        part_bytes=_FILE_PART,
    )


def probe_client(
    *,
    connections: int,
    allow_private: bool,
    connect_s: float,
    read_s: float,
    resolver: AbstractResolver | None = None,
) -> httpx.AsyncClient:
    """Return a client that looks at input files: `file_client` for many hosts at once.

    Args:
        connections: How many connections at most.
        allow_private: As of `file_client`.
        connect_s: Longest wait for a connection.
        read_s: Longest wait for the next bytes.
        resolver: Who knows the addresses of names; else the system.
    """
    return _client(
        functools.partial(
            _connector,
            limit=connections,
            public_only=not allow_private,
            resolver=ThreadResolver if resolver is None else lambda: resolver,
            tls=_ssl_context(),
        ),
        httpx.Timeout(read_s, connect=connect_s, pool=None),
    )


@asynccontextmanager
async def opened(
    client: httpx.AsyncClient, request: httpx.Request
) -> AsyncIterator[httpx.Response]:
    """Send a request; give its answer with the body still to be read, and close it after."""
    response = await client.send(request, stream=True)
    try:
        yield response
    finally:
        await response.aclose()


def decoded(response: httpx.Response) -> AsyncIterator[bytes]:
    """Return the body in parts, unpacked if it is packed in a way whose growth is bounded.

    Nothing but `identity` is ever asked for. One layer of gzip or deflate grows a thousandfold at
    most; packed twice, or by another method, a few kilobytes could fill the memory at one step,
    so they are given as they came, and are no answer that anybody understands.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    return response.aiter_bytes() if encoding in _UNPACKED else response.aiter_raw()


async def exchange(client: Client, request: Request, *, total_s: float, limit_bytes: int) -> Answer:
    """Send a request once and return what came back, at most `limit_bytes` of it.

    Args:
        client: One of this module's.
        request: Sent as it is.
        total_s: Longest time for all of it; it must exceed the client's `connect_s`, else it
            hides that a connection was never made.
        limit_bytes: More of a body is not read.

    Raises:
        Exception: Whatever prevented an answer's headers from arriving; see `is_unsent`.
            An error after that is the answer's `broken`.
    """
    response: aiohttp.ClientResponse | None = None
    body = bytearray()
    broken: Exception | None = None
    try:
        async with asyncio.timeout(total_s):
            response = await client.send(request)
            async for chunk in response.content.iter_any():
                body += chunk
                # What happens to the connection after the last byte says nothing of the answer.
                if len(body) > limit_bytes or len(body) == response.content_length:
                    break
            if response.headers.get("content-encoding"):
                body = await _unpacked(response.headers, body, limit_bytes)
    except Exception as error:
        if response is None:
            raise
        broken = error
    finally:
        if response is not None:
            response.release()
    cut = len(body) > limit_bytes
    if cut:
        broken = None
    return Answer(response.status, response.headers, bytes(body[:limit_bytes]), cut, broken)


class _Parts(httpx.AsyncByteStream):
    """A body that was read, in parts whose unpacking cannot fill the memory."""

    def __init__(self, body: bytes | bytearray) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _PACKED_PART):
            yield bytes(self._body[start : start + _PACKED_PART])


async def _unpacked(headers: Mapping[str, str], body: bytearray, limit_bytes: int) -> bytearray:
    """Return a body unpacked, or what is beyond the limit of it; see `decoded`."""
    encoding = {"content-encoding": headers["content-encoding"]}
    found = bytearray()
    async for chunk in decoded(httpx.Response(200, headers=encoding, stream=_Parts(body))):
        found += chunk
        if len(found) > limit_bytes:
            break
    return found


def _client(
    connector: Any,
    timeout: httpx.Timeout,
    *,
    part_bytes: int = AiohttpResponseStream.CHUNK_SIZE,
) -> "FileClient":
    return FileClient(
        transport=_Transport(connector, part_bytes),
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
    )


class FileClient(httpx.AsyncClient):
    """A client without what batchgen never uses: authentication, redirects, cookies, hooks."""

    def __init__(self, *, transport: httpx.AsyncBaseTransport, **options: Any) -> None:
        super().__init__(transport=transport, **options)
        self._straight = transport
        self._stated_timeout = self.timeout.as_dict()

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **_: Any
    ) -> httpx.Response:
        """Send a request once, straight to the transport."""
        if self.is_closed:
            raise RuntimeError("the client has been closed")
        request.extensions.setdefault("timeout", self._stated_timeout)
        response = await self._straight.handle_async_request(request)
        response.request = request
        if not stream:
            await response.aread()
        return response


def _connector(
    *,
    limit: int,
    force_close: bool = False,
    public_only: bool = False,
    resolver: Callable[[], AbstractResolver] = aiohttp.DefaultResolver,
    tls: ssl.SSLContext | None,
) -> aiohttp.TCPConnector:
    asked = resolver()
    return aiohttp.TCPConnector(
        limit=limit,
        force_close=force_close,
        ssl=True if tls is None else tls,
        resolver=PublicResolver(asked) if public_only else asked,
        # The resolver is not asked about literal addresses; this sees every address.
        socket_factory=_public_socket if public_only else None,
    )


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    # SSL_CERT_FILE and SSL_CERT_DIR are honoured: some networks need their own authority.
    context = httpx.create_ssl_context(trust_env=True)
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Transport(AiohttpTransport):
    """The adapter, with its connector made inside the running loop and its leaks closed."""

    def __init__(self, connector: Any, part_bytes: int) -> None:
        self._part_bytes = part_bytes
        super().__init__(
            verify=_ssl_context(),
            client=lambda: _session(connector(), aiohttp.ClientRequest),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await super().handle_async_request(request)
        except aiohttp.ClientResponseError as error:
            # The adapter lets it through, and its repr shows the request's headers: the token.
            said = error.message
        else:
            self._set_parts(response)
            return response
        raise httpx.RemoteProtocolError(f"unreadable answer: {said!r}", request=request)

    def _set_parts(self, response: httpx.Response) -> None:
        # The adapter's own parts are small, and two thirds of a download's steps were to hand them
        # on. A packed body keeps to them: they bound what is unpacked at one step.
        stream = response.stream
        if isinstance(stream, AiohttpResponseStream) and (
            "content-encoding" not in response.headers
        ):
            stream.CHUNK_SIZE = self._part_bytes


class _Watched(aiohttp.ClientRequest):
    """A request that passes a failpoint once its body is written.

    aiohttp's own hooks for it are called before the write.
    """

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Any, content_length: int | None = None
    ) -> None:
        await super().write_bytes(writer, conn, content_length)
        try:
            failpoint("after-send")
        except Armed as error:
            # This runs in a task of its own; the answer's reader is told as of a broken connection.
            conn.protocol.set_exception(error)


# -- addresses -------------------------------------------------------------------------------


def is_public(address: str) -> bool:
    """Return whether an IP address, as text, is one of the public internet."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


def is_private(error: BaseException) -> bool:
    """Return whether a failure was the refusal of an address that is not public."""
    return any(isinstance(cause, PrivateAddress) for cause in _causes(error))


def has_ended(error: BaseException, host: str) -> bool:
    """Return whether a failure means that what served on this machine is there no more."""
    refused = any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error))
    return refused and host in _LOOPBACK_HOSTS


def _check_public(host: str, address: str) -> None:
    if not is_public(address):
        where = address if host == address else f"{host} ({address})"
        raise PrivateAddress(f"{where} is not a public address")


class PublicResolver(AbstractResolver):
    """Resolves names as another resolver does, but refuses one with an address not public."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            PrivateAddress: If any of them is not public.
        """
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            _check_public(host, result["host"])
        return found

    async def close(self) -> None:
        """Release the other resolver."""
        await self._resolver.close()


class ThreadResolver(AbstractResolver):
    """Asks the system in a thread for each name.

    The usual one asks in a pool of few threads, which some names that hang would occupy, and which
    the end of the program waits for.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            OSError: If there are none.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(found: Any) -> None:
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def ask() -> None:
            found: Any
            try:
                # Also addresses of a kind that this machine has no network for: else a host that
                # has no others would seem not to exist.
                found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                found = error
            with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(settle, found)

        threading.Thread(target=ask, daemon=True, name=f"resolve {host}").start()
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in await answer
        ]

    async def close(self) -> None:
        """Leave the threads to themselves."""


def _public_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = info
    _check_public(str(address[0]), str(address[0]))
    return socket.socket(family, kind, protocol)


# -- what a failure proves -------------------------------------------------------------------


def is_unsent(error: BaseException) -> bool:
    """Return whether a failure proves that no byte of the request left.

    An allow-list; the class of an httpx exception proves nothing, since the adapter of the clients
    for files reports connections that were closed after the body as `httpx.ConnectTimeout`. Proof
    is only

    * aiohttp's `ClientConnectorError`: name, refused, unreachable, certificate, TLS handshake;
    * aiohttp's `ConnectionTimeoutError`: raised around getting a connection only, the wait for
      a free one included;
    * a URL that neither library takes.

    Followed is `__cause__`, and through httpx's own errors only. `__context__` is what happened
    to be handled at the time: an earlier connect failure there would prove a later, sent
    request unsent (aiohttp even raises one shared exception object again and again).
    """
    for cause in _causes(error):
        if isinstance(
            cause,
            aiohttp.ClientConnectorError
            | aiohttp.ConnectionTimeoutError
            | httpx.UnsupportedProtocol
            | httpx.InvalidURL,
        ):
            return True
        if not isinstance(cause, httpx.HTTPError):
            return False
    return False


def is_timeout(error: BaseException) -> bool:
    """Return whether a failure was a wait that was given up; httpx's classes prove nothing."""
    return any(isinstance(cause, TimeoutError) for cause in _causes(error))


def resolves(host: str) -> bool:
    """Return whether the network knows a host's name."""
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def is_genuine(host: str, port: int = 443, *, timeout_s: float = 5.0) -> bool:
    """Return whether who answers for a host has a certificate of its name that is valid now."""
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as connection,
            _ssl_context().wrap_socket(connection, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def no_such_host(error: BaseException) -> bool:
    """Return whether a failure was the answer that a name does not exist."""
    return any(
        isinstance(cause, socket.gaierror) and cause.errno in _NO_NAME for cause in _causes(error)
    ) or any(
        isinstance(cause, aiohttp.ClientConnectorDNSError)
        and getattr(cause.os_error, "errno", None) in _NO_NAME
        for cause in _causes(error)
    )


def bad_certificate(error: BaseException) -> str | None:
    """Return what is wrong with a server's certificate for anybody; None if nothing is for sure.

    That its authority is not known here says nothing about others.
    """
    for cause in _causes(error):
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            found = cause.certificate_error
            if isinstance(found, ssl.SSLCertVerificationError):
                return _CERTIFICATE_FAULTS.get(found.verify_code)
    return None


def explain(error: BaseException) -> str:
    """Return a failure and its causes in one line, innermost last, without any secret of a URL."""
    parts: list[str] = []
    for cause in _causes(error):
        name, words = type(cause).__name__, " ".join(str(cause).split())
        said = f": {words}" if words else name
        if not any(said in part for part in parts):  # often the same, under another name
            parts.append(f"{name}: {words}" if words else name)
    return redact_text(" ← ".join(parts))


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__
    return found


# -- URLs and headers ------------------------------------------------------------------------


def encoded(url: str) -> str:
    """Return a URL as it is sent: other scripts than ASCII in its host and path encoded."""
    return str(URL(url))


def origin_of(url: str) -> str:
    """Return `scheme://host:port` of a URL: lower case, the port always stated.

    Raises:
        ValueError: If the URL has no http(s) scheme, no host, or an impossible port.
    """
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"not an http(s) URL: {redact_url(url)}")
    host = parts.hostname.rstrip(".")
    port = parts.port if parts.port is not None else _DEFAULT_PORTS[parts.scheme]
    return f"{parts.scheme}://[{host}]:{port}" if ":" in host else f"{parts.scheme}://{host}:{port}"


def retry_after_s(value: str | None) -> float | None:
    """Return a Retry-After header in seconds from now, None if absent or unreadable."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
