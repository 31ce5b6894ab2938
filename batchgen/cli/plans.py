"""A plan in words and as JSON: what storing a manifest would do, and what a run would cost."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from batchgen.cli.common import plural, usd_number
from batchgen.domain.identity import job_label
from batchgen.domain.prices import whole_cents
from batchgen.domain.wording import usd
from batchgen.manifests import ROW_WORDS, named
from batchgen.planning import Item, Plan, Verdict
from batchgen.store import additions
from batchgen.store.transactions import Transaction

SHOWN_JOBS = 20
SHOWN_COLUMNS = 12

_WORDS = {
    Verdict.CHANGED: "waiting, with other inputs now",
    Verdict.REOPENED: "to be bought again: the inputs have changed",
    Verdict.REPLACED: "to be bought again as a new version (--replace)",
    Verdict.LEFT: "left alone: paid for with other inputs; --replace buys them again",
    Verdict.BUSY: "left alone: at work or in doubt with other inputs",
    Verdict.RENAMED: "known under another id now: still the same jobs",
    Verdict.HELD: "held back: paid for already, or waiting elsewhere; --new-batch buys them again",
}
"""The verdicts whose jobs are named one by one, with what each means."""

# With --replace only this is a reason to leave a finished job alone.
_UNFIT = "left alone: paid for with other inputs, and the new input file cannot be used"


def describe(plan: Plan, *, prune: bool = False, is_limited: bool = False) -> list[str]:
    """Return a plan as lines for people.

    Args:
        plan: The plan.
        prune: Whether what is gone is cancelled.
        is_limited: Whether `--limit` keeps some of it from being paid for.
    """
    batch, wish = plan.batch, plan.prepared.wish
    known = "" if batch.id else " (new)"
    lines = [f"{named(wish.path)}: batch {batch.name}{known}, account {wish.account}"]
    models = _models(plan)
    lines += [f"  model {model}: {plural(count, 'job')}" for model, count in models.items()]
    lines.append(f"  clips go to {batch.output_dir}")
    return [*lines, *notes(plan), *counts(plan, prune=prune, names=True, is_limited=is_limited)]


def notes(plan: Plan) -> list[str]:
    """Return what may not be meant: another file of the batch, columns that are not sent."""
    lines = []
    before = plan.prepared.stored_source
    if before and before != plan.batch.source and not plan.prepared.is_export:
        lines.append(f"  note: until now this batch came from {before}")
    if plan.prepared.is_table and any(
        not item.spec.has_id for item in plan.samples.get(Verdict.NEW, ())
    ):
        lines.append(
            "  note: rows without an `id` are other jobs once they are edited, and their clips are "
            "named by a hash: give them a column `id`, or name clips with --name"
        )
    lines += _input_files(plan)
    carried = {
        name: None
        for items in (plan.samples.values() if plan.prepared.is_table else ())
        for item in items
        for name in item.spec.cells
        if name not in item.spec.input_columns and name.strip() not in ROW_WORDS
    }
    if carried:
        shown = ", ".join(list(carried)[:SHOWN_COLUMNS])
        more = f" and {len(carried) - SHOWN_COLUMNS} more" if len(carried) > SHOWN_COLUMNS else ""
        lines.append(f"  carried along, not sent: {shown}{more}")
    return lines


def _input_files(plan: Plan) -> Iterator[str]:
    """Yield what becomes of the files of this machine that a manifest names."""
    files = _files_json(plan)
    if not files["files"]:
        return
    size = f"{max(1, files['bytes'] // 1000):,} kB"
    what = f"{plural(files['files'], 'input file')} of this machine ({size})"
    if plan.batch.uploads is not None:
        yield f"  {what} to upload to {plan.batch.uploads}, each once"
    else:
        yield (
            f"  warning: {what} inside of the requests, which is experimental: --uploads names a "
            "bucket to put them in"
        )


def _files_json(plan: Plan) -> dict[str, int]:
    sizes = {seen.file.sha256: seen.size_bytes for seen in plan.prepared.files}
    return {"files": len(sizes), "bytes": sum(sizes.values())}


def counts(plan: Plan, *, prune: bool, names: bool = False, is_limited: bool = False) -> list[str]:
    """Return how many jobs of a plan are what, and what they would cost, as lines.

    Args:
        plan: The plan.
        prune: Whether what is gone is cancelled.
        names: Whether jobs that are not simply new or old are named.
        is_limited: Whether `--limit` keeps some of it from being paid for.
    """
    lines = []
    if plan.count(Verdict.NEW):
        lines.append(f"  {plural(plan.count(Verdict.NEW), 'job')} new")
    words_of = {**_WORDS, Verdict.LEFT: _UNFIT} if plan.prepared.wish.replace else _WORDS
    for verdict, words in words_of.items():
        count = plan.count(verdict)
        if count:
            lines.append(f"  {plural(count, 'job')} {words}")
            if names:
                lines += _listed([_line(item) for item in plan.samples[verdict]], count)
    if plan.count(Verdict.UNCHANGED):
        count = plan.count(Verdict.UNCHANGED)
        lines.append(f"  {plural(count, 'job')} unchanged{_states(plan)}")
    if plan.gone:
        then = "cancelled (--prune)" if prune else "not run"
        count = len(plan.gone)
        lines.append(f"  {plural(count, 'job')} waiting but gone from the file: {then}")
        if names:
            lines += _listed([job.label for job in plan.gone_samples], count)
    lines.append("  " + estimate(plan, is_limited=is_limited))
    if plan.batch.budget_micros is not None:
        lines.append(f"  budget of the batch {_budget(plan, plan.batch.budget_micros)}")
    return lines


def _budget(plan: Plan, budget_micros: int) -> str:
    """Return a batch's budget, and what it was: `set budget` may have changed it meanwhile."""
    before = plan.prepared.stored_budget_micros
    if not plan.batch.id or before == budget_micros:
        return usd(budget_micros)
    return f"{'none' if before is None else usd(before)} → {usd(budget_micros)}"


