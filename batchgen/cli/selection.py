"""Which jobs a command is about: named as arguments or on stdin, or selected by `--where`.

And what became of them, in words: of many jobs the first ones, grouped by what is said of them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click

from batchgen.cli import common
from batchgen.domain import where as expressions
from batchgen.domain.errors import UsageError
from batchgen.domain.prices import Estimate, whole_cents
from batchgen.domain.redaction import printable, redact_text
from batchgen.domain.states import JobState
from batchgen.domain.where import Name, Where
from batchgen.domain.wording import usd
from batchgen.store import costs, reads
from batchgen.store.reads import Brief, JobRow
from batchgen.store.transactions import Transaction

Command = TypeVar("Command", bound=Callable[..., Any])

SHOWN = 20
"""Of more jobs than these only the first are listed; `--json` lists all."""

AT_ONCE = 10_000
"""Jobs that are changed in one transaction: live workers wait no longer than for these."""


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


def dry_run_option(command: Command) -> Command:
    """Add `--dry-run`."""
    return click.option(
        "-n", "--dry-run", is_flag=True, help="Say what would be done; change nothing."
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
            raise UsageError("name jobs, or select them with --where and the like: not both")
        if self.jobs and self.batch is not None:
            raise UsageError("--batch goes with --where and the like; a job of it is BATCH/ID")

    @property
    def is_empty(self) -> bool:
        """Whether nobody said which jobs."""
        return not self.jobs and self.where is None and not self.states

    def briefs(self, tx: Transaction) -> list[Brief]:
        """Return the jobs themselves; as `job_ids`."""
        return reads.briefs(tx, self.job_ids(tx))

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


def told(said: Iterable[tuple[str, str]]) -> list[str]:
    """Return what became of jobs in lines: one a job, of many one for each thing that is said.

    Args:
        said: The names of jobs, and what is said of each.
    """
    shown: dict[str, str] = {}  # of many jobs the same is said
    pairs = [
        (name, shown.get(words) or shown.setdefault(words, printable(redact_text(words))))
        for name, words in said
    ]
    if len(pairs) <= SHOWN:
        return [f"{name}: {words}" for name, words in pairs]
    groups: dict[str, list[str]] = {}
    for name, words in pairs:
        groups.setdefault(words, []).append(name)
    if len(groups) > SHOWN:  # of each something else is said
        lines = [f"{name}: {words}" for name, words in pairs[:SHOWN]]
        return [*lines, f"and {len(pairs) - SHOWN:,} more: --json lists all"]
    lines = []
    for words, names in groups.items():
        more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
        lines.append(f"{common.plural(len(names), 'job')}: {words}")
        lines.append(f"  {', '.join(names[:SHOWN])}{more}")
    return lines


def name_of(job: Brief | JobRow) -> str:
    """Return what a job is called for people: `BATCH/ID`."""
    return f"{job.batch}/{job.label}"


def job_json(job: Brief | JobRow) -> dict[str, Any]:
    """Return which job it is as data, the same wherever a command lists jobs."""
    return {"key": job.key, "batch": job.batch, "id": job.row_id, "variant": job.variant}


def brief_json(job: Brief) -> dict[str, Any]:
    """Return what a command that acts says of each job as data."""
    return {**job_json(job), "was_state": str(job.state)}


def estimate_of(tx: Transaction, jobs: Iterable[Brief]) -> Estimate:
    """Return what jobs will probably cost if they are paid for again."""
    kinds = Counter((job.account_id, job.model, job.settings, job.est_micros) for job in jobs)
    prices = {account_id: costs.prices(tx, account_id) for account_id, *_ in kinds}
    found = Estimate()
    for (account_id, model, settings, listed), count in kinds.items():
        found.add(prices[account_id], model, settings, listed=listed, jobs=count)
    return found


def price(estimate: Estimate) -> str:
    """Return an estimate in words: `about $1.25`."""
    said = f"about {usd(whole_cents(estimate.micros))}"
    return said + (f" and {estimate.unpriced:,} of unknown price" if estimate.unpriced else "")
