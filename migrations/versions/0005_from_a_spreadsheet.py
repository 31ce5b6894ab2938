"""What a manifest's way in needs: imports in many transactions, probes of input URLs.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


_PAID = sa.text(
    "state IN ('downloading', 'expired', 'in_doubt', 'running', 'submitting', 'succeeded')"
)


def upgrade() -> None:
    op.drop_index("ix_jobs_input_hash", "jobs")
    op.create_index(
        "ix_jobs_paid_inputs",
        "jobs",
        ["input_hash"],
        sqlite_where=_PAID,
        postgresql_where=_PAID,
    )
    op.add_column(
        "jobs", sa.Column("unfit", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.create_table(
        "imports",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch_is_new", sa.Boolean(), nullable=False),
        sa.Column("after_job_id", sa.BigInteger(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_imports_batch_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imports")),
    )
    op.create_table(
        "probes",
        sa.Column("url_hash", sa.Text(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("said", sa.Text(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("url_hash", name=op.f("pk_probes")),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_paid_inputs", "jobs")
    op.create_index("ix_jobs_input_hash", "jobs", ["input_hash"])
    op.drop_table("probes")
    op.drop_table("imports")
    op.drop_column("jobs", "unfit")
