"""What it takes to add a manifest of a million rows, beside `sqlite-utils insert`.

Each contestant is a whole process, from start to exit: `batchgen add` of a CSV into a new job
database, the same command again on the same file, and `sqlite-utils insert --csv` with its
defaults, which stores the cells and checks nothing. Rounds are interleaved, medians compared.
Every row is validated, hashed and stored with its place, name and key; a run counts only if the
job database then holds every row, once.

At the end a `run` goes on in a job database while the file is added to it: the longest time
between two of its events says how long it was held up.

    python benchmarks/expand.py                   # a million rows, three rounds: some minutes
    python benchmarks/expand.py --quick
"""

import itertools
import json
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import installing
from measuring import (
    PROGRAM,
    Cost,
    Missing,
    Wrong,
    clean_environment,
    for_service,
    interleaved,
    median,
    parser,
    ratio,
    report,
    results_file,
    table,
    timed,
    verdict,
    write_large_manifest,
    write_manifest,
)

from batchgen.providers.simulator import Settings, start_in_thread

TITLE = "Adding a million rows"
MOST_S = 25.0
MOST_MB = 150.0
MOST_RATIO = 0.5
MOST_HELD_S = 1.0
PEER = "sqlite-utils insert"


def count(database: Path, name: str) -> int:
    """Return how many rows a table has."""
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0])


def expect(found: int, wanted: int) -> None:
    """Refuse figures of work that was not done."""
    if found != wanted:
        raise Wrong(f"{found:,} rows are stored, not {wanted:,}")


def add(folder: Path, rows: int, *, is_new: bool) -> Cost:
    """Add the file, to a new job database or once more."""
    if is_new:
        clear(folder, "jobs.db")
    words = ["add", "large.csv", "--db", "jobs.db", "--max-expand", str(rows)]
    cost = timed([*PROGRAM, *words], folder=folder, environment=clean_environment(), work=rows)
    expect(count(folder / "jobs.db", "jobs"), rows)
    return cost


def insert(program: str | Path, folder: Path, rows: int) -> Cost:
    """Have the peer store the cells."""
    clear(folder, "other.db")
    cost = timed(
        [program, "insert", "other.db", "rows", "large.csv", "--csv"], folder=folder, work=rows
    )
    expect(count(folder / "other.db", "rows"), rows)
    return cost


def clear(folder: Path, name: str) -> None:
    """Remove a database and what lies beside it."""
    for old in folder.glob(f"{name}*"):
        shutil.rmtree(old) if old.is_dir() else old.unlink()


def compare(folder: Path, rows: int, rounds: int) -> str:
    """Time the contestants, interleaved; return the table."""
    runs: dict[str, Callable[[], Cost]] = {
        "batchgen add": lambda: add(folder, rows, is_new=True),
        "batchgen add, again": lambda: add(folder, rows, is_new=False),
    }
    try:
        program = installing.environment() / "sqlite-utils"
        runs[PEER] = lambda: insert(program, folder, rows)
    except Missing as error:
        print(f"without {PEER}: {error}")
    found = interleaved(runs, rounds=rounds)
    lines = []
    for name, costs in found.items():
        seconds, mb = median(costs, lambda c: c.seconds), max(cost.mb for cost in costs)
        row = [name, f"{seconds:.1f}", f"{median(costs, lambda c: c.cpu_s):.1f}", f"{mb:.0f}"]
        beside = target = ""
        if name != PEER:
            most_s = MOST_S * rows / 1_000_000
            is_met = seconds <= most_s and mb <= MOST_MB
            target = f"≤ {most_s:.1f} s, ≤ {MOST_MB:.0f} MB: {verdict(is_met)}"
            if PEER in found:
                times = ratio(costs, found[PEER], lambda c: c.seconds)
                of_cpu = ratio(costs, found[PEER], lambda c: c.cpu_s)
                beside = f"{times:.2f} x ({of_cpu:.2f} x)"
                target += f"; ≤ {MOST_RATIO} x: {verdict(times <= MOST_RATIO)}"
        lines.append([*row, beside, target])
    head = ["", "s", "CPU s", "MB", f"beside {PEER} (by processor time)", "target"]
    return table(head, lines)


class Run:
    """A run that goes on in a job database: short generations, four at a time, without an end."""

    def __init__(self, folder: Path, base: str) -> None:
        self.events = folder / "events.jsonl"
        self.events.write_text("")
        words = ("run", "small.csv", "--db", "jobs.db", "-y", "-q", "--no-download")
        more = ("--poll-interval", "0", "--events", str(self.events), "--no-log", "--no-inhibit")
        self.process = subprocess.Popen(
            [*PROGRAM, *words, *more],
            cwd=folder,
            env=for_service(base),
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


def hold_up(folder: Path, rows: int) -> str:
    """Add the large file while a run goes on; return how long that was held up."""
    clear(folder, "jobs.db")
    write_manifest(folder / "small.csv", max(1000, rows // 10))
    with start_in_thread(Settings(run_s=(0.2, 0.4))) as service:
        run = Run(folder, service.base)
        try:
            run.wait_until_busy()
            quiet_since = time.time()
            time.sleep(10 if rows >= 1_000_000 else 1)
            quiet_until = time.time()
            words = ["add", "large.csv", "--db", "jobs.db", "--max-expand", str(rows)]
            cost = timed([*PROGRAM, *words], folder=folder, environment=clean_environment())
            until = time.time()
        finally:
            run.stop()
        times = run.times()
    alone = longest_gap(times, quiet_since, quiet_until)
    beside = longest_gap(times, quiet_until, until)
    return (
        f"While another such file is added in {cost.seconds:.1f} s, a run of four short jobs at a "
        f"time has no event for {beside:.2f} s at most ({alone:.2f} s before); target ≤ "
        f"{MOST_HELD_S:.0f} s: {verdict(beside <= MOST_HELD_S)}."
    )


def main() -> None:
    """Run everything."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, help="default: 1000000; 20000 with --quick")
    options.add_argument("--without-ids", action="store_true", help="rows are known by content")
    options.add_argument("--only", choices=["compare", "beside"], help="one half of it")
    chosen = options.parse_args()
    rows = chosen.rows or (20_000 if chosen.quick else 1_000_000)
    parts = [f"{rows:,} rows of seven columns, every one validated, medians."]
    with tempfile.TemporaryDirectory(prefix="batchgen-expand-") as name:
        folder = Path(name)
        write_large_manifest(folder / "large.csv", rows, ids=not chosen.without_ids)
        if chosen.only != "beside":
            parts.append(compare(folder, rows, 1 if chosen.quick else chosen.rounds))
        if chosen.only != "compare":
            parts.append(hold_up(folder, rows))
    report(TITLE, "\n\n".join(parts), results=results_file(chosen))


if __name__ == "__main__":
    main()
