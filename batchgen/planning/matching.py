"""Compare a manifest with what is stored: which job each of its rows stands for."""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress, count, islice
from operator import attrgetter
from typing import Any

from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.jobs import JobSpec, specs_of
from batchgen.domain.prices import Prices
from batchgen.domain.states import LOST, JobState
from batchgen.manifests import named
from batchgen.planning.plan import CHUNK, SAMPLES, Ids, Item, Plan, Verdict, pages_of
from batchgen.planning.wishes import Draft, Prepared, Wish, prepare
from batchgen.store import accounts, additions, costs
from batchgen.store.additions import Known
from batchgen.store.transactions import Transaction

_KEEPS_CLIP = {Verdict.BUSY, Verdict.LEFT, Verdict.REPLACED}  # of the inputs that its row had
_NOT_YET = 255  # a verdict that is still to be found
_SAME = ("row_id", "variant_kind", "variant", "input_hash", "inputs_json", "cells_json")


def decide_anew(tx: Transaction, draft: Draft) -> Plan:
    """Compare a checked manifest with what is stored now.

    It is read and checked again only if its batch has changed since.

    Raises:
        ManifestError: As `prepare` and `decide`.
    """
    prepared = draft.prepared
    if additions.find_batch(tx, prepared.batch.name) != draft.seen:
        prepared = prepare(tx, prepared.wish)
    return decide(tx, prepared)


def decide_after(tx: Transaction, plan: Plan) -> Plan:
    """Decide again, after manifests before it in the same command have been stored.

    What was checked stays, whatever they have made of the batch.
    """
    prepared = plan.prepared
    stored = additions.find_batch(tx, prepared.batch.name)
    if stored is not None:
        batch = replace(
            prepared.batch,
            id=stored.id,
            account_id=stored.account_id,
            schemas={**stored.schemas, **prepared.batch.schemas},
        )
        prepared = replace(prepared, batch=batch)
    return decide(tx, prepared)


def decide(tx: Transaction | None, prepared: Prepared) -> Plan:
    """Compare a manifest with what is stored.

    Args:
        tx: Sees one snapshot; None if there is no job database yet.
        prepared: The manifest.

    Raises:
        ManifestError: If the manifest must be refused as a whole, lest something be paid for
            twice by accident.
    """
    plan = Plan(prepared, prices=_prices(tx, prepared.wish))
    if tx is None or (prepared.batch.id == 0 and not _has_jobs(tx, prepared)):
        _all_new(plan)
        return plan
    _Matching(tx, plan).run()
    return plan


def _all_new(plan: Plan) -> None:
    size = 0
    for page in plan.prepared.pages():
        plan.asked.update(_kinds(page))
        if size < SAMPLES:
            samples = enumerate(islice(specs_of(page), SAMPLES - size), size)
            found = [Item(position, Verdict.NEW, spec, None) for position, spec in samples]
            plan.samples.setdefault(Verdict.NEW, []).extend(found)
        size += len(page.row_id)
    plan.bought = Counter(plan.asked)
    plan.verdicts = bytearray(size)  # Verdict.NEW is 0
    plan.moved = bytearray(size)
    plan.known_ids = array("q", bytes(8 * size))


_kind = attrgetter("model", "settings", "est_micros")  # of a spec: what decides its price


def _kinds(page: Any) -> Iterator[tuple[str, str, int | None]]:
    """Return the `_kind` of each job of `spec_columns`."""
    return zip(*_kind(page), strict=True)


def _prices(tx: Transaction | None, wish: Wish) -> Prices:
    account = None if tx is None else accounts.find(tx, wish.provider, wish.account)
    return Prices() if tx is None or account is None else costs.prices(tx, account.id)


def _has_jobs(tx: Transaction, prepared: Prepared) -> bool:
    account = accounts.find(tx, prepared.wish.provider, prepared.wish.account)
    return account is not None and not prepared.wish.new_batch


