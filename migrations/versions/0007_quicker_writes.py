"""Partial indices with the same rows, by predicates that cost a write next to nothing.

For `IN` of three states, each statement that changed a row had SQLite build a table of them.

Revision: 0007, after 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


_INDICES = {
    "ix_jobs_owned": ("jobs", ["owner", "id"]),
    "ix_jobs_paid_inputs": ("jobs", ["input_hash"]),
    "ix_jobs_lost": ("jobs", ["batch_id", "state", "error_class"]),
    "ix_attempts_one_live": ("attempts", ["job_id"]),
    "ix_attempts_live": ("attempts", ["account_id", "batch_id"]),
}
_WAS_LIVE = "state IN ('intent', 'accepted', 'in_doubt')"
_WAS = {
    "ix_jobs_owned": "state IN ('submitting', 'running', 'downloading')",
    "ix_jobs_paid_inputs": "state IN "
    "('downloading', 'expired', 'in_doubt', 'running', 'submitting', 'succeeded')",
    "ix_jobs_lost": "state IN ('cancelled', 'expired', 'failed')",
    "ix_attempts_one_live": f"{_WAS_LIVE} AND NOT extra",
    "ix_attempts_live": _WAS_LIVE,
}
_LIVE = "(state = 'accepted' OR state = 'in_doubt' OR state = 'intent')"
_IS = {
    "ix_jobs_owned": "(state = 'downloading' OR state = 'running' OR state = 'submitting')",
    "ix_jobs_paid_inputs": "state <> 'cancelled' AND state <> 'failed' AND state <> 'pending'",
    "ix_jobs_lost": "(state = 'cancelled' OR state = 'expired' OR state = 'failed')",
    "ix_attempts_one_live": f"{_LIVE} AND NOT extra",
    "ix_attempts_live": _LIVE,
}


def _make_again(predicates: dict[str, str]) -> None:
    for name, (table, columns) in _INDICES.items():
        where = sa.text(predicates[name])
        op.drop_index(name, table)
        op.create_index(
            name,
            table,
            columns,
            unique=name == "ix_attempts_one_live",
            sqlite_where=where,
            postgresql_where=where,
        )


def upgrade() -> None:
    _make_again(_IS)


def downgrade() -> None:
    _make_again(_WAS)
