import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import pytest

from batchgen import providers
from batchgen.domain.errors import (
    AccountBlocked,
    Exit,
    ModelBlocked,
    ProviderError,
    RequestLost,
    Throttled,
    Unavailable,
    UsageError,
)
from batchgen.domain.prices import UnitPrice
from batchgen.providers.interface import Look, Phase, Provider
from batchgen.providers.runcomfy import DEFAULT_BASE, RunComfy, balance_url

T = TypeVar("T")

TOKEN = "secret-token-Kj3"
VIDEO = "https://cdn.test/a.mp4"
OTHER = "https://cdn.test/b.mp4"
IMAGE = "https://cdn.test/a.png"


class Service(ThreadingHTTPServer):
    """Answers every request with the same thing and keeps what it was asked."""

    def __init__(self, status: int, body: Any, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.headers = headers
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def service(body: Any, *, status: int = 200, **headers: str) -> Iterator[Service]:
    with Service(status, body, headers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server_base: str, question: Callable[[RunComfy], Awaitable[T]]) -> T:
    async def asking() -> T:
        provider = RunComfy(base=server_base, token=TOKEN, connect_s=5, get_s=5)
        try:
            return await question(provider)
        finally:
            await provider.close()

    return asyncio.run(asking())


def look(body: Any) -> Look:
    with service(body) as server:
        return ask(server.base, lambda provider: provider.poll("m/x", "r1"))


# -- looks -----------------------------------------------------------------------------------


def test_poll_asks_the_result_with_its_cost() -> None:
    with service({"status": "in_queue"}) as server:
        ask(server.base, lambda provider: provider.poll("m/x", "r1"))
    assert server.asked == [
        ("GET", "/v1/requests/r1/result?include_cost=true", f"Bearer {TOKEN}"),
    ]


@pytest.mark.parametrize(
    ("said", "phase", "word", "known"),
    [
        ("in_queue", Phase.QUEUED, "in_queue", True),
        ("IN_QUEUE", Phase.QUEUED, "in_queue", True),
        ("in-queue", Phase.QUEUED, "in_queue", True),
        ("pending", Phase.QUEUED, "pending", True),
        ("waiting", Phase.QUEUED, "waiting", True),
        ("THROTTLED", Phase.QUEUED, "throttled", True),
        ("in_progress", Phase.IN_PROGRESS, "in_progress", True),
        ("In Progress", Phase.IN_PROGRESS, "in_progress", True),
        ("starting", Phase.IN_PROGRESS, "starting", True),
        ("processing", Phase.IN_PROGRESS, "processing", True),
        ("succeeded", Phase.SUCCEEDED, "succeeded", True),
        (" Completed ", Phase.SUCCEEDED, "completed", True),
        ("failed", Phase.FAILED, "failed", True),
        ("cancelled", Phase.CANCELLED, "cancelled", True),
        ("canceled", Phase.CANCELLED, "canceled", True),
        ("polishing", Phase.IN_PROGRESS, "polishing", False),
        ("error", Phase.IN_PROGRESS, "error", False),
    ],
)
def test_words(said: str, phase: Phase, word: str, known: bool) -> None:
    found = look({"status": said})
    assert (found.phase, found.remote_state, found.known_word) == (phase, word, known)


OUTPUTS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "text": (VIDEO, (VIDEO,)),
    "padded text": (f" {VIDEO}\n", (VIDEO,)),
    "list": ([VIDEO, OTHER], (VIDEO, OTHER)),
    "video": ({"video": VIDEO}, (VIDEO,)),
    "videos": ({"videos": [VIDEO, OTHER]}, (VIDEO, OTHER)),
    "image": ({"image": IMAGE}, (IMAGE,)),
    "images": ({"images": [IMAGE]}, (IMAGE,)),
    "video before image": ({"image": IMAGE, "videos": [VIDEO]}, (VIDEO, IMAGE)),
    "duplicates": ({"video": VIDEO, "videos": [VIDEO, OTHER, VIDEO]}, (VIDEO, OTHER)),
    "nested lists": ({"videos": [[VIDEO], [[OTHER]]]}, (VIDEO, OTHER)),
    "objects": ({"videos": [{"url": VIDEO}]}, (VIDEO,)),
    "echo beside": ({"video": VIDEO, "prompt_image": IMAGE}, (VIDEO,)),
    "no links": ({"videos": ["ftp://x/y", "/path", "", None, 5, "https://"]}, ()),
    "nothing": (None, ()),
    "bottomless": (json.loads("[" * 40 + json.dumps(VIDEO) + "]" * 40), ()),
}