class _Matching:
    """One comparison: first by key and by id, then by inputs what is left over."""

    def __init__(self, tx: Transaction, plan: Plan) -> None:
        self.tx = tx
        self.plan = plan
        self.prepared = plan.prepared
        size = plan.prepared.count
        plan.verdicts = bytearray([_NOT_YET]) * size
        plan.known_ids = array("q", bytes(8 * size))
        plan.moved = bytearray(size)
        self.keyed = Ids()  # jobs that rows of an export have by their keys
        self.row_ids: set[str] = set()  # of the whole manifest, where a new one is looked for
        self.paid_before: set[tuple[int, str]] | None = None  # jobs, and what they once were
        self.edited_since = Ids()  # jobs whose rows ask for other inputs than were paid for
        self.renamed_from: set[int] = set()  # other batches that paid for rows of this manifest
        self.unmatched = 0
        self.with_id = self.edited = 0

    def run(self) -> None:
        if self.prepared.is_export:
            self._find_keyed()
        start = 0
        for page in pages_of(self.prepared):
            places = range(start, start + len(page.row_id))
            if not self._is_as_stored(places, page):
                self._match(start, list(specs_of(page)))
            start = places.stop
        self._refuse_namesake()
        edited = self.plan.count(Verdict.CHANGED) + self.plan.count(Verdict.REOPENED)
        if self.unmatched or edited:
            jobs = self._unclaimed()
            self._match_by_inputs(jobs)
            if edited and jobs is not None:
                self._hold_paid_edits(jobs)
            if self.renamed_from and jobs is not None:
                self._hold_what_waits(jobs)
        self._find_gone()
        self._refuse_if_all_held()

    def _chunks(self) -> Iterator[tuple[int, list[JobSpec]]]:
        specs, start = self.prepared.specs(), 0
        while chunk := list(islice(specs, CHUNK)):
            yield start, chunk
            start += len(chunk)

    # Nothing new.

    def _is_as_stored(self, places: range, page: Any) -> bool:
        """Take jobs that are stored just as they are asked for; return whether all of them are.

        A million rows that are added again pass here, so they are compared column by column.
        """
        plan = self.plan
        if self.prepared.is_export or not self.prepared.batch.id:
            return False
        if len(plan.samples.get(Verdict.UNCHANGED, ())) < SAMPLES:
            return False
        stored = additions.at_places(self.tx, self.prepared.batch.id, places)
        is_same = stored.position == tuple(places) and all(
            list(getattr(stored, name)) == list(getattr(page, name)) for name in _SAME
        )
        if not is_same:
            return False
        for job_id in stored.id:
            plan.claimed.add(job_id)
        plan.verdicts[places.start : places.stop] = bytes([Verdict.UNCHANGED]) * len(places)
        plan.known_ids[places.start : places.stop] = array("q", stored.id)
        self.with_id += sum(page.has_id)
        plan.asked.update(_kinds(page))
        waits = [state == JobState.PENDING for state in stored.state]
        plan.bought.update(compress(_kinds(page), waits))
        for state, jobs in Counter(stored.state).items():
            plan.states[JobState(state)] += jobs
        return True

    # By key, and by id.

    def _find_keyed(self) -> None:
        for _, specs in self._chunks():
            keys = [spec.result_key for spec in specs if spec.result_key]
            for job in additions.by_keys(self.tx, keys):
                self.keyed.add(job.id)

    def _match(self, start: int, specs: Sequence[JobSpec]) -> None:
        by_key: dict[str, Known] = {}
        if self.prepared.is_export:
            keys = [spec.result_key for spec in specs if spec.result_key]
            by_key = {job.key: job for job in additions.by_keys(self.tx, keys)}
        by_identity: dict[tuple[str, str, str], Known] = {}
        if self.prepared.batch.id:
            row_ids = [spec.row_id for spec in specs]
            for job in additions.by_row_ids(self.tx, self.prepared.batch.id, row_ids):
                by_identity[job.row_id, job.variant_kind, job.variant] = job
        for position, row in enumerate(specs, start):
            spec = row
            known = by_key.get(spec.result_key) if spec.result_key else None
            if known is not None:
                spec = self.prepared.as_stored(spec, known)
            else:
                known = by_identity.get((spec.row_id, spec.variant_kind, spec.variant))
                if known is not None and (known.id in self.keyed or known.id in self.plan.claimed):
                    spec, known = self._beside(position, spec, known)
            if known is None:
                self.unmatched += 1
                continue
            self._settle(position, self._verdict(spec, known), spec, known)

    def _beside(self, position: int, spec: JobSpec, holder: Known) -> tuple[JobSpec, Known | None]:
        """Return a row under another id, and its job if there is one: a keyed row has that id's.

        Raises:
            ManifestError: If the user gave the id.
        """
        if spec.has_id:
            message = (
                f"{spec.row_id} is the id of the job {holder.key}, which another row of this file "
                "has by its result_key: choose another id"
            )
            raise ManifestError([Fault(spec.file, spec.line, "id", message)])
        if not self.row_ids:
            self.row_ids = {other.row_id for other in self.prepared.specs()}
        for number in count(2):
            row_id = f"{spec.row_id}-{number}"
            known = next(
                (
                    job
                    for job in additions.by_row_ids(self.tx, self.prepared.batch.id, [row_id])
                    if (job.variant_kind, job.variant) == (spec.variant_kind, spec.variant)
                ),
                None,
            )
            free = known is None and row_id not in self.row_ids
            taken = known is not None and (known.id in self.keyed or known.id in self.plan.claimed)
            if free or (known and not taken and known.input_hash == spec.input_hash):
                self.plan.row_ids[position] = row_id
                self.row_ids.add(row_id)
                return spec._replace(row_id=row_id), known
        raise AssertionError("there is always a next number")

    def _verdict(self, spec: JobSpec, known: Known) -> Verdict:
        is_same = spec.input_hash == known.input_hash
        if spec.has_id and not spec.result_key:
            self.with_id += 1
            self.edited += not is_same
        if is_same:
            waits = known.state is JobState.PENDING
            if not (waits or known.is_unfit) or not self._is_signed_anew(spec, known):
                return Verdict.UNCHANGED
            # The old link may be why a probe found the job unfit.
            return Verdict.CHANGED if waits else Verdict.REOPENED
        if known.state is JobState.PENDING or known.state in LOST:
            if self._is_paid_before(spec, known):
                return Verdict.HELD
            return Verdict.REOPENED if known.state in LOST else Verdict.CHANGED
        if known.state is not JobState.SUCCEEDED:
            return Verdict.BUSY
        return Verdict.REPLACED if self.prepared.wish.replace else Verdict.LEFT

    def _is_paid_before(self, spec: JobSpec, known: Known) -> bool:
        """Return whether an earlier version of the job had a clip of these very inputs."""
        if known.version == 1:
            return False
        if self.paid_before is None:
            wish = self.prepared.wish
            account = accounts.find(self.tx, wish.provider, wish.account)
            found = () if account is None else additions.paid_earlier(self.tx, account.id)
            self.paid_before = {(job.id, paid_hash) for paid_hash, job in found}
        return (known.id, spec.input_hash) in self.paid_before

    def _is_signed_anew(self, spec: JobSpec, known: Known) -> bool:
        if spec.inputs_json == known.inputs_json:
            return False
        seed = self.prepared.models[spec.model].seed
        return _without(seed, spec.inputs) != _without(seed, known.inputs)

    def _settle(self, position: int, verdict: Verdict, spec: JobSpec, known: Known) -> None:
        self._note(Item(position, verdict, spec, known))
        self.plan.known_ids[position] = known.id
        self.plan.moved[position] = (
            known.position != position or known.cells_json != spec.cells_json
        )
        # A job of another batch, or of other inputs by now, is not this manifest's, though it
        # holds the row back.
        if verdict is not Verdict.HELD:
            self.plan.claimed.add(known.id)
        if verdict in _KEEPS_CLIP:
            self.edited_since.add(known.id)

    def _note(self, item: Item) -> None:
        plan, spec = self.plan, item.spec
        plan.verdicts[item.position] = item.verdict
        kind = _kind(spec)
        plan.asked[kind] += 1
        if item.is_bought:
            plan.bought[kind] += 1
        if item.verdict is Verdict.UNCHANGED and item.known is not None:
            plan.states[item.known.state] += 1
        samples = plan.samples.setdefault(item.verdict, [])
        if len(samples) < SAMPLES:
            samples.append(item)

    def _refuse_namesake(self) -> None:
        """Refuse a batch most of whose ids come back with other inputs from another file."""
        prepared = self.prepared
        other_file = prepared.stored_source not in ("", prepared.batch.source)
        is_named = prepared.wish.batch is not None
        if other_file and not is_named and 2 * self.edited > self.with_id:
            raise ManifestError(
                f"{named(prepared.wish.path)}: {self.edited} of {self.with_id} ids of batch "
                f"{prepared.batch.name!r} come back with other inputs, and the batch came from "
                f"another file ({prepared.stored_source}). Nothing was stored or spent. If this "
                "is another batch, name it with --batch NAME; if it is an edit of the same one, "
                f"say so with --batch {prepared.batch.name}"
            )

    # By inputs.

    def _unclaimed(self) -> "_Unclaimed | None":
        """Return the jobs that no row claims; None if they are not asked for."""
        wish = self.prepared.wish
        account = accounts.find(self.tx, wish.provider, wish.account)
        if account is None or wish.new_batch:
            return None
        return _Unclaimed(
            self.tx,
            account.id,
            self.prepared.batch.id,
            claimed=self.plan.claimed,
            edited_since=self.edited_since,
        )

    def _match_by_inputs(self, jobs: "_Unclaimed | None") -> None:
        """Match rows that look new to jobs of the same inputs that no other row claims.

        Paid ones come first. A pending job of the same batch would be paid for by a later run
        beside the new one.
        """
        for start, specs in self._chunks():
            rows = [
                (position, spec)
                for position, spec in enumerate(specs, start)
                if self.plan.verdicts[position] == _NOT_YET
            ]
            if rows and jobs is not None:
                jobs.look_up(Counter(spec.input_hash for _, spec in rows))
            for position, row in rows:
                row_id = self.plan.row_ids.get(position)
                spec = row if row_id is None else row._replace(row_id=row_id)
                known = None if jobs is None else jobs.take(spec.input_hash)
                if known is None:
                    self._note(Item(position, Verdict.NEW, spec, None))
                    continue
                # The batch's own job: it only got an id. Else the file has been renamed, or
                # the clip was bought before its row was edited and replaced.
                is_own = known.batch_id == self.prepared.batch.id
                is_own = is_own and known.id not in self.edited_since
                is_same = known.input_hash == spec.input_hash
                verdict = Verdict.RENAMED if is_own and is_same else Verdict.HELD
                if known.batch_id != self.prepared.batch.id:
                    self.renamed_from.add(known.batch_id)
                self._settle(position, verdict, spec, known)

    def _hold_paid_edits(self, jobs: "_Unclaimed") -> None:
        """Hold back edited rows whose new inputs are those of a clip that no row claims.

        So it is where ids are row numbers, and a row was put in or taken out above: each row
        has its neighbour's inputs then, and a clip on the one side would be bought on the other.
        """
        for chosen in self.plan.chosen(Verdict.CHANGED, Verdict.REOPENED):
            edits = [
                item
                for item in self.plan.resolved(self.tx, chosen)
                if item.known is not None and item.known.input_hash != item.spec.input_hash
            ]
            jobs.look_up(Counter(item.spec.input_hash for item in edits))
            for item in edits:
                paid = jobs.take_paid(item.spec.input_hash)
                if paid is not None:
                    self.plan.hold(item, paid)

    def _hold_what_waits(self, jobs: "_Unclaimed") -> None:
        """Hold back new rows that wait in a batch which paid for others of this manifest.

        The file was renamed when some of it was paid for: a later run would pay for the rest of
        that batch, too.
        """
        for batch_id in sorted(self.renamed_from):
            jobs.wait_in(batch_id)
            for chosen in self.plan.chosen(Verdict.NEW):
                jobs.look_up(Counter(spec.input_hash for _, spec in chosen))
                for item in self.plan.resolved(self.tx, chosen):
                    known = jobs.take(item.spec.input_hash)
                    if known is not None:
                        self.plan.hold(item, known)

    def _find_gone(self) -> None:
        batch_id = self.prepared.batch.id
        if not batch_id or additions.count(self.tx, batch_id) == len(self.plan.claimed):
            return  # rows claim jobs of their batch only
        for job_id, _ in additions.pending(self.tx, batch_id):
            if job_id not in self.plan.claimed:
                self.plan.gone.append(job_id)
        found = additions.by_ids(self.tx, self.plan.gone[:SAMPLES].tolist())
        self.plan.gone_samples = [found[job_id] for job_id in self.plan.gone[:SAMPLES]]

    def _refuse_if_all_held(self) -> None:
        held = self.plan.count(Verdict.HELD)
        if not held or held < self.prepared.count:
            return
        samples = self.plan.samples[Verdict.HELD]
        batches = sorted(
            {
                item.known.batch
                for item in samples
                if item.known is not None and item.known.batch_id != self.prepared.batch.id
            }
        )
        if not batches:  # rows that were put back as they were: no file was renamed
            return
        raise ManifestError(
            f"{named(self.prepared.wish.path)}: every row has the inputs of a job that has been "
            f"paid for in batch {', '.join(batches)}, or waits there. Nothing was stored or spent. "
            f"If the file was renamed, run it with --batch {batches[0]}; if you mean to pay for "
            "these clips again, pass --new-batch"
        )


