"""Checks side by side, in bounded time; what each level and remedy is."""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from batchgen import diagnosing
from batchgen.diagnosing import Check, Finding, Level
from batchgen.domain.errors import Exit, StoreError
from batchgen.store import health, upgrade
from batchgen.store.database import Database


def test_what_hangs_is_told_and_the_rest_is_found_meanwhile() -> None:
    end = threading.Event()
    both = threading.Barrier(2, timeout=30)

    def hangs() -> Iterator[Finding]:
        yield diagnosing.ok("first", "found before")
        both.wait()
        end.wait()

    def works() -> Iterator[Finding]:
        both.wait()  # only reached if they work at the same time
        yield diagnosing.ok("second", "fine")

    found = list(
        diagnosing.findings_of(
            [Check("works", works), Check("hangs", hangs, Exit.UNREACHABLE)], within_s=0.2
        )
    )
    end.set()

    assert [(one.check, one.level) for one in found] == [
        ("second", Level.OK),
        ("first", Level.OK),
        ("hangs", Level.PROBLEM),
    ]
    assert diagnosing.worst(found) == Exit.UNREACHABLE


def test_an_error_of_ours_is_a_problem_and_any_other_is_raised() -> None:
    def look(error: Exception | None) -> Iterator[Finding]:
        if error is not None:
            raise error
        yield diagnosing.ok("x", "fine")

    ours = StoreError("x.db: cannot be read: name another with --db")

    (found,) = diagnosing.findings_of([Check("database", lambda: look(ours))])

    assert found == Finding(
        "database",
        Level.PROBLEM,
        "x.db: cannot be read",
        "name another with --db",
        Exit.DATABASE,
    )
    with pytest.raises(ZeroDivisionError):
        list(diagnosing.findings_of([Check("x", lambda: look(ZeroDivisionError()))]))


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], Exit.SUCCESS),
        ([Exit.OUTPUT, Exit.TOKEN], Exit.TOKEN),
        ([Exit.UNREACHABLE, Exit.NO_BALANCE], Exit.NO_BALANCE),
        ([Exit.TOKEN, Exit.DATABASE], Exit.DATABASE),
    ],
)
def test_the_worst_problem_gives_the_code(codes: list[Exit], expected: Exit) -> None:
    found = [diagnosing.problem("x", "said", "remedy", code) for code in codes]

    assert diagnosing.worst([*found, diagnosing.warning("x", "said", "remedy")]) == expected


MACHINES: dict[str, tuple[Callable[[], Iterable[Finding]], Level]] = {
    "clock": (lambda: [diagnosing.clock(2.0, "x")], Level.OK),
    "wrong clock": (lambda: [diagnosing.clock(-90.0, "x")], Level.WARNING),
    "terminal": (lambda: diagnosing.terminal("utf-8"), Level.OK),
    "narrow terminal": (lambda: diagnosing.terminal("ANSI_X3.4-1968"), Level.WARNING),
    "no home": (lambda: diagnosing.state_folder(None), Level.WARNING),
    "home": (lambda: diagnosing.state_folder(Path("new") / "state"), Level.OK),
    "nobody told": (lambda: diagnosing.notifications([]), Level.SKIPPED),
    "told": (lambda: diagnosing.notifications(["json://localhost/secret"]), Level.OK),
}


@pytest.mark.parametrize(("found", "level"), MACHINES.values(), ids=list(MACHINES))
def test_what_a_machine_may_lack(found: Callable[[], Iterable[Finding]], level: Level) -> None:
    (one,) = found()

    assert one.level is level
    assert bool(one.remedy) == (level in (Level.WARNING, Level.PROBLEM))
    assert "secret" not in one.said


def levels(url: str) -> dict[str, Level]:
    found = diagnosing.findings_of(
        [Check("database", lambda: diagnosing.database(url, allow_network_fs=False))]
    )
    return {one.check: one.level for one in found if one.level is not Level.OK}


def snapshot(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_sound_job_database_is_looked_at_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    database = Database(str(path))
    upgrade.open_current(database)
    database.close()
    before = path.read_bytes()

    assert levels(str(path)) == {}
    assert path.read_bytes() == before


def test_an_older_schema_is_a_warning_and_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    old = Path(__file__).with_name("old_databases") / "0003.sql"
    connection = sqlite3.connect(path)
    connection.executescript(old.read_text(encoding="utf-8"))
    connection.close()

    assert levels(str(path)) == {"database": Level.WARNING, "sqlite file": Level.WARNING}
    assert upgrade.revision_of(Database(str(path))) == "0003"
    assert snapshot(tmp_path).keys() == {"batchgen.db"}


def test_a_damaged_file_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    database = Database(str(path))
    upgrade.open_current(database)
    database.close()
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(b"\xff" * 4096)

    assert Level.PROBLEM in levels(str(path)).values()


@pytest.mark.parametrize("text", ["not a database at all, but long enough", ""])
def test_what_is_no_job_database_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "batchgen.db"
    path.write_text(text * 50)

    found = levels(str(path))

    assert found == {"database": Level.PROBLEM if text else Level.SKIPPED}


def test_a_file_that_another_program_holds_is_told(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    database = Database(str(path))
    upgrade.open_current(database)
    assert health.write_trouble(path, within_ms=0) is None

    with database.transaction():
        assert "locked" in str(health.write_trouble(path, within_ms=0))
    database.close()


def test_a_folder_where_no_clip_can_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("a file")

    assert levels(str(tmp_path / "batchgen.db")) == {
        "database": Level.SKIPPED,
        "output": Level.PROBLEM,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    assert levels(str(tmp_path / "nowhere" / "batchgen.db")) == {"database": Level.PROBLEM}


def test_a_server_tells_its_version_and_clock(postgres_url: str) -> None:
    database = Database(postgres_url)
    upgrade.open_current(database)
    database.close()

    found = {one.check: one for one in diagnosing.database(postgres_url, allow_network_fs=False)}

    assert "PostgreSQL" in found["server"].said
    assert "UTF8" in found["server"].said
    assert found["clock"].level is Level.OK
    assert "integrity" not in found
