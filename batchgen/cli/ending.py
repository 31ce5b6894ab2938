"""Why a run ends as it does, and what it says of itself."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.cli.common import adapted_json, plural, print_json, usd_number
from batchgen.cli.configured import is_typed
from batchgen.cli.figures import rate, span
from batchgen.cli.flags import Flags
from batchgen.cli.next_steps import Ended, Typed, next_steps
from batchgen.cli.session import say
from batchgen.domain.causes import Cause, Lost, causes
from batchgen.domain.errors import PRECEDENCE, Exit
from batchgen.domain.prices import whole_cents
from batchgen.domain.redaction import redact_text
from batchgen.domain.states import ErrorClass, JobState
from batchgen.domain.wording import usd
from batchgen.downloads.destinations import Destinations
from batchgen.runner.job import Stats
from batchgen.runner.limits import Reason
from batchgen.runner.loop import Outcome
from batchgen.store.database import Database
from batchgen.store.reads import BatchSummary

_SHOWN_CAUSES = 5
_CAUSES_IN_JSON = 100
_NAMED_UNFIT = 1000
_LONGEST_CAUSE = 240
# What the counts, the causes and the next steps say better.
_SAID_BY_COUNTS = frozenset({Exit.SUCCESS, Exit.SOME_FAILED, Exit.ALL_FAILED, Exit.IN_DOUBT})


def judge(
    outcome: Outcome, tally: Counter[JobState], *, download: bool, limited: bool
) -> list[Reason]:
    """Return why a run ends as it does, the reason for its exit code first.

    Args:
        outcome: What the session met.
        tally: The jobs in scope by state.
        download: Whether clips were to be fetched; else `downloading` is as good as done.
        limited: Whether `--limit` may have left jobs waiting.
    """
    reasons = list(outcome.reasons)
    if tally[JobState.IN_DOUBT]:
        reasons.append(
            Reason(
                Exit.IN_DOUBT,
                f"{plural(tally[JobState.IN_DOUBT], 'job')} in doubt: `batchgen reconcile --list`",
            )
        )
    lost = tally[JobState.FAILED] + tally[JobState.CANCELLED] + tally[JobState.EXPIRED]
    good = tally[JobState.SUCCEEDED] + (0 if download else tally[JobState.DOWNLOADING])
    open_ = tally[JobState.RUNNING] + (tally[JobState.DOWNLOADING] if download else 0)
    waiting = 0 if limited else tally[JobState.PENDING]
    if lost and not good and not open_ and not waiting:
        reasons.append(Reason(Exit.ALL_FAILED, f"{plural(lost, 'job')} failed, none succeeded"))
    elif lost or open_ or (waiting and not reasons):
        said = [
            f"{count} {word}"
            for count, word in (
                (lost, "failed, cancelled or expired"),
                (open_, "still running or downloading"),
                (waiting, "waiting"),
            )
            if count
        ]
        reasons.append(Reason(Exit.SOME_FAILED, ", ".join(said)))
    if not reasons:
        # What waits without a reason of its own was left by --limit.
        left = f"all that was paid for succeeded; {tally[JobState.PENDING]} left waiting by --limit"
        done = "every job succeeded" if good else "nothing to do"
        reasons.append(Reason(Exit.SUCCESS, left if tally[JobState.PENDING] else done))
    return sorted(reasons, key=lambda reason: PRECEDENCE.index(reason.exit_code))


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        database: The job database.
        flags: What was asked for.
        outcome: What the session met.
        tally: The jobs in scope by state.
        reasons: Of `judge`.
        batches: Those of the run.
        losses: The jobs in scope without a clip.
        is_estimate: Whether some of what the batches spent was not stated by the service.
        estimate_micros: What this run was estimated to cost; None if it paid for nothing, or
            nobody knew.
        is_most: Whether that is what the dearest of the jobs cost, of which --limit left some.
        in_flight_before: How many jobs were in flight when it began: what they cost is spent in
            this run, and was estimated in another one.
        is_paused: Whether a person has paused the account.
        log: The log of the session, if there is one.
    """

    database: Database
    flags: Flags
    outcome: Outcome
    tally: Counter[JobState]
    reasons: Sequence[Reason]
    batches: Sequence[BatchSummary]
    losses: "Losses"
    is_estimate: bool
    estimate_micros: int | None
    is_most: bool
    in_flight_before: int
    is_paused: bool
    log: Path | None

    @property
    def code(self) -> Exit:
        """What the run exits with."""
        return self.reasons[0].exit_code

    @property
    def spent_micros(self) -> int:
        """What the batches have spent over their lives."""
        return sum(batch.spent_micros for batch in self.batches)

    @property
    def reserved_micros(self) -> int:
        """What is reserved for their open requests."""
        return sum(batch.reserved_micros for batch in self.batches)

    @property
    def clips(self) -> int:
        """How many clips this session has brought home, or left to `batchgen download`."""
        return self.outcome.stats.succeeded + self.outcome.stats.unfetched

    @property
    def per_min(self) -> float | None:
        """Clips a minute of this session."""
        took_s = self.outcome.took_s
        return 60 * self.clips / took_s if self.clips and took_s > 0 else None

    @property
    def next(self) -> list[str]:
        """What to type next."""
        db = self.flags.db if is_typed("db") else None
        if db is not None and self.database.path is None:
            db = self.database.shown  # without the password
        return next_steps(
            Ended(
                tally=self.tally,
                causes=self.losses.causes,
                codes=[reason.exit_code for reason in self.reasons],
                download=self.flags.download,
                has_table=self.flags.output is not None,
                is_paused=self.is_paused,
            ),
            Typed(
                self.flags.manifests,
                self.flags.batch,
                db,
                simulate=self.flags.simulate,
                account=self.flags.account,
                where=self.flags.where,
                output=self.flags.output,
                batches=[batch.name for batch in self.batches],
            ),
        )


