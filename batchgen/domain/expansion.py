"""From one row of a manifest to the jobs it asks for: variants, row ids, estimates.

A row with `seeds` becomes one job a seed, a row with `repeat` one job a take, any other row
one job. What is decided here ends up in keys, so it must never change for rows that exist.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.domain.jobs import Inputs, Model

SEED = "seed"
TAKE = "take"
ROW_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the jobs a row expands to.

    Attributes:
        kind: "" | "seed" | "take".
        name: "" or the seed or the ordinal, as text.
        seed: The seed of a `seed` variant.
    """

    kind: str = ""
    name: str = ""
    seed: int | None = None


ONLY = Variant()
"""The variant of a row that has neither `seeds` nor `repeat`."""


def variants(*, seeds: Sequence[int] | None, repeat: int | None) -> Iterator[Variant]:
    """Yield the variants of a row in order; a row without `seeds` and `repeat` has one."""
    if seeds is not None:
        for seed in seeds:
            yield Variant(SEED, str(seed), seed)
    elif repeat is not None:
        for ordinal in range(1, repeat + 1):
            yield Variant(TAKE, str(ordinal))
    else:
        yield ONLY


def numbered_id(base_hash: str, number: int) -> str:
    """Return the id of a row that has none of its own: content hash and occurrence number.

    Two equal rows are two takes, so the second gets `-2` behind the hash.

    Args:
        base_hash: `identity.input_hash` of the row's inputs, without a variant's seed; or the
            digits of it that count.
        number: Of `Occurrences` over one reading of one manifest, by `occurrence_key`.
    """
    digits = base_hash[:ROW_ID_DIGITS]
    return digits if number == 1 else f"{digits}-{number}"


def occurrence_key(base_hash: str, kind: str, name: str) -> int:
    """Return a number that is the same for variants which are numbered together.

    Occurrences are numbered for each variant by itself. Good within one process only: it is
    never stored.
    """
    return hash((base_hash[:ROW_ID_DIGITS], kind, name))


def seed_bounds(model: Model) -> tuple[int, int] | None:
    """Return the smallest and the largest seed to draw, None if the model takes none.

    Never below 0: where -1 is allowed, it means that the service draws.
    """
    if model.seed is None:
        return None
    said = model.schema.get("properties", {}).get(model.seed, {})
    low, high = _whole(said.get("minimum"), 0), _whole(said.get("maximum"), 2**31 - 1)
    return (max(0, low), high) if high >= max(0, low) else None


def _whole(bound: Any, otherwise: int) -> int:
    return int(bound) if isinstance(bound, int | float) else otherwise


def another_seed(
    inputs: Inputs, *, model: Model, draw: Callable[[int, int], int]
) -> tuple[Inputs, int] | None:
    """Return inputs with a seed other than theirs, and that seed; None if there is none.

    Args:
        inputs: What was sent.
        model: Its bounds are kept.
        draw: Returns a random integer between two bounds, both included.
    """
    bounds = seed_bounds(model)
    if bounds is None or model.seed is None:
        return None
    low, high = bounds
    used = inputs.get(model.seed)
    if isinstance(used, int) and low <= used <= high:
        if low == high:
            return None
        seed = draw(low, high - 1)
        seed += seed >= used
    else:
        seed = draw(low, high)
    return {**inputs, model.seed: seed}, seed


def estimate_micros(model: Model, inputs: Inputs) -> int | None:
    """Return the estimated price of one job in micro-dollars, None if it is unknown.

    A price per second needs a duration: what the row says, else the schema's default.
    """
    if model.price_micros is None:
        return None
    if model.price_unit != "second":
        return model.price_micros
    schema: Mapping[str, Any] = model.schema.get("properties", {}).get("duration", {})
    duration = inputs.get("duration", schema.get("default"))
    try:
        return round(model.price_micros * float(duration))
    except (TypeError, ValueError, OverflowError):  # "auto", or no duration at all
        return None
