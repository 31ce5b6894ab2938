"""A run that stops for the right reason, and only for that; what moderation refuses."""

from dataclasses import replace

import pytest
from cli.commands import call
from runs import Place, rows_of

from batchgen.providers.simulator import Fault, Kind

REFUSED = Fault(Kind.GENERATION, code="SAFETY.INPUT.TEXT")


def setup(place: Place, *faults: Fault, **changes: object) -> None:
    """Change how the service behaves."""
    settings = replace(place.service.settings, **changes)  # type: ignore[arg-type]
    place.service.settings = replace(settings, faults=faults)


def touched(place: Place) -> int:
    """Return how many jobs a paid request was made for."""
    return len({entry.inputs["promptText"] for entry in place.service.ledger.entries})


# -- halts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("slots", [1, 4, 10])
def test_a_service_that_fails_everything_touches_few_jobs(
    place: Place, slots: int, retries: int
) -> None:
    place.write(rows_of(60))
    setup(place, Fault(Kind.GENERATION), run_s=(0.0, 0.05))

    done = place.run("jobs.csv", "-j", str(slots), "--retries", str(retries))

    assert done.code == 9, done.err
    assert "failures in a row" in done.err
    assert 10 <= touched(place) <= 10 + slots - 1
    assert 10 <= place.states()["failed"] <= 10 + slots - 1
    assert place.service.counters.accepted <= (1 + retries) * (10 + slots - 1)
    place.check_books()


def test_moderated_rows_in_a_row_let_the_others_go_on(place: Place) -> None:
    place.write(rows_of(60))
    refused = [replace(REFUSED, prompt=f"scene {number:03d}") for number in range(21, 31)]
    setup(place, *refused, run_s=(0.0, 0.0))

    done = place.run("jobs.csv", "-j", "4")

    assert done.code == 3, done.err
    assert place.states() == {"failed": 10, "succeeded": 50}
    assert place.service.counters.accepted == 60
    place.check_books()


def test_moderation_has_a_ceiling_since_repeats_can_suspend_an_account(place: Place) -> None:
    place.write(rows_of(20))
    setup(place, REFUSED, run_s=(0.0, 0.0))

    done = place.run("jobs.csv", "-j", "1", "--halt", "moderated=6")
    setup(place)
    more = place.run()

    assert (done.code, more.code) == (9, 0), done.err
    assert "moderation refused 6 jobs" in done.err
    assert "suspended" in done.err
    assert place.states() == {"failed": 6, "succeeded": 14}
    assert place.service.counters.accepted == 20
    place.check_books()


@pytest.mark.parametrize("spec", ["soon,fail=3", "soon,fail=15%"])
def test_halting_soon_finishes_what_is_paid_for(place: Place, spec: str) -> None:
    place.write(rows_of(20))
    setup(place, replace(REFUSED, nth=(1, 2, 3)), run_s=(0.0, 0.1))

    done = place.run("jobs.csv", "-j", "4", "--halt", spec)
    paid, states = place.service.counters.accepted, place.states()
    more = place.run()

    assert (done.code, more.code) == (9, 0), done.err
    assert "3 jobs failed, expired or came in doubt" in done.err
    assert states == {"failed": 3, "succeeded": paid - 3, "pending": 20 - paid}
    assert paid < 20
    assert place.states() == {"failed": 3, "succeeded": 17}
    assert place.service.counters.accepted == 20
    place.check_books()


@pytest.mark.parametrize(
    "unanswered",
    [
        pytest.param(Fault(Kind.STUCK), id="under way"),
        pytest.param(Fault(Kind.SLOW, seconds=30.0), id="not answered"),
    ],
)
def test_halting_now_leaves_at_once_and_resumes_without_paying_twice(
    place: Place, unanswered: Fault
) -> None:
    place.write(rows_of(12))
    stuck = [replace(unanswered, prompt="scene 001"), Fault(Kind.STUCK, prompt="scene 002")]
    failing = [Fault(Kind.GENERATION, prompt=f"scene {number:03d}") for number in (3, 4)]
    setup(place, *stuck, *failing, run_s=(0.0, 0.0))

    done = place.run("jobs.csv", "-j", "4", "--retries", "0", "--halt", "now,fail=2")
    states = place.states()
    setup(place)
    place.service.finish_all()
    more = place.run()

    assert done.code == 9, done.err
    assert "2 jobs failed, expired or came in doubt" in done.err
    assert states["failed"] == 2
    assert states["running"] >= 1
    assert (states["in_doubt"] >= 1) or unanswered.kind is Kind.STUCK
    assert more.code == (10 if states["in_doubt"] else 0), more.err
    assert all(len(entries) == 1 for entries in place.bought().values())
    assert place.states()["succeeded"] == 10 - states["in_doubt"]
    assert place.leftovers() == []
    place.check_books()


def test_a_run_that_never_halts_tries_everything(place: Place) -> None:
    place.write(rows_of(15))
    setup(place, Fault(Kind.GENERATION), run_s=(0.0, 0.0))

    done = place.run("jobs.csv", "-j", "5", "--retries", "0", "--halt", "never")

    assert done.code == 4, done.err
    assert place.states() == {"failed": 15}


