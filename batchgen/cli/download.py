"""`batchgen download`: fetch clips that are paid for and not yet fetched, or that are gone."""

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from batchgen.buckets.location import is_location
from batchgen.cli import common, selection
from batchgen.cli.clips import clips_json
from batchgen.cli.figures import span
from batchgen.cli.options import Whole
from batchgen.cli.progress import Mode, mode_of
from batchgen.cli.selection import Selection, name_of
from batchgen.domain.errors import PRECEDENCE, Exit, OutputError, UsageError
from batchgen.domain.redaction import printable, redact_text
from batchgen.domain.states import ErrorClass, JobState
from batchgen.downloads.destination import clip_path
from batchgen.downloads.destinations import Destinations
from batchgen.runner.clocks import wall_ms
from batchgen.runner.limits import Reason
from batchgen.runner.loop import Outcome
from batchgen.store import accounts, by_hand, reads
from batchgen.store.accounts import Account
from batchgen.store.database import Database, chunks
from batchgen.store.reads import JobRow
from batchgen.store.scope import Scope
from batchgen.store.transactions import Transaction
from batchgen.verifying import Verdict, Verified, verify

if TYPE_CHECKING:
    from batchgen.library.service import Service

_AT_WORK = (JobState.RUNNING, JobState.DOWNLOADING)
_NOTHING = Scope(batch_ids=None, max_job_id=0)  # no job can be paid for
_FETCHED_AGAIN = (Verdict.MISSING, Verdict.CHANGED)
_LOOKED_AT_ONCE = 200  # jobs whose clips are looked at before progress is shown
_LOOKING_THREADS = 8  # a bucket takes its time to answer
_MOST_LOOKED_FOR = 10_000  # finished jobs whose files are looked for unasked: a second at most
_REVIVED_AT_ONCE = 500  # in one transaction


@dataclass(frozen=True)
class _Wish:
    """What is asked for."""

    chosen: Selection
    batch: str | None
    account: str
    refresh: bool
    verify: bool
    quiet: bool

    @property
    def is_narrowed(self) -> bool:
        """Whether somebody said which jobs, beyond their batch."""
        return bool(self.chosen.jobs) or self.chosen.where is not None


@dataclass
class _Found:
    """What there is to do.

    Attributes:
        lost: Jobs to bring back.
        waiting: Jobs that wait to be fetched already.
        left: Jobs that were asked for, and why nothing is to be fetched of them.
        looks: What the clips on disk were found to be.
        chosen: The row ids of the jobs that somebody said, None if nobody did.
        gone: How many finished jobs lack a file that nobody asked to bring back.
    """

    lost: list[JobRow] = field(default_factory=list)
    waiting: list[JobRow] = field(default_factory=list)
    left: list[tuple[JobRow, str]] = field(default_factory=list)
    looks: list[Verified] = field(default_factory=list)
    chosen: list[int] | None = None
    gone: int = 0

    @property
    def wrong(self) -> list[Verified]:
        """Clips that are not as they were fetched."""
        return [one for one in self.looks if one.verdict is not Verdict.WHOLE]


