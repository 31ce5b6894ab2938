"""A plan in words and as JSON: what storing a manifest would do, and what a run would cost."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from batchgen.cli.common import plural, usd, usd_number
from batchgen.domain.identity import job_label
from batchgen.domain.jobs import JobSpec
from batchgen.domain.prices import whole_cents
from batchgen.manifests import named
from batchgen.planning import Plan
from batchgen.store.additions import Known

SHOWN_JOBS = 20

Item = tuple[int, JobSpec, Known]

_WORDS = {
    "changed": "waiting, with other inputs now",
    "reopened": "to be bought again: the inputs have changed",
    "replaced": "to be bought again as a new version (--replace)",
    "left": "left alone: paid for with other inputs; --replace buys them again",
    "busy": "left alone: at work or in doubt with other inputs",
    "renamed": "known under another id now: still the same jobs",
    "held": "held back: paid for already; --new-batch buys them again",
}
"""The lists of a plan whose jobs are named one by one, with what each means."""


def describe(plan: Plan) -> list[str]:
    """Return a plan as lines for people."""
    batch, wish = plan.batch, plan.prepared.wish
    known = "" if batch.id else " (new)"
    lines = [f"{named(wish.path)}: batch {batch.name}{known}, account {wish.account}"]
    models = Counter(spec.model for spec in plan.prepared.specs)
    lines += [f"  model {model}: {plural(count, 'job')}" for model, count in models.items()]
    lines.append(f"  clips go to {batch.output_dir}")
    if plan.new:
        lines.append(f"  {plural(len(plan.new), 'job')} new")
    for name, words in _WORDS.items():
        items: list[Item] = getattr(plan, name)
        if items:
            lines.append(f"  {plural(len(items), 'job')} {words}")
            lines += _listed([_line(item) for item in items])
    if plan.unchanged:
        lines.append(f"  {plural(len(plan.unchanged), 'job')} unchanged{_states(plan.unchanged)}")
    if plan.gone:
        lines.append(f"  {plural(len(plan.gone), 'job')} waiting but gone from the file: not run")
        lines += _listed([job.label for job in plan.gone])
    lines.append("  " + estimate(plan))
    if batch.budget_micros is not None:
        lines.append(f"  budget of the batch {usd(batch.budget_micros)}")
    return lines


def estimate(plan: Plan) -> str:
    """Return how many jobs are to be paid for and about how much that is, in one line."""
    found = plan.estimate
    if not found.jobs:
        return "nothing to pay for"
    head = f"{plural(found.jobs, 'job')} to pay for"
    if found.unpriced == found.jobs:
        return f"{head}: the price is unknown"
    rest = f", and {found.unpriced:,} of unknown price" if found.unpriced else ""
    basis = found.basis(plan.list_bases)
    return f"{head}: about {usd(whole_cents(found.micros))}{rest} ({basis})"


def as_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as data: counts of everything, and by name what is not simply new or old."""
    batch, wish, found = plan.batch, plan.prepared.wish, plan.estimate
    return {
        "manifest": wish.path,
        "batch": batch.name,
        "batch_is_new": batch.id == 0,
        "account": wish.account,
        "models": dict(Counter(spec.model for spec in plan.prepared.specs)),
        "output_dir": batch.output_dir,
        "budget_usd": usd_number(batch.budget_micros),
        "jobs": len(plan.prepared.specs),
        "counts": {
            "new": len(plan.new),
            **{name: len(getattr(plan, name)) for name in _WORDS},
            "unchanged": len(plan.unchanged),
            "gone": len(plan.gone),
        },
        **{name: [_item_json(item) for item in getattr(plan, name)] for name in _WORDS},
        "gone": [
            {"key": job.key, "id": job.row_id, "variant": job.variant, "state": str(job.state)}
            for job in plan.gone
        ],
        "to_pay": found.jobs,
        "estimate_usd": usd_number(found.micros),
        "unpriced": found.unpriced,
        "price_basis": found.basis(plan.list_bases),
        "finished_jobs_seen": found.seen,
    }


def _item_json(item: Item) -> dict[str, Any]:
    _, spec, known = item
    return {
        "key": known.key,
        "id": spec.row_id,
        "variant": spec.variant,
        "batch": known.batch,
        "state": str(known.state),
        "file": spec.file,
        "line": spec.line,
    }


def _line(item: Item) -> str:
    _, spec, known = item
    label = job_label(spec.row_id, spec.variant)
    was = f", was {known.label}" if known.label != label else ""
    return f"{label} ({spec.place}): {known.state} in batch {known.batch}{was}"


def _listed(lines: Sequence[str]) -> list[str]:
    shown = [f"    {line}" for line in lines[:SHOWN_JOBS]]
    if len(lines) > SHOWN_JOBS:
        shown.append(f"    and {len(lines) - SHOWN_JOBS:,} more")
    return shown


def _states(items: Sequence[Item]) -> str:
    counts = Counter(str(item[2].state) for item in items)
    return " (" + ", ".join(f"{count:,} {state}" for state, count in counts.most_common()) + ")"
