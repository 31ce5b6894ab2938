"""What one row of an export says of its job, checked: every cell may have been edited."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from batchgen.domain.columns import RESULT_DETAILS
from batchgen.domain.models import id_problem
from batchgen.domain.redaction import public_url
from batchgen.domain.states import ErrorClass, JobState
from batchgen.manifests import MAX_BATCH, name_problem

Report = Callable[[str, str], None]
T = TypeVar("T")

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WHOLE = re.compile(r"-?[0-9]{1,19}(?:\.0*)?")
_MOST = 2**62
_MOST_USD = 10**9
_MOST_ATTEMPTS = 10_000
_LONGEST_ID = 500
_PAID = frozenset({JobState.RUNNING, JobState.DOWNLOADING, JobState.SUCCEEDED, JobState.EXPIRED})
_GENERATED = frozenset({JobState.DOWNLOADING, JobState.SUCCEEDED, JobState.EXPIRED})


@dataclass(frozen=True)
class ToldFile:
    """A clip as an export names it: a path from the job database's folder, or from the root."""

    file: str
    sha256: str | None
    size_bytes: int | None


@dataclass(frozen=True)
class Told:
    """A job as its row tells it; times in epoch milliseconds, money in micro-dollars.

    Attributes:
        attempts: How many requests were accepted.
        urls: Of its outputs.
        knows_all: Whether `urls` and `files` are all there are: a cell holds the first only.
        cost_micros: What the service stated, over all attempts.
        charged_micros: What all attempts had spent; None if the export does not tell.
        est_micros: The estimate of one attempt; None if the export does not tell.
    """

    place: tuple[str, int]
    key: str
    batch: str
    model: str
    state: JobState
    seed: int | None = None
    attempts: int = 0
    request_id: str | None = None
    urls: tuple[str, ...] = ()
    files: tuple[ToldFile, ...] = ()
    knows_all: bool = False
    cost_micros: int | None = None
    charged_micros: int | None = None
    est_micros: int | None = None
    error_class: str | None = None
    error: str | None = None
    submitted_ms: int | None = None
    finished_ms: int | None = None
    queue_ms: int | None = None
    run_ms: int | None = None
    version: int = 1
    remote_state: str | None = None


def told(
    key: str | None, results: Mapping[str, Any], place: tuple[str, int], report: Report
) -> Told | None:
    """Return what a row says of its job, None if something is wrong with it.

    Args:
        key: Its `result_key`.
        results: Its cells of the columns of an export, by name.
        place: File and line.
        report: Is told column and fault of everything that is wrong.
    """
    cells = _Cells(results, report)
    found_key = cells.key(key)
    batch = cells.name("result_batch")
    model = cells.model("result_model")
    state = cells.state("result_state")
    error_class = cells.one_of("result_error_class", ErrorClass)
    details = cells.details()
    whole = cells.whole
    values: dict[str, Any] = {
        "seed": whole("result_seed", least=-_MOST, most=_MOST),
        "attempts": whole("result_attempts", most=_MOST_ATTEMPTS) or 0,
        "request_id": cells.request_id("result_request_id"),
        "cost_micros": cells.micros("result_cost_usd"),
        "error_class": error_class,
        "error": cells.text("result_error"),
        "submitted_ms": cells.time("result_submitted_at"),
        "finished_ms": cells.time("result_finished_at"),
        "queue_ms": cells.milliseconds("result_queue_s"),
        "run_ms": cells.milliseconds("result_run_s"),
        "urls": cells.urls(details),
        "files": cells.files(details),
        "knows_all": bool(details),
        "charged_micros": details.micros("charged_usd"),
        "est_micros": details.micros("estimate_usd"),
        "version": details.whole("version", least=1, most=_MOST_ATTEMPTS) or 1,
        "remote_state": details.text("remote_state"),
    }
    if state is not None:
        _look_at_the_whole(state, values, report)
    if cells.is_faulty or details.is_faulty or None in (found_key, batch, model, state):
        return None
    if values["request_id"] and not values["attempts"]:
        values["attempts"] = 1
    return Told(place, str(found_key), str(batch), str(model), JobState(str(state)), **values)


def _look_at_the_whole(state: JobState, values: Mapping[str, Any], report: Report) -> None:
    if state in _PAID and not values["request_id"]:
        report("result_request_id", f"is empty, but the job is {state}: take it from the service")
    elif state in _GENERATED and not values["urls"]:
        report("result_url", f"is empty, but the job is {state}: a clip that was made has a link")


