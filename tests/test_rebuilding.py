"""From a row and a journal to attempts: what money adds up to, and who is who."""

from typing import Any

import pytest

from batchgen.domain.identity import job_key
from batchgen.domain.states import AttemptState, JobState
from batchgen.rebuilding.exports import root_of
from batchgen.rebuilding.history import Matched, attempts_of, match
from batchgen.rebuilding.identity import Identities, Identity
from batchgen.rebuilding.journals import Candidate, Evidence
from batchgen.rebuilding.told import Told
from batchgen.store.journal import Contents, Entry

EST, NOW, AT = 250_000, 2_000_000, 1_000_000
ACCEPTED, SUCCEEDED, FAILED = AttemptState.ACCEPTED, AttemptState.SUCCEEDED, AttemptState.FAILED
ABANDONED, IN_DOUBT = AttemptState.ABANDONED, AttemptState.IN_DOUBT


def row(state: str, **values: Any) -> Told:
    if state in ("running", "downloading", "succeeded", "expired") and "request_id" not in values:
        values["request_id"] = "r"
    if values.get("request_id"):
        values = {"attempts": 1, "submitted_ms": AT, **values}
    return Told(("one.csv", 2), "jkey", "night", "m", JobState(state), **values)


def entry(attempt_id: str, at_ms: int, request_id: str | None = None, **values: Any) -> Entry:
    return Entry(
        attempt_id,
        key="jkey",
        est_micros=EST,
        intent_ms=at_ms,
        request_id=request_id,
        **values,
    )


MONEY: dict[str, tuple[Told, list[tuple[AttemptState, int | None, int | None]]]] = {
    "stated": (row("succeeded", cost_micros=240_000), [(SUCCEEDED, 240_000, 240_000)]),
    "not-stated": (row("succeeded"), [(SUCCEEDED, None, EST)]),
    "free": (row("succeeded", cost_micros=0), [(SUCCEEDED, 0, 0)]),
    "reserved": (row("running"), [(ACCEPTED, None, None)]),
    "both-stated": (
        row("succeeded", attempts=2, cost_micros=500_001),
        [(FAILED, 250_001, 250_001), (SUCCEEDED, 250_000, 250_000)],
    ),
    "one-of-two-stated": (
        row("succeeded", attempts=2, cost_micros=250_000),
        [(FAILED, 0, 0), (SUCCEEDED, 250_000, 250_000)],
    ),
    "only-one-was-charged": (
        row("succeeded", attempts=2, cost_micros=250_000, charged_micros=250_000),
        [(FAILED, 125_000, 125_000), (SUCCEEDED, 125_000, 125_000)],
    ),
    "the-sum-is-told": (
        row("succeeded", attempts=2, cost_micros=250_000, charged_micros=270_000),
        [(FAILED, None, 20_000), (SUCCEEDED, 250_000, 250_000)],
    ),
    "a-doubt-was-given-up-before": (
        row("succeeded", cost_micros=250_000, charged_micros=500_000),
        [(ABANDONED, None, 250_000), (SUCCEEDED, 250_000, 250_000)],
    ),
    "failed": (row("failed", request_id="r"), [(FAILED, None, EST)]),
    "cancelled": (row("cancelled", request_id="r"), [(AttemptState.CANCELLED, None, 0)]),
    "refused": (row("failed", submitted_ms=AT), [(AttemptState.REJECTED, None, None)]),
    "unfit": (row("failed"), []),
    "written-off": (
        row("failed", submitted_ms=AT, error_class="written_off"),
        [(ABANDONED, None, EST)],
    ),
    "doubt": (row("in_doubt", submitted_ms=AT), [(IN_DOUBT, None, None)]),
    "on-its-way": (row("submitting", submitted_ms=AT), [(IN_DOUBT, None, None)]),
    "waits": (row("pending"), []),
    "waits-again": (row("pending", attempts=1), [(FAILED, None, EST)]),
}


@pytest.mark.parametrize(("told", "expected"), MONEY.values(), ids=MONEY.keys())
def test_attempts_add_up_to_what_the_row_tells(
    told: Told, expected: list[tuple[AttemptState, int | None, int | None]]
) -> None:
    attempts, current = attempts_of(
        told,
        Matched(),
        est_micros=EST,
        slot_ms=1,
        new_id=lambda at_ms: f"a{at_ms:011x}",
        now_ms=NOW,
    )

    assert [(one.state, one.cost_micros, one.charged_micros) for one in attempts] == expected
    assert [one.id for one in attempts] == sorted(one.id for one in attempts)
    assert sum(one.accepted_ms is not None for one in attempts) == told.attempts
    decides = told.state is not JobState.PENDING and bool(attempts)
    assert current == (attempts[-1].id if decides else None)


