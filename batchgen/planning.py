"""What a manifest means for a job database: new, changed, reopened, unchanged, held back.

`prepare` reads and checks the manifest, `decide` compares it with what is stored, `store`
writes the decision down. Nothing is stored before the user has seen the plan. `draft` and
`decide_anew` do the first two for commands that check first, and store later under the lock.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from batchgen import manifests
from batchgen.domain.errors import Fault, ManifestError, UsageError
from batchgen.domain.expansion import estimate_micros, seed_bounds
from batchgen.domain.identity import input_hash, job_key
from batchgen.domain.jobs import JobSpec, Model, encoded
from batchgen.domain.prices import Estimate, Prices, UnitPrice, priced
from batchgen.domain.states import JobState
from batchgen.downloads import names
from batchgen.store import accounts, additions, costs
from batchgen.store.additions import Batch, Change, Known, NewJob
from batchgen.store.database import Transaction

_REOPENED = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})


@dataclass(frozen=True)
class Wish:
    """What the user asks for with one manifest.

    Attributes:
        path: The manifest.
        provider: Which provider serves it.
        account: The account's name.
        model: `--model`.
        batch: `--batch`.
        output_dir: `--output-dir`; None keeps the batch's, else the default.
        default_output_dir: Of a batch that is new.
        name_template: `--name`; None keeps the batch's, else the default.
        budget_micros: `--budget`.
        replace: Buy clips again whose inputs have changed.
        new_batch: The rows are meant as new jobs, whatever they resemble.
        max_expand: `--max-expand`.
        allow_private_inputs: `--allow-private-inputs`.
        allow_unknown_inputs: `--allow-unknown-inputs`.
        catalog: What the service's catalog states now; None is what it stated last.
    """

    path: str
    provider: str = "runcomfy"
    account: str = "default"
    model: str | None = None
    batch: str | None = None
    output_dir: str | None = None
    default_output_dir: str = "clips"
    name_template: str | None = None
    budget_micros: int | None = None
    replace: bool = False
    new_batch: bool = False
    max_expand: int = 100_000
    allow_private_inputs: bool = False
    allow_unknown_inputs: bool = False
    catalog: Mapping[str, UnitPrice] | None = None


@dataclass(frozen=True)
class Prepared:
    """A manifest without faults, and the batch it belongs to."""

    wish: Wish
    batch: Batch  # id 0 if it is new
    specs: tuple[JobSpec, ...]
    models: Mapping[str, Model]
    is_export: bool
    stored_source: str = ""  # the file that the batch's newest manifest came from


@dataclass(frozen=True)
class Draft:
    """A checked manifest, and its batch as it was stored at that time."""

    prepared: Prepared
    seen: Batch | None


@dataclass
class Plan:
    """What storing a manifest would do; each list in manifest order.

    Attributes:
        new: Rows that become jobs.
        changed: Pending jobs that get other inputs.
        reopened: Failed, cancelled or expired jobs whose inputs have changed.
        replaced: Finished jobs that are bought again as a new version (`--replace`).
        left: Finished jobs whose inputs have changed: left alone.
        busy: Jobs at work or in doubt whose inputs have changed: never touched.
        renamed: Paid or pending jobs whose row has another id now.
        held: Rows with the inputs of a paid job of another batch: not stored.
        unchanged: Jobs as they were.
        gone: Pending jobs that are not in the manifest any more: not run.
        prices: What finished jobs of the account cost.
    """

    prepared: Prepared
    new: list[tuple[int, JobSpec]] = field(default_factory=list)
    changed: list[tuple[int, JobSpec, Known]] = field(default_factory=list)
    reopened: list[tuple[int, JobSpec, Known]] = field(default_factory=list)
    replaced: list[tuple[int, JobSpec, Known]] = field(default_factory=list)
    left: list[tuple[int, JobSpec, Known]] = field(default_factory=list)
    busy: list[tuple[int, JobSpec, Known]] = field(default_factory=list)
    renamed: list[tuple[int, JobSpec, Known]] = field(default_factory=list)
    held: list[tuple[int, JobSpec, Known]] = field(default_factory=list)
    unchanged: list[tuple[int, JobSpec, Known]] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)
    prices: Prices = field(default_factory=Prices)

    @property
    def to_pay(self) -> list[JobSpec]:
        """The rows whose jobs a run would pay for."""
        waiting = [
            item[1]
            for item in [*self.unchanged, *self.renamed]
            if item[2].state is JobState.PENDING
        ]
        bought = [*self.changed, *self.reopened, *self.replaced]
        return [spec for _, spec in self.new] + [item[1] for item in bought] + waiting

    @property
    def unfit(self) -> list[tuple[JobSpec, Known]]:
        """The rows, unchanged, whose jobs failed unpaid since an input could not be used."""
        return [(spec, known) for _, spec, known in self.unchanged if known.is_unfit]

    @property
    def estimate(self) -> Estimate:
        """What `to_pay` would cost, as far as prices are known."""
        found = Estimate()
        for spec in self.to_pay:
            found.add(self.prices, spec.model, spec.settings, listed=spec.est_micros)
        return found

    @property
    def list_bases(self) -> list[str]:
        """Where the list prices of `to_pay` come from."""
        models = self.prepared.models
        return [models[name].price_basis for name in {spec.model: None for spec in self.to_pay}]

    @property
    def claimed_ids(self) -> set[int]:
        """The stored jobs that rows of the manifest stand for."""
        stored = (self.changed, self.reopened, self.replaced, self.left)
        at_rest = (self.busy, self.renamed, self.unchanged)
        return {known.id for items in (*stored, *at_rest) for _, _, known in items}

    @property
    def batch(self) -> Batch:
        """The batch the rows belong to."""
        return self.prepared.batch


def prepare(tx: Transaction | None, wish: Wish) -> Prepared:
    """Read and check a manifest against the batch it belongs to.

    Args:
        tx: A transaction of the job database, None if there is none yet.
        wish: What the user asks for.

    Raises:
        ManifestError: With every fault of every row; nothing is stored.
        UsageError: If options contradict the job database.
    """
    if wish.name_template is not None:
        names.check_template(wish.name_template)
    _check_names(wish)
    source = manifests.read(wish.path)
    is_export = source.has_result_keys and not wish.new_batch
    stored = _batch_of_keys(tx, source) if is_export else None
    name = stored.name if stored else _batch_name(wish, source)
    if wish.new_batch:
        name = _unused_name(tx, name)
    stored = stored or (additions.find_batch(tx, name) if tx is not None else None)
    _check_account(tx, stored, wish)
    checked = manifests.check(
        source,
        models=priced(manifests.load_models(), _catalog(tx, wish)),
        model=wish.model,
        fallback_model=stored.model if stored else None,
        schemas=stored.schemas if stored else None,
        max_expand=wish.max_expand,
        allow_private_inputs=wish.allow_private_inputs,
        allow_unknown_inputs=wish.allow_unknown_inputs,
        use_result_keys=is_export,
    )
    schemas = {**(stored.schemas if stored else {})}
    for model_id, model in checked.models.items():
        schemas.setdefault(model_id, model.schema)
    budget_micros = wish.budget_micros or source.budget_micros
    specs = tuple(checked.specs())
    batch = Batch(
        id=stored.id if stored else 0,
        name=name,
        account_id=stored.account_id if stored else 0,
        model=wish.model or source.model or (stored.model if stored else manifests.DEFAULT_MODEL),
        source=os.path.realpath(wish.path),
        columns=_columns(stored, checked.columns, is_export=is_export),
        schemas=schemas,
        output_dir=wish.output_dir or (stored.output_dir if stored else wish.default_output_dir),
        name_template=wish.name_template
        or (stored.name_template if stored else names.DEFAULT_TEMPLATE),
        budget_micros=budget_micros or (stored.budget_micros if stored else None),
    )
    return Prepared(wish, batch, specs, checked.models, is_export, stored.source if stored else "")


def _catalog(tx: Transaction | None, wish: Wish) -> Mapping[str, UnitPrice]:
    if wish.catalog is not None or tx is None:
        return wish.catalog or {}
    account = accounts.find(tx, wish.provider, wish.account)
    return {} if account is None else costs.catalog(tx, account.id)


def check_budget(plan: Plan) -> None:
    """Refuse a budget that could not be kept, since a price is not known.

    Raises:
        UsageError: If that is so.
    """
    unpriced = {
        spec.model
        for spec in plan.prepared.specs
        if plan.prices.of_job(spec.model, spec.settings, spec.est_micros) is None
    }
    if plan.batch.budget_micros is not None and unpriced:
        raise UsageError(
            f"a budget needs a known price, and that of {', '.join(sorted(unpriced))} is not "
            "known: leave the budget out"
        )


def repriced(draft: Draft, catalog: Mapping[str, UnitPrice]) -> Draft:
    """Return a checked manifest at the prices that the service's catalog states now."""
    prepared = draft.prepared
    models = priced(prepared.models, catalog)
    specs = tuple(
        spec._replace(est_micros=estimate_micros(models[spec.model], spec.inputs))
        for spec in prepared.specs
    )
    wish = replace(prepared.wish, catalog=catalog)
    return replace(draft, prepared=replace(prepared, wish=wish, specs=specs, models=models))


