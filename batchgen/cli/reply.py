"""What a command answers with `--json`: one object on stdout, whatever becomes of it.

A command gives its data; the boundary for errors in `main` puts it in the envelope, which has
the same five members for every command, and prints that last of all. This module imports next
to nothing, because the boundary needs it before any command.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from batchgen.domain.errors import BatchgenError, Exit, Fault, ManifestError
from batchgen.domain.redaction import redact_text
from batchgen.settings import without_token

Command = TypeVar("Command", bound=Callable[..., Any])

_COMMAND = re.compile(
    r"(\x60batchgen (?!init|models|schema|config|completion|simulate|balance|db copy|COMMAND)"
    r"(?![^\x60]*(?:--db|--simulate|\|))[^`]+)`"
)
_OF_ACCOUNT = re.compile(
    r"(\x60batchgen (?:run|add|plan|pause|unpause|set jobs|set rate|cancel|reconcile|download)\b"
    r"(?![^\x60]*(?:--account|\|))[^\x60]*)`"
)

VERSION = 1
"""Of what every command answers; another one takes members away or gives them another sense."""


@dataclass
class Reply:
    """What the boundary for errors must know of the command that it calls.

    Attributes:
        command: Its name, `db check`; None unless `--json` was given.
        data: What it answers, None so far.
        database: What names its job database for another command: `--db x.db --simulate`.
        account: What names its account, "" if that is the usual one: `--account studio`.
    """

    command: str | None = None
    data: Mapping[str, Any] | None = None
    database: str = ""
    account: str = ""

    def meant(self, text: str) -> str:
        """Return a text whose commands in backticks mean the same job database and account."""
        if self.account:
            text = _OF_ACCOUNT.sub(lambda found: f"{found[1]} {self.account}`", text)
        if not self.database:
            return text
        return _COMMAND.sub(lambda found: f"{found[1]} {self.database}`", text)

    def envelope(
        self, code: int, *, message: str | None = None, error: BatchgenError | None = None
    ) -> dict[str, Any]:
        """Return the whole answer.

        Args:
            code: What the command ends with.
            message: What went wrong, None if it ended by itself.
            error: The same as an error of ours.
        """
        said: dict[str, Any] | None = None
        if message is not None:
            said = {"code": _kind(code, error), "message": without_secrets(message)}
            if isinstance(error, ManifestError):
                said |= faults_json(error.faults, error.total)
        name = (self.command or "").replace(" ", "-")
        return {
            "schema": f"batchgen/{name}/{VERSION}",
            "ok": code == Exit.SUCCESS,
            "exit_code": int(code),
            "data": self.data,
            "error": said,
        }


def _kind(code: int, error: BatchgenError | None) -> str:
    if error is not None:
        return error.kind
    return {Exit.USAGE: "usage", Exit.SIGINT: "interrupted"}.get(Exit(code), "unexpected")


def faults_json(faults: Iterable[Fault], total: int) -> dict[str, Any]:
    """Return what is wrong with manifests as data; of very many faults only the first."""
    shown = [{**vars(fault), "message": without_secrets(fault.message)} for fault in faults]
    return {"faults": shown, "faults_total": total}


def without_secrets(text: str) -> str:
    """Return what may be shown of a message: where it comes from must not decide."""
    return redact_text(without_token(text))


def json_option(command: Command) -> Command:
    """Add `--json`: one object on stdout, whatever becomes of the command."""

    def note(context: click.Context, _: click.Parameter, value: bool) -> bool:
        found = context.find_object(Reply)
        if found is not None:
            found.command = context.command_path.partition(" ")[2] if value else None
        return value

    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,  # so that a fault of another option is data too
        callback=note,
        help="Print one JSON object.",
    )(command)


def print_json(value: Mapping[str, Any]) -> None:
    """Answer with this: printed in the envelope when the command has ended."""
    reply = click.get_current_context().find_object(Reply)
    if reply is None:
        raise LookupError("no reply to put it in")
    reply.data = value


def write_json(value: Mapping[str, Any]) -> None:
    """Print an object on stdout just as it is."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))
