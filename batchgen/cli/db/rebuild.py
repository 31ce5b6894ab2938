"""`batchgen db rebuild`: a lost job database, made anew from its exports."""

import contextlib
import os
import secrets
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from batchgen import rebuilding
from batchgen.cli import common, service
from batchgen.cli.clips import clips_json, show_clips
from batchgen.cli.known_models import known_models
from batchgen.cli.restored import entry_json
from batchgen.domain.errors import UsageError
from batchgen.domain.redaction import printable
from batchgen.domain.states import JobState
from batchgen.domain.wording import usd
from batchgen.manifests import MAX_BATCH, name_problem
from batchgen.rebuilding import Candidate, Evidence, Exports, Rebuilt, Terms
from batchgen.runner import rescue
from batchgen.runner.clocks import new_id, wall_ms
from batchgen.settings import SIMULATED_CLIPS, database_url, state_folder
from batchgen.store import imports, journal, reads, step_back, upgrade, upkeep
from batchgen.store.database import Database
from batchgen.store.journal import Contents, Entry
from batchgen.store.step_back import SteppedBack
from batchgen.verifying import Verdict, Verified, verify


@click.command("rebuild")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--output-dir", metavar="DIR", help="Where the clips lie now; else where the export says."
)
@common.account_option
@click.option(
    "--journal",
    "named",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A journal of the lost job database; may be given again. Else this host's is looked for.",
)
@click.option(
    "--no-journal",
    is_flag=True,
    help="Pass over journals that cannot be told from another job database's.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be made; write nothing.")
