"""The power goes: what was said to be durable is on the disk, and nothing paid is forgotten."""

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from power.disk import Disk, compiled
from runs import Place, rows_of

from batchgen.providers import simulator
from batchgen.runner import rescue
from batchgen.store import upgrade
from batchgen.store.database import Database

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = compiled(tmp_path_factory.mktemp("layer"))
    if found is None:
        pytest.skip("no C compiler (cc or gcc) for the layer that drops unsynced writes")
    return found


@pytest.fixture
def disk(library: Path, tmp_path: Path) -> Disk:
    watched = tmp_path / "live"
    watched.mkdir()
    return Disk(library, watched, tmp_path / "disk")


def bought_until_the_cut(disk: Disk, after_lines: int, *, synchronous: str) -> set[str]:
    """Run the buyer until it has said so many lines, kill it; return what it said was durable."""
    said: set[str] = set()
    command = [sys.executable, "-m", "power.buyer", str(disk.watched), synchronous]
    env = {**os.environ, **disk.env(), "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as buyer:
        assert buyer.stdout is not None
        for line in buyer.stdout:
            said.add(line.strip())
            if len(said) == after_lines:
                buyer.kill()  # what it managed to say before it died counts too
    assert buyer.returncode == -signal.SIGKILL
    return {line for line in said if line.startswith(("intent ", "id "))}


def known(path: Path) -> set[str]:
    """Return the intents and request ids of a job database, in the buyer's words."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT id, request_id FROM attempts").fetchall()
    return {f"intent {row[0]}" for row in rows} | {f"id {row[1]}" for row in rows}


@pytest.mark.parametrize("after_lines", [3, 67, 1521])  # to beyond a checkpoint or two
def test_every_intent_and_id_that_was_durable_survives_a_power_cut(
    disk: Disk, tmp_path: Path, after_lines: int
) -> None:
    said = bought_until_the_cut(disk, after_lines, synchronous="as it is")

    found = disk.after_the_cut(tmp_path / "found")
    assert len(said) >= after_lines
    assert said - known(found / "batchgen.db") == set()
    database = Database(str(found / "batchgen.db"))
    upgrade.require_current(database)
    database.close()


def test_without_full_syncs_intents_are_lost(disk: Disk, tmp_path: Path) -> None:
    said = bought_until_the_cut(disk, 60, synchronous="NORMAL")

    found = disk.after_the_cut(tmp_path / "found")
    assert said - known(found / "batchgen.db") != set()


@pytest.mark.parametrize("seed", range(2))
def test_a_run_whose_machine_loses_power_forgets_no_purchase_and_no_clip(
    disk: Disk, tmp_path: Path, seed: int
) -> None:
    settings = simulator.Settings(run_s=(0.0, 0.2), clip_bytes=150_000)
    rows = rows_of(40)
    fetches = random.Random(seed).randint(6, 25)
    with simulator.start_in_thread(settings) as service:
        place = Place(disk.watched, service)
        place.write(rows)
        run = place.start_run("jobs.csv", "-j", "8", env=dict(disk.env()))
        service.wait_until(lambda seen: seen.file_fetches >= fetches)
        run.send(signal.SIGKILL)
        assert run.wait().code == -signal.SIGKILL

        found = Place(disk.after_the_cut(tmp_path / "found"), service)

        assert known(found.db)  # and it is whole
        assert service.counters.accepted >= fetches
        found.check_books()
        check_clips(found)

        found.write(rows)  # the user's own file, synced long ago
        again = found.run("jobs.csv", "-j", "20")

        doubts = found.states()["in_doubt"]
        assert again.code == (10 if doubts else 0), again.err
        assert found.states()["succeeded"] == len(rows) - doubts
        assert all(len(entries) == 1 for entries in found.bought().values())
        found.check_books()
        check_clips(found)


def test_the_rescue_file_is_there_as_soon_as_it_is_made(disk: Disk, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from batchgen.runner.rescue import RescueFile; "
        "RescueFile(pathlib.Path(sys.argv[1]), 'w1', say=print).write('a1', 'r1')"
    )
    database = disk.watched / "jobs.db"
    command = [sys.executable, "-c", script, str(database)]
    subprocess.run(command, env={**os.environ, **disk.env()}, check=True)

    found = disk.after_the_cut(tmp_path / "found")

    [path] = found.glob("jobs.db-rescue-*")
    assert rescue.read(path).pairs == (("a1", "r1"),)


def check_clips(place: Place) -> None:
    """Check that each job that has succeeded has its whole clip on the disk."""
    finished = [job for job in place.jobs() if job["state"] == "succeeded"]
    assert finished
    for job in finished:
        for clip in json.loads(job["files"]):
            path = place.folder / "clips" / clip["path"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == clip["sha256"]
            assert path.stat().st_size == clip["size_bytes"]
