"""How a session goes, for Prometheus and for whoever asks whether it is well, over HTTP.

`/metrics` counts what happened and says how things stand; `/health` answers 200 while the session
moves and its job database takes what it learns, else 503. Both say what was told here last, in
threads that nobody waits for, so that a slow reader holds up nothing.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from types import ModuleType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from batchgen.domain.errors import OutputError, UsageError
from batchgen.domain.telling import KINDS

GAUGES: Mapping[str, str] = {
    "jobs": "Jobs of the session's scope by how they stand.",
    "cap": "How many jobs this worker may have in flight.",
    "spent_dollars": "What the batches have spent over their lives.",
    "session_spent_dollars": "What this session has spent.",
    "reserved_dollars": "What is reserved for requests that are open or in doubt.",
    "budget_dollars": "The budgets of the batches together; absent if one has none.",
    "download_bytes": "What has arrived of clips in this session.",
    "outage_seconds": "How long the service has been out of reach, 0 if it is not.",
    "throttled_seconds": "How long the service has asked to wait.",
    "paused": "1 while nothing more is submitted for a reason other than the above.",
    "over_budget": "1 while a budget leaves no room for the next job.",
    "stuck": "1 while the job database takes no change.",
    "told_seconds": "When the session last told how it stands, in seconds since 1970.",
}
"""What is said of the moment: names without `batchgen_`, and what they mean."""

EVENTS = "batchgen_events_total"
RUNS = "batchgen_generation_seconds"

SILENT_S = 15.0
"""A session that has told nothing for so long is not well."""

_BUCKETS = (5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 3600)  # seconds
_JSON = "application/json; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_Start = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True)
class Moment:
    """How a session stands; money in micro-dollars.

    Attributes:
        jobs: Jobs by how they stand: `waiting`, `in_flight`, `downloading`, `succeeded`, ….
        gauges: Other values, by their names in `GAUGES`; None of what is not known.
        in_the_way: What stands in the way, in words without secrets.
    """

    jobs: Mapping[str, int]
    gauges: Mapping[str, float | None]
    in_the_way: Sequence[str] = ()


class Metrics:
    """Counts events, keeps the newest moment, and serves both.

    Args:
        where: `PORT` or `HOST:PORT`; without a host only this machine may ask.
        version: Of this program.
        clock_s: Seconds since 1970.

    Attributes:
        url: Where it is served, once `serve` was called.

    Raises:
        UsageError: If prometheus-client is not installed, or `where` is no address.
    """

    def __init__(self, where: str, *, version: str, clock_s: Callable[[], float]) -> None:
        self._prometheus = prometheus = _prometheus()
        self._host, self._port = address_of(where)
        self._clock_s = clock_s
        self._moment: Moment | None = None
        self._told_s = clock_s()
        self._server: WSGIServer | None = None
        self.url = ""
        self._registry = registry = prometheus.CollectorRegistry()
        self._events = prometheus.Counter(
            EVENTS, "What happened, by the kind of event.", ["kind"], registry=registry
        )
        for kind in KINDS:
            self._events.labels(kind)  # from the start, or a first doubt would be no increase
        self._runs = prometheus.Histogram(
            RUNS,
            "How long generations took, as the service states it.",
            buckets=_BUCKETS,
            registry=registry,
        )
        about = prometheus.Gauge("batchgen_info", "This program.", ["version"], registry=registry)
        about.labels(version).set(1)
        registry.register(self)
        self._metrics = prometheus.make_wsgi_app(registry, disable_compression=True)

    def serve(self) -> None:
        """Listen, and answer in threads of its own until `close`.

        Raises:
            OutputError: If the address cannot be listened at.
        """
        try:
            family = _family(self._host)
            kind = type("Server", (_Server,), {"address_family": family})
            server: WSGIServer = make_server(
                self._host, self._port, self._answer, server_class=kind, handler_class=_Quiet
            )
        except OSError as error:
            raise OutputError(
                f"--metrics {self._host}:{self._port}: cannot be listened at "
                f"({error.strerror or error}): name another port, or leave --metrics out"
            ) from error
        self._server = server
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http://{host}:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def heard(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Count an event."""
        self._events.labels(kind).inc()
        if kind == "generated" and fields["run_s"] is not None:
            self._runs.observe(fields["run_s"])

    def stands(self, moment: Moment) -> None:
        """Keep how the session stands by now."""
        self._moment = moment
        self._told_s = self._clock_s()

    def collect(self) -> Iterator[Any]:
        """Yield the gauges, for Prometheus' registry."""
        gauge = self._prometheus.core.GaugeMetricFamily
        moment = self._moment
        for name, meaning in GAUGES.items():
            if name == "jobs":
                family = gauge("batchgen_jobs", meaning, labels=["state"])
                for state, count in (moment.jobs if moment else {}).items():
                    family.add_metric([state], count)
                yield family
                continue
            value = self._told_s if name == "told_seconds" else None
            if value is None and moment is not None:
                value = moment.gauges.get(name)
            if value is not None:
                yield gauge(f"batchgen_{name}", meaning, value=value)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the session is well, and what is said of that."""
        moment = self._moment
        silent_s = self._clock_s() - self._told_s
        is_stuck = bool(moment and moment.gauges.get("stuck"))
        is_well = silent_s < SILENT_S and not is_stuck
        return is_well, {
            "ok": is_well,
            "silent_s": round(max(0.0, silent_s), 1),
            "in_the_way": list(moment.in_the_way) if moment else [],
        }

    def _answer(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start)
            return answer
        if path == "/health":
            is_well, said = self.health()
            status = "200 OK" if is_well else "503 Service Unavailable"
            start(status, [("content-type", _JSON), ("cache-control", "no-store")])
            return [json.dumps(said, ensure_ascii=False).encode() + b"\n"]
        start("404 Not Found", [("content-type", _TEXT)])
        return [b"there are /metrics and /health\n"]


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever asked went away."""


class _Quiet(WSGIRequestHandler):
    timeout = 10.0  # for a request; one that stands still must not hold a thread for ever

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: it is asked every few seconds."""


def address_of(where: str) -> tuple[str, int]:
    """Return host and port; `127.0.0.1` without a host.

    Raises:
        UsageError: If it is no address.
    """
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise UsageError(
            f"--metrics {where}: write a port, as 9464, or an address and a port, as "
            "192.0.2.7:9464; without an address only this machine may ask"
        )
    return host, int(port)


def _family(host: str) -> int:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]


def _prometheus() -> ModuleType:
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as error:
        raise UsageError(
            "--metrics needs prometheus-client: `pip install 'batchgen-cli[metrics]'`"
        ) from error
    return prometheus_client
