"""`db backup`, `db check --clips`, `db vacuum`, `db prune`: a job database over the years."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write
from store.stored_jobs import Store

from batchgen.domain.errors import StoreError
from batchgen.providers.simulator import Fault, Handle, Kind, Settings
from batchgen.store import upkeep

DB = Path("batchgen.db")


def change(statement: str, db: Path = DB) -> None:
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute(statement)


def values(query: str, db: Path = DB) -> list[Any]:
    with closing(sqlite3.connect(db)) as connection:
        return [row[0] for row in connection.execute(query)]


@pytest.fixture
def bought(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    """Two finished jobs and one in doubt."""
    faults = (Fault(Kind.ERROR_AFTER, prompt="scene doubt"),)
    with service(monkeypatch, Settings(faults=faults)) as handle:
        buy("a", "b", "doubt", expect=10)
        yield handle


# -- backup --------------------------------------------------------------------------------------


def test_a_copy_is_the_job_database_of_that_moment(bought: Handle) -> None:
    done = ok("db", "backup", "--json").said
    made = Path(done["copy"])

    assert made.name.startswith("batchgen.db.backup-")
    assert done["rows"]["jobs"] == 3
    assert sorted(path.name for path in Path().glob("*batchgen.db.backup*")) == [made.name]
    whole = ok("ls", "--json").said["jobs"]
    assert ok("ls", "--json", "--db", str(made)).said["jobs"] == whole
    assert ok("db", "check", "--db", str(made)).out.endswith("money\n")


def test_a_copy_never_goes_over_another_file(bought: Handle) -> None:
    Path("mine").write_text("a letter", encoding="utf-8")

    done = call("db", "backup", "mine")

    assert done.code == 2
    assert Path("mine").read_text(encoding="utf-8") == "a letter"
    assert call("db", "backup", "no/such/folder/copy.db").code == 2


def test_a_copy_is_taken_while_somebody_writes(bought: Handle) -> None:
    with closing(sqlite3.connect(DB, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM events")

        copy = upkeep.back_up(DB, Path("copy.db"))

        writer.execute("ROLLBACK")
    assert copy.counts["events"] == len(values("SELECT id FROM events"))
    assert copy.counts["events"]


def test_a_damaged_job_database_gives_no_copy(bought: Handle) -> None:
    change("DROP INDEX ix_jobs_position")
    with DB.open("r+b") as file:
        file.seek(4096 * 8)
        file.write(b"\xff" * 4096 * 4)

    with pytest.raises(StoreError, match=r"sound|copied"):
        upkeep.back_up(DB, Path("copy.db"))

    assert not [path for path in Path().iterdir() if "copy.db" in path.name]


# -- check ---------------------------------------------------------------------------------------


def test_clips_are_checked_by_size_and_by_every_byte(bought: Handle) -> None:
    whole = Path("clips/jobs/a.mp4").read_bytes()
    Path("clips/jobs/a.mp4").write_bytes(whole[::-1])

    assert ok("db", "check", "--clips", "--json").said["clips"]["counts"]["whole"] == 2
    done = call("db", "check", "--hash")
    assert done.code == 3
    assert "jobs/a: " in done.out
    assert "other bytes" in done.out
    assert "`batchgen download --verify` fetches what is changed or missing" in done.err
    Path("clips/jobs/b.mp4").unlink()
    by_size = call("db", "check", "--clips").err
    assert "`batchgen download --refresh` fetches the missing ones" in by_size
    said = call("db", "check", "--hash", "--json").said["clips"]
    assert (said["counts"]["changed"], said["counts"]["missing"]) == (1, 1)
    assert [one["id"] for one in said["wrong"]] == ["a", "b"]


def test_books_that_are_not_those_of_the_attempts_are_told(bought: Handle) -> None:
    change("UPDATE spending SET spent_micros = spent_micros + 1")

    done = call("db", "check")

    assert done.code == 11
    assert "the books say" in done.out


# -- prune and vacuum ----------------------------------------------------------------------------

KEPT = "SELECT group_concat(request_id || state || cost_micros || inputs) FROM attempts"


def test_what_is_pruned_changes_no_money_and_no_doubt(bought: Handle) -> None:
    before = (values(KEPT), ok("status", "--json").said["batches"], states())
    kept = values("SELECT id || hex(submit_raw) FROM attempts WHERE state = 'in_doubt'")
    would = ok("db", "prune", "--older-than", "0", "-n", "--json").said
    assert values("SELECT count(*) FROM attempts WHERE result_raw IS NOT NULL") == [2]

    did = ok("db", "prune", "--older-than", "0", "-y", "--json").said

    assert did == {**would, "dry_run": False}
    assert did["answers"] == 2
    assert did["answer_bytes"] > 0
    assert values("SELECT count(*) FROM attempts WHERE result_raw IS NOT NULL") == [0]
    assert (values(KEPT), ok("status", "--json").said["batches"], states()) == before
    doubts = values("SELECT id || hex(submit_raw) FROM attempts WHERE state = 'in_doubt'")
    assert doubts == kept
    assert values(
        "SELECT count(*) FROM events e JOIN jobs j ON j.id = e.job_id WHERE j.state = 'in_doubt'"
    ) != [0]
    assert ok("db", "check").out.endswith("money\n")
    assert "nothing to drop" in ok("db", "prune", "--older-than", "0", "-y").err


def test_of_the_sessions_the_newest_is_kept_and_dead_ones_are_not(bought: Handle) -> None:
    for number in (1, 2):  # one that died, one whose worker lives
        change(
            "INSERT INTO sessions (id, worker_id, command, started_ms) "
            f"VALUES ('s00{number}', 'w{number}', 'run', 1)"
        )
    change(
        "INSERT INTO workers (id, host, pid, version, state, started_ms, seen_ms, expires_ms) "
        "VALUES ('w2', 'h', 1, '1', 'live', 1, 1, 1)"
    )
    newest = ok("status", "--json").said["last_session"]["id"]

    assert ok("db", "prune", "--older-than", "0", "-y", "--json").said["sessions"] == 1

    assert set(values("SELECT id FROM sessions")) == {"s002", newest}


def test_nothing_young_is_pruned_and_nothing_unasked(bought: Handle) -> None:
    assert "nothing to drop" in ok("db", "prune", "-y").err
    done = call("db", "prune", "--older-than", "0")
    assert done.code == 2
    assert "Nothing was dropped" in done.err
    assert values("SELECT count(*) FROM attempts WHERE result_raw IS NOT NULL") == [2]


def test_a_job_that_is_at_work_again_keeps_what_was_answered_before(bought: Handle) -> None:
    change("UPDATE jobs SET state = 'pending' WHERE row_id = 'a'")

    assert ok("db", "prune", "--older-than", "0", "-n", "--json").said["answers"] == 1


def test_what_settles_a_step_back_is_never_pruned(bought: Handle) -> None:
    change("UPDATE events SET kind = 'put_back', job_id = 1")
    before = values("SELECT count(*) FROM events")

    ok("db", "prune", "--older-than", "0", "-y")

    assert before != [0]
    assert values("SELECT count(*) FROM events") == before


def test_a_vacuum_gives_back_what_was_pruned() -> None:
    ok("add", write("jobs.csv", rows(*(f"r{number}" for number in range(300)))))
    change("DELETE FROM job_keys")
    change("DELETE FROM jobs")

    said = ok("db", "vacuum", "--json").said

    assert said["after_bytes"] < said["before_bytes"]
    assert said["after_bytes"] == DB.stat().st_size


def test_a_vacuum_waits_for_no_worker(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with closing(store.database), closing_lock(store.database.backend.enter("w1")):
        done = call("db", "vacuum", "--db", str(store.path))

    assert done.code == 11
    assert "1 worker(s) are at work" in done.err


def test_a_vacuum_needs_room(bought: Handle, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))

    for words in (("db", "vacuum"), ("db", "backup")):
        done = call(*words)
        assert done.code == 13
        assert "bytes of free disk" in done.err


@pytest.mark.parametrize("words", [("vacuum",), ("backup",)])
def test_a_server_looks_after_itself(words: tuple[str, ...], postgres_url: str) -> None:
    ok("add", write("jobs.csv", rows("a")), "--db", postgres_url)

    done = call("db", *words, "--db", postgres_url)

    assert done.code == 2
    assert {"vacuum": "autovacuum", "backup": "pg_dump"}[words[0]] in done.err


def test_a_server_takes_a_rebuilt_job_database(bought: Handle, postgres_url: str) -> None:
    ok("export", "-o", "one.jsonl")

    ok("db", "rebuild", "one.jsonl", "--db", postgres_url)
    ok("export", "-o", "two.jsonl", "--db", postgres_url)

    assert Path("two.jsonl").read_text() == Path("one.jsonl").read_text()
    assert "money" in ok("db", "check", "--hash", "--db", postgres_url).out
    assert call("db", "rebuild", "one.jsonl", "--db", postgres_url).code == 2
    paid = len(bought.ledger.entries)
    assert call("run", "jobs.csv", "-y", "--db", postgres_url).code == 10
    assert len(bought.ledger.entries) == paid


class closing_lock:
    """Releases what shows that a worker lives."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.lock.release()
