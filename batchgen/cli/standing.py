"""Where batches stand: counts and money, what stands in the way, and the command that helps."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.cli import common
from batchgen.cli.tables import local
from batchgen.domain.prices import Estimate, Prices, whole_cents
from batchgen.domain.states import ErrorClass, JobState
from batchgen.domain.wording import lasting, usd
from batchgen.store import accounts, costs, reads, step_back
from batchgen.store.accounts import Account
from batchgen.store.reads import BatchSummary
from batchgen.store.sessions import Session
from batchgen.store.transactions import Transaction
from batchgen.store.workers import Seen

SILENT_MS = 5 * 60_000
"""After so long without a sign of life a worker that lives may have been suspended."""


@dataclass(frozen=True)
class Obstacle:
    """Something that stands in the way.

    Attributes:
        kind: A word for programs.
        message: What it is.
        command: What helps; None if there is no command for it.
        batch: In which batch; None if it concerns all.
    """

    kind: str
    message: str
    command: str | None = None
    batch: str | None = None

    def __str__(self) -> str:
        """Return it as a line."""
        return self.message if self.command is None else f"{self.message}: {self.command}"

    def json(self) -> dict[str, Any]:
        """Return it as data."""
        return {
            "kind": self.kind,
            "batch": self.batch,
            "message": self.message,
            "command": self.command,
        }


@dataclass(frozen=True)
class Standing:
    """Where a batch stands: its summary, and what its stored counters do not tell.

    Attributes:
        waiting: What the jobs that wait will probably cost.
        is_sampled: Whether that is extrapolated from a sample of them.
        cheapest_micros: What the cheapest of them will; None if no price is known.
        classes: Failed jobs by class; of very many perhaps not all.
    """

    summary: BatchSummary
    waiting: Estimate
    is_sampled: bool
    cheapest_micros: int | None
    classes: Mapping[str, int]
    spent_is_estimate: bool

    @property
    def room_micros(self) -> int | None:
        """What the budget leaves for further jobs; None without a budget."""
        summary = self.summary
        if summary.budget_micros is None:
            return None
        return summary.budget_micros - summary.spent_micros - summary.reserved_micros

    @property
    def is_out_of_budget(self) -> bool:
        """Whether the budget leaves no room for any of the jobs that wait."""
        room, cheapest = self.room_micros, self.cheapest_micros
        return room is not None and cheapest is not None and room < cheapest


def standings(tx: Transaction, batch_ids: Sequence[int] | None) -> list[Standing]:
    """Return where batches stand, by their row ids; None is all of them."""
    prices = {account.id: costs.prices(tx, account.id) for account in accounts.every(tx)}
    return [
        _standing(tx, summary, prices[summary.account_id])
        for summary in reads.batches(tx)
        if batch_ids is None or summary.id in batch_ids
    ]


def _standing(tx: Transaction, summary: BatchSummary, prices: Prices) -> Standing:
    waiting = Estimate()
    kinds, is_sampled = reads.waiting_of(tx, summary)
    known = []
    for kind in kinds:
        waiting.add(prices, kind.model, kind.settings, listed=kind.listed, jobs=kind.jobs)
        price = prices.of_request(kind.model, kind.settings, kind.listed)
        known += [] if price is None else [price]
    return Standing(
        summary,
        waiting,
        is_sampled,
        min(known, default=None),
        reads.failed_classes(tx, summary),
        reads.has_estimates(tx, summary),
    )


def counts_in_words(counts: Mapping[JobState, int]) -> str:
    """Return how many jobs are in which state."""
    parts = [f"{counts[it]:,} {it.replace('_', ' ')}" for it in JobState if counts.get(it)]
    return ", ".join(parts) or "none"


def money_in_words(standing: Standing) -> str:
    """Return what a batch spent and may spend."""
    summary = standing.summary
    money = f"{usd(summary.spent_micros, is_estimate=standing.spent_is_estimate)} spent"
    if summary.reserved_micros:
        money += f", {usd(summary.reserved_micros)} reserved"
    if summary.budget_micros is not None:
        money += f", budget {usd(summary.budget_micros)}"
    return money


def price_in_words(standing: Standing) -> str:
    """Return what the jobs that wait will probably cost, and by what that is told."""
    waiting = standing.waiting
    price = f"about {usd(whole_cents(waiting.micros))}"
    if waiting.unpriced:
        price += f" and {waiting.unpriced:,} of unknown price"
    if standing.is_sampled:
        price += ", by a sample of them"
    return price + (f", by {waiting.basis(())}" if waiting.learned else "")


def lines_of(standing: Standing, *, is_worked_on: bool = False) -> list[str]:
    """Return a standing in lines: counts, money, and what stands in the way.

    Args:
        standing: Of a batch.
        is_worked_on: Whether a run is at it, so that what waits needs no command.
    """
    summary = standing.summary
    return [
        f"{summary.name}: {common.plural(sum(summary.counts.values()), 'job')}",
        f"  {counts_in_words(summary.counts)}",
        f"  {money_in_words(standing)}",
        *(f"  {one}" for one in obstacles_of(standing, is_worked_on=is_worked_on)),
    ]


def obstacles_of(standing: Standing, *, is_worked_on: bool = False) -> list[Obstacle]:
    """Return what stands in the way of a batch."""
    name = standing.summary.name
    said = [
        *_open(standing, shlex.quote(name), is_worked_on=is_worked_on),
        *_budget(standing, shlex.quote(name)),
        *_lost(standing, shlex.quote(name)),
    ]
    return [
        Obstacle(kind, message, None if command is None else _typed(command), name)
        for kind, message, command in said
    ]


_Said = tuple[str, str, str | None]


def _typed(command: str) -> str:
    """Return a command that means the job database of the one at work."""
    return common.command_line(command.removeprefix("batchgen "))


def _open(standing: Standing, name: str, *, is_worked_on: bool) -> list[_Said]:
    counts, waiting = standing.summary.counts, standing.waiting
    run = None if is_worked_on else f"batchgen run --batch {name}"
    found: list[_Said] = []
    if waiting.jobs:
        price = price_in_words(standing)
        found.append(("waiting", f"{waiting.jobs:,} to be paid for ({price})", run))
    if (running := counts.get(JobState.RUNNING)) and not is_worked_on:
        found.append(("running", f"{running:,} paid for and left at the service", run))
    if (sent := counts.get(JobState.SUBMITTING)) and not is_worked_on:
        said = f"{sent:,} maybe paid for: their worker died as it sent them. To put them in doubt"
        found.append(("submitting", said, run))
    if counts.get(JobState.DOWNLOADING):
        fetch = None if is_worked_on else "batchgen download"
        found.append(("downloading", f"{counts[JobState.DOWNLOADING]:,} to be fetched", fetch))
    return found


def _budget(standing: Standing, name: str) -> list[_Said]:
    summary, waiting, room = standing.summary, standing.waiting, standing.room_micros
    if room is None or not waiting.jobs or waiting.micros <= room:
        return []
    needed = summary.spent_micros + summary.reserved_micros + waiting.micros
    command = f"batchgen set budget {-(-needed // 1_000_000)} --batch {name}"
    budget = usd(summary.budget_micros)
    if standing.is_out_of_budget:
        return [("out_of_budget", f"the budget of {budget} leaves no room for the next", command)]
    enough = room * (waiting.jobs - waiting.unpriced) // max(1, waiting.micros)
    said = f"the budget of {budget} is enough for about {enough:,} of them"
    return [("budget_short", said, command)]


def _lost(standing: Standing, name: str) -> list[_Said]:
    counts = standing.summary.counts
    found: list[_Said] = []
    if counts.get(JobState.IN_DOUBT):
        said = f"{counts[JobState.IN_DOUBT]:,} in doubt, maybe paid for"
        found.append(("in_doubt", said, "batchgen reconcile --list"))
    if failed := counts.get(JobState.FAILED):
        classes = [f"{count:,} {word}" for word, count in standing.classes.items()]
        if 0 < sum(standing.classes.values()) < failed:
            classes.append(f"{failed - sum(standing.classes.values()):,} earlier")
        said = f"{failed:,} failed ({', '.join(classes) or 'many'})"
        command = f"batchgen ls --state failed --batch {name}"
        found.append(("failed", said, command))
        found += [_advice(word, count, name) for word, count in standing.classes.items()]
    if counts.get(JobState.EXPIRED):
        said = f"{counts[JobState.EXPIRED]:,} paid for, but the link died"
        found.append(("expired", said, "batchgen download --refresh"))
    return found


def _advice(word: str, count: int, name: str) -> _Said:
    retry = f"batchgen retry --where 'state=failed and class={word}' --batch {name}"
    kind = f"failed_{word}"
    match word:
        case ErrorClass.MODERATION:
            said = (
                f"{count:,} of them refused by moderation, repeats of which may get the account "
                "suspended: change what was refused, as it says, then add the rows again"
            )
            return kind, said, None
        case ErrorClass.INVALID_INPUT:
            said = f"{count:,} of them with inputs that cannot be used: correct the rows and add "
            return kind, f"{said}them again, or, if the service was wrong", retry
        case ErrorClass.WRITTEN_OFF:
            return kind, f"{count:,} of them written off; if they are wanted after all", retry
        case ErrorClass.REMOTE_LOST:
            return kind, f"{count:,} of them lost by the service; to pay for them again", retry
        case _:
            return kind, f"{count:,} of them failed at the service; to pay for them again", retry


# -- what concerns all batches ---------------------------------------------------------------------


def obstacles(
    known: Sequence[Account],
    workers: Sequence[Seen],
    missed: str | None,
    now_ms: int,
    *,
    moved_to: str | None = None,
) -> list[Obstacle]:
    """Return what stands in the way of all batches.

    Args:
        known: The accounts.
        workers: Those that are not known to be dead.
        missed: What a job database that was restored lacks, None if it lacks nothing.
        now_ms: The job database's clock.
        moved_to: Where the jobs are now, None if they are here.
    """
    found = []
    if moved_to is not None:
        said = f"the jobs have moved to {moved_to}: name that job database with --db"
        found.append(Obstacle("moved", said))
    for account in known:
        if account.paused:
            option = "" if account.name == "default" else f" --account {shlex.quote(account.name)}"
            said = f"account {account.name} is paused, nothing is submitted"
            found.append(Obstacle("paused", said, _typed(f"batchgen unpause{option}")))
    for worker in workers:
        found += _of_worker(worker, now_ms)
    if missed is not None:
        said = step_back.explain(missed)
        found.append(Obstacle("stepped_back", said, _typed("batchgen reconcile --after-restore")))
    return found


def _of_worker(worker: Seen, now_ms: int) -> list[Obstacle]:
    who = f"worker {worker.pid} on {worker.host}"
    silent_ms = now_ms - worker.seen_ms
    if worker.lives and silent_ms >= SILENT_MS:
        said = f"{who} lives, but has been silent for {lasting(silent_ms / 1000)}: is it suspended?"
        return [Obstacle("silent_worker", f"{said} What it holds", _typed("batchgen workers"))]
    if not worker.lives:
        held = sum(worker.held.values())
        jobs = f"; its {common.plural(held, 'job')} wait for the next run" if held else ""
        return [Obstacle("dead_worker", f"{who} died{jobs}", _typed("batchgen run"))]
    return []


def how_long(session: Session, now_ms: int) -> str:
    """Return how long a session took; "" if it died before it gave another sign of life."""
    lasted_ms = session.lasted_ms(now_ms)
    if not session.has_died:
        return lasting(lasted_ms / 1000)
    return f"{lasting(lasted_ms / 1000)} or more" if lasted_ms else ""


def last_run_in_words(session: Session, now_ms: int) -> list[str]:
    """Return how the last run ended."""
    took = how_long(session, now_ms)
    began = f"the last run began {local(session.started_ms)}"
    if session.has_died:
        after = f" after {took}" if took else ""
        return [f"{began} and died{after}: {_typed('batchgen logs --last')}"]
    lines = [f"{began} and ended after {took} with exit code {session.exit_code}"]
    return [*lines, *(f"  {reason}" for reason in session.reasons if session.exit_code)]
