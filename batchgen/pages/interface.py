"""What a report shows; money in micro-dollars, times in epoch milliseconds.

Every text in it may come from a manifest or a service. It is without secrets already, and the
page escapes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from batchgen.domain.states import JobState


@dataclass(frozen=True)
class Amount:
    """Money, and whether some of it was not stated by the service."""

    micros: int
    is_estimate: bool = False


@dataclass(frozen=True)
class BatchMoney:
    """A batch's jobs and its money.

    Attributes:
        name: Of the batch.
        counts: Its jobs by state.
        spent: What is booked.
        estimated: What the paid requests were estimated at when they were sent.
        reserved: For requests that are open or in doubt.
        waiting: What the jobs that wait will probably cost.
        unpriced: How many of those have no known price.
        budget: None if it has none.
    """

    name: str
    counts: Mapping[JobState, int]
    spent: Amount
    estimated: int
    reserved: int
    waiting: int
    unpriced: int
    budget: int | None


@dataclass(frozen=True)
class Point:
    """One slot of time: what went on at its end, and what happened in it."""

    at_ms: int
    in_flight: int
    succeeded: int
    failed: int
    spent_micros: int


@dataclass(frozen=True)
class Stretch:
    """Time in which something happened every now and then; slots follow each other."""

    first_ms: int
    last_ms: int
    points: Sequence[Point]


@dataclass(frozen=True)
class Timeline:
    """When things happened.

    Attributes:
        width_ms: Of a slot.
        stretches: In order of time, with idle time between them.
        sessions: How many runs there were.
    """

    width_ms: int
    stretches: Sequence[Stretch]
    sessions: int


@dataclass(frozen=True)
class Command:
    """Something to type, and what it does."""

    words: str
    does: str


@dataclass(frozen=True)
class Mention:
    """One job in a list of few."""

    key: str
    label: str
    batch: str
    text: str = ""


@dataclass(frozen=True)
class Cause:
    """Failed jobs that have one reason.

    Attributes:
        error_class: `ErrorClass`.
        code: The service's own, if it has one.
        message: What all of them say; what differs is an ellipsis.
        jobs: How many.
        examples: Some of them, with what each says exactly.
        advice: What to do about it.
        commands: What does it.
    """

    error_class: str
    code: str
    message: str
    jobs: int
    examples: Sequence[Mention]
    advice: str
    commands: Sequence[Command]


@dataclass(frozen=True)
class Doubt:
    """A job in doubt."""

    job: Mention
    sent_ms: int | None
    reserved: int
    commands: Sequence[Command]


@dataclass(frozen=True)
class Attention:
    """Jobs of one state that wait for a person, and what helps."""

    title: str
    jobs: int
    advice: str
    commands: Sequence[Command]
    examples: Sequence[Mention] = ()


@dataclass(frozen=True)
class SlowJob:
    """A job that took long."""

    job: Mention
    model: str
    took_ms: int
    queued_ms: int | None


@dataclass(frozen=True)
class File:
    """One file of a job.

    Attributes:
        href: From the page's folder, escaped as a URL; a whole URL if it is in a bucket, "" if
            nobody asked for one.
        name: For people.
        kind: video | image | audio | other | far, in a bucket and without a link
        size_bytes: Its length.
        is_there: Whether it was on disk when the page was written; in a bucket it is believed.
    """

    href: str
    name: str
    kind: str
    size_bytes: int
    is_there: bool


@dataclass(frozen=True)
class Card:
    """One job in the gallery.

    Attributes:
        key: Of the job.
        label: Its id and variant.
        batch: Its batch's name.
        state: Where it stands.
        model: Model id.
        prompt: The text it was asked for with.
        cells: The row's own columns, by their place in `Report.columns`; None where it has none.
        seed: What was sent.
        cost: What is booked, None if nothing is.
        queued_s: Until the service began.
        run_s: The generation.
        at_ms: When something happened to it last.
        files: Its files, the first one first.
        poster: The place of its picture in `Report.posters`.
        clip_s: How long the clip is.
        width: Of the clip, in pixels.
        height: Of the clip.
        error_class: Why it failed.
        error: The same in words.
    """

    key: str
    label: str
    batch: str
    state: JobState
    model: str
    prompt: str
    cells: Sequence[str | None]
    seed: int | None
    cost: Amount | None
    queued_s: float | None
    run_s: float | None
    at_ms: int
    files: Sequence[File] = ()
    poster: int | None = None
    clip_s: float | None = None
    width: int | None = None
    height: int | None = None
    error_class: str = ""
    error: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that the page shows.

    Attributes:
        title: What it is about.
        only: The expression that chose its jobs, "" without one.
        database: The job database's name.
        database_words: What a command line needs to name it, a space first; maybe nothing.
        written_ms: When it was read: one moment for all of it.
        version: Of batchgen.
        is_simulated: Whether no real money was meant.
        live_workers: How many were at work meanwhile.
        counts: All jobs by state.
        money: By batch.
        timeline: None if nothing was ever sent.
        took_ms: How long half of the clips took, and nine tenths; None without clips.
        causes: Of failures, the most frequent first.
        other_failures: Failed jobs of causes too many to list.
        doubts: Jobs in doubt.
        more_doubts: How many more there are.
        attention: What else waits for a person.
        slowest: The jobs that took longest.
        columns: The users' own columns.
        facets: Those, by their place, whose values are few enough to choose from.
        cards: The jobs of the gallery.
        jobs_left_out: How many jobs it does not show.
        posters: Small pictures as WebP, each once.
        posters_left_out: Clips whose picture would have made the page too large.
        are_posters_possible: False without PyAV, None if none were wanted.
    """

    title: str
    only: str
    database: str
    database_words: str
    written_ms: int
    version: str
    is_simulated: bool
    live_workers: int
    counts: Mapping[JobState, int]
    money: Sequence[BatchMoney]
    timeline: Timeline | None
    took_ms: tuple[int, int] | None
    causes: Sequence[Cause]
    other_failures: int
    doubts: Sequence[Doubt]
    more_doubts: int
    attention: Sequence[Attention]
    slowest: Sequence[SlowJob]
    columns: Sequence[str]
    facets: Sequence[int]
    cards: Sequence[Card]
    jobs_left_out: int
    posters: Sequence[bytes] = field(default=(), repr=False)
    posters_left_out: int = 0
    are_posters_possible: bool | None = None
