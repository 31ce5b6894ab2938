"""What the user asks for with one manifest, read and checked against the batch it belongs to."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from batchgen import manifests
from batchgen.domain.errors import Fault, ManifestError, UsageError
from batchgen.domain.expansion import estimate_micros
from batchgen.domain.identity import input_hash
from batchgen.domain.jobs import JobSpec, Model, encoded, specs_of
from batchgen.domain.prices import UnitPrice, priced
from batchgen.downloads import names
from batchgen.downloads.destination import usual_form
from batchgen.inputs.local import LocalFiles, Seen, folder_of
from batchgen.planning import naming
from batchgen.store import accounts, additions, costs
from batchgen.store.additions import Batch, Known
from batchgen.store.transactions import Transaction

_KEYS = 2_000  # keys that are looked up together


@dataclass(frozen=True)
class Defaults:
    """What holds for a batch where neither its manifest nor the batch itself says otherwise.

    Attributes:
        model: Its model.
        output_dir: Where clips go.
        name_template: How they are named.
        budget_micros: What it may cost over its life; None is no bound.
        uploads: Where files of this machine are uploaded to; None is nowhere.
    """

    model: str = manifests.DEFAULT_MODEL
    output_dir: str = "clips"
    name_template: str = names.DEFAULT_TEMPLATE
    budget_micros: int | None = None
    uploads: str | None = None


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
        name_template: `--name`; None keeps the batch's, else the default.
        budget_micros: `--budget`.
        uploads: `--uploads`; None keeps the batch's.
        replace: Buy clips again whose inputs have changed.
        new_batch: The rows are meant as new jobs, whatever they resemble.
        max_expand: `--max-expand`.
        allow_private_inputs: `--allow-private-inputs`.
        allow_unknown_inputs: `--allow-unknown-inputs`.
        folder: Where the files are that it names; None is the manifest's own folder.
        catalog: What the service's catalog states now; None is what it stated last.
        models: The known models; None is those that ship with batchgen.
        defaults: What holds where nothing else is said.
    """

    path: str
    provider: str = "runcomfy"
    account: str = "default"
    model: str | None = None
    batch: str | None = None
    output_dir: str | None = None
    name_template: str | None = None
    budget_micros: int | None = None
    uploads: str | None = None
    replace: bool = False
    new_batch: bool = False
    max_expand: int = 100_000
    allow_private_inputs: bool = False
    allow_unknown_inputs: bool = False
    folder: str | None = None
    catalog: Mapping[str, UnitPrice] | None = None
    models: Mapping[str, Model] | None = field(default=None, repr=False)
    defaults: Defaults = Defaults()


@dataclass(frozen=True)
class Prepared:
    """A manifest without faults, and the batch it belongs to.

    Attributes:
        wish: What the user asks for.
        batch: As it would be stored; its id is 0 if it is new.
        checked: The manifest's jobs, as often as wanted.
        models: The models they use, at today's list prices.
        is_export: Whether rows are matched by their `result_key`.
        stored_source: The file that the batch's newest manifest came from.
        is_table: Whether it is a table, whose columns may be taken for inputs.
        listed: Their list prices, where they are others than when they were checked.
        files: The files of this machine that its rows name.
        stored_budget_micros: The batch's budget as it is stored; None if it has none yet.
    """

    wish: Wish
    batch: Batch
    checked: manifests.Checked
    models: Mapping[str, Model]
    is_export: bool
    stored_source: str = ""
    is_table: bool = False
    listed: dict[tuple[str, str], int | None] | None = None
    files: tuple[Seen, ...] = ()
    stored_budget_micros: int | None = None

    @property
    def count(self) -> int:
        """How many jobs the manifest asks for."""
        return self.checked.count

    def specs(self) -> Iterator[JobSpec]:
        """Return the manifest's jobs in order, from the start."""
        return chain.from_iterable(map(specs_of, self.pages()))

    def pages(self) -> Iterator[Any]:
        """Return the same, some hundreds of jobs at a time, as `spec_columns`."""
        if self.listed is None:
            return self.checked.pages()
        return self._relisted(self.listed)

    def _relisted(self, listed: dict[tuple[str, str], int | None]) -> Iterator[Any]:
        for page in self.checked.pages():
            kinds = list(zip(page.model, page.settings, strict=True))
            for kind, inputs_json in zip(kinds, page.inputs_json, strict=True):
                if kind not in listed:
                    inputs = json.loads(inputs_json)
                    listed[kind] = estimate_micros(self.models[kind[0]], inputs)
            yield page._replace(est_micros=[listed[kind] for kind in kinds])

    def as_stored(self, spec: JobSpec, known: Known) -> JobSpec:
        """Return an exported row with the variant that its job has: the row tells only its key."""
        model = self.models[spec.model]
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


