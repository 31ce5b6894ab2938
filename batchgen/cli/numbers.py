"""The numbers of a session at one moment, gathered for every way of showing them."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields

from batchgen.cli.common import meant
from batchgen.cli.hurdles import holds_up, hurdles
from batchgen.domain.pace import Pace
from batchgen.domain.redaction import printable, redact_text
from batchgen.runner.job import Stats
from batchgen.runner.view import Flight, View
from batchgen.store.control import Standing

MOST_FLIGHTS = 8
"""So many jobs in flight are shown at most."""

_COMMANDS = "`batchgen set jobs 8`, `batchgen pause`"
_SPEED_S = 5.0  # over which the speed of downloads is measured
_LONGEST_WORD = 300  # of what the service said


@dataclass(frozen=True)
class Rest:
    """How many jobs have come to rest, by how they ended.

    Attributes:
        succeeded: With a clip, one that is left to `batchgen download` included.
        failed: Those that expired included.
    """

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    in_doubt: int = 0

    @property
    def all(self) -> int:
        """How many they are."""
        return self.succeeded + self.failed + self.cancelled + self.in_doubt

    def since(self, before: "Rest") -> "Rest":
        """Return what was added since; a job that a person lets run again takes nothing away."""
        return self._with(before, -1)

    def plus(self, more: "Rest") -> "Rest":
        """Return both together."""
        return self._with(more, 1)

    def _with(self, other: "Rest", sign: int) -> "Rest":
        names = [field.name for field in fields(Rest)]
        return Rest(*(max(0, getattr(self, name) + sign * getattr(other, name)) for name in names))


@dataclass(frozen=True)
class Numbers:
    """What is shown of a session at one moment; money in micro-dollars, times in seconds.

    Attributes:
        total: How many jobs there were to bring to rest.
        done: How many of them are at rest.
        rest: How those ended.
        waiting: How many are not submitted yet.
        left: How many are left to a later run, past `--job-timeout` for one.
        elsewhere: How many other workers have in flight.
        to_download: Clips that wait for their download.
        per_min: Clips a minute, of this session; None while none has ended.
        eta_s: How long it will still take; None if nobody knows.
        spent_micros: By the batches over their lives; None if nothing is paid for at all.
        session_micros: By this session.
        session_is_estimate: Whether the service has not stated some of that.
        is_resumed: Whether they had spent before.
        is_estimate: Whether the service has not stated some of what the batches spent.
        flights: Some of the jobs in flight, the oldest first.
        problems: The newest ones.
        hurdles: What stands in the way, and the command that helps.
        commands: What can be typed elsewhere meanwhile.
    """

    elapsed_s: float
    total: int
    done: int
    rest: Rest
    waiting: int
    left: int
    elsewhere: int
    in_flight: int
    cap: int
    is_auto: bool
    downloading: int
    to_download: int
    received_bytes: int
    bytes_per_s: float
    per_min: float | None
    eta_s: float | None
    is_leaving: bool
    spent_micros: int | None
    session_micros: int
    session_is_estimate: bool
    is_resumed: bool
    is_estimate: bool
    reserved_micros: int
    budget_micros: int | None
    submits_for_s: float | None
    flights: tuple[Flight, ...]
    problems: tuple[str, ...]
    hurdles: tuple[str, ...]
    commands: str = _COMMANDS

    @property
    def state(self) -> tuple[object, ...]:
        """What is worth telling once it changes; not what time alone changes."""
        return (
            self.rest,
            self.in_flight,
            self.elsewhere,
            self.waiting,
            self.downloading,
            self.to_download,
            self.received_bytes,
            self.spent_micros,
            self.session_micros,
            self.problems,
            len(self.hurdles),
        )


class Meter:
    """Gathers the numbers of a session again and again.

    Args:
        stats: The session's.
        view: Gives how it stands, with at most so many of its jobs in flight.
        total: How many jobs there are to bring to rest.
        first: Where the batches stood when it began; None if nothing is paid for.
        is_estimate: Whether some of what they had spent was not stated by the service.
        received_bytes: What has arrived of clips.
        clock: Seconds.
    """

    def __init__(
        self,
        stats: Stats,
        *,
        view: Callable[[int], View],
        total: int,
        first: Standing | None = None,
        is_estimate: bool = False,
        received_bytes: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._view = view
        self._total = total
        self._first = first
        self._is_estimate = is_estimate
        self._received_bytes = received_bytes
        self._clock = clock
        self._began_s = clock()
        self._ends = Pace(self._began_s)
        self._clips = Pace(self._began_s)
        self._speed = deque([(self._began_s, 0)])
        self._newest = first
        self._others = Rest()  # what other workers have brought to rest meanwhile
        self._elsewhere = 0
        self._booked = 0  # by this session, when it was last looked where the batches stand

    def stood(self, now: Standing) -> None:
        """Take up where the batches stand by now."""
        self._newest = now
        self._booked = self._stats.charged_micros
        if self._first is None or not now.other_workers:
            self._elsewhere = 0
            return
        gained = _at_rest(now).since(_at_rest(self._first))
        self._others = gained.since(self._mine())
        in_flight = now.counts.get("submitting", 0) + now.counts.get("running", 0)
        self._elsewhere = max(0, in_flight - self._view(0).in_flight)

    def read(self) -> Numbers:
        """Return the numbers of this moment."""
        now_s, stats, view = self._clock(), self._stats, self._view(MOST_FLIGHTS)
        rest = self._mine().plus(self._others)
        done = min(self._total, rest.all)
        self._note(now_s, rest)
        clips_per_s = self._clips.per_s(now_s)
        at_work = view.in_flight + self._elsewhere + stats.waiting_downloads
        waiting = max(0, self._total - done - stats.left - at_work)
        newest = self._newest
        received = self._received_bytes()
        return Numbers(
            elapsed_s=now_s - self._began_s,
            total=self._total,
            done=done,
            rest=rest,
            waiting=waiting,
            left=stats.left,
            elsewhere=self._elsewhere,
            in_flight=view.in_flight,
            cap=view.cap,
            is_auto=view.is_auto,
            downloading=stats.downloading,
            to_download=max(0, stats.waiting_downloads - stats.downloading),
            received_bytes=received,
            bytes_per_s=self._bytes_per_s(now_s, received),
            per_min=None if clips_per_s is None else 60 * clips_per_s,
            eta_s=self._left_s(now_s, view, waiting, self._total - done - stats.left),
            is_leaving=view.is_leaving,
            spent_micros=self._spent_micros(),
            session_micros=stats.charged_micros,
            session_is_estimate=stats.estimates > 0,
            is_resumed=self._first is not None and self._first.spent_micros > 0,
            is_estimate=self._is_estimate or stats.estimates > 0,
            reserved_micros=0 if newest is None else newest.reserved_micros,
            budget_micros=None if newest is None else newest.budget_micros,
            submits_for_s=view.submits_for_s if waiting else None,
            flights=tuple(sorted(view.flights, key=lambda one: -one.age_s)),
            problems=tuple(map(_clean, stats.problems)),
            hurdles=tuple(_clean(meant(one)) for one in hurdles(view, in_doubt=rest.in_doubt)),
            commands=_clean(meant(_COMMANDS)),
        )

    def _spent_micros(self) -> int | None:
        """Return what the batches have spent: as was looked up, and by this session since."""
        if self._newest is None:
            return None
        return self._newest.spent_micros + max(0, self._stats.charged_micros - self._booked)

    def _mine(self) -> Rest:
        stats = self._stats
        return Rest(
            stats.succeeded + stats.unfetched, stats.failed, stats.cancelled, stats.in_doubt
        )

    def _note(self, now_s: float, rest: Rest) -> None:
        """Count for the pace what was begun in this session, of a mere download everything."""
        if self._first is None:
            self._ends.note(now_s, rest.all)
            self._clips.note(now_s, rest.succeeded)
            return
        self._ends.note(now_s, self._stats.fresh + self._others.all)
        self._clips.note(now_s, self._stats.fresh_clips + self._others.succeeded)

    def _left_s(self, now_s: float, view: View, waiting: int, unfinished: int) -> float | None:
        if view.is_leaving or (waiting and holds_up(view)):
            return None
        return self._ends.left_s(now_s, unfinished)

    def _bytes_per_s(self, now_s: float, received: int) -> float:
        self._speed.append((now_s, received))
        while len(self._speed) > 2 and now_s - self._speed[1][0] >= _SPEED_S:
            self._speed.popleft()
        then_s, before = self._speed[0]
        return (received - before) / (now_s - then_s) if now_s > then_s else 0.0


def _at_rest(standing: Standing) -> Rest:
    counts = standing.counts
    return Rest(
        counts.get("succeeded", 0),
        counts.get("failed", 0) + counts.get("expired", 0),
        counts.get("cancelled", 0),
        counts.get("in_doubt", 0),
    )


def _clean(text: str) -> str:
    # What the service said may be of any length, and hold anything.
    return printable(redact_text(text[:_LONGEST_WORD]).replace("\n", " "))
