"""`batchgen db`: what is done to the job database itself; one module a command."""

import importlib

import click

COMMANDS = {
    "check": "Check the file, its counters and money, and with --clips the clips on disk.",
    "upgrade": "Bring the schema to this version, after a copy.",
    "backup": "Copy the job database while it is in use.",
    "rebuild": "Make a lost job database anew from its exports.",
    "prune": "Drop raw answers and events of old jobs, that nobody needs to keep.",
    "vacuum": "Give back the space of what was dropped.",
}
"""Every command with its line of help, in the order of use."""


class _LazyGroup(click.Group):
    """Imports a command when it is used: `rebuild` brings all that reads manifests."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(f"batchgen.cli.db.{cmd_name}").command
        if not isinstance(found, click.Command):
            raise TypeError(f"batchgen.cli.db.{cmd_name} holds no command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table: asking each command for its help would import them all.
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group("db", cls=_LazyGroup)
def command() -> None:
    """Check, copy, rebuild, shrink or upgrade the job database."""
