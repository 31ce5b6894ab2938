"""Alembic's environment: migrate over the connection that batchgen hands in.

For developers: `alembic -x url=sqlite:///some.db upgrade head`, or with a PostgreSQL URL.
"""

from contextlib import closing

from alembic import context

from batchgen.store.database import Database
from batchgen.store.schema import metadata


def run() -> None:
    """Run the migrations inside the caller's transaction, or in one of our own."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    url = context.get_x_argument(as_dictionary=True).get("url", "sqlite:///batchgen.db")
    with closing(Database(url)) as database, database.changing_schema() as tx:
        _migrate(tx.connection)


def _migrate(connection: object) -> None:
    context.configure(
        connection=connection,  # type: ignore[arg-type]
        target_metadata=metadata,
        render_as_batch=True,  # SQLite changes a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


run()
