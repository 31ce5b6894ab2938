"""Any batch, whatever became of it, exported and lost: the rebuilt one is it, and pays nothing."""

import contextlib
import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.bought import service
from cli.commands import call, ok
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from runs import IMAGE

from batchgen.providers.simulator import Fault, Handle, Kind, Settings

FAULTS = (
    Fault(Kind.GENERATION, prompt="refused", code="SAFETY.INPUT.TEXT"),
    Fault(Kind.GENERATION, prompt="flaky", code="INTERNAL", times=1),
    Fault(Kind.DROP_AFTER, prompt="silent"),
    Fault(Kind.INVALID, prompt="wrong"),
    Fault(Kind.CANCELLED, prompt="stopped"),
)
WORDS = ("fine", "fine", "refused", "silent", "wrong", "stopped")
# More slots than requests that can be in doubt: each keeps one for ten minutes.
FAST = ("-q", "-y", "--poll-interval", "0", "--no-log", "--no-inhibit", "-j", "64")
RETRIED = (
    "night.csv",
    f"id,prompt,image,repeat\na,flaky,{IMAGE},2\n,fine,{IMAGE},\n,fine,{IMAGE},\n",
)
SLOW: Any = {
    "deadline": None,
    "phases": [Phase.explicit, Phase.generate],  # a smaller one would take minutes to find
    "suppress_health_check": [HealthCheck.too_slow],
}
BY_DESIGN = {"result_cost_usd", "result_run_s", "result_state"}
"""What a CSV does not tell of a clip that waits for its download: it is looked at again."""


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """One entry of a YAML manifest."""
    number = draw(st.integers(1, 3))
    entry: dict[str, Any] = {"prompt": f"{draw(st.sampled_from(WORDS))} {number}", "image": IMAGE}
    if draw(st.booleans()):
        entry["meta"] = {"client": draw(st.sampled_from(["=A1", "acme", "'quoted", "5"]))}
    kind = draw(st.sampled_from(["", "", "seeds", "repeat", "matrix", "seed"]))
    if kind == "seeds":
        entry["seeds"] = [3, 7]
    elif kind == "repeat":
        entry["repeat"] = 2
    elif kind == "seed":
        entry["seed"] = number
    elif kind == "matrix":
        entry["matrix"] = {"move": ["left", "right"]}
        entry["prompt"] += " {{ move }}"
    return entry


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, str]:
    """A manifest: its name and its text."""
    found = draw(st.lists(entries(), min_size=1, max_size=4))
    for number, entry in enumerate(found):
        if "matrix" not in entry and draw(st.booleans()):
            entry["id"] = f"row{number}"
    if draw(st.booleans()):
        return "night.yaml", yaml.safe_dump({"batch": "night", "jobs": found}, sort_keys=False)
    columns = ["id", "prompt", "image", "seed", "seeds", "repeat", "client"]
    lines = []
    for entry in found:
        flat = {**entry, **entry.get("meta", {}), "prompt": entry["prompt"].partition(" {{")[0]}
        flat["seeds"] = ", ".join(map(str, entry.get("seeds", []))) or None
        lines.append([flat.get(name, "") for name in columns])
    text = "\n".join(",".join(_quoted(cell) for cell in line) for line in [columns, *lines])
    return "night.csv", text + "\n"


def _quoted(cell: Any) -> str:
    return "" if cell in (None, "") else f'"{cell}"'


