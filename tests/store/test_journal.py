"""The journal of purchases: torn, shared, cut, and full of strangers' lines."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store.stored_jobs import MODEL

from batchgen.domain.states import JobState
from batchgen.store import journal
from batchgen.store.jobs import Job
from batchgen.store.journal import Contents, Entry, Journal
from batchgen.store.step_back import Witness

ID = "0123456789abcdef"


def job_of(number: int) -> Job:
    return Job(
        id=number,
        key=f"j{number}",
        batch_id=1,
        batch="night",
        label=f"r{number}",
        model=MODEL,
        inputs={},
        name="",
        output_dir="",
        version=1,
        state=JobState.SUBMITTING,
        epoch=1,
        attempt_id=f"a{number:06}",
        retries_used=0,
        est_micros=5,
        input_hash=f"hash-{number}",
        no=1,
    )


def entry_of(number: int, **changes: Any) -> Entry:
    values: dict[str, Any] = {
        "attempt_id": f"a{number:06}",
        "job_id": number,
        "key": f"j{number}",
        "label": f"night/r{number}",
        "no": 1,
        "version": 1,
        "account_id": 7,
        "input_hash": f"hash-{number}",
        "model": MODEL,
        "est_micros": 5,
        "intent_ms": 1_000,
        **changes,
    }
    return Entry(**values)


def test_names_in_any_script_come_back(folder: Path) -> None:
    one = begin(folder)
    job = replace(job_of(1), label="北港-é-😀")
    one.intended([job], account_id=7, now_ms=1_000)

    assert read(folder).entries[0].label == "night/北港-é-😀"
    assert read(folder).unreadable == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = journal.folder_of(tmp_path / "state", ID)
    assert found is not None
    return found


def begin(folder: Path, **changes: Any) -> Journal:
    said: list[str] = []
    values: dict[str, Any] = {"after": None, "say": said.append, **changes}
    return Journal.begin(folder, **values)


def intend(one: Journal, *numbers: int) -> None:
    one.intended([job_of(number) for number in numbers], account_id=7, now_ms=1_000)


def read(folder: Path) -> Contents:
    return journal.read(journal.path_of(folder))


def test_it_tells_what_became_of_each_purchase(folder: Path) -> None:
    one = begin(folder)
    intend(one, 1, 2, 3)
    one.accepted(job_of(2), "req-2")
    one.unpaid(job_of(3))
    one.close()

    assert read(folder) == Contents(
        (entry_of(1), entry_of(2, request_id="req-2"), entry_of(3, is_unpaid=True))
    )
    assert journal.newest_of(journal.path_of(folder)) == (
        Witness("a000001", 1, is_accepted=False),
        Witness("a000002", 2, is_accepted=True),
    )
    assert one.newest == Witness("a000002", 2, is_accepted=True)


def test_only_its_owner_may_read_it(folder: Path) -> None:
    one = begin(folder)
    one.close()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(journal.path_of(folder).stat().st_mode) == 0o600


def test_a_group_is_one_write_of_whole_lines(folder: Path) -> None:
    one, other = begin(folder), begin(folder)

    for number in range(0, 200, 4):
        intend(one, number, number + 1)
        intend(other, number + 2, number + 3)
        other.accepted(job_of(number), f"req-{number}")

    found = read(folder)
    assert [entry.job_id for entry in found.entries] == list(range(200))
    assert found.unreadable == 0
    assert {entry.request_id for entry in found.entries[::4]} == {
        f"req-{number}" for number in range(0, 200, 4)
    }


WRITE_MANY = """
import sys
from dataclasses import replace
from pathlib import Path
from store.test_journal import begin, intend
one = begin(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 2000):
    intend(one, number)
