"""What a job was checked against stays with its batch, whatever becomes of the model's file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.commands import call, ok
from cli.test_models import service

from batchgen.providers.simulator import Catalog, Fault, Handle, Kind, Settings

NAME = "me/mine"
FAST = ("-y", "--poll-interval", "0")


def schema(**changes: Any) -> dict[str, Any]:
    """A model's inputs; `changes` replace some."""
    properties = {
        "text": {"type": "string"},
        "pic": {"type": "string", "format": "image_uri"},
        "duration": {"type": "integer", "default": 5},
        "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "seed": {"type": "integer", "minimum": -1, "maximum": 5},
    }
    kept = {name: said for name, said in {**properties, **changes}.items() if said is not None}
    required = [name for name in ("pic", "picture") if name in kept]
    return {"type": "object", "required": required, "properties": kept}


def model(said: dict[str, Any], **facts: Any) -> dict[str, Any]:
    price = {"usd": "0.10", "unit": "second", "basis": "a guess"}
    return {"id": NAME, "provider": "runcomfy", "price": price, **facts, "schema": said}


def yours(said: dict[str, Any], **facts: Any) -> Path:
    Path("model.json").write_text(json.dumps(model(said, **facts)))
    return Path(ok("models", "add", "model.json", "--overwrite", "--json").said["file"])


def fetched(said: dict[str, Any], **_: Any) -> Path:
    """What a service of another state of its catalog said, where it is kept."""
    place = Path(ok("models", "list", "--json", NAME).said["models"][0]["file"])
    kept = json.loads(place.read_text())
    place.write_text(json.dumps({**kept, "schema": said, "aliases": {}, "media": {}}))
    return place


CHANGED = schema(
    duration={"type": "integer", "default": 10},
    mode={"type": "string", "enum": ["b", "c"], "default": "b"},
    pic=None,
    picture={"type": "string", "format": "image_uri"},
    seed={"type": "integer", "minimum": 100, "maximum": 200},
)
"""The same model later: other defaults, other names, other bounds."""

ROWS = """\
id,prompt,image,duration,mode,repeat,seeds,model
one,a fox,https://i.example.com/a.jpg,5,a,,,me/mine
two,a heron,https://i.example.com/b.jpg,,b,2,,me/mine
,an owl,https://i.example.com/c.jpg,10,,,"1, -1",me/mine
,an owl,https://i.example.com/c.jpg,5,a,,,me/mine
"""


def entries() -> Catalog:
    return Catalog([{"model_id": NAME, "display_name": NAME, "input_schema": schema()}])


def stored() -> list[tuple[Any, ...]]:
    jobs = ok("export", "-o", "-").out.splitlines()
    return [tuple(line.split(",")[:20]) for line in jobs]


Keep = Callable[..., Path]


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_DB", "kept.db")


@pytest.fixture(params=[yours, fetched])
def keep(request: pytest.FixtureRequest) -> Keep:
    """How the model came to be known, and changes."""
    found: Keep = request.param
    return found


def know(keep: Keep) -> None:
    if keep is yours:
        yours(schema())
    else:
        ok("models", "fetch", NAME)


def bought(handle: Handle) -> list[dict[str, Any]]:
    return [dict(one.inputs) for one in handle.ledger.entries]


def test_a_later_model_changes_no_job_and_buys_nothing_again(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("m.csv").write_text(ROWS)
    with service(monkeypatch, entries(), Settings()) as handle:
        know(keep)
        ok("run", "m.csv", *FAST)
        before, first = stored(), bought(handle)
        keep(CHANGED, aliases={"prompt": "text", "image": "picture"})
        said = ok("add", "m.csv", "--json").said
        ok("run", "m.csv", *FAST, "--replace")

        assert len(first) == 6
        assert bought(handle) == first
        assert stored() == before
        [counts] = [one["counts"] for one in said["manifests"]]
        assert {name: count for name, count in counts.items() if count} == {"unchanged": 6}
        # A new batch of the same rows means what the model says now.
        new = call("add", "m.csv", "--batch", "other", "--new-batch")
    assert new.code == 5
    assert "mode: a is not one of b, c" in new.err


def test_a_batch_whose_model_is_gone_is_run_added_and_exported(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("m.csv").write_text(ROWS)
    with service(monkeypatch, entries(), Settings()) as handle:
        know(keep)
        ok("add", "m.csv", "--budget", "50")
        Path(ok("models", "list", "--json", NAME).said["models"][0]["file"]).unlink()
        ok("run", *FAST)
        ok("run", "m.csv", *FAST)
        ok("export", "-o", "out.csv")
        ok("run", "out.csv", *FAST)
        more = "five,a hare,https://i.example.com/d.jpg,5,,,,me/mine\n"
        Path("m.csv").write_text(ROWS + more)
        ok("run", "m.csv", *FAST)

        assert len(bought(handle)) == 7
        drawn = [one["seed"] for one in bought(handle) if one["text"] == "a heron"]
        assert len(drawn) == 2
        assert all(0 <= seed <= 5 for seed in drawn)
    assert call("models", "show", NAME).code == 2


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "changed"])
def test_a_retry_with_a_new_seed_keeps_the_bounds_of_its_batch(
    keep: Keep, is_gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("m.csv").write_text(
        "prompt,image,seed,model\na fox,https://i.example.com/a.jpg,3,me/mine\n"
    )
    faults = (Fault(Kind.GENERATION, code="INTERNAL", times=1),)
    with service(monkeypatch, entries(), Settings(faults=faults)) as handle:
        know(keep)
        ok("add", "m.csv")
        if is_gone:
            Path(ok("models", "list", "--json", NAME).said["models"][0]["file"]).unlink()
        else:
            keep(CHANGED)
        ok("run", *FAST, "--retries", "1", "--new-seed-on-retry")

        first, second = (one["seed"] for one in bought(handle))
    assert first == 3
    assert 0 <= second <= 5
    assert second != 3
