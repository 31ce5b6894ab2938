"""How many jobs at once, and how many submits a second, an account bears: `-j auto`.

Both limits of a service are unknown and may change; it only refuses what is too much. So each
is climbed by one step for what has gone well, and halved when it is refused (additive increase,
multiplicative decrease: Chiu and Jain, 1989). Alone that swings about three quarters of what is
borne. Like CUBIC (RFC 9438), this remembers which level was refused, its *ceiling*, comes back
to just below it at once, and stays there; only after a hold does it try the ceiling again, as a
*probe*. A probe that is refused steps back and doubles the hold; one that is borne raises the
ceiling and shortens it.

Which of the two limits a refusal is about, the service does not say. What has been borne lately
does: if as many jobs were in flight before, it is the rate, and the other way round.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

FIRST_HOLD_MS = 300_000
LONGEST_HOLD_MS = 3_600_000
SHORTEST_HOLD_MS = 20_000
FIRST_PACE = 1.0  # submits a second; it grows by one for each that is accepted
LEAST_PACE = 0.01
REMEMBERED = 512  # attempts in which it is looked up what has been borne

_HOLD_SHRINKS = 4  # by this factor, when a probe is borne
_BELOW = 0.9  # of the rate that was refused: requests do not arrive as evenly as they leave
_STEPS_BACK = 0.1  # of that rate, for each accepted submit on the way back
_LEAST_PROOF = 10  # accepted submits before a faster pace counts as borne
_WINDOW_MS = 1000.0  # services that count submits count them by the second
_SLACK = 0.1  # of a window, for the time that answers take


class Limit(Enum):
    """What stands in the way of more."""

    JOBS = "jobs in flight"
    RATE = "submits a second"
    NEITHER = "nothing"


@dataclass(frozen=True)
class Memory:
    """What is known of one limit beside the level that is used now.

    Attributes:
        ceiling: The lowest level that was refused; None if none was.
        hold_ms: How long the level stays below the ceiling before it is tried again.
        held_until_ms: When that will be; during a probe, until when it is the only one.
        probe_from: The level to step back to, while the ceiling is being tried.
        proof: Accepted submits that are still to come before the probe counts as borne.
    """

    ceiling: float | None = None
    hold_ms: int = FIRST_HOLD_MS
    held_until_ms: int = 0
    probe_from: float | None = None
    proof: int = 0

    def is_held(self, now_ms: int) -> bool:
        """Whether it is too early for a probe."""
        # A hold beyond the longest there is was begun before a clock was set back.
        return now_ms < self.held_until_ms <= now_ms + LONGEST_HOLD_MS

    def is_alone(self, now_ms: int) -> bool:
        """Whether a probe is under way beside which there must be no other.

        Not for ever: one that nothing needs any more would never be proved.
        """
        return self.probe_from is not None and self.is_held(now_ms)

    def is_new(self, level: float) -> bool:
        """Whether a level has not been set because a higher one was refused."""
        return self.ceiling is None or level >= self.ceiling

    def probed(self, level: float, *, proof: int, now_ms: int) -> "Memory":
        """Return it as it is while the ceiling is tried, from a level to step back to."""
        until_ms = now_ms + FIRST_HOLD_MS
        return replace(self, probe_from=level, proof=proof, held_until_ms=until_ms)

    def held(self, hold_ms: int, now_ms: int) -> "Memory":
        """Return it with a hold from now on, and without a probe."""
        return replace(
            self, hold_ms=hold_ms, held_until_ms=now_ms + hold_ms, probe_from=None, proof=0
        )


@dataclass(frozen=True)
class State:
    """What is allowed now, and what has been learned.

    Attributes:
        cap: Jobs in flight over all workers.
        pace: Submits a second over all workers.
        jobs: The memory of `cap`.
        rate: The memory of `pace`.
        shrunk_ms: When a refusal was last heeded: those of older claims are part of it.
        odd_left: Accepted submits until a refusal that nothing explains is forgotten.
        since_ms: What was borne before counts no more: the service has changed.
    """

    cap: int
    pace: float = FIRST_PACE
    jobs: Memory = field(default_factory=Memory)
    rate: Memory = field(default_factory=Memory)
    shrunk_ms: int = 0
    odd_left: int = 0
    since_ms: int = 0

    def __str__(self) -> str:
        return f"{self.cap} jobs in flight, {self.pace:.3g} submits a second"

    def may_rise(self, most: int, now_ms: int) -> bool:
        """Whether more jobs in flight would be allowed for what goes well now."""
        if self.cap >= most or self.jobs.probe_from is not None:
            return False
        ceiling = self.jobs.ceiling
        return ceiling is None or self.cap < ceiling - 1 or self.may_probe(now_ms)

    def may_probe(self, now_ms: int) -> bool:
        """Whether jobs in flight may be tried at their ceiling: one probe at a time."""
        return not self.jobs.is_held(now_ms) and not self.rate.is_alone(now_ms)


def load(text: str | None, *, cap: int) -> State:
    """Return the state that `dump` wrote, with the cap that is stored beside it."""
    if text is None:
        return State(cap)
    values: dict[str, Any] = json.loads(text)
    values["jobs"] = Memory(**values["jobs"])
    values["rate"] = Memory(**values["rate"])
    return State(cap, **values)


def dump(state: State) -> str:
    """Return a state as JSON, without its cap."""
    values = asdict(state)
    del values["cap"]
    return json.dumps(values)


# -- growing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """What has gone well since the last claim, as a claim for more begins.

    Attributes:
        binds: What keeps the claim from taking all that is wanted.
        accepted: Submits that were accepted.
        ended: Generations that came to an end.
        most: The cap is never raised above this.
        most_pace: Nor the pace; None has no bound.
        is_queueing: The service lets more than half of the jobs in flight wait: it accepts more
            than it works on.
    """

    now_ms: int
    binds: Limit
    accepted: int
    ended: int
    most: int
    most_pace: float | None = None
    is_queueing: bool = False


def grow(state: State, seen: Progress) -> State:
    """Raise the limit that stands in the way, for what has gone well; the other one stays."""
    if state.odd_left:
        state = replace(state, odd_left=max(0, state.odd_left - seen.accepted))
    if seen.binds is Limit.JOBS:
        return _more_jobs(state, seen)
    if seen.binds is Limit.RATE:
        return _faster(state, seen)
    return state


def _more_jobs(state: State, seen: Progress) -> State:
    memory, cap = state.jobs, state.cap
    if memory.probe_from is not None:
        return replace(state, jobs=_proved(memory, seen, borne=cap + 1))
    if cap >= seen.most or seen.is_queueing:
        return state
    if memory.ceiling is None:
        # For each generation that ended, not for each that was accepted: a service that queues
        # would have accepted everything before the first look tells so. Doubles a generation.
        return replace(state, cap=min(seen.most, cap + seen.ended))
    below = math.ceil(memory.ceiling) - 1
    if cap < below:
        return replace(state, cap=min(seen.most, below, cap + seen.accepted))
    if seen.accepted and state.may_probe(seen.now_ms):
        probe = memory.probed(cap, proof=cap + 1, now_ms=seen.now_ms)
        return replace(state, cap=cap + 1, jobs=probe)
    return state


def _faster(state: State, seen: Progress) -> State:
    memory, pace = state.rate, state.pace
    if memory.probe_from is not None:
        return replace(state, rate=_proved(memory, seen, borne=_rounded(pace / _BELOW)))
    if seen.most_pace is not None and pace >= seen.most_pace:
        return state
    if memory.ceiling is None:
        return replace(state, pace=pace + seen.accepted)
    below = _rounded(memory.ceiling * _BELOW)
    if pace < below:
        step = seen.accepted * memory.ceiling * _STEPS_BACK
        return replace(state, pace=min(below, _rounded(pace + step)))
    if seen.accepted and not memory.is_held(seen.now_ms) and not state.jobs.is_alone(seen.now_ms):
        proof = max(_LEAST_PROOF, math.ceil(2 * memory.ceiling))
        probe = memory.probed(pace, proof=proof, now_ms=seen.now_ms)
        return replace(state, pace=memory.ceiling, rate=probe)
    return state


def _proved(memory: Memory, seen: Progress, *, borne: float) -> Memory:
    """Count towards the proof of a probe; `borne` is the new ceiling once it is complete."""
    if memory.proof > seen.accepted:
        return replace(memory, proof=memory.proof - seen.accepted)
    hold_ms = max(SHORTEST_HOLD_MS, memory.hold_ms // _HOLD_SHRINKS)
    return replace(memory.held(hold_ms, seen.now_ms), ceiling=borne)


def _rounded(pace: float) -> float:
    return max(LEAST_PACE, round(pace, 4))


# -- shrinking -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A submit that was accepted; `ended_ms` is None while its job is in flight."""

    accepted_ms: int
    ended_ms: int | None = None