def test_credits_that_run_out_leave_the_rest_waiting_and_only_that_is_paid_later(
    place: Place,
) -> None:
    place.write(rows_of(100))
    setup(place, wallet_micros=40 * 250_000, run_s=(0.0, 0.1))

    empty = place.run("jobs.csv", "-j", "10")
    states, paid = place.states(), place.service.counters.accepted
    setup(place, wallet_micros=None)
    filled = place.run("jobs.csv", "-j", "10")

    assert (empty.code, filled.code) == (7, 0), empty.err
    assert "top it up" in empty.err
    assert (paid, states) == (40, {"succeeded": 40, "pending": 60})
    assert "60 jobs to pay for" in filled.err
    assert place.service.counters.accepted == 100
    assert all(len(entries) == 1 for entries in place.bought().values())
    place.check_clips()
    place.check_books()


# -- moderation ------------------------------------------------------------------------------------


def seeds(place: Place, prompt: str) -> list[int | None]:
    """Return the seeds that were sent for a prompt, in order."""
    return [entry.inputs.get("seed") for entry in place.bought()[prompt]]


def test_a_refusal_is_bought_again_with_a_new_seed_each_time_until_it_passes(place: Place) -> None:
    place.write([{**row, "seed": "5" if row["id"] == "c3" else ""} for row in rows_of(3)])
    setup(place, replace(REFUSED, prompt="scene 003", times=2), run_s=(0.0, 0.0))

    done = place.run("jobs.csv", "-j", "2", "--policy-retries", "3", "-o", "out.csv")
    again = place.run("jobs.csv")

    assert done.code == 0, done.err
    assert "at worst $3.75 with retries" in done.err
    first, second, third = seeds(place, "scene 003")
    assert first == 5
    assert len({first, second, third}) == 3
    assert [row["result_seed"] for row in place.export()] == ["", "", str(third)]
    assert place.jobs()[2]["policy_retries_used"] == 2
    assert again.code == 0, again.err
    assert place.service.counters.accepted == 5
    place.check_books()


def test_only_the_last_refusal_is_a_verdict(place: Place) -> None:
    place.write(rows_of(6))
    setup(place, REFUSED, run_s=(0.0, 0.0))

    done = place.run(
        "jobs.csv", "-j", "1", "--policy-retries", "2", "--halt", "moderated=4", "-o", "out.csv"
    )

    assert done.code == 9, done.err
    assert place.states() == {"failed": 4, "pending": 2}
    assert place.service.counters.accepted == 12
    assert {row["result_error"].split(":")[0] for row in place.export() if row["result_error"]} == {
        "moderation refused the text (promptText)"
    }
    place.check_books()


def test_a_pending_job_with_a_new_seed_is_not_asked_for_with_the_old_one_again(
    place: Place,
) -> None:
    place.write(rows_of(1, seed="5"))
    setup(place, replace(REFUSED, times=1), Fault(Kind.NO_BALANCE, nth=(2,)), run_s=(0.0, 0.0))

    first = place.run("jobs.csv", "--policy-retries", "1")
    [waiting] = place.jobs()
    setup(place)
    second = place.run("jobs.csv", "-o", "out.csv")

    assert (first.code, second.code) == (7, 0), first.err
    assert waiting["state"] == "pending"
    assert waiting["seed"] != 5
    assert seeds(place, "scene 001") == [5, waiting["seed"]]
    assert [row["result_seed"] for row in place.export()] == [str(waiting["seed"])]
    place.check_books()


@pytest.mark.parametrize("flag", [(), ("--new-seed-on-retry",)])
def test_a_retry_takes_a_new_seed_only_if_that_is_said(place: Place, flag: tuple[str, ...]) -> None:
    place.write(rows_of(1, seed="5"))
    setup(place, Fault(Kind.GENERATION, times=1), run_s=(0.0, 0.0))

    done = place.run("jobs.csv", *flag)

    assert done.code == 0, done.err
    first, second = seeds(place, "scene 001")
    assert first == 5
    assert (second != 5) is bool(flag)
    place.check_books()


def test_the_reports_say_which_input_was_refused(place: Place) -> None:
    codes = ("SAFETY.INPUT.TEXT", "SAFETY.INPUT.IMAGE", "SAFETY.OUTPUT.VIDEO")
    place.write(rows_of(3))
    setup(
        place,
        *[
            Fault(Kind.GENERATION, prompt=f"scene 00{number}", code=code)
            for number, code in enumerate(codes, start=1)
        ],
    )

    done = place.run("jobs.csv", "-o", "out.csv")

    words = ("the text (promptText)", "the image (promptImage)", "the generated clip")
    expected = [f"moderation refused {word}: " for word in words]
    listed = call("ls", "--db", str(place.db)).out.splitlines()[1:]
    shown = [call("show", f"c{number}", "--db", str(place.db)).out for number in (1, 2, 3)]
    status = call("status", "--db", str(place.db)).out
    assert done.code == 4, done.err
    for row, line, said, text in zip(place.export(), listed, shown, expected, strict=True):
        assert row["result_error"].startswith(text)
        assert text in line
        assert text in said
    assert "3 jobs refused by moderation" in done.err
    assert "3 of them refused by moderation" in status
    assert "ls --state failed" in status
