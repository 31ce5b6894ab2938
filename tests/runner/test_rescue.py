import asyncio
from pathlib import Path

import pytest
from postgres import PostgresServer
from store.stored_jobs import NOW, Store

from batchgen.domain.errors import UsageError
from batchgen.runner import rescue
from batchgen.runner.rescue import RescueFile
from batchgen.runner.takeover import Takeover
from batchgen.store.database import Database
from batchgen.store.writer import Writer


def pairs(path: Path) -> list[tuple[str, str]]:
    return list(rescue.read(path).pairs)


def test_ids_survive_the_worker_that_could_not_record_them(tmp_path: Path) -> None:
    store, said = Store(tmp_path), list[str]()
    base = store.database.backend.base
    file = RescueFile(base, "w9", say=said.append)

    file.keep("a1", "request-1")
    file.keep("a2", "request-2")
    file.keep("a1", "request-1")
    with store.database.reading() as tx:
        assert rescue.left_behind(tx, store.database.backend) == []  # it may yet write
    file.remove()

    with store.database.reading() as tx:
        [path] = rescue.left_behind(tx, store.database.backend)
    assert rescue.read(path) == rescue.Contents((("a1", "request-1"), ("a2", "request-2")), ())
    assert len(said) == 2
    assert "request-1" in said[0]
    assert "a2" in said[1]
    store.close()


def test_a_file_is_found_by_whichever_url_the_job_database_is_reached(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str
) -> None:
    store = Store(tmp_path, url=postgres_url)
    other = Database(postgres.socket_url(postgres_url.rpartition("/")[2]))
    store.worker("w9")
    for worker in ("w9", "of another job database"):
        file = RescueFile(other.backend.base, worker, say=print)
        file.keep("a1", "request-1")
        file.remove()
    store.bury("w9")

    with store.database.reading() as tx:
        found = rescue.left_behind(tx, store.database.backend)

    assert [path.name for path in found] == ["batchgen-rescue-w9"]
    store.close()


def test_the_file_of_a_worker_whose_lease_has_ended_stays_while_it_may_write(
    tmp_path: Path, postgres_url: str
) -> None:
    store = Store(tmp_path, url=postgres_url)
    store.worker("w9")
    file = RescueFile(store.database.backend.base, "w9", say=print)
    store.bury("w9")

    def left() -> list[Path]:
        with store.database.reading() as tx:
            return rescue.left_behind(tx, store.database.backend)

    assert left() == []
    file.keep("a1", "request-1")
    file.remove()
    assert left() == [file.path]
    store.close()


def test_a_file_that_another_worker_takes_in_first_is_no_trouble(tmp_path: Path) -> None:
    store, said = Store(tmp_path), list[str]()
    store.worker("w9")
    file = RescueFile(store.database.backend.base, "w9", say=print)
    file.keep("a1", "request-1")
    file.remove()
    store.bury("w9")
    # What is listed, and is gone when it is read.
    file.path.rename(tmp_path / "taken")
    file.path.symlink_to(tmp_path / "gone")

    async def take_over() -> bool:
        writer = Writer(store.database, on_stuck=said.append)
        writer.start()
        try:
            return await takeover.from_others(writer)
        finally:
            await writer.end()

    takeover = Takeover(
        store.database.backend, "w1", doubt_slot_ms=lambda: 0, now_ms=lambda: NOW, say=said.append
    )
    asyncio.run(take_over())

    assert said == []
    store.close()


def test_its_space_is_taken_before_it_is_needed(tmp_path: Path) -> None:
    file = RescueFile(tmp_path / "b.db", "w1", say=print)
    path = tmp_path / "b.db-rescue-w1"
    before = path.stat()

    file.write("a1", "request-1")

    assert before.st_size == path.stat().st_size == 64 * 1024
    assert path.stat().st_mode & 0o077 == 0
    file.remove()
    assert not path.exists()


def test_what_does_not_fit_is_still_said(tmp_path: Path) -> None:
    said = list[str]()
    file = RescueFile(tmp_path / "b.db", "w1", say=said.append)

    for number in range(700):
        file.write(f"a{number}", "r" * 100 + str(number))

    kept = pairs(file.path)
    assert len(said) == 700
    assert 500 < len(kept) < 700
    assert "is full: write it down" in said[len(kept)]
    assert all(request_id.startswith("r" * 100) for _, request_id in kept)
    file.remove()


def test_half_a_line_is_not_an_id(tmp_path: Path) -> None:
    file = RescueFile(tmp_path / "b.db", "w1", say=print)
    file.keep("a1", "request-1")
    file.keep("a2", "request-2")
    file.remove()
    # As after a power cut: the rest of the line is the line ends that were there before.
    torn = file.path.read_bytes().replace(b"request-2 ", b"reque").rstrip()[:-8] + b"\n\n"
    file.path.write_bytes(torn)

    assert rescue.read(file.path) == rescue.Contents((("a1", "request-1"),), (3,))


def test_an_id_that_will_never_be_recorded_is_left_to_the_next_process(tmp_path: Path) -> None:
    file = RescueFile(tmp_path / "b.db", "w1", say=print)

    file.keep("a1", "request-1")
    file.remove()

    assert pairs(file.path) == [("a1", "request-1")]


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00\xff", b"a1 r1 00000000\n"])
def test_a_strangers_file_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "b.db-rescue-w1"
    path.write_bytes(content)

    with pytest.raises(UsageError, match="not a rescue file"):
        rescue.read(path)


def test_taking_in_twice_changes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fill(2)
    first, second = store.claim(2)
    ids = [(first.attempt_id, "r-1"), (second.attempt_id, "r-1"), ("nobody", "r-2")]

    with store.database.transaction() as tx:
        once = rescue.take_in(tx, ids, now_ms=NOW)
    with store.database.transaction() as tx:
        twice = rescue.take_in(tx, ids, now_ms=NOW)

    foreign = tuple(ids[1:])
    assert once == rescue.Taken((ids[0],), 0, foreign)
    assert twice == rescue.Taken((), 1, foreign)
    assert store.state(first.id) == "running"
    assert store.state(second.id) == "submitting"
    store.check()
    store.close()
