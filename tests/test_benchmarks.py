"""Each benchmark does its work at the smallest size; how fast is nobody's business here."""

import importlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import installing
import pytest
from measuring import Cost, Missing, checked_base, ratio, report, table

SMALLEST = {
    "overhead": (
        ["--jobs", "3", "--caps", "2", "3", "--only", "loop, plain httpx"],
        ["3 jobs", r"\| batchgen \|", r"\| loop, plain httpx \|.*x.*≥ 4 x", "at cap 3 is .* cap 2"],
    ),
    "polling": (["--jobs", "53", "--median", "0.02"], [r"\| batchgen \| 3 \|", "lag ≤ 0.04"]),
    "expand": (
        ["--rows", "40"],
        [r"\| batchgen add \|", r"\| batchgen add, again \|", "no event for .* s at most"],
    ),
    "status": (["--rows", "20"], [r"`batchgen status`", r"`batchgen --help`.*≤ 0.2 s"]),
    "export": (["--rows", "20"], [r"`batchgen export`", "beside a tenth of the jobs"]),
    "resume": (
        ["--rows", "20", "--running", "3"],
        [r"first look after a restart", "claim of one job", "3 running"],
    ),
    "in_flight": (
        ["--jobs", "5", "--run-s", "0.2"],
        [r"most in flight at once \| [1-5] ", "longest turn of the loop"],
    ),
    "fetching": (
        ["--files", "2", "--mb", "0.01"],
        [
            r"\| batchgen download \|",
            r"\| batchgen download, 16 at a time \|",
            "CPU s per GB",
            "2 files of 0.01 MB",
            "nothing left to fetch",
            r"\| with downloads \| [0-9.]+ \|.*\n\| without \| [0-9.]+ \|",
        ],
    ),
    "growth": (
        ["--jobs", "2", "--caps", "2", "--sizes", "20"],
        [r"of cap 2", r"\| 20 \|", "claim of one"],
    ),
}


EXECUTE = subprocess.Popen


def popen(command: Sequence[str], **options: Any) -> "forked.Popen | subprocess.Popen[Any]":
    """Start a Python program, or another one such as curl."""
    start = forked.Popen if command[0] == sys.executable else EXECUTE
    return start(command, **options)


def missing() -> Path:
    raise Missing("no network in tests")


@pytest.mark.parametrize("script", SMALLEST)
def test_a_benchmark_writes_its_section(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, said = SMALLEST[script]
    results = tmp_path / "results.md"
    results.write_text("# Results\n\nKept.\n")
    monkeypatch.setattr(installing, "environment", missing)
    # Seventy times batchgen or its service, whose start-up is nobody's business here either.
    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(sys, "argv", [script, "--quick", "--results", str(results), *options])
    module = importlib.import_module(script)

    module.main()

    section = results.read_text()
    assert section.startswith(f"# Results\n\nKept.\n\n## {module.TITLE}\n")
    assert re.search(r"\d{4}-\d\d-\d\d; \d+ cores, \d+ GiB, .*Python 3.*, SQLite 3", section)
    for pattern in said:
        assert re.search(pattern, section), f"{pattern} is not in\n{section}"


def test_every_script_is_run_by_one_command_and_named_in_its_page() -> None:
    scripts = importlib.import_module("run").SCRIPTS
    page = (Path(installing.__file__).parent / "README.md").read_text()

    assert set(scripts) == set(SMALLEST)
    assert [name for name in scripts if f"`{name}.py`" not in page] == []


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    results = tmp_path / "results.md"
    for title, text in (("One", "first"), ("Two", "kept"), ("One", r"second \1")):
        report(title, text, results=results)

    written = results.read_text()
    assert "first" not in written
    assert written.index(r"second \1") < written.index("kept")
    assert written.count("## ") == 2


def test_ratios_are_of_the_same_rounds() -> None:
    quiet, noisy = Cost(1.0, 1.0, 1.0, work=10), Cost(10.0, 1.0, 1.0, work=10)
    ours, theirs = [quiet, noisy, quiet], [quiet, noisy, noisy]

    assert ratio(ours, theirs) == 1.0
    assert ratio(theirs, ours, lambda cost: cost.rate_of_cpu) == 1.0
    assert table(["", "s"], [["a", 1]]) == "| | s |\n| --- | --- |\n| a | 1 |"


def test_nothing_is_bought_from_a_service_elsewhere() -> None:
    assert checked_base("http://127.0.0.1:80/v1/") == "http://127.0.0.1:80/v1"
    with pytest.raises(Exception, match="all is bought"):
        checked_base("https://model-api.example.com/v1")
