"""What `docs/library.md` shows works, and is typed as a user's type checker sees it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli.bought import service
from cli.commands import rows, write

import batchgen
from batchgen.domain import errors
from batchgen.domain.states import JobState

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_runs_from_top_to_bottom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("jobs.csv", rows("a", "b"))
    known: dict[str, object] = {}

    with service(monkeypatch) as handle:
        for number, block in enumerate(BLOCKS):
            exec(compile(block, f"docs/library.md, block {number}", "exec"), known)  # noqa: S102 - our own page

    assert len(BLOCKS) >= 3
    assert len(handle.ledger.entries) == 4
    told = capsys.readouterr().out
    assert "['session_started', 'submitted', 'generated', 'downloaded']" in told
    assert "clips/harbor/dawn.mp4" in told


def test_the_page_names_every_state_and_every_error_of_a_step() -> None:
    said = set(re.findall(r"`([A-Za-z_]+)`", PAGE))

    assert set(JobState) <= said
    steps = {errors.NotNow, errors.Halted, errors.InDoubt, errors.NoClip}
    assert {error.__name__ for error in steps} <= said & set(batchgen.__all__)


def test_a_user_s_type_checker_knows_the_package(tmp_path: Path) -> None:
    """In a folder of its own, by what is installed: `py.typed` and the lazy names."""
    program = "\n".join(BLOCKS) + "\nreveal_type(clip.size_bytes)\nreveal_type(batchgen.open)\n"
    wrong = program + "\ndb.submit_one(1)\ndb.nothing()\n"
    (tmp_path / "good.py").write_text(program, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(wrong, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "good.py", "wrong.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    faults = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line.partition(":")[0] for line in faults] == ["wrong.py"] * 2, done.stdout
    assert 'Revealed type is "int"' in done.stdout
    assert "JobDatabase" in done.stdout
