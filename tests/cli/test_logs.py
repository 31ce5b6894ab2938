"""Runs and their logs, also such as nobody of ours wrote."""

import json
from pathlib import Path

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, write
from runs import Place

from batchgen.cli import session_logs
from batchgen.domain.telling import KINDS
from batchgen.providers.simulator import Fault, Kind, Settings

DOUBT = Fault(Kind.DROP_AFTER, prompt="scene b")


def logs() -> list[Path]:
    return sorted(Path("batchgen.db-logs").iterdir())


def test_runs_are_listed_with_their_end_and_their_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(DOUBT,))):
        ok("add", write("jobs.csv", rows("a", "b")))
        assert ok("logs").err == "there was no run yet\n"
        assert call("logs", "--last").err.startswith("Error: there was no run of this job database")
        call("run", "-y", "--poll-interval", "0")
        call("run", "-y", "--no-log")

    second, first = ok("logs", "--json").said["sessions"]
    listed = ok("logs")

    assert (first["exit_code"], first["reasons"]) == (
        10,
        ["1 job in doubt: `batchgen reconcile --list`"],
    )
    assert first["log"] == str(logs()[0])
    assert not first["lives"]
    assert not first["died"]
    assert (second["command"], second["log"]) == ("run", None)
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == [
        second["id"][:12],
        first["id"][:12],
    ]
    assert "1 job in doubt" in listed.out

    shown = ok("logs", first["id"][:12]).out.splitlines()
    assert shown[0].split()[2:5] == ["session_started", "command", "run;"]
    assert "session_ended" in shown[-1]
    assert "exit code 10" in shown[-1]
    assert any("downloaded       jobs/a: " in line for line in shown)
    assert ok("logs", first["id"], "--tail", "1").out.splitlines() == shown[-1:]

    mine = ok("logs", "--job", "a").out.splitlines()
    assert [line.split()[2] for line in mine] == ["submitted", "generated", "downloaded"]
    said = ok("logs", first["id"], "--job", "b", "--json").said
    assert [line["kind"] for line in said["lines"]] == ["submitted", "in_doubt"][
        -len(said["lines"]) :
    ]
    assert said["session"] == first["id"]

    assert ok("logs", "--last").out.splitlines() == shown
    missing = call("logs", second["id"])
    assert missing.code == 2
    assert (
        "older than the newest 30, was run with --no-log, or ran on another machine" in missing.err
    )
    logs()[0].unlink()
    assert "there is no log in" in call("logs", "--job", "a").err


def test_a_log_that_is_torn_or_not_ours_is_read_safely(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a")
    log = logs()[0]
    before = len(ok("logs", "--last").out.splitlines())
    evil = {
        "kind": "x\x1b[2J",
        "job": "\u202ea",
        "batch": 7,
        "message": "https://x.test/?sig=5ecret",
    }
    with log.open("ab") as file:
        file.write(json.dumps(evil).encode() + b"\n[1, 2]\n\xff\xfe\n" + b"[" * 3000 + b"\n")
        file.write(b"y" * (session_logs.LONGEST_LINE + 5) + b"\n")
        file.write(
            b'{"at": 5, "spent_usd": true, "wait_s": "x", "jobs": {"a": [1]}, "level": null}\n'
        )
        file.write(
            json.dumps({"traceback": "one\ntwo\x07", "message": "m" * 9000}).encode() + b"\n"
        )
        file.write(b'{"kind": "session_en')

    lines = ok("logs", "--last").out.splitlines()[before:]
    said = ok("logs", "--last", "--json").said

    assert "x\\x1b[2J" in lines[0]
    assert "\\u202ea: https://x.test/?[redacted]" in lines[0]
    assert [line[:15] for line in lines[1:4]] == ["(a line that is"] * 3
    assert lines[4] == "(a line of more than 1,048,576 bytes is left out)"
    assert lines[5].split()[:2] == ["5", "?"]
    assert len(lines[6]) < 5000
    assert lines[7:9] == ["    one", "    two\\x07"]
    assert lines[9].startswith("(a line that is no event")
    assert said["left_out"] == 5
    assert "5ecret" not in json.dumps(said)


def test_every_kind_of_event_is_told_in_a_line() -> None:
    for kind, fields in KINDS.items():
        said = {
            "kind": kind,
            **{name: 1.5 if name.endswith(("_s", "_usd")) else "x" for name in fields},
        }

        line = session_logs.in_words(session_logs.Line(said))

        assert kind in line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s12", "--last"], "name a session or say --last"),
        (["--list", "--last"], "--list lists runs"),
        (["--tail", "3"], "--tail goes with"),
        (["--follow", "--json"], "--follow is for people"),
        (["nothing"], "no session begins with 'nothing': `batchgen logs` lists them"),
        (["--job", "nobody"], "no job is called"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], message: str) -> None:
    ok("add", write("m.csv", rows("a")))

    done = call("logs", *words)

    assert done.code == 2
    assert message in done.err


def test_a_log_is_followed_until_its_run_ends(place: Place) -> None:
    place.write([{"id": "a", "prompt": "scene a", "image": "https://images.example.com/a.jpg"}])
    place.service.settings = Settings(run_s=(0.5, 0.6))
    running = place.start_run("jobs.csv")
    place.wait_accepted(1)

    followed = call("logs", "--follow", "--db", place.url)

    assert running.wait().code == 0
    assert followed.code == 0, followed.err
    kinds = [line.split()[2] for line in followed.out.splitlines()]
    assert kinds[0] == "session_started"
    assert kinds[-1] == "session_ended"
