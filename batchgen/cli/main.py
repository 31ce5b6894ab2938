"""The command group: loads a command only when it is used, and handles every error."""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn

import click

from batchgen import __version__, failpoints
from batchgen.cli import completing
from batchgen.cli.lazy import LazyGroup
from batchgen.cli.reply import Reply, without_secrets, write_json
from batchgen.domain.errors import BatchgenError, Exit, ManifestError, UsageError
from batchgen.domain.redaction import printable

COMMANDS = {
    "init": "Write a commented example manifest.",
    "validate": "Check manifests: every fault at once, nothing stored.",
    "plan": "Show like a diff what manifests would change, and what that would cost.",
    "add": "Store the jobs of manifests, to be run later.",
    "run": "Add manifests and work until every job is at rest; again to resume.",
    "status": "Show counts, money, time left, and what stands in the way.",
    "ls": "List jobs.",
    "show": "Show jobs: inputs, attempts, what happened when.",
    "logs": "List runs, or show what one said.",
    "cancel": "Cancel jobs that have not been generated.",
    "retry": "Let failed, cancelled or expired jobs be paid for again.",
    "pause": "Submit nothing more, in live runs and new ones, until unpause.",
    "unpause": "Let an account's jobs be submitted again.",
    "set": "Change jobs in flight, rate, budget or priority, also under live runs.",
    "reconcile": "Decide jobs in doubt: adopt, resubmit or write off.",
    "download": "Fetch what is paid for and not fetched yet; --refresh: what is gone, too.",
    "export": "Write the result table as CSV, JSON Lines or a workbook.",
    "report": "Write an HTML page: totals, money, failures, a timeline, every clip.",
    "models": "List, describe, add and fetch models.",
    "schema": "Print JSON Schemas: of manifests for editors, of answers for programs.",
    "balance": "Show what the account holds.",
    "workers": "List who works, and what each holds.",
    "doctor": "Check token, service, clock, disk and job database; say what to do.",
    "db": "Check, copy, rebuild, shrink or upgrade the job database.",
    "config": "Show what batchgen.toml and the environment set, and where.",
    "completion": "Print the script that completes commands in bash, zsh or fish.",
    "simulate": "Serve the stand-in for RunComfy's API on this machine.",
}
"""Every command with its line of help, in the order of use."""


_SECTIONS = {
    "Make clips": ("init", "validate", "plan", "add", "run"),
    "See": ("status", "ls", "show", "logs", "report", "workers", "balance", "doctor"),
    "Act": ("retry", "cancel", "pause", "unpause", "set", "reconcile", "download"),
    "Take away": ("export", "db"),
    "Set up": ("models", "schema", "config", "completion", "simulate"),
}
"""Where the help shows each command."""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    sections=_SECTIONS,
    epilog="Without a token or money: batchgen init jobs.yaml, batchgen run jobs.yaml --simulate, "
    "batchgen report --simulate.",
    package="batchgen.cli",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="batchgen")
def cli() -> None:
    """Run hundreds of paid video generations: no clip lost, none paid for twice.

    A manifest of prompts and images goes in, clips and a result table come out. Whatever
    crashes, `batchgen run` again goes on.
    """


def main() -> NoReturn:
    """Run the command line and exit with the code of spec: one boundary for every error."""
    reply = Reply()
    try:
        if completing.is_asked():
            completing.answer(cli)
        failpoints.arm_from_environment()
        _refuse_other_bytes(sys.argv[1:])
        result = cli.main(prog_name="batchgen", standalone_mode=False, obj=reply)
    except click.exceptions.Exit as error:
        _leave(reply, error.exit_code)
    except click.Abort:
        click.echo("Aborted.", err=True)
        _leave(reply, Exit.SIGINT, "aborted")
    except click.ClickException as error:
        error.show()
        _leave(reply, Exit.USAGE, error.format_message())
    except BatchgenError as error:
        shown = reply.meant(without_secrets(_shown(error)))
        click.echo(f"Error: {printable(shown)}", err=True)
        _leave(reply, error.exit_code, reply.meant(str(error)), error)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        _leave(reply, Exit.SIGINT, "interrupted")
    except BrokenPipeError:
        _leave_reader()
    except Exception as error:  # noqa: BLE001 - the boundary: reported to a file, never swallowed
        said = printable(without_secrets(f"{type(error).__name__}: {error}"))
        click.echo(f"Error: unexpected: {said}", err=True)
        click.echo(f"The details are in {_report()}; nothing paid for is lost.", err=True)
        _leave(reply, Exit.UNEXPECTED, f"unexpected: {said}")
    _leave(reply, result if isinstance(result, int) else Exit.SUCCESS)


def _leave(
    reply: Reply, code: int, message: str | None = None, error: BatchgenError | None = None
) -> NoReturn:
    """End with a code, and answer as data where `--json` asks for it."""
    try:
        if reply.command is not None and (reply.data is not None or message is not None):
            write_json(reply.envelope(code, message=message, error=error))
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_reader(code)
    sys.exit(int(code))


def _leave_reader(code: int = Exit.SUCCESS) -> NoReturn:
    """End after the reader of our output went away, as `batchgen ls | head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(int(code))


def _refuse_other_bytes(words: Sequence[str]) -> None:
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word!a} is not UTF-8: rename the file, or type it anew") from None


def _shown(error: BatchgenError) -> str:
    if not isinstance(error, ManifestError) or error.total <= 1:
        return str(error)
    return f"{error.total:,} faults; nothing was stored or spent\n{error}"


def _report() -> str:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"batchgen-{stamp}-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(f"batchgen {__version__}, Python {sys.version}\n\n")
        file.write(without_secrets(traceback.format_exc()))
    return file.name
