"""Workers that are killed, stopped and cut off at random, and what must hold afterwards."""

import hashlib
import heapq
import itertools
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import forked
from postgres import PostgresServer
from proxy import Proxy
from runs import IMAGE, Place
from store.stored_jobs import check

from batchgen.providers.simulator import Fault, Kind, Settings
from batchgen.store.database import Database

PRICE_MICROS = 250_000
_TICK_S = 0.05
_LOOK_S = 0.5  # between two looks at the states of all jobs
_LAST_S = 300.0  # for the last run, which has to do all that the storm has left
_LEFT_FOR_GOOD = ("succeeded", "failed", "cancelled", "expired")
_LOCKED = 11
# A worker may end by a signal, with everything done, or because of the weather: 3 jobs of others
# are still under way, 8 budget, 9 declared dead by another, 10 doubts, 11 no job database.
_EXIT_CODES = frozenset({-signal.SIGKILL, 0, 3, 8, 9, 10, _LOCKED})


def service_settings(seed: int, *, run_s: tuple[float, float] = (0.2, 1.0)) -> Settings:
    """Return a service that takes a moment, and that fails as services do."""
    return Settings(
        seed=seed,
        run_s=run_s,
        faults=(
            Fault(Kind.THROTTLE, rate=0.04, seconds=0.0),
            Fault(Kind.THROTTLE, rate=0.01, seconds=1.0),
            Fault(Kind.DROP_BEFORE, rate=0.01),
            Fault(Kind.DROP_AFTER, rate=0.02),
            Fault(Kind.CLOSE_AFTER, rate=0.01),
            Fault(Kind.SLOW, rate=0.3, seconds=0.3),  # so that kills find requests under way
            Fault(Kind.LOOK_DROP, rate=0.02),
            Fault(Kind.FILE_DROP, rate=0.02),
        ),
    )


@dataclass(frozen=True)
class Plan:
    """What is to happen.

    Attributes:
        seed: Of every choice; the moments are those of this machine.
        seconds: How long at most.
        workers: How many run at a time.
        cap: Jobs in flight over all workers.
        rows: Jobs of a batch.
        affordable: How many of them its budget pays for.
        batches: How many batches there are; None for as many as keep the workers busy.
        strike_s: Shortest and longest time between two strikes at a random worker.
        stopped: Which share of the strikes is a SIGSTOP beyond the lease; the rest is SIGKILL.
        kills: After how many kills it is over; None for no such end.
        lease_s: How long a silent worker keeps its jobs (PostgreSQL).
        crash_s: Shortest and longest time from one crash of the PostgreSQL server to the next.
        crashes: How many there are at most; None for no bound.
        output_dir: A bucket where clips go, from workers in folders of their own; "" is a folder
            that they share.
        cut_off_s: Shortest and longest time until the first worker is cut off from PostgreSQL
            again, each time beyond its lease; None if it never is.
    """

    seed: int
    seconds: float
    workers: int = 3
    cap: int = 12
    rows: int = 100
    affordable: int = 95
    batches: int | None = None
    strike_s: tuple[float, float] = (0.6, 1.4)
    stopped: float = 0.25
    kills: int | None = None
    lease_s: float = 2.0
    crash_s: tuple[float, float] | None = None
    crashes: int | None = None
    cut_off_s: tuple[float, float] | None = None
    output_dir: str = ""


@dataclass
class Figures:
    """What happened."""

    kills: int = 0
    stops: int = 0
    crashes: int = 0
    cuts: int = 0
    batches: int = 0
    looks: int = 0
    exits: Counter[int] = field(default_factory=Counter)


