"""Hear within a second what was changed from elsewhere: one small look a second.

The look has a thread and a connection of its own, so that neither a job database that hangs nor
one that is locked holds up the event loop, and a run in which nothing is changed costs it nothing.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchgen.domain.errors import StoreError
from batchgen.store import control
from batchgen.store.control import Snapshot, Standing
from batchgen.store.database import Database, Watcher
from batchgen.store.transactions import Transaction

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_LEFT_AFTER_S = 1.0

Heard = Callable[[Snapshot, Snapshot], None]
"""Takes what was known and what is new; runs on the event loop."""


@dataclass(frozen=True)
class Watch:
    """Whoever shows how a session goes, and so wants to know where its batches stand.

    Attributes:
        batch_ids: Which ones; None is all of the account's.
        stood: Takes each change; runs on the event loop.
    """

    batch_ids: Sequence[int] | None
    stood: Callable[[Standing], None]


class Listener:
    """A thread that tells the event loop what has changed, until it is ended.

    Args:
        database: Only looked at.
        account_id: Whose runs.
        first: What is known already.
        heard: Called with each change.
        failed: Called with an error that no look should meet.
        worker_id: The session's own.
        watch: Told where its batches stand, if anybody wants to know.
    """

    def __init__(
        self,
        database: Database,
        account_id: int,
        first: Snapshot,
        *,
        heard: Heard,
        failed: Callable[[BaseException], None],
        worker_id: str = "",
        watch: Watch | None = None,
        every_s: float = _EVERY_S,
    ) -> None:
        self._watcher = Watcher(database)
        self._account_id = account_id
        self._last = first
        self._worker_id = worker_id
        self._watch = watch
        self._stood: Standing | None = None
        self._heard = heard
        self._failed = failed
        self._every_s = every_s
        self._ending = threading.Event()
        self._ended = asyncio.Event()
        # A daemon: a look that hangs must not keep the process from leaving.
        self._thread = threading.Thread(target=self._listen, name="batchgen-listener", daemon=True)
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def end(self) -> None:
        """Stop; a look that hangs is waited for only briefly."""
        self._ending.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEFT_AFTER_S):
                await self._ended.wait()

    def _listen(self) -> None:
        try:
            while not self._ending.wait(self._every_s):
                self._look()
            self._watcher.close()
        except StoreError as error:
            logger.debug("the listener's connection could not be closed: %s", error)
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            self._tell(self._failed, error)
        self._tell(self._ended.set)

    def _look(self) -> None:
        try:
            with self._watcher.reading() as tx:
                found = control.snapshot(tx, self._account_id)
                stands = None if self._watch is None else self._standing(tx, self._watch)
        except StoreError as error:  # the store thread meets it too, and says so
            logger.debug("the job database could not be looked at: %s", error)
            return
        if found != self._last:
            self._tell(self._heard, self._last, found)
            self._last = found
        if self._watch is not None and stands is not None and stands != self._stood:
            self._tell(self._watch.stood, stands)
            self._stood = stands

    def _standing(self, tx: Transaction, watch: Watch) -> Standing:
        return control.standing(tx, self._account_id, watch.batch_ids, worker_id=self._worker_id)

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # nobody listens any more: the loop is closed
            self._loop.call_soon_threadsafe(callback, *arguments)


def changes(was: Snapshot, now: Snapshot) -> list[str]:
    """Return what a person has changed, in words; a pause is told by the run."""
    lines = []
    if (was.auto_max, now.auto_max) == (None, None):
        if was.cap != now.cap:
            lines.append(f"jobs in flight: {was.cap} → {now.cap}")
    elif was.auto_max != now.auto_max:  # while it moves by itself, the cap says nothing new
        lines.append(f"jobs in flight: {_cap(was)} → {_cap(now)}")
    if was.rate_per_s != now.rate_per_s:
        lines.append(f"submits a second: {_rate(was)} → {_rate(now)}")
    for batch in sorted(was.budgets.keys() | now.budgets.keys()):
        old, new = was.budgets.get(batch), now.budgets.get(batch)
        if old != new:
            lines.append(f"budget of batch {batch}: {_usd(old)} → {_usd(new)}")
    return [f"{line}, set from elsewhere" for line in lines]


def _cap(known: Snapshot) -> str:
    return str(known.cap) if known.auto_max is None else f"auto, up to {known.auto_max}"


def _rate(known: Snapshot) -> str:
    return "no bound" if known.rate_per_s is None else f"{known.rate_per_s:g}"


def _usd(micros: int | None) -> str:
    if micros is None:
        return "none"
    return f"${micros / 1_000_000:,.{2 if micros % 10_000 == 0 else 4}f}"