OLD, SAME, NEW = entry("a1", AT - 9_000, "r0"), entry("a2", AT + 5, "r"), entry("a3", AT + 9, "r2")
LOST = entry("a4", AT + 5)
MATCHES: dict[str, tuple[Told, list[Entry], Matched]] = {
    "its-own": (row("succeeded"), [SAME], Matched(SAME)),
    "bought-again-since": (row("succeeded"), [SAME, NEW], Matched(SAME)),
    "one-before": (row("succeeded", attempts=2), [OLD, SAME, NEW], Matched(SAME, (OLD,))),
    "id-never-written-down": (row("succeeded"), [LOST], Matched(LOST)),
    "doubt": (row("in_doubt", submitted_ms=AT), [LOST], Matched(LOST)),
    "doubt-answered-since": (row("in_doubt", submitted_ms=AT), [SAME], Matched(SAME)),
    "refused-then-bought": (row("failed", submitted_ms=AT), [SAME], Matched()),
    "bought-since": (row("pending"), [SAME], Matched()),
    "in-doubt-since": (row("pending"), [LOST], Matched()),
    "waits-again": (row("pending", attempts=1), [OLD, SAME], Matched(None, (OLD,))),
    "a-doubt-before": (
        row("succeeded"),
        [entry("a0", AT - 90_000), SAME],
        Matched(SAME, (), (entry("a0", AT - 90_000),)),
    ),
}


@pytest.mark.parametrize(("told", "entries", "expected"), MATCHES.values(), ids=MATCHES.keys())
def test_a_journal_tells_more_of_what_the_row_knows(
    told: Told, entries: list[Entry], expected: Matched
) -> None:
    assert match(told, entries) == expected


@pytest.mark.parametrize(
    ("told", "entries", "expected"),
    [
        (row("succeeded"), [SAME], Evidence.PROVEN),
        (row("succeeded"), [entry("a9", AT, "other")], Evidence.OTHER),
        (row("succeeded"), [entry("a9", AT + 10**6, "other")], Evidence.POSSIBLE),
        (row("pending"), [SAME], Evidence.POSSIBLE),
        (row("pending"), [entry("a9", AT, is_unpaid=True)], Evidence.NONE),
        (row("pending"), [], Evidence.NONE),
    ],
)
def test_only_a_common_request_proves_a_journal(
    told: Told, entries: list[Entry], expected: Evidence, tmp_path: Any
) -> None:
    journal = Candidate(tmp_path, Contents(tuple(entries)))
    journal.see(told)
    assert journal.evidence is expected


def test_a_key_tells_id_and_variant() -> None:
    known = [
        Identity("harbor"),
        Identity("takes", "take", "2"),
        Identity("takes", "take", "1"),
        Identity("seeds", "seed", "7"),
        Identity("0123456789abcdef"),
        Identity("0123456789abcdef-2"),
        Identity("0123456789abcdef-2", "take", "3"),
    ]
    identities = Identities("night")
    for one in known:
        found = identities.find(
            job_key("night", *one),
            row_id=None if one.row_id.startswith("0") else one.row_id,
            hashes=["0123456789abcdef" + "0" * 48],
            seeds=[3, 7],
        )
        assert found == one


def test_a_renamed_job_is_called_what_its_row_is_called() -> None:
    identities = Identities("night")
    found = [
        identities.find(f"jold{number}", row_id="new", hashes=["0" * 64], seeds=[])
        for number in range(3)
    ]
    assert found == [Identity("new"), Identity("new", "take", "1"), Identity("new", "take", "2")]


@pytest.mark.parametrize(
    ("file", "root"),
    [
        ("clips/night/a.mp4", "clips"),
        ("out/put/night/x/a.mp4", "out/put"),
        ("/data/clips/night/a.mp4", "/data/clips"),
        ("night/a.mp4", "."),
        ("../clips/night/a.mp4", "../clips"),
        ("other/a.mp4", "other"),
    ],
)
def test_an_output_folder_is_what_the_folder_of_the_batch_lies_in(file: str, root: str) -> None:
    assert root_of(file, "night") == root
