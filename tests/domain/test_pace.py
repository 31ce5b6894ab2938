import pytest

from batchgen.domain.pace import Pace


@pytest.mark.parametrize(
    ("ends", "at_s", "jobs", "left_s"),
    [
        pytest.param([], 10, 5, None, id="nothing-has-ended"),
        pytest.param([(10, 1), (20, 2)], 20, 5, None, id="two-tell-too-little"),
        pytest.param([(10, 1), (20, 2), (30, 3)], 30, 6, 60.0, id="one-in-ten-seconds"),
        pytest.param([(10, 1), (20, 2), (30, 3)], 60, 6, 120.0, id="it-stands-still-since"),
        pytest.param([(30, 3)], 30, 0, 0.0, id="nothing-is-left"),
        pytest.param([(10, 4), (20, 3)], 20, 3, 20.0, id="one-was-taken-back"),
        # 100 within the first 100 s, then one in ten seconds: the last fifty tell.
        pytest.param(
            [*((at, at) for at in range(1, 101)), *((100 + 10 * n, 100 + n) for n in range(1, 61))],
            700,
            10,
            100.0,
            id="only-the-newest-count",
        ),
        # 3000 in the last minute are more than fifty ends.
        pytest.param(
            [(at, at) for at in range(1, 101)] + [(100 + n, 100 + 50 * n) for n in range(1, 101)],
            200,
            500,
            10.0,
            id="at-least-a-minute",
        ),
    ],
)
def test_what_is_left_follows_the_newest_ends(
    ends: list[tuple[float, int]], at_s: float, jobs: int, left_s: float | None
) -> None:
    pace = Pace(0.0)
    for when_s, count in ends:
        pace.note(when_s, count)

    found = pace.left_s(at_s, jobs)

    assert found == (None if left_s is None else pytest.approx(left_s, rel=0.03))
