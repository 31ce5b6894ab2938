"""`batchgen cancel`: cancel jobs that have not been generated."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli import common, selection
from batchgen.cli.selection import Selection, name_of
from batchgen.domain.errors import BatchgenError, Exit, ProviderError, UsageError
from batchgen.domain.redaction import redact_text
from batchgen.domain.states import JobState
from batchgen.runner.clocks import wall_ms
from batchgen.store import by_hand, control, reads
from batchgen.store.database import Database, chunks
from batchgen.store.reads import BatchSummary, Brief

if TYPE_CHECKING:
    from batchgen.library.service import Service
    from batchgen.providers.interface import Provider

_DONE = "cancelled; nothing more is paid"
_ASKED = "the service cancels it; a run records it once it has looked, a live one within seconds"
_TOO_LATE = "it is being generated, or done, and cannot be cancelled: it goes on"
_UNDER_WAY = "is being submitted just now: cancel it again once it runs"
_NOT_YET = {
    "cancelled": "would be cancelled; nothing more is paid",
    "asked": "the service would be asked; it can cancel only what still waits in its queue",
}
_ASKED_AT_ONCE = 8


@dataclass(frozen=True)
class _Answer:
    """What became of one job."""

    job: Brief
    outcome: str  # cancelled | asked | left
    message: str


@click.command("cancel")
@selection.jobs_argument
@selection.where_option
@click.option("--pending", is_flag=True, help="Every job that has not been submitted.")
@click.option("--batch", metavar="NAME", help="With --pending or --where: only of this batch.")
@selection.dry_run_option
@common.account_option
@common.json_option
@common.db_option
def command(
    *,
    jobs: tuple[str, ...],
    where: str | None,
    pending: bool,
    batch: str | None,
    dry_run: bool,
    account: str,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> int:
    """Cancel jobs. What is pending is cancelled at once and costs nothing.

    For a running job the service is asked; it can cancel only what still waits in its queue.
    --pending alone is of the account. Exit code 3 if a job was left alone, 0 if none was found.
    JOB may be - to read jobs from stdin.
    """
    chosen = Selection(jobs, where, batch, [JobState.PENDING] if pending else ())
    if chosen.is_empty:
        raise UsageError(
            "name jobs, or select them: --pending for every one not submitted, or --where"
        )
    trouble: BatchgenError | None = None
    with closing(common.open_to_change(db, allow_network_fs=allow_network_fs)) as database:
        if pending and where is None:
            return _cancel_all(database, account, batch, dry_run=dry_run, as_json=as_json)
        with database.reading() as tx:
            found = chosen.briefs(tx)
        answers = _foreseen(found) if dry_run else _cancel_pending(database, found)
        running = [answer.job for answer in answers if _is_at_service(answer)]
        if running and not dry_run:
            try:
                said = _ask(database, account, running)
            except BatchgenError as error:  # told after what was done
                trouble = error
            else:
                answers = [said.get(answer.job.id, answer) for answer in answers]
    _print(answers, dry_run=dry_run, as_json=as_json)
    if trouble is not None:
        raise trouble
    left = any(answer.outcome == "left" for answer in answers)
    return Exit.SOME_FAILED if left else Exit.SUCCESS


def _cancel_all(
    database: Database, account: str, batch: str | None, *, dry_run: bool, as_json: bool
) -> int:
    """Cancel all that is pending, batch by batch: whatever their number, at once."""
    with database.reading() if dry_run else database.transaction() as tx:
        batch_id = common.batch_id_of(tx, batch)
        payer = None if batch_id else common.account_of(tx, account)
        chosen = [
            one
            for one in reads.batches(tx)
            if one.id == batch_id or (payer is not None and one.account_id == payer.id)
        ]
        done = {
            one.name: _pending(one)
            if dry_run
            else control.cancel_pending(tx, one.id, now_ms=wall_ms())
            for one in chosen
        }
    if as_json:
        common.print_json({"dry_run": dry_run, "cancelled": done})
        return Exit.SUCCESS
    for name, count in done.items():
        if count or batch is not None:
            said = _NOT_YET["cancelled"] if dry_run else _DONE
            click.echo(f"{name}: {common.plural(count, 'pending job')} {said}")
    if not any(done.values()):
        click.echo("no job was pending", err=True)
    return Exit.SUCCESS


def _pending(batch: BatchSummary) -> int:
    return batch.counts.get(JobState.PENDING, 0)


def _is_at_service(answer: _Answer) -> bool:
    return answer.job.state is JobState.RUNNING and answer.job.request_id is not None


def _foreseen(jobs: Sequence[Brief]) -> list[_Answer]:
    words = {JobState.PENDING: "cancelled", JobState.RUNNING: "asked"}
    return [
        _Answer(job, words[job.state], _NOT_YET[words[job.state]])
        if job.state in words
        else _Answer(job, "left", _why(job.state))
        for job in jobs
    ]


def _why(state: JobState) -> str:
    return _UNDER_WAY if state is JobState.SUBMITTING else f"is {state}"


def _cancel_pending(database: Database, jobs: Sequence[Brief]) -> list[_Answer]:
    outcomes: dict[int, by_hand.Outcome] = {}
    for some in chunks(jobs, selection.AT_ONCE):
        with database.transaction() as tx:
            outcomes |= by_hand.cancel_each(tx, [job.id for job in some], now_ms=wall_ms())
    with database.reading() as tx:  # as they are by now: one may have been submitted meanwhile
        now = reads.briefs(tx, [job.id for job in jobs if not outcomes[job.id].done])
    current = {job.id: job for job in now}
    return [
        _Answer(job, "cancelled", _DONE)
        if outcomes[job.id].done
        else _Answer(current[job.id], "left", _why(current[job.id].state))
        for job in jobs
    ]


def _ask(database: Database, account: str, jobs: Sequence[Brief]) -> Mapping[int, _Answer]:
    from batchgen.cli import service  # loads the network libraries

    with database.reading() as tx:
        payer, found = service.find(tx, account)
    mine = [job for job in jobs if job.account_id == payer.id]
    strange = [job for job in jobs if job.account_id != payer.id]
    answers = asyncio.run(_ask_each(found, mine))
    asked = [str(one.job.attempt_id) for one in answers.values() if one.outcome == "asked"]
    with database.transaction() as tx:
        control.record_cancel(tx, asked, now_ms=wall_ms())
    other = "its batch belongs to another account: name it with --account"
    return {job.id: _Answer(job, "left", other) for job in strange} | answers


async def _ask_each(found: "Service", jobs: Sequence[Brief]) -> dict[int, _Answer]:
    provider = found.connect()
    free = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def ask(job: Brief) -> _Answer:
        async with free:
            return await _answer(provider, job)

    try:
        answers = await asyncio.gather(*map(ask, jobs))
    finally:
        await provider.close()
    return {answer.job.id: answer for answer in answers}


async def _answer(provider: "Provider", job: Brief) -> _Answer:
    try:
        done = await provider.cancel(str(job.request_id))
    except ProviderError as error:
        return _Answer(job, "left", f"not cancelled: {error}")
    return _Answer(job, "asked", _ASKED) if done else _Answer(job, "left", _TOO_LATE)


def _print(answers: Sequence[_Answer], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        jobs = [_json(answer) for answer in answers]
        common.print_json({"dry_run": dry_run, "jobs": jobs})
        return
    said = (
        (name_of(one.job), f"{'left alone: ' * (one.outcome == 'left')}{one.message}")
        for one in answers
    )
    for line in selection.told(said):
        click.echo(line)
    if not answers:
        click.echo("no such job: nothing is cancelled", err=True)


def _json(answer: _Answer) -> dict[str, Any]:
    return {
        **selection.brief_json(answer.job),
        "outcome": answer.outcome,
        "message": redact_text(answer.message),
    }
