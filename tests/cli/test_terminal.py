"""Real runs on a real terminal: what stands on the screen, what stays in the scrollback."""

import contextlib
import os
import pty
import re
import signal
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import forked
import pyte
import pytest
from cli.commands import ok
from rich.cells import cell_len
from runs import DEADLINE_S, Place, rows_of

from batchgen.providers import simulator
from batchgen.providers.simulator import Fault, Kind

LONG = (1000.0, 1000.0)
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
PICTURED = "\x1b[K\n"  # ends each line of the panel, and no other


class Terminal:
    """A terminal that keeps what scrolls away, with a program on it."""

    def __init__(self, place: Place, *words: str, columns: int, rows: int, **env: str) -> None:
        self._master, self._slave = pty.openpty()
        self.raw = ""
        self._sizes: list[tuple[int, int]] = []  # how far the output was, and how wide it was then
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        self._stream = pyte.Stream(self._screen)
        self._changed = threading.Condition()
        self.resize(columns, rows)
        known = {**place.environment(), "TERM": "xterm-256color", **env}
        command = [*forked.BATCHGEN, *words]
        self.process = forked.Process(command, known, place.folder, [self._slave] * 3)
        threading.Thread(target=self._read, daemon=True).start()

    def resize(self, columns: int, rows: int) -> None:
        """Give it another size, as its user does."""
        with self._changed:
            termios.tcsetwinsize(self._slave, (rows, columns))
            self._screen.resize(rows, columns)
            self._sizes.append((len(self.raw), columns))

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while said := os.read(self._master, 65_536).decode(errors="replace"):
                with self._changed:
                    self.raw += said.replace("\r\n", "\n")
                    self._stream.feed(said)
                    self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """What the screen shows."""
        return [str(line).rstrip() for line in self._screen.display]

    @property
    def everything(self) -> list[str]:
        """What has scrolled away, and the screen."""
        width = self._screen.columns
        gone = [
            "".join(line[column].data for column in range(width)).rstrip()
            for line in self._screen.history.top
        ]
        return [*gone, *self.lines]

    def wait(self, holds: Callable[[str], bool]) -> list[str]:
        """Wait until something holds of the screen; return its lines."""
        deadline = time.monotonic() + DEADLINE_S
        with self._changed:
            while not holds("\n".join(self.lines)):
                left_s = deadline - time.monotonic()
                assert left_s > 0, "\n".join(self.everything)
                self._changed.wait(left_s)
            return self.lines

    def shows(self, *texts: str) -> list[str]:
        """Wait until the screen shows all of these."""
        return self.wait(lambda screen: all(text in screen for text in texts))

    def end(self) -> int:
        """Wait for the program's end and all that it has written; return its exit code."""
        code = self.process.wait(DEADLINE_S)
        os.write(self._slave, b"the-end")
        self.shows("the-end")
        return code

    def close(self) -> None:
        """Take the terminal away."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def too_long(self) -> list[str]:
        """Return the lines of the panel that did not fit, two sizes around a change allowed."""
        found = []
        for number, (begin, columns) in enumerate(self._sizes):
            following = self._sizes[number + 1 :]
            before = self._sizes[number - 1][1] if number else columns
            part = self.raw[begin : following[0][0] if following else None]
            for line in part.split(PICTURED)[:-1]:
                text = SEQUENCE.sub("", line.rpartition("\n")[2])
                if cell_len(text) >= columns and cell_len(text) >= before:
                    found.append(text)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A place whose service generates until it is told to finish."""
    with simulator.start_in_thread(simulator.Settings(run_s=LONG)) as service:
        yield Place(tmp_path, service)


def begin(place: Place, columns: int, rows: int, *options: str, **env: str) -> Terminal:
    usual = ["-y", "--db", place.url, "--poll-interval", "0.05", "--no-inhibit", "--retries", "0"]
    return Terminal(place, "run", "jobs.csv", *usual, *options, columns=columns, rows=rows, **env)


