"""The stand-in service's HTTP side: endpoints, and answers that go wrong on request.

It is built on aiohttp's bare server, without its router, middlewares and access log: a
benchmark must measure batchgen, not this.
"""

import asyncio
import contextlib
import hashlib
import json
import math
import socket
import struct
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, unquote

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from batchgen.providers.simulator.books import Books, Counters, Entry, Ledger
from batchgen.providers.simulator.catalog import Catalog
from batchgen.providers.simulator.clip import clip_size, pieces
from batchgen.providers.simulator.settings import Fault, Kind, Settings, Stage, as_json, changed

_LARGEST_BODY_BYTES = 64 * 1024 * 1024  # of RunComfy's nodes
_LARGEST_PLAIN_CLIP_BYTES = 1024 * 1024  # beyond it a clip is streamed
_BACKLOG = 4096  # a burst of new connections must not be refused
_GRACE_S = 0.01  # for answers under way when it goes down; 0 would mean for ever to aiohttp
_PAGE = (
    "<!DOCTYPE html><html><head><title>{0}</title></head>"
    "<body><h1>{0}</h1><hr>cloudflare</body></html>"
)

_REFUSALS: dict[Kind, tuple[int, int | None, str]] = {
    Kind.THROTTLE: (429, None, "Too many requests"),
    Kind.SERVER_ERROR: (500, 500001, "Internal server error"),
    Kind.REQUEST_TIMEOUT: (408, None, "Request timeout"),
    Kind.NO_BALANCE: (400, 400002, "Insufficient resources: no balance left"),
    Kind.NO_BALANCE_200: (200, 400002, "Insufficient resources: no balance left"),
    Kind.PAYMENT_REQUIRED: (402, None, "Payment required"),
    Kind.UNAUTHORIZED: (401, None, "Unauthorized"),
    Kind.ACCOUNT_ERROR: (400, 400004, "Token missing, expired or revoked"),
    Kind.FORBIDDEN: (403, 403001, "Permission denied"),
    Kind.MODEL_UNKNOWN: (400, 400001, "Invalid resource identifier: model"),
    Kind.INVALID: (422, 422001, "Validation error"),
    Kind.ERROR_AFTER: (500, 500001, "Internal server error"),
    Kind.LOOK_500: (500, 500001, "Internal server error"),
    Kind.LOOK_404: (404, 404001, "Resource not found"),
    Kind.LOOK_429: (429, None, "Too many requests"),
}
"""HTTP status, `error_code` and message of answers in JSON."""

_PAGES: dict[Kind, int] = {
    Kind.BAD_GATEWAY: 502,
    Kind.GATEWAY_404: 404,
    Kind.GATEWAY_AFTER: 504,
    Kind.LOOK_504: 504,
    Kind.LOOK_HTML: 200,
    Kind.FILE_403: 403,
    Kind.FILE_404: 404,
    Kind.FILE_410: 410,
    Kind.FILE_500: 500,
    Kind.FILE_HTML: 200,
}
"""HTTP status of answers that are a web page."""

_SYNONYMS = {"succeeded": "COMPLETED", "cancelled": "canceled"}


