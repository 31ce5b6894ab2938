import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
from runs import Place, rows_of

from batchgen.providers.simulator import Fault, Kind
from batchgen.store import by_hand
from batchgen.store.database import Database
from batchgen.store.transactions import Transaction

KILLED = -signal.SIGKILL
SAME = ("id", "prompt", "result_key", "result_state", "result_file", "result_attempts")

Decide = Callable[[Transaction, int, str], by_hand.Outcome]


def adopt(tx: Transaction, job_id: int, request_id: str) -> by_hand.Outcome:
    return by_hand.adopt(tx, job_id, request_id, now_ms=0)


def resubmit(tx: Transaction, job_id: int, _request_id: str) -> by_hand.Outcome:
    return by_hand.resubmit(tx, job_id, now_ms=0)


def expected_table(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """What an undisturbed run gives, keys aside."""
    return [
        (row["id"], row["prompt"], "succeeded", f"clips/jobs/{row['id']}.mp4", "1") for row in rows
    ]


def table(place: Place) -> list[tuple[str, ...]]:
    columns = [name for name in SAME if name != "result_key"]
    return [tuple(row[name] for name in columns) for row in place.export()]


@pytest.mark.parametrize(("decide", "paid_twice"), [(adopt, 0), (resubmit, 1)])
def test_a_killed_run_goes_on_and_only_open_requests_are_in_doubt(
    place: Place, decide: Decide, paid_twice: int
) -> None:
    rows = rows_of(40)
    place.write(rows)
    # Three requests are accepted, and their answers are under way when the process dies.
    open_ones = Fault(Kind.SLOW, nth=(10, 12, 14), seconds=20)
    place.service.settings = replace(place.service.settings, faults=(open_ones,))
    run = place.start_run("jobs.csv", "-j", "8", "-o", "out.csv")
    place.wait_accepted(18)
    run.send(signal.SIGKILL)
    assert run.wait().code == KILLED
    held = {job["id"] for job in place.jobs() if job["state"] == "submitting"}
    place.service.settings = replace(place.service.settings, faults=())

    second = place.run("jobs.csv", "-j", "20", "-o", "out.csv")

    assert second.code == 10, second.err
    doubts = [job for job in place.jobs() if job["state"] == "in_doubt"]
    assert {job["id"] for job in doubts} == held
    assert 3 <= len(doubts) <= 8
    assert place.states() == {"succeeded": 40 - len(doubts), "in_doubt": len(doubts)}
    expected = expected_table(rows)
    ids = {job["row_id"] for job in doubts}
    assert [row for row in table(place) if row[0] not in ids] == [
        row for row in expected if row[0] not in ids
    ]
    assert all(len(entries) == 1 for entries in place.bought().values())
    place.check_books()

    bought = place.bought()
    prompts = {row["id"]: row["prompt"] for row in rows}
    sent = [job for job in doubts if prompts[job["row_id"]] in bought]
    database = Database(str(place.db))
    with database.transaction() as tx:
        for job in doubts:
            found = bought.get(prompts[job["row_id"]])
            if found:
                assert decide(tx, job["id"], found[0].id).done
            else:  # killed after the intent and before the request
                assert resubmit(tx, job["id"], "").done
    database.close()
    third = place.run("jobs.csv", "-j", "8", "-o", "out.csv")

    assert third.code == 0, third.err
    assert table(place) == expected
    assert place.service.counters.accepted == 40 + paid_twice * len(sent)
    assert place.leftovers() == []
    place.check_books()