@common.json_option
@common.db_option
def command(
    *,
    files: tuple[str, ...],
    output_dir: str | None,
    account: str,
    named: tuple[Path, ...],
    no_journal: bool,
    dry_run: bool,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """Make a new job database from exports (FILE) of one that is lost.

    Its jobs have the keys, states, request ids, costs and clips that the exports tell, so that
    nothing that was paid is paid again: what was generating is polled and fetched by the next
    `batchgen run`, what is in doubt stays so. What was bought after an export was written is
    taken from the journal on this machine. Exit code 11 if a purchase is left for which there
    is no job.
    """
    target = Database(database_url(db), allow_network_fs=allow_network_fs)
    terms = _terms(target, account, output_dir)
    with closing(target):
        _check_new(target)
        journals = _journals(target, named)
        with Exports.read(files, models=known_models(), journals=journals) as exports:
            taken = _taken(journals, no_journal=no_journal)
            with _made(target, dry_run=dry_run) as made:
                done = rebuilding.rebuild(made, exports, taken, terms)
                found = _Found.of(made, target, done, taken)
    if as_json:
        common.print_json(_json(found, terms, is_dry=dry_run))
    else:
        _show(found, terms, is_dry=dry_run)
    if done.left:
        raise SteppedBack(_LEFT.format("; ".join(done.left)))


_LEFT = (
    "nothing is submitted yet: {}. Add the manifests of missing jobs (`batchgen add`) and run "
    "`batchgen reconcile --after-restore`, with --write-off to give up what has no place"
)


def _terms(target: Database, account: str, output_dir: str | None) -> Terms:
    problem = name_problem(account, most=MAX_BATCH)
    if problem:
        raise UsageError(f"--account {account!r}: the name {problem}")
    is_simulated = common.is_simulated()
    return Terms(
        provider=common.provider(),
        account=account,
        # Bound at once: another service would not know these requests, and give them up as lost.
        origin=service.SIMULATED_ORIGIN if is_simulated else service.configured().origin,
        folder=target.folder,
        output_dir=output_dir,
        default_output_dir=SIMULATED_CLIPS if is_simulated else "clips",
        new_id=lambda at_ms: new_id("a", at_ms),
        now_ms=wall_ms(),
    )


# -- the new job database ------------------------------------------------------------------------


def _check_new(target: Database) -> None:
    """Refuse to write into a job database that holds anything.

    Raises:
        UsageError: If it does.
        StoreError: If there can be none.
    """
    target.check_place()
    if upgrade.revision_of(target) is None:
        return
    upgrade.require_current(target)
    with target.reading() as tx:
        is_empty = not reads.batches(tx) and step_back.newest(tx) is None
    if not is_empty:
        raise UsageError(
            f"{target.shown} holds jobs already: name a new job database with --db. If it is an "
            "older copy, `batchgen reconcile --after-restore` puts back what it lacks"
        )


@contextlib.contextmanager
def _made(target: Database, *, dry_run: bool) -> Iterator[Database]:
    """Give the job database to write into: a file gets its name only once it is whole."""
    if dry_run:
        with (
            tempfile.TemporaryDirectory(prefix="batchgen-") as folder,
            closing(Database(str(Path(folder) / "rebuilt.db"))) as database,
        ):
            upgrade.create(database)
            yield database
        return
    if target.path is None or target.exists():
        upgrade.open_current(target)
        with imports.adding(target):
            yield target
        return
    beside = target.path.with_name(f".{target.path.name}.{secrets.token_hex(4)}.part")
    try:
        with closing(Database(str(beside), allow_network_fs=True)) as database:
            upgrade.create(database)
            yield database
        upkeep.place(beside, target.path)
    finally:
        for path in beside.parent.glob(f"{beside.name}*"):
            path.unlink()


# -- journals ------------------------------------------------------------------------------------


def _journals(target: Database, named: Sequence[Path]) -> list[Candidate]:
    """Return the journals of this host, and those that a person names."""
    home = state_folder()
    here = [] if home is None else journal.every(home)
    asked = {os.path.realpath(path) for path in named}
    saved = _saved(target)
    found = [
        Candidate(path, _with_saved(_read(path), saved), database_id)
        for database_id, path in here
        if os.path.realpath(path) not in asked
    ]
    ids = {os.path.realpath(path): database_id for database_id, path in here}
    found += [
        Candidate(path, _with_saved(_read(path), saved), ids.get(os.path.realpath(path)), True)
        for path in named
    ]
    return found


def _read(path: Path) -> Contents:
    if not path.is_file():
        raise UsageError(f"{path}: there is no such journal")
    try:
        return journal.read(path)
    except OSError as error:
        raise UsageError(f"{path}: the journal cannot be read: {error.strerror}") from error


def _saved(target: Database) -> dict[str, str]:
    """Return request ids that a run could not record before the job database was lost."""
    base = target.backend.base
    pairs = {}
    for path in sorted(base.parent.glob(f"{base.name}-rescue-*")):
        with contextlib.suppress(UsageError):  # the next run tells what it is
            pairs.update(dict(rescue.read(path).pairs))
    return pairs


def _with_saved(contents: Contents, saved: dict[str, str]) -> Contents:
    entries = tuple(
        Entry(**{**vars(one), "request_id": one.request_id or saved.get(one.attempt_id)})
        for one in contents.entries
    )
    return Contents(entries, contents.after, contents.unreadable)


def _taken(journals: Sequence[Candidate], *, no_journal: bool) -> list[Candidate]:
    """Return the journals that count.

    Raises:
        UsageError: If one may be the lost job database's, and nothing shows it.
    """
    taken = [one for one in journals if one.is_taken]
    unclear = [one for one in journals if one.evidence is Evidence.POSSIBLE]
    if unclear and not taken and not no_journal:
        known = "; ".join(
            f"{one.path} tells of {common.plural(one.jobs, 'purchase')}" for one in unclear
        )
        raise UsageError(
            f"{known} of these jobs, which the export does not know. Nothing shows whether that "
            "is the journal of the lost job database, or of another with the same manifest (a "
            "simulated one, say): pass --journal FILE if it is the lost one's, so that nothing is "
            "paid twice, else --no-journal"
        )
    return taken


# -- what is said --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What the new job database holds."""

    shown: str
    batches: list[dict[str, Any]]
    states: Counter[str]
    clips: Counter[Verdict]
    wrong: list[Verified]
    done: Rebuilt
    journals: list[str]

    @classmethod
    def of(
        cls, made: Database, target: Database, done: Rebuilt, taken: Sequence[Candidate]
    ) -> "_Found":
        states: Counter[str] = Counter()
        batches = []
        clips: Counter[Verdict] = Counter()
        wrong: list[Verified] = []
        with made.reading() as tx:
            for one in reads.batches(tx):
                states.update({str(state): count for state, count in one.counts.items()})
                batches.append(
                    {
                        "batch": one.name,
                        "jobs": sum(one.counts.values()),
                        "output_dir": one.output_dir,
                        "spent_usd": common.usd_number(one.spent_micros),
                        "spent_is_estimate": reads.has_estimates(tx, one),
                        "reserved_usd": common.usd_number(one.reserved_micros),
                    }
                )
            rows = reads.job_rows(tx, states=[JobState.SUCCEEDED])
            for clip in verify(rows, target.folder, hashes=True):
                clips[clip.verdict] += 1
                if clip.verdict is not Verdict.WHOLE:
                    wrong.append(clip)
        journals = [str(one.path) for one in taken]
        return cls(target.shown, batches, states, clips, wrong, done, journals)


def _json(found: _Found, terms: Terms, *, is_dry: bool) -> dict[str, Any]:
    return {
        "database": found.shown,
        "dry_run": is_dry,
        "account": terms.account,
        "origin": terms.origin,
        "batches": found.batches,
        "counts": {str(state): found.states[state] for state in JobState},
        "clips": clips_json(found.clips, found.wrong),
        "journals": found.journals,
        "put_back": [
            {**entry_json(change.entry), "became": change.became.name.lower()}
            for change in found.done.repair.changes
        ],
        "left": found.done.left,
    }


def _show(found: _Found, terms: Terms, *, is_dry: bool) -> None:
    would = "would be " if is_dry else ""
    for batch in found.batches:
        click.echo(
            f"batch {batch['batch']}: {common.plural(batch['jobs'], 'job')}, clips in "
            f"{printable(batch['output_dir'])}, {_spent(batch)} spent"
        )
    states = ", ".join(
        f"{found.states[state]:,} {state}" for state in JobState if found.states[state]
    )
    click.echo(f"{found.shown}: {would}made anew: {states}")
    show_clips(found.clips, found.wrong)
    _show_journal(found)
    click.echo(f"account {terms.account}, bound to {terms.origin}", err=True)
    common.echo(
        "budgets, caps and priorities are not in an export: `batchgen set` gives them again",
        err=True,
    )
    if not is_dry and not found.done.left:
        common.echo(
            "`batchgen run` goes on with what is paid for, and asks before it pays", err=True
        )


def _spent(batch: Mapping[str, Any]) -> str:
    return usd(round(batch["spent_usd"] * 1_000_000), is_estimate=batch["spent_is_estimate"])


def _show_journal(found: _Found) -> None:
    for change in found.done.repair.changes:
        entry = change.entry
        click.echo(
            printable(f"{entry.label or entry.attempt_id}: from the journal: {change.became}")
        )
    if found.journals:
        return
    waiting = found.states[JobState.PENDING] + found.states[JobState.FAILED]
    again = f" {common.plural(waiting, 'job')} may be paid for again." if waiting else ""
    click.echo(
        "no journal of the lost job database was found: what was bought after the export was "
        f"written is not known, nor are jobs that the export leaves out.{again} A manifest with "
        "such rows would buy them anew: look in your account first, or pass the journal with "
        "--journal",
        err=True,
    )
