"""The program dies, stops or fails at every point that `batchgen.failpoints` names."""

import re
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import later_version
import pytest
from cli.commands import call
from runs import Place, rows_of

import batchgen
from batchgen import failpoints
from batchgen.failpoints import POINTS

TESTS = Path(__file__).parents[1]
KILLED = -signal.SIGKILL
ONCE = ("kill", "raise")
"""A death at the first pass, then an unexpected error."""
LATER = ("kill", "3=kill", "raise")
"""The same, with a death at the third pass of what is left between them."""


@dataclass(frozen=True)
class Crash:
    """What is done at a point, run after run.

    Attributes:
        actions: One a run: `kill`, `raise`, at the first pass or as `PASS=ACTION`.
        state: The state in which the job at the point is found after its death.
        sent: Whether a paid request has left by the first death; None if that is open.
        before: A point of which the program dies in a run before all that.
    """

    actions: tuple[str, ...]
    state: str | None = None
    sent: bool | None = None
    before: str = ""


CRASHES = {
    "in-expansion": Crash(ONCE),
    "in-start": Crash(("kill", "2=kill"), sent=False),
    "after-claim-commit": Crash(LATER, "submitting", sent=False),
    "before-post": Crash(ONCE, "submitting", sent=False),
    "after-send": Crash(LATER, "submitting", sent=True),
    "after-answer": Crash(ONCE, "submitting"),
    "after-id-commit": Crash(LATER, "running"),
    "in-poll": Crash(LATER, "running"),
    "in-download": Crash(LATER, "downloading"),
    "after-rename": Crash(ONCE, "downloading"),
    "before-last-commit": Crash(LATER, "downloading"),
    "in-takeover": Crash(("kill", "2=kill", "raise"), before="after-answer"),
}


def crash_at(place: Place, point: str, action: str, cap: int) -> None:
    """Run until the point is passed, and check how that looks from outside."""
    nth, _, what = action.rpartition("=")
    armed = f"{point}@{nth or 1}={what}"
    done = place.run(
        "jobs.csv",
        "-j",
        str(cap),
        env={"BATCHGEN_FAILPOINT": armed, "TMPDIR": str(place.folder)},
    )
    if what == "raise" and point == "after-send":  # like any failure of a connection
        assert done.code == 10, done.err
        return
    assert done.code == (KILLED if what == "kill" else 1), (armed, done.err)
    if what == "raise":
        errors = [line for line in done.err.splitlines() if line.startswith("Error")]
        assert errors == [f"Error: unexpected: Armed: {point}"], done.err
        assert "Traceback" not in done.err


@pytest.mark.parametrize("point", CRASHES)
def test_wherever_it_dies_nothing_is_lost_or_paid_twice(place: Place, point: str) -> None:
    crash = CRASHES[point]
    rows = rows_of(24)
    place.write(rows)
    # Clips of several blocks: some bytes of one are on disk while others are under way.
    place.service.settings = replace(place.service.settings, clip_bytes=2_500_000)
    held = set[int]()
    cap = 4  # more each time, since doubts keep their slots for a while
    if crash.before:
        crash_at(place, crash.before, "kill", cap)
        held |= place.ids("submitting")
    for action in crash.actions:
        cap += 4
        crash_at(place, point, action, cap)
        place.check_books()
        if action == "kill" and crash.sent is not None:
            if crash.sent:
                place.wait_accepted(1)
            assert place.service.counters.posts == int(crash.sent)
        if crash.state is not None and "kill" in action:
            assert place.ids(crash.state)
        if point == "in-download" and "kill" in action:
            assert any(name.endswith(".part") for name in place.leftovers())
        assert held <= place.ids("submitting", "in_doubt")
        held = place.ids("submitting", "in_doubt")
    rescued = place.rescued()
    assert bool(rescued) == (point == "after-answer")

    last = place.run("jobs.csv", "-j", "40", "-o", "out.csv")

    doubts = place.ids("in_doubt")
    # In doubt is who was between the intent and the record of the answer, and nobody else. A
    # process that failed, but lived, has kept the id that it was told.
    assert doubts == held - rescued
    assert last.code == (10 if doubts else 0), last.err
    assert place.states() == Counter(succeeded=24 - len(doubts), in_doubt=len(doubts))
    assert [row["id"] for row in place.export()] == [row["id"] for row in rows]
    assert all(len(entries) == 1 for entries in place.bought().values())
    assert place.leftovers() == []
    place.check_books()
    place.check_clips()


