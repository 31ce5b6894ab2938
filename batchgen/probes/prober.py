"""Look at one input file: HEAD, then at most its first bytes."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import aiohttp
import httpx

from batchgen.domain.fitness import Facts, Problem
from batchgen.domain.redaction import redact_url
from batchgen.http import (
    USER_AGENT,
    bad_certificate,
    decoded,
    explain,
    is_private,
    is_timeout,
    no_such_host,
    opened,
)
from batchgen.inputs.picture import is_text, kind_of, may_tell_more, pixels

FIRST_BYTES = 64 * 1024
"""Asked for at first: the pixels of nearly every image are there."""
MOST_BYTES = 1024 * 1024
"""Never more of a file: a camera's preview and colour profile come before a JPEG's pixels."""
CONNECT_S = 5.0
PROBE_S = 10.0
"""The longest that one URL may take in all."""

_LEAST_BYTES = 32  # that show what kind of file it is
# Whatever is wrong with a server just now; only 501 says what it will never do.
_BUSY = frozenset({408, 420, 423, 425, 429, *range(500, 600)}) - {501}
# Those that the file's own address answers, and not its program with HEAD: no second request.
_BUSY_AT_ONCE = frozenset({429, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# A definite fault must be one without `Range` too. 416: there is not even a first byte.
_MAY_MIND_RANGES = frozenset({400, 403, 405, 406, 412, 416, 417, 501})
_TOTAL = re.compile(r"bytes (?:[0-9]{1,19}-[0-9]{1,19}|\*)/([0-9]{1,19})")
_HEADERS = {"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"}


@dataclass(frozen=True)
class Target:
    """One file to be looked at.

    Attributes:
        url: Where it is.
        wants_pixels: Whether its width and height are needed.
    """

    url: str
    wants_pixels: bool


class Prober:
    """Looks at files over one client.

    Args:
        client: From `batchgen.http.probe_client`, which refuses private addresses where the
            connection is made; owned by the caller.
        probe_s: The longest that one URL may take.
    """

    def __init__(self, client: httpx.AsyncClient, *, probe_s: float = PROBE_S) -> None:
        self._client = client
        self._probe_s = probe_s

    async def probe(self, target: Target) -> Facts:
        """Return what a URL answers; whatever goes wrong is a `Problem` in it."""
        try:
            async with asyncio.timeout(self._probe_s):
                return await self._look(target)
        except TimeoutError:
            return _timed_out(self._probe_s)
        # The transport lets some of aiohttp's errors through, and the socket's.
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
            return _failed(error, httpx.URL(target.url).host)
        except (httpx.InvalidURL, UnicodeError, ValueError):
            return Facts(Problem.URL, "it is not an address that can be fetched")

    async def _look(self, target: Target) -> Facts:
        async with opened(self._client, self._request("HEAD", target.url)) as response:
            status, headers = response.status_code, response.headers
        if status in _REDIRECTS:
            return _redirected(target.url, status, headers)
        if status in _BUSY_AT_ONCE:
            return _busy(status)
        if status != 200:
            # A signed link may be for GET only; and many a server knows no HEAD.
            found = await self._first_bytes(target)
            refused = found.problem is None
            return replace(found, said=f"HEAD is refused (HTTP {status})") if refused else found
        seen = _stated(status, headers)
        if seen.content_type and seen.size_bytes is not None and not target.wants_pixels:
            return _checked(seen, b"")
        found = await self._first_bytes(target)
        if found.size_bytes is None and found.problem is None:
            found = replace(found, size_bytes=seen.size_bytes)
        return found

    async def _first_bytes(self, target: Target) -> Facts:
        facts, head = await self._get(target, b"", FIRST_BYTES)
        if facts.problem is not None and facts.http_status in _MAY_MIND_RANGES:
            facts, head = await self._get(target, b"", None)
        if facts.problem is not None:
            return facts
        if target.wants_pixels:
            if facts.http_status == 206 and len(head) == FIRST_BYTES and may_tell_more(head):
                _, head = await self._get(target, head, MOST_BYTES)
            width, height = pixels(head) or (None, None)
            facts = replace(facts, width=width, height=height)
        return _checked(facts, head)

    async def _get(self, target: Target, head: bytes, end: int | None) -> tuple[Facts, bytes]:
        """Ask for the bytes behind `head` up to `end`, or for all; return what is there by then."""
        wanted = {} if end is None else {"range": f"bytes={len(head)}-{end - 1}"}
        async with opened(self._client, self._request("GET", target.url, wanted)) as response:
            status, headers = response.status_code, response.headers
            if status in _REDIRECTS:
                return _redirected(target.url, status, headers), head
            if status not in (200, 206):
                busy = status in _BUSY
                return _busy(status) if busy else Facts(Problem.STATUS, "", status), head
            if status == 200 or end is None:  # all of it comes, whatever was asked for
                head, end = b"", MOST_BYTES
            return _stated(status, headers), await _read(response, head, end, target.wants_pixels)

    @staticmethod
    def _request(method: str, url: str, headers: Mapping[str, str] | None = None) -> httpx.Request:
        # Built by hand: a client's request would carry whatever it was given.
        return httpx.Request(method, url, headers={**_HEADERS, **(headers or {})})


async def _read(response: httpx.Response, head: bytes, end: int, wants_pixels: bool) -> bytes:
    """Return `head` with what was read behind it, no more than is needed and never beyond `end`."""
    looked_at = len(head)
    async for chunk in decoded(response):
        head = (head + chunk)[:end]
        if len(head) == end:
            break
        # Looking costs as much as there is: only when that has doubled.
        if len(head) >= max(_LEAST_BYTES, 2 * looked_at):
            looked_at = len(head)
            if not (wants_pixels and may_tell_more(head)):
                break
    return head


def _stated(status: int, headers: httpx.Headers) -> Facts:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_plain = headers.get("content-encoding", "identity").strip().lower() == "identity"
    if status == 206:
        total = _TOTAL.fullmatch(headers.get("content-range", ""))
        size = total[1] if total else ""
    else:
        size = headers.get("content-length", "") if is_plain else ""
    return Facts(
        http_status=status,
        content_type=kind[:100],
        size_bytes=int(size) if re.fullmatch("[0-9]{1,18}", size) else None,
    )


def _checked(facts: Facts, head: bytes) -> Facts:
    if facts.size_bytes == 0:
        return replace(facts, problem=Problem.EMPTY, said="the file is empty")
    if is_text(head) and not facts.content_type.startswith("text/"):
        said = (
            f"it is a page or another text, though it is called {facts.content_type or 'nothing'}"
        )
        return replace(facts, problem=Problem.TEXT, said=said)
    found = kind_of(head)
    if found and facts.content_type.startswith("image/") and found != facts.content_type:
        # What the fetcher makes of it is in its bytes, whatever it is called.
        return replace(facts, content_type=found)
    return facts


def _redirected(url: str, status: int, headers: httpx.Headers) -> Facts:
    try:
        target = str(httpx.URL(url).join(headers.get("location", "")))
    except httpx.InvalidURL:
        target = ""
    return Facts(Problem.REDIRECT, redact_url(target)[:300], status)


def _busy(status: int) -> Facts:
    return Facts(Problem.BUSY, f"HTTP {status}: the server is busy or in trouble", status)


def _timed_out(seconds: float) -> Facts:
    return Facts(Problem.TIMEOUT, f"no answer within {seconds:g} s")


def _failed(error: BaseException, host: str) -> Facts:
    if is_private(error):
        return Facts(
            Problem.PRIVATE,
            f"{host} leads to an address that is not public: the service could not fetch it "
            "(--allow-private-inputs if it is meant)",
        )
    if no_such_host(error):
        return Facts(Problem.NO_HOST, f"there is no host {host}")
    if is_timeout(error):
        return Facts(Problem.TIMEOUT, "no answer in time")
    certificate = bad_certificate(error)
    if certificate is not None:
        return Facts(Problem.CERTIFICATE, f"the certificate of {host} {certificate}")
    return Facts(Problem.UNREACHABLE, f"the connection failed: {explain(error)}"[:300])
