"""Lists of jobs: which, in which order, in which columns, and how they fit a terminal."""

import os
import pty
import re
import struct
import termios
from fcntl import ioctl
from pathlib import Path
from typing import Any

import forked
import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, write
from rich.cells import cell_len

from batchgen.cli.ls import DEFAULT_LIMIT, FIELD_VALUES
from batchgen.domain.states import JobState
from batchgen.domain.where import FIELDS, Kind
from batchgen.providers.simulator import Fault, Settings
from batchgen.providers.simulator import Kind as FaultKind

FAULTS = (
    Fault(FaultKind.GENERATION, prompt="scene broken", code="SAFETY.INPUT.TEXT"),
    Fault(FaultKind.DROP_AFTER, prompt="scene silent"),
)


@pytest.fixture
def bought(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs in several states, one of them of another batch."""
    with service(monkeypatch, Settings(faults=FAULTS)):
        buy("a", "b", "broken", "silent", expect=10)
    ok("add", write("more.csv", [{**row, "shot": f"{row['id']}1"} for row in rows("c", "d")]))
    ok("cancel", "d")


def listed(*words: str) -> list[dict[str, Any]]:
    jobs = ok("ls", "--json", *words).said["jobs"]
    assert isinstance(jobs, list)
    return jobs


def ids(*words: str) -> list[str]:
    return [job["id"] for job in listed(*words)]


def test_every_field_has_a_value() -> None:
    assert list(FIELD_VALUES) == list(FIELDS)


@pytest.mark.usefixtures("bought")
def test_what_a_column_shows_is_what_an_expression_finds() -> None:
    seen = set()
    for job in listed("--columns", ",".join(FIELDS)):
        for name, value in job["columns"].items():
            unit = "s" if FIELDS[name] is Kind.SECONDS else ""
            said = f'"{value}{unit}"' if value is not None else "none"
            op = "~" if name == "file" and value is not None else "="
            text = f'"{Path(value).name}"' if op == "~" else said
            assert job["id"] in ids("--where", f"{name}{op}{text}"), (name, value)
            seen |= {name} if value is not None else set()
    # Whether a job was ever seen in the queue is for the network to decide.
    assert seen | {"queue"} == set(FIELDS) - {"variant", "seed", "remote"}


@pytest.mark.usefixtures("bought")
@pytest.mark.parametrize("state", [str(state) for state in JobState])
def test_one_state_is_listed_like_all_and_then_chosen(state: str) -> None:
    wanted = [job["id"] for job in listed() if job["state"] == state]

    assert ids("--state", state) == wanted
    assert ids("--where", f"state={state}") == wanted
    assert ids("--where", f"state={state} and id!=b", "--batch", "jobs") == [
        one for one in wanted if one not in ("b", "c", "d")
    ]
    both = [job["id"] for job in listed() if job["state"] in (state, "failed")]
    assert ids("--where", f"state={state} or state=failed") == both
    assert ids("--state", state, "--where", "state=failed") == (wanted if state == "failed" else [])


@pytest.mark.usefixtures("bought")
def test_jobs_are_sorted_by_fields_and_columns() -> None:
    assert ids("--sort", "-id") == ["silent", "d", "c", "broken", "b", "a"]
    assert ids("--sort", "state,-id") == ["d", "broken", "silent", "c", "b", "a"]
    assert ids("--sort", "-shot", "--limit", "1") == ["d"]


@pytest.mark.usefixtures("bought")
def test_columns_are_fields_columns_and_inputs() -> None:
    header, *lines = ok(
        "ls", "--columns", "id,shot,promptText,cost,estimate", "--batch", "more"
    ).out.splitlines()

    assert header.split() == ["ID", "SHOT", "PROMPTTEXT", "COST", "ESTIMATE"]
    assert lines[0].split() == ["c", "c1", "scene", "c", "$0.25"]
    job = listed("--columns", "shot,changed", "--where", "id=c")[0]
    assert job["columns"]["shot"] == "c1"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", job["columns"]["changed"])


@pytest.mark.usefixtures("bought")
def test_keys_are_handed_on() -> None:
    keys = ok("ls", "--keys", "--where", "state in (failed, cancelled)").out

    assert keys.split() == [job["key"] for job in listed() if job["id"] in ("broken", "d")]
    ok("retry", "-", "-y", stdin=keys)
    assert {job["id"] for job in listed("--state", "pending")} == {"broken", "c", "d"}


def test_a_long_list_ends_and_says_so() -> None:
    ok("add", write("m.csv", rows(*(f"r{number}" for number in range(DEFAULT_LIMIT + 20)))))

    first, everything = ok("ls"), ok("ls", "--limit", "all")
    said = ok("ls", "--json").said

    assert len(first.out.splitlines()) == DEFAULT_LIMIT + 1
    assert "only the first 100 jobs, there are 120: --limit N" in first.err
    assert len(everything.out.splitlines()) == DEFAULT_LIMIT + 21
    assert everything.err == ""
    assert (len(said["jobs"]), said["total"], said["more"]) == (DEFAULT_LIMIT, 120, True)
    chosen = ok("ls", "--where", "id~r", "--limit", "3", "--json").said
    assert (len(chosen["jobs"]), chosen["total"], chosen["more"]) == (3, None, True)
    assert "there are more" in ok("ls", "--where", "id~r", "--limit", "3").err
    assert len(ok("ls", "--keys").out.splitlines()) == DEFAULT_LIMIT + 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "0"], "no number of jobs"),
        (["--limit", "many"], "no number of jobs such as 500, nor all"),
        (["--columns", "id,,state"], "with commas between"),
        (["--columns", "shto"], "--columns: there is no 'shto'"),
        (["--sort", "-colour"], "--sort: there is no 'colour'"),
        (["--keys", "--json"], "leave --columns and --json out"),
        (["--keys", "--columns", "id"], "leave --columns and --json out"),
        (["--where", "state=sleeping"], "no state 'sleeping'"),
        (["--batch", "nobody"], "there is no batch 'nobody'"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], message: str) -> None:
    ok("add", write("m.csv", [{**row, "shot": "1"} for row in rows("a")]))

    done = call("ls", *words)

    assert done.code == 2
    assert message in done.err


def test_an_empty_list_is_no_error() -> None:
    ok("add", write("m.csv", rows("a")))

    done = ok("ls", "--state", "failed")

    assert (done.out, done.err) == ("", "no such job\n")
    assert ok("ls", "--state", "failed", "--json").said == {"jobs": [], "total": 0, "more": False}


def on_a_terminal(*words: str, width: int, **environment: str) -> str:
    """Return what a command shows on a terminal of so many cells."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    env.pop("COLUMNS", None)
    started = forked.Process([*forked.BATCHGEN, *words], env, Path.cwd(), [theirs] * 3)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(ours)
        started.wait()
    return shown.decode()


def test_no_line_is_longer_than_the_terminal_and_nothing_steers_it() -> None:
    hostile = {"id": "市場", "prompt": "カメラは右へ\x1b[2J\u202eevil " * 9}
    ok("add", write("m.csv", [{**rows("a")[0], **hostile}, *rows("b")]))

    narrow = on_a_terminal("ls", "--columns", "id,state,prompt,changed", width=44)
    plain = on_a_terminal("show", "市場", width=60, NO_COLOR="1")

    assert "\x1b[36mpending" in narrow
    lines = [re.sub(r"\x1b\[\d*m", "", line) for line in narrow.splitlines()]
    assert lines[0].split() == ["ID", "STATE", "PROMPT", "CHANGED"]
    assert all(cell_len(line) <= 44 for line in lines)
    assert all(cell_len(line) <= 60 for line in plain.splitlines())
    for text in ("".join(lines), plain):
        assert "\x1b" not in text
        assert "\u202e" not in text
