"""Ten thousand jobs in flight: how much memory that takes, and how long the event loop stalls.

A whole `run` against the stand-in service, whose generations take longer than the submits, so that
all jobs are in flight at once before the first one ends. A stall is a turn of the event loop: the
time from the end of one wait for something to happen to the begin of the next, in which nobody else
is served. What is stated is the longest turn by the processor time of the loop's thread: on the
clock, a machine that does other things adds to it.

    python benchmarks/in_flight.py
    python benchmarks/in_flight.py --quick
"""

import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from measuring import (
    HERE,
    Wrong,
    for_service,
    parser,
    report,
    results_file,
    service,
    table,
    timed,
    verdict,
    write_manifest,
)

TITLE = "Ten thousand jobs in flight"
MOST_MB = 300.0
MOST_STALL_MS = 50.0


@dataclass(frozen=True)
class Figures:
    """What one run showed; times in milliseconds, the longest turns first."""

    jobs: int
    at_once: int
    seconds: float
    cpu_s: float
    mb: float
    turns: int
    longest_ms: list[tuple[float, float]]


def most_at_once(path: Path) -> int:
    """Return how many requests were accepted and not over at the moment with most of them."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT accepted_ms, closed_ms FROM attempts").fetchall()
    changes = sorted([(row[0], 1) for row in rows] + [(row[1], -1) for row in rows])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def run(jobs: int, run_s: float, base: str | None) -> Figures:
    """Buy jobs all at once.

    Raises:
        Wrong: If they did not all succeed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="batchgen-in-flight-") as name,
        service(base, jobs=jobs, run_s=(run_s, 1.5 * run_s)) as url,
    ):
        folder = Path(name)
        write_manifest(folder / "jobs.csv", jobs)
        words = ["run", "jobs.csv", "--db", "jobs.db", "-y", "-j", str(jobs)]
        words += ["--no-download", "--no-probe"]
        command = [sys.executable, str(HERE / "watched.py"), "turns.json", *words]
        cost = timed(command, folder=folder, environment=for_service(url))
        said = json.loads((folder / "turns.json").read_text(encoding="utf-8"))
        at_once = most_at_once(folder / "jobs.db")
        with closing(sqlite3.connect(folder / "jobs.db")) as database:
            found = database.execute("SELECT count(*) FROM attempts WHERE state = 'succeeded'")
            if (done := found.fetchone()[0]) != jobs:
                raise Wrong(f"{done} jobs were generated, not {jobs}")
    longest = [(wall, cpu) for wall, cpu in said["longest_ms"]]
    return Figures(jobs, at_once, cost.seconds, cost.cpu_s, cost.mb, said["turns"], longest)


def main() -> None:
    """Run, report."""
    options = parser(__doc__, rounds=None, base=True)
    options.add_argument("--jobs", type=int, help="default: 10000; 500 with --quick")
    options.add_argument("--run-s", type=float, help="seconds of a generation, half as much again")
    chosen = options.parse_args()
    jobs = chosen.jobs or (500 if chosen.quick else 10_000)
    run_s = chosen.run_s or (3.0 if chosen.quick else 90.0)
    found = run(jobs, run_s, chosen.base)
    by_cpu = sorted((cpu for _, cpu in found.longest_ms), reverse=True)
    lines = [
        ["most in flight at once", f"{found.at_once:,}", ""],
        ["memory", f"{found.mb:.0f} MB", f"≤ {MOST_MB:.0f}: {verdict(found.mb <= MOST_MB)}"],
        [
            "longest turn of the loop, processor time",
            f"{by_cpu[0]:.1f} ms",
            f"≤ {MOST_STALL_MS:.0f}: {verdict(by_cpu[0] <= MOST_STALL_MS)}",
        ],
        ["longest turn on the clock", f"{found.longest_ms[0][0]:.1f} ms", ""],
        ["tenth longest turn on the clock", f"{found.longest_ms[:10][-1][0]:.1f} ms", ""],
        ["turns", f"{found.turns:,}", ""],
        ["processor time", f"{found.cpu_s:.1f} s in {found.seconds:.0f} s", ""],
    ]
    text = f"{jobs:,} jobs of {run_s:g} to {1.5 * run_s:g} s, default settings but `-j {jobs}`.\n\n"
    report(TITLE, text + table(["", "", "target"], lines), results=results_file(chosen))


if __name__ == "__main__":
    main()
