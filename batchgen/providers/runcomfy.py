"""RunComfy's Model API: send, look, cancel, balance.

What the service documents, and what its own clients defend against, decides every mapping here;
an answer that fits neither is kept and, on a paid request, in doubt.
"""

import ipaddress
import json
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

import httpx

from batchgen.domain.errors import (
    AccountBlocked,
    Exit,
    Misrouted,
    ModelBlocked,
    OutcomeUnknown,
    ProviderError,
    Rejected,
    RequestLost,
    Throttled,
    Unavailable,
    Unsent,
    UsageError,
)
from batchgen.domain.models import Entry, read_entry
from batchgen.domain.prices import PRICE_UNITS, UnitPrice
from batchgen.domain.redaction import redact_text, redact_url, secret_pattern, unsigned_answer
from batchgen.http import (
    CONNECT_S,
    GET_S,
    POST_S,
    USER_AGENT,
    Answer,
    Client,
    Request,
    encoded,
    exchange,
    explain,
    is_unsent,
    origin_of,
    poll_client,
    retry_after_s,
    submit_client,
)
from batchgen.providers.interface import Accepted, CatalogPage, Greeting, Look, Phase

log = logging.getLogger(__name__)

DEFAULT_BASE = "https://model-api.runcomfy.net/v1"
BALANCE_URL = "https://api.runcomfy.net/prod/v2/balance"
LONGEST_BODY = 4 * 1024 * 1024
LONGEST_WORD = 100  # of a state or code that the service names
LONGEST_TEXT = 1000  # of a message for people; the raw answer is kept beside it

_TOKEN_CODES = frozenset({"400004", "401001", "403001"})
_BALANCE_CODE = "400002"
_MODEL_CODE = "400001"
_LOST_CODE = "404001"
_REFUSALS = _TOKEN_CODES | {_BALANCE_CODE, _MODEL_CODE, _LOST_CODE, "403003", "422001"}
"""The documented 4xx codes: under a 2xx without an id, these alone prove that nothing was taken."""

