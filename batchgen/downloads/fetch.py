"""Fetch one clip: from a URL that a service named to a whole file under its final name.

The bytes are read on the event loop and written and hashed by threads, a block behind. No
token, cookie or other secret goes along, and a signed URL never gets into a message.
"""

import asyncio
import ipaddress
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TypeVar

import aiohttp
import httpx

from batchgen.domain.errors import BucketUnreachable, DownloadError
from batchgen.domain.jobs import Clip
from batchgen.domain.redaction import redact_url
from batchgen.downloads.content import (
    HEAD_BYTES,
    MEDIA_EXTENSIONS,
    Boxes,
    check_whole,
    extension_of,
    is_same_kind,
    refuse_text,
)
from batchgen.downloads.destination import Destination, Part, Room
from batchgen.downloads.names import split_extension, with_extension
from batchgen.failpoints import failpoint
from batchgen.http import USER_AGENT, decoded, explain, has_ended, is_private, is_public

T = TypeVar("T")

LARGEST_BYTES = 2 * 1024**3
KEPT_FREE_BYTES = 64 * 1024**2
"""Left on the disk whatever is fetched, so that the job database can still write."""
LINK_DEAD = frozenset({403, 404, 410})
MOST_REDIRECTS = 5

_MOST_PIECES = 20  # that a file which is cut again and again is fetched in
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]+"')
_CONTENT_RANGE = re.compile(r"bytes (?P<start>[0-9]{1,19})-[0-9]{1,19}/(?P<total>[0-9]{1,19}|\*)")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BLOCK_BYTES = 1024**2  # handed to a thread at once
_CONNECT_S = 10.0
_MOST_THREADS = 64  # there are as many as clips are fetched at once
_SLOWEST_BYTES_PER_S = 1024  # below this for `stall_s`, a transfer counts as stalled
_HEADERS = {
    "user-agent": USER_AGENT,
    "accept": "*/*",
    "accept-encoding": "identity",  # else the stated length is not the file's
}


class _Cut(DownloadError):
    """The file ended before its end."""

    kind = "download_cut"


@dataclass
class _Body:
    """What has arrived of a file.

    Attributes:
        head: Its first bytes.
        received: How many bytes in all.
        total: Its length, if stated.
        etag: Names this very version of the file; "" if nothing does.
        content_type: As stated.
        url: Where it came from in the end.
        boxes: What its bytes say of its parts.
    """

    head: bytes = b""
    received: int = 0
    total: int | None = None
    etag: str = ""
    content_type: str = ""
    url: str = ""
    boxes: Boxes = field(default_factory=Boxes)

    def rest(self) -> dict[str, str]:
        """Return the headers that ask for the rest; none where it could be another file's."""
        if not self.received or not self.etag:
            return {}
        return {"range": f"bytes={self.received}-", "if-range": self.etag}

    def begin(self, response: httpx.Response) -> None:
        """Note what an answer says of the file, before its body is read.

        Raises:
            DownloadError: If it is not the part that was asked for.
        """
        headers = response.headers
        if self.received:
            said = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            if (
                said is None
                or int(said["start"]) != self.received
                or (self.total is not None and said["total"] not in ("*", str(self.total)))
                or headers.get("etag", self.etag) != self.etag
            ):
                raise DownloadError("the server sent another part of the file than was asked for")
            if self.total is None and said["total"] != "*":
                self.total = int(said["total"])
            return
        is_plain = headers.get("content-encoding", "identity").lower() == "identity"
        etag = headers.get("etag", "")
        self.total = _stated_length(response) if is_plain else None
        self.etag = etag if is_plain and _STRONG_ETAG.fullmatch(etag) else ""
        self.content_type = headers.get("content-type", "")
        self.url = str(response.url)

    def check_end(self, response: httpx.Response) -> None:
        """Check that all that was stated has arrived.

        Raises:
            DownloadError: If not.
        """
        if not self.received:
            raise DownloadError("the file is empty")
        stated = _stated_length(response)
        # A body that was encoded against our wish has another length than stated.
        if stated is not None and stated != response.num_bytes_downloaded:
            raise _Cut(f"{response.num_bytes_downloaded} bytes of {stated} arrived")
        if self.total is not None and self.received != self.total:  # a part of the rest
            raise _Cut(f"{self.received} bytes of {self.total} arrived")


class _Writing:
    """Appends blocks to a part, one behind what the network delivers."""

    def __init__(self, part: Part, boxes: Boxes, threads: Executor) -> None:
        self._part, self._boxes, self._threads = part, boxes, threads
        self._last: asyncio.Future[None] | None = None

    async def write(self, block: Sequence[bytes]) -> None:
        await self.end()
        self._last = asyncio.get_running_loop().run_in_executor(
            self._threads, _write, self._part, self._boxes, block
        )
        # If the network fails first, nobody asks any more how the write went.
        self._last.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def end(self) -> None:
        if self._last is not None:
            await self._last


