"""What occurs more than once among millions, found in a few bytes for each.

Values are known by a number such as their hash. The numbers lie in buckets, so that only one
bucket at a time is ever looked at as Python objects.
"""

from array import array
from collections.abc import Iterable
from itertools import pairwise

_BUCKETS = 64


class Repeats:
    """Finds numbers that occur twice, in eight bytes each."""

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(_BUCKETS)]

    def add(self, number: int) -> None:
        """Take one more number."""
        self._buckets[number % _BUCKETS].append(number)

    def update(self, numbers: Iterable[int]) -> None:
        """Take more numbers."""
        buckets = self._buckets
        for number in numbers:
            buckets[number % _BUCKETS].append(number)

    def found(self) -> frozenset[int]:
        """Return the numbers that came more than once."""
        repeated: set[int] = set()
        for bucket in self._buckets:
            if len(set(bucket)) < len(bucket):
                ordered = sorted(bucket)
                repeated.update(one for one, two in pairwise(ordered) if one == two)
        return frozenset(repeated)

    def shared_with(self, other: "Repeats") -> frozenset[int]:
        """Return the numbers that came here and there."""
        shared: set[int] = set()
        for one, two in zip(self._buckets, other._buckets, strict=True):
            shared |= set(one).intersection(two)
        return frozenset(shared)

    def distinct(self) -> int:
        """Return how many different numbers came."""
        return sum(len(set(bucket)) for bucket in self._buckets)


class Occurrences:
    """Numbers equal contents in the order in which they come, in sixteen bytes each."""

    def __init__(self) -> None:
        self._count = 0
        self._keys = [array("q") for _ in range(_BUCKETS)]
        self._places = [array("I") for _ in range(_BUCKETS)]

    def add(self, key: int) -> None:
        """Take the next content, by a number that equal ones share."""
        bucket = key % _BUCKETS
        self._keys[bucket].append(key)
        self._places[bucket].append(self._count)
        self._count += 1

    def numbers(self) -> "array[int] | None":
        """Return 1 for each content, 2 where it comes again, and so on; None if none does."""
        numbers: array[int] | None = None
        for keys, places in zip(self._keys, self._places, strict=True):
            if len(set(keys)) == len(keys):
                continue
            numbers = numbers or array("I", [1]) * self._count
            seen: dict[int, int] = {}
            for key, place in zip(keys, places, strict=True):
                seen[key] = numbers[place] = seen.get(key, 0) + 1
        return numbers
