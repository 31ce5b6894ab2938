"""The paid requests of a job, from what its row tells and what the journal knows of it.

A row tells its newest request, how many were accepted and what all of them cost; a journal
tells each request by itself. Together they give attempts whose money adds up to the row's,
under the ids that they had, if the journal knows them: then it is not taken for purchases that
the job database lacks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from batchgen.domain.states import LIVE_ATTEMPTS, AttemptState, ErrorClass, JobState
from batchgen.rebuilding.told import Told
from batchgen.store.journal import Entry
from batchgen.store.rebuilt import PastAttempt

NewId = Callable[[int], str]

CLOCKS_MS = 60_000
"""How far the clocks of host and job database may be apart."""

_UNKNOWN = "not told by the export that the job database was rebuilt from"
_CURRENT = {
    JobState.RUNNING: AttemptState.ACCEPTED,
    JobState.DOWNLOADING: AttemptState.SUCCEEDED,
    JobState.SUCCEEDED: AttemptState.SUCCEEDED,
    JobState.EXPIRED: AttemptState.SUCCEEDED,
    JobState.IN_DOUBT: AttemptState.IN_DOUBT,
    JobState.FAILED: AttemptState.FAILED,
    JobState.CANCELLED: AttemptState.CANCELLED,
    # Those of a job that was retried by hand and waits: its request stays where it was.
    JobState.PENDING: AttemptState.FAILED,
}


@dataclass(frozen=True)
class Matched:
    """What a journal knows of the requests that a row tells of.

    Attributes:
        current: The one that decides the job's state.
        accepted: Those before it that were accepted, oldest first.
        given_up: Those before it whose request id nobody knows.
    """

    current: Entry | None = None
    accepted: tuple[Entry, ...] = ()
    given_up: tuple[Entry, ...] = ()


def match(told: Told, entries: Sequence[Entry]) -> Matched:
    """Return which of a job's journalled purchases its row knows; the others came later.

    Args:
        told: The row.
        entries: All that were paid, oldest first.
    """
    with_id = [one for one in entries if one.request_id is not None]
    without = [one for one in entries if one.request_id is None]
    current = _current(told, entries)
    earlier = told.attempts - (1 if told.request_id else 0)
    before = _begin_ms(told, current)
    if before is None:  # nothing says when: the first so many are those that it counts
        return Matched(None, tuple(with_id[:earlier]), ())
    older = [one for one in with_id if one.intent_ms < before and one is not current]
    lost = [one for one in without if one.intent_ms < before and one is not current]
    missing = max(0, earlier - len(older))
    accepted = [*older[-earlier:], *lost[len(lost) - missing :]] if earlier else []
    given_up = lost[: len(lost) - missing] if missing else lost
    return Matched(current, tuple(sorted(accepted, key=_age)), tuple(given_up))


def _age(entry: Entry) -> tuple[int, str]:
    return entry.intent_ms, entry.attempt_id


def _begin_ms(told: Told, current: Entry | None) -> int | None:
    if current is not None:
        return current.intent_ms
    return told.submitted_ms


def _current(told: Told, entries: Sequence[Entry]) -> Entry | None:
    if told.request_id is not None:
        same = [one for one in entries if one.request_id == told.request_id]
        if same:
            return same[-1]
    state = _attempt_state(told)
    if told.submitted_ms is None or state is AttemptState.REJECTED:
        return None
    # A doubt may have been answered since. Of another request, the id was never written down.
    at_ms, is_doubt = told.submitted_ms, state is AttemptState.IN_DOUBT
    near = [
        one
        for one in entries
        if (is_doubt or one.request_id is None) and abs(one.intent_ms - at_ms) <= CLOCKS_MS
    ]
    return min(near, key=lambda one: abs(one.intent_ms - at_ms), default=None)


def state_of(told: Told) -> JobState:
    """Return the state in which a job is stored again; nothing new is paid in any of them.

    A request that was on its way when the export was written may have been accepted. A clip
    that was not fetched yet is asked for anew if the row does not tell all of its files.
    """
    if told.state is JobState.SUBMITTING:
        return JobState.IN_DOUBT
    if told.state is JobState.DOWNLOADING and not told.knows_all:
        return JobState.RUNNING
    return told.state


def attempts_of(
    told: Told, known: Matched, *, est_micros: int, slot_ms: int, new_id: NewId, now_ms: int
) -> tuple[list[PastAttempt], str | None]:
    """Return a job's paid requests, oldest first, and which of them decides its state.

    Args:
        told: Its row.
        known: What the journal knows of them.
        est_micros: The estimate of one.
        slot_ms: How long a doubt holds its slot.
        new_id: Makes an id that sorts by a time.
        now_ms: The time.
    """
    current = _current_attempt(told, known.current, est_micros, slot_ms, new_id, now_ms)
    begin_ms = current.intent_ms if current else now_ms
    earlier_count = told.attempts - (1 if current and current.accepted_ms is not None else 0)
    made: list[PastAttempt] = []
    for number in range(earlier_count - len(known.accepted), 0, -1):
        made.append(_earlier(begin_ms - number, None, est_micros, new_id))
    made += [_earlier(one.intent_ms, one, est_micros, new_id) for one in known.accepted]
    made += [_given_up(one) for one in known.given_up]
    attempts = sorted(made, key=lambda one: (one.intent_ms, one.id))
    attempts += [current] if current else []
    paid = _with_money(told, attempts, est_micros=est_micros, new_id=new_id)
    # A job that waits is decided by the request that it waits for.
    decides = current if told.state is not JobState.PENDING else None
    return paid, decides.id if decides else None


def _current_attempt(
    told: Told,
    entry: Entry | None,
    est_micros: int,
    slot_ms: int,
    new_id: NewId,
    now_ms: int,
) -> PastAttempt | None:
    is_doubt = state_of(told) is JobState.IN_DOUBT
    if told.request_id is None and told.submitted_ms is None and not is_doubt:
        return None
    intent_ms = told.submitted_ms or (entry.intent_ms if entry else now_ms)
    state = _attempt_state(told)
    is_live = state in LIVE_ATTEMPTS
    started_ms = None if told.queue_ms is None else intent_ms + told.queue_ms
    closed_ms = None if is_live else (told.finished_ms or intent_ms)
    is_success = state is AttemptState.SUCCEEDED
    if closed_ms is not None and told.run_ms is not None and not is_success:
        closed_ms = (started_ms or intent_ms) + told.run_ms
    return PastAttempt(
        id=entry.attempt_id if entry else new_id(intent_ms),
        state=state,
        est_micros=(entry.est_micros if entry else 0) or est_micros,
        intent_ms=intent_ms,
        request_id=told.request_id,
        charged_micros=0 if state is AttemptState.CANCELLED else None,
        accepted_ms=None if told.request_id is None else intent_ms,
        started_ms=started_ms,
        closed_ms=closed_ms,
        run_ms=told.run_ms if is_success else None,
        slot_until_ms=intent_ms + slot_ms if is_doubt else None,
        error_class=told.error_class,
        error=told.error,
        resolution="write_off" if state is AttemptState.ABANDONED else None,
    )


def _attempt_state(told: Told) -> AttemptState:
    state = _CURRENT[state_of(told)]
    if told.request_id is not None or state is AttemptState.IN_DOUBT:
        return state
    is_given_up = told.error_class == ErrorClass.WRITTEN_OFF
    return AttemptState.ABANDONED if is_given_up else AttemptState.REJECTED


def _earlier(intent_ms: int, entry: Entry | None, est_micros: int, new_id: NewId) -> PastAttempt:
    """Return an accepted request that the job has been bought again after."""
    return PastAttempt(
        id=entry.attempt_id if entry else new_id(intent_ms),
        state=AttemptState.FAILED,
        est_micros=(entry.est_micros if entry else 0) or est_micros,
        intent_ms=intent_ms,
        request_id=entry.request_id if entry else None,
        accepted_ms=intent_ms,
        closed_ms=intent_ms,
        error=_UNKNOWN,
    )


def _given_up(entry: Entry) -> PastAttempt:
    return PastAttempt(
        id=entry.attempt_id,
        state=AttemptState.ABANDONED,
        est_micros=entry.est_micros,
        intent_ms=entry.intent_ms,
        closed_ms=entry.intent_ms,
        error=_UNKNOWN,
        resolution="resubmit",
    )


# -- money ---------------------------------------------------------------------------------------


def _with_money(
    told: Told, attempts: Sequence[PastAttempt], *, est_micros: int, new_id: NewId
) -> list[PastAttempt]:
    """Spread over attempts what all of them cost.

    What the service stated is spread evenly over as many as it can be the price of. The others
    were free then; without a stated cost they count their estimate, or what is left of the sum,
    where the export tells what was spent.
    """
    found = list(attempts)
    closed = [
        place
        for place, one in enumerate(found)
        if one.closed_ms is not None and one.accepted_ms is not None
    ]
    stated = _stated_places(told, found, closed, est_micros=est_micros)
    for place, micros in zip(stated, _spread(told.cost_micros or 0, len(stated)), strict=True):
        found[place] = replace(found[place], cost_micros=micros, charged_micros=micros)
    estimated = [
        place
        for place, one in enumerate(found)
        if place not in stated and one.closed_ms is not None and _counts(one)
    ]
    if told.charged_micros is None:
        for place in estimated:
            if stated and place in closed:  # the sum is told: a request that failed was free
                found[place] = replace(found[place], cost_micros=0, charged_micros=0)
            else:
                found[place] = replace(found[place], charged_micros=found[place].est_micros)
        return found
    left = max(0, told.charged_micros - (told.cost_micros or 0 if stated else 0))
    if left and not estimated:
        found.insert(0, _unknown(found, new_id))
        estimated = [0]
    for place, micros in zip(estimated, _spread(left, len(estimated)), strict=True):
        found[place] = replace(found[place], charged_micros=micros)
    return found


def _counts(attempt: PastAttempt) -> bool:
    """Return whether an attempt counts as spent without a stated cost."""
    return attempt.state in (AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.ABANDONED)


def _stated_places(
    told: Told, attempts: Sequence[PastAttempt], closed: Sequence[int], *, est_micros: int
) -> list[int]:
    """Return the places of the attempts whose cost the service has stated."""
    if told.cost_micros is None or not closed:
        return []
    if told.charged_micros == told.cost_micros or not est_micros:
        return list(closed)
    likely = max(1, round(told.cost_micros / est_micros))
    return list(closed[-likely:])


def _spread(micros: int, places: int) -> list[int]:
    if not places:
        return []
    each, rest = divmod(micros, places)
    return [each + rest, *[each] * (places - 1)]


def _unknown(attempts: Sequence[PastAttempt], new_id: NewId) -> PastAttempt:
    """Return a request that money was spent for, and of which nothing else is told."""
    intent_ms = min((one.intent_ms for one in attempts), default=1) - 1
    return PastAttempt(
        id=new_id(max(0, intent_ms)),
        state=AttemptState.ABANDONED,
        est_micros=0,
        intent_ms=max(0, intent_ms),
        closed_ms=max(0, intent_ms),
        error=_UNKNOWN,
        resolution="resubmit",
    )
