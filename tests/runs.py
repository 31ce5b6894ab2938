"""Runs the real program in a folder, against a stand-in service whose books are the truth."""

import csv
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import forked
import jsonschema_rs
import psycopg
from psycopg.rows import dict_row

from batchgen.cli import answers
from batchgen.providers.simulator import Entry, Fault, Handle
from batchgen.runner import rescue

IMAGE = "https://images.example.com/harbor.jpg"
DEADLINE_S = 60.0
BATCHGEN = (sys.executable, *forked.BATCHGEN)


def rows_of(count: int, **cells: str) -> list[dict[str, str]]:
    """Return rows with ids `c1`, `c2`, … and prompts of their own."""
    return [
        {"id": f"c{number}", "prompt": f"scene {number:03d}", "image": IMAGE, **cells}
        for number in range(1, count + 1)
    ]


@cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(answers.schema(name))


def fits(name: str, said: Mapping[str, Any]) -> None:
    """Hold what was printed or written against its schema, one of `batchgen schema output`."""
    faults = [f"{fault.instance_path}: {fault}" for fault in _validator(name).iter_errors(said)]
    assert not faults, (name, faults, said)
    if said.get("data", said) is not None:
        SEEN.add(name)


SEEN: set[str] = set()
"""Of which schemas something was seen in this process."""


@dataclass(frozen=True)
class Done:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> dict[str, Any]:
        """What `--json` printed: the data, or the error where there is none."""
        envelope = self.envelope
        said = envelope["error"] if envelope["data"] is None else envelope["data"]
        assert isinstance(said, dict)
        return said

    @property
    def envelope(self) -> dict[str, Any]:
        """The whole object that `--json` printed."""
        envelope = json.loads(self.out)
        assert list(envelope) == ["schema", "ok", "exit_code", "data", "error"]
        assert (envelope["exit_code"], envelope["ok"]) == (self.code, self.code == 0)
        fits(envelope["schema"].split("/")[1], envelope)
        return dict(envelope)


