"""No room on the disk, for the job database or for the clips; somebody else's lock."""

import resource
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cli.commands import call
from runs import Place, Started, rows_of

from batchgen.providers.simulator import Fault, Kind
from batchgen.store.database import Database

HUGE = resource.RLIM_INFINITY
Mount = Callable[[str], Path]


class Limit:
    """A bound on the size of files: what a full disk is like, without one."""

    def __init__(self, place: Place, run: Started) -> None:
        self._pid = run.pid
        wal = place.db.with_name("jobs.db-wal").stat().st_size
        assert wal > 64 * 1024  # else there would be no room for the rescue file either
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (wal, HUGE))

    def end(self) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (HUGE, HUGE))


class FullDisk:
    """A small disk of its own, filled up."""

    def __init__(self, place: Place, _run: Started | None = None, *, at: Path | None = None):
        self._filler = (at or place.folder) / "filler"
        with self._filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                return

    def end(self) -> None:
        self._filler.unlink()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts small file systems, if this user may."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, check=False).returncode:
            pytest.skip("this user cannot mount a file system")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def wait_for_answers(place: Place) -> Started:
    """Start a run and return when three paid requests are accepted, but not answered yet."""
    place.write(rows_of(6))
    slow = Fault(Kind.SLOW, nth=(1, 2, 3), seconds=0.8)
    place.service.settings = replace(place.service.settings, faults=(slow,))
    run = place.start_run("jobs.csv", "-j", "3", "--no-download")
    place.wait_accepted(3)
    return run


def check_nothing_was_lost(place: Place) -> None:
    assert place.service.counters.accepted == 6
    assert all(len(entries) == 1 for entries in place.bought().values())
    assert place.states() == {"downloading": 6}
    assert place.leftovers() == []
    place.check_books()


def test_an_id_that_arrives_on_a_full_disk_is_kept_until_there_is_room(
    place: Place, request: pytest.FixtureRequest
) -> None:
    kind: type[Limit | FullDisk] = FullDisk
    try:
        place = Place(request.getfixturevalue("mount")("size=2m"), place.service)
    except pytest.skip.Exception:
        kind = Limit
    run = wait_for_answers(place)
    shortage = kind(place, run)
    run.wait_said("it is kept in")
    [kept] = place.folder.glob("jobs.db-rescue-*")
    ids = {entry.id for entry in place.service.ledger.entries}
    assert any(request_id in kept.read_text() for request_id in ids)
    assert place.service.counters.posts == 3  # nothing more is claimed

    shortage.end()
    done = run.wait()

    assert done.code == 0, done.err
    assert ("disk is full" if kind is FullDisk else "disk I/O") in done.err
    check_nothing_was_lost(place)


@pytest.fixture
def killed(place: Place) -> Place:
    """A place where a run was killed while three ids could not be recorded."""
    run = wait_for_answers(place)
    Limit(place, run)
    for _ in range(3):
        run.wait_said("it is kept in")
    run.send(signal.SIGKILL)
    assert run.wait().code == -signal.SIGKILL
    assert place.states() == {"submitting": 3, "pending": 3}
    return place


def test_the_next_run_takes_in_what_a_killed_one_could_not_record(killed: Place) -> None:
    done = killed.run("--no-download")

    assert done.code == 0, done.err
    assert "3 request id(s) that a worker could not record" in done.err
    assert "in doubt" not in done.err
    check_nothing_was_lost(killed)


def test_what_a_killed_run_could_not_record_is_taken_in_by_hand(killed: Place) -> None:
    [file] = killed.folder.glob("jobs.db-rescue-*")
    copy = shutil.copy(file, killed.folder / "copy")
    reconcile = ("reconcile", "--db", str(killed.db), "--from-rescue")
    ids = {entry.id for entry in killed.service.ledger.entries}

    first = call(*reconcile)
    again = call(*reconcile, str(copy), "--json")

    assert {line.removesuffix(": recorded") for line in first.out.splitlines()} == ids
    assert again.said == {"recorded": [], "known": 3, "troubles": []}
    assert killed.states() == {"running": 3, "pending": 3}
    assert killed.run("--no-download").code == 0
    check_nothing_was_lost(killed)


def test_a_rescue_file_that_does_not_belong_here_is_told_and_kept(place: Place) -> None:
    place.write(rows_of(2))
    assert place.run("jobs.csv").code == 0
    damaged = place.folder / "jobs.db-rescue-w0"
    damaged.write_text("# batchgen: a header\na1 req\nnobody r-1 a15a0f2d\n")
    text = place.folder / "jobs.db-rescue-w1"
    text.write_text("shopping list\n")
    reconcile = ("reconcile", "--db", str(place.db), "--from-rescue")

    run = place.run()
    by_hand = [call(*reconcile, str(path)) for path in (damaged, text)]
    missing = call(*reconcile, "nowhere")

    assert run.code == 0, run.err
    assert "line 2 is damaged" in run.err
    assert "not a rescue file" in run.err
    assert [done.code for done in (*by_hand, missing)] == [2, 2, 2]
    assert "r-1 belongs to no open attempt" in by_hand[0].err
    assert "not a rescue file" in by_hand[1].err
    assert "nowhere: cannot be read" in missing.err
    assert damaged.exists()
    assert text.exists()


