"""Pages and records: the same table, many jobs at once or one by one."""

import csv
from collections.abc import Sequence
from io import StringIO
from typing import Any

from exporters.paged import paged
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.columns import FORMULA_STARTS, FROM_SERVICE, RESULT_COLUMNS, escaped
from batchgen.exporters.csv_table import CSV, text_of
from batchgen.exporters.interface import Layout, Page, records_of

OWN = ("a", "b")
RESULTS = ("result_error", "result_cost_usd", "result_batch")
MARKS = st.text(st.sampled_from([*"\"',;\n x", *FORMULA_STARTS]), max_size=3)
TEXTS = MARKS | st.sampled_from(["'=", "x"])
# Mostly of one kind, as columns are; else of several.
KINDS = (TEXTS, st.none(), st.integers(), st.floats(), st.booleans(), st.lists(st.none()))
COLUMN = st.sampled_from([*KINDS, TEXTS | st.none(), st.one_of(KINDS)])


@st.composite
def tables(draw: st.DrawFn) -> Page:
    count = draw(st.integers(1, 4))
    columns = {
        name: draw(st.lists(draw(COLUMN), min_size=count, max_size=count))
        for name in (*OWN, *RESULTS)
    }
    cells = [dict(zip(OWN, row, strict=True)) for row in zip(*map(columns.get, OWN), strict=True)]
    return Page(cells, {name: columns[name] for name in RESULTS})


def written_one_by_one(page: Page, names: Sequence[str], *, excel_safe: bool) -> str:
    """What the csv module makes of each row by itself."""
    out = StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*names, "result_excel_safe"] if excel_safe else names)
    for record in records_of([page]):
        values = {**record.cells, **record.results}
        row: list[Any] = [values.get(name) for name in names]
        for at, name in enumerate(names):
            if isinstance(row[at], str) and (excel_safe or name in FROM_SERVICE):
                row[at] = escaped(row[at])
        writer.writerow([text_of(value) for value in (*row, *[True] * excel_safe)])
    return out.getvalue()


@given(page=tables(), excel_safe=st.booleans(), chosen=st.sampled_from([None, ("result_error",)]))
def test_a_page_is_written_as_its_rows_one_by_one(
    page: Page, excel_safe: bool, chosen: Sequence[str] | None
) -> None:
    layout = Layout(OWN, chosen, excel_safe=excel_safe)

    text = b"".join(CSV.render([page], layout)).decode()

    assert text == written_one_by_one(page, layout.header, excel_safe=excel_safe)


@given(page=tables())
def test_records_are_the_rows_of_their_page(page: Page) -> None:
    [again] = paged(records_of([page]))

    for name in (*OWN, *RESULT_COLUMNS):
        assert repr(again.column(name)) == repr(list(page.column(name)))  # NaN is not itself
