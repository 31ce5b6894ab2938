"""What the library answers with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from batchgen.domain.states import JobState


@dataclass(frozen=True)
class Added:
    """What adding a manifest has stored.

    Attributes:
        batch: The name of its batch.
        new: Jobs that were not there before.
        changed: Jobs that wait, and have other inputs now.
        reopened: Jobs that had come to rest without a clip, and wait again with other inputs.
        replaced: Finished jobs that are to be bought again, because `replace` was said.
        kept: Jobs that stay as they were.
        held: Rows that were not stored, because the same was paid for elsewhere.
        to_pay: How many jobs of the manifest a run would pay for.
        estimate_usd: About what that would cost; None if a price is not known.
    """

    batch: str
    new: int
    changed: int
    reopened: int
    replaced: int
    kept: int
    held: int
    to_pay: int
    estimate_usd: float | None


@dataclass(frozen=True)
class Event:
    """One thing that happens in a run.

    Attributes:
        kind: Which, as in the stream of `batchgen run --events`.
        fields: What is told of it there.
    """

    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        counts: The jobs that it was about, by state; states without any are left out.
        submitted: How many paid requests it sent that were accepted.
        reasons: Why it stopped before all of them had come to rest, in words; mostly none.
    """

    counts: Mapping[JobState, int]
    submitted: int
    reasons: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether every job has its clip."""
        return not self.reasons and set(self.counts) <= {JobState.SUCCEEDED}


@dataclass(frozen=True)
class Clip:
    """A file on disk, whole.

    Attributes:
        path: Where it is, absolute.
        sha256: Of its bytes, in hex.
        size_bytes: How many there are.
    """

    path: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Result:
    """One job as it stands.

    Attributes:
        key: What names it for good, in every export.
        id: The row's own id, or what stands for it.
        variant: Which of the row's jobs, "" if there is one.
        batch: The name of its batch.
        state: Where it is.
        model: What makes the clip.
        columns: The row as the manifest has it.
        clips: Its files, in order; none before it has succeeded.
        attempt: Its newest paid request, None if there was none.
        request_id: What the service calls that, None if it was not told.
        cost_usd: What the service has stated so far, None if nothing.
        error_class: Why it failed: moderation, invalid_input, generation, …
        error: The same in words; also of a passing trouble.
        finished_at: When it came to rest.
    """

    key: str
    id: str
    variant: str
    batch: str
    state: JobState
    model: str
    columns: Mapping[str, Any] = field(repr=False)
    clips: tuple[Clip, ...]
    attempt: str | None
    request_id: str | None
    cost_usd: float | None
    error_class: str | None
    error: str | None
    finished_at: datetime | None


@dataclass(frozen=True)
class Submitted:
    """A paid request that the service has accepted; its id is durable.

    Attributes:
        job: The key of its job.
        attempt: What `poll_one` and `fetch_one` are asked by.
        request_id: What the service calls it.
        is_new: Whether this call has sent it; False if it had been sent before.
    """

    job: str
    attempt: str
    request_id: str
    is_new: bool


@dataclass(frozen=True)
class Standing:
    """How a paid request stands.

    Attributes:
        job: The key of its job.
        attempt: The request.
        state: Of the job: `running`, `downloading`, `succeeded`, …; `pending` if this request
            failed in a way that passes, and the job may be submitted again.
        is_current: Whether this is the job's newest request.
        remote_state: The service's own word, None once it has ended.
        queue_position: In the service's queue, if it says so.
        error_class: Why it failed.
        error: The same in words.
    """

    job: str
    attempt: str
    state: JobState
    is_current: bool
    remote_state: str | None = None
    queue_position: int | None = None
    error_class: str | None = None
    error: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for: the clip can be fetched, or never will be."""
        return not self.is_current or self.state not in (JobState.SUBMITTING, JobState.RUNNING)

    @property
    def has_clip(self) -> bool:
        """Whether `fetch_one` can fetch it, or has."""
        return self.is_current and self.state in (JobState.DOWNLOADING, JobState.SUCCEEDED)
