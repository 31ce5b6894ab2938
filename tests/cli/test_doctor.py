"""`batchgen doctor`: each thing that may be wrong, with its code and its remedy."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cli.bought import TOKEN, buy, service
from cli.commands import call, ok, rows, write
from runs import Done

from batchgen.library.service import Service
from batchgen.providers.interface import Greeting
from batchgen.providers.simulator import Fault, Handle, Kind, Settings


def levels(done: Done) -> dict[str, str]:
    """Return what is not well, by check."""
    return {
        one["check"]: one["level"]
        for one in done.said["findings"]
        if one["level"] in ("warning", "problem")
    }


def doctor(*words: str) -> Done:
    done = call("doctor", "--json", *words)
    for one in done.said["findings"]:
        assert bool(one["remedy"]) == (one["level"] in ("warning", "problem")), one
        assert TOKEN not in json.dumps(one)
    return done


def test_all_is_well_before_the_first_night_and_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(wallet_micros=5_000_000)):
        new = doctor()
        assert list(Path().iterdir()) == []
        buy("a")
        used = doctor()
        shown = ok("doctor")

    assert (new.code, levels(new), levels(used)) == (0, {}, {})
    said = {one["check"]: one["message"] for one in used.said["findings"]}
    assert said["balance"] == "$4.75"
    assert "RUNCOMFY_TOKEN" in said["token"]
    assert said["clock"].startswith("within ")
    assert "ok       balance       $4.75" in shown.out
    assert shown.err == "nothing is wrong\n"


def test_without_anything_each_lack_is_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", "https://nobody.invalid/v1")

    done = doctor()
    offline = doctor("--offline")
    shown = call("doctor")

    assert levels(done) == {"token": "problem", "service": "problem"}
    assert (done.code, offline.code) == (6, 6)
    assert levels(offline) == {"token": "problem"}
    assert "  → set RUNCOMFY_TOKEN" in shown.out
    assert shown.err == "2 problems, 0 warnings\n"
    assert list(Path().iterdir()) == []


SERVICES: list[tuple[Settings, str, int]] = [
    (Settings(token="another"), "token", 6),
    (Settings(wallet_micros=0), "balance", 7),
    (Settings(down=True), "service", 12),
    (Settings(balance_told=False), "service", 12),
]


@pytest.mark.parametrize(("settings", "check", "code"), SERVICES)
def test_what_the_service_refuses(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, check: str, code: int
) -> None:
    with service(monkeypatch, settings):
        done = doctor()

    assert levels(done) == {check: "problem"}
    assert done.code == code


def test_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        pass

    done = doctor()

    assert (done.code, levels(done)) == (12, {"service": "problem"})


def test_a_stranger_learns_that_the_service_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(token="none")) as handle:
        monkeypatch.delenv("RUNCOMFY_TOKEN")

        done = doctor()

        greeting = asyncio.run(greeted(handle))

    assert (done.code, levels(done)) == (6, {"token": "problem"})
    assert greeting.trouble is not None  # what was sent instead of a token was no token either
    assert greeting.at is not None


async def greeted(handle: Handle) -> Greeting:
    client = Service(handle.base, "").connect_greeter(within_s=30)
    try:
        return await client.greet(with_token=False)
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("said", "level", "code"),
    [
        ('{"access_token": "0123456789abcdef0123", "expires_at": "2001-01-01"}', "problem", 6),
        ('{"access_token": "0123456789abcdef0123", "expires_at": "2999-01-01"}', None, 0),
        ('{"access_token": "short"}', "warning", 0),
        ("nonsense", "problem", 6),
    ],
)
def test_the_token_file(
    monkeypatch: pytest.MonkeyPatch, said: str, level: str | None, code: int
) -> None:
    folder = Path("runcomfy")
    folder.mkdir()
    (folder / "token.json").write_text(said)
    monkeypatch.setenv("RUNCOMFY_CONFIG_DIR", str(folder))

    done = doctor("--offline")

    assert (done.code, levels(done).get("token")) == (code, level)
    assert "0123456789abcdef" not in done.out


def change(statement: str) -> None:
    with closing(sqlite3.connect("batchgen.db")) as connection, connection:
        connection.execute(statement)


HARMS: list[tuple[str, Callable[[], object], dict[str, str], int]] = [
    ("paused", lambda: ok("pause"), {"paused": "warning"}, 0),
    (
        "newer",
        lambda: change("UPDATE alembic_version SET version_num = '9999'"),
        {"database": "problem"},
        11,
    ),
    (
        "older copy",
        lambda: change("UPDATE job_database SET stepped_back = 'HOST bought attempt X'"),
        {"stepped back": "problem"},
        11,
    ),
    (
        "rescue file",
        lambda: Path("batchgen.db-rescue-w1").write_text("# batchgen\n"),
        {"rescue files": "warning"},
        0,
    ),
    ("no folder", lambda: Path("clips").write_text("a file"), {"output": "problem"}, 13),
]


@pytest.mark.parametrize(
    ("harm", "found", "code"), [one[1:] for one in HARMS], ids=[one[0] for one in HARMS]
)
def test_what_is_wrong_with_the_job_database(
    monkeypatch: pytest.MonkeyPatch, harm: Callable[[], object], found: dict[str, str], code: int
) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
    ok("add", write("jobs.csv", rows("a")))
    harm()

    done = doctor("--offline")

    assert (levels(done), done.code) == (found, code)


def test_doubts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(Fault(Kind.DROP_AFTER),))):
        buy("a", expect=10)

    done = doctor("--offline")

    assert levels(done) == {"doubts": "warning"}
    assert "`batchgen reconcile --list`" in done.out


def test_notifications_are_understood_or_not_and_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
    monkeypatch.setenv("BATCHGEN_NOTIFY", "nonsense://secret")

    done = doctor("--offline")

    assert (levels(done), done.code) == ({"notify": "problem"}, 2)
    assert "secret" not in done.out.replace("may hold a secret", "")


def test_a_base_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
    monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", "http://192.0.2.1/v1")

    done = doctor()

    assert (levels(done), done.code) == ({"service": "problem"}, 2)
