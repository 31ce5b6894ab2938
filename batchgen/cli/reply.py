"""What a command answers: one JSON object on stdout where `--json` asks for it, errors too.

It imports next to nothing, because the boundary for errors needs it before any command.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from batchgen.domain.errors import Fault
from batchgen.domain.redaction import redact_text
from batchgen.settings import without_token


@dataclass
class Reply:
    """What the boundary for errors must know of the command that it calls.

    Attributes:
        wants_json: An error is to be data on stdout too.
        is_given: The object was printed already.
    """

    wants_json: bool = False
    is_given: bool = False


def faults_json(faults: Iterable[Fault], total: int) -> dict[str, Any]:
    """Return what is wrong with manifests as data; of very many faults only the first."""
    shown = [{**vars(fault), "message": without_secrets(fault.message)} for fault in faults]
    return {"faults": shown, "faults_total": total}


def without_secrets(text: str) -> str:
    """Return what may be shown of a message: where it comes from must not decide."""
    return redact_text(without_token(text))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout."""
    context = click.get_current_context(silent=True)
    reply = None if context is None else context.find_object(Reply)
    if reply is not None:
        reply.is_given = True
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))
