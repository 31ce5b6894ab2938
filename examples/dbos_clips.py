"""Make every clip of a manifest from durable workflows of DBOS, one workflow a job.

    pip install batchgen-cli dbos
    python dbos_clips.py jobs.csv

Kill it at any moment and start it again: DBOS goes on with each workflow at the step that it had
not recorded, and batchgen answers that step from what is durable, without paying again.
"""

import sys

from dbos import DBOS, DBOSConfig, SetWorkflowID

import batchgen

POLL_S = 2.0

jobs = batchgen.open("batchgen.db")


@DBOS.step()
def submit(job: str) -> str:
    """Pay for a job, unless it is paid for; return the attempt that the next steps ask by."""
    return jobs.submit_one(job).attempt


@DBOS.step()
def poll(attempt: str) -> batchgen.Standing:
    """Look once."""
    return jobs.poll_one(attempt)


@DBOS.step(retries_allowed=True, max_attempts=10)
def fetch(attempt: str) -> list[str]:
    """Have the clips on disk."""
    return [str(clip.path) for clip in jobs.fetch_one(attempt)]


@DBOS.workflow()
def make_clip(job: str) -> list[str]:
    """Take one job from its key to its files; a wait outlives the process too."""
    while True:
        try:
            attempt = submit(job)
        except batchgen.NotNow as wait:  # the cap is reached, say, or the service is busy
            DBOS.sleep(wait.retry_after_s)
            continue
        standing = wait_for(attempt)
        if standing.is_current:
            return fetch(attempt)
        # It failed in a way that passes, and batchgen allows one more try.


def wait_for(attempt: str) -> batchgen.Standing:
    """Look now and then until the generation has ended."""
    while True:
        try:
            standing = poll(attempt)
            if standing.is_over:
                return standing
        except batchgen.ProviderError:  # a look that failed says nothing about the job
            pass
        DBOS.sleep(POLL_S)


def main(manifest: str) -> int:
    """Start a workflow for each job of a manifest, and wait for all of them."""
    config: DBOSConfig = {
        "name": "clips",
        "system_database_url": "sqlite:///dbos.db",
        "application_version": "1",  # a new version of this file goes on with what an old one began
    }
    DBOS(config=config)
    DBOS.launch()
    added = jobs.add(manifest)
    handles = []
    for result in jobs.results(batch=added.batch):
        with SetWorkflowID(f"clip-{result.key}"):  # the same job is the same workflow
            handles.append((result.id, DBOS.start_workflow(make_clip, result.key)))
    lost = 0
    for name, handle in handles:
        try:
            print(name, *handle.get_result())
        except batchgen.BatchgenError as error:  # InDoubt, NoClip: only a person goes on from here
            print(name, error, file=sys.stderr)
            lost += 1
    DBOS.destroy()
    jobs.close()
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
