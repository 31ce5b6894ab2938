"""How batchgen grows: jobs a second with the cap, memory and the claim with the number of jobs.

python benchmarks/growth.py
python benchmarks/growth.py --quick
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measuring import (
    PROGRAM,
    clean_environment,
    median,
    parser,
    report,
    results_file,
    table,
    timed,
    write_large_manifest,
)
from overhead import OWN, Contest, compete
from resume import claim_ms
from stored import build

TITLE = "Growth"
CAPS = (10, 50, 200, 500, 2_000)
QUICK_CAPS = (10, 100)
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def by_cap(jobs: int, caps: Sequence[int], rounds: int, base: str | None) -> str:
    """Return a table of jobs a second and memory by cap."""
    contests = [Contest(jobs, cap, base) for cap in caps]
    found = compete([OWN], contests, rounds)
    first = median(found[0][OWN], lambda c: c.rate)
    lines = []
    for contest, costs in zip(contests, found, strict=True):
        rate = median(costs[OWN], lambda c: c.rate)
        of_cpu = median(costs[OWN], lambda c: c.rate_of_cpu)
        mb = median(costs[OWN], lambda c: c.mb)
        row = [f"{rate:.0f}", f"{rate / first:.2f} x", f"{of_cpu:.0f}", f"{mb:.0f}"]
        lines.append([f"{contest.cap:,}", *row])
    return table(["cap", "jobs/s", f"of cap {caps[0]}", "jobs per CPU second", "MB"], lines)


def by_size(sizes: tuple[int, ...]) -> str:
    """Return a table of claims, memory and the file by number of jobs."""
    lines = []
    for rows in sizes:
        with tempfile.TemporaryDirectory(prefix="batchgen-growth-") as name:
            path = build(Path(name), rows, finished=rows // 2)
            size = path.stat().st_size
            claims = [claim_ms(path) for _ in range(3)]
            again = build_again(path, rows)
            exported = timed(
                [*PROGRAM, "export", "-o", "out.csv", "--db", "jobs.db"],
                folder=path.parent,
                environment=clean_environment(),
            )
        claim = f"{statistics.median(claims):.2f}"
        memory = [f"{again:.0f}", f"{exported.mb:.0f}"]
        lines.append([f"{rows:,}", claim, *memory, f"{size / rows:,.0f}"])
    head = [
        "jobs, half of them finished",
        "claim of one, CPU ms",
        "`add` again, MB",
        "`export`, MB",
    ]
    return table([*head, "bytes a job in the file"], lines)


def build_again(path: Path, rows: int) -> float:
    """Add the same file again; return the memory that took, in MB."""
    write_large_manifest(path.parent / "large.csv", rows)
    cost = timed(
        [*PROGRAM, "add", "large.csv", "--db", "jobs.db", "--max-expand", str(rows)],
        folder=path.parent,
        environment=clean_environment(),
    )
    return cost.mb


def main() -> None:
    """Measure, report."""
    options = parser(__doc__, rounds=3, base=True)
    options.add_argument("--jobs", type=int, help="default: 2000; 100 with --quick")
    options.add_argument("--caps", type=int, nargs="+", metavar="N")
    options.add_argument("--sizes", type=int, nargs="+", metavar="N", help="numbers of jobs")
    chosen = options.parse_args()
    jobs = chosen.jobs or (100 if chosen.quick else 2_000)
    sizes = tuple(chosen.sizes or (SIZES[:2] if chosen.quick else SIZES))
    at_once = chosen.caps or (QUICK_CAPS if chosen.quick else CAPS)
    caps = by_cap(jobs, at_once, 1 if chosen.quick else chosen.rounds, chosen.base)
    text = f"{jobs:,} jobs against an instant service, start-up included:\n\n{caps}\n\n"
    report(TITLE, text + by_size(sizes), results=results_file(chosen))


if __name__ == "__main__":
    main()
