"""`batchgen db copy`: move a job database to another one."""

import socket
from contextlib import ExitStack, closing

import click

from batchgen.cli import common
from batchgen.cli.db.existing import agree
from batchgen.cli.session import say
from batchgen.domain.errors import NoDatabase, StoreError, UsageError
from batchgen.domain.retry import doubt_slot_ms
from batchgen.runner import rescue
from batchgen.runner.clocks import wall_ms
from batchgen.store import accounts, copying, upgrade, workers
from batchgen.store.copying import Copied
from batchgen.store.database import Database
from batchgen.store.revision import REVISION
from batchgen.store.transactions import Transaction


@click.command("copy")
@click.argument("source_url", metavar="SOURCE")
@click.argument("target_url", metavar="TARGET", required=False)
@click.option(
    "--undo",
    is_flag=True,
    help="Let SOURCE go on after all, instead of TARGET; without TARGET if that one is lost.",
)
@click.option("-y", "--yes", is_flag=True, help="Undo without TARGET and without asking.")
@click.option(
    "--allow-network-fs",
    is_flag=True,
    help="Use a job database on a network file system, at your own risk.",
)
@common.json_option
def command(
    *,
    source_url: str,
    target_url: str | None,
    undo: bool,
    yes: bool,
    allow_network_fs: bool,
    as_json: bool,
) -> None:
    """Move the job database SOURCE, with every attempt and event, to TARGET.

    Each is a file or a URL, and TARGET a new file or an empty PostgreSQL database. Ids stay as
    they are, and every row is read back and compared. Nobody may be at work in either. SOURCE
    buys nothing from then on: TARGET is the one to name with --db. Whatever interrupts it, the
    same command goes on, and nobody can use TARGET before it is whole.
    """
    with ExitStack() as stack:

        def opened(url: str) -> Database:
            database = Database(url, allow_network_fs=allow_network_fs)
            return stack.enter_context(closing(database))

        source = opened(source_url)
        _check_source(source)
        target = opened(target_url) if target_url else None
        if undo:
            _undo(source, target, yes=yes, as_json=as_json)
            return
        if target is None:
            raise UsageError("name TARGET too: a new file, or postgresql://USER@HOST/DATABASE")
        _check_target(source, target)
        _refuse_rescued(source)
        copied = copying.copy(
            source,
            target,
            now_ms=wall_ms(),
            slot_ms=_slot_ms,
            say=lambda table: None if as_json else say(f"{table}: there"),
        )
        _show(source, target, copied, as_json=as_json)


def _check_source(source: Database) -> None:
    """Refuse to read what is not a whole job database of this version.

    Raises:
        StoreError: If it is not.
    """
    if not source.exists():
        raise NoDatabase(f"{source.shown}: there is no job database here to be copied")
    found = upgrade.revision_of(source)
    if found == REVISION:
        upgrade.open_current(source)
        return
    if found is None:
        raise StoreError(f"{source.shown}: there is nothing in it to be copied")
    upgrade.refuse_newer(source, found)
    raise StoreError(
        f"{source.shown}: this job database has schema {found}, this version wants {REVISION}: "
        f"run `batchgen db upgrade --db {source.shown}` first"
    )


def _check_target(source: Database, target: Database) -> None:
    """Have the tables there, and not those of the source.

    Raises:
        UsageError: If both are one file.
        StoreError: If there can be none.
    """
    if source.path and target.path and target.path.exists() and source.path.samefile(target.path):
        raise UsageError(f"{target.shown} is {source.shown}: name another job database to copy to")
    target.check_place()
    found = upgrade.schema_of(target)
    if found is None or found.copying is None:
        upgrade.bring_up(target)


def _refuse_rescued(source: Database) -> None:
    """Refuse to leave request ids behind that the job database could not take.

    Raises:
        UsageError: If there are any, or a file of them cannot be read.
    """
    with source.reading() as tx:
        files = rescue.left_behind(tx, source.backend)
    for path in files:
        found = rescue.read(path)
        if found.pairs or found.damaged:
            raise UsageError(
                f"{path} holds request ids that {source.shown} may not know yet: `batchgen "
                f"reconcile --from-rescue {path} --db {source.shown}` takes them in; then copy"
            )
        path.unlink(missing_ok=True)


def _slot_ms(tx: Transaction) -> int:
    longest = [workers.longest_generation_ms(tx, one.id) or 0 for one in accounts.every(tx)]
    return doubt_slot_ms(max(longest, default=0))


def _undo(source: Database, target: Database | None, *, yes: bool, as_json: bool) -> None:
    if target is None:
        agree(
            f"{source.shown} buys again what it does not know: is the job database that it moved "
            "to lost, or was it never used?",
            yes=yes,
        )
    else:
        _check_target(source, target)
    copying.undo(source, target, now_ms=wall_ms())
    if as_json:
        common.print_json(
            {
                "source": source.shown,
                "target": None if target is None else target.shown,
                "undone": True,
                "resumed": False,
                "doubts": 0,
                "tables": [],
            }
        )
        return
    say(f"{source.shown} goes on: it is the one to name with --db")


def _show(source: Database, target: Database, copied: Copied, *, as_json: bool) -> None:
    if as_json:
        common.print_json(
            {
                "source": source.shown,
                "target": target.shown,
                "undone": False,
                "resumed": copied.is_resumed,
                "doubts": copied.doubts,
                "tables": [vars(table) for table in copied.tables],
            }
        )
    for table in () if as_json else copied.tables:
        click.echo(f"{table.name:<12} {table.rows:>10,}  {table.checksum}")
    if not copied.tables:
        say(f"{source.shown} has moved to {target.shown} already: nothing was to be done")
        return
    if copied.doubts:
        say(
            f"{common.plural(copied.doubts, 'job')} of a worker that died came in doubt: they may "
            "have been paid for"
        )
    _tell_of_folders(source, target)
    say(
        f"every row is the same on both sides. {target.shown} is the job database from now on: "
        f"name it with --db or BATCHGEN_DB; {source.shown} says so too, and buys nothing"
    )


def _tell_of_folders(source: Database, target: Database) -> None:
    """Say where relative output folders start from now on."""
    folders = ", ".join(copying.relative_folders(target))
    here, there = source.folder.resolve(), target.folder.resolve()
    if not folders or (here == there and target.path is not None):
        return
    now = str(there) if target.path else "the folder that batchgen is run in"
    say(
        f"the clips are below {here} on {socket.gethostname()}. Their folder ({folders}) is "
        f"relative, and starts from {now} from now on: keep it there, or bring them along"
    )
