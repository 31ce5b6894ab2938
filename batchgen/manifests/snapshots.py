"""What a batch keeps of a model, so that its rows mean the same for ever.

A model's file may change or go; the jobs of a batch that was checked against it are hashed,
compared, seeded and bought again by what was true then.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from batchgen.domain.jobs import Model
from batchgen.manifests.model_files import as_data, model_from

FACTS = "x-batchgen"
"""Where a batch's stored schema keeps what batchgen knows of the model beside it."""


def snapshot(model: Model) -> dict[str, Any]:
    """Return what a batch keeps of a model, so that its rows mean the same for ever.

    It is the schema, and beside it what batchgen knows of the inputs.
    """
    facts = as_data(model)
    del facts["schema"]
    return {**model.schema, FACTS: facts}


def remembered(model_id: str, stored: Mapping[str, Any], *, known: Model | None = None) -> Model:
    """Return the model that a batch has kept, at today's price if it is still known.

    Args:
        model_id: Its id.
        stored: What the batch has kept of it.
        known: The model as it is known today, None if it is not known any more.
    """
    schema = {name: value for name, value in stored.items() if name != FACTS}
    facts = stored.get(FACTS)
    if facts is not None:
        kept = model_from({**facts, "id": model_id, "schema": schema})
    elif known is None:
        kept = model_from({"id": model_id, "provider": "runcomfy", "schema": schema})
    else:  # a batch of an earlier version: what is known today, of the inputs it has
        properties = schema.get("properties", {})
        kept = replace(
            known,
            schema=schema,
            aliases={one: name for one, name in known.aliases.items() if name in properties},
            media={name: kind for name, kind in known.media.items() if name in properties},
            seed=known.seed if known.seed in properties else None,
        )
    if known is None:
        return kept
    return replace(
        kept,
        price_micros=known.price_micros,
        price_unit=known.price_unit,
        price_basis=known.price_basis,
    )


class _Remembered(Mapping[str, Model]):
    """Models as a batch has kept them; the others as they are known."""

    def __init__(self, kept: Mapping[str, Model], models: Mapping[str, Model]) -> None:
        self._kept = kept
        self._models = models

    def __getitem__(self, name: str) -> Model:
        return self._kept[name] if name in self._kept else self._models[name]

    def __contains__(self, name: object) -> bool:
        return name in self._kept or name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self._models), **self._kept})

    def __len__(self) -> int:
        return sum(1 for _ in self)


def with_remembered(
    models: Mapping[str, Model], schemas: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Model]:
    """Return models as a batch has kept them, and as they are known where it has not."""
    kept = {}
    for name, stored in schemas.items():
        known = models[name] if name in models else None  # noqa: SIM401 - get() may complain of other files
        kept[name] = remembered(name, stored, known=known)
    return _Remembered(kept, models) if kept else models
