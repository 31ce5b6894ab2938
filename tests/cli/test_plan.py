"""`batchgen plan`: like a diff, job by job, and nothing is touched."""

import re
from pathlib import Path
from typing import Any

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write

from batchgen.providers.simulator import Fault, Kind, Settings


def test_without_a_job_database_everything_is_new_and_none_is_made() -> None:
    done = ok("plan", write("jobs.csv", rows("a", "b")))

    assert "+ a  new  $0.25  (jobs.csv:2)" in done.out.splitlines()
    assert "  2 jobs to pay for: about $0.50" in done.out
    assert [path.name for path in Path.cwd().iterdir()] == ["jobs.csv"]


def test_each_job_is_told_with_what_would_become_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Fault(Kind.GENERATION, prompt="scene broken", code="ASSET.INVALID")
    with service(monkeypatch, Settings(faults=(broken,))):
        buy("made", "kept", "broken", expect=3)
    ok("add", write("jobs.csv", rows("made", "kept", "broken", "waits", "gone", "edited")))
    wanted = rows("made", "kept", "broken", "waits", "edited", "new")
    for row in wanted:
        if row["id"] in ("made", "broken", "edited"):
            row["prompt"] = f"another {row['id']}"
    write("jobs.csv", wanted)
    before = Path("batchgen.db").read_bytes()

    told = ok("plan", "jobs.csv").out
    everything = ok("plan", "jobs.csv", "--all").out
    again = ok("plan", "jobs.csv", "--replace", "--prune").out

    # What the finished ones cost; the broken one was not charged, and makes no clip cheaper.
    lines = [line for line in told.splitlines() if re.match(r"[^ ] ", line)]
    assert lines == [
        "! made  succeeded with other inputs: left alone, --replace buys it again  (jobs.csv:2)",
        "± broken  failed, and its inputs have changed: it is bought again  $0.25  (jobs.csv:4)",
        "= waits  waits, not paid for yet  $0.25  (jobs.csv:5)",
        "~ edited  waits, and takes the new inputs  $0.25  (jobs.csv:6)",
        "+ new  new  $0.25  (jobs.csv:7)",
        "- gone  gone from the manifest: waits, and is not run; `add --prune` cancels it",
    ]
    assert '    promptText: "scene edited " → "another edited"' in told.splitlines()
    assert "4 jobs to pay for: about $1.00" in told
    assert "= kept  succeeded  (jobs.csv:3)" in everything
    assert "± made  succeeded, and --replace buys version 2  $0.25  (jobs.csv:2)" in again
    assert "- gone  gone from the manifest: cancelled (--prune)" in again
    assert Path("batchgen.db").read_bytes() == before


def test_a_budget_that_the_manifest_would_set_back_is_shown_as_a_change() -> None:
    """`set budget` holds until a manifest with a budget of its own is stored again."""
    job = "jobs:\n  - {id: a, image: 'https://images.example.com/a.jpg'}\n"
    Path("night.yaml").write_text(f"budget: 5\n{job}")

    def told(*flags: str) -> list[str]:
        lines = ok("plan", "night.yaml", *flags).out.splitlines()
        return [line.strip() for line in lines if "budget of the batch" in line]

    new = told()
    ok("add", "night.yaml")
    same = told()
    ok("set", "budget", "20")
    back, kept = told(), told("--budget", "20")
    ok("set", "budget", "none")
    bounded = told()

    assert new == same == ["budget of the batch $5.00"]
    assert back == ["budget of the batch $20.00 → $5.00"]
    assert kept == ["budget of the batch $20.00"]
    assert bounded == ["budget of the batch none → $5.00"]


def test_a_manifest_of_several_models_is_told_which_of_them_is_in_the_way() -> None:
    seedance, kling = (
        "bytedance/seedance-2.5/image-to-video/720p",
        "kling/kling-3.0/pro/image-to-video",
    )
    job = "prompt: x, image: 'https://images.example.com/a.jpg'}\n"
    first = f"jobs:\n  - {{id: a, {job}"
    Path("key.yaml").write_text(
        f"defaults: {{ratio: '1280:720'}}\n{first}  - {{id: b, model: {seedance}, {job}"
    )
    Path("price.yaml").write_text(f"budget: 5\n{first}  - {{id: b, model: {kling}, {job}")

    key, price = call("plan", "key.yaml"), call("plan", "price.yaml")

    assert (key.code, price.code) == (5, 2)
    assert f"key.yaml:1: ratio: unknown key: the inputs of {seedance} are image, " in key.err
    assert f"that of {kling} is not known: put its jobs in a manifest without" in price.err


