"""How soon a run of a million jobs is under way again, with 500 of them running at the service.

A first `run` buys the 500 and is stopped with SIGINT. Then `run` is started again, and the time is
taken until the service is asked for the first of them, from the start of the process: validation
of everything that was stored, the claim of what nobody holds, and the first look. It is seen by a
door of one's own in front of the service, which passes everything on.

Beside it stands a claim: of one job, in the job database as it is, without the commit, by
processor time.

    python benchmarks/resume.py
    python benchmarks/resume.py --quick
"""

import asyncio
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from measuring import (
    PROGRAM,
    Cost,
    Wrong,
    for_service,
    parser,
    report,
    results_file,
    service,
    table,
    verdict,
)
from stored import database

from batchgen.store.database import Database
from batchgen.store.jobs import ClaimRequest, claim
from batchgen.store.scope import Scope
from batchgen.store.statements import text
from batchgen.store.workers import WorkerInfo, register

TITLE = "Resuming a million jobs"
RUNNING = 500
MOST_S = 2.0
MOST_CLAIM_MS = 1.0
_LONGEST_S = 300.0


class Door:
    """Passes connections on to a service, and notes when a look goes through."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self._target = (parts.hostname, parts.port)
        self._path = parts.path
        self._seen = threading.Event()
        self._at_s = 0.0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._port = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def base(self) -> str:
        """The service's base by way of the door."""
        return f"http://127.0.0.1:{self._port}{self._path}"

    def watch(self) -> None:
        """Look out for the next look."""
        self._seen.clear()

    def first_look_s(self) -> float:
        """Return when the first look went through, on `time.perf_counter`.

        Raises:
            Wrong: If there was none for long.
        """
        if not self._seen.wait(_LONGEST_S):
            raise Wrong(f"no look in {_LONGEST_S:.0f} s")
        return self._at_s

    def close(self) -> None:
        """Let nothing more through."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._pass_on, "127.0.0.1", 0, backlog=1024)
        )
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _pass_on(self, near: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_connection(*self._target)
        await asyncio.gather(
            self._pump(near, writer, watched=True),
            self._pump(reader, out, watched=False),
            return_exceptions=True,
        )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, watched: bool
    ) -> None:
        try:
            while data := await reader.read(65536):
                if watched and not self._seen.is_set() and b"/result" in data[:300]:
                    self._at_s = time.perf_counter()
                    self._seen.set()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


def running(path: Path) -> int:
    """Return how many jobs run at the service, as the job database has it."""
    with closing(sqlite3.connect(path, timeout=60)) as stored:
        return int(
            stored.execute("SELECT count(*) FROM jobs WHERE state = 'running'").fetchone()[0]
        )


@contextmanager
def started(path: Path, base: str, at_once: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a run in a job database; stop it at the end as Ctrl-C does."""
    words = ["run", "--db", str(path), "-y", "-j", str(at_once), "--no-download", "--no-probe"]
    with (path.parent / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [*PROGRAM, *words],
            cwd=path.parent,
            env=for_service(base),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def buy(path: Path, base: str, at_once: int) -> None:
    """Have so many jobs run at the service.

    Raises:
        Wrong: If that does not come about.
    """
    deadline = time.monotonic() + _LONGEST_S
    with started(path, base, at_once) as process:
        while running(path) < at_once:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Wrong((path.parent / "said.txt").read_text()[-2000:])
            time.sleep(0.1)


def resume(path: Path, door: Door, at_once: int) -> Cost:
    """Start a run again; return what it took until its first look."""
    door.watch()
    began = time.perf_counter()
    with started(path, door.base, at_once) as process:
        seconds = door.first_look_s() - began
        used = Path(f"/proc/{process.pid}/stat")
        ticks = used.read_text().rpartition(")")[2].split()[11:13] if used.exists() else ["0", "0"]
        cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        mb = 0.0
        status = Path(f"/proc/{process.pid}/status")
        if status.exists():
            peak = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
            mb = int(peak[0].split()[1]) / 1000
    return Cost(seconds, cpu_s, mb)


def claim_ms(path: Path, times: int = 50) -> float:
    """Return the processor time of claiming one job, the median; nothing is kept of it.

    Raises:
        Wrong: If none is claimed.
    """
    opened = Database(str(path))
    took = []
    with opened.reading() as tx:
        newest = tx.value(text("SELECT max(id) FROM jobs"))
        account_id = tx.value(text("SELECT min(id) FROM accounts"))
    with closing(opened.connect_writer()) as changer:
        for number in range(times):
            tx = changer.begin()
            try:
                tx.run(text("UPDATE accounts SET cap = 1000000"))
                register(tx, WorkerInfo("w-claim", "host", os.getpid(), "0", lease_ms=60_000))
                request = ClaimRequest(
                    worker_id="w-claim",
                    account_id=account_id,
                    scope=Scope(None, newest),
                    attempt_ids=(f"a-claim-{number}",),
                    held_models=frozenset(),
                    now_ms=time.time_ns() // 1_000_000,
                )
                began = time.thread_time()
                [found] = claim(tx, [request])
                took.append(time.thread_time() - began)
                if len(found.jobs) != 1:
                    raise Wrong(f"{found} instead of one job")
            finally:
                changer.rollback()
    opened.close()
    return 1000 * statistics.median(took)


def main() -> None:
    """Build, buy, stop, resume, report."""
    options = parser(__doc__, base=True)
    options.add_argument("--rows", type=int, help="default: 1000000; 20000 with --quick")
    options.add_argument("--running", type=int, help=f"default: {RUNNING}; 50 with --quick")
    options.add_argument("--folder", type=Path, help="where its job database is kept")
    chosen = options.parse_args()
    rows = chosen.rows or (20_000 if chosen.quick else 1_000_000)
    at_once = chosen.running or (50 if chosen.quick else RUNNING)
    rounds = 2 if chosen.quick else chosen.rounds
    with (
        database(rows, finished=rows // 2, kept=chosen.folder) as path,
        service(chosen.base, run_s=(900.0, 1000.0)) as base,
    ):
        one_ms = claim_ms(path)
        door = Door(base)
        buy(path, door.base, at_once)
        costs = []
        for number in range(1, rounds + 1):
            costs.append(resume(path, door, at_once))
            print(f"round {number}: first look after {costs[-1].seconds:.2f} s", file=sys.stderr)
        door.close()
    seconds = statistics.median(cost.seconds for cost in costs)
    cpu_s = statistics.median(cost.cpu_s for cost in costs)
    mb = max(cost.mb for cost in costs)
    first = [f"{seconds:.2f} s", f"{cpu_s:.2f} s", f"{mb:.0f} MB"]
    claimed = f"≤ {MOST_CLAIM_MS:g} ms: {verdict(one_ms <= MOST_CLAIM_MS)}"
    lines = [
        ["first look after a restart", *first, f"≤ {MOST_S:g} s: {verdict(seconds <= MOST_S)}"],
        ["claim of one job", "", f"{one_ms:.2f} ms", "", claimed],
    ]
    text = f"{rows:,} jobs, half of them finished, {at_once} running; medians of {rounds}.\n\n"
    text += table(["", "took", "CPU until then", "memory until then", "target"], lines)
    report(TITLE, text, results=results_file(chosen))


if __name__ == "__main__":
    main()
