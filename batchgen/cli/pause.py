"""`batchgen pause`: submit nothing more until `unpause`."""

from contextlib import closing

import click

from batchgen.cli import common
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
        closing(common.open_to_change(db, allow_network_fs=allow_network_fs)) as database,
        database.transaction() as tx,
    ):
        known = common.account_of(tx, name)
        accounts.set_paused(tx, known, paused=paused)
        live = common.living(tx, database)
    was = known.paused
    if as_json:
        common.print_json(
            {"account": name, "paused": paused, "was_paused": was, "live_workers": live}
        )
        return
    already = " already" if was == paused else ""
    told = ""
    if was != paused:
        words = ("stops submitting", "stop submitting") if paused else ("goes on", "go on")
        told = common.follow(live, *words)
    click.echo(f"account {name} is {'' if paused else 'not '}paused{already}{told}", err=True)
