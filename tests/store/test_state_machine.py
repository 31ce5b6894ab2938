"""Any order of everything that can happen to jobs, and what must be true after each step."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from store.stored_jobs import (
    EST,
    LIVE,
    NOW,
    SLOT_MS,
    Store,
    accepted,
    doubt,
    ended,
    finish,
    generated,
    put_back,
    refusal,
    spec_of,
    trouble,
)

from batchgen.domain.states import FINAL, JobState
from batchgen.store import by_hand, jobs

CAP = 3
BUDGET = 6 * EST


class AnyOrder(RuleBasedStateMachine):
    """Two workers that may be thought dead, a person, and a service that answers late."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="batchgen-test-"))
        self.store = Store(self.folder, cap=CAP)
        rich, poor = self.store.batch("rich"), self.store.batch("poor", budget_micros=BUDGET)
        self.poor = poor
        self.store.add(rich, [spec_of(f"r{n}") for n in range(3)])
        self.store.add(poor, [spec_of(f"p{n}") for n in range(8)])
        self.worker = "w1"
        self.workers = 1
        self.now_ms = NOW
        # Every request that was ever handed out, with the worker that got it: the stale ones too.
        self.held: list[tuple[str, jobs.Job]] = []
        self.overrun = 0  # stated above the estimate, or bought again by hand: the user's own
        self.resting: dict[int, str] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def pick(self, data: Any) -> tuple[str, jobs.Job]:
        index: int = data.draw(st.integers(0, len(self.held) - 1))
        return self.held[index]

    # The runner.

    @rule(wanted=st.integers(1, 4))
    def claim(self, wanted: int) -> None:
        claim = self.store.try_claim(wanted, worker=self.worker, now_ms=self.now_ms)
        self.held += [(self.worker, job) for job in claim.jobs]
        assert claim.live <= CAP or not claim.jobs

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def answer(self, data: Any) -> None:
        """The service accepted: at once, late, or told twice."""
        _, job = self.pick(data)
        known = self.store.query("SELECT state FROM attempts WHERE id = :id", id=job.attempt_id)
        if known and known[0].state not in ("rejected",):
            self.store.do(jobs.record_accepted, accepted(job))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kind=st.sampled_from(["put back", "kept", "refused", "doubt"]))
    def no_answer(self, data: Any, kind: str) -> None:
        _, job = self.pick(data)
        operation, request = {
            "put back": (jobs.put_back, put_back(job)),
            "kept": (jobs.put_back, put_back(job, keep=True)),
            "refused": (jobs.record_refused, refusal(job)),
            "doubt": (jobs.record_doubt, doubt(job)),
        }[kind]
        # Who was accepted is not refused as well: the service says one or the other.
        row = self.store.query("SELECT state FROM attempts WHERE id = :id", id=job.attempt_id)
        if row and row[0].state in ("intent", "in_doubt"):
            self.store.do(operation, request)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), cost=st.sampled_from([None, 0, EST, EST + 7]))
    def generated(self, data: Any, cost: int | None) -> None:
        worker, job = self.pick(data)
        before = self.store.spent()
        self.store.do(jobs.record_generated, generated(job, worker=worker, cost_micros=cost))
        self.overrun += max(0, self.store.spent() - before - EST)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), again=st.booleans(), state=st.sampled_from(["failed", "cancelled"]))
    def ended(self, data: Any, state: str, *, again: bool) -> None:
        worker, job = self.pick(data)
        retry_at_ms = self.now_ms if again else None
        end = ended(job, worker=worker, state=state, retry_at_ms=retry_at_ms)
        self.store.do(jobs.record_ended, end)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), kind=st.sampled_from(["finish", "trouble", "expire", "timeout"]))
    def clip(self, data: Any, kind: str) -> None:
        worker, job = self.pick(data)
        if kind == "finish":
            self.store.do(jobs.finish, finish(job, worker=worker))
        elif kind == "timeout":
            self.store.do(jobs.record_timed_out, jobs.TimedOut(job, self.now_ms))
        else:
            expired = kind == "expire"
            request = trouble(job, worker=worker, link_dead=True, expired=expired)
            self.store.do(jobs.record_download_trouble, request)

    @rule()
    def replace_worker(self) -> None:
        self.store.bury(self.worker)
        self.workers += 1
        self.worker = f"w{self.workers}"
        self.store.worker(self.worker)

    @rule()
    def adopt(self) -> None:
        adopted = self.store.adopt(worker=self.worker)
        self.held += [(self.worker, job) for job in adopted]

    @rule()
    def time_passes(self) -> None:
        self.now_ms += SLOT_MS + 1

    # The person.

    @rule(
        job_id=st.integers(1, 11),
        move=st.sampled_from(
            ["retry", "cancel_pending", "download_again", "resubmit", "write_off", "adopt"]
        ),
    )
    def by_hand(self, job_id: int, move: str) -> None:
        request_id = f"found-{job_id}-{self.now_ms}"
        row = self.store.job(job_id)
        carried = "SELECT 1 FROM attempts WHERE request_id = :id"
        if move == "adopt" and self.store.query(carried, id=request_id):
            return
        more = [request_id] if move == "adopt" else []
        outcome = self.store.by_hand(getattr(by_hand, move), job_id, *more)
        if outcome.done:
            assert row.state == outcome.was
            self.resting.pop(job_id, None)

    # What must be true.

    @invariant()
    def books_agree(self) -> None:
        self.store.check()

    @invariant()
    def the_cap_holds(self) -> None:
        live = self.store.query(
            "SELECT count(*) FROM attempts WHERE state IN ('intent', 'accepted') "
            "AND slot_until_ms IS NULL"
        )[0][0]
        assert live <= CAP + self.returned()

    def returned(self) -> int:
        """Slots that come back with a late answer, after time had freed them."""
        events = self.store.query(
            "SELECT count(*) FROM events WHERE kind IN ('accepted_late', 'adopted')"
        )
        revived = self.store.query("SELECT count(*) FROM attempts WHERE state = 'accepted'")
        return int(min(events[0][0], revived[0][0]))

    @invariant()
    def the_budget_holds(self) -> None:
        spent = self.store.query(
            "SELECT coalesce(sum(spent_micros), 0) FROM spending WHERE batch_id = :id",
            id=self.poor,
        )[0][0]
        reserved = self.store.query(
            f"SELECT coalesce(sum(est_micros), 0) FROM attempts WHERE batch_id = :id AND {LIVE}",
            id=self.poor,
        )[0][0]
        assert spent + reserved <= BUDGET + self.overrun

    @invariant()
    def rest_is_left_only_by_a_person(self) -> None:
        for row in self.store.query("SELECT id, state FROM jobs"):
            before = self.resting.get(row.id)
            if before is not None and before != row.state:
                # A late answer leads out of doubt, and out of a doubt that was written off.
                assert before in (JobState.IN_DOUBT, JobState.FAILED), (row.id, before, row.state)
            if JobState(row.state) in FINAL:
                self.resting[row.id] = row.state
            else:
                self.resting.pop(row.id, None)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
