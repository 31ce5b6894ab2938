"""The panel fits whatever terminal there is, and leaves out what matters least."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.cli import panel
from batchgen.cli.numbers import Numbers, Rest
from batchgen.runner.view import Flight

FLIGHTS = tuple(
    Flight(f"night/scene-{number}", "in_queue", number, is_accepted=True, age_s=90.0 + number)
    for number in range(8)
)
NAMES = st.text(alphabet="ab/ -漢字é…", max_size=80)


def numbers(**changes: Any) -> Numbers:
    known: dict[str, Any] = {
        "elapsed_s": 754.0,
        "total": 559,
        "done": 312,
        "rest": Rest(298, 13, 0, 1),
        "waiting": 207,
        "left": 0,
        "elsewhere": 0,
        "in_flight": 40,
        "cap": 40,
        "is_auto": False,
        "downloading": 3,
        "to_download": 2,
        "received_bytes": 60_000_000,
        "bytes_per_s": 1_200_000.0,
        "per_min": 18.2,
        "eta_s": 800.0,
        "is_leaving": False,
        "spent_micros": 74_500_000,
        "session_micros": 74_500_000,
        "session_is_estimate": True,
        "is_resumed": False,
        "is_estimate": True,
        "reserved_micros": 10_000_000,
        "budget_micros": 140_000_000,
        "submits_for_s": None,
        "flights": FLIGHTS,
        "problems": ("night/pier: failed (moderation): refused " + "so " * 40,),
        "hurdles": (),
    }
    return Numbers(**{**known, **changes})


def shown(found: Numbers, width: int = 80, height: int = 24) -> list[str]:
    return [line.plain for line in panel.lines(found, width=width, height=height)]


def test_a_usual_terminal_shows_everything() -> None:
    assert shown(numbers()) == [
        "━" * 33 + "━" * 27 + " 312/559  55 %",
        "298 succeeded · 40 of 40 in flight · 5 to download · 207 waiting · 13 failed",
        "1 in doubt",
        "18 clips a minute · about 13 min left · 12 min so far",
        "~$74.50 spent · $10.00 reserved · budget $140.00",
        "downloads: 3 running · 2 waiting · 57.2 MiB at 1.1 MiB/s",
        "in flight, the oldest first:",
        *(f"  night/scene-{n}  in queue, place {n}  1 min {30 + n} s" for n in range(8)),
        "  and 32 more",
        "last problems:",
        "  night/pier: failed (moderation): refused " + "so " * 11 + "so…",
        "Ctrl-C once: nothing more is submitted, what is paid for goes on in the next",
        "run · elsewhere: `batchgen set jobs 8`, `batchgen pause`",
    ]


def test_a_low_terminal_keeps_the_bar_what_is_in_the_way_and_the_numbers() -> None:
    found = shown(
        numbers(hurdles=("paused: nothing is submitted until `batchgen unpause`",)), 80, 8
    )

    assert found[0].endswith(" 312/559  55 %")
    assert found[1].startswith("298 succeeded")
    assert found[-1] == "paused: nothing is submitted until `batchgen unpause`"
    assert len(found) == 7


def test_a_run_that_ends_gives_no_more_advice_on_ending() -> None:
    said = "ending: waits for 3 answers"

    assert shown(numbers(is_leaving=True, hurdles=(said,), problems=()))[-1] == said


def test_the_bar_tells_good_from_bad() -> None:
    (bar, *_) = panel.lines(numbers(done=50, total=100, rest=Rest(25, 25)), width=80, height=24)

    styles = {str(span.style): bar.plain[span.start : span.end] for span in bar.spans}
    assert styles["green"] == "━" * 15
    assert styles["red"] == "━" * 15
    assert styles["dim"] == "━" * 30


@pytest.mark.parametrize("done", [0, 1, 557, 558, 559])
def test_a_bar_is_full_only_at_the_end(done: int) -> None:
    (bar, *_) = panel.lines(numbers(done=done, rest=Rest(done)), width=80, height=24)

    dim = sum(span.end - span.start for span in bar.spans if span.style == "dim")
    assert (dim == 0) == (done == 559)


@given(
    width=st.integers(12, 200),
    height=st.integers(2, 60),
    names=st.lists(NAMES, max_size=8),
    words=st.lists(st.text(min_size=1, max_size=40).filter(str.isprintable), max_size=3),
    total=st.integers(0, 10**7),
    share=st.floats(0, 1),
)
def test_no_line_is_too_long_and_the_panel_is_never_too_high(
    width: int, height: int, names: list[str], words: list[str], total: int, share: float
) -> None:
    done = int(total * share)
    found = panel.lines(
        numbers(
            total=total,
            done=done,
            rest=Rest(done // 2, done - done // 2),
            flights=tuple(Flight(one, "in_queue", 2, True, 5.0) for one in names),
            problems=tuple(words),
            hurdles=tuple(names[:3]),
        ),
        width=width,
        height=height,
    )

    assert 1 <= len(found) < height
    assert max(line.cell_len for line in found) < width
    assert not any("\n" in line.plain for line in found)
