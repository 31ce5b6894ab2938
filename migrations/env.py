"""Alembic's environment: migrate over the connection that batchgen hands in.

For developers: `alembic -x url=sqlite:///some.db upgrade head`.
"""

from alembic import context
from sqlalchemy import create_engine

from batchgen.store.schema import metadata


def run() -> None:
    """Run the migrations inside the caller's transaction, or in one of our own."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    url = context.get_x_argument(as_dictionary=True).get("url", "sqlite:///batchgen.db")
    with create_engine(url).begin() as own:
        _migrate(own)


def _migrate(connection: object) -> None:
    context.configure(
        connection=connection,  # type: ignore[arg-type]
        target_metadata=metadata,
        render_as_batch=True,  # SQLite changes a table by copying it
    )
    with context.begin_transaction():
        context.run_migrations()


run()
