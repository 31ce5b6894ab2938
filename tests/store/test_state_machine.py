"""Any order of everything that can happen to jobs, and what must be true after each step."""

import hashlib
import itertools
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.pool import QueuePool
from store.stored_jobs import (
    EST,
    LIVE,
    NOW,
    SLOT_MS,
    Store,
    accepted,
    check,
    doubt,
    ended,
    finish,
    generated,
    put_back,
    refusal,
    spec_of,
    trouble,
)

from batchgen.domain.states import FINAL, ErrorClass, JobState
from batchgen.store import accounts, by_hand, jobs, sharing, upgrade, workers
from batchgen.store.database import Database
from batchgen.store.statements import text
from batchgen.store.transactions import ServerChanger, Transaction

CAP = 3
BUDGET = 6 * EST
LEASE_MS = 30_000
MOST_JOBS = 20
_SLOTS = text(
    "SELECT count(*) FROM attempts WHERE state IN ('intent', 'accepted', 'in_doubt') "
    "AND ((slot_until_ms IS NULL AND state <> 'in_doubt') OR slot_until_ms > :now_ms)"
)
_MONEY = text(
    "SELECT (SELECT coalesce(sum(spent_micros), 0) FROM spending WHERE batch_id = :id) "
    f"+ (SELECT coalesce(sum(est_micros), 0) FROM attempts WHERE batch_id = :id AND {LIVE})"
)
_BOOKS = text(  # what the attempts of each batch were charged, and what is booked as spent
    "SELECT b.id FROM batches b WHERE "
    "(SELECT coalesce(sum(charged_micros), 0) FROM attempts a WHERE a.batch_id = b.id) "
    "<> (SELECT coalesce(sum(spent_micros), 0) FROM spending s WHERE s.batch_id = b.id)"
)
_PERMITS = text(  # that a job is bought once more: a person's word, or an end without a clip
    "SELECT job_id FROM events WHERE kind IN ('resubmit', 'retried') UNION ALL "
    "SELECT job_id FROM attempts WHERE state IN ('failed', 'cancelled')"
)
_RETURNED = text(  # slots that come back with a late answer, after time had freed them
    "SELECT count(*) FROM events WHERE kind IN ('accepted_late', 'adopted')"
)
_HELD_SLOTS = text(
    "SELECT count(*) FROM attempts WHERE state IN ('intent', 'accepted') AND slot_until_ms IS NULL"
)
_DOUBTS = "SELECT attempt_id FROM jobs WHERE state = 'in_doubt' ORDER BY id"
_JOBS = text("SELECT id, state, owner, epoch, error_class, files FROM jobs ORDER BY id")


