"""`run -j auto` against a service that refuses what is too much."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Place, rows_of

from batchgen.providers import simulator

AT_ONCE, A_SECOND = 7, 12


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place whose service says at once when to come back."""
    settings = simulator.Settings(
        run_s=(0.3, 0.5), max_in_flight=AT_ONCE, submits_per_s=A_SECOND, retry_after_s=1
    )
    with simulator.start_in_thread(settings) as service:
        is_file = request.param == "sqlite"
        url = None if is_file else request.getfixturevalue("postgres_url")
        yield Place(tmp_path, service, url=url)


def test_two_workers_find_what_is_borne_and_lose_nothing(place: Place) -> None:
    place.write(rows_of(80))
    first = place.start_run("jobs.csv", "-j", "auto", "--jobs-max", "16", "-v", "--json")
    place.wait_accepted(1)
    second = place.start_run("jobs.csv", "-v", "--json")

    done = [first.wait(), second.wait()]

    assert [one.code for one in done] == [0, 0], done
    assert place.states() == {"succeeded": 80}
    assert place.service.counters.accepted == 80
    assert place.service.counters.most_in_flight <= AT_ONCE
    assert place.service.counters.most_untold <= 16
    assert any(one.said["auto"]["jobs"] <= 16 for one in done)
    [account] = place.query("SELECT cap, auto_max, adapting FROM accounts")
    assert account["auto_max"] == 16
    assert account["adapting"] is not None
    place.check_books()


def test_what_is_stored_stays_until_a_number_is_given(place: Place) -> None:
    place.write(rows_of(2))
    alone = place.run("jobs.csv", "--jobs-max", "9")
    nothing = place.service.counters.accepted
    both = place.run("jobs.csv", "-j", "3", "--jobs-max", "9")
    auto = place.run("jobs.csv", "-j", "auto", "--submit-rate", "9")
    stored = place.query("SELECT cap, auto_max, rate_per_s FROM accounts")
    said = place.start("status", "--db", place.url, "--json").wait().said["accounts"]
    kept = place.run("jobs.csv", "--jobs-max", "3", "--submit-rate", "none")
    lower = place.query("SELECT cap, auto_max, rate_per_s FROM accounts")
    place.run("jobs.csv", "-j", "5")
    fixed = place.query("SELECT cap, auto_max, adapting FROM accounts")

    assert [one.code for one in (alone, both, auto, kept)] == [2, 2, 0, 0]
    assert "-j auto" in alone.err
    assert nothing == 0
    assert stored == [{"cap": 4, "auto_max": 32, "rate_per_s": 9.0}]
    assert (said[0]["auto_max"], said[0]["rate_per_s"]) == (32, 9.0)
    assert said[0]["auto"]["jobs"] == 4
    assert lower == [{"cap": 3, "auto_max": 3, "rate_per_s": None}]
    assert fixed == [{"cap": 5, "auto_max": None, "adapting": None}]


def test_another_worker_at_work_keeps_its_limits(place: Place) -> None:
    place.write(rows_of(3))
    place.service.settings = simulator.Settings(run_s=(3600.0, 3600.0))
    first = place.start_run("jobs.csv", "-j", "2")
    place.wait_accepted(2)

    second = place.start_run("jobs.csv", "-j", "auto", "--submit-rate", "3")
    second.wait_said("--jobs-max and --submit-rate stay")
    second.wait_said("the cap stays 2")

    assert place.query("SELECT cap, auto_max, rate_per_s FROM accounts") == [
        {"cap": 2, "auto_max": None, "rate_per_s": None}
    ]
    first.end()
    second.end()


def test_downloads_begin_one_after_the_other(place: Place) -> None:
    place.write(rows_of(3))

    done = place.run("jobs.csv", "-j", "3", "--download-rate", "2")

    assert done.code == 0, done.err
    # The first cannot begin before a submit was accepted, nor the third within a second of it.
    first_ms = min(attempt["accepted_ms"] for attempt in place.attempts())
    assert max(job["finished_ms"] for job in place.jobs()) - first_ms >= 1000


@pytest.mark.parametrize(
    "words",
    [
        ("-j", "0"),
        ("-j", "many"),
        ("--submit-rate", "0"),
        ("--submit-rate", "nan"),
        ("--submit-rate", "inf"),
        ("--download-rate", "-1"),
    ],
)
def test_words_that_are_no_limit_are_refused(tmp_path: Path, words: tuple[str, str]) -> None:
    with simulator.start_in_thread(simulator.Settings()) as service:
        place = Place(tmp_path, service)
        place.write(rows_of(1))
        done = place.run("jobs.csv", *words)

    assert done.code == 2
    assert words[1] in done.err
