"""The tables of states: complete, consistent, and a way to rest from everywhere."""

import pytest

from batchgen.domain.states import (
    FINAL,
    LIVE_ATTEMPTS,
    OWNED,
    PAID,
    RUNNER_MOVES,
    USER_MOVES,
    AttemptState,
    JobState,
)


@pytest.mark.parametrize("moves", [RUNNER_MOVES, USER_MOVES], ids=["runner", "user"])
def test_every_state_is_in_the_tables(moves: dict[JobState, frozenset[JobState]]) -> None:
    assert set(moves) == set(JobState)
    assert all(state not in targets for state, targets in moves.items())


def test_the_runner_can_bring_every_job_to_rest() -> None:
    at_rest = {state for state, moves in RUNNER_MOVES.items() if not moves}
    assert at_rest == FINAL
    while grown := {state for state, moves in RUNNER_MOVES.items() if moves & at_rest} - at_rest:
        at_rest |= grown
    assert at_rest == set(JobState)


def test_every_state_can_be_reached() -> None:
    reached = {JobState.PENDING}
    while grown := set().union(*(RUNNER_MOVES[state] for state in reached)) - reached:
        reached |= grown
    assert reached == set(JobState)


def test_a_person_leads_out_of_every_rest_but_touches_nothing_that_is_held() -> None:
    assert all(USER_MOVES[state] for state in FINAL)
    assert not any(USER_MOVES[state] for state in OWNED)


def test_only_a_person_leads_to_another_payment() -> None:
    to_pending = {state for state, moves in RUNNER_MOVES.items() if JobState.PENDING in moves}
    # A refusal was not paid; a failure is retried only where it is known to pass.
    assert to_pending == {JobState.SUBMITTING, JobState.RUNNING}
    assert {JobState.SUCCEEDED, JobState.IN_DOUBT, JobState.EXPIRED} == FINAL & PAID


def test_what_is_held_is_paid_or_about_to_be() -> None:
    assert OWNED < PAID
    assert PAID.isdisjoint({JobState.PENDING, JobState.FAILED, JobState.CANCELLED})


def test_live_attempts_are_those_that_may_still_cost_money() -> None:
    assert {AttemptState.INTENT, AttemptState.ACCEPTED, AttemptState.IN_DOUBT} == LIVE_ATTEMPTS
