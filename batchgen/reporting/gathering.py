"""One look at the job database, then the pictures, then the page."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from shlex import quote

from batchgen import __version__, posters
from batchgen.domain.prices import Estimate, whole_cents
from batchgen.domain.states import FINAL, JobState
from batchgen.exporters.files import Kind, check_whole, write_whole
from batchgen.exporters.interface import encoded, start_of
from batchgen.pages import is_report, render
from batchgen.pages.interface import (
    Amount,
    Attention,
    BatchMoney,
    Card,
    Command,
    Doubt,
    Mention,
    Report,
    SlowJob,
)
from batchgen.posters import Cache, Source
from batchgen.reporting import cards as gallery
from batchgen.reporting import causes, nights
from batchgen.reporting.advice import MOST_KEYS, Typist
from batchgen.store import accounts, costs, reads, workers
from batchgen.store import nights as stored_nights
from batchgen.store.database import Database
from batchgen.store.nights import Choice, Paid
from batchgen.store.reads import BatchSummary, JobRow
from batchgen.store.transactions import Transaction

SIMULATED = "simulator"
"""The provider of accounts whose jobs cost nothing."""

POSTER_BYTES = 12 * 1024**2
"""What all posters of a page may take together: a mail of 25 MB must hold it, in base64."""

_REPORT = Kind("a report", "batchgen report", lambda file: is_report(start_of(file)))
_MOST_DOUBTS = 50
_MOST_SLOW = 8
_EXAMPLES = 3
_SHARES = (0.5, 0.9)


@dataclass(frozen=True)
class Wish:
    """What a report is to be about.

    Attributes:
        choice: Which jobs.
        only: The expression that chose them, "" without one.
        words: What chooses them on a command line.
        title: What it is called.
        page: Where it will lie.
        limit: How many jobs its gallery shows.
        pictures: Where posters are kept; None wants none.
        database_words: What names the job database on a command line.
        hide: Takes secrets out of a text.
    """

    choice: Choice
    only: str
    words: Sequence[str]
    title: str
    page: Path
    limit: int
    pictures: Cache | None
    database_words: Sequence[str]
    hide: Callable[[str], str]


def write(report: Report, path: str, *, overwrite: bool) -> int:
    """Write a report as one HTML file, whole or not at all; return its length in bytes.

    Raises:
        UsageError: If a file that is no report is in the way.
        OutputError: If it cannot be written.
    """
    pieces = (encoded(piece) for piece in render(report))
    return write_whole(path, pieces, _REPORT, overwrite=overwrite)


def check(path: str, *, overwrite: bool) -> None:
    """Check, before any work is done, that `write` could write there; it raises the same."""
    check_whole(path, _REPORT, overwrite=overwrite)


def gather(database: Database, wish: Wish) -> Report:
    """Return what a report shows: all of it as it was at one moment."""
    place = gallery.Place(root=database.folder, page=wish.page.parent)
    with database.reading() as tx:
        report, rows = _read(tx, database, wish)
        found = [gallery.card(row, report.columns, place, wish.hide) for row in rows]
    # The job database is left before pictures are made, which may take a while.
    cards = [card for card, _ in found]
    report = replace(report, facets=gallery.facets_of(report.columns, cards), cards=cards)
    report = replace(report, attention=[*report.attention, *_gone(cards, report, wish)])
    if wish.pictures is None:
        return report
    if not posters.are_possible():
        return replace(report, are_posters_possible=False)
    return _illustrated(report, [source for _, source in found], wish.pictures)


def _read(tx: Transaction, database: Database, wish: Wish) -> tuple[Report, list[JobRow]]:
    summaries = _summaries(tx, wish.choice)
    counts: Counter[JobState] = Counter()
    for summary in summaries:
        counts.update(summary.counts)
    is_simulated = any(account.provider == SIMULATED for account in accounts.every(tx))
    typist = Typist(wish.database_words, is_simulated=is_simulated)
    live = len(workers.living(tx, database.backend))
    with closing(stored_nights.failures(tx, wish.choice)) as failures:
        found, other_failures = causes.grouped(failures, typist, wish.hide)
    doubts = _some(tx, wish, JobState.IN_DOUBT, _MOST_DOUBTS)
    rows = stored_nights.newest(tx, wish.choice, most=wish.limit)
    took = stored_nights.took_ms(tx, wish.choice, _SHARES)
    report = Report(
        title=wish.hide(wish.title),
        only=wish.hide(wish.only),
        database=wish.hide(database.shown),
        database_words="".join(f" {quote(word)}" for word in typist.meant),
        written_ms=tx.now_ms(),
        version=__version__,
        is_simulated=is_simulated,
        live_workers=live,
        counts=counts,
        money=_money(tx, summaries, wish),
        timeline=nights.timeline(tx, wish.choice),
        took_ms=None if took is None else (took[0], took[1]),
        causes=found,
        other_failures=other_failures,
        doubts=[_doubt(row, typist, wish) for row in doubts],
        more_doubts=counts[JobState.IN_DOUBT] - len(doubts),
        attention=_attention(tx, counts, wish, typist, is_live=live > 0),
        slowest=_slowest(tx, wish),
        columns=gallery.columns_of((name for it in summaries for name in it.columns), rows),
        facets=(),
        cards=(),
        jobs_left_out=sum(counts.values()) - len(rows),
    )
    return report, rows


def _some(tx: Transaction, wish: Wish, state: JobState, most: int) -> list[JobRow]:
    choice = wish.choice
    with closing(
        reads.job_rows(tx, batch_id=choice.batch_id, states=[state], where=choice.where)
    ) as found:
        return list(islice(found, most))


# -- money ---------------------------------------------------------------------------------------


def _summaries(tx: Transaction, choice: Choice) -> list[BatchSummary]:
    """Return the batches, with the counts of the chosen jobs only."""
    found = [it for it in reads.batches(tx) if choice.batch_id in (None, it.id)]
    if choice.where is None:
        return found
    counted = stored_nights.counted(tx, choice)
    # Neither a budget nor what is booked tells of some jobs of a batch.
    return [
        replace(
            it,
            counts=counted[it.id].counts,
            reserved_micros=counted[it.id].reserved_micros,
            budget_micros=None,
        )
        for it in found
        if it.id in counted
    ]


def _money(tx: Transaction, summaries: Iterable[BatchSummary], wish: Wish) -> list[BatchMoney]:
    paid = stored_nights.paid(tx, wish.choice)
    waiting = _waiting(tx, summaries, wish.choice)
    found = []
    for summary in summaries:
        of_batch = paid.get(summary.id, Paid())
        is_whole = wish.choice.where is None
        found.append(
            BatchMoney(
                name=wish.hide(summary.name),
                counts=summary.counts,
                spent=Amount(
                    summary.spent_micros if is_whole else of_batch.charged_micros,
                    of_batch.guessed_micros > 0,
                ),
                estimated=of_batch.estimated_micros,
                reserved=summary.reserved_micros,
                waiting=whole_cents(waiting[summary.id].micros),
                unpriced=waiting[summary.id].unpriced,
                budget=summary.budget_micros,
            )
        )
    return found


def _waiting(
    tx: Transaction, summaries: Iterable[BatchSummary], choice: Choice
) -> dict[int, Estimate]:
    """Return what the jobs that wait will probably cost, by the row id of their batch."""
    if choice.where is not None:
        return {
            batch_id: Estimate(micros=it.waiting_micros, unpriced=it.unpriced)
            for batch_id, it in stored_nights.counted(tx, choice).items()
        }
    prices = {account.id: costs.prices(tx, account.id) for account in accounts.every(tx)}
    found = {}
    for summary in summaries:
        estimate = found[summary.id] = Estimate()
        if summary.counts.get(JobState.PENDING):
            for kind in reads.waiting(tx, summary.account_id, [summary.id]):
                known = prices[summary.account_id]
                estimate.add(known, kind.model, kind.settings, listed=kind.listed, jobs=kind.jobs)
    return found


# -- what waits for a person ---------------------------------------------------------------------


def _doubt(row: JobRow, typist: Typist, wish: Wish) -> Doubt:
    return Doubt(
        job=Mention(
            row.key, wish.hide(row.label), wish.hide(row.batch), _short(row.inputs, wish.hide)
        ),
        sent_ms=row.intent_ms,
        reserved=row.est_micros or 0,
        commands=typist.doubt(row.key),
    )


def _short(inputs: object, hide: Callable[[str], str]) -> str:
    said = hide(gallery.prompt_of(inputs)) if isinstance(inputs, dict) else ""
    return said if len(said) <= 300 else said[:300] + "…"


def _attention(
    tx: Transaction, counts: Counter[JobState], wish: Wish, typist: Typist, *, is_live: bool
) -> list[Attention]:
    found = []
    paused = [account.name for account in accounts.every(tx) if account.paused]
    if paused:
        found.append(
            Attention(
                title="Paused",
                jobs=0,
                advice=f"Account {wish.hide(', '.join(paused))} is paused: nothing is submitted.",
                commands=[Command(typist.line("unpause"), "lets jobs be submitted again")],
            )
        )
    if counts[JobState.EXPIRED]:
        found.append(_expired(tx, counts[JobState.EXPIRED], wish, typist))
    if is_live:
        return found
    go_on = typist.line("run", *wish.words)
    at_rest = sum(counts[state] for state in (*FINAL, JobState.PENDING))
    if left := sum(counts.values()) - at_rest:
        found.append(
            Attention(
                title="Not fetched yet",
                jobs=left,
                advice="Paid for, and still at the service. Fetching them costs nothing.",
                commands=[Command(go_on, "waits for them and fetches them")],
            )
        )
    if counts[JobState.PENDING]:
        found.append(
            Attention(
                title="Waiting",
                jobs=counts[JobState.PENDING],
                advice="Never sent, so nothing is paid for them yet.",
                commands=[Command(go_on, "shows the price and asks before it pays")],
            )
        )
    return found


def _expired(tx: Transaction, jobs: int, wish: Wish, typist: Typist) -> Attention:
    rows = _some(tx, wish, JobState.EXPIRED, MOST_KEYS)
    words = [row.key for row in rows] if jobs <= len(rows) else []
    return Attention(
        title="Expired",
        jobs=jobs,
        advice="Paid for, but the links died before the clips were fetched.",
        commands=[
            Command(typist.line("download", "--refresh", *words), "asks for new links, for nothing")
        ],
        examples=[
            Mention(row.key, wish.hide(row.label), wish.hide(row.batch), wish.hide(row.error or ""))
            for row in rows[:_EXAMPLES]
        ],
    )


def _gone(cards: Sequence[Card], report: Report, wish: Wish) -> list[Attention]:
    gone = [card for card in cards if any(not file.is_there for file in card.files)]
    if not gone:
        return []
    typist = Typist(wish.database_words, is_simulated=report.is_simulated)
    words = [card.key for card in gone] if len(gone) <= MOST_KEYS else []
    return [
        Attention(
            title="Not on this disk",
            jobs=len(gone),
            advice="Fetched once, but the files are not where they were put. They may have moved.",
            commands=[
                Command(
                    typist.line("download", "--refresh", *words),
                    "fetches what is missing again, as long as the service keeps it",
                )
            ],
            examples=[
                Mention(card.key, card.label, card.batch, card.files[0].name)
                for card in gone[:_EXAMPLES]
            ],
        )
    ]


def _slowest(tx: Transaction, wish: Wish) -> list[SlowJob]:
    return [
        SlowJob(
            job=Mention(slow.key, wish.hide(slow.label), wish.hide(slow.batch)),
            model=wish.hide(slow.model),
            took_ms=slow.took_ms,
            queued_ms=slow.queued_ms,
        )
        for slow in stored_nights.slowest(tx, wish.choice, most=_MOST_SLOW)
    ]


# -- pictures ------------------------------------------------------------------------------------


def _illustrated(report: Report, sources: Sequence[Source | None], cache: Cache) -> Report:
    made = posters.make((source for source in sources if source is not None), cache)
    kept: dict[bytes, int] = {}
    size_bytes = left_out = 0
    cards: list[Card] = []
    for card, source in zip(report.cards, sources, strict=True):
        poster = next(made) if source is not None else None
        if poster is None:
            cards.append(card)
            continue
        at = kept.get(poster.webp)
        if at is None and size_bytes + len(poster.webp) <= POSTER_BYTES:
            at = kept[poster.webp] = len(kept)
            size_bytes += len(poster.webp)
        left_out += at is None
        cards.append(
            replace(
                card,
                poster=at,
                clip_s=poster.duration_s,
                width=poster.width,
                height=poster.height,
            )
        )
    cache.forget_unused()
    return replace(
        report,
        cards=cards,
        posters=list(kept),
        posters_left_out=left_out,
        are_posters_possible=True,
    )
