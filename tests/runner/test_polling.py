import pytest

from batchgen.runner.polling import after_trouble_s, wait_s


@pytest.mark.parametrize(
    ("age_s", "shortest_s", "expected"),
    [
        pytest.param(0, 2, 2, id="young"),
        pytest.param(100, 2, 6, id="a-share-of-its-age"),
        pytest.param(10_000, 2, 30, id="bounded"),
        pytest.param(10_000, 90, 90, id="never-below-what-was-asked"),
        pytest.param(10_000, 0, 0, id="no-wait-at-all"),
    ],
)
def test_looks_get_rarer_as_a_job_grows_old(
    age_s: float, shortest_s: float, expected: float
) -> None:
    assert wait_s(age_s, shortest_s=shortest_s, random=lambda: 0.0) == pytest.approx(expected)


def test_looks_spread_by_a_tenth() -> None:
    assert wait_s(0, shortest_s=2, random=lambda: 1.0) == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("tries", "shortest_s", "expected"),
    [(1, 2, 2), (2, 2, 4), (3, 2, 8), (1, 0, 0.5), (40, 0.05, 60), (5000, 2, 60)],
)
def test_the_wait_after_failed_looks_doubles(
    tries: int, shortest_s: float, expected: float
) -> None:
    assert after_trouble_s(tries, shortest_s=shortest_s) == expected
