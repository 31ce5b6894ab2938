import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from postgres import PostgresServer
from proxy import Proxy
from runs import Place
from s3 import SMALLEST_PART_BYTES, TestBucket
from storm.storm import Plan, Storm, judge, service_settings

from batchgen.providers import simulator

pytestmark = pytest.mark.storm


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--storm-seed"))


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--storm-seconds"))


# The longest first: the others are over before it.


def whole_in(bucket: TestBucket) -> Callable[[Place], None]:
    """Return what checks that every clip is in the bucket, whole, once, and nothing else is."""

    def check(place: Place) -> None:
        told = {
            row["result_file"]: row["result_sha256"] for row in place.export() if row["result_file"]
        }
        found = {
            f"{bucket.url}/{name}": hashlib.sha256(content).hexdigest()
            for name, content in bucket.contents().items()
        }
        assert found == told
        assert len(found) == place.states()["succeeded"]
        assert bucket.uploads() == []
        assert list(place.folder.rglob("*.mp4")) == []
        # What a worker keeps of itself lies in its folder, where no other one looks.
        assert [name for name in place.leftovers() if "-rescue-" not in name] == []

    return check


def test_four_workers_on_postgresql_fill_one_bucket(
    tmp_path: Path,
    postgres_url: str,
    bucket: TestBucket,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A clip takes two parts, so that most kills find uploads that are not complete.
    monkeypatch.setenv("BATCHGEN_PART_BYTES", str(SMALLEST_PART_BYTES))
    plan = Plan(
        seed=seed,
        seconds=480,
        workers=4,
        cap=40,
        rows=600,
        affordable=600,
        batches=1,
        strike_s=(3.0, 7.0),  # a worker has to come to its uploads
        stopped=0.15,
        output_dir=f"{bucket.url}/night",
    )
    settings = replace(
        service_settings(seed, run_s=(0.3, 1.5)), clip_bytes=3 * SMALLEST_PART_BYTES // 2
    )
    with simulator.start_in_thread(settings) as service:
        place = Place(tmp_path, service, url=postgres_url)
        storm = Storm(place, plan)

        storm.blow()

        judge(place, plan, storm.figures, check_clips=whole_in(bucket))
        assert storm.figures.kills


def test_on_sqlite_nothing_is_lost_and_nothing_paid_twice(
    tmp_path: Path, seed: int, seconds: float
) -> None:
    plan = Plan(seed=seed, seconds=seconds)
    with simulator.start_in_thread(service_settings(seed)) as service:
        place = Place(tmp_path, service)
        storm = Storm(place, plan)

        storm.blow()

        judge(place, plan, storm.figures)


def test_on_postgresql_nothing_is_lost_and_nothing_paid_twice(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, seed: int, seconds: float
) -> None:
    plan = Plan(seed=seed, seconds=seconds, crash_s=(12.0, 20.0), cut_off_s=(8.0, 16.0))
    with (
        simulator.start_in_thread(service_settings(seed)) as service,
        Proxy(postgres.port) as proxy,
    ):
        place = Place(tmp_path, service, url=postgres_url)
        storm = Storm(place, plan, server=postgres, proxy=proxy)

        storm.blow()

        judge(place, plan, storm.figures)
        assert storm.figures.crashes >= seconds // 25
        assert storm.figures.cuts >= seconds // 25


def test_four_workers_spend_one_budget_while_their_server_crashes(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, seed: int
) -> None:
    plan = Plan(
        seed=seed,
        seconds=120,
        workers=4,
        cap=20,
        rows=600,
        affordable=400,
        batches=1,
        crash_s=(4.0, 7.0),
        crashes=3,
    )
    with simulator.start_in_thread(service_settings(seed, run_s=(0.3, 1.5))) as service:
        place = Place(tmp_path, service, url=postgres_url)
        storm = Storm(place, plan, server=postgres)

        storm.blow()

        judge(place, plan, storm.figures)
        assert storm.figures.crashes == 3
        assert service.counters.accepted <= 400


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
