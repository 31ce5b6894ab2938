"""Money in a run: what is estimated, what the budget and the balance let through, what it cost."""

import signal
from dataclasses import replace

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, write
from runs import Place, Started, rows_of

from batchgen.providers import simulator
from batchgen.providers.simulator import Fault, Handle, Kind, Settings

CLIP = 250_000  # five seconds at the stand-in's price
IDS = [f"r{n:03}" for n in range(100)]


def bill(handle: Handle) -> int:
    return handle.ledger.counters.charged_micros


# -- estimates -----------------------------------------------------------------------------------


def test_after_twenty_finished_jobs_the_estimate_is_within_a_tenth_of_the_bill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The catalog states a base price of which the true one is twice, a little more or less; one
    # of ten generations fails and costs all the same.
    settings = Settings(
        price_per_s_micros=100_000,
        price_spread=0.3,
        catalog_per_s_micros=50_000,
        charge_failed=True,
        faults=(Fault(Kind.GENERATION, rate=0.1),),
    )
    with service(monkeypatch, settings) as handle:
        ok("add", write("jobs.csv", rows(*IDS)))
        call("run", "-y", "--poll-interval", "0", "--limit", "24", "--retries", "3")
        before = bill(handle)

        status = ok("status", "--json").said["batches"][0]
        plan = ok("run", "jobs.csv", "-n", "--json").said["manifests"][0]
        asked = call("run", "jobs.csv", "--poll-interval", "0", "--retries", "3")
        assert asked.code == 2  # nobody can be asked, but what would be is shown
        done = call("run", "jobs.csv", "-y", "--poll-interval", "0", "--retries", "3")

    assert done.code == 0, done.err
    estimate = status["waiting_estimate_usd"]
    assert plan["estimate_usd"] == estimate
    assert estimate * 1_000_000 == pytest.approx(bill(handle) - before, rel=0.1)
    assert status["waiting_basis"].startswith("what ")
    assert plan["finished_jobs_seen"] >= 20
    assert f"what {plan['finished_jobs_seen']} finished jobs like these cost" in asked.err


def test_the_catalog_gives_the_price_that_is_shown_and_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(catalog_per_s_micros=70_000)):
        short, long = rows("a", "b")
        ok("add", write("jobs.csv", [{**short, "duration": "5"}, {**long, "duration": "10"}]))
        assert ok("status", "--json").said["batches"][0]["waiting_estimate_usd"] == 0.75

        run = call("run", "jobs.csv", "-y", "--limit", "1", "--poll-interval", "0")

        assert run.code == 0, run.err
        assert "about $1.05 (the service's catalog)" in run.err
        # Which of them comes first is not asked: the dear one may.
        assert "1 job to pay for (--limit): at most about $0.70, at worst $1.40" in run.err
        assert "spent in this run (at most about $0.70 was estimated), $0.25 in all" in run.err
        ok("add", write("more.csv", rows("c")))
        batches = ok("status", "--json").said["batches"]
    # Of the length that was bought, by what that cost; of twice the length, by the catalog.
    assert [batch["waiting_estimate_usd"] for batch in batches] == [0.7, 0.25]


def test_what_an_earlier_run_had_sent_is_no_part_of_what_was_estimated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(run_s=(1.0, 1.0))):
        long = {**rows("long")[0], "duration": "10"}
        left = call(
            *("run", write("jobs.csv", [long]), "--db", "b.db", "-y"),
            *("--job-timeout", "0.05", "--poll-interval", "0"),
        )
        short = write("jobs.csv", [long, {**rows("short")[0], "duration": "5"}])
        done = ok("run", short, "--db", "b.db", "-y", "--poll-interval", "0.1")

    assert "$0.00 spent in this run (about $0.50 was estimated), $0.00 in all" in left.err
    money = "$0.75 spent in this run (about $0.25 was estimated, without 1 job sent before)"
    assert f"{money}, $0.75 in all" in done.err


