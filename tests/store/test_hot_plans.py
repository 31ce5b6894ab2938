"""What a run asks again and again never goes through all jobs, nor sorts those that wait."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from store.plans import plans_of
from store.stored_jobs import NOW, Store, accepted, doubt, ended, generated, put_back

from batchgen.store import additions, control, extras, jobs, nights, reads, sharing, workers
from batchgen.store.scope import Scope
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

_MANY = 20_000  # enough that a server's planner thinks of an index at all
_JOBS = text(
    "WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < :many) "
    "INSERT INTO jobs (id, batch_id, key, row_id, has_id, variant_kind, variant, position, model, "
    "inputs, input_hash, cells, name, name_folded, est_micros, state, updated_ms) "
    "SELECT 1000000 + n, batch_id, 'k' || n, 'x' || n, has_id, variant_kind, variant, n, model, "
    "inputs, 'h' || n, cells, 'n' || n, 'n' || n, est_micros, "
    "CASE WHEN n % 200 = 0 THEN 'pending' ELSE 'succeeded' END, updated_ms "
    "FROM jobs, more WHERE jobs.id = (SELECT min(id) FROM jobs)"
)
_ATTEMPTS = text(
    "INSERT INTO attempts (id, job_id, no, job_version, account_id, batch_id, worker_id, model, "
    "inputs, input_hash, state, intent_ms) SELECT 'b' || j.id, j.id, 1, 1, b.account_id, "
    "j.batch_id, 'w0', j.model, j.inputs, j.input_hash, 'succeeded', 1 "
    "FROM jobs j JOIN batches b ON b.id = j.batch_id WHERE j.state = 'succeeded'"
)
_EVENTS = text(
    "INSERT INTO events (job_id, attempt_id, at_ms, kind) SELECT job_id, id, 1, 'put_back' "
    "FROM attempts"
)

Act = Callable[[Store, Transaction, list[jobs.Job]], Any]


def _with_cap(tx: Transaction, cap: int) -> int:
    tx.run(text("UPDATE accounts SET cap = :cap"), {"cap": cap})
    return NOW


ACTS: dict[str, Act] = {
    "claim": lambda store, tx, _: jobs.claim(tx, [store.request(3)]),
    "claim but some": lambda store, tx, _: jobs.claim(
        tx, [store.request(3, scope=Scope((1,), 10**9, frozenset({5, 6})))]
    ),
    "claim when none is due": lambda store, tx, _: jobs.claim(tx, [store.request(3, now_ms=-1)]),
    "claim when no slot is free": lambda store, tx, _: jobs.claim(
        tx, [store.request(3, now_ms=_with_cap(tx, 1))]
    ),
    "is anything left": lambda store, tx, _: jobs.has_claimable(tx, store.request(1)),
    "accepted": lambda store, tx, found: jobs.record_accepted(tx, [accepted(found[0])]),
    "put back": lambda store, tx, found: jobs.put_back(tx, [put_back(found[0])]),
    "in doubt": lambda store, tx, found: jobs.record_doubt(tx, [doubt(found[0])]),
    "remote word": lambda store, tx, found: jobs.record_remote_state(
        tx, [jobs.RemoteState(found[1], "in_progress", None, in_progress=True, now_ms=NOW)]
    ),
    "generated": lambda store, tx, found: jobs.record_generated(tx, [generated(found[1])]),
    "ended": lambda store, tx, found: jobs.record_ended(tx, [ended(found[1])]),
    "finished": lambda store, tx, found: jobs.finish(
        tx, [jobs.Finish(found[2], worker_id="w1", files=(), now_ms=NOW)]
    ),
    "adopt": lambda store, tx, _: jobs.adopt(
        tx, [jobs.AdoptRequest("w1", store.account.id, 9, downloads=True, now_ms=NOW)]
    ),
    "freeze": lambda store, tx, _: jobs.freeze(tx, [jobs.Freeze(store.account.id, NOW, NOW)]),
    "heard": lambda store, tx, _: control.snapshot(tx, store.account.id),
    "heart beat": lambda store, tx, _: workers.beat(tx, [workers.Beat("w1", 30_000)]),
    "extra purchases": lambda store, tx, _: extras.waiting(tx, [store.account.id]),
    "jobs of others": lambda store, tx, _: sharing.elsewhere(
        tx, [sharing.View("w1", store.account.id, Scope(None, 10**9), True, frozenset())]
    ),
    "bury the dead": lambda store, tx, _: workers.bury(
        tx, "w2", slot_ms=1, now_ms=NOW, leaves=True
    ),
}

# What looks at few of very many, in the words of a partial index.
LOOKS: dict[str, tuple[str, Act]] = {
    "is it paid for": (
        "ix_jobs_paid_inputs",
        lambda store, tx, _: additions.paid_by_hashes(tx, store.account.id, ["h7", "h8"]),
    ),
    "adopt": ("ix_jobs_owned", ACTS["adopt"]),
    "bury the dead": ("ix_jobs_owned", ACTS["bury the dead"]),
    "jobs of others": ("ix_jobs_owned", ACTS["jobs of others"]),
    "let go": ("ix_jobs_owned", lambda store, tx, _: sharing.let_go(tx, ["w3"])),
    "take from the silent": (
        "ix_jobs_owned",
        lambda store, tx, _: sharing.take_from_silent(tx, [sharing.Silence("w1", 10**12)]),
    ),
    "what workers hold": ("ix_jobs_owned", lambda store, tx, _: workers.unheld(tx)),
    "lost jobs": (
        "ix_jobs_lost",
        lambda store, tx, _: list(reads.lost(tx, Scope(None, 10**9), store.account.id)),
    ),
    "claim": ("ix_attempts_live", ACTS["claim"]),
    "heard": ("ix_attempts_live", ACTS["heard"]),
    "extra purchases": ("ix_attempts_live", ACTS["extra purchases"]),
    "batches": ("ix_attempts_live", lambda store, tx, _: reads.batches(tx)),
    "report": ("ix_attempts_live", lambda store, tx, _: nights.counted(tx, nights.Choice())),
    "standing": (
        "ix_attempts_live",
        lambda store, tx, _: control.standing(tx, store.account.id, None),
    ),
    "budget": (
        "ix_attempts_live",
        lambda store, tx, _: control.set_budget(tx, 1, 10**9, now_ms=NOW),
    ),
}

# An index of a file that is walked in order is a scan too, of the index.
_ALL_ROWS = re.compile(
    r"Seq Scan on (jobs|attempts|events)\b|SCAN (j|a|jobs|attempts|events)(?! USING)\b|"
    r"SEARCH (j|a|jobs|attempts|events) USING INTEGER PRIMARY KEY \(rowid[<>]"
)
_SORTED = re.compile(r"TEMP B-TREE FOR ORDER|\bSort\b")
_FEW = re.compile(r"ix_jobs_owned|ix_attempts_live")  # what is in flight may be sorted


class Undone(Exception):
    """Ends a transaction whose changes are not wanted."""


@pytest.fixture(scope="module", params=["sqlite", "sqlite analyzed", "postgresql"])
def busy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Store, list[jobs.Job]]]:
    """A store of many jobs: pending and finished ones, and one at each step; nobody changes it."""
    url = request.getfixturevalue("schema_url") if request.param == "postgresql" else ""
    store = Store(tmp_path_factory.mktemp("busy"), url=url)
    with closing(store), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transaction, "now_ms", lambda _: store.now_ms)
        found = _filled(store)
        if request.param != "sqlite":  # nobody does it for a file
            _analyze(store)
        yield store, found


def _filled(store: Store) -> list[jobs.Job]:
    store.worker("w2")
    with store.database.transaction() as tx:
        tx.run(text("UPDATE accounts SET cap = 100"))
    store.fill(10)
    [downloading] = store.downloading(1)
    [running] = store.running(1)
    store.running(2, worker="w2")
    [claimed] = store.claim(1)
    with store.database.transaction() as tx:
        for statement in (_JOBS, _ATTEMPTS, _EVENTS):
            tx.run(statement, {"many": _MANY} if statement is _JOBS else {})
    return [claimed, running, downloading]


def _analyze(store: Store) -> None:
    with store.database.transaction() as tx:
        for name in ("jobs", "attempts", "events", "workers", "batches"):
            tx.run(text(f"ANALYZE {name}"))


@pytest.mark.parametrize("act", ACTS)
def test_a_hot_query_uses_an_index_and_does_not_sort(
    busy: tuple[Store, list[jobs.Job]], act: str
) -> None:
    store, found = busy
    plans: list[str] = []
    with suppress(Undone), store.database.transaction() as tx:
        with plans_of(tx) as asked:
            ACTS[act](store, tx, found)
        plans += asked
        raise Undone

    assert plans
    slow = [
        plan
        for plan in plans
        if _ALL_ROWS.search(plan) or (_SORTED.search(plan) and not _FEW.search(plan))
    ]
    assert not slow, "\n\n".join(slow)


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_at_few_uses_the_index_of_its_states(
    busy: tuple[Store, list[jobs.Job]], look: str
) -> None:
    store, found = busy
    index, act = LOOKS[look]
    plans: list[str] = []
    with suppress(Undone), store.database.transaction() as tx:
        with plans_of(tx) as asked:
            act(store, tx, found)
        plans += asked
        raise Undone

    assert any(index in plan for plan in plans), "\n\n".join(plans)