def draft(tx: Transaction | None, wishes: Iterable[Wish]) -> list[Draft]:
    """Read and check every manifest, before the job database is locked or even made.

    Raises:
        ManifestError: With the faults of all of them.
        UsageError: If options contradict the job database.
    """
    drafts: list[Draft] = []
    faults: list[Fault] = []
    for wish in wishes:
        try:
            prepared = prepare(tx, wish)
        except ManifestError as error:
            if not error.faults:
                raise
            faults += error.faults
            continue
        seen = additions.find_batch(tx, prepared.batch.name) if tx is not None else None
        drafts.append(Draft(prepared, seen))
    if faults:
        raise ManifestError(faults)
    return drafts


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


def _check_names(wish: Wish) -> None:
    for option, name in (("--batch", wish.batch), ("--account", wish.account)):
        problem = None if name is None else manifests.name_problem(name, most=manifests.MAX_BATCH)
        if problem:
            raise UsageError(f"{option} {name!r}: the name {problem}")


def _batch_name(wish: Wish, source: manifests.Source) -> str:
    if wish.batch or source.batch:
        return wish.batch or source.batch or ""
    problem = manifests.name_problem(source.stem, most=manifests.MAX_BATCH)
    if problem:
        message = (
            f"the batch is called as its file, but that name {problem}; rename the file, or name "
            "the batch with --batch NAME"
        )
        raise ManifestError([Fault(source.path, 0, "", message)])
    return source.stem


