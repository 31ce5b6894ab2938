from dataclasses import replace
from pathlib import Path

import pytest
from runs import IMAGE, Place, rows_of

from batchgen.providers.simulator import Fault, Kind, clip_bytes


def setup(place: Place, *faults: Fault, **changes: object) -> None:
    """Change how the service behaves."""
    settings = replace(place.service.settings, **changes)  # type: ignore[arg-type]
    place.service.settings = replace(settings, faults=faults)


# -- the account -----------------------------------------------------------------------------------


def test_an_empty_wallet_leaves_the_rest_pending(place: Place) -> None:
    place.write(rows_of(12))
    ends = []
    setup(place, wallet_micros=4 * 250_000)
    ends.append((place.run("jobs.csv", "-j", "3").code, dict(place.states())))
    for kind in (Kind.NO_BALANCE_200, Kind.PAYMENT_REQUIRED):
        setup(place, Fault(kind), wallet_micros=100_000_000)
        ends.append((place.run("jobs.csv").code, dict(place.states())))
    setup(place)

    refilled = place.run("jobs.csv", "-j", "6")

    assert ends == [(7, {"succeeded": 4, "pending": 8})] * 3
    assert refilled.code == 0, refilled.err
    assert place.service.counters.accepted == 12
    place.check_books()


def test_a_refused_token_leaves_paid_jobs_to_the_next_run(place: Place) -> None:
    place.write(rows_of(12))
    setup(place, token="a-token", revoke_after=6, run_s=(0.1, 0.2))
    codes = [place.run("jobs.csv", "-j", "3").code]
    states = place.states()
    for status in (403, 400):
        setup(place, token_status=status)
        codes.append(place.run("jobs.csv").code)
    setup(place, revoke_after=None)

    good = place.run("jobs.csv", "-j", "6")

    assert codes == [6, 6, 6]
    assert states["running"] >= 1
    assert states["running"] + states["succeeded"] == 6
    assert states["pending"] == 6
    assert good.code == 0, good.err
    assert place.service.counters.accepted == 12
    place.check_books()


def test_jobs_of_a_model_that_the_service_does_not_know_are_held(place: Place) -> None:
    place.write(rows_of(10))
    setup(place, models=frozenset())

    done = place.run("jobs.csv", "-j", "2")

    assert done.code == 9, done.err
    assert place.states() == {"pending": 10}
    assert place.service.counters.posts <= 2
    assert place.attempts() == []
    place.check_books()


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retries", "bought"), [(0, 10), (1, 20)])
def test_ten_failures_in_a_row_halt_the_run(place: Place, retries: int, bought: int) -> None:
    place.write(rows_of(30))
    setup(place, Fault(Kind.GENERATION), run_s=(0.0, 0.0))

    done = place.run("jobs.csv", "-j", "1", "--retries", str(retries))

    assert done.code == 9, done.err
    assert "10 failures in a row" in done.err
    # One verdict a job, after its retries.
    assert place.states() == {"failed": 10, "pending": 20}
    assert place.service.counters.accepted == bought
    place.check_books()


def test_moderation_is_the_prompts_fault_and_halts_nothing(place: Place) -> None:
    place.write(rows_of(15))
    setup(place, Fault(Kind.GENERATION, code="SAFETY.INPUT.TEXT"))

    done = place.run("jobs.csv", "-j", "5", "-o", "out.csv")

    assert done.code == 4, done.err
    assert place.states() == {"failed": 15}
    assert {row["result_error_class"] for row in place.export()} == {"moderation"}
    assert place.service.counters.accepted == 15  # never bought again by itself


def test_a_success_ends_a_streak(place: Place) -> None:
    place.write(rows_of(16))
    failing = tuple(number for number in range(1, 17) if number not in (8, 16))
    setup(place, Fault(Kind.GENERATION, nth=failing), run_s=(0.0, 0.0))

    done = place.run("jobs.csv", "-j", "1", "--retries", "0")

    assert done.code == 3, done.err
    assert place.states() == {"failed": 14, "succeeded": 2}


