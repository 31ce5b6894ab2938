"""The identity of the job database, so that a step back can be noticed.

Revision: 0003, after 0002
"""

import hashlib
import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "job_database",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("stepped_back", sa.Text(), nullable=True),
        sa.Column("stamp", sa.Text(), server_default="", nullable=False),
        sa.Column("new_stamp", sa.Text(), nullable=True),
        sa.Column("quiet_until_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_database")),
    )
    # Every copy of an old job database gets the same id, whichever is upgraded when. Without a
    # worker nothing was ever bought.
    worker = op.get_bind().scalar(sa.text("SELECT id FROM workers ORDER BY started_ms, id LIMIT 1"))
    made = hashlib.sha256(worker.encode()).hexdigest()[:16] if worker else secrets.token_hex(8)
    op.bulk_insert(table, [{"id": made}])


def downgrade() -> None:
    op.drop_table("job_database")
