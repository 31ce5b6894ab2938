"""The token goes to the API and to nobody else; other servers are the witnesses."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from batchgen.domain.errors import DownloadError, OutcomeUnknown, ProviderError, Unavailable
from batchgen.downloads.fetch import Fetcher
from batchgen.downloads.folder import Folder
from batchgen.http import file_client
from batchgen.providers.runcomfy import RunComfy
from batchgen.providers.simulator.clip import pieces

TOKEN = "rc-tok-7Zk2Vq9Lm4Xw8Rt1"
CLIP = b"".join(pieces("r1.mp4", size_bytes=None))

Answer = tuple[int, Mapping[str, str], bytes]


class Witness(ThreadingHTTPServer):
    """A server that keeps every byte that it was sent in lines and headers."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.asked: list[str] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Witness

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"{self.requestline}\n{self.headers}")
        status, headers, body = self.server.answer(self.path)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(answer: Callable[[str], Answer]) -> Iterator[Witness]:
    with Witness(answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def other() -> Iterator[Witness]:
    """Another host, or another port of the same: it serves clips to whoever asks."""
    with serving(lambda _: (200, {"Content-Type": "video/mp4"}, CLIP)) as server:
        yield server


def said(body: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def asking(base: str, question: Callable[[RunComfy], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        provider = RunComfy(base=base, token=TOKEN, connect_s=5, get_s=5, post_s=10)
        try:
            return await question(provider)
        finally:
            await provider.close()

    return asyncio.run(main())


QUESTIONS: dict[str, Callable[[RunComfy], Awaitable[Any]]] = {
    "submit": lambda provider: provider.submit("m/x", {"promptText": "a"}),
    "poll": lambda provider: provider.poll("m/x", "r1"),
    "queue": lambda provider: provider.queue_position("r1"),
    "cancel": lambda provider: provider.cancel("r1"),
    "balance": lambda provider: provider.balance_micros(),
    "price": lambda provider: provider.price("m/x"),
    "reach": lambda provider: provider.is_reachable(),
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_api_sends_nobody_elsewhere(other: Witness, name: str, status: int) -> None:
    # Whether the request was taken by what stands behind a redirect, nobody knows.
    refused = {"submit": OutcomeUnknown, "reach": None}.get(name, Unavailable)
    with (
        serving(lambda path: (status, {"Location": other.origin + path}, b"{}")) as api,
        pytest.raises(refused) if refused else nullcontext(),
    ):
        asking(f"{api.origin}/v1", QUESTIONS[name])

    assert len(api.asked) == 1
    assert TOKEN in api.asked[0]
    assert other.asked == []


def test_links_in_answers_are_not_followed_with_the_token(other: Witness) -> None:
    links = {f"{what}_url": f"{other.origin}/{what}" for what in ("status", "result", "cancel")}
    with serving(lambda _: said({"request_id": "r1", **links})) as api:
        accepted = asking(f"{api.origin}/v1", QUESTIONS["submit"])

        async def look(provider: RunComfy) -> None:
            with pytest.raises(ProviderError):
                await provider.poll("m/x", accepted.request_id)
            with pytest.raises(ProviderError):
                await provider.cancel(accepted.request_id)

        asking(f"{api.origin}/v1", look)

    assert len(api.asked) == 3
    assert other.asked == []


def fetched(url: str, folder: Path) -> None:
    async def main() -> None:
        async with file_client(connections=1, allow_private=True) as client:
            fetcher = Fetcher(client=client, allow_private=True)
            await fetcher.fetch(url, into=Folder(folder), name="a.mp4")

    asyncio.run(main())


@pytest.mark.parametrize("where", ["the api itself", "another port", "a redirect"])
def test_a_clip_is_fetched_without_the_token_wherever_it_lies(
    other: Witness, tmp_path: Path, where: str
) -> None:
    urls: dict[str, str] = {}

    def answer(path: str) -> Answer:
        if path.startswith("/v1/"):
            return said({"status": "succeeded", "output": {"video": urls[where]}})
        if path == "/moved.mp4":
            return 302, {"Location": f"{other.origin}/a.mp4"}, b""
        return 200, {"Content-Type": "video/mp4"}, CLIP

    with serving(answer) as api:
        urls["the api itself"] = f"{api.origin}/a.mp4"
        urls["another port"] = f"{other.origin}/a.mp4"
        urls["a redirect"] = f"{api.origin}/moved.mp4"
        look = asking(f"{api.origin}/v1", QUESTIONS["poll"])
        fetched(look.output_urls[0], tmp_path)

    with_token = [request for request in [*api.asked, *other.asked] if TOKEN in request]
    assert with_token == api.asked[:1]
    assert len(api.asked) + len(other.asked) >= 2
    assert (tmp_path / "a.mp4").read_bytes() == CLIP


def test_a_link_that_holds_the_token_does_not_carry_it_anywhere(
    other: Witness, tmp_path: Path
) -> None:
    body = {"status": "succeeded", "output": {"video": f"{other.origin}/a.mp4?token={TOKEN}"}}
    with serving(lambda _: said(body)) as api:
        look = asking(f"{api.origin}/v1", QUESTIONS["poll"])
    fetched(look.output_urls[0], tmp_path)

    assert TOKEN not in repr(look)
    assert len(other.asked) == 1
    assert TOKEN not in other.asked[0]


def test_a_link_with_a_user_name_is_not_asked(other: Witness, tmp_path: Path) -> None:
    url = other.origin.replace("//", f"//me:{TOKEN}@") + "/a.mp4"

    with pytest.raises(DownloadError, match="user name") as refused:
        fetched(url, tmp_path)

    assert other.asked == []
    assert TOKEN not in str(refused.value)
