"""A death between a clip, its sidecar and the record of both leaves nothing missing."""

import hashlib
import json

import pytest
from runs import Place, rows_of


@pytest.mark.parametrize(
    ("point", "beside"),
    [
        pytest.param("after-rename", 0, id="clip-without-sidecar"),
        pytest.param("after-rename@2", 1, id="sidecar-with-its-temporary-name"),
        pytest.param("before-last-commit", 1, id="both-unrecorded"),
    ],
)
def test_no_sidecar_is_missing_after_a_death(place: Place, point: str, beside: int) -> None:
    place.write(rows_of(3))
    killed = place.run(
        # Nothing else is on its way at the death.
        "jobs.csv",
        "--limit",
        "1",
        "--sidecar",
        env={"BATCHGEN_FAILPOINT": f"{point}=kill"},
    )
    found = list(place.folder.glob("clips/jobs/c*.mp4.json"))
    state = place.jobs()[0]["state"]

    last = place.run("jobs.csv", "--sidecar")

    assert (killed.code, last.code) == (-9, 0), last.err
    assert (len(found), state) == (beside, "downloading")
    assert len(place.service.ledger.entries) == 3
    assert place.leftovers() == []
    clips = sorted(place.folder.glob("clips/jobs/*.mp4"))
    assert len(clips) == 3
    for clip in clips:
        said = json.loads((clip.parent / f"{clip.name}.json").read_text(encoding="utf-8"))
        assert said["sha256"] == hashlib.sha256(clip.read_bytes()).hexdigest()
    assert len(list(place.folder.glob("clips/jobs/*"))) == 6
    place.check_books()
