"""A worker that takes one job one step further whenever it is told to, for `batchgen.library`.

It is a session without a loop: the same claim, the same records, the same care for the dead.
Between two steps it holds no job, so that whoever is told of the next one can take it: another
process, after a crash, or a `run` beside it.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from batchgen.domain.errors import Exit, Halted, NotNow
from batchgen.downloads.folder import KEPT_FREE_BYTES, in_mib
from batchgen.providers.interface import Look, Phase
from batchgen.runner.limits import Held
from batchgen.runner.loop import Session
from batchgen.store import jobs, sharing
from batchgen.store.jobs import AdoptRequest, Claim, Job
from batchgen.store.scope import Scope
from batchgen.store.step_back import SteppedBack, explain
from batchgen.store.writer import Writer

T = TypeVar("T")

_SOON_S = 2.0
_LATER_S = 10.0
_DOWNLOAD_TRIES = 2  # the second with a fresh link; more is for whoever asks again
_NO_OUTPUT_FOR_MS = 120_000  # a success without any URL may only be early


class Steps(Session):
    """A session that does what it is told; see `Session` for its attributes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.is_ready = asyncio.Event()
        self._writer: Writer
        self._empty_since_ms: dict[str, int] = {}

    @property
    def is_spent(self) -> bool:
        """Whether it will submit nothing any more: a new one may."""
        return bool(self.limits.reasons) or self._leaving or self._fenced

    def end(self) -> None:
        """Leave once what is under way is recorded."""
        self._drain()

    async def do(self, step: Coroutine[Any, Any, T]) -> T:
        """Take a step; when the session ends before, a paid request is awaited first."""
        task = asyncio.create_task(step)
        self._tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._tasks.discard)
        return await task

    # -- the steps -------------------------------------------------------------------------------

    async def submit(self, job_id: int) -> None:
        """Send the paid request of a pending job, if it may be sent now; record the answer.

        Raises:
            NotNow: If nothing may be submitted for the moment.
            Halted: If a person must act first.
            SteppedBack: If the job database lacks purchases.
            InputUnusable: If an input file of it is gone or has changed.
        """
        self._check()
        self._unusable.pop(job_id, None)  # it may have been put right
        free = self.free_bytes()
        if free < KEPT_FREE_BYTES:
            raise Halted(
                f"less than 1 GiB is free ({in_mib(free)}) on the disk of the output folder: make "
                "room first",
                exit_code=Exit.OUTPUT,
            )
        only = Scope(None, job_id, only=frozenset({job_id}))
        claim = await self._claim(self._writer, 1, only)
        if job_id in self._preparing:
            await self._preparing[job_id]
            self._check_inputs(job_id)
            claim = await self._claim(self._writer, 1, only)
        self._check()
        if claim is None or not claim.jobs:
            self._explain(claim, job_id)
            return
        await self._carrier.submit_only(claim.jobs[0])
        await self._give_back(job_id)
        self._check_inputs(job_id)

    def _check_inputs(self, job_id: int) -> None:
        error = self._unusable.pop(job_id, None)
        if error is not None:
            raise error

    async def check(self) -> None:
        """Check that something may be submitted, of every model.

        Raises:
            NotNow, Halted, SteppedBack: As `submit`.
        """
        self._check()
        for reason in self.limits.reasons:
            raise Halted(reason.message, exit_code=reason.exit_code)

    async def take_over(self) -> None:
        """Take from workers that have died what they were submitting: it is in doubt."""
        await self._take_over(self._writer)

    async def look(self, job_id: int, attempt_id: str, model: str, request_id: str) -> Look:
        """Ask once how a request stands; record its end, and nothing else.

        Raises:
            ProviderError: If that is not to be learned now.
        """
        look = await self._carrier.ask(model, request_id)
        if look.phase in (Phase.QUEUED, Phase.IN_PROGRESS) or self._is_early(look, attempt_id):
            return look
        job = await self._take(job_id)
        if job is None:
            return look  # another worker has it in hand, and records the same
        try:
            if job.attempt_id == attempt_id and job.request_id == request_id:
                await self._carrier.settle(job, look)
        finally:
            await self._give_back(job_id)
        return look

    async def fetch(self, job_id: int) -> None:
        """Fetch the clips of a job that has been generated; once, and again with fresh links.

        Raises:
            NotNow: If another worker has it in hand.
        """
        job = await self._take(job_id)
        if job is None:
            raise NotNow("another worker has this job in hand", retry_after_s=_SOON_S)
        try:
            await self._remove_parts([job])
            await self._carrier.fetch_only(job)
        finally:
            await self._give_back(job_id)

    # -- how -------------------------------------------------------------------------------------

    async def _work(self, writer: Writer) -> None:
        self._writer = writer
        self._carrier.download_tries = _DOWNLOAD_TRIES
        await self._look_back(writer)
        await self._take_over(writer)
        self.is_ready.set()
        while not self._leaving:
            if self._crash is not None:
                raise self._crash
            self._wake.clear()
            await self._wait(None)

    def _spawn(self, job: Job) -> None:
        self._held[job.id] = job  # its step carries it

    def _check(self) -> None:
        if self._was_moved is not None:
            raise self._was_moved
        for reason in self.limits.reasons:
            if reason.exit_code is Exit.DATABASE:
                raise SteppedBack(reason.message)
            if not isinstance(reason, Held):  # that is of one model
                raise Halted(reason.message, exit_code=reason.exit_code)
        if self._leaving:
            raise NotNow("the job database is being closed", retry_after_s=_SOON_S)
        if self.limits.offline:
            raise NotNow("the service cannot be reached", retry_after_s=_LATER_S)
        if self._carrier.writer.stuck:
            raise NotNow(str(self._carrier.writer.stuck), retry_after_s=_LATER_S)

    def _explain(self, claim: Claim | None, job_id: int) -> None:
        """Say why a pending job was not claimed; nothing if it is not pending any more."""
        if claim is None:
            raise NotNow("the job database is not in its place", retry_after_s=_LATER_S)
        if claim.stepped_back is not None:
            raise SteppedBack(explain(claim.stepped_back))
        if claim.paused:
            raise Halted("the account is paused: `batchgen unpause` lets it go on")
        if claim.over_budget:
            raise Halted(
                "the budget leaves no room for this job: raise it with `batchgen set budget`",
                exit_code=Exit.BUDGET,
            )
        wait_s = (claim.wait_until_ms - self.now_ms()) / 1000 if claim.wait_until_ms else 0.0
        if wait_s > 0:
            raise NotNow("the account's submits wait", retry_after_s=wait_s)
        if claim.live >= claim.cap:
            raise NotNow(
                f"{claim.live} jobs are in flight, as many as the account's cap allows",
                retry_after_s=_SOON_S,
            )

    def _is_early(self, look: Look, attempt_id: str) -> bool:
        if look.phase is not Phase.SUCCEEDED or look.output_urls:
            return False
        now_ms = self.now_ms()
        since_ms = self._empty_since_ms.setdefault(attempt_id, now_ms)
        return now_ms - since_ms < _NO_OUTPUT_FOR_MS

    async def _take(self, job_id: int) -> Job | None:
        """Take a paid job that nobody holds."""
        request = AdoptRequest(
            worker_id=self.worker_id,
            account_id=self.account_id,
            wanted=1,
            downloads=True,
            now_ms=self.now_ms(),
            job_id=job_id,
        )
        taken = await self._writer.do(jobs.adopt, request)
        return taken[0] if taken else None

    async def _give_back(self, job_id: int) -> None:
        await self._writer.do(sharing.give_back, sharing.Step(self.worker_id, job_id))
