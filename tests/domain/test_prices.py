from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.expansion import estimate_micros
from batchgen.domain.jobs import Model
from batchgen.domain.prices import (
    CATALOG,
    Estimate,
    Prices,
    UnitPrice,
    is_nearly_spent,
    priced,
    whole_cents,
)

MODEL = Model("a/b", "AB", "runcomfy", {}, price_micros=50_000, price_unit="second")
COSTS = st.lists(st.integers(1, 10**7), min_size=1, max_size=40)


@given(COSTS)
def test_a_job_costs_what_jobs_like_it_cost_on_average(costs: list[int]) -> None:
    prices = Prices()
    for cost in costs:
        prices.add("m", "{}", cost, is_clip=True)

    expected = round(sum(costs) / len(costs))
    assert prices.of_job("m", "{}", 1) == prices.of_request("m", "{}", 1) == expected
    assert prices.jobs_seen("m", "{}") == len(costs)


def test_a_job_bears_the_cost_of_its_failed_requests_and_a_request_does_not() -> None:
    prices = Prices()
    prices.add("m", "{}", 100, is_clip=False, is_end=False)  # bought again
    prices.add("m", "{}", 200, is_clip=True)
    prices.add("m", "{}", 300, is_clip=True)

    assert prices.of_job("m", "{}", None) == 300
    assert prices.of_request("m", "{}", None) == 250


def test_what_failed_free_of_charge_makes_no_clip_cheaper() -> None:
    prices = Prices()
    prices.add("m", "{}", 500, is_clip=True)
    for _ in range(5):
        prices.add("m", "{}", 0, is_clip=False)

    assert prices.of_job("m", "{}", None) == prices.of_request("m", "{}", None) == 500
    assert prices.jobs_seen("m", "{}") == 1


def test_a_clip_that_was_a_gift_tells_no_price() -> None:
    prices = Prices()
    prices.add("m", "{}", 0, is_clip=True)

    assert prices.of_job("m", "{}", 7) == prices.of_request("m", "{}", 7) == 7
    prices.add("m", "{}", 500, is_clip=True)
    assert prices.of_job("m", "{}", 7) == prices.of_request("m", "{}", 7) == 500
    assert prices.jobs_seen("m", "{}") == 1


def test_without_any_clip_nothing_is_learned() -> None:
    prices = Prices()
    prices.add("m", "{}", 0, is_clip=False)

    assert prices.of_job("m", "{}", 7) == prices.of_request("m", "{}", 7) == 7
    assert prices.jobs_seen("m", "{}") == 0


@pytest.mark.parametrize("key", [("m", '{"duration":10}'), ("other", "{}"), ("m", None)])
def test_other_settings_and_models_keep_their_list_price(key: tuple[str, str | None]) -> None:
    prices = Prices()
    prices.add("m", "{}", 200, is_clip=True)

    assert prices.of_job(*key, 7) == 7
    assert prices.of_request(*key, None) is None


def test_an_estimate_says_what_it_rests_on() -> None:
    prices = Prices()
    for _ in range(3):
        prices.add("m", "{}", 200_000, is_clip=True)
    found = Estimate()
    found.add(prices, "m", "{}", listed=1, jobs=10)
    found.add(prices, "m", "{}", listed=2)
    assert (found.jobs, found.micros, found.seen) == (11, 2_200_000, 3)
    assert found.basis(["a list"]) == "what 3 finished jobs like these cost"

    found.add(prices, "m", '{"duration":10}', listed=500_000)
    found.add(prices, "m", "[]", listed=None, jobs=2)

    assert (found.jobs, found.micros, found.unpriced) == (14, 2_700_000, 2)
    assert found.basis(["a list", "a list", ""]) == ("what 3 finished jobs like these cost; a list")
    assert found.basis([]).endswith("; list price")
    assert Estimate().basis(["a list"]) == ""


def test_the_catalog_beats_the_price_that_ships() -> None:
    models = {"a/b": MODEL, "c/d": replace(MODEL, id="c/d", price_micros=None)}

    found = priced(models, {"c/d": UnitPrice(7, "output"), "e/f": UnitPrice(1, "output")})

    assert found["a/b"] == MODEL
    assert found["c/d"].price_basis == CATALOG
    assert estimate_micros(found["c/d"], {"duration": 10}) == 7


@pytest.mark.parametrize(
    ("used", "expected"), [(0, False), (79, False), (80, True), (100, True), (120, True)]
)
def test_a_budget_is_nearly_spent_from_four_fifths_on(used: int, expected: bool) -> None:
    assert is_nearly_spent(used, 100) is expected


@pytest.mark.parametrize(
    ("micros", "expected"), [(0, 0), (9_999, 9_999), (14_999, 10_000), (15_001, 20_000)]
)
def test_estimates_are_said_to_the_cent(micros: int, expected: int) -> None:
    assert whole_cents(micros) == expected