def _process(
    command: Sequence[str], env: dict[str, str], folder: Path
) -> subprocess.Popen[str] | forked.Piped:
    if command[0] == sys.executable and forked.can_start(env):
        return forked.Piped(command[1:], env, folder)
    return subprocess.Popen(
        command,
        env=env,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Started:
    """A run that is under way."""

    def __init__(self, command: Sequence[str], env: dict[str, str], folder: Path) -> None:
        self._process = _process(command, env, folder)
        self._said = ""
        self.pid = self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = DEADLINE_S) -> Done:
        """Wait for the end."""
        out, err = self._process.communicate(timeout=timeout_s)
        code = self._process.poll()
        assert code is not None
        return Done(code, out, self._said + err)

    def wait_stopped(self) -> None:
        """Wait until it has been stopped, as by SIGSTOP."""
        found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert found.si_code == os.CLD_STOPPED, self.wait()

    def end(self) -> None:
        """Kill it if it still lives, also one that is stopped."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def wait_said(self, text: str) -> str:
        """Wait until a line on stderr holds a text; return the line."""
        stderr = self._process.stderr
        assert stderr is not None
        while line := stderr.readline():
            self._said += line
            if text in line:
                return line
        raise AssertionError(f"it never said {text!r}: {self._said}")


class Place:
    """A folder with manifests, a job database, and the service that its jobs are bought at.

    Attributes:
        db: The SQLite file, unless a URL of another job database was given.
        url: What `--db` takes.
    """

    def __init__(self, folder: Path, service: Handle, *, url: str | None = None) -> None:
        self.folder = folder
        self.service = service
        self.db = folder / "jobs.db"
        self.url = url or str(self.db)
        self._started: list[Started] = []

    @property
    def is_sqlite(self) -> bool:
        """Whether the job database is a file."""
        return not self.url.startswith("postgresql://")

    # -- doing -----------------------------------------------------------------------------------

    def write(self, rows: Sequence[dict[str, str]], name: str = "jobs.csv") -> Path:
        """Write rows as a manifest."""
        path = self.folder / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    def start(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> Started:
        """Start `batchgen` without waiting for it."""
        return self.start_program([*BATCHGEN, *arguments], env=env)

    def start_program(
        self, command: Sequence[str], *, env: Mapping[str, str | None] | None = None
    ) -> Started:
        """Start a program as `batchgen` is started."""
        said = {**self.environment(), **(env or {})}
        known = {name: value for name, value in said.items() if value is not None}
        self._started.append(Started(command, known, self.folder))
        return self._started[-1]

    def end(self) -> None:
        """Kill what a test that failed has left alive."""
        for started in self._started:
            started.end()

    def environment(self) -> dict[str, str]:
        """Return the environment in which a command finds the service."""
        return {
            **os.environ,
            "RUNCOMFY_MODEL_API_BASE": self.service.base,
            "RUNCOMFY_TOKEN": "a-token",
        }

    def start_run(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> Started:
        """Start `batchgen run` with consent given."""
        usual = ["-y", "--db", self.url, "--poll-interval", "0.05"]
        return self.start("run", *arguments, *usual, env=env)

    def run(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> Done:
        """Do `batchgen run` with consent given."""
        return self.start_run(*arguments, env=env).wait()

    def set_faults(self, *faults: Fault) -> None:
        """Let the service have these faults and no others."""
        self.service.settings = replace(self.service.settings, faults=faults)

    def wait_accepted(self, count: int) -> None:
        """Wait until the service has accepted so many paid requests."""
        self.service.wait_until(lambda seen: seen.accepted >= count)

    # -- reading ---------------------------------------------------------------------------------

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Read the job database."""
        if not self.is_sqlite:
            with closing(psycopg.connect(self.url, row_factory=dict_row)) as server:
                return server.execute(statement.encode()).fetchall()
        with closing(sqlite3.connect(self.db)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(statement)]

    def jobs(self) -> list[dict[str, Any]]:
        """Return every job, in manifest order."""
        return self.query("SELECT * FROM jobs ORDER BY batch_id, position, id")

    def states(self) -> Counter[str]:
        """Return how many jobs are in which state."""
        return Counter(job["state"] for job in self.jobs())

    def ids(self, *states: str) -> set[int]:
        """Return the jobs in one of these states."""
        return {job["id"] for job in self.jobs() if job["state"] in states}

    def rescued(self) -> set[int]:
        """Return the jobs whose request id lies in a rescue file."""
        files = self.folder.glob(f"{self.db.name}-rescue-*")
        saved = {attempt_id for path in files for attempt_id, _ in rescue.read(path).pairs}
        return {one["job_id"] for one in self.attempts() if one["id"] in saved}

    def wait_jobs(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds of the jobs; the job database has no way to tell."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.02)

    def attempts(self) -> list[dict[str, Any]]:
        """Return every attempt, oldest first."""
        return self.query("SELECT * FROM attempts ORDER BY id")

    def export(self, name: str = "out.csv") -> list[dict[str, str]]:
        """Return the rows of an export."""
        with (self.folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def bought(self) -> dict[str, list[Entry]]:
        """Return the accepted paid requests by prompt."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.service.ledger.entries:
            found[str(entry.inputs["promptText"])].append(entry)
        return found

    def leftovers(self) -> list[str]:
        """Return what a run may only leave behind if it was killed."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.suffix in (".part", ".tmp", ".lock") or "-rescue-" in path.name
        )

    # -- judging ---------------------------------------------------------------------------------

    def check_clips(self) -> None:
        """Every finished job has its files, whole, and there are no others."""
        stored = {
            (file["path"], file["sha256"], file["size_bytes"])
            for job in self.jobs()
            if job["state"] == "succeeded"
            for file in json.loads(job["files"])
        }
        found = {
            (
                str(path.relative_to(self.folder / "clips")),
                hashlib.sha256(path.read_bytes()).hexdigest(),
                path.stat().st_size,
            )
            for path in (self.folder / "clips").rglob("*")
            if path.is_file()
        }
        assert found == stored

    def check_books(self) -> None:
        """Hold the job database against the books of the service.

        Every purchase must be known by its id or explain a doubt, none may have been made
        without a reason that the job database knows, and the stored sums must be right.
        """
        attempts: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for attempt in self.attempts():
            attempts[attempt["job_id"]].append(attempt)
        by_prompt = {json.loads(job["inputs"])["promptText"]: job for job in self.jobs()}
        entries = {entry.id: entry for entry in self.service.ledger.entries}
        for prompt, bought in self.bought().items():
            job = by_prompt[prompt]
            mine = attempts[job["id"]]
            recorded = {attempt["request_id"] for attempt in mine} - {None}
            open_ended = [a for a in mine if a["state"] in ("intent", "in_doubt", "abandoned")]
            unknown = [entry.id for entry in bought if entry.id not in recorded]
            assert len(unknown) <= len(open_ended), f"{prompt}: {unknown} are lost"
            abandoned = [a for a in mine if a["state"] == "abandoned" or a["extra"]]
            retries = job["retries_used"] + job["policy_retries_used"]
            allowed = job["version"] + retries + len(abandoned)
            assert len(bought) <= allowed, f"{prompt} was bought {len(bought)} times"
        for attempt in self.attempts():
            if attempt["request_id"] is not None:
                assert json.loads(attempt["inputs"]) == entries[attempt["request_id"]].inputs
        counted = {
            (row["batch_id"], row["state"]): row["jobs"]
            for row in self.query("SELECT * FROM counters WHERE jobs <> 0")
        }
        assert counted == Counter((job["batch_id"], job["state"]) for job in self.jobs())
        spent = self.query("SELECT coalesce(sum(spent_micros), 0) AS micros FROM spending")
        charged = sum(attempt["charged_micros"] or 0 for attempt in self.attempts())
        assert spent[0]["micros"] == charged
