"""An open job database: manifests are added, run and read; or each job is taken step by step.

Everything durable is in the job database, so that each step may be repeated by whoever drives
it: what a step finds done is not done again, and what nobody can know is never paid for twice.
"""

import asyncio
import json
import logging
import random
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import replace as changed
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from batchgen import planning
from batchgen.buckets.location import parse_location
from batchgen.domain.errors import (
    DownloadError,
    InDoubt,
    ManifestError,
    NoClip,
    NoSuchBatch,
    NoSuchJob,
    NotNow,
    OutputError,
    StoreError,
    UsageError,
)
from batchgen.domain.halting import NEVER_HALTS, Halting, parse_halting
from batchgen.domain.redaction import printable, redact_text
from batchgen.domain.states import LOST, UNFINISHED, JobState
from batchgen.downloads.destination import clip_path, folder_of
from batchgen.downloads.destinations import Destinations
from batchgen.downloads.fetch import Fetcher
from batchgen.downloads.folder import free_bytes
from batchgen.http import file_client
from batchgen.library import service, step_backs
from batchgen.library.input_files import sender_of
from batchgen.library.known_models import known_models
from batchgen.library.service import Service
from batchgen.library.stepping import SOON_S, Stepper
from batchgen.library.values import Added, Clip, Ended, Event, Result, Standing, Submitted
from batchgen.planning import Plan, Verdict, Wish
from batchgen.providers.interface import Look, Phase
from batchgen.runner.clocks import wall_ms
from batchgen.runner.job import Settings
from batchgen.runner.loop import Session
from batchgen.runner.steps import Steps
from batchgen.settings import find_token, part_bytes
from batchgen.store import accounts, imports, moving, reads, upgrade, workers
from batchgen.store.accounts import Account
from batchgen.store.database import Database
from batchgen.store.reads import JobRow
from batchgen.store.scope import Scope
from batchgen.store.transactions import Transaction

logger = logging.getLogger(__name__)

Manifest = str | PathLike[str] | Iterable[Mapping[str, Any]]
"""A file, or rows: each a mapping of its columns."""

_PROVIDER = "runcomfy"


class RunOptions(TypedDict, total=False):
    """What a run may be told; what is left out is as `JobDatabase.run_async` has it."""

    batch: str | None
    jobs: int | None
    limit: int | None
    retries: int
    download: bool
    halt: Sequence[str]
    max_duration_s: float | None
    on_event: Callable[[Event], None] | None


def open(database: str | PathLike[str], *, account: str = "default") -> "JobDatabase":
    """Open a job database, and make it if there is none yet.

    Args:
        database: A path, `sqlite:///PATH`, or `postgresql://USER@HOST/DATABASE`.
        account: Who pays.

    Raises:
        StoreError: If it cannot be used, is another version's, or its jobs have moved.
    """
    opened = JobDatabase(str(database), account=account)
    opened._check()
    return opened


