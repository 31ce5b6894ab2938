"""Named points at which a test can kill, stop or hinder the program; no-ops otherwise.

Armed by `BATCHGEN_FAILPOINT=NAME=ACTION[:ARGUMENT]`, several joined by commas. Actions:
`kill` (SIGKILL), `stop` (SIGSTOP), `raise`, `sleep:SECONDS`. `NAME@N` acts at the Nth pass.
"""

import os
import signal
import time
from collections import Counter

_ARMED: dict[str, tuple[int, str]] = {}
_PASSES: Counter[str] = Counter()


class Armed(RuntimeError):
    """A failpoint was told to raise."""


def arm(said: str) -> None:
    """Arm failpoints from the text of the environment variable; an empty text disarms all."""
    _ARMED.clear()
    _PASSES.clear()
    for one in filter(None, said.split(",")):
        name, _, action = one.partition("=")
        name, _, nth = name.partition("@")
        _ARMED[name] = (int(nth or 1), action)


def failpoint(name: str) -> None:
    """Do what the point is armed for; nothing if it is not."""
    if not _ARMED or name not in _ARMED:
        return
    _PASSES[name] += 1
    nth, action = _ARMED[name]
    if _PASSES[name] != nth:
        return
    kind, _, argument = action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == "sleep":
        time.sleep(float(argument))
    elif kind == "raise":
        raise Armed(name)
    else:
        raise ValueError(f"BATCHGEN_FAILPOINT: unknown action {action!r}")


arm(os.environ.get("BATCHGEN_FAILPOINT", ""))
