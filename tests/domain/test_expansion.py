from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.expansion import (
    Variant,
    another_seed,
    estimate_micros,
    numbered_id,
    occurrence_key,
    seed_bounds,
    variants,
)
from batchgen.domain.jobs import Model

HASH = "0123456789abcdef" * 4


def make_model(**changes: Any) -> Model:
    schema = {"properties": {"duration": {"default": 5}}}
    return Model(**{"id": "m", "title": "M", "provider": "p", "schema": schema, **changes})


def test_seeds_give_one_variant_each_in_order() -> None:
    found = list(variants(seeds=[3, 1], repeat=None))

    assert found == [Variant("seed", "3", 3), Variant("seed", "1", 1)]


def test_repeat_gives_numbered_takes_even_for_one() -> None:
    assert list(variants(seeds=None, repeat=1)) == [Variant("take", "1")]
    assert [it.name for it in variants(seeds=None, repeat=3)] == ["1", "2", "3"]


def test_a_plain_row_has_one_variant_without_a_name() -> None:
    assert list(variants(seeds=None, repeat=None)) == [Variant("", "")]


def test_a_row_without_id_is_called_by_its_content_and_its_number() -> None:
    assert [numbered_id(HASH, number) for number in (1, 2, 10)] == [
        "0123456789abcdef",
        "0123456789abcdef-2",
        "0123456789abcdef-10",
    ]
    assert numbered_id("0123456789abcdef", 2) == "0123456789abcdef-2"


def test_variants_are_numbered_each_by_itself() -> None:
    rows = [(HASH, "", ""), (HASH, "take", "1"), (HASH, "seed", "1"), ("f" * 64, "", "")]

    assert len({occurrence_key(*row) for row in rows}) == 4
    assert occurrence_key(HASH, "", "") == occurrence_key(HASH[:16], "", "")


@pytest.mark.parametrize(
    ("price", "unit", "inputs", "expected"),
    [
        pytest.param(50_000, "second", {"duration": 10}, 500_000, id="per-second"),
        pytest.param(50_000, "second", {}, 250_000, id="default-duration"),
        pytest.param(50_000, "second", {"duration": "auto"}, None, id="open-duration"),
        pytest.param(50_000, "second", {"duration": "8"}, 400_000, id="text-duration"),
        pytest.param(50_000, "output", {"duration": 10}, 50_000, id="per-output"),
        pytest.param(None, "second", {"duration": 10}, None, id="unknown-price"),
    ],
)
def test_estimates(
    price: int | None, unit: str, inputs: dict[str, Any], expected: int | None
) -> None:
    model = make_model(price_micros=price, price_unit=unit)

    assert estimate_micros(model, inputs) == expected


def test_a_price_per_second_without_any_duration_is_unknown() -> None:
    model = make_model(price_micros=1, price_unit="second", schema={})

    assert estimate_micros(model, {}) is None


def seeded(low: int | None, high: int | None) -> Model:
    bounds = {"minimum": low, "maximum": high}
    schema = {key: value for key, value in bounds.items() if value is not None}
    return make_model(seed="seed", schema={"properties": {"seed": schema}})


@given(st.data(), st.integers(0, 9), st.integers(0, 9), st.none() | st.integers(-2, 20))
def test_another_seed_is_within_the_bounds_and_never_the_same(
    data: st.DataObject, low: int, more: int, used: int | None
) -> None:
    model = seeded(low, low + more)
    inputs = {"prompt": "a fox", **({} if used is None else {"seed": used})}

    found = another_seed(
        inputs, model=model, draw=lambda low, high: data.draw(st.integers(low, high))
    )

    if more == 0 and used == low:
        assert found is None
        return
    assert found is not None
    changed, seed = found
    assert seed != used
    assert low <= seed <= low + more
    assert changed == {"prompt": "a fox", "seed": seed}


def test_a_model_without_a_seed_has_no_other() -> None:
    assert another_seed({}, model=make_model(), draw=lambda low, _: low) is None
    assert seed_bounds(make_model()) is None


@pytest.mark.parametrize(
    ("low", "high", "bounds"),
    [
        (None, None, (0, 2**31 - 1)),
        (-1, None, (0, 2**31 - 1)),  # -1 lets the service draw
        (-5, 9, (0, 9)),
        (3, 4, (3, 4)),
        (None, -1, None),
        (9, 3, None),
    ],
)
def test_seeds_are_drawn_from_zero_and_within_the_schema(
    low: int | None, high: int | None, bounds: tuple[int, int] | None
) -> None:
    model = seeded(low, high)

    assert seed_bounds(model) == bounds
    if bounds is None:
        assert another_seed({}, model=model, draw=lambda low, _: low) is None


def test_bounds_of_a_seed_that_the_schema_does_not_describe() -> None:
    assert seed_bounds(make_model(seed="seed", schema={})) == (0, 2**31 - 1)
    odd = {"properties": {"seed": {"minimum": "0", "maximum": 7.0}}}
    assert seed_bounds(make_model(seed="seed", schema=odd)) == (0, 7)
