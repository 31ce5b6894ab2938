"""What it takes to add a manifest of a million rows, beside `sqlite-utils insert`.

Each contestant is a whole process, from start to exit: `batchgen add` of a CSV into a new job
database, the same command again on the same file, and `sqlite-utils insert --csv` with its
defaults, which stores the cells and checks nothing. Rounds are interleaved, medians compared.
Every row is validated, hashed and stored with its place, name and key; a run counts only if the
job database then holds every row, once.

At the end a `run` goes on in a job database while the file is added to it: the longest time
between two of its events says how long it was held up.

    python benchmarks/expand.py                   # a million rows, three rounds: some minutes
    python benchmarks/expand.py --rows 100000 --rounds 1
"""

import argparse
import csv
import itertools
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from batchgen.providers.simulator import Settings, start_in_thread

MOST_S = 25.0
MOST_MB = 150.0
MOST_RATIO = 0.5
MOST_HELD_S = 1.0


class Wrong(RuntimeError):
    """A contestant did not do its work, so its figures mean nothing."""


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    mb: float


def write_rows(path: Path, count: int, *, ids: bool) -> None:
    """Write a table as people have them: prompts, links, numbers, columns of their own."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        head = ["prompt", "image", "duration", "seed", "shot", "client"]
        table.writerow(["id", *head] if ids else head)
        for n in range(count):
            row = [
                (
                    f"Boats leave the harbor at dawn, take {n}, the camera pans slowly over the "
                    "water and the fog lifts"
                ),
                f"https://images.example.com/harbor/{n:07}.jpg",
                5 if n % 2 else 10,
                n % 1000,
                f"{n % 97}b",
                "acme",
            ]
            table.writerow([f"shot-{n:07}", *row] if ids else row)


def timed(*words: str, folder: Path) -> Cost:
    """Run a command to its end."""
    began = time.perf_counter()
    with subprocess.Popen(
        words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        said = process.stderr.read() if process.stderr else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Wrong(f"{words[0]} {words[1]} ended with {process.returncode}: {said}")
    scale = 1 if sys.platform == "darwin" else 1024
    return Cost(time.perf_counter() - began, used.ru_maxrss * scale / 1e6)


def count(database: Path, table: str) -> int:
    """Return how many rows a table has."""
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def expect(found: int, wanted: int) -> None:
    """Refuse figures of work that was not done."""
    if found != wanted:
        raise Wrong(f"{found:,} rows are stored, not {wanted:,}")


def compare(folder: Path, program: str, other: str | None, rows: int, rounds: int) -> None:
    """Time the contestants, interleaved, and print their medians."""
    found: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for old in folder.glob("*.db*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for name in ("add", "add again"):
            cost = timed(program, "add", "large.csv", "--db", "jobs.db", folder=folder)
            found.setdefault(name, []).append(cost)
            expect(count(folder / "jobs.db", "jobs"), rows)
        if other:
            words = (other, "insert", "other.db", "rows", "large.csv", "--csv")
            found.setdefault("sqlite-utils insert", []).append(timed(*words, folder=folder))
            expect(count(folder / "other.db", "rows"), rows)
    medians = {
        name: statistics.median(one.seconds for one in costs) for name, costs in found.items()
    }
    base = medians.get("sqlite-utils insert")
    for name, costs in found.items():
        ratio = f"{medians[name] / base:6.2f} x sqlite-utils" if base else ""
        most_mb = max(one.mb for one in costs)
        print(f"{name:20} {medians[name]:7.1f} s {most_mb:6.0f} MB {ratio}")
    print(f"targets: {MOST_S:.0f} s for a million, {MOST_MB:.0f} MB, {MOST_RATIO} x sqlite-utils")


class Run:
    """A run that goes on in a job database: short generations, four at a time, without an end."""

    def __init__(self, program: str, folder: Path, base: str) -> None:
        self.events = folder / "events.jsonl"
        self.events.write_text("")
        env = os.environ | {"RUNCOMFY_MODEL_API_BASE": base, "RUNCOMFY_TOKEN": "of-a-benchmark"}
        words = ("run", "small.csv", "--db", "jobs.db", "-y", "-q", "--no-download")
        more = ("--poll-interval", "0", "--events", str(self.events), "--no-log", "--no-inhibit")
        self.process = subprocess.Popen(
            [program, *words, *more],
            cwd=folder,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def times(self) -> list[float]:
        """Return when each of its events so far was, in seconds of its own clock."""
        lines = self.events.read_text(encoding="utf-8").splitlines()
        told = [json.loads(line)["at"] for line in lines if line.endswith("}")]
        return [datetime.fromisoformat(at).timestamp() for at in told]

    def wait_until_busy(self) -> None:
        """Wait until it has bought some jobs."""
        while len(self.times()) < 40:
            if self.process.poll() is not None:
                raise Wrong(f"the run ended with {self.process.returncode}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.terminate()
        self.process.wait()


def longest_gap(times: list[float], since: float, until: float) -> float:
    """Return the longest time between two neighbouring events of a period."""
    chosen = [since, *(at for at in times if since <= at <= until), until]
    return max(two - one for one, two in itertools.pairwise(chosen))


def hold_up(folder: Path, program: str) -> None:
    """Add the large file while a run goes on, and print how long that was held up."""
    for old in folder.glob("*.db*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    write_rows(folder / "small.csv", 100_000, ids=False)
    with start_in_thread(Settings(run_s=(0.2, 0.4))) as service:
        run = Run(program, folder, service.base)
        try:
            run.wait_until_busy()
            quiet_since = time.time()
            time.sleep(10)
            quiet_until = time.time()
            cost = timed(program, "add", "large.csv", "--db", "jobs.db", folder=folder)
            until = time.time()
        finally:
            run.stop()
        times = run.times()
    alone = longest_gap(times, quiet_since, quiet_until)
    beside = longest_gap(times, quiet_until, until)
    print(
        f"a run beside it: longest time without an event {beside:.2f} s ({alone:.2f} s before); "
        f"target {MOST_HELD_S:.0f} s; the add took {cost.seconds:.1f} s"
    )


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-ids", action="store_true", help="rows are known by content")
    parser.add_argument("--sqlite-utils", default=shutil.which("sqlite-utils"), metavar="PROGRAM")
    parser.add_argument("--only", choices=["compare", "beside"], help="one half of it")
    wanted = parser.parse_args()
    program = str(Path(sys.executable).with_name("batchgen"))
    print(f"{wanted.rows:,} rows, {platform.python_version()}, {os.cpu_count()} cores")
    if not wanted.sqlite_utils:
        print("sqlite-utils is not installed: pip install sqlite-utils, or name it")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "large.csv", wanted.rows, ids=not wanted.without_ids)
        if wanted.only != "beside":
            compare(folder, program, wanted.sqlite_utils, wanted.rows, wanted.rounds)
        if wanted.only != "compare":
            hold_up(folder, program)


if __name__ == "__main__":
    main()
