"""Tables that fit, and text that cannot steer a terminal."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from batchgen.cli.tables import Column, ago, fitted, one_line, shared, table, width_of, wrapped
from batchgen.domain.wording import lasting

# A set of its own: drawing from all of Unicode takes seconds to prepare.
ANYTHING = st.text(
    alphabet="ab xyz  日本魚🦊👩\u200d❤\ufe0fé\u0301🇩🇪\x1b\u202e\n\t\ud800\u2028", max_size=40
)
# A busy machine draws slowly, which proves nothing.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
WIDTHS = st.integers(min_value=12, max_value=200)


@PATIENT
@given(st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING), max_size=5), WIDTHS)
def test_no_line_of_a_table_is_longer_than_the_terminal(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    cells = [[one_line(cell) for cell in row] for row in rows]
    columns = [Column("ONE"), Column("TWO", is_number=True), Column("THREE")]

    lines = list(table(cells, columns, width=width))

    assert len(lines) == len(rows) + 1
    assert all(cell_len(line) <= width for line in lines)
    assert not any("\x1b" in line or "\u202e" in line or "\n" in line for line in lines)


def test_elsewhere_every_cell_is_whole() -> None:
    long = "x" * 500

    header, first, second = table([["a", long], ["bb", "y"]], [Column("ID"), Column("WHY")])

    assert (header, first, second) == ("ID  WHY", f"a   {long}", "bb  y")


def test_rows_after_the_measured_ones_are_shown_too() -> None:
    rows = [["a"]] * 1500 + [["much wider than the others"]]

    lines = list(table(rows, [Column("ID")], width=80))
    narrow = list(table(rows, [Column("ID")], width=None))

    assert len(lines) == 1502
    assert lines[-1] == "m…"
    assert narrow[-1] == "much wider than the others"


@PATIENT
@given(st.lists(st.integers(min_value=1, max_value=300), min_size=1, max_size=9), WIDTHS)
def test_the_widest_columns_are_cut_first(widths: list[int], width: int) -> None:
    kept = shared(widths, width)

    assert sum(kept) + 2 * (len(kept) - 1) <= width
    cut = [after for before, after in zip(widths, kept, strict=False) if after < before]
    whole = [after for before, after in zip(widths, kept, strict=False) if after == before]
    assert not cut or max([*whole, 0]) <= max(cut) + 1
    assert not cut or max(cut) - min(cut) <= 1
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        assert kept == widths


def test_colours_stand_outside_of_the_width() -> None:
    columns = [Column("STATE", colour=lambda text: "red" if text == "failed" else None)]

    _, failed, fine = table([["failed"], ["fine"]], columns, width=40, colours=True)

    assert failed == "\x1b[31mfailed\x1b[0m"
    assert fine == "fine"


@pytest.mark.parametrize(
    ("text", "cells", "shown"),
    [
        ("short", 9, "short"),
        ("exactly", 7, "exactly"),
        ("too long", 5, "too…"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("日本語", 6, "日本語"),
        ("x", 0, ""),
    ],
)
def test_a_text_is_cut_to_cells(text: str, cells: int, shown: str) -> None:
    assert fitted(text, cells) == shown
    assert width_of(shown) <= cells


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tand  spaces", "two lines and spaces"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("a\u200bb", "a\\u200bb"),
        ("half \ud800", "half \\ud800"),
        ("a\u2028b", "a b"),
        ("https://x.test/a?sig=5ecret", "https://x.test/a?[redacted]"),
    ],
)
def test_what_strangers_wrote_stays_on_its_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


@PATIENT
@given(ANYTHING, WIDTHS)
def test_a_wrapped_text_fits_and_is_whole(text: str, width: int) -> None:
    text = one_line(text)

    lines = wrapped(text, width, indent="    ").split("\n")

    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"),
        (0.25, "250 ms"),
        (4.21, "4.2 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (90_000, "1 d 1 h"),
        (-2, "-2.0 s"),
    ],
)
def test_a_length_of_time_in_words(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_how_long_ago_in_words() -> None:
    moments = [None, 1_000_000, 999_000, 940_000, 1_000_000 - 7_300_000, -200_000_000]

    words = [ago(ms, 1_000_000) for ms in moments]

    assert words == ["", "now", "1 s ago", "1 min ago", "2 h ago", "2 d ago"]
