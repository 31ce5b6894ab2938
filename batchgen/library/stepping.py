"""The thread in which an open job database takes steps, for callers of any thread or loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, closing
from typing import Any, Concatenate, ParamSpec, TypeVar

from batchgen.domain.errors import NotNow
from batchgen.downloads.destinations import Destinations
from batchgen.downloads.fetch import Fetcher
from batchgen.downloads.folder import free_bytes
from batchgen.http import file_client
from batchgen.library.input_files import sender_of
from batchgen.library.service import Service
from batchgen.library.step_backs import begin_journal
from batchgen.runner.job import Settings
from batchgen.runner.steps import Steps
from batchgen.settings import part_bytes
from batchgen.store.database import Database
from batchgen.store.scope import Scope

T = TypeVar("T")
P = ParamSpec("P")

Step = Callable[Concatenate[Steps, P], Coroutine[Any, Any, T]]

_NOTHING = Scope(None, 0)
_LEFT = "the worker that was to take this step has left: take it again"

SOON_S = 2.0
"""When a step is worth another try that was in somebody's way."""


class Stepper:
    """One worker in a thread of its own; it lives until it is closed.

    Args:
        make_database: Opens the job database anew: a connection belongs to one worker.
        account_id: Who pays.
        service: Where requests go, with a token.
        settings: What holds for every step.
        say: Told what a person should know.
    """

    def __init__(
        self,
        make_database: Callable[[], Database],
        *,
        account_id: int,
        service: Service,
        settings: Settings,
        say: Callable[[str], None],
    ) -> None:
        self._make_database = make_database
        self._account_id = account_id
        self._service = service
        self._settings = settings
        self._say = say
        self._loop: asyncio.AbstractEventLoop
        self._steps: Steps
        self._begun: Future[None] = Future()
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="batchgen-steps", daemon=True)
        self._thread.start()
        self._begun.result()

    @property
    def is_spent(self) -> bool:
        """Whether it takes no step any more that pays: a new one may."""
        return not self._thread.is_alive() or self._steps.is_spent

    @property
    def worker_id(self) -> str:
        """Its name in the job database."""
        return self._steps.worker_id

    def _begin(self, step: Step[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if not self._thread.is_alive():
            raise self._ended or NotNow(_LEFT, retry_after_s=SOON_S)
        coroutine = self._steps.do(step(self._steps, *args, **kwargs))
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def result(self, step: Step[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Take a step, and wait for its end.

        Raises:
            NotNow: If the worker left in the middle of it.
            BatchgenError: As the step.
        """
        try:
            return self._begin(step, *args, **kwargs).result()
        except CancelledError as error:
            raise NotNow(_LEFT, retry_after_s=SOON_S) from error

    def close(self) -> None:
        """Leave; what is under way is awaited and recorded."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._steps.end)
        self._thread.join()

    def _live(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - raised where a step is asked for
            self._ended = error
            if not self._begun.done():
                self._begun.set_exception(error)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            database = stack.enter_context(closing(self._make_database()))
            provider = self._service.connect()
            stack.push_async_callback(provider.close)
            is_local = self._service.is_local
            client = file_client(connections=self._settings.download_jobs, allow_private=is_local)
            stack.push_async_callback(client.aclose)
            journal = begin_journal(database, say=self._say)
            stack.callback(journal.close)
            folder = database.folder
            self._steps = Steps(
                database=database,
                provider=provider,
                fetcher=Fetcher(client=client, allow_private=is_local, part_bytes=part_bytes()),
                account_id=self._account_id,
                scope=_NOTHING,
                settings=self._settings,
                destinations=Destinations(folder),
                free_bytes=lambda: free_bytes(folder),
                say=self._say,
                command="library",
                journal=journal,
                sender=sender_of(database),
                minds_signals=False,
            )
            ready = asyncio.create_task(self._tell_ready())
            try:
                await self._steps.run()
            finally:
                ready.cancel()

    async def _tell_ready(self) -> None:
        await self._steps.is_ready.wait()
        self._begun.set_result(None)
