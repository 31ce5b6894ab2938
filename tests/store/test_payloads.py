"""The service's raw answers, packed in a file."""

import json
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store.stored_jobs import NOW, Store, accepted, generated

from batchgen.domain.errors import StoreError
from batchgen.store import jobs, reads
from batchgen.store.payloads import packed_for_file, unpacked

REQUEST = "4f6e4a2b-9d3c-4c7e-8a59-1d0b7a3f2c11"
BASE = f"https://model-api.runcomfy.net/v1/requests/{REQUEST}"
SUCCESS = json.dumps(
    {
        "request_id": REQUEST,
        "status": "succeeded",
        "status_url": f"{BASE}/status",
        "result_url": f"{BASE}/result",
        "model_id": "runwayml/runway-gen-4/turbo/image-to-video",
        "created_at": "2026-03-02T10:15:31.120+00:00",
        "finished_at": "2026-03-02T10:16:14.903+00:00",
        "output": {"video": "https://serverless-api-storage.example/4f6e4a2b/clip_0001.mp4"},
        "cost": 0.5,
    }
)


@given(st.text(st.characters()))
def test_what_is_packed_is_what_was_said(raw: str) -> None:
    assert unpacked(packed_for_file(raw)) == raw
    assert unpacked(raw) == raw  # as an older version kept it


def test_a_usual_answer_takes_less_than_half() -> None:
    kept = packed_for_file(SUCCESS)

    assert isinstance(kept, bytes)
    assert len(kept) < len(SUCCESS) / 2


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (b"\x02abc", "not known"),
        (b"\x01\xff\xff\xff", "damaged"),
        (cast(bytes, packed_for_file(SUCCESS))[:-3], "damaged: its end is missing"),
        (b"\x01" + zlib.compress(b"\xff", wbits=-13), "damaged: 'utf-8'"),
        (b"", "not known"),
    ],
)
def test_what_cannot_be_read_is_told(stored: bytes, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        unpacked(stored)


def test_a_file_keeps_answers_packed_and_shows_them_as_they_were(store: Store) -> None:
    store.fill(1)
    [job] = store.claim()
    store.do(jobs.record_accepted, jobs.AcceptedFact(job, REQUEST, SUCCESS, NOW))

    [attempt] = store.query("SELECT submit_raw FROM attempts")
    with store.database.reading() as tx:
        [shown] = reads.attempts(tx, job.id)
        is_server = tx.is_postgresql

    assert isinstance(attempt.submit_raw, str if is_server else bytes)
    assert shown["submit_raw"] == SUCCESS
    assert shown["result_raw"] is None


def test_an_answer_that_is_damaged_does_not_hide_the_attempt(sqlite_store: Store) -> None:
    sqlite_store.fill(1)
    [job] = sqlite_store.running()
    path = sqlite_store.database.path
    assert isinstance(path, Path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE attempts SET submit_raw = x'01ffffff'")
        connection.commit()

    with sqlite_store.database.reading() as tx:
        [shown] = reads.attempts(tx, job.id)

    assert "damaged" in shown["submit_raw"]
    assert shown["request_id"] == accepted(job).request_id
    sqlite_store.do(jobs.record_generated, generated(job))
