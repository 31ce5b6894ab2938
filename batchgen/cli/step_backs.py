"""Whether a job database was restored from an older copy: looked for by this host's journals."""

from collections.abc import Sequence
from pathlib import Path

from batchgen.settings import state_folder
from batchgen.store import journal, step_back
from batchgen.store.database import Database
from batchgen.store.step_back import Identity, Witness
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
