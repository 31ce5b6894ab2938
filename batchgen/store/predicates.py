"""Predicates of partial indices: queries that they serve say them in the same words."""

from collections.abc import Iterable

from batchgen.domain.states import LOST, PAID, JobState


def _in(states: Iterable[JobState]) -> str:
    return "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(states)))


IS_PAID = _in(PAID)
"""Jobs that are paid for, or may be."""

IS_LOST = _in(LOST)
"""Jobs at rest without a clip."""
