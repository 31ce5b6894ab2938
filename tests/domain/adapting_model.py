"""A service with limits, and workers that share one gate, on a clock that only the model moves."""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from batchgen.domain import adapting
from batchgen.domain.adapting import Limit, State
from batchgen.store.gate import Bucket

FREEZE_MS = 5_000


@dataclass
class Service:
    """Takes so many jobs at once, and so many submits in any second."""

    at_once: float
    a_second: float
    run_ms: int
    ends: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=deque)

    def takes(self, now_ms: float) -> bool:
        self.ends = [end for end in self.ends if end > now_ms]
        while self.recent and self.recent[0] <= now_ms - 1000:
            self.recent.popleft()
        if len(self.ends) >= self.at_once or len(self.recent) >= self.a_second:
            return False
        self.ends.append(now_ms + self.run_ms)
        self.recent.append(now_ms)
        return True


@dataclass(eq=False)
class Attempt:
    claimed_ms: int
    accepted_ms: int | None = None
    ended_ms: int | None = None


class Night:
    """Workers with more jobs than there is time for, under one gate.

    Args:
        service: What refuses.
        workers: How many share the gate.
        lag_ms: The longest time until an end is noticed.
        jitter_ms: The longest way of a request to the service, and of an answer.
        most: What the cap may rise to.
    """

    def __init__(
        self,
        service: Service,
        *,
        workers: int = 1,
        lag_ms: int = 300,
        jitter_ms: int = 20,
        most: int = 32,
        seed: int = 0,
    ) -> None:
        self.service = service
        self.state = State(cap=4)
        self.most = most
        self.now_ms = 1_000_000
        self.refused: list[int] = []
        self.accepted: list[int] = []
        self.caps: list[int] = []
        self.most_live = 0
        self._lag_ms, self._jitter_ms = lag_ms, jitter_ms
        self._random = random.Random(seed)
        self._attempts: deque[Attempt] = deque(maxlen=adapting.REMEMBERED)
        self._held: list[Attempt] = []
        self._empty_ms: int | None = None
        self._frozen_ms = 0
        self._counted = {worker: [0, 0] for worker in range(workers)}
        self._numbers = itertools.count()
        self._timers: set[tuple[int, int]] = set()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        for worker in range(workers):
            self._claim_at(self.now_ms, worker)

    def _at(self, when_ms: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (math.ceil(when_ms), next(self._numbers), act))

    def _claim_at(self, when_ms: int, worker: int) -> None:
        timer = (when_ms, worker)
        if timer not in self._timers:
            self._timers.add(timer)
            self._at(when_ms, lambda: self._wake(timer))

    def _wake(self, timer: tuple[int, int]) -> None:
        self._timers.remove(timer)
        self._claim(timer[1])

    def _way(self) -> float:
        return self._random.uniform(1, self._jitter_ms)

    def go_on(self, seconds: float) -> None:
        until_ms = self.now_ms + int(seconds * 1000)
        while self._events and self._events[0][0] <= until_ms:
            self.now_ms, _, act = heapq.heappop(self._events)
            act()
        self.now_ms = until_ms

    # -- a claim, as store.jobs and store.gate do it ---------------------------------------------

    def _claim(self, worker: int) -> None:
        if self.now_ms < self._frozen_ms:
            self._claim_at(self._frozen_ms, worker)
            return
        before = self.state
        bucket = Bucket.of(before.pace, self._empty_ms, self.now_ms)
        tokens = bucket.tokens
        if not tokens:
            self._claim_at(bucket.after(1), worker)
            return
        live = len(self._held)
        slots = max(0, before.cap - live)
        accepted, ended = self._counted[worker]
        self._counted[worker] = [0, 0]
        self.state = adapting.grow(
            self.state,
            adapting.Progress(
                self.now_ms,
                binds=Limit.RATE if tokens < slots else Limit.JOBS,
                accepted=accepted,
                ended=ended,
                most=self.most,
            ),
        )
        if self.state.pace != before.pace:
            bucket = Bucket.of(self.state.pace, self._empty_ms, self.now_ms)
            tokens = bucket.tokens
        slots = max(0, self.state.cap - live)
        room = min(slots, tokens)
        self.caps.append(self.state.cap)
        for _ in range(room):
            attempt = Attempt(self.now_ms)
            self._held.append(attempt)
            self._at(self.now_ms + self._way(), lambda a=attempt: self._arrive(worker, a))  # type: ignore[misc]
        self.most_live = max(self.most_live, len(self._held))
        if room:
            self._empty_ms = bucket.after(room)
        if room < slots:
            self._claim_at(bucket.after(room + 1), worker)

    def _arrive(self, worker: int, attempt: Attempt) -> None:
        is_taken = self.service.takes(self.now_ms)
        ends_ms = self.now_ms + self.service.run_ms
        answer = self._accept if is_taken else self._refuse
        self._at(self.now_ms + self._way(), lambda: answer(worker, attempt, ends_ms))

    def _accept(self, worker: int, attempt: Attempt, ends_ms: int) -> None:
        attempt.accepted_ms = self.now_ms
        self._attempts.append(attempt)
        self.accepted.append(self.now_ms)
        self._counted[worker][0] += 1
        noticed_ms = ends_ms + self._random.uniform(0, self._lag_ms)
        self._at(noticed_ms, lambda: self._notice(worker, attempt, ends_ms))
        self._claim(worker)

    def _notice(self, worker: int, attempt: Attempt, ends_ms: int) -> None:
        attempt.ended_ms = ends_ms
        self._held.remove(attempt)
        self._counted[worker][1] += 1
        self._claim(worker)

    def _refuse(self, worker: int, attempt: Attempt, _: int) -> None:
        self.refused.append(self.now_ms)
        self._frozen_ms = max(self._frozen_ms, self.now_ms + FREEZE_MS)
        self.state = adapting.shrink(
            self.state,
            adapting.Refusal(
                self.now_ms,
                claimed_ms=attempt.claimed_ms,
                live=len(self._held),
                sent=[
                    adapting.Sent(one.accepted_ms, one.ended_ms)
                    for one in self._attempts
                    if one.accepted_ms is not None
                ],
            ),
        )
        self._held.remove(attempt)
        self._claim(worker)
