"""Jobs one by one, as tests name them, turned into the pages that an export is made of."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from batchgen.exporters import Page, Record

_AT_ONCE = 256


def paged(records: Iterable[Record]) -> Iterator[Page]:
    """Yield records as pages, without holding them all."""
    left = iter(records)
    while some := list(islice(left, _AT_ONCE)):
        yield _page(some)


def _page(records: Sequence[Record]) -> Page:
    names = dict.fromkeys(["result_key", *(name for one in records for name in one.results)])
    return Page(
        [record.cells for record in records],
        {name: [record.results.get(name) for record in records] for name in names},
        [record.details for record in records],
    )
