"""What the benchmarks share: processes timed, contestants interleaved, tables, `results.md`.

Every contestant is a whole process, from its start to its exit. Beside the clock on the wall
stand the seconds of processor time that it used: on a machine that does other things too, they
say more.
"""

import argparse
import csv
import os
import platform
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.md"
MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
PROGRAM = (sys.executable, "-m", "batchgen")
TOKEN = "benchmark"

_BYTES_OF_RSS = 1 if sys.platform == "darwin" else 1024


class Wrong(RuntimeError):
    """A contestant did not do its work, so its figures mean nothing."""


class Missing(RuntimeError):
    """A peer is not to be had on this machine; the others are compared without it."""


# -- processes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What one process, and the children it has waited for, took.

    Attributes:
        seconds: By the clock on the wall.
        cpu_s: Seconds of processor time, of the user and of the system for it.
        mb: The most memory at once, in megabytes.
        work: How much it did: jobs, rows, or bytes.
    """

    seconds: float
    cpu_s: float
    mb: float
    work: float = 0.0

    @property
    def rate(self) -> float:
        """Work a second."""
        return self.work / self.seconds

    @property
    def rate_of_cpu(self) -> float:
        """Work a second of processor time."""
        return self.work / self.cpu_s


def timed(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    work: float = 0.0,
    into: Path | None = None,
    codes: Iterable[int] = (0,),
) -> Cost:
    """Run a command to its end; return what it took.

    Args:
        command: Program and arguments.
        folder: Where it runs.
        environment: All of it; else this process's without what is meant for batchgen.
        work: How much it does.
        into: A file for its stdout.
        codes: The exit codes of success.

    Raises:
        Wrong: If it exits otherwise.
    """
    with tempfile.TemporaryFile() as said, (into or Path(os.devnull)).open("wb") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=clean_environment() if environment is None else environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=said,
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in codes:
            said.seek(0)
            words = " ".join(str(word) for word in command[:6])
            text = said.read().decode(errors="replace")
            raise Wrong(f"{words} … exited {process.returncode}:\n{text[-2000:]}")
    cpu_s = used.ru_utime + used.ru_stime
    return Cost(seconds, cpu_s, used.ru_maxrss * _BYTES_OF_RSS / 1e6, work)


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without anything that is meant for batchgen, but `more`.

    Python may keep what it compiles, as an installer does for packages: else the modules of a
    checkout, and no others, would be compiled anew by each process.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUNCOMFY_", "BATCHGEN_")) and name != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | more


def for_service(base: str) -> dict[str, str]:
    """Return the environment of a batchgen that works with a stand-in service."""
    return clean_environment(RUNCOMFY_MODEL_API_BASE=base, RUNCOMFY_TOKEN=token())


def token() -> str:
    """Return the token that a stand-in service is shown."""
    return os.environ.get("RUNCOMFY_TOKEN", TOKEN)


def checked_base(base: str) -> str:
    """Return the base of a service that may be asked for thousands of clips.

    Raises:
        argparse.ArgumentTypeError: If it is not on this machine: it might be paid.
    """
    if urlsplit(base).hostname not in ("127.0.0.1", "::1", "localhost"):
        raise argparse.ArgumentTypeError("only a stand-in service on this machine: all is bought")
    return base.rstrip("/")


# -- the stand-in service ------------------------------------------------------------------------


@contextmanager
def service(base: str | None, *, jobs: int | None = None, **settings: object) -> Iterator[str]:
    """Run a fresh stand-in service in a process of its own; give its base.

    Args:
        base: Of another service, which is used instead.
        jobs: How many requests it must have accepted in the end; None does not look.
        settings: How it behaves, as `batchgen simulate` takes them in JSON.

    Raises:
        Wrong: If it accepted another number of requests.
    """
    if base is not None:
        yield base
        return
    words = [f"{name}={value!r}" for name, value in settings.items()]
    with subprocess.Popen(
        [sys.executable, HERE / "service.py", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None:
            raise RuntimeError("the service has no stdout")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
        accepted = int(process.stdout.readline())
    if jobs is not None and accepted != jobs:
        raise Wrong(f"the service accepted {accepted} requests, not {jobs}")


# -- what is bought ------------------------------------------------------------------------------


def prompt(number: int) -> str:
    """Return the prompt of a job."""
    return f"Boats leave the harbor at dawn, take {number}"


def image(number: int) -> str:
    """Return the image of a job."""
    return f"https://images.example.com/harbor-{number}.jpg"


def write_manifest(path: Path, jobs: int) -> Path:
    """Write a small table of so many jobs; return its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "prompt", "image"])
        table.writerows([f"r{number}", prompt(number), image(number)] for number in range(jobs))
    return path


