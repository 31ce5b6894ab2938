"""Named points at which a test can kill, stop or hinder the program; no-ops otherwise.

Armed by `BATCHGEN_FAILPOINT=NAME=ACTION`, several joined by commas. Actions: `kill`
(SIGKILL), `stop` (SIGSTOP), `raise`, `sleep:SECONDS`. `NAME@N` acts at the Nth pass.
"""

import math
import os
import signal
import threading
import time
from collections import Counter

from batchgen.domain.errors import UsageError

VARIABLE = "BATCHGEN_FAILPOINT"

POINTS = {
    "in-expansion": "new jobs are written, and not committed",
    "in-import": "a part of a large manifest is committed, and hidden",
    "in-migration": "an old job database is copied; at the next pass migrated, and not committed",
    "in-copy": "a part of a job database is committed in another, which is not whole yet",
    "in-start": "a worker shows that it lives; at the next pass it is registered, no more",
    "in-takeover": "a worker is known to be dead; at the next pass its jobs are taken from it",
    "after-upload": "an input file is in the bucket; its job is not claimed",
    "after-claim-commit": "jobs are claimed, their intents durable",
    "before-post": "a paid request is about to be sent",
    "after-send": "a paid request has left, to its last byte; its answer is not read",
    "after-answer": "a paid request is answered; its id is nowhere but in memory",
    "after-id-commit": "a request id is durable",
    "in-poll": "the service is about to be asked how a job stands",
    "in-download": "a block of a clip is in its temporary file",
    "in-upload": "a part of a clip is in its bucket, under no name yet",
    "after-rename": "a clip has its final name; folder not synced, temporary name not removed",
    "before-last-commit": "all clips of a job are on disk, which the job database does not know",
}
"""Every point, and what is true where it is passed."""

_ARMED: dict[str, tuple[int, str, float]] = {}  # at which pass, what, seconds
_PASSES: Counter[str] = Counter()
_COUNTING = threading.Lock()


class Armed(RuntimeError):
    """A failpoint was told to raise."""


def arm_from_environment() -> None:
    """Arm what the environment variable names; without it, disarm all.

    Raises:
        UsageError: If it names a point or an action that does not exist.
    """
    arm(os.environ.get(VARIABLE, ""))


def arm(said: str) -> None:
    """Arm failpoints from the text of the environment variable; an empty text disarms all.

    Raises:
        UsageError: If it names a point or an action that does not exist; then none is armed.
    """
    _ARMED.clear()
    _PASSES.clear()
    _ARMED.update([_read(one) for one in said.split(",") if one])


def _read(one: str) -> tuple[str, tuple[int, str, float]]:
    where, _, action = one.partition("=")
    name, at, nth = where.partition("@")
    if name not in POINTS:
        raise _wrong(one, f"there is no point {name!r}, only {', '.join(POINTS)}")
    if at and not (nth.isdecimal() and int(nth)):
        raise _wrong(one, f"{nth!r} is not the number of a pass, from 1 on")
    kind, colon, argument = action.partition(":")
    seconds = _seconds(argument) if kind == "sleep" else 0.0
    if kind not in {"kill", "stop", "raise", "sleep"} or (colon and kind != "sleep"):
        raise _wrong(one, f"{action!r} is none of kill, stop, raise, sleep:SECONDS")
    if seconds is None:
        raise _wrong(one, f"{argument!r} is not a number of seconds")
    return name, (int(nth or 1), kind, seconds)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _wrong(one: str, why: str) -> UsageError:
    return UsageError(f"{VARIABLE}: {one}: {why}")


def is_armed(name: str) -> bool:
    """Return whether a point is armed, for places where passing it would cost something."""
    return name in _ARMED


def failpoint(name: str) -> None:
    """Do what the point is armed for; nothing if it is not."""
    if not _ARMED or name not in _ARMED:
        return
    nth, action, seconds = _ARMED[name]
    with _COUNTING:  # some points are passed by threads
        _PASSES[name] += 1
        if _PASSES[name] != nth:
            return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "sleep":
        time.sleep(seconds)
    else:
        raise Armed(name)
