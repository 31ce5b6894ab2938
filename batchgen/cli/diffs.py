"""What a manifest changes, job by job: what is new, what differs, what would be paid and why."""

import json
from collections.abc import Mapping
from typing import Any

from batchgen.cli.common import usd_number
from batchgen.domain.identity import job_label
from batchgen.domain.input_files import InputFile, parse_input_file
from batchgen.domain.prices import whole_cents
from batchgen.domain.redaction import redact_text
from batchgen.domain.states import LOST, JobState
from batchgen.domain.wording import usd
from batchgen.planning import Item, Plan, Verdict
from batchgen.store.additions import Known

MARKS = {
    Verdict.NEW: "+",
    Verdict.CHANGED: "~",
    Verdict.REOPENED: "±",
    Verdict.REPLACED: "±",
    Verdict.LEFT: "!",
    Verdict.BUSY: "!",
    Verdict.RENAMED: "→",
    Verdict.HELD: "!",
    Verdict.UNCHANGED: "=",
}
"""What stands before a job: new, changed, bought again, not done, renamed, as it was."""

LEGEND = "+ new  ~ changed  ± bought again  → renamed  ! not done  - gone  = as before, and waits"

_ABSENT = object()
_SHOWN = 70  # characters of a value
_BEFORE = 20  # of them, before the first difference


def lines(plan: Plan, item: Item) -> list[str]:
    """Return one job of a plan as a person reads it: a line, and one for each change."""
    spec = item.spec
    label = job_label(spec.row_id, spec.variant)
    cost = f"  {_price(plan, item)}" if item.is_bought else ""
    head = f"{MARKS[item.verdict]} {label}  {why(plan, item)}{cost}  ({spec.place})"
    return [head, *(f"    {name}: {old} → {new}" for name, old, new in _shown_changes(plan, item))]


def gone_line(job: Known, *, prune: bool) -> str:
    """Return a job that is gone from the manifest as a person reads it."""
    then = "cancelled (--prune)" if prune else "waits, and is not run; `add --prune` cancels it"
    return f"- {job.label}  gone from the manifest: {then}"


def as_json(plan: Plan, item: Item) -> dict[str, Any]:
    """Return one job of a plan as data."""
    spec, known = item.spec, item.known
    is_older = known is not None and item.verdict is not Verdict.NEW
    return {
        "verdict": item.verdict.name.lower(),
        "key": known.key if known else None,
        "batch": known.batch if known else plan.batch.name,
        "id": spec.row_id,
        "variant": spec.variant,
        "state": str(known.state) if known else None,
        "was_job": known.label if known and is_older else None,
        "file": spec.file,
        "line": spec.line,
        "is_bought": item.is_bought,
        "estimate_usd": usd_number(_micros(plan, item)) if item.is_bought else None,
        "why": why(plan, item),
        "changes": [
            {"input": name, "old": _plain(old), "new": _plain(new)}
            for name, old, new in changes(plan, item)
        ],
    }


def why(plan: Plan, item: Item) -> str:
    """Return in words what becomes of a job, and why it would be paid for or not."""
    known = item.known
    if known is None:
        return "new"
    is_earlier = known.batch_id == plan.batch.id and known.input_hash != item.spec.input_hash
    twin = f"{'an earlier version of ' * is_earlier}{known.label} of batch {known.batch}"
    words = {
        Verdict.NEW: "new",
        Verdict.CHANGED: "waits, and takes the new inputs",
        Verdict.REOPENED: f"{known.state}, and its inputs have changed: it is bought again",
        Verdict.REPLACED: f"{known.state}, and --replace buys version {known.version + 1}",
        Verdict.LEFT: "succeeded with other inputs: left alone, "
        + (
            "the new input file cannot be used"
            if plan.prepared.wish.replace
            else "--replace buys it again"
        ),
        Verdict.BUSY: f"{known.state} with other inputs: never touched",
        Verdict.RENAMED: f"was {known.label}: the same job, {_standing(known)}",
        Verdict.HELD: f"has the inputs of {twin}, which "
        + ("waits" if known.state is JobState.PENDING and not is_earlier else "is paid for")
        + ": held back, --new-batch buys it again",
        Verdict.UNCHANGED: _standing(known),
    }
    return words[item.verdict]


def _standing(known: Known) -> str:
    if known.state is JobState.PENDING:
        return "waits, not paid for yet"
    if known.state in LOST:
        return f"{known.state}: stays so, `batchgen retry` buys it again"
    return str(known.state)


def changes(plan: Plan, item: Item) -> list[tuple[str, Any, Any]]:
    """Return which inputs of a job differ from what is stored: name, old value, new value.

    A missing value is `ABSENT`; a seed that was drawn for the job is no change.
    """
    spec, known = item.spec, item.known
    if known is None or item.verdict in (Verdict.UNCHANGED, Verdict.HELD):
        return []
    new, old = spec.inputs, known.inputs
    seed = plan.prepared.models[spec.model].seed
    if seed is not None and seed not in new and spec.draw_seed:
        old.pop(seed, None)
    return [
        (name, old.get(name, _ABSENT), new.get(name, _ABSENT))
        for name in dict.fromkeys([*old, *new])
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
    ]


def _shown_changes(plan: Plan, item: Item) -> list[tuple[str, str, str]]:
    return [(name, *_both_shown(old, new)) for name, old, new in changes(plan, item)]


def _both_shown(old: Any, new: Any) -> tuple[str, str]:
    before, now = _file(old), _file(new)
    if before is not None and now is not None and before.path == now.path:
        return redact_text(now.path), "the same file, its content has changed"
    shown = [
        _shown(value) if file is None else redact_text(file.path)
        for value, file in ((old, before), (new, now))
    ]
    return _window(*shown)


def _file(value: Any) -> InputFile | None:
    return parse_input_file(value) if isinstance(value, str) else None


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "(not set)"
    return redact_text(json.dumps(value, ensure_ascii=False))


def _window(old: str, new: str) -> tuple[str, str]:
    """Return two texts cut to where they begin to differ."""
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
    start = max(0, same - _BEFORE) if max(len(old), len(new)) > _SHOWN else 0
    start = 0 if start < _BEFORE else start
    return _cut(old, start), _cut(new, start)


def _cut(text: str, start: int) -> str:
    part = text[start : start + _SHOWN]
    end = "…" if start + _SHOWN < len(text) else ""
    return f"{'…' if start else ''}{part}{end}"


def _plain(value: Any) -> Any:
    if value is _ABSENT:
        return None
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _micros(plan: Plan, item: Item) -> int | None:
    spec = item.spec
    return plan.prices.of_job(spec.model, spec.settings, spec.est_micros)


def _price(plan: Plan, item: Item) -> str:
    micros = _micros(plan, item)
    return "price unknown" if micros is None else usd(whole_cents(micros))
