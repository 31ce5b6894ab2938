"""An account that a person has paused (spec section 3.3)."""

from dataclasses import replace
from pathlib import Path

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write
from runs import Place, rows_of

from batchgen.providers.simulator import Settings


def test_a_run_of_a_paused_account_says_so_and_stores_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch) as handle:
        buy("a")
        write("jobs.csv", rows("a", "b"))
        assert "account default is paused" in ok("pause").err

        done = call("run", "jobs.csv", "-y", "-o", "out.csv")

        assert done.code == 9
        assert "`batchgen unpause`" in done.err
        assert states() == {"a": "succeeded"}
        assert len(Path("out.csv").read_text().splitlines()) == 2
        assert call("run", "-y").code == 9
        assert ok("status", "--json").said["paused_accounts"] == ["default"]

        assert "account default is not paused" in ok("unpause").err
        assert call("run", "jobs.csv", "-y", "--poll-interval", "0").code == 0
        assert handle.counters.accepted == 2


def test_only_the_named_account_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings()) as handle:
        ok("add", write("jobs.csv", rows("a")))
        ok("add", write("other.csv", rows("b")), "--account", "other")

        said = ok("pause", "--account", "other", "--json").said
        assert said == {
            "account": "other",
            "paused": True,
            "was_paused": False,
            "live_workers": 0,
        }
        assert "already" in ok("pause", "--account", "other").err
        assert "account other is paused" in ok("status").err
        assert ok("run", "-y", "--poll-interval", "0").code == 0
        refused = call("run", "-y", "--account", "other")

        assert refused.code == 9
        assert "`batchgen unpause --account other`" in refused.err
        assert handle.counters.accepted == 1
        nobody = call("pause", "--account", "nobody")
        assert nobody.code == 2
        assert "its accounts are: default, other" in nobody.err


def test_a_live_run_waits_until_it_may_go_on(place: Place) -> None:
    place.service.settings = replace(place.service.settings, run_s=(1000.0, 1000.0))
    place.write(rows_of(3))
    db = ("--db", str(place.db))
    run = place.start_run("jobs.csv", "-j", "1")
    place.wait_accepted(1)

    ok("pause", *db)
    place.service.settings = replace(place.service.settings, run_s=(0.0, 0.0))
    place.service.finish_all()
    run.wait_said("the account is paused")
    held = place.service.counters.accepted
    ok("unpause", *db)
    done = run.wait()

    assert held == 1
    assert done.code == 0, done.err
    assert "no longer paused" in done.err
    assert place.states() == {"succeeded": 3}
    place.check_books()