def _columns(stored: Batch | None, columns: Sequence[str], *, is_export: bool) -> tuple[str, ...]:
    # An export of some rows must not take columns away from the others.
    if stored is None or not is_export:
        return tuple(columns)
    return tuple(dict.fromkeys([*columns, *stored.columns]))


def _unused_name(tx: Transaction | None, name: str) -> str:
    candidate, number = name, 2
    while tx is not None and additions.find_batch(tx, candidate) is not None:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _check_account(tx: Transaction | None, stored: Batch | None, wish: Wish) -> None:
    if tx is None or stored is None:
        return
    account = accounts.find(tx, wish.provider, wish.account)
    if account is None or account.id != stored.account_id:
        raise UsageError(
            f"batch {stored.name!r} belongs to another account than {wish.account!r}: name its "
            "account with --account, or another batch with --batch"
        )


def _batch_of_keys(tx: Transaction | None, source: manifests.Source) -> Batch | None:
    lines = {row.result_key: row.line for row in source.rows() if row.result_key}
    if not lines:
        return None
    known = additions.by_keys(tx, lines) if tx is not None else []
    missing = sorted(set(lines) - {job.key for job in known}, key=lambda key: lines[key])
    if missing:
        raise ManifestError(
            [
                Fault(
                    source.path,
                    lines[key],
                    "result_key",
                    f"{key} is not in this job database: name the right one with --db; if it "
                    "is lost, restore a copy; or pass --new-batch to pay for these rows as new "
                    "jobs",
                )
                for key in missing
            ]
        )
    batches = sorted({job.batch for job in known})
    if len(batches) > 1:
        raise ManifestError(
            f"{source.path}: the rows belong to {len(batches)} batches ({', '.join(batches)}): "
            "export and run one batch at a time with --batch"
        )
    return additions.find_batch(tx, batches[0]) if tx is not None else None