_PHASES = {
    "in_queue": Phase.QUEUED,
    "queued": Phase.QUEUED,
    "pending": Phase.QUEUED,
    "waiting": Phase.QUEUED,
    "throttled": Phase.QUEUED,
    "in_progress": Phase.IN_PROGRESS,
    "processing": Phase.IN_PROGRESS,
    "running": Phase.IN_PROGRESS,
    "starting": Phase.IN_PROGRESS,
    "succeeded": Phase.SUCCEEDED,
    "completed": Phase.SUCCEEDED,
    "failed": Phase.FAILED,
    "cancelled": Phase.CANCELLED,
    "canceled": Phase.CANCELLED,
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MODEL_ID = re.compile(r"[A-Za-z0-9._~:@+,=-]+(/[A-Za-z0-9._~:@+,=-]+)*")
_TOKEN = re.compile(r"[\x21-\x7e]+")
# Runway's failure codes: SAFETY.INPUT.TEXT, INTERNAL.BAD_OUTPUT.CODE01; INTERNAL alone, but not as
# the first word of a sentence: it would be retried, and paid.
_FAILURE_CODE = re.compile(r"(INTERNAL(?=$|:)|[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)+(?=$|[:\s]))")
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_FAILURE_CODES = ("failureCode", "failure_code", "error_code", "code")
_FAILURE_TEXTS = ("error", "failure_reason", "failure", "error_message")
_MOST_MICROS = 10**15  # a thousand million dollars: more is no price
_DEEPEST_OUTPUT = 8
_NO_REQUEST = "00000000-0000-0000-0000-000000000000"


class RunComfy:
    """RunComfy's Model API as a `Provider`.

    Args:
        base: Where the API is, version included. Plain http only for loopback.
        token: The account's token; it goes to this API and its balance page only.
        connections: How many connections for looks.
        connect_s: Longest wait for a connection.
        post_s: Longest time for a paid request.
        get_s: Longest time for a look.

    Raises:
        UsageError: If the base cannot be one.
        AccountBlocked: If the token cannot be one.
    """

    name = "runcomfy"

    def __init__(
        self,
        *,
        base: str = DEFAULT_BASE,
        token: str,
        connections: int = 200,
        connect_s: float = CONNECT_S,
        post_s: float = POST_S,
        get_s: float = GET_S,
    ) -> None:
        self._base = checked_base(base)
        self._root = encoded(self._base)
        self.origin = origin_of(self._base)
        self.use_token(token)
        self._post_s = post_s
        self._get_s = get_s
        tls = self.origin.startswith("https:")
        self._sender = submit_client(connect_s=connect_s, total_s=post_s, tls=tls)
        self._reader = poll_client(
            connections=connections, connect_s=connect_s, total_s=get_s, tls=tls
        )

    def use_token(self, token: str) -> None:
        """Send this token from now on.

        Raises:
            AccountBlocked: If it cannot be one.
        """
        if not _TOKEN.fullmatch(token):
            raise AccountBlocked(
                "the RunComfy token is empty or holds spaces or other characters that no token has",
                exit_code=Exit.TOKEN,
            )
        self._token = token
        self._secret = secret_pattern(token)
        self._read_headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        self._send_headers = {**self._read_headers, "Content-Type": "application/json"}

    def __repr__(self) -> str:
        return f"RunComfy(base={self._base!r})"

    async def submit(self, model: str, inputs: Mapping[str, Any]) -> Accepted:
        """Send the paid request once; see `Provider.submit`."""
        request = self._paid_request(model, inputs)
        if self._sender.is_closed:
            raise Unsent("not sent: the connections have been closed")
        try:
            answer = await exchange(
                self._sender, request, total_s=self._post_s, limit_bytes=LONGEST_BODY
            )
        except Exception as error:  # noqa: BLE001 - whatever is not provably unsent is in doubt
            failure = self._unanswered(error)
        else:
            return self._accepted(answer)
        # Raised here, not above: nothing that may hold the request's headers is chained to it.
        raise failure

    async def poll(self, model: str, request_id: str) -> Look:
        """Look at a request once, at its result; the id alone names it.

        `completed` counts as success, as in RunComfy's own clients, unless the result carries an
        error and no output: the word only means "stopped" on the service's other endpoint.
        """
        answer = await self._read(f"{_request_path(request_id)}/result?include_cost=true")
        payload, raw = self._known(answer)
        return self._look(payload, raw)

    async def queue_position(self, request_id: str) -> int | None:
        """Return the position in the queue, None if not queued or not stated."""
        answer = await self._read(f"{_request_path(request_id)}/status")
        payload, _ = self._known(answer)
        queued = _PHASES.get(_word(payload)) is Phase.QUEUED
        return _count(payload.get("queue_position")) if queued else None

    async def cancel(self, request_id: str) -> bool:
        """Ask for a cancellation; only a queued request can be cancelled."""
        url = f"{self._root}{_request_path(request_id)}/cancel"
        request = Request("POST", url, self._read_headers)
        answer = await self._free(self._sender, request)
        payload, _ = self._known(answer, told="outcome")
        return str(payload["outcome"]).strip().lower() in ("cancelled", "canceled")

    async def balance_micros(self) -> int:
        """Return the wallet's balance in micro-dollars."""
        request = Request("GET", encoded(balance_url(self._base)), self._read_headers)
        payload, raw = self._known(await self._free(self._reader, request), told="balance_usd")
        micros = _micros(payload.get("balance_usd"))
        if micros is None:
            raise Unavailable("the answer holds no balance_usd that is an amount", raw=raw)
        return micros

    async def greet(self, *, with_token: bool) -> Greeting:
        """Ask for the balance once, and say what came back; see `Greeter.greet`."""
        headers = dict(self._read_headers)
        if not with_token:
            del headers["Authorization"]
        request = Request("GET", encoded(balance_url(self._base)), headers)
        answer = await self._free(self._reader, request)
        at = _date(answer.headers.get("date"))
        try:
            payload, raw = self._known(answer, told="balance_usd")
            micros = _micros(payload.get("balance_usd"))
            if micros is None:
                raise Unavailable("the answer holds no balance_usd that is an amount", raw=raw)
        except ProviderError as error:
            return Greeting(at, trouble=error)
        return Greeting(at, micros)

    async def price(self, model: str) -> UnitPrice | None:
        """Return the catalog's price of a model; a base price only, where settings change it."""
        answer = await self._read(f"/models/{_model_path(model)}")
        payload, _ = self._known(answer, told="base_price_usd")
        micros = _micros(payload.get("base_price_usd"))
        unit = payload.get("price_unit")
        if not micros or unit not in PRICE_UNITS:
            return None
        return UnitPrice(micros, unit)

    async def entry(self, model: str) -> Entry:
        """Return what the catalog says of one model."""
        answer = await self._read(f"/models/{_model_path(model)}")
        try:
            payload, raw = self._known(answer, told="model_id")
        except (RequestLost, Unavailable) as error:
            if error.code not in (_MODEL_CODE, _LOST_CODE):
                raise
            raise ModelBlocked(
                f"the service knows no model {model}", status=error.status, code=error.code
            ) from error
        try:
            found = read_entry(payload)
        except ValueError as error:
            raise ModelBlocked(f"what the service says of {model} {error}", raw=raw) from error
        if found.id != model:
            raise ModelBlocked(f"asked for {model}, the service told of {found.id}", raw=raw)
        return found

    async def entries(self, *, search: str | None, limit: int, offset: int) -> CatalogPage:
        """Return a page of the catalog, input schemas included."""
        query = {"include_schema": "true", "limit": limit, "offset": offset}
        if search:
            query["search"] = search
        payload, _ = self._known(await self._read(f"/models?{urlencode(query)}"), told="models")
        found, refused = [], []
        for said in payload["models"]:
            try:
                found.append(read_entry(said))
            except ValueError as error:
                name = said.get("model_id") if isinstance(said, Mapping) else None
                refused.append((self._word(name if isinstance(name, str) else "?"), str(error)))
        seen = len(payload["models"])
        return CatalogPage(tuple(found), tuple(refused), seen, _count(payload.get("total")))

    async def is_reachable(self) -> bool:
        """Ask for a request that cannot exist; return whether the service itself answered.

        A page of HTML or a 5xx comes from something before it.
        """
        url = f"{self._root}/requests/{_NO_REQUEST}/status"
        request = Request("GET", url, self._read_headers)
        try:
            answer = await self._free(self._reader, request)
        except ProviderError as error:
            log.debug("the service cannot be reached: %s", error)
            return False
        return answer.status < 500 and not answer.body.lstrip().startswith(b"<")

    async def close(self) -> None:
        """Close every connection."""
        await self._sender.aclose()
        await self._reader.aclose()

    # -- sending ---------------------------------------------------------------------------------

    def _paid_request(self, model: str, inputs: Mapping[str, Any]) -> Request:
        path = _model_path(model)
        try:
            body = json.dumps(
                dict(inputs), ensure_ascii=False, separators=(",", ":"), allow_nan=False
            ).encode()
        except (TypeError, ValueError) as error:
            raise Rejected(f"the inputs cannot be sent as JSON: {error}") from error
        return Request("POST", f"{self._root}/models/{path}", self._send_headers, body)

    def _unanswered(self, error: Exception) -> ProviderError:
        said = self._clean(explain(error))
        if is_unsent(error):
            return Unsent(f"not sent: {said}")
        return OutcomeUnknown(f"sent, but no answer came: {said}")

    def _accepted(self, answer: Answer) -> Accepted:
        raw = self._raw(answer)
        if answer.broken is not None:
            said = self._clean(explain(answer.broken))
            raise OutcomeUnknown(f"only half an answer: {said}", status=answer.status, raw=raw)
        payload = _object(_text(answer))
        if 400 <= answer.status < 500 and answer.status != 408:
            self._refused(answer, payload, raw)
        if not 200 <= answer.status < 300:
            raise OutcomeUnknown(
                self._message(answer, payload),
                status=answer.status,
                code=self._code(payload),
                raw=raw,
            )
        request_id = payload.get("request_id")
        if isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id):
            return Accepted(request_id=request_id, raw=raw)
        if _code(payload) in _REFUSALS and not _names_a_request(payload):
            self._refused(answer, payload, raw)
        raise OutcomeUnknown(
            f"no request id that could be used: {self._message(answer, payload)}",
            status=answer.status,
            code=self._code(payload),
            raw=raw,
        )

    def _refused(self, answer: Answer, payload: Mapping[str, Any], raw: str) -> NoReturn:
        status, code = answer.status, self._code(payload)
        message = self._message(answer, payload)
        if code == _BALANCE_CODE or status == 402:
            raise AccountBlocked(
                message, exit_code=Exit.NO_BALANCE, status=status, code=code, raw=raw
            )
        if code in _TOKEN_CODES or status == 401:
            raise AccountBlocked(message, exit_code=Exit.TOKEN, status=status, code=code, raw=raw)
        if status == 429:
            raise self._throttled(answer, message, code, raw)
        if code == _MODEL_CODE:
            raise ModelBlocked(message, status=status, code=code, raw=raw)
        kind = Misrouted if code is None else Rejected
        raise kind(message, status=status, code=code, raw=raw)

    # -- reading ---------------------------------------------------------------------------------

    async def _read(self, path: str) -> Answer:
        request = Request("GET", self._root + path, self._read_headers)
        return await self._free(self._reader, request)

    async def _free(self, client: Client, request: Request) -> Answer:
        try:
            return await exchange(client, request, total_s=self._get_s, limit_bytes=LONGEST_BODY)
        except Exception as error:  # noqa: BLE001 - it costs nothing: whatever it was, ask again
            said = self._clean(explain(error))
        raise Unavailable(f"no answer: {said}")

    def _known(self, answer: Answer, *, told: str = "status") -> tuple[Mapping[str, Any], str]:
        """Return the payload of an answer that tells something; raise what any other one means."""
        raw = self._raw(answer)
        if answer.broken is not None:
            said = self._clean(explain(answer.broken))
            raise Unavailable(f"only half an answer: {said}", status=answer.status, raw=raw)
        payload = _object(_text(answer))
        status, code = answer.status, self._code(payload)
        fine = 200 <= status < 300
        if fine and (code is None or _is_state(payload, code)):
            value = payload.get(told)
            is_text = isinstance(value, str) and bool(value.strip())
            if told.endswith("_usd") or is_text or (told == "models" and isinstance(value, list)):
                return payload, raw
            raise Unavailable(
                f"the answer holds no {told}: {self._message(answer, payload)}",
                status=status,
                raw=raw,
            )
        message = self._message(answer, payload)
        if status == 429:
            raise self._throttled(answer, message, code, raw)
        if fine or 400 <= status < 500:
            if code in _TOKEN_CODES or status == 401:
                raise AccountBlocked(
                    message, exit_code=Exit.TOKEN, status=status, code=code, raw=raw
                )
            if code == _LOST_CODE:
                raise RequestLost(message, status=status, code=code, raw=raw)
        raise Unavailable(message, status=status, code=code, raw=raw)

    def _look(self, payload: Mapping[str, Any], raw: str) -> Look:
        word = _word(payload)
        phase = _PHASES.get(word, Phase.IN_PROGRESS)
        urls = tuple(_output_urls(payload)) if phase is Phase.SUCCEEDED else ()
        if word == "completed" and not urls and _has_failed(payload):
            phase = Phase.FAILED
        failed = phase is Phase.FAILED
        error_code, error_text = _failure(payload) if failed else (None, None)
        return Look(
            phase=phase,
            remote_state=self._word(word),
            raw=raw,
            known_word=word in _PHASES,
            queue_position=(
                _count(payload.get("queue_position")) if phase is Phase.QUEUED else None
            ),
            # A link that held the token would carry it to the job database and a file host.
            output_urls=tuple(map(self._clean, urls)),
            cost_micros=_micros(payload.get("cost")),
            created_at=_time(payload.get("created_at")),
            finished_at=_time(payload.get("finished_at")),
            error_code=self._word(error_code) if error_code else None,
            error_text=self._clean(_one_line(error_text)) if error_text else None,
            echoed_inputs=_echo(payload),
        )

    # -- texts -----------------------------------------------------------------------------------

    def _raw(self, answer: Answer) -> str:
        """Return an answer as it is kept: with links to clips, without those to input files."""
        text = _text(answer)
        return self._clean(unsigned_answer(text, lambda: set(_output_urls(_object(text)))))

    def _code(self, payload: Mapping[str, Any]) -> str | None:
        code = _code(payload)
        return self._word(code) if code else None

    def _word(self, text: str) -> str:
        """Return what the service calls something, short and without secrets."""
        return self._clean(redact_text(text))[:LONGEST_WORD]

    def _clean(self, text: str) -> str:
        # A short one's pattern is slow, and hardly any answer holds it.
        return self._secret.sub("[token]", text) if self._token in text else text

    def _throttled(self, answer: Answer, message: str, code: str | None, raw: str) -> Throttled:
        return Throttled(
            message,
            retry_after_s=retry_after_s(answer.headers.get("retry-after")),
            status=answer.status,
            code=code,
            raw=raw,
        )

    def _message(self, answer: Answer, payload: Mapping[str, Any]) -> str:
        code = self._code(payload)
        said = _one_line(_said(payload) or ("" if payload else "the answer is no JSON object"))
        head = f"HTTP {answer.status}" + (f", code {code}" if code else "")
        return self._clean(f"{head}: {said}" if said else head)


