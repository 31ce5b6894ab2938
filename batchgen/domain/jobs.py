"""The values that travel between the floors: rows, specs, jobs, clips."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, cast

Inputs = Mapping[str, Any]
"""A model's inputs by their names in its schema, typed."""


encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Encode a value as the JSON text in which inputs and cells are stored and compared."""


class JobSpec(NamedTuple):
    """One clip that a manifest asks for, typed and checked, before it is a job.

    A million of them pass through, so it is a tuple, and holds inputs and cells as the texts
    that are stored.

    Attributes:
        file: The manifest's path as the user wrote it.
        line: 1-based line of the row in it.
        row_id: The user's id, or the content hash with an occurrence number.
        has_id: Whether the user gave the id.
        variant: "" or the seed of `seeds` or the ordinal of `repeat`, as text.
        variant_kind: "" | "seed" | "take".
        model: Model id.
        inputs_json: What is sent; a seed drawn for `repeat` is not in it yet.
        input_hash: `identity.input_hash` of what the user set.
        cells_json: The row's own columns in order, as they return in an export.
        input_columns: Which of `cells` are inputs (the rest is carried through).
        result_key: The key an exported row came with, if any.
        est_micros: Estimated price in micro-dollars, None if the price is unknown.
        draw_seed: Whether a seed is to be drawn when stored (`repeat`).
        settings: `identity.settings_of` the inputs: what decides price and time.
    """

    file: str
    line: int
    row_id: str
    has_id: bool
    variant: str
    variant_kind: str
    model: str
    inputs_json: str
    input_hash: str
    cells_json: str
    input_columns: frozenset[str]
    result_key: str | None = None
    est_micros: int | None = None
    draw_seed: bool = False
    settings: str = "{}"

    @property
    def inputs(self) -> dict[str, Any]:
        """Return what is sent, decoded anew at each call."""
        found: dict[str, Any] = json.loads(self.inputs_json)
        return found

    @property
    def cells(self) -> dict[str, Any]:
        """Return the row's own columns in order, decoded anew at each call."""
        found: dict[str, Any] = json.loads(self.cells_json)
        return found

    @property
    def place(self) -> str:
        """Return `file:line`."""
        return f"{self.file}:{self.line}"


def spec_columns(specs: Iterable[tuple[Any, ...]]) -> Any:
    """Return specs turned round: as one `JobSpec`, each field of which has the values of all.

    Args:
        specs: One at least; plain tuples of the same values will do.
    """
    return tuple.__new__(JobSpec, zip(*specs, strict=True))


def specs_of(columns: Any) -> Iterator[JobSpec]:
    """Return the specs of which `columns` are `spec_columns`."""
    return map(_as_spec, zip(*columns, strict=True))


_as_spec = cast("Callable[[tuple[Any, ...]], JobSpec]", partial(tuple.__new__, JobSpec))


def joined_columns(columns: Sequence[Any]) -> Any:
    """Return the `spec_columns` of several lists of specs, one behind the other."""
    if len(columns) == 1:
        return columns[0]
    parts = zip(*columns, strict=True)
    return tuple.__new__(JobSpec, [list(chain.from_iterable(part)) for part in parts])


@dataclass(frozen=True)
class Model:
    """What batchgen knows of a model: one YAML in `batchgen/models/`.

    Attributes:
        id: The id in the API's path.
        title: The name for people.
        provider: Which provider serves it.
        schema: JSON Schema (draft 2020-12) of its inputs, with `validations` beside media fields.
        aliases: Friendly column name → input name (`prompt` → `promptText`).
        media: Inputs that are URLs of images, video or audio → their kind.
        seed: The input that takes a seed, None if it has none.
        utf16_lengths: Whether lengths count UTF-16 code units.
        price_micros: Price of one unit in micro-dollars, None if unknown.
        price_unit: "second" or "output".
        price_basis: Where the price comes from, for the label of an estimate.
        fetcher: Whose rules its input files must meet, a name in `fitness.FETCHERS`.
    """

    id: str
    title: str
    provider: str
    schema: Mapping[str, Any]
    aliases: Mapping[str, str] = field(default_factory=dict)
    media: Mapping[str, str] = field(default_factory=dict)
    seed: str | None = None
    utf16_lengths: bool = False
    price_micros: int | None = None
    price_unit: str = "output"
    price_basis: str = ""
    fetcher: str = ""


@dataclass(frozen=True)
class Clip:
    """One file that was fetched.

    Attributes:
        path: Relative to the batch's output folder.
        url: Where it came from.
        sha256: Hex digest of its bytes.
        size_bytes: Its length.
    """

    path: str
    url: str
    sha256: str
    size_bytes: int