@pytest.mark.parametrize(
    ("size", "other"), [((80, 24), (120, 30)), ((40, 12), (60, 14))], ids=["80x24", "40x12"]
)
def test_a_panel_is_shown_and_leaves_a_clean_scrollback(
    place: Place, size: tuple[int, int], other: tuple[int, int]
) -> None:
    place.write(rows_of(9))
    place.set_faults(Fault(Kind.GENERATION, prompt="scene 002"))
    terminal = begin(place, *size, "-j", "3", "-o", "results.csv")
    with contextlib.closing(terminal):
        first = terminal.shows("0/9", "3 of 3 in flight", "6 waiting", "Ctrl-C once")
        ok("pause", "--db", place.url)
        terminal.wait(lambda screen: "\npaused: nothing is submitted until" in screen)
        paused = " ".join(terminal.everything)
        terminal.resize(*other)
        place.service.settings = replace(place.service.settings, run_s=(0.0, 0.0))
        place.service.finish_all()
        # Below the figures, so drawn after them, where there is room for it.
        problem = ["jobs/c2: failed"] if other[1] >= 20 else []
        terminal.shows("3/9  33 %", "1 failed", "2 succeeded", "0 of 3 in flight", *problem)
        ok("unpause", "--db", place.url)
        code = terminal.end()
        everything, too_long = terminal.everything, terminal.too_long()

    assert code == 3
    assert too_long == []
    assert any(line.endswith("0/9  0 %") for line in first)
    assert "elsewhere: `batchgen set jobs 8 --db" in " ".join(first).replace("  ", " ")
    assert not any("the account is paused" in line for line in first)
    assert paused.index("the account is paused") < paused.rindex(" 0/9 ")
    assert paused.rindex(" 0/9 ") < paused.rindex("paused: nothing")
    text = "\n".join(everything)
    assert text.index("the account is paused") < text.index("8 succeeded, 1 failed; 9 paid for")
    assert not any("%" in line or "in flight" in line or "so far" in line for line in everything)
    assert text.count("the account is no longer paused") == 1
    summary = "".join(everything)  # on a small screen its first lines have scrolled away
    assert "$2.00 spent in this run (about $2.25" in summary
    assert "clips: clips" in summary
    assert "results: results.csv" in summary
    assert "next: `batchgen retry --where" in summary.replace("  ", " ")


def test_ctrl_c_says_what_it_waits_for(place: Place) -> None:
    place.write(rows_of(4))
    place.set_faults(Fault(Kind.SLOW, nth=(1, 2), seconds=1.5))
    terminal = begin(place, 80, 24, "-j", "2", "-v")
    with contextlib.closing(terminal):
        terminal.shows("2 of 2 in flight", "being submitted")
        place.wait_accepted(2)
        terminal.process.send_signal(signal.SIGINT)
        ending = terminal.shows("ending: waits for 2 answers, at most 100 s; Ctrl-C again")
        code = terminal.end()
        everything = "\n".join(terminal.everything)

    assert code == 130
    assert not any("Ctrl-C once" in line for line in ending)
    assert "stopping: waiting for 2 answers" in everything
    assert "2 pending, 2 running; 2 paid for in this run" in everything
    assert "next: `batchgen run jobs.csv --db " in everything
    assert "ending: waits" not in everything


def test_a_log_line_and_a_fault_appear_above_the_panel_whole(place: Place) -> None:
    place.write(rows_of(3))
    place.set_faults(Fault(Kind.UNKNOWN_STATE, code="dreaming", count=14))
    terminal = begin(place, 80, 24, "-j", "3")
    with contextlib.closing(terminal):
        shown = terminal.shows("calls a job 'dreaming'", "dreaming  ")
        place.set_faults()
        place.service.finish_all()
        terminal.end()
        everything = "".join(terminal.everything)

    bar = next(number for number, line in enumerate(shown) if line.endswith("0/3  0 %"))
    warned = next(number for number, line in enumerate(shown) if "calls a job 'dreaming'" in line)
    assert warned < bar
    assert everything.count("calls a job 'dreaming', a word batchgen does not know") == 1


@pytest.mark.parametrize(
    ("env", "options", "has_panel", "has_colour"),
    [
        ({}, (), True, True),
        ({"NO_COLOR": "1"}, (), True, False),
        ({"TERM": "dumb"}, (), False, False),
        ({}, ("--progress", "plain"), False, False),
        ({}, ("-q",), False, False),
    ],
)
def test_a_terminal_gets_no_more_than_it_wants(
    place: Place, env: dict[str, str], options: tuple[str, ...], has_panel: bool, has_colour: bool
) -> None:
    place.write(rows_of(2))
    place.set_faults(Fault(Kind.INVALID, prompt="scene 001"))
    terminal = begin(place, 80, 24, "-j", "2", *options, **env)
    with contextlib.closing(terminal):
        if has_panel:
            terminal.shows("1/2  50 %", "jobs/c1: refused")
        else:
            place.wait_accepted(1)
        place.service.finish_all()
        assert terminal.end() == 3
        raw = terminal.raw

    assert (PICTURED in raw) is has_panel
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-7]m", raw)) is has_colour


def test_a_terminal_that_stands_still_holds_up_no_job(place: Place) -> None:
    place.write(rows_of(30))
    place.service.settings = replace(place.service.settings, run_s=(0.0, 0.1))
    terminal = begin(place, 80, 24, "-j", "3", "-v")
    with contextlib.closing(terminal):
        terminal.shows("3 of 3 in flight")
        termios.tcflow(terminal._slave, termios.TCOOFF)  # Ctrl-S
        place.wait_jobs(lambda: place.states()["succeeded"] == 30)
        termios.tcflow(terminal._slave, termios.TCOON)
        assert terminal.end() == 0
