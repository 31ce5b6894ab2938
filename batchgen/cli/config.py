"""`batchgen config`: what `batchgen.toml` and the environment set, and where."""

from collections.abc import Sequence
from typing import Any

import click

from batchgen.cli import configured
from batchgen.cli.common import json_option, plural, print_json, table
from batchgen.cli.configured import Explained, Read
from batchgen.domain.errors import UsageError
from batchgen.domain.redaction import printable, redact_text
from batchgen.domain.spelling import suggestion

_HEADER = ("OPTION", "VALUE", "FROM")


@click.group("config")
def command() -> None:
    """Show what batchgen.toml and the environment set, and where."""


@command.command("show")
@click.argument("commands", nargs=-1, metavar="[COMMAND]...")
@json_option
@click.pass_context
def show(context: click.Context, *, commands: tuple[str, ...], as_json: bool) -> None:
    """Show every option of COMMAND (run), its value, and where that comes from.

    A flag wins over the environment, that over the current folder's batchgen.toml, that over
    your own, and that over the default. What is secret is not shown.
    """
    path = commands or ("run",)
    at = _context_of(context, path)
    found = configured.explain(at)
    files = configured.files(at)
    if as_json:
        print_json(
            {
                "command": " ".join(path),
                "files": [_file_json(read) for read in files],
                "options": [_json(one) for one in found],
            }
        )
        return
    cells = [(one.option, _clean(one.shown), _clean(_whence(one))) for one in found]
    click.echo(table(cells, header=_HEADER))
    for read in files:
        click.echo(_file_line(read), err=True)


@command.command("path")
@json_option
def path_command(*, as_json: bool) -> None:
    """Print where batchgen.toml is looked for, the one that wins first."""
    found = configured.read_all()
    if as_json:
        print_json({"files": [_file_json(read) for read in found]})
        return
    for read in found:
        click.echo(_clean(str(read.path.absolute())))
        click.echo(_file_line(read), err=True)


@command.command("check")
@json_option
@click.pass_context
def check(context: click.Context, *, as_json: bool) -> None:
    """Check both files and the environment for every command; exit code 2 if one is wrong."""
    paths = _every(context.find_root().command, context, ())
    wrong = [fault for path in paths for fault in configured.faults(_context_of(context, path))]
    for name, instead in configured.unknown_names().items():
        if instead:
            wrong.append(f"{name}: nothing reads it: {instead}")
        else:
            click.echo(_clean(f"note: {name}: nothing reads it"), err=True)
    if wrong:
        raise UsageError("\n".join(dict.fromkeys(wrong)))  # most are wrong for several commands
    found = configured.files(context)
    if as_json:
        print_json({"files": [_file_json(read) for read in found], "commands": len(paths)})
        return
    for read in found:
        click.echo(_file_line(read))
    click.echo(f"nothing is wrong for any of {plural(len(paths), 'command')}", err=True)


def _context_of(context: click.Context, path: Sequence[str]) -> click.Context:
    """Return what a command would be parsed in."""
    at = context.find_root()
    for name in path:
        group = at.command
        found = group.get_command(at, name) if isinstance(group, click.Group) else None
        if found is None:
            known = group.list_commands(at) if isinstance(group, click.Group) else ()
            raise UsageError(
                f"there is no command {' '.join(path)}: {suggestion(name, known)}"
                "`batchgen --help` lists them"
            )
        at = found.context_class(found, info_name=name, parent=at)
    if isinstance(at.command, click.Group):
        below = ", ".join(f"{' '.join(path)} {name}" for name in at.command.list_commands(at))
        raise UsageError(f"{' '.join(path)} has commands of its own: say one of {below}")
    return at


def _every(command: click.Command, at: click.Context, path: tuple[str, ...]) -> list[Any]:
    if not isinstance(command, click.Group):
        return [path]
    found = []
    for name in command.list_commands(at):
        below = command.get_command(at, name)
        found += _every(below, at, (*path, name)) if below is not None else []
    return found


def _whence(one: Explained) -> str:
    if one.origin is not None:
        return one.origin
    return f"{one.source} (flag only)" if one.env is None else one.source


def _json(one: Explained) -> dict[str, Any]:
    return {
        "option": one.option,
        "key": one.key if one.env is not None else None,
        "environment": one.env,
        "value": redact_text(one.shown),
        "source": one.source,
        "from": one.origin,
    }


def _file_json(read: Read) -> dict[str, Any]:
    return {"path": str(read.path.absolute()), "read": read.said is not None}


def _file_line(read: Read) -> str:
    return f"{_clean(str(read.path))}: {'read' if read.said is not None else 'not there'}"


def _clean(text: str) -> str:
    return printable(redact_text(text))
