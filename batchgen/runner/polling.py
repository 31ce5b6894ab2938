"""When to look at a running job again."""

from collections.abc import Callable

_SHARE_OF_AGE = 0.06
_LONGEST_S = 30.0
_JITTER = 0.1


def wait_s(age_s: float, *, shortest_s: float, random: Callable[[], float]) -> float:
    """Return the wait before the next look at a job.

    The wait stretches with the age of the job, so that a look is never late by more than a
    small share of the generation, and is jittered so that jobs which began together are not
    looked at together.

    Args:
        age_s: Time since the job was accepted.
        shortest_s: `--poll-interval`; 0 means no wait at all.
        random: A number in [0, 1).
    """
    if shortest_s == 0:
        return 0.0
    wait = max(shortest_s, min(_SHARE_OF_AGE * age_s, _LONGEST_S))
    return wait * (1 + _JITTER * random())


def after_trouble_s(tries: int, *, shortest_s: float) -> float:
    """Return the wait after looks that failed `tries` times in a row."""
    return min(60.0, max(shortest_s, 0.5) * 2.0 ** min(tries - 1, 10))
