"""Models as files: which there are, which wins, and what is wrong with one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.domain.errors import ManifestError
from batchgen.domain.identity import input_hash
from batchgen.domain.models import read_entry
from batchgen.manifests import DEFAULT_MODEL, Folders, load_models, snapshot
from batchgen.manifests.catalog import Origin
from batchgen.manifests.model_files import (
    as_data,
    checked_model,
    entry_of,
    file_name,
    model_of,
    parse_model,
    read_model,
    store_model,
)
from batchgen.manifests.snapshots import FACTS, remembered, with_remembered

SHIPPED = load_models()
OTHER = "kling/kling-2-1/pro/image-to-video"
MINE = """\
# Mine.
id: me/mine
provider: runcomfy
schema:
  properties:
    text: {type: string}
    img: {type: string, format: image_uri}
  required: [img]
"""


def test_the_shipped_model_says_what_the_service_published() -> None:
    model = SHIPPED["runwayml/runway-gen-4/turbo/image-to-video"]

    properties = model.schema["properties"]
    assert model.schema["required"] == ["promptImage"]
    assert properties["duration"] == {
        "title": "Duration",
        "description": "",
        "type": "integer",
        "enum": [5, 10],
        "default": 5,
    }
    assert properties["seed"]["maximum"] == 4294967295
    assert len(properties["ratio"]["enum"]) == 6
    assert [
        (rule["validation_rule"], rule["validation_value"])
        for rule in properties["promptImage"]["validations"]
    ] == [
        ("width_pixels<", 8000),
        ("height_pixels<", 8000),
        ("width/height>", 0.5),
        ("width/height<", 2),
        ("file_size_mb<", 16),
    ]
    assert (model.price_micros, model.price_unit) == (50_000, "second")
    assert model.price_basis == "Runway's own list price; RunComfy's may differ"


def test_a_model_without_a_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="needs id, provider and schema"):
        parse_model("id: x\n", file="x.yaml")


@pytest.mark.parametrize("name", list(SHIPPED))
def test_every_shipped_model_stands_the_checks_of_a_user_s(name: str) -> None:
    assert checked_model(as_data(SHIPPED[name]), file="x") == SHIPPED[name]


@pytest.mark.parametrize("name", list(SHIPPED))
def test_a_model_comes_back_from_a_catalog_as_it_went_in(name: str) -> None:
    model = SHIPPED[name]

    found = model_of(read_entry(json.loads(json.dumps(entry_of(model)))), shipped=model)

    assert (found.aliases, found.media, found.seed) == (model.aliases, model.media, model.seed)
    assert found.price_micros == model.price_micros
    assert {**found.schema, "required": None} == {**model.schema, "required": None}
    assert set(found.schema["required"]) == set(model.schema.get("required", ()))


def test_a_model_is_parsed_only_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("id: me/broken\nprovider: [\n")
    (tmp_path / "mine.yaml").write_text(MINE)

    catalog = load_models(Folders(yours=tmp_path))

    assert {"me/broken", "me/mine", DEFAULT_MODEL} <= set(catalog)
    assert catalog["me/mine"].aliases == {"prompt": "text", "image": "img", "image_url": "img"}
    with pytest.raises(ManifestError, match=r"broken\.yaml"):
        catalog["me/broken"]
    with pytest.raises(KeyError):
        catalog["no/such"]


def test_yours_wins_over_fetched_and_that_over_shipped(tmp_path: Path) -> None:
    folders = Folders(yours=tmp_path / "yours", fetched=tmp_path / "fetched")
    for folder, title in ((folders.yours, "mine"), (folders.fetched, "theirs")):
        assert folder is not None
        data = {**as_data(SHIPPED[OTHER]), "title": title}
        store_model(folder, file_name(OTHER, ".json"), json.dumps(data))

    both = load_models(folders)
    fetched = load_models(Folders(fetched=folders.fetched))

    assert (both[OTHER].title, fetched[OTHER].title) == ("mine", "theirs")
    assert both.places[OTHER].origin is Origin.YOURS
    assert both.places[OTHER].hides == (Origin.FETCHED, Origin.SHIPPED)
    assert fetched.places[OTHER].hides == (Origin.SHIPPED,)
    assert len(both) == len(SHIPPED)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.yaml", b"provider: runcomfy\n", "has no id"),
        ("x.yaml", b"\xff\xfe\x00", "is not UTF-8"),
        ("x.yaml", b"- [\n", "x.yaml"),
        ("x.json", b"{", "is not JSON"),
        ("x.json", b"[" * 100_000, "is not JSON"),
        ("x.json", b'{"a": 1}', "has no id"),
        ("x.yaml", b"#" * 1_100_000, "has more than 1,048,576 bytes"),
        ("x.yaml", b"id: me/mine\n" + MINE.encode()[7:], "as mine.yaml does"),
    ],
)
def test_a_file_whose_id_cannot_be_read_is_told_when_a_model_is_not_found(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / name).write_bytes(content)
    (tmp_path / ".half.json.part").write_bytes(b"{")

    catalog = load_models(Folders(yours=tmp_path))

    assert catalog["me/mine"].title == "me/mine"
    assert [Path(fault.file).name for fault in catalog.broken] == [name]
    with pytest.raises(ManifestError, match=name) as told:
        catalog["no/such"]
    assert message in str(told.value)


def test_a_folder_that_is_not_there_holds_no_models(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        assert set(load_models(Folders(yours=folder))) == set(SHIPPED)


def model(**changes: Any) -> dict[str, Any]:
    data = {
        "id": "me/mine",
        "provider": "runcomfy",
        "schema": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "seed": {"type": "integer"}},
        },
    }
    return {name: value for name, value in {**data, **changes}.items() if value is not ...}


def properties(**said: Any) -> dict[str, Any]:
    return {"type": "object", "properties": said}


@pytest.mark.parametrize(
    ("data", "messages"),
    [
        (["x"], ["must be a mapping"]),
        (model(id=...), ["id: is missing"]),
        (model(id=..., schema=...), ["id: is missing", "schema: is missing"]),
        (model(id="../x"), ["id: may hold letters"]),
        (model(provider=["x"]), ["provider: must be a provider's name"]),
        (model(prices=1), ["prices: unknown key: did you mean `price`?"]),
        (model(schema=["x"]), ["schema: must be a mapping"]),
        (model(schema={"type": "object"}), ["schema: has no properties"]),
        (model(schema={**properties(a={}), "type": "array"}), ["schema: must be of the type"]),
        (model(schema={**properties(a={}), "required": "a"}), ["its `required` must be a list"]),
        (model(schema={**properties(a={}), "required": ["b"]}), ["requires b, which is none"]),
        (model(schema=properties(a={"type": "strin"})), ["is no JSON Schema that can be used"]),
        (model(schema=properties(a={"type": 5})), ["is no JSON Schema that can be used"]),
        (model(schema=properties(a={"enum": 5})), ["is no JSON Schema that can be used"]),
        (model(schema=properties(a={"pattern": "("})), ["is no JSON Schema that can be used"]),
        (model(aliases={"prompt": "txt"}), ["aliases: txt is no input of its schema: did you"]),
        (model(aliases={"seed": "text"}), ["aliases: seed is an input itself"]),
        (model(aliases=["x"]), ["aliases: must be a mapping"]),
        (model(media={"img": "image"}), ["media: img is no input"]),
        (model(media={"text": "picture"}), ["media: text: picture is none of image, video"]),
        (model(seed="text"), ["seed: text is no input of its schema that takes a whole number"]),
        (model(seed="sed"), ["seed: sed is no input"]),
        (model(utf16_lengths="yes"), ["utf16_lengths: must be true or false"]),
        (model(price=5), ["price: must be a mapping"]),
        (model(price={"usd": "cheap"}), ["price: cheap is no price"]),
        (model(price={"usd": 0}), ["price: 0 is no price"]),
        (model(price={"usd": "NaN"}), ["price: NaN is no price"]),
        (model(price={"usd": 1, "unit": "hour"}), ["price: hour is none of the units"]),
        (model(price={"usd": 1, "basis": 7}), ["price: its basis must be text"]),
        (model(seed="sed", price=5), ["seed: sed", "price: must"]),
    ],
)
def test_what_is_wrong_with_a_model_is_told_at_once(data: Any, messages: list[str]) -> None:
    with pytest.raises(ManifestError) as told:
        checked_model(data, file="mine.json")

    faults = [str(fault) for fault in told.value.faults]
    assert len(faults) == len(messages)
    for fault, message in zip(faults, messages, strict=True):
        assert fault.startswith("mine.json: ")
        assert message in fault


@pytest.mark.parametrize(
    ("name", "content", "options", "wanted"),
    [
        ("a.yaml", MINE, {}, "me/mine"),
        ("a.yml", MINE, {"model_id": "me/other"}, "me/other"),
        ("a.json", json.dumps(model()), {}, "me/mine"),
        ("a.json", json.dumps(entry_of(SHIPPED[OTHER])), {}, OTHER),
        ("a.json", json.dumps(properties(text={"type": "string"})), {"model_id": "x/y"}, "x/y"),
    ],
)
def test_a_model_may_be_written_in_several_ways(
    tmp_path: Path, name: str, content: str, options: dict[str, str], wanted: str
) -> None:
    path = tmp_path / name
    path.write_text(content)

    assert read_model(path, **options).id == wanted


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", "id = 1", "ends in .yaml, .yml or .json"),
        ("a.json", "{", "is not JSON"),
        ("a.json", json.dumps(properties(a={})), "say which model it is of with --id"),
        ("a.json", json.dumps({"input_schema": {}, "model_id": "a/b"}), "has no properties"),
        ("a.yaml", "", "must be a mapping"),
        ("a.yaml", "id: x\nid: y\n", "must be a mapping|duplicate key"),
    ],
)
def test_a_file_that_is_no_model(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(ManifestError, match=message):
        read_model(path)
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        read_model(tmp_path / "nowhere.yaml")


def test_names_of_files_are_safe_and_never_the_same() -> None:
    ids = [*SHIPPED, "a/b", "a--b", "A/b", "x" * 200, "x" * 199 + "y", ".hidden/..x"]

    names = [file_name(one, ".json") for one in ids]

    assert len({name.casefold() for name in names}) == len(ids)
    assert all(len(name) < 150 and "/" not in name and name[0] not in ".-" for name in names)


# -- what stays with a batch -----------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SHIPPED))
def test_a_batch_keeps_all_that_a_model_was(name: str) -> None:
    kept = json.loads(json.dumps(snapshot(SHIPPED[name])))

    assert remembered(name, kept) == SHIPPED[name]
    assert input_hash(name, {"duration": 5}, kept) == input_hash(
        name, {"duration": 5}, SHIPPED[name].schema
    )


def test_a_batch_of_an_earlier_version_has_kept_the_schema_alone() -> None:
    known = SHIPPED[DEFAULT_MODEL]
    stored = properties(promptText={"type": "string"}, image={"type": "string"})

    found = remembered(DEFAULT_MODEL, stored, known=known)

    assert (found.aliases, found.media, found.seed) == ({"prompt": "promptText"}, {}, None)
    assert found.price_micros == known.price_micros
    assert remembered("no/such", stored).aliases == {"prompt": "promptText"}


def test_what_a_batch_has_kept_wins_at_today_s_price() -> None:
    was = checked_model(model(price={"usd": 1, "basis": "then"}), file="x")
    now = checked_model(
        model(schema=properties(words={"type": "string"}), price={"usd": 2, "basis": "now"}),
        file="x",
    )

    models = with_remembered({"me/mine": now, "a/b": now}, {"me/mine": snapshot(was)})

    assert models["me/mine"].schema == was.schema
    assert (models["me/mine"].seed, models["me/mine"].price_basis) == ("seed", "now")
    assert models["a/b"] is now
    assert sorted(models) == ["a/b", "me/mine"]
    assert FACTS not in models["me/mine"].schema


def test_a_model_that_is_gone_is_still_what_its_batch_kept(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    kept = {"me/mine": snapshot(checked_model(model(), file="x"))}

    models = with_remembered(load_models(Folders(yours=tmp_path)), kept)

    assert models["me/mine"].seed == "seed"
    look: Callable[[str], Any] = models.__getitem__
    with pytest.raises(ManifestError, match=r"broken\.json"):
        look("no/such")
