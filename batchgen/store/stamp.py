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

_UNTOLD = ("42", "0A", "55000")
"""No right or no such function, not supported, a standby. After anything else the transaction
cannot go on, and nobody knows which server answers: no claim may take that for no stamp."""


def stamp_of(tx: Transaction) -> str:
    """Return `SYSTEM/TIMELINE`; "" if there is no server, or it does not tell this role.

    Raises:
        DBAPIError: If the server does not answer.
    """
    if not tx.is_postgresql:
        return ""
    from sqlalchemy.exc import DBAPIError  # a server is reached by it; a file need not be

    try:
        # A savepoint: an error would spoil the whole transaction.
        with tx.connection.begin_nested():
            return str(tx.value(_STAMP))
    except DBAPIError as error:
        state = str(getattr(error.orig, "sqlstate", None) or "")
        if error.connection_invalidated or not state.startswith(_UNTOLD):
            raise
        return ""
