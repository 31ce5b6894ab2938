"""Numbers, money and times as people read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batchgen.domain.states import ErrorClass
from batchgen.domain.wording import lasting, usd
from batchgen.pages.interface import Amount, BatchMoney

_CENT_MICROS = 10_000
_CLASSES = {
    ErrorClass.MODERATION: "Refused by moderation",
    ErrorClass.INVALID_INPUT: "Input not accepted",
    ErrorClass.GENERATION: "Generation failed",
    ErrorClass.REMOTE_LOST: "Lost at the service",
    ErrorClass.UNKNOWN: "Failed for an unknown reason",
    ErrorClass.WRITTEN_OFF: "Written off by you",
}


@dataclass(frozen=True)
class Totals:
    """The money of all batches together; micro-dollars.

    Attributes:
        spent: What is booked.
        estimated: What those requests were estimated at.
        reserved: For requests that are open or in doubt.
        waiting: What the jobs that wait will probably cost.
        budget: Of all batches; None unless each has one.
    """

    spent: Amount
    estimated: int
    reserved: int
    waiting: int
    budget: int | None


def totals(money: Sequence[BatchMoney]) -> Totals:
    """Return the money of batches together."""
    budgets = [it.budget for it in money if it.budget is not None]
    return Totals(
        spent=Amount(
            sum(it.spent.micros for it in money), any(it.spent.is_estimate for it in money)
        ),
        estimated=sum(it.estimated for it in money),
        reserved=sum(it.reserved for it in money),
        waiting=sum(it.waiting for it in money),
        budget=sum(budgets) if money and len(budgets) == len(money) else None,
    )


def amount(value: Amount) -> str:
    """Return money that may be an estimate."""
    return usd(value.micros, is_estimate=value.is_estimate)


def against(value: Amount, estimated: int) -> str:
    """Return how money compares with its estimate, in words; "" without one."""
    if not estimated or (value.is_estimate and value.micros == estimated):
        return ""
    less = estimated - value.micros
    if abs(less) < _CENT_MICROS:
        return "as estimated"
    return f"{usd(abs(less))} {'less' if less > 0 else 'more'} than estimated"


def count(number: int) -> str:
    """Return `1,234`."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """Return `1 job`, `2 jobs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(ms: int) -> str:
    """Return a length of time in its two largest units: `7 h 12 min`."""
    return lasting(ms / 1000)


def iso(ms: int) -> str:
    """Return a time as ISO 8601 in UTC."""
    return _time(ms).isoformat(timespec="seconds").replace("+00:00", "Z")


def moment(ms: int) -> str:
    """Return a time for people, in UTC; the page's script puts it into the reader's own."""
    return f"{_time(ms):%-d %b %Y, %H:%M} UTC"


def size(size_bytes: int) -> str:
    """Return a length of a file: `1.2 MB`."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if size_bytes >= bytes_:
            return f"{size_bytes / bytes_:.1f} {unit}"
    return f"{size_bytes} B"


def reason(error_class: str) -> str:
    """Return a class of failures as a title."""
    known = error_class in [*ErrorClass]
    return _CLASSES[ErrorClass(error_class)] if known else state(error_class)


def share(part: int, whole: int) -> str:
    """Return a part in percent, as a number for drawings."""
    return f"{max(0.0, min(100.0, 100 * part / whole)):.3f}" if whole else "0"


def state(name: str) -> str:
    """Return a state in words."""
    return name.replace("_", " ")


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


FILTERS: dict[str, Callable[..., Any]] = {
    "against": against,
    "amount": amount,
    "count": count,
    "iso": iso,
    "moment": moment,
    "plural": plural,
    "reason": reason,
    "share": share,
    "span": span,
    "state": state,
    "usd": usd,
}