@dataclass(frozen=True)
class Draft:
    """A checked manifest, and its batch as it was stored at that time."""

    prepared: Prepared
    seen: Batch | None


class Siblings:
    """The manifests of one command, as far as they have been checked."""

    def __init__(self) -> None:
        self._earlier: dict[str, list[Prepared]] = {}
        self._places: dict[str, dict[str, str]] = {}

    def model_of(self, batch: str) -> str | None:
        """Return the model that an earlier manifest gives to a new batch."""
        earlier = self._earlier.get(batch)
        return earlier[0].batch.model if earlier else None

    def take(self, prepared: Prepared) -> None:
        """Take one more in.

        Raises:
            ManifestError: If an earlier one has the same batch and nobody said so, since its rows
                would be gone from this one; or if both have a row of the same id.
        """
        name, file = prepared.batch.name, manifests.named(prepared.wish.path)
        earlier = self._earlier.setdefault(name, [])
        if earlier and prepared.wish.batch is None:
            message = (
                f"its batch is {name}, as that of {manifests.named(earlier[0].wish.path)}: rename "
                "a file, or say --batch NAME if all rows belong together"
            )
            raise ManifestError([Fault(file, 0, "batch", message)])
        if earlier:
            self._refuse_duplicates(prepared, earlier)
        earlier.append(prepared)

    def _refuse_duplicates(self, prepared: Prepared, earlier: Sequence[Prepared]) -> None:
        places = self._places.setdefault(prepared.batch.name, {})
        if not places:
            for other in earlier:
                places.update(_named_rows(other))
        mine = _named_rows(prepared)
        faults = []
        for row_id in mine.keys() & places.keys():
            place, _, line = mine[row_id].rpartition(":")
            message = f"{row_id} is already in {places[row_id]}: ids must be unique in a batch"
            faults.append(Fault(place, int(line), "id", message))
        if faults:
            raise ManifestError(sorted(faults))
        places.update(mine)


def _named_rows(prepared: Prepared) -> dict[str, str]:
    """Return where each row stands that has an id, or the key of a job."""
    found: dict[str, str] = {}
    for spec in prepared.specs():
        if spec.result_key or spec.has_id:
            found.setdefault(spec.result_key or spec.row_id, spec.place)
    return found


def _output_dir(wish: Wish, stored: Batch | None) -> str:
    kept = stored.output_dir if stored else wish.defaults.output_dir
    return usual_form(wish.output_dir or kept)


def prepare(tx: Transaction | None, wish: Wish, siblings: Siblings | None = None) -> Prepared:
    """Read and check a manifest against the batch it belongs to.

    Args:
        tx: A transaction of the job database, None if there is none yet.
        wish: What the user asks for.
        siblings: The manifests before it in the same command; this one is taken in.

    Raises:
        ManifestError: With every fault of every row; nothing is stored.
        UsageError: If options contradict the job database.
    """
    for template in (wish.name_template, wish.defaults.name_template):
        if template is not None:
            names.parse_template(template)  # before many rows are read
    _check_names(wish)
    source = manifests.read(wish.path)
    is_export = source.has_result_keys and not wish.new_batch
    stored = _batch_of_keys(tx, source) if is_export else None
    name = stored.name if stored else _batch_name(wish, source)
    if wish.new_batch:
        name = _unused_name(tx, name)
    stored = stored or (additions.find_batch(tx, name) if tx is not None else None)
    _check_account(tx, stored, wish)
    begun = siblings.model_of(name) if siblings is not None else None
    fallback = (stored.model if stored else begun) or wish.defaults.model
    uploads = wish.uploads or source.uploads or (stored.uploads if stored else None)
    uploads = uploads or wish.defaults.uploads
    files = _files(tx, wish, stored if is_export else None)
    checked = manifests.check(
        source,
        models=priced(wish.models or manifests.load_models(), _catalog(tx, wish)),
        model=wish.model,
        fallback_model=fallback,
        schemas=stored.schemas if stored else None,
        max_expand=wish.max_expand,
        allow_private_inputs=wish.allow_private_inputs,
        allow_unknown_inputs=wish.allow_unknown_inputs,
        use_result_keys=is_export,
        files=files,
        has_uploads=uploads is not None,
    )
    template = wish.name_template or (None if stored else wish.defaults.name_template)
    if template is not None:
        columns = (*checked.columns, *(stored.columns if stored else ()))
        naming.check(template, columns, checked.models)
    schemas = {**(stored.schemas if stored else {})}
    for model_id, model in checked.models.items():
        schemas.setdefault(model_id, manifests.snapshot(model))
    budget_micros = wish.budget_micros or source.budget_micros
    batch = Batch(
        id=stored.id if stored else 0,
        name=name,
        account_id=stored.account_id if stored else 0,
        model=wish.model or source.model or fallback,
        source=os.path.realpath(wish.path),
        columns=_columns(stored, checked.columns, is_export=is_export),
        schemas=schemas,
        output_dir=_output_dir(wish, stored),
        name_template=wish.name_template
        or (stored.name_template if stored else wish.defaults.name_template),
        budget_micros=budget_micros
        or (stored.budget_micros if stored else None)
        or wish.defaults.budget_micros,
        uploads=uploads,
    )
    prepared = Prepared(
        wish,
        batch,
        checked,
        checked.models,
        is_export,
        stored.source if stored else "",
        is_table=source.is_table,
        files=tuple(files.found.values()),
        stored_budget_micros=stored.budget_micros if stored else None,
    )
    if siblings is not None:
        siblings.take(prepared)
    return prepared


