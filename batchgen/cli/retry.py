"""`batchgen retry`: let failed, cancelled or expired jobs be paid for again."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import click

from batchgen.cli import common
from batchgen.domain.errors import Exit, UsageError
from batchgen.domain.states import ErrorClass, JobState
from batchgen.runner.loop import wall_ms
from batchgen.store import by_hand, reads
from batchgen.store.database import Transaction
from batchgen.store.reads import JobRow

_RETRIED = (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)


@click.command("retry")
@click.argument("jobs", nargs=-1, metavar="[JOB...]")
@click.option("--failed", is_flag=True, help="Every failed job.")
@click.option("--batch", metavar="NAME", help="With --failed: only of this batch.")
@click.option("-y", "--yes", is_flag=True, help="Agree without being asked.")
@common.json_option
@common.db_option
def command(
    *,
    jobs: tuple[str, ...],
    failed: bool,
    batch: str | None,
    yes: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> int:
    """Let failed, cancelled or expired jobs be paid for again, by the next run.

    An expired or lost clip may still be had for nothing: try `batchgen download --refresh`
    first. Exit code 3 if a job was left alone. JOB may be - to read jobs from stdin.
    """
    _check(jobs, failed=failed, batch=batch)
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        with database.reading() as tx:
            rows = _rows(tx, jobs, batch)
        chosen = [row for row in rows if row.state in _RETRIED]
        if chosen:
            common.confirm(_question(chosen), yes=yes)
        outcomes = {}
        with database.transaction() as tx:
            for row in chosen:
                outcomes[row.id] = by_hand.retry(tx, row.id, now_ms=wall_ms())
            live = common.living(tx, database)
    done = [row for row in chosen if outcomes[row.id].done]
    left = [row for row in rows if row not in done]
    if as_json:
        common.print_json({"retried": _json(done), "left": _json(left)})
    elif done:
        told = common.follow(live, "pays for those of its scope", "pay for those of their scopes")
        again = common.plural(len(done), "job")
        click.echo(f"{again} pending again: `batchgen run` pays for them{told}")
    elif not left:
        click.echo("no job has failed", err=True)
    for row in left:
        click.echo(f"{row.batch}/{row.label}: left alone: is {row.state}", err=True)
    return Exit.SOME_FAILED if left else Exit.SUCCESS


def _check(jobs: Sequence[str], *, failed: bool, batch: str | None) -> None:
    if bool(jobs) == failed:
        raise UsageError("name jobs, or pass --failed for every failed one")
    if batch is not None and not failed:
        raise UsageError("--batch goes with --failed; a job of a batch is BATCH/ID")


def _rows(tx: Transaction, jobs: Sequence[str], batch: str | None) -> list[JobRow]:
    if not jobs:
        batch_id = common.batch_id_of(tx, batch)
        return list(reads.job_rows(tx, batch_id=batch_id, states=[JobState.FAILED]))
    found = [reads.job_row(tx, job_id) for job_id in common.find_jobs(tx, jobs)]
    return [row for row in found if row is not None]


def _question(rows: Sequence[JobRow]) -> str:
    kinds = Counter(row.error_class or str(row.state) for row in rows)
    lines = [", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())]
    if kinds[ErrorClass.MODERATION]:
        lines.append("refused again by moderation, they may get the account suspended")
    micros = sum(row.est_micros or 0 for row in rows)
    price = f"about {common.usd(micros)}"
    unpriced = sum(row.est_micros is None for row in rows)
    if unpriced:
        price += f" and {unpriced:,} of unknown price"
    return "\n".join([*lines, f"Let {common.plural(len(rows), 'job')} be paid for again, {price}?"])


def _json(rows: Sequence[JobRow]) -> list[dict[str, object]]:
    return [
        {
            "key": row.key,
            "batch": row.batch,
            "id": row.label,
            "was": str(row.state),
            "estimate_usd": common.usd_number(row.est_micros),
        }
        for row in rows
    ]
