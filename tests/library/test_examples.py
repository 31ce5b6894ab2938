"""What `docs/library.md` shows works, and what it answers is typed."""

import inspect
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import assert_type, get_type_hints

import pytest
from cli.bought import service

import batchgen
from batchgen.domain import errors
from batchgen.domain.states import JobState
from batchgen.library.database import RunOptions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
README_MANIFEST = (ROOT / "README.md").read_text().split("$ cat jobs.csv\n")[1].split("$")[0]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page_runs_from_top_to_bottom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobs.csv").write_text(README_MANIFEST)  # what a reader has there already
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


def test_examples_are_type_checked_as_a_user_would() -> None:
    """By the strict gate of the project: the lazy names and `py.typed` are all they see."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        config = tomllib.load(file)["tool"]["mypy"]

    assert config["strict"]
    assert {"batchgen", "examples", "tests"} <= set(config["files"])
    for path in (ROOT / "examples").glob("*.py"):
        assert "import batchgen\n" in path.read_text(encoding="utf-8")
        assert "batchgen.library" not in path.read_text(encoding="utf-8")


def test_both_ways_to_run_take_the_same_options() -> None:
    options = inspect.signature(batchgen.JobDatabase.run_async).parameters.values()

    typed = {one.name: one.annotation for one in options if one.name != "self"}

    assert get_type_hints(RunOptions) == typed


def test_what_is_answered_is_typed() -> None:
    def typed(db: batchgen.JobDatabase) -> None:
        assert_type(db.submit_one("a").request_id, str)
        assert_type(db.poll_one("a").state, JobState)
        assert_type([clip.path for clip in db.fetch_one("a")], list[Path])
        assert_type(next(db.results()).cost_usd, float | None)
        assert_type(db.run().counts, Mapping[JobState, int])

    assert callable(typed)
