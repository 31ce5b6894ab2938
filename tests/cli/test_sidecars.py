"""Sidecars: what is beside a clip is enough to make it again."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli.bought import service
from cli.commands import call, ok, rows, write
from runs import IMAGE, fits

from batchgen.providers.simulator import Fault, Kind, Settings

SIGNED = f"{IMAGE}?X-Amz-Signature=0123456789abcdef&X-Amz-Date=1"


def run(*words: str, expect: int = 0) -> str:
    done = call("run", *words, "-y", "--db", "batchgen.db", "--poll-interval", "0")
    assert done.code == expect, done.err
    return done.err


def sidecar(clip: str) -> dict[str, Any]:
    said = json.loads(Path(f"{clip}.json").read_text(encoding="utf-8"))
    assert isinstance(said, dict)
    fits("sidecar", said)
    assert said["sha256"] == hashlib.sha256(Path(clip).read_bytes()).hexdigest()
    assert said["size_bytes"] == Path(clip).stat().st_size
    return said


def files() -> list[str]:
    return sorted(str(path) for path in Path("clips").rglob("*") if path.is_file())


def jobs(*fields: str) -> list[list[Any]]:
    lines = ok("export", "-o", "-", "--format", "jsonl").out.splitlines()
    return [[json.loads(line)[field] for field in fields] for line in lines]


def test_a_sidecar_tells_all_that_made_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**rows("a")[0], "image": SIGNED, "duration": "10", "seeds": "7", "Shot": "12a"}
    with service(monkeypatch):
        run(write("jobs.csv", [row]), "--sidecar")

    [[key, request_id, file]] = jobs("result_key", "result_request_id", "result_file")
    said = sidecar(file)

    assert files() == [file, f"{file}.json"]
    assert said["schema"] == "batchgen/sidecar/1"
    assert (said["batch"], said["id"], said["variant"], said["key"]) == ("jobs", "a", "7", key)
    assert (said["version"], said["seed"], said["request_id"]) == (1, 7, request_id)
    assert said["file"] == "a-7.mp4"
    assert said["prompt"] == row["prompt"]
    assert said["inputs"] == {
        "promptText": row["prompt"],
        "promptImage": IMAGE,
        "duration": 10,
        "seed": 7,
    }
    assert said["columns"] == {**row, "image": IMAGE}
    assert (said["cost_usd"], said["stated_cost_usd"], said["cost_is_estimate"]) == (
        0.5,
        0.5,
        False,
    )
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["generated_at"])
    assert "0123456789abcdef" not in Path(f"{file}.json").read_text()


def test_its_manifest_asks_for_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    image = f"{IMAGE}?w=1280"
    Path("jobs.yaml").write_text(
        f"""
batch: night
jobs:
  - matrix: {{subject: [a fox], duration: [5]}}
    prompt: "{{{{ subject }}}} at https://example.com/?a=1"
    image: {image}
    duration: "{{{{ duration }}}}"
    meta: {{client: acme, id: 5, "input.seed": x}}
