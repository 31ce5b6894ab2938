"""The stamp of a database server: it changes when another server, or its past, takes over.

SQLite has no server, so no stamp. On PostgreSQL it is the cluster's identity and its
timeline: a promoted replica and a restored backup begin a new timeline.
"""

from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_STAMP = text(  # in one question: a claim asks it with the gate locked
    "SELECT system_identifier || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) "
    "FROM pg_control_system()"
)


def stamp_of(tx: Transaction) -> str:
    """Return `SYSTEM/TIMELINE`; "" if there is no server, or it does not tell this role."""
    if not tx.is_postgresql:
        return ""
    from sqlalchemy.exc import DBAPIError  # a server is reached by it; a file need not be

    try:
        # A savepoint: an error would spoil the whole transaction.
        with tx.connection.begin_nested():
            return str(tx.value(_STAMP))
    except DBAPIError:
        return ""
