"""What lost jobs are found by, where local inputs are uploaded, and where a database went.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


_LOST = sa.text("state IN ('cancelled', 'expired', 'failed')")


def upgrade() -> None:
    op.create_index(
        "ix_jobs_lost",
        "jobs",
        ["batch_id", "state", "error_class"],
        sqlite_where=_LOST,
        postgresql_where=_LOST,
    )
    op.add_column("batches", sa.Column("uploads", sa.Text(), nullable=True))
    op.add_column("job_database", sa.Column("moved_to", sa.Text(), nullable=True))
    op.add_column("job_database", sa.Column("copying", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("job_database", "copying")
    op.drop_column("job_database", "moved_to")
    op.drop_column("batches", "uploads")
    op.drop_index("ix_jobs_lost", "jobs")
