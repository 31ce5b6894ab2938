"""What happened to a job, moment by moment, in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.cli import common
from batchgen.domain.states import AttemptState, JobState
from batchgen.domain.wording import lasting, usd
from batchgen.store.reads import JobRow

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Moment:
    """Something that happened; the time in epoch milliseconds."""

    at_ms: int
    words: str


def moments(row: JobRow, attempts: Sequence[Record], events: Sequence[Record]) -> list[Moment]:
    """Return what happened to a job, the oldest first.

    Args:
        row: The job.
        attempts: Of `reads.attempts`.
        events: Of `reads.events`.
    """
    numbers = {attempt["id"]: attempt["no"] for attempt in attempts}
    closed = {(attempt["id"], attempt["closed_ms"]) for attempt in attempts}
    found = [moment for attempt in attempts for moment in _of_attempt(attempt)]
    for event in events:
        # The end of an attempt is told by the attempt, which knows more of it.
        is_told = (event["attempt_id"], event["at_ms"]) in closed and event["kind"] in _ENDS
        if not is_told:
            found.append(Moment(event["at_ms"], _of_event(event, numbers)))
        elif "new_seed" in event["data"]:
            found.append(Moment(event["at_ms"], f"it gets a new seed: {event['data']['new_seed']}"))
    if row.state is JobState.SUCCEEDED and row.finished_ms is not None:
        found.append(Moment(row.finished_ms, "the clip is on disk"))
    return sorted(found, key=lambda moment: moment.at_ms)


_ENDS = frozenset({"failed", "cancelled", "succeeded"})


def _of_attempt(attempt: Record) -> Iterator[Moment]:
    which = f"attempt {attempt['no']}"
    reserved = usd(attempt["est_micros"])
    yield Moment(attempt["intent_ms"], f"{which} is sent, with {reserved} reserved for it")
    accepted_ms, started_ms = attempt["accepted_ms"], attempt["started_ms"]
    if accepted_ms is not None:
        yield Moment(accepted_ms, f"{which} is accepted: request {attempt['request_id']}")
    if started_ms is not None:
        queued = "" if accepted_ms is None else _after((started_ms - accepted_ms) / 1000, "queued")
        yield Moment(started_ms, f"{which} is being generated{queued}")
    if attempt["cancel_ms"] is not None:
        yield Moment(attempt["cancel_ms"], f"the service is asked to cancel {which}")
    if attempt["closed_ms"] is not None and attempt["state"] in _CLOSED:
        yield Moment(attempt["closed_ms"], f"{which} {_CLOSED[attempt['state']](attempt)}")


def _after(seconds: float, word: str) -> str:
    return f", {word} for {lasting(seconds)}" if seconds > 0 else ""


def _generated(attempt: Record) -> str:
    took = "" if attempt["run_ms"] is None else f" in {lasting(attempt['run_ms'] / 1000)}"
    return f"is generated{took}, {charged_in_words(attempt)}"


def charged_in_words(attempt: Record) -> str:
    """Return what an attempt cost: stated by the service, or estimated."""
    charged, stated = attempt["charged_micros"], attempt["cost_micros"]
    if charged is None:
        return "nothing charged so far"
    if not charged:
        return "nothing charged"
    by = "as the service states" if charged == stated else "an estimate: the service states no cost"
    return f"{usd(charged, is_estimate=charged != stated)} charged, {by}"


def _failed(attempt: Record) -> str:
    code = f", {attempt['error_code']}" if attempt["error_code"] else ""
    why = attempt["error"] or "the service gives no reason"
    return (
        f"fails ({attempt['error_class'] or 'unknown'}{code}): {why}; {charged_in_words(attempt)}"
    )


_CLOSED: Mapping[str, Callable[[Record], str]] = {
    AttemptState.SUCCEEDED: _generated,
    AttemptState.FAILED: _failed,
    AttemptState.CANCELLED: lambda attempt: f"is cancelled, {charged_in_words(attempt)}",
    AttemptState.REJECTED: lambda attempt: f"is refused, nothing is paid: {attempt['error']}",
}

_WORDS = {
    "accepted_late": "the answer arrives after all: the request was accepted",
    "adopted": "a person found the request at the service: it is polled, nothing new is paid",
    "after_restore": "put back after the job database had been restored from an older copy",
    "cancelled": "cancelled",
    "download_again": "its clip is to be fetched again",
    "expired": "the clip can no longer be fetched",
    "extra_clip": "bought once too often: the clip is kept",
    "failed": "failed",
    "fit_again": "its input files are fine now: it waits again",
    "in_doubt": "in doubt: sent, and no answer came",
    "link_dead": "a fresh link to the clip was dead, too",
    "put_back": "never sent, as it turned out: it waits again",
    "renamed": "renamed in the manifest",
    "reopened": "to be paid for again, with the inputs of the manifest",
    "resubmit": "a person lets it be paid for again",
    "retried": "a person lets it be paid for again",
    "timed_out": "it takes longer than --job-timeout: left to a later run",
    "unfit": "not sent, since an input file cannot be used",
    "write_off": "a person wrote it off",
}
_LEFT_OUT = frozenset({"est_micros"})


def _of_event(event: Record, numbers: Mapping[str, int]) -> str:
    kind, data = event["kind"], event["data"]
    words = _WORDS.get(kind, kind.replace("_", " "))
    number = numbers.get(event["attempt_id"])
    which = f"attempt {number}: " if number is not None else ""
    more = [
        str(value) if name == "error" else f"{name.replace('_', ' ')} {common.in_words(value)}"
        for name, value in data.items()
        if value is not None and name not in _LEFT_OUT
    ]
    return f"{which}{words}" + (f" ({'; '.join(more)})" if more else "")
