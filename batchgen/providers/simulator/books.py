"""The stand-in service's books: what was accepted, where it stands, what it cost.

Nothing runs here. A request gets its wait and its duration when it is accepted, and
`Books.advance` plays the queue up to a moment whenever somebody asks, exactly as slots
would have freed; so the service needs no timers and its clock may be a test's.
"""

import heapq
import math
import random
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from batchgen.providers.simulator.settings import STAGES, Fault, Kind, Settings, Stage, marked

_DEFAULT_DURATION_S = 5  # of Runway's schema
_FOREVER_MS = 0xFFFFFFFFFF  # in an id: stuck
_ID = re.compile(r"sim-([0-9a-f]{1,12})-([0-9a-f]{1,10})-([0-9a-f]{1,12})-[0-9a-f]{12}")


@dataclass(slots=True)
class Entry:
    """One accepted request.

    Attributes:
        id: The request id.
        number: 1 for the first accepted, 0 for one of an earlier run of the service.
        model: Model id.
        inputs: As they came.
        accepted_at: On the service's clock, as are the other times; `Books.utc` converts.
        eligible_at: When its wait in the queue ends at the earliest.
        run_s: How long it generates.
        cost_micros: What it costs, 0 once it is known to cost nothing.
        answered: Whether the submit got the right answer.
        started_at: When it began to generate.
        ends_at: When it is done.
        cancelled: Whether it was cancelled while queued.
        looks: Looks at its status or result.
        told_at: When a look first told its end.
        costless_looks: Looks after its end that kept the cost back.
        late_results: Results after its end that kept the end back.
        fetches: GETs of its file.
        faults: What goes wrong with it, by kind.
        state: Its state when the ledger was read.
    """

    id: str
    number: int
    model: str
    inputs: Mapping[str, Any]
    accepted_at: float
    eligible_at: float
    run_s: float
    cost_micros: int
    answered: bool = False
    started_at: float | None = None
    ends_at: float = math.inf
    cancelled: bool = False
    looks: int = 0
    told_at: float | None = None
    costless_looks: int = 0
    late_results: int = 0
    fetches: int = 0
    faults: dict[Kind, Fault] = field(default_factory=dict)
    state: str = "in_queue"

    def state_at(self, now: float) -> str:
        """Return the state, given that the books are advanced to `now`."""
        if self.cancelled:
            return "cancelled"
        if self.started_at is None:
            return "in_queue"
        if self.ends_at > now:
            return "in_progress"
        if Kind.CANCELLED in self.faults:
            return "cancelled"
        return "failed" if Kind.GENERATION in self.faults else "succeeded"


@dataclass
class Counters:
    """What the service has seen.

    Attributes:
        posts: Submits seen, refused ones included.
        accepted: Requests accepted: what a real service would charge for.
        refused: Submits answered with a refusal.
        unanswered: Accepted requests whose submit got no answer, or not the right one.
        unauthorised: API calls whose token was refused.
        in_flight: Accepted and not ended.
        most_in_flight: The most of them at once.
        untold: Accepted, and no look has told the end.
        most_untold: The most of them at once: what a caller's cap must bound.
        posts_at_once: Submits being answered.
        most_posts_at_once: The most of them at once.
        status_looks: GETs of a status.
        result_looks: GETs of a result.
        cancels: POSTs of a cancellation.
        file_fetches: GETs of a file.
        file_heads: HEADs of a file.
        files_with_token: File requests that carried an Authorization header.
        charged_micros: What all accepted requests cost so far.
    """

    posts: int = 0
    accepted: int = 0
    refused: int = 0
    unanswered: int = 0
    unauthorised: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    untold: int = 0
    most_untold: int = 0
    posts_at_once: int = 0
    most_posts_at_once: int = 0
    status_looks: int = 0
    result_looks: int = 0
    cancels: int = 0
    file_fetches: int = 0
    file_heads: int = 0
    files_with_token: int = 0
    charged_micros: int = 0


