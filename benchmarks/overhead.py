"""What durability costs: jobs a second against an instant service, beside hand-written loops.

Every contestant is a whole process, start-up included, against the same stand-in service in a
process of its own, and makes the same requests: one paid POST and one look a job, no download.

* batchgen: every intent and request id durably committed, `run -j CAP --poll-interval 0`
* loop-aiohttp: an asyncio loop without any state on batchgen's transport (httpx on aiohttp)
* loop-httpx: the same loop on plain httpx, as most people would write it

Rounds are interleaved, so that a noisy minute hits all alike; medians are compared.

    python benchmarks/overhead.py --jobs 1500 --cap 50 --rounds 3
"""

import argparse
import asyncio
import csv
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
TARGETS = {"loop-aiohttp": 0.5, "loop-httpx": 4.0}
"""The least that batchgen's jobs a second should be, as a multiple of each loop's."""

WARM_UP_JOBS = 20


class Wrong(RuntimeError):
    """A contestant did not do its work, so its time means nothing."""


# -- the service ---------------------------------------------------------------------------------


def serve() -> None:
    """Be the instant service: say its base on stdout, serve until SIGTERM."""
    from batchgen.providers.simulator import Settings
    from batchgen.providers.simulator import serve as serve_until_stopped

    ledger = serve_until_stopped(Settings(), ready=lambda base: print(base, flush=True))
    print(ledger.counters.accepted, flush=True)


@contextmanager
def service(*, jobs: int) -> Iterator[str]:
    """Run a fresh service; give its base, and check in the end what it was asked for.

    Raises:
        Wrong: If it accepted another number of requests than `jobs`.
    """
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None:
            raise RuntimeError("the service has no stdout")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
        accepted = int(process.stdout.readline())
    if accepted != jobs:
        raise Wrong(f"the service accepted {accepted} requests, not {jobs}")


# -- the hand-written loops ----------------------------------------------------------------------


async def loop(kind: str, base: str, jobs: int, cap: int) -> None:
    """Send and poll every job, `cap` at a time; keep nothing.

    Raises:
        Wrong: If a job does not succeed.
    """
    # Imported here: each peer starts with what it needs and no more.
    import httpx

    # httpx's own limits, as a loop written by hand has them; more only where the cap needs it.
    limits = httpx.Limits(max_connections=max(100, cap), max_keepalive_connections=20)
    transport: httpx.AsyncBaseTransport
    if kind == "loop-aiohttp":
        from httpx_aiohttp import AiohttpTransport

        transport = AiohttpTransport(limits=limits)
    else:
        transport = httpx.AsyncHTTPTransport(limits=limits)
    slots = asyncio.Semaphore(cap)
    headers = {"Authorization": "Bearer benchmark"}
    async with httpx.AsyncClient(transport=transport, headers=headers, timeout=100) as client:

        async def make(number: int) -> None:
            async with slots:
                inputs = {"promptText": prompt(number), "promptImage": image(number)}
                sent = await client.post(f"{base}/models/{MODEL}", json=inputs)
                request_id = sent.raise_for_status().json()["request_id"]
                while True:
                    url = f"{base}/requests/{request_id}/result?include_cost=true"
                    result = (await client.get(url)).json()
                    if result["status"] in ("completed", "succeeded"):
                        return
                    if result["status"] not in ("in_queue", "in_progress"):
                        raise Wrong(str(result))

        async with asyncio.TaskGroup() as group:
            for number in range(jobs):
                group.create_task(make(number))


# -- the contest ---------------------------------------------------------------------------------


def prompt(number: int) -> str:
    """Return the prompt of a job."""
    return f"Boats leave the harbor at dawn, take {number}"


def image(number: int) -> str:
    """Return the image of a job."""
    return f"https://images.example.com/harbor-{number}.jpg"


def run_loop(kind: str, base: str, jobs: int, cap: int) -> float:
    """Run a hand-written loop as a process; return the seconds it took."""
    options = ["--peer", kind, "--base", base, "--jobs", str(jobs), "--cap", str(cap)]
    return timed([sys.executable, __file__, *options], environment=clean_environment())


