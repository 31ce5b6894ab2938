"""Which jobs a command is about: named as arguments or on stdin, or selected by `--where`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click

from batchgen.cli import common
from batchgen.domain import where as expressions
from batchgen.domain.errors import UsageError
from batchgen.domain.states import JobState
from batchgen.domain.where import Name, Where
from batchgen.store import reads
from batchgen.store.database import Transaction

Command = TypeVar("Command", bound=Callable[..., Any])


def jobs_argument(command: Command) -> Command:
    """Add the argument `jobs`: JOB..., `-` for stdin."""
    return click.argument("jobs", nargs=-1, metavar="[JOB...]")(command)


def where_option(command: Command) -> Command:
    """Add `--where`."""
    return click.option(
        "--where",
        metavar="EXPR",
        help='Only jobs of which this is true: "state=failed and cost>0.3 and shot~12".',
    )(command)


@dataclass(frozen=True)
class Selection:
    """The jobs that a person means.

    Attributes:
        jobs: Their names; `-` reads them from stdin.
        where: An expression, None if there is none.
        batch: Only of this batch.
        states: Only in one of these; all if empty.
    """

    jobs: Sequence[str] = ()
    where: str | None = None
    batch: str | None = None
    states: Sequence[JobState] = ()

    def __post_init__(self) -> None:
        """Refuse two ways of naming jobs at once.

        Raises:
            UsageError: If so.
        """
        if self.jobs and (self.where is not None or self.states):
            raise UsageError("name jobs, or select them with --where: not both")
        if self.jobs and self.batch is not None:
            raise UsageError("--batch goes with --where; a job of a batch is BATCH/ID")

    def job_ids(self, tx: Transaction) -> list[int]:
        """Return the row ids of the jobs.

        Raises:
            UsageError: If a name means no job or several, or the expression is none.
        """
        if self.jobs:
            return common.find_jobs(tx, self.jobs)
        return reads.job_ids(
            tx,
            batch_id=common.batch_id_of(tx, self.batch),
            states=self.states,
            where=condition(tx, self.where),
        )


def condition(tx: Transaction, text: str | None) -> Where | None:
    """Return what `--where` says of the jobs of a job database, None if it says nothing.

    Raises:
        UsageError: If it is no expression, or names a field that there is not.
    """
    if text is None:
        return None
    columns, inputs = reads.names(tx)
    return expressions.parse(text, columns=columns, inputs=inputs, now=datetime.now().astimezone())


def named(tx: Transaction, said: Sequence[str], *, what: str) -> list[Name]:
    """Return the fields, columns and inputs that words name.

    Args:
        tx: A reading transaction.
        said: The words.
        what: The option that they come from.

    Raises:
        UsageError: If one names nothing.
    """
    columns, inputs = reads.names(tx)
    return [
        expressions.column_name(word, columns=columns, inputs=inputs, what=what) for word in said
    ]