@pytest.mark.parametrize(("output", "urls"), OUTPUTS.values(), ids=OUTPUTS)
def test_output_shapes(output: Any, urls: tuple[str, ...]) -> None:
    found = look({"status": "succeeded", "output": output})
    assert found.phase is Phase.SUCCEEDED
    assert found.output_urls == urls


def test_links_outside_the_output_are_not_output() -> None:
    body = {
        "status": "succeeded",
        "result_url": OTHER,
        "input": {"promptImage": IMAGE},
        "output": {"video": VIDEO},
        "outputs": [{"url": OTHER}],
    }
    found = look(body)
    assert found.output_urls == (VIDEO,)
    assert found.echoed_inputs == {"promptImage": IMAGE}


def test_outputs_count_where_there_is_no_output() -> None:
    assert look({"status": "succeeded", "outputs": [{"url": VIDEO}]}).output_urls == (VIDEO,)


def test_unfinished_request_has_no_output() -> None:
    assert look({"status": "in_progress", "output": VIDEO}).output_urls == ()


COSTS: dict[str, tuple[Any, int | None]] = {
    "float": (0.25, 250_000),
    "not binary": (0.1, 100_000),
    "half up": (0.0000005, 1),
    "below half": (0.00000049, 0),
    "text": ("0.35", 350_000),
    "whole": (2, 2_000_000),
    "zero": (0, 0),
    "negative": (-1, None),
    "boolean": (True, None),
    "not a number": (float("nan"), None),
    "endless": (float("inf"), None),
    "huge": (1e300, None),
    "beyond decimal": ("1e9999999", None),
    "words": ("free", None),
    "object": ({"usd": 1}, None),
    "missing": (None, None),
}


@pytest.mark.parametrize(("cost", "micros"), COSTS.values(), ids=COSTS)
def test_costs(cost: Any, micros: int | None) -> None:
    assert look({"status": "succeeded", "output": VIDEO, "cost": cost}).cost_micros == micros


NOON = datetime(2026, 9, 1, 12, tzinfo=UTC)
TIMES: dict[str, tuple[Any, datetime | None]] = {
    "Z": ("2026-09-01T12:00:00Z", NOON),
    "offset": ("2026-09-01T14:00:00+02:00", NOON),
    "no zone": ("2026-09-01T12:00:00", NOON),
    "space": ("2026-09-01 12:00:00.000", NOON),
    "seconds": (NOON.timestamp(), NOON),
    "whole seconds": (int(NOON.timestamp()), NOON),
    "milliseconds": (int(NOON.timestamp() * 1000), NOON),
    "text of seconds": (str(int(NOON.timestamp())), NOON),
    "boolean": (True, None),
    "zero": (0, None),
    "words": ("yesterday", None),
    "huge": (1e30, None),
    "not a number": (float("nan"), None),
    "list": ([1], None),
}


@pytest.mark.parametrize(("said", "at"), TIMES.values(), ids=TIMES)
def test_times(said: Any, at: datetime | None) -> None:
    found = look({"status": "succeeded", "created_at": said, "finished_at": said})
    assert (found.created_at, found.finished_at) == (at, at)


