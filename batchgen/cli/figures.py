"""The numbers of a session in words, and as JSON."""

import json
from typing import Any

from batchgen.cli.common import usd_number
from batchgen.cli.numbers import Numbers
from batchgen.domain.wording import lasting, usd

_MIB = 1024**2
_GIB = 1024**3
_TENTHS_BELOW = 10  # of a rate


def line_of(numbers: Numbers) -> str:
    """Return the numbers as one plain line."""
    parts = [
        f"{numbers.done:,}/{numbers.total:,} done",
        *counts_of(numbers),
        *pace_of(numbers),
        *money_of(numbers),
    ]
    line = f"{span(numbers.elapsed_s)}: {', '.join(parts)}"
    said = [*numbers.hurdles[:1], *(f"last: {one}" for one in numbers.problems[-1:])]
    return "; ".join([line, *said])


def counts_of(numbers: Numbers) -> list[str]:
    """Return how many jobs are where, those that succeeded left out."""
    rest = numbers.rest
    found = []
    if numbers.spent_micros is not None:
        auto = " (auto)" if numbers.is_auto else ""
        found.append(f"{numbers.in_flight:,} of {numbers.cap:,}{auto} in flight")
    elif numbers.in_flight:  # nothing is submitted, so no cap matters
        found.append(f"{numbers.in_flight:,} in flight")
    fetching = numbers.downloading + numbers.to_download
    for count, word in (
        (numbers.elsewhere, "with other workers"),
        (fetching, "to download"),
        (numbers.waiting, "waiting"),
        (rest.failed, "failed"),
        (rest.cancelled, "cancelled"),
        (rest.in_doubt, "in doubt"),
        (numbers.left, "left to a later run"),
    ):
        if count:
            found.append(f"{count:,} {word}")
    return found


def pace_of(numbers: Numbers) -> list[str]:
    """Return rate and time, as far as they are known."""
    found = []
    if numbers.per_min is not None:
        found.append(f"{rate(numbers.per_min)} a minute")
    if numbers.eta_s is not None and numbers.eta_s >= 1:
        found.append(f"about {span(numbers.eta_s)} left")
    if numbers.submits_for_s:  # once it is over, the hurdle says so
        found.append(f"submits for {span(numbers.submits_for_s)} more")
    return found


def money_of(numbers: Numbers) -> list[str]:
    """Return what is spent and reserved by the batches, and the budget; nothing of a download."""
    if numbers.spent_micros is None:
        return []
    found = [f"{usd(numbers.spent_micros, is_estimate=numbers.is_estimate)} spent"]
    if numbers.is_resumed:
        session = usd(numbers.session_micros, is_estimate=numbers.session_is_estimate)
        found[0] += f" ({session} in this run)"
    if numbers.reserved_micros:
        found.append(f"{usd(numbers.reserved_micros)} reserved")
    if numbers.budget_micros is not None:
        found.append(f"budget {usd(numbers.budget_micros)}")
    return found


def span(seconds: float) -> str:
    """Return a time for people: `8 s`, `3 min 20 s`, `2 h 5 min`, `1 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if 600 <= whole < 3600:
        return f"{whole // 60} min"
    return lasting(whole)


def rate(per_min: float) -> str:
    """Return clips a minute with two digits that say something."""
    if per_min >= _TENTHS_BELOW:
        return f"{per_min:,.0f} clips"
    return f"{per_min:.1f} clips" if per_min >= 1 else f"{per_min:.2f} clips"


def size(size_bytes: float) -> str:
    """Return a number of bytes for people."""
    if size_bytes >= _GIB:
        return f"{size_bytes / _GIB:,.1f} GiB"
    return f"{size_bytes / _MIB:,.1f} MiB" if size_bytes >= _MIB / 10 else f"{size_bytes:,.0f} B"


def json_line(numbers: Numbers) -> str:
    """Return the numbers as one JSON object; `docs/operations.md` lists its fields."""
    return json.dumps(as_json(numbers), ensure_ascii=False)


def as_json(numbers: Numbers) -> dict[str, Any]:
    """Return the numbers as data; what is not known is None."""
    rest = numbers.rest
    return {
        "kind": "progress",
        "elapsed_s": round(numbers.elapsed_s, 1),
        "total": numbers.total,
        "done": numbers.done,
        "succeeded": rest.succeeded,
        "failed": rest.failed,
        "cancelled": rest.cancelled,
        "in_doubt": rest.in_doubt,
        "waiting": numbers.waiting,
        "in_flight": numbers.in_flight,
        "in_flight_elsewhere": numbers.elsewhere,
        "cap": numbers.cap,
        "downloading": numbers.downloading,
        "to_download": numbers.to_download,
        "received_bytes": numbers.received_bytes,
        "bytes_per_s": round(numbers.bytes_per_s),
        "rate_per_min": None if numbers.per_min is None else round(numbers.per_min, 2),
        "eta_s": None if numbers.eta_s is None else round(numbers.eta_s),
        "spent_usd": usd_number(numbers.spent_micros),
        "session_spent_usd": usd_number(numbers.session_micros),
        "spent_is_estimate": numbers.is_estimate,
        "reserved_usd": usd_number(numbers.reserved_micros),
        "budget_usd": usd_number(numbers.budget_micros),
        "is_ending": numbers.is_leaving,
        "in_the_way": list(numbers.hurdles),
        "problems": list(numbers.problems),
    }
