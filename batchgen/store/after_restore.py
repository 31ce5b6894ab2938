"""Put back what a restored job database forgot: the purchases that the journals tell of.

The newest purchase of a job is the one that its earlier ones made way for, so it decides
what becomes of the job. An earlier one whose request id is known is kept as an extra
purchase, one without is given up; either way its estimate stays in the books.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from batchgen.domain.states import JobState
from batchgen.store import jobs, step_back
from batchgen.store.database import chunks
from batchgen.store.events import note
from batchgen.store.imports import SHOWN
from batchgen.store.journal import Entry
from batchgen.store.statements import locking, text
from batchgen.store.step_back import Witness
from batchgen.store.transactions import Transaction

_CHUNK = 500
_WORKER = "journal"  # who made the purchases that only a journal knows
_LOST = "the job database was restored from a copy that had forgotten this request"


class Became(StrEnum):
    """What became of a journalled purchase."""

    RUNNING = "running: nothing new is paid"
    IN_DOUBT = "in doubt: no request id was written down"
    EXTRA = "kept as an extra purchase"
    COUNTED = "given up: its estimate counts as spent"
    PUT_BACK = "pending: it was never sent"
    KNOWN = "carried by another attempt"
    WRITTEN_OFF = "written off"


@dataclass(frozen=True)
class Change:
    """A purchase that was put back."""

    entry: Entry
    became: Became


@dataclass(frozen=True)
class Unplaced:
    """A purchase that no job can be found for."""

    entry: Entry
    why: str


@dataclass
class Repair:
    """What was put back, and what could not be."""

    changes: list[Change] = field(default_factory=list)
    unplaced: list[Unplaced] = field(default_factory=list)


_ATTEMPTS = text("SELECT id, state, request_id FROM attempts WHERE id IN :ids ORDER BY id").listing(
    ids=str
)
_JOB = (
    "SELECT j.id, j.batch_id, j.state, j.attempt_id, j.input_hash, j.inputs, j.version, "
    "b.account_id, a.state AS attempt_state, a.est_micros FROM jobs j "
    "JOIN batches b ON b.id = j.batch_id LEFT JOIN attempts a ON a.id = j.attempt_id WHERE "
)
# Workers go on with what is paid for meanwhile.
_LOCK = locking("SELECT 1 FROM jobs WHERE id = :job_id")
_BY_ID = text(_JOB + "j.id = :job_id")
_BY_KEY = text(f"{_JOB}{SHOWN} AND j.id IN (SELECT k.job_id FROM job_keys k WHERE k.key = :key)")
_NEVER_BOUGHT = text(
    "SELECT j.id, j.input_hash, b.account_id FROM jobs j JOIN batches b ON b.id = j.batch_id "
    f"WHERE {SHOWN} AND j.state = 'pending' "
    "AND NOT EXISTS (SELECT 1 FROM attempts t WHERE t.job_id = j.id) ORDER BY j.id DESC"
)
_LATER = text(
    "SELECT 1 FROM attempts WHERE job_id = :job_id "
    "AND (intent_ms > :intent_ms OR (intent_ms = :intent_ms AND id > :attempt_id))"
)
_CARRIER = text(
    "SELECT id FROM attempts WHERE account_id = :account_id AND request_id = :request_id"
)
_INSERT = text(
    "INSERT INTO attempts (id, job_id, no, job_version, account_id, batch_id, worker_id, model, "
    "inputs, input_hash, state, extra, request_id, est_micros, charged_micros, intent_ms, "
    "accepted_ms, closed_ms, slot_until_ms, error, resolution) VALUES "
    "(:attempt_id, :job_id, :no, :version, :account_id, :batch_id, "
    ":worker_id, :model, :inputs, :input_hash, :state, :extra, :request_id, :est_micros, "
    ":charged_micros, :intent_ms, :accepted_ms, :closed_ms, :slot_until_ms, :error, :resolution)"
)
_ATTEMPTS_MADE = text("SELECT coalesce(max(no), 0) FROM attempts WHERE job_id = :job_id")
_MAKE_EXTRA = text(
    "UPDATE attempts SET extra = :extra, slot_until_ms = :now_ms WHERE id = :attempt_id"
)
_GIVE_UP = text(
    "UPDATE attempts SET state = 'abandoned', resolution = 'after_restore', closed_ms = :now_ms, "
    "charged_micros = est_micros WHERE id = :attempt_id"
)
_MOVE = text(
    "UPDATE jobs SET state = :state, owner = NULL, epoch = epoch + 1, attempt_id = :attempt_id, "
    "remote_state = NULL, queue_position = NULL, urls = NULL, error = :error, error_class = NULL, "
    "retries_used = retries_used + :superseded, finished_ms = :finished_ms, updated_ms = :now_ms "
    "WHERE id = :job_id"
)
_RETRIED = text("UPDATE jobs SET retries_used = retries_used + 1 WHERE id = :job_id")
_OF_ATTEMPT = text("SELECT job_id FROM attempts WHERE id = :attempt_id")
_DROP = text("DELETE FROM attempts WHERE id = :attempt_id AND state IN ('intent', 'in_doubt')")


def merged(journals: Iterable[Sequence[Entry]]) -> list[Entry]:
    """Return the purchases of several journals, each once, oldest first."""
    found: dict[str, Entry] = {}
    for entry in (entry for entries in journals for entry in entries):
        known = found.get(entry.attempt_id)
        found[entry.attempt_id] = _joined(known, entry) if known else entry
    return sorted(found.values(), key=_age)


def _joined(one: Entry, other: Entry) -> Entry:
    told, more = (one, other) if one.key else (other, one)
    values = {
        **told.__dict__,
        "request_id": told.request_id or more.request_id,
        "is_unpaid": told.is_unpaid or more.is_unpaid,
    }
    return Entry(**values)


def _age(entry: Entry) -> tuple[int, str]:
    return entry.intent_ms, entry.attempt_id


def repair(
    tx: Transaction, entries: Sequence[Entry], *, write_off: bool, slot_ms: int, now_ms: int
) -> Repair:
    """Put back every purchase that the job database lacks or knows less about.

    Args:
        tx: One transaction for all of it.
        entries: `merged`.
        write_off: Give up what no job can be found for.
        slot_ms: How long a doubt holds its slot.
        now_ms: The time.
    """
    work = _Work(tx, write_off=write_off, slot_ms=slot_ms, now_ms=now_ms)
    by_key: dict[str, list[Entry]] = defaultdict(list)
    for entry, state in _forgotten(tx, entries):
        if state is not None:
            work.tell(entry, state)
        elif entry.key:
            by_key[entry.key].append(entry)
        else:
            work.leave(entry, "only its request id was written down, not its job")
    # By key first: by its inputs, a purchase may take no job that another names.
    strangers = [group for key, group in by_key.items() if not work.place(key, group)]
    free = _never_bought(tx, {_asked(group) for group in strangers})
    for group in strangers:
        work.place_by_inputs(group, free)
    return work.done


def _asked(group: Sequence[Entry]) -> tuple[int, str]:
    return group[-1].account_id, group[-1].input_hash


def _never_bought(
    tx: Transaction, wanted: Collection[tuple[int, str]]
) -> dict[tuple[int, str], list[int]]:
    """Return the pending jobs without any attempt, by account and inputs, the newest first."""
    found: dict[tuple[int, str], list[int]] = defaultdict(list)
    if wanted:
        for row in tx.stream(_NEVER_BOUGHT, at_once=10_000):
            if (row.account_id, row.input_hash) in wanted:
                found[row.account_id, row.input_hash].append(row.id)
    return found


def _forgotten(tx: Transaction, entries: Sequence[Entry]) -> list[tuple[Entry, str | None]]:
    """Return the purchases to put back, each with its attempt's state, None if that is gone."""
    known = {
        row.id: row
        for part in chunks([entry.attempt_id for entry in entries], _CHUNK)
        for row in tx.rows(_ATTEMPTS, {"ids": list(part)})
    }
    found: list[tuple[Entry, str | None]] = []
    for entry in entries:
        row = known.get(entry.attempt_id)
        if row is None:
            if not entry.is_unpaid and not step_back.is_gone(tx, entry.witness):
                found.append((entry, None))
        elif _knows_less(row, entry) and not step_back.is_gone(tx, entry.witness):
            found.append((entry, row.state))
    return found