@dataclass(frozen=True)
class Refusal:
    """A submit that was refused for now.

    Attributes:
        claimed_ms: When its slot was taken.
        live: Slots in use over all workers, its own included.
        sent: The account's newest accepted submits.
        most_pace: The bound that the user has put on submits a second.
    """

    now_ms: int
    claimed_ms: int
    live: int
    sent: Sequence[Sent]
    most_pace: float | None = None


def shrink(state: State, refusal: Refusal) -> State:
    """Halve the limit that a refusal is about, or end the probe that it ends."""
    now_ms = refusal.now_ms
    # A shrink in the future was before a clock was set back.
    if refusal.claimed_ms <= state.shrunk_ms <= now_ms:
        return state
    known = _Known.of(state, refusal)
    state = replace(
        state,
        shrunk_ms=now_ms,
        jobs=_held_on(state.jobs, now_ms),
        rate=_held_on(state.rate, now_ms),
    )
    if state.jobs.probe_from is not None and known.in_flight + 1 >= state.cap:
        cap = int(state.jobs.probe_from)
        return replace(state, cap=cap, jobs=_failed(state.jobs, now_ms))
    if state.rate.probe_from is not None and known.recent:
        pace = state.rate.probe_from
        return replace(state, pace=pace, rate=_failed(state.rate, now_ms))
    limit = known.limit(state, is_full=refusal.live >= state.cap)
    if limit is Limit.NEITHER:
        return _odd(state, known, now_ms)
    return _refused(state, limit, known, now_ms)


