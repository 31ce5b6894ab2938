import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cli.commands import ok, write
from cli.commands import rows as rows_of

from batchgen import reconciling
from batchgen.domain.errors import AccountBlocked, Exit, RequestLost, Unavailable, UsageError
from batchgen.domain.prices import UnitPrice
from batchgen.providers.interface import Accepted, Look, Phase
from batchgen.reconciling import Adoption
from batchgen.store import reads
from batchgen.store.database import Database
from batchgen.store.reads import JobRow

SENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LOOK = Look(Phase.IN_PROGRESS, "in_progress", "{}", created_at=SENT)


class Told:
    """A provider that answers every look alike."""

    name, origin = "told", "http://127.0.0.1:1"

    def __init__(self, answer: Look | Exception) -> None:
        self._answer = answer

    async def poll(self, model: str, request_id: str) -> Look:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def submit(self, model: str, inputs: Any) -> Accepted:
        raise AssertionError("nothing may be paid")

    async def queue_position(self, request_id: str) -> int | None:
        return None

    async def cancel(self, request_id: str) -> bool:
        raise AssertionError("nothing may be cancelled")

    async def balance_micros(self) -> int:
        raise AssertionError("no balance is asked for")

    async def price(self, model: str) -> UnitPrice | None:
        raise AssertionError("no price is asked for")

    def use_token(self, token: str) -> None:
        raise AssertionError(f"no token is asked for: {token}")

    async def is_reachable(self) -> bool:
        return True

    async def close(self) -> None:
        return


@pytest.fixture
def row() -> JobRow:
    ok("add", write("jobs.csv", rows_of("a")))
    with Database("batchgen.db").reading() as tx:
        found = next(reads.job_rows(tx))
    return replace(found, intent_ms=int(SENT.timestamp() * 1000))


def reservations(row: JobRow, answer: Look | Exception) -> list[str]:
    return asyncio.run(reconciling.reservations(Told(answer), Adoption(row, "r1")))


@pytest.mark.parametrize(
    ("late_s", "is_fine"), [(-61, False), (-60, True), (0, True), (600, True), (601, False)]
)
def test_a_request_is_made_about_when_it_was_sent(row: JobRow, late_s: int, is_fine: bool) -> None:
    look = replace(LOOK, created_at=SENT + timedelta(seconds=late_s))

    found = reservations(row, look)

    assert (found == []) is is_fine
    assert is_fine or "was sent at 2026-01-02 03:04:05 UTC" in found[0]


def test_a_time_that_is_not_stated_is_told(row: JobRow) -> None:
    assert "does not say when" in reservations(row, replace(LOOK, created_at=None))[0]


@pytest.mark.parametrize(
    ("echoed", "is_fine"),
    [
        ({}, True),
        ({"promptText": "scene a "}, True),
        ({"promptText": "another"}, False),
        ({"promptText": "scene a ", "ratio": "1280:720"}, True),
        ({"promptImage": "https://images.example.com/harbor.jpg?X-Amz-Signature=1"}, True),
        ({"promptImage": "https://images.example.com/other.jpg"}, False),
    ],
)
def test_echoed_inputs_are_those_that_were_sent(
    row: JobRow, echoed: dict[str, Any], is_fine: bool
) -> None:
    row = replace(row, inputs={**row.inputs, "promptText": "scene a "})

    found = reservations(row, replace(LOOK, echoed_inputs=echoed))

    assert (found == []) is is_fine


@pytest.mark.parametrize(
    "error", [Unavailable("no answer"), AccountBlocked("bad token", exit_code=Exit.TOKEN)]
)
def test_what_cannot_be_checked_is_told(row: JobRow, error: Exception) -> None:
    assert reservations(row, error) == [f"it could not be checked: {error}"]


def test_a_request_that_is_not_there_is_refused(row: JobRow) -> None:
    with pytest.raises(UsageError, match="knows no request r1"):
        reservations(row, RequestLost("404001"))


@pytest.mark.parametrize("said", ["a", "=r1", "a=", "a=r 1", "a=../r1", "a=" + "r" * 129])
def test_what_is_no_pair_is_refused(said: str) -> None:
    with pytest.raises(UsageError):
        reconciling.parse_adoption(said)


def test_an_id_may_hold_an_equals_sign() -> None:
    assert reconciling.parse_adoption("a=b=r-1_2") == ("a=b", "r-1_2")


def test_nothing_is_named_twice(row: JobRow) -> None:
    other = replace(row, key="another")

    reconciling.check_distinct([Adoption(row, "r1"), Adoption(other, "r2")])
    for pair in (
        [Adoption(row, "r1"), Adoption(row, "r2")],
        [Adoption(row, "r"), Adoption(other, "r")],
    ):
        with pytest.raises(UsageError, match="named twice"):
            reconciling.check_distinct(pair)


def test_a_job_that_was_decided_meanwhile_is_not_decided_again(row: JobRow) -> None:
    database = Database("batchgen.db")
    for decide in (reconciling.resubmit, reconciling.write_off):
        with pytest.raises(UsageError, match="pending by now"), database.transaction() as tx:
            decide(tx, [row], now_ms=1)
    with pytest.raises(UsageError, match="not in doubt"), database.reading() as tx:
        reconciling.in_doubt(tx, [row.id])
    database.close()
