"""How a session stands at one moment, for whoever shows it: gathered in constant time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flight:
    """One job in flight.

    Attributes:
        job: Its batch and id.
        word: How the service called it last, "" before the first look.
        position: Its place in the service's queue, if that was said.
        is_accepted: Whether the paid request was answered.
        age_s: Since it was accepted, before that since its intent was stored.
    """

    job: str
    word: str
    position: int | None
    is_accepted: bool
    age_s: float


@dataclass(frozen=True)
class View:
    """One moment of a session; times in seconds.

    Attributes:
        in_flight: Jobs that hold a slot through this worker.
        cap: How many it may hold.
        is_auto: Whether the cap moves by itself.
        flights: Some of the jobs in flight, those that were taken up first.
        unanswered: Paid requests that are under way.
        is_leaving: Whether it was told to stop.
        is_account_paused: Whether a person has paused the account.
        reasons: What it submits nothing more for, in words.
        held: Which models the service does not know, in words.
        lacks_money: Whether it waits for the account to be topped up.
        outage_s: How long the service has been out of reach, 0 if it is not.
        throttled_s: How long the service has asked to wait.
        doubts: How many slots are kept for requests in doubt, if that leaves nothing in flight.
        doubts_for_s: Until the first of them is free, at the latest.
        is_over_budget: Whether a budget leaves no room for the next job.
        stuck: Why the job database takes no change, "" while it does.
        is_waiting_for_others: Whether only other workers have jobs of the scope in hand.
        is_one_by_one: Whether doubts in a row have made it submit one at a time.
        submits_for_s: Until submitting ends by the clock; None if it does not.
    """

    in_flight: int
    cap: int
    is_auto: bool = False
    flights: tuple[Flight, ...] = ()
    unanswered: int = 0
    is_leaving: bool = False
    is_account_paused: bool = False
    reasons: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    lacks_money: bool = False
    outage_s: float = 0.0
    throttled_s: float = 0.0
    doubts: int = 0
    doubts_for_s: float = 0.0
    is_over_budget: bool = False
    stuck: str = ""
    is_waiting_for_others: bool = False
    is_one_by_one: bool = False
    submits_for_s: float | None = None
