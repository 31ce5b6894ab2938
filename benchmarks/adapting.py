"""Whether `-j auto` finds what a service bears, beside fixed settings that know it.

Every contestant is a whole `batchgen run` against a stand-in service of its own that refuses
more than `--at-once` unfinished requests and more than `--a-second` submits in any second. All
work at the same time, so that a noisy minute hits all alike; the service's limits are by the
clock, so a faster machine makes nothing faster.

What counts is what happens once `-j auto` has settled: after the last refusal of the start,
which is the first one that is followed by a minute without any.

    python benchmarks/adapting.py            # five minutes and a half
    python benchmarks/adapting.py --quick    # one minute and a half, and less sure
"""

import argparse
import csv
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

LEAST_RATIO = 0.9
MOST_REFUSED = 1  # in two minutes, once settled
QUIET_S = 60.0
STARTED_S = 30.0  # fixed settings need no longer to be under way


class Wrong(RuntimeError):
    """A contestant did not do its work, so its figures mean nothing."""


@dataclass(frozen=True)
class Load:
    """What is asked of everybody."""

    jobs: int
    at_once: int
    a_second: int
    run_s: float
    quiet_s: float


@dataclass(frozen=True)
class Result:
    """What a run did; times in seconds from its first accepted submit.

    Attributes:
        accepted: When submits were accepted.
        refused: When submits were refused for now.
        failed: Jobs that came to another end than a clip.
        adapted: What `-j auto` said that it allows.
    """

    accepted: list[float]
    refused: list[float]
    failed: int
    adapted: list[str]

    def settled_s(self, quiet_s: float) -> float:
        """Return when the start was over: the refusal after which there is quiet."""
        ends = [*self.refused[1:], float("inf")]
        for at, following in zip(self.refused, ends, strict=False):
            if following - at >= quiet_s:
                return at
        return 0.0

    def rate(self, since_s: float) -> float:
        """Return the jobs a second from a moment until the last was accepted."""
        counted = [at for at in self.accepted if at >= since_s]
        if len(counted) < 2:
            raise Wrong(f"only {len(counted)} jobs after {since_s:.0f} s: give more --minutes")
        return (len(counted) - 1) / (counted[-1] - counted[0])

    def most_refused(self, since_s: float) -> int:
        """Return the most refused submits in any two minutes after a moment."""
        late = [at for at in self.refused if at > since_s]
        return max((sum(at <= other < at + 120 for other in late) for at in late), default=0)


# -- the service ---------------------------------------------------------------------------------


def serve(load: Load) -> None:
    """Be the service: say its base on stdout, serve until SIGTERM."""
    from batchgen.providers.simulator import Settings
    from batchgen.providers.simulator import serve as serve_until_stopped

    settings = Settings(
        max_in_flight=load.at_once,
        submits_per_s=load.a_second,
        run_s=(load.run_s, load.run_s),
    )
    ledger = serve_until_stopped(settings, ready=lambda base: print(base, flush=True))
    print(ledger.counters.accepted, flush=True)


@contextmanager
def service(load: Load) -> Iterator[str]:
    """Run a fresh service; give its base, and check in the end what it accepted.

    Raises:
        Wrong: If it accepted another number of requests than there are jobs.
    """
    options = [f"--jobs={load.jobs}", f"--at-once={load.at_once}", f"--a-second={load.a_second}"]
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", f"--run-s={load.run_s}", *options],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout is None:
            raise RuntimeError("the service has no stdout")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
        accepted = int(process.stdout.readline())
    if accepted != load.jobs:
        raise Wrong(f"the service accepted {accepted} requests, not {load.jobs}")


# -- the contest ---------------------------------------------------------------------------------


def write_manifest(path: Path, jobs: int) -> None:
    """Write a table of so many jobs."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", "image"])
        for number in range(jobs):
            image = f"https://images.example.com/harbor-{number}.jpg"
            writer.writerow([f"r{number}", f"Boats at dawn, take {number}", image])


def start(options: list[str], base: str, folder: Path) -> "subprocess.Popen[str]":
    """Start a run in a folder that holds `jobs.csv`."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUNCOMFY_", "BATCHGEN_"))
    }
    environment |= {"RUNCOMFY_MODEL_API_BASE": base, "RUNCOMFY_TOKEN": "benchmark"}
    command = [
        sys.executable,
        "-m",
        "batchgen",
        "run",
        "jobs.csv",
        "-y",
        "-v",
        "--no-probe",
        *options,
    ]
    command += ["--db", "jobs.db", "--poll-interval", "0.2", "--no-download"]
    with (folder / "said.txt").open("w") as said:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said, text=True
        )


