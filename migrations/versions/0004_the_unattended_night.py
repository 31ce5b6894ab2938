"""What an unattended night needs: rates, limits that adapt, prices, settings, cancellations.

Revision: 0004, after 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_CLOSED = sa.text("state IN ('succeeded', 'failed')")


def upgrade() -> None:
    # Nothing ever wrote these two; a rate may be less than one a second.
    op.execute("ALTER TABLE accounts DROP COLUMN rate_per_s")
    op.execute("ALTER TABLE accounts DROP COLUMN refusals")
    op.add_column("accounts", sa.Column("rate_per_s", sa.Float(), nullable=True))
    op.add_column("accounts", sa.Column("auto_max", sa.Integer(), nullable=True))
    op.add_column("accounts", sa.Column("adapting", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("settings", sa.Text(), nullable=True))
    op.add_column(
        "jobs",
        sa.Column("policy_retries_used", sa.Integer(), server_default="0", nullable=False),
    )
    op.add_column("attempts", sa.Column("settings", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("cancel_ms", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_attempts_closed",
        "attempts",
        ["account_id", "model", "id"],
        sqlite_where=_CLOSED,
        postgresql_where=_CLOSED,
    )
    op.create_table(
        "prices",
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("unit_micros", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_prices_account_id")),
        sa.PrimaryKeyConstraint("account_id", "model", name=op.f("pk_prices")),
    )


def downgrade() -> None:
    op.drop_table("prices")
    op.drop_index("ix_attempts_closed", "attempts")
    op.drop_column("attempts", "cancel_ms")
    op.drop_column("attempts", "settings")
    op.drop_column("jobs", "policy_retries_used")
    op.drop_column("jobs", "settings")
    op.drop_column("accounts", "adapting")
    op.drop_column("accounts", "auto_max")
    op.drop_column("accounts", "rate_per_s")
    op.add_column("accounts", sa.Column("rate_per_s", sa.Integer(), nullable=True))
    op.add_column(
        "accounts", sa.Column("refusals", sa.Integer(), server_default="0", nullable=False)
    )