def decide(tx: Transaction | None, prepared: Prepared) -> Plan:
    """Compare a manifest with what is stored.

    Raises:
        ManifestError: If the manifest must be refused as a whole, lest something be paid for
            twice by accident.
    """
    plan = Plan(prepared, prices=_prices(tx, prepared.wish))
    if tx is None or (prepared.batch.id == 0 and not _has_jobs(tx, prepared)):
        plan.new = list(enumerate(prepared.specs))
        return plan
    matched, unmatched = _match(tx, prepared)
    _refuse_namesake(prepared, matched)
    for position, spec, known in matched:
        _classify(plan, position, spec, known)
    claimed = {known.id for _, _, known in matched}
    pending = additions.pending(tx, prepared.batch.id) if prepared.batch.id else []
    unclaimed = [job for job in pending if job.id not in claimed]
    _match_by_inputs(tx, plan, unmatched, claimed=claimed)
    for changes in (plan.new, plan.renamed, plan.held, plan.unchanged):
        changes.sort(key=lambda item: item[0])
    renamed = {known.id for _, _, known in plan.renamed}
    plan.gone = [job for job in unclaimed if job.id not in renamed]
    _refuse_if_all_held(plan)
    return plan


def _prices(tx: Transaction | None, wish: Wish) -> Prices:
    account = None if tx is None else accounts.find(tx, wish.provider, wish.account)
    return Prices() if tx is None or account is None else costs.prices(tx, account.id)


def _has_jobs(tx: Transaction, prepared: Prepared) -> bool:
    account = accounts.find(tx, prepared.wish.provider, prepared.wish.account)
    return account is not None and not prepared.wish.new_batch


def _match(
    tx: Transaction, prepared: Prepared
) -> tuple[list[tuple[int, JobSpec, Known]], list[tuple[int, JobSpec]]]:
    by_identity: dict[tuple[str, str, str], Known] = {}
    if prepared.batch.id:
        for job in additions.by_row_ids(
            tx, prepared.batch.id, (spec.row_id for spec in prepared.specs)
        ):
            by_identity[job.row_id, job.variant_kind, job.variant] = job
    keys = [spec.result_key for spec in prepared.specs if spec.result_key]
    by_key = {job.key: job for job in additions.by_keys(tx, keys)} if prepared.is_export else {}
    taken = {job.id for job in by_key.values()}
    matched: list[tuple[int, JobSpec, Known]] = []
    unmatched: list[tuple[int, JobSpec]] = []
    for position, spec in enumerate(prepared.specs):
        known = by_key.get(spec.result_key) if spec.result_key else None
        if known is not None:
            matched.append((position, _as_stored(spec, known, prepared), known))
            continue
        known = by_identity.get((spec.row_id, spec.variant_kind, spec.variant))
        if known is not None and known.id in taken:
            spec, known = _beside(tx, prepared, spec, known, taken)
        if known is not None:
            taken.add(known.id)
            matched.append((position, spec, known))
        else:
            unmatched.append((position, spec))
    return matched, unmatched


def _beside(
    tx: Transaction, prepared: Prepared, spec: JobSpec, holder: Known, taken: set[int]
) -> tuple[JobSpec, Known | None]:
    """Return a row under another id, and its job if there is one: a keyed row has that id's job.

    Raises:
        ManifestError: If the user gave the id.
    """
    if spec.has_id:
        message = (
            f"{spec.row_id} is the id of the job {holder.key}, which another row of this file has "
            "by its result_key: choose another id"
        )
        raise ManifestError([Fault(spec.file, spec.line, "id", message)])
    wanted = {other.row_id for other in prepared.specs}
    for number in count(2):
        row_id = f"{spec.row_id}-{number}"
        known = next(
            (
                job
                for job in additions.by_row_ids(tx, prepared.batch.id, [row_id])
                if (job.variant_kind, job.variant) == (spec.variant_kind, spec.variant)
            ),
            None,
        )
        free = known is None and row_id not in wanted
        if free or (known and known.id not in taken and known.input_hash == spec.input_hash):
            return spec._replace(row_id=row_id), known
    raise AssertionError("there is always a next number")


