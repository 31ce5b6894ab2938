"""`batchgen unpause`: let jobs be submitted again."""

import click

from batchgen.cli import common
from batchgen.cli.pause import change


@click.command("unpause")
@common.account_option
@common.json_option
@common.db_option
def command(*, account: str, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Let the jobs of an account be submitted again: live runs go on by themselves."""
    change(account, paused=False, db=db, allow_network_fs=allow_network_fs, as_json=as_json)
