"""What an export of a million finished jobs takes, beside `sqlite3 -csv`.

`sqlite3 -csv` writes columns of the same rows as they are stored; batchgen makes a manifest of them
again: the user's cells, states, times, paths, and nothing that a spreadsheet would run.

    python benchmarks/export.py
    python benchmarks/export.py --quick
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from measuring import (
    PROGRAM,
    Cost,
    Wrong,
    clean_environment,
    interleaved,
    median,
    parser,
    ratio,
    report,
    results_file,
    table,
    timed,
    verdict,
)
from stored import database

TITLE = "Export of a million jobs"
MOST_S = 30.0
MOST_GROWTH_MB = 10.0
_PLAIN = (
    "SELECT j.cells, j.key, j.state, j.model, j.seed, a.request_id, j.urls, j.files, a.cost_micros,"
    " j.error_class, j.error, a.intent_ms, j.finished_ms, a.run_ms, b.name FROM jobs j "
    "JOIN batches b ON b.id = j.batch_id LEFT JOIN attempts a ON a.id = j.attempt_id "
    "ORDER BY j.batch_id, j.position, j.id"
)


def export(path: Path, out: Path, *more: str) -> Cost:
    """Export a job database.

    Raises:
        Wrong: If nothing came of it.
    """
    out.unlink(missing_ok=True)
    words = [*PROGRAM, "export", "-o", str(out), "--db", str(path), *more]
    cost = timed(words, environment=clean_environment())
    if not out.stat().st_size:
        raise Wrong(f"{out} is empty")
    return cost


def lines_of(out: Path) -> int:
    """Return how many lines a file has."""
    with out.open("rb") as file:
        return sum(1 for _ in file)


def main() -> None:
    """Build, time, report."""
    options = parser(__doc__)
    options.add_argument("--rows", type=int, help="default: 1000000; 20000 with --quick")
    options.add_argument("--folder", type=Path, help="where its job database is kept")
    chosen = options.parse_args()
    rows = chosen.rows or (20_000 if chosen.quick else 1_000_000)
    program = shutil.which("sqlite3")
    with database(rows, finished=rows, kept=chosen.folder) as path:
        out = path.with_name("results.csv")
        runs: dict[str, Callable[[], Cost]] = {"batchgen export": lambda: export(path, out)}
        if program is not None:
            plain = path.with_name("plain.csv")
            runs["sqlite3 -csv"] = lambda: timed([program, "-csv", path, _PLAIN], into=plain)
        found = interleaved(runs, rounds=1 if chosen.quick else chosen.rounds)
        if lines_of(out) != rows + 1:
            raise Wrong(f"{out} has {lines_of(out)} lines, not {rows + 1}")
        size_mb = out.stat().st_size / 1e6
        tenth = export(path, out, "--where", "seed < 100")
    own = found["batchgen export"]
    seconds, mb = median(own, lambda c: c.seconds), median(own, lambda c: c.mb)
    lines = []
    for name, costs in found.items():
        figures = [f"{median(costs, lambda c: c.seconds):.1f}"]
        figures.append(f"{median(costs, lambda c: c.cpu_s):.1f}")
        lines.append([f"`{name}`", *figures, f"{median(costs, lambda c: c.mb):.0f}"])
    text = f"{rows:,} finished jobs, {size_mb:,.0f} MB of CSV, medians.\n\n"
    text += table(["", "s", "CPU s", "MB"], lines)
    if len(found) > 1:
        plain_costs = found["sqlite3 -csv"]
        by_time = ratio(own, plain_costs, lambda c: c.seconds)
        text += f"\n\nIt takes {by_time:.1f} x as long as `sqlite3 -csv`."
    most_s = MOST_S * rows / 1_000_000
    text += (
        f" Target ≤ {most_s:.1f} s: {verdict(seconds <= most_s)}. Memory: {mb - tenth.mb:+.1f} MB "
        f"beside a tenth of the jobs: {verdict(mb - tenth.mb <= MOST_GROWTH_MB)}."
    )
    report(TITLE, text, results=results_file(chosen))


if __name__ == "__main__":
    main()