@click.command("download")
@selection.jobs_argument
@selection.where_option
@common.batch_option
@click.option(
    "--refresh",
    is_flag=True,
    help="Also clips that expired, were lost at the service, or were fetched before and are gone.",
)
@common.sidecar_option
@click.option(
    "--verify",
    is_flag=True,
    help="Read every clip on disk; fetch again what is gone or not as it was.",
)
@selection.dry_run_option
@common.account_option
@click.option("--download-jobs", type=Whole(min=1), default=4, show_default=True)
@common.progress_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@common.json_option
@common.db_option
def command(
    *,
    jobs: tuple[str, ...],
    where: str | None,
    batch: str | None,
    refresh: bool,
    sidecar: bool,
    verify: bool,
    dry_run: bool,
    account: str,
    download_jobs: int,
    progress: str | None,
    quiet: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> int:
    """Fetch clips that are paid for and not yet fetched. Nothing is submitted or paid.

    Every paid job of the account that no live worker holds is looked at and fetched; with JOB,
    --where or --batch, those alone. JOB, --where and --refresh also bring back jobs whose clip
    expired, was lost, or was fetched before and is gone; without them those that are gone are only
    counted. --verify compares each clip with the size and the SHA-256 that it was fetched with; a
    file that was changed stays as it is, and the clip is fetched to a name beside it. --sidecar
    also writes those that clips on disk lack.

    Exit code 3 if a clip is still missing, or with --dry-run if something is wrong. JOB may be -
    to read jobs from stdin.
    """
    common.log_to_stderr()
    chosen = Selection(jobs, where, None if jobs else batch)
    wish = _Wish(chosen, batch, account, refresh, verify, quiet or as_json)
    with closing(common.open_to_change(db, allow_network_fs=allow_network_fs)) as database:
        with database.reading() as tx:
            found = _candidates(tx, database, wish)
            others = _others(tx, wish, found)
            if not dry_run:
                _check_account(tx, account, [*found.lost, *found.waiting])
        if dry_run:
            code = _foresee(found, verify=verify, as_json=as_json)
            _say_gone(found, batch, account)
            return code
        outcome = Outcome()
        if found.lost or found.waiting:
            payer, service = _service(database, account)
            _revive(database, found.lost)
            outcome = _work(
                database,
                payer,
                service,
                len(found.lost) + len(found.waiting),
                download_jobs=download_jobs,
                progress=mode_of(progress, is_silent=quiet or as_json),
                sidecar=sidecar,
                untouched=others,
            )
        beside = _write_missing(database, found, batch) if sidecar else None
        ids = [row.id for row in [*found.lost, *found.waiting]]
        with database.reading() as tx:
            rows = list(reads.rows_of(tx, ids))
    code = _report(found, rows, outcome, beside, verify=verify, as_json=as_json)
    _say_gone(found, batch, account)
    return code


@dataclass
class _Beside:
    """What became of the sidecars of clips that are on disk."""

    written: int = 0
    missing: list[str] = field(default_factory=list)
    codes: list[Exit] = field(default_factory=list)


def _write_missing(database: Database, found: _Found, batch: str | None) -> _Beside:
    from batchgen.sidecars import Sidecars  # brings manifests and exporters with it

    beside = _Beside()
    sidecars, destinations = Sidecars(database), Destinations(database.folder)
    with database.reading() as tx:
        if found.chosen is not None:
            rows: Iterable[JobRow] = reads.rows_of(tx, found.chosen)
        else:
            batch_id = common.batch_id_of(tx, batch)
            rows = reads.job_rows(tx, batch_id=batch_id, states=[JobState.SUCCEEDED])
        for row in rows:
            if row.state is not JobState.SUCCEEDED:
                continue
            try:
                written, left = sidecars.write_missing(row, destinations.of(row.output_dir))
            except OutputError as error:  # so it would be for the next one
                beside.missing.append(str(error))
                beside.codes.append(Exit.OUTPUT)
                break
            beside.written += written
            if left:
                beside.missing.append(f"{row.batch}/{row.label}: {left}")
                beside.codes.append(Exit.SOME_FAILED)
    return beside


# -- what there is to do ---------------------------------------------------------------------------


def _candidates(tx: Transaction, database: Database, wish: _Wish) -> _Found:
    found = _Found()
    destinations = Destinations(database.folder)
    if wish.is_narrowed:
        if wish.chosen.jobs and wish.batch is not None:
            raise UsageError("--batch goes with --where and the like; a job of it is BATCH/ID")
        found.chosen = wish.chosen.job_ids(tx)
        rows = list(reads.rows_of(tx, found.chosen))
        found.waiting = [row for row in rows if row.state in _AT_WORK]
        found.lost = _lost(rows, destinations)
    else:
        batch_id = common.batch_id_of(tx, wish.batch)
        found.waiting = list(reads.job_rows(tx, batch_id=batch_id, states=_AT_WORK))
        ended = [JobState.EXPIRED, JobState.FAILED] if wish.refresh else []
        if wish.refresh or wish.verify:
            ended.append(JobState.SUCCEEDED)
        rows = list(reads.job_rows(tx, batch_id=batch_id, states=ended)) if ended else []
        found.lost = _lost(rows, destinations) if wish.refresh else []
        if not ended:
            found.gone = _count_gone(tx, wish.account, batch_id, destinations)
    if wish.verify:
        found.looks = list(_look(rows, destinations, quiet=wish.quiet))
        known = {row.id for row in found.lost}
        found.lost += [
            one.row
            for one in found.looks
            if one.verdict in _FETCHED_AGAIN and one.row.id not in known
        ]
    if wish.is_narrowed:
        known = {row.id for row in [*found.lost, *found.waiting]}
        found.left = [(row, _why(row)) for row in rows if row.id not in known]
    return found


def _others(tx: Transaction, wish: _Wish, found: _Found) -> frozenset[int]:
    """Return the paid jobs that nobody asked for: one of them may take hours."""
    if not wish.is_narrowed and wish.batch is None:
        return frozenset()
    wanted = (row.id for row in [*found.lost, *found.waiting])
    return frozenset(reads.job_ids(tx, states=_AT_WORK)).difference(wanted)


def _why(row: JobRow) -> str:
    return "is on disk" if row.state is JobState.SUCCEEDED else f"is {row.state}"


def _check_account(tx: Transaction, name: str, rows: Sequence[JobRow]) -> None:
    account = accounts.find(tx, common.provider(), name)
    mine = {batch.id for batch in reads.batches(tx) if account and batch.account_id == account.id}
    strange = sorted({row.batch for row in rows if row.batch_id not in mine})
    if strange:
        raise UsageError(
            f"batch {', '.join(strange)} belongs to another account than {name!r}: name it with "
            "--account, or the batches with --batch"
        )


def _lost(rows: Iterable[JobRow], destinations: Destinations) -> list[JobRow]:
    """Return the jobs whose clips are to be brought back; looks at many clips at once.

    Raises:
        OutputError: If a bucket cannot tell.
    """
    rows = list(rows)
    is_there = partial(_is_there, destinations=destinations)
    with ThreadPoolExecutor(_LOOKING_THREADS) as pool:
        done = [row for row in rows if row.state is JobState.SUCCEEDED]
        there = dict(zip((row.id for row in done), pool.map(is_there, done), strict=True))
    return [
        row
        for row in rows
        if row.state is JobState.EXPIRED
        or row.error_class == ErrorClass.REMOTE_LOST
        or not there.get(row.id, True)
    ]


def _count_gone(
    tx: Transaction, name: str, batch_id: int | None, destinations: Destinations
) -> int:
    """Count the finished jobs that lack a file, where that is cheap: in folders, among not many."""
    account = accounts.find(tx, common.provider(), name)
    batches = [
        batch
        for batch in reads.batches(tx)
        if account is not None
        and batch.account_id == account.id
        and batch_id in (None, batch.id)
        and not is_location(batch.output_dir)
    ]
    if sum(batch.counts.get(JobState.SUCCEEDED, 0) for batch in batches) > _MOST_LOOKED_FOR:
        return 0
    return sum(
        not _is_there(row, destinations)
        for batch in batches
        for row in reads.job_rows(tx, batch_id=batch.id, states=[JobState.SUCCEEDED])
    )


def _is_there(row: JobRow, destinations: Destinations) -> bool:
    place = destinations.of(row.output_dir)
    return bool(row.files) and all(place.has(clip["path"]) for clip in row.files)


def _look(rows: Sequence[JobRow], destinations: Destinations, *, quiet: bool) -> Iterator[Verified]:
    """Look at clips, some at once: reading and hashing them leaves the interpreter free."""
    finished = [row for row in rows if row.state is JobState.SUCCEEDED]
    say = _counter(len(finished), quiet=quiet)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        done = 0
        for some in chunks(finished, _LOOKED_AT_ONCE):
            for found in pool.map(partial(_look_at, destinations), some):
                yield from found
            done += len(some)
            say(done)


def _look_at(destinations: Destinations, row: JobRow) -> list[Verified]:
    return list(verify([row], destinations, hashes=True))


def _counter(total: int, *, quiet: bool) -> Callable[[int], None]:
    """Return what shows on a terminal how many clips have been looked at."""
    if quiet or not sys.stderr.isatty():
        return lambda done: None

    def say(done: int) -> None:
        end = "\n" if done == total else ""
        click.echo(f"\r\x1b[K{done:,} of {total:,} clips looked at{end}", err=True, nl=False)

    return say


# -- doing it --------------------------------------------------------------------------------------


def _service(database: Database, account: str) -> "tuple[Account, Service]":
    from batchgen.cli import service  # loads the network libraries

    with database.reading() as tx:
        return service.find(tx, account)


def _revive(database: Database, rows: Sequence[JobRow]) -> None:
    for some in chunks(rows, _REVIVED_AT_ONCE):
        with database.transaction() as tx:
            for row in some:
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
    untouched: frozenset[int],
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
            untouched=untouched,
        )
    )