def test_a_disk_that_is_full_at_the_start_is_told(place: Place, mount: Mount) -> None:
    small = Place(mount("size=1m"), place.service)
    small.write(rows_of(2))
    FullDisk(small)
    elsewhere = ("--output-dir", str(place.folder / "clips"))

    done = [small.run("jobs.csv"), small.run("jobs.csv", *elsewhere)]

    assert [one.code for one in done] == [13, 13], done
    assert "choose another --output-dir" in done[0].err
    assert "the job database cannot grow; make room" in done[1].err
    assert place.service.counters.posts == 0


def test_a_strangers_lock_is_waited_for_and_the_ids_are_kept_meanwhile(place: Place) -> None:
    run = wait_for_answers(place)
    with closing(sqlite3.connect(place.db, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")
        run.wait_said("it is kept in")
        assert place.service.counters.posts == 3
        stranger.execute("ROLLBACK")

    done = run.wait()

    assert done.code == 0, done.err
    check_nothing_was_lost(place)


def test_two_signals_leave_also_while_nothing_can_be_recorded(place: Place) -> None:
    run = wait_for_answers(place)
    Limit(place, run)
    for _ in range(3):
        run.wait_said("it is kept in")
    run.send(signal.SIGTERM)
    run.wait_said("stopping")
    run.send(signal.SIGTERM)

    stopped = run.wait()
    done = place.run("--no-download")

    assert stopped.code == 11, stopped.err
    assert "Traceback" not in stopped.err
    assert done.code == 0, done.err
    check_nothing_was_lost(place)


def test_clips_without_a_place_rest_and_nothing_more_is_bought(place: Place, mount: Mount) -> None:
    clips = mount("size=80m")
    place.write(rows_of(3))
    place.write(rows_of(5), "more.csv")
    bought = place.run("jobs.csv", "--no-download", "--output-dir", str(clips))

    full = FullDisk(place, at=clips)
    on_full = place.run()
    full.end()
    subprocess.run(["mount", "-o", "remount,ro", clips], check=True)
    on_read_only = place.run()
    states = place.states()
    subprocess.run(["mount", "-o", "remount,rw", clips], check=True)
    done = place.run("--batch", "jobs")

    assert [one.code for one in (bought, on_full, on_read_only, done)] == [0, 13, 13, 0]
    assert states == {"downloading": 3}
    assert place.states() == {"succeeded": 3}
    assert place.service.counters.posts == 3
    assert not list(clips.rglob("*.part"))


def test_without_room_for_clips_nothing_is_stored_or_paid_for(place: Place, mount: Mount) -> None:
    clips = mount("size=80m")
    place.write(rows_of(3))
    place.write(rows_of(5)[3:], "more.csv")
    small = ("--output-dir", str(clips))
    assert call("add", str(place.folder / "jobs.csv"), "--db", str(place.db), *small).code == 0
    before = place.jobs()

    new = place.run("more.csv", *small)
    known = place.run()
    after = place.jobs()
    without_clips = place.run("--no-download")
    elsewhere = place.run("more.csv")
    fetched = place.run()

    assert [one.code for one in (new, known, without_clips)] == [13, 13, 0]
    for refused in (new, known):
        assert f"less than 1 GiB is free (80 MiB) on the disk of {clips}" in refused.err
        assert "nothing was stored or spent" in refused.err
    assert (after, len(before)) == (before, 3)
    assert (elsewhere.code, fetched.code) == (0, 0), elsewhere.err
    assert place.states() == {"succeeded": 5}
    assert place.service.counters.accepted == 5


def test_a_strangers_lock_at_the_start_ends_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write(rows_of(1))
    assert place.run("jobs.csv").code == 0
    before = place.jobs()
    # Else it would be waited for as long as another's `add` may take.
    assert Database.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Database.__init__.__kwdefaults__, "busy_timeout_ms", 20)
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(place.folder)
    place.write(rows_of(2), "jobs.csv")
    with closing(sqlite3.connect(place.db, isolation_level=None)) as stranger:
        stranger.execute("BEGIN IMMEDIATE")

        done = call("run", "jobs.csv", "-y", "--db", str(place.db))

    assert done.code == 11
    assert "locked by another program; try again later" in done.err
    assert place.jobs() == before
    assert place.service.counters.posts == 1