class Fetcher:
    """Fetches clips over one client.

    Args:
        client: From `batchgen.http.file_client`, which refuses private addresses behind a
            name when it resolves it; owned by the caller.
        allow_private: Whether private addresses may be asked, and loopback without TLS.
        max_bytes: The largest clip.
        min_free_bytes: Disk space that a clip must leave.
        part_bytes: What is held in memory of a clip on its way to a bucket.
        stall_s: How long a transfer may make no headway.

    Attributes:
        received_bytes: What has arrived of all clips, the half ones too.
    """

    def __init__(
        self,
        *,
        client: httpx.AsyncClient,
        allow_private: bool,
        max_bytes: int = LARGEST_BYTES,
        min_free_bytes: int = KEPT_FREE_BYTES,
        part_bytes: int = 8 * 1024**2,
        stall_s: float = 60,
    ) -> None:
        self._client = client
        self._allow_private = allow_private
        self._max_bytes = max_bytes
        self._room = Room(min_free_bytes=min_free_bytes, part_bytes=part_bytes)
        self._stall_s = stall_s
        # Its own: a disk or a bucket that hangs holds up nothing but clips.
        self._threads = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="clips")
        self.received_bytes = 0

    async def fetch(self, url: str, *, into: Destination, name: str) -> Clip:
        """Fetch a URL to a name of a destination, or to a name beside it, and say which.

        The extension follows the content where `name` has that of another kind of file. What
        is already there stays: with the same bytes it is taken for this clip (fetched before a
        crash could be recorded), else the clip becomes `name-2`. If anything fails, or this is
        cancelled, nothing new is left.

        Args:
            url: What the service named; https, or http on loopback with `allow_private`.
            into: Where the clips of the batch go; made if missing.
            name: The job's reserved name.

        Raises:
            DownloadError: If there is no whole clip to be had now; `link_dead` if the
                link was refused with 403, 404 or 410, or leads to what has ended. Also if a
                bucket does not answer for now.
            OutputError: If it cannot be written.
            ValueError: If `name` leads out of the destination.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ValueError(f"{name!r} is no name inside a folder")

        def new_part() -> Part:
            parts.append(into.part(name, self._room))
            return parts[-1]

        parts: list[Part] = []
        try:
            body = await self._receive_whole(url, name, new_part)
            part = parts[-1]
            check_whole(body.boxes, first_bytes=body.head, content_type=body.content_type)
            final = await self._in_thread(part.publish)
        except DownloadError as error:
            # The reason first: a panel cuts what is long, and an address always is.
            raise DownloadError(
                f"{error} <{redact_url(url)}>", link_dead=error.link_dead
            ) from error
        except BucketUnreachable as error:
            raise DownloadError(str(error)) from error
        finally:
            for part in parts:
                part.abort()
        return Clip(path=final, url=url, sha256=part.sha256, size_bytes=part.size_bytes)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _receive_whole(self, url: str, name: str, new_part: Callable[[], Part]) -> _Body:
        """Receive a file, going on where it was cut as long as it is provably the same file."""
        body, part = _Body(), new_part()
        for left in reversed(range(_MOST_PIECES)):
            before = body.received
            try:
                async with self._response(url, wanted=body.rest()) as response:
                    if before and response.status_code == 200:  # it has changed: all of it anew
                        body, part, before = _Body(), new_part(), 0
                    body.begin(response)
                    await self._receive(response, name, part, body)
            except _Cut:
                if not left or not body.rest() or body.received == before:
                    raise
            else:
                return body
        raise AssertionError("the last piece returns or raises")

    @asynccontextmanager
    async def _response(
        self, url: str, *, wanted: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """Open the answer that holds the file, behind at most five redirects."""
        target = _checked(url, allow_private=self._allow_private)
        for _ in range(MOST_REDIRECTS + 1):
            with _network_errors(target.host):
                # Built by hand: a client's request would carry its headers, cookies and auth.
                request = httpx.Request(
                    "GET",
                    target,
                    headers={**_HEADERS, **wanted},
                    extensions={
                        "timeout": {
                            "connect": _CONNECT_S,
                            "read": self._stall_s,
                            "write": self._stall_s,
                            "pool": None,
                        }
                    },
                )
                response = await self._client.send(
                    request, stream=True, auth=None, follow_redirects=False
                )
            try:
                if response.status_code not in _REDIRECTS:
                    _check_status(response.status_code, is_part=bool(wanted))
                    yield response
                    return
                target = self._next(target, response)
            finally:
                with _network_errors():
                    await response.aclose()
        raise DownloadError(f"more than {MOST_REDIRECTS} redirects")

    def _next(self, target: httpx.URL, response: httpx.Response) -> httpx.URL:
        location = response.headers.get("location")
        if not location:
            raise DownloadError(f"HTTP {response.status_code} without a Location")
        try:
            joined = target.join(location)
        except httpx.InvalidURL as error:
            raise DownloadError("redirected to something that is no address") from error
        return _checked(str(joined), allow_private=self._allow_private)

    async def _receive(self, response: httpx.Response, name: str, part: Part, body: _Body) -> None:
        """Append what an answer holds to a part."""
        stated = _stated_length(response)
        if stated is not None and stated > self._max_bytes:
            raise DownloadError(f"{stated} bytes, more than the limit of {self._max_bytes}")
        if not body.received:
            await self._in_thread(part.open)
        writing = _Writing(part, body.boxes, self._threads)
        try:
            async with aclosing(self._blocks(response)) as blocks:
                async for block in blocks:
                    body.received += sum(map(len, block))
                    self._check_size(body)
                    if not body.head:
                        body.head = b"".join(block)[:HEAD_BYTES]
                        refuse_text(body.head, body.content_type)
                        ext = extension_of(body.url, body.content_type, body.head)
                        part.call(_corrected(name, ext))
                    await writing.write(block)
        except DownloadError:
            # So that what follows a cut is written behind it, and what is given up is gone.
            await writing.end()
            raise
        await writing.end()
        body.check_end(response)

    def _check_size(self, body: _Body) -> None:
        if body.received > self._max_bytes:
            raise DownloadError(f"more than the limit of {self._max_bytes} bytes")

    async def _blocks(self, response: httpx.Response) -> AsyncGenerator[list[bytes], None]:
        """Gather the body into blocks that are worth a thread's while; none is empty."""
        chunks = decoded(response)
        clock = asyncio.get_running_loop().time
        window_at, window_bytes = clock(), 0
        block: list[bytes] = []
        size_bytes = 0
        try:
            with _network_errors(kind=_Cut):
                async for chunk in chunks:
                    if not chunk:
                        continue
                    block.append(chunk)
                    size_bytes += len(chunk)
                    self.received_bytes += len(chunk)
                    window_bytes += len(chunk)
                    if clock() - window_at > self._stall_s:
                        if window_bytes < self._stall_s * _SLOWEST_BYTES_PER_S:
                            raise DownloadError(
                                f"{window_bytes} bytes in {self._stall_s:g} s: stalled"
                            )
                        window_at, window_bytes = clock(), 0
                    if size_bytes >= _BLOCK_BYTES:
                        yield block
                        block, size_bytes = [], 0
        except _Cut:
            if block:
                yield block
            raise
        if block:
            yield block


