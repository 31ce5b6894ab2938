"""A run dies between the upload of an input file and the intent to pay for its job."""

import signal
from pathlib import Path

from images import image
from runs import Place
from s3 import TestBucket


def test_a_death_after_an_upload_uploads_and_pays_for_nothing_twice(
    place: Place, bucket: TestBucket
) -> None:
    bucket.server.client.put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    for number in range(6):
        Path(f"{number}.png").write_bytes(image(1200 + number, 720))
    place.write(
        [
            {"id": f"c{number}", "prompt": f"scene {number}", "image": f"{number % 6}.png"}
            for number in range(12)
        ]
    )

    for dies_at in (1, 2):
        killed = {"BATCHGEN_FAILPOINT": f"after-upload@{dies_at}=kill"}
        done = place.run("jobs.csv", "-j", "2", "--uploads", bucket.url, env=killed)
        assert done.code == -signal.SIGKILL, done.err
    last = place.run("jobs.csv", "-j", "2")

    assert last.code in (0, 10), last.err  # a request may have been open at the second death
    pages = bucket.server.client.list_object_versions(Bucket=bucket.name)
    names = [one["Key"] for one in pages["Versions"]]
    assert len(names) == len(set(names)) == 6
    assert all(len(entries) == 1 for entries in place.bought().values())
    assert all(state in ("succeeded", "in_doubt") for state in place.states())


def test_a_file_that_changes_after_its_job_was_claimed_is_not_sent(place: Place) -> None:
    Path("cat.png").write_bytes(image(1280, 720))
    place.write([{"id": "c1", "prompt": "scene 1", "image": "cat.png"}])
    run = place.start_run("jobs.csv", env={"BATCHGEN_FAILPOINT": "after-claim-commit@2=stop"})
    run.wait_stopped()
    assert place.states() == {"submitting": 1}
    Path("cat.png").write_bytes(image(1300, 720))

    run.send(signal.SIGCONT)

    done = run.wait()
    assert done.code == 9, done.err
    assert "cat.png has changed since its job was made" in done.err
    assert place.states() == {"pending": 1}
    assert place.service.counters.posts == 0
    Path("cat.png").write_bytes(image(1280, 720))
    assert place.run().code == 0
    assert place.service.counters.accepted == 1