@dataclass(frozen=True)
class Ledger:
    """A copy of the books at one moment.

    Attributes:
        entries: Every accepted request in order.
        counters: What the service has seen.
        wallet_micros: What is left in the wallet, None if it is bottomless.
        utc_offset_s: Add it to an entry's times for seconds since 1970.
    """

    entries: tuple[Entry, ...]
    counters: Counters
    wallet_micros: int | None
    utc_offset_s: float

    def as_json(self) -> dict[str, Any]:
        """Return what `GET /ledger` answers; times are ISO 8601 UTC."""
        return {
            "requests": [self._entry(entry) for entry in self.entries],
            "counters": asdict(self.counters),
            "wallet_micros": self.wallet_micros,
        }

    def _entry(self, entry: Entry) -> dict[str, Any]:
        body = {
            "id": entry.id,
            "number": entry.number,
            "model": entry.model,
            "inputs": entry.inputs,
            "state": entry.state,
            "cost_micros": entry.cost_micros,
            "answered": entry.answered,
            "looks": entry.looks,
            "fetches": entry.fetches,
            "faults": sorted(kind.value for kind in entry.faults),
        }
        for name in ("accepted_at", "started_at", "ends_at", "told_at"):
            at = getattr(entry, name)
            known = at is not None and math.isfinite(at)
            body[name] = iso(at + self.utc_offset_s) if known else None
        return body


