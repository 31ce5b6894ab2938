"""`batchgen db check`: whether the job database, and what it says of clips, is sound."""

from collections import Counter
from contextlib import closing
from typing import Any

import click

from batchgen.cli import common
from batchgen.cli.clips import clips_json, show_clips
from batchgen.cli.db.existing import open_existing
from batchgen.domain.errors import Exit, StoreError
from batchgen.domain.states import JobState
from batchgen.domain.wording import usd
from batchgen.downloads.destinations import Destinations
from batchgen.store import reads, upgrade
from batchgen.store.database import Database
from batchgen.store.revision import REVISION
from batchgen.store.scope import Scope
from batchgen.store.transactions import Transaction
from batchgen.verifying import Verdict, Verified, verify


@click.command("check")
@click.option("--clips", is_flag=True, help="Also whether each clip is on disk, by its size.")
@click.option("--hash", "hashes", is_flag=True, help="Read the clips and compare their SHA-256.")
@common.json_option
@common.db_option
def command(
    *, clips: bool, hashes: bool, db: str | None, allow_network_fs: bool, as_json: bool
) -> int:
    """Check the file, its references, counters and money; exit code 11 if something is wrong.

    --clips and --hash look at the files of finished jobs too, and change nothing: exit code 3
    if one is missing or is not what was fetched. `batchgen download --refresh` fetches missing
    ones again without paying, `batchgen download --verify` changed ones too.
    """
    wrong: list[Verified] = []
    counts: Counter[Verdict] = Counter()
    with closing(open_existing(db, allow_network_fs=allow_network_fs)) as database:
        found = upgrade.revision_of(database)
        problems = upgrade.integrity(database)
        is_readable = found == REVISION and not problems
        if is_readable:
            with database.reading() as tx:
                problems = [*_miscounted(tx), *_misbooked(tx)]
        if clips or hashes:
            if not is_readable:
                upgrade.require_current(database)
            counts, wrong = _look(database, hashes=hashes)
    if as_json:
        report = _report(database, found, problems)
        if clips or hashes:
            report["clips"] = clips_json(counts, wrong)
        common.print_json(report)
    else:
        state = "current" if found == REVISION else f"this version wants {REVISION}"
        click.echo(f"{database.shown}: schema {found} ({state})")
        click.echo("\n".join(problems) if problems else "sound: file, references, counters, money")
        if clips or hashes:
            show_clips(counts, wrong)
    if problems:
        raise StoreError(
            f"{database.shown}: {common.plural(len(problems), 'problem')}; restore a copy, or "
            "export what can be read and make a new one of it with `batchgen db rebuild`"
        )
    return Exit.SOME_FAILED if wrong else Exit.SUCCESS


def _report(database: Database, found: str | None, problems: list[str]) -> dict[str, Any]:
    return {
        "database": database.shown,
        "schema": found,
        "schema_is_current": found == REVISION,
        "problems": problems,
    }


def _miscounted(tx: Transaction) -> list[str]:
    """Compare the stored counters with the jobs."""
    newest = reads.newest_job_id(tx)
    problems = []
    for batch in reads.batches(tx):
        counted = reads.tally(tx, Scope((batch.id,), newest), batch.account_id)
        problems += [
            f"batch {batch.name}: {counted[state]} jobs are {state}, "
            f"the counter says {batch.counts.get(state, 0)}"
            for state in JobState
            if counted[state] != batch.counts.get(state, 0)
        ]
    return problems


def _misbooked(tx: Transaction) -> list[str]:
    """Compare what batches have spent with their attempts."""
    return [
        f"batch {name}: its attempts cost {usd(charged)}, the books say {usd(spent)}"
        for name, charged, spent in reads.misbooked(tx)
    ]


def _look(database: Database, *, hashes: bool) -> tuple[Counter[Verdict], list[Verified]]:
    counts: Counter[Verdict] = Counter()
    wrong: list[Verified] = []
    with database.reading() as tx:
        rows = reads.job_rows(tx, states=[JobState.SUCCEEDED])
        for one in verify(rows, Destinations(database.folder), hashes=hashes):
            counts[one.verdict] += 1
            if one.verdict is not Verdict.WHOLE:
                wrong.append(one)
    return counts, wrong