def _as_stored(spec: JobSpec, known: Known, prepared: Prepared) -> JobSpec:
    """Return an exported row with the variant that its job has: the row tells only its key."""
    model = prepared.models[spec.model]
    inputs = spec.inputs
    if known.variant_kind == "seed" and model.seed and model.seed not in inputs:
        inputs[model.seed] = int(known.variant)
    return spec._replace(
        row_id=known.row_id,
        has_id=known.has_id,
        variant=known.variant,
        variant_kind=known.variant_kind,
        inputs_json=encoded(inputs),
        input_hash=input_hash(spec.model, inputs, model.schema),
        draw_seed=known.variant_kind == "take" and model.seed is not None,
    )


def _refuse_namesake(prepared: Prepared, matched: Sequence[tuple[int, JobSpec, Known]]) -> None:
    """Refuse a batch most of whose ids come back with other inputs from another file."""
    by_id = [(spec, known) for _, spec, known in matched if spec.has_id and not spec.result_key]
    changed = [spec for spec, known in by_id if spec.input_hash != known.input_hash]
    other_file = prepared.stored_source not in ("", prepared.batch.source)
    named = prepared.wish.batch is not None
    if other_file and not named and 2 * len(changed) > len(by_id):
        raise ManifestError(
            f"{prepared.wish.path}: {len(changed)} of {len(by_id)} ids of batch "
            f"{prepared.batch.name!r} come back with other inputs, and the batch came from "
            f"another file ({prepared.stored_source}). Nothing was stored or spent. If this is "
            "another batch, name it with --batch NAME; if it is an edit of the same one, say so "
            f"with --batch {prepared.batch.name}"
        )


def _classify(plan: Plan, position: int, spec: JobSpec, known: Known) -> None:
    item = (position, spec, known)
    if spec.input_hash == known.input_hash:
        seed = plan.prepared.models[spec.model].seed
        signed_anew = _without(seed, spec.inputs) != _without(seed, known.inputs)
        if signed_anew and known.state is JobState.PENDING:
            plan.changed.append(item)
        elif signed_anew and known.is_unfit:  # the old link may be why
            plan.reopened.append(item)
        else:
            plan.unchanged.append(item)
    elif known.state is JobState.PENDING:
        plan.changed.append(item)
    elif known.state in _REOPENED:
        plan.reopened.append(item)
    elif known.state is not JobState.SUCCEEDED:
        plan.busy.append(item)
    elif plan.prepared.wish.replace:
        plan.replaced.append(item)
    else:
        plan.left.append(item)


def _without(name: str | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key != name}


def _match_by_inputs(
    tx: Transaction,
    plan: Plan,
    unmatched: Iterable[tuple[int, JobSpec]],
    *,
    claimed: set[int],
) -> None:
    """Match rows that look new to jobs of the same inputs that no other row claims.

    Paid ones come first. A pending job of the same batch would be paid for by a later run
    beside the new one.
    """
    rows = list(unmatched)
    wish = plan.prepared.wish
    account = accounts.find(tx, wish.provider, wish.account)
    paid: dict[str, list[Known]] = {}
    waiting: dict[str, list[Known]] = {}
    earlier: dict[str, list[Known]] = defaultdict(list)
    if account is not None and rows and not wish.new_batch:
        hashes = (spec.input_hash for _, spec in rows)
        known = additions.by_hashes(tx, account.id, plan.batch.id, hashes)
        free = [job for job in known if job.id not in claimed]
        paid = _by_hash(job for job in free if job.state is not JobState.PENDING)
        free.sort(key=lambda job: job.position)
        waiting = _by_hash(job for job in free if job.state is JobState.PENDING)
        for paid_hash, job in additions.paid_earlier(tx, account.id):
            earlier[paid_hash].append(job)
    for position, spec in rows:
        # The batch's own job first: it only got an id. Else the file has been renamed.
        candidates = sorted(
            paid.get(spec.input_hash, ()), key=lambda job: job.batch_id != plan.batch.id
        )
        if candidates:
            job = candidates[0]
            paid[spec.input_hash].remove(job)
            same_batch = job.batch_id == plan.batch.id
            (plan.renamed if same_batch else plan.held).append((position, spec, job))
        elif waiting.get(spec.input_hash):
            plan.renamed.append((position, spec, waiting[spec.input_hash].pop(0)))
        elif earlier[spec.input_hash]:
            # The clip was bought before its row was edited and replaced; its file is still there.
            plan.held.append((position, spec, earlier[spec.input_hash].pop(0)))
        else:
            plan.new.append((position, spec))


