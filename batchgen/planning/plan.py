"""A plan: what storing a manifest would do to each of its jobs."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import compress, islice
from typing import Any, NamedTuple

from batchgen.domain.errors import UsageError
from batchgen.domain.jobs import JobSpec, joined_columns
from batchgen.domain.prices import Estimate, Prices
from batchgen.domain.states import JobState
from batchgen.planning.wishes import Prepared
from batchgen.store import additions
from batchgen.store.additions import Batch, Known
from batchgen.store.reads import Kind
from batchgen.store.transactions import Transaction

CHUNK = 2_000
"""Jobs of a manifest that are looked at together."""

SAMPLES = 20
"""Jobs of each verdict that a plan keeps to show."""


class Verdict(IntEnum):
    """What becomes of one job of a manifest."""

    NEW = 0
    """It is stored."""
    CHANGED = 1
    """Pending; gets other inputs, or a link that was signed anew."""
    REOPENED = 2
    """Failed, cancelled or expired; its inputs have changed, so it waits again."""
    REPLACED = 3
    """Finished, and bought again as a new version (`--replace`)."""
    LEFT = 4
    """Finished; its inputs have changed, and it is left alone."""
    BUSY = 5
    """At work or in doubt; its inputs have changed, and it is never touched."""
    RENAMED = 6
    """Paid or pending, and its row has another id now."""
    HELD = 7
    """Not stored: another job, or an earlier version of its own, was paid for with its inputs, or
    waits in a batch that the manifest seems to be of."""
    UNCHANGED = 8
    """As it was."""


Choice = tuple[int, JobSpec]
"""A place in the manifest, and what is asked for there."""

_BOUGHT = frozenset({Verdict.NEW, Verdict.CHANGED, Verdict.REOPENED, Verdict.REPLACED})


class Item(NamedTuple):
    """One job of a manifest, with what is decided about it.

    Attributes:
        position: Its place in the manifest, from 0.
        verdict: What becomes of it.
        spec: What the manifest asks for.
        known: The stored job that it stands for, None if there is none.
    """

    position: int
    verdict: Verdict
    spec: JobSpec
    known: Known | None

    @property
    def is_bought(self) -> bool:
        """Whether a run would pay for it."""
        if self.verdict in _BOUGHT:
            return True
        waits = self.known is not None and self.known.state is JobState.PENDING
        return waits and self.verdict in (Verdict.UNCHANGED, Verdict.RENAMED)


class Ids:
    """A set of job ids, a bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def add(self, job_id: int) -> None:
        """Take an id in."""
        place, flag = job_id >> 3, 1 << (job_id & 7)
        if place >= len(self._bits):
            self._bits.extend(bytes(max(1024, place + 1 - len(self._bits), len(self._bits))))
        if not self._bits[place] & flag:
            self._bits[place] |= flag
            self._count += 1

    def remove(self, job_id: int) -> None:
        """Take an id out that is in it."""
        self._bits[job_id >> 3] &= ~(1 << (job_id & 7))
        self._count -= 1

    def __len__(self) -> int:
        return self._count

    def __contains__(self, job_id: int) -> bool:
        place = job_id >> 3
        return place < len(self._bits) and bool(self._bits[place] & (1 << (job_id & 7)))


