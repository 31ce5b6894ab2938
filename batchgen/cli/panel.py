"""The panel of a session that is at work, as lines that fit the terminal.

Pure: numbers and a size go in, lines come out. What matters most stays when there is little
room: the bar, what stands in the way, counts, pace and money, then the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from batchgen.cli.figures import counts_of, money_of, pace_of, size, span
from batchgen.cli.numbers import Numbers
from batchgen.domain.redaction import printable
from batchgen.runner.view import Flight

_LARGEST_BAR = 60
_WIDEST = 79  # of what can be broken: a line that is not too long stays whole on a resize
_MOST_LINES = 22
_ABOVE = 6  # of the rows, one in so many is left for what appears above
_LONGEST_WORD = 20  # of the service's own
_HURDLE_LINES = 2
_INDENT = "  "

_GOOD, _BAD, _DIM, _LOUD = "green", "red", "dim", "bold yellow"


@dataclass(frozen=True)
class Glyphs:
    """What is drawn with, as far as the terminal has it."""

    full: str = "━"
    half: str = "╸"
    rest: str = "━"
    dot: str = " · "
    more: str = "…"


ASCII = Glyphs(full="=", half="-", rest=".", dot=", ", more="~")


@dataclass(frozen=True)
class _Room:
    width: int
    glyphs: Glyphs


def lines(numbers: Numbers, *, width: int, height: int, glyphs: Glyphs | None = None) -> list[Text]:
    """Return the panel, never wider than `width`, never as high as the terminal.

    Args:
        numbers: What is shown.
        width: Columns of the terminal; the last one stays free.
        height: Its rows; some stay free.
        glyphs: What is drawn with.
    """
    room = _Room(max(10, width - 1), glyphs or Glyphs())
    left = max(1, min(_MOST_LINES, height - max(1, height // _ABOVE)))
    head = [_bar(numbers, room)]
    hurdles = _hurdles(numbers, room)
    facts = [
        *_joined(_counts(numbers), room),
        *_joined(_pace(numbers), room),
        *_joined(money_of(numbers), room),
        *_joined(_downloads(numbers), room),
    ]
    tips = _joined(_tips(numbers), room, style=_DIM)
    problems = _problems(numbers, room)
    found = [head, hurdles, facts, tips, problems]
    kept = []
    for part in found:
        kept.append(part[: max(0, left)])
        left -= len(kept[-1])
    head, hurdles, facts, tips, problems = kept
    flights = _flights(numbers, room, rows=left)
    return [*head, *facts, *flights, *problems, *hurdles, *tips]


def _bar(numbers: Numbers, room: _Room) -> Text:
    said = f" {numbers.done:,}/{numbers.total:,}"
    if numbers.total:
        said += f"  {100 * numbers.done // numbers.total} %"
    cells = max(4, min(_LARGEST_BAR, room.width - len(said)))
    total = max(1, numbers.total)
    good = min(numbers.rest.succeeded, numbers.done)
    filled = cells * numbers.done // total
    green = min(filled, cells * good // total) if good < numbers.done else filled
    glyphs = room.glyphs
    edge = glyphs.half if filled < cells - 1 and 2 * cells * numbers.done // total % 2 else ""
    line = Text(no_wrap=True)
    line.append(glyphs.full * green, _GOOD)
    line.append(glyphs.full * (filled - green), _BAD)
    line.append(edge, _GOOD if green == filled else _BAD)
    line.append(glyphs.rest * (cells - filled - len(edge)), _DIM)
    line.append(said, "bold")
    return _cut(line, room)


def _counts(numbers: Numbers) -> list[str]:
    return [f"{numbers.rest.succeeded:,} succeeded", *counts_of(numbers)]


def _pace(numbers: Numbers) -> list[str]:
    return [*pace_of(numbers), f"{span(numbers.elapsed_s)} so far"]


def _downloads(numbers: Numbers) -> list[str]:
    if not (numbers.received_bytes or numbers.downloading or numbers.to_download):
        return []
    found = [f"downloads: {numbers.downloading:,} running"]
    if numbers.to_download:
        found.append(f"{numbers.to_download:,} waiting")
    speed = f" at {size(numbers.bytes_per_s)}/s" if numbers.bytes_per_s >= 1 else ""
    found.append(f"{size(numbers.received_bytes)}{speed}")
    return found


def _tips(numbers: Numbers) -> list[str]:
    if numbers.is_leaving:
        return []
    if numbers.spent_micros is None:
        return ["Ctrl-C: what is not fetched yet is left to the next time"]
    return [
        "Ctrl-C once: nothing more is submitted, what is paid for goes on in the next run",
        f"elsewhere: {numbers.commands}",
    ]


def _hurdles(numbers: Numbers, room: _Room) -> list[Text]:
    found = []
    for said in numbers.hurdles:
        found += _wrapped(said, room, style=_LOUD, most=_HURDLE_LINES)
    return found


def _problems(numbers: Numbers, room: _Room) -> list[Text]:
    if not numbers.problems:
        return []
    found = [_cut(Text("last problems:", _DIM), room)]
    return [*found, *(_cut(Text(_INDENT + one, _BAD), room) for one in numbers.problems)]


def _flights(numbers: Numbers, room: _Room, *, rows: int) -> list[Text]:
    """Return the oldest jobs in flight, in at most so many lines."""
    if not numbers.flights or rows < 3:
        return []
    shown = list(numbers.flights[: rows - 1])
    if numbers.in_flight > len(shown):
        shown = shown[: rows - 2]
    found = [_cut(Text("in flight, the oldest first:", _DIM), room)]
    found += _table([_of_flight(one) for one in shown], room)
    rest = numbers.in_flight - len(shown)
    if rest > 0:
        found.append(_cut(Text(f"{_INDENT}and {rest:,} more", _DIM), room))
    return found


def _of_flight(flight: Flight) -> tuple[str, str, str]:
    if not flight.is_accepted:
        word = "being submitted"
    elif not flight.word:
        word = "accepted"
    else:
        word = printable(flight.word[:_LONGEST_WORD]).replace("_", " ")
        if flight.position is not None:
            word += f", place {flight.position}"
    return printable(flight.job), word, span(flight.age_s)


def _table(rows: Sequence[tuple[str, str, str]], room: _Room) -> list[Text]:
    words = max((len(word) for _, word, _ in rows), default=0)
    ages = max((len(age) for _, _, age in rows), default=0)
    names = max((Text(name).cell_len for name, _, _ in rows), default=0)
    names = max(8, min(names, room.width - len(_INDENT) - words - ages - 4))
    found = []
    for name, word, age in rows:
        line = Text(_INDENT)
        cell = Text(name)
        cell.truncate(names, overflow="ellipsis", pad=True)
        line.append_text(cell)
        line.append(f"  {word:{words}}  ")
        line.append(f"{age:>{ages}}", _DIM)
        found.append(_cut(line, room))
    return found


def _joined(parts: Sequence[str], room: _Room, *, style: str = "") -> list[Text]:
    """Return parts on as few lines as they fit on, in their order."""
    room = replace(room, width=min(room.width, _WIDEST))
    rows: list[str] = []
    for part in parts:
        longer = rows[-1] + room.glyphs.dot + part if rows else ""
        if rows and Text(longer).cell_len <= room.width:
            rows[-1] = longer
        else:
            rows += [line.plain for line in _wrapped(part, room, style=style, most=2)]
    return [Text(row, style) for row in rows]


def _wrapped(said: str, room: _Room, *, style: str, most: int) -> list[Text]:
    """Return a text in at most so many lines; what does not fit is cut off the last."""
    rows, words = [""], said.split(" ")
    for word in words:
        longer = f"{rows[-1]} {word}" if rows[-1] else word
        if Text(longer).cell_len <= room.width or not rows[-1] or len(rows) == most:
            rows[-1] = longer
        else:
            rows.append(word)
    return [_cut(Text(row, style), room) for row in rows]


def _cut(line: Text, room: _Room) -> Text:
    if line.cell_len > room.width:
        line.truncate(room.width - 1)
        line.append(room.glyphs.more)
    line.no_wrap = True
    return line
