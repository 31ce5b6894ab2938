"""Whether a job database was restored from an older copy: noticed before anything is paid."""

from collections.abc import Callable, Sequence
from pathlib import Path

from batchgen.runner.clocks import wall_ms
from batchgen.settings import state_folder
from batchgen.store import journal, step_back
from batchgen.store.database import Database
from batchgen.store.journal import Journal
from batchgen.store.step_back import Identity, SteppedBack, Witness
from batchgen.store.transactions import Transaction


def folder_of(identity: Identity) -> Path | None:
    """Return where this host's journals of a job database lie; None if there is no home."""
    home = state_folder()
    return None if home is None else journal.folder_of(home, identity.id)


def witnesses_of(database: Database) -> tuple[Witness, ...]:
    """Return the newest purchases that this host has written down, oldest first.

    To be read before the snapshot that they are looked for in: others go on buying.
    """
    with database.reading() as tx:
        folder = folder_of(step_back.identity(tx))
    if folder is None:
        return ()
    try:
        return journal.newest_of(journal.path_of(folder))
    except OSError:  # a run says so; whoever only looks need not
        return ()


def missed(tx: Transaction, witnesses: Sequence[Witness]) -> str | None:
    """Return who missed which purchase in a job database, None if all is well."""
    said = step_back.identity(tx).stepped_back
    if said is not None:
        return said
    lost = step_back.missing(tx, witnesses)
    return step_back.said_of(lost[-1]) if lost else None


def begin_journal(database: Database, *, say: Callable[[str], None]) -> Journal:
    """Open this host's journal of a job database; say so once if there can be none."""
    with database.reading() as tx:
        identity, newest = step_back.identity(tx), step_back.newest(tx)
    folder = folder_of(identity)
    if folder is None:
        say(f"warning: no folder for {_PURPOSE}: set HOME or XDG_STATE_HOME")
        return Journal()
    try:
        return Journal.begin(folder, after=newest, say=say)
    except OSError as error:
        say(f"warning: {folder} cannot be written ({error.strerror}): it is for {_PURPOSE}")
        return Journal()


_PURPOSE = "noticing a job database that was restored from an older copy"


def refuse(database: Database, *, declare: bool) -> None:
    """Refuse to pay from a job database that lacks purchases.

    Args:
        database: Opened and current.
        declare: Whether others are to be stopped too.

    Raises:
        SteppedBack: If it does.
    """
    witnesses = witnesses_of(database)
    with database.reading() as tx:
        said = missed(tx, witnesses)
        lost = step_back.missing(tx, witnesses)
    if said is None:
        return
    if lost and declare:
        with database.transaction() as tx:
            step_back.declare(tx, lost[-1], now_ms=wall_ms())
    raise SteppedBack(step_back.explain(said))