def read(folder: Path) -> Result:
    """Return what a run that has ended did, from its job database."""
    with closing(sqlite3.connect(folder / "jobs.db")) as database:
        accepted = [
            row[0] / 1000
            for row in database.execute(
                "SELECT accepted_ms FROM attempts WHERE accepted_ms IS NOT NULL ORDER BY 1"
            )
        ]
        refused = [
            row[0] / 1000
            for row in database.execute(
                "SELECT at_ms FROM events WHERE kind = 'put_back' ORDER BY at_ms"
            )
        ]
        failed = database.execute(
            "SELECT count(*) FROM jobs WHERE state <> 'downloading'"
        ).fetchone()[0]
    began = accepted[0]
    said = (folder / "said.txt").read_text()
    return Result(
        [at - began for at in accepted],
        [at - began for at in refused],
        failed,
        [line for line in said.splitlines() if line.startswith("-j auto:")],
    )


def contest(contestants: dict[str, list[str]], load: Load) -> dict[str, Result]:
    """Let all work at once, each against its own service.

    Raises:
        Wrong: If one of them fails.
    """
    results = {}
    with tempfile.TemporaryDirectory(prefix="batchgen-adapting-") as name:
        running: dict[str, tuple[subprocess.Popen[str], Path]] = {}
        services = []
        try:
            for contestant, options in contestants.items():
                folder = Path(name) / str(len(running))
                folder.mkdir()
                write_manifest(folder / "jobs.csv", load.jobs)
                served = service(load)
                base = served.__enter__()
                services.append(served)
                running[contestant] = (start(options, base, folder), folder)
            for contestant, (process, folder) in running.items():
                if process.wait() != 0:
                    said = (folder / "said.txt").read_text()
                    raise Wrong(f"{contestant} exited {process.returncode}:\n{said[-2000:]}")
                results[contestant] = read(folder)
        finally:
            for process, _ in running.values():
                process.terminate()
            for served in services:
                served.__exit__(None, None, None)
    return results


def report(results: dict[str, Result], load: Load) -> bool:
    """Print figures and the timeline of `-j auto`; return whether the targets are met."""
    auto = results["-j auto"]
    settled_s = auto.settled_s(load.quiet_s)
    print(
        f"{load.jobs} jobs of {load.run_s:g} s; {load.at_once} at once and {load.a_second} submits "
        "a second are borne"
    )
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n")
    print("| | jobs/s once settled | refused in all | most in 2 min once settled | failed |")
    print("|---|---|---|---|---|")
    rates = {}
    for name, found in results.items():
        since_s = settled_s if found is auto else STARTED_S
        rates[name] = found.rate(max(since_s, STARTED_S))
        print(
            f"| `{name}` | {rates[name]:.3f} | {len(found.refused)} | "
            f"{found.most_refused(since_s)} | {found.failed} |"
        )
    best = max(rate for name, rate in rates.items() if results[name] is not auto)
    ratio = rates["-j auto"] / best
    print(f"\n`-j auto` settled after {settled_s:.0f} s; {ratio:.3f} of the best fixed setting")
    print(f"refused at {', '.join(f'{at:.1f}' for at in auto.refused) or 'no time'} s")
    print("\n".join(auto.adapted))
    failed = sum(found.failed for found in results.values())
    return ratio >= LEAST_RATIO and auto.most_refused(settled_s) <= MOST_REFUSED and not failed


def main() -> None:
    """Read the options; be the service or the contest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.5, help="about how long")
    parser.add_argument("--quick", action="store_true", help="a minute and a half")
    parser.add_argument("--at-once", type=int, default=7, help="unfinished requests borne")
    parser.add_argument("--a-second", type=int, default=2, help="submits a second borne")
    parser.add_argument("--run-s", type=float, default=5.0, help="seconds of a generation")
    parser.add_argument("--jobs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    minutes = 1.5 if options.quick else options.minutes
    a_second = min(options.at_once / options.run_s, options.a_second)
    load = Load(
        jobs=options.jobs or round(60 * minutes * a_second),
        at_once=options.at_once,
        a_second=options.a_second,
        run_s=options.run_s,
        quiet_s=QUIET_S / 3 if options.quick else QUIET_S,
    )
    if options.serve:
        serve(load)
        return
    fixed = [
        ["-j", str(load.at_once), "--submit-rate", str(load.a_second)],
        ["-j", str(load.at_once), "--submit-rate", f"{0.9 * load.a_second:g}"],
        ["-j", str(load.at_once - 1), "--submit-rate", f"{0.9 * load.a_second:g}"],
    ]
    contestants = {" ".join(one): one for one in [["-j", "auto"], *fixed]}
    began = time.monotonic()
    is_met = report(contest(contestants, load), load)
    print(f"\n{time.monotonic() - began:.0f} s; {'met' if is_met else 'NOT MET'}")
    sys.exit(0 if is_met else 1)


if __name__ == "__main__":
    main()
