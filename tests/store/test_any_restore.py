"""Cut the history at any commit, put the copy back, repair: nothing is lost or bought twice."""

import contextlib
import itertools
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from store.stored_jobs import EST, NOW, Store, accepted, doubt, ended, generated, put_back, refusal

from batchgen.reconciling import repair
from batchgen.store import by_hand, jobs, journal, step_back
from batchgen.store.journal import Journal

JOBS = 2
# Claims, answers and retries more often: a job that is bought several times is the hard case.
STEPS = (
    *("claim", "accept", "retry", "claim", "accept", "retry", "claim", "accept"),
    *("put back", "refuse", "doubt", "fail", "generate", "by hand"),
)


class History:
    """A worker that does one commit a step and writes its journal as the runner does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder, cap=JOBS)
        self.store.fill(JOBS)
        found = journal.folder_of(folder, self.identity().id)
        assert found is not None
        self.path = journal.path_of(found)
        self.journal = Journal.begin(found, after=None, say=lambda _: None)
        self.open: list[jobs.Job] = []
        self.running: list[jobs.Job] = []
        self.copies = 0
        self.now = itertools.count(NOW)

    def identity(self) -> step_back.Identity:
        with self.store.database.reading() as tx:
            return step_back.identity(tx)

    def close(self) -> None:
        self.journal.close()
        self.store.close()

    def step(self, what: str, pick: int) -> None:
        if what == "claim":
            now_ms = next(self.now)
            claimed = self.store.claim(1 + pick % JOBS, now_ms=now_ms)
            self.journal.intended(claimed, account_id=self.store.account.id, now_ms=now_ms)
            self.open += claimed
        elif what == "by hand":
            job_id = 1 + pick % JOBS
            for move in (by_hand.retry, by_hand.resubmit):
                self.store.by_hand(move, job_id)
        elif what in ("accept", "put back", "refuse", "doubt"):
            if self.open:
                self.answer(what, self.open.pop(pick % len(self.open)))
        elif self.running:
            self.end(what, self.running.pop(pick % len(self.running)))

    def answer(self, what: str, job: jobs.Job) -> None:
        if what == "accept":
            self.store.do(jobs.record_accepted, accepted(job))
            self.journal.accepted(job, f"req-{job.attempt_id}")
            self.running.append(job)
        elif what == "doubt":
            self.store.do(jobs.record_doubt, doubt(job))
        else:
            self.journal.unpaid(job)
            operation, request = {
                "put back": (jobs.put_back, put_back(job)),
                "refuse": (jobs.record_refused, refusal(job)),
            }[what]
            self.store.do(operation, request)

    def end(self, what: str, job: jobs.Job) -> None:
        if what == "generate":
            self.store.do(jobs.record_generated, generated(job))
        else:
            retry_at_ms = NOW if what == "retry" else None
            self.store.do(jobs.record_ended, ended(job, retry_at_ms=retry_at_ms))

    def copy(self) -> Path:
        self.copies += 1
        aside = self.folder / f"copy-{self.copies}"
        with (
            contextlib.closing(sqlite3.connect(self.store.path)) as source,
            contextlib.closing(sqlite3.connect(aside)) as copy,
        ):
            source.backup(copy)
        return aside

    def restore(self, copy: Path) -> None:
        self.store.database.close()
        for path in self.folder.glob("batchgen.db*"):
            if path.is_file():
                path.unlink()
        shutil.copy(copy, self.store.path)

    def attempts(self) -> dict[str, Any]:
        return {row.id: row for row in self.store.query("SELECT * FROM attempts")}

    def look(self) -> str | None:
        with self.store.database.transaction() as tx:
            witnesses = journal.newest_of(self.path)
            return step_back.look(tx, [step_back.Look(witnesses, NOW)])[0]


def check_restored(history: History) -> None:
    before = history.attempts()
    told = journal.read(history.path)
    truth = {entry.attempt_id: entry for entry in told.entries}
    missing = {name for name, one in truth.items() if name not in before and not one.is_unpaid}
    unaware = {
        name
        for name, one in truth.items()
        if one.request_id is not None and name in before and before[name].request_id is None
    }
    noticed = history.look()
    assert bool(missing | unaware) == (noticed is not None)

    _, left = repair(history.store.database, [told], write_off=False, now_ms=next(history.now))

    assert left == []
    assert history.look() is None
    history.store.check()
    after = history.attempts()
    carried = {row.request_id for row in after.values()}
    assert {one.request_id for one in truth.values() if one.request_id} <= carried
    # Whatever may have been bought after the copy was made keeps its job from being bought.
    waiting = {row.id for row in history.store.query("SELECT id FROM jobs WHERE state = 'pending'")}
    assert not waiting & {after[name].job_id for name in missing}
    assert sum(row.est_micros for row in after.values() if row.id in missing) == EST * len(missing)
    _, left = repair(history.store.database, [told], write_off=False, now_ms=next(history.now))
    assert (history.attempts(), left) == (after, [])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 7)), min_size=8, max_size=24),
    st.data(),
)
def test_any_copy_can_be_put_right(steps: list[tuple[str, int]], data: Any) -> None:
    folder = Path(tempfile.mkdtemp(prefix="batchgen-test-"))
    history = History(folder)
    try:
        copies = []
        for what, pick in (("claim", 1), ("accept", 0), *steps):
            history.step(what, pick)
            copies.append(history.copy())
        history.restore(data.draw(st.sampled_from(copies)))
        check_restored(history)
    finally:
        history.close()
        shutil.rmtree(folder)
