"""When submitting ends by the clock."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from batchgen.cli.options import seconds_of
from batchgen.runner.deadline import Deadline, in_words, next_moment

BERLIN = ZoneInfo("Europe/Berlin")


def next_of(at: str, now: str) -> str:
    """Return the next moment in Berlin, in UTC; times are ISO 8601."""
    now_s = datetime.fromisoformat(now).timestamp()
    found_s = next_moment(time.fromisoformat(at), now_s, zone=BERLIN)
    return datetime.fromtimestamp(found_s, UTC).isoformat(timespec="minutes")


@pytest.mark.parametrize(
    ("at", "now", "moment"),
    [
        pytest.param("07:00", "2026-01-15T22:00+01:00", "2026-01-16T06:00+00:00", id="tomorrow"),
        pytest.param("23:00", "2026-01-15T22:00+01:00", "2026-01-15T22:00+00:00", id="today"),
        pytest.param("22:00", "2026-01-15T22:00+01:00", "2026-01-16T21:00+00:00", id="just-now"),
        pytest.param("07:00", "2026-03-28T23:00+01:00", "2026-03-29T05:00+00:00", id="short-night"),
        pytest.param("07:00", "2026-10-24T23:00+02:00", "2026-10-25T06:00+00:00", id="long-night"),
        pytest.param("02:30", "2026-03-28T23:00+01:00", "2026-03-29T01:30+00:00", id="skipped"),
        pytest.param("02:30", "2026-10-24T23:00+02:00", "2026-10-25T00:30+00:00", id="twice"),
        pytest.param("02:30", "2026-10-25T02:45+02:00", "2026-10-25T01:30+00:00", id="second-time"),
        pytest.param("02:30", "2026-10-25T02:45+01:00", "2026-10-26T01:30+00:00", id="after-both"),
    ],
)
def test_a_time_of_day_is_the_next_one_on_the_wall(at: str, now: str, moment: str) -> None:
    assert next_of(at, now) == moment


@given(
    at=some.times(timezones=some.none()).map(lambda at: at.replace(second=0, microsecond=0)),
    now=some.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=some.just(UTC)),  # noqa: DTZ001
    zone=some.sampled_from([BERLIN, ZoneInfo("Asia/Kolkata"), ZoneInfo("Australia/Lord_Howe")]),
)
def test_the_next_moment_is_ahead_and_within_a_day_of_any_length(
    at: time, now: datetime, zone: ZoneInfo
) -> None:
    ahead = timedelta(seconds=next_moment(at, now.timestamp(), zone=zone) - now.timestamp())

    assert timedelta(0) < ahead <= timedelta(hours=25, minutes=1)


@dataclass
class Clocks:
    """Clocks that a test sets; `steady_s` goes on in sleep too."""

    steady_s: float = 50.0
    wall_s: float = 1_000_000.0

    def deadline(self, *, lasts_s: float | None = None, until_s: float | None = None) -> Deadline:
        return Deadline(
            lasts_s, until_s, steady_s=lambda: self.steady_s, wall_s=lambda: self.wall_s
        )


def test_a_duration_goes_on_in_sleep_whatever_the_wall_clock_is_set_to() -> None:
    clocks = Clocks()
    deadline = clocks.deadline(lasts_s=100)

    clocks.steady_s += 99
    clocks.wall_s += 10_000
    before: object = (deadline.reached(), deadline.left_s)
    clocks.steady_s += 1
    clocks.wall_s -= 20_000

    assert before == (None, 1)
    assert str(deadline.reached()).startswith("--max-duration 1m40s was over at ")


def test_a_moment_is_by_the_wall_clock_also_if_that_is_set() -> None:
    clocks = Clocks()
    deadline = clocks.deadline(until_s=1_000_100)

    clocks.steady_s += 1000
    before: object = (deadline.reached(), deadline.left_s)
    clocks.wall_s += 100

    assert before == (None, 100)
    assert str(deadline.reached()).startswith("--until ")


def test_the_earlier_of_two_ends_counts() -> None:
    clocks = Clocks()
    deadline = clocks.deadline(lasts_s=100, until_s=clocks.wall_s + 50)

    assert deadline.left_s == 50
    assert clocks.deadline().left_s is None
    assert clocks.deadline().reached() is None


@given(some.integers(1, 366 * 86400))
def test_a_time_in_words_can_be_typed(seconds: int) -> None:
    assert seconds_of(in_words(seconds)) == seconds


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        *[("90", 90), ("90s", 90), ("15m", 900), ("8h", 28_800), ("1h30m", 5400), ("2d", 172_800)],
        *[("1d2h3m4s", 93_784), ("0.5h", 1800), ("0", 0), (".5", 0.5)],
        *[(wrong, None) for wrong in ("", "h", "1h30", "30m1h", "-1", "1e3", "nan", "8 h", "8H")],
    ],
)
def test_a_time_is_a_number_with_units(said: str, seconds: float | None) -> None:
    assert seconds_of(said) == seconds
