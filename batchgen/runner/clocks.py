"""The clocks of a session, and ids that sort by time; any command may ask, it loads nothing."""

import secrets
import time
from collections.abc import Callable


def new_id(prefix: str, now_ms: int) -> str:
    """Return an id that sorts by time: 11 hex digits of milliseconds, 14 of chance."""
    return f"{prefix}{now_ms:011x}{secrets.token_hex(7)}"


def wall_ms() -> int:
    """Return the wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def steady_s() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def carried_on(now_ms: int, at_s: float) -> Callable[[], int]:
    """Return a wall clock that nobody sets: a moment of one, carried on by the steady clock."""
    return lambda: now_ms + int((steady_s() - at_s) * 1000)