SAFETY = "SAFETY.INPUT.TEXT"
FAILURES: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "bare": ({}, None, None),
    "text": ({"error": "it broke\n badly"}, None, "it broke badly"),
    "a code as text": ({"error": SAFETY}, SAFETY, SAFETY),
    "a code before text": ({"error": f"{SAFETY}: no"}, SAFETY, f"{SAFETY}: no"),
    "a sentence": ({"error": "INTERNAL server error"}, None, "INTERNAL server error"),
    "object": ({"error": {"code": SAFETY, "message": "no"}}, SAFETY, "no"),
    "failureCode within": ({"error": {"failureCode": "INTERNAL"}}, "INTERNAL", "INTERNAL"),
    "failure_code within": ({"error": {"failure_code": SAFETY, "reason": "r"}}, SAFETY, "r"),
    "JSON as text": ({"error": '{"code": "INTERNAL", "message": "m"}'}, "INTERNAL", "m"),
    "failure_reason": ({"failure_reason": "why"}, None, "why"),
    "failureCode": ({"failureCode": SAFETY, "failure": "no"}, SAFETY, "no"),
    "message alone": ({"message": "no"}, None, "no"),
    "number": ({"error_code": 500001, "error_message": "m"}, "500001", "m"),
    "Runway's before a number": (
        {"error_code": 500001, "error": "INTERNAL.BAD_OUTPUT.CODE01"},
        "INTERNAL.BAD_OUTPUT.CODE01",
        "INTERNAL.BAD_OUTPUT.CODE01",
    ),
    "moderation before all": ({"failureCode": "INTERNAL", "error": SAFETY}, SAFETY, SAFETY),
    "a signed link": (
        {"error": f"cannot read {IMAGE}?X-Amz-Signature=abc"},
        None,
        f"cannot read {IMAGE}?[redacted]",
    ),
    "the token": ({"error": f"Bearer {TOKEN}"}, None, "Bearer [token]"),
}


@pytest.mark.parametrize(("said", "code", "text"), FAILURES.values(), ids=FAILURES)
def test_failures(said: dict[str, Any], code: str | None, text: str | None) -> None:
    found = look({"status": "failed", "request_id": "r1", **said})
    assert found.phase is Phase.FAILED
    assert (found.error_code, found.error_text) == (code, text)
    assert TOKEN not in found.raw


def test_completed_with_an_error_and_no_output_has_failed() -> None:
    found = look({"status": "completed", "error": "it broke"})
    assert (found.phase, found.remote_state) == (Phase.FAILED, "completed")


@pytest.mark.parametrize("extra", [{}, {"error": None}, {"message": "done"}, {"code": 200}])
def test_completed_without_output_and_error_has_succeeded(extra: dict[str, Any]) -> None:
    found = look({"status": "completed", **extra})
    assert (found.phase, found.output_urls) == (Phase.SUCCEEDED, ())


def test_failed_request_under_a_documented_code_stays_a_failure() -> None:
    found = look({"status": "failed", "request_id": "r1", "error_code": 422001})
    assert (found.phase, found.error_code) == (Phase.FAILED, "422001")


@pytest.mark.parametrize(
    ("word", "said", "position"),
    [
        ("in_queue", 3, 3),
        ("in_queue", 0, 0),
        ("in_queue", -1, None),
        ("in_queue", True, None),
        ("in_queue", "3", None),
        ("in_progress", 3, None),
    ],
)
def test_queue_position(word: str, said: Any, position: int | None) -> None:
    body = {"status": word, "queue_position": said}
    assert look(body).queue_position == position
    with service(body) as server:
        assert ask(server.base, lambda provider: provider.queue_position("r1")) == position
    assert server.asked[0][:2] == ("GET", "/v1/requests/r1/status")


# -- reads that fail -------------------------------------------------------------------------

