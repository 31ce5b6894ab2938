from pathlib import Path

from batchgen.runner import rescue
from batchgen.runner.rescue import RescueFile


def test_ids_survive_the_worker_that_could_not_record_them(tmp_path: Path) -> None:
    database, said = tmp_path / "b.db", list[str]()
    file = RescueFile(database, "w1", say=said.append)

    file.write("a1", "request-1")
    file.write("a2", "request-2")

    assert rescue.left_behind(database, "w1") == [("a1", "request-1"), ("a2", "request-2")]
    assert "request-1" in said[0]
    assert "a2" in said[1]
    rescue.forget(database, "w1")
    assert rescue.left_behind(database, "w1") == []
    file.remove()


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
        file.write(f"a{number}", "r" * 100)

    kept = rescue.left_behind(tmp_path / "b.db", "w1")
    assert len(said) == 700
    assert 600 < len(kept) < 700
    assert all(len(request_id) == 100 for _, request_id in kept)
    file.remove()


def test_half_a_line_is_not_an_id(tmp_path: Path) -> None:
    (tmp_path / "b.db-rescue-w1").write_text("a1 request-1\na2\n\n")

    assert rescue.left_behind(tmp_path / "b.db", "w1") == [("a1", "request-1")]


def test_an_id_that_will_never_be_recorded_is_left_to_the_next_process(tmp_path: Path) -> None:
    file = RescueFile(tmp_path / "b.db", "w1", say=print)

    file.keep("a1", "request-1")
    file.remove()

    assert rescue.left_behind(tmp_path / "b.db", "w1") == [("a1", "request-1")]
