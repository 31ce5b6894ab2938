"""A worker that slept beyond its lease, and another that took its jobs over meanwhile."""

import signal
from pathlib import Path

from runs import Place, rows_of

from batchgen.providers import simulator

JOBS = 6
LEASE = ("--lease", "1")


def test_a_worker_that_wakes_after_its_lease_pays_for_nothing(
    tmp_path: Path, postgres_url: str
) -> None:
    with simulator.start_in_thread(simulator.Settings(run_s=(0.0, 0.1))) as service:
        place = Place(tmp_path, service, url=postgres_url)
        place.write(rows_of(JOBS))
        sleeper = place.start_run(
            *("jobs.csv", "-j", "4", "--limit", "1", *LEASE),
            env={"BATCHGEN_FAILPOINT": "after-claim-commit=stop"},
        )
        sleeper.wait_stopped()

        other = place.run("jobs.csv", *LEASE)

        assert other.code == 10, other.err
        assert place.states() == {"succeeded": JOBS - 1, "in_doubt": 1}
        sleeper.send(signal.SIGCONT)
        woken = sleeper.wait()
        assert woken.code == 9, woken.err
        assert "declared it dead" in woken.err
        # It knows that it had sent nothing, so the job is no longer in doubt.
        assert service.counters.posts == JOBS - 1
        assert place.states() == {"succeeded": JOBS - 1, "pending": 1}

        last = place.run("jobs.csv", *LEASE)

        assert last.code == 0, last.err
        assert service.counters.accepted == JOBS
        place.check_books()
