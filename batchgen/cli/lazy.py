"""Groups whose commands live in modules that are imported on use."""

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from batchgen.cli import completing, configured


class LazyGroup(click.Group):
    """Imports a command when it is used, and gives its options what is configured.

    Args:
        table: Every command with its line of help, in the order of use.
        package: Where each has a module of its name, with `command` in it.
        path: The group's name after those of the groups that it is in; none for the program.
    """

    def __init__(
        self,
        *arguments: Any,
        table: Mapping[str, str],
        package: str,
        path: tuple[str, ...] = (),
        **others: Any,
    ) -> None:
        super().__init__(*arguments, **others)
        self._table = table
        self._package = package
        self._path = path

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
            completing.attach(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table: asking each command for its help would import them all."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._table.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Return what begins with what is typed; as with help, from the table."""
        found = [
            CompletionItem(name, help=text)
            for name, text in self._table.items()
            if name.startswith(incomplete)
        ]
        return found or click.Command.shell_complete(self, ctx, incomplete)