def _write(part: Part, boxes: Boxes, block: Sequence[bytes]) -> None:
    part.write(block)
    for piece in block:
        boxes.feed(piece)
    failpoint("in-download")


def _checked(url: str, *, allow_private: bool) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise DownloadError("not an address that can be fetched") from error
    if parsed.userinfo:
        raise DownloadError("an address with a user name is not fetched")
    if not parsed.host:
        raise DownloadError("not an address that can be fetched")
    is_inside, is_loopback = _reach(parsed.host)
    if is_inside and not allow_private:
        raise DownloadError(f"{parsed.host} is a private address, which is not fetched")
    if parsed.scheme != "https" and not (parsed.scheme == "http" and allow_private and is_loopback):
        raise DownloadError(f"{parsed.scheme} is not fetched, only https")
    return parsed


def _reach(host: str) -> tuple[bool, bool]:
    """Return whether a host is private, and whether it is loopback, as far as its name tells.

    What a name resolves to is judged by the client, where the connection is made.
    """
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True, True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False, False
    return not is_public(str(address)), address.is_loopback


def _check_status(status: int, *, is_part: bool) -> None:
    if status in LINK_DEAD:
        raise DownloadError(f"HTTP {status}: the link is dead", link_dead=True)
    if status != 200 and not (is_part and status == 206):
        raise DownloadError(f"HTTP {status}")


def _stated_length(response: httpx.Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _corrected(name: str, ext: str) -> str:
    """Return the name with the content's extension, if its own belongs to another kind."""
    _, suffix = split_extension(name.rpartition("/")[2])
    given = suffix.removeprefix(".").lower()
    if given not in MEDIA_EXTENSIONS or is_same_kind(given, ext):
        return name
    return with_extension(name, ext)


@contextmanager
def _network_errors(host: str = "", *, kind: type[DownloadError] = DownloadError) -> Iterator[None]:
    """Turn what the transport raises into a `DownloadError` that shows no secret of a URL.

    Args:
        host: That is connected to.
        kind: Of the error.
    """
    try:
        yield
    # The transport lets some of aiohttp's errors through, and the socket's.
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        if is_private(error):
            raise DownloadError("the host is a private address, which is not fetched") from error
        # Of an earlier stand-in on this machine: its service names another link if it is asked.
        is_over = has_ended(error, host)
        raise kind(f"the connection failed: {explain(error)}", link_dead=is_over) from error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise DownloadError("not an address that can be fetched") from error
