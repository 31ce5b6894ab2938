"""When to stop submitting, and when to go on: pause, halts, outage, throttling, held models.

Pure bookkeeping of one session; the loop asks it, and coroutines report to it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from batchgen.domain.errors import Exit
from batchgen.domain.halting import Halting
from batchgen.domain.retry import backoff_s
from batchgen.domain.telling import Emit, silent
from batchgen.runner.turns import TOGETHER

logger = logging.getLogger(__name__)

_FIRST_PROBE_S = 0.25
LONGEST_PROBE_S = 60.0
_FIRST_THROTTLE_S = 5.0
_SOON_S = 0.25
_LONGEST_THROTTLE_S = 300.0
_LONGEST_RETRY_AFTER_S = 3600.0
_DOUBTS_BEFORE_ONE_BY_ONE = 3

NOTHING_LOST = "nothing that was paid for is lost"
LEFT = f"What was not paid for waits, and {NOTHING_LOST}"


@dataclass
class Reason:
    """Why a session ends as it does."""

    exit_code: Exit
    message: str


@dataclass
class Limits:
    """The session's reasons not to submit.

    Attributes:
        halting: What the user lets the run stop for by itself.
        clock: Seconds of a clock that does not stand still while the machine sleeps.
        jobs: How many jobs the run began with, of which `halting` may name a percentage.
        reasons: What the session ends for, in the order in which it was met.
        held_models: Models that the service does not know.
        emit: Told of pauses and throttling.
    """

    halting: Halting
    clock: Callable[[], float]
    jobs: int = 0
    reasons: list[Reason] = field(default_factory=list)
    held_models: set[str] = field(default_factory=set)
    emit: Emit = silent
    _streak: int = 0
    _moderated: int = 0
    _lost: int = 0
    _doubts: int = 0
    _throttled: int = 0
    _throttled_at: float = -1.0
    _unsent: int = 0
    _offline_since: float | None = None
    _offline_total_s: float = 0.0
    _waiting_online: deque[asyncio.Future[None]] = field(default_factory=deque)
    _outage: asyncio.Event = field(default_factory=asyncio.Event)
    _lacks_money: bool = False
    _waiting: "Held | None" = None  # why jobs wait for their input files
    _waiting_jobs: int = 0
    _first: str = ""  # of these reasons
    _wake: Callable[[], None] = lambda: None
    _leave: Callable[[], object] = lambda: None

    def on_change(self, wake: Callable[[], None], leave: Callable[[], object]) -> None:
        """Call `wake` whenever the loop should look again, `leave` if it should leave at once."""
        self._wake = wake
        self._leave = leave

    @property
    def paused(self) -> bool:
        """Whether this session submits nothing any more."""
        return any(not isinstance(reason, Held) for reason in self.reasons)

    def pause(self, exit_code: Exit, message: str) -> None:
        """Submit nothing more in this session; what was paid for goes on."""
        if all(reason.message != message for reason in self.reasons):
            self.reasons.append(Reason(exit_code, message))
            self.emit("paused", exit_code=int(exit_code), message=message)
        self._wake()

    def hold_model(self, model: str, message: str) -> None:
        """Submit no more jobs of a model."""
        if model not in self.held_models:
            self.held_models.add(model)
            self.reasons.append(Held(Exit.HALTED, message))
            self.emit("held", model=model, exit_code=int(Exit.HALTED), message=message)
        self._wake()

    def hold_job(self, model: str, message: str) -> None:
        """Note a job that waits, unpaid, since an input file of its cannot be used."""
        self._waiting_jobs += 1
        self.emit("held", model=model, exit_code=int(Exit.HALTED), message=message)
        jobs = "1 job waits" if self._waiting_jobs == 1 else f"{self._waiting_jobs} jobs wait"
        if self._waiting is None:
            self._waiting = Held(Exit.HALTED, "")
            self._first = message
            self.reasons.append(self._waiting)
        self._waiting.message = (
            f"{jobs}, unpaid, for an input file: {self._first}; then run again; {NOTHING_LOST}"
        )
        self._wake()

    @property
    def lacks_money(self) -> bool:
        """Whether this session waits for the account to be topped up."""
        return self._lacks_money

    def wait_for_money(self) -> None:
        """Submit nothing until `has_money`; what was paid for goes on."""
        self._lacks_money = True
        self._wake()

    def has_money(self) -> None:
        """Note that the account can pay again."""
        self._lacks_money = False
        self._wake()

    def good(self) -> None:
        """Note a success: any streak ends."""
        self._streak = 0

    def bad(self, message: str) -> None:
        """Note a service-class failure; pause after too many in a row."""
        self._streak += 1
        if self._streak == self.halting.streak:  # more of them, already paid for, tell nothing new
            self.pause(
                Exit.HALTED,
                f"halted after {self._streak} failures in a row (--halt), the last: {message}. "
                f"{LEFT}: look into it with `batchgen status` and `batchgen ls --state failed`, "
                "then run again",
            )

    def moderated(self, message: str) -> None:
        """Note a job that moderation refused; it belongs to no streak and ends none."""
        self._moderated += 1
        if self._moderated == self.halting.moderated:
            self.pause(
                Exit.HALTED,
                f"halted after moderation refused {self._moderated} jobs (--halt), the last: "
                f"{message}. Repeats can get the account suspended. {LEFT}: see with `batchgen "
                "ls --state failed` what was refused, change or cancel those jobs, then run again",
            )

    def lost(self, message: str) -> None:
        """Note a job that came to rest as failed, expired or in doubt, of whatever class."""
        self._lost += 1
        soon, now = self.halting.soon, self.halting.now
        for share, leaves in ((soon, False), (now, True)):
            if share is None or self._lost != share.of(self.jobs):
                continue
            jobs = "1 job" if self._lost == 1 else f"{self._lost} jobs"
            of_all = f", {share} of {self.jobs}" if share.is_percent else ""
            self.pause(
                Exit.HALTED,
                f"halted after {jobs} failed, expired or came in doubt (--halt{of_all}), the last: "
                f"{message}. {LEFT}: look into it with `batchgen status`, then run again",
            )
            if leaves:
                self._leave()

    def answered(self) -> None:
        """Note that a submit was answered plainly."""
        was_one_at_a_time = self.one_at_a_time
        self._doubts = 0
        self._throttled = 0
        self._unsent = 0
        if was_one_at_a_time:
            self._wake()

    def doubted(self, message: str) -> None:
        """Note a submit whose answer never came."""
        self._doubts += 1
        self.bad(message)

    @property
    def one_at_a_time(self) -> bool:
        """Whether doubts in a row call for single submits until one is answered."""
        return self._doubts >= _DOUBTS_BEFORE_ONE_BY_ONE

    def throttle_s(
        self, retry_after_s: float | None, message: str, *, sent_at: float | None = None
    ) -> float | None:
        """Return how long everybody waits after a plain refusal; None if the run pauses instead.

        Submits that were under way together are refused together: those which were sent (by
        `clock`) before the last refusal was heard of are part of it, and do not double the wait.
        """
        if sent_at is None or sent_at > self._throttled_at or not self._throttled:
            self._throttled += 1
            self._throttled_at = self.clock()
        if not retry_after_s:
            # A stated time that has passed means soon, yet not as fast as the network.
            first_s = _FIRST_THROTTLE_S if retry_after_s is None else _SOON_S
            wait_s = backoff_s(self._throttled, first_s=first_s, longest_s=_LONGEST_THROTTLE_S)
            self._say_throttled(wait_s, message)
            return wait_s
        if retry_after_s > _LONGEST_RETRY_AFTER_S:
            self.pause(
                Exit.HALTED,
                f"the service asks to wait for {retry_after_s / 3600:.1f} h ({message}): run "
                f"again then; {NOTHING_LOST}",
            )
            return None
        self._say_throttled(retry_after_s, message)
        return retry_after_s

    def _say_throttled(self, wait_s: float, message: str) -> None:
        if self._throttled == 1:  # the requests beside it are refused alike
            logger.warning("the service refuses for now (%s): submits wait %.0f s", message, wait_s)
            self.emit("throttled", wait_s=wait_s, message=message)

    @property
    def offline(self) -> bool:
        """Whether the service cannot be reached."""
        return self._offline_since is not None

    def unsent(self) -> None:
        """Note a submit that provably did not leave: an outage, until the service is asked."""
        if not self.offline:  # one outage, however many submits met it
            self._unsent += 1
        self.go_offline()

    @property
    def first_probe_s(self) -> float:
        """How long to wait before asking: longer if only submits keep failing to leave."""
        return backoff_s(max(1, self._unsent), first_s=_FIRST_PROBE_S, longest_s=LONGEST_PROBE_S)

    def go_offline(self) -> None:
        """Note that the service cannot be reached: no submits until it answers."""
        if self._offline_since is None:
            self._offline_since = self.clock()
            self._outage.set()
            self._wake()

    def go_online(self) -> None:
        """Note that the service answers again."""
        if self._offline_since is not None:
            self._offline_total_s += self.clock() - self._offline_since
            self._offline_since = None
            self._outage.clear()
            self._let_on()
            self._wake()

    def _let_on(self) -> None:
        """Let a few go on that have waited for the service: all at once would stall the loop."""
        if self.offline:
            return
        for _ in range(min(TOGETHER, len(self._waiting_online))):
            one = self._waiting_online.popleft()
            if not one.done():
                one.set_result(None)
        if self._waiting_online:
            self._waiting_online[0].get_loop().call_soon(self._let_on)

    def outage_s(self) -> float:
        """Return how long the present outage lasts, 0 if there is none."""
        return 0.0 if self._offline_since is None else self.clock() - self._offline_since

    def offline_total_s(self) -> float:
        """Return how long the service was out of reach in this session."""
        return self._offline_total_s + self.outage_s()

    async def online(self) -> None:
        """Wait until the service can be reached."""
        if self.offline:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting_online.append(waiting)
            await waiting

    async def outage(self) -> None:
        """Wait until the service cannot be reached."""
        await self._outage.wait()


class Held(Reason):
    """A reason that holds some jobs but does not stop the others."""
