"""An answer that arrives after the job has been bought again."""

from pathlib import Path

from runs import Place, rows_of


def bought_twice(place: Place) -> Path:
    """Buy a job again whose first request id lies in a rescue file; return that file."""
    place.write(rows_of(1))
    armed = {"BATCHGEN_FAILPOINT": "after-answer=raise", "TMPDIR": str(place.folder)}
    assert place.run("jobs.csv", env=armed).code == 1
    file = next(place.folder.glob("*-rescue-*"))
    away = file.rename(place.folder / "away")
    assert place.run("jobs.csv", "--limit", "0").code == 10
    resubmit = place.start("reconcile", "-y", "--resubmit", "c1", "--db", place.url).wait()
    assert resubmit.code == 0, resubmit.err
    assert place.run("jobs.csv", "-j", "9").code == 0
    assert place.service.counters.accepted == 2
    return away.rename(file)


def test_an_extra_purchase_is_polled_and_its_clip_kept(place: Place) -> None:
    bought_twice(place)

    # Its point: the process dies with the clip on disk and the purchase still open.
    killed = place.run(env={"BATCHGEN_FAILPOINT": "after-rename=kill"})
    done = place.run("--json")
    again = place.run("--json")

    assert [killed.code, done.code, again.code] == [-9, 0, 0], done.err
    assert done.said["extra_clips"] == ["clips/jobs/c1-extra1.mp4"]
    assert again.said["extra_clips"] == []
    clips = [place.folder / "clips/jobs" / name for name in ("c1.mp4", "c1-extra1.mp4")]
    assert sorted((place.folder / "clips/jobs").iterdir()) == sorted(clips)
    assert all(b"moov" in clip.read_bytes() for clip in clips)
    assert [one["state"] for one in place.attempts()] == ["succeeded", "succeeded"]
    assert done.said["spent_usd"] == 0.5
    assert place.states() == {"succeeded": 1}
    assert place.leftovers() == []
    place.check_books()
    shown = place.start("show", "c1", "--db", str(place.db)).wait()
    assert "clips/jobs/c1-extra1.mp4" in shown.out
