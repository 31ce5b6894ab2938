from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.repeats import Occurrences, Repeats

FEW = st.lists(st.integers(-5, 70) | st.integers(-(2**63), 2**63 - 1))


@given(FEW, FEW)
def test_what_comes_twice_is_found_and_the_different_are_counted(
    one_by_one: list[int], together: list[int]
) -> None:
    repeats = Repeats()
    for number in one_by_one:
        repeats.add(number)
    repeats.update(together)

    counted = Counter([*one_by_one, *together])

    assert repeats.found() == {number for number, times in counted.items() if times > 1}
    assert repeats.distinct() == len(counted)


@given(FEW, FEW)
def test_what_two_have_in_common_is_found(one: list[int], other: list[int]) -> None:
    repeats, others = Repeats(), Repeats()
    repeats.update(one)
    others.update(other)

    assert repeats.shared_with(others) == set(one) & set(other)


@given(FEW)
def test_equal_contents_are_numbered_in_order(keys: list[int]) -> None:
    occurrences = Occurrences()
    seen: Counter[int] = Counter()
    expected = []
    for key in keys:
        occurrences.add(key)
        seen[key] += 1
        expected.append(seen[key])

    numbers = occurrences.numbers()

    assert (expected if numbers is None else list(numbers)) == expected
    assert (numbers is None) == (len(set(keys)) == len(keys))
