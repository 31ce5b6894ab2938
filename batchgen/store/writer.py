"""The store thread: one writer a process, group commit.

Coroutines hand in an operation and await its result. The thread drains the queue, hands
all requests of a kind to one call, runs one transaction, and resolves the futures only
after its commit. So a waiting disk never stops the event loop, and fifty durable changes
cost one sync.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from batchgen.domain.errors import BatchgenError
from batchgen.store.database import Database, Transaction, is_passing, store_error

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Result = TypeVar("Result")
Operation = Callable[[Transaction, Sequence[Request]], Sequence[Result]]

_LARGEST_GROUP = 512
_RETRY_S = 1.0


class Conflict(BatchgenError):
    """The change contradicts a constraint: another attempt carries the same request id."""


class _Item:
    __slots__ = ("future", "operation", "request")

    def __init__(
        self, operation: Operation[Any, Any], request: object, future: asyncio.Future[Any]
    ) -> None:
        self.operation = operation
        self.request = request
        self.future = future


Outcome = tuple[asyncio.Future[Any], Any, BaseException | None]


def _tell(outcomes: Sequence[Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():  # cancelled by its coroutine; the change is durable all the same
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class Writer:
    """The thread that owns the writing connection while a run lasts.

    Attributes:
        stuck: Why the newest commit keeps failing, "" while all is well. Nothing may be claimed
            while it is set.
    """

    def __init__(
        self, database: Database, *, on_stuck: Callable[[str], None], retry_s: float = _RETRY_S
    ) -> None:
        self._database = database
        self._retry_s = retry_s
        self._on_stuck = on_stuck
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="batchgen-store", daemon=True)
        self._giving_up = threading.Event()
        self._on_end: Callable[[], None] = lambda: None
        self.stuck = ""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Commit what was handed in, then end the thread, if there is one."""
        if self._thread.ident is None:
            return
        self._queue.put(None)
        self._thread.join()

    async def end(self) -> None:
        """Do as `close`, while other coroutines run."""
        if self._thread.ident is None:
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(ended.set)

        self._on_end = tell
        self._queue.put(None)
        await ended.wait()

    def give_up(self) -> None:
        """Try once what has not landed yet, then tell its waiters that it failed."""
        self._giving_up.set()

    async def do(self, operation: Operation[Request, Result], request: Request) -> Result:
        """Have an operation committed; return its result once it is durable.

        While space or a lock is wanting, it is tried again until it lands, `stuck` says why,
        and nothing that was handed in later overtakes it.

        Raises:
            StoreError: If the commit failed for good, or after `give_up`; nothing was changed.
            Conflict: If a constraint forbids the change.
        """
        # A cancelled coroutine lets go of the future; the change lands nevertheless.
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put(_Item(operation, request, future))
        return await future

    def _resolve(self, outcomes: Sequence[Outcome]) -> None:
        """Wake every waiter of a commit with one call into the event loop."""
        loop = outcomes[0][0].get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_tell, outcomes)

    def _serve(self) -> None:
        connection: Connection | None = None
        closing = False
        while not closing:
            group = [self._queue.get()]
            while len(group) < _LARGEST_GROUP and not self._queue.empty():
                group.append(self._queue.get())
            closing = None in group
            items = [item for item in group if item is not None]
            if not items:
                continue
            try:
                if connection is None:
                    connection = self._database.connect_writer()
                self._commit(connection, items)
            except BaseException as error:  # the thread must outlive it; every waiter is told
                logger.exception("the store thread met an unexpected error")
                self._resolve([(item.future, None, error) for item in items])
        if connection is not None:
            connection.close()
        self._on_end()

    def _commit(self, connection: Connection, items: list[_Item]) -> None:
        try:
            results = _run(connection, items)
        except Exception as error:  # noqa: BLE001 - told to the one whose change it was
            if len(items) == 1:
                self._settle(connection, items[0], error)
                return
            for item in items:
                self._commit(connection, [item])
            return
        self.stuck = ""
        self._resolve(
            [(item.future, result, None) for item, result in zip(items, results, strict=True)]
        )

    def _settle(self, connection: Connection, item: _Item, error: Exception) -> None:
        if isinstance(error, IntegrityError):
            self._resolve([(item.future, None, Conflict(str(error.orig)))])
            return
        if is_passing(error) and not self._giving_up.is_set():
            self._insist(connection, item, error)
            return
        if isinstance(error, DBAPIError):
            error = store_error(self._database.path, error)
        self._resolve([(item.future, None, error)])

    def _insist(self, connection: Connection, item: _Item, error: Exception) -> None:
        while True:
            said = str(store_error(self._database.path, error))
            if said != self.stuck:
                self.stuck = said
                self._on_stuck(said)
            self._giving_up.wait(self._retry_s)
            try:
                result = _run(connection, [item])[0]
            except DBAPIError as again:
                if not is_passing(again) or self._giving_up.is_set():
                    self._settle(connection, item, again)
                    return
                error = again
                continue
            self.stuck = ""
            self._resolve([(item.future, result, None)])
            return


def _run(connection: Connection, items: list[_Item]) -> list[Any]:
    """Run items in one transaction, those of a kind in one call; return results in order."""
    kinds: dict[Operation[Any, Any], list[int]] = {}
    for index, item in enumerate(items):
        kinds.setdefault(item.operation, []).append(index)
    results: list[Any] = [None] * len(items)
    with connection.begin():
        tx = Transaction(connection)
        for operation, indices in kinds.items():
            answers = operation(tx, [items[index].request for index in indices])
            for index, answer in zip(indices, answers, strict=True):
                results[index] = answer
        tx.flush()
    return results
