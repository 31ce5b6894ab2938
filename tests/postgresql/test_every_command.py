"""Every command in one story, told on both kinds of job database, with the same answers."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli import commands
from cli.bought import service
from cli.commands import rows, states, write
from runs import SEEN, Done, fits

from batchgen.cli import answers
from batchgen.cli.main import COMMANDS
from batchgen.manifests import DEFAULT_MODEL
from batchgen.providers.simulator import Fault, Handle, Kind, Settings

WITHOUT_DATABASE = {"simulate"}
NOT_ANSWERED = {"envelope", "progress", "sidecar"}
FAULTS = (
    Fault(Kind.GENERATION, prompt="scene broken", code="SAFETY.INPUT.TEXT"),
    Fault(Kind.DROP_AFTER, prompt="scene silent"),
    Fault(Kind.DROP_AFTER, prompt="scene mute"),
    Fault(Kind.DROP_AFTER, prompt="scene gone"),
    Fault(Kind.COST_LATE, prompt="scene b", count=1),
)
FAST = ("--poll-interval", "0", "-y")
TOLD = {"state", "jobs", "count", "error_class", "row_id", "label", "outcome"}
TIMED = {"remote_state", "queue_position", "started_at", "events", "result_queue_s", "result_run_s"}


class Story:
    """Runs commands and keeps what they said, without what differs from one run to the next."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, Any]] = []

    def do(self, *words: str, code: int = 0, stdin: str = "") -> Done:
        """Run a command that must end with a code."""
        done = commands.call(*words, stdin=stdin)
        assert done.code == code, (words, done.err)
        said = shape(done.said) if "--json" in words else len(done.out.splitlines())
        self.told.append((re.sub("sim-[0-9a-f-]+", "REQUEST", " ".join(words)), done.code, said))
        return done


