"""`batchgen report`: write what became of the jobs as one HTML file."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from batchgen.cli import common
from batchgen.cli.options import Whole
from batchgen.cli.selection import condition, where_option
from batchgen.domain.errors import UsageError
from batchgen.domain.redaction import redact_text, secret_pattern
from batchgen.domain.states import JobState
from batchgen.settings import cache_folder, database_url, tokens
from batchgen.store import reads
from batchgen.store.database import Database

_SUFFIXES = (".html", ".htm")
_JOBS = 2000


@click.command("report")
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="Where to; clips are linked from its folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE even if it is no report.")
@common.batch_option
@where_option
@click.option(
    "--limit",
    type=Whole(min=1, max=100_000),
    default=_JOBS,
    show_default=True,
    metavar="N",
    help="Jobs in the gallery, the newest; all of them count in the figures.",
)
@click.option(
    "--posters/--no-posters",
    default=True,
    help="Put a small picture of each clip into the page (default; needs the extra `media`).",
)
@common.sign_option
@common.json_option
@common.db_option
def command(
    *,
    output: str,
    overwrite: bool,
    batch: str | None,
    where: str | None,
    limit: int,
    posters: bool,
    sign_s: float | None,
    db: str | None,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """Write totals, money, failures, a timeline and a gallery of the clips as one HTML file.

    It works without a network and by mail: nothing is loaded from anywhere, and pictures are in
    it. Clips play where it lies beside their folder; those in a bucket with --sign, as long as
    their links live. A run may be at work meanwhile.
    """
    from batchgen import reporting  # the templates and their library: not for --help
    from batchgen.posters import Cache
    from batchgen.store.nights import Choice

    page = Path(output)
    if page.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{output}: a report is HTML; end the name in {' or '.join(_SUFFIXES)}")
    with closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database:
        reporting.check(output, overwrite=overwrite)
        with database.reading() as tx:
            batch_id = common.batch_id_of(tx, batch)
            choice = Choice(batch_id, condition(tx, where))
            names = [summary.name for summary in reads.batches(tx)]
        cache = cache_folder()
        found = reporting.gather(
            database,
            reporting.Wish(
                choice=choice,
                only=where or "",
                words=[
                    *(["--batch", batch] if batch else []),
                    *(["--where", where] if where else []),
                ],
                title=batch or ", ".join(names) or "No batch yet",
                page=page,
                limit=limit,
                pictures=Cache(cache / "batchgen" / "posters" if cache else None)
                if posters
                else None,
                database_words=_database_words(db, database),
                hide=_hiding(),
                signed_s=None if sign_s is None else int(sign_s),
            ),
        )
        size_bytes = reporting.write(found, output, overwrite=overwrite)
    if as_json:
        common.print_json(_json(found, page, size_bytes))
    else:
        _tell(found, page, size_bytes)


def _hiding() -> Callable[[str], str]:
    """Return what takes secrets out of a text: tens of thousands pass through it."""
    secrets = [secret_pattern(token) for token in tokens()]

    def hide(text: str) -> str:
        for secret in secrets:
            text = secret.sub("[token]", text)
        return redact_text(text)

    return hide


def _database_words(db: str | None, database: Database) -> list[str]:
    """Return how the reader has to name the job database, as it was named here."""
    if common.is_simulated() or db is None or database_url(db) == database_url(None):
        return []
    return ["--db", database.shown]


def _json(found: Any, page: Path, size_bytes: int) -> dict[str, Any]:
    from batchgen.pages.words import totals

    money = totals(found.money)
    return {
        "file": str(page),
        "size_bytes": size_bytes,
        "jobs": sum(found.counts.values()),
        "counts": {str(state): found.counts.get(state, 0) for state in JobState},
        "spent_usd": common.usd_number(money.spent.micros),
        "spent_is_estimate": money.spent.is_estimate,
        "in_gallery": len(found.cards),
        "left_out": found.jobs_left_out,
        "posters": sum(card.poster is not None for card in found.cards),
        "posters_left_out": found.posters_left_out,
        "live_workers": found.live_workers,
        "read_at": common.iso(found.written_ms),
    }


def _tell(found: Any, page: Path, size_bytes: int) -> None:
    clips = found.counts.get(JobState.SUCCEEDED, 0)
    jobs = sum(found.counts.values())
    click.echo(
        f"{page}: {common.plural(clips, 'clip')} of {common.plural(jobs, 'job')}, "
        f"{size_bytes / 1_000_000:,.1f} MB",
        err=True,
    )
    if found.jobs_left_out:
        click.echo(
            f"its gallery shows the newest {len(found.cards):,} jobs; --limit shows more", err=True
        )
    if found.are_posters_possible is False and clips:
        click.echo(
            "without pictures of the clips: pip install 'batchgen-cli[media]' adds them", err=True
        )
    if found.posters_left_out:
        left_out = common.plural(found.posters_left_out, "clip")
        click.echo(f"{left_out} without a picture, which would have made it too large", err=True)
    if found.live_workers:
        click.echo("a run is at work: the report is of this moment", err=True)
    click.echo(f"open it in a browser: {page.absolute().as_uri()}", err=True)