def _by_hash(known: Iterable[Known]) -> dict[str, list[Known]]:
    found: dict[str, list[Known]] = defaultdict(list)
    for job in known:
        found[job.input_hash].append(job)
    return found


def _refuse_if_all_held(plan: Plan) -> None:
    if not plan.held or len(plan.held) < len(plan.prepared.specs):
        return
    batches = sorted({known.batch for _, _, known in plan.held})
    raise ManifestError(
        f"{plan.prepared.wish.path}: every row has the inputs of a job that has been paid for in "
        f"batch {', '.join(batches)}. Nothing was stored or spent. If the file was renamed, run "
        f"it with --batch {batches[0]}; if you mean to pay for these clips again, pass --new-batch"
    )


@dataclass(frozen=True)
class Stored:
    """What was stored.

    Attributes:
        batch_id: Of the batch.
        gone: Pending jobs of the batch that are not in the manifest.
        outside: All jobs of the batch that are not in the manifest.
    """

    batch_id: int
    gone: frozenset[int]
    outside: frozenset[int]


def store(tx: Transaction, plan: Plan, *, now_ms: int, draw: Callable[[int, int], int]) -> Stored:
    """Store a plan; the caller has shown it to the user.

    Args:
        tx: A writing transaction.
        plan: Decided in the same transaction.
        now_ms: Epoch milliseconds.
        draw: Returns a random integer between two bounds, both included.
    """
    wish = plan.prepared.wish
    account = accounts.ensure(tx, wish.provider, wish.account)
    batch = replace(plan.batch, account_id=account.id)
    stored = additions.batch_by_id(tx, batch.id) if batch.id else None
    outside = additions.ids_of_batch(tx, batch.id) - plan.claimed_ids if batch.id else set()
    if stored is not None and outside:
        # Jobs that are not in the file any more keep their columns in every export.
        batch = replace(batch, columns=tuple(dict.fromkeys([*batch.columns, *stored.columns])))
    batch_id = additions.save_batch(tx, batch, now_ms=now_ms)
    additions.reidentify(
        tx, [(known, spec, position) for position, spec, known in plan.renamed], now_ms=now_ms
    )
    unpaid = [item for item in plan.renamed if item[2].state is JobState.PENDING]
    additions.rename_clips(tx, _new_names(tx, batch, unpaid))
    _add(tx, plan, batch, batch_id, now_ms=now_ms, draw=draw)
    additions.change_pending(
        tx, [_change(plan, item, draw) for item in [*plan.changed, *unpaid]], now_ms=now_ms
    )
    additions.reopen(tx, [_change(plan, item, draw) for item in plan.reopened], now_ms=now_ms)
    replaced = _new_versions(tx, plan, batch, draw)
    additions.reopen(tx, replaced, now_ms=now_ms)
    additions.follow(
        tx,
        [(known.id, spec.cells, position) for position, spec, known in plan.unchanged]
        + [
            (known.id, _carried(spec, known), position)
            for position, spec, known in [*plan.left, *plan.busy]
        ],
    )
    return Stored(batch_id, frozenset(job.id for job in plan.gone), frozenset(outside))


def _carried(spec: JobSpec, known: Known) -> dict[str, Any]:
    """Return the newest carried cells beside the inputs that the clip was really made from."""
    return {
        name: known.cells.get(name, value) if name in spec.input_columns else value
        for name, value in spec.cells.items()
    }


def _seeded(
    plan: Plan, spec: JobSpec, draw: Callable[[int, int], int], *, seed: int | None = None
) -> tuple[Mapping[str, Any], int | None]:
    """Return the inputs as they will be sent, with the seed of a take drawn once.

    Args:
        plan: Knows the models.
        spec: The row's job.
        draw: Returns a random integer between two bounds, both included.
        seed: What its job has already, whatever the row says.
    """
    model = plan.prepared.models[spec.model]
    bounds = seed_bounds(model)
    if model.seed is None or bounds is None:
        return spec.inputs, None
    if seed is None and (not spec.draw_seed or model.seed in spec.inputs):
        sent = spec.inputs.get(model.seed)
        return spec.inputs, sent if isinstance(sent, int) else None
    if seed is None:
        seed = draw(*bounds)
    return {**spec.inputs, model.seed: seed}, seed