class Simulator:
    """The stand-in service, listening while it is entered.

    Attributes:
        books: What it accepted; for tests that look closer than `ledger`.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
        catalog: Catalog | None = None,
    ) -> None:
        self.books = Books(settings or Settings(), clock=clock)
        self._catalog = catalog or Catalog()
        self._host = host
        self._port = port
        self._origin = ""
        self._protocols: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._waiters: list[tuple[Callable[[Counters], bool], asyncio.Future[None]]] = []
        self._comeback: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._comeback is not None:
            self._comeback.cancel()
        await self.down()

    @property
    def origin(self) -> str:
        """Return `http://host:port`."""
        return self._origin

    @property
    def base(self) -> str:
        """Return the API's base, what `RUNCOMFY_MODEL_API_BASE` takes."""
        return f"{self._origin}/v1"

    @property
    def ledger(self) -> Ledger:
        """Return a copy of the books."""
        return self.books.ledger()

    @property
    def counters(self) -> Counters:
        """Return the living counters."""
        return self.books.counters

    @property
    def settings(self) -> Settings:
        """How the service behaves; may be replaced at any time."""
        return self.books.settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self.books.settings = settings

    async def up(self) -> None:
        """Listen; on the same port again after `down`. Does nothing while listening.

        Raises:
            OSError: If the port is taken.
        """
        if self._listener is not None:
            return
        loop = asyncio.get_running_loop()
        protocols = web.Server(
            self._handle, request_factory=_request, access_log=None, keepalive_timeout=75.0
        )
        self._listener = await loop.create_server(
            protocols, self._host, self._port, backlog=_BACKLOG, reuse_address=True
        )
        self._protocols = protocols
        self._port = self._listener.sockets[0].getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._origin = f"http://{host}:{self._port}"

    async def down(self) -> None:
        """Stop listening and cut every connection: connects are refused. Books are kept."""
        listener, protocols = self._listener, self._protocols
        self._listener = self._protocols = None
        if listener is None or protocols is None:
            return
        listener.close()
        await protocols.shutdown(_GRACE_S)
        await listener.wait_closed()

    async def until(self, reached: Callable[[Counters], bool]) -> None:
        """Wait until the counters satisfy a condition, looked at after every request.

        A request whose answer is slow is looked at before its wait, too.
        """
        if reached(self.counters):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((reached, future))
        await future

    def finish_all(self) -> None:
        """End everything that is queued or generating, now."""
        self.books.finish_all()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if "%" in path:
            path = unquote(path)
        try:
            return await self._route(request, path, query)
        finally:
            if self._waiters:
                self._wake()

    async def _pause(self, fault: Fault) -> None:
        self._wake()
        await asyncio.sleep(fault.seconds or 0.0)

    def _wake(self) -> None:
        self.books.advance()
        for waiter in list(self._waiters):
            reached, future = waiter
            if future.done():
                self._waiters.remove(waiter)
            elif reached(self.counters):
                future.set_result(None)
                self._waiters.remove(waiter)

    async def _route(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        if path == "/faults":
            return await self._change(request)
        if path == "/ledger" and request.method == "GET":
            return _json(self.ledger.as_json())
        if self.settings.down:
            return _page(503)
        if path.startswith("/files/"):
            return await self._file(request, path.removeprefix("/files/"), query)
        if not self._is_authorised(request):
            self.counters.unauthorised += 1
            return self._token_refused()
        if path.startswith("/v1/requests/"):
            return await self._request(request, path.removeprefix("/v1/requests/"), query)
        if path == "/v1/models" and request.method == "GET":
            return self._models(dict(parse_qsl(query)))
        if path.startswith("/v1/models/"):
            return await self._model(request, path.removeprefix("/v1/models/"))
        if path == "/prod/v2/balance" and request.method == "GET":
            return self._balance()
        return _page(404)

    # The account

    def _is_authorised(self, request: web.BaseRequest) -> bool:
        settings = self.settings
        if settings.revoke_after is not None and self.counters.accepted >= settings.revoke_after:
            return False
        if settings.token is None:
            return True
        return request.headers.get("Authorization") == f"Bearer {settings.token}"

    def _token_refused(self) -> web.Response:
        kind = {
            400: Kind.ACCOUNT_ERROR,
            401: Kind.UNAUTHORIZED,
            403: Kind.FORBIDDEN,
        }[self.settings.token_status]
        return _refusal(kind)

    def _balance(self) -> web.Response:
        if not self.settings.balance_told:
            return _page(404)
        left = self.books.wallet_micros
        return _json(
            {"balance_usd": 1_000_000.0 if left is None else left / 1_000_000, "currency": "USD"}
        )

    # Submits

    async def _model(self, request: web.BaseRequest, model: str) -> web.StreamResponse:
        if request.method == "GET":
            if self._is_known(model):
                price = self._stated_micros()
                return _json(self._catalog.entry(model, price_per_s_micros=price))
            return _refusal(Kind.MODEL_UNKNOWN)
        if request.method != "POST":
            return _page(405)
        counters = self.counters
        counters.posts += 1
        number = counters.posts
        counters.posts_at_once += 1
        counters.most_posts_at_once = max(counters.most_posts_at_once, counters.posts_at_once)
        try:
            return await self._submit(request, model, number)
        finally:
            counters.posts_at_once -= 1

    def _models(self, query: Mapping[str, str]) -> web.Response:
        price = self._stated_micros()
        try:
            page = self._catalog.page(query, self.settings.models, price_per_s_micros=price)
        except ValueError as error:
            return _refusal(Kind.INVALID, message=str(error))
        return _json(page)

    def _stated_micros(self) -> int:
        stated = self.settings.catalog_per_s_micros
        return self.settings.price_per_s_micros if stated is None else stated

    def _is_known(self, model: str) -> bool:
        known = self.settings.models
        return model != "" and (known is None or model in known)

    async def _submit(
        self, request: web.BaseRequest, model: str, number: int
    ) -> web.StreamResponse:
        try:
            inputs = json.loads(await request.read())
        except ValueError:
            inputs = None
        if not isinstance(inputs, dict):
            return self._refused(Kind.INVALID, message="The body is no JSON object")
        try:
            refusal = self._why_refused(request, model, inputs, number)
            if refusal is not None:
                self.counters.refused += 1
                return refusal
            spoilt = self.books.fault(Stage.SPOIL, number, inputs)
            entry = self.books.accept(model, inputs)
        except ValueError as error:
            return self._refused(Kind.INVALID, message=str(error))
        if spoilt is None or spoilt.kind is Kind.SLOW:
            return await self._accepted(entry, spoilt)
        self.counters.unanswered += 1
        return await self._spoilt(request, entry, spoilt)

    async def _accepted(self, entry: Entry, slow: Fault | None) -> web.Response:
        if slow is not None:
            await self._pause(slow)
        entry.answered = True
        return _json({"request_id": entry.id, **self._links(entry)})

    def _why_refused(
        self, request: web.BaseRequest, model: str, inputs: Mapping[str, Any], number: int
    ) -> web.Response | None:
        fault = self.books.fault(Stage.REFUSE, number, inputs)
        if fault is not None:
            if fault.kind in (Kind.DROP_BEFORE, Kind.CLOSE_BEFORE):
                return _cut(request, reset=fault.kind is Kind.DROP_BEFORE)
            return _refusal(fault.kind, retry_after_s=fault.seconds)
        if not self._is_known(model):
            return _refusal(Kind.MODEL_UNKNOWN)
        if self.books.is_too_fast():
            return _refusal(Kind.THROTTLE, retry_after_s=self.settings.retry_after_s)
        if self.settings.strict and (detail := self._catalog.objections(model, inputs)):
            return _refusal(Kind.INVALID, detail=detail)
        wallet = self.books.wallet_micros
        if wallet is not None and wallet < self.books.cost_micros(inputs):
            return _refusal(Kind.NO_BALANCE)
        return None

    def _refused(self, kind: Kind, *, message: str) -> web.Response:
        self.counters.refused += 1
        return _refusal(kind, message=message)

    async def _spoilt(
        self, request: web.BaseRequest, entry: Entry, fault: Fault
    ) -> web.StreamResponse:
        match fault.kind:
            case Kind.DROP_AFTER | Kind.CLOSE_AFTER:
                return _cut(request, reset=fault.kind is Kind.DROP_AFTER)
            case Kind.HALF_ANSWER:
                body = _dump({"request_id": entry.id, **self._links(entry)})
                return await _partly(
                    request, body[: len(body) // 2], stated=len(body), kind="application/json"
                )
            case Kind.GARBAGE:
                return web.Response(body=b"\x00\xff{not json", content_type="application/json")
            case Kind.NO_ID:
                return _json({"status": "accepted"})
            case _:
                return _refusal(fault.kind)

    def _links(self, entry: Entry) -> dict[str, str]:
        base = f"{self._origin}/v1/requests/{entry.id}"
        return {
            "status_url": f"{base}/status",
            "result_url": f"{base}/result",
            "cancel_url": f"{base}/cancel",
        }

    # Looks

    async def _request(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        request_id, _, what = path.partition("/")
        answer = {
            ("GET", "status"): self._status,
            ("GET", "result"): self._result,
            ("POST", "cancel"): self._cancel,
        }.get((request.method, what))
        if answer is None:
            return _page(404)
        self._count_look(what)
        entry = self.books.find(request_id)
        if entry is None:
            return _refusal(Kind.LOOK_404)
        if what == "cancel":
            return self._cancel(entry, query)
        entry.looks += 1
        fault = self.books.fault(Stage.LOOK, entry.looks, entry.inputs)
        if fault is None:
            return answer(entry, query)
        if fault.kind is Kind.LOOK_DROP:
            return _cut(request, reset=True)
        if fault.kind is Kind.LOOK_SLOW:
            await self._pause(fault)
            return answer(entry, query)
        return _refusal(fault.kind, retry_after_s=fault.seconds)

    def _count_look(self, what: str) -> None:
        match what:
            case "status":
                self.counters.status_looks += 1
            case "result":
                self.counters.result_looks += 1
            case _:
                self.counters.cancels += 1

    def _status(self, entry: Entry, _query: str) -> web.Response:
        now = self.books.advance()
        state = self._said(entry, entry.state_at(now))
        if state in ("succeeded", "failed"):
            # The documented vocabulary of this endpoint: it stopped, /result says how.
            state = "completed"
        body: dict[str, Any] = {"request_id": entry.id, "status": self._word(state)}
        body |= self._links(entry)
        if state == "in_queue":
            body["queue_position"] = self.books.queue_position(entry)
        if state in ("completed", "cancelled"):
            self.books.tell(entry, now)
        return _json(body)

    def _result(self, entry: Entry, query: str) -> web.Response:
        now = self.books.advance()
        state = self._late(entry, self._said(entry, entry.state_at(now)))
        body: dict[str, Any] = {"request_id": entry.id, "status": self._word(state)}
        body |= self._links(entry)
        if entry.model:
            body["model_id"] = entry.model
        if self.settings.echo_inputs:
            body["input"] = entry.inputs
        if self.settings.times_stated:
            body["created_at"] = self.books.utc(entry.accepted_at)
        if state not in ("succeeded", "failed", "cancelled"):
            return _json(body)
        if self.settings.times_stated:
            body["finished_at"] = self.books.utc(entry.ends_at)
        if state == "succeeded":
            body["output"] = self._output(entry)
        elif state == "failed":
            body |= self._error(entry)
        if query and self._states_cost(entry, query):
            body["cost"] = entry.cost_micros / 1_000_000
        self.books.tell(entry, now)
        return _json(body)

    def _said(self, entry: Entry, state: str) -> str:
        fault = entry.faults.get(Kind.UNKNOWN_STATE)
        if fault is not None and entry.looks <= fault.count:
            return fault.code or "warming_up"
        return state

    def _late(self, entry: Entry, state: str) -> str:
        fault = entry.faults.get(Kind.RESULT_LATE)
        if (
            fault is None
            or state not in ("succeeded", "failed")
            or entry.late_results >= fault.count
        ):
            return state
        entry.late_results += 1
        return fault.code or "in_progress"

    def _word(self, state: str) -> str:
        return _SYNONYMS.get(state, state) if self.settings.synonyms else state

    def _states_cost(self, entry: Entry, query: str) -> bool:
        if not self.settings.cost_stated or parse_qs(query).get("include_cost") != ["true"]:
            return False
        late = entry.faults.get(Kind.COST_LATE)
        if late is None or entry.costless_looks >= late.count:
            return True
        entry.costless_looks += 1
        return False

    def _error(self, entry: Entry) -> dict[str, Any]:
        code = entry.faults[Kind.GENERATION].code or "INTERNAL"
        message = f"The generation failed: {code}"
        shapes: dict[str, dict[str, Any]] = {
            "object": {"error": {"code": code, "message": message}},
            "string": {"error": f"{code}: {message}"},
            "failure_reason": {"failure_reason": message},
            "none": {},
        }
        return shapes[self.settings.error_shape]

    def _output(self, entry: Entry) -> Any:
        shape = self.settings.output
        if Kind.OUTPUT in entry.faults:
            shape = entry.faults[Kind.OUTPUT].code or shape
        urls = [self._clip_url(entry, number) for number in range(1, self.settings.outputs + 1)]
        match shape:
            case "videos":
                return {"videos": urls}
            case "string":
                return urls[0]
            case "list":
                return urls
            case "mixed":
                return {"image": f"{self._origin}/files/{entry.id}.jpg", "videos": urls}
            case "none":
                return {}
            case _:
                return {"video": urls[0]}

    def _clip_url(self, entry: Entry, number: int) -> str:
        which = "" if number == 1 else f".{number}"
        url = f"{self._origin}/files/{entry.id}{which}.mp4"
        if self.settings.link_life_s is None:
            return url
        dies_at = self.books.clock() + self.settings.link_life_s
        signature = hashlib.sha256(f"{entry.id} {number} {dies_at}".encode()).hexdigest()
        return f"{url}?X-Amz-Signature={signature}&expires={dies_at:.6f}"

    def _cancel(self, entry: Entry, _query: str) -> web.Response:
        is_cancelled = self.books.cancel(entry)
        state = entry.state_at(self.books.clock())
        body = {
            "request_id": entry.id,
            "status": "completed" if state in ("succeeded", "failed") else state,
            "outcome": "cancelled" if is_cancelled else "not_cancellable",
        }
        return _json(body, status=202)

    # Files

    async def _file(self, request: web.BaseRequest, name: str, query: str) -> web.StreamResponse:
        counters = self.counters
        counters.files_with_token += "Authorization" in request.headers
        if request.method not in ("GET", "HEAD"):
            return _page(405)
        entry = self.books.find(name.partition(".")[0])
        if entry is None or not name.endswith(".mp4"):
            return _page(404)
        if self._is_dead_link(query):
            return _page(403)
        if request.method == "HEAD":
            counters.file_heads += 1
            return await self._clip(request, name)
        counters.file_fetches += 1
        entry.fetches += 1
        fault = self.books.fault(Stage.FILE, entry.fetches, entry.inputs)
        if fault is None or (fault.kind is Kind.FILE_REDIRECT and "moved=1" in query):
            return await self._clip(request, name)
        return await self._spoilt_clip(request, name, query, fault)

    def _is_dead_link(self, query: str) -> bool:
        if self.settings.link_life_s is None:
            return False
        try:
            dies_at = float(parse_qs(query)["expires"][0])
        except (KeyError, ValueError):
            return True
        return self.books.clock() >= dies_at

    async def _clip(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        size = self.settings.clip_bytes
        total = clip_size(name, size_bytes=size)
        headers = {"Content-Type": "video/mp4", "Accept-Ranges": "bytes", "ETag": _etag(name)}
        start, stop, ranged = 0, total, False
        if request.headers.get("If-Range", _etag(name)) == _etag(name):
            # A range that makes no sense is no range (RFC 9110, section 14.2).
            with contextlib.suppress(ValueError):
                start, stop, _ = request.http_range.indices(total)
                ranged = "Range" in request.headers
        if start >= stop:
            headers["Content-Range"] = f"bytes */{total}"
            return web.Response(status=416, headers=headers)
        if ranged:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        status = 206 if ranged else 200
        parts = pieces(name, size_bytes=size, start=start, stop=stop)
        if stop - start <= _LARGEST_PLAIN_CLIP_BYTES:
            return web.Response(status=status, headers=headers, body=b"".join(parts))
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = stop - start
        await response.prepare(request)
        if request.method == "GET":
            for part in parts:
                await response.write(part)
        return response

    async def _spoilt_clip(
        self, request: web.BaseRequest, name: str, query: str, fault: Fault
    ) -> web.StreamResponse:
        body = b"".join(pieces(name, size_bytes=self.settings.clip_bytes))
        half = body[: len(body) // 2]
        match fault.kind:
            case Kind.FILE_EMPTY:
                return web.Response(body=b"", content_type="video/mp4")
            case Kind.FILE_WRONG_LENGTH:
                return web.Response(body=half, content_type="video/mp4")
            case Kind.FILE_TRUNCATED:
                return await _partly(
                    request, half, stated=len(body), kind="video/mp4", etag=_etag(name)
                )
            case Kind.FILE_CHANGED:
                old = b"".join(pieces(f"old-{name}", size_bytes=len(body)))
                return await _partly(
                    request, old[: len(half)], stated=len(old), kind="video/mp4", etag=_etag("old")
                )
            case Kind.FILE_NO_LENGTH:
                return await _slowly(request, body, stated=None, seconds=0.0)
            case Kind.FILE_SLOW:
                seconds = fault.seconds or 0.0
                return await _slowly(request, body, stated=len(body), seconds=seconds)
            case Kind.FILE_REDIRECT:
                origin = f"http://{fault.code}:{self._port}" if fault.code else self._origin
                signed = f"{query}&" if query else ""  # else a link that dies would be dead
                headers = {"Location": f"{origin}/files/{name}?{signed}moved=1"}
                return web.Response(status=302, headers=headers)
            case Kind.FILE_DROP:
                return _cut(request, reset=True)
            case _:
                return _refusal(fault.kind)

    # Faults

    async def _change(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return _json(as_json(self.settings))
        if request.method != "POST":
            return _page(405)
        try:
            changes = json.loads(await request.read())
            if not isinstance(changes, dict):
                raise ValueError("the body is no JSON object")  # noqa: TRY004, TRY301 - one answer
            away_s = changes.pop("refuse_for_s", 0)
            settings = changed(self.settings, changes)
            if not isinstance(away_s, int | float) or not 0 <= away_s < math.inf:
                raise ValueError(f"refuse_for_s: {away_s!r} is no time")  # noqa: TRY301
        except ValueError as error:
            return _json({"message": str(error)}, status=400)
        self.settings = settings
        if away_s:
            self._comeback = asyncio.create_task(self._go_away(away_s))
        return _json(as_json(settings))

    async def _go_away(self, seconds: float) -> None:
        # The answer that announces it goes out first.
        await asyncio.sleep(0.05)
        await self.down()
        await asyncio.sleep(seconds)
        await self.up()


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: Any,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    return web.BaseRequest(
        message,
        payload,
        protocol,
        writer,
        task,
        asyncio.get_running_loop(),
        client_max_size=_LARGEST_BODY_BYTES,
    )


def _dump(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _json(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=_dump(body), headers={"Content-Type": "application/json"}
    )


def _page(status: int) -> web.Response:
    text = _PAGE.format(f"{status} Service says so")
    return web.Response(status=status, text=text, content_type="text/html")


def _refusal(
    kind: Kind,
    *,
    retry_after_s: float | None = None,
    message: str | None = None,
    detail: list[dict[str, Any]] | None = None,
) -> web.Response:
    if kind in _PAGES:
        return _page(_PAGES[kind])
    status, code, text = _REFUSALS[kind]
    body: dict[str, Any] = {"message": message or text}
    if code is not None:
        body["error_code"] = code
    if detail is not None:
        body["detail"] = detail
    response = _json(body, status=status)
    if retry_after_s is not None and status == 429:
        response.headers["Retry-After"] = str(math.ceil(retry_after_s))
    return response


def _cut(request: web.BaseRequest, *, reset: bool) -> web.Response:
    """Cut the connection; the response is never seen."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if reset and connection is not None:
            # Linger on, for no time: the kernel sends RST instead of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)


def _etag(name: str) -> str:
    return f'"{name}"'


async def _partly(
    request: web.BaseRequest, body: bytes, *, stated: int, kind: str, etag: str = ""
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": kind})
    if etag:
        response.headers["ETag"] = etag
    response.content_length = stated
    await response.prepare(request)
    await response.write(body)
    if request.transport is not None:
        request.transport.close()
    return response


async def _slowly(
    request: web.BaseRequest, body: bytes, *, stated: int | None, seconds: float
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "video/mp4"})
    if stated is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = stated
    await response.prepare(request)
    size = max(1, math.ceil(len(body) / 10))
    for at in range(0, len(body), size):
        await response.write(body[at : at + size])
        if seconds:
            await asyncio.sleep(seconds / 10)
    return response