def _date(said: str | None) -> datetime | None:
    """Return when a Date header says that it was, None if it says nothing that parses."""
    try:
        at = parsedate_to_datetime(said or "")
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def balance_url(base: str) -> str:
    """Return where the wallet of a base is read: RunComfy's own page, or a stand-in's."""
    if origin_of(base) == origin_of(DEFAULT_BASE):
        return BALANCE_URL
    return origin_of(base) + urlsplit(BALANCE_URL).path


def is_loopback_base(base: str) -> bool:
    """Return whether the API is a stand-in on this machine."""
    return _is_loopback(urlsplit(base).hostname or "")


def checked_base(base: str) -> str:
    """Return the base without a trailing slash.

    Raises:
        UsageError: If it is no base that a token may be sent to.
    """
    shown = redact_url(base)
    try:
        parts = urlsplit(base.strip())
        host = parts.hostname or ""
        origin_of(base.strip())
        httpx.URL(base.strip())
        host.encode("idna")
    except (ValueError, httpx.InvalidURL) as error:
        raise UsageError(f"the API base {shown!r} is not an http(s) URL with a host") from error
    if any(one.isspace() for one in base.strip()):
        raise UsageError(f"the API base {shown!r} must not hold a space")
    if "@" in parts.netloc:
        raise UsageError(f"the API base {shown!r} must not hold a user name or password")
    if parts.query or parts.fragment or "?" in base or "#" in base:
        raise UsageError(f"the API base {shown!r} must not hold a query or fragment")
    if parts.scheme == "http" and not _is_loopback(host):
        raise UsageError(f"the API base {shown!r} must be https: the token would travel in clear")
    return base.strip().rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _model_path(model: str) -> str:
    if not _MODEL_ID.fullmatch(model) or any(part in (".", "..") for part in model.split("/")):
        raise ModelBlocked(f"{model!r} cannot be a RunComfy model id: nothing was sent")
    return model