@dataclass
class Plan:
    """What storing a manifest would do.

    Attributes:
        prepared: The manifest.
        verdicts: A `Verdict` for each of its jobs, in order.
        known_ids: The stored job that each stands for, 0 if there is none.
        moved: A flag for each: its carried cells or its place differ from what is stored.
        row_ids: The row ids of those that have another one than the manifest gives them.
        claimed: The stored jobs that rows stand for.
        gone: Ids of pending jobs of the batch that are not in the manifest any more.
        samples: The first few items of each verdict.
        gone_samples: The first few jobs of `gone`.
        asked: All of the jobs by model, settings and list price.
        bought: Those that a run would pay for.
        prices: What finished jobs of the account cost.
        states: Of the jobs that stay as they are, how many are in which state.
    """

    prepared: Prepared
    prices: Prices = field(default_factory=Prices)
    verdicts: bytearray = field(default_factory=bytearray)
    known_ids: "array[int]" = field(default_factory=lambda: array("q"))
    moved: bytearray = field(default_factory=bytearray)
    row_ids: dict[int, str] = field(default_factory=dict)
    claimed: Ids = field(default_factory=Ids)
    gone: "array[int]" = field(default_factory=lambda: array("q"))
    samples: dict[Verdict, list[Item]] = field(default_factory=dict)
    gone_samples: list[Known] = field(default_factory=list)
    asked: Counter[tuple[str, str, int | None]] = field(default_factory=Counter)
    bought: Counter[tuple[str, str, int | None]] = field(default_factory=Counter)
    states: Counter[JobState] = field(default_factory=Counter)

    @property
    def batch(self) -> Batch:
        """The batch the rows belong to."""
        return self.prepared.batch

    def count(self, verdict: Verdict) -> int:
        """Return how many jobs have a verdict."""
        return self.verdicts.count(verdict)

    @property
    def to_pay(self) -> int:
        """How many jobs a run would pay for."""
        return sum(self.bought.values())

    @property
    def kinds(self) -> list[Kind]:
        """What a run would pay for, those alike counted together."""
        return [Kind(*key, jobs=jobs) for key, jobs in self.bought.items()]

    @property
    def estimate(self) -> Estimate:
        """What `to_pay` would cost, as far as prices are known."""
        found = Estimate()
        for kind in self.kinds:
            found.add(self.prices, kind.model, kind.settings, listed=kind.listed, jobs=kind.jobs)
        return found

    @property
    def list_bases(self) -> list[str]:
        """Where the list prices of what would be paid for come from."""
        models = self.prepared.models
        return [models[name].price_basis for name in {model: None for model, _, _ in self.bought}]

    def leave(self, items: Iterable[Item]) -> None:
        """Leave finished jobs alone that would have been bought again."""
        samples = self.samples.setdefault(Verdict.LEFT, [])
        replaced = self.samples.get(Verdict.REPLACED, [])
        for item in items:
            left = item._replace(verdict=Verdict.LEFT)
            self.verdicts[item.position] = Verdict.LEFT
            self.bought -= Counter({(item.spec.model, item.spec.settings, item.spec.est_micros): 1})
            replaced[:] = [one for one in replaced if one.position != item.position]
            if len(samples) < SAMPLES:
                samples.append(left)

    def hold(self, item: Item, holder: Known) -> None:
        """Hold back a row whose job would have been bought: another has its inputs.

        Its own job, if it has one, stays as it is, and is none of the manifest's.
        """
        spec, held = item.spec, item._replace(verdict=Verdict.HELD, known=holder)
        if item.known is not None:
            self.claimed.remove(item.known.id)
        self.verdicts[item.position] = Verdict.HELD
        self.known_ids[item.position] = holder.id
        self.bought -= Counter({(spec.model, spec.settings, spec.est_micros): 1})
        shown = self.samples[item.verdict]
        shown[:] = [one for one in shown if one.position != item.position]
        samples = self.samples.setdefault(Verdict.HELD, [])
        if len(samples) < SAMPLES:
            samples.append(held)

    def chosen(self, *verdicts: Verdict, moved: bool = False) -> Iterator[list[Choice]]:
        """Yield the jobs with these verdicts in manifest order, some at a time.

        Args:
            verdicts: All if none is named.
            moved: Only those whose carried cells or place differ from what is stored.
        """
        wanted = bytes(verdicts or Verdict)
        if not any(map(self.verdicts.count, wanted)) or (moved and not any(self.moved)):
            return
        specs, start = self.prepared.specs(), 0
        while chunk := list(islice(specs, CHUNK)):
            found = list(enumerate(chunk, start))
            start += len(chunk)
            if moved or self.verdicts[start - len(chunk) : start].translate(None, wanted):
                found = [
                    (position, spec)
                    for position, spec in found
                    if self.verdicts[position] in wanted and (not moved or self.moved[position])
                ]
            if found:
                yield found

    def pages(self, verdict: Verdict) -> Iterator[tuple[Sequence[int], Any]]:
        """Yield the same for one verdict: many places at a time, and `spec_columns`."""
        start = 0
        for page in pages_of(self.prepared):
            end = start + len(page.row_id)
            positions: Sequence[int] = range(start, end)
            if self.verdicts[start:end].count(verdict) < len(positions):
                wanted = [it == verdict for it in self.verdicts[start:end]]
                positions = list(compress(positions, wanted))
                page = JobSpec._make([list(compress(column, wanted)) for column in page])
            start = end
            if not positions:
                continue
            if self.row_ids:
                row_ids = map(self.row_ids.get, positions, page.row_id)
                page = page._replace(row_id=list(row_ids))
            yield positions, page

    def resolved(self, tx: Transaction | None, chosen: Sequence[Choice]) -> list[Item]:
        """Return chosen jobs with the stored ones that they stand for, as they are now.

        Args:
            tx: Where those are read; None if there is no job database yet.
            chosen: One list of `chosen`.
        """
        ids = [self.known_ids[position] for position, _ in chosen if self.known_ids[position]]
        known = {} if tx is None or not ids else additions.by_ids(tx, ids)
        return [
            self._item(position, spec, known.get(self.known_ids[position]))
            for position, spec in chosen
        ]

    def items(self, tx: Transaction | None, *verdicts: Verdict) -> Iterator[Item]:
        """Yield the jobs with these verdicts, and the stored ones that they stand for."""
        for chosen in self.chosen(*verdicts):
            yield from self.resolved(tx, chosen)

    def _item(self, position: int, spec: JobSpec, known: Known | None) -> Item:
        if position in self.row_ids:
            spec = spec._replace(row_id=self.row_ids[position])
        if known is not None and spec.result_key:
            spec = self.prepared.as_stored(spec, known)
        return Item(position, Verdict(self.verdicts[position]), spec, known)


def pages_of(prepared: Prepared) -> Iterator[Any]:
    """Yield the jobs of a manifest, about `CHUNK` of them at a time, as `spec_columns`."""
    found: list[Any] = []
    for page in prepared.pages():
        found.append(page)
        if sum(len(it.row_id) for it in found) >= CHUNK:
            yield joined_columns(found)
            found = []
    if found:
        yield joined_columns(found)


def check_budget(plan: Plan) -> None:
    """Refuse a budget that could not be kept, since a price is not known.

    Raises:
        UsageError: If that is so.
    """
    if plan.batch.budget_micros is None:
        return
    unpriced = {kind[0] for kind in plan.asked if plan.prices.of_job(*kind) is None}
    if unpriced:
        raise UsageError(
            f"a budget needs a known price, and that of {', '.join(sorted(unpriced))} is not "
            "known: put its jobs in a manifest without a budget, or say its price in a model file "
            "of yours (`batchgen models add FILE`)"
        )
