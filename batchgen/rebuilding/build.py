"""Write what exports and journals tell into a new job database: all of it, or nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from batchgen import manifests
from batchgen.domain.errors import UsageError
from batchgen.domain.expansion import SEED
from batchgen.domain.identity import input_hash
from batchgen.domain.jobs import JobSpec, Model, encoded
from batchgen.domain.retry import doubt_slot_ms
from batchgen.downloads import names
from batchgen.manifests.seeds import parse_seeds
from batchgen.rebuilding.exports import Exports, PastRow, ToldBatch, root_of
from batchgen.rebuilding.history import Matched, attempts_of, match, state_of
from batchgen.rebuilding.identity import Identities, Identity
from batchgen.rebuilding.journals import Candidate, identity_of
from batchgen.rebuilding.told import Told
from batchgen.store import accounts, additions, after_restore, rebuilt, step_back
from batchgen.store.additions import Batch, NewJob
from batchgen.store.after_restore import Repair
from batchgen.store.database import Database
from batchgen.store.events import note
from batchgen.store.journal import Entry
from batchgen.store.rebuilt import PastJob
from batchgen.store.transactions import Transaction

_CHUNK = 500
_MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Terms:
    """On which terms a job database is made anew.

    Attributes:
        provider: Whose accounts paid.
        account: The account's name.
        origin: Of the service: no run goes to another one with these requests.
        folder: Of the job database: relative paths of an export start there.
        output_dir: Where the clips lie now; None is where the export says.
        default_output_dir: Of a batch without any clip.
        new_id: Makes an id of an attempt that sorts by a time in epoch milliseconds.
        now_ms: The time.
    """

    provider: str
    account: str
    origin: str
    folder: Path
    output_dir: str | None
    default_output_dir: str
    new_id: Callable[[int], str]
    now_ms: int


@dataclass
class Rebuilt:
    """What was written.

    Attributes:
        database_id: Of the job database: the lost one's, if a journal told it.
        repair: What journals knew and the export did not.
        left: What forbids to submit; nothing does if it is empty.
    """

    database_id: str
    repair: Repair = field(default_factory=Repair)
    left: list[str] = field(default_factory=list)


def rebuild(
    database: Database, exports: Exports, journals: Sequence[Candidate], terms: Terms
) -> Rebuilt:
    """Store what exports tell, and what journals know beyond it, in one transaction.

    Args:
        database: Opened and current, without any job.
        exports: Checked.
        journals: Those that count as the lost job database's.
        terms: The rest.

    Raises:
        UsageError: If the job database holds something.
    """
    with database.transaction() as tx:
        if not rebuilt.is_empty(tx):
            raise UsageError(
                f"{database.shown} holds jobs already: name a new job database with --db"
            )
        found = identity_of(journals)
        if found is not None:
            step_back.adopt(tx, found)
        account = accounts.ensure(tx, terms.provider, terms.account)
        accounts.bind_origin(tx, account, terms.origin)
        _Storing(tx, exports, journals, terms, account_id=account.id).run()
        done = Rebuilt(step_back.identity(tx).id)
        _account_for(tx, journals, account_id=account.id, terms=terms, done=done)
    return done


# -- what exports tell ---------------------------------------------------------------------------


class _Storing:
    def __init__(
        self,
        tx: Transaction,
        exports: Exports,
        journals: Sequence[Candidate],
        terms: Terms,
        *,
        account_id: int,
    ) -> None:
        self._tx = tx
        self._exports = exports
        self._journals = journals
        self._terms = terms
        self._batches = {
            batch.name: _Batch(tx, batch, terms, account_id=account_id) for batch in exports.batches
        }

    def run(self) -> None:
        for row in self._exports.rows():  # before any name is given that a clip has
            self._batches[row.batch.name].reserve(row.told)
        for row in self._exports.rows():
            self._batches[row.batch.name].take(row, self._known(row.told))
        for batch in self._batches.values():
            batch.finish()

    def _known(self, told: Told) -> Matched:
        entries = [one for journal in self._journals for one in journal.by_key.get(told.key, ())]
        if not entries:
            return Matched()
        merged = after_restore.merged([entries])
        return match(told, merged)


class _Batch:
    """One batch while it is stored."""

    def __init__(self, tx: Transaction, batch: ToldBatch, terms: Terms, *, account_id: int) -> None:
        self._tx = tx
        self._terms = terms
        self._told = batch
        self._models = batch.models()
        self._identities = Identities(batch.name)
        self._render = names.renderer(
            names.parse_template(names.DEFAULT_TEMPLATE), batch=batch.name
        )
        self._names: set[str] = set()
        self._buffer: list[PastJob] = []
        self._position = 0
        self._spent = 0
        made = Batch(
            id=0,
            name=batch.name,
            account_id=account_id,
            model=batch.model,
            source="",  # so that no file is taken for another one than that of old
            columns=tuple(batch.columns),
            schemas={name: manifests.snapshot(one) for name, one in self._models.items()},
            output_dir=terms.output_dir or batch.root or terms.default_output_dir,
            name_template=names.DEFAULT_TEMPLATE,
            budget_micros=None,
        )
        self._batch = replace(made, id=additions.save_batch(tx, made, now_ms=terms.now_ms))

    def reserve(self, told: Told) -> None:
        """Keep the name of a clip that is there."""
        inside = self._inside(told.files[0].file) if told.files else None
        if inside is not None:
            self._names.add(names.folded(inside))

    def take(self, row: PastRow, known: Matched) -> None:
        """Store a job, many at once."""
        told, terms = row.told, self._terms
        model = self._models[row.spec.model]
        identity, spec, inputs = self._as_it_was(row, model)
        est_micros = spec.est_micros if told.est_micros is None else told.est_micros
        spec = spec._replace(est_micros=est_micros)
        attempts, attempt_id = attempts_of(
            told,
            known,
            est_micros=est_micros or 0,
            slot_ms=doubt_slot_ms(0),
            new_id=terms.new_id,
            now_ms=terms.now_ms,
        )
        name = self._name(told, identity)
        folded = names.folded(name)
        state = state_of(told)
        accepted = sum(1 for one in attempts if one.accepted_ms is not None)
        new = NewJob(spec, told.key, name, folded, self._position, encoded(inputs), told.seed)
        self._buffer.append(
            PastJob(
                new,
                state,
                attempts,
                attempt_id,
                version=told.version,
                # What of it was retried by itself is not told: rather none more than too many.
                retries_used=max(0, accepted - (1 if told.request_id else 0)),
                remote_state=told.remote_state,
                urls=told.urls,
                files=self._files(told),
                error_class=told.error_class,
                error=told.error,
                finished_ms=told.finished_ms,
            )
        )
        self._position += 1
        if len(self._buffer) == _CHUNK:
            self._flush()

    def finish(self) -> None:
        """Store the rest."""
        self._flush()
        if self._spent:
            rebuilt.spend(self._tx, self._batch, self._spent)

    def _flush(self) -> None:
        if self._buffer:
            now_ms = self._terms.now_ms
            self._spent += rebuilt.add(self._tx, self._batch, self._buffer, now_ms=now_ms)
        self._buffer = []

    def _as_it_was(self, row: PastRow, model: Model) -> tuple[Identity, JobSpec, dict[str, Any]]:
        """Return what a job is known by, what it asks for, and what is sent for it."""
        told, spec, inputs = row.told, row.spec, row.spec.inputs
        plain, seeds = dict(inputs), _seeds(row, model)
        if model.seed is not None:
            plain.pop(model.seed, None)
        hashes = [spec.input_hash, input_hash(model.id, plain, model.schema)]
        identity = self._identities.find(
            told.key,
            row_id=spec.row_id if spec.has_id else None,
            hashes=list(dict.fromkeys(hashes)),
            seeds=seeds,
        )
        hashed = spec.input_hash
        if identity.kind == SEED and model.seed is not None:
            inputs = {**inputs, model.seed: int(identity.variant)}
            hashed = input_hash(model.id, inputs, model.schema)
        if told.seed is not None and model.seed is not None:
            inputs = {**inputs, model.seed: told.seed}
        spec = spec._replace(
            row_id=identity.row_id,
            variant_kind=identity.kind,
            variant=identity.variant,
            input_hash=hashed,
        )
        return identity, spec, inputs

    # Names and files.

    def _inside(self, file: str) -> str | None:
        """Return a clip's path from the output folder of the batch; None if it is elsewhere."""
        root = root_of(file, self._told.name)
        if root != self._told.root and self._terms.output_dir is None:
            return None
        path = PurePosixPath(file).relative_to(root)
        return None if ".." in path.parts else str(path)

    def _files(self, told: Told) -> list[Mapping[str, Any]]:
        urls = [*told.urls, *[""] * len(told.files)]
        return [
            {
                "path": self._inside(one.file) or str(self._terms.folder / one.file),
                "url": url,
                "sha256": one.sha256,
                "size_bytes": one.size_bytes,
            }
            for one, url in zip(told.files, urls, strict=False)
        ]

    def _name(self, told: Told, identity: Identity) -> str:
        inside = self._inside(told.files[0].file) if told.files else None
        if inside is not None:
            return inside
        wanted = names.versioned(self._render(identity.row_id, identity.variant), told.version)
        number, free = 1, wanted
        while names.folded(free) in self._names:
            number += 1
            free = names.numbered(wanted, number)
        self._names.add(names.folded(free))
        return free


