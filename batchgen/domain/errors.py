"""Every error batchgen raises on purpose, as one tree.

BatchgenError                 something we foresaw                              exit code 1
├── UsageError                the command does not make sense                   2
│   ├── NoConsent             the answer was no, or nobody could be asked
│   ├── NoSuchJob             no job has this name, or several have
│   ├── NoSuchBatch           no batch has this name
│   └── BadExpression         `--where` and the like cannot be understood
├── ManifestError             the user's file is wrong or refused               5
├── StoreError                the job database cannot be used                   11
│   ├── NoDatabase            there is none
│   ├── DiskFull              it has no room to grow                            13
│   └── DatabaseMoved         its file was replaced or removed while in use
├── InDoubt                   nobody knows whether a request was accepted       10
├── NotNow                    nothing was sent; it may be tried again later     9
├── Halted                    nothing was sent; a person must act first         6, 7, 9, 13
├── NoClip                    the job has come to rest without a clip           3
├── OutputError               disk full, or the output folder is unwritable     13
│   └── BucketError           a bucket refuses, or is not there
│       └── BucketUnreachable it does not answer for now
├── InputUnusable             an input file is gone or has changed: its job waits   9
├── DownloadError             a clip could not be fetched this time
└── ProviderError             the provider answered with an error
    ├── Unsent                provably not sent: send again later, no attempt spent
    ├── Throttled             a plain refusal for now: everybody waits
    ├── Rejected              refused for good, nothing paid: the job fails
    ├── Misrouted             a refusal without a code: nothing paid, the job waits
    ├── AccountBlocked        no job can be accepted: the run pauses            6, 7
    ├── ModelBlocked          no job of this model can be accepted              9
    ├── RequestLost           the provider does not know the request any more
    ├── Unavailable           a read failed and may be repeated
    └── OutcomeUnknown        it may have been accepted: the job is in doubt

The provider errors are named by what the runner must do; the mapping from a status or
a cause to a class is the provider module's whole job.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """The exit codes of every command; `PRECEDENCE` says which wins."""

    SUCCESS = 0
    UNEXPECTED = 1
    USAGE = 2
    SOME_FAILED = 3
    ALL_FAILED = 4
    MANIFEST = 5
    TOKEN = 6
    NO_BALANCE = 7
    BUDGET = 8
    HALTED = 9
    IN_DOUBT = 10
    DATABASE = 11
    UNREACHABLE = 12
    OUTPUT = 13
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


PRECEDENCE = (
    Exit.UNEXPECTED,
    Exit.DATABASE,
    Exit.MANIFEST,
    Exit.USAGE,
    Exit.TOKEN,
    Exit.NO_BALANCE,
    Exit.UNREACHABLE,
    Exit.OUTPUT,
    Exit.HALTED,
    Exit.BUDGET,
    Exit.SIGHUP,
    Exit.SIGINT,
    Exit.SIGTERM,
    Exit.IN_DOUBT,
    Exit.ALL_FAILED,
    Exit.SOME_FAILED,
    Exit.SUCCESS,
)
"""The reasons a run may end for, most telling first (spec section 5)."""


class BatchgenError(Exception):
    """Something we foresaw; the message says what, where and what to do.

    Attributes:
        kind: What `--json` calls it: one word, the same in every version.
        exit_code: What a command ends with for it.
    """

    kind: str = "error"
    exit_code: Exit = Exit.UNEXPECTED

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be pickled, whatever its arguments: engines keep what a step has raised."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(
    kind: type[BatchgenError], args: tuple[Any, ...], state: dict[str, Any]
) -> BatchgenError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(BatchgenError):
    """The command does not make sense as given, or the user did not consent."""

    kind = "usage"

    exit_code = Exit.USAGE


class NoConsent(UsageError):
    """The answer was no, or nobody could be asked."""

    kind = "no_consent"


class NoSuchJob(UsageError):
    """No job has this name, or several have."""

    kind = "no_such_job"


class NoSuchBatch(UsageError):
    """No batch has this name."""

    kind = "no_such_batch"


class BadExpression(UsageError):
    """What `--where`, `--columns` or `--sort` say cannot be understood."""

    kind = "bad_expression"


SHOWN_FAULTS = 50
"""More than these are counted, not shown."""


@dataclass(frozen=True, order=True)
class Fault:
    """One thing wrong with a manifest, and where.

    Attributes:
        file: The manifest's path as the user wrote it.
        line: The 1-based line; 0 if the fault is the whole file's.
        column: The key or column, "" if none.
        message: What is wrong and what to do.
    """

    file: str
    line: int
    column: str
    message: str

    def __str__(self) -> str:
        """Return `file:line: column: message`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return (
            f"{place}: {self.column}: {self.message}" if self.column else f"{place}: {self.message}"
        )


class ManifestError(BatchgenError):
    """The user's file is wrong or refused; nothing was stored or spent.

    Attributes:
        faults: What is wrong, in order; of very many only the first ones.
        total: How many faults there are.
    """

    kind = "manifest_refused"

    exit_code = Exit.MANIFEST

    def __init__(self, faults: Sequence[Fault] | str, *, total: int | None = None) -> None:
        self.faults = () if isinstance(faults, str) else tuple(faults)
        self.total = len(self.faults) if total is None else total
        super().__init__(
            faults if isinstance(faults, str) else "\n".join(_told(self.faults, self.total))
        )