def _change(
    plan: Plan, item: tuple[int, JobSpec, Known], draw: Callable[[int, int], int]
) -> Change:
    position, spec, known = item
    # A retry may have given the job another seed than its row asks for: that one is kept.
    is_same = spec.input_hash == known.input_hash
    name = plan.prepared.models[spec.model].seed
    is_drawn = known.variant_kind == "take" and spec.draw_seed and name not in spec.inputs
    inputs, seed = _seeded(plan, spec, draw, seed=known.seed if is_same or is_drawn else None)
    return Change(known, spec, position, inputs, seed)


def _add(
    tx: Transaction,
    plan: Plan,
    batch: Batch,
    batch_id: int,
    *,
    now_ms: int,
    draw: Callable[[int, int], int],
) -> None:
    reserve = _Reserver(tx, batch.output_dir)
    wanted = [
        names.render_name(
            batch.name_template, batch=batch.name, id=spec.row_id, variant=spec.variant
        )
        for _, spec in plan.new
    ]
    reserve.look_up(wanted)
    keys = _new_keys(tx, batch.name, [spec for _, spec in plan.new])
    new = []
    for (position, spec), key, name in zip(plan.new, keys, wanted, strict=True):
        inputs, seed = _seeded(plan, spec, draw)
        free = reserve.free(name)
        new.append(NewJob(spec, key, free, names.folded(free), position, inputs, seed))
    additions.add_jobs(tx, batch_id, new, now_ms=now_ms)


def _new_names(
    tx: Transaction, batch: Batch, unpaid: Sequence[tuple[int, JobSpec, Known]]
) -> list[tuple[int, str, str]]:
    """Return the names of clips that are not made yet, by what their rows are called now."""
    reserve = _Reserver(tx, batch.output_dir)
    found = []
    for _, spec, known in unpaid:
        old, new = (
            names.render_name(
                batch.name_template, batch=batch.name, id=one.row_id, variant=one.variant
            )
            for one in (known, spec)
        )
        if old != new:
            reserve.look_up([new])
            free = reserve.free(new)
            found.append((known.id, free, names.folded(free)))
    return found


def _new_versions(
    tx: Transaction, plan: Plan, batch: Batch, draw: Callable[[int, int], int]
) -> list[Change]:
    reserve = _Reserver(tx, batch.output_dir)
    changes = []
    for item in plan.replaced:
        known = item[2]
        base = names.render_name(
            batch.name_template, batch=batch.name, id=known.row_id, variant=known.variant
        )
        name = names.versioned(base, known.version + 1)
        reserve.look_up([name])
        free = reserve.free(name)
        changes.append(
            replace(_change(plan, item, draw), name=free, name_folded=names.folded(free))
        )
    return changes


def _new_keys(tx: Transaction, batch: str, specs: Sequence[JobSpec]) -> list[str]:
    keys = [job_key(batch, spec.row_id, spec.variant_kind, spec.variant) for spec in specs]
    taken = additions.taken_keys(tx, keys)
    for index, spec in enumerate(specs):
        salt = 0
        while keys[index] in taken:
            salt += 1
            keys[index] = job_key(batch, spec.row_id, spec.variant_kind, spec.variant, salt=salt)
            taken |= additions.taken_keys(tx, [keys[index]])
    return keys


class _Reserver:
    """Finds file names that no other job of the same output folder has, without regard to case."""

    def __init__(self, tx: Transaction, output_dir: str) -> None:
        self._tx = tx
        self._output_dir = output_dir
        self._taken: set[str] = set()

    def look_up(self, wanted: Iterable[str]) -> None:
        self._taken |= additions.taken_names(self._tx, self._output_dir, map(names.folded, wanted))

    def free(self, name: str) -> str:
        candidate, number = name, 2
        while names.folded(candidate) in self._taken:
            candidate, number = names.numbered(name, number), number + 1
            self.look_up([candidate])
        self._taken.add(names.folded(candidate))
        return candidate


def clips_folder(root: Path, output_dir: str) -> Path:
    """Return where the clips of a batch go: relative folders start at the job database's."""
    return root / Path(output_dir).expanduser()
