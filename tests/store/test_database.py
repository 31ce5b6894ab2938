"""Opening a job database: pragmas, engines, and what is said when it cannot be used."""

import fcntl
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import forked
import pytest
from store.stored_jobs import Store

from batchgen.domain.errors import Exit, StoreError
from batchgen.store import sqlite, upgrade
from batchgen.store.database import Database, path_of
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction


def test_a_commit_is_on_disk_when_it_returns(sqlite_store: Store) -> None:
    with sqlite_store.database.transaction() as tx:

        def pragma(name: str) -> object:
            return tx.value(text(f"PRAGMA {name}"))

        assert pragma("synchronous") == 2
        assert pragma("journal_mode") == "wal"
        assert pragma("foreign_keys") == 1
        assert pragma("busy_timeout") == 30_000
        assert (pragma("fullfsync"), pragma("checkpoint_fullfsync")) == (1, 1)


def test_a_transaction_holds_the_write_lock_from_its_first_word(sqlite_store: Store) -> None:
    other = sqlite3.connect(sqlite_store.path, timeout=0, isolation_level=None)
    with (
        sqlite_store.database.transaction(),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
    other.close()


def test_a_reader_neither_writes_nor_waits_for_a_writer(sqlite_store: Store) -> None:
    sqlite_store.fill(1)
    with sqlite_store.database.transaction() as writing:
        writing.run(text("UPDATE accounts SET cap = 9"))
        with sqlite_store.database.reading() as tx:
            assert tx.value(text("SELECT cap FROM accounts")) == 4
            assert tx.value(text("PRAGMA foreign_keys")) == 1
    with pytest.raises(StoreError), sqlite_store.database.reading() as tx:
        tx.run(text("UPDATE accounts SET cap = 9"))


def test_an_error_undoes_the_transaction_and_its_counters(sqlite_store: Store) -> None:
    sqlite_store.fill(2)
    wrong = text("UPDATE nothing SET x = 1")

    def work(tx: Transaction) -> None:
        tx.run(text("UPDATE jobs SET state = 'failed'"))
        tx.moved(1, "pending", "failed", 2)
        tx.run(wrong)

    with pytest.raises(StoreError, match="nothing"), sqlite_store.database.transaction() as tx:
        work(tx)
    sqlite_store.check()
    assert sqlite_store.state(1) == "pending"


def test_a_foreign_key_is_kept(sqlite_store: Store) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"), sqlite_store.database.transaction() as tx:
        tx.run(text("INSERT INTO counters VALUES (99, 'pending', 1)"))


def exit_code_of(error: pytest.ExceptionInfo[StoreError]) -> Exit:
    return error.value.exit_code


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cookies.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE cookies (id)")
    other.close()

    with pytest.raises(StoreError, match="belongs to another program") as caught:
        upgrade.open_current(Database(str(path)))

    assert exit_code_of(caught) is Exit.DATABASE
    assert "--db" in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text("id,prompt\n" * 1000)

    with pytest.raises(StoreError, match="not a job database or it is damaged") as caught:
        upgrade.open_current(Database(str(path)))

    assert exit_code_of(caught) is Exit.DATABASE
    assert path.read_text() == "id,prompt\n" * 1000


def test_a_damaged_file_is_told(sqlite_store: Store) -> None:
    sqlite_store.fill(500)
    sqlite_store.close()
    content = bytearray(sqlite_store.path.read_bytes())
    content[4096 * 3 : 4096 * 60] = b"\xff" * 4096 * 57
    sqlite_store.path.write_bytes(content)

    with pytest.raises(StoreError, match="damaged") as caught:
        sqlite_store.query("SELECT count(*), max(inputs) FROM jobs")

    assert exit_code_of(caught) is Exit.DATABASE


def test_a_sound_file_has_nothing_to_say(sqlite_store: Store) -> None:
    sqlite_store.fill(3)

    assert upgrade.integrity(sqlite_store.database) == []


def test_a_database_of_a_newer_version_is_refused(sqlite_store: Store) -> None:
    with sqlite_store.database.transaction() as tx:
        tx.run(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreError, match="newer batchgen") as caught:
        upgrade.open_current(sqlite_store.database)

    assert exit_code_of(caught) is Exit.DATABASE
    assert not list(sqlite_store.path.parent.glob("*.before-*"))


def test_no_database_yet_says_how_to_make_one(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "batchgen.db"))

    with pytest.raises(StoreError, match="batchgen run MANIFEST"):
        upgrade.require_current(database)
    with pytest.raises(StoreError, match="batchgen run MANIFEST"), database.reading():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "nowhere" / "batchgen.db"))

    with pytest.raises(StoreError, match="does not exist"):
        upgrade.open_current(database)