class _Unclaimed:
    """Jobs by their inputs that no row has claimed for these yet, each given away once."""

    def __init__(
        self,
        tx: Transaction,
        account_id: int,
        batch_id: int,
        *,
        claimed: Ids,
        edited_since: Ids,
    ) -> None:
        self._tx = tx
        self._account_id = account_id
        self._batch_id = batch_id
        self._claimed = claimed
        self._edited_since = edited_since
        self._given = Ids()
        self._found: dict[str, list[Known]] = {}
        self._earlier: dict[str, list[Known]] = {}
        for paid_hash, job in additions.paid_earlier(tx, account_id):
            self._earlier.setdefault(paid_hash, []).append(job)
        self.wait_in(batch_id)

    def wait_in(self, batch_id: int) -> None:
        """Give the pending jobs of this batch, too, and of no other."""
        waiting = additions.pending(self._tx, batch_id) if batch_id else ()
        self._waiting = _Waiting(one for one in waiting if self._is_free(one[0]))
        self._found.clear()

    def look_up(self, wanted: Mapping[str, int]) -> None:
        """Read the jobs with these inputs; of each that wait, no more than there are rows."""
        # What many rows share is kept: else each chunk of them would read all of it again.
        self._found = {one: jobs for one, jobs in self._found.items() if one in wanted}
        missing = wanted.keys() - self._found.keys()
        ids: list[int] = []
        for one in missing:
            self._found[one] = []
            ids += self._waiting.first(one, wanted[one], given=self._given)
        waiting = additions.by_ids(self._tx, ids).values()
        for job in (*additions.paid_by_hashes(self._tx, self._account_id, missing), *waiting):
            if self._is_free(job.id) and job.input_hash in missing:
                self._found[job.input_hash].append(job)
        for one in missing:
            self._found[one].sort(key=self._rank, reverse=True)

    def _is_free(self, job_id: int) -> bool:
        is_claimed = job_id in self._claimed and job_id not in self._edited_since
        return not is_claimed and job_id not in self._given

    def _rank(self, job: Known) -> tuple[bool, bool, int, int]:
        waits = job.state is JobState.PENDING
        return waits, job.batch_id != self._batch_id, job.position if waits else 0, job.id

    def take(self, input_hash: str) -> Known | None:
        """Return the job that a row with these inputs stands for, None if there is none."""
        jobs = self._found.get(input_hash) or self._earlier.get(input_hash)
        if not jobs:
            return None
        # Those found are sorted backwards; earlier ones are in order.
        known = jobs.pop() if self._found.get(input_hash) else jobs.pop(0)
        self._given.add(known.id)
        return known

    def take_paid(self, input_hash: str) -> Known | None:
        """Return the job that was paid for with these inputs, None if there is none."""
        jobs = self._found.get(input_hash)
        if jobs and jobs[-1].state is JobState.PENDING:  # what is paid for comes last
            return None
        return self.take(input_hash)


class _Waiting:
    """Pending jobs by their inputs, in order; a number and an id each."""

    def __init__(self, jobs: Iterable[tuple[int, str]]) -> None:
        self._ids = array("q")
        numbers = []
        for job_id, input_hash in jobs:
            numbers.append(_number(input_hash) + len(self._ids))
            self._ids.append(job_id)
        numbers.sort()
        self._numbers = numbers
        self._begin: dict[int, int] = {}

    def first(self, input_hash: str, count: int, *, given: Ids) -> list[int]:
        """Return the first few jobs that may have these inputs and are not given away."""
        low = _number(input_hash)
        place = self._begin.get(low)
        if place is None:
            place = bisect_left(self._numbers, low)
        found: list[int] = []
        is_first = True
        while place < len(self._numbers) and self._numbers[place] - low < _PLACES:
            job_id = self._ids[self._numbers[place] - low]
            if job_id not in given:
                if is_first:
                    self._begin[low] = place
                    is_first = False
                found.append(job_id)
                if len(found) == count:
                    break
            place += 1
        return found


_PLACES = 1 << 40  # more than there are jobs


def _number(input_hash: str) -> int:
    return int(input_hash[:15], 16) * _PLACES


def _without(name: str | None, inputs: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in inputs.items() if key != name}
