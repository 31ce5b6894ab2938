"""The tables of the job database, as SQLAlchemy Core sees them.

Money is integer micro-dollars (`…_micros`), times are epoch milliseconds in UTC (`…_ms`).
Every predicate of a partial index is written with literals: SQLite proves the use of a
partial index when it prepares a statement, so a bound parameter would never match it.

A new file is made from `tables.sql`, since to load this takes longer than all the rest. After a
change: `python -m batchgen.store.schema > batchgen/store/tables.sql`; a test compares the two.
"""

import sys

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from batchgen.domain.states import AttemptState, JobState
from batchgen.store.predicates import is_live, is_lost, is_owned, is_paid

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives an alias of the rowid, hence fast inserts, only to INTEGER PRIMARY KEY.
_Id = BigInteger().with_variant(Integer, "sqlite")


def _one_of(states: type[JobState] | type[AttemptState]) -> str:
    return "state IN ({})".format(", ".join(f"'{state}'" for state in states))


job_database = Table(  # one row: the facts of the job database itself
    "job_database",
    metadata,
    Column("id", Text, primary_key=True),  # random, the same in every copy
    Column("stepped_back", Text),  # who missed what; while it is set, nobody submits
    Column("stamp", Text, nullable=False, server_default=""),  # of the server; SQLite has none
    Column("new_stamp", Text),  # seen instead of it
    Column("quiet_until_ms", BigInteger),  # nobody submits before, because of `new_stamp`
    Column("moved_to", Text),  # where the jobs are now; while it is set, nothing is bought here
    Column("copying", Text),  # JSON: what a copy to here has yet to bring; NULL: it is whole
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("origin", Text),  # of the API; fixed by the first run
    Column("token_hash", Text),
    Column("cap", Integer, nullable=False, server_default="4"),  # jobs in flight, all workers
    Column("empty_ms", BigInteger),  # when the token bucket of submits was last empty
    Column("frozen_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    Column("rate_per_s", Float),  # submits, all workers; NULL: as fast as slots are free
    Column("auto_max", Integer),  # `-j auto` moves the cap up to this; NULL: the cap is fixed
    Column("adapting", Text),  # JSON: what `-j auto` has learned of the service's limits
    UniqueConstraint("provider", "name"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("source", Text, nullable=False),  # absolute path of the newest manifest
    Column("columns", Text, nullable=False),  # JSON list: the manifest's columns in order
    Column("schemas", Text, nullable=False),  # JSON: model id -> input schema it was checked with
    Column("output_dir", Text, nullable=False),
    Column("name_template", Text, nullable=False),
    Column("budget_micros", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("uploads", Text),  # where local input files are uploaded to; NULL: nowhere
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),  # live | dead
    Column("started_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("mark", Text),  # of its newest transaction, where COMMIT may get no answer
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("batch_id", ForeignKey("batches.id"), nullable=False),
    Column("key", Text, nullable=False),  # unique by `job_keys`
    Column("row_id", Text, nullable=False),
    Column("has_id", Boolean, nullable=False),
    Column("variant_kind", Text, nullable=False),  # "" | seed | take
    Column("variant", Text, nullable=False),
    Column("position", BigInteger, nullable=False),  # row order of the newest manifest
    Column("version", Integer, nullable=False, server_default="1"),
    Column("model", Text, nullable=False),
    Column("inputs", Text, nullable=False),  # JSON, typed, as sent
    Column("input_hash", Text, nullable=False),
    Column("cells", Text, nullable=False),  # JSON: the row's own columns
    Column("seed", BigInteger),  # the seed that is sent, if one is
    Column("name", Text, nullable=False),  # reserved file name, relative to the output folder
    Column("name_folded", Text, nullable=False),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("not_before_ms", BigInteger, nullable=False, server_default="0"),
    Column("est_micros", BigInteger),
    Column("state", Text, nullable=False),
    Column("owner", Text),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("lease_ms", BigInteger),
    Column("attempt_id", Text),  # the newest attempt
    Column("retries_used", Integer, nullable=False, server_default="0"),
    Column("remote_state", Text),
    Column("queue_position", Integer),
    Column("urls", Text),  # JSON list of output URLs
    Column("files", Text),  # JSON list of clips: path, url, sha256, size_bytes
    Column("error_class", Text),
    Column("error", Text),
    Column("updated_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("settings", Text),  # JSON: the inputs that decide price and time
    Column("policy_retries_used", Integer, nullable=False, server_default="0"),
    Column("unfit", Boolean, nullable=False, server_default=text("false")),  # failed by a probe
    UniqueConstraint("batch_id", "row_id", "variant_kind", "variant"),
    CheckConstraint(_one_of(JobState), name="state"),
    Index(
        "ix_jobs_pending",
        "priority",
        "not_before_ms",
        "id",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index(
        "ix_jobs_owned",
        "owner",
        "id",
        sqlite_where=text(is_owned()),
        postgresql_where=text(is_owned()),
    ),
    Index(
        "ix_jobs_in_doubt",
        "id",
        sqlite_where=text("state = 'in_doubt'"),
        postgresql_where=text("state = 'in_doubt'"),
    ),
    Index(  # of pending ones too, a million new jobs would take a fifth longer
        "ix_jobs_paid_inputs",
        "input_hash",
        sqlite_where=text(is_paid()),
        postgresql_where=text(is_paid()),
    ),
    Index(
        "ix_jobs_lost",
        "batch_id",
        "state",
        "error_class",
        sqlite_where=text(is_lost()),
        postgresql_where=text(is_lost()),
    ),
    Index("ix_jobs_position", "batch_id", "position"),
    Index("ix_jobs_name", "name_folded"),
)

# Keys are random: an index of `jobs` would be written all over with every few new rows. Here a
# large manifest's are stored in their own order, many at a time.
job_keys = Table(
    "job_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job_id", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),  # sorts by time
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("no", Integer, nullable=False),  # 1, 2, … of the job
    Column("job_version", Integer, nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("batch_id", ForeignKey("batches.id"), nullable=False),
    Column("worker_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("inputs", Text, nullable=False),  # JSON, what was sent; of files what jobs keep
    Column("input_hash", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("extra", Boolean, nullable=False, server_default=text("false")),
    Column("request_id", Text),
    Column("est_micros", BigInteger, nullable=False, server_default="0"),
    Column("cost_micros", BigInteger),  # as stated by the service
    Column("charged_micros", BigInteger),  # what spending counts: stated or estimated
    Column("intent_ms", BigInteger, nullable=False),
    Column("accepted_ms", BigInteger),
    Column("started_ms", BigInteger),  # first seen in progress
    Column("closed_ms", BigInteger),
    Column("run_ms", BigInteger),  # the generation as the service states it
    Column("slot_until_ms", BigInteger),  # NULL: holds its slot while live
    Column("http_status", Integer),
    Column("error_class", Text),
    Column("error_code", Text),
    Column("error", Text),
    Column("resolution", Text),  # what a person did about a doubt
    Column("submit_raw", Text),
    Column("status_raw", Text),
    Column("result_raw", Text),
    Column("settings", Text),  # as of the job when it was sent
    Column("cancel_ms", BigInteger),  # when a person asked the service to cancel it
    UniqueConstraint("job_id", "no"),
    UniqueConstraint("account_id", "request_id"),
    CheckConstraint(_one_of(AttemptState), name="state"),
    Index(
        "ix_attempts_one_live",
        "job_id",
        unique=True,
        sqlite_where=text(f"{is_live()} AND NOT extra"),
        postgresql_where=text(f"{is_live()} AND NOT extra"),
    ),
    Index(  # what finished jobs of a model took and cost, the newest first
        "ix_attempts_closed",
        "account_id",
        "model",
        "id",
        sqlite_where=text("state IN ('succeeded', 'failed')"),
        postgresql_where=text("state IN ('succeeded', 'failed')"),
    ),
    Index(
        "ix_attempts_live",
        "account_id",
        "batch_id",
        sqlite_where=text(is_live()),
        postgresql_where=text(is_live()),
    ),
)

prices = Table(  # what the service's catalog said last
    "prices",
    metadata,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("unit_micros", BigInteger, nullable=False),
    Column("unit", Text, nullable=False),  # second | output
    Column("seen_ms", BigInteger, nullable=False),
)

imports = Table(  # a large manifest while it is stored, in many transactions
    "imports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("batch_id", ForeignKey("batches.id"), nullable=False),
    Column("batch_is_new", Boolean, nullable=False),  # hidden too, and removed with the import
    Column("after_job_id", BigInteger, nullable=False),  # jobs above it are hidden
    Column("started_ms", BigInteger, nullable=False),
)

probes = Table(  # what input URLs answered
    "probes",
    metadata,
    Column("url_hash", Text, primary_key=True),  # of the URL; signed ones are not kept
    Column("seen_ms", BigInteger, nullable=False),
    Column("problem", Text),  # a code; NULL: it answered with a file
    Column("said", Text),  # more about the problem, without secrets
    Column("http_status", Integer),
    Column("content_type", Text),
    Column("size_bytes", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
)

spending = Table(
    "spending",
    metadata,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("worker_id", Text, primary_key=True),  # sharded: finishing never meets the gate row
    Column("spent_micros", BigInteger, nullable=False),
)

counters = Table(
    "counters",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("state", Text, primary_key=True),
    Column("jobs", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("worker_id", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("exit_code", Integer),
    Column("reasons", Text),
)

events = Table(
    "events",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("job_id", BigInteger, index=True),
    Column("attempt_id", Text),
    Column("worker_id", Text),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", Text),  # JSON
)


def script() -> str:
    """Return what makes the tables in an empty file: statements, each with its semicolon."""
    dialect = sqlite.dialect()
    made: list[str] = []
    for table in metadata.sorted_tables:
        made.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        made += [str(CreateIndex(index).compile(dialect=dialect)) for index in indexes]
    lines = [line.rstrip() for one in made for line in f"{one.strip()};".splitlines()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(script())
