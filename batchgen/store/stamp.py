"""The stamp of a database server: it changes when another server, or its past, takes over.

SQLite has no server, so no stamp. On PostgreSQL it is the cluster's identity and its
timeline: a promoted replica and a restored backup begin a new timeline.
"""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from batchgen.store.database import Transaction

_SYSTEM = text("SELECT system_identifier FROM pg_control_system()")
_TIMELINE = text("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")


def stamp_of(tx: Transaction) -> str:
    """Return `SYSTEM/TIMELINE`; "" if there is no server, or it does not tell this role."""
    if not tx.is_postgresql:
        return ""
    try:
        # A savepoint: an error would spoil the whole transaction.
        with tx.connection.begin_nested():
            return f"{tx.value(_SYSTEM)}/{tx.value(_TIMELINE)}"
    except DBAPIError:
        return ""
