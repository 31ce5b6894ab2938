"""Tell somebody by way of apprise: mail, chat, phone, a web hook; see its list of services.

A notification is sent by threads that nobody waits for, in bounded time. One that fails is
logged and counted as told: it harms nothing.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Protocol

from batchgen.domain.errors import BatchgenError, UsageError

logger = logging.getLogger(__name__)

SEND_S = 10.0
"""How long one notification may take."""

END_S = 15.0
"""How long the end of a run waits for notifications that are under way."""

Message = tuple[str, str]
"""Title and body, plain text."""


class NotSent(BatchgenError):
    """A notification was not taken; the message says why, without secrets."""

    kind = "notification_failed"


class Notifier(Protocol):
    """Somebody who can be told.

    Attributes:
        name: For people, without secrets.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - an attribute

    def tell(self, title: str, body: str) -> None:
        """Deliver one notification; may take long.

        Raises:
            NotSent: If it was not taken.
        """
        ...


class _Service:
    """One URL of apprise's."""

    def __init__(self, url: str, number: int) -> None:
        apprise = _apprise()
        # Neither apprise's own threads, which outlive a run, nor its own bounds.
        asset = apprise.AppriseAsset(app_id="batchgen", async_mode=False, service_timeout=0)
        plugin = apprise.Apprise.instantiate(url, asset=asset)
        if plugin is None:
            # Without the URL: it holds secrets.
            raise UsageError(
                f"notification URL {number} is none that apprise understands (it is not repeated "
                "here, for it may hold a secret): its documentation lists the services and how "
                "their URLs are written"
            )
        self.name = f"notification URL {number} ({plugin.service_name})"
        self._apprise = apprise.Apprise(asset=asset)
        self._apprise.add(plugin)

    def tell(self, title: str, body: str) -> None:
        """Deliver one notification through apprise."""
        if not self._apprise.notify(body=body, title=title, body_format="text"):
            raise NotSent("it was not taken")


def notifiers(urls: Sequence[str]) -> list[Notifier]:
    """Return whom the URLs mean.

    Raises:
        UsageError: If apprise is missing, or does not understand one of them.
    """
    return [_Service(url, number) for number, url in enumerate(urls, 1)]


def _apprise() -> ModuleType:
    try:
        import apprise  # an extra, and a tenth of a second
    except ImportError as error:
        raise UsageError(
            "notifications need apprise: pip install 'batchgen-cli[notify]', or leave --notify and "
            "BATCHGEN_NOTIFY out"
        ) from error
    # Its messages may hold parts of a URL that nobody can tell from a name.
    own = logging.getLogger("apprise")
    own.propagate = False
    own.addHandler(logging.NullHandler())
    return apprise


class Messenger:
    """Delivers messages to everybody, each in order, from threads of its own.

    Args:
        to: Who is told.
        failed: Called with a name and a reason when one was not delivered.
        send_s: How long one may take.
        end_s: How long `close` waits.
    """

    def __init__(
        self,
        to: Sequence[Notifier],
        *,
        failed: Callable[[str, str], None],
        send_s: float = SEND_S,
        end_s: float = END_S,
    ) -> None:
        self._failed = failed
        self._send_s = send_s
        self._end_s = end_s
        self._routes = [_Route(notifier, self._deliver) for notifier in to]

    def send(self, compose: Callable[[], Message]) -> None:
        """Have a message delivered; it is composed in a thread too, and may read files."""
        once = _Once(compose)
        for route in self._routes:
            route.put(once)

    def close(self) -> None:
        """Wait for what is under way, for a bounded time."""
        ends = time.monotonic() + self._end_s
        for route in self._routes:
            left = route.close(max(0.0, ends - time.monotonic()))
            if left:
                self._tell_failed(route.notifier.name, "the run ended before it was delivered")

    def _deliver(self, notifier: Notifier, once: "_Once") -> None:
        said: list[str] = []

        def tell() -> None:
            try:
                notifier.tell(*once.message())
            except NotSent as error:
                said.append(str(error))
            except Exception as error:  # noqa: BLE001 - of a stranger's code: told, never raised
                # Its words may hold parts of the URL.
                said.append(f"it failed ({type(error).__name__})")

        # A thread for each: one that hangs must not hold up the next.
        thread = threading.Thread(target=tell, name="notification", daemon=True)
        thread.start()
        thread.join(self._send_s)
        if thread.is_alive():
            said.append(f"no answer within {self._send_s:g} s")
        if said:
            self._tell_failed(notifier.name, said[0])

    def _tell_failed(self, name: str, why: str) -> None:
        logger.warning("%s: %s; the work goes on", name, why)
        self._failed(name, why)


class _Once:
    """A message that is composed by whoever needs it first."""

    def __init__(self, compose: Callable[[], Message]) -> None:
        self._compose = compose
        self._lock = threading.Lock()
        self._message: Message | None = None

    def message(self) -> Message:
        with self._lock:
            if self._message is None:
                self._message = self._compose()
            return self._message


class _Route:
    """What is still to be delivered to one of them."""

    def __init__(self, notifier: Notifier, deliver: Callable[[Notifier, _Once], None]) -> None:
        self.notifier = notifier
        self._deliver = deliver
        self._messages: queue.SimpleQueue[_Once | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=notifier.name, daemon=True)
        self._thread.start()

    def put(self, once: _Once) -> None:
        self._messages.put(once)

    def close(self, timeout_s: float) -> bool:
        """End when all is delivered; return whether something is left."""
        self._messages.put(None)
        self._thread.join(timeout_s)
        return self._thread.is_alive()

    def _work(self) -> None:
        while (once := self._messages.get()) is not None:
            self._deliver(self.notifier, once)