HTML = "<html><title>504</title></html>"
READS: dict[str, tuple[int, Any, type[ProviderError]]] = {
    "lost": (404, {"error_code": 404001}, RequestLost),
    "lost under 200": (200, {"error_code": 404001, "error_message": "gone"}, RequestLost),
    "lost under 200 with a word": (200, {"status": "error", "error_code": 404001}, RequestLost),
    "404 without a code": (404, {"detail": "Not Found"}, Unavailable),
    "404 HTML": (404, HTML, Unavailable),
    "404 under 502": (502, {"error_code": 404001}, Unavailable),
    "401": (401, HTML, AccountBlocked),
    "403001": (403, {"error_code": 403001}, AccountBlocked),
    "400004": (400, {"error_code": 400004}, AccountBlocked),
    "400004 under 200": (200, {"status": "failed", "error_code": 400004}, AccountBlocked),
    "403 HTML": (403, HTML, Unavailable),
    "429": (429, {}, Throttled),
    "balance": (402, {"error_code": 400002}, Unavailable),
    "500": (500, {"error_code": 500001}, Unavailable),
    "500 under 200": (200, {"error_code": 500001}, Unavailable),
    "504 HTML": (504, HTML, Unavailable),
    "200 HTML": (200, HTML, Unavailable),
    "200 empty": (200, "", Unavailable),
    "200 list": (200, [], Unavailable),
    "200 too deep": (200, "[" * 200_000, Unavailable),
    "no status": (200, {"request_id": "r1"}, Unavailable),
    "status of another kind": (200, {"status": 404}, Unavailable),
    "redirect": (302, "", Unavailable),
}


@pytest.mark.parametrize(("status", "body", "kind"), READS.values(), ids=READS)
def test_failed_reads(status: int, body: Any, kind: type[ProviderError]) -> None:
    with service(body, status=status, Location="http://127.0.0.1:9/") as server:
        for question in (
            lambda provider: provider.poll("m/x", "r1"),
            lambda provider: provider.queue_position("r1"),
            lambda provider: provider.cancel("r1"),
        ):
            with pytest.raises(ProviderError) as caught:
                ask(server.base, question)
            assert type(caught.value) is kind
            assert not isinstance(caught.value, AccountBlocked) or (
                caught.value.exit_code is Exit.TOKEN
            )


def test_throttled_read_carries_the_wait() -> None:
    with (
        service({}, status=429, **{"Retry-After": "7"}) as server,
        pytest.raises(Throttled) as caught,
    ):
        ask(server.base, lambda provider: provider.poll("m/x", "r1"))
    assert caught.value.retry_after_s == 7.0


def test_unreachable_service_is_unavailable() -> None:
    with service({}) as server:
        base = server.base
    with pytest.raises(Unavailable):
        ask(base, lambda provider: provider.poll("m/x", "r1"))


@pytest.mark.parametrize("request_id", ["", "a/b", "../x", "a?b", "x" * 129, "r1\n"])
def test_impossible_request_id_is_lost_without_asking(request_id: str) -> None:
    with service({"status": "failed"}) as server:
        with pytest.raises(RequestLost):
            ask(server.base, lambda provider: provider.poll("m/x", request_id))
        with pytest.raises(RequestLost):
            ask(server.base, lambda provider: provider.cancel(request_id))
    assert server.asked == []


# -- cancel and balance ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "accepted"), [("cancelled", True), ("Canceled", True), ("not_cancellable", False)]
)
def test_cancel_believes_the_outcome_only(outcome: str, accepted: bool) -> None:
    with service({"status": "completed", "outcome": outcome}, status=202) as server:
        assert ask(server.base, lambda provider: provider.cancel("r1")) is accepted
    assert server.asked == [("POST", "/v1/requests/r1/cancel", f"Bearer {TOKEN}")]


def test_cancel_without_an_outcome_is_unavailable() -> None:
    with service({"status": "cancelled"}, status=202) as server, pytest.raises(Unavailable):
        ask(server.base, lambda provider: provider.cancel("r1"))


@pytest.mark.parametrize(
    ("body", "micros"),
    [
        ({"balance_usd": 12.5, "currency": "USD"}, 12_500_000),
        ({"balance_usd": "3"}, 3_000_000),
        ({"balance_usd": 0}, 0),
    ],
)
def test_balance(body: Any, micros: int) -> None:
    with service(body) as server:
        assert ask(server.base, lambda provider: provider.balance_micros()) == micros
    assert server.asked[0][1] == "/prod/v2/balance"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, {"currency": "USD"}, Unavailable),
        (200, {"balance_usd": "much"}, Unavailable),
        (404, HTML, Unavailable),
        (500, HTML, Unavailable),
        (401, {}, AccountBlocked),
        (200, {"error_code": 400004, "message": "expired"}, AccountBlocked),
    ],
)
def test_a_balance_that_cannot_be_read(status: int, body: Any, error: type[Exception]) -> None:
    with service(body, status=status) as server, pytest.raises(error):
        ask(server.base, lambda provider: provider.balance_micros())