def _seeds(row: PastRow, model: Model) -> list[int]:
    """Return what may be the seed that a job differs by from its row's others."""
    if model.seed is None:
        return []
    given = row.spec.inputs.get(model.seed)
    found = [one for one in (row.told.seed, given) if isinstance(one, int)]
    if row.row.seeds is not None:
        try:
            found += parse_seeds(row.row.seeds, most=_MOST_SEEDS)
        except ValueError:  # without effect in a row that has a key, so never checked
            return found
    return found


# -- what journals know beyond it ----------------------------------------------------------------


def _account_for(
    tx: Transaction,
    journals: Sequence[Candidate],
    *,
    account_id: int,
    terms: Terms,
    done: Rebuilt,
) -> None:
    """Put back what was bought after the exports were written; what cannot be is declared."""
    entries = [
        replace(one, account_id=account_id)
        for one in after_restore.merged([journal.contents.entries for journal in journals])
    ]
    done.repair = after_restore.repair(
        tx, entries, write_off=False, slot_ms=doubt_slot_ms(0), now_ms=terms.now_ms
    )
    for unplaced in done.repair.unplaced:
        step_back.declare(tx, unplaced.entry.witness, now_ms=terms.now_ms)
    if done.repair.unplaced:
        done.left.append(f"{len(done.repair.unplaced)} purchases of the journal have no job")
    for journal in journals:
        _reach(tx, journal, entries, now_ms=terms.now_ms, done=done)


def _reach(
    tx: Transaction,
    journal: Candidate,
    entries: Sequence[Entry],
    *,
    now_ms: int,
    done: Rebuilt,
) -> None:
    """Settle the purchase that a journal begins after, which has another id by now."""
    after = journal.contents.after
    if after is None or after_restore.is_reached(tx, after, entries):
        return
    if journal.reaches_export:
        note(tx, step_back.SETTLED, None, after.attempt_id, now_ms, became="told by an export")
        return
    step_back.declare(tx, after, now_ms=now_ms)
    done.left.append(
        f"{journal.path} begins later than the export ends: what was bought between is not known"
    )