def run_batchgen(base: str, jobs: int, cap: int) -> float:
    """Run batchgen as a process; return the seconds it took.

    Raises:
        Wrong: If the job database does not hold every job, paid and generated.
    """
    with tempfile.TemporaryDirectory(prefix="batchgen-overhead-") as name:
        folder = Path(name)
        manifest, database = folder / "jobs.csv", folder / "jobs.db"
        with manifest.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "prompt", "image"])
            writer.writerows([f"r{n}", prompt(n), image(n)] for n in range(jobs))
        environment = clean_environment() | {
            "RUNCOMFY_MODEL_API_BASE": base,
            "RUNCOMFY_TOKEN": "benchmark",
        }
        command = [sys.executable, "-m", "batchgen", "run", str(manifest), "--db", str(database)]
        command += ["-y", "-j", str(cap), "--poll-interval", "0", "--no-download", "--no-probe"]
        seconds = timed(command, environment=environment)
        with sqlite3.connect(database) as connection:
            found = connection.execute(
                "SELECT count(*) FROM jobs j JOIN attempts a ON a.id = j.attempt_id "
                "WHERE j.state = 'downloading' AND a.request_id IS NOT NULL"
            ).fetchone()[0]
        connection.close()
        if found != jobs:
            raise Wrong(f"the job database holds {found} generated jobs, not {jobs}")
        return seconds


def clean_environment() -> dict[str, str]:
    """Return the environment without anything that is meant for batchgen."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUNCOMFY_", "BATCHGEN_"))
    }


def timed(command: list[str], *, environment: dict[str, str]) -> float:
    """Run a command; return the seconds it took.

    Raises:
        Wrong: If it fails.
    """
    began = time.perf_counter()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if ended.returncode != 0:
        raise Wrong(f"{command} exited {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return seconds


CONTESTANTS: dict[str, Callable[[str, int, int], float]] = {
    "batchgen": run_batchgen,
    **{
        kind: lambda base, jobs, cap, kind=kind: run_loop(kind, base, jobs, cap)  # type: ignore[misc]
        for kind in TARGETS
    },
}


def contest(*, jobs: int, cap: int, rounds: int) -> dict[str, list[float]]:
    """Let everybody run `rounds` times in turn; return the jobs a second of each run."""
    for name, run in CONTESTANTS.items():
        print(f"warming up {name}", file=sys.stderr)
        measure(run, jobs=WARM_UP_JOBS, cap=cap)
    rates: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name, run in CONTESTANTS.items():
            rate = jobs / measure(run, jobs=jobs, cap=cap)
            rates[name].append(rate)
            print(f"round {number + 1}: {name} {rate:.0f} jobs/s", file=sys.stderr)
    return rates


def measure(run: Callable[[str, int, int], float], *, jobs: int, cap: int) -> float:
    """Run one contestant against a fresh service; return the seconds it took."""
    with service(jobs=jobs) as base:
        return run(base, jobs, cap)


def report(rates: dict[str, list[float]], *, jobs: int, cap: int) -> None:
    """Print medians and ratios as a table."""
    rounds = len(rates["batchgen"])
    print(f"{jobs} jobs, cap {cap}, medians of {rounds}, whole processes, instant service")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n")
    print("| | jobs/s | range | batchgen is | target |")
    print("|---|---|---|---|---|")
    own = statistics.median(rates["batchgen"])
    for name, found in rates.items():
        median = statistics.median(found)
        ratio = target = ""
        if name in TARGETS:
            ratio, target = f"{own / median:.2f} x", f"≥ {TARGETS[name]} x"
        print(
            f"| {name} | {median:.0f} | {min(found):.0f} to {max(found):.0f} | {ratio} | {target} |"
        )


def main() -> None:
    """Read the options; be the service, a peer, or the contest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1500, help="jobs a run")
    parser.add_argument("--cap", type=int, default=50, help="jobs in flight")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peer", choices=sorted(TARGETS), help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
    elif options.peer:
        asyncio.run(loop(options.peer, options.base, options.jobs, options.cap))
    else:
        rates = contest(jobs=options.jobs, cap=options.cap, rounds=options.rounds)
        report(rates, jobs=options.jobs, cap=options.cap)


if __name__ == "__main__":
    main()