def _request_path(request_id: str) -> str:
    if not _REQUEST_ID.fullmatch(request_id):
        raise RequestLost(f"{request_id[:140]!r} cannot be a RunComfy request id")
    return f"/requests/{request_id}"


# -- what a payload says -------------------------------------------------------------------------


def _text(answer: Answer) -> str:
    # NUL is no character that every job database can store.
    return answer.body.decode("utf-8", "replace").replace("\0", "\ufffd")


def _object(raw: str) -> Mapping[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    try:
        payload = json.loads(raw)
        # Escapes make what UTF-8 cannot hold and what steers a terminal.
        if "\\u" in raw or not raw.isprintable():
            payload = _fit(payload)
    except (ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _fit(value: Any) -> Any:
    """Return parsed JSON whose texts can be stored, sent and shown."""
    if isinstance(value, str):
        return _UNFIT.sub("\ufffd", value)
    if isinstance(value, list):
        return [_fit(part) for part in value]
    if isinstance(value, dict):
        return {name: _fit(part) for name, part in value.items()}
    return value


def _code(payload: Mapping[str, Any]) -> str | None:
    places: list[Any] = [payload.get("error_code"), payload.get("code")]
    for name in ("error", "detail"):
        nested = payload.get(name)
        if isinstance(nested, Mapping):
            places += [nested.get("error_code"), nested.get("code")]
    return next((code for code in map(_code_text, places) if code), None)


def _code_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip() if isinstance(value, int | str) else ""
    return text if text.strip("0") else None


def _is_state(payload: Mapping[str, Any], code: str) -> bool:
    """Return whether an answer with a code is a request's state, not the refusal of the look."""
    known, own = _word(payload) in _PHASES, bool(payload.get("request_id"))
    return known and own if code in _REFUSALS else known or own


def _names_a_request(payload: Mapping[str, Any]) -> bool:
    return any(
        payload.get(name) for name in ("request_id", "status_url", "result_url", "cancel_url")
    )


def _said(payload: Mapping[str, Any]) -> str:
    for name in ("error_message", "message", "error", "detail"):
        value = payload.get(name)
        if isinstance(value, Mapping):
            value = _said(value)
        elif isinstance(value, list):
            value = "; ".join(_detail(item) for item in value)
        if isinstance(value, str) and value.strip():
            return value
    return ""


def _detail(item: Any) -> str:
    """Return one entry of a validation answer: `body.duration: must be 5 or 10`."""
    if not isinstance(item, Mapping):
        return str(item)
    place = item.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    said = str(item.get("msg") or item.get("message") or "")
    return f"{where}: {said}" if where else said


def _one_line(text: str) -> str:
    return redact_text(" ".join(text[: 4 * LONGEST_TEXT].split()))[:LONGEST_TEXT]


def _word(payload: Mapping[str, Any]) -> str:
    value = payload.get("status")
    return re.sub(r"[\s-]+", "_", value.strip().lower()) if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _micros(value: Any) -> int | None:
    """Return dollars as integer micro-dollars, rounded half up; None for what is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        micros = Decimal(str(value).strip()) * 1_000_000
    except (ArithmeticError, ValueError):
        return None
    if not micros.is_finite() or not 0 <= micros < _MOST_MICROS:
        return None
    return int(micros.to_integral_value(ROUND_HALF_UP))


def _time(value: Any) -> datetime | None:
    """Return ISO 8601 or a Unix time in seconds or milliseconds; without a zone it is UTC."""
    try:
        if isinstance(value, str) and not re.fullmatch(r"\d+(\.\d+)?", value.strip()):
            at = datetime.fromisoformat(value.strip())
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        elif isinstance(value, int | float | str) and not isinstance(value, bool):
            seconds = float(value)
            at = datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return at if 2000 <= at.year < 2100 else None


def _output_urls(payload: Mapping[str, Any]) -> Iterator[str]:
    output = payload.get("output")
    found = list(_urls(payload.get("outputs") if output is None else output, _DEEPEST_OUTPUT))
    seen: set[str] = set()
    for url in found:
        if url not in seen:
            seen.add(url)
            yield url


def _urls(value: Any, depth: int) -> Iterator[str]:
    if depth == 0:
        return
    if isinstance(value, str):
        if _is_link(value.strip()):
            yield value.strip()
    elif isinstance(value, list):
        for item in value:
            yield from _urls(item, depth - 1)
    elif isinstance(value, Mapping):
        for name in ("video", "videos", "url", "image", "images"):
            yield from _urls(value.get(name), depth - 1)


def _is_link(text: str) -> bool:
    try:
        origin_of(text)
    except ValueError:
        return False
    return True


def _failure(payload: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the code and the text of a failed generation, as far as they can be found."""
    codes = _failure_codes(payload)
    text: str | None = None
    for name in _FAILURE_TEXTS:
        value = payload.get(name)
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _object(value) or value
        if isinstance(value, Mapping):
            codes += _failure_codes(value)
            value = _said(value) or _first_text(value, "failure_reason", "failure", "reason")
        if isinstance(value, str) and value.strip():
            text = text or value
            stated = _FAILURE_CODE.match(value.strip())
            codes += [stated.group(1)] if stated else []
    code = min(codes, key=_rank, default=None)
    return code, text or _said(payload) or code


def _failure_codes(payload: Mapping[str, Any]) -> list[str]:
    codes = (_code_text(payload.get(name)) for name in _FAILURE_CODES)
    return [code for code in codes if code]


def _rank(code: str) -> int:
    """Return the order in which codes count: moderation is never hidden by another one."""
    if "SAFETY" in code:
        return 0
    return 1 if _FAILURE_CODE.fullmatch(code) else 2


def _has_failed(payload: Mapping[str, Any]) -> bool:
    return any(payload.get(name) for name in (*_FAILURE_TEXTS, *_FAILURE_CODES[:3]))


def _first_text(payload: Mapping[str, Any], *names: str) -> str | None:
    values = (payload.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value.strip()), None)


def _echo(payload: Mapping[str, Any]) -> Mapping[str, Any] | None:
    values = (payload.get(name) for name in ("input", "inputs"))
    return next((value for value in values if isinstance(value, Mapping)), None)
