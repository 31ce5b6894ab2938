"""A batchgen of the future, which has one more migration."""

import shutil
from pathlib import Path

from batchgen.store import upgrade
from batchgen.store.revision import REVISION

LATER = "9001"
_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{head}"


def upgrade() -> None:
    op.create_table("extras", sa.Column("id", sa.Integer(), primary_key=True))
    op.add_column("accounts", sa.Column("note", sa.Text()))
    op.execute("UPDATE accounts SET note = 'migrated'")
    {after}
"""
_PROGRAM = """
import sys
from pathlib import Path

from batchgen.cli.main import main
from batchgen.store import upgrade

upgrade.migrations_dir = lambda: Path({folder!r})
upgrade.REVISION = {later!r}
main()
"""


def make_migrations(folder: Path) -> Path:
    """Copy the migrations to a folder and add one; return where it lies."""
    shutil.copytree(upgrade.migrations_dir(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "versions" / f"{LATER}_next.py"
    write_migration(path)
    return path


def write_migration(path: Path, after: str = "") -> None:
    """Write the additional migration, with a statement at its end."""
    path.write_text(_MIGRATION.format(head=REVISION, after=after))


def make_program(folder: Path) -> Path:
    """Write that batchgen as a Python program into a folder; return its path."""
    make_migrations(folder / "later")
    path = folder / "later.py"
    path.write_text(_PROGRAM.format(folder=str(folder / "later"), later=LATER))
    return path