# -- what is said of it ----------------------------------------------------------------------------


def _foresee(found: _Found, *, verify: bool, as_json: bool) -> int:
    rows = [*found.lost, *found.waiting]
    if as_json:
        common.print_json(_json(found, rows, [], verify=verify, dry_run=True))
    else:
        _print_looks(found, verify=verify)
        said = [(name_of(row), f"would be fetched: {_state(row)}") for row in rows]
        for line in selection.told(said):
            click.echo(line)
        _print_left(found)
        if not rows:
            click.echo("nothing is to be fetched", err=True)
    return Exit.SOME_FAILED if rows or found.wrong else Exit.SUCCESS


def _state(row: JobRow) -> str:
    return "its clip is not as it was" if row.state is JobState.SUCCEEDED else f"is {row.state}"


def _print_looks(found: _Found, *, verify: bool) -> None:
    if not verify:
        return
    counts = Counter(one.verdict for one in found.looks)
    parts = [f"{counts[verdict]:,} {verdict}" for verdict in Verdict if counts[verdict]]
    looked = common.plural(len(found.looks), "clip")
    click.echo(f"{looked} looked at{': ' * bool(parts)}{', '.join(parts)}", err=True)
    said = ((name_of(one.row), _wrong(one)) for one in found.wrong)
    for line in selection.told(said):
        click.echo(line, err=True)


