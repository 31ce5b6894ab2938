"""How soon the end of a generation is noticed, and with how many requests.

The real program runs against the stand-in service, whose generations are lognormal (sigma 0.3),
ten at a time, until every job has ended. The service's books say when each generation ended, when
a look first told that, and how many looks it took. Left out are the first 50 jobs, in which the
program learns how long generations take. The submit is not counted as a request, the look that
brings the result is.

Lag x looks tells schedules apart: waiting longer lowers one and raises the other, and their product
stays nearly the same. With `--compare` a plain schedule, steps of 6 % of the age, runs beside it
in the same conditions, as a hand-written loop on the same client.

    python benchmarks/polling.py --jobs 600 --median 3
"""

import argparse
import asyncio
import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchgen.providers.interface import Phase
from batchgen.providers.runcomfy import RunComfy
from batchgen.providers.simulator import Entry, Handle, Settings, start_in_thread

MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
SIGMA = 0.3
CAP = 10
LEARNING_JOBS = 50
MOST_LAG = 0.04
MOST_LOOKS = 8.0


class Wrong(RuntimeError):
    """The program did not do its work, so its figures mean nothing."""


@dataclass(frozen=True)
class Figures:
    """What the books of one run say.

    Attributes:
        jobs: How many are counted.
        lag: Mean time from an end to the look that told it, as a share of the mean generation.
        looks: Mean number of looks a job, the one that brought the result included.
    """

    jobs: int
    lag: float
    looks: float

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> "Figures":
        """Return the figures of all but the first jobs.

        Raises:
            Wrong: If the end of a job was never told.
        """
        counted = [entry for entry in entries if entry.number > LEARNING_JOBS]
        lags_s, runs_s = [], []
        for entry in counted:
            if entry.told_at is None or entry.state != "succeeded":
                raise Wrong(f"the end of {entry.id} was never told")
            lags_s.append(entry.told_at - entry.ends_at)
            runs_s.append(entry.ends_at - entry.accepted_at)
        return cls(
            len(counted),
            statistics.mean(lags_s) / statistics.mean(runs_s),
            statistics.mean(entry.looks for entry in counted),
        )


def run_batchgen(service: Handle, jobs: int, interval_s: float) -> None:
    """Run the program until every job is generated.

    Raises:
        Wrong: If it fails.
    """
    with tempfile.TemporaryDirectory(prefix="batchgen-polling-") as name:
        manifest = Path(name) / "jobs.csv"
        with manifest.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "prompt", "image"])
            writer.writerows(
                [f"r{n}", f"scene {n}", "https://images.example.com/1.jpg"] for n in range(jobs)
            )
        command = [
            sys.executable,
            "-m",
            "batchgen",
            "run",
            str(manifest),
            "-y",
            "--no-download",
            "--no-probe",
        ]
        command += ["--db", str(Path(name) / "jobs.db"), "-j", str(CAP)]
        command += ["--poll-interval", str(interval_s)]
        ended = subprocess.run(
            command,
            env=clean_environment()
            | {"RUNCOMFY_MODEL_API_BASE": service.base, "RUNCOMFY_TOKEN": "benchmark"},
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode != 0:
        raise Wrong(f"{command} exited {ended.returncode}:\n{ended.stdout}{ended.stderr}")


def clean_environment() -> dict[str, str]:
    """Return the environment without anything that is meant for batchgen."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUNCOMFY_", "BATCHGEN_"))
    }


def run_plain(service: Handle, jobs: int, interval_s: float) -> None:
    """Make every job with looks that grow rarer with its age, and nothing learned."""
    asyncio.run(_plain(service.base, jobs, interval_s))


async def _plain(base: str, jobs: int, interval_s: float) -> None:
    provider = RunComfy(base=base, token="benchmark")
    slots = asyncio.Semaphore(CAP)
    clock = asyncio.get_running_loop().time

    async def make(number: int) -> None:
        async with slots:
            inputs = {"promptText": f"scene {number}", "promptImage": "https://example.com/1.jpg"}
            accepted = await provider.submit(MODEL, inputs)
            began = clock()
            while True:
                look = await provider.poll(MODEL, accepted.request_id)
                if look.phase is Phase.SUCCEEDED:
                    return
                await asyncio.sleep(max(interval_s, 0.06 * (clock() - began)))

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(jobs):
                group.create_task(make(number))
    finally:
        await provider.close()


CONTESTANTS: dict[str, Callable[[Handle, int, float], None]] = {
    "batchgen": run_batchgen,
    "steps of 6 % of the age": run_plain,
}


def measure(name: str, *, jobs: int, median_s: float, interval_s: float) -> Figures:
    """Run one contestant against a fresh service; return what its books say."""
    print(f"running {name}", file=sys.stderr)
    settings = Settings(run_median_s=median_s, run_sigma=SIGMA)
    with start_in_thread(settings) as service:
        CONTESTANTS[name](service, jobs, interval_s)
        return Figures.of(service.ledger.entries)


def report(found: dict[str, Figures], *, median_s: float, interval_s: float) -> None:
    """Print the figures as a table."""
    print(f"median {median_s:g} s, sigma {SIGMA}, cap {CAP}, --poll-interval {interval_s:g},")
    print(f"without the first {LEARNING_JOBS} jobs; requests without the submit")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n")
    print("| | jobs | lag / mean generation | requests a job | lag x requests |")
    print("|---|---|---|---|---|")
    for name, figures in found.items():
        product = figures.lag * figures.looks
        print(
            f"| {name} | {figures.jobs} | {figures.lag:.4f} | {figures.looks:.2f} | {product:.3f} |"
        )
    print(f"| target | ≥ 500 | ≤ {MOST_LAG} | ≤ {MOST_LOOKS:g} | ≤ {MOST_LAG * MOST_LOOKS:g} |")


def main() -> None:
    """Read the options, run, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=600, help="jobs in all")
    parser.add_argument("--median", type=float, default=3.0, help="median generation in seconds")
    parser.add_argument("--interval", type=float, default=0.05, help="--poll-interval")
    parser.add_argument("--quick", action="store_true", help="200 jobs of 1.5 s")
    parser.add_argument("--compare", action="store_true", help="run the plain schedule too")
    options = parser.parse_args()
    if options.quick:
        options.jobs, options.median = 200, 1.5
    names = CONTESTANTS if options.compare else ["batchgen"]
    found = {
        name: measure(name, jobs=options.jobs, median_s=options.median, interval_s=options.interval)
        for name in names
    }
    report(found, median_s=options.median, interval_s=options.interval)


if __name__ == "__main__":
    main()
