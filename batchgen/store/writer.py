"""The store thread: one writer a process, group commit.

Coroutines hand in an operation and await its result. The thread drains the queue, hands
all requests of a kind to one call, runs one transaction, and resolves the futures only
after its commit. So a waiting disk never stops the event loop, and fifty durable changes
cost one sync.

A server's connection can break between COMMIT and its answer. So each transaction on a server
leaves a mark in the worker's row: the next connection reads whether it landed, and nothing is
done twice or taken for undone.
"""

import asyncio
import contextlib
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from batchgen.domain.errors import BatchgenError, StoreError
from batchgen.store.database import Database
from batchgen.store.statements import locking, text
from batchgen.store.transactions import Changer, Transaction, is_conflict, is_lost, is_of_driver

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Result = TypeVar("Result")
Operation = Callable[[Transaction, Sequence[Request]], Sequence[Result]]

_LARGEST_GROUP = 512
_TOLD_TOGETHER = 16  # in one turn of the event loop
_RETRY_S = 1.0
_HUNG_AFTER_S = 45.0  # longer than the server lets a statement run

_MARK = text("UPDATE workers SET mark = :mark WHERE id = :worker_id")
# Locked: the lost connection's transaction may be about to commit.
_MARKED = locking("SELECT mark FROM workers WHERE id = :worker_id")


class Conflict(BatchgenError):
    """The change contradicts a constraint: another attempt carries the same request id."""

    kind = "database_conflict"


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
    """Resolve a few futures now, the others in the next turns: what awaits them goes on at once."""
    for future, result, error in outcomes[:_TOLD_TOGETHER]:
        if future.done():  # cancelled by its coroutine; the change is durable all the same
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    if left := outcomes[_TOLD_TOGETHER:]:
        left[0][0].get_loop().call_soon(_tell, left)


class Writer:
    """The thread that owns the writing connection while a run lasts.

    Attributes:
        stuck: Why the newest commit keeps failing, "" while all is well. Nothing may be claimed
            while it is set.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_stuck: Callable[[str], None],
        worker_id: str = "",
        retry_s: float = _RETRY_S,
        hung_after_s: float = _HUNG_AFTER_S,
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._retry_s = retry_s
        self._hung_after_s = hung_after_s
        self._on_stuck = on_stuck
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="batchgen-store", daemon=True)
        self._giving_up = threading.Event()
        self._on_end: Callable[[], None] = lambda: None
        self._changer: Changer | None = None
        self._asked_at_s: float | None = None
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
                self._commit(items)
            except BaseException as error:  # the thread must outlive it; every waiter is told
                logger.exception("the store thread met an unexpected error")
                self._resolve([(item.future, None, error) for item in items])
        self._drop()
        self._on_end()

    def _commit(self, items: list[_Item]) -> None:
        try:
            results = self._run(items)
        except Exception as error:  # noqa: BLE001 - told to the one whose change it was
            if len(items) == 1:
                self._settle(items[0], error)
                return
            for item in items:
                self._commit([item])
            return
        self.stuck = ""
        self._resolve(
            [(item.future, result, None) for item, result in zip(items, results, strict=True)]
        )

    def _settle(self, item: _Item, error: Exception) -> None:
        while self._is_passing(error) and not self._giving_up.is_set():
            self._wait(error)
            try:
                result = self._run([item])[0]
            except Exception as again:  # noqa: BLE001 - told to the one whose change it was
                error = again
                continue
            self.stuck = ""
            self._resolve([(item.future, result, None)])
            return
        if is_conflict(error):
            error = Conflict(str(getattr(error, "orig", error)))
        elif is_of_driver(error):
            error = self._database.backend.explain(error)
        self._resolve([(item.future, None, error)])

    def _wait(self, error: Exception) -> None:
        """Say once why nothing can be committed, and wait before the next try."""
        said = str(error)
        if is_of_driver(error):
            said = str(self._database.backend.explain(error))
        if said != self.stuck:
            self.stuck = said
            self._on_stuck(said)
        self._giving_up.wait(self._retry_s)

    def _is_passing(self, error: BaseException | None) -> bool:
        if isinstance(error, StoreError):  # of a new connection
            error = error.__cause__
        return error is not None and self._database.backend.is_passing(error)

    # -- one transaction -------------------------------------------------------------------------

    def _run(self, items: list[_Item]) -> list[Any]:
        mark = ""
        if self._database.backend.is_remote and self._worker_id:
            mark = secrets.token_hex(8)
        changer = self._connected()
        self._asked_at_s = time.monotonic()
        try:
            tx = changer.begin()
            try:
                results = _apply(tx, items, mark, self._worker_id)
            except BaseException:
                changer.rollback()
                raise
            try:
                changer.commit()
            except Exception as error:
                changer.rollback()
                if not mark or not is_lost(error):
                    raise
                self._drop()
                if not self._has_landed(mark):
                    raise
        except Exception as error:
            if self._database.backend.is_remote and is_of_driver(error):
                self._drop()  # whatever state it is in, the next one is sound
            raise
        else:
            return results
        finally:
            self._asked_at_s = None

    def _has_landed(self, mark: str) -> bool:
        """Return whether the transaction whose COMMIT got no answer was committed."""
        while True:
            self._asked_at_s = time.monotonic()
            try:
                with self._connected().changing() as tx:
                    return bool(tx.value(_MARKED, {"worker_id": self._worker_id}) == mark)
            except Exception as error:
                self._drop()
                if not self._is_passing(error) or self._giving_up.is_set():
                    raise
                self._wait(error)

    def _connected(self) -> Changer:
        if self._changer is None:
            self._changer = self._database.connect_writer()
        return self._changer

    def _drop(self) -> None:
        if self._changer is not None:
            try:
                self._changer.close()
            except Exception as error:
                if not is_of_driver(error):
                    raise
                logger.debug("a broken connection could not be closed: %s", error)
            self._changer = None

    def cut_if_hung(self) -> None:
        """End a connection whose server has not answered for long; its change is tried again."""
        asked_at_s, changer = self._asked_at_s, self._changer
        if asked_at_s is None or changer is None:
            return
        if time.monotonic() - asked_at_s >= self._hung_after_s:
            self._asked_at_s = None
            self._database.backend.cut(changer)


def _apply(tx: Transaction, items: list[_Item], mark: str, worker_id: str) -> list[Any]:
    """Do items in the open transaction, those of a kind in one call; return results in order."""
    kinds: dict[Operation[Any, Any], list[int]] = {}
    for index, item in enumerate(items):
        kinds.setdefault(item.operation, []).append(index)
    results: list[Any] = [None] * len(items)
    if mark:
        tx.run(_MARK, {"mark": mark, "worker_id": worker_id})
    for operation, indices in kinds.items():
        answers = operation(tx, [items[index].request for index in indices])
        for index, answer in zip(indices, answers, strict=True):
            results[index] = answer
    tx.flush()
    return results