@contextlib.contextmanager
def place(manifest: tuple[str, str]) -> Iterator[Handle]:
    """A folder of its own with a manifest, and a service where things go wrong."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        pytest.MonkeyPatch.context() as patch,
        service(patch, Settings(faults=FAULTS)) as handle,
    ):
        patch.setenv("XDG_STATE_HOME", f"{folder}/state")
        Path(manifest[0]).write_text(manifest[1], encoding="utf-8")
        yield handle


def table(name: str) -> list[dict[str, Any]]:
    """Return the rows of an export."""
    if name.endswith(".jsonl"):
        lines = Path(name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    with Path(name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def without(row: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def expected(rows: list[dict[str, Any]], *, is_csv: bool) -> list[dict[str, Any]]:
    """Return what the export of the rebuilt job database must say."""
    return [
        without(row, BY_DESIGN) | {"result_state": "running"}
        if is_csv and row["result_state"] == "downloading"
        else row
        for row in rows
    ]


def found(rows: list[dict[str, Any]], like: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [without(row, set(row) - set(one)) for row, one in zip(rows, like, strict=True)]


def planned(manifest: str, db: str) -> int:
    """Return how many jobs a run would pay for."""
    [said] = ok("plan", manifest, "--db", db, "--json").said["manifests"]
    return int(said["to_pay"])


def totals(db: str) -> tuple[float, bool]:
    said = ok("status", "--json", "--db", db).said
    money = [(batch["spent_usd"], batch["reserved_usd"]) for batch in said["batches"]]
    return round(sum(spent + reserved for spent, reserved in money), 6), bool(money)


@settings(max_examples=10, **SLOW)
@example(manifest=RETRIED, kind=".csv", ends=())
@example(manifest=RETRIED, kind=".jsonl", ends=())
@given(
    manifest=batches(),
    kind=st.sampled_from([".csv", ".jsonl"]),
    ends=st.sampled_from([(), ("--limit", "2"), ("--no-download",)]),
)
def test_any_batch_is_rebuilt_as_it_was(
    manifest: tuple[str, str], kind: str, ends: tuple[str, ...]
) -> None:
    with place(manifest) as handle:
        call("run", manifest[0], "--db", "old.db", *FAST, *ends)
        ok("export", "--db", "old.db", "-o", f"one{kind}")
        told = table(f"one{kind}")
        to_pay = planned(manifest[0], "old.db")
        paid = len(handle.ledger.entries)

        ok("db", "rebuild", f"one{kind}", "--db", "new.db", "--no-journal")
        ok("export", "--db", "new.db", "-o", f"two{kind}")

        like = expected(told, is_csv=kind == ".csv")
        assert found(table(f"two{kind}"), like) == like
        assert ok("db", "check", "--db", "new.db").code == 0
        if kind == ".jsonl":
            assert totals("new.db") == totals("old.db")
        assert planned(manifest[0], "new.db") == to_pay

        handle.settings = replace(handle.settings, faults=())
        waiting = Counter(row["result_state"] for row in told)["pending"]
        for name in (manifest[0], f"one{kind}"):
            call("run", name, "--db", "new.db", *FAST)
            assert len(handle.ledger.entries) == paid + waiting


@settings(max_examples=6, **SLOW)
@given(
    manifest=batches(),
    kind=st.sampled_from([".csv", ".jsonl"]),
    limit=st.integers(0, 3),
)
def test_what_was_bought_after_the_export_is_taken_from_the_journal(
    manifest: tuple[str, str], kind: str, limit: int
) -> None:
    with place(manifest) as handle:
        call("run", manifest[0], "--db", "old.db", *FAST, "--limit", str(limit))
        ok("export", "--db", "old.db", "-o", f"one{kind}")
        call("run", manifest[0], "--db", "old.db", *FAST)
        paid = len(handle.ledger.entries)
        doubts = len(ok("reconcile", "--list", "--db", "old.db", "--json").said["in_doubt"])

        done = call("db", "rebuild", f"one{kind}", "--db", "new.db")
        if done.code == 2:  # the export tells of no request that would prove the journal
            assert "--journal FILE" in done.err
            [journal] = Path("state").rglob("purchases.jsonl")
            done = call("db", "rebuild", f"one{kind}", "--db", "new.db", "--journal", str(journal))
        assert done.code == 0, done.err

        handle.settings = replace(handle.settings, faults=())
        call("run", manifest[0], "--db", "new.db", *FAST)
        assert len(ok("reconcile", "--list", "--db", "new.db", "--json").said["in_doubt"]) == doubts
        bought = [row for row in table(f"one{kind}") if row["result_state"] == "pending"]
        unpaid = [row for row in bought if "wrong" in str(row["prompt"])]
        assert len(handle.ledger.entries) <= paid + len(unpaid)
