"""`models list|show|add|fetch`, against a stand-in that serves a catalog."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.commands import call, ok

from batchgen.cli.service import simulated_catalog
from batchgen.library.known_models import folders
from batchgen.manifests import DEFAULT_MODEL, load_models
from batchgen.providers import simulator
from batchgen.providers.runcomfy import DEFAULT_BASE
from batchgen.providers.simulator import Catalog, Handle, Settings

KLING = "kling/kling-3.0/pro/image-to-video"
FLUX = "blackforestlabs/flux-3/text-to-video"
TOKEN = "a-token-of-the-test"
MINE = """\
# A comment that stays.
id: me/mine
title: Mine
provider: runcomfy
price: {usd: "0.20", unit: output, basis: I know}
schema:
  properties:
    text: {type: string, maxLength: 50}
    img: {type: string, format: image_uri}
    seed: {type: integer, minimum: -1, maximum: 9}
  required: [img]
"""


@contextmanager
def service(
    monkeypatch: pytest.MonkeyPatch,
    catalog: Catalog | None = None,
    settings: Settings | None = None,
) -> Iterator[Handle]:
    """A stand-in with the catalog of the real one's size of a word."""
    settings = settings or Settings(token=TOKEN)
    made = catalog or simulated_catalog()
    with simulator.start_in_thread(settings, catalog=made) as handle:
        monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", handle.base)
        monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
        yield handle


def entry(name: str, **changes: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"prompt": {"type": "string"}}}
    said = {"model_id": name, "display_name": name, "input_schema": schema}
    return {**said, **changes}


def add_mine(text: str = MINE, *words: str) -> Path:
    path = Path("mine.yaml")
    path.write_text(text)
    return Path(ok("models", "add", str(path), "--json", *words).said["file"])


def listed(*words: str) -> dict[str, dict[str, Any]]:
    return {model["id"]: model for model in ok("models", "list", "--json", *words).said["models"]}


# -- list and show ---------------------------------------------------------------------------------


def test_every_shipped_model_is_listed_with_its_price_and_media() -> None:
    found = listed()
    lines = ok("models", "list").out.splitlines()

    assert list(found) == sorted(load_models())
    assert found[DEFAULT_MODEL]["price_usd"] == 0.05
    assert found[DEFAULT_MODEL]["media"] == {"promptImage": "image"}
    assert {model["from"] for model in found.values()} == {"shipped"}
    assert [line.split()[0] for line in lines[1:]] == list(found)
    [default] = [line for line in lines if line.startswith(DEFAULT_MODEL)]
    assert default.endswith("$0.05 a second (Runway's own list price; RunComfy's may differ)")
    [kling] = [line for line in lines if line.startswith(KLING)]
    assert kling.endswith("unknown")


def test_a_word_is_looked_for_in_ids_and_titles() -> None:
    assert set(listed("KLING")) == {name for name in load_models() if "kling" in name}
    assert set(listed("Wan 2.7")) == {"wan-ai/wan-2.7/image-to-video"}
    none = ok("models", "list", "nosuch")
    assert (none.out, "no model is called like nosuch" in none.err) == ("", True)


@pytest.mark.parametrize("name", list(load_models()))
def test_show_has_a_line_for_each_input(name: str) -> None:
    model = load_models()[name]

    said = ok("models", "show", name, "--json").said
    lines = ok("models", "show", name).out.splitlines()

    assert {one["name"] for one in said["inputs"]} == set(model.schema["properties"])
    assert said["schema"] == json.loads(json.dumps(model.schema))
    for one in said["inputs"]:
        assert [line for line in lines if line.split()[:1] == [one["name"]]]
        assert one["is_required"] == (one["name"] in model.schema["required"])
    assert ("takes no seed" in lines[-1]) == (model.seed is None)


def test_show_tells_values_defaults_and_what_media_must_be() -> None:
    out = ok("models", "show", DEFAULT_MODEL).out

    assert "one of 5, 10" in out
    assert "whole number, 0 to 4294967295" in out
    assert "an emoji counts 2" in out
    assert "promptImage: File size must be less than 16 MB." in out
    assert "image, image_url" in out


def test_a_model_that_is_nearly_known_is_suggested() -> None:
    done = call("models", "show", KLING[:-1])

    assert done.code == 2
    assert f"did you mean `{KLING}`?" in done.err
    assert f"`batchgen models fetch {KLING[:-1]}`" in done.err


# -- add -------------------------------------------------------------------------------------------


def test_a_model_of_yours_is_kept_as_it_was_written_and_can_be_used() -> None:
    path = add_mine()

    assert path.read_text() == MINE
    assert path.parent == Path(os.environ["XDG_CONFIG_HOME"]) / "batchgen" / "models"
    assert listed()["me/mine"]["from"] == "yours"
    Path("m.csv").write_text("prompt,image,model\na fox,https://i.example.com/a.jpg,me/mine\n")
    [plan] = ok("validate", "m.csv", "--json").said["manifests"]
    assert plan["estimate_usd"] == 0.2


