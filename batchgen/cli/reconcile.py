"""`batchgen reconcile`: decide jobs in doubt."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from batchgen import reconciling
from batchgen.cli import common, restored, selection
from batchgen.cli.selection import Selection, dry_run_option, name_of, where_option
from batchgen.domain.errors import Exit, UsageError
from batchgen.domain.redaction import printable, redact_text
from batchgen.domain.states import JobState
from batchgen.domain.wording import usd
from batchgen.reconciling import Adoption
from batchgen.runner import rescue
from batchgen.runner.clocks import wall_ms
from batchgen.settings import TokenMissing
from batchgen.store import reads
from batchgen.store.database import Database
from batchgen.store.reads import JobRow
from batchgen.store.transactions import Transaction

_HEADER = ("JOB", "KEY", "SENT", "PRICE", "WHY")


@click.command("reconcile")
@click.argument("words", nargs=-1, metavar="[JOB|FILE...]")
@click.option("--list", "listing", is_flag=True, help="Show the jobs in doubt (the default).")
@click.option("--adopt", is_flag=True, help="JOB=REQUEST_ID...: the job is this request.")
@click.option("--resubmit", is_flag=True, help="Pay again; the doubtful request counts as spent.")
@click.option("--write-off", is_flag=True, help="Give the jobs up; their price counts as spent.")
@click.option(
    "--from-rescue",
    is_flag=True,
    help="Take in the request ids of rescue files: FILE..., else those beside the job database.",
)
@click.option(
    "--after-restore",
    is_flag=True,
    help="Put back the purchases that a restored job database forgot.",
)
@click.option(
    "--journal",
    "journals",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --after-restore: another host's journal too; repeatable.",
)
@click.option("--all", "every", is_flag=True, help="Every job in doubt, instead of JOB...")
@where_option
@common.batch_option
@dry_run_option
@common.account_option
@click.option("-y", "--yes", is_flag=True, help="Agree without being asked.")
@common.json_option
@common.db_option
def command(
    *,
    words: tuple[str, ...],
    listing: bool,
    adopt: bool,
    resubmit: bool,
    write_off: bool,
    from_rescue: bool,
    after_restore: bool,
    journals: tuple[Path, ...],
    every: bool,
    where: str | None,
    batch: str | None,
    dry_run: bool,
    account: str,
    yes: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> int:
    """Decide jobs in doubt: their request was sent and its answer never came.

    It may have been accepted and paid for. Look at the service's own list of requests, then
    adopt the one a job belongs to, pay again, or write the job off. JOB may be - to read jobs
    from stdin.

    --after-restore is for a job database that was restored from an older copy: it puts back
    what was bought since, from what this host has written down.
    """
    if after_restore:
        if any((words, listing, adopt, resubmit, from_rescue, every, batch, where, dry_run)):
            raise UsageError("--after-restore goes with --write-off, --journal and -y only")
        with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
            return restored.reconcile(
                database, journals, write_off=write_off, yes=yes, as_json=as_json
            )
    if journals:
        raise UsageError("--journal goes with --after-restore")
    modes = [listing, adopt, resubmit, write_off, from_rescue]
    _check_words(words, every=every, where=where, batch=batch, from_rescue=from_rescue)
    _check(words, modes, adopt=adopt, from_rescue=from_rescue, every=every, where=where)
    if dry_run and not (resubmit or write_off):
        raise UsageError("--dry-run goes with --resubmit and --write-off: the rest asks or looks")
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        if from_rescue:
            _take_in(database, words, as_json=as_json)
            return Exit.SUCCESS
        if adopt:
            _print(_adopt(database, words, account, yes=yes), "adopted", as_json=as_json)
            return Exit.SUCCESS
        with database.reading() as tx:
            rows = _rows(tx, words, where, batch)
        if resubmit:
            _resubmit(database, rows, yes=yes, dry_run=dry_run)
            _print(rows, "resubmitted", as_json=as_json, dry_run=dry_run)
        elif write_off:
            _write_off(database, rows, dry_run=dry_run)
            _print(rows, "written off", as_json=as_json, dry_run=dry_run)
        else:
            _list(rows, as_json=as_json)
    return Exit.SUCCESS


def _check_words(
    words: Sequence[str],
    *,
    every: bool,
    where: str | None,
    batch: str | None,
    from_rescue: bool,
) -> None:
    if from_rescue and (every or where is not None or batch is not None):
        raise UsageError("--from-rescue takes rescue files only: leave --all, --where, --batch out")
    if words and (every or where is not None):
        raise UsageError("name jobs, or select them with --all or --where: not both")
    if words and batch is not None:
        raise UsageError("--batch goes with --list, --all or --where; a job of a batch is BATCH/ID")


def _check(
    words: Sequence[str],
    modes: Sequence[bool],
    *,
    adopt: bool,
    from_rescue: bool,
    every: bool,
    where: str | None,
) -> None:
    if sum(modes) > 1:
        raise UsageError("choose one of --list, --adopt, --resubmit, --write-off and --from-rescue")
    selected = every or where is not None
    if adopt and (selected or not words):
        raise UsageError("--adopt takes JOB=REQUEST_ID, one or more")
    if modes[0] or not any(modes):
        _check_listing(words, every=every)
    elif not (words or selected or from_rescue):
        raise UsageError("name jobs in doubt, or select them: --all for every one, or --where")


def _check_listing(words: Sequence[str], *, every: bool) -> None:
    if words:
        raise UsageError("say what is to be done with the jobs: --adopt, --resubmit or --write-off")
    if every:
        raise UsageError("the list is of every job in doubt anyway: leave --all out")


def _take_in(database: Database, words: Sequence[str], *, as_json: bool) -> None:
    """Record what rescue files hold; a file that is done with is removed."""
    with database.reading() as tx:
        files = [Path(word) for word in words] or rescue.left_behind(tx, database.backend)
        for path in files:
            if rescue.is_in_use(tx, database.backend, path):
                raise UsageError(f"{path}: its run still lives and records these ids itself")
    held = [(path, rescue.read(path)) for path in files]
    troubles: list[str] = []
    pairs: list[rescue.Pair] = []
    known = 0
    for path, contents in held:
        with database.transaction() as tx:
            taken = rescue.take_in(tx, contents.pairs, now_ms=wall_ms())
        pairs += taken.recorded
        known += taken.known
        if said := rescue.trouble(path, contents, taken):
            troubles.append(said)
        else:
            path.unlink(missing_ok=True)
    if as_json:
        recorded = [{"attempt_id": attempt, "request_id": request} for attempt, request in pairs]
        common.print_json({"recorded": recorded, "known": known, "troubles": troubles})
    else:
        for _, request_id in pairs:
            click.echo(f"{request_id}: recorded")
        said_known = f", {known} recorded already" if known else ""
        where = common.plural(len(files), "rescue file")
        click.echo(
            f"{common.plural(len(pairs), 'request id')} taken in from {where}{said_known}", err=True
        )
        if pairs:
            common.echo("`batchgen run` goes on with their jobs; nothing is paid again", err=True)
    if troubles:
        raise UsageError("\n".join(troubles))


def _rows(
    tx: Transaction, words: Sequence[str], where: str | None, batch: str | None
) -> list[JobRow]:
    if words:
        return reconciling.in_doubt(tx, common.find_jobs(tx, words))
    ids = Selection((), where, batch, [JobState.IN_DOUBT]).job_ids(tx)
    return list(reads.rows_of(tx, ids))


def _list(rows: Sequence[JobRow], *, as_json: bool) -> None:
    if as_json:
        common.print_json({"in_doubt": [_json(row) for row in rows]})
        return
    if not rows:
        click.echo("no job is in doubt", err=True)
        return
    cells = [
        (
            f"{row.batch}/{row.label}",
            row.key,
            common.iso(row.intent_ms) or "",
            usd(row.est_micros),
            printable(redact_text(row.error or "")),
        )
        for row in rows
    ]
    click.echo(common.table(cells, header=_HEADER))


def _resubmit(database: Database, rows: Sequence[JobRow], *, yes: bool, dry_run: bool) -> None:
    if not rows:
        return
    with database.reading() as tx:
        found = reads.briefs(tx, [row.id for row in rows])
        price = selection.price(selection.estimate_of(tx, found))
    count = common.plural(len(rows), "job")
    if dry_run:
        click.echo(f"{count} would be paid for again, {price}", err=True)
        return
    common.confirm(
        f"{count} may have been paid for already. Pay again at the next run, {price}?", yes=yes
    )
    with database.transaction() as tx:
        reconciling.resubmit(tx, rows, now_ms=wall_ms())


def _write_off(database: Database, rows: Sequence[JobRow], *, dry_run: bool) -> None:
    if not dry_run:
        with database.transaction() as tx:
            reconciling.write_off(tx, rows, now_ms=wall_ms())


def _adopt(
    database: Database, words: Sequence[str], account: str, *, yes: bool
) -> Sequence[JobRow]:
    pairs = [reconciling.parse_adoption(word) for word in words]
    with database.reading() as tx:
        rows = reconciling.in_doubt(tx, [_one(tx, job) for job, _ in pairs])
    adoptions = [
        Adoption(row, request_id) for row, (_, request_id) in zip(rows, pairs, strict=True)
    ]
    reconciling.check_distinct(adoptions)
    _accept(_reservations(database, adoptions, account), yes=yes)
    with database.transaction() as tx:
        reconciling.adopt(tx, adoptions, now_ms=wall_ms())
    return rows


def _one(tx: Transaction, said: str) -> int:
    found = common.find_jobs(tx, [said])
    if len(found) != 1:
        raise UsageError("each request belongs to exactly one job")
    return found[0]


def _reservations(database: Database, adoptions: Sequence[Adoption], account: str) -> list[str]:
    from batchgen.cli import service  # loads the network libraries

    with database.reading() as tx:
        owners = {batch.id: batch.account_id for batch in reads.batches(tx)}
        try:
            payer, found = service.find(tx, account)
        except TokenMissing as error:
            return [f"nothing could be checked: {error}"]
    if any(owners[adoption.row.batch_id] != payer.id for adoption in adoptions):
        raise UsageError("a job belongs to another account: name it with --account")

    async def ask() -> list[str]:
        provider = found.connect()
        try:
            return [
                f"{adoption.row.batch}/{adoption.row.label} = {adoption.request_id}: {said}"
                for adoption in adoptions
                for said in await reconciling.reservations(provider, adoption)
            ]
        finally:
            await provider.close()

    return asyncio.run(ask())


def _accept(reservations: Sequence[str], *, yes: bool) -> None:
    for said in reservations:
        click.echo(said, err=True)
    if not reservations or yes:
        return
    if not common.is_terminal():
        raise UsageError("it is not certain, and nobody can be asked: pass -y if you are sure")
    common.confirm("Adopt all the same?", yes=False)


def _print(rows: Sequence[JobRow], word: str, *, as_json: bool, dry_run: bool = False) -> None:
    if as_json:
        found = [_json(row) for row in rows]
        common.print_json({"dry_run": dry_run, word.replace(" ", "_"): found})
        return
    said = f"would be {word}" if dry_run else word
    for line in selection.told((name_of(row), said) for row in rows):
        click.echo(line)
    if not rows:
        click.echo("no job is in doubt", err=True)
    elif word != "written off" and not dry_run:
        common.echo("`batchgen run` goes on with them", err=True)


def _json(row: JobRow) -> dict[str, Any]:
    return {
        **selection.job_json(row),
        "model": row.model,
        "sent_at": common.iso(row.intent_ms),
        "reserved_usd": common.usd_number(row.est_micros),
        "error": row.error,
    }