class Worker:
    """A place for one `batchgen run` process after another."""

    def __init__(self, place: Place, plan: Plan, name: str, url: str) -> None:
        self.is_stopped = False
        self.is_cut_off = False
        self._place = place
        self._name = name
        self._folder = place.folder / name if plan.output_dir else place.folder
        self._folder.mkdir(exist_ok=True)
        self._log: IO[bytes] = (place.folder / f"{name}.log").open("wb")
        self._process: forked.Process | None = None
        self._words = [
            *forked.BATCHGEN,
            "run",
            "-y",
            "-q",
            "--no-probe",
            "--halt",
            "never",
            "--db",
            url,
        ]
        self._words += ["-j", str(plan.cap), "--poll-interval", "0.05"]
        if not place.is_sqlite:
            self._words += ["--lease", str(plan.lease_s)]

    def tend(self) -> int | None:
        """Start a process if there is none; return how the last one ended, if it has just."""
        code = None if self._process is None else self._process.poll()
        if self._process is None or code is not None:
            log = self._log.fileno()
            with Path(os.devnull).open("rb") as nothing:
                self._process = forked.Process(
                    self._words,
                    self._place.environment(),
                    self._folder,
                    [nothing.fileno(), log, log],
                )
        return code

    def stop(self) -> None:
        """Let it stand still."""
        assert self._process is not None
        self.is_stopped = True
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self.is_stopped = False
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> int:
        """End it at once, also while it stands still; return its exit code."""
        assert self._process is not None
        self._process.kill()
        self.is_stopped = False
        return self._process.wait()

    def end(self) -> None:
        """Kill it if it lives, and close its log."""
        if self._process is not None:
            self.kill()
        self._log.close()


