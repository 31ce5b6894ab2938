"""Store a plan: in one transaction if it is small, else in many, hidden until the last."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from batchgen.buckets.location import is_location
from batchgen.domain.errors import UsageError
from batchgen.domain.expansion import seed_bounds
from batchgen.domain.identity import job_keys
from batchgen.domain.jobs import JobSpec, encoded, specs_of
from batchgen.domain.states import JobState
from batchgen.downloads import names
from batchgen.downloads.destinations import Destinations
from batchgen.failpoints import failpoint
from batchgen.planning.naming import Named, Naming
from batchgen.planning.plan import Choice, Item, Plan, Verdict
from batchgen.store import accounts, additions, imports, workers
from batchgen.store.additions import Batch, Change, Known, NewJob
from batchgen.store.database import Database
from batchgen.store.transactions import Transaction

Draw = Callable[[int, int], int]
Step = Callable[[Transaction], None]
NamesAndFolded = tuple[Sequence[str], Sequence[str]]
"""File names, and their folded forms."""

_SWITCH_S = 0.0005
"""How long the thread that prepares a step lets the one wait that comes back from the database."""

_TOGETHER = 10
"""Steps of one transaction, while nobody else is at work: fewer commits are faster."""

_KEYS_AFTER = 50
"""Steps after which the keys of new jobs are stored, in their order: many at a time are faster."""

SMALL = 5_000
"""Changes that are stored in one transaction, which holds others up for a tenth of a second."""


@dataclass(frozen=True)
class Stored:
    """What was stored.

    Attributes:
        batch_id: Of the batch.
        gone: Pending jobs of the batch that are not in the manifest.
        outside: All jobs of the batch that are not in the manifest.
        late: Jobs that were being paid for meanwhile, and so kept their old inputs.
    """

    batch_id: int
    gone: frozenset[int]
    outside: frozenset[int]
    late: int = 0


def store(
    database: Database,
    plan: Plan,
    *,
    now_ms: int,
    draw: Draw,
    sleep: Callable[[float], None] = time.sleep,
) -> Stored:
    """Store a plan; the caller has shown it to the user, and holds the lock of `imports.adding`.

    Args:
        database: The job database.
        plan: Decided under the same lock.
        now_ms: Epoch milliseconds.
        draw: Returns a random integer between two bounds, both included.
        sleep: Waits so many seconds, for others to write.

    Raises:
        UsageError: If the batch's clips would not be found any more.
    """
    storing = _Storing(database, plan, now_ms=now_ms, draw=draw)
    with database.reading() as tx:
        storing.look(tx)
    if storing.size <= SMALL:
        with database.transaction() as tx:
            for step in storing.steps(is_hidden=False):
                step(tx)
        return storing.stored
    steps = _ahead(storing.steps(is_hidden=True))
    with database.bulk():
        for first in steps:
            with database.reading() as tx:
                is_alone = not workers.living(tx, database.backend)
            with database.transaction() as tx:
                storing.check(tx)
                first(tx)
                for step in islice(steps, _TOGETHER - 1 if is_alone else 0):
                    step(tx)
            failpoint("in-import")
            if not is_alone:
                sleep(imports.PAUSE_S)
    with database.transaction() as tx:  # its sync makes all of them durable
        storing.finish(tx)
    return storing.stored


def _ahead(steps: Iterator[Step]) -> Iterator[Step]:
    """Yield steps, the next of which is being prepared while one is done."""
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(next, steps, None)
            while (step := following.result()) is not None:
                following = pool.submit(next, steps, None)
                yield step
    finally:
        sys.setswitchinterval(before_s)


class _Storing:
    """The steps of one plan; each is a transaction of its own, or all are one."""

    def __init__(self, database: Database, plan: Plan, *, now_ms: int, draw: Draw) -> None:
        self.database = database
        self.plan = plan
        self.now_ms = now_ms
        self.draw = draw
        self.batch = plan.batch
        self.stored = Stored(0, frozenset(), frozenset())
        self._known: Batch | None = None
        self._path_of: Callable[[str], str] | None = None  # of a clip, if its batch goes elsewhere
        self._import_id = ""
        self._newest_id = 0
        naming = Naming(plan.batch, plan.prepared.models)
        self._names = _Names(naming, plan.batch.output_dir, plan.count(Verdict.NEW))
        self._keys = job_keys(plan.batch.name)

    @property
    def size(self) -> int:
        """How many rows of the job database change."""
        plan = self.plan
        still = plan.count(Verdict.UNCHANGED) + plan.count(Verdict.HELD)
        still += plan.count(Verdict.LEFT) + plan.count(Verdict.BUSY)
        return len(plan.verdicts) - still + sum(plan.moved)

    def steps(self, *, is_hidden: bool) -> Iterator[Step]:
        """Yield what is to be done, in order.

        A new row may take the id of a renamed one. What is known already changes before anything
        new is seen, so that nobody pays for what the rows were. What is hidden is shown by
        `finish`.
        """

        def begin(tx: Transaction) -> None:
            self._begin(tx, is_hidden=is_hidden)

        yield begin
        for chosen in self.plan.chosen(Verdict.RENAMED):
            yield self._step(chosen, self._rename)
        changed = (Verdict.CHANGED, Verdict.REOPENED, Verdict.REPLACED)
        for chosen in self.plan.chosen(*changed):
            yield self._step(chosen, self._change)
        followed = (Verdict.UNCHANGED, Verdict.LEFT, Verdict.BUSY)
        for chosen in self.plan.chosen(*followed, moved=True):
            yield self._step(chosen, self._follow)
        new = self.plan.pages(Verdict.NEW) if self.plan.count(Verdict.NEW) else ()
        for number, (positions, of) in enumerate(new, 1):
            yield self._new(positions, of, is_hidden=is_hidden)
            if is_hidden and number % _KEYS_AFTER == 0:
                yield self._index_keys
        if is_hidden:
            yield self._index_keys

    def _step(
        self, chosen: Sequence[Choice], do: Callable[[Transaction, list[Item]], None]
    ) -> Step:
        return lambda tx: do(tx, self.plan.resolved(tx, chosen))

    def look(self, tx: Transaction) -> None:
        """Look at what is stored; nobody else adds to it meanwhile."""
        plan = self.plan
        outside: frozenset[int] = frozenset()
        if self.batch.id:
            if additions.count(tx, self.batch.id) > len(plan.claimed):
                ids = additions.ids_of_batch(tx, self.batch.id)
                outside = frozenset(job_id for job_id in ids if job_id not in plan.claimed)
            self._known = additions.batch_by_id(tx, self.batch.id)
            if self._known is not None and outside:
                # Jobs that are not in the file any more keep their columns in every export.
                self.batch = replace(self.batch, columns=_union(self.batch, self._known))
        if self._known is not None and self._known.output_dir != self.batch.output_dir:
            # Looked for here, where nobody is held up: disks and buckets take their time.
            self._path_of = cache(self._finder(self._known))
            for name in additions.clip_paths(tx, self._known.id):
                self._path_of(name)
        self.stored = Stored(self.batch.id, frozenset(plan.gone), outside)
        self._names.begin(tx)
        self._newest_id = additions.newest_id(tx)

    def check(self, tx: Transaction) -> None:
        """Check that the import, if one has begun, is still ours."""
        if self._import_id:
            imports.check(tx, self._import_id)

    def _begin(self, tx: Transaction, *, is_hidden: bool) -> None:
        wish = self.plan.prepared.wish
        account = accounts.ensure(tx, wish.provider, wish.account)
        self.batch = replace(self.batch, account_id=account.id)
        batch, is_new = self.batch, not self.batch.id
        if is_hidden and self._known is not None:
            # Until the end it is what it was, with room for the new columns.
            batch = replace(self._known, columns=_union(self.batch, self._known))
        batch_id = self._save(tx, batch)
        self.batch = replace(self.batch, id=batch_id)
        self.stored = replace(self.stored, batch_id=batch_id)
        if is_hidden:
            self._import_id = imports.begin(tx, batch_id, is_new=is_new, now_ms=self.now_ms)

    def finish(self, tx: Transaction) -> None:
        """Show what was hidden: the last step, in a transaction of its own."""
        imports.finish(tx, self._import_id)
        self._save(tx, self.batch)
        tx.moved(self.batch.id, None, "pending", self.plan.count(Verdict.NEW))

    def _save(self, tx: Transaction, batch: Batch) -> int:
        known, path_of = self._known, self._path_of
        if known is not None and path_of is not None and batch.output_dir != known.output_dir:
            self._refuse_live(tx, known)
            additions.repath(tx, known.id, path_of)
        return additions.save_batch(tx, batch, now_ms=self.now_ms)

    def _refuse_live(self, tx: Transaction, known: Batch) -> None:
        if additions.owners(tx, known.id).intersection(workers.living(tx, self.database.backend)):
            raise UsageError(
                f"a run is at work on batch {known.name}, and its clips go to {known.output_dir}: "
                "give another --output-dir once it has ended. Nothing was stored or spent"
            )

    def _finder(self, known: Batch) -> Callable[[str], str]:
        """Return what says where a clip is found when its batch goes elsewhere."""
        output_dir = self.batch.output_dir
        places = Destinations(self.database.folder)
        old, new = places.of(known.output_dir), places.of(output_dir)
        is_far = is_location(known.output_dir) or is_location(output_dir)

        def path_of(name: str) -> str:
            if new.has(name) or not old.has(name):  # moved along, or gone
                return name
            if is_far:
                raise UsageError(
                    f"clips of batch {known.name} are in {old.path('')} and not in "
                    f"{new.path('')}: bring them there first, or leave --output-dir out and let "
                    "--batch NAME make another batch. Nothing was stored or spent"
                )
            return str(Path(old.path(name)).absolute())

        return path_of

    # New jobs.

    def _index_keys(self, tx: Transaction) -> None:
        self._newest_id = additions.index_keys(tx, self._newest_id)

    def _new(self, positions: Sequence[int], of: Any, *, is_hidden: bool) -> Step:
        """Return the step that stores new jobs; a million pass here, so as `spec_columns`."""
        inputs, seeds = self._all_seeded(of)
        keys = list(map(self._keys, of.row_id, of.variant_kind, of.variant))
        new: Any = NewJob(of, keys, (), (), positions, inputs, seeds)  # type: ignore[arg-type]
        wanted = self._wanted(new)
        doubtful = self._names.doubtful(wanted)

        def add(tx: Transaction) -> None:
            unused = new._replace(key=self._unused(tx, of, keys))
            if self._names.naming.needs_key and unused.key is not keys:
                renamed = self._wanted(unused)
                free = self._names.reserve(tx, renamed, renamed[1])
            else:
                free = self._names.reserve(tx, wanted, doubtful)
            stored = unused._replace(name=free[0], name_folded=free[1])
            additions.add_columns(
                tx, self.batch.id, stored, now_ms=self.now_ms, is_hidden=is_hidden
            )

        return add

    def _wanted(self, new: Any) -> NamesAndFolded:
        of = new.spec
        if (quick := self._names.naming.quick) is not None:  # a million rows pass here
            wanted = list(map(quick, of.row_id, of.variant))
            if "".join(wanted).isascii():
                return wanted, list(map(str.lower, wanted))
        else:
            wanted = [
                self._names.naming.name(Named(*job))
                for job in zip(
                    of.row_id,
                    of.variant,
                    of.model,
                    new.position,
                    new.seed,
                    new.inputs_json,
                    of.cells_json,
                    new.key,
                    strict=True,
                )
            ]
        return wanted, [with_folded(name)[1] for name in wanted]

    def _unused(self, tx: Transaction, of: Any, keys: Sequence[str]) -> Sequence[str]:
        if not self.plan.batch.id:
            return keys  # only a batch of this name has such keys
        taken = additions.taken_keys(tx, keys)
        if not taken:
            return keys
        found = []
        for *job, key in zip(of.row_id, of.variant_kind, of.variant, keys, strict=True):
            salt, free = 0, key
            while free in taken:
                salt += 1
                free = self._keys(*job, salt=salt)
                taken |= additions.taken_keys(tx, [free])
            found.append(free)
        return found

    def _all_seeded(self, of: Any) -> tuple[Sequence[str], Sequence[int | None]]:
        """Return `_seeded` of many specs, column by column."""
        names = {self.plan.prepared.models[model].seed for model in set(of.model)}
        if len(names) > 1 or any(of.draw_seed):
            inputs, seeds = zip(*map(self._seeded, specs_of(of)), strict=True)
            return inputs, seeds
        [name] = names
        if name is None:
            return of.inputs_json, [None] * len(of.inputs_json)
        return of.inputs_json, [_seed_of(text, name) for text in of.inputs_json]

    def _seeded(self, spec: JobSpec, *, seed: int | None = None) -> tuple[str, int | None]:
        """Return the inputs as they will be sent, with the seed of a take drawn once.

        Args:
            spec: The row's job.
            seed: What its job has already, whatever the row says.
        """
        model = self.plan.prepared.models[spec.model]
        if model.seed is None:
            return spec.inputs_json, None
        if seed is None and not spec.draw_seed:
            return spec.inputs_json, _seed_of(spec.inputs_json, model.seed)
        bounds = seed_bounds(model)
        inputs = spec.inputs
        if bounds is None or (seed is None and model.seed in inputs):
            sent = inputs.get(model.seed)
            return spec.inputs_json, sent if isinstance(sent, int) else None
        if seed is None:
            seed = self.draw(*bounds)
        return encoded({**inputs, model.seed: seed}), seed

    # Known ones.

    def _rename(self, tx: Transaction, items: list[Item]) -> None:
        known = [(item.known, item.spec, item.position) for item in items if item.known]
        additions.reidentify(tx, known, now_ms=self.now_ms)
        waiting = [item for item in items if item.known and item.known.state is JobState.PENDING]
        additions.rename_clips(tx, self._new_names(tx, waiting))
        additions.change_pending(tx, self._changes(waiting), now_ms=self.now_ms)

    def _new_names(self, tx: Transaction, waiting: Iterable[Item]) -> list[tuple[int, str, str]]:
        """Return the names of clips that are not made yet, by what their rows are called now."""
        found = []
        for _, _, spec, known in waiting:
            if known is None:
                continue
            now = _named(spec, known.position, known.inputs_json, known.seed, key=known.key)
            was = now._replace(
                row_id=known.row_id, variant=known.variant, cells_json=known.cells_json
            )
            old, new = self._names.wanted(was), self._names.wanted(now)
            if old != new:
                found.append((known.id, *self._names.reserve_one(tx, new)))
        return found

    def _change(self, tx: Transaction, items: list[Item]) -> None:
        changed, reopened, replaced = (
            [item for item in items if item.verdict is verdict]
            for verdict in (Verdict.CHANGED, Verdict.REOPENED, Verdict.REPLACED)
        )
        done = additions.change_pending(tx, self._changes(changed), now_ms=self.now_ms)
        self.stored = replace(self.stored, late=self.stored.late + len(changed) - done)
        additions.reopen(tx, self._changes(reopened), now_ms=self.now_ms)
        versions = []
        for change in self._changes(replaced):
            name, folded = self._version_name(tx, change)
            versions.append(replace(change, name=name, name_folded=folded))
        additions.reopen(tx, versions, now_ms=self.now_ms)

    def _changes(self, items: Iterable[Item]) -> list[Change]:
        changes = []
        for position, _, spec, known in items:
            if known is None:
                continue
            # A retry may have given the job another seed than its row asks for: that is kept.
            is_same = spec.input_hash == known.input_hash
            seed_input = self.plan.prepared.models[spec.model].seed
            is_drawn = (
                known.variant_kind == "take" and spec.draw_seed and seed_input not in spec.inputs
            )
            inputs_json, seed = self._seeded(spec, seed=known.seed if is_same or is_drawn else None)
            changes.append(Change(known, spec, position, inputs_json, seed))
        return changes

    def _version_name(self, tx: Transaction, change: Change) -> tuple[str, str]:
        known = change.known
        named = _named(
            change.spec, change.position, change.inputs_json, change.seed, key=known.key
        )._replace(row_id=known.row_id, variant=known.variant)
        name = names.versioned(self._names.wanted(named)[0], known.version + 1)
        folded = names.folded(name)
        return self._names.reserve_one(tx, (name, folded))

    def _follow(self, tx: Transaction, items: list[Item]) -> None:
        additions.follow(
            tx,
            [
                (item.known.id, _followed(item, item.known), item.position)
                for item in items
                if item.known is not None
            ],
        )


def _named(spec: JobSpec, position: int, inputs_json: str, seed: int | None, *, key: str) -> Named:
    return Named(
        spec.row_id, spec.variant, spec.model, position, seed, inputs_json, spec.cells_json, key
    )


def _union(one: Batch, other: Batch) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*one.columns, *other.columns]))


def _followed(item: Item, known: Known) -> str:
    """Return the newest cells, beside the inputs that the clip was really made from."""
    if item.verdict is Verdict.UNCHANGED:
        return item.spec.cells_json
    made = known.cells
    return encoded(
        {
            name: made.get(name, value) if name in item.spec.input_columns else value
            for name, value in item.spec.cells.items()
        }
    )


def _seed_of(inputs_json: str, name: str) -> int | None:
    """Return the seed that stands in encoded inputs, without decoding most of them."""
    mark = f'"{name}":'  # within a text the quotes would be escaped
    at = inputs_json.find(mark)
    if at < 0:
        return None
    # Another mapping may hold the name too.
    if inputs_json.count("{") == 1:
        start = at + len(mark)
        end = inputs_json.find(",", start)
        number = inputs_json[start : end if end > 0 else -1]  # the last is the brace
        if number.isdecimal():
            return int(number)
    sent = json.loads(inputs_json).get(name)
    return sent if isinstance(sent, int) else None


class _Names:
    """Finds file names that no other job of the same output folder has, without regard to case."""

    def __init__(self, naming: Naming, output_dir: str, count: int) -> None:
        self.naming = naming
        self._output_dir = output_dir
        # A filter: where none of its bits is set, no name of this import is in the way.
        size = max(16, (64 * count).bit_length())
        self._bits = bytearray(1 << max(0, size - 3))
        self._mask = (1 << size) - 1
        self._others = True  # has the folder other jobs than those of this import
        self._next: dict[str, int] = {}  # the number to try first for a name that is taken

    def begin(self, tx: Transaction) -> None:
        """Look whether the folder is used by anything that is stored already."""
        self._others = additions.has_names(tx, self._output_dir)

    def wanted(self, job: Named) -> tuple[str, str]:
        """Return the name that a job would have, and its folded form."""
        return with_folded(self.naming.name(job))

    def doubtful(self, wanted: NamesAndFolded) -> list[str]:
        """Return which of these names, folded, may be taken; the others surely are not."""
        bits, mask = self._bits, self._mask
        found = []
        for folded in wanted[1]:
            bit = hash(folded) & mask
            place, flag = bit >> 3, 1 << (bit & 7)
            if bits[place] & flag:
                found.append(folded)
            else:
                bits[place] |= flag
        return found

    def reserve_one(self, tx: Transaction, wanted: tuple[str, str]) -> tuple[str, str]:
        """Return a name and its folded form, or another if it is taken."""
        [name], [folded] = self.reserve(tx, ([wanted[0]], [wanted[1]]), [wanted[1]])
        return name, folded

    def reserve(
        self, tx: Transaction, wanted: NamesAndFolded, doubtful: Sequence[str]
    ) -> NamesAndFolded:
        """Return these names, and others instead of those that are taken.

        Args:
            tx: Sees what is stored.
            wanted: Names, and their folded forms.
            doubtful: Of them, in order, those that may be taken.
        """
        # One that was numbered may have the name of one whose step was prepared by then.
        must_look = self._others or bool(self._next)
        taken = self._taken(tx, wanted[1] if must_look else doubtful)
        if not taken and (not doubtful or len(set(wanted[1])) == len(wanted[1])):
            return wanted
        found: tuple[list[str], list[str]] = ([], [])
        mine: set[str] = set()
        for name, folded in zip(*wanted, strict=True):
            free, key = name, folded
            while key in taken or key in mine:
                number = self._next.get(folded, 2)
                self._next[folded] = number + 1
                free = names.numbered(name, number)
                key = names.folded(free)
                taken |= self._taken(tx, [key])
            mine.add(key)
            found[0].append(free)
            found[1].append(key)
        return found

    def _taken(self, tx: Transaction, folded: Sequence[str]) -> set[str]:
        return additions.taken_names(tx, self._output_dir, folded) if folded else set()


def with_folded(name: str) -> tuple[str, str]:
    """Return a name, and its form that names share which some system takes for one."""
    return name, name.lower() if name.isascii() else names.folded(name)