@pytest.mark.parametrize(
    ("body", "price"),
    [
        ({"base_price_usd": 0.07, "price_unit": "second"}, UnitPrice(70_000, "second")),
        ({"base_price_usd": "1.5", "price_unit": "output"}, UnitPrice(1_500_000, "output")),
        ({"base_price_usd": 0, "price_unit": "second"}, None),
        ({"base_price_usd": 0.07, "price_unit": "frame"}, None),
        ({"base_price_usd": 0.07, "price_unit": None}, None),
        ({"model_id": "a/b"}, None),
    ],
)
def test_price_of_the_catalog(body: Any, price: UnitPrice | None) -> None:
    with service(body) as server:
        assert ask(server.base, lambda provider: provider.price("a/b")) == price
    assert server.asked[0][1] == "/v1/models/a/b"


def test_a_price_that_the_catalog_refuses_is_an_error_of_a_look() -> None:
    with (
        service({"error_code": 400001, "message": "no such model"}, status=400) as server,
        pytest.raises(Unavailable),
    ):
        ask(server.base, lambda provider: provider.price("a/b"))


ENTRY = {
    "model_id": "a/b",
    "display_name": "A b",
    "base_price_usd": 0.07,
    "price_unit": "second",
    "input_schema": {"properties": {"p": {"type": "float"}}},
    "required_inputs": ["p"],
}


def test_an_entry_of_the_catalog() -> None:
    with service(ENTRY) as server:
        found = ask(server.base, lambda provider: provider.entry("a/b"))

    assert (found.id, found.title, found.price_micros) == ("a/b", "A b", 70_000)
    assert found.schema == {"properties": {"p": {"type": "float"}}, "required": ["p"]}
    assert server.asked == [("GET", "/v1/models/a/b", f"Bearer {TOKEN}")]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error_code": 400001, "message": "no such model"}, ModelBlocked),
        (200, {"error_code": 400001, "message": "no such model"}, ModelBlocked),
        (404, {"error_code": 404001}, ModelBlocked),
        (404, HTML, Unavailable),  # a wrong base, more likely
        (200, {**ENTRY, "model_id": "a/c"}, ModelBlocked),
        (200, {"model_id": "a/b"}, ModelBlocked),
        (200, {**ENTRY, "input_schema": {"properties": {"p": {"$ref": "http://x"}}}}, ModelBlocked),
        (200, {}, Unavailable),
        (200, HTML, Unavailable),
        (500, HTML, Unavailable),
        (401, {}, AccountBlocked),
        (429, {}, Throttled),
    ],
)
def test_an_entry_that_cannot_be_used(status: int, body: Any, error: type[Exception]) -> None:
    with service(body, status=status) as server, pytest.raises(error):
        ask(server.base, lambda provider: provider.entry("a/b"))


def test_a_model_s_name_is_checked_before_it_is_asked_for() -> None:
    with service(ENTRY) as server, pytest.raises(ModelBlocked):
        ask(server.base, lambda provider: provider.entry("../balance"))
    assert server.asked == []


def test_a_page_of_the_catalog() -> None:
    said = {"models": [ENTRY, {"model_id": "a/\x1bc"}, 7], "total": 9}
    with service(said) as server:
        page = ask(
            server.base, lambda provider: provider.entries(search="a&b c", limit=100, offset=200)
        )

    assert [one.id for one in page.entries] == ["a/b"]
    assert [name for name, _ in page.refused] == ["a/\ufffdc", "?"]
    assert (page.seen, page.total) == (3, 9)
    [(_, path, _)] = server.asked
    assert path == "/v1/models?include_schema=true&limit=100&offset=200&search=a%26b+c"


