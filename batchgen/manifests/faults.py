"""Collecting faults: all are counted, the first ones kept, so that a million fit in memory."""

from collections.abc import Iterable

from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.repeats import Repeats

MOST_KEPT = 1_000


class Faults:
    """What is wrong with one manifest; the same fault twice is one."""

    def __init__(self) -> None:
        self._kept: list[Fault] = []
        self._all = Repeats()

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(self, fault: Fault) -> None:
        """Take one more."""
        self._kept.append(fault)
        self._all.add(hash(fault))
        if len(self._kept) >= 8 * MOST_KEPT:
            self._kept = self._first()

    def update(self, faults: Iterable[Fault]) -> None:
        """Take more."""
        for fault in faults:
            self.add(fault)

    def error(self) -> ManifestError:
        """Return them as one error, in the order of lines."""
        return ManifestError(self._first(), total=self._all.distinct())

    def _first(self) -> list[Fault]:
        return sorted(set(self._kept))[:MOST_KEPT]
