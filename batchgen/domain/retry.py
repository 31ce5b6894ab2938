"""What happens after a failure, and how long to wait: decisions only, no waiting."""

from batchgen.domain.states import ErrorClass

RETRIED_CODES = ("INTERNAL", "INPUT_PREPROCESSING.INTERNAL", "THIRD_PARTY.UNAVAILABLE")
"""Runway's failure codes that are known to pass (docs.dev.runwayml.com, task failures)."""

RETRIED_PREFIXES = ("INTERNAL.BAD_OUTPUT",)

_UNKNOWN_RUN_MS = 600_000
_SHORTEST_DOUBT_MS = 1_000


def failure_class(code: str | None) -> ErrorClass:
    """Return the class of a failed generation from the provider's failure code."""
    if not code:
        return ErrorClass.UNKNOWN
    parts = code.upper().split(".")
    if "SAFETY" in parts or "MODERATION" in parts:
        return ErrorClass.MODERATION
    if code.upper() in RETRIED_CODES or code.upper().startswith(RETRIED_PREFIXES):
        return ErrorClass.GENERATION
    if parts[0] == "ASSET":
        return ErrorClass.INVALID_INPUT
    return ErrorClass.UNKNOWN


def is_retried(error_class: ErrorClass, *, retries_used: int, retries: int) -> bool:
    """Return whether a new paid attempt follows by itself."""
    return error_class is ErrorClass.GENERATION and retries_used < retries


def is_policy_retried(error_class: ErrorClass, *, retries_used: int, retries: int) -> bool:
    """Return whether a refusal by moderation is bought again, with another seed.

    Never without being asked for: repeats can suspend an account.
    """
    return error_class is ErrorClass.MODERATION and retries_used < retries


def backoff_s(tries: int, *, first_s: float, longest_s: float) -> float:
    """Return the wait after `tries` failures in a row (at least 1): doubling, bounded."""
    return min(longest_s, first_s * 2.0 ** min(tries - 1, 60))


def doubt_slot_ms(longest_ms: int) -> int:
    """Return how long a doubt holds its slot: twice the longest generation seen, 0 if none was."""
    return max(2 * longest_ms, _SHORTEST_DOUBT_MS) if longest_ms else _UNKNOWN_RUN_MS