def _told(faults: Sequence[Fault], total: int) -> list[str]:
    lines = [str(fault) for fault in faults[:SHOWN_FAULTS]]
    return [*lines, f"and {total - len(lines):,} more"] if total > len(lines) else lines


class StoreError(BatchgenError):
    """The job database cannot be used: locked, unreadable, read-only or newer."""

    kind = "database_unusable"

    exit_code = Exit.DATABASE


class NoDatabase(StoreError):
    """There is no job database there."""

    kind = "no_database"


class DiskFull(StoreError):
    """The job database has no room to grow."""

    kind = "database_disk_full"

    exit_code = Exit.OUTPUT


class DatabaseMoved(StoreError):
    """The file was replaced or removed while it was in use."""

    kind = "database_moved"


class InDoubt(BatchgenError):
    """A paid request was sent and its answer never came: it is not sent again without a person.

    Attributes:
        attempt_id: The attempt that it was.
    """

    kind = "in_doubt"

    exit_code = Exit.IN_DOUBT

    def __init__(self, message: str, *, attempt_id: str) -> None:
        super().__init__(message)
        self.attempt_id = attempt_id


class NotNow(BatchgenError):
    """A step of a job cannot be taken now; nothing was sent, and it may be tried again.

    Attributes:
        retry_after_s: When to try again, in seconds from now.
    """

    kind = "not_now"

    exit_code = Exit.HALTED

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Halted(BatchgenError):
    """A step of a job cannot be taken until a person has acted; nothing was sent.

    Attributes:
        exit_code: What `batchgen run` would end with for it.
    """

    kind = "halted"

    def __init__(self, message: str, *, exit_code: Exit = Exit.HALTED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NoClip(BatchgenError):
    """The job has come to rest without a clip: failed, cancelled or expired.

    Attributes:
        state: In which state.
        error_class: Why it failed, None if it did not.
    """

    kind = "no_clip"

    exit_code = Exit.SOME_FAILED

    def __init__(self, message: str, *, state: str, error_class: str | None) -> None:
        super().__init__(message)
        self.state = state
        self.error_class = error_class


class OutputError(BatchgenError):
    """A file could not be written: disk full, or the folder is unwritable."""

    kind = "output_unwritable"

    exit_code = Exit.OUTPUT


class BucketError(OutputError):
    """A bucket cannot be used: no credentials, not there, access denied."""

    kind = "bucket_unusable"


class BucketUnreachable(BucketError):
    """A bucket does not answer, or is busy: it may answer in a minute."""

    kind = "bucket_unreachable"


class InputUnusable(BatchgenError):
    """An input file is gone, has changed or cannot be read: what needs it is not paid for."""

    kind = "input_unusable"

    exit_code = Exit.HALTED


class DownloadError(BatchgenError):
    """A clip could not be fetched this time.

    Attributes:
        link_dead: The link itself is refused (403, 404, 410): ask for a fresh one.
    """

    kind = "download_failed"

    def __init__(self, message: str, *, link_dead: bool = False) -> None:
        super().__init__(message)
        self.link_dead = link_dead


class ProviderError(BatchgenError):
    """The provider answered with an error, or not at all.

    Attributes:
        status: HTTP status, if there was an answer.
        code: The provider's own error code, if it gave one.
        raw: The answer's body as text, kept with the attempt.
    """

    kind = "service_error"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        raw: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.raw = raw


class Unsent(ProviderError):
    """No byte of the request left, provably: send it again later."""

    kind = "service_unreachable"


class Throttled(ProviderError):
    """A plain refusal for now; everybody of the account waits.

    Attributes:
        retry_after_s: What the provider asked for, in seconds, if it did.
    """

    kind = "service_throttled"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        status: int | None = None,
        code: str | None = None,
        raw: str | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, raw=raw)
        self.retry_after_s = retry_after_s


class Rejected(ProviderError):
    """Refused for good and nothing paid: the job fails as invalid input."""

    kind = "service_refused"


class Misrouted(ProviderError):
    """Refused without a code, as by a gateway or a wrong base: nothing paid, the job waits."""

    kind = "service_misrouted"


class AccountBlocked(ProviderError):
    """No job of this account can be accepted: the run pauses.

    Attributes:
        exit_code: `Exit.TOKEN` or `Exit.NO_BALANCE`.
    """

    kind = "account_blocked"

    def __init__(
        self,
        message: str,
        *,
        exit_code: Exit,
        status: int | None = None,
        code: str | None = None,
        raw: str | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, raw=raw)
        self.exit_code = exit_code


class ModelBlocked(ProviderError):
    """The provider does not know the model: its jobs are held, the others go on."""

    kind = "model_unknown"

    exit_code = Exit.HALTED


class RequestLost(ProviderError):
    """The provider does not know the request (any more)."""

    kind = "request_unknown"


class Unavailable(ProviderError):
    """A read failed in a way that says nothing about the job: repeat it later."""

    kind = "service_unavailable"


class OutcomeUnknown(ProviderError):
    """The paid request may have been accepted: the job is in doubt."""

    kind = "outcome_unknown"
