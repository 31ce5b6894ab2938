"""What to type next, once a run has ended."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from batchgen.cli.common import plural
from batchgen.domain.causes import UNFIT, Cause
from batchgen.domain.errors import Exit
from batchgen.domain.states import ErrorClass, JobState

_MOST = 3
_MOST_MANIFESTS = 2  # that are repeated
_TO_BE_CURED = frozenset(
    {
        Exit.DATABASE,
        Exit.TOKEN,
        Exit.NO_BALANCE,
        Exit.UNREACHABLE,
        Exit.OUTPUT,
        Exit.HALTED,
        Exit.BUDGET,
    }
)


@dataclass(frozen=True)
class Ended:
    """How a run ended, as far as it decides what to do next.

    Attributes:
        tally: The jobs in scope by state.
        causes: Why some have no clip.
        codes: Why it ended.
        download: Whether clips were to be fetched.
        has_table: Whether the result table was written.
        is_paused: Whether a person has paused the account.
    """

    tally: Counter[JobState]
    causes: Sequence[Cause]
    codes: Sequence[Exit]
    download: bool = True
    has_table: bool = True
    is_paused: bool = False

    def of_kind(self, *kinds: str) -> int:
        """Return how many jobs have no clip for a reason of these kinds."""
        return sum(cause.jobs for cause in self.causes if cause.kind in kinds)


@dataclass(frozen=True)
class Typed:
    """What a command must repeat of how the run was called.

    Attributes:
        manifests: Those of the run.
        batch: `--batch`.
        db: `--db`, without a password.
        simulate: Whether it was simulated.
        account: `--account`.
        where: `--where`.
        output: `--output`.
        batches: Those of the run, by name.
    """

    manifests: Sequence[str] = ()
    batch: str | None = None
    db: str | None = None
    simulate: bool = False
    account: str = "default"
    where: str | None = None
    output: str | None = None
    batches: Sequence[str] = ()

    def command(self, *words: str) -> str:
        """Return a command that looks at the same job database."""
        return _quoted([*words, *self._database])

    def retry(self, *classes: str) -> str:
        """Return the command that lets the run's failed jobs of some classes be paid for again."""
        parts = [f"state=failed and class in ({', '.join(classes)})"]
        if self.where is not None:
            parts.append(f"({self.where})")
        words = ["retry", "--where"]
        if len(self.batches) > 1:
            names = ", ".join(json.dumps(name, ensure_ascii=False) for name in self.batches)
            parts.append(f"batch in ({names})")
        words.append(" and ".join(parts))
        if len(self.batches) == 1:
            words += ["--batch", self.batches[0]]
        return self.command(*words)

    def of_account(self, *words: str) -> str:
        """Return the same of a command that is about one account."""
        return self.command(*words, *self._account)

    @property
    def _account(self) -> list[str]:
        return [] if self.account == "default" else ["--account", self.account]

    def run(self) -> str:
        """Return the command that goes on with the same jobs."""
        words = ["run"]
        if len(self.manifests) <= _MOST_MANIFESTS and "-" not in self.manifests:
            words += self.manifests
        if self.batch is not None:
            words += ["--batch", self.batch]
        if self.where is not None:
            words += ["--where", self.where]
        if self.output is not None:
            words += ["-o", self.output]
        return _quoted([*words, *self._account, *self._database])

    @property
    def _database(self) -> list[str]:
        named = [] if self.db is None else ["--db", self.db]
        return [*named, "--simulate"] if self.simulate else named


def _quoted(words: Sequence[str]) -> str:
    return f"`{shlex.join(['batchgen', *words])}`"


def next_steps(ended: Ended, typed: Typed) -> list[str]:
    """Return what to type next and why, what matters most first; at most three lines."""
    return [
        *_decide(ended, typed),
        *_go_on(ended, typed),
        *_cure(ended, typed),
        *_look(ended, typed),
    ][:_MOST]


def _decide(ended: Ended, typed: Typed) -> Iterator[str]:
    if doubts := ended.tally[JobState.IN_DOUBT]:
        yield (
            f"{typed.command('reconcile', '--list')} shows {plural(doubts, 'job')} in doubt, which "
            "may have been paid for and are never sent again by themselves"
        )


def _go_on(ended: Ended, typed: Typed) -> Iterator[str]:
    tally = ended.tally
    left = tally[JobState.PENDING] + tally[JobState.SUBMITTING] + tally[JobState.RUNNING]
    if ended.download:
        left += tally[JobState.DOWNLOADING]
    elif tally[JobState.DOWNLOADING]:
        clips = plural(tally[JobState.DOWNLOADING], "clip")
        yield f"{typed.of_account('download')} fetches {clips}"
    if not left:
        return
    first = ""
    if ended.is_paused:
        first = f"{typed.of_account('unpause')}, then "
    elif _TO_BE_CURED.intersection(ended.codes):
        first = "once that is put right, "
    are = "is" if left == 1 else "are"
    yield f"{first}{typed.run()} goes on with {plural(left, 'job')} that {are} left"


def _cure(ended: Ended, typed: Typed) -> Iterator[str]:
    if unfit := ended.of_kind(UNFIT):
        yield f"put the input files of {plural(unfit, 'job')} right, then {typed.run()} looks again"
    if refused := ended.of_kind(ErrorClass.MODERATION, ErrorClass.INVALID_INPUT):
        yield (
            f"{typed.command('ls', '--state', 'failed')} says what was refused of "
            f"{plural(refused, 'job')}: change those rows, then {typed.run()}"
        )
    if expired := ended.of_kind(JobState.EXPIRED, ErrorClass.REMOTE_LOST):
        yield (
            f"{typed.of_account('download', '--refresh')} asks once more for "
            f"{plural(expired, 'clip')} that expired or got lost, for nothing"
        )
    if failed := ended.of_kind(ErrorClass.GENERATION, ErrorClass.UNKNOWN):
        yield (
            f"{typed.retry(ErrorClass.GENERATION, ErrorClass.UNKNOWN)} lets what the service "
            f"failed at be paid for again by the next run: {plural(failed, 'job')} of this one"
        )


def _look(ended: Ended, typed: Typed) -> Iterator[str]:
    if not ended.tally[JobState.SUCCEEDED]:
        return
    yield f"{typed.command('report')} shows the clips, the money and what failed, in one file"
    if not ended.has_table:
        yield f"{typed.command('export', '-o', 'results.csv')} writes the result table"