def test_yours_wins_over_a_shipped_one_and_says_so() -> None:
    add_mine(MINE.replace("me/mine", KLING))

    assert listed()[KLING]["hides"] == ["shipped"]
    assert "yours, hides the shipped one" in ok("models", "list", "kling-3").out
    assert [one["name"] for one in ok("models", "show", KLING, "--json").said["inputs"]] == [
        "img",
        "text",
        "seed",
    ]


def test_a_model_of_yours_is_replaced_only_if_that_is_meant() -> None:
    first = add_mine()
    Path("mine.json").write_text(json.dumps({**entry("me/mine"), "display_name": "Newer"}))

    refused = call("models", "add", "mine.json")
    replaced = ok("models", "add", "mine.json", "--overwrite", "--json").said

    assert refused.code == 2
    assert "pass --overwrite" in refused.err
    assert replaced["replaced"]
    assert listed()["me/mine"]["title"] == "Newer"
    assert not first.exists()
    assert len(list(first.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINE.replace("img]", "picture]"), "schema: requires picture, which is none"),
        (MINE.replace("provider: runcomfy", "provider: other"), "there is no provider other"),
        (MINE + "seed: txt\n", "seed: txt is no input"),
        ("a: b: c\n", "mine.yaml:1"),
    ],
)
def test_what_is_wrong_with_a_model_is_told_and_nothing_is_kept(text: str, message: str) -> None:
    Path("mine.yaml").write_text(text)

    done = call("models", "add", "mine.yaml")

    assert done.code == 5
    assert message in done.err
    assert "me/mine" not in listed()
    yours = folders().yours
    assert yours is not None
    assert not yours.exists()


def test_a_plain_schema_needs_an_id() -> None:
    Path("s.json").write_text(json.dumps({"properties": {"prompt": {"type": "string"}}}))

    assert call("models", "add", "s.json").code == 5
    ok("models", "add", "s.json", "--id", "x/y")

    assert "x/y" in listed()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    Path(os.environ["XDG_CONFIG_HOME"]).parent.mkdir(exist_ok=True)
    Path(os.environ["XDG_CONFIG_HOME"]).write_text("a file")
    Path("mine.yaml").write_text(MINE)

    done = call("models", "add", "mine.yaml")

    assert done.code == 13


def test_a_file_that_breaks_later_is_one_clear_message() -> None:
    path = add_mine()
    path.write_text("id: me/mine\nprovider: runcomfy\n")
    Path("m.csv").write_text("prompt,image,model\na fox,https://i.example.com/a.jpg,me/mine\n")

    validated = call("validate", "m.csv")
    shown = call("models", "show", "me/mine")
    all_of_them = call("models", "list", "--json")

    for done in (validated, shown, all_of_them):
        assert done.code == 5
    assert str(path) in validated.err
    assert "schema: is missing" in validated.err
    assert str(path) in shown.err
    assert [one["file"] for one in all_of_them.said["broken"]] == [str(path)]
    assert len(all_of_them.said["models"]) == len(load_models())
    ok("models", "show", KLING)


def test_a_file_whose_id_is_lost_breaks_only_what_may_need_it() -> None:
    path = add_mine()
    path.write_text("]")
    Path("good.csv").write_text("prompt,image\na fox,https://i.example.com/a.jpg\n")
    Path("m.csv").write_text("prompt,image,model\na fox,https://i.example.com/a.jpg,me/mine\n")

    ok("validate", "good.csv")
    done = call("validate", "m.csv")

    assert done.code == 5
    assert str(path) in done.err


# -- fetch -----------------------------------------------------------------------------------------


def test_the_whole_catalog_is_fetched_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"many/model-{number:03}" for number in range(230)]
    with service(monkeypatch, Catalog([entry(name) for name in names])):
        said = ok("models", "fetch", "--all", "--json").said

    assert [one["id"] for one in said["fetched"]] == names
    assert {one["is"] for one in said["fetched"]} == {"new"}
    assert len(list(Path(said["folder"]).iterdir())) == 230


def test_a_fetched_model_is_used_with_its_price_and_its_age(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Catalog([entry("new/model")])):
        Path("m.csv").write_text("prompt,model\na fox,new/model\n")
        unknown = call("validate", "m.csv")
        assert ok("models", "fetch", "new/model").out == "new/model: new\n"
        ok("validate", "m.csv")
        place = Path(listed()["new/model"]["file"])
        before = time.time() - 3 * 86_400
        os.utime(place, (before, before))
        old = ok("models", "list", "new/").out
        assert ok("models", "fetch", "new/model").out == "new/model: as before\n"
        again = ok("models", "list", "new/").out

    assert (unknown.code, "`batchgen models fetch new/model`" in unknown.err) == (5, True)
    assert "fetched 3 days ago" in old
    assert "fetched less than a minute ago" in again
    assert "$0.05 a second (the service's catalog)" in again