def _files(tx: Transaction | None, wish: Wish, exported: Batch | None) -> LocalFiles:
    """Return the files that a manifest may name: beside it; of an export, as its jobs know them."""
    here = folder_of(wish.path) if wish.folder is None else Path(wish.folder)
    if exported is None or tx is None:
        return LocalFiles([here], anywhere=wish.allow_private_inputs)
    return LocalFiles(
        [here, Path(exported.source).parent],
        anywhere=wish.allow_private_inputs,
        earlier=lambda: additions.input_files(tx, exported.id),
    )


def _catalog(tx: Transaction | None, wish: Wish) -> Mapping[str, UnitPrice]:
    if wish.catalog is not None or tx is None:
        return wish.catalog or {}
    account = accounts.find(tx, wish.provider, wish.account)
    return {} if account is None else costs.catalog(tx, account.id)


def repriced(draft: Draft, catalog: Mapping[str, UnitPrice]) -> Draft:
    """Return a checked manifest at the prices that the service's catalog states now."""
    prepared = draft.prepared
    wish = replace(prepared.wish, catalog=catalog)
    models = priced(prepared.models, catalog)
    return replace(draft, prepared=replace(prepared, wish=wish, models=models, listed={}))


def draft(tx: Transaction | None, wishes: Iterable[Wish]) -> list[Draft]:
    """Read and check every manifest, before the job database is locked or even made.

    Raises:
        ManifestError: With the faults of all of them.
        UsageError: If options contradict the job database.
    """
    drafts: list[Draft] = []
    faults: list[Fault] = []
    siblings = Siblings()
    total = 0
    for wish in wishes:
        try:
            prepared = prepare(tx, wish, siblings)
        except ManifestError as error:
            if not error.faults:
                raise
            faults += error.faults
            total += error.total
            continue
        seen = additions.find_batch(tx, prepared.batch.name) if tx is not None else None
        drafts.append(Draft(prepared, seen))
    if faults:
        raise ManifestError(faults, total=total)
    return drafts


def _check_names(wish: Wish) -> None:
    for option, name in (("--batch", wish.batch), ("--account", wish.account)):
        problem = None if name is None else manifests.name_problem(name, most=manifests.MAX_BATCH)
        if problem:
            raise UsageError(f"{option} {name!r}: the name {problem}")


def _batch_name(wish: Wish, source: manifests.Source) -> str:
    if wish.batch or source.batch:
        return wish.batch or source.batch or ""
    problem = manifests.name_problem(source.stem, most=manifests.MAX_BATCH)
    if not source.stem:
        message = "has no name that its batch could have: name the batch with --batch NAME"
        raise ManifestError([Fault(source.path, 0, "", message)])
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
    """Return the batch that an exported manifest's keys belong to, None if it has no keys.

    Raises:
        ManifestError: If a key is unknown, or they belong to several batches.
    """
    batches: set[str] = set()
    faults: list[Fault] = []
    rows = (row for row in source.rows() if row.result_key)
    while chunk := list(islice(rows, _KEYS)):
        keys = [row.result_key or "" for row in chunk]
        known = additions.batches_of_keys(tx, keys) if tx is not None else {}
        batches |= set(known.values())
        faults += [
            _unknown_key(row, source) for row in chunk if (row.result_key or "") not in known
        ]
    if faults:
        raise ManifestError(faults)
    if len(batches) > 1:
        raise ManifestError(
            f"{source.path}: the rows belong to {len(batches)} batches "
            f"({', '.join(sorted(batches))}): export and run one batch at a time with --batch"
        )
    return additions.find_batch(tx, batches.pop()) if tx is not None and batches else None


def _unknown_key(row: manifests.Row, source: manifests.Source) -> Fault:
    message = (
        f"{row.result_key} is not in this job database: name the right one with --db; if that is "
        f"lost, `batchgen db rebuild {source.path} --db NEW.db` makes it anew from this export; "
        "or pass --new-batch to pay for these rows as new jobs"
    )
    return Fault(row.file or source.path, row.line, "result_key", message)
