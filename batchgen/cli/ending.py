"""Why a run ends as it does, and what it says of itself."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from batchgen import planning
from batchgen.cli.common import adapted_json, plural, print_json, usd, usd_number
from batchgen.cli.flags import Flags
from batchgen.cli.session import say
from batchgen.domain.errors import PRECEDENCE, Exit
from batchgen.domain.states import JobState
from batchgen.runner.job import Stats
from batchgen.runner.limits import Reason
from batchgen.runner.loop import Outcome
from batchgen.store.database import Database
from batchgen.store.reads import BatchSummary


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


def summarise(
    database: Database,
    flags: Flags,
    outcome: Outcome,
    tally: Counter[JobState],
    reasons: list[Reason],
    batches: list[BatchSummary],
    *,
    is_estimate: bool,
    log: Path | None,
) -> None:
    """Say how a run ended: one JSON object on stdout, or a few lines on stderr.

    Args:
        database: The job database.
        flags: What was asked for.
        outcome: What the session met.
        tally: The jobs in scope by state.
        reasons: Of `judge`.
        batches: Those of the run.
        is_estimate: Whether some of what they spent was not stated by the service.
        log: The log of the session, if there is one.
    """
    spent = sum(batch.spent_micros for batch in batches)
    reserved = sum(batch.reserved_micros for batch in batches)
    if flags.as_json:
        print_json(
            {
                "exit_code": int(reasons[0].exit_code),
                "reasons": [
                    {"exit_code": int(reason.exit_code), "message": reason.message}
                    for reason in reasons
                ],
                "jobs": {str(state): count for state, count in tally.items() if count},
                "submitted": outcome.stats.submitted,
                "moderated": outcome.stats.moderated,
                "auto": adapted_json(outcome.adapted),
                "extra_clips": list(outcome.stats.extras),
                "sidecars_missing": outcome.stats.sidecars_missing,
                "spent_usd": usd_number(spent),
                "spent_is_estimate": is_estimate,
                "reserved_usd": usd_number(reserved),
                "database": database.shown,
                "output": flags.output,
                "log": None if log is None else str(log),
            }
        )
        return
    if flags.quiet and reasons[0].exit_code is Exit.SUCCESS:
        return
    counts = ", ".join(
        f"{tally[state]} {state.replace('_', ' ')}" for state in JobState if tally[state]
    )
    doubts = tally[JobState.IN_DOUBT]
    too = f", {doubts} in doubt may have been paid for too" if doubts else ""
    say(f"{counts or 'no jobs'}; {outcome.stats.submitted} paid for in this run{too}")
    held = f", {usd(reserved)} reserved" if reserved else ""
    say(f"{usd(spent, is_estimate=is_estimate)} spent in all{held}")
    if outcome.adapted is not None:
        say(f"-j auto found that {outcome.adapted} are borne")
    for line in _surprises(outcome.stats):
        say(line)
    folders = sorted(
        {str(planning.clips_folder(database.folder, one.output_dir)) for one in batches}
    )
    if flags.download and tally[JobState.SUCCEEDED]:
        say(f"clips: {', '.join(_short(Path(folder)) for folder in folders)}")
    if flags.output not in (None, "-"):
        say(f"results: {flags.output}")
    for reason in reasons:
        if reason.exit_code is not Exit.SUCCESS:
            say(reason.message)


def _surprises(stats: Stats) -> Iterator[str]:
    if stats.moderated:
        yield (
            f"{plural(stats.moderated, 'job')} refused by moderation: `batchgen ls --state failed` "
            "says which input; change it, since repeats can get the account suspended"
        )
    for clip in stats.extras:
        yield f"bought once too often, and kept: {clip}; `batchgen show` tells why"
    if stats.sidecars_missing:
        missing = plural(stats.sidecars_missing, "clip")
        yield f"no sidecar beside {missing}: `batchgen download --sidecar` says why, or writes it"


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