class _Cells:
    """The cells of one row, each read as what it must be."""

    def __init__(self, cells: Mapping[str, Any], report: Report, *, within: str = "") -> None:
        self._cells = cells
        self._report = report
        self._within = within
        self.is_faulty = False

    def __bool__(self) -> bool:
        return bool(self._cells)

    def fault(self, name: str, message: str) -> None:
        """Report what is wrong with a cell."""
        self.is_faulty = True
        self._report(self._within or name, f"`{name}` {message}" if self._within else message)

    def text(self, name: str) -> str | None:
        """Return a cell's text, None if it is empty."""
        value = self._cells.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, list | dict):
            self.fault(name, "is a list or an object: it must be text")
            return None
        return value if isinstance(value, str) else str(value)

    def _typed(self, name: str, read: Callable[[str], T | None], must: str) -> T | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            found = read(text.strip())
        except (ValueError, InvalidOperation, OverflowError):
            found = None
        if found is None:
            self.fault(name, f"must be {must}: put back what the export had")
        return found

    def key(self, key: str | None) -> str | None:
        """Return the key of the job."""
        if key is None:
            self.fault(
                "result_key",
                "is empty: only rows of an export can be taken back. Store new rows with "
                "`batchgen add` once the job database is rebuilt",
            )
        elif not _KEY.fullmatch(key):
            self.fault("result_key", "must be the key of a job: put back what the export had")
        else:
            return key
        return None

    def _given(self, name: str) -> str | None:
        text = self.text(name)
        if text is None and not self.is_missing(name):
            self.fault(name, "is empty: put back what the export had")
        return None if text is None else text.strip()

    def is_missing(self, name: str) -> bool:
        """Report a column that is not there; return whether it is not."""
        if name in self._cells:
            return False
        self.fault(name, "there is no such column: export with all columns, or put it back")
        return True

    def name(self, name: str) -> str | None:
        """Return the name of a batch."""
        found = self._given(name)
        problem = None if found is None else name_problem(found, most=MAX_BATCH)
        if problem:
            self.fault(name, f"the name {problem}")
            return None
        return found

    def model(self, name: str) -> str | None:
        """Return the id of a model."""
        found = self._given(name)
        problem = None if found is None else id_problem(found)
        if problem:
            self.fault(name, problem)
            return None
        return found

    def state(self, name: str) -> JobState | None:
        """Return the state of the job."""
        found = self._given(name)
        if found is None or found in set(JobState):
            return None if found is None else JobState(found)
        self.fault(name, f"must be one of {', '.join(JobState)}")
        return None

    def one_of(self, name: str, words: type[ErrorClass]) -> str | None:
        """Return one of some words."""
        must = f"one of {', '.join(words)}"
        return self._typed(name, lambda text: str(words(text)), must)

    def whole(self, name: str, *, most: int, least: int = 0) -> int | None:
        """Return a whole number."""

        def read(text: str) -> int | None:
            number = int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else None
            return number if number is not None and least <= number <= most else None

        return self._typed(name, read, f"a whole number from {least:,} to {most:,}")

    def micros(self, name: str) -> int | None:
        """Return dollars as micro-dollars."""
        return self._scaled(name, 1_000_000, _MOST_USD, "an amount of US dollars")

    def milliseconds(self, name: str) -> int | None:
        """Return seconds as milliseconds."""
        return self._scaled(name, 1_000, 10**9, "a number of seconds")

    def _scaled(self, name: str, factor: int, most: int, must: str) -> int | None:
        def read(text: str) -> int | None:
            number = Decimal(text)
            return round(number * factor) if 0 <= number <= most else None

        return self._typed(name, read, must)

    def time(self, name: str) -> int | None:
        """Return a time in epoch milliseconds."""

        def read(text: str) -> int | None:
            at = datetime.fromisoformat(text)
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            return round(at.timestamp() * 1000)

        return self._typed(name, read, "a time in ISO 8601, as 2026-11-30T04:05:06.789Z")

    def request_id(self, name: str) -> str | None:
        """Return what the service calls a request."""

        def read(text: str) -> str | None:
            is_one = text.isprintable() and " " not in text and len(text) <= _LONGEST_ID
            return text if is_one else None

        return self._typed(name, read, "the id of a request")

    def details(self) -> "_Cells":
        """Return what only formats with structure hold; nothing if the export has none."""
        found = self._cells.get(RESULT_DETAILS)
        if found is not None and not isinstance(found, dict):
            self.fault(RESULT_DETAILS, "must be an object: put back what the export had")
        cells = found if isinstance(found, dict) else {}
        return _Cells(cells, self._report, within=RESULT_DETAILS)

    def urls(self, details: "_Cells") -> tuple[str, ...]:
        """Return the links of all outputs that are told."""
        found = details._listed("urls", str)
        first = self.text("result_url")
        # A link that was signed for a while is never stored.
        return tuple(map(public_url, found or (() if first is None else (first,))))

    def files(self, details: "_Cells") -> tuple[ToldFile, ...]:
        """Return all clips that are told."""
        found = [
            _Cells(one, self._report, within=RESULT_DETAILS)._file("file", "sha256", "bytes")
            for one in details._listed("files", dict)
        ]
        if not found:
            found = [self._file("result_file", "result_sha256", "result_bytes")]
        return tuple(one for one in found if one is not None)

    def _listed(self, name: str, kind: type[T]) -> list[T]:
        value = self._cells.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, kind) for one in value):
            self.fault(name, "must be a list: put back what the export had")
            return []
        return value

    def _file(self, file: str, sha256: str, size: str) -> ToldFile | None:
        def read(text: str) -> str | None:
            return text if _SHA256.fullmatch(text) else None

        path = self.text(file)
        digest = self._typed(sha256, read, "a SHA-256 in 64 hex digits")
        size_bytes = self.whole(size, most=_MOST)
        return None if path is None else ToldFile(path, digest, size_bytes)
