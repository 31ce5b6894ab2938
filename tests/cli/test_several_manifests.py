"""Several manifests in one command, all of one batch."""

from pathlib import Path

import pytest
from cli.bought import service
from cli.commands import call, ok, rows, states, write

KLING = "kling/kling-2-1/pro/image-to-video"


def yaml(name: str, *, model: str = "", ids: str = "a") -> str:
    head = f"model: {model}\n" if model else ""
    jobs = "".join(
        f"- {{id: {one}, prompt: scene {one}, image: https://images.example.com/{one}.jpg}}\n"
        for one in ids
    )
    Path(name).write_text(f"{head}jobs:\n{jobs}")
    return name


def test_a_later_one_takes_the_model_that_the_first_gave_the_batch() -> None:
    first, second = yaml("a.yaml", model=KLING), write("b.csv", rows("b"))

    shown = ok("plan", first, second, "--batch", "x", "--json").said["manifests"]
    ok("add", first, second, "--batch", "x")

    assert [list(one["models"]) for one in shown] == [[KLING], [KLING]]
    assert [job["model"] for job in ok("ls", "--json").said["jobs"]] == [KLING, KLING]


def test_an_id_that_two_of_them_have_is_a_fault() -> None:
    first = write("a.csv", rows("a", "b"))
    second = write("b.csv", rows("c", "b", prompt="another"))

    for command in ("validate", "plan", "add"):
        done = call(command, first, second, "--batch", "x")

        assert done.code == 5
        assert "b.csv:3: id: b is already in a.csv:3" in done.err
    assert not Path("batchgen.db").exists()


def test_all_are_stored_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    first = yaml("a.yaml", model=KLING)
    second = write("c.csv", [{**rows("c")[0], "seeds": "1,2"}])

    for command in ("validate", "add"):
        done = call(command, first, second, "--batch", "x")
        assert done.code == 5
        assert "takes no seed" in done.err
    assert not Path("batchgen.db").exists()


def test_prune_cancels_what_is_gone_from_all_of_them() -> None:
    ok("add", write("old.csv", rows("gone", "a1")), "--batch", "x")
    first, second = write("a.csv", rows("a1", "a2")), write("b.csv", rows("b1"))

    ok("add", first, second, "--batch", "x", "--prune")

    assert states() == {"a1": "pending", "a2": "pending", "b1": "pending", "gone": "cancelled"}


def test_a_run_pays_for_the_jobs_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = write("a.csv", rows("a1", "a2")), write("b.csv", rows("b1", "b2"))
    with service(monkeypatch) as handle:
        line = ("run", first, second, "--batch", "x", "-y", "--db", "x.db", "--poll-interval", "0")
        ok(*line)
        ok(*line, "--replace")

        assert handle.counters.accepted == 4
