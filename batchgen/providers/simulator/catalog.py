"""What the stand-in service's catalog says of the models it knows."""

from collections.abc import Iterable, Mapping
from typing import Any

RUNWAY_TURBO = "runwayml/runway-gen-4/turbo/image-to-video"

Entry = Mapping[str, Any]

_OWN: Entry = {
    "model_id": RUNWAY_TURBO,
    "display_name": "image-to-video",
    "kind": "model",
    "categories": ["image-to-video"],
    "input_schema": {
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
    },
    "inputs": ["duration", "promptImage", "promptText", "ratio", "seed"],
    "required_inputs": ["promptImage"],
}
"""What the stand-in knows if it is given no catalog: one published schema, without its texts."""

_MOST = 500
_USUALLY = 100


class Catalog:
    """The entries that the stand-in states, all at its own invented price.

    A model that is not in it takes anything.
    """

    def __init__(self, entries: Iterable[Entry] | None = None) -> None:
        self._entries = {entry["model_id"]: entry for entry in entries or (_OWN,)}

    def entry(self, model: str, *, price_per_s_micros: int) -> dict[str, Any]:
        """Return a model's entry."""
        empty = {"type": "object", "properties": {}}
        said: Entry = self._entries.get(model) or {
            "model_id": model,
            "display_name": model.rpartition("/")[2],
            "kind": "model",
            "categories": ["image-to-video"],
            "input_schema": empty,
            "inputs": [],
            "required_inputs": [],
        }
        return {
            **said,
            "base_price_usd": price_per_s_micros / 1_000_000,
            "price_unit": "second",
            "pricing_note": "Invented: this is a stand-in service.",
        }

    def page(
        self, query: Mapping[str, str], known: frozenset[str] | None, *, price_per_s_micros: int
    ) -> dict[str, Any]:
        """Return a page of the entries, in the order of their ids.

        Args:
            query: `search`, `limit`, `offset` and `include_schema`, as they were sent.
            known: The ids that exist; None is any.
            price_per_s_micros: What every one costs.

        Raises:
            ValueError: If a number is none, or out of bounds.
        """
        limit, offset = int(query.get("limit", _USUALLY)), int(query.get("offset", 0))
        if not 1 <= limit <= _MOST or offset < 0:
            raise ValueError(f"limit must be 1 to {_MOST}, offset at least 0")
        word = query.get("search", "").casefold()
        found = [
            entry
            for name, entry in sorted(self._entries.items())
            if (known is None or name in known)
            and word in f"{name} {entry['display_name']}".casefold()
        ]
        page = [
            self.entry(entry["model_id"], price_per_s_micros=price_per_s_micros)
            for entry in found[offset : offset + limit]
        ]
        if query.get("include_schema", "").lower() not in ("true", "1"):
            for entry in page:
                del entry["input_schema"]
        return {"models": page, "total": len(found)}

    def objections(self, model: str, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what a strict service would object to, shaped as its validation errors."""
        schema = self._entries.get(model, {}).get("input_schema", {})
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