class Storm:
    """Bad weather over a place, by a plan.

    Attributes:
        figures: What has happened so far.
    """

    def __init__(
        self,
        place: Place,
        plan: Plan,
        *,
        server: PostgresServer | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        """Prepare it; with a proxy, the first worker reaches the server through that alone."""
        self.figures = Figures()
        self._place = place
        self._plan = plan
        self._server = server
        self._proxy = proxy
        self._random = random.Random(plan.seed)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._is_server_up = True
        self._states: dict[int, str] = {}
        urls = [place.url] * plan.workers
        if server is not None and proxy is not None:
            urls[0] = server.url(place.url.rpartition("/")[2], port=proxy.port)
        self._workers = [
            Worker(place, plan, f"worker-{number}", url) for number, url in enumerate(urls, 1)
        ]

    def blow(self) -> None:
        """Let it happen; afterwards no worker runs, and what was begun lies as it fell."""
        assert self._add_batch()
        begun = time.monotonic()
        self._at(begun + self._plan.strike_s[1], self._strike)
        self._at(begun, self._look)
        for span_s, action in (
            (self._plan.crash_s, self._crash_server),
            (self._plan.cut_off_s, self._cut_off),
        ):
            if span_s is not None:
                self._after(self._random.uniform(*span_s), action)
        try:
            while time.monotonic() < begun + self._plan.seconds and not self._is_over():
                self._step()
        finally:
            self._calm()

    def _step(self) -> None:
        while self._agenda and self._agenda[0][0] <= time.monotonic():
            heapq.heappop(self._agenda)[2]()
        for worker in self._workers:
            code = worker.tend()
            if code is not None:
                self.figures.exits[code] += 1
        time.sleep(_TICK_S)

    def _at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (moment, next(self._numbers), action))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._at(time.monotonic() + seconds, action)

    def _is_over(self) -> bool:
        if self._plan.kills is not None and self.figures.kills >= self._plan.kills:
            return True
        return self._plan.batches is not None and self._is_server_up and self._waiting() == 0

    # -- what strikes ----------------------------------------------------------------------------

    def _strike(self) -> None:
        if "succeeded" not in self._states.values():
            # Until one generation has been seen, doubts keep their slots for ten minutes.
            self._after(_LOOK_S, self._strike)
            return
        awake = [one for one in self._workers if not one.is_stopped and not one.is_cut_off]
        worker = self._random.choice(awake or self._workers)
        is_stop = self._random.random() < self._plan.stopped
        length_s = self._plan.lease_s * self._random.uniform(1.3, 2.2)
        self._after(self._random.uniform(*self._plan.strike_s), self._strike)
        if not awake:
            return
        if is_stop:
            self.figures.stops += 1
            worker.stop()
            self._after(length_s, lambda: worker.wake() if worker.is_stopped else None)
        else:
            self.figures.kills += 1
            self.figures.exits[worker.kill()] += 1
            worker.tend()

    def _crash_server(self) -> None:
        assert self._server is not None
        assert self._plan.crash_s is not None
        self._server.stop("immediate")
        self._is_server_up = False
        self.figures.crashes += 1
        self._after(self._random.uniform(0.0, 1.5), self._start_server)
        if self._plan.crashes is None or self.figures.crashes < self._plan.crashes:
            self._after(self._random.uniform(*self._plan.crash_s), self._crash_server)

    def _start_server(self) -> None:
        assert self._server is not None
        self._server.start()
        self._is_server_up = True

    def _cut_off(self) -> None:
        assert self._proxy is not None
        assert self._plan.cut_off_s is not None
        self._after(self._random.uniform(*self._plan.cut_off_s), self._cut_off)
        if self._workers[0].is_stopped:
            return
        self.figures.cuts += 1
        self._workers[0].is_cut_off = True
        # Half of the time only the answers are lost: what was asked for happens unheard.
        self._proxy.partition(requests=self._random.random() < 0.5)
        self._after(self._plan.lease_s * self._random.uniform(1.5, 2.5), self._reconnect)

    def _reconnect(self) -> None:
        assert self._proxy is not None
        self._proxy.heal()
        self._workers[0].is_cut_off = False

    def _calm(self) -> None:
        for worker in self._workers:
            worker.end()
        if self._proxy is not None:
            self._proxy.heal()
        if not self._is_server_up:
            self._start_server()

    # -- what is looked at -----------------------------------------------------------------------

    def _look(self) -> None:
        self._after(_LOOK_S, self._look)
        if not self._is_server_up:
            return
        self.figures.looks += 1
        states = {
            job["id"]: job["state"] for job in self._place.query("SELECT id, state FROM jobs")
        }
        left = {
            job_id: f"{state} -> {states.get(job_id)}"
            for job_id, state in self._states.items()
            if state in _LEFT_FOR_GOOD and states.get(job_id) != state
        }
        assert left == {}, f"jobs left a final state: {left}"
        self._states = states
        if self._plan.batches is None and self._waiting() < 2 * self._plan.cap:
            self._add_batch()

    def _waiting(self) -> int:
        """How many jobs wait that their budgets pay for; those to be fetched to a bucket, too."""
        counted = Counter(self._states.values())
        pending = counted["pending"] if self._states else self._plan.rows
        pending += counted["downloading"] if self._plan.output_dir else 0
        held = self._plan.rows - self._plan.affordable
        return pending - held * self.figures.batches

    def _add_batch(self) -> bool:
        name = f"batch-{self.figures.batches + 1}"
        manifest = self._place.write(
            [
                {"id": f"c{row}", "prompt": f"{name}, scene {row}", "image": IMAGE}
                for row in range(1, self._plan.rows + 1)
            ],
            f"{name}.csv",
        )
        budget = str(self._plan.affordable * PRICE_MICROS / 1_000_000)
        output_dir = self._plan.output_dir or "clips"
        done = self._place.start(
            *("add", str(manifest), "--db", self._place.url, "--budget", budget),
            *("--output-dir", output_dir),
        ).wait()
        if done.code == _LOCKED:  # a worker that stands still may hold a lock
            return False
        assert done.code == 0, done.err
        self.figures.batches += 1
        return True


def judge(
    place: Place,
    plan: Plan,
    figures: Figures,
    *,
    check_clips: Callable[[Place], None] | None = None,
) -> None:
    """Run once more, to the end, and hold everything against the service's books.

    Args:
        place: Where it blew.
        plan: What was to happen.
        figures: What has happened.
        check_clips: Looks at the clips, if they are not in the folder.
    """
    if not place.is_sqlite:
        time.sleep(plan.lease_s)  # until the dead are known to be dead
    last = place.start_run("-j", str(plan.cap), "--halt", "never", "-o", "out.csv")
    final = last.wait(_LAST_S)
    report(place, plan, figures, final.code)

    jobs = place.jobs()
    states = Counter(job["state"] for job in jobs)
    held = (plan.rows - plan.affordable) * figures.batches
    doubts = states["in_doubt"]
    # Whatever was affordable was bought, or may have been: nothing is lost, nothing else waits.
    assert (
        states
        == Counter({"succeeded": len(jobs) - held - doubts, "in_doubt": doubts, "pending": held})
        - Counter()
    )
    assert final.code == (8 if held else 10 if doubts else 0), final.err
    ledger = place.service.ledger
    assert {prompt: len(entries) for prompt, entries in place.bought().items() if entries[1:]} == {}
    assert ledger.counters.most_in_flight <= plan.cap
    check_money(place, plan)
    check_rows(place)
    place.check_books()
    database = Database(place.url)
    with database.reading() as tx:
        check(tx)
    database.close()
    (check_clips or check_files)(place)
    assert len(place.export()) == len(jobs)
    for log in place.folder.glob("worker-*.log"):
        assert not re.search("Traceback|unexpected: ", log.read_text()), log.read_text()
    assert set(figures.exits) <= _EXIT_CODES, figures.exits


