import pytest

from batchgen.manifests import load_models
from batchgen.manifests.model_files import parse_model


def test_the_shipped_model_says_what_the_service_published() -> None:
    model = load_models()["runwayml/runway-gen-4/turbo/image-to-video"]

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
