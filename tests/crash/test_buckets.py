"""Clips on their way to a bucket when the program dies: whole or absent, and nothing left over."""

import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Place, rows_of
from s3 import SMALLEST_PART_BYTES, TestBucket

from batchgen.providers import simulator

KILLED = -signal.SIGKILL
CLIP_BYTES = 5 * SMALLEST_PART_BYTES // 2


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose clips take three parts."""
    monkeypatch.setenv("BATCHGEN_PART_BYTES", str(SMALLEST_PART_BYTES))
    settings = simulator.Settings(run_s=(0.0, 0.1), clip_bytes=CLIP_BYTES)
    with simulator.start_in_thread(settings) as service:
        place = Place(tmp_path, service)
        yield place
        place.end()


def check(place: Place, bucket: TestBucket, prefix: str = "night/") -> None:
    """Every clip lies whole in the bucket, once, as the job database says; nothing else does."""
    stored = {
        f"{prefix}{clip['path']}": clip["sha256"]
        for job in place.jobs()
        for clip in json.loads(job["files"] or "[]")
    }
    found = {
        name: hashlib.sha256(content).hexdigest() for name, content in bucket.contents().items()
    }
    assert found == stored
    assert bucket.uploads() == []


@pytest.mark.parametrize("point", ["in-upload@2", "after-rename", "before-last-commit"])
def test_wherever_it_dies_every_clip_is_whole_and_nothing_is_left_over(
    place: Place, bucket: TestBucket, point: str
) -> None:
    place.write(rows_of(6))
    arguments = ["jobs.csv", "-j", "6", "--output-dir", f"{bucket.url}/night/"]

    for _ in range(2):
        killed = place.run(*arguments, env={"BATCHGEN_FAILPOINT": f"{point}=kill"})
        assert killed.code == KILLED, killed.err
        if point.startswith("in-upload"):
            assert bucket.uploads()
    last = place.run(*arguments, "-o", "out.csv")

    assert last.code == 0, last.err
    assert len(bucket.names()) == 6
    assert sorted(row["result_file"] for row in place.export()) == [
        f"{bucket.url}/night/jobs/c{number}.mp4" for number in range(1, 7)
    ]
    check(place, bucket)
    place.check_books()
    assert all(len(entries) == 1 for entries in place.bought().values())
    assert not list(place.folder.rglob("*.mp4"))
    assert place.leftovers() == []