def _held_on(memory: Memory, now_ms: int) -> Memory:
    """Have no probe of the one limit just after a refusal of the other."""
    until_ms = now_ms + FIRST_HOLD_MS
    if memory.is_held(now_ms):
        until_ms = max(until_ms, memory.held_until_ms)
    return replace(memory, held_until_ms=until_ms)


def _failed(memory: Memory, now_ms: int) -> Memory:
    hold_ms = min(LONGEST_HOLD_MS, max(FIRST_HOLD_MS, 2 * memory.hold_ms))
    return memory.held(hold_ms, now_ms)


def _refused(state: State, limit: Limit, known: "_Known", now_ms: int) -> State:
    if limit is Limit.RATE:
        memory = replace(state.rate.held(FIRST_HOLD_MS, now_ms), ceiling=known.pace)
        return replace(state, pace=_rounded(known.pace / 2), rate=memory)
    refused = min(state.cap, known.in_flight + 1)
    memory = replace(state.jobs.held(FIRST_HOLD_MS, now_ms), ceiling=max(2, refused))
    return replace(state, cap=max(1, refused // 2), jobs=memory)


def _odd(state: State, known: "_Known", now_ms: int) -> State:
    """Heed a refusal of what has been borne before: it may be a mishap, or the limits sank.

    Once, the ceilings stay, and the level comes back to them; the next time they are lowered.
    """
    limit = Limit.RATE if known.recent else Limit.JOBS
    if state.odd_left:
        state = replace(state, odd_left=0, since_ms=now_ms)
        return _refused(state, limit, known, now_ms)
    state = replace(state, odd_left=max(_LEAST_PROOF, 2 * state.cap))
    if limit is Limit.RATE:
        return replace(state, pace=_rounded(state.pace / 2))
    return replace(state, cap=max(1, state.cap // 2))


@dataclass(frozen=True)
class _Known:
    """What the newest submits tell about a refusal.

    Attributes:
        in_flight: Jobs that were accepted and have not ended.
        recent: Submits that were accepted within the last second, or the last turn of the pace.
        borne_jobs: The most jobs in flight when one more was accepted.
        borne_recent: The most submits that were accepted in so short a time.
        pace: The submits a second that were too many.
    """

    in_flight: int
    recent: int
    borne_jobs: int
    borne_recent: int
    pace: float

    @classmethod
    def of(cls, state: State, refusal: Refusal) -> "_Known":
        pace = state.pace
        if refusal.most_pace is not None:
            pace = min(pace, refusal.most_pace)
        window_ms = max(_WINDOW_MS, 1000 / pace)
        # Before a clock was set back: as good as never.
        since_ms = state.since_ms if state.since_ms <= refusal.now_ms else 0
        accepted = sorted(one.accepted_ms for one in refusal.sent)
        ended = sorted(one.ended_ms for one in refusal.sent if one.ended_ms is not None)
        recent = len(accepted) - bisect_right(accepted, refusal.now_ms - window_ms * (1 + _SLACK))
        # So many come in a second at that pace. If fewer did, their number tells more.
        usual = max(1, math.floor(pace))
        counted = [at for at in accepted if at >= since_ms]
        return cls(
            in_flight=len(accepted) - len(ended),
            recent=recent,
            borne_jobs=max(
                (bisect_right(accepted, at) - bisect_right(ended, at) for at in counted),
                default=0,
            ),
            borne_recent=max(
                (
                    bisect_right(counted, at + window_ms * (1 - _SLACK)) - index
                    for index, at in enumerate(counted)
                ),
                default=0,
            ),
            pace=float(recent) if 0 < recent < usual else pace,
        )

    def limit(self, state: State, *, is_full: bool) -> Limit:
        """Return which limit the refusal is about; neither, if both were borne before."""
        too_many = self.in_flight + 1 > self.borne_jobs
        too_fast = self.recent > 0 and self.recent + 1 > self.borne_recent
        if too_many and too_fast:
            return self._likelier(state, is_full=is_full)
        if too_fast:
            return Limit.RATE
        return Limit.JOBS if too_many else Limit.NEITHER

    def _likelier(self, state: State, *, is_full: bool) -> Limit:
        """Return which of two levels is to blame, of which neither was borne before."""
        many_is_new = state.jobs.is_new(self.in_flight + 1)
        fast_is_new = state.rate.is_new(self.pace)
        if many_is_new != fast_is_new:
            # The other one is below its ceiling, where it was put.
            return Limit.JOBS if many_is_new else Limit.RATE
        # Several just before hint at the rate; a slot that was the last one at the jobs.
        return Limit.RATE if self.recent > 1 or not is_full else Limit.JOBS