@dataclass
class Losses:
    """The jobs of a run without a clip, by their causes; those unfit by name too, the first."""

    causes: list[Cause]
    unfit: list[Lost]

    @classmethod
    def of(cls, lost: Iterable[Lost]) -> "Losses":
        """Gather them without holding them all."""
        unfit: list[Lost] = []

        def noted() -> Iterator[Lost]:
            for one in lost:
                if one.is_unfit and len(unfit) < _NAMED_UNFIT:
                    unfit.append(one)
                yield one

        return cls(causes(noted()), unfit)


def summarise(ending: Ending) -> None:
    """Say how a run ended: one JSON object on stdout, or a few lines on stderr."""
    if ending.flags.as_json:
        print_json(_as_json(ending))
        return
    if ending.flags.quiet and ending.code is Exit.SUCCESS:
        return
    for line in lines_of(ending):
        say(line)


def _as_json(ending: Ending) -> dict[str, Any]:
    outcome, per_min = ending.outcome, ending.per_min
    return {
        "dry_run": False,
        "exit_code": int(ending.code),
        "reasons": [
            {"exit_code": int(reason.exit_code), "message": reason.message}
            for reason in ending.reasons
        ],
        "counts": {str(state): ending.tally[state] for state in JobState},
        "submitted": outcome.stats.submitted,
        "moderated": outcome.stats.moderated,
        "failures": [
            {
                "kind": str(cause.kind),
                "message": redact_text(cause.words),
                "jobs": cause.jobs,
                "first": cause.first,
            }
            for cause in ending.losses.causes[:_CAUSES_IN_JSON]
        ],
        "unfit": [
            {"job": one.job, "message": redact_text(one.error)} for one in ending.losses.unfit
        ],
        "auto": adapted_json(outcome.adapted),
        "extra_clips": list(outcome.stats.extras),
        "sidecars_missing": outcome.stats.sidecars_missing,
        "elapsed_s": round(outcome.took_s, 3),
        "rate_per_min": None if per_min is None else round(per_min, 2),
        "session_spent_usd": usd_number(outcome.stats.charged_micros),
        "estimate_usd": usd_number(ending.estimate_micros),
        "spent_usd": usd_number(ending.spent_micros),
        "spent_is_estimate": ending.is_estimate,
        "reserved_usd": usd_number(ending.reserved_micros),
        "database": ending.database.shown,
        "output": ending.flags.output,
        "log": None if ending.log is None else str(ending.log),
        "next": ending.next,
    }


