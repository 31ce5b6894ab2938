"""Several workers of one account, whose jobs share input files."""

from pathlib import Path

from images import image
from runs import Place
from s3 import TestBucket

from batchgen.providers import simulator

JOBS, FILES = 30, 10


def test_two_workers_upload_each_file_once_and_one_without_the_files_needs_none(
    tmp_path: Path, postgres_url: str, bucket: TestBucket
) -> None:
    bucket.server.client.put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    for number in range(FILES):
        Path(f"{number}.png").write_bytes(image(1200 + number, 720))
    with simulator.start_in_thread(simulator.Settings(run_s=(0.0, 0.1))) as service:
        place = Place(tmp_path, service, url=postgres_url)
        place.write(
            [
                {"id": f"c{number}", "prompt": f"scene {number}", "image": f"{number % FILES}.png"}
                for number in range(JOBS)
            ]
        )
        added = place.start("add", "jobs.csv", "--db", postgres_url, "--uploads", bucket.url)
        assert added.wait().code == 0

        runs = [place.start_run("-j", "4"), place.start_run("-j", "4")]

        for run in runs:
            assert (done := run.wait()).code == 0, done.err
        assert place.states() == {"succeeded": JOBS}
        assert service.counters.accepted == JOBS
        pages = bucket.server.client.list_object_versions(Bucket=bucket.name)
        assert len([one["Key"] for one in pages["Versions"]]) == FILES

        more = place.write([{"prompt": "new", "image": "1.png"}, {"prompt": "x", "image": "2.png"}])
        again = ("add", str(more), "--db", postgres_url, "--batch", "more")
        assert place.start(*again, "--uploads", bucket.url).wait().code == 0
        for file in tmp_path.glob("*.png"):
            file.unlink()

        last = place.run()

        assert last.code == 0, last.err
        assert service.counters.accepted == JOBS + 2