"""


def test_two_processes_may_append_at_once(folder: Path) -> None:
    tests = str(Path(__file__).parents[1])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_MANY, str(folder), str(first)],
            env={**os.environ, "PYTHONPATH": tests},
            stdin=subprocess.PIPE,
            text=True,
        )
        for first in (0, 2000)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)

    found = read(folder)

    assert [writer.returncode for writer in writers] == [0, 0]
    assert sorted(entry.job_id for entry in found.entries) == list(range(4000))
    assert found.unreadable == 0


def test_a_line_torn_by_a_crash_spoils_only_itself(folder: Path) -> None:
    one = begin(folder)
    intend(one, 1, 2)
    one.close()
    path = journal.path_of(folder)
    whole = path.read_bytes()

    for cut in range(len(whole.split(b"\n")[0]) + 2, len(whole)):
        path.write_bytes(whole[:cut])
        again = begin(folder)
        intend(again, 3)
        again.close()

        found = read(folder)
        known = [entry.job_id for entry in found.entries]
        # Cut at its line end only, the line is whole.
        assert known == ([1, 2, 3] if cut == len(whole) - 1 else [1, 3])
        assert found.unreadable == (0 if cut == len(whole) - 1 else 1)


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'"a000001"',
        b'{"attempt_id": 5}',
        b'{"attempt_id": "a", "job_id": "5"}',
        b'{"attempt_id": "a", "job_id": true}',
        b'{"attempt_id": "a", "est_micros": 1e3}',
        b'{"attempt_id": "a", "est_micros": 99999999999999999999999}',
        b'{"attempt_id": "a", "key": "\\ud800"}',
        b'{"attempt_id": "a", "is_unpaid": 1}',
        b'{"attempt_id": "a", "unheard_of": 1}',
        b'{"attempt_id": "a", "request_id": null}',
        b"[" * 100_000,
        b'{"attempt_id": ' * 50_000,
    ],
)
def test_what_is_no_line_of_ours_is_passed_over(folder: Path, line: bytes) -> None:
    one = begin(folder)
    intend(one, 1)
    one.close()
    with journal.path_of(folder).open("ab") as file:
        file.write(line + b"\n")

    found = read(folder)

    assert found.entries == (entry_of(1),)
    assert found.unreadable == 1


def test_above_its_length_the_newer_half_stays(folder: Path) -> None:
    one = begin(folder)
    for number in range(100):
        intend(one, number)
        one.accepted(job_of(number), f"req-{number}")
    one.close()
    before = read(folder).entries

    begin(folder, longest_bytes=10_000_000).close()
    assert read(folder).entries == before
    again = begin(folder, longest_bytes=1_000)
    intend(again, 200)

    found = read(folder)
    assert found.entries == (*before[50:], entry_of(200))
    assert found.after == Witness("a000049", 49, is_accepted=False)
    assert stat.S_IMODE(journal.path_of(folder).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [journal.path_of(folder).name]


def test_a_journal_that_another_worker_holds_is_not_cut(folder: Path) -> None:
    other = begin(folder)
    intend(other, *range(10))

    one = begin(folder, longest_bytes=1)
    intend(other, 10)
    intend(one, 11)

    assert [entry.job_id for entry in read(folder).entries] == list(range(12))


def test_a_journal_says_where_it_begins(folder: Path) -> None:
    after = Witness("a000009", 9, is_accepted=False)
    begin(folder, after=after).close()
    begin(folder, after=Witness("a000010", 10, is_accepted=False)).close()

    assert read(folder) == Contents((), after)
    assert journal.newest_of(journal.path_of(folder)) == (after,)


def test_only_the_end_of_a_long_journal_is_read_for_a_look(folder: Path) -> None:
    one = begin(folder)
    intend(one, *range(2_000))

    found = journal.newest_of(journal.path_of(folder))

    assert found[-1].attempt_id == "a001999"
    assert 100 < len(found) < 1_000
    assert [witness.job_id for witness in found] == list(range(2_000 - len(found), 2_000))

    for number in range(2_000):  # so many answers that their intents are too far back to be seen
        one.accepted(job_of(number), f"req-{number}")

    assert journal.newest_of(journal.path_of(folder))[-1] == Witness("a001999", 0, is_accepted=True)
    assert one.recent() == journal.newest_of(journal.path_of(folder))


def test_without_a_file_only_the_newest_purchase_is_remembered() -> None:
    one = Journal()
    intend(one, 1)
    intend(one)

    assert one.newest == Witness("a000001", 1, is_accepted=False)
    assert one.recent() == ()
    one.close()


def test_an_absent_journal_is_empty(folder: Path) -> None:
    assert read(folder) == Contents()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_disk_without_space_is_told_once_and_ends_nothing(folder: Path) -> None:
    said: list[str] = []
    one = begin(folder, say=said.append)
    os.close(one._fd)
    one._fd = os.open("/dev/full", os.O_WRONLY)

    intend(one, 1)
    one.accepted(job_of(1), "req-1")

    assert len(said) == 1
    assert "No space left" in said[0]
    assert one.newest == Witness("a000001", 1, is_accepted=True)


@pytest.mark.parametrize("database_id", ["", "..", "../../../etc", "0123456789abcde/", ID + "0"])
def test_an_id_that_is_not_ours_names_no_folder(tmp_path: Path, database_id: str) -> None:
    assert journal.folder_of(tmp_path, database_id) is None


def test_lines_stay_short(folder: Path) -> None:
    one = begin(folder)
    intend(one, 1)

    line = journal.path_of(folder).read_bytes()

    assert len(line) < 300
    assert json.loads(line)["key"] == "j1"
