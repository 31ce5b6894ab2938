"""`db copy`: a job database moves, whole, and only one of the two buys from then on."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command as alembic
from alembic.config import Config
from cli.bought import buy, service
from cli.commands import call, ok, rows, write
from runs import DEADLINE_S, Place
from store.stored_jobs import Store

from batchgen import failpoints
from batchgen.cli import consent
from batchgen.domain.errors import StoreError
from batchgen.providers.simulator import Fault, Handle, Kind, Settings
from batchgen.store import copying, moving, upgrade, workers
from batchgen.store.database import Database
from batchgen.store.statements import text

OLD = "batchgen.db"
FAULTS = (
    Fault(Kind.DROP_AFTER, prompt="scene doubt"),
    Fault(Kind.GENERATION, prompt="scene broken", code="SAFETY.INPUT.TEXT"),
)
FAST = ("-y", "--poll-interval", "0")
KILLED = -signal.SIGKILL


@pytest.fixture
def bought(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    """One finished job, one that failed, one in doubt, and two that wait."""
    with service(monkeypatch, Settings(faults=FAULTS)) as handle:
        buy("a", "broken", "doubt", expect=10)
        ok("add", write("more.csv", rows("b", "c\N{SNOWMAN}")))
        yield handle


def counts(url: str) -> dict[str, int]:
    """Return how many rows each table holds, as its own kind of database counts."""
    names = ("accounts", "attempts", "batches", "counters", "events", "jobs", "spending", "workers")
    with closing(psycopg.connect(url) if "://" in url else sqlite3.connect(url)) as connection:
        found = {}
        for name in names:
            cursor: Any = connection.cursor()
            found[name] = cursor.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        return found


def summed(said: dict[str, Any]) -> dict[str, tuple[int, str]]:
    return {table["name"]: (table["rows"], table["checksum"]) for table in said["tables"]}


def everything(url: str) -> list[Any]:
    """Return all that can be asked of jobs, in the words of the commands."""
    found = [ok("ls", "--json", "--db", url).said["jobs"], ok("export", "-o", "-", "--db", url).out]
    for job in found[0]:
        found.append(ok("show", job["key"], "--json", "--db", url).said)
    return found


def test_a_job_database_moves_to_a_server_and_goes_on_there(
    bought: Handle, postgres_url: str
) -> None:
    before, paid = everything(OLD), len(bought.ledger.entries)

    done = ok("db", "copy", OLD, postgres_url)

    assert everything(postgres_url) == before
    assert counts(postgres_url) == counts(OLD)
    assert "every row is the same on both sides" in done.err
    assert "a-password" not in done.err + done.out
    assert "Their folder (clips) is relative" in done.err
    assert "money" in ok("db", "check", "--hash", "--db", postgres_url).out
    again = ok("db", "copy", OLD, postgres_url)
    assert "has moved" in again.err
    # Only what had never been bought is bought; what was is known, by whatever manifest.
    bought.settings = Settings()
    assert call("run", "jobs.csv", "more.csv", *FAST, "--db", postgres_url).code == 10
    assert len(bought.ledger.entries) == paid + 2
    new = ok("add", write("new.csv", rows("d")), "--db", postgres_url, "--json").said
    assert new["manifests"][0]["batch"] == "new"
    assert "money" in ok("db", "check", "--hash", "--db", postgres_url).out


REFUSED = (
    ("run", *FAST),
    ("run", "more.csv", *FAST),
    ("add", "more.csv"),
    ("add", "new.csv"),
    ("retry", "broken", "-y"),
    ("reconcile", "--resubmit", "doubt", "-y"),
    ("reconcile", "--after-restore", "-y"),
    ("cancel", "b"),
    ("set", "jobs", "3"),
    ("set", "priority", "1", "b"),
    ("pause",),
    ("download",),
    ("db", "prune", "-y"),
    ("db", "copy", OLD, "third.db"),
)


def test_the_old_one_buys_and_changes_nothing_and_says_where_to_go(bought: Handle) -> None:
    write("new.csv", rows("d"))
    ok("db", "copy", OLD, "new.db")
    paid, before = len(bought.ledger.entries), everything(OLD)

    for words in REFUSED:
        done = call(*words)

        assert done.code == 11, (words, done.err)
        assert "its jobs have moved to new.db" in done.err
    assert (len(bought.ledger.entries), everything(OLD)) == (paid, before)
    assert "moved to new.db" in ok("status").err
    bought.settings = Settings()
    assert call("run", *FAST, "--db", "new.db").code == 10
    assert len(bought.ledger.entries) == paid + 2


def test_it_comes_back_from_a_server_too(bought: Handle, postgres_url: str) -> None:
    moved = ok("db", "copy", OLD, postgres_url, "--json").said

    back = ok("db", "copy", postgres_url, "down.db", "--json").said

    events = {"events"}  # it tells of the second move too
    assert {k: v for k, v in summed(back).items() if k not in events} == {
        k: v for k, v in summed(moved).items() if k not in events
    }
    assert everything("down.db") == everything(postgres_url)
    assert "moved to down.db" in call("run", *FAST, "--db", postgres_url).err


# -- interrupted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [(1, 1), (2, 5)])
def test_a_copy_that_is_killed_twice_goes_on_and_is_used_by_nobody_before(
    bought: Handle, postgres_url: str, tmp_path: Path, at: tuple[int, int]
) -> None:
    whole = ok("db", "backup", "--json").said["copy"]
    place = Place(tmp_path, bought, url=postgres_url)
    paid = len(bought.ledger.entries)
    copy = ("db", "copy", OLD, postgres_url)

    for nth in at:
        armed = {"BATCHGEN_FAILPOINT": f"in-copy@{nth}=kill"}
        killed = place.start(*copy, env=armed).wait()
        assert killed.code == KILLED, killed.err
        for words in (("run", *FAST), ("status",), ("add", "jobs.csv"), ("db", "check")):
            done = call(*words, "--db", postgres_url)
            assert done.code == 11
            assert "was not finished" in done.err
            assert "a-password" not in done.err
        assert "moved to" in call("run", *FAST).err
    said = ok(*copy, "--json").said

    assert said["resumed"]
    reference = ok("db", "copy", whole, "reference.db", "--json").said
    mine, theirs = summed(said), summed(reference)
    del mine["events"], theirs["events"]  # each tells of its own move
    assert mine == theirs
    assert counts(postgres_url) == counts(OLD)
    bought.settings = Settings()
    assert call("run", *FAST, "--db", postgres_url).code == 10
    assert len(bought.ledger.entries) == paid + 2


def test_it_may_fail_at_any_step_again_and_again(bought: Handle) -> None:
    def step() -> None:
        copying.copy(source, target, now_ms=1, slot_ms=lambda _: 1, say=lambda _: None, step=2)

    steps = 0
    with closing(Database(OLD)) as source, closing(Database("new.db")) as target:
        upgrade.create(target)
        while True:
            failpoints.arm("in-copy@2=raise")
            try:
                step()
            except failpoints.Armed:
                steps += 1
                with pytest.raises(StoreError, match="was not finished"):
                    upgrade.open_current(target)
                continue
            finally:
                failpoints.arm("")
            break
    assert steps > 8
    assert everything("new.db") == everything(OLD)
    assert "money" in ok("db", "check", "--db", "new.db").out


def test_a_row_that_was_changed_on_one_side_is_found(bought: Handle) -> None:
    def tamper(table: str) -> None:
        if table == "attempts":
            with closing(sqlite3.connect("new.db")) as connection, connection:
                connection.execute("UPDATE attempts SET est_micros = est_micros + 1 WHERE no = 1")

    with closing(Database(OLD)) as source, closing(Database("new.db")) as target:
        upgrade.create(target)
        with pytest.raises(copying.NotTheSame, match="row 1 of attempts"):
            copying.copy(source, target, now_ms=1, slot_ms=lambda _: 1, say=tamper)

    assert call("status", "--db", "new.db").code == 11
    ok("db", "copy", OLD, "new.db", "--undo")
    ok("db", "copy", OLD, "new.db")


def test_what_was_copied_before_it_was_undone_is_copied_anew(bought: Handle) -> None:
    place = Place(Path.cwd(), bought)
    armed = {"BATCHGEN_FAILPOINT": "in-copy@5=kill"}
    assert place.start("db", "copy", OLD, "new.db", env=armed).wait().code == KILLED
    ok("db", "copy", OLD, "new.db", "--undo")
    ok("cancel", "b")

    ok("db", "copy", OLD, "new.db")

    assert everything("new.db") == everything(OLD)
    assert {job["state"] for job in ok("ls", "--json", "--db", "new.db").said["jobs"]} > {
        "cancelled"
    }


# -- undone --------------------------------------------------------------------------------------


def test_a_move_is_undone_as_long_as_the_new_one_has_not_gone_on(bought: Handle) -> None:
    ok("db", "copy", OLD, "new.db")

    ok("db", "copy", OLD, "new.db", "--undo")

    assert "moved to batchgen.db" in call("run", *FAST, "--db", "new.db").err
    bought.settings = Settings()
    assert call("run", *FAST).code == 10
    assert call("db", "copy", OLD, "new.db", "--undo").code == 2


def test_a_move_is_not_undone_once_the_new_one_has_bought(bought: Handle) -> None:
    ok("db", "copy", OLD, "new.db")
    call("run", *FAST, "--db", "new.db")

    done = call("db", "copy", OLD, "new.db", "--undo")

    assert done.code == 2
    assert "`batchgen db copy new.db NEW.db`" in done.err
    assert "moved to new.db" in call("run", *FAST).err


def test_a_lost_target_is_given_up_only_with_consent_and_what_it_bought_is_missed(
    bought: Handle,
) -> None:
    ok("db", "copy", OLD, "new.db")
    bought.settings = Settings()
    call("run", *FAST, "--db", "new.db")
    paid = len(bought.ledger.entries)
    Path("new.db").unlink()
    assert call("db", "copy", OLD, "--undo").code == 2

    ok("db", "copy", OLD, "--undo", "-y")

    # This machine has written down what was bought from the copy.
    done = call("run", *FAST)
    assert done.code == 11
    assert "reconcile --after-restore" in done.err
    assert len(bought.ledger.entries) == paid


# -- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["source", "target"])
def test_nothing_moves_while_a_worker_lives(tmp_path: Path, which: str, bought: Handle) -> None:
    (tmp_path / "elsewhere").mkdir()
    store = Store(tmp_path / "elsewhere")
    living = str(store.path)
    words = (living, "new.db") if which == "source" else (OLD, living)
    lock = store.database.backend.enter("w1")
    try:
        done = call("db", "copy", *words)
    finally:
        lock.release()
        store.database.close()

    assert done.code == 2
    assert f"{living}: 1 worker(s) are at work" in done.err
    assert "moved" not in ok("status").err


def test_a_worker_that_begins_at_that_moment_is_seen(postgres_url: str, bought: Handle) -> None:
    ok("add", "more.csv", "--db", postgres_url)
    info = workers.WorkerInfo("w1", "host", 1, "0", 30_000)
    with closing(Database(postgres_url)) as database:
        with database.transaction() as tx:
            # The other program may take its time to start.
            tx.run(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            moving.hold(tx)
            workers.register(tx, info)  # and not committed yet
            copy = Place(Path.cwd(), bought).start("db", "copy", postgres_url, "new.db")
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            with closing(psycopg.connect(postgres_url)) as other:
                deadline = time.monotonic() + DEADLINE_S
                while other.execute(waits).fetchone() == (0,):
                    other.rollback()
                    assert time.monotonic() < deadline, "it never came to the lock"
        done = copy.wait()

        assert done.code == 2, done.err
        assert "1 worker(s) are at work" in done.err
        moving.refuse(database)  # nothing has moved
    assert call("ls", "--db", "new.db").code == 11


def test_a_run_that_had_asked_before_does_not_begin_there(
    bought: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agree(*_: Any, **__: Any) -> None:
        ok("db", "copy", OLD, "new.db")

    monkeypatch.setattr(consent, "confirm", agree)  # who is asked takes their time
    paid = len(bought.ledger.entries)

    done = call("run", *FAST)

    assert done.code == 11
    assert "have moved to new.db" in done.err
    assert len(bought.ledger.entries) == paid
    assert "moved to" not in call("run", *FAST, "--db", "new.db").err


def test_an_empty_target_of_an_older_version_is_upgraded(bought: Handle) -> None:
    with closing(Database("new.db")) as database, database.changing_schema() as tx:
        config = Config()
        config.set_main_option("script_location", str(upgrade.migrations_dir()))
        config.attributes["connection"] = tx.connection
        alembic.upgrade(config, "0005")

    ok("db", "copy", OLD, "new.db")

    assert everything("new.db") == everything(OLD)


def test_what_a_dead_worker_had_sent_is_in_doubt_in_the_new_place(bought: Handle) -> None:
    place = Place(Path.cwd(), bought)
    bought.settings = Settings()
    armed = {"BATCHGEN_FAILPOINT": "after-send=kill"}
    assert place.start("run", *FAST, "--limit", "1", env=armed).wait().code == KILLED

    said = ok("db", "copy", OLD, "new.db", "--json").said

    assert said["doubts"] == 1
    held = list(ok("ls", "--json", "--db", "new.db").said["jobs"])
    assert sorted(job["state"] for job in held).count("in_doubt") == 2


def test_other_jobs_are_never_written_over(bought: Handle, postgres_url: str) -> None:
    ok("add", "more.csv", "--db", postgres_url)
    ok("add", "more.csv", "--db", "other.db")
    before = everything(postgres_url), everything("other.db")

    for target in (postgres_url, "other.db", OLD, f"sqlite:///{Path.cwd()}/{OLD}"):
        done = call("db", "copy", OLD, target)
        assert done.code == 2, done.err
    assert (everything(postgres_url), everything("other.db")) == before
    assert "moved" not in ok("status").err


def test_request_ids_that_were_saved_beside_it_are_taken_in_first(bought: Handle) -> None:
    place = Place(Path.cwd(), bought)
    bought.settings = Settings()
    armed = {"BATCHGEN_FAILPOINT": "after-answer=raise"}
    place.start("run", *FAST, "--limit", "1", env=armed).wait()

    done = call("db", "copy", OLD, "new.db")

    assert done.code == 2
    assert "reconcile --from-rescue" in done.err


def test_an_old_source_is_told_how_to_be_upgraded(bought: Handle) -> None:
    with closing(sqlite3.connect(OLD)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0005'")

    done = call("db", "copy", OLD, "new.db")

    assert done.code == 11
    assert f"`batchgen db upgrade --db {OLD}` first" in done.err


@pytest.mark.parametrize("words", [("nothing.db", "new.db"), (OLD,), (OLD, "no/folder/new.db")])
def test_a_place_that_is_none_is_told(bought: Handle, words: tuple[str, ...]) -> None:
    assert call("db", "copy", *words).code in (2, 11)
    assert "moved" not in ok("status").err