def _wrong(one: Verified) -> str:
    place = "" if one.path is None else f"{one.path} "
    if one.verdict is Verdict.UNREADABLE:
        return f"{place}{one.why}: nothing is fetched: make it readable, or move it away"
    kept = "; it stays as it is" if one.verdict is Verdict.CHANGED else ""
    return f"{place}{one.why}{kept}"


def _print_left(found: _Found) -> None:
    for line in selection.told((name_of(row), f"left alone: {why}") for row, why in found.left):
        click.echo(line, err=True)


def _report(
    found: _Found,
    rows: Sequence[JobRow],
    outcome: Outcome,
    beside: _Beside | None,
    *,
    verify: bool,
    as_json: bool,
) -> int:
    missing = any(row.state is not JobState.SUCCEEDED for row in rows)
    unreadable = any(one.verdict is Verdict.UNREADABLE for one in found.looks)
    codes = [reason.exit_code for reason in outcome.reasons]
    if missing or unreadable:
        codes.append(Exit.SOME_FAILED)
    if beside is not None:
        codes += beside.codes
    if as_json:
        said = _json(found, rows, outcome.reasons, verify=verify, dry_run=False)
        if beside is not None:
            said["sidecars"] = {"written": beside.written, "missing": beside.missing}
        common.print_json(said)
    else:
        _print_looks(found, verify=verify)
        _print_left(found)
        _print_fetched(rows, outcome)
        _print_beside(beside)
    for reason in outcome.reasons:
        click.echo(reason.message, err=True)
    return min(codes, key=PRECEDENCE.index, default=Exit.SUCCESS)


def _json(
    found: _Found, rows: Sequence[JobRow], reasons: Sequence[Reason], *, verify: bool, dry_run: bool
) -> dict[str, Any]:
    said = {
        "dry_run": dry_run,
        "jobs": [
            {
                **selection.job_json(row),
                "state": str(row.state),
                "file": _file(row),
                "error": redact_text(row.error) if row.error else None,
            }
            for row in rows
        ],
        "left": [{**selection.job_json(row), "why": why} for row, why in found.left],
        "reasons": [
            {"exit_code": int(reason.exit_code), "message": reason.message} for reason in reasons
        ],
        "verified": None,
        "sidecars": None,
    }
    if verify:
        counts = Counter(one.verdict for one in found.looks)
        said["verified"] = clips_json(counts, found.wrong)
    return said


def _print_fetched(rows: Sequence[JobRow], outcome: Outcome) -> None:
    said = ((name_of(row), _file(row) or row.error or str(row.state)) for row in rows)
    for line in selection.told(said):
        click.echo(line)
    if not rows:
        click.echo("nothing is to be fetched", err=True)
        return
    fetched = sum(row.state is JobState.SUCCEEDED for row in rows)
    clips, took = common.plural(len(rows), "clip"), span(outcome.took_s)
    click.echo(f"{fetched:,} of {clips} on disk, in {took}", err=True)


def _say_gone(found: _Found, batch: str | None, account: str) -> None:
    if not found.gone:
        return
    words = ["batchgen", "download", "--refresh"]
    words += [] if batch is None else ["--batch", batch]
    words += [] if account == "default" else ["--account", account]
    are = "is" if found.gone == 1 else "are"
    common.echo(
        f"{common.plural(found.gone, 'clip')} fetched before {are} gone: `{shlex.join(words)}` "
        "fetches what the service still has, for nothing",
        err=True,
    )


def _print_beside(beside: _Beside | None) -> None:
    if beside is not None:
        click.echo(f"{common.plural(beside.written, 'sidecar')} written", err=True)
        for line in beside.missing:
            click.echo(printable(f"no sidecar: {line}"), err=True)


def _file(row: JobRow) -> str | None:
    if row.state is not JobState.SUCCEEDED or not row.files:
        return None
    return clip_path(row.output_dir, row.files[0]["path"])
