"""Keeps a panel at the foot of a terminal, and lets every other line appear above it.

One thread owns the terminal while a panel is shown: a terminal that stands still (Ctrl-S, a
connection that hangs) holds up nobody else. stderr, and the loggers that write to it, go through
it meanwhile. Each picture is one write over the one before, so that nothing flickers; the cursor
waits below it, and is never hidden, since a process that is killed could not show it again.
"""

import contextlib
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.text import Text

from batchgen.cli import panel
from batchgen.cli.numbers import Numbers

_SMALLEST_PAUSE_S = 0.02  # between two pictures, however many lines appear above
_LEFT_AFTER_S = 2.0  # a terminal that stands still keeps nobody from leaving
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"  # shown at once, where a terminal knows that
_TO_END_OF_LINE, _TO_END = "\x1b[K", "\x1b[J"


@contextlib.contextmanager
def drawn() -> "Iterator[Screen]":
    """Show a panel on stderr meanwhile; at the end nothing of it is left."""
    stderr = sys.stderr
    screen = Screen(stderr)
    above = _Above(stderr, screen.say)
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is stderr
    ]
    screen.start()
    sys.stderr = above
    for handler in handlers:
        handler.setStream(above)
    try:
        yield screen
    finally:
        for handler in handlers:
            handler.setStream(stderr)
        sys.stderr = stderr
        above.end()
        screen.end()


class _Above(io.TextIOBase):
    """A stderr whose whole lines appear above the panel."""

    def __init__(self, stderr: TextIO, say: Callable[[str], None]) -> None:
        self._stderr = stderr
        self._say = say
        self._begun = ""
        self._lock = threading.Lock()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stderr.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stderr.errors

    def isatty(self) -> bool:
        return self._stderr.isatty()

    def fileno(self) -> int:
        return self._stderr.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            lines, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            self._say(lines + newline)
        return len(text)

    def end(self) -> None:
        """Say what was begun and never ended."""
        if self._begun:
            self.write("\n")


@dataclass(frozen=True)
class _Picture:
    """The panel as it is written.

    Attributes:
        rows: Its lines, with what colours them.
        widths: How many columns each of them takes.
    """

    rows: list[str] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)


class Screen:
    """The thread that writes to the terminal.

    Args:
        stderr: The terminal.
    """

    def __init__(self, stderr: TextIO) -> None:
        self._stderr = stderr
        self._console = Console(file=stderr, no_color=bool(os.environ.get("NO_COLOR")))
        is_utf8 = stderr.encoding.lower().replace("-", "") == "utf8"
        self._glyphs = panel.Glyphs() if is_utf8 else panel.ASCII
        self._news = threading.Condition()
        self._said: list[str] = []
        self._numbers: Numbers | None = None
        self._is_ending = False
        self._is_moved = False
        self._picture = _Picture()  # that is shown
        self._columns = 0
        # A daemon: a terminal that stands still must not keep the process from leaving.
        self._thread = threading.Thread(target=self._work, name="batchgen-panel", daemon=True)

    def start(self) -> None:
        """Begin to draw."""
        self._thread.start()

    def draw(self, numbers: Numbers) -> None:
        """Show other numbers; of several only the last."""
        with self._news:
            self._numbers = numbers
            self._news.notify()

    def say(self, text: str) -> None:
        """Let whole lines appear above the panel."""
        with self._news:
            self._said.append(text)
            self._news.notify()

    def renew(self) -> None:
        """Begin below what is there: somebody else has written to the terminal meanwhile."""
        with self._news:
            self._is_moved = True

    def end(self) -> None:
        """Take the panel away, once all that was said is there."""
        with self._news:
            self._is_ending = True
            self._news.notify()
        self._thread.join(_LEFT_AFTER_S)

    def _work(self) -> None:
        # A terminal that has gone away takes nothing any more; SIGHUP tells the run.
        with contextlib.suppress(OSError):
            while self._draw_news():
                time.sleep(_SMALLEST_PAUSE_S)

    def _draw_news(self) -> bool:
        """Wait for something new and show it; return False once nothing more is to come."""
        with self._news:
            while not (self._said or self._is_ending or self._numbers is not None):
                self._news.wait()
            said, self._said = "".join(self._said), []
            numbers, self._numbers = self._numbers, None
            is_ending = self._is_ending
            if self._is_moved:
                self._is_moved, self._picture = False, _Picture()
        columns, height = os.get_terminal_size(self._stderr.fileno())
        if is_ending:
            self._show(said, _Picture(), columns)
        elif numbers is not None:
            self._show(said, self._rendered(numbers, columns, height), columns)
        else:
            self._show(said, self._picture, columns)
        return not is_ending

    def _rendered(self, numbers: Numbers, columns: int, height: int) -> "_Picture":
        found = panel.lines(numbers, width=columns, height=height, glyphs=self._glyphs)
        with self._console.capture() as captured:
            self._console.print(Text("\n").join(found), soft_wrap=True, highlight=False, end="")
        return _Picture(captured.get().split("\n"), [line.cell_len for line in found])

    def _show(self, said: str, picture: "_Picture", columns: int) -> None:
        if not said and picture == self._picture and columns == self._columns:
            return
        # Where a terminal has become narrower, the lines that were too long take several rows.
        up = sum(max(1, -(-width // columns)) for width in self._picture.widths)
        begin = (f"\x1b[{up}A" if up else "") + "\r"
        above = _TO_END + said if said else ""
        shown = "".join(f"{row}{_TO_END_OF_LINE}\n" for row in picture.rows)
        self._stderr.write(f"{_BEGIN}{begin}{above}{shown}{_TO_END}{_END}")
        self._stderr.flush()
        self._picture, self._columns = picture, columns
