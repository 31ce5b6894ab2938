"""Which events are worth a notification, and its words."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click
import hook
import pytest
from cli.commands import ok, rows, write

from batchgen.cli.flags import Flags, flags
from batchgen.cli.notices import Notices
from batchgen.domain.errors import Exit
from batchgen.store.database import Database

TOKEN = "rc-tok-7Zk2Vq9Lm4Xw8Rt1"
SIGNED = "https://images.example.com/a.jpg?X-Amz-Signature=amz5ecret0123"


def flags_of(*words: str) -> Flags:
    """The flags that a command line gives."""
    found: list[Flags] = []

    @click.command()
    @flags
    def command(**given: object) -> None:
        found.append(Flags(**given))  # type: ignore[arg-type]

    command.main([*words], standalone_mode=False)
    return found[0]


@pytest.fixture
def server() -> Iterator[hook.Hook]:
    with hook.running() as running:
        yield running


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(Database("jobs.db")) as found:
        yield found


def notices_of(database: Database, server: hook.Hook, *words: str) -> Notices:
    notices = Notices(database, flags_of("--notify", server.url, *words))
    notices.begin(lambda name, why: pytest.fail(f"{name}: {why}"))
    return notices


def test_each_reason_and_the_first_doubt_are_told_once(
    database: Database, server: hook.Hook
) -> None:
    notices = notices_of(database, server)
    for message in ("clip a cannot be written", "clip b cannot be written"):
        notices.heard("paused", {"exit_code": 13, "message": message})
    notices.heard("paused", {"exit_code": None, "message": "a person paused it"})
    notices.heard("held", {"model": "m", "exit_code": 9, "message": "unknown model"})
    notices.heard("took_over", {"what": "adopted", "jobs": 3})
    notices.heard("took_over", {"what": "in_doubt", "jobs": 2})
    notices.heard("in_doubt", {"batch": "b", "job": "j", "message": "no answer"})
    for batch in ("b", "c", "b"):
        fields = {"batch": batch, "spent_usd": 7.5, "reserved_usd": 0.5, "budget_usd": 10.0}
        notices.heard("budget_warning", fields)
    notices.heard("submitted", {"batch": "b", "job": "j"})
    notices.ended([Exit.OUTPUT, Exit.SOME_FAILED], ["clip a cannot be written", "2 failed"])
    notices.close()

    words = ["paused", "paused", "in-doubt", "budget", "budget"]
    assert server.titles() == [f"batchgen: {word}" for word in words]
    assert "clip a" in server.told[0][1]
    assert "2 job(s) of a worker that died" in server.told[2][1]
    assert "batch b has spent or reserved $8.00 of its budget of $10.00" in server.told[3][1]


def test_the_end_of_a_session_with_doubts_names_both(database: Database, server: hook.Hook) -> None:
    notices = notices_of(database, server, "--notify-on", "failed,in-doubt")
    notices.ended([Exit.UNEXPECTED, Exit.IN_DOUBT], ["broken", "2 jobs in doubt"])
    notices.ended([Exit.SIGTERM, Exit.IN_DOUBT], ["stopped", "2 jobs in doubt"])
    notices.ended([Exit.SUCCESS], ["all is well"])
    notices.close()

    assert server.titles() == ["batchgen: failed and in-doubt", "batchgen: in-doubt"]


def test_no_secret_is_told(
    database: Database, server: hook.Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
    notices = notices_of(database, server)
    notices.heard("paused", {"exit_code": 6, "message": f"{TOKEN} at {SIGNED}"})
    notices.close()

    _, body = server.only()
    assert TOKEN not in body
    assert "amz5ecret" not in body
    assert "https://images.example.com/a.jpg" in body


def test_counts_and_money_are_those_of_the_batches_of_the_run(server: hook.Hook) -> None:
    for name in "abcde":
        ok("add", write(f"{name}.csv", rows(name)), "--db", "jobs.db")
    with closing(Database("jobs.db")) as database:
        notices = notices_of(database, server)
        notices.heard("held", {"model": "m", "exit_code": 9, "message": "unknown model"})
        assert server.asked.wait(30)
        notices.batch_ids = [2]
        notices.log = Path("/logs/s1.jsonl")
        notices.heard("paused", {"exit_code": 7, "message": "top it up"})
        notices.close()

    (everything, _), (one, body) = server.told
    assert everything == "batchgen: paused: a, b, c and 2 more"
    assert one == "batchgen: paused: b"
    assert "\nb: 1 job\n  1 pending\n  $0.00 spent\n  1 to be paid for (about $0.25)" in body
    assert body.endswith("log /logs/s1.jsonl")
    assert f"job database {Path('jobs.db').resolve()}, on {os.uname().nodename}" in body


def test_a_job_database_that_cannot_be_read_keeps_no_message_back(server: hook.Hook) -> None:
    Path("jobs.db").write_text("no database at all" * 100)
    with closing(Database("jobs.db")) as database:
        notices = notices_of(database, server)
        notices.ended([Exit.DATABASE], ["it cannot be read"])
        notices.close()

    title, body = server.only()
    assert title == "batchgen: failed"
    assert body.startswith("it cannot be read\ncounts and money are unknown:")


def test_what_is_simulated_is_called_so(database: Database, server: hook.Hook) -> None:
    simulated = replace(flags_of("--notify", server.url), simulate=True)
    notices = Notices(database, simulated)
    notices.begin(lambda name, why: pytest.fail(why))
    notices.ended([Exit.SUCCESS], ["every job succeeded"])
    notices.close()

    assert server.titles() == ["batchgen (simulated): done"]