def estimate(plan: Plan, *, is_limited: bool = False) -> str:
    """Return how many jobs are to be paid for and about how much that is, in one line."""
    found = plan.estimate
    if not found.jobs:
        return "nothing to pay for"
    head = f"{plural(found.jobs, 'job')} to pay for{' without --limit' * is_limited}"
    if found.unpriced == found.jobs:
        return f"{head}: the price is unknown"
    rest = f", and {found.unpriced:,} of unknown price" if found.unpriced else ""
    basis = found.basis(plan.list_bases)
    return f"{head}: about {usd(whole_cents(found.micros))}{rest} ({basis})"


def as_json(plan: Plan, tx: Transaction | None) -> dict[str, Any]:
    """Return a plan as data: counts of everything, and by name what is not simply new or old.

    Args:
        plan: The plan.
        tx: Sees what it was decided by; None if there is no job database yet.
    """
    batch, wish, found = plan.batch, plan.prepared.wish, plan.estimate
    listed: dict[Verdict, list[dict[str, Any]]] = {verdict: [] for verdict in _WORDS}
    for item in plan.items(tx, *_WORDS):
        listed[item.verdict].append(_item_json(item))
    gone = {} if tx is None else additions.by_ids(tx, plan.gone)
    return {
        "manifest": named(wish.path),
        "batch": batch.name,
        "batch_is_new": batch.id == 0,
        "account": wish.account,
        "models": _models(plan),
        "output_dir": batch.output_dir,
        "uploads": batch.uploads,
        "input_files": _files_json(plan),
        "budget_usd": usd_number(batch.budget_micros),
        "jobs": plan.prepared.count,
        "counts": {
            "new": plan.count(Verdict.NEW),
            **{word(verdict): len(items) for verdict, items in listed.items()},
            "unchanged": plan.count(Verdict.UNCHANGED),
            "gone": len(plan.gone),
        },
        **{word(verdict): items for verdict, items in listed.items()},
        "gone": [
            {
                "key": job.key,
                "batch": batch.name,
                "id": job.row_id,
                "variant": job.variant,
                "state": str(job.state),
            }
            for job in (gone[job_id] for job_id in plan.gone)
        ],
        "to_pay": found.jobs,
        "estimate_usd": usd_number(found.micros),
        "unpriced": found.unpriced,
        "price_basis": found.basis(plan.list_bases),
        "finished_jobs_seen": found.seen,
    }


def word(verdict: Verdict) -> str:
    """Return a verdict as JSON has it."""
    return verdict.name.lower()


def _models(plan: Plan) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (model, _, _), jobs in plan.asked.items():
        counts[model] += jobs
    return dict(counts)


def _item_json(item: Item) -> dict[str, Any]:
    spec, known = item.spec, item.known
    return {
        "key": known.key if known else None,
        "batch": known.batch if known else None,
        "id": spec.row_id,
        "variant": spec.variant,
        "state": str(known.state) if known else None,
        "file": spec.file,
        "line": spec.line,
    }


def _line(item: Item) -> str:
    spec, known = item.spec, item.known
    label = job_label(spec.row_id, spec.variant)
    if known is None:
        return f"{label} ({spec.place})"
    was = f", was {known.label}" if known.label != label else ""
    return f"{label} ({spec.place}): {known.state} in batch {known.batch}{was}"


def _listed(lines: Sequence[str], count: int) -> list[str]:
    shown = [f"    {line}" for line in lines[:SHOWN_JOBS]]
    if count > len(shown):
        shown.append(f"    and {count - len(shown):,} more")
    return shown


def _states(plan: Plan) -> str:
    counts = plan.states.most_common()
    return " (" + ", ".join(f"{count:,} {state}" for state, count in counts) + ")"
