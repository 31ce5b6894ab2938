"""What durability costs: jobs a second against an instant service, beside what people would use.

Every contestant is a whole process, start-up included, against the same stand-in service in a
process of its own, and makes the same requests: one paid POST and one look a job, no download.

* batchgen: every intent and request id durably committed, `run -j CAP --poll-interval 0`
* loop, httpx on aiohttp: an asyncio loop without any state on batchgen's transport
* loop, plain httpx: the same loop as most people would write it
* huey on SQLite, procrastinate on PostgreSQL, DBOS on SQLite: task queues that keep a state

Rounds are interleaved, so that a noisy minute hits all alike; medians are compared, ratios within
a round.

    python benchmarks/overhead.py                 # caps 50 and 500, 1,500 jobs, 3 rounds each
    python benchmarks/overhead.py --quick         # 400 jobs, beside those alone that have a target
    python benchmarks/overhead.py --base http://127.0.0.1:8000/v1     # against another service
"""

import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import installing
from database_server import server
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
    service,
    table,
    timed,
    token,
    verdict,
    write_manifest,
)

TITLE = "Jobs a second against an instant service"
OWN = "batchgen"
TARGETS = {
    "loop, httpx on aiohttp": 0.5,
    "loop, plain httpx": 4.0,
    "procrastinate on PostgreSQL": 1.5,
}
"""The least that batchgen's jobs a second should be at cap 50, as a multiple of each peer's."""
LEAST_AT_500 = 0.85
PACKAGES = {"huey on SQLite": "huey", "procrastinate on PostgreSQL": "procrastinate"}
PACKAGES["DBOS on SQLite"] = "dbos"
WARM_UP_JOBS = 20


@dataclass(frozen=True)
class Contest:
    """What everybody does.

    Attributes:
        jobs: How many jobs.
        cap: How many of them at once.
        base: The service to be used; None is one of its own for each run.
    """

    jobs: int
    cap: int
    base: str | None = None


# -- contestants ---------------------------------------------------------------------------------


def run_batchgen(contest: Contest, base: str) -> Cost:
    """Run batchgen as a process.

    Raises:
        Wrong: If the job database does not hold every job, paid and generated.
    """
    with tempfile.TemporaryDirectory(prefix="batchgen-overhead-") as name:
        folder = Path(name)
        write_manifest(folder / "jobs.csv", contest.jobs)
        command = [*PROGRAM, "run", "jobs.csv", "--db", "jobs.db", "-y", "-j", str(contest.cap)]
        command += ["--poll-interval", "0", "--no-download", "--no-probe"]
        cost = timed(command, folder=folder, environment=for_service(base), work=contest.jobs)
        with closing(sqlite3.connect(folder / "jobs.db")) as database:
            found = database.execute(
                "SELECT count(*) FROM jobs j JOIN attempts a ON a.id = j.attempt_id "
                "WHERE j.state = 'downloading' AND a.request_id IS NOT NULL"
            ).fetchone()[0]
    if found != contest.jobs:
        raise Wrong(f"the job database holds {found} generated jobs, not {contest.jobs}")
    return cost


def run_loop(kind: str, contest: Contest, base: str) -> Cost:
    """Run a hand-written loop, with the very libraries that batchgen runs with."""
    return _run_peer(sys.executable, "loop.py", [kind, base], contest)


def run_queue(script: str, contest: Contest, base: str) -> Cost:
    """Run a task queue on SQLite."""
    python = installing.environment() / "python"
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        return _run_peer(python, script, [base], contest, f"{folder}/queue.db")


def run_procrastinate(contest: Contest, base: str) -> Cost:
    """Run procrastinate on a PostgreSQL server, whose own processor time is not counted."""
    with server() as url:
        python = installing.environment() / "python"
        return _run_peer(python, "on_procrastinate.py", [base], contest, url)


def _run_peer(
    python: str | Path, script: str, first: Sequence[str], contest: Contest, *last: str
) -> Cost:
    command = [python, installing.PEERS / script, *first, str(contest.jobs), str(contest.cap)]
    environment = clean_environment(PEER_TOKEN=token())
    return timed([*command, *last], environment=environment, work=contest.jobs)


Runner = Callable[[Contest, str], Cost]
CONTESTANTS: dict[str, Runner] = {
    OWN: run_batchgen,
    "loop, httpx on aiohttp": lambda contest, base: run_loop("aiohttp", contest, base),
    "loop, plain httpx": lambda contest, base: run_loop("httpx", contest, base),
    "procrastinate on PostgreSQL": run_procrastinate,
    "huey on SQLite": lambda contest, base: run_queue("on_huey.py", contest, base),
    "DBOS on SQLite": lambda contest, base: run_queue("on_dbos.py", contest, base),
}