def _knows_less(row: Any, entry: Entry) -> bool:
    if entry.request_id is not None:
        return row.state in ("intent", "in_doubt", "abandoned")
    return entry.is_unpaid and row.state in ("intent", "in_doubt")


class _Work:
    """One repair, entry by entry."""

    def __init__(self, tx: Transaction, *, write_off: bool, slot_ms: int, now_ms: int) -> None:
        self.done = Repair()
        self._tx = tx
        self._write_off = write_off
        self._slot_ms = slot_ms
        self._now_ms = now_ms

    def tell(self, entry: Entry, state: str) -> None:
        """Tell the job database what it does not know of an attempt that it has."""
        if entry.request_id is None:
            self._put_back(entry)
            return
        row = self._tx.row(
            text("SELECT account_id, job_id FROM attempts WHERE id = :id"), {"id": entry.attempt_id}
        )
        if row is None:
            raise LookupError(f"attempt {entry.attempt_id} is {state}, and gone")
        if self._carrier(row.account_id, entry) is not None:
            self._settle(entry, Became.KNOWN)
            return
        runs = jobs.accept_late(self._tx, entry.attempt_id, entry.request_id, None, self._now_ms)
        self._note(entry, row.job_id, Became.RUNNING if runs else Became.EXTRA)

    def _put_back(self, entry: Entry) -> None:
        key = {"attempt_id": entry.attempt_id}
        row = self._locked(self._tx.value(_OF_ATTEMPT, key))
        if not self._tx.run(_DROP, key):
            return  # its worker lives, and has just said the same
        if row.attempt_id == entry.attempt_id and row.state in ("submitting", "in_doubt"):
            self._move(row, JobState.PENDING, None)
        self._note(entry, row.id, Became.PUT_BACK, kind=step_back.PUT_BACK)

    def _locked(self, job_id: int) -> Any:
        """Return a job that no worker changes until the transaction ends."""
        # Two statements: what one finds once it has waited for the lock, the next one sees whole.
        self._tx.row(_LOCK, {"job_id": job_id})
        row = self._tx.row(_BY_ID, {"job_id": job_id})
        if row is None:
            raise LookupError(f"job {job_id}")
        return row

    def place(self, key: str, group: Sequence[Entry]) -> bool:
        """Give the forgotten attempts of one job back to it; return whether the job is there."""
        row = self._tx.row(_BY_KEY, {"key": key})
        if row is not None:
            self._place_all(row.id, group)
        return row is not None

    def place_by_inputs(
        self, group: Sequence[Entry], free: Mapping[tuple[int, str], list[int]]
    ) -> None:
        """Give them to a job that asks for the same, never was bought and has another key."""
        jobs = free.get(_asked(group))
        if jobs:
            self._place_all(jobs.pop(), group)
            return
        for entry in group:
            self.leave(entry, "its job is not there")

    def _place_all(self, job_id: int, group: Sequence[Entry]) -> None:
        for entry in group:
            self._place(job_id, entry, is_last=entry is group[-1])

    def _place(self, job_id: int, entry: Entry, *, is_last: bool) -> None:
        row = self._locked(job_id)
        if entry.request_id is not None and self._carrier(row.account_id, entry) is not None:
            self._settle(entry, Became.KNOWN)
            return
        later = {**entry.__dict__, "job_id": job_id}
        is_newest = is_last and self._tx.row(_LATER, later) is None
        if is_newest and row.input_hash != entry.input_hash:
            self.leave(entry, "its job has other inputs now")
        elif is_newest and row.state not in (JobState.DOWNLOADING, JobState.SUCCEEDED):
            self._make_current(row, entry)
        else:
            self._add_beside(row, entry)

    def _make_current(self, row: Any, entry: Entry) -> None:
        """Let a purchase decide what becomes of its job; the one before has made way for it."""
        superseded = row.attempt_state is not None and self._supersede(row)
        became = Became.RUNNING if entry.request_id else Became.IN_DOUBT
        attempt_state = "accepted" if entry.request_id else "in_doubt"
        until_ms = None if entry.request_id else self._now_ms + self._slot_ms
        self._insert(row, entry, attempt_state, slot_until_ms=until_ms)
        state = JobState.RUNNING if entry.request_id else JobState.IN_DOUBT
        self._move(row, state, entry.attempt_id, superseded=bool(superseded))
        self._note(entry, row.id, became)

    def _supersede(self, row: Any) -> bool:
        """End a job's live attempt that a later one made way for; return whether it was paid."""
        values = {"attempt_id": row.attempt_id, "extra": True, "now_ms": self._now_ms}
        if row.attempt_state == "accepted":
            self._tx.run(_MAKE_EXTRA, values)
            return True
        if row.attempt_state in ("intent", "in_doubt"):
            self._tx.run(_GIVE_UP, values)
            self._spend(row.attempt_id, row.est_micros)
        return False

    def _add_beside(self, row: Any, entry: Entry) -> None:
        """Keep a purchase that its job did not wait for, or no longer waits for."""
        if entry.request_id is not None:
            self._insert(row, entry, "accepted", extra=True, slot_until_ms=self._now_ms)
            self._tx.run(_RETRIED, {"job_id": row.id})
            self._note(entry, row.id, Became.EXTRA)
            return
        self._insert(row, entry, "abandoned")
        self._spend(entry.attempt_id, entry.est_micros)
        self._note(entry, row.id, Became.COUNTED)

    def _insert(
        self,
        row: Any,
        entry: Entry,
        state: str,
        *,
        extra: bool = False,
        slot_until_ms: int | None = None,
    ) -> None:
        is_given_up = state == "abandoned"
        values: Mapping[str, Any] = {
            **entry.__dict__,
            "job_id": row.id,
            "no": self._tx.value(_ATTEMPTS_MADE, {"job_id": row.id}) + 1,
            "account_id": row.account_id,
            "batch_id": row.batch_id,
            "worker_id": _WORKER,
            # What was sent is known only if the job still says the same.
            "inputs": row.inputs if row.input_hash == entry.input_hash else "{}",
            "state": state,
            "extra": extra,
            "charged_micros": entry.est_micros if is_given_up else None,
            "accepted_ms": self._now_ms if entry.request_id else None,
            "closed_ms": self._now_ms if is_given_up else None,
            "slot_until_ms": slot_until_ms,
            "error": None if entry.request_id else _LOST,
            "resolution": "after_restore" if is_given_up else None,
        }
        self._tx.run(_INSERT, values)

    def _move(
        self, row: Any, state: JobState, attempt_id: str | None, *, superseded: bool = False
    ) -> None:
        in_doubt = state is JobState.IN_DOUBT
        self._tx.run(
            _MOVE,
            {
                "job_id": row.id,
                "state": str(state),
                "attempt_id": attempt_id,
                "error": _LOST if in_doubt else None,
                "superseded": int(superseded),
                "finished_ms": self._now_ms if in_doubt else None,
                "now_ms": self._now_ms,
            },
        )
        self._tx.moved(row.batch_id, row.state, str(state))

    def leave(self, entry: Entry, why: str) -> None:
        """Leave a purchase that has no place, or write it off."""
        if self._write_off:
            self._settle(entry, Became.WRITTEN_OFF)
        else:
            self.done.unplaced.append(Unplaced(entry, why))

    def _settle(self, entry: Entry, became: Became) -> None:
        # Without a job: ids of jobs may have been given anew since the purchase.
        self._note(entry, None, became, kind=step_back.SETTLED)

    def _note(
        self, entry: Entry, job_id: int | None, became: Became, *, kind: str = "after_restore"
    ) -> None:
        self.done.changes.append(Change(entry, became))
        note(
            self._tx,
            kind,
            job_id,
            entry.attempt_id,
            self._now_ms,
            became=str(became),
            request_id=entry.request_id,
            est_micros=entry.est_micros,
        )

    def _carrier(self, account_id: int, entry: Entry) -> str | None:
        values = {"account_id": account_id, "request_id": entry.request_id}
        found = self._tx.value(_CARRIER, values)
        return None if found is None else str(found)

    def _spend(self, attempt_id: str, micros: int) -> None:
        if micros:
            jobs.spend(self._tx, attempt_id, _WORKER, micros)


def is_reached(tx: Transaction, after: Witness, entries: Sequence[Entry]) -> bool:
    """Return whether a journal's beginning is known: the job database, or another, has it."""
    known = {entry.attempt_id for entry in entries}
    return after.attempt_id in known or not step_back.missing(tx, [after])


def write_off(tx: Transaction, lost: Witness, *, now_ms: int) -> None:
    """Give up a purchase of which nothing but its attempt id is known."""
    became = str(Became.WRITTEN_OFF)
    note(tx, step_back.SETTLED, None, lost.attempt_id, now_ms, became=became)


def unaccounted(tx: Transaction) -> list[str]:
    """Return the hosts that missed a purchase which is still missing."""
    lost = [host for witness, host in step_back.declared(tx) if step_back.missing(tx, [witness])]
    return sorted(set(lost))
