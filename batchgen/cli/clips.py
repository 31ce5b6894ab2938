"""What was found of clips on disk: in words, and as data."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from batchgen.cli import common, selection
from batchgen.domain.redaction import printable
from batchgen.verifying import Verdict, Verified

_TOLD = 20  # clips that are named


def clips_json(counts: Counter[Verdict], wrong: Sequence[Verified]) -> dict[str, Any]:
    """Return what was found of clips as data."""
    return {
        "counts": {str(verdict): counts[verdict] for verdict in Verdict},
        "wrong": [
            {
                **selection.job_json(one.row),
                "verdict": str(one.verdict),
                "file": one.path,
                "why": one.why,
            }
            for one in wrong
        ],
    }


def show_clips(counts: Counter[Verdict], wrong: Sequence[Verified]) -> None:
    """Say what was found of clips, and what helps."""
    for one in wrong[:_TOLD]:
        place = f"{one.path} " if one.path else ""
        click.echo(printable(f"{one.row.batch}/{one.row.label}: {place}{one.why}"))
    if len(wrong) > _TOLD:
        click.echo(f"… and {len(wrong) - _TOLD:,} more: --json names all")
    said = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in Verdict if counts[verdict])
    click.echo(f"clips: {said or 'none'}")
    if counts[Verdict.CHANGED]:
        common.echo(
            "`batchgen download --verify` fetches what is changed or missing again, unpaid; a "
            "changed file stays as it is, and the clip comes beside it",
            err=True,
        )
    elif counts[Verdict.MISSING]:
        common.echo("`batchgen download --refresh` fetches the missing ones, unpaid", err=True)
