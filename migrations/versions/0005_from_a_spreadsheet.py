"""What a manifest's way in needs: imports in many transactions, probes of input URLs.

Revision: 0005, after 0004
"""

import re
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


_PAID = sa.text(
    "state IN ('downloading', 'expired', 'in_doubt', 'running', 'submitting', 'succeeded')"
)


_UNIQUE_KEY = ', CONSTRAINT uq_jobs_key UNIQUE ("key")'


def _rebuild(change: Callable[[str], str]) -> None:
    """Copy the table `jobs` of a file to one with another definition, as SQLite must."""
    connection = op.get_bind()
    master = "SELECT sql FROM sqlite_master WHERE tbl_name = 'jobs' AND type = '{}' AND sql <> ''"
    [definition] = connection.execute(sa.text(master.format("table"))).scalars()
    indices = connection.execute(sa.text(master.format("index"))).scalars().all()
    _, _, body = definition.partition("(")
    op.execute(f"CREATE TABLE new_jobs ({change(body)}")
    op.execute("INSERT INTO new_jobs SELECT * FROM jobs")
    op.execute("DROP TABLE jobs")
    op.execute("ALTER TABLE new_jobs RENAME TO jobs")
    for index in indices:
        op.execute(index)


def _without_unique_key(body: str) -> str:
    changed, count = re.subn(r',\s*CONSTRAINT uq_jobs_key UNIQUE \("?key"?\)', "", body)
    if count != 1:
        raise ValueError(f"the table jobs is not as it was made: {body}")
    return changed


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
    if op.get_bind().dialect.name == "sqlite":
        _rebuild(_without_unique_key)
    else:
        op.drop_constraint("uq_jobs_key", "jobs")
    op.create_table(
        "job_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_job_keys")),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO job_keys SELECT key, id FROM jobs ORDER BY key")
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
    # What an import had hidden would be seen, and paid for.
    op.execute(
        "DELETE FROM jobs WHERE id > "
        "(SELECT coalesce(min(after_job_id), 9223372036854775807) FROM imports)"
    )
    op.execute("CREATE TEMPORARY TABLE hidden AS SELECT batch_id FROM imports WHERE batch_is_new")
    op.execute("DELETE FROM imports")
    op.execute("DELETE FROM batches WHERE id IN (SELECT batch_id FROM hidden)")
    op.execute("DROP TABLE hidden")
    op.drop_index("ix_jobs_paid_inputs", "jobs")
    op.create_index("ix_jobs_input_hash", "jobs", ["input_hash"])
    op.drop_table("probes")
    op.drop_table("imports")
    op.drop_column("jobs", "unfit")
    op.drop_table("job_keys")
    if op.get_bind().dialect.name == "sqlite":
        _rebuild(lambda body: body.rstrip().removesuffix(")").rstrip() + _UNIQUE_KEY + ")")
    else:
        op.create_unique_constraint("uq_jobs_key", "jobs", ["key"])