class JobDatabase:
    """An open job database; see `batchgen.open`. It may be used by several threads at once.

    Open it in the process that uses it: a connection does not survive a fork.
    """

    def __init__(self, url: str, *, account: str = "default") -> None:
        self._url = url
        self._account = account
        self._reader = Database(url)
        self._lock = threading.Lock()
        self._stepper: Stepper | None = None

    @property
    def name(self) -> str:
        """The job database's name for people, without any password."""
        return self._reader.shown

    @property
    def folder(self) -> Path:
        """The folder that relative output folders start from."""
        return self._reader.folder

    def close(self) -> None:
        """Leave; what is under way in other threads is awaited and recorded."""
        with self._lock:
            stepper, self._stepper = self._stepper, None
            if stepper is not None:
                stepper.close()
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- manifests -------------------------------------------------------------------------------

    def add(
        self,
        manifest: Manifest,
        *,
        batch: str | None = None,
        model: str | None = None,
        output_dir: str | PathLike[str] | None = None,
        budget_usd: float | None = None,
        uploads: str | None = None,
        replace: bool = False,
        new_batch: bool = False,
        max_expand: int = 100_000,
        allow_private_inputs: bool = False,
    ) -> Added:
        """Store the jobs of a manifest: all of them, or none if one has a fault. Nothing is paid.

        Rows that are known already are not stored twice.

        Args:
            manifest: A file, or rows as mappings; of rows, `batch` must name the batch.
            batch: The name of the batch; else the manifest says, or is called so.
            model: What makes the clips; else the rows, the manifest or the batch say.
            output_dir: Where clips go; `clips` beside the job database unless said before.
            budget_usd: What the batch may cost over its life.
            uploads: The bucket that input files of this machine are uploaded to; else the
                manifest or the batch say. Rows name files from the current folder.
            replace: Buy clips again whose inputs have changed.
            new_batch: The rows are meant as new jobs, whatever they resemble.
            max_expand: Refuse a manifest that expands beyond this.
            allow_private_inputs: Input URLs may point to private addresses, and files lie
                outside of the manifest's folder.

        Raises:
            ManifestError: With every fault of every row.
            UsageError: If what is asked contradicts the job database.
        """
        wish = Wish(
            "",
            account=self._account,
            model=model,
            batch=batch,
            output_dir=None if output_dir is None else str(output_dir),
            budget_micros=None if budget_usd is None else _micros(budget_usd),
            uploads=None if uploads is None else str(parse_location(uploads)),
            replace=replace,
            new_batch=new_batch,
            max_expand=max_expand,
            allow_private_inputs=allow_private_inputs,
            models=known_models(),
        )
        if isinstance(manifest, str | PathLike):
            return self._add(changed(wish, path=str(manifest)))
        if batch is None:
            raise UsageError("rows have no name: say which batch they are, as batch='harbor'")
        with tempfile.TemporaryDirectory(prefix="batchgen-") as folder:
            path = Path(folder) / "rows.jsonl"
            _write(path, manifest)
            wish = changed(wish, path=str(path), folder=str(Path.cwd()))
            try:
                return self._add(wish, source=f"rows of {batch}")
            except ManifestError as error:  # nobody knows the file that they were written to
                faults = [changed(fault, file="rows") for fault in error.faults]
                said = faults or str(error).replace(str(path), "rows")
                raise ManifestError(said, total=error.total) from error

    def _add(self, wish: Wish, *, source: str | None = None) -> Added:
        with closing(self._opened()) as database, imports.adding(database):
            with database.reading() as tx:
                draft = planning.draft(tx, [wish])[0]
                prepared = draft.prepared
                if source is not None:  # not the file that they were written to for now
                    known = changed(prepared.batch, source=source)
                    prepared = changed(prepared, batch=known)
                plan = planning.decide(tx, prepared)
            planning.check_budget(plan)
            draw = random.SystemRandom().randint
            planning.store(database, plan, now_ms=wall_ms(), draw=draw)
        return _added(plan)

    # -- a run -----------------------------------------------------------------------------------

    def run(self, **options: Unpack[RunOptions]) -> Ended:
        """Pay for jobs that wait, and work until they are at rest; as `run_async`, and waits."""
        return asyncio.run(self.run_async(**options))

    async def run_async(
        self,
        *,
        batch: str | None = None,
        jobs: int | None = None,
        limit: int | None = None,
        retries: int = 1,
        download: bool = True,
        halt: Sequence[str] = ("streak=10",),
        max_duration_s: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Ended:
        """Pay for jobs that wait, and work until they are at rest. It does not ask.

        What an earlier run, or any step, has left is gone on with: resuming is running. Input
        URLs are not looked at before, as `batchgen run --probe` does.

        Args:
            batch: Only the jobs of this batch; else all of the account.
            jobs: How many may be in flight over all workers of the account, stored if no other
                worker lives; None is what is stored.
            limit: At most so many new payments.
            retries: New paid attempts after a failure that passes, for each job.
            download: Fetch the clips.
            halt: When to stop by itself, as `batchgen run --halt`.
            max_duration_s: Submits end so long after the start.
            on_event: Told what happens, in the event loop's thread: it must return at once.

        Raises:
            StoreError: If the job database fails for good.
            TokenMissing: If there is no token.
        """
        settings = Settings(
            retries=retries,
            limit=limit,
            download=download,
            halting=_halting(halt),
            max_duration_s=max_duration_s,
        )

        def emit(kind: str, /, **fields: Any) -> None:
            if on_event is not None:
                on_event(Event(kind, fields))

        async with AsyncExitStack() as stack:
            database = stack.enter_context(closing(self._opened()))
            found = self._service()
            account = self._bound(database, found)
            if jobs is not None:
                mine = self._stepper.worker_id if self._stepper else ""
                with database.transaction() as tx:
                    share = _limit(tx, database, account, jobs, but=mine)
                settings = changed(settings, jobs=share)
            scope = _scope(database, batch)
            provider = found.connect()
            stack.push_async_callback(provider.close)
            client = file_client(connections=settings.download_jobs, allow_private=found.is_local)
            stack.push_async_callback(client.aclose)
            journal = step_backs.begin_journal(database, say=_say)
            stack.callback(journal.close)
            folder = database.folder
            with database.reading() as tx:
                begun = reads.tally(tx, scope, account.id)
            began_ms = wall_ms()
            session = Session(
                database=database,
                provider=provider,
                fetcher=Fetcher(
                    client=client, allow_private=found.is_local, part_bytes=part_bytes()
                )
                if download
                else None,
                account_id=account.id,
                scope=scope,
                settings=settings,
                destinations=Destinations(folder),
                free_bytes=lambda: free_bytes(folder),
                say=_say,
                command="library",
                journal=journal,
                sender=sender_of(database),
                total=sum(begun[state] for state in UNFINISHED),
                emit=emit,
                minds_signals=False,
            )
            outcome = await session.run()
            with database.reading() as tx:
                since_ms = 0 if batch is not None else began_ms
                tally = reads.tally(tx, scope, account.id, since_ms=since_ms)
        return Ended(
            counts={state: tally[state] for state in JobState if tally[state]},
            submitted=outcome.stats.submitted,
            reasons=tuple(_shown(reason.message) for reason in outcome.reasons),
        )

    # -- looking ---------------------------------------------------------------------------------

    def results(
        self, *, batch: str | None = None, states: Iterable[JobState | str] = ()
    ) -> Iterator[Result]:
        """Yield the jobs in manifest order, as they stand.

        Args:
            batch: Only of this batch.
            states: Only in one of these states; all if none is named.

        Raises:
            NoSuchBatch: If there is no such batch.
        """
        wanted = [JobState(state) for state in states]
        with self._reader.reading() as tx:
            batch_id = None if batch is None else _batch_id(tx, batch)
            for row in reads.job_rows(tx, batch_id=batch_id, states=wanted):
                yield self._result(row)

    def result(self, job: str) -> Result:
        """Return one job as it stands.

        Args:
            job: Its key, or `BATCH/ID`, or its id if no other has that.

        Raises:
            NoSuchJob: If no job has this name, or several have.
        """
        return self._result(self._row(job))

    def _result(self, row: JobRow) -> Result:
        return Result(
            key=row.key,
            id=row.row_id,
            variant=row.variant,
            batch=row.batch,
            state=row.state,
            model=row.model,
            columns=row.cells,
            clips=self._clips(row),
            attempt=row.attempt_id,
            request_id=row.request_id,
            cost_usd=None if row.stated_micros is None else row.stated_micros / 1_000_000,
            error_class=row.error_class,
            error=None if row.error is None else _shown(row.error),
            finished_at=_time(row.finished_ms),
        )

    # -- one job, step by step -------------------------------------------------------------------

    def submit_one(self, job: str) -> Submitted:
        """Send the paid request of a job, unless it has been sent; return what it is known by.

        May be called again whatever interrupted it: a job whose request id is known is not paid
        for again. Only one that failed in a way that passes, or was retried by a person, is sent
        anew.

        Args:
            job: Its key, or `BATCH/ID`, or its id if no other has that.

        Raises:
            InDoubt: If a request was sent and nobody knows whether it was accepted.
            NotNow: If nothing was sent, and it may be tried again later.
            Halted: If nothing was sent, and a person must act first.
            NoClip: If the job has come to rest without a clip.
            NoSuchJob: If there is no such job.
        """
        row = self._row(job)
        if row.state is JobState.SUBMITTING:
            # Whoever submits it may have died: then it is in doubt from now on.
            self._steps().result(Steps.take_over)
            row = self._again(row.id)
        is_new = row.state is JobState.PENDING
        if is_new:
            stepper = self._steps()
            stepper.result(Steps.submit, row.id)
            row = self._again(row.id)
            if row.state is JobState.PENDING:
                stepper.result(Steps.check)
                self._check_account(row)
        return _submitted(row, is_new=is_new)

    async def submit_one_async(self, job: str) -> Submitted:
        """As `submit_one`, awaited."""
        return await asyncio.to_thread(self.submit_one, job)

    def poll_one(self, attempt: str) -> Standing:
        """Look once how a paid request stands; the service is asked only while it runs.

        Args:
            attempt: Of `submit_one`.

        Raises:
            ProviderError: If that is not to be learned now: ask again later.
            NoSuchJob: If there is no such attempt.
        """
        row, is_current = self._of_attempt(attempt)
        if not is_current or row.state is not JobState.RUNNING or row.request_id is None:
            return _standing(row, attempt, None, is_current=is_current)
        look = self._steps().result(Steps.look, row.id, attempt, row.model, row.request_id)
        row, is_current = self._of_attempt(attempt)
        return _standing(row, attempt, look, is_current=is_current)

    async def poll_one_async(self, attempt: str) -> Standing:
        """As `poll_one`, awaited."""
        return await asyncio.to_thread(self.poll_one, attempt)

    def fetch_one(self, attempt: str) -> tuple[Clip, ...]:
        """Fetch the clips of a request that has been generated; return the files, each whole.

        Called again it returns the same files.

        Args:
            attempt: Of `submit_one`.

        Raises:
            NotNow: If it has not been generated yet, or another worker has it in hand.
            NoClip: If there will be none of this request.
            DownloadError: If a clip could not be fetched this time.
            OutputError: If it cannot be written, or is gone from the disk.
            NoSuchJob: If there is no such attempt.
        """
        row, is_current = self._of_attempt(attempt)
        if not is_current:
            raise _no_clip(row, "another request has been sent for its job since")
        if row.state is JobState.DOWNLOADING:
            self._steps().result(Steps.fetch, row.id)
            row, _ = self._of_attempt(attempt)
        if row.state is JobState.SUCCEEDED:
            return self._checked(row)
        if row.state in (JobState.SUBMITTING, JobState.RUNNING):
            raise NotNow(f"{row.batch}/{row.label} is not generated yet", retry_after_s=SOON_S)
        if row.state is JobState.DOWNLOADING:
            raise DownloadError(_shown(row.error or "the clip could not be fetched"))
        raise _no_clip(row, _shown(row.error or "it has come to rest"))

    async def fetch_one_async(self, attempt: str) -> tuple[Clip, ...]:
        """As `fetch_one`, awaited."""
        return await asyncio.to_thread(self.fetch_one, attempt)

    def _checked(self, row: JobRow) -> tuple[Clip, ...]:
        place = Destinations(self.folder).of(row.output_dir)
        for one in row.files:
            if not place.has(str(one["path"])):
                raise OutputError(
                    f"{place.path(str(one['path']))} is gone: `batchgen download --refresh` "
                    "fetches it again without paying"
                )
        return self._clips(row)

    def _clips(self, row: JobRow) -> tuple[Clip, ...]:
        folder = folder_of(self.folder, row.output_dir)
        return tuple(
            Clip(
                Path(name) if folder is None else folder / name,
                str(one["sha256"]),
                int(one["size_bytes"]),
                url=clip_path(row.output_dir, name) if folder is None else "",
            )
            for one in row.files
            for name in [str(one["path"])]
        )

    # -- how -------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._reader.check_place()
        upgrade.open_current(self._reader)
        moving.refuse(self._reader)

    def _opened(self) -> Database:
        """Return a connection of its own: two writers must not share one."""
        database = Database(self._url)
        upgrade.open_current(database)
        return database

    def _service(self) -> Service:
        found = service.configured()
        found.token = find_token()
        return found

    def _bound(self, database: Database, found: Service) -> Account:
        """Return the account, for good at the service that is configured."""
        step_backs.refuse(database, declare=True)
        with database.transaction() as tx:
            moving.hold(tx)
            account = accounts.ensure(tx, _PROVIDER, self._account)
            digest = found.token.digest if found.token else ""
            accounts.bind(tx, account, origin=found.origin, token_hash=digest)
        return account

    def _steps(self) -> Stepper:
        """Return the worker that takes steps; a new one after one that stopped paying."""
        with self._lock:
            if self._stepper is not None and self._stepper.is_spent:
                self._stepper.close()
                self._stepper = None
            if self._stepper is None:
                found = self._service()
                with closing(self._opened()) as database:
                    account = self._bound(database, found)
                self._stepper = Stepper(
                    self._opened,
                    account_id=account.id,
                    service=found,
                    settings=Settings(halting=NEVER_HALTS),
                    say=_say,
                )
                # What is not closed by then leaves in good order when the program ends.
                weakref.finalize(self, self._stepper.close)
            return self._stepper

    def _check_account(self, row: JobRow) -> None:
        """Refuse to wait for a job that somebody else pays for.

        Raises:
            UsageError: If so.
        """
        with self._reader.reading() as tx:
            known = {one.id: one.name for one in accounts.every(tx)}
            payers = {one.id: known.get(one.account_id) for one in reads.batches(tx)}
        payer = payers.get(row.batch_id)
        if payer != self._account:
            raise UsageError(
                f"{row.batch}/{row.label} belongs to the account {payer!r}: open the job database "
                f"with account={payer!r}"
            )

    def _row(self, job: str) -> JobRow:
        with self._reader.reading() as tx:
            found = reads.find(tx, job)
            if len(found) != 1:
                many = f"{len(found)} jobs are called {job!r}: say BATCH/ID, or the key"
                raise NoSuchJob(many if found else f"there is no job {job!r} in {self.name}")
            row = reads.job_row(tx, found[0])
        if row is None:
            raise NoSuchJob(f"there is no job {job!r} in {self.name}")
        return row

    def _again(self, job_id: int) -> JobRow:
        with self._reader.reading() as tx:
            row = reads.job_row(tx, job_id)
        if row is None:
            raise NoSuchJob(f"the job is not in {self.name} any more")
        return row

    def _of_attempt(self, attempt: str) -> tuple[JobRow, bool]:
        """Return the job of an attempt, and whether the attempt is its newest."""
        with self._reader.reading() as tx:
            job_id = reads.job_of_attempt(tx, attempt)
            row = None if job_id is None else reads.job_row(tx, job_id)
        if row is None:
            raise NoSuchJob(f"there is no attempt {attempt!r} in {self.name}")
        return row, row.attempt_id == attempt


# -- small things ----------------------------------------------------------------------------------


def _submitted(row: JobRow, *, is_new: bool) -> Submitted:
    """Return what a job's request is known by; raise what its state means to who submits.

    Raises:
        InDoubt, NoClip, NotNow: As `JobDatabase.submit_one`.
    """
    name = f"{row.batch}/{row.label}"
    if row.state is JobState.IN_DOUBT:
        raise InDoubt(
            f"{name} is in doubt: a request was sent, and nobody knows whether it was accepted. It "
            "is not sent again before `batchgen reconcile` has decided",
            attempt_id=row.attempt_id or "",
        )
    if row.state in LOST:
        raise _no_clip(row, _shown(row.error or "it has come to rest"))
    if row.state is JobState.SUBMITTING:
        raise NotNow(f"{name} is being submitted by another worker", retry_after_s=SOON_S)
    if row.state is JobState.PENDING:
        said = _shown(row.error) if row.error else "nothing was sent"
        raise NotNow(f"{name} waits: {said}", retry_after_s=SOON_S)
    if row.attempt_id is None or row.request_id is None:
        raise StoreError(f"{name} is {row.state} without a request: `batchgen show {row.key}`")
    return Submitted(row.key, row.attempt_id, row.request_id, is_new=is_new)


def _no_clip(row: JobRow, why: str) -> NoClip:
    return NoClip(
        f"{row.batch}/{row.label} is {row.state}: {why}",
        state=str(row.state),
        error_class=row.error_class,
    )


def _standing(row: JobRow, attempt: str, look: Look | None, *, is_current: bool) -> Standing:
    runs = is_current and row.state is JobState.RUNNING
    seen = look if runs and look and look.phase in (Phase.QUEUED, Phase.IN_PROGRESS) else None
    return Standing(
        job=row.key,
        attempt=attempt,
        state=row.state,
        is_current=is_current,
        remote_state=seen.remote_state if seen else row.remote_state if runs else None,
        queue_position=seen.queue_position if seen else None,
        error_class=row.error_class,
        error=None if row.error is None else _shown(row.error),
    )


def _added(plan: Plan) -> Added:
    estimate = plan.estimate
    return Added(
        batch=plan.batch.name,
        new=plan.count(Verdict.NEW),
        changed=plan.count(Verdict.CHANGED),
        reopened=plan.count(Verdict.REOPENED),
        replaced=plan.count(Verdict.REPLACED),
        kept=sum(
            plan.count(verdict)
            for verdict in (Verdict.UNCHANGED, Verdict.LEFT, Verdict.BUSY, Verdict.RENAMED)
        ),
        held=plan.count(Verdict.HELD),
        to_pay=plan.to_pay,
        estimate_usd=None if estimate.unpriced else estimate.micros / 1_000_000,
    )


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON Lines.

    Raises:
        ManifestError: If one holds what JSON cannot.
    """
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows, start=1):
            try:
                file.write(json.dumps(dict(row), ensure_ascii=False) + "\n")
            except (TypeError, ValueError) as error:
                raise ManifestError(f"row {number}: {error}: a row is what JSON can hold") from None


def _scope(database: Database, batch: str | None) -> Scope:
    with database.reading() as tx:
        batch_ids = None if batch is None else (_batch_id(tx, batch),)
        return Scope(batch_ids, reads.newest_job_id(tx))


def _batch_id(tx: Transaction, name: str) -> int:
    known = {one.name: one.id for one in reads.batches(tx)}
    if name not in known:
        raise NoSuchBatch(
            f"there is no batch {name!r}; the batches are: {', '.join(known) or 'none'}"
        )
    return known[name]


def _limit(
    tx: Transaction, database: Database, account: Account, jobs: int, *, but: str
) -> int | None:
    """Store the cap, if no other worker lives; return what this run takes of it, None for all."""
    if jobs < 1:
        raise UsageError(f"jobs={jobs}: at least 1 may be in flight")
    if not workers.living(tx, database.backend, but=but):
        accounts.set_cap(tx, account, jobs)
        return None
    _say(f"other workers are at work: the cap stays {account.cap}, this run takes at most {jobs}")
    return jobs


def _halting(said: Sequence[str]) -> Halting:
    try:
        return parse_halting(said)
    except ValueError as error:
        raise UsageError(f"halt: {error}") from error


def _micros(usd: float) -> int:
    if not 0 < usd < 1_000_000_000:
        raise UsageError(f"budget_usd={usd}: it is no amount of dollars above 0")
    return max(1, round(usd * 1_000_000))


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)


def _shown(text: str) -> str:
    """Return what may be shown: texts come from the service and from manifests."""
    return printable(redact_text(text))


def _say(text: str) -> None:
    logger.warning("%s", _shown(text))
