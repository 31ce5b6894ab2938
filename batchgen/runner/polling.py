"""When to look at a running job, learned from how long the ones before it took.

The lag of a look behind the end of a generation, times the looks a job, is nearly a constant of
the schedule. Looking first when a tenth of what was seen had ended, then in even steps, comes
within a few percent of what is possible with the distribution known: 0.27 for lognormal
durations of sigma 0.3, where steps that grow with age give 0.93 (`benchmarks/polling.py`).
"""

from collections import deque
from dataclasses import dataclass

NEWEST = 200
"""How many durations of a kind are remembered: older ones tell of a service as it was."""

FIRST_ENDINGS = 20
"""So many endings of a kind change the schedule enough to plan the jobs that wait anew."""

_MOST_KINDS = 1_000  # settings may be as many as jobs: a number drawn for each
_ENOUGH = 5  # of its own kind; before, the model's other settings are a hint

_QUANTILE = 0.1  # of the durations seen: when to look first
_PLAUSIBLE = 0.95  # of the durations seen: what takes longer may take any time
_STEPS = 5.2  # from there to the mean of the ends: with the first look 7.5 looks a job
_LEAST_STEP = 0.04  # of the mean: a look more often would be of no use to anybody
_UNSURE = 0.2  # of the mean, shared by what was seen: few durations tell little

_HINTED_FIRST = 0.5  # of the first look: other settings may be done in half the time
_HINTED_STEP = 0.1  # of the mean

_BLIND = 0.3  # of the age
_QUEUED = 0.15  # of the age: what has not begun will not end soon
_OVERDUE = 0.06  # of the age, once older than anything seen
_LONGEST_STRETCH_S = 30.0
_LONGEST_S = 300.0  # whatever was seen: nobody is forgotten for longer
_JITTER = 0.1


@dataclass(frozen=True)
class Schedule:
    """When to look at the jobs of one kind, in seconds of age.

    Attributes:
        first_s: The first look.
        step_s: The steps from there on.
        longest_s: From here on steps stretch.
        share: A stretched step as a share of the age.
    """

    first_s: float = 0.0
    step_s: float = 0.0
    longest_s: float = 0.0
    share: float = _BLIND

    def next_look_s(
        self, seen_s: float | None, *, is_queued: bool = False, shortest_s: float, chance: float
    ) -> float:
        """Return the age at which to look next.

        Jitter takes up to a tenth from each wait, so that jobs which began together are not
        looked at together; waits of the shortest length are lengthened by it instead. Because
        it never makes a first look later than what was seen, durations that are only known
        from looks shrink with time if the service has become faster.

        Args:
            seen_s: The age at the last look, None if there was none.
            is_queued: Whether that look said that the job waits in a queue.
            shortest_s: `--poll-interval`; 0 means no wait at all.
            chance: In [0, 1), drawn once a look.
        """
        if shortest_s == 0:
            return seen_s or 0.0
        if seen_s is None:
            return min(self.first_s * (1 - _JITTER * chance), _LONGEST_S)
        wait_s = max(self.first_s - seen_s, self._step_s(seen_s, is_queued=is_queued))
        wait_s = min(wait_s, _LONGEST_S) * (1 - _JITTER * chance)
        return seen_s + max(wait_s, shortest_s * (1 + _JITTER * chance))

    def _step_s(self, age_s: float, *, is_queued: bool) -> float:
        share = self.share if age_s >= self.longest_s else 0.0
        if is_queued:
            share = max(share, _QUEUED)
        return max(self.step_s, min(share * age_s, _LONGEST_STRETCH_S))


BLIND = Schedule()
"""While nothing is known: at once, then at ages that grow by three tenths."""


class Durations:
    """How long generations took, by model and settings: the newest of each."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str | None], _Seen] = {}

    def add(self, model: str, settings: str, ms: int) -> None:
        """Note how long a generation took, from its acceptance to its end."""
        self._add((model, settings), ms)
        self._add((model, None), ms)

    def _add(self, kind: tuple[str, str | None], ms: int) -> None:
        seen = self._kinds.pop(kind, None)
        if seen is None:
            seen = _Seen()
            if len(self._kinds) >= _MOST_KINDS:
                del self._kinds[next(iter(self._kinds))]
        self._kinds[kind] = seen  # the newest kind last
        seen.add(ms)

    def seen(self, model: str, settings: str | None = None) -> int:
        """Return how many durations are known, of a model as a whole if without settings."""
        found = self._kinds.get((model, settings))
        return 0 if found is None else len(found)

    def schedule(self, model: str, settings: str) -> Schedule:
        """Return when to look at a job: as its own kind ended, else as the model's others did."""
        own = self._kinds.get((model, settings))
        if own is not None and len(own) >= _ENOUGH:
            return own.schedule()
        whole = self._kinds.get((model, None))
        if whole is None:
            return BLIND if own is None else own.schedule()
        if own is not None and len(own) == len(whole):  # there are no others
            return own.schedule()
        return whole.hint()


class _Seen:
    """The newest durations of one kind, and what follows from them."""

    def __init__(self) -> None:
        self._newest_ms: deque[int] = deque(maxlen=NEWEST)
        self._schedule: Schedule | None = None

    def __len__(self) -> int:
        return len(self._newest_ms)

    def add(self, ms: int) -> None:
        self._newest_ms.append(max(0, ms))
        self._schedule = None

    def schedule(self) -> Schedule:
        if self._schedule is None:
            self._schedule = self._learned()
        return self._schedule

    def _learned(self) -> Schedule:
        seen_s = sorted(ms / 1000 for ms in self._newest_ms)
        count = len(seen_s)
        mean_s = sum(seen_s) / count
        # The shortest of a few is no tenth of them: look a little earlier.
        first_s = seen_s[int(_QUANTILE * count)] * (1 - 1 / (count + 2))
        longest_s = seen_s[int(_PLAUSIBLE * count)]
        # A few that took very long must not make the looks at all the others rare.
        left_s = sum(max(0.0, min(one, longest_s) - first_s) for one in seen_s) / count
        least_s = (_LEAST_STEP + _UNSURE / (count + 1)) * mean_s
        return Schedule(first_s, max(left_s / _STEPS, least_s), longest_s, _OVERDUE)

    def hint(self) -> Schedule:
        """Return what these durations tell of jobs with other settings."""
        learned = self.schedule()
        mean_s = sum(self._newest_ms) / len(self._newest_ms) / 1000
        return Schedule(
            _HINTED_FIRST * learned.first_s,
            max(learned.step_s, _HINTED_STEP * mean_s),
            learned.longest_s,
            _OVERDUE,
        )


def after_trouble_s(tries: int, *, shortest_s: float) -> float:
    """Return the wait after looks that failed `tries` times in a row."""
    return min(60.0, max(shortest_s, 0.5) * 2.0 ** min(tries - 1, 10))
