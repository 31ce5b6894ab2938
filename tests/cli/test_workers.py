"""`batchgen workers` beside a run that works, that is killed, and that has ended."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.commands import call
from runs import Place, rows_of

from batchgen.providers import simulator


@pytest.fixture(params=["sqlite", "postgresql"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A place whose service never ends a generation by itself."""
    with simulator.start_in_thread(simulator.Settings(run_s=(3600.0, 3600.0))) as service:
        made = Place(tmp_path, service)
        url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else made.db
        monkeypatch.setenv("BATCHGEN_DB", str(url))
        yield made


def test_who_works_and_what_each_holds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(rows_of(3))
    run = place.start("run", "jobs.csv", "-y", "-j", "2", "--lease", "3600")
    place.service.wait_until(lambda seen: seen.result_looks >= 2)

    [worker] = call("workers", "--json").said["workers"]
    listed = call("workers")

    assert worker["lives"]
    assert worker["pid"] == run.pid
    assert worker["holds"] == {"running": 2}
    assert (worker["lease_left_s"] is None) == ("postgresql" not in call("db", "check").out)
    assert f"{run.pid}" in listed.out
    assert "2 running" in listed.out

    run.send(signal.SIGTERM)
    assert run.wait().code == 143
    said = call("workers", "--json").said
    assert said["workers"] == []
    assert said["unheld"] == {"running": 2}
    assert "held by nobody, for the next run: 2 running" in call("workers").err


def test_a_worker_that_was_killed_is_shown_as_dead(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(rows_of(2))
    run = place.start("run", "jobs.csv", "-y", "-j", "1", "--lease", "1")
    place.service.wait_until(lambda seen: seen.result_looks >= 1)
    run.send(signal.SIGKILL)
    run.wait()

    # On a server its lease has to end first.
    while True:
        [worker] = call("workers", "--json").said["workers"]
        if not worker["lives"]:
            break

    assert worker["holds"] == {"running": 1}
    assert "dead" in call("workers").out