def lines_of(ending: Ending) -> list[str]:
    """Return how a run ended in lines: counts, causes, time, money, files, and what is next."""
    return [
        *_counts(ending),
        *_causes(ending.losses.causes),
        *_advice(ending),
        *_time_and_money(ending),
        *_files(ending),
        *(reason.message for reason in ending.reasons if reason.exit_code not in _SAID_BY_COUNTS),
        *(f"next: {step}" for step in ending.next),
    ]


def _counts(ending: Ending) -> Iterator[str]:
    tally, submitted = ending.tally, ending.outcome.stats.submitted
    counts = ", ".join(
        f"{tally[state]:,} {state.replace('_', ' ')}" for state in JobState if tally[state]
    )
    doubts = tally[JobState.IN_DOUBT]
    too = f", {doubts:,} in doubt may have been paid for too" if doubts else ""
    yield f"{counts or 'no jobs'}; {submitted:,} paid for in this run{too}"


def _causes(found: Sequence[Cause]) -> Iterator[str]:
    for cause in found[:_SHOWN_CAUSES]:
        first = cause.first if cause.jobs == 1 else f"the first {cause.first}"
        words = f": {_cut(cause.words)}" if cause.words else ""
        yield f"  {cause.jobs:,} {_called(cause.kind)}{words} ({first})"
    if len(found) > _SHOWN_CAUSES:
        jobs = sum(cause.jobs for cause in found[_SHOWN_CAUSES:])
        yield f"  and {plural(jobs, 'job')} for other reasons"


def _called(kind: str) -> str:
    """Return a kind of cause in words: classes are of jobs that failed."""
    return f"failed ({kind.replace('_', ' ')})" if kind in list(ErrorClass) else kind


def _advice(ending: Ending) -> Iterator[str]:
    outcome = ending.outcome
    if outcome.adapted is not None:
        yield f"-j auto found that {outcome.adapted} are borne"
    yield from _surprises(outcome.stats)


def _time_and_money(ending: Ending) -> Iterator[str]:
    stats, per_min = ending.outcome.stats, ending.per_min
    pace = "" if per_min is None else f", {rate(per_min)} a minute"
    yield f"took {span(ending.outcome.took_s)}{pace}"
    session = usd(stats.charged_micros, is_estimate=stats.estimates > 0)
    estimated = _estimated(ending)
    reserved = ending.reserved_micros
    held = f", {usd(reserved)} reserved" if reserved else ""
    everything = usd(ending.spent_micros, is_estimate=ending.is_estimate)
    yield f"{session} spent in this run{estimated}, {everything} in all{held}"


def _estimated(ending: Ending) -> str:
    if ending.estimate_micros is None:
        return ""
    most, count = "at most " * ending.is_most, ending.in_flight_before
    before = f", without {plural(count, 'job')} sent before" if count else ""
    return f" ({most}about {usd(whole_cents(ending.estimate_micros))} was estimated{before})"


def _files(ending: Ending) -> Iterator[str]:
    output, destinations = ending.flags.output, Destinations(ending.database.folder)
    places = sorted({destinations.of(one.output_dir).path("") for one in ending.batches})
    if ending.flags.download and ending.tally[JobState.SUCCEEDED]:
        yield f"clips: {', '.join(map(_short, places))}"
    if output not in (None, "-"):
        yield f"results: {output}"


def _cut(words: str) -> str:
    words = redact_text(words)
    return words if len(words) <= _LONGEST_CAUSE else f"{words[:_LONGEST_CAUSE]}…"


def _surprises(stats: Stats) -> Iterator[str]:
    if stats.moderated:
        yield (
            f"{plural(stats.moderated, 'job')} refused by moderation: repeats can get the account "
            "suspended"
        )
    for clip in stats.extras:
        yield f"bought once too often, and kept: {clip}; `batchgen show` tells why"
    if stats.sidecars_missing:
        missing = plural(stats.sidecars_missing, "clip")
        yield f"no sidecar beside {missing}: `batchgen download --sidecar` says why, or writes it"


def _short(place: str) -> str:
    try:
        return str(Path(place).relative_to(Path.cwd()))
    except ValueError:
        return place