def check_money(place: Place, plan: Plan) -> None:
    """Hold budgets, spending and reservations against what the service charged."""
    attempts = place.attempts()
    entries = {entry.id: entry for entry in place.service.ledger.entries}
    known = {attempt["request_id"] for attempt in attempts} - {None}
    for batch in place.query("SELECT id, budget_micros FROM batches"):
        mine = [attempt for attempt in attempts if attempt["batch_id"] == batch["id"]]
        spent = sum(attempt["charged_micros"] or 0 for attempt in mine)
        reserved = sum(a["est_micros"] for a in mine if a["state"] == "in_doubt")
        assert batch["budget_micros"] == plan.affordable * PRICE_MICROS
        assert spent + reserved == batch["budget_micros"]
        assert spent == sum(
            entries[a["request_id"]].cost_micros for a in mine if a["request_id"] in entries
        )
    # What was charged beyond what is known is explained by doubts, one each (`check_books`).
    unknown = [entry for entry in entries.values() if entry.id not in known]
    spent = sum(attempt["charged_micros"] or 0 for attempt in attempts)
    charged = place.service.counters.charged_micros
    assert charged == spent + sum(entry.cost_micros for entry in unknown)


def check_rows(place: Place) -> None:
    """Check that every accepted request has its row, or belongs to a job in doubt."""
    known = {attempt["request_id"] for attempt in place.attempts()}
    state_of = {json.loads(job["inputs"])["promptText"]: job["state"] for job in place.jobs()}
    for entry in place.service.ledger.entries:
        expected = "succeeded" if entry.id in known else "in_doubt"
        assert state_of[str(entry.inputs["promptText"])] == expected, entry


def check_files(place: Place) -> None:
    """Check that every clip is whole, is the only one of its job, and nothing else lies there."""
    told = {
        row["result_file"]: row["result_sha256"] for row in place.export() if row["result_file"]
    }
    found = {
        str(path.relative_to(place.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in place.folder.rglob("*.mp4")
    }
    assert found == told
    assert len(found) == place.states()["succeeded"]
    assert place.leftovers() == []


def report(place: Place, plan: Plan, figures: Figures, code: int) -> None:
    """Print the figures, on one line each."""
    ledger = place.service.ledger
    prompts = Counter(str(entry.inputs["promptText"]) for entry in ledger.entries)
    known = {attempt["request_id"] for attempt in place.attempts()}
    doubts = place.states()["in_doubt"]
    bought = sum(entry.id not in known for entry in ledger.entries)
    print(  # noqa: T201 - the figures are what a storm is for
        f"\nstorm: seed {plan.seed}, {plan.seconds:.0f} s, {plan.workers} workers, "
        f"cap {plan.cap}, {figures.batches} x {plan.rows} jobs\n"
        f"  struck: {figures.kills} SIGKILL, {figures.stops} SIGSTOP, "
        f"{figures.crashes} server crashes, {figures.cuts} times cut off; "
        f"worker exits {dict(sorted(figures.exits.items()))}\n"
        f"  service: {ledger.counters.accepted} accepted, {ledger.counters.unanswered} of them "
        f"unanswered, {ledger.counters.refused} refused, "
        f"{sum(count - 1 for count in prompts.values())} bought twice, "
        f"at most {ledger.counters.most_in_flight} in flight\n"
        f"  jobs: {dict(place.states())}; {bought} of {doubts} doubts were bought; "
        f"{figures.looks} looks; last run's exit code {code}"
    )