def iso(at: float) -> str:
    """Return seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


class Books:
    """What was accepted and where it stands; knows nothing of HTTP."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.utc_offset_s = time.time() - clock()
        self.counters = Counters()
        self.entries: dict[str, Entry] = {}
        self._durations = random.Random(settings.seed)
        # A generator of its own: switching a fault on must not change the durations.
        self._mishaps = random.Random(f"faults of {settings.seed}")
        self._waiting: list[tuple[float, int, Entry]] = []
        self._running: list[tuple[float, int, Entry]] = []
        self._freed_at = -math.inf
        self._recent: deque[float] = deque()
        self._shown: dict[Fault, int] = {}
        self._seen_texts: dict[tuple[Stage, str], int] = {}
        self._faults: dict[Stage, list[Fault]] = {}
        self.wallet_micros = settings.wallet_micros
        self._settings = settings
        self._sort_faults()

    @property
    def settings(self) -> Settings:
        """How the service behaves; may be replaced at any time."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        # What waits by now must not start in the past when slots are added.
        self._freed_at = self.advance()
        if settings.wallet_micros != self._settings.wallet_micros:
            self.wallet_micros = settings.wallet_micros
        if settings.faults != self._settings.faults:
            self._shown.clear()
        self._settings = settings
        self._sort_faults()
        self.advance()

    def ledger(self) -> Ledger:
        """Return a copy of the books as they stand."""
        now = self.advance()
        return Ledger(
            entries=tuple(
                replace(entry, state=entry.state_at(now), faults=dict(entry.faults))
                for entry in self.entries.values()
                if entry.number
            ),
            counters=replace(self.counters),
            wallet_micros=self.wallet_micros,
            utc_offset_s=self.utc_offset_s,
        )

    def utc(self, at: float) -> str:
        """Return one of the books' times as ISO 8601."""
        return iso(at + self.utc_offset_s)

    def fault(self, stage: Stage, number: int, inputs: Mapping[str, Any]) -> Fault | None:
        """Return the first fault that shows at this moment, if any."""
        found = self.faults(stage, number, inputs)
        return found[0] if found else None

    def faults(self, stage: Stage, number: int, inputs: Mapping[str, Any]) -> list[Fault]:
        """Return every fault that shows at this moment.

        Raises:
            ValueError: If the inputs ask for a fault that does not exist.
        """
        configured = self._faults.get(stage)
        if not configured and not self._settings.markers:
            return []
        text = _text_of(inputs)
        found = [fault for fault in configured or () if self._shows(fault, number, text)]
        if self._settings.markers and "[[fault:" in text:
            found += self._marked(stage, number, text)
        return found

    def cost_micros(self, inputs: Mapping[str, Any]) -> int:
        """Return what a request with these inputs costs."""
        duration = inputs.get("duration")
        seconds = duration if isinstance(duration, int | float) else _DEFAULT_DURATION_S
        return round(seconds * self._settings.price_per_s_micros)

    def is_too_fast(self) -> bool:
        """Return whether a submit now exceeds what the settings allow."""
        settings = self._settings
        now = self.advance()
        if settings.max_in_flight is not None and self.counters.in_flight >= settings.max_in_flight:
            return True
        if settings.submits_per_s is None:
            return False
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        return len(self._recent) >= settings.submits_per_s

    def accept(self, model: str, inputs: Mapping[str, Any]) -> Entry:
        """Accept a request: from here on it is paid.

        Raises:
            ValueError: If the inputs ask for a fault that does not exist.
        """
        settings, counters = self._settings, self.counters
        number = counters.accepted + 1
        faults = {fault.kind: fault for fault in self.faults(Stage.GENERATE, number, inputs)}
        now = self.clock()
        queue_s = self._durations.uniform(*settings.queue_s)
        run_s = math.inf if Kind.STUCK in faults else self._draw_run_s()
        cost = self._draw_cost(inputs)
        entry = Entry(
            id=self._new_id(now, queue_s + run_s, cost),
            number=number,
            model=model,
            inputs=inputs,
            accepted_at=now,
            eligible_at=now + queue_s,
            run_s=run_s,
            cost_micros=cost,
            faults=faults,
        )
        self.entries[entry.id] = entry
        heapq.heappush(self._waiting, (entry.eligible_at, number, entry))
        counters.accepted = number
        counters.charged_micros += cost
        counters.untold += 1
        counters.most_untold = max(counters.most_untold, counters.untold)
        counters.in_flight += 1
        counters.most_in_flight = max(counters.most_in_flight, counters.in_flight)
        if not settings.charge_at_end:
            self._take(cost)
        if settings.submits_per_s is not None:
            self._recent.append(now)
        self.advance()
        return entry

    def find(self, request_id: str) -> Entry | None:
        """Return a request by its id, None if it is not (or no longer) known."""
        entry = self.entries.get(request_id)
        if entry is None and self._settings.recognise_earlier:
            entry = self._recognise(request_id)
        if entry is None or Kind.LOST not in entry.faults:
            return entry
        lost_after_s = entry.faults[Kind.LOST].seconds or 0.0
        return None if self.clock() >= entry.accepted_at + lost_after_s else entry

    def tell(self, entry: Entry, now: float) -> None:
        """Note that a look has told a request's end."""
        if entry.told_at is None:
            entry.told_at = now
            if entry.number:
                self.counters.untold -= 1

    def queue_position(self, entry: Entry) -> int:
        """Return how many queued requests are before this one."""
        mine = (entry.eligible_at, entry.number)
        return sum((at, number) < mine for at, number, _ in self._waiting)

    def cancel(self, entry: Entry) -> bool:
        """Cancel a request if it is still queued; return whether it was."""
        self.advance()
        if entry.started_at is not None or entry.cancelled:
            return False
        entry.cancelled = True
        entry.ends_at = self.clock()
        self._waiting = [item for item in self._waiting if item[2] is not entry]
        heapq.heapify(self._waiting)
        self.counters.in_flight -= 1
        self._refund(entry)
        return True

    def finish_all(self) -> None:
        """End everything that is queued or generating, now."""
        now = self.advance()
        while self._waiting or self._running:
            for _, _, entry in self._waiting:
                entry.eligible_at, entry.run_s = now, 0.0
            for _, _, entry in self._running:
                entry.ends_at = now
            self._waiting = [(now, number, entry) for _, number, entry in self._waiting]
            self._running = [(now, number, entry) for _, number, entry in self._running]
            heapq.heapify(self._waiting)
            heapq.heapify(self._running)
            self._play(now)

    def advance(self) -> float:
        """Play the queue up to now; return now."""
        now = self.clock()
        self._play(now)
        return now

    def _play(self, now: float) -> None:
        slots = math.inf if self._settings.slots is None else self._settings.slots
        while True:
            if self._waiting and self._waiting[0][0] <= now and len(self._running) < slots:
                eligible_at, number, entry = heapq.heappop(self._waiting)
                # A slot that was free all along frees nothing: `_freed_at` is then the past.
                entry.started_at = max(eligible_at, self._freed_at)
                entry.ends_at = entry.started_at + entry.run_s
                heapq.heappush(self._running, (entry.ends_at, number, entry))
            elif self._running and self._running[0][0] <= now:
                was_full = len(self._running) >= slots
                ends_at, _, entry = heapq.heappop(self._running)
                if was_full:
                    self._freed_at = ends_at
                self.counters.in_flight -= 1
                if not self._is_charged(entry):
                    self._refund(entry)
                elif self._settings.charge_at_end:
                    self._take(entry.cost_micros)
            else:
                return

    def _is_charged(self, entry: Entry) -> bool:
        if Kind.CANCELLED in entry.faults:
            return False
        return self._settings.charge_failed or Kind.GENERATION not in entry.faults

    def _take(self, micros: int) -> None:
        if self.wallet_micros is not None:
            self.wallet_micros -= micros

    def _refund(self, entry: Entry) -> None:
        self.counters.charged_micros -= entry.cost_micros
        if not self._settings.charge_at_end:
            self._take(-entry.cost_micros)
        entry.cost_micros = 0

    def _draw_run_s(self) -> float:
        settings = self._settings
        if settings.run_median_s is None:
            return self._durations.uniform(*settings.run_s)
        return self._durations.lognormvariate(math.log(settings.run_median_s), settings.run_sigma)

    def _draw_cost(self, inputs: Mapping[str, Any]) -> int:
        cost, spread = self.cost_micros(inputs), self._settings.price_spread
        return round(cost * self._mishaps.uniform(1 - spread, 1 + spread)) if spread else cost

    def _new_id(self, now: float, life_s: float, cost_micros: int) -> str:
        # An id tells enough to go on with it after this process is gone (`recognise_earlier`),
        # and its random part is never seeded: two runs must not share ids.
        accepted_ms = round((now + self.utc_offset_s) * 1000)
        life_ms = _FOREVER_MS if math.isinf(life_s) else min(round(life_s * 1000), _FOREVER_MS)
        return f"sim-{accepted_ms:x}-{life_ms:x}-{cost_micros:x}-{secrets.token_hex(6)}"

    def _recognise(self, request_id: str) -> Entry | None:
        match = _ID.fullmatch(request_id)
        if match is None:
            return None
        accepted_ms, life_ms, cost_micros = (int(part, 16) for part in match.groups())
        accepted_at = accepted_ms / 1000 - self.utc_offset_s
        run_s = math.inf if life_ms == _FOREVER_MS else life_ms / 1000
        entry = Entry(
            id=request_id,
            number=0,
            model="",
            inputs={},
            accepted_at=accepted_at,
            eligible_at=accepted_at,
            run_s=run_s,
            cost_micros=cost_micros,
            answered=True,
            started_at=accepted_at,
            ends_at=accepted_at + run_s,
        )
        self.entries[request_id] = entry
        return entry

    def _sort_faults(self) -> None:
        self._faults = {}
        for fault in self._settings.faults:
            self._faults.setdefault(STAGES[fault.kind], []).append(fault)

    def _shows(self, fault: Fault, number: int, text: str) -> bool:
        if fault.prompt is not None and fault.prompt not in text:
            return False
        if fault.nth and number not in fault.nth:
            return False
        if fault.times is not None and self._shown.get(fault, 0) >= fault.times:
            return False
        if fault.rate is not None and self._mishaps.random() >= fault.rate:
            return False
        self._shown[fault] = self._shown.get(fault, 0) + 1
        return True

    def _marked(self, stage: Stage, number: int, text: str) -> list[Fault]:
        asked = [fault for fault in marked(text) if STAGES[fault.kind] is stage]
        if asked and stage not in (Stage.LOOK, Stage.FILE):
            # A job's own marker counts that job's submits, not everybody's.
            number = self._seen_texts[stage, text] = self._seen_texts.get((stage, text), 0) + 1
        return [fault for fault in asked if not fault.nth or number in fault.nth]


def _text_of(inputs: Mapping[str, Any]) -> str:
    return "\n".join(value for value in inputs.values() if isinstance(value, str))
