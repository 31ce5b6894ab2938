from dataclasses import dataclass

import pytest

from batchgen.runner.lease import Lease


@dataclass
class Clocks:
    steady_s: float = 1000.0
    wall_s: float = 5_000_000.0

    def lease(self) -> Lease:
        return Lease(steady_s=lambda: self.steady_s, wall_s=lambda: self.wall_s)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_a_lease_that_is_never_renewed_lasts_as_long_as_the_process(clocks: Clocks) -> None:
    lease = clocks.lease()
    clocks.steady_s = clocks.wall_s = 1e12

    assert lease.holds()


@pytest.mark.parametrize(
    ("steady_s", "wall_s", "holds"),
    [
        (23, 23, True),
        (25, 25, False),
        (25, 0, False),  # the wall clock was set back
        (0, 25, False),  # the machine slept, and the steady clock with it
        (10, -3600, True),
    ],
)
def test_whichever_clock_says_that_it_has_ended_is_believed(
    clocks: Clocks, steady_s: float, wall_s: float, *, holds: bool
) -> None:
    lease = clocks.lease()
    lease.renewed(lease.asked(), lease_s=30)

    clocks.steady_s += steady_s
    clocks.wall_s += wall_s

    assert lease.holds() is holds


def test_a_lease_counts_from_the_question_not_from_the_answer(clocks: Clocks) -> None:
    lease = clocks.lease()
    asked = lease.asked()
    clocks.steady_s += 40  # the answer took long
    lease.renewed(asked, lease_s=30)

    assert not lease.holds()
    lease.renewed(lease.asked(), lease_s=30)
    assert lease.holds()
