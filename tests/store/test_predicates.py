"""What partial indices hold, and that a write pays next to nothing for them."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from batchgen.domain.states import LIVE_ATTEMPTS, LOST, OWNED, PAID, AttemptState, JobState
from batchgen.store import predicates, schema


@pytest.fixture
def file() -> Iterator[sqlite3.Connection]:
    """The tables of a job database, empty."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(Path(schema.__file__).with_name("tables.sql").read_text("utf-8"))
        yield made


@pytest.mark.parametrize(
    ("predicate", "states", "all_states"),
    [
        (predicates.is_owned, OWNED, JobState),
        (predicates.is_lost, LOST, JobState),
        (predicates.is_paid, PAID, JobState),
        (predicates.is_live, LIVE_ATTEMPTS, AttemptState),
    ],
)
@pytest.mark.parametrize("of", ["", "x"])
def test_a_predicate_is_true_of_its_states_only(
    file: sqlite3.Connection,
    predicate: Callable[[str], str],
    states: frozenset[str],
    all_states: type[JobState] | type[AttemptState],
    of: str,
) -> None:
    file.execute("CREATE TABLE some (state TEXT)")
    file.executemany("INSERT INTO some VALUES (?)", [(state,) for state in all_states])

    chosen, none = (
        file.execute(f"SELECT state FROM some x WHERE 1 = {one} AND {predicate(of)}").fetchall()
        for one in (1, 0)
    )

    assert {state for (state,) in chosen} == states
    assert none == []  # whatever stands beside it


@pytest.mark.parametrize("table", ["jobs", "attempts"])
@pytest.mark.parametrize(
    "write",
    [
        "UPDATE {table} SET state = 'failed' WHERE id = 1",
        "INSERT INTO {table} (id, state) VALUES (1, 'pending')",
        "DELETE FROM {table} WHERE id = 1",
    ],
)
def test_no_index_has_a_write_build_a_table_first(
    file: sqlite3.Connection, table: str, write: str
) -> None:
    file.execute("PRAGMA ignore_check_constraints = ON")  # they name all states there are

    program = [row[1] for row in file.execute(f"EXPLAIN {write.format(table=table)}")]

    assert {"IdxInsert", "IdxDelete"} & set(program)
    assert "OpenEphemeral" not in program


def test_jobs_that_succeeded_are_not_read_in_the_order_of_their_hashes(
    file: sqlite3.Connection,
) -> None:
    plan = file.execute("EXPLAIN QUERY PLAN SELECT * FROM jobs WHERE state = 'succeeded'")

    assert [row[3] for row in plan] == ["SCAN jobs"]
