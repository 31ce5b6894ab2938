import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.halting import NEVER_HALTS, Halting, Share, parse_halting


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", Halting()),
        ("streak=3", Halting(streak=3)),
        ("moderated=1", Halting(moderated=1)),
        ("soon,fail=5", Halting(soon=Share(5))),
        ("soon,fail=100%", Halting(soon=Share(100, is_percent=True))),
        ("now,fail=2 streak=4", Halting(streak=4, now=Share(2))),
        ("now,fail=1% soon,fail=3 moderated=9", Halting(10, 9, Share(3), Share(1, True))),
        ("streak=4 streak=6", Halting(streak=6)),
        ("never", NEVER_HALTS),
    ],
)
def test_each_kind_overrides_its_own_default(said: str, meant: Halting) -> None:
    assert parse_halting(said.split()) == meant


WRONG = {
    "": "none of streak=N",
    "nonsense": "none of streak=N",
    "streak": "at least 1",
    "streak=": "at least 1",
    "streak=0": "at least 1",
    "streak=-1": "at least 1",
    "streak=1.5": "at least 1",
    "streak=\u00b2": "at least 1",
    "streak=9999999999": "at least 1",
    "streak=10%": "at least 1",
    "moderated=0": "at least 1",
    "soon,fail=0": "at least 1",
    "soon,fail=0%": "from 1 to 100",
    "soon,fail=101%": "from 1 to 100",
    "now,fail=2.5%": "from 1 to 100",
    "now,fail=%": "from 1 to 100",
    "now,fail": "at least 1",
    "fail=2": "none of streak=N",
    "later,fail=2": "none of streak=N",
    "soon,success=1": "none of streak=N",
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_unknown_or_out_of_bounds_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=WRONG[said]):
        parse_halting([said])


@pytest.mark.parametrize("other", ["streak=3", "now,fail=1"])
def test_never_stands_alone(other: str) -> None:
    with pytest.raises(ValueError, match="never switches every halt off"):
        parse_halting([other, "never"])


@given(st.integers(1, 100), st.integers(0, 10**6))
def test_a_percentage_is_the_fewest_jobs_that_make_it_up(percent: int, jobs: int) -> None:
    needed = Share(percent, is_percent=True).of(jobs)

    assert 1 <= needed <= max(1, jobs)
    assert needed * 100 >= jobs * percent
    assert needed == 1 or (needed - 1) * 100 < jobs * percent
