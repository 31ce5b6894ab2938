"""`run --where` pays for the jobs that it selects, is judged by them, and finishes what is paid."""

from collections import Counter

import pytest
from cli.bought import service
from cli.commands import call, ok, rows, states, write

from batchgen.providers.simulator import Fault, Kind, Settings

RUN = ("run", "-y", "--poll-interval", "0")


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three jobs of two clients, in a job database of each kind."""
    if request.param == "postgresql":
        monkeypatch.setenv("BATCHGEN_DB", request.getfixturevalue("postgres_url"))
    else:
        monkeypatch.setenv("BATCHGEN_DB", "jobs.db")
    table = [
        {**row, "client": client}
        for row, client in zip(rows("a", "b", "c"), ["acme", "sky", "acme"], strict=True)
    ]
    ok("add", write("jobs.csv", table))


@pytest.mark.usefixtures("stored")
def test_only_what_is_selected_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with service(monkeypatch, Settings(faults=(Fault(Kind.GENERATION, prompt="scene b"),))) as it:
        planned = ok("run", "-n", "--where", "client=acme", "--json").said
        first = call(*RUN, "--where", "client=acme", "--json")
        after = states()
        rest = call(*RUN, "--where", "client!=acme or id=a", "--json")

        assert planned["to_pay"] == 2
        assert (first.code, +Counter(first.said["counts"])) == (0, {"succeeded": 2})
        assert after == {"a": "succeeded", "b": "pending", "c": "succeeded"}
        assert (rest.code, +Counter(rest.said["counts"])) == (4, {"failed": 1})
        assert len(it.ledger.entries) == 4  # b twice, as --retries has it


@pytest.mark.usefixtures("stored")
def test_what_others_have_paid_for_is_finished_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with service(monkeypatch) as it:
        ok(*RUN, "--no-download", "--where", "id=a")
        done = ok(*RUN, "--where", "id=c", "--json").said

        assert +Counter(done["counts"]) == {"succeeded": 1}
        assert states() == {"a": "succeeded", "b": "pending", "c": "succeeded"}
        assert len(it.ledger.entries) == 2


@pytest.mark.usefixtures("stored")
def test_the_selection_is_that_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a job that goes on from `pending` would leave the scope on its way."""
    with service(monkeypatch):
        done = ok(*RUN, "--where", "state=pending and id in (a, b)", "--json").said

    assert +Counter(done["counts"]) == {"succeeded": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("jobs.csv", "--where", "id=a"), "`batchgen add jobs.csv` first"),
        (("--where", "cliend=acme"), "did you mean `client`?"),
        (("--where", ""), "--where is empty"),
    ],
)
@pytest.mark.usefixtures("stored")
def test_a_selection_that_means_nothing_is_refused(words: tuple[str, ...], message: str) -> None:
    done = call(*RUN, *words)

    assert done.code == 2
    assert message in done.err
    assert set(states().values()) == {"pending"}
