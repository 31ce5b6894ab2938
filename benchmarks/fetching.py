"""How fast clips come down a line of 1 Gbit/s, beside `curl --parallel` and aria2.

Jobs are generated, their clips are not fetched; then their links are made to point to a server of
files that is shaped to the line's speed. `batchgen download` fetches, checks, hashes, syncs and
renames them, four at a time; `curl --parallel` and aria2 fetch the same files, four at a time.
Then a `run` buys as much while it downloads, and while it does not: how long its event loop does
anything but wait.

    python benchmarks/fetching.py
    python benchmarks/fetching.py --quick
"""

import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import installing
from measuring import (
    HERE,
    PROGRAM,
    Cost,
    Missing,
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
MANY = "batchgen download, 16 at a time"
CURL = "curl --parallel"
LEAST = 0.9
MOST_MB = 150.0
_AT_ONCE = 4
_MANY_AT_ONCE = 16
_JOBS = 20  # in flight beside the downloads


@dataclass(frozen=True)
class Wanted:
    """What is measured.

    Attributes:
        base: Of another service than one's own.
        count: How many clips.
        size_bytes: Of each.
        mbit: Megabits a second of the line.
        run_s: How long generations take beside which clips are downloaded.
    """

    base: str | None
    count: int
    size_bytes: int
    mbit: float
    run_s: tuple[float, float]


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


def fetch(
    bought: Path, base: str, files: str, total: int, *, at_once: int, idle: list[Cost]
) -> Cost:
    """Fetch all clips with batchgen.

    Args:
        bought: A job database whose clips are not fetched; it stays as it is.
        base: Of the service.
        files: Where the clips are.
        total: How many bytes they have.
        at_once: How many are fetched at a time.
        idle: Takes what the same command costs when nothing is left to fetch: its start-up.

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
        command = [*PROGRAM, "download", "--db", "jobs.db", "--download-jobs", str(at_once)]
        cost = timed(command, folder=folder, environment=for_service(base), work=total)
        found = sum(path.stat().st_size for path in (folder / "clips").rglob("*.mp4"))
        if found != total:
            raise Wrong(f"{found} bytes are on disk, not {total}")
        idle.append(timed(command, folder=folder, environment=for_service(base)))
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
    """Return the other programs that are to be had, by name."""
    known = {
        CURL: (_curl, f"--silent --parallel --parallel-max {_AT_ONCE} --remote-name-all"),
        "aria2": (_aria2, f"--quiet -Z -j {_AT_ONCE} -x 1 --file-allocation=none"),
    }
    found = {}
    for name, (program, words) in known.items():
        try:
            found[name] = [program(), *words.split()]
        except Missing as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


def _curl() -> str:
    found = shutil.which("curl")
    if found is None:
        raise Missing("curl is not installed")
    return found


def _aria2() -> str:
    """Return the machine's own program, else the one that a package brings."""
    found = shutil.which("aria2c")
    if found is not None:
        return found
    packed = installing.environment().parent.glob("lib/python*/site-packages/aria2c/bin/aria2c")
    for path in packed:
        return str(path)
    raise Missing("aria2c is not installed, and the package index has none for this machine")


def turns(folder: Path, chosen: Wanted, *words: str) -> list[float]:
    """Buy as many clips with a polling run; return the longest turns of its event loop.

    In milliseconds of processor time, the longest first.
    """
    with (
        tempfile.TemporaryDirectory(dir=folder) as name,
        service(chosen.base, run_s=chosen.run_s, clip_bytes=chosen.size_bytes) as base,
    ):
        here = Path(name)
        write_manifest(here / "jobs.csv", chosen.count)
        command = [sys.executable, str(HERE / "watched.py"), "turns.json", "run", "jobs.csv"]
        command += ["--db", "jobs.db", "-y", "-j", str(_JOBS), "--poll-interval", "0.1"]
        timed([*command, "--no-probe", *words], folder=here, environment=for_service(base))
        said = json.loads((here / "turns.json").read_text(encoding="utf-8"))
    return sorted((cpu for _, cpu in said["longest_ms"]), reverse=True)


def contest(folder: Path, chosen: Wanted, *, rounds: int) -> str:
    """Let all fetch the same files; return the table and what belongs to it."""
    idle: list[Cost] = []
    total = write_clips(folder / "files", chosen.count, chosen.size_bytes)
    with service(chosen.base, jobs=chosen.count) as base:
        bought = buy(folder, base, chosen.count)
        with file_server(folder / "files", chosen.mbit) as files:

            def own(at_once: int) -> Cost:
                return fetch(bought, base, files, total, at_once=at_once, idle=idle)

            runs: dict[str, Callable[[], Cost]] = {
                OWN: lambda: own(_AT_ONCE),
                MANY: lambda: own(_MANY_AT_ONCE),
            }
            for peer, command in peers().items():
                runs[peer] = lambda command=command: fetch_otherwise(  # type: ignore[misc]
                    command, folder, files, chosen.count, total
                )
            found = interleaved(runs, rounds=rounds)
    lines = []
    for peer, costs in found.items():
        is_peer = peer not in (OWN, MANY)
        beside = f"{ratio(found[OWN], costs):.2f} x" if is_peer else ""
        is_met = ratio(found[OWN], costs) >= LEAST
        target = f"≥ {LEAST} x: {verdict(is_met)}" if peer == CURL else ""
        cpu_s = median(costs, lambda c: c.cpu_s * 1e9 / c.work)
        figures = [f"{median(costs, lambda c: c.rate / 1e6):.0f}", f"{cpu_s:.1f}"]
        lines.append([peer, *figures, f"{max(cost.mb for cost in costs):.0f}", beside, target])
    mb = max(cost.mb for name in (OWN, MANY) for cost in found[name])
    idle_s, idle_cpu_s = median(idle, lambda c: c.seconds), median(idle, lambda c: c.cpu_s)
    text = table(["", "MB/s", "CPU s per GB", "MB of memory", "batchgen is", "target"], lines)
    return (
        f"{text}\n\nMemory target ≤ {MOST_MB:.0f} MB: {verdict(mb <= MOST_MB)}. "
        f"With nothing left to fetch the same command takes {idle_s:.2f} s, {idle_cpu_s:.2f} s of "
        "processor time: its start-up, of which the others have next to none."
    )


def main() -> None:
    """Buy, fetch, report."""
    options = parser(__doc__, base=True)
    options.add_argument("--files", type=int, help="default: 60; 12 with --quick")
    options.add_argument("--mb", type=float, help="of each; default: 16; 4 with --quick")
    options.add_argument("--mbit", type=float, default=1000.0, help="megabits a second")
    given = options.parse_args()
    chosen = Wanted(
        base=given.base,
        count=given.files or (12 if given.quick else 60),
        size_bytes=round(1e6 * (given.mb or (4 if given.quick else 16))),
        mbit=given.mbit,
        run_s=(0.1, 0.5) if given.quick else (1.0, 6.0),
    )
    with tempfile.TemporaryDirectory(prefix="batchgen-downloads-") as name:
        folder = Path(name)
        fetched = contest(folder, chosen, rounds=1 if given.quick else given.rounds)
        beside = [turns(folder, chosen, *words) for words in ((), ("--no-download",))]
    text = (
        f"{chosen.count} files of {chosen.size_bytes / 1e6:g} MB from loopback, at "
        f"{chosen.mbit:g} Mbit/s, four at a time; whole processes, medians, the most memory. "
        f"batchgen checks, hashes and syncs each.\n\n{fetched}\n\n"
        f"A run of {chosen.count} jobs, {_JOBS} at most in flight and each looked at ten times a "
        "second, downloads such clips from a server without a limit. The longest turns of its "
        "event loop, in milliseconds of processor time (the first two set up TLS and submit):\n\n"
    )
    places = range(min(5, *map(len, beside)))
    text += table(
        ["", *(f"{place + 1}." for place in places)],
        [
            [what, *(f"{longest[place]:.1f}" for place in places)]
            for what, longest in zip(("with downloads", "without"), beside, strict=True)
        ],
    )
    report(TITLE, text, results=results_file(given))


if __name__ == "__main__":
    main()
