"""Tables that fit a terminal, and text from strangers on one line of it.

On a terminal no line is longer than the window: the widest columns are cut first. Elsewhere
every cell is whole. Widths are counted in cells: a letter of Chinese or an emoji takes two.
"""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice

import click

from batchgen.domain.redaction import printable, redact_text

Colour = Callable[[str], str | None]

GAP = "  "
_MEASURED = 1000  # rows that decide how wide columns are; a longer list is not held for it
_LEAST = 6  # cells to which a column is cut, before the last columns are left out
_MORE = "…"
# They turn the direction of what follows, or hide in a word.
_STEERING = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: What stands above it.
        is_number: Whether it is set to the right.
        colour: Gives the colour of a cell by its text; None for none.
    """

    title: str
    is_number: bool = False
    colour: Colour | None = None


def one_line(text: str) -> str:
    """Return a text from anywhere as one line that cannot steer a terminal, without secrets."""
    return safe(" ".join(text.split()))


def safe(text: str) -> str:
    """Return a text from anywhere so that it cannot steer a terminal, without secrets."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", printable(redact_text(text)))


def width_of(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # a tenth of a second, and only for what is not ASCII

    return cell_len(text)


def fitted(text: str, cells: int) -> str:
    """Return a text cut to a width, with `…` at the end if something is missing."""
    if cells < 1:
        return ""
    return text if width_of(text) <= cells else _cut(text, cells - 1).rstrip() + _MORE


def _cut(text: str, cells: int) -> str:
    """Return the longest beginning of a text that takes no more cells."""
    if text.isascii():
        return text[:cells]
    from rich.cells import set_cell_size

    head = set_cell_size(text, cells)
    # Where half a wide letter would remain, there is a space instead.
    return head if text.startswith(head) else head[:-1]


def terminal_width(*, err: bool = False) -> int | None:
    """Return how many cells a line may take; None if the stream is no terminal."""
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def has_colours() -> bool:
    """Return whether stdout is a terminal that colours are wanted on."""
    is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not is_plain


def coloured(text: str, colour: str | None) -> str:
    """Return a text in a colour, None for none."""
    return text if colour is None else click.style(text, fg=colour)


def table(
    rows: Iterable[Sequence[str]],
    columns: Sequence[Column],
    *,
    width: int | None = None,
    colours: bool = False,
) -> Iterator[str]:
    """Yield the lines of a table, its header first.

    Args:
        rows: Cells, each of one line; read as the lines are taken.
        columns: What they are.
        width: How many cells a line may take; None for any number.
        colours: Whether to use colours.
    """
    rest = iter(rows)
    first = list(islice(rest, _MEASURED))
    titles = [column.title for column in columns]
    widths = [max(map(width_of, cells)) for cells in zip(titles, *first, strict=True)]
    if width is not None:
        widths = shared(widths, width)
    header = _line(titles, columns, widths, is_cut=width is not None, colours=False)
    yield click.style(header, bold=True) if colours else header
    for row in chain(first, rest):
        yield _line(row, columns, widths, is_cut=width is not None, colours=colours)


def shared(widths: Sequence[int], width: int) -> list[int]:
    """Return what columns get of a line: the widest are cut first, all to the same width.

    Where even a few cells each are too many, the last columns are left out.
    """
    kept = list(widths)
    while len(kept) > 1 and _room(kept, width) < sum(min(one, _LEAST) for one in kept):
        kept.pop()
    room = max(1, _room(kept, width))
    over = sum(kept) - room
    while over > 0:
        widest = max(kept)
        many = [index for index, one in enumerate(kept) if one == widest]
        next_widest = max((one for one in kept if one < widest), default=0)
        step = max(1, min(widest - next_widest, over // len(many)))
        for index in many:
            if over <= 0:
                break
            taken = min(step, over)
            kept[index] -= taken
            over -= taken
    return kept


def _room(widths: Sequence[int], width: int) -> int:
    return width - len(GAP) * (len(widths) - 1)


def _line(
    row: Sequence[str],
    columns: Sequence[Column],
    widths: Sequence[int],
    *,
    is_cut: bool,
    colours: bool,
) -> str:
    cells = []
    for text, column, width in zip(row, columns, widths, strict=False):
        shown = fitted(text, width) if is_cut else text
        space = " " * (width - width_of(shown))
        if colours and column.colour is not None:
            shown = coloured(shown, column.colour(text))
        cells.append(space + shown if column.is_number else shown + space)
    return GAP.join(cells).rstrip()


def wrapped(text: str, width: int | None, *, indent: str) -> str:
    """Return a text in lines that fit, those after the first indented.

    Args:
        text: Of one or more lines; it may begin with spaces.
        width: How many cells a line may take; None for any number.
        indent: What later lines begin with.
    """
    if width is None:
        return text.replace("\n", "\n" + indent)
    lines: list[str] = []
    for line in text.split("\n"):
        begin = "" if not lines else indent
        lines += _wrapped(begin + line, width, indent)
    return "\n".join(lines)


def _wrapped(line: str, width: int, indent: str) -> Iterator[str]:
    least = len(indent) + _LEAST
    while width_of(line) > width > least:
        head = _cut(line, width)
        space = head.rfind(" ")
        cut = space if space > len(indent) + len(head) // 3 else len(head)
        yield head[:cut].rstrip()
        line = indent + line[cut:].lstrip()
    yield line


# -- times in words --------------------------------------------------------------------------------


def local(ms: int | None, *, seconds: bool = True) -> str:
    """Return a moment in this machine's time, as `2026-11-29 22:30:05`; "" if there is none."""
    if ms is None:
        return ""
    at = datetime.fromtimestamp(ms / 1000, UTC).astimezone()
    return at.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def ago(ms: int | None, now_ms: int) -> str:
    """Return how long a moment is over: `3 min ago`, in one unit; "" if there is none."""
    if ms is None:
        return ""
    seconds = (now_ms - ms) / 1000
    if seconds < 1:
        return "now"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    raise AssertionError(seconds)