def test_refused_inputs_fail_unpaid(place: Place) -> None:
    place.write(rows_of(4))
    setup(place, Fault(Kind.INVALID, nth=(2,)))

    done = place.run("jobs.csv", "-o", "out.csv")

    assert done.code == 3
    assert sorted(row["result_error_class"] for row in place.export()) == [
        "",
        "",
        "",
        "invalid_input",
    ]
    assert place.service.counters.accepted == 3
    place.check_books()


# -- the network -----------------------------------------------------------------------------------


def test_an_outage_is_outlived(place: Place) -> None:
    place.write(rows_of(20))
    setup(place, run_s=(0.1, 0.3))
    # Each doubt keeps its slot for minutes: there are too many slots for a cut to hit all of them.
    run = place.start_run("jobs.csv", "-j", "8")
    place.service.wait_until(lambda seen: seen.accepted >= 9 and seen.posts_at_once == 0)
    place.service.down()
    run.wait_said("cannot be reached")
    place.service.up()

    done = run.wait()

    # A POST that the cut hit may have been accepted: nobody can know.
    doubts = place.states()["in_doubt"]
    assert done.code == (10 if doubts else 0), done.err
    assert "answers again" in done.err
    assert place.states()["succeeded"] == 20 - doubts
    assert doubts < 8
    assert all(len(entries) == 1 for entries in place.bought().values())
    assert all(attempt["no"] == 1 for attempt in place.attempts())
    place.check_books()


def test_a_service_that_answers_everything_with_a_page_is_outlived(place: Place) -> None:
    place.write(rows_of(8))
    setup(place, run_s=(0.3, 0.3))
    run = place.start_run("jobs.csv", "-j", "8")
    place.service.wait_until(lambda seen: seen.accepted == 8 and seen.posts_at_once == 0)
    setup(place, down=True)
    run.wait_said("cannot be reached")
    setup(place, down=False)

    done = run.wait()

    assert done.code == 0, done.err
    assert "answers again" in done.err
    assert place.states() == {"succeeded": 8}
    assert place.service.counters.accepted == 8
    place.check_books()


def test_an_outage_that_lasts_ends_the_run(place: Place) -> None:
    place.write(rows_of(5))
    assert place.run("jobs.csv", "--limit", "1").code == 0
    place.service.down()

    done = place.run("--max-outage", "0.2")

    place.service.up()
    assert done.code == 12, done.err
    assert place.states() == {"succeeded": 1, "pending": 4}
    assert len(place.attempts()) == 1
    place.check_books()


def test_what_may_have_been_bought_is_never_sent_again(place: Place) -> None:
    kinds = (Kind.DROP_AFTER, Kind.HALF_ANSWER, Kind.ERROR_AFTER, Kind.GATEWAY_AFTER, Kind.NO_ID)
    place.write(rows_of(12))
    # Every second one, lest they count as a streak and go one by one.
    faults = [Fault(kind, nth=(2 * number,)) for number, kind in enumerate(kinds, start=1)]
    setup(place, *faults, run_s=(0.0, 0.0))

    first = place.run("jobs.csv", "-j", "20")
    second = place.run("jobs.csv", "-j", "20")

    assert [first.code, second.code] == [10, 10], first.err
    assert place.states() == {"succeeded": 7, "in_doubt": 5}
    assert place.service.counters.accepted == 12
    place.check_books()


def test_doubts_in_a_row_halt_the_run(place: Place) -> None:
    place.write(rows_of(20))
    setup(place, Fault(Kind.SERVER_ERROR))

    done = place.run("jobs.csv", "-j", "30", "--halt", "streak=5")

    assert done.code == 9, done.err
    assert place.states()["in_doubt"] >= 5
    place.check_books()


def test_after_three_doubts_one_submit_goes_out_beside_what_still_runs(place: Place) -> None:
    place.write(rows_of(12))
    stuck = Fault(Kind.STUCK, nth=(2, 3))
    setup(place, Fault(Kind.SERVER_ERROR, nth=(4, 5, 6)), stuck, run_s=(0.5, 0.5))
    run = place.start_run("jobs.csv", "-j", "6")
    place.wait_accepted(4)  # the first has made room, two are still generated
    setup(place, run_s=(0.0, 0.0))
    place.service.finish_all()

    done = run.wait()

    assert done.code == 10, done.err
    assert place.states() == {"succeeded": 9, "in_doubt": 3}
    place.check_books()