def test_what_a_read_only_file_says(sqlite_store: Store) -> None:
    read_only = sqlite3.connect(f"file:{sqlite_store.path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        read_only.execute("UPDATE accounts SET cap = 9")
    read_only.close()

    error = sqlite_store.database.backend.explain(caught.value)

    assert error.exit_code is Exit.DATABASE
    assert "permissions" in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every file")
def test_a_read_only_file_is_refused(sqlite_store: Store) -> None:
    sqlite_store.close()
    sqlite_store.path.chmod(0o444)

    with pytest.raises(StoreError, match="permissions"), sqlite_store.database.transaction() as tx:
        tx.run(text("UPDATE accounts SET cap = 9"))


def test_a_lock_that_stays_is_told(tmp_path: Path) -> None:
    sqlite_store = Store(tmp_path)
    sqlite_store.close()
    locker = sqlite3.connect(sqlite_store.path, isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    database = Database(str(sqlite_store.path), busy_timeout_ms=1)

    with (
        pytest.raises(StoreError, match="locked by another program") as caught,
        database.transaction(),
    ):
        pass

    assert exit_code_of(caught) is Exit.DATABASE
    locker.close()
    database.close()


def test_a_full_disk_is_told_and_undone(sqlite_store: Store) -> None:
    sqlite_store.fill(1)
    with sqlite_store.database.transaction() as tx:
        pages = tx.value(text("PRAGMA page_count"))
        tx.value(text(f"PRAGMA max_page_count = {pages}"))

    with (
        pytest.raises(StoreError, match="disk is full") as caught,
        sqlite_store.database.transaction() as tx,
    ):
        tx.run(text("UPDATE jobs SET error = :much"), {"much": "x" * 500_000})

    cause = caught.value.__cause__
    assert isinstance(cause, sqlite3.OperationalError)
    assert sqlite_store.database.backend.is_passing(cause)
    assert not sqlite_store.database.backend.is_passing(ValueError())
    assert sqlite_store.job(1).error is None
    sqlite_store.check()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///night.db", "night.db"),
        ("sqlite:////var/night.db", "/var/night.db"),
        ("night.db", "night.db"),
        ("/var/night.db", "/var/night.db"),
    ],
)
def test_the_file_of_a_url(url: str, path: str) -> None:
    assert path_of(url) == Path(path)


@pytest.mark.parametrize("url", ["mysql://u:p@h/d", "sqlite://u:p@h/d"])
def test_another_kind_of_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Database(url)

    assert "u:p" not in str(caught.value)


# The place of the file.

MOUNTS = """\
/dev/root / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/export /mnt/share nfs4 rw 0 0
//server/x /mnt/share/win cifs rw 0 0
/dev/sdb1 /mnt/share/win/local xfs rw 0 0
C:\\134 /mnt/c 9p rw 0 0
me@host: /home/me/far\\040away fuse.sshfs rw 0 0
tmpfs /stacked tmpfs rw 0 0
server:/top /stacked nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/home/me", "ext4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/share/a/b", "nfs4"),
        ("/mnt/shared", "ext4"),
        ("/mnt/share/win/a", "cifs"),
        ("/mnt/share/win/local/a", "xfs"),
        ("/mnt/c/Users/me", "9p"),
        ("/home/me/far away/a", "fuse.sshfs"),
        ("/stacked/a", "nfs"),
    ],
)
def test_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    assert sqlite.file_system_of(Path(folder), MOUNTS) == kind


def test_a_network_file_system_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_file_system", lambda _folder: "nfs4")
    path = str(tmp_path / "batchgen.db")

    with pytest.raises(StoreError, match="--allow-network-fs") as caught:
        upgrade.open_current(Database(path))
    assert exit_code_of(caught) is Exit.DATABASE
    assert list(tmp_path.iterdir()) == []

    allowed = Database(path, allow_network_fs=True)
    upgrade.open_current(allowed)
    allowed.close()


# Who lives.

WORKER = """
import signal, sys
from pathlib import Path
from batchgen.store.sqlite import WorkerLock
lock = WorkerLock(Path(sys.argv[1]), "w1")
print("holds", flush=True)
signal.pause()
"""


def test_a_killed_worker_is_dead_at_once(tmp_path: Path) -> None:
    database = tmp_path / "batchgen.db"
    assert not sqlite.is_alive(database, "w1")
    worker = forked.Piped(["-c", WORKER, str(database)], os.environ, tmp_path)
    with closing(worker):
        assert worker.stdout.readline() == "holds\n"
        assert sqlite.is_alive(database, "w1")
        worker.kill()
    assert not sqlite.is_alive(database, "w1")
    sqlite.forget(database, "w1")
    sqlite.forget(database, "w1")
    assert not list(tmp_path.rglob("*.lock"))


def test_a_worker_that_ends_leaves_no_lock_behind(tmp_path: Path) -> None:
    database = tmp_path / "batchgen.db"
    lock = sqlite.WorkerLock(database, "w1")
    assert sqlite.is_alive(database, "w1")

    lock.release()

    assert not sqlite.is_alive(database, "w1")
    assert not list(tmp_path.rglob("*.lock"))


def test_two_that_look_at_once_do_not_take_each_other_for_the_worker(tmp_path: Path) -> None:
    database = tmp_path / "batchgen.db"
    sqlite.WorkerLock(database, "w1").release()
    path = tmp_path / "batchgen.db-workers" / "w1.lock"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with path.open("r+") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not sqlite.is_alive(database, "w1")


def test_a_lock_that_is_removed_before_it_is_held_is_made_again(tmp_path: Path) -> None:
    database = tmp_path / "batchgen.db"
    path = tmp_path / "batchgen.db-workers" / "w1.lock"
    path.parent.mkdir()
    path.touch()
    made: list[sqlite.WorkerLock] = []
    beginner = threading.Thread(target=lambda: made.append(sqlite.WorkerLock(database, "w1")))
    with path.open("r+") as clearing:
        fcntl.flock(clearing, fcntl.LOCK_EX)
        beginner.start()
        path.unlink()
    beginner.join()

    assert sqlite.is_alive(database, "w1")
    sqlite.forget(database, "w1")
    assert sqlite.is_alive(database, "w1")
    made[0].release()
