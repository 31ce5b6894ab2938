"""Which jobs an expression selects: the same ones on both kinds of job database."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from store.stored_jobs import NOW, Store, spec_of

from batchgen.domain.states import JobState
from batchgen.domain.where import column_name, parse
from batchgen.store import reads
from batchgen.store.statements import text
from batchgen.store.transactions import Transaction

COLUMNS = ("id", "client", "take", "ok", 'odd "name"')
INPUTS = ("promptText",)
CELLS: dict[str, dict[str, Any]] = {
    "a": {"client": "Äcme & Söhne", "take": "5", "ok": True, 'odd "name"': "x'y"},
    "b": {"client": "blue sky", "take": 5.0, "ok": False, 'odd "name"': ""},
    "c": {"client": "", "take": "12a", "ok": None},
    "d": {"take": "-7e1"},
}


@pytest.fixture
def tx(store: Store) -> Any:
    batch = store.batch()
    store.add(batch, [spec_of(row_id, duration=5) for row_id in CELLS])
    store.running(1)  # a
    with store.database.transaction() as tx:
        for row_id, cells in CELLS.items():
            tx.run(
                text("UPDATE jobs SET cells = :cells WHERE row_id = :id"),
                {"cells": json.dumps(cells, ensure_ascii=False), "id": row_id},
            )
        tx.run(
            text(
                "UPDATE jobs SET state = 'failed', error_class = 'moderation', "
                "error = 'ÜBER the line', finished_ms = 1000, priority = -3, variant = '2' "
                "WHERE row_id = 'c'"
            )
        )
        tx.run(
            text("UPDATE jobs SET seed = 4000000000, files = :files WHERE row_id = 'b'"),
            {"files": json.dumps([{"path": "night/b.mp4", "size_bytes": 300_000}])},
        )
        tx.run(
            text(
                "UPDATE attempts SET charged_micros = 310000, accepted_ms = 1000, "
                "started_ms = 3500, run_ms = 90000, request_id = 'req-1'"
            )
        )
    with store.database.reading() as tx:
        yield tx


def selected(tx: Transaction, expression: str) -> str:
    where = parse(
        expression, columns=COLUMNS, inputs=INPUTS, now=datetime.fromtimestamp(NOW / 1000, UTC)
    )
    ids = reads.job_ids(tx, where=where)
    assert [row.id for row in reads.job_rows(tx, where=where)] == ids
    return "".join(row.row_id for row in reads.rows_of(tx, ids))


EXPECTED = {
    "state=running": "a",
    "state!=running": "bcd",
    "state in (failed, pending)": "bcd",
    "id='b'": "b",
    "id>b": "cd",
    "variant=none": "abd",
    "variant=2": "c",
    "class=none": "abd",
    "class!=moderation": "abd",
    "error~'ÜBER THE'": "c",
    "error!~'the LINE'": "abd",
    "model~GEN-4": "abcd",
    "cost>0.3": "a",
    "cost<=0.31": "a",
    "not cost>0.3": "bcd",
    "cost=none": "bcd",
    "estimate=0.25": "abcd",
    "attempts=1": "a",
    "attempts<1": "bcd",
    "queue=2.5": "a",
    "run>1m": "a",
    "run>91s": "",
    "request=req-1": "a",
    "seed=4000000000": "b",
    "seed!=none": "b",
    "file~B.mp4": "b",
    "bytes>=300kB": "b",
    "bytes<300000": "",
    "finished<1970-01-01T00:00:02Z": "c",
    "submitted!=none": "a",
    "changed<=now": "abcd",
    "priority>0": "c",
    "client~'CME & s'": "a",
    "client='blue sky'": "b",
    "client='Blue sky'": "",
    "client=none": "cd",
    "client!='blue sky'": "acd",
    "take=5": "ab",
    "take>4": "ab",
    "take<0": "d",
    "take='5'": "ab",
    "take=12a": "c",
    "take in (5, 12a)": "abc",
    "ok=true": "a",
    "ok=false": "b",
    "ok=none": "cd",
    '\'odd "name"\'="x\'y"': "a",
    "'odd \"name\"'=none": "bcd",
    "promptText=b": "b",
    "input.promptText~D": "d",
    'client="\' OR 1=1 --"': "",
    "client~'%'": "",
    "client~'_'": "",
    "state=failed or client~sky and take=5": "bc",
    "(state=failed or client~sky) and take=5": "b",
    "not (state=failed or client~sky)": "ad",
}


def test_what_expressions_select(tx: Transaction) -> None:
    assert {text: selected(tx, text) for text in EXPECTED} == EXPECTED


def test_case_does_not_matter_beyond_ascii_either_in_a_file(tx: Transaction) -> None:
    """A server goes by its own locale."""
    expected = "" if tx.is_postgresql else "a"

    assert selected(tx, "client~'äcme'") == expected
    assert selected(tx, "client~'Äcme'") == "a"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((), "abcd"),
        (("-id",), "dcba"),
        (("state", "-id"), "cdba"),
        (("cost",), "abcd"),
        (("-seed",), "bacd"),
        (("-priority",), "cabd"),
    ],
)
def test_jobs_without_a_value_come_last(
    tx: Transaction, order: tuple[str, ...], expected: str
) -> None:
    names = [
        (
            column_name(one.removeprefix("-"), columns=COLUMNS, inputs=INPUTS, what="--sort"),
            one.startswith("-"),
        )
        for one in order
    ]

    ids = reads.job_ids(tx, order=names)

    assert "".join(row.row_id for row in reads.rows_of(tx, ids)) == expected
    assert reads.job_ids(tx, order=names, limit=2) == ids[:2]


def test_a_batch_and_states_narrow_it_too(tx: Transaction, store: Store) -> None:
    where = parse("id>=b", columns=(), inputs=(), now=datetime.now(UTC))

    found = reads.job_ids(tx, batch_id=1, states=[JobState.PENDING], where=where)

    assert [row.row_id for row in reads.rows_of(tx, found)] == ["b", "d"]
    assert reads.job_ids(tx, batch_id=2, where=where) == []
