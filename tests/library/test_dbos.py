"""`examples/dbos_clips.py`: DBOS drives each job, is killed, and goes on without paying twice."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.commands import ok
from runs import Place, rows_of

import batchgen
from batchgen.domain.errors import Exit
from batchgen.providers import simulator

EXAMPLE = Path(__file__).parents[2] / "examples" / "dbos_clips.py"
PROGRAM = """
import sys
from batchgen import failpoints
failpoints.arm_from_environment()
sys.argv = sys.argv[1:]
source = open(sys.argv[0]).read()
assert source.count("POLL_S = 2.0") == 1
exec(compile(source.replace("POLL_S = 2.0", "POLL_S = 0.1"), sys.argv[0], "exec"))
"""
KILLED = -9


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with simulator.start_in_thread(simulator.Settings(run_s=(0.1, 0.3))) as service:
        place = Place(tmp_path, service, url=str(tmp_path / "batchgen.db"))
        place.db = tmp_path / "batchgen.db"
        yield place
        place.end()


@pytest.mark.parametrize(
    ("point", "was_sent"),
    [("after-id-commit@3", False), ("in-download@2", False), ("after-send@2", True)],
)
def test_it_is_killed_and_recovered_and_nothing_is_paid_for_twice(
    place: Place, point: str, was_sent: bool
) -> None:
    ok("add", str(place.write(rows_of(6))), "--db", place.url)
    ok("set", "jobs", "12", "--db", place.url)  # a doubt keeps its slot for a while
    program = [sys.executable, "-c", PROGRAM, str(EXAMPLE), "jobs.csv"]
    armed = {"BATCHGEN_FAILPOINT": f"{point}=kill"}
    assert place.start_program(program, env=armed).wait().code == KILLED
    assert any(job["state"] != "succeeded" for job in place.jobs())

    done = place.start_program(program).wait()

    doubts = [job["row_id"] for job in place.jobs() if job["state"] == "in_doubt"]
    # What was on its way at the kill is in doubt: also another job's request, as they overlap.
    assert done.code == (1 if doubts else 0), done.err
    assert doubts or not was_sent
    assert all(len(entries) == 1 for entries in place.bought().values())
    finished = {line.split(" ")[0] for line in done.out.splitlines() if line.endswith(".mp4")}
    assert finished == {f"c{number}" for number in range(1, 7)} - set(doubts)
    place.check_clips()
    place.check_books()
    assert "money" in ok("db", "check", "--hash", "--db", place.url).out


def test_what_a_step_raises_can_be_kept_by_an_engine() -> None:
    errors: list[batchgen.BatchgenError] = [
        batchgen.InDoubt("a", attempt_id="b"),
        batchgen.NotNow("a", retry_after_s=2.5),
        batchgen.Halted("a", exit_code=Exit.TOKEN),
        batchgen.NoClip("a", state="failed", error_class="moderation"),
        batchgen.DownloadError("a", link_dead=True),
        batchgen.ProviderError("a", status=500, code="x", raw="y"),
        batchgen.ManifestError("a"),
    ]

    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
