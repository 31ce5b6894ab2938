"""What stands in the way of a session that is at work, and the command that helps."""

from collections.abc import Iterator

from batchgen.cli.common import plural
from batchgen.domain.wording import lasting
from batchgen.http import POST_S
from batchgen.runner.view import View

_SHORTEST_THROTTLE_S = 1.0  # below that nobody could read it


def hurdles(view: View, *, in_doubt: int) -> list[str]:
    """Return what stands in the way, what matters most first.

    Args:
        view: How the session stands.
        in_doubt: How many jobs of it are in doubt.
    """
    return [*_ends(view), *_waits(view), *_decisions(view, in_doubt)]


def holds_up(view: View) -> bool:
    """Whether what waits will not be submitted for an unknown time."""
    return bool(
        view.is_account_paused
        or view.reasons
        or view.lacks_money
        or view.outage_s
        or view.stuck
        or view.doubts
        or view.is_over_budget
        or view.is_waiting_for_others
    )


def _ends(view: View) -> Iterator[str]:
    if view.is_leaving and view.unanswered:
        yield (
            f"ending: waits for {plural(view.unanswered, 'answer')}, at most {POST_S:.0f} s; "
            "Ctrl-C again leaves at once and puts them in doubt"
        )
    elif view.is_leaving:
        yield "ending: what is paid for goes on in the next `batchgen run`"
    for reason in view.reasons:
        yield f"submits nothing more: {reason}"


def _waits(view: View) -> Iterator[str]:
    if view.stuck:
        yield f"the job database takes no change: {view.stuck}"
    if view.is_account_paused:
        yield "paused: nothing is submitted until `batchgen unpause`"
    if view.lacks_money:
        yield "no money to go on: waits until the account is topped up (`batchgen balance`)"
    if view.outage_s:
        yield (
            f"the service has been out of reach for {view.outage_s:.0f} s: nothing is submitted "
            "until it answers"
        )
    if view.throttled_s >= _SHORTEST_THROTTLE_S:
        yield (
            f"the service refuses for now: submits wait {view.throttled_s:.0f} s "
            "(`batchgen set jobs` lowers how many are in flight)"
        )
    if view.doubts:
        yield (
            f"no slot is free: {plural(view.doubts, 'request')} in doubt may still be generating; "
            f"goes on in {lasting(view.doubts_for_s)} at the latest; `batchgen set jobs` gives more"
        )
    if view.is_waiting_for_others:
        yield "waits for jobs that another worker has in hand: `batchgen workers`"


def _decisions(view: View, in_doubt: int) -> Iterator[str]:
    if view.is_over_budget:
        yield "the budget leaves no room for the next job: `batchgen set budget` raises it"
    yield from view.held
    if in_doubt:
        single = "; submits go one at a time until one is answered" if view.is_one_by_one else ""
        yield f"{in_doubt:,} in doubt, maybe paid for: `batchgen reconcile --list`{single}"