def measure(run: Runner, contest: Contest) -> Cost:
    """Run one contestant against a fresh service, or the one that is given."""
    with service(contest.base, jobs=contest.jobs) as base:
        return run(contest, base)


def known(names: Sequence[str], base: str | None) -> list[str]:
    """Warm everybody up; return who can take part here."""
    found = []
    for name in names:
        print(f"warming up {name}", file=sys.stderr)
        try:
            measure(CONTESTANTS[name], Contest(WARM_UP_JOBS, 5, base))
        except Missing as error:
            print(f"without {name}: {error}", file=sys.stderr)
        else:
            found.append(name)
    return found


def compete(
    names: Sequence[str], contests: Sequence[Contest], rounds: int
) -> list[dict[str, list[Cost]]]:
    """Let everybody run each contest in every round; return the costs by contest and name."""
    found: list[dict[str, list[Cost]]] = [{} for _ in contests]
    for _ in range(rounds):
        for contest, costs in zip(contests, found, strict=True):
            runs = {
                name: lambda name=name, contest=contest: measure(CONTESTANTS[name], contest)
                for name in names
            }
            for name, cost in interleaved(runs, rounds=1).items():
                costs.setdefault(name, []).extend(cost)
    return found


# -- what came out -------------------------------------------------------------------------------


def described(name: str) -> str:
    """Return a contestant with the version of its package."""
    package = PACKAGES.get(name)
    return name if package is None else f"{name} ({package} {installing.version_of(package)})"


def rows_of(costs: dict[str, list[Cost]], *, has_targets: bool) -> list[list[str]]:
    """Return the lines of a table."""
    rows = []
    for name, found in costs.items():
        rate, of_cpu = median(found, lambda c: c.rate), median(found, lambda c: c.rate_of_cpu)
        row = [
            described(name),
            f"{rate:.0f}",
            f"{of_cpu:.0f}",
            f"{median(found, lambda c: c.mb):.0f}",
        ]
        beside, target = "", ""
        if name != OWN:
            times = ratio(costs[OWN], found)
            of_time = ratio(costs[OWN], found, lambda c: c.rate_of_cpu)
            beside = f"{times:.2f} x ({of_time:.2f} x)"
            if has_targets and name in TARGETS:
                least = TARGETS[name]
                target = f"≥ {least:g} x: {verdict(times >= least)}"
        rows.append([*row, beside, target])
    return rows


def said(contests: Sequence[Contest], found: Sequence[dict[str, list[Cost]]], rounds: int) -> str:
    """Return the section."""
    what = (
        f"{contests[0].jobs:,} jobs, medians of {rounds}, whole processes, one paid request and "
        "one look a job. In brackets by processor time, without a peer's database server's."
    )
    parts = [what]
    head = ["", "jobs/s", "jobs per CPU second", "MB", "batchgen is", "target"]
    for contest, costs in zip(contests, found, strict=True):
        parts.append(f"Cap {contest.cap}:")
        parts.append(table(head, rows_of(costs, has_targets=contest is contests[0])))
    for contest, costs in zip(contests[1:], found[1:], strict=True):
        times = ratio(costs[OWN], found[0][OWN])
        of_time = ratio(costs[OWN], found[0][OWN], lambda c: c.rate_of_cpu)
        parts.append(
            f"batchgen at cap {contest.cap} is {times:.2f} x ({of_time:.2f} x) what it is at cap "
            f"{contests[0].cap}; target ≥ {LEAST_AT_500} x: {verdict(times >= LEAST_AT_500)}."
        )
    return "\n\n".join(parts)


def main() -> None:
    """Read the options, run, report."""
    options = parser(__doc__, base=True)
    options.add_argument("--jobs", type=int, help="jobs a run (default: 1500; 400 with --quick)")
    options.add_argument("--caps", type=int, nargs="+", metavar="N", help="default: 50 500")
    options.add_argument("--only", nargs="+", choices=list(CONTESTANTS)[1:], metavar="PEER")
    chosen = options.parse_args()
    jobs = chosen.jobs or (400 if chosen.quick else 1500)
    rounds = 1 if chosen.quick else chosen.rounds
    caps = chosen.caps or ([50] if chosen.quick else [50, 500])
    # The others take as long as all of these together.
    usual = list(TARGETS if chosen.quick else CONTESTANTS)
    peers = [name for name in chosen.only or usual if name != OWN]
    names = known([OWN, *peers], chosen.base)
    contests = [Contest(jobs, cap, chosen.base) for cap in caps]
    found = compete(names, contests, rounds)
    report(TITLE, said(contests, found, rounds), results=results_file(chosen))


if __name__ == "__main__":
    main()
