"""`batchgen cancel`: cancel jobs that have not been generated."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from batchgen.cli import common
from batchgen.domain.errors import BatchgenError, Exit, ProviderError, UsageError
from batchgen.domain.states import JobState
from batchgen.runner.loop import wall_ms
from batchgen.store import by_hand, control, reads
from batchgen.store.database import Database
from batchgen.store.reads import JobRow

if TYPE_CHECKING:
    from batchgen.cli.service import Service

_ASKED = "the service cancels it; a run records it once it has looked, a live one within seconds"
_TOO_LATE = "it is being generated, or done, and cannot be cancelled: it goes on"
_UNDER_WAY = "is being submitted just now: cancel it again once it runs"


@dataclass(frozen=True)
class _Answer:
    """What became of one job."""

    row: JobRow
    outcome: str  # cancelled | asked | left
    message: str


@click.command("cancel")
@click.argument("jobs", nargs=-1, metavar="[JOB...]")
@click.option("--pending", is_flag=True, help="Every job that has not been submitted.")
@click.option("--batch", metavar="NAME", help="With --pending: only of this batch.")
@common.account_option
@common.json_option
@common.db_option
def command(
    *,
    jobs: tuple[str, ...],
    pending: bool,
    batch: str | None,
    account: str,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> int:
    """Cancel jobs. What is pending is cancelled at once and costs nothing.

    For a running job the service is asked; it can cancel only what still waits in its queue.
    Exit code 3 if a job was left alone. JOB may be - to read jobs from stdin.
    """
    _check(jobs, pending=pending, batch=batch)
    trouble: BatchgenError | None = None
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        if pending:
            return _cancel_all(database, account, batch, as_json=as_json)
        answers = _cancel_pending(database, jobs)
        running = [answer.row for answer in answers if _is_at_service(answer)]
        if running:
            try:
                said = _ask(database, account, running)
            except BatchgenError as error:  # told after what was done
                trouble = error
            else:
                answers = [said.get(answer.row.id, answer) for answer in answers]
    _print(answers, as_json=as_json)
    if trouble is not None:
        raise trouble
    left = any(answer.outcome == "left" for answer in answers)
    return Exit.SOME_FAILED if left else Exit.SUCCESS


def _check(jobs: Sequence[str], *, pending: bool, batch: str | None) -> None:
    if bool(jobs) == pending:
        raise UsageError("name jobs, or pass --pending for every one that was not submitted")
    if batch is not None and not pending:
        raise UsageError("--batch goes with --pending; a job of a batch is BATCH/ID")


def _cancel_all(database: Database, account: str, batch: str | None, *, as_json: bool) -> int:
    with database.transaction() as tx:
        batch_id = common.batch_id_of(tx, batch)
        payer = None if batch_id else common.account_of(tx, account)
        chosen = [
            one
            for one in reads.batches(tx)
            if one.id == batch_id or (payer is not None and one.account_id == payer.id)
        ]
        done = {one.name: control.cancel_pending(tx, one.id, now_ms=wall_ms()) for one in chosen}
    if as_json:
        common.print_json({"cancelled": done})
        return Exit.SUCCESS
    for name, count in done.items():
        if count or batch is not None:
            click.echo(f"{name}: {common.plural(count, 'pending job')} cancelled; nothing was paid")
    if not any(done.values()):
        click.echo("no job was pending", err=True)
    return Exit.SUCCESS


def _is_at_service(answer: _Answer) -> bool:
    return answer.row.state is JobState.RUNNING and answer.row.request_id is not None


def _cancel_pending(database: Database, said: Sequence[str]) -> list[_Answer]:
    answers = []
    with database.transaction() as tx:
        for job_id in common.find_jobs(tx, said):
            row = reads.job_row(tx, job_id)
            if row is None:
                raise LookupError(f"job {job_id}")
            outcome = by_hand.cancel_pending(tx, job_id, now_ms=wall_ms())
            word = "cancelled" if outcome.done else "left"
            message = "cancelled; nothing was paid" if outcome.done else f"is {outcome.was}"
            if outcome.was is JobState.SUBMITTING:
                message = _UNDER_WAY
            answers.append(_Answer(row, word, message))
    return answers


def _ask(database: Database, account: str, rows: Sequence[JobRow]) -> Mapping[int, _Answer]:
    from batchgen.cli import service  # loads the network libraries

    with database.reading() as tx:
        payer, found = service.find(tx, account)
        batches = {batch.id: batch.account_id for batch in reads.batches(tx)}
    mine = [row for row in rows if batches[row.batch_id] == payer.id]
    strange = [row for row in rows if batches[row.batch_id] != payer.id]
    answers = asyncio.run(_ask_each(found, mine))
    asked = [str(one.row.attempt_id) for one in answers.values() if one.outcome == "asked"]
    with database.transaction() as tx:
        control.record_cancel(tx, asked, now_ms=wall_ms())
    other = "its batch belongs to another account: name it with --account"
    return {row.id: _Answer(row, "left", other) for row in strange} | answers


async def _ask_each(found: "Service", rows: Sequence[JobRow]) -> dict[int, _Answer]:
    provider = found.connect()
    answers = {}
    try:
        for row in rows:
            try:
                done = await provider.cancel(str(row.request_id))
            except ProviderError as error:
                answers[row.id] = _Answer(row, "left", f"not cancelled: {error}")
                continue
            word, message = ("asked", _ASKED) if done else ("left", _TOO_LATE)
            answers[row.id] = _Answer(row, word, message)
    finally:
        await provider.close()
    return answers


def _print(answers: Sequence[_Answer], *, as_json: bool) -> None:
    if as_json:
        common.print_json(
            {
                "jobs": [
                    {
                        "key": answer.row.key,
                        "batch": answer.row.batch,
                        "id": answer.row.label,
                        "was": str(answer.row.state),
                        "outcome": answer.outcome,
                        "message": answer.message,
                    }
                    for answer in answers
                ]
            }
        )
        return
    for answer in answers:
        head = "left alone: " if answer.outcome == "left" else ""
        click.echo(f"{answer.row.batch}/{answer.row.label}: {head}{answer.message}")