class AnyOrder(RuleBasedStateMachine):
    """Workers that die and come back, a person, and a service that answers late or twice."""

    store: Store
    folder: Path
    now_ms = NOW  # what every clock shows

    def __init__(self) -> None:
        super().__init__()
        self.rich, self.poor = (
            self.store.batch("rich"),
            self.store.batch("poor", budget_micros=BUDGET),
        )
        self.store.add(self.rich, [spec_of(f"r{n}") for n in range(3)])
        self.store.add(self.poor, [spec_of(f"p{n}") for n in range(8)])
        self.jobs = 11
        self.frozen_until_ms = 0
        self.numbers = itertools.count(1)
        # Who lives, and until when its lease lasts; the dead may still say what they know.
        self.leases = {"w1": NOW + LEASE_MS}
        self.gone: list[str] = []
        # Every job that was ever handed out, with the worker that got it: the stale ones too.
        self.held: list[tuple[str, jobs.Job]] = []
        # The service's own books: what became of each POST, by attempt; bought jobs by request.
        self.fates: dict[str, str] = {}
        self.bought: Counter[int] = Counter()
        self.overrun = 0  # stated above the estimate, or late: the user's own
        self.resting: dict[int, tuple[str, str | None]] = {}
        self.new_worker()

    def teardown(self) -> None:
        self.store.database.close()

    def do(self, operation: Any, request: Any) -> Any:
        return self.store.do(operation, request)[0]

    def pick(self, data: Any) -> tuple[str, jobs.Job]:
        """Return a job as it was handed out: mostly of late, where who lost it may still speak."""
        oldest = data.draw(st.sampled_from([max(0, len(self.held) - 4), 0]))
        index: int = data.draw(st.integers(oldest, len(self.held) - 1))
        return self.held[index]

    def pick_live(self, data: Any) -> str:
        return str(data.draw(st.sampled_from(sorted(self.leases))))

    def attempt_state(self, job: jobs.Job) -> str | None:
        rows = self.store.query("SELECT state FROM attempts WHERE id = :id", id=job.attempt_id)
        return rows[0].state if rows else None

    # The workers.

    @rule(data=st.data(), wanted=st.integers(1, 4))
    def claim(self, data: Any, wanted: int) -> None:
        worker = self.pick_live(data)
        claim = self.store.try_claim(wanted, worker=worker, now_ms=self.now_ms)
        self.held += [(worker, job) for job in claim.jobs]
        [account] = self.store.query("SELECT paused, frozen_until_ms FROM accounts")
        if account.paused or self.now_ms < account.frozen_until_ms:
            assert claim.jobs == ()
        if claim.jobs:
            with self.store.database.reading() as tx:
                assert tx.value(_SLOTS, {"now_ms": self.now_ms}) == claim.live <= CAP

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fate=st.sampled_from(["accepted", "accepted", "refused"]))
    def post(self, data: Any, fate: str) -> None:
        """The paid request arrives, once; whether its answer does is another matter."""
        _, job = self.pick(data)
        if job.attempt_id not in self.fates and self.attempt_state(job) is not None:
            self.fates[job.attempt_id] = fate
            self.bought[job.id] += fate == "accepted"

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def answer(self, data: Any) -> None:
        """The service accepted, which is recorded: at once, late, or told twice."""
        _, job = self.pick(data)
        if self.fates.get(job.attempt_id) == "accepted":
            self.tell_accepted(job)

    def tell_accepted(self, job: jobs.Job) -> None:
        self.do(jobs.record_accepted, accepted(job))
        assert self.attempt_state(job) in ("accepted", "succeeded", "failed", "cancelled")

    @precondition(lambda self: self.held)
    @rule(move=st.sampled_from(["resubmit", "write_off"]))
    def too_late(self, move: str) -> None:
        """A person gives a doubt up, and then its answer comes."""
        doubts = {row.attempt_id for row in self.store.query(_DOUBTS)}
        for job in [job for _, job in self.held if job.attempt_id in doubts][:1]:
            self.by_hand(job.id, move)
            if self.fates.setdefault(job.attempt_id, "late") == "late":
                self.fates[job.attempt_id] = "accepted"
                self.bought[job.id] += 1
            if self.fates[job.attempt_id] == "accepted":
                self.tell_accepted(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kind=st.sampled_from(["put back", "kept", "refused"]))
    def refused(self, data: Any, kind: str) -> None:
        _, job = self.pick(data)
        if self.fates.get(job.attempt_id) != "refused":
            return
        operation, request = {
            "put back": (jobs.put_back, put_back(job)),
            "kept": (jobs.put_back, put_back(job, keep=True)),
            "refused": (jobs.record_refused, refusal(job)),
        }[kind]
        self.do(operation, request)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def no_answer(self, data: Any) -> None:
        self.do(jobs.record_doubt, doubt(self.pick(data)[1]))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), cost=st.sampled_from([None, 0, EST, EST + 7]))
    def generated(self, data: Any, cost: int | None) -> None:
        worker, job = self.pick(data)
        before = self.store.spent()
        self.do(jobs.record_generated, generated(job, worker=worker, cost_micros=cost))
        self.overrun += max(0, self.store.spent() - before - EST)

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        again=st.booleans(),
        state=st.sampled_from(["failed", "cancelled"]),
        kind=st.sampled_from([ErrorClass.GENERATION, ErrorClass.REMOTE_LOST]),
    )
    def ended(self, data: Any, state: str, kind: ErrorClass, *, again: bool) -> None:
        worker, job = self.pick(data)
        retry_at_ms = self.now_ms if again else None
        end = ended(job, worker=worker, state=state, error_class=kind, retry_at_ms=retry_at_ms)
        self.do(jobs.record_ended, end)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), cost=st.sampled_from([0, EST + 7]))
    def late_cost(self, data: Any, cost: int) -> None:
        worker, job = self.pick(data)
        before = self.store.spent()
        self.do(jobs.record_cost, jobs.LateCost(job, worker, cost, "{}"))
        self.overrun += max(0, self.store.spent() - before)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: Any) -> None:
        """A clip is written under its final name, then told."""
        self.tell_finished(*self.pick(data))

    def tell_finished(self, worker: str, job: jobs.Job) -> None:
        content = job.attempt_id.encode()
        path = self.folder / f"{job.attempt_id}.mp4"
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        told = ({"path": str(path), "sha256": digest, "size_bytes": len(content)},)
        before = self.store.job(job.id)
        done = self.do(jobs.finish, replace(finish(job, worker=worker), files=told))
        mine = (before.state, before.owner, before.epoch) == ("downloading", worker, job.epoch)
        assert done is mine

    @rule(data=st.data())
    def go_on(self, data: Any) -> None:
        """Every job that a worker holds comes one usual step further, or all but one; then more."""
        rows = {row.id: row for row in self.store.query("SELECT * FROM jobs")}
        mine = [
            (worker, job, rows[job.id].state)
            for worker, job in self.held
            if (rows[job.id].owner, rows[job.id].epoch) == (worker, job.epoch)
        ]
        left = data.draw(st.integers(0, len(mine)))
        for worker, job, state in mine[:left] + mine[left + 1 :]:
            if state == JobState.SUBMITTING:
                if job.attempt_id not in self.fates:
                    self.fates[job.attempt_id] = "accepted"
                    self.bought[job.id] += 1
                if self.fates[job.attempt_id] == "accepted":
                    self.tell_accepted(job)
            elif state == JobState.RUNNING:
                self.do(jobs.record_generated, generated(job, worker=worker))
            else:
                self.tell_finished(worker, job)
        self.pause(paused=False)
        AnyOrder.now_ms = max(self.now_ms, self.frozen_until_ms)
        self.claim(data, 2)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kind=st.sampled_from(["trouble", "expire", "timeout"]))
    def clip(self, data: Any, kind: str) -> None:
        worker, job = self.pick(data)
        if kind == "timeout":
            self.do(jobs.record_timed_out, jobs.TimedOut(job, self.now_ms))
        else:
            request = trouble(job, worker=worker, link_dead=True, expired=kind == "expire")
            self.do(jobs.record_download_trouble, request)

    @rule(data=st.data())
    def beat(self, data: Any) -> None:
        worker = data.draw(st.sampled_from(sorted([*self.leases, *self.gone])))
        pulse = self.do(workers.beat, workers.Beat(worker, LEASE_MS))
        assert pulse.alive is (worker in self.leases)
        if pulse.alive:
            self.leases[worker] = self.now_ms + LEASE_MS

    @precondition(lambda self: len(self.leases) < 3)
    @rule()
    def new_worker(self) -> None:
        name = f"w{next(self.numbers) + 1}"
        self.store.worker(name)
        self.leases[name] = self.now_ms + LEASE_MS

    @precondition(lambda self: len(self.leases) > 1)
    @rule(data=st.data())
    def take_over(self, data: Any) -> None:
        """Somebody looks whether another has died, and goes on with what it had paid for."""
        dead = self.pick_live(data)
        is_over = self.leases[dead] <= self.now_ms
        if not is_over and self.store.database.path is not None:
            return  # its lock file says that it lives
        with self.store.database.transaction() as tx:
            doubts = workers.bury(tx, dead, slot_ms=SLOT_MS, now_ms=self.now_ms)
        assert (doubts is not None) is is_over
        if is_over:
            self.lose(dead)
        self.adopt(data)
        if is_over and data.draw(st.booleans()):
            self.wake_up()

    @precondition(lambda self: len(self.leases) > 1)
    @rule(data=st.data())
    def leave(self, data: Any) -> None:
        worker = self.pick_live(data)
        self.do(workers.leave, workers.Leave(worker, "s", 0, (), SLOT_MS, self.now_ms))
        self.lose(worker)

    def lose(self, worker: str) -> None:
        del self.leases[worker]
        self.gone.append(worker)
        owned = self.store.query("SELECT 1 FROM jobs WHERE owner = :worker", worker=worker)
        assert owned == []

    @rule(data=st.data())
    def adopt(self, data: Any) -> None:
        worker = data.draw(st.sampled_from(sorted([*self.leases, *self.gone])))
        adopted = self.store.adopt(worker=worker, now_ms=self.now_ms)
        self.held += [(worker, job) for job in adopted]
        assert worker in self.leases or not adopted

    @precondition(lambda self: self.gone and self.held)
    @rule()
    def wake_up(self) -> None:
        """Those who were declared dead go on where they were, as after a suspension."""
        for worker, job in [one for one in self.held if one[0] in self.gone][-6:]:
            if self.fates.get(job.attempt_id) == "accepted":
                self.tell_accepted(job)
                self.do(jobs.record_generated, generated(job, worker=worker))
            self.tell_finished(worker, job)

    @rule(data=st.data())
    def let_go(self, data: Any) -> None:
        worker = self.pick_live(data)
        freed = self.do(sharing.let_go, worker)
        for job in [job for name, job in self.held if name == worker and job.id in freed]:
            self.tell_finished(worker, job)  # too late

    @rule(far=st.booleans())
    def time_passes(self, *, far: bool) -> None:
        AnyOrder.now_ms += (SLOT_MS if far else LEASE_MS) + 1

    @precondition(lambda self: self.held and self.frozen_until_ms <= self.now_ms)
    @rule()
    def freeze(self) -> None:
        self.frozen_until_ms = self.now_ms + LEASE_MS // 2
        request = jobs.Freeze(self.store.account.id, self.frozen_until_ms, self.now_ms)
        self.do(jobs.freeze, request)

    @rule(data=st.data())
    def crash(self, data: Any) -> None:
        """Every connection is lost, with a transaction that was as good as done."""
        before = self.everything()
        database = self.store.database
        changer = database.connect_writer()
        tx = changer.begin()
        jobs.claim(tx, [self.store.request(2, worker=self.pick_live(data), now_ms=self.now_ms)])
        jobs.freeze(tx, [jobs.Freeze(self.store.account.id, self.now_ms + 7, self.now_ms)])
        tx.flush()
        if isinstance(changer, ServerChanger):
            raw: Any = changer.connection.connection.driver_connection
            pid = raw.info.backend_pid
            self.store.query("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)
            raw.close()
            changer.connection.invalidate()
        database.close()
        self.store.database = Database(database.url)
        assert self.everything() == before

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        with self.store.database.reading() as tx:
            return {
                table: sorted(map(tuple, tx.rows(text(f"SELECT * FROM {table}"))), key=str)
                for table in ("jobs", "attempts", "accounts", "counters", "spending", "events")
            }

    # The person.

    @precondition(lambda self: self.jobs < MOST_JOBS)
    @rule(rich=st.booleans(), count=st.integers(1, 3))
    def expand(self, count: int, *, rich: bool) -> None:
        specs = [spec_of(f"x{self.jobs + n}") for n in range(count)]
        self.store.add(self.rich if rich else self.poor, specs)
        self.jobs += count

    @precondition(lambda self: self.held)
    @rule(paused=st.booleans())
    def pause(self, *, paused: bool) -> None:
        with self.store.database.transaction() as tx:
            accounts.set_paused(tx, self.store.account, paused=paused)

    @rule(
        job_id=st.integers(1, MOST_JOBS),
        move=st.sampled_from(
            ["retry", "cancel_pending", "download_again", "resubmit", "write_off", "adopt"]
        ),
    )
    def by_hand(self, job_id: int, move: str) -> None:
        if job_id > self.jobs:
            return
        row = self.store.job(job_id)
        more = []
        if move == "adopt":
            if self.fates.get(row.attempt_id or "") != "accepted":
                return  # there is nothing at the service to be found
            more = [f"req-{row.attempt_id}"]
        before = self.money()
        outcome = self.store.by_hand(getattr(by_hand, move), job_id, *more)
        self.overrun += max(0, self.money() - before)
        if outcome.done:
            assert row.state == outcome.was
            self.resting.pop(job_id, None)

    # What must be true.

    def money(self) -> int:
        with self.store.database.reading() as tx:
            return int(tx.value(_MONEY, {"id": self.poor}))

    @invariant()
    def promises_hold(self) -> None:
        with self.store.database.reading() as tx:
            check(tx)  # one live attempt a job, counters, and what jobs and attempts tell
            assert tx.rows(_BOOKS) == []
            assert int(tx.value(_MONEY, {"id": self.poor})) <= BUDGET + self.overrun
            assert tx.value(_HELD_SLOTS) <= CAP + tx.value(_RETURNED)
            permits = Counter(row.job_id for row in tx.rows(_PERMITS))
            found = tx.rows(_JOBS)
        for job_id, bought in self.bought.items():
            assert bought <= 1 + permits[job_id], job_id
        for row in found:
            self.check_rest(row)
            if row.state == JobState.SUCCEEDED:
                self.check_clips(row)
            if row.owner is not None:
                assert row.owner in self.leases

    def check_rest(self, row: Any) -> None:
        """Rest is left only by a person, or by a late answer to a doubt or one given up."""
        before = self.resting.get(row.id)
        if before is not None and before[0] != row.state:
            late = (str(JobState.FAILED), str(ErrorClass.WRITTEN_OFF))
            assert before[0] == JobState.IN_DOUBT or before == late, (row.id, before, row.state)
        if JobState(row.state) in FINAL:
            self.resting[row.id] = (row.state, row.error_class)
        else:
            self.resting.pop(row.id, None)

    def check_clips(self, row: Any) -> None:
        for clip in json.loads(row.files):
            content = Path(clip["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == clip["sha256"]
            assert len(content) == clip["size_bytes"]


_TABLES = (
    "accounts, batches, workers, jobs, job_keys, attempts, spending, counters, sessions, events"
)


def _is_thorough() -> bool:
    """Return whether `--hypothesis-profile=thorough` asks for many more histories."""
    return settings.get_current_profile_name() == "thorough"


@pytest.mark.parametrize(("kind", "frugal"), [("sqlite", 40), ("postgresql", 8)])
def test_any_order(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    frugal: int,
) -> None:
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    monkeypatch.setattr(Transaction, "now_ms", lambda _: AnyOrder.now_ms)
    monkeypatch.setattr("batchgen.store.postgres.NullPool", QueuePool)  # connecting takes long
    empty = tmp_path / "empty.db"
    database = Database(url or str(empty))
    upgrade.open_current(database)
    numbers = itertools.count(1)

    class Fresh(AnyOrder):
        """In an empty job database each time."""

        def __init__(self) -> None:
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            if url:
                with database.transaction() as tx:
                    tx.connection.exec_driver_sql(f"TRUNCATE {_TABLES} RESTART IDENTITY CASCADE")
            else:
                shutil.copy(empty, folder / "batchgen.db")
            AnyOrder.now_ms = NOW
            AnyOrder.folder = folder
            AnyOrder.store = Store(folder, url=url, cap=CAP)
            super().__init__()

    profile = settings()
    # Shrinking a history takes minutes, for which only a thorough search has time.
    phases = [phase for phase in profile.phases if _is_thorough() or phase != Phase.shrink]
    many = settings(
        max_examples=profile.max_examples if _is_thorough() else frugal,
        stateful_step_count=40,
        deadline=None,
        phases=phases,
    )
    try:
        run_state_machine_as_test(Fresh, settings=many)
    finally:
        database.close()
