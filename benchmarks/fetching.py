"""How fast clips come down a line of 1 Gbit/s, beside `curl --parallel` and aria2.

Jobs are generated, their clips are not fetched; then their links are made to point to a server of
files that is shaped to the line's speed. `batchgen download` fetches, checks, hashes, syncs and
renames them, four at a time; `curl --parallel` and aria2 fetch the same files, four at a time.

    python benchmarks/fetching.py
    python benchmarks/fetching.py --quick
"""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from measuring import (
    HERE,
    PROGRAM,
    Cost,
    Wrong,
    for_service,
    interleaved,
    median,
    parser,
    ratio,
    report,
    results_file,
    service,
    table,
    timed,
    verdict,
    write_manifest,
)

from batchgen.providers.simulator.clip import pieces

TITLE = "Downloads from a line of 1 Gbit/s"
OWN = "batchgen download"
CURL = "curl --parallel"
LEAST = 0.9
MOST_MB = 150.0
_AT_ONCE = "4"


@contextmanager
def file_server(folder: Path, mbit_per_s: float) -> Iterator[str]:
    """Serve the files of a folder; give their URL."""
    command = [sys.executable, str(HERE / "files.py"), str(folder), str(mbit_per_s * 1e6)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise RuntimeError("the server has no stdout")
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def write_clips(folder: Path, count: int, size_bytes: int) -> int:
    """Write clips that look like ones; return how many bytes they have in all."""
    folder.mkdir()
    for number in range(count):
        with (folder / f"{number}.mp4").open("wb") as file:
            for piece in pieces(f"{number}.mp4", size_bytes=size_bytes):
                file.write(piece)
    return sum(path.stat().st_size for path in folder.iterdir())


def buy(folder: Path, base: str, count: int) -> Path:
    """Have jobs generated and not fetched; return their job database."""
    write_manifest(folder / "jobs.csv", count)
    words = ["run", "jobs.csv", "--db", "bought.db", "-y", "-j", "50", "--poll-interval", "0"]
    timed(
        [*PROGRAM, *words, "--no-download", "--no-probe"],
        folder=folder,
        environment=for_service(base),
    )
    return folder / "bought.db"


def fetch(bought: Path, base: str, files: str, total: int) -> Cost:
    """Fetch all clips with batchgen.

    Raises:
        Wrong: If not all are on disk.
    """
    with tempfile.TemporaryDirectory(dir=bought.parent) as name:
        folder = Path(name)
        path = folder / "jobs.db"
        shutil.copy(bought, path)
        with closing(sqlite3.connect(path)) as database, database:
            ids = [row[0] for row in database.execute("SELECT id FROM jobs ORDER BY id")]
            database.executemany(
                "UPDATE jobs SET urls = ? WHERE id = ?",
                [(f'["{files}/{number}.mp4"]', job_id) for number, job_id in enumerate(ids)],
            )
        words = ["download", "--db", "jobs.db", "--download-jobs", _AT_ONCE]
        cost = timed([*PROGRAM, *words], folder=folder, environment=for_service(base), work=total)
        found = sum(path.stat().st_size for path in (folder / "clips").rglob("*.mp4"))
        if found != total:
            raise Wrong(f"{found} bytes are on disk, not {total}")
        return cost


def fetch_otherwise(command: list[str], folder: Path, files: str, count: int, total: int) -> Cost:
    """Fetch all clips with a program that takes URLs.

    Raises:
        Wrong: If not all are on disk.
    """
    with tempfile.TemporaryDirectory(dir=folder) as target:
        urls = [f"{files}/{number}.mp4" for number in range(count)]
        cost = timed([*command, *urls], folder=Path(target), work=total)
        found = sum(path.stat().st_size for path in Path(target).iterdir())
        if found != total:
            raise Wrong(f"{found} bytes are on disk, not {total}")
        return cost


def peers() -> dict[str, list[str]]:
    """Return the other programs that are installed, by name."""
    known = {
        CURL: ["curl", "--silent", "--parallel", "--parallel-max", _AT_ONCE, "--remote-name-all"],
        "aria2": ["aria2c", "--quiet", "-Z", "-j", _AT_ONCE, "-x", "1", "--file-allocation=none"],
    }
    found = {}
    for name, command in known.items():
        if shutil.which(command[0]) is None:
            print(f"without {name}: {command[0]} is not installed", file=sys.stderr)
        else:
            found[name] = command
    return found


def main() -> None:
    """Buy, fetch, report."""
    options = parser(__doc__, base=True)
    options.add_argument("--files", type=int, help="default: 60; 12 with --quick")
    options.add_argument("--mb", type=float, help="of each; default: 16; 4 with --quick")
    options.add_argument("--mbit", type=float, default=1000.0, help="megabits a second")
    chosen = options.parse_args()
    count = chosen.files or (12 if chosen.quick else 60)
    size_bytes = round(1e6 * (chosen.mb or (4 if chosen.quick else 16)))
    with (
        tempfile.TemporaryDirectory(prefix="batchgen-downloads-") as name,
        service(chosen.base, jobs=count) as base,
    ):
        folder = Path(name)
        total = write_clips(folder / "files", count, size_bytes)
        bought = buy(folder, base, count)
        with file_server(folder / "files", chosen.mbit) as files:
            runs: dict[str, Callable[[], Cost]] = {OWN: lambda: fetch(bought, base, files, total)}
            for peer, command in peers().items():
                runs[peer] = lambda command=command: fetch_otherwise(  # type: ignore[misc]
                    command, folder, files, count, total
                )
            found = interleaved(runs, rounds=1 if chosen.quick else chosen.rounds)
    lines = []
    for peer, costs in found.items():
        beside = "" if peer == OWN else f"{ratio(found[OWN], costs):.2f} x"
        target = ""
        if peer == CURL:
            target = f"≥ {LEAST} x: {verdict(ratio(found[OWN], costs) >= LEAST)}"
        cpu_s = median(costs, lambda c: c.cpu_s * 1e9 / c.work)
        figures = [f"{median(costs, lambda c: c.rate / 1e6):.0f}", f"{cpu_s:.1f}"]
        lines.append([peer, *figures, f"{median(costs, lambda c: c.mb):.0f}", beside, target])
    mb = max(cost.mb for cost in found[OWN])
    text = (
        f"{count} files of {size_bytes / 1e6:g} MB from loopback, at {chosen.mbit:g} Mbit/s, "
        "four at a time; whole processes, medians. batchgen checks, hashes and syncs each.\n\n"
    )
    text += table(["", "MB/s", "CPU s per GB", "MB of memory", "batchgen is", "target"], lines)
    text += f"\n\nMemory target ≤ {MOST_MB:.0f} MB: {verdict(mb <= MOST_MB)}."
    report(TITLE, text, results=results_file(chosen))


if __name__ == "__main__":
    main()