def shape(value: Any, name: str = "") -> Any:
    """Return a JSON value with texts that are drawn or timed replaced by their type."""
    if name in TIMED:  # seen by one run, and over before the next one looks
        return "timed"
    if isinstance(value, dict):
        return {key: shape(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [shape(part, name) for part in value]
    if isinstance(value, bool) or name in TOLD or name.endswith("usd"):
        return value
    return type(value).__name__


def tell_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands that are of files, and those that keep something for the user."""
    story = Story()
    story.do("db", "backup", "--json")
    story.do("db", "vacuum", "--json")
    Path("mine.json").write_text('{"type": "object", "properties": {"prompt": {"type": "string"}}}')
    story.do("models", "add", "mine.json", "--id", "me/mine", "--json")
    with service(monkeypatch):
        story.do("models", "fetch", DEFAULT_MODEL, "--json")


def request_id(handle: Handle, prompt: str) -> str:
    return next(one.id for one in handle.ledger.entries if prompt in str(one.inputs["promptText"]))


def tell(monkeypatch: pytest.MonkeyPatch) -> Story:
    story = Story()
    story.do("init", "example.yaml", "--json")
    story.do("validate", "example.yaml", "--json")
    with service(monkeypatch, Settings(faults=FAULTS)) as handle:
        jobs = write("jobs.csv", rows("a", "b", "broken", "silent", "mute", "gone", "left"))
        story.do("plan", jobs, "--json")
        story.do("add", jobs, "--json", "--dry-run")
        story.do("add", jobs, "--json")
        story.do("add", jobs)
        story.do("cancel", "left", "--json")
        story.do("pause", "--json")
        story.do("run", *FAST, code=9)
        story.do("set", "jobs", "3", "--json")
        story.do("set", "rate", "200", "--json")
        story.do("set", "budget", "90", "--json")
        story.do("set", "priority", "5", "a", "--json")
        story.do("unpause", "--json")
        story.do("balance", "--json")
        story.do("models", "list", "--json", "runway")
        story.do("models", "show", DEFAULT_MODEL, "--json")
        story.do("schema", "manifest")
        story.do("config", "show", "ls", "--json")
        story.do("config", "path", "--json")
        story.do("config", "check", "--json")
        story.do("completion", "bash", "--json")
        story.do("schema", "output", "db", "check")
        story.do("run", jobs, "-n", "--json")
        story.do("run", jobs, *FAST, "-j", "4", "-o", "out.csv", "--json", code=10)
        handle.settings = replace(handle.settings, faults=())
        story.do("reconcile", "--list", "--json")
        story.do("reconcile", "--adopt", f"silent={request_id(handle, 'silent')}", "-y", "--json")
        story.do("reconcile", "--resubmit", "mute", "-y", "--json")
        story.do("reconcile", "--write-off", "jobs/gone", "-y", "--json")
        story.do("reconcile", "--from-rescue", "--json")
        story.do("reconcile", "--after-restore", "-y", "--json")
        story.do("cancel", "--pending", "-n", "--json")
        story.do("retry", "broken", "-", "-y", "--json", stdin="left\n")
        story.do("run", *FAST, "--no-download", "--json")
        story.do("download", "-q")
        story.do("show", "broken", "--json")
        story.do("show", "b")
        story.do("status", "--json")
        story.do("status")
        story.do("logs", "--list", "--json")
        story.do("logs", "--last", "--tail", "1")
        for line in story.do("logs", "--last", "--json").said["lines"]:
            if "kind" in line:
                fits("event", line)
        story.told.pop()  # how often it looked is chance
        story.do("show", "a", "gone", "--json")
        story.do("workers", "--json")
        story.do("retry", "--where", "state=failed", "-n", "--json")
        story.do("cancel", "--where", "prompt~market and state=running", "--json")
        story.do("set", "priority", "1", "--where", "id=gone", "--json", code=3)
        story.do("reconcile", "--where", "model~runway", "--json")
        story.do("download", "--verify", "--json")
        assert story.do(
            "doctor", "--json"
        ).out  # of each kind of job database it tells something else
        story.told.pop()
        story.told.append(("doctor", 0, None))
        story.do("ls", "--json", "--state", "failed", "--state", "succeeded", "--limit", "3")
        story.do("ls", "--batch", "jobs")
        story.do("ls", "--json", "--columns", "id,state,attempts,prompt", "--sort=-attempts,id")
        story.do("ls", "--keys", "--where", "state in (failed, cancelled)")
        # An export is a manifest: nothing of it is paid for again.
        story.do("export", "-o", "out.csv", "--overwrite")
        story.do("run", "out.csv", *FAST, "--json", code=3)
        story.do("export", "-o", "-")
        table = story.do("export", "-o", "all.jsonl", "--batch", "jobs").out
        assert table == ""
        Path("clips/jobs/a.mp4").unlink()
        story.do("download", "--refresh", "-q", "--sidecar", "--json")
        story.do("export", "-o", "out.xlsx", "--where", "state=succeeded", "--json")
        story.do("report", "-o", "morning.html", "--json")
        story.do("report", "--batch", "jobs", "--where", "state=failed", "--json")
        story.do("db", "check", "--json")
        story.do("db", "check", "--hash", "--json")
        story.do("db", "upgrade", "--json")
        story.do("db", "prune", "--older-than", "0", "-n", "--json")
        story.do("db", "prune", "--older-than", "0", "-y", "--json")
        story.do("db", "check")
        story.do("db", "rebuild", "all.jsonl", code=2)
        story.do("db", "rebuild", "all.jsonl", "--db", "new.db", "-n", "--json")
        story.do("db", "copy", os.environ["BATCHGEN_DB"], "moved.db", "--json")
        story.told[-1] = ("copy", 0, story.told[-1][2])
        story.do("db", "copy", os.environ["BATCHGEN_DB"], "moved.db", "--undo", "--json")
        story.told[-1] = ("undone", 0, story.told[-1][2])
        story.told.append(("paid", len(handle.ledger.entries), None))
    story.told.append(("states", 0, states()))
    lines = Path("all.jsonl").read_text(encoding="utf-8").splitlines()
    story.told.append(("exported", 0, [shape(json.loads(line)) for line in lines]))
    return story


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[list[Path]]:
    made = [tmp_path / "file", tmp_path / "server"]
    for folder in made:
        folder.mkdir()
    yield made
    os.chdir(tmp_path)


def test_every_command_answers_alike_on_both_kinds_of_job_database(
    folders: list[Path], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories: list[Story] = []
    seen: list[set[str]] = []
    for folder, url in zip(folders, ["jobs.db", postgres_url], strict=True):
        monkeypatch.chdir(folder)
        monkeypatch.setenv("BATCHGEN_DB", url)
        SEEN.clear()
        stories.append(tell(monkeypatch))
        seen.append(set(SEEN))
    file, server = stories
    monkeypatch.chdir(folders[0])
    monkeypatch.setenv("BATCHGEN_DB", "jobs.db")
    tell_of_a_file(monkeypatch)

    assert server.told == file.told
    assert seen[0] == seen[1]
    assert seen[0] | SEEN == set(answers.names()) - NOT_ANSWERED
    assert {words.split()[0] for words, _, _ in server.told} >= set(COMMANDS) - WITHOUT_DATABASE
    assert server.told[-2][2] == {
        **dict.fromkeys(["a", "b", "broken", "silent", "mute", "left"], "succeeded"),
        "gone": "failed",
    }
    # Nothing of the job database lies in the folder: only what was asked for, and the clips.
    assert sorted(path.name for path in folders[1].iterdir()) == [
        "all.jsonl",
        "clips",
        "example.yaml",
        "jobs.csv",
        "morning.html",
        "moved.db",
        "out.csv",
        "out.xlsx",
        "report.html",
    ]