def test_a_plain_refusal_for_now_spends_nothing(place: Place) -> None:
    place.write(rows_of(8))
    setup(place, Fault(Kind.THROTTLE, nth=(1, 2, 6), seconds=1))

    done = place.run("jobs.csv", "-j", "2", "--limit", "8", "--retries", "0")

    assert done.code == 0, done.err
    assert place.states() == {"succeeded": 8}
    assert {attempt["no"] for attempt in place.attempts()} == {1}
    assert place.service.counters.refused == 3
    place.check_books()


# -- looks -----------------------------------------------------------------------------------------


ODD = {
    "504": Fault(Kind.LOOK_504, nth=(1, 2)),
    "html": Fault(Kind.LOOK_HTML, nth=(1,)),
    "dropped": Fault(Kind.LOOK_DROP, nth=(1,)),
    "500": Fault(Kind.LOOK_500, nth=(1,)),
    "unknown at first": Fault(Kind.LOOK_404, nth=(1,)),
    "429": Fault(Kind.LOOK_429, nth=(1,), seconds=1),
    "unknown word": Fault(Kind.UNKNOWN_STATE, count=2),
    "output is a string": Fault(Kind.OUTPUT, code="string"),
    "output is a list": Fault(Kind.OUTPUT, code="list"),
    "output has videos": Fault(Kind.OUTPUT, code="videos"),
    "late cost": Fault(Kind.COST_LATE),
    "late result": Fault(Kind.RESULT_LATE, count=2),
    "done, and no clip yet": Fault(Kind.RESULT_LATE, code="completed"),
}


def test_odd_answers_to_looks_cost_nothing(place: Place) -> None:
    rows = [{"prompt": name, "image": IMAGE} for name in ODD]
    place.write(rows)
    faults = [replace(fault, prompt=name) for name, fault in ODD.items()]
    setup(place, *faults, run_s=(0.0, 0.0), price_per_s_micros=60_000)

    done = place.run("jobs.csv", "-j", "20", "-o", "out.csv")

    assert done.code == 0, done.err
    assert [(row["prompt"], row["result_cost_usd"]) for row in place.export()] == [
        (name, "0.3") for name in ODD
    ]
    assert place.service.counters.accepted == len(ODD)
    place.check_books()


def test_a_job_past_its_timeout_is_looked_at_again(place: Place) -> None:
    place.write(rows_of(2))
    setup(place, run_s=(30.0, 30.0))

    first = place.run("jobs.csv", "--job-timeout", "0.2")
    states = place.states()
    place.service.finish_all()
    second = place.run("jobs.csv")

    assert first.code == 3
    assert states == {"running": 2}
    assert second.code == 0, second.err
    assert place.service.counters.accepted == 2
    place.check_books()


def test_jobs_that_never_end_free_their_slots_and_the_others_go_on(place: Place) -> None:
    place.write(rows_of(10))
    setup(place, Fault(Kind.STUCK, nth=(1, 2, 3, 4)), run_s=(0.0, 0.0))

    done = place.run("jobs.csv", "-j", "4", "--job-timeout", "0.3")

    assert done.code == 3, done.err
    assert place.states() == {"running": 4, "succeeded": 6}
    assert place.service.counters.accepted == 10
    place.check_books()


# -- files -----------------------------------------------------------------------------------------


FILES = {
    # What is wrong at first, and how often the file is asked for in all.
    Kind.FILE_403: 2,
    Kind.FILE_404: 2,
    Kind.FILE_410: 2,
    Kind.FILE_500: 2,
    Kind.FILE_HTML: 2,
    Kind.FILE_EMPTY: 2,
    Kind.FILE_DROP: 2,
    Kind.FILE_TRUNCATED: 2,
    Kind.FILE_CHANGED: 2,
    Kind.FILE_WRONG_LENGTH: 2,
    Kind.FILE_NO_LENGTH: 1,
    Kind.FILE_REDIRECT: 2,
}


