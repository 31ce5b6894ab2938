"""How progress is told where nothing can be drawn: plain lines, JSON, nothing."""

import io
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.bought import service
from cli.commands import call, ok, rows, write
from runs import Place, fits, rows_of

from batchgen.cli import figures, progress
from batchgen.cli.progress import Mode
from batchgen.providers.simulator import Fault, Kind, Settings


class Terminal(io.StringIO):
    """What says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("said", "is_silent", "is_terminal", "term", "mode"),
    [
        (None, False, True, "xterm-256color", Mode.LIVE),
        (None, False, True, "dumb", Mode.PLAIN),
        (None, False, True, None, Mode.PLAIN),
        (None, False, False, "xterm-256color", Mode.PLAIN),
        (None, True, True, "xterm-256color", Mode.NONE),
        ("live", False, False, "xterm-256color", Mode.PLAIN),
        ("live", True, True, "xterm-256color", Mode.LIVE),
        ("plain", False, True, "xterm-256color", Mode.PLAIN),
        ("json", True, False, "xterm-256color", Mode.JSON),
        ("none", False, True, "xterm-256color", Mode.NONE),
    ],
)
def test_how_progress_is_shown(
    monkeypatch: pytest.MonkeyPatch,
    said: str | None,
    is_silent: bool,
    is_terminal: bool,
    term: str | None,
    mode: Mode,
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal() if is_terminal else io.StringIO())
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)

    assert progress.mode_of(said, is_silent=is_silent) is mode


def test_plain_lines_come_soon_and_seldom_in_a_long_night() -> None:
    pauses = progress.pauses_s()
    at_s = list(itertools.accumulate(itertools.islice(pauses, 200)))

    assert at_s[:3] == [1, 6, 11]
    assert at_s[119:123] == [596, 601, 661, 721]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (754, "12 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (100_800, "1 d 4 h"),
    ],
)
def test_times_are_said_in_two_units(seconds: float, said: str) -> None:
    assert figures.span(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (figures.rate(0.25), "0.25 clips"),
        (figures.rate(1.24), "1.2 clips"),
        (figures.rate(1234.5), "1,234 clips"),
        (figures.size(77), "77 B"),
        (figures.size(3 * 1024**2), "3.0 MiB"),
        (figures.size(2.5 * 1024**3), "2.5 GiB"),
    ],
)
def test_rates_and_sizes_are_said_in_few_digits(value: str, said: str) -> None:
    assert value == said


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come at once, and again whenever anything has changed."""
    for name in ("_FIRST_S", "_SOON_S", "_JSON_S"):
        monkeypatch.setattr(progress, name, 0.01)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("stated", "money"), [(True, r"\$0\.[0-9]{2} spent"), (False, r"~\$0\.[0-9]{2} spent")]
)
def test_plain_lines_tell_counts_money_and_what_went_wrong(
    monkeypatch: pytest.MonkeyPatch, stated: bool, money: str
) -> None:
    faults = (Fault(Kind.GENERATION, prompt="scene b"),)
    with service(monkeypatch, Settings(run_s=(0.1, 0.2), cost_stated=stated, faults=faults)):
        write("jobs.csv", rows("a", "b", "c"))
        done = call(
            "run", "jobs.csv", "-y", "--db", "b.db", "--retries", "0", "--poll-interval", "0.02"
        )

    lines = re.findall(r"^\d+ s: .*", done.err, re.MULTILINE)
    assert re.search(
        r"^0 s: 0/3 done, 3 of 4 in flight, \$0\.00 spent$", "\n".join(lines), re.MULTILINE
    )
    assert re.search(money, lines[-1])
    assert "; last: jobs/b: failed (generation): " in "\n".join(lines)
    told = [re.sub(r"^\d+ s: |, [^,]* a minute|, about [^,]* left", "", line) for line in lines]
    assert not any(one == other for one, other in itertools.pairwise(told)), "nothing had changed"


@pytest.mark.usefixtures("hurried")
def test_json_lines_hold_the_documented_fields_and_end_with_the_last_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch):
        write("jobs.csv", rows("a", "b"))
        done = call(
            "run",
            "jobs.csv",
            "-y",
            "--db",
            "b.db",
            "--json",
            "--progress",
            "json",
            "--poll-interval",
            "0",
        )

    found: list[dict[str, Any]] = [
        json.loads(line) for line in done.err.splitlines() if line.startswith("{")
    ]
    last = found[-1]
    for one in found:
        fits("progress", one)
    assert {one["kind"] for one in found} == {"progress"}
    assert (last["total"], last["done"], last["succeeded"], last["in_flight"]) == (2, 2, 2, 0)
    assert (last["session_spent_usd"], last["in_the_way"], last["problems"]) == (0.5, [], [])
    assert last["received_bytes"] > 0
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    _, _, table = text.partition("<!-- checked: the fields are those of `--progress json` -->")
    documented = [
        name
        for line in table.partition("\n## ")[0].splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    ]
    assert sorted(last) == sorted(documented)


@pytest.mark.parametrize("options", [("-q",), ("--json",), ("--progress", "none")])
def test_nothing_is_told_where_nobody_wants_it(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    with service(monkeypatch):
        write("jobs.csv", rows("a"))
        done = ok("run", "jobs.csv", "-y", "--db", "b.db", *options)

    assert " done, " not in done.err


def test_download_tells_its_progress_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        write("jobs.csv", rows("a", "b"))
        bought = ok(
            "run", "jobs.csv", "-y", "--db", "b.db", "--no-download", "--poll-interval", "0"
        )
        done = ok("download", "--db", "b.db", "--progress", "json")

    assert "\nnext: `batchgen download --db b.db` fetches 2 clips\n" in bought.err
    last = json.loads([line for line in done.err.splitlines() if line.startswith("{")][-1])
    assert (last["done"], last["total"], last["spent_usd"]) == (2, 2, None)
    assert "2 of 2 clips on disk, in " in done.err


def test_the_end_says_what_failed_by_cause_and_what_to_type(place: Place) -> None:
    place.set_faults(
        Fault(Kind.GENERATION, prompt="scene 001"),
        Fault(Kind.GENERATION, prompt="scene 002"),
        Fault(Kind.GENERATION, prompt="scene 003", code="SAFETY.INPUT.TEXT"),
        Fault(Kind.DROP_AFTER, prompt="scene 004"),
    )
    place.write(rows_of(6))

    done = place.run("jobs.csv", "--retries", "0", "-q")

    *_, said = done.err.partition("2 succeeded, ")
    lines = said.splitlines()
    assert done.code == 10
    assert lines[0].startswith("3 failed, 1 in doubt; ")
    assert lines[1].startswith("  2 failed (generation): ")
    assert lines[1].endswith(" (the first jobs/c1)")
    assert lines[2].startswith("  1 failed (moderation): ")
    assert re.match(r"took \d+ s, [\d.,]+ clips a minute$", lines[4])
    assert re.match(r"\$\d\.\d\d spent in this run \(about \$1\.50 was estimated\), ", lines[5])
    assert [line.split("`")[1] for line in lines if line.startswith("next: ")] == [
        f"batchgen {words} --db {place.db}"
        for words in (
            "reconcile --list",
            "ls --state failed",
            "retry --where 'state=failed and class in (generation, unknown)' --batch jobs",
        )
    ]
