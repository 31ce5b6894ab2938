"""Completion: what is offered, by each real shell; silent and harmless whatever is wrong."""

import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from cli.commands import call, ok, rows, write

from batchgen.cli.completing import ASKED

DEADLINE_S = 60.0


def offered(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What completes the last word, as fish is told; types stand for files and folders."""
    monkeypatch.setenv(ASKED, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "\n".join(("batchgen", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    done = call()
    monkeypatch.delenv(ASKED)
    assert done.err == ""
    lines = [line.split(",", 1) for line in done.out.splitlines() if line]
    return [value if kind == "plain" else f"<{kind}>" for kind, value in lines]


@pytest.fixture
def stored() -> None:
    """Two batches in the simulated job database."""
    ok("add", write("night.csv", rows("harbor", "heron", "blue sky")), "--simulate")
    ok("add", write("day.csv", rows("market")), "--simulate")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ru"], ["run"]),
        (["set", "ra"], ["rate"]),
        (["show", "--simulate", "night/h"], ["night/harbor", "night/heron"]),
        (["show", "--simulate", "mark"], []),
        (["show", "--simulate", "night/b"], []),  # a space would break the line
        (["show", "--simulate", "none/"], []),
        (["ls", "--simulate", "--batch", ""], ["night", "day"]),
        (["ls", "--simulate", "--state", "in"], ["in_doubt"]),
        (["pause", "--simulate", "--account", ""], ["default"]),
        (["reconcile", "--simulate", "--write-off", ""], []),
        (["run", "--halt", "s"], ["streak=", "soon,fail="]),
        (["run", "--model", "runwayml/runway-gen"], ["runwayml/runway-gen-4/turbo/image-to-video"]),
        (["ls", "--simulate", "--columns", "id,pro"], ["id,prompt"]),
        (["export", "--simulate", "--columns", "result_ur"], ["result_url"]),
        (["ls", "--simulate", "--where", "id=a and pro"], []),  # a space: as it was typed
        (["run", ""], ["<file>"]),
        (["run", "--output-dir", "x"], ["<dir>"]),
        (["run", "--resub"], ["--resubmit-in-doubt"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["config", "show", "ba"], ["balance"]),
    ],
)
@pytest.mark.usefixtures("stored")
def test_what_is_offered(
    words: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(monkeypatch, *words) == expected


def test_jobs_in_one_batch_are_offered_by_their_ids_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ok("add", write("jobs.csv", rows("harbor", "heron")), "--db", "mine.db")
    Path("batchgen.toml").write_text('db = "mine.db"', encoding="utf-8")

    assert offered(monkeypatch, "show", "h") == ["harbor", "heron"]


@pytest.mark.parametrize("trouble", ["none", "garbage", "older", "locked", "server", "toml"])
def test_trouble_offers_nothing_and_changes_nothing(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("batchgen.db")
    if trouble == "server":
        monkeypatch.setenv("BATCHGEN_DB", "postgresql://127.0.0.1:1/none")
    elif trouble == "garbage":
        file.write_bytes(b"no database" * 1000)
    elif trouble != "none":
        ok("add", write("jobs.csv", rows("harbor")))
    if trouble == "toml":
        Path("batchgen.toml").write_text("this is no TOML", encoding="utf-8")
    with closing(sqlite3.connect(file if trouble in ("older", "locked") else ":memory:")) as other:
        if trouble == "older":
            other.execute("UPDATE alembic_version SET version_num = '0001'")
            other.commit()
        elif trouble == "locked":
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("PRAGMA journal_mode = DELETE")
            other.execute("BEGIN EXCLUSIVE")
        before = sorted(path.name for path in Path().iterdir())

        found = offered(monkeypatch, "show", "")

        assert found == (["harbor"] if trouble == "toml" else [])
        assert sorted(path.name for path in Path().iterdir()) == before


# -- real shells ---------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path, stored: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands in which `batchgen` is this one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "batchgen"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m batchgen "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for name in ("bash", "zsh", "fish"):
        (tmp_path / name).write_text(ok("completion", name).out, encoding="utf-8")
    return tmp_path


def said_by(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    ours, theirs = pty.openpty()  # whoever read it would wait for ever
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
            stdin=theirs,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_bash_completes(shell: Path) -> None:
    script = """
        source ./bash
        complete -p batchgen
        COMP_WORDS=(batchgen ru); COMP_CWORD=1
        _batchgen_completion batchgen
        echo "${COMPREPLY[@]}"
        COMPREPLY=()
        COMP_WORDS=(batchgen show --simulate night/h); COMP_CWORD=3
        _batchgen_completion batchgen
        echo "${COMPREPLY[@]}"
    """

    lines = said_by("bash", "--norc", "-c", script).splitlines()

    assert "_batchgen_completion batchgen" in lines[0]
    assert lines[1:] == ["run", "night/harbor night/heron"]


def test_fish_completes(shell: Path) -> None:
    asked = ("batchgen ru", "batchgen show --simulate night/h")
    script = "; ".join(["source ./fish", *(f'complete -C "{words}"' for words in asked)])

    lines = said_by("fish", "--no-config", "-c", script).splitlines()

    assert [line.split("\t")[0] for line in lines] == ["run", "night/harbor", "night/heron"]


def test_zsh_completes(shell: Path) -> None:
    """Its completion works in its line editor only, so it gets a terminal and the key."""
    if shutil.which("zsh") is None:
        pytest.skip("needs zsh")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update({"PS1": "READY> ", "TERM": "dumb", "HOME": str(shell)})
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        wait_said(terminal, r"READY> ")
        os.write(terminal, b"source ./zsh\r")
        wait_said(terminal, r"READY> ")
        os.write(terminal, b"batchgen ru\t")
        wait_said(terminal, r"batchgen run ")
        os.write(terminal, b"\x15batchgen show --simulate night/har\t")
        wait_said(terminal, r"night/harbor ")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def wait_said(terminal: int, pattern: str) -> None:
    said, deadline = "", time.monotonic() + DEADLINE_S
    while not re.search(pattern, said.replace("\x1b", "")):
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, said
        said += os.read(terminal, 65536).decode(errors="replace")
    assert "command not found" not in said