def test_a_file_that_is_not_whole_is_fetched_again(place: Place) -> None:
    rows = [{"prompt": kind.value, "image": IMAGE} for kind in FILES]
    place.write(rows)
    # `localhost` is another host than 127.0.0.1: the token must not go there.
    faults = [Fault(kind, nth=(1,), prompt=kind.value, code="localhost") for kind in FILES]
    setup(place, *faults, token="a-token")

    done = place.run("jobs.csv", "-j", "12", "--download-jobs", "12", "-o", "out.csv")

    assert done.code == 0, done.err
    for row in place.export():
        content = (place.folder / row["result_file"]).read_bytes()
        assert content == clip_bytes(f"{row['result_request_id']}.mp4")
    fetches = {entry.inputs["promptText"]: entry.fetches for entry in place.service.ledger.entries}
    assert fetches == {kind.value: count for kind, count in FILES.items()}
    assert place.service.counters.files_with_token == 0
    assert place.service.counters.accepted == len(FILES)
    assert place.leftovers() == []


def test_a_link_that_died_before_the_download_is_replaced(place: Place) -> None:
    place.write(rows_of(2))
    setup(place, link_life_s=0.0)
    first = place.run("jobs.csv", "--no-download")
    setup(place, link_life_s=600.0)

    second = place.run("jobs.csv")

    assert [first.code, second.code] == [0, 0], second.err
    assert place.states() == {"succeeded": 2}
    assert place.service.counters.file_fetches == 2  # beside those of the dead links
    assert place.service.counters.accepted == 2


def test_clips_can_be_left_for_later(place: Place) -> None:
    place.write(rows_of(3))

    first = place.run("jobs.csv", "--no-download")
    states, fetched = place.states(), place.service.counters.file_fetches
    left = place.folder / "clips/jobs/.c1.mp4.0badcafe.part"  # by a download that was killed
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    second = place.run("jobs.csv")

    assert [first.code, second.code] == [0, 0]
    assert (states, fetched) == ({"downloading": 3}, 0)
    assert place.states() == {"succeeded": 3}
    assert len(list((place.folder / "clips").rglob("*.mp4"))) == 3
    assert place.leftovers() == []
    assert place.service.counters.accepted == 3


def test_a_file_of_somebody_else_is_never_overwritten(place: Place) -> None:
    place.write(rows_of(2))
    mine = place.folder / "clips/jobs/c1.mp4"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"holiday")

    done = place.run("jobs.csv", "-o", "out.csv")

    assert done.code == 0, done.err
    assert mine.read_bytes() == b"holiday"
    assert [Path(row["result_file"]).name for row in place.export()] == ["c1-2.mp4", "c2.mp4"]


def test_a_folder_that_becomes_unwritable_pauses_and_loses_nothing(place: Place) -> None:
    place.write(rows_of(3))
    assert place.run("jobs.csv", "--no-download").code == 0
    clips = place.folder / "clips"
    clips.mkdir(exist_ok=True)
    (clips / "jobs").write_text("a file in the way")

    blocked = place.run()
    (clips / "jobs").unlink()
    free = place.run()

    assert [blocked.code, free.code] == [13, 0], blocked.err
    assert place.states() == {"succeeded": 3}
    assert place.service.counters.accepted == 3


# -- two at once -----------------------------------------------------------------------------------


def test_two_runs_share_one_cap_and_buy_nothing_twice(place: Place) -> None:
    place.write(rows_of(30))
    setup(place, run_s=(0.1, 0.2))
    first = place.start_run("jobs.csv", "-j", "4")
    place.wait_accepted(2)

    second = place.start_run("jobs.csv", "-j", "9")
    done = [first.wait(), second.wait()]

    assert [one.code for one in done] == [0, 0], done
    assert place.service.counters.most_untold <= 4
    assert place.service.counters.accepted == 30
    assert place.states() == {"succeeded": 30}
    place.check_books()
