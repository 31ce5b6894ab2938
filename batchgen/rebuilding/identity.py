"""Who a row of an export was: its id and variant, which its key tells.

The key of a job is a hash of batch, row id and variant (`domain.identity.job_key`), so each
guess can be checked. A job that has been renamed since it got its key is beyond that: it is
called what its row is called now, and its inputs decide when its manifest comes again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from typing import NamedTuple

from batchgen.domain.expansion import SEED, TAKE, numbered_id
from batchgen.domain.identity import job_keys

_SALTS = range(3)
_TAKES_AHEAD = 64  # takes before it may be gone from the export
_NUMBERS_AHEAD = 16  # so may equal rows


class Identity(NamedTuple):
    """What a job is known by, beside its key."""

    row_id: str
    kind: str = ""
    variant: str = ""


class Identities:
    """Finds the identities of the jobs of one batch, row by row, each given away once."""

    def __init__(self, batch: str) -> None:
        self._key_of = job_keys(batch)
        self._given: set[Identity] = set()
        self._takes: Counter[str] = Counter()  # the highest number by row id
        self._numbers: Counter[str] = Counter()  # the highest number by hash

    def find(
        self, key: str, *, row_id: str | None, hashes: Sequence[str], seeds: Iterable[int]
    ) -> Identity:
        """Return what a row's job is known by.

        Args:
            key: The job's.
            row_id: The user's own id; None if there is none.
            hashes: Of the row's inputs, with and without what may be a variant's seed.
            seeds: What may be one.
        """
        variants = [("", ""), *((SEED, str(seed)) for seed in dict.fromkeys(seeds))]
        ids = [row_id] if row_id is not None else self._ids(hashes)
        guesses = chain.from_iterable(self._guesses(one, variants) for one in ids)
        is_its = (one for one in guesses if one not in self._given and self._is(one, key))
        found = next(is_its, None)
        if found is None:
            found = self._free(row_id or numbered_id(hashes[0], 1), variants)
        self._note(found, hashes)
        return found

    def _ids(self, hashes: Sequence[str]) -> Iterator[str]:
        for base in hashes:
            newest = self._numbers[base] or 1
            for number in chain(range(newest, newest + _NUMBERS_AHEAD), range(1, newest)):
                yield numbered_id(base, number)

    def _guesses(self, row_id: str, variants: Sequence[tuple[str, str]]) -> Iterator[Identity]:
        for kind, variant in variants:
            yield Identity(row_id, kind, variant)
        newest = self._takes[row_id]
        for number in chain(range(newest + 1, newest + _TAKES_AHEAD), range(1, newest + 1)):
            yield Identity(row_id, TAKE, str(number))

    def _is(self, guess: Identity, key: str) -> bool:
        return any(self._key_of(*guess, salt=salt) == key for salt in _SALTS)

    def _free(self, row_id: str, variants: Sequence[tuple[str, str]]) -> Identity:
        """Return what nobody else is known by: of variants that differ by a seed, that."""
        *_, last = variants
        for kind, variant in (variants[0], last):
            if (one := Identity(row_id, kind, variant)) not in self._given:
                return one
        takes = (Identity(row_id, TAKE, str(number)) for number in count(1))
        return next(one for one in takes if one not in self._given)

    def _note(self, found: Identity, hashes: Sequence[str]) -> None:
        self._given.add(found)
        if found.kind == TAKE:
            self._takes[found.row_id] = max(self._takes[found.row_id], int(found.variant))
        for base in hashes:
            start, dash, number = found.row_id.partition("-")
            if numbered_id(base, 1) == start and (not dash or number.isdigit()):
                self._numbers[base] = max(self._numbers[base], int(number or 1))