def test_a_service_without_a_catalog_leaves_the_list_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(catalog_per_s_micros=0)):
        run = call("run", write("jobs.csv", rows("a")), "--db", "b.db", "-y", "-j", "1")

    assert run.code == 0, run.err
    assert "about $0.25 (Runway's own list price; RunComfy's may differ)" in run.err


def test_costs_that_come_late_are_read_again_until_none_is_an_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = Fault(Kind.COST_LATE, count=2)
    with service(monkeypatch, Settings(price_per_s_micros=60_000, faults=(late,))) as handle:
        buy(*IDS[:3])

    batch = ok("status", "--json").said["batches"][0]
    assert not batch["spent_is_estimate"]
    assert batch["spent_usd"] * 1_000_000 == bill(handle) == 3 * 300_000


def test_a_service_that_never_states_costs_is_not_asked_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(cost_stated=False)) as handle:
        buy(*IDS[:40])

    assert handle.counters.result_looks <= 40 + 6  # a look each, and a few in vain
    assert ok("status", "--json").said["batches"][0]["spent_is_estimate"]


# -- the budget ----------------------------------------------------------------------------------


def test_a_budget_that_comes_to_its_end_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch):
        path = write("jobs.csv", rows(*IDS[:10]))
        run = call(
            "run", path, "--db", "b.db", "-y", "-j", "1", "--budget", "2", "--poll-interval", "0"
        )

    assert run.code == 8, run.err
    warning = "batch jobs has used $1.75 of its budget of $2.00"
    assert run.err.count("has used") == 1
    assert warning in run.err


def test_clips_that_were_a_gift_let_no_budget_be_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    gift = Settings(price_per_s_micros=0, catalog_per_s_micros=50_000)
    with service(monkeypatch, gift) as handle:
        ok("add", write("jobs.csv", rows(*IDS[:20])), "--budget", "1")
        ok("run", "-y", "--poll-interval", "0", "--limit", "2")
        handle.settings = Settings(price_per_s_micros=50_000)

        done = call("run", "-y", "--poll-interval", "0", "-j", "20")

        assert done.code == 8
        assert "18 jobs to pay for: about $4.50" in done.err
        assert bill(handle) == 1_000_000


def test_three_workers_never_pass_a_budget_for_a_quarter_of_the_jobs(place: Place) -> None:
    place.write(rows_of(100))
    ok("add", "jobs.csv", "--db", place.url, "--budget", str(25 * CLIP / 1_000_000))

    runs = [place.start_run("-j", "8") for _ in range(3)]
    done = [run.wait() for run in runs]

    assert {one.code for one in done} == {8}, [one.err for one in done]
    assert place.service.counters.accepted == 25
    assert place.states() == {"succeeded": 25, "pending": 75}
    place.check_books()


# -- the balance ---------------------------------------------------------------------------------


def test_balance_is_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(wallet_micros=12_340_000)) as handle:
        assert ok("balance").out == "$12.34\n"
        assert ok("balance", "--json").said == {"balance_usd": 12.34, "origin": handle.origin}
        handle.settings = replace(handle.settings, token="another")
        assert call("balance").code == 6
        handle.settings = replace(handle.settings, token=None, down=True)
        refused = call("balance")
        assert refused.code == 12
        assert "could not be read" in refused.err


def test_the_balance_is_shown_with_how_far_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(wallet_micros=10 * CLIP)):
        path = write("jobs.csv", rows(*IDS[:40]))
        enough = call("run", path, "--db", "b.db", "--limit", "10")
        short = call("run", path, "--db", "b.db")

    assert enough.code == short.code == 2  # nobody agreed
    assert "balance $2.50\n" in enough.err
    assert "balance $2.50: enough for about 10 of them; the run ends then, with exit 7" in short.err


