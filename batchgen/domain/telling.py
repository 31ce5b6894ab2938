"""What a session tells others: the kinds of events, and the fields of each.

The table is closed: a kind that is not in it, or with other fields, is a mistake that a test
finds. `docs/operations.md` lists it for those who read the stream.
"""

from collections.abc import Mapping
from typing import Any, Protocol

JOB_FIELDS = ("batch", "job", "key", "attempt_id")
"""Which job an event is about: its batch, its id for people, its key, and its attempt."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "session_started": ("command", "version", "host", "pid", "worker", "database"),
    "submitted": (*JOB_FIELDS, "model", "request_id"),
    "put_back": (*JOB_FIELDS, "message"),
    "refused": (*JOB_FIELDS, "code", "message"),
    "in_doubt": (*JOB_FIELDS, "message"),
    "generated": (*JOB_FIELDS, "cost_usd", "cost_is_estimate", "run_s"),
    "costed": (*JOB_FIELDS, "cost_usd"),
    "downloaded": (*JOB_FIELDS, "paths", "size_bytes"),
    "failed": (*JOB_FIELDS, "error_class", "code", "message"),
    "retried": (*JOB_FIELDS, "error_class", "code", "message"),
    "cancelled": (*JOB_FIELDS, "message"),
    "expired": (*JOB_FIELDS, "message"),
    "timed_out": (*JOB_FIELDS, "message"),
    "paused": ("exit_code", "message"),
    "resumed": ("message",),
    "held": ("model", "exit_code", "message"),
    "outage": ("message",),
    "outage_over": ("outage_s",),
    "throttled": ("wait_s", "message"),
    "budget_warning": ("batch", "spent_usd", "reserved_usd", "budget_usd"),
    "took_over": ("what", "jobs"),
    "notification_failed": ("service", "message"),
    "session_ended": (
        "exit_code",
        "reasons",
        "counts",
        "submitted",
        "spent_usd",
        "spent_is_estimate",
        "reserved_usd",
    ),
}
"""Every kind of event with its fields, each of which is always there."""


class Emit(Protocol):
    """Takes an event; returns at once, never fails, and may be called from any thread."""

    def __call__(self, kind: str, /, **fields: Any) -> None:
        """Tell that something happened: a kind of `KINDS`, with its fields."""
        ...


def silent(kind: str, /, **fields: Any) -> None:
    """Tell nobody."""


def dollars(micros: int | None) -> float | None:
    """Return micro-dollars as the number of dollars that an event states."""
    return None if micros is None else micros / 1_000_000
