from collections import Counter

import pytest

from batchgen.cli.ending import judge
from batchgen.domain.errors import Exit
from batchgen.domain.states import JobState
from batchgen.runner.limits import Held, Reason
from batchgen.runner.loop import Outcome

S, F, C, E = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED
D, R, L, P = JobState.IN_DOUBT, JobState.RUNNING, JobState.DOWNLOADING, JobState.PENDING


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        pytest.param([], [Exit.SUCCESS], id="nothing-to-do"),
        pytest.param([S, S], [Exit.SUCCESS], id="all-succeeded"),
        pytest.param([S, F], [Exit.SOME_FAILED], id="one-failed"),
        pytest.param([S, C], [Exit.SOME_FAILED], id="one-cancelled"),
        pytest.param([S, E], [Exit.SOME_FAILED], id="one-expired"),
        pytest.param([S, R], [Exit.SOME_FAILED], id="one-past-its-timeout"),
        pytest.param([S, L], [Exit.SOME_FAILED], id="one-not-on-disk"),
        pytest.param([S, P], [Exit.SOME_FAILED], id="one-waits-for-no-reason"),
        pytest.param([F, C, E], [Exit.ALL_FAILED], id="none-succeeded"),
        pytest.param([F, R], [Exit.SOME_FAILED], id="failed-and-running"),
        pytest.param([F, P], [Exit.SOME_FAILED], id="failed-and-waiting"),
        pytest.param([D], [Exit.IN_DOUBT], id="only-doubts"),
        pytest.param([S, D, F], [Exit.IN_DOUBT, Exit.SOME_FAILED], id="doubts-before-failures"),
        pytest.param([D, F], [Exit.IN_DOUBT, Exit.ALL_FAILED], id="doubts-and-only-failures"),
    ],
)
def test_the_jobs_in_scope_decide(states: list[JobState], expected: list[Exit]) -> None:
    reasons = judge(Outcome(), Counter(states), download=True, limited=False)

    assert [reason.exit_code for reason in reasons] == expected


@pytest.mark.parametrize(
    ("met", "states", "expected"),
    [
        ([Exit.HALTED], [S, P], [Exit.HALTED]),
        ([Exit.BUDGET], [S, P], [Exit.BUDGET]),
        ([Exit.BUDGET, Exit.TOKEN], [P], [Exit.TOKEN, Exit.BUDGET]),
        ([Exit.HALTED, Exit.UNREACHABLE], [P], [Exit.UNREACHABLE, Exit.HALTED]),
        ([Exit.SIGINT], [S, D], [Exit.SIGINT, Exit.IN_DOUBT]),
        ([Exit.SIGTERM, Exit.OUTPUT], [L], [Exit.OUTPUT, Exit.SIGTERM, Exit.SOME_FAILED]),
        ([Exit.NO_BALANCE], [F, F], [Exit.NO_BALANCE, Exit.ALL_FAILED]),
    ],
)
def test_what_the_session_met_comes_in_the_order_of_the_contract(
    met: list[Exit], states: list[JobState], expected: list[Exit]
) -> None:
    outcome = Outcome([Reason(code, code.name) for code in met])

    reasons = judge(outcome, Counter(states), download=True, limited=False)

    assert [reason.exit_code for reason in reasons] == expected


def test_a_held_model_is_a_reason_too() -> None:
    outcome = Outcome([Held(Exit.HALTED, "unknown model")])

    assert judge(outcome, Counter([S, P]), download=True, limited=False)[0].exit_code == 9


def test_without_downloads_a_paid_clip_is_good_enough() -> None:
    reasons = judge(Outcome(), Counter([L, L]), download=False, limited=False)

    assert [reason.exit_code for reason in reasons] == [Exit.SUCCESS]


def test_a_limit_may_leave_jobs_waiting() -> None:
    reasons = judge(Outcome(), Counter([S, P]), download=True, limited=True)

    assert [reason.exit_code for reason in reasons] == [Exit.SUCCESS]


def test_jobs_that_a_limit_left_are_named() -> None:
    outcome = Outcome()
    tally = Counter({JobState.SUCCEEDED: 3, JobState.PENDING: 5})

    [reason] = judge(outcome, tally, download=True, limited=True)

    assert reason.exit_code is Exit.SUCCESS
    assert "5 left waiting by --limit" in reason.message
