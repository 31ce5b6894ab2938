import errno
import json
import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchgen.domain.errors import OutputError
from batchgen.telling import (
    KEPT_LOGS,
    Cleaner,
    Stream,
    Telling,
    check_events,
    open_events,
    open_log,
)

TOKEN = "rc-tok-7Zk2Vq9Lm4Xw8Rt1"
SIGNED = "https://images.example.com/a.jpg?X-Amz-Signature=amz5ecret0123"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def telling(said: list[str]) -> Iterator[Telling]:
    made = Telling("s1", cleaner=lambda: Cleaner(lambda: [TOKEN]), say=said.append)
    yield made
    made.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_events_are_whole_lines_in_the_order_of_their_numbers(
    telling: Telling, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    telling.write_events(open_events(str(path)), "events.jsonl")
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def tell(name: int) -> None:
        for number in range(200):
            telling.emit("put_back", message=f"{name} {number}\n\udc80 ü \x1b")

    threads = [threading.Thread(target=tell, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(usual_s)
    telling.close()

    found = lines(path)
    assert [line["seq"] for line in found] == list(range(1, 801))
    assert {line["session"] for line in found} == {"s1"}
    assert {line["kind"] for line in found} == {"put_back"}
    assert found[0]["message"].endswith("\n\udc80 ü \x1b")
    assert found[0]["at"].endswith("Z")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_line_holds_a_token_or_a_signature(telling: Telling, tmp_path: Path) -> None:
    path, fd = open_log(tmp_path / "logs", "s" + "1" * 25)
    telling.write_log(fd, str(path))
    logger = logging.getLogger("batchgen.runner.job")

    telling.emit("failed", message=f"{TOKEN} at {SIGNED}", paths=[SIGNED], more={"a": TOKEN})
    logger.debug("said %s of %s", TOKEN, SIGNED)
    try:
        int(f"{TOKEN} {SIGNED}")
    except ValueError as error:
        logger.exception("broken")
        telling.record_error(error)
    telling.close()

    text = path.read_text(encoding="utf-8")
    assert TOKEN not in text
    assert "amz5ecret" not in text
    event, debug, broken, ended = lines(path)
    assert event["more"] == {"a": "[token]"}
    assert (debug["level"], debug["logger"]) == ("debug", "batchgen.runner.job")
    assert debug["message"].startswith("said [token] of https://images.example.com/a.jpg?")
    assert "ValueError" in broken["traceback"]
    assert "ValueError" in ended["traceback"]
    assert "seq" not in debug


def test_a_token_that_was_replaced_stays_secret(tmp_path: Path, said: list[str]) -> None:
    tokens = ["first-token-0123456789"]
    telling = Telling("s1", cleaner=lambda: Cleaner(lambda: tokens[-1:]), say=said.append)
    path = tmp_path / "events.jsonl"
    telling.write_events(open_events(str(path)), "it")
    telling.emit("put_back", message=tokens[0])
    while not path.stat().st_size:
        pass
    tokens.append("second-token-0123456789")
    telling.emit("put_back", message=" ".join(tokens))
    telling.close()

    assert [line["message"] for line in lines(path)] == ["[token]", "[token] [token]"]


def test_the_log_leaves_the_loggers_as_they_were(telling: Telling, tmp_path: Path) -> None:
    own = logging.getLogger("batchgen")
    before = list(own.handlers)
    path, fd = open_log(tmp_path / "logs", "s" + "1" * 25)
    telling.write_log(fd, str(path))
    telling.close()

    own.warning("told nobody")
    telling.emit("put_back", message="too late")

    assert own.handlers == before
    assert own.level == logging.NOTSET
    assert path.read_text() == ""


def test_the_newest_logs_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "jobs.db-logs"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    for number in range(KEPT_LOGS + 5):
        os.close(open_log(folder, f"s{number:025x}")[1])

    names = sorted(one.name for one in folder.iterdir())
    assert names == ["notes.txt", *(f"s{number:025x}.jsonl" for number in range(5, KEPT_LOGS + 5))]
    modes = {stat.S_IMODE(one.stat().st_mode) for one in folder.glob("*.jsonl")}
    assert modes == {0o600}


def test_a_half_line_of_an_earlier_run_is_ended_first(telling: Telling, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"seq": 1}\n{"seq": 2, "ki')
    telling.write_events(open_events(str(path)), "events.jsonl")
    telling.emit("resumed", message="")
    telling.close()

    assert json.loads(path.read_text().splitlines()[2])["kind"] == "resumed"


def tell_again_and_again(telling: Telling, said: list[str]) -> None:
    """Tell something before the first failure is known, and after it."""
    telling.emit("resumed", message="")
    deadline = time.monotonic() + 30
    while not said:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    telling.emit("resumed", message="")
    telling.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_once(telling: Telling, said: list[str]) -> None:
    telling.write_events(open_events("/dev/full"), "events")
    tell_again_and_again(telling, said)

    assert said == [
        f"warning: events: it cannot be written: {os.strerror(errno.ENOSPC)}; the work goes on"
    ]


def test_a_reader_that_leaves_is_told_once(telling: Telling, said: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    telling.write_events(writing, "events")
    tell_again_and_again(telling, said)

    assert len(said) == 1
    assert os.strerror(errno.EPIPE) in said[0]


def test_a_reader_that_stands_still_does_not_hold_up_the_log(
    telling: Telling, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.telling._CLOSE_S", 0.2)
    reading, writing = os.pipe()
    telling.write_events(writing, "events")
    path, fd = open_log(tmp_path / "logs", "s" + "1" * 25)
    telling.write_log(fd, str(path))
    for _ in range(1000):
        telling.emit("put_back", message="x" * 200)
    telling.close()

    assert len(lines(path)) == 1000
    assert said == [
        "warning: events: its reader does not keep up: the last lines are missing; the work goes on"
    ]
    os.close(reading)


def test_a_half_written_line_is_ended_before_the_next(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    fd = open_events(str(path))
    stream = Stream(fd, "it", cleaner=Cleaner(list), say=said.append)
    write = os.write
    torn, full = threading.Event(), threading.Event()

    def tear(to: int, data: bytes) -> int:
        if to == fd and not torn.is_set():
            write(to, data[:5])
            torn.set()
            return 5
        if to == fd and not full.is_set():
            full.set()
            raise OSError(errno.ENOSPC, "full")
        return write(to, data)

    monkeypatch.setattr(os, "write", tear)
    stream.put({"number": 1})
    assert full.wait(30)
    stream.put({"number": 2})
    stream.close()

    assert path.read_text() == '{"num\n{"number": 2}\n'
    assert len(said) == 1


def folder_in_the_way(path: Path) -> None:
    path.mkdir()


def nothing(path: Path) -> None:
    return


@pytest.mark.parametrize(
    ("name", "make"),
    [("events", folder_in_the_way), ("missing/events", nothing)],
)
def test_a_file_that_cannot_be_opened_is_said_before(tmp_path: Path, name: str, make: Any) -> None:
    make(tmp_path / name)

    with pytest.raises(OutputError, match="events"):
        check_events(str(tmp_path / name))
    with pytest.raises(OutputError, match="events"):
        open_events(str(tmp_path / name))


def test_looking_whether_events_can_be_written_makes_nothing(tmp_path: Path) -> None:
    check_events(str(tmp_path / "events"))

    assert list(tmp_path.iterdir()) == []