def test_fetching_again_refreshes(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {"type": "object", "properties": {"words": {"type": "string"}}}
    with service(monkeypatch, Catalog([entry("new/model")])) as handle:
        ok("models", "fetch", "new/model")
        port = int(handle.origin.rpartition(":")[2])
    catalog = Catalog([entry("new/model", input_schema=changed)])
    with simulator.start_in_thread(Settings(), port=port, catalog=catalog):
        assert ok("models", "fetch", "new/model").out == "new/model: changed\n"
        [one] = ok("models", "show", "new/model", "--json").said["inputs"]

    assert one["name"] == "words"


def test_what_a_stand_in_says_is_not_believed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        ok("models", "fetch", "--all")
        assert {one["from"] for one in listed().values()} == {"fetched"}
    monkeypatch.delenv("RUNCOMFY_MODEL_API_BASE")

    assert {one["from"] for one in listed().values()} == {"shipped"}
    real = folders().fetched
    assert real is not None
    assert real.name in DEFAULT_BASE


def test_a_fetched_model_keeps_what_the_shipped_one_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        ok("models", "fetch", DEFAULT_MODEL)
        said = ok("models", "show", DEFAULT_MODEL, "--json").said

    assert said["from"] == "fetched"
    assert said["utf16_lengths"]
    assert {one["name"]: one["aliases"] for one in said["inputs"]}["promptImage"] == [
        "image",
        "image_url",
    ]


def test_a_model_of_yours_wins_over_what_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        add_mine(MINE.replace("me/mine", FLUX))
        done = ok("models", "fetch", "--search", "flux")

    assert done.out == f"{FLUX}: new; the one that you have added wins\n"


def test_entries_that_cannot_be_used_are_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = [
        entry("a/empty", input_schema={"type": "object", "properties": {}}),
        entry("a/odd", input_schema={"properties": {"x": {"type": "strin"}}}),
        entry("a/far", input_schema={"properties": {"x": {"$ref": "https://x.example.com/"}}}),
        entry("../../../escaped"),
        entry("a/esc\x1b[2J"),
        entry("a/none", input_schema=None),
    ]
    with service(monkeypatch, Catalog([entry("a/good"), *bad])):
        done = ok("models", "fetch", "--all")
        said = ok("models", "fetch", "--all", "--json").said

    assert done.out == "a/good: new\n"
    assert "\x1b" not in done.err
    assert len(said["refused"]) == len(bad)
    folder = Path(said["folder"])
    assert [path.name[:8] for path in folder.rglob("*")] == ["a--good."]
    assert not [path for path in folder.parents[3].rglob("*escaped*")]


def test_a_model_that_the_service_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(token=TOKEN, models=frozenset({"a/b"}))
    with service(monkeypatch, Catalog([entry("a/b")]), settings):
        done = call("models", "fetch", "a/c", "a/b")

    assert done.code == 9
    assert done.out == "a/b: new\n"
    assert "a/c: left out: the service knows no model a/c" in done.err


@pytest.mark.parametrize(
    ("words", "code"),
    [((), 2), (("--all", KLING), 2), (("--search", "x", "--all"), 2), (("a b",), 9)],
)
def test_what_to_fetch_must_be_clear(
    words: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(monkeypatch):
        assert call("models", "fetch", *words).code == code


def test_the_token_is_needed_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch) as handle:
        monkeypatch.setenv("RUNCOMFY_TOKEN", "another-token")
        refused = call("models", "fetch", "--all")
        monkeypatch.delenv("RUNCOMFY_TOKEN")
        missing = call("models", "fetch", "--all")
        monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)
        handle.settings = replace(handle.settings, down=True)
        down = call("models", "fetch", KLING)

    assert (refused.code, missing.code, down.code) == (6, 6, 12)
    assert "another-token" not in refused.err
    assert listed()[KLING]["from"] == "shipped"


def test_a_token_travels_in_clear_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", "http://models.example.com/v1")
    monkeypatch.setenv("RUNCOMFY_TOKEN", TOKEN)

    assert call("models", "fetch", "--all").code == 2


# -- what is meant -------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "most"), [("kling", 4), ("image-to-video", 5)])
def test_an_unknown_id_names_those_that_contain_it(tmp_path: Path, word: str, most: int) -> None:
    (tmp_path / "m.csv").write_text("image,prompt\nhttps://images.example.com/a.jpg,x\n")
    known = sorted(name for name in load_models() if word in name)
    more = ", …" if len(known) > most else ""
    expected = f"ids with it are {', '.join(known[:most])}{more}; `batchgen models list`"

    shown = call("models", "show", word)
    checked = call("validate", str(tmp_path / "m.csv"), "--model", word)

    assert expected in shown.err
    assert expected in checked.err


def test_the_keys_of_mappings_are_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        MINE.replace(
            "    seed:",
            "    camera: {type: object, properties: {zoom: {type: number}, pan: {}}}\n"
            "    shots: {type: array, items: {type: object, properties: {text: {}, time: {}}}}\n"
            "    seed:",
        )
    )
    ok("models", "add", str(tmp_path / "mine.yaml"))

    said = ok("models", "show", "me/mine").out

    assert "mapping, keys: zoom, pan" in said
    assert "list of mapping, keys: text, time" in said
