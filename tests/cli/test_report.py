"""`batchgen report`: what it says of the jobs, and which files it replaces."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.bought import TOKEN, buy, service
from cli.commands import call, ok, rows, write
from runs import Place, rows_of

from batchgen.domain.errors import Exit
from batchgen.providers.simulator import Fault, Kind, Settings

FAULTS = (
    Fault(Kind.GENERATION, prompt="scene refused", code="SAFETY.INPUT.TEXT"),
    Fault(Kind.GENERATION, prompt="scene broken", code="INTERNAL.BAD_OUTPUT.CODE01"),
    Fault(Kind.DROP_AFTER, prompt="scene silent"),
)


def data(name: str = "report.html") -> dict[str, Any]:
    """What the page knows of its gallery."""
    text = Path(name).read_text(encoding="utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    said = json.loads(found)
    assert isinstance(said, dict)
    return said


def cards(name: str = "report.html") -> dict[str, dict[str, Any]]:
    return {card["label"]: card for card in data(name)["cards"]}


def commands(name: str = "report.html") -> list[str]:
    text = Path(name).read_text(encoding="utf-8")
    return re.findall(r'data-copy="([^"]+)"', text)


def test_it_tells_every_job_with_its_clip_and_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=FAULTS)):
        buy("a", "b", "refused", "broken", "silent", expect=10, options=("--retries", "0"))
    Path("for").mkdir()

    said = ok("report", "--json", "-o", "for/mail.html").said

    assert said["jobs"] == said["in_gallery"] == 5
    assert said["counts"]["succeeded"] == said["posters"] == 2
    assert said["size_bytes"] == Path("for/mail.html").stat().st_size
    found = cards("for/mail.html")
    assert {label: card["state"] for label, card in found.items()} == {
        **dict.fromkeys(["a", "b"], "succeeded"),
        **dict.fromkeys(["refused", "broken"], "failed"),
        "silent": "in_doubt",
    }
    ((href, name, kind, _, is_there),) = found["a"]["files"]
    assert (href, name, kind, is_there) == ("../clips/jobs/a.mp4", "jobs/a.mp4", "video", True)
    assert found["a"]["clip"] == 2.0
    assert found["a"]["cost"] == "$0.25"
    silent, broken = found["silent"]["key"], found["broken"]["key"]
    assert commands("for/mail.html") == [
        f"batchgen run {Path('jobs.csv').absolute()}",
        f"batchgen retry {broken}",
        f"batchgen reconcile --adopt {silent}=REQUEST_ID",
        f"batchgen reconcile --resubmit {silent}",
        f"batchgen reconcile --write-off {silent}",
    ]


def test_the_commands_that_it_tells_help(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=FAULTS)) as handle:
        buy("a", "broken", "silent", expect=10, options=("--retries", "0"))
        ok("report")
        handle.settings = replace(handle.settings, faults=())
        retry, _, resubmit, _ = commands()
        ok(*retry.split()[1:], "-y")
        ok(*resubmit.split()[1:], "-y")
        ok("run", "-y", "--poll-interval", "0")
        done = ok("report")

    assert "3 clips of 3 jobs" in done.err
    assert "Nothing waits for you." in Path("report.html").read_text(encoding="utf-8")
    assert commands() == []


def test_only_a_report_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    ok("add", write("jobs.csv", rows("a")))
    ok("report")
    ok("report")
    Path("report.html").write_text("<!doctype html><p>my own page", encoding="utf-8")

    refused = call("report")
    assert refused.code == Exit.USAGE
    assert "report.html exists and is not a report of batchgen" in refused.err
    assert "`batchgen report -o report.html --overwrite`" in refused.err
    assert "my own page" in Path("report.html").read_text(encoding="utf-8")
    ok("report", "--overwrite")
    assert cards()["a"]["state"] == "pending"
    for name, code in (("report.txt", Exit.USAGE), ("none/report.html", Exit.OUTPUT)):
        assert call("report", "-o", name).code == code
    assert call("report", "--batch", "no-such").code == Exit.USAGE
    assert sorted(path.name for path in Path().glob("*.part")) == []


def test_a_choice_of_jobs_is_a_choice_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=FAULTS)):
        buy("a", "b", "refused", expect=3)
        ok("add", write("other.csv", rows("x")))

    failed = ok("report", "--where", "state=failed", "--json").said
    of_failed = cards()
    other = ok("report", "--batch", "other", "--json").said
    newest = ok("report", "--limit", "1", "--json").said

    assert (failed["jobs"], failed["spent_usd"], list(of_failed)) == (1, 0.0, ["refused"])
    assert (other["jobs"], other["counts"]["pending"], other["spent_usd"]) == (1, 1, 0.0)
    assert (newest["jobs"], newest["in_gallery"], newest["left_out"]) == (4, 1, 3)
    assert "3 more count in the figures above" in Path("report.html").read_text(encoding="utf-8")
    assert call("report", "--where", "stat=failed").code == Exit.USAGE


def test_nothing_secret_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows("a", "b")
    table[0]["prompt"] = f"a fox; my token is {TOKEN}"
    table[0]["image"] += "?X-Amz-Signature=abcdef0123456789"
    with service(monkeypatch):
        ok("run", write("jobs.csv", table), "-y", "--db", "jobs.db", "--poll-interval", "0")
        ok("report", "--db", "jobs.db")
    text = Path("report.html").read_text(encoding="utf-8")

    assert TOKEN not in text
    assert "abcdef0123456789" not in text
    assert "a fox; my token is [token]" in text
    assert "http" not in re.sub(r"https://images\.example\.com|http-equiv|http://www\.w3", "", text)


def test_without_the_library_it_says_how_to_have_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("a")
    monkeypatch.setattr("batchgen.posters.are_possible", lambda: False)

    done = ok("report")
    unasked = ok("report", "--no-posters")

    assert "pip install 'batchgen-cli[media]'" in done.err
    assert "media" not in unasked.err
    assert "poster" not in cards()["a"]


def test_an_empty_job_database_has_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = call("report")
    ok("add", write("jobs.csv", rows("a")))
    ok("cancel", "a")
    cancelled = ok("report", "--json").said

    assert missing.code == Exit.DATABASE
    assert not Path("report.html").exists() or cancelled["counts"]["cancelled"] == 1
    assert "Nothing was sent yet." in Path("report.html").read_text(encoding="utf-8")


def test_it_can_be_written_while_a_run_is_at_work(place: Place) -> None:
    place.service.settings = replace(place.service.settings, run_s=(1000.0, 1000.0))
    place.write(rows_of(3))
    run = place.start_run("jobs.csv", "-j", "2")
    place.wait_accepted(2)
    place.wait_jobs(lambda: place.states()["running"] == 2)
    os.chdir(place.folder)

    done = ok("report", "--db", place.url)
    text = Path("report.html").read_text(encoding="utf-8")
    place.service.settings = replace(place.service.settings, run_s=(0.0, 0.0))
    place.service.finish_all()

    assert "a run is at work" in done.err
    assert "1 run at work" in text
    assert sorted(card["state"] for card in cards().values()) == ["pending", "running", "running"]
    assert commands() == []  # nothing waits for a person
    assert run.wait().code == 0
