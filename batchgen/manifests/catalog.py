"""The models batchgen knows: one YAML each in `batchgen/models/`."""

from decimal import Decimal
from importlib import resources
from typing import Any

from batchgen.domain.jobs import Model
from batchgen.manifests.positions import compose

_MICROS = 1_000_000


def load_models() -> dict[str, Model]:
    """Return every model that ships with batchgen, by its id."""
    folder = resources.files("batchgen").joinpath("models")
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".yaml")),
        key=lambda file: file.name,
    )
    models = (parse_model(file.read_text(encoding="utf-8"), file=file.name) for file in files)
    return {model.id: model for model in models}


def parse_model(text: str, *, file: str) -> Model:
    """Return the model that a file describes.

    Raises:
        ManifestError: If it is not YAML.
        ValueError: If it lacks its id, provider or schema.
    """
    root = compose(text, file=file)
    data: Any = root.plain() if root else None
    if not isinstance(data, dict) or not {"id", "provider", "schema"} <= data.keys():
        raise ValueError(f"{file}: a model needs id, provider and schema")
    price = data.get("price") or {}
    return Model(
        id=data["id"],
        title=str(data.get("title") or data["id"]),
        provider=data["provider"],
        schema=data["schema"],
        aliases=data.get("aliases") or {},
        media=data.get("media") or {},
        seed=data.get("seed"),
        utf16_lengths=bool(data.get("utf16_lengths", False)),
        price_micros=int(Decimal(str(price["usd"])) * _MICROS) if price else None,
        price_unit=price.get("unit", "output"),
        price_basis=price.get("basis", ""),
        fetcher=str(data.get("fetcher") or ""),
    )
