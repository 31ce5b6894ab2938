"""Run a session of work against a provider: what `run` and `download` share."""

import gc
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batchgen.awake import kept_awake
from batchgen.cli import common
from batchgen.cli.numbers import Meter
from batchgen.cli.progress import Mode, shown
from batchgen.domain.errors import OutputError
from batchgen.domain.redaction import printable, redact_text
from batchgen.domain.states import JobState
from batchgen.domain.telling import Emit, silent
from batchgen.downloads.destination import Destination
from batchgen.downloads.destinations import Destinations
from batchgen.downloads.fetch import Fetcher
from batchgen.http import FileClient, file_client
from batchgen.library import step_backs
from batchgen.providers.interface import Provider
from batchgen.runner import turns
from batchgen.runner.clocks import new_id, steady_s, wall_ms
from batchgen.runner.job import Settings
from batchgen.runner.listener import Watch
from batchgen.runner.loop import Outcome, Session
from batchgen.runner.purse import Purse
from batchgen.settings import part_bytes
from batchgen.store import control, reads
from batchgen.store.database import Database
from batchgen.store.jobs import Job, NewSeed
from batchgen.store.scope import Scope

if TYPE_CHECKING:
    from batchgen.inputs.sending import Sender
    from batchgen.metrics import Metrics
    from batchgen.sidecars import Sidecars

_UNGENERATED = (JobState.PENDING, JobState.SUBMITTING, JobState.RUNNING)


@dataclass(frozen=True)
class Errand:
    """One session of work.

    Attributes:
        database: Opened and current.
        make_provider: Called once.
        account_id: Who pays.
        scope: What may be paid for.
        settings: What the user chose.
        allow_private: Whether clips may come from private addresses (a loopback service).
        total: How many jobs of the scope are not at rest.
        goal: How many of them the session may bring to rest, less with `--limit`: the display
            counts to it. None is all of them.
        progress: How the display shows it.
        is_estimate: Whether some of what the batches had spent was not stated by the service.
        command: For the record.
        renew_token: Gives the provider a newer token, if there is one.
        purse: What the account holds, and what must be left of it.
        reseed: Gives a job that is bought again another seed; None if its model takes none.
        session_id: Of the session.
        emit: Told what happens.
        sender: Makes input files ready; None if nothing is bought.
        sidecar: Write beside each clip what it was made of.
        keep_awake: Keep the machine from sleeping meanwhile.
        metrics: Told how it goes, once a second.
        untouched: Paid jobs that it leaves alone, where nothing is bought.
    """

    database: Database
    make_provider: Callable[[], Provider]
    account_id: int
    scope: Scope
    settings: Settings
    allow_private: bool
    total: int
    goal: int | None = None
    progress: Mode = Mode.NONE
    is_estimate: bool = False
    command: str = "run"
    renew_token: Callable[[Provider], bool] = lambda _: False
    purse: Purse = field(default_factory=lambda: Purse(steady_s))
    reseed: Callable[[Job], NewSeed | None] = lambda _: None
    session_id: str = field(default_factory=lambda: new_id("s", wall_ms()))
    emit: Emit = silent
    sender: "Sender | None" = None
    sidecar: bool = False
    keep_awake: bool = False
    metrics: "Metrics | None" = None
    untouched: frozenset[int] = frozenset()

    @property
    def buys(self) -> bool:
        """Whether anything may be paid for."""
        return self.scope.max_job_id > 0


def work(errand: Errand) -> Outcome:
    """Work until everything in scope is at rest, and show how it goes.

    Raises:
        StoreError: If the job database fails for good.
    """
    # What has been imported stays; looking through it again and again cost a tenth of the time.
    gc.freeze()
    # The loop stands still for each collection. What is new is looked through in a few ms; a
    # hundred thousand objects of jobs in flight, in which little is ever found, once a million.
    gc.set_threshold(2_500, 400, 100)
    # Before the loop begins: they read certificates for longer than any of its turns may take.
    provider = errand.make_provider()
    client = None
    if errand.settings.download:
        client = file_client(
            connections=errand.settings.download_jobs, allow_private=errand.allow_private
        )
    began_s = steady_s()
    outcome = turns.run(_work(errand, provider, client))
    outcome.took_s = steady_s() - began_s
    return outcome


async def _work(errand: Errand, provider: Provider, client: FileClient | None) -> Outcome:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(provider.close)
        fetcher = None
        if client is not None:
            stack.push_async_callback(client.aclose)
            fetcher = Fetcher(
                client=client, allow_private=errand.allow_private, part_bytes=part_bytes()
            )
        destinations = Destinations(errand.database.folder)
        places = _clip_places(errand, destinations)
        journal = step_backs.begin_journal(errand.database, say=say)
        stack.callback(journal.close)
        session = Session(
            database=errand.database,
            provider=provider,
            fetcher=fetcher,
            account_id=errand.account_id,
            scope=errand.scope,
            settings=errand.settings,
            destinations=destinations,
            free_bytes=lambda: min(map(_free, places)),
            say=say,
            command=errand.command,
            journal=journal,
            total=errand.total,
            reseed=errand.reseed,
            sender=errand.sender,
            sidecars=_sidecars(errand),
            renew_token=lambda: errand.renew_token(provider),
            purse=errand.purse,
            session_id=errand.session_id,
            emit=errand.emit,
            untouched=errand.untouched,
        )
        stack.enter_context(kept_awake(is_wanted=errand.keep_awake))
        if errand.progress is not Mode.NONE or errand.metrics is not None:
            meter = _meter(errand, session, fetcher)
            await stack.enter_async_context(shown(meter, errand.progress))
            if errand.metrics is not None:
                from batchgen.cli.measuring import measured  # brings a web server with it

                await stack.enter_async_context(
                    measured(meter, lambda: session.view(0), errand.metrics)
                )
        return await session.run()


def _meter(errand: Errand, session: Session, fetcher: Fetcher | None) -> Meter:
    first = None
    if errand.buys:
        with errand.database.reading() as tx:
            first = control.standing(tx, errand.account_id, errand.scope.batch_ids)
    meter = Meter(
        session.stats,
        view=session.view,
        total=errand.total if errand.goal is None else errand.goal,
        first=first,
        is_estimate=errand.is_estimate,
        received_bytes=lambda: 0 if fetcher is None else fetcher.received_bytes,
    )
    if errand.buys:
        session.watch = Watch(errand.scope.batch_ids, meter.stood)
    return meter


def _sidecars(errand: Errand) -> "Sidecars | None":
    if not errand.sidecar:
        return None
    from batchgen.sidecars import Sidecars  # a tenth of what `download` takes to start

    return Sidecars(errand.database)


def _clip_places(errand: Errand, destinations: Destinations) -> list[Destination]:
    """Return where clips go that may yet be paid for."""
    scope = errand.scope.batch_ids
    with errand.database.reading() as tx:
        batches = [
            one
            for one in reads.batches(tx)
            if one.account_id == errand.account_id
            and (scope is None or one.id in scope)
            and any(one.counts.get(state) for state in _UNGENERATED)
        ]
    names = dict.fromkeys(one.output_dir for one in batches)
    return [destinations.of(name) for name in names or ("",)]


def _free(place: Destination) -> int:
    try:
        free = place.free_bytes()
    except OutputError as error:
        say(str(error))
        return 0
    return sys.maxsize if free is None else free


def say(message: str) -> None:
    """Tell the user something, on stderr."""
    common.echo(printable(redact_text(message)), err=True)