@pytest.mark.parametrize("body", [{}, {"models": {}}, {"models": None}, [], HTML])
def test_a_page_that_is_none(body: Any) -> None:
    with service(body) as server, pytest.raises(Unavailable):
        ask(server.base, lambda provider: provider.entries(search=None, limit=1, offset=0))


def test_balance_page_of_the_real_service_and_of_any_other() -> None:
    real = "https://api.runcomfy.net/prod/v2/balance"
    assert balance_url(DEFAULT_BASE) == real
    assert balance_url("https://MODEL-API.runcomfy.net:443/v2") == real
    assert balance_url("https://model-api-int.runcomfy.net/v1") == (
        "https://model-api-int.runcomfy.net:443/prod/v2/balance"
    )


# -- what it is made with --------------------------------------------------------------------


@pytest.mark.parametrize(
    "base",
    [
        "",
        "model-api.runcomfy.net/v1",
        "ftp://model-api.runcomfy.net",
        "http://model-api.runcomfy.net/v1",
        "http://192.168.1.5/v1",
        "https:///v1",
        "https://user:pw@model-api.runcomfy.net/v1",
        "https://model-api.runcomfy.net/v1?key=pw",
        "https://model-api.runcomfy.net/v1#pw",
        "https://model-api.runcomfy.net:port/v1",
        "https://a..b/v1",
        f"https://{'a' * 64}.test/v1",
    ],
)
def test_impossible_base_is_a_usage_error(base: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunComfy(base=base, token=TOKEN)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("base", "origin"),
    [
        (DEFAULT_BASE, "https://model-api.runcomfy.net:443"),
        ("https://Model-API.runcomfy.net:443/v1/", "https://model-api.runcomfy.net:443"),
        ("http://localhost:8080/v1", "http://localhost:8080"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/v1", "http://[::1]:8080"),
    ],
)
def test_origin(base: str, origin: str) -> None:
    assert RunComfy(base=base, token=TOKEN).origin == origin


@pytest.mark.parametrize("token", ["", " ", "a b", "a\r\nX-Evil: 1", "tökén"])
def test_impossible_token_is_a_token_problem(token: str) -> None:
    with pytest.raises(AccountBlocked) as caught:
        RunComfy(token=token)
    assert caught.value.exit_code is Exit.TOKEN
    assert not token.strip() or token not in str(caught.value)


def test_repr_holds_no_token() -> None:
    assert TOKEN not in repr(RunComfy(token=TOKEN))


def test_registry_makes_it_by_name() -> None:
    provider: Provider = providers.factory("runcomfy")(base=DEFAULT_BASE, token=TOKEN)
    assert isinstance(provider, RunComfy)
    assert provider.name in providers.names()


def test_unknown_provider_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="runcomfy"):
        providers.factory("nobody")


@pytest.mark.parametrize("token", ["abc", "e", "7", "sim", "request_id"])
def test_a_short_token_inside_a_request_id_does_not_spoil_the_answer(token: str) -> None:
    body = {"request_id": "sim-7e-abc-request_id"}

    async def submit(base: str) -> str:
        provider = RunComfy(base=base, token=token)
        try:
            return (await provider.submit("a/b", {})).request_id
        finally:
            await provider.close()

    with service(body) as server:
        assert asyncio.run(submit(server.base)) == "sim-7e-abc-request_id"


def test_a_page_is_no_sign_that_the_service_can_be_reached() -> None:
    with service("<html>maintenance</html>") as server:
        assert ask(server.base, RunComfy.is_reachable) is False
    with service("{}", status=503) as server:
        assert ask(server.base, RunComfy.is_reachable) is False
    with service({"error_code": 404001}, status=404) as server:
        assert ask(server.base, RunComfy.is_reachable) is True


def test_a_base_without_tls_needs_no_certificates_and_another_has_them_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[bool] = []
    monkeypatch.setattr("batchgen.http._ssl_context", lambda: read.append(True))

    RunComfy(base="http://127.0.0.1:8000/v1", token="t")
    assert not read

    RunComfy(base=DEFAULT_BASE, token="t")
    assert read
