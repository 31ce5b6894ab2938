"""A large manifest in many transactions: hidden until the last, removed if it dies."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from store.stored_jobs import NOW, Store, spec_of

from batchgen import planning
from batchgen.domain.errors import StoreError
from batchgen.domain.states import JobState
from batchgen.planning import Verdict, storing
from batchgen.store import additions, control, imports, reads, sqlite, upgrade
from batchgen.store.database import Database
from batchgen.store.scope import Scope
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "SMALL", 3)
    monkeypatch.setattr(planning.plan, "CHUNK", 2)


def manifest(folder: Path, count: int, *, first: int = 0, name: str = "large.csv") -> str:
    lines = ["id,prompt,image"]
    lines += [
        f"r{n},prompt {n},https://images.example.com/{n}.jpg" for n in range(first, first + count)
    ]
    path = folder / name
    path.write_text("\n".join(lines))
    return str(path)


def plan_of(store: Store, path: str, **wish: Any) -> planning.Plan:
    with store.database.reading() as tx:
        return planning.decide(tx, planning.prepare(tx, planning.Wish(path, **wish)))


def add(store: Store, path: str, **wish: Any) -> planning.Plan:
    with imports.adding(store.database):
        plan = plan_of(store, path, **wish)
        planning.store(store.database, plan, now_ms=NOW, draw=lambda low, _: low)
    return plan


class Looks:
    """Everything that is asked about jobs and batches, at one moment."""

    def __init__(self, store: Store) -> None:
        with store.database.reading() as tx:
            self.seen = self._look(tx, store)

    def _look(self, tx: Transaction, store: Store) -> dict[str, Any]:
        known = [batch.id for batch in reads.batches(tx)]
        return {
            "batches": reads.batches(tx),
            "find_batch": additions.find_batch(tx, "large"),
            "job_rows": list(reads.job_rows(tx)),
            "of_batches": [len(list(reads.job_rows(tx, batch_id=one))) for one in known],
            "pending": len(list(reads.job_rows(tx, states=[JobState.PENDING]))),
            "newest": reads.newest_job_id(tx),
            "by id": reads.find(tx, "r1"),
            "by batch and id": reads.find(tx, "large/r1"),
            "waiting": reads.waiting(tx, store.account.id, None),
            "row ids": [additions.by_row_ids(tx, one, ["r1", "r4"]) for one in known],
            "pending ids": [list(additions.pending(tx, one)) for one in known],
            "ids": [list(additions.ids_of_batch(tx, one)) for one in known],
        }


def steps_of(store: Store, plan: planning.Plan) -> Iterator[None]:
    """Store a plan step by step, as `store` does with a large one."""
    work = storing._Storing(store.database, plan, now_ms=NOW, draw=lambda low, _: low)
    with store.database.reading() as tx:
        work.look(tx)
    for step in work.steps(is_hidden=True):
        with store.database.transaction() as tx:
            work.check(tx)
            step(tx)
        yield
    with store.database.transaction() as tx:
        work.finish(tx)
    yield


def open_imports(store: Store) -> int:
    return int(store.query("SELECT count(*) FROM imports")[0][0])


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("is_new", [True, False], ids=["new batch", "known batch"])
def test_nothing_of_an_import_is_seen_before_its_end(
    store: Store, tmp_path: Path, is_new: bool
) -> None:
    store.add(store.batch("old"), [spec_of("old")])
    if not is_new:
        add(store, manifest(tmp_path, 2))
    before = Looks(store).seen
    keys = [row[0] for row in store.query("SELECT key FROM jobs")]
    plan = plan_of(store, manifest(tmp_path, 7))

    hidden = 0
    for _ in steps_of(store, plan):
        if open_imports(store):
            hidden += 1
            assert Looks(store).seen == before
            with store.database.reading() as tx:
                for row in store.query("SELECT key FROM jobs"):
                    known = row[0] in keys
                    assert bool(reads.find(tx, row[0])) == known
                    assert bool(reads.find(tx, row[0][:12])) == known
                    assert bool(additions.by_keys(tx, [row[0]])) == known
    assert hidden >= 3

    after = Looks(store).seen
    assert len(after["job_rows"]) == 8
    assert after["newest"] == max(row.id for row in after["job_rows"])
    store.check()


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("is_new", [True, False], ids=["new batch", "known batch"])
def test_what_a_dead_import_stored_is_removed_by_the_next(
    store: Store, tmp_path: Path, is_new: bool
) -> None:
    store.add(store.batch("old"), [spec_of("old")])
    if not is_new:
        add(store, manifest(tmp_path, 2))
    before = Looks(store).seen
    plan = plan_of(store, manifest(tmp_path, 7))
    for _ in islice(steps_of(store, plan), 3):
        pass
    assert open_imports(store) == 1

    with imports.adding(store.database):
        assert open_imports(store) == 0
        assert Looks(store).seen == before
        assert len(store.query("SELECT id FROM jobs")) == len(before["job_rows"])
    assert add(store, manifest(tmp_path, 7)).count(Verdict.NEW) == (7 if is_new else 5)
    store.check()


@pytest.mark.usefixtures("small_steps")
def test_a_large_manifest_is_stored_as_a_small_one_is(store: Store, tmp_path: Path) -> None:
    path = manifest(tmp_path, 9)

    plan = add(store, path)

    assert plan.count(Verdict.NEW) == 9
    rows = store.query("SELECT row_id, name, position, state FROM jobs ORDER BY id")
    assert [tuple(row) for row in rows] == [
        (f"r{n}", f"large/r{n}.mp4", n, "pending") for n in range(9)
    ]
    edited = Path(path).read_text().replace("prompt", "another prompt").replace("another ", "", 1)
    Path(path).write_text(edited)
    assert add(store, path).count(Verdict.CHANGED) == 9
    assert add(store, path).count(Verdict.UNCHANGED) == 9
    store.check()


@pytest.mark.usefixtures("small_steps")
def test_a_run_that_goes_on_buys_nothing_of_a_later_import(store: Store, tmp_path: Path) -> None:
    store.add(store.batch("old"), [spec_of("old")])
    with store.database.reading() as tx:
        scope = Scope(None, reads.newest_job_id(tx))

    for _ in steps_of(store, plan_of(store, manifest(tmp_path, 7))):
        with store.database.reading() as tx:
            begun = Scope(None, reads.newest_job_id(tx))
        if open_imports(store):
            assert begun == scope
    claim = store.try_claim(10, scope=scope)

    assert [job.label for job in claim.jobs] == ["old"]


def test_one_import_at_a_time(store: Store) -> None:
    order: list[str] = []
    begins = threading.Event()

    def wait_for_it() -> None:
        with closing(Database(store.database.url)) as other:
            begins.set()
            with imports.adding(other):
                order.append("second")

    with imports.adding(store.database):
        second = threading.Thread(target=wait_for_it)
        second.start()
        assert begins.wait(30)
        order.append("first")
    second.join(30)

    assert order == ["first", "second"]


def test_names_of_one_import_are_unique_over_its_steps(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "SMALL", 3)
    monkeypatch.setattr(planning.plan, "CHUNK", 1)
    path = tmp_path / "fox.csv"
    ids = ["Fox", "fox", "fox-2", "FOX", "fox-2-2"]
    lines = [f"{one},prompt {n},https://images.example.com/{n}.jpg" for n, one in enumerate(ids)]
    path.write_text("\n".join(["id,prompt,image", *lines]))

    add(store, str(path))

    folded = [row[0] for row in store.query("SELECT name_folded FROM jobs")]
    assert len(set(folded)) == len(ids)


@pytest.mark.usefixtures("small_steps")
def test_what_is_hidden_is_not_cancelled(store: Store, tmp_path: Path) -> None:
    add(store, manifest(tmp_path, 2))
    [batch_id] = {row[0] for row in store.query("SELECT batch_id FROM jobs")}

    for number, _ in enumerate(steps_of(store, plan_of(store, manifest(tmp_path, 7)))):
        if number == 2:
            assert open_imports(store)
            with store.database.transaction() as tx:
                assert control.cancel_pending(tx, batch_id, now_ms=NOW) == 2

    states = [row[0] for row in store.query("SELECT state FROM jobs ORDER BY id")]
    assert states == ["cancelled"] * 2 + ["pending"] * 5
    store.check()


@pytest.mark.usefixtures("small_steps")
def test_who_has_lost_the_lock_stores_no_more(store: Store, tmp_path: Path) -> None:
    store.add(store.batch("old"), [spec_of("old")])
    before = Looks(store).seen
    work = steps_of(store, plan_of(store, manifest(tmp_path, 7)))
    for _ in islice(work, 3):
        pass

    with imports.adding(store.database):  # as if the first one had lost its lock unnoticed
        with pytest.raises(StoreError, match="another program has taken over"):
            list(work)
        assert Looks(store).seen == before
    assert open_imports(store) == 0
    store.check()


@pytest.mark.usefixtures("small_steps")
def test_a_dead_import_leaves_the_batch_as_it_was(store: Store, tmp_path: Path) -> None:
    path = manifest(tmp_path, 2)
    add(store, path)
    table = Path(manifest(tmp_path, 7)).read_text().splitlines()
    Path(path).write_text("\n".join([f"{table[0]},client", *(f"{row},acme" for row in table[1:])]))
    plan = plan_of(store, path, budget_micros=7, output_dir="elsewhere")

    for _ in islice(steps_of(store, plan), 3):
        pass
    with imports.adding(store.database), store.database.reading() as tx:
        batch = additions.find_batch(tx, "large")

    assert batch is not None
    assert {"id", "prompt", "image"} <= set(batch.columns)
    assert (batch.budget_micros, batch.output_dir) == (None, "clips")


@pytest.mark.usefixtures("small_steps")
def test_edits_are_stored_before_anything_new_is_seen(store: Store, tmp_path: Path) -> None:
    path = manifest(tmp_path, 4)
    add(store, path)
    edited = (
        Path(manifest(tmp_path, 9))
        .read_text()
        .replace("prompt 0", "edited")
        .replace("prompt 3", "edited")
    )
    Path(path).write_text(edited)

    for _ in steps_of(store, plan_of(store, path)):
        with store.database.reading() as tx:
            shown = [row.inputs["promptText"] for row in reads.job_rows(tx)]
        if len(shown) > 4:
            assert shown.count("edited") == 2


def test_a_link_to_a_job_database_has_its_lock(tmp_path: Path) -> None:
    made = Store(tmp_path)
    link = tmp_path / "link.db"
    link.symlink_to(made.path)

    with imports.adding(made.database):
        with closing(Database(str(link))) as other, pytest.raises(BlockingIOError):
            fcntl.flock(
                os.open(sqlite._lock_path(link, "adding").with_suffix(""), os.O_RDWR),
                fcntl.LOCK_EX | fcntl.LOCK_NB,
            )
        assert other.path == link
    made.close()


def test_a_job_that_its_key_does_not_find_is_told(store: Store) -> None:
    store.fill(3)
    assert upgrade.integrity(store.database) == []

    with store.database.transaction() as tx:
        tx.run(text("DELETE FROM job_keys WHERE job_id = 2"))

    assert upgrade.integrity(store.database) == ["keys: 1 jobs cannot be found by theirs"]


def test_commits_are_synced_again_after_a_large_manifest(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost intent is a lost purchase."""
    monkeypatch.setattr(storing, "SMALL", 3)
    seen: list[int] = []
    finish = imports.finish

    def look(tx: Transaction, import_id: str) -> None:
        seen.append(int(tx.value(text("PRAGMA synchronous"))))
        finish(tx, import_id)

    monkeypatch.setattr(imports, "finish", look)

    add(sqlite_store, manifest(tmp_path, 9))

    with sqlite_store.database.transaction() as tx:
        after = int(tx.value(text("PRAGMA synchronous")))
    assert (seen, after) == ([2], 2)
