"""How long one waits for `status` on a million jobs, and for `--help`.

`status` reads stored counters; beside it the `sqlite3` program counts the jobs one by one.

    python benchmarks/status.py
    python benchmarks/status.py --quick
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from measuring import (
    PROGRAM,
    Cost,
    clean_environment,
    interleaved,
    median,
    parser,
    report,
    results_file,
    table,
    timed,
    verdict,
)
from stored import database

TITLE = "Looking at a million jobs"
MOST_S = {"batchgen status": 0.5, "batchgen --help": 0.2}
_COUNT = "SELECT state, count(*) FROM jobs GROUP BY state"


def contestants(path: Path) -> dict[str, Callable[[], Cost]]:
    """Return what is timed."""

    def batchgen(*words: str) -> Cost:
        # From its folder, as a user is: nothing of the checkout is on the path by chance.
        return timed([*PROGRAM, *words], folder=path.parent, environment=clean_environment())

    found: dict[str, Callable[[], Cost]] = {
        "batchgen --help": lambda: batchgen("--help"),
        "batchgen status": lambda: batchgen("status", "--db", str(path)),
        "batchgen ls --limit 20": lambda: batchgen("ls", "--limit", "20", "--db", str(path)),
    }
    program = shutil.which("sqlite3")
    if program is not None:
        found["sqlite3, counting by state"] = lambda: timed([program, path, _COUNT])
    return found


def main() -> None:
    """Build, time, report."""
    options = parser(__doc__, rounds=5)
    options.add_argument("--rows", type=int, help="default: 1000000; 20000 with --quick")
    options.add_argument("--folder", type=Path, help="where its job database is kept")
    chosen = options.parse_args()
    rows = chosen.rows or (20_000 if chosen.quick else 1_000_000)
    with database(rows, finished=rows // 2, kept=chosen.folder) as path:
        runs = contestants(path)
        for run in runs.values():
            run()  # what is read once more is read from memory, for all alike
        found = interleaved(runs, rounds=3 if chosen.quick else chosen.rounds)
    lines = []
    for name, costs in found.items():
        seconds = median(costs, lambda c: c.seconds)
        most = MOST_S.get(name)
        target = "" if most is None else f"≤ {most} s: {verdict(seconds <= most)}"
        cpu_s, mb = median(costs, lambda c: c.cpu_s), median(costs, lambda c: c.mb)
        lines.append([f"`{name}`", f"{seconds:.2f}", f"{cpu_s:.2f}", f"{mb:.0f}", target])
    text = f"{rows:,} jobs, half of them finished, medians.\n\n"
    text += table(["", "s", "CPU s", "MB", "target"], lines)
    report(TITLE, text, results=results_file(chosen))


if __name__ == "__main__":
    main()
