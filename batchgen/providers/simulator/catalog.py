"""What the stand-in service's catalog says of the models it knows."""

from collections.abc import Iterable, Mapping
from typing import Any

RUNWAY_TURBO = "runwayml/runway-gen-4/turbo/image-to-video"

SCHEMAS: dict[str, dict[str, Any]] = {
    RUNWAY_TURBO: {
        "type": "object",
        "title": "Input schema",
        "required": ["promptImage"],
        "properties": {
            "promptText": {"title": "Prompt", "type": "string", "maxLength": 1000},
            "promptImage": {"title": "Image", "type": "string", "format": "image_uri"},
            "ratio": {
                "title": "Aspect Ratio (W:H)",
                "type": "string",
                "enum": ["1584:672", "1280:720", "1104:832", "960:960", "832:1104", "720:1280"],
                "default": "1280:720",
            },
            "duration": {"title": "Duration", "type": "integer", "enum": [5, 10], "default": 5},
            "seed": {"title": "Seed", "type": "integer", "minimum": 0, "maximum": 4294967295},
        },
    }
}
"""Published input schemas, without their texts."""


def entry(model: str, *, price_per_s_micros: int) -> dict[str, Any]:
    """Return a model's catalog entry; an unknown model takes anything."""
    schema = SCHEMAS.get(model, {"type": "object", "properties": {}})
    return {
        "model_id": model,
        "display_name": model.rpartition("/")[2],
        "kind": "model",
        "categories": ["image-to-video"],
        "base_price_usd": price_per_s_micros / 1_000_000,
        "price_unit": "second",
        "pricing_note": "Invented: this is a stand-in service.",
        "input_schema": schema,
        "inputs": sorted(schema["properties"]),
        "required_inputs": schema.get("required", []),
    }


def objections(model: str, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a strict service would object to, shaped as its validation errors."""
    schema = SCHEMAS.get(model, {})
    return [*_missing(schema.get("required", ()), inputs), *_foreign(schema, inputs)]


def _missing(required: Iterable[str], inputs: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name in required:
        if inputs.get(name) in (None, ""):
            yield {"loc": ["body", name], "msg": "Field required", "type": "missing"}


def _foreign(schema: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name, value in inputs.items():
        allowed = schema.get("properties", {}).get(name, {}).get("enum")
        if allowed is not None and value not in allowed:
            expected = " or ".join(map(repr, allowed))
            yield {"loc": ["body", name], "msg": f"Input should be {expected}", "type": "enum"}