def write_large_manifest(path: Path, rows: int, *, ids: bool = True) -> Path:
    """Write a table as people have them: prompts, links, numbers, columns of their own."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        head = ["prompt", "image", "duration", "seed", "shot", "client"]
        table.writerow(["id", *head] if ids else head)
        for n in range(rows):
            text = f"{prompt(n)}, the camera pans slowly over the water and the fog lifts"
            link = f"https://images.example.com/harbor/{n:07}.jpg"
            row = [text, link, 5 if n % 2 else 10, n % 1000, f"{n % 97}b", "acme"]
            table.writerow([f"shot-{n:07}", *row] if ids else row)
    return path


# -- contests ------------------------------------------------------------------------------------


def interleaved(
    contestants: Mapping[str, Callable[[], Cost]], *, rounds: int
) -> dict[str, list[Cost]]:
    """Let everybody run `rounds` times in turn, so that a noisy minute hits all alike."""
    found: dict[str, list[Cost]] = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        for name, run in contestants.items():
            cost = run()
            found[name].append(cost)
            print(
                f"round {number}: {name}: {cost.seconds:.2f} s, {cost.cpu_s:.2f} s of processor, "
                f"{cost.mb:.0f} MB",
                file=sys.stderr,
            )
    return found


def median(costs: Iterable[Cost], what: Callable[[Cost], float]) -> float:
    """Return the median of a figure over several runs."""
    return statistics.median(map(what, costs))


def ratio(
    ours: Sequence[Cost], theirs: Sequence[Cost], what: Callable[[Cost], float] = lambda c: c.rate
) -> float:
    """Return the median of the ratios of runs of the same rounds."""
    return statistics.median(
        what(mine) / what(other) for mine, other in zip(ours, theirs, strict=True)
    )


def verdict(is_met: bool) -> str:
    """Return how a table says that a target is met."""
    return "met" if is_met else "**not met**"


# -- tables --------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def machine() -> str:
    """Return what ran this: cores, memory, Python, SQLite."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def report(title: str, text: str, *, results: Path | None) -> None:
    """Print a section, and put it in the place of that title in the file of results."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    load = f"load {os.getloadavg()[0]:.1f}"
    section = f"## {title}\n\n{day}; {machine()}; {load} at the end\n\n{text.strip()}\n"
    print(section)
    if results is None:
        return
    written = results.read_text(encoding="utf-8") if results.exists() else "# Results\n"
    old = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if old.search(written):
        written = old.sub(lambda _: section + "\n", written, count=1)
    else:
        written = f"{written.rstrip()}\n\n{section}"
    results.write_text(written.rstrip() + "\n", encoding="utf-8")


# -- options -------------------------------------------------------------------------------------


def parser(
    doc: str | None, *, rounds: int | None = 3, base: bool = False
) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have.

    Args:
        doc: The module's docstring; its first line describes it.
        rounds: How many there are without `--rounds`; None has no such option.
        base: Whether another service can be used.
    """
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="small, and less sure")
    made.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help=f"where its section goes (default: {RESULTS.name} beside this; nowhere with --quick)",
    )
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds, help="runs of each contestant")
    if base:
        made.add_argument(
            "--base",
            type=checked_base,
            metavar="URL",
            help="use this service instead of one of its own; RUNCOMFY_TOKEN is its token",
        )
    return made


def results_file(chosen: argparse.Namespace) -> Path | None:
    """Return where the section of a benchmark goes; None is nowhere."""
    given: Path | None = chosen.results
    return given if given is not None or chosen.quick else RESULTS
