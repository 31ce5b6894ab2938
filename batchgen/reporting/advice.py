"""What helps: for each thing that is wrong, the command that puts it right."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from batchgen.domain.states import ErrorClass
from batchgen.pages.interface import Command

MOST_KEYS = 25  # jobs that one command names


@dataclass(frozen=True)
class Typist:
    """Writes command lines as the reader of the report has to type them.

    Attributes:
        database: What names the job database, as it was named for the report; maybe nothing.
        is_simulated: Whether its jobs are the stand-in's.
    """

    database: Sequence[str] = ()
    is_simulated: bool = False

    def line(self, *words: str) -> str:
        """Return a command line, quoted for a shell."""
        return shlex.join(["batchgen", *words, *self.meant])

    @property
    def meant(self) -> list[str]:
        """What every command line needs to mean this job database."""
        return [*self.database, *(["--simulate"] if self.is_simulated else [])]

    def retry(self, keys: Sequence[str], jobs: int, *, batch: str, error_class: str) -> Command:
        """Return what has failed jobs of one cause bought again."""
        if jobs <= min(MOST_KEYS, len(keys)):
            return Command(self.line("retry", *keys), "pays for them again at the next run")
        alike = f"state=failed and class={error_class}"
        return Command(
            self.line("retry", "--where", alike, *_of(batch)),
            "pays for them again at the next run; it says how many and asks first",
        )

    def doubt(self, key: str) -> tuple[Command, ...]:
        """Return what decides a job in doubt."""
        return (
            Command(
                self.line("reconcile", "--adopt", f"{key}=REQUEST_ID"),
                "your account at the service shows a request of that time and prompt: this is it",
            ),
            Command(self.line("reconcile", "--resubmit", key), "it is not there: a new payment"),
            Command(self.line("reconcile", "--write-off", key), "leave it"),
        )


def _of(batch: str) -> list[str]:
    return ["--batch", batch] if batch else []


_ADVICE = {
    ErrorClass.MODERATION: (
        "Change the words or the picture in the manifest, then run it again. Sending the same "
        "again may get the account suspended."
    ),
    ErrorClass.INVALID_INPUT: (
        "Nothing was paid. Put the row right in the manifest, then run it again."
    ),
    ErrorClass.GENERATION: "The service failed. Buying them again may well work.",
    ErrorClass.REMOTE_LOST: (
        "The service does not know the request any more. Look again for nothing before paying."
    ),
    ErrorClass.UNKNOWN: (
        "The service gave a reason that batchgen does not know. Read it; it may be moderation."
    ),
    ErrorClass.WRITTEN_OFF: "You gave these up. They can be bought again.",
}
_UNFIT = "The input file could not be used, and nothing was paid. Every run looks at it again."


def advice(error_class: str, *, is_unfit: bool) -> str:
    """Return what a person should do about failed jobs of a class."""
    if is_unfit:
        return _UNFIT
    known = error_class in [*ErrorClass]
    return _ADVICE[ErrorClass(error_class) if known else ErrorClass.UNKNOWN]


def commands(
    typist: Typist,
    error_class: str,
    keys: Sequence[str],
    *,
    jobs: int,
    batch: str,
    source: str,
    is_unfit: bool,
) -> list[Command]:
    """Return what puts failed jobs of one cause right.

    Args:
        typist: Writes the lines.
        error_class: Why they failed.
        keys: Of the first jobs.
        jobs: How many there are.
        batch: The batch of all of them; "" if they are of several.
        source: The manifest of all of them; "" if they are of several.
        is_unfit: Whether a probe of their input files failed them.
    """
    retry = typist.retry(keys, jobs, batch=batch, error_class=error_class)
    again = Command(
        typist.line("run", source or "MANIFEST"),
        "after you have corrected the rows in the manifest",
    )
    if is_unfit:
        return [Command(typist.line("run"), "once the files are in their place"), again]
    if error_class in (ErrorClass.MODERATION, ErrorClass.INVALID_INPUT):
        return [again]
    if error_class == ErrorClass.REMOTE_LOST:
        words = keys if jobs <= min(MOST_KEYS, len(keys)) else _of(batch)
        look = typist.line("download", "--refresh", *words)
        return [Command(look, "looks again, for nothing"), retry]
    return [retry]
