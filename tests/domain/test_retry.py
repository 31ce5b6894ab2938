"""What is bought again by itself, and how long is waited."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.retry import (
    RETRIED_CODES,
    backoff_s,
    doubt_slot_ms,
    failure_class,
    is_policy_retried,
    is_retried,
)
from batchgen.domain.states import ErrorClass


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (None, ErrorClass.UNKNOWN),
        ("", ErrorClass.UNKNOWN),
        ("INTERNAL", ErrorClass.GENERATION),
        ("internal", ErrorClass.GENERATION),
        ("INPUT_PREPROCESSING.INTERNAL", ErrorClass.GENERATION),
        ("THIRD_PARTY.UNAVAILABLE", ErrorClass.GENERATION),
        ("INTERNAL.BAD_OUTPUT", ErrorClass.GENERATION),
        ("INTERNAL.BAD_OUTPUT.CODE01", ErrorClass.GENERATION),
        ("INTERNAL.SOMETHING", ErrorClass.UNKNOWN),
        ("INTERNALS", ErrorClass.UNKNOWN),
        ("SAFETY.INPUT.TEXT", ErrorClass.MODERATION),
        ("SAFETY.OUTPUT.VIDEO", ErrorClass.MODERATION),
        ("INPUT_PREPROCESSING.SAFETY.TEXT", ErrorClass.MODERATION),
        ("INTERNAL.BAD_OUTPUT.SAFETY", ErrorClass.MODERATION),
        ("INPUT.MODERATION", ErrorClass.MODERATION),
        ("ASSET.INVALID", ErrorClass.INVALID_INPUT),
        ("NEVER.HEARD.OF", ErrorClass.UNKNOWN),
    ],
)
def test_the_class_of_a_failure(code: str | None, expected: ErrorClass) -> None:
    assert failure_class(code) is expected


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_only_a_passing_generation_failure_is_bought_again(error_class: ErrorClass) -> None:
    again = is_retried(error_class, retries_used=0, retries=1)

    assert again is (error_class is ErrorClass.GENERATION)


@pytest.mark.parametrize(("used", "allowed", "again"), [(0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 2, 1)])
def test_retries_are_used_up(used: int, allowed: int, again: int) -> None:
    retried = is_retried(ErrorClass.GENERATION, retries_used=used, retries=allowed)

    assert retried is bool(again)


@pytest.mark.parametrize("error_class", list(ErrorClass))
@pytest.mark.parametrize(("used", "allowed"), [(0, 0), (0, 1), (1, 1), (2, 1), (3, 7)])
def test_only_moderation_is_bought_again_by_policy_and_only_if_asked_for(
    error_class: ErrorClass, used: int, allowed: int
) -> None:
    again = is_policy_retried(error_class, retries_used=used, retries=allowed)

    assert again is (error_class is ErrorClass.MODERATION and used < allowed)


def test_every_known_code_is_retried() -> None:
    assert {failure_class(code) for code in RETRIED_CODES} == {ErrorClass.GENERATION}


@pytest.mark.parametrize(("tries", "wait"), [(1, 5), (2, 10), (3, 20), (7, 300), (10_000, 300)])
def test_the_wait_doubles_up_to_a_bound(tries: int, wait: float) -> None:
    assert backoff_s(tries, first_s=5, longest_s=300) == wait


@given(st.integers(1, 500), st.floats(0.01, 60), st.floats(60, 4000))
def test_the_wait_never_shrinks(tries: int, first_s: float, longest_s: float) -> None:
    waits = [backoff_s(n, first_s=first_s, longest_s=longest_s) for n in range(tries, tries + 5)]

    assert all(first <= second <= longest_s for first, second in pairwise(waits))


@pytest.mark.parametrize(
    ("longest_ms", "slot_ms"), [(0, 600_000), (1, 1_000), (600, 1_200), (30_000, 60_000)]
)
def test_a_doubt_holds_its_slot_for_twice_the_longest_generation(
    longest_ms: int, slot_ms: int
) -> None:
    assert doubt_slot_ms(longest_ms) == slot_ms
