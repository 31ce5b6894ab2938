"""Clips in a bucket, with every command that touches them."""

import csv
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from cli.bought import buy, service
from cli.commands import call, ok, rows, states, write
from s3 import KEY, SECRET, TestBucket

IDS = ("a", "b")


@pytest.fixture
def bought(bucket: TestBucket, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two clips in a bucket, with sidecars, and the service that made them."""
    with service(monkeypatch) as handle:
        ok("add", write("jobs.csv", rows(*IDS)), "--output-dir", f"{bucket.url}/night/")
        buy(*IDS, options=("--sidecar",))
        yield handle


def exported(name: str, *words: str) -> list[dict[str, str]]:
    ok("export", "-o", name, "--overwrite", *words)
    with Path(name).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def written() -> bytes:
    """Everything that batchgen has written on this disk, but what is named."""
    named = {"signed.csv", "signed.html"}
    places = [Path(), Path.home()]
    return b"".join(
        path.read_bytes()
        for place in places
        for path in place.rglob("*")
        if path.is_file() and path.name not in named
    )


def test_every_command_finds_its_clips_there(bought: Any, bucket: TestBucket) -> None:
    names = [f"night/jobs/{name}.mp4" for name in IDS]
    urls = [f"{bucket.url}/{name}" for name in names]
    assert sorted(bucket.names()) == sorted([*names, *(f"{name}.json" for name in names)])
    assert not Path("clips").exists()
    clips = {name: bucket.read(name) for name in names}
    sidecar = json.loads(bucket.read(f"{names[0]}.json"))
    assert sidecar["sha256"] == hashlib.sha256(clips[names[0]]).hexdigest()

    table = exported("plain.csv")
    assert [row["result_file"] for row in table] == urls
    assert [job["file"] for job in ok("ls", "--json").said["jobs"]] == urls
    assert f"{urls[0]}: {len(clips[names[0]]):,} bytes" in ok("show", "jobs/a").out
    assert ok("download", "--verify", "--json").said["verified"]["counts"]["whole"] == 2
    assert ok("download", "--sidecar", "--json").said["sidecars"] == {"written": 0, "missing": []}
    assert "clips: 2 whole" in ok("db", "check", "--clips", "--hash").out
    doctor = call("doctor", "--offline")
    assert f"clips can be written to {bucket.url}/night" in doctor.out + doctor.err
    assert len(bucket.names()) == 4

    # What is gone or was changed is fetched again, unpaid, and never over another's object.
    bucket.server.client.delete_object(Bucket=bucket.name, Key=names[0])
    bucket.write(names[1], b"a stranger's")
    assert f"{urls[0]}: missing" in ok("show", "jobs/a").out
    found = call("download", "--verify", "--dry-run", "--json")
    assert [one["verdict"] for one in found.said["verified"]["wrong"]] == ["missing", "changed"]
    ok("download", "--refresh", "--verify")
    assert bucket.read(names[0]) == clips[names[0]]
    assert bucket.read(names[1]) == b"a stranger's"
    assert bucket.read("night/jobs/b-2.mp4") == clips[names[1]]
    assert bought.counters.accepted == 2
    assert bucket.uploads() == []


def test_links_are_signed_on_request_and_stand_nowhere_else(
    bought: Any, bucket: TestBucket
) -> None:
    clips = [bucket.read(f"night/jobs/{name}.mp4") for name in IDS]

    signed = exported("signed.csv", "--sign", "1h")
    ok("report", "-o", "signed.html", "--sign", "1h", "--no-posters")
    ok("report", "-o", "plain.html", "--no-posters")

    assert [urlopen(row["result_url"]).read() for row in signed] == clips
    assert all("X-Amz-Expires=3600" in row["result_url"] for row in signed)
    assert [row["result_file"] for row in signed] == [
        f"{bucket.url}/night/jobs/{name}.mp4" for name in IDS
    ]
    page = html.unescape(Path("signed.html").read_text())
    assert f"media-src 'self' file: {bucket.server.url};" in page
    cards = json.loads(re.findall(r'id="data">(.*?)</script>', page)[0])["cards"]
    assert {urlopen(card["files"][0][0]).read() for card in cards} == set(clips)
    assert {card["files"][0][2] for card in cards} == {"video"}
    plain = Path("plain.html").read_text()
    assert f"{bucket.url}/night/jobs/a.mp4" in plain
    assert bucket.server.url not in plain
    for secret in (b"X-Amz-Signature", KEY.encode(), SECRET.encode()):
        assert secret not in written()


def test_a_lost_job_database_finds_its_clips_in_the_bucket(bought: Any, bucket: TestBucket) -> None:
    exported("signed.csv", "--sign", "1h")

    done = ok("db", "rebuild", "signed.csv", "--db", "again.db")

    assert "clips: 2 whole" in done.out
    status = ok("status", "--db", "again.db", "--json").said
    assert status["batches"][0]["output_dir"] == f"{bucket.url}/night"
    assert b"X-Amz-Signature" not in written()


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        ("s3://no-such-bucket/night", 13, "there is no such bucket"),
        ("s3://", 2, "no name of a bucket"),
        ("s3://bucket/a//b", 2, "single slashes"),
    ],
)
def test_a_bucket_that_cannot_be_written_is_refused_before_anything_is_paid(
    bucket: TestBucket, monkeypatch: pytest.MonkeyPatch, where: str, code: int, said: str
) -> None:
    manifest = write("jobs.csv", rows("a"))
    with service(monkeypatch) as handle:
        done = call("run", manifest, "-y", "--db", "jobs.db", "--output-dir", where)

    assert done.code == code, done.err
    assert said in done.err
    assert handle.counters.posts == 0
    assert not Path("jobs.db").exists()


def test_a_bucket_that_refuses_while_it_runs_pauses_the_run_and_loses_nothing(
    bucket: TestBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(monkeypatch) as handle:
        ok("add", write("jobs.csv", rows("a")), "--output-dir", f"{bucket.url}/night")
        bought = call("run", "-y", "--no-download", "--poll-interval", "0")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
        refused = call("download")
        told = call("doctor", "--offline")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        ok("download")

    assert bought.code == 0, bought.err
    assert refused.code == 13, refused.err
    assert "no credentials" in refused.err
    assert told.code == 13
    assert "no credentials" in told.out + told.err
    assert states() == {"a": "succeeded"}
    assert bucket.names() == ["night/jobs/a.mp4"]
    assert handle.counters.accepted == 1


def test_a_batch_that_is_stored_already_is_not_paid_for_without_its_bucket(
    bucket: TestBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with service(monkeypatch) as handle:
        ok("add", write("jobs.csv", rows("a")), "--output-dir", "s3://no-such-bucket")
        done = call("run", "-y")

    assert done.code == 13, done.err
    assert handle.counters.posts == 0


def test_a_run_removes_what_was_begun_of_clips_that_are_there(
    bought: Any, bucket: TestBucket
) -> None:
    # As of a worker that was taken for dead, woke up, and died for good.
    bucket.begin_upload("night/jobs/a-2.mp4")
    bucket.begin_upload("night/jobs/another.mp4")

    ok("run", "-y", "--db", "batchgen.db")

    assert bucket.uploads() == ["night/jobs/another.mp4"]
    assert bought.counters.accepted == 2


def test_clips_in_a_folder_are_not_left_behind_for_a_bucket(
    monkeypatch: pytest.MonkeyPatch, bucket: TestBucket
) -> None:
    with service(monkeypatch):
        buy("a")

        done = call("add", "jobs.csv", "--output-dir", f"{bucket.url}/night")

        assert done.code == 2
        assert "clips of batch jobs are in" in done.err
        assert ": 1 whole" in ok("download", "--verify").err