def test_a_death_while_jobs_are_added_stores_none(place: Place) -> None:
    place.write(rows_of(3))
    add = ("add", "jobs.csv", "--db", str(place.db))

    killed = place.start(*add, env={"BATCHGEN_FAILPOINT": "in-expansion=kill"}).wait()
    after = place.states()
    again = place.start(*add).wait()

    assert [killed.code, again.code] == [KILLED, 0], again.err
    assert after == {}
    assert place.states() == {"pending": 3}
    place.check_books()


def test_a_death_while_a_large_manifest_is_added_stores_none(place: Place) -> None:
    count = 19_000  # more than one transaction takes
    place.write(rows_of(3))
    assert place.start("add", "jobs.csv", "--db", str(place.db)).wait().code == 0
    place.write(rows_of(count))
    add = ("add", "jobs.csv", "--db", str(place.db))

    killed = place.start(*add, env={"BATCHGEN_FAILPOINT": "in-import=kill"}).wait()
    hidden = place.query("SELECT count(*) AS n FROM jobs")[0]["n"]
    shown = [
        place.start(*words, "--db", str(place.db)).wait()
        for words in (
            ("status", "--json"),
            ("export", "-o", "out.csv"),
            ("run", "-y", "--limit", "0"),
        )
    ]
    again = place.start(*add).wait()

    assert [killed.code, again.code] == [KILLED, 0], again.err
    assert 3 < hidden < count
    assert '"pending": 3' in shown[0].out
    assert len(place.export()) == 3
    assert place.states() == {"pending": count}
    assert place.query("SELECT count(*) AS n FROM job_keys")[0]["n"] == count
    place.check_books()


@pytest.mark.parametrize(("nth", "action"), [(1, "kill"), (2, "kill"), (2, "raise")])
def test_a_death_in_an_upgrade_leaves_a_whole_database(place: Place, nth: int, action: str) -> None:
    with closing(sqlite3.connect(place.db)) as connection:
        connection.executescript((TESTS / "old_databases" / "0001.sql").read_text())
    program = str(later_version.make_program(place.folder))
    command = (sys.executable, program, "status", "--db", str(place.db))
    armed = {"BATCHGEN_FAILPOINT": f"in-migration@{nth}={action}", "TMPDIR": str(place.folder)}

    first = place.start_program(command, env=armed).wait()
    left = [place.db, place.db.with_name("jobs.db.before-0001")]
    found = [(revision(path), sound(path)) for path in left]
    second = place.start_program(command).wait()

    assert first.code == (KILLED if action == "kill" else 1), first.err
    assert found == [("0001", True)] * 2
    assert "Traceback" not in first.err
    assert second.code == 0, second.err
    assert (revision(place.db), sound(place.db)) == (later_version.LATER, True)
    assert place.query("SELECT note FROM accounts") == [{"note": "migrated"}]
    assert len(place.jobs()) == 9


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# -- the table of points ---------------------------------------------------------------------------


def test_every_point_is_in_the_table_in_the_documents_and_crashed_at() -> None:
    source = Path(batchgen.__file__).parent
    passed = set()
    for path in source.rglob("*.py"):
        passed |= set(re.findall(r'\bfailpoint\("([^"]*)"\)', path.read_text(encoding="utf-8")))
    documents = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    section = documents.partition("\n## Crash points\n")[2].partition("\n## ")[0]
    described = re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE)

    assert passed == set(POINTS)
    assert described == list(POINTS)
    others = {"in-migration", "in-import", "in-copy", "in-upload", "after-upload"}
    assert {*CRASHES, *others} == set(POINTS)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("befor-post=kill", "no point 'befor-post'"),
        ("before-post=kil", "'kil' is none of kill, stop, raise, sleep"),
        ("before-post", "'' is none of"),
        ("before-post=kill:9", "'kill:9' is none of"),
        ("before-post=sleep:long", "'long' is not a number of seconds"),
        ("before-post=sleep:-1", "not a number of seconds"),
        ("before-post@0=kill", "'0' is not the number of a pass"),
        ("before-post@=kill", "'' is not the number of a pass"),
        ("in-poll=stop,nowhere=stop", "no point 'nowhere'"),
    ],
)
def test_a_slip_in_the_variable_is_told(
    said: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, said)

    done = call("status")

    assert done.code == 2
    assert done.err.startswith("Error: BATCHGEN_FAILPOINT: ")
    assert why in done.err
    assert not any(map(failpoints.is_armed, POINTS))


def test_a_point_acts_at_its_pass_only() -> None:
    failpoints.arm("in-poll@2=raise,before-post=sleep:0")
    try:
        failpoints.failpoint("in-poll")
        failpoints.failpoint("before-post")
        with pytest.raises(failpoints.Armed, match="in-poll"):
            failpoints.failpoint("in-poll")
        failpoints.failpoint("in-poll")
    finally:
        failpoints.arm("")
