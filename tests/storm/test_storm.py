from pathlib import Path

import pytest
from runs import Place
from storm.storm import Plan, Storm, judge, service_settings

from batchgen.providers import simulator

pytestmark = pytest.mark.storm


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--storm-seed"))


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--storm-seconds"))


def test_on_sqlite_nothing_is_lost_and_nothing_paid_twice(
    tmp_path: Path, seed: int, seconds: float
) -> None:
    plan = Plan(seed=seed, seconds=seconds)
    with simulator.start_in_thread(service_settings(seed)) as service:
        place = Place(tmp_path, service)
        storm = Storm(place, plan)

        storm.blow()

        judge(place, plan, storm.figures)


def test_eight_kills_in_300_jobs_leave_only_doubts(tmp_path: Path, seed: int) -> None:
    plan = Plan(
        seed=seed,
        seconds=60,
        workers=1,
        rows=300,
        affordable=300,
        batches=1,
        strike_s=(0.8, 2.0),
        stopped=0.0,
        kills=8,
    )
    with simulator.start_in_thread(service_settings(seed)) as service:
        place = Place(tmp_path, service)
        storm = Storm(place, plan)

        storm.blow()

        judge(place, plan, storm.figures)
        assert storm.figures.kills == 8
