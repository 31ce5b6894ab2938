"""The states of jobs and attempts, and every move between them."""

from enum import StrEnum


class JobState(StrEnum):
    """Where one job stands."""

    PENDING = "pending"  # waits for a slot
    SUBMITTING = "submitting"  # an intent is durable; the paid request may be on its way
    RUNNING = "running"  # accepted; the request id is durable
    DOWNLOADING = "downloading"  # generated and paid; the clip is not on disk yet
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"  # sent, no answer: only a person leads out
    EXPIRED = "expired"  # paid, and the clip can no longer be fetched


class AttemptState(StrEnum):
    """Where one paid request stands."""

    INTENT = "intent"
    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"  # refused, nothing paid
    IN_DOUBT = "in_doubt"
    ABANDONED = "abandoned"  # a person gave it up: bought again or written off


class ErrorClass(StrEnum):
    """Why a job is `failed`."""

    MODERATION = "moderation"
    INVALID_INPUT = "invalid_input"
    GENERATION = "generation"
    REMOTE_LOST = "remote_lost"
    UNKNOWN = "unknown"
    WRITTEN_OFF = "written_off"


RUNNER_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.SUBMITTING, JobState.FAILED}),
    JobState.SUBMITTING: frozenset(
        {JobState.RUNNING, JobState.PENDING, JobState.FAILED, JobState.IN_DOUBT}
    ),
    JobState.RUNNING: frozenset(
        {JobState.DOWNLOADING, JobState.PENDING, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.DOWNLOADING: frozenset({JobState.SUCCEEDED, JobState.EXPIRED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.IN_DOUBT: frozenset(),
    JobState.EXPIRED: frozenset(),
}
"""What the runner does by itself. A late answer also leads `in_doubt` to `running`."""

USER_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.CANCELLED}),
    JobState.SUBMITTING: frozenset(),
    JobState.RUNNING: frozenset(),
    JobState.DOWNLOADING: frozenset(),
    JobState.SUCCEEDED: frozenset({JobState.PENDING, JobState.DOWNLOADING}),
    JobState.FAILED: frozenset({JobState.PENDING, JobState.RUNNING}),
    JobState.CANCELLED: frozenset({JobState.PENDING}),
    JobState.IN_DOUBT: frozenset({JobState.RUNNING, JobState.PENDING, JobState.FAILED}),
    JobState.EXPIRED: frozenset({JobState.PENDING, JobState.DOWNLOADING}),
}
"""What only a person's command does: retry, cancel, reconcile, download, add."""

FINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.EXPIRED,
        JobState.IN_DOUBT,
    }
)
"""States in which the runner leaves a job at rest."""

UNFINISHED = frozenset(JobState) - FINAL
"""States from which the runner leads a job on."""

LOST = frozenset({JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})
"""States of a job at rest without a clip; `batchgen retry` begins it again."""

PAID = frozenset(
    {
        JobState.SUBMITTING,
        JobState.RUNNING,
        JobState.DOWNLOADING,
        JobState.SUCCEEDED,
        JobState.IN_DOUBT,
        JobState.EXPIRED,
    }
)
"""States in which the job's inputs have been, or may have been, paid for."""

OWNED = frozenset({JobState.SUBMITTING, JobState.RUNNING, JobState.DOWNLOADING})
"""States in which a worker holds the job."""

LIVE_ATTEMPTS = frozenset({AttemptState.INTENT, AttemptState.ACCEPTED, AttemptState.IN_DOUBT})
"""At most one attempt of a job is in one of these (a partial unique index)."""
