"""Groups whose commands live in modules that are imported on use."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from batchgen.cli import completing, configured
from batchgen.domain.errors import UsageError
from batchgen.domain.spelling import suggestion


class LazyGroup(click.Group):
    """Imports a command when it is used, and gives its options what is configured.

    Args:
        table: Every command with its line of help, in the order of use.
        package: Where each has a module of its name, with `command` in it.
        path: The group's name after those of the groups that it is in; none for the program.
        sections: Under which heading the help shows which commands; None is one for all.
    """

    def __init__(
        self,
        *arguments: Any,
        table: Mapping[str, str],
        package: str,
        path: tuple[str, ...] = (),
        sections: Mapping[str, Sequence[str]] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(*arguments, **others)
        self._table = table
        self._package = package
        self._path = path
        self._sections = {"Commands": list(table)} if sections is None else sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, without an import."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._table:
            return None
        place = f"{self._package}.{cmd_name}"
        command = importlib.import_module(place).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{place} holds no command")
        configured.apply(command, *self._path, cmd_name)
        if completing.is_asked():
            return completing.attached(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for; else say which may be meant."""
        word = args[0]
        if word not in self._table and not word.startswith("-"):
            meant = suggestion(word, self._table)
            program = " ".join(("batchgen", *self._path))
            raise UsageError(f"there is no command {word!r}: {meant}`{program} --help` lists them")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table: asking each command for its help would import them all."""
        for heading, names in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self._table[name]) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Return what begins with what is typed; as with help, from the table."""
        found = [
            CompletionItem(name, help=text)
            for name, text in self._table.items()
            if name.startswith(incomplete)
        ]
        return found or click.Command.shell_complete(self, ctx, incomplete)
