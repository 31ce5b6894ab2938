"""`batchgen download`: fetch clips that are paid for and not on disk."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen import planning
from batchgen.cli import common
from batchgen.cli.figures import span
from batchgen.cli.progress import Mode, mode_of
from batchgen.domain.errors import PRECEDENCE, Exit, OutputError, UsageError
from batchgen.domain.redaction import printable
from batchgen.domain.states import ErrorClass, JobState
from batchgen.runner.loop import Outcome, wall_ms
from batchgen.sidecars import Sidecars
from batchgen.store import accounts, by_hand, reads
from batchgen.store.accounts import Account
from batchgen.store.database import Database, Transaction
from batchgen.store.jobs import Scope
from batchgen.store.reads import JobRow

if TYPE_CHECKING:
    from batchgen.cli.service import Service

_AT_WORK = (JobState.RUNNING, JobState.DOWNLOADING)
_NOTHING = Scope(batch_ids=None, max_job_id=0)  # no job can be paid for


@click.command("download")
@click.argument("jobs", nargs=-1, metavar="[JOB...]")
@common.batch_option
@click.option(
    "--refresh",
    is_flag=True,
    help="Also what expired, was lost at the service, or is gone from the disk.",
)
@common.sidecar_option
@common.account_option
@click.option("--download-jobs", type=click.IntRange(min=1), default=4, show_default=True)
@common.progress_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@common.json_option
@common.db_option
def command(
    *,
    jobs: tuple[str, ...],
    batch: str | None,
    refresh: bool,
    sidecar: bool,
    account: str,
    download_jobs: int,
    progress: str | None,
    quiet: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> int:
    """Fetch clips that are paid for and not on disk. Nothing is submitted or paid.

    Every paid job of the account that no live worker holds is looked at and fetched. JOB and
    --refresh also bring back jobs whose clip expired, was lost or is gone from the disk. Exit
    code 3 if a clip is still missing. --sidecar also writes those that clips on disk lack.
    """
    common.log_to_stderr()
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        with database.reading() as tx:
            lost, waiting = _candidates(tx, database, jobs, batch, refresh=refresh)
            _check_account(tx, account, [*lost, *waiting])
        outcome = Outcome()
        if lost or waiting:
            payer, found = _service(database, account)
            _revive(database, lost)
            outcome = _work(
                database,
                payer,
                found,
                len(lost) + len(waiting),
                download_jobs=download_jobs,
                progress=mode_of(progress, is_silent=quiet or as_json),
                sidecar=sidecar,
            )
        beside = _write_missing(database, jobs, batch) if sidecar else None
        with database.reading() as tx:
            rows = [reads.job_row(tx, row.id) for row in [*lost, *waiting]]
    return _report([row for row in rows if row is not None], outcome, beside, as_json=as_json)


@dataclass
class _Beside:
    """What became of the sidecars of clips that are on disk."""

    written: int = 0
    missing: list[str] = field(default_factory=list)
    codes: list[Exit] = field(default_factory=list)


def _write_missing(database: Database, jobs: Sequence[str], batch: str | None) -> _Beside:
    found = _Beside()
    sidecars = Sidecars(database)
    with database.reading() as tx:
        if jobs:
            named = common.find_jobs(tx, jobs)
            rows: Iterable[JobRow] = reads.rows_of(tx, named)
        else:
            batch_id = common.batch_id_of(tx, batch)
            rows = reads.job_rows(tx, batch_id=batch_id, states=[JobState.SUCCEEDED])
        for row in rows:
            if row.state is not JobState.SUCCEEDED:
                continue
            folder = planning.clips_folder(database.folder, row.output_dir)
            try:
                written, left = sidecars.write_missing(row, folder)
            except OutputError as error:  # so it would be for the next one
                found.missing.append(str(error))
                found.codes.append(Exit.OUTPUT)
                break
            found.written += written
            if left:
                found.missing.append(f"{row.batch}/{row.label}: {left}")
                found.codes.append(Exit.SOME_FAILED)
    return found


def _candidates(
    tx: Transaction, database: Database, jobs: Sequence[str], batch: str | None, *, refresh: bool
) -> tuple[list[JobRow], list[JobRow]]:
    """Return the jobs to bring back, and those that wait to be fetched already."""
    batch_id = common.batch_id_of(tx, batch)
    waiting = list(reads.job_rows(tx, batch_id=batch_id, states=_AT_WORK))
    if not jobs:
        ended = (JobState.SUCCEEDED, JobState.EXPIRED, JobState.FAILED)
        old = reads.job_rows(tx, batch_id=batch_id, states=ended) if refresh else ()
        return _lost(old, database.folder), waiting
    named = [reads.job_row(tx, job_id) for job_id in common.find_jobs(tx, jobs)]
    rows = [row for row in named if row is not None]
    lost = _lost(rows, database.folder)
    for row in rows:
        if row not in lost and row.state not in _AT_WORK:
            why = "is on disk" if row.state is JobState.SUCCEEDED else f"is {row.state}"
            click.echo(f"{row.batch}/{row.label}: left alone: {why}", err=True)
    return lost, [row for row in rows if row.state in _AT_WORK]


def _check_account(tx: Transaction, name: str, rows: Sequence[JobRow]) -> None:
    account = accounts.find(tx, "runcomfy", name)
    mine = {batch.id for batch in reads.batches(tx) if account and batch.account_id == account.id}
    strange = sorted({row.batch for row in rows if row.batch_id not in mine})
    if strange:
        raise UsageError(
            f"batch {', '.join(strange)} belongs to another account than {name!r}: name it with "
            "--account, or the batches with --batch"
        )


def _lost(rows: Iterable[JobRow], root: Path) -> list[JobRow]:
    return [
        row
        for row in rows
        if row.state is JobState.EXPIRED
        or row.error_class == ErrorClass.REMOTE_LOST
        or (row.state is JobState.SUCCEEDED and not _is_on_disk(row, root))
    ]


def _is_on_disk(row: JobRow, root: Path) -> bool:
    folder = root / Path(row.output_dir).expanduser()
    return bool(row.files) and all((folder / clip["path"]).is_file() for clip in row.files)


def _service(database: Database, account: str) -> "tuple[Account, Service]":
    from batchgen.cli import service  # loads the network libraries

    with database.reading() as tx:
        return service.find(tx, account)


def _revive(database: Database, rows: Sequence[JobRow]) -> None:
    with database.transaction() as tx:
        for row in rows:
            by_hand.download_again(tx, row.id, now_ms=wall_ms())


def _work(
    database: Database,
    payer: Account,
    found: "Service",
    total: int,
    *,
    download_jobs: int,
    progress: Mode,
    sidecar: bool,
) -> Outcome:
    from batchgen.cli.session import Errand, work
    from batchgen.runner.job import Settings

    return work(
        Errand(
            database=database,
            make_provider=found.connect,
            account_id=payer.id,
            scope=_NOTHING,
            settings=Settings(download_jobs=download_jobs),
            allow_private=found.is_local,
            total=total,
            progress=progress,
            command="download",
            sidecar=sidecar,
        )
    )


def _report(
    rows: Sequence[JobRow], outcome: Outcome, beside: _Beside | None, *, as_json: bool
) -> int:
    missing = [row for row in rows if row.state is not JobState.SUCCEEDED]
    codes = [reason.exit_code for reason in outcome.reasons]
    if missing:
        codes.append(Exit.SOME_FAILED)
    if beside is not None:
        codes += beside.codes
    if as_json:
        common.print_json(
            {
                "jobs": [
                    {
                        "key": row.key,
                        "batch": row.batch,
                        "id": row.label,
                        "state": str(row.state),
                        "file": _file(row),
                        "error": row.error,
                    }
                    for row in rows
                ],
                "reasons": [reason.message for reason in outcome.reasons],
                "sidecars": None
                if beside is None
                else {"written": beside.written, "missing": beside.missing},
            }
        )
    else:
        _show(rows, beside)
        if rows:
            fetched = len(rows) - len(missing)
            took = span(outcome.took_s)
            click.echo(
                f"{fetched:,} of {common.plural(len(rows), 'clip')} on disk, in {took}", err=True
            )
    for reason in outcome.reasons:
        click.echo(reason.message, err=True)
    return min(codes, key=PRECEDENCE.index, default=Exit.SUCCESS)


def _show(rows: Sequence[JobRow], beside: _Beside | None) -> None:
    for row in rows:
        click.echo(f"{row.batch}/{row.label}: {_file(row) or row.error or row.state}")
    if not rows:
        click.echo("nothing is to be fetched", err=True)
    if beside is not None:
        click.echo(f"{common.plural(beside.written, 'sidecar')} written", err=True)
        for line in beside.missing:
            click.echo(printable(f"no sidecar: {line}"), err=True)


def _file(row: JobRow) -> str | None:
    if row.state is not JobState.SUCCEEDED or not row.files:
        return None
    return str(Path(row.output_dir) / row.files[0]["path"])
