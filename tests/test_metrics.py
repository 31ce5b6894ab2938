"""What Prometheus and a health check are told of a session, over real HTTP."""

import json
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from runs import DEADLINE_S, Place
from test_docs import code, table

from batchgen.domain.errors import Exit, OutputError, UsageError
from batchgen.domain.telling import KINDS
from batchgen.metrics import EVENTS, GAUGES, RUNS, SILENT_S, Metrics, Moment, address_of
from batchgen.providers import simulator

PAGE = "docs/operations.md"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> Iterator[Metrics]:
    made = Metrics("127.0.0.1:0", version="9.9", clock_s=clock)
    made.serve()
    with closing(made):
        yield made


def get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(url: str) -> dict[str, float]:
    """Return what `/metrics` says, as Prometheus' own parser reads it."""
    status, text = get(f"{url}/metrics")
    assert status == 200
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# -- what is said --------------------------------------------------------------------------------


def test_events_are_counted_from_zero_and_gauges_are_of_the_newest_moment(
    metrics: Metrics, clock: Clock
) -> None:
    before = samples(metrics.url)
    metrics.heard("in_doubt", {})
    metrics.heard("generated", {"run_s": 33.0})
    metrics.heard("generated", {"run_s": None})
    metrics.stands(Moment({"waiting": 9}, {"cap": 4, "budget_dollars": None}))
    clock.now_s += 1
    metrics.stands(Moment({"waiting": 7, "in_flight": 2}, {"cap": 5, "budget_dollars": None}))
    after = samples(metrics.url)

    assert {name for name in before if name.startswith(EVENTS)} == {
        f"{EVENTS}{{{kind}}}" for kind in KINDS
    }
    assert before[f"{EVENTS}{{in_doubt}}"] == 0
    assert "batchgen_cap" not in before
    assert after[f"{EVENTS}{{in_doubt}}"] == 1
    assert after[f"{EVENTS}{{generated}}"] == 2
    assert (after[f"{RUNS}_count"], after[f"{RUNS}_sum"]) == (1, 33.0)
    assert after["batchgen_jobs{waiting}"] == 7
    assert after["batchgen_cap"] == 5
    assert "batchgen_budget_dollars" not in after
    assert after["batchgen_told_seconds"] == 1001.0
    assert after["batchgen_info{9.9}"] == 1


def test_every_metric_is_documented() -> None:
    words = [word for row in table(PAGE, "metric") for word in code(row[0])]
    names = {re.sub(r"\{\w+\}", "", word) for word in words}

    assert names == {f"batchgen_{name}" for name in GAUGES} | {EVENTS, RUNS, "batchgen_info"}


# -- health --------------------------------------------------------------------------------------


def test_a_session_is_well_while_it_tells_how_it_stands_and_its_job_database_takes_changes(
    metrics: Metrics, clock: Clock
) -> None:
    def health() -> tuple[int, object]:
        status, text = get(f"{metrics.url}/health")
        return status, json.loads(text)

    metrics.stands(Moment({}, {"stuck": 0.0, "paused": 1.0}, ["paused: nothing is submitted"]))
    paused = health()
    clock.now_s += SILENT_S
    silent = health()
    metrics.stands(Moment({}, {"stuck": 1.0}, ["the job database takes no change"]))
    stuck = health()
    metrics.stands(Moment({}, {"stuck": 0.0}))
    again = health()

    way = ["paused: nothing is submitted"]
    assert paused == (200, {"ok": True, "silent_s": 0.0, "in_the_way": way})
    assert silent == (503, {"ok": False, "silent_s": SILENT_S, "in_the_way": way})
    assert stuck[0] == 503
    assert again == (200, {"ok": True, "silent_s": 0.0, "in_the_way": []})
    assert get(f"{metrics.url}/other")[0] == 404


# -- where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9464", ("::1", 9464)),
        ("metrics.example:1", ("metrics.example", 1)),
    ],
)
def test_without_a_host_only_this_machine_may_ask(said: str, meant: tuple[str, int]) -> None:
    assert address_of(said) == meant


@pytest.mark.parametrize("said", ["", "host", "host:", "65536", "-1", "9464/metrics", "³"])
def test_what_is_no_address_is_refused_with_an_example(said: str) -> None:
    with pytest.raises(UsageError, match="9464"):
        address_of(said)


def test_a_port_that_is_taken_is_said_with_what_to_do(clock: Clock) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        metrics = Metrics(str(port), version="", clock_s=clock)
        with pytest.raises(OutputError, match=f"127.0.0.1:{port}.*name another port"):
            metrics.serve()


# -- the program ---------------------------------------------------------------------------------


def test_a_run_is_measured_while_it_works(tmp_path: Path) -> None:
    with simulator.start_in_thread(simulator.Settings(run_s=(600, 600))) as service:
        place = Place(tmp_path, service)
        place.write(
            [
                {"id": f"c{n}", "prompt": "fog", "image": f"https://a.example/{n}.png"}
                for n in range(5)
            ]
        )
        run = place.start_run("jobs.csv", "-j", "3", "--metrics", "0", "--progress", "none")
        try:
            url = re.search(r"http://\S+(?=/metrics)", run.wait_said("metrics: http://127.0.0.1:"))
            assert url is not None
            service.wait_until(lambda counters: counters.accepted == 3)
            found = samples(url[0])
            while not (  # each is looked up now and then
                found[f"{EVENTS}{{submitted}}"] == found.get("batchgen_jobs{in_flight}") == 3
                and found["batchgen_reserved_dollars"] > 0
            ):
                found = samples(url[0])
            well = get(f"{url[0]}/health")
            run.send(signal.SIGTERM)
            done = run.wait()
        finally:
            place.end()

    assert found["batchgen_jobs{waiting}"] == 2
    assert found["batchgen_cap"] == 3
    assert found["batchgen_paused"] == 0
    assert well[0] == 200
    assert done.code == Exit.SIGTERM