def test_a_plan_as_data(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        buy("made")
    table = [{**rows("made")[0], "duration": "10"}, *rows("new")]
    write("jobs.csv", table)

    [plan] = ok("plan", "jobs.csv", "--json").said["manifests"]

    made, new = plan["items"]
    assert (plan["counts"]["left"], plan["counts"]["new"], plan["to_pay"]) == (1, 1, 1)
    assert made["changes"] == [{"input": "duration", "old": None, "new": 10}]
    assert (made["verdict"], made["is_bought"], made["estimate_usd"]) == ("left", False, None)
    assert (new["verdict"], new["is_bought"], new["estimate_usd"], new["line"]) == (
        "new",
        True,
        0.25,
        3,
    )


def test_a_signature_is_not_shown() -> None:
    def signed(signature: str) -> list[dict[str, str]]:
        url = f"https://b.s3.amazonaws.com/a.jpg?X-Amz-Signature={signature}&X-Amz-Expires=60"
        return [{"id": "a", "prompt": "p", "image": url}]

    ok("add", write("jobs.csv", signed("old-secret")))
    write("jobs.csv", signed("new-secret"))

    told = ok("plan", "jobs.csv").out + ok("plan", "jobs.csv", "--json").out

    assert "~ a  waits" in told
    assert "secret" not in told


def test_a_drawn_seed_is_no_change() -> None:
    table = [{**rows("a")[0], "repeat": "2"}]
    ok("add", write("jobs.csv", table))
    table[0]["prompt"] = "another"
    write("jobs.csv", table)

    items: list[dict[str, Any]] = ok("plan", "jobs.csv", "--json").said["manifests"][0]["items"]

    assert [[change["input"] for change in item["changes"]] for item in items] == [
        ["promptText"],
        ["promptText"],
    ]


def test_prune_cancels_what_is_gone_and_nothing_else() -> None:
    ok("add", write("jobs.csv", rows("a", "b", "c")))
    write("jobs.csv", rows("b"))

    assert "2 jobs waiting but gone from the file: not run" in ok("add", "jobs.csv").out
    assert states() == {"b": "pending", "a": "pending", "c": "pending"}
    assert "cancelled (--prune)" in ok("add", "jobs.csv", "--prune", "-n").out
    assert states()["a"] == "pending"
    assert "cancelled (--prune)" in ok("add", "jobs.csv", "--prune").out

    assert states() == {"b": "pending", "a": "cancelled", "c": "cancelled"}


def test_a_fault_is_told_as_everywhere() -> None:
    done = call("plan", write("jobs.csv", [{**rows("a")[0], "duration": "7"}]))

    assert done.code == 5
    assert "jobs.csv:2: duration" in done.err


def test_a_long_text_is_shown_where_it_differs() -> None:
    long = "A very long opening sentence about the harbor at dawn, with gulls and ropes, " * 2
    ok("add", write("jobs.csv", rows("a", prompt=f"{long} in fog")))
    write("jobs.csv", rows("a", prompt=f"{long} in rain"))

    [line] = [line for line in ok("plan", "jobs.csv").out.splitlines() if " → " in line[:140]][1:]

    old, new = line.split(" → ")
    assert old.endswith('in fog"')
    assert new.endswith('in rain"')


def test_columns_that_are_not_sent_are_named() -> None:
    table = [{**row, "aspect": "9:16", "client": "acme"} for row in rows("a")]

    assert "carried along, not sent: aspect, client" in ok("plan", write("jobs.csv", table)).out
    assert "not sent" not in ok("plan", write("other.csv", rows("b"))).out


def test_another_file_of_the_same_batch_is_told() -> None:
    ok("add", write("jobs.csv", rows("a", "b")))
    Path("other").mkdir()

    told = ok("plan", write("other/jobs.csv", rows("c"))).out

    assert f"until now this batch came from {Path('jobs.csv').resolve()}" in told


def test_a_model_of_ones_own_is_known() -> None:
    model = "id: me/mine\nprovider: runcomfy\nschema: {properties: {words: {type: string}}}\n"
    Path("mine.yaml").write_text(model)
    ok("models", "add", "mine.yaml")

    told = ok("plan", write("jobs.csv", [{"words": "x", "model": "me/mine"}])).out

    assert "1 job to pay for: the price is unknown" in told


def test_a_version_that_is_bought_again_makes_no_job_dearer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch):
        buy("a")
        for take in range(3):
            jobs = write("jobs.csv", rows("a", prompt=f"take {take}"))
            ok("run", jobs, "-y", "--replace", "--poll-interval", "0")
    write("jobs.csv", [*rows("a", prompt="take 2"), *rows("b")])

    assert "+ b  new  $0.25" in ok("plan", "jobs.csv").out


def test_results_are_not_written_over_edits_that_they_would_not_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch):
        buy("a")
        ok("export", "-o", "results.csv")
        edited = Path("results.csv").read_text().replace("scene a", "quite another scene")
        Path("results.csv").write_text(edited)

        refused = call("run", "results.csv", "-y", "-o", "results.csv")

        assert refused.code == 2
        assert "--replace" in refused.err
        assert Path("results.csv").read_text() == edited
        ok("run", "results.csv", "-y", "--replace", "-o", "results.csv", "--poll-interval", "0")
    assert "quite another scene" in Path("results.csv").read_text()
