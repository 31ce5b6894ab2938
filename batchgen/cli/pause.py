"""`batchgen pause`: submit nothing more until `unpause`."""

from contextlib import closing

import click

from batchgen.cli import common
from batchgen.domain.errors import UsageError
from batchgen.store import accounts


@click.command("pause")
@common.account_option
@common.json_option
@common.db_option
def command(*, account: str, db: str | None, allow_network_fs: bool, as_json: bool) -> None:
    """Submit no job of an account any more, until `batchgen unpause`.

    Live runs finish what is paid for and wait; a new run ends at once, with exit code 9.
    """
    change(account, paused=True, db=db, allow_network_fs=allow_network_fs, as_json=as_json)


def change(
    name: str, *, paused: bool, db: str | None, allow_network_fs: bool, as_json: bool
) -> None:
    """Pause or unpause an account, and say so.

    Raises:
        StoreError: If there is no job database.
        UsageError: If it has no such account.
    """
    with (
        closing(common.open_database(db, allow_network_fs=allow_network_fs)) as database,
        database.transaction() as tx,
    ):
        known = {account.name: account for account in accounts.every(tx)}
        if name not in known:
            raise UsageError(
                f"this job database has no account {name!r}; its accounts are: "
                f"{', '.join(known) or 'none'}"
            )
        accounts.set_paused(tx, known[name], paused=paused)
    was = known[name].paused
    if as_json:
        common.print_json({"account": name, "paused": paused, "was_paused": was})
        return
    already = " already" if was == paused else ""
    click.echo(f"account {name} is {'' if paused else 'not '}paused{already}", err=True)
