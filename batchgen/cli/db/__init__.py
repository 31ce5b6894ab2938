"""`batchgen db`: what is done to the job database itself; one module a command."""

import click

from batchgen.cli.lazy import LazyGroup

COMMANDS = {
    "check": "Check the file, its counters and money, and with --clips the clips on disk.",
    "upgrade": "Bring the schema to this version, after a copy.",
    "backup": "Copy the job database while it is in use.",
    "copy": "Move the job database to another: from a file to PostgreSQL, or back.",
    "rebuild": "Make a lost job database anew from its exports.",
    "prune": "Drop raw answers and events of old jobs, that nobody needs to keep.",
    "vacuum": "Give back the space of what was dropped.",
}
"""Every command with its line of help, in the order of use."""


@click.group("db", cls=LazyGroup, table=COMMANDS, package="batchgen.cli.db", path=("db",))
def command() -> None:
    """Check, copy, rebuild, shrink or upgrade the job database."""
