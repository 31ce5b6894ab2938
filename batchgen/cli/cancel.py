"""`batchgen cancel`: cancel jobs that have not been generated."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from batchgen.cli import common
from batchgen.domain.errors import BatchgenError, Exit, ProviderError
from batchgen.domain.states import JobState
from batchgen.runner.loop import wall_ms
from batchgen.store import by_hand, reads
from batchgen.store.database import Database
from batchgen.store.reads import JobRow

if TYPE_CHECKING:
    from batchgen.cli.service import Service

_ASKED = "the service cancels it; it stays running here until a run has looked at it"
_TOO_LATE = "the service did not cancel it: it is being generated, or done"


@dataclass(frozen=True)
class _Answer:
    """What became of one job."""

    row: JobRow
    outcome: str  # cancelled | asked | left
    message: str


@click.command("cancel")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@common.account_option
@common.json_option
@common.db_option
def command(
    *, jobs: tuple[str, ...], account: str, db: str | None, allow_network_fs: bool, as_json: bool
) -> int:
    """Cancel jobs. What is pending is cancelled at once and costs nothing.

    For a running job the service is asked; it can cancel only what still waits in its queue.
    Exit code 3 if a job was left alone. JOB may be - to read jobs from stdin.
    """
    trouble: BatchgenError | None = None
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
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
