"""A web hook on loopback: a real HTTP server that keeps what it is told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "w3bh00kS3cretPath"


@dataclass
class Hook:
    """What was told, and how it answers.

    Attributes:
        status: What it answers with; 0 never answers.
    """

    port: int
    status: int = 200
    told: list[tuple[str, str]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """What `--notify` takes."""
        return f"json://127.0.0.1:{self.port}/{SECRET}"

    def titles(self) -> list[str]:
        """The titles of what was told."""
        return [title for title, _ in self.told]

    def only(self) -> tuple[str, str]:
        """Title and body of the one message."""
        [message] = self.told
        return message


@contextmanager
def running(status: int = 200) -> Iterator[Hook]:
    """Run a hook."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            hook.told.append((body["title"], body["message"]))
            hook.asked.set()
            if not hook.status:
                hook.over.wait(60)
                return
            self.send_response(hook.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Hook(server.server_port, status)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