@pytest.mark.parametrize("at_end", [False, True], ids=["charged-at-once", "charged-at-the-end"])
def test_what_must_be_left_is_left(monkeypatch: pytest.MonkeyPatch, at_end: bool) -> None:
    wallet = 20 * CLIP + CLIP // 2
    settings = Settings(wallet_micros=wallet, charge_at_end=at_end, run_s=(0.0, 0.05))
    with service(monkeypatch, settings) as handle:
        path = write("jobs.csv", rows(*IDS[:40]))
        run = call(
            *("run", path, "--db", "b.db", "-y", "-j", "7", "--poll-interval", "0.02"),
            *("--min-balance", "2.50"),
        )

        assert run.code == 7, run.err
        assert "--min-balance keeps $2.50 of it" in run.err
        assert "nothing that was paid for is lost" in run.err
        assert handle.ledger.wallet_micros == 10 * CLIP + CLIP // 2
    counts = ok("status", "--db", "b.db", "--json").said["batches"][0]["counts"]
    assert (counts["succeeded"], counts["pending"], counts["failed"]) == (10, 30, 0)


def test_too_small_a_balance_is_told_before_anything_is_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch, Settings(wallet_micros=10 * CLIP)) as handle:
        path = write("jobs.csv", rows("a"))
        poor = call("run", path, "--db", "b.db", "-y", "--min-balance", "2.50")
        assert poor.code == 7
        assert "the balance is $2.50, and --min-balance keeps $2.50" in poor.err
        handle.settings = replace(handle.settings, token="another")
        unknown = call("run", path, "--db", "b.db", "-y", "--min-balance", "1")

    assert unknown.code == 7
    assert "cannot be read" in unknown.err
    assert handle.counters.accepted == 0
    assert call("status", "--db", "b.db").code == 11  # there is none


@pytest.fixture
def poor(place: Place) -> Started:
    """A run that waits for money: it has paid for 4 of 10 jobs."""
    place.service.settings = replace(place.service.settings, wallet_micros=4 * CLIP)
    place.write(rows_of(10))
    run = place.start_run("jobs.csv", "--wait-for-balance", "-o", "out.csv")
    run.wait_said("waiting until the account is topped up")
    place.wait_jobs(lambda: place.states()["succeeded"] == 4)
    return run


def test_a_run_that_waits_for_money_goes_on_by_itself(place: Place, poor: Started) -> None:
    place.service.settings = replace(place.service.settings, wallet_micros=6 * CLIP)

    done = poor.wait()

    assert done.code == 0, done.err
    assert "the account can pay again: going on" in done.err
    assert place.service.counters.accepted == 10
    assert place.states() == {"succeeded": 10}


def test_a_run_that_waits_for_money_can_be_left(place: Place, poor: Started) -> None:
    poor.send(signal.SIGINT)

    assert poor.wait().code == 130
    assert place.states() == {"succeeded": 4, "pending": 6}
    place.check_books()


def test_events_of_money_are_numbers_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulator.start_in_thread(Settings()) as handle:
        monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", handle.base)
        monkeypatch.setenv("RUNCOMFY_TOKEN", "t")
        [said] = ok("run", write("jobs.csv", rows("a")), "-n", "--json").said["manifests"]

    assert said["estimate_usd"] == 0.25
    assert said["price_basis"] == "Runway's own list price; RunComfy's may differ"


def test_a_balance_that_cannot_be_read_any_more_is_not_passed_off_as_known(place: Place) -> None:
    place.service.settings = replace(place.service.settings, wallet_micros=6 * CLIP + 1)
    place.write(rows_of(10))

    run = place.start_run("jobs.csv", "-j", "1", "--min-balance", "0.50")
    place.wait_accepted(2)
    place.service.settings = replace(place.service.settings, balance_told=False)
    done = run.wait()

    assert done.code == 7, done.err
    assert "the balance cannot be read, and --min-balance keeps $0.50" in done.err
    assert place.states() == {"succeeded": 4, "pending": 6}


def test_a_balance_that_just_sufficed_is_no_reason_to_stop(place: Place) -> None:
    # Slots are free and no more could be paid for, while the last clips are fetched: all is well.
    place.service.settings = replace(place.service.settings, wallet_micros=20 * CLIP)
    place.write(rows_of(5))

    done = place.run("jobs.csv", "-j", "8", "--min-balance", "3.75", "--download-rate", "0.8")

    assert done.code == 0, done.err
    assert place.states() == {"succeeded": 5}
