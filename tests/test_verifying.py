import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchgen.domain.states import JobState
from batchgen.downloads.destinations import Destinations
from batchgen.store.reads import JobRow
from batchgen.verifying import Verdict, verify

BYTES = b"a clip, whole"
CLIP = {
    "path": "b/one.mp4",
    "size_bytes": len(BYTES),
    "sha256": hashlib.sha256(BYTES).hexdigest(),
}
_NONE = {name: None for name in JobRow.__dataclass_fields__}


def job(*files: dict[str, Any], state: JobState = JobState.SUCCEEDED) -> JobRow:
    values: dict[str, Any] = {**_NONE, "state": state, "output_dir": "clips", "files": files}
    return JobRow(**values)


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def pipe(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "quick", "thorough"),
    [
        pytest.param(lambda path: put(path, BYTES), "whole", "whole", id="as-fetched"),
        pytest.param(lambda path: put(path, BYTES[::-1]), "whole", "changed", id="other-bytes"),
        pytest.param(lambda path: put(path, BYTES[1:]), "changed", "changed", id="cut"),
        pytest.param(lambda path: put(path, b""), "changed", "changed", id="empty"),
        pytest.param(lambda path: None, "missing", "missing", id="gone"),
        pytest.param(lambda path: put(path.parent, b""), "missing", "missing", id="folder-gone"),
        pytest.param(lambda path: path.mkdir(parents=True), "changed", "changed", id="folder"),
        pytest.param(pipe, "changed", "changed", id="pipe"),
    ],
)
def test_a_clip_is_what_was_fetched_or_it_is_told(
    tmp_path: Path, make: Any, quick: str, thorough: str
) -> None:
    here = Destinations(tmp_path)
    make(tmp_path / "clips" / str(CLIP["path"]))
    assert [one.verdict for one in verify([job(CLIP)], here, hashes=False)] == [quick]
    assert [one.verdict for one in verify([job(CLIP)], here, hashes=True)] == [thorough]


def test_of_several_clips_the_worst_decides(tmp_path: Path) -> None:
    here = Destinations(tmp_path)
    put(tmp_path / "clips" / "b/one.mp4", BYTES)
    [found] = verify([job(CLIP, {**CLIP, "path": "b/one-2.mp4"})], here, hashes=True)
    assert (found.verdict, found.path) == (Verdict.MISSING, str(tmp_path / "clips/b/one-2.mp4"))


def test_what_is_not_known_of_a_clip_speaks_not_against_it(tmp_path: Path) -> None:
    here = Destinations(tmp_path)
    put(tmp_path / "clips" / "b/one.mp4", BYTES)
    [found] = verify([job({"path": "b/one.mp4", "sha256": None})], here, hashes=True)
    assert found.verdict is Verdict.WHOLE


def test_only_finished_jobs_have_clips(tmp_path: Path) -> None:
    here = Destinations(tmp_path)
    waiting = [job(state=state) for state in JobState if state is not JobState.SUCCEEDED]
    assert list(verify(waiting, here, hashes=False)) == []
    [found] = verify([replace(waiting[0], state=JobState.SUCCEEDED)], here, hashes=False)
    assert found.verdict is Verdict.MISSING
