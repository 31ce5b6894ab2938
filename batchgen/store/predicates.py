"""Predicates of partial indices: queries that they serve say them in the same words.

None says `IN` of three states or more: each statement that changes a row would have SQLite build
a table of them first, which takes twice as long as all the rest of it.
"""

from collections.abc import Iterable

from batchgen.domain.states import LIVE_ATTEMPTS, LOST, OWNED, PAID, AttemptState, JobState


def _any_of(states: Iterable[JobState | AttemptState], of: str) -> str:
    return "({})".format(" OR ".join(_compared(states, "=", of)))


def _compared(states: Iterable[JobState | AttemptState], how: str, of: str) -> list[str]:
    column = f"{of}.state" if of else "state"
    return [f"{column} {how} '{state}'" for state in sorted(states)]


def is_owned(of: str = "") -> str:
    """Return what is true of jobs that a worker holds; `of` is what the query calls their table."""
    return _any_of(OWNED, of)


def is_lost(of: str = "") -> str:
    """Return what is true of jobs at rest without a clip."""
    return _any_of(LOST, of)


def is_paid(of: str = "") -> str:
    """Return what is true of jobs that are paid for, or may be.

    It names the states that they are not in. From any state of a row of OR, SQLite concludes that
    the index serves: it would read all jobs that succeeded in the order of their hashes.
    """
    return " AND ".join(_compared(frozenset(JobState) - PAID, "<>", of))


def is_live(of: str = "") -> str:
    """Return what is true of attempts that may yet cost something."""
    return _any_of(LIVE_ATTEMPTS, of)