"""
    )
    with service(monkeypatch):
        run("jobs.yaml", "--sidecar")
        [[file]] = jobs("result_file")
        said = sidecar(file)["manifest"]
        Path("again.jsonl").write_text(json.dumps(said) + "\n")

        held = call("run", "again.jsonl", "-n")
        run("again.jsonl", "--new-batch", "--sidecar")

    assert said["input.promptText"] == "a fox at https://example.com/?a=1"
    assert said["input.promptImage"] == image
    assert (said["client"], said["meta.id"], said["meta.duration"]) == ("acme", 5, 5)
    assert held.code == 5
    assert "every row has the inputs of a job that has been paid for in batch night" in held.err
    first, second = jobs("result_file", "client")
    assert sidecar(first[0])["inputs"] == sidecar(second[0])["inputs"]
    assert sidecar(second[0])["manifest"] == said
    assert second[1] == "acme"


def test_outputs_and_versions_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(output="videos", outputs=2)):
        run(write("jobs.csv", rows("a")), "--sidecar")
        run(write("jobs.csv", rows("a", prompt="other")), "--sidecar", "--replace")

    names = ["a-2.mp4", "a-v2-2.mp4", "a-v2.mp4", "a.mp4"]
    assert files() == sorted(f"clips/jobs/{name}{end}" for name in names for end in ("", ".json"))
    for name in names:
        said = sidecar(f"clips/jobs/{name}")
        assert (said["file"], said["outputs"]) == (name, 2)
        assert said["output"] == (2 if name.endswith("-2.mp4") else 1)
        assert said["version"] == (2 if "v2" in name else 1)
        assert ("other" in said["prompt"]) is ("v2" in name)


def test_missing_ones_are_written_for_clips_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        run(write("jobs.csv", rows("a", "b", "c")))
        monkeypatch.delenv("RUNCOMFY_TOKEN")
    assert len(files()) == 3
    Path("clips/jobs/c.mp4").unlink()

    one = ok("download", "b", "--sidecar", "--json").said["sidecars"]
    before = Path("clips/jobs/b.mp4.json").stat().st_ino
    done = ok("download", "--sidecar")

    assert one == {"written": 1, "missing": []}
    assert "1 sidecar written" in done.err
    assert [name for name in files() if name.endswith(".json")] == [
        "clips/jobs/a.mp4.json",
        "clips/jobs/b.mp4.json",
    ]
    assert Path("clips/jobs/b.mp4.json").stat().st_ino == before
    assert sidecar("clips/jobs/a.mp4")["id"] == "a"


def test_a_late_cost_is_in_the_sidecar_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(Fault(Kind.COST_LATE, count=2),))):
        run(write("jobs.csv", rows("a")), "--sidecar")

    said = sidecar("clips/jobs/a.mp4")
    assert (said["cost_usd"], said["cost_is_estimate"]) == (0.25, False)


def test_a_strangers_file_stays_and_the_clip_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("clips/jobs")
    folder.mkdir(parents=True)
    (folder / "a.mp4.json").write_text("mine")
    (folder / "b.mp4.json").symlink_to("elsewhere.json")
    with service(monkeypatch) as handle:
        said = run(write("jobs.csv", rows("a", "b", "c")), "--sidecar")

        assert len(handle.ledger.entries) == 3
        assert "no sidecar beside 2 clips: `batchgen download --sidecar --db batchgen.db`" in said
        done = call("download", "--sidecar")

        assert len(handle.ledger.entries) == 3

    assert done.code == 3
    assert "no sidecar: jobs/a: jobs/a.mp4.json: a file of this name is there already" in done.err
    assert (folder / "a.mp4.json").read_text() == "mine"
    assert (folder / "b.mp4.json").is_symlink()
    assert not (folder / "elsewhere.json").exists()
    assert [state for [state] in jobs("result_state")] == ["succeeded"] * 3
    assert sidecar("clips/jobs/c.mp4")["id"] == "c"
    (folder / "a.mp4.json").unlink()
    (folder / "b.mp4.json").unlink()
    assert "2 sidecars written" in ok("download", "--sidecar").err


def test_one_that_cannot_be_written_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> bool:
        raise OSError(28, "No space left on device")

    with service(monkeypatch) as handle:
        with monkeypatch.context() as patched:
            patched.setattr("batchgen.downloads.folder.Part.publish_over", wrapped(full))
            said = run(write("jobs.csv", rows("a")), "--sidecar")
            done = call("download", "--sidecar")

        assert len(handle.ledger.entries) == 1

    assert "no sidecar beside 1 clip" in said
    assert done.code == 13
    assert "No space left on device" in done.err
    assert files() == ["clips/jobs/a.mp4"]  # no temporary file either
    assert "1 sidecar written" in ok("download", "--sidecar").err


def wrapped(failing: Any) -> Any:
    from batchgen.downloads import folder

    def publish_over(part: Any, is_ours: Any) -> bool:
        with folder._output_errors(part._target):
            return bool(failing(is_ours))

    return publish_over


def test_without_downloads_there_is_none() -> None:
    done = call("run", write("jobs.csv", rows("a")), "--sidecar", "--no-download", "-y")

    assert done.code == 2
    assert "--sidecar with --no-download would do nothing" in done.err
