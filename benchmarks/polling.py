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

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measuring import (
    MODEL,
    PROGRAM,
    Wrong,
    for_service,
    parser,
    report,
    results_file,
    table,
    timed,
    verdict,
    write_manifest,
)

from batchgen.providers.interface import Phase
from batchgen.providers.runcomfy import RunComfy
from batchgen.providers.simulator import Entry, Handle, Settings, start_in_thread

TITLE = "Noticing the end of a generation"
SIGMA = 0.3
CAP = 10
LEARNING_JOBS = 50
MOST_LAG = 0.04
MOST_LOOKS = 8.0


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
        folder = Path(name)
        write_manifest(folder / "jobs.csv", jobs)
        words = ["run", "jobs.csv", "--db", "jobs.db", "-y", "--no-download", "--no-probe"]
        words += ["-j", str(CAP), "--poll-interval", str(interval_s)]
        timed([*PROGRAM, *words], folder=folder, environment=for_service(service.base))


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


def said(found: dict[str, Figures], *, median_s: float, interval_s: float) -> str:
    """Return the section."""
    lines = []
    for name, figures in found.items():
        row = [f"{figures.lag:.4f}", f"{figures.looks:.2f}", f"{figures.lag * figures.looks:.3f}"]
        is_met = figures.lag <= MOST_LAG and figures.looks <= MOST_LOOKS
        target = verdict(is_met) if name == "batchgen" else ""
        lines.append([name, figures.jobs, *row, target])
    head = ["", "jobs", "lag / mean generation", "requests a job", "lag x requests"]
    target = f"lag ≤ {MOST_LAG} at ≤ {MOST_LOOKS:g} requests"
    return (
        f"Generations of {median_s:g} s (median, lognormal, sigma {SIGMA}), cap {CAP}, "
        f"`--poll-interval {interval_s:g}`, without the first {LEARNING_JOBS} jobs; requests "
        f"without the submit.\n\n{table([*head, target], lines)}"
    )


def main() -> None:
    """Read the options, run, report."""
    options = parser(__doc__, rounds=None)
    options.add_argument("--jobs", type=int, help="in all; default: 600; 120 with --quick")
    options.add_argument("--median", type=float, help="generation in s; default: 3; 0.8 if quick")
    options.add_argument("--interval", type=float, default=0.05, help="--poll-interval")
    options.add_argument("--compare", action="store_true", help="run the plain schedule too")
    chosen = options.parse_args()
    jobs = chosen.jobs or (120 if chosen.quick else 600)
    median_s = chosen.median or (0.8 if chosen.quick else 3.0)
    found = {
        name: measure(name, jobs=jobs, median_s=median_s, interval_s=chosen.interval)
        for name in (CONTESTANTS if chosen.compare else ["batchgen"])
    }
    text = said(found, median_s=median_s, interval_s=chosen.interval)
    report(TITLE, text, results=results_file(chosen))


if __name__ == "__main__":
    main()
