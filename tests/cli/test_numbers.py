"""The numbers that are shown, from a session whose clock the test sets."""

from dataclasses import dataclass, field, replace
from typing import Any

import click
import pytest

from batchgen.cli.figures import as_json, line_of
from batchgen.cli.numbers import Meter
from batchgen.cli.reply import Reply
from batchgen.runner.job import Stats
from batchgen.runner.view import View
from batchgen.store.control import Standing


def standing(*, spent: int = 0, others: int = 0, **counts: int) -> Standing:
    return Standing(counts, spent, 0, None, other_workers=others)


@dataclass
class Watched:
    """A session that is watched."""

    total: int = 100
    first: Standing | None = field(default_factory=standing)
    now_s: float = 0.0
    view: View = field(default_factory=lambda: View(in_flight=4, cap=4))
    stats: Stats = field(default_factory=Stats)

    def __post_init__(self) -> None:
        self.meter = Meter(
            self.stats,
            view=lambda most: self.view,
            total=self.total,
            first=self.first,
            clock=lambda: self.now_s,
        )

    def works(self, seconds: float, clips: int) -> None:
        """Let the session pay for clips and bring them home, one after the other."""
        for _ in range(clips):
            self.now_s += seconds / clips
            self.stats.succeeded += 1
            self.stats.fresh += 1
            self.stats.fresh_clips += 1
            self.meter.read()


def test_what_was_paid_for_before_does_not_make_the_end_seem_near() -> None:
    session = Watched()
    session.now_s, session.stats.succeeded = 2.0, 40  # downloads that were left over

    after_downloads = session.meter.read()
    session.works(100.0, 10)
    after_work = session.meter.read()

    assert (after_downloads.done, after_downloads.per_min, after_downloads.eta_s) == (
        40,
        None,
        None,
    )
    assert after_work.per_min == pytest.approx(6, rel=0.03)
    assert after_work.eta_s == pytest.approx(500, rel=0.03)


def test_what_is_left_to_a_later_run_is_told_so_that_all_add_up() -> None:
    session = Watched(total=9, view=View(in_flight=4, cap=4, submits_for_s=0.0))
    session.stats.succeeded, session.stats.left = 2, 1

    found = session.meter.read()

    assert (found.done, found.in_flight, found.waiting, found.left) == (2, 4, 2, 1)
    assert ": 2/9 done, 4 of 4 in flight, 2 waiting, 1 left to a later run, " in line_of(found)
    assert "submits for" not in line_of(found)  # over: what stands in the way says so


def test_commands_that_are_advised_mean_the_job_database_at_work() -> None:
    session = Watched(view=View(in_flight=0, cap=4, is_account_paused=True))

    with click.Context(click.Command("run"), obj=Reply(database="--db k.db --simulate")):
        found = session.meter.read()

    said = "`batchgen set jobs 8 --db k.db --simulate`, `batchgen pause --db k.db --simulate`"
    assert found.commands == said
    assert "`batchgen unpause --db k.db --simulate`" in found.hurdles[0]


def test_of_a_mere_download_every_clip_tells_the_pace() -> None:
    session = Watched(total=10, first=None, view=View(in_flight=0, cap=4))
    session.now_s, session.stats.succeeded = 10.0, 5

    found = session.meter.read()

    assert (found.per_min, found.eta_s) == (30, 10)
    assert as_json(found)["spent_usd"] is None
    assert line_of(found) == "10 s: 5/10 done, 5 waiting, 30 clips a minute, about 10 s left"


@pytest.mark.parametrize(
    "stands",
    [
        {"is_leaving": True},
        {"is_account_paused": True},
        {"reasons": ("halted",)},
        {"lacks_money": True},
        {"outage_s": 3.0},
        {"stuck": "locked"},
        {"is_over_budget": True},
        {"doubts": 2, "doubts_for_s": 300.0},
        {"is_waiting_for_others": True},
    ],
)
def test_nobody_knows_the_end_of_what_is_held_up(stands: dict[str, Any]) -> None:
    session = Watched()
    session.works(100.0, 10)
    before = session.meter.read()

    session.view = replace(session.view, **stands)
    found = session.meter.read()

    assert before.eta_s is not None
    assert found.eta_s is None
    assert found.hurdles


def test_what_other_workers_do_counts_too() -> None:
    session = Watched(total=50, first=standing(succeeded=7))
    session.works(50.0, 5)

    session.meter.stood(standing(succeeded=7 + 5 + 20, running=9, others=1))
    found = session.meter.read()
    session.works(5.0, 1)

    assert (found.done, found.rest.succeeded, found.elsewhere) == (25, 25, 5)
    assert found.waiting == 50 - 25 - 4 - 5
    assert found.eta_s == pytest.approx(25 * 50 / 25)
    assert session.meter.read().done == 26
    session.meter.stood(standing(succeeded=33))
    assert session.meter.read().elsewhere == 0


def test_a_job_that_a_person_lets_run_again_does_not_count_twice() -> None:
    session = Watched(total=1)
    session.stats.failed = session.stats.succeeded = 1

    found = session.meter.read()

    assert (found.done, found.waiting) == (1, 0)


def test_what_is_spent_is_what_was_looked_up_and_what_was_booked_since() -> None:
    session = Watched(first=standing(spent=1_000_000))
    session.stats.charged_micros = 250_000

    before = session.meter.read()
    session.meter.stood(standing(spent=1_250_000))
    session.stats.charged_micros += 500_000
    after = session.meter.read()

    assert (before.spent_micros, after.spent_micros) == (1_250_000, 1_750_000)
    assert "$1.75 spent ($0.75 in this run)" in line_of(after)
    assert "~" not in line_of(after)
    session.stats.estimates = 1
    assert "~$1.75 spent (~$0.75 in this run)" in line_of(session.meter.read())


def test_the_speed_of_downloads_is_that_of_the_last_seconds() -> None:
    arrived = 0
    session = Watched()
    session.meter = Meter(
        session.stats,
        view=lambda most: session.view,
        total=1,
        received_bytes=lambda: arrived,
        clock=lambda: session.now_s,
    )
    for _ in range(100):
        session.now_s += 0.5
        arrived += 5_000
        session.meter.read()
    quiet_s = session.now_s + 10

    assert session.meter.read().bytes_per_s == pytest.approx(10_000)
    while session.now_s < quiet_s:
        session.now_s += 0.5
        session.meter.read()
    assert session.meter.read().bytes_per_s == 0


def test_what_the_service_said_steers_no_terminal() -> None:
    session = Watched()
    said = "a\x1b[2Jb\nc https://x.example.com/c.mp4?sig=secret " + "d" * 1000
    session.stats.problems.append(said)

    (problem,) = session.meter.read().problems

    assert problem.startswith("a\\x1b[2Jb c https://x.example.com/c.mp4?[redacted]")
    assert len(problem) < 320
