"""Runs commands inside the test's process, through the one boundary for errors."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from runs import IMAGE, Done

from batchgen.cli.main import main


def call(*words: str, stdin: str = "") -> Done:
    """Run `batchgen WORDS...`; an unexpected error fails the test."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    argv, before = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["batchgen", *words], io.StringIO(stdin)
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            main()
    finally:
        sys.argv, sys.stdin = argv, before
    out.seek(0)
    code = left.value.code
    assert isinstance(code, int)
    assert "Error: unexpected" not in err.getvalue(), err.getvalue()
    return Done(code, out.read(), err.getvalue())


def ok(*words: str, stdin: str = "") -> Done:
    """Run a command that must succeed."""
    done = call(*words, stdin=stdin)
    assert done.code == 0, done.err
    return done


def write(name: str, rows: Sequence[Mapping[str, str]]) -> str:
    """Write a CSV manifest to the current folder; return its name."""
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return name


def rows(*ids: str, prompt: str = "") -> list[dict[str, str]]:
    """Return rows of these ids, each with a prompt of its own."""
    return [{"id": name, "prompt": f"scene {name} {prompt}", "image": IMAGE} for name in ids]


def states() -> dict[str, str]:
    """Return the state of each job by its id."""
    return {job["id"]: job["state"] for job in ok("ls", "--json").said["jobs"]}
