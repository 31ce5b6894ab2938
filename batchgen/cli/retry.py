"""`batchgen retry`: let failed, cancelled or expired jobs be paid for again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import click

from batchgen.cli import common, selection
from batchgen.cli.known_models import known_models
from batchgen.cli.reseed import Reseed
from batchgen.cli.selection import Selection, name_of
from batchgen.domain.errors import Exit, UsageError
from batchgen.domain.prices import Estimate
from batchgen.domain.states import LOST, ErrorClass, JobState
from batchgen.runner.clocks import wall_ms
from batchgen.store import by_hand, reads
from batchgen.store.database import Database, chunks
from batchgen.store.jobs import NewSeed
from batchgen.store.reads import Brief
from batchgen.store.transactions import Transaction

_NO_SEED = "its model takes no other seed: leave --new-seed out"


@dataclass
class _Choice:
    """What is to be retried, and why the rest is not.

    Attributes:
        jobs: To be paid for again.
        left: The others, each with the reason.
        seeds: What is sent instead, by job.
        estimate: Of what is to be paid.
    """

    jobs: list[Brief] = field(default_factory=list)
    left: list[tuple[Brief, str]] = field(default_factory=list)
    seeds: dict[int, NewSeed] = field(default_factory=dict)
    estimate: Estimate = field(default_factory=Estimate)


@click.command("retry")
@selection.jobs_argument
@selection.where_option
@click.option("--failed", is_flag=True, help="Every failed job.")
@click.option("--batch", metavar="NAME", help="With --failed or --where: only of this batch.")
@click.option(
    "--new-seed", is_flag=True, help="Send another seed than before, drawn at random for each."
)
@selection.dry_run_option
@click.option("-y", "--yes", is_flag=True, help="Agree without being asked.")
@common.json_option
@common.db_option
def command(
    *,
    jobs: tuple[str, ...],
    where: str | None,
    failed: bool,
    batch: str | None,
    new_seed: bool,
    dry_run: bool,
    yes: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> int:
    """Let failed, cancelled or expired jobs be paid for again, by the next run.

    An expired or lost clip may still be had for nothing: try `batchgen download --refresh`
    first. A clip that is there is bought anew by `batchgen run --replace`. Exit code 3 if a job
    was left alone, 0 if none was found. JOB may be - to read jobs from stdin.
    """
    chosen = Selection(jobs, where, batch, [JobState.FAILED] if failed else ())
    if chosen.is_empty:
        raise UsageError("name jobs, or select them: --failed for every failed one, or --where")
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        with database.reading() as tx:
            choice = _choice(tx, chosen, new_seed=new_seed)
        if choice.jobs:
            _warn(choice.jobs)
        if choice.jobs and not dry_run:
            common.confirm(_question(choice), yes=yes)
            _retry(database, choice)
        with database.reading() as tx:
            live = common.living(tx, database)
    _print(choice, live, dry_run=dry_run, as_json=as_json)
    return Exit.SOME_FAILED if choice.left else Exit.SUCCESS


def _choice(tx: Transaction, chosen: Selection, *, new_seed: bool) -> _Choice:
    choice = _Choice()
    for job in chosen.briefs(tx):
        if job.state in LOST:
            choice.jobs.append(job)
        else:
            choice.left.append((job, _why(job.state)))
    if new_seed:
        _draw(tx, choice)
    choice.estimate = selection.estimate_of(tx, choice.jobs)
    return choice


def _draw(tx: Transaction, choice: _Choice) -> None:
    reseed = Reseed(known_models, partial(reads.kept_schema, tx))
    inputs = reads.inputs_of(tx, [job.id for job in choice.jobs])
    for job in choice.jobs:
        drawn = reseed.of(job.batch_id, job.model, inputs[job.id])
        if drawn is None:
            choice.left.append((job, _NO_SEED))
        else:
            choice.seeds[job.id] = drawn
    choice.jobs = [job for job in choice.jobs if job.id in choice.seeds]


def _retry(database: Database, choice: _Choice) -> None:
    """Do it; jobs that are in another state by now are left alone."""
    outcomes: dict[int, by_hand.Outcome] = {}
    for some in chunks(choice.jobs, selection.AT_ONCE):
        ids = [job.id for job in some]
        seeds = {job_id: choice.seeds[job_id] for job_id in ids if job_id in choice.seeds}
        with database.transaction() as tx:
            outcomes |= by_hand.retry_each(tx, ids, now_ms=wall_ms(), seeds=seeds)
    choice.left += [
        (job, _why(outcomes[job.id].was)) for job in choice.jobs if not outcomes[job.id].done
    ]
    choice.jobs = [job for job in choice.jobs if outcomes[job.id].done]


def _why(state: JobState) -> str:
    if state is JobState.SUCCEEDED:
        return "is succeeded: change its row, a seed is enough, and run the manifest with --replace"
    return f"is {state}"


def _warn(jobs: Sequence[Brief]) -> None:
    kinds = Counter(_kind(job) for job in jobs)
    click.echo(", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common()), err=True)
    if kinds[ErrorClass.MODERATION]:
        click.echo(
            "refused again by moderation, they may get the account suspended: change what was "
            "refused, or leave them out with --where 'state=failed and class!=moderation'",
            err=True,
        )
    lost = kinds[ErrorClass.REMOTE_LOST] + kinds[JobState.EXPIRED]
    if lost:
        click.echo(
            f"{lost:,} of them are paid for, and the clip may still be had for nothing: try "
            "`batchgen download --refresh` first",
            err=True,
        )


def _kind(job: Brief) -> str:
    if job.state is JobState.FAILED and job.error_class:
        return job.error_class
    return str(job.state)


def _question(choice: _Choice) -> str:
    again = common.plural(len(choice.jobs), "job")
    seed = " with new seeds" if choice.seeds else ""
    return f"Let {again} be paid for again{seed}, {selection.price(choice.estimate)}?"


def _print(choice: _Choice, live: int, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        common.print_json(_json(choice, dry_run=dry_run))
        return
    done, left = choice.jobs, choice.left
    again = common.plural(len(done), "job")
    if done and dry_run:
        click.echo(f"{again} would be paid for again, {selection.price(choice.estimate)}")
    elif done:
        told = common.follow(live, "pays for those of its scope", "pay for those of their scopes")
        common.echo(f"{again} pending again: `batchgen run` pays{told}")
    if done and dry_run:
        for line in selection.told((name_of(job), _kind(job)) for job in done):
            click.echo(line)
    for line in selection.told((name_of(job), f"left alone: {why}") for job, why in left):
        click.echo(line, err=True)
    if not done and not left:
        click.echo("no such job has failed: there is nothing to retry", err=True)


def _json(choice: _Choice, *, dry_run: bool) -> Mapping[str, object]:
    return {
        "dry_run": dry_run,
        "retried": [
            {
                **selection.brief_json(job),
                "estimate_usd": common.usd_number(job.est_micros),
                "new_seed": choice.seeds[job.id].seed if job.id in choice.seeds else None,
            }
            for job in choice.jobs
        ],
        "left": [{**selection.brief_json(job), "why": why} for job, why in choice.left],
        "estimate_usd": common.usd_number(choice.estimate.micros),
        "unpriced": choice.estimate.unpriced,
    }
