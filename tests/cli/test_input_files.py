"""Files of this machine and in buckets as inputs: uploaded once, signed for each request."""

import base64
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest
from cli.bought import service
from cli.commands import call, ok, states, write
from images import image
from s3 import TestBucket

from batchgen.providers.simulator import Handle

RUN = ("--poll-interval", "0", "-y", "--db", "batchgen.db")
SECRETS = ("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", ";base64,")


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    with service(monkeypatch) as served:
        served.settings = replace(served.settings, echo_inputs=True)
        yield served


def picture(name: str, width: int = 1280) -> str:
    """Write an image of its own; return the digest of its content."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    content = image(width, 720)
    Path(name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def rows(*names: str) -> list[dict[str, str]]:
    return [
        {"id": f"r{number}", "prompt": f"scene {number}", "image": name}
        for number, name in enumerate(names, 1)
    ]


def puts(bucket: TestBucket) -> list[str]:
    """Return the name of each object that was ever written, as often as it was."""
    client = bucket.server.client
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket.name)
    return [one["Key"] for page in pages for one in page.get("Versions", ())]


@pytest.fixture
def versions(bucket: TestBucket) -> TestBucket:
    bucket.server.client.put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    return bucket


def keys() -> set[str]:
    return {job["key"] for job in ok("ls", "--json", "--db", "batchgen.db").said["jobs"]}


def sent(handle: Handle) -> list[str]:
    return [str(entry.inputs["promptImage"]) for entry in handle.ledger.entries]


def secrets_on_disk() -> dict[str, list[str]]:
    """Return where a part of a signature or a file's content lies, in whatever was written."""
    found = {}
    for path in Path().rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode("latin-1")
            if hits := [word for word in SECRETS if re.search(re.escape(word) + "(?!=?\\[)", text)]:
                found[str(path)] = hits
    return found


def run(*words: str, code: int = 0) -> str:
    """Run, and return what was said; no part of a signature or a file may be said or kept."""
    done = call("run", *words, *RUN)
    said = done.out + done.err
    assert done.code == code, said
    assert [word for word in SECRETS if word in said] == []
    assert secrets_on_disk() == {}
    return said


def test_fifty_images_are_uploaded_and_paid_once(versions: TestBucket, handle: Handle) -> None:
    digests = {picture(f"in/{number}.png", 1200 + number) for number in range(50)}
    jobs = write("jobs.csv", rows(*(f"./in/{number}.png" for number in range(50))))
    uploads = f"{versions.url}/inputs"

    said = run(jobs, "--uploads", uploads, "-o", "out.csv", "--sidecar", "--events", "events.jsonl")
    run(jobs)
    run("out.csv")

    told = rf"50 input files of this machine \([0-9]+ kB\) to upload to {uploads}, each once"
    assert re.search(told, said)
    assert sorted(puts(versions)) == sorted(f"inputs/{digest}.png" for digest in digests)
    assert handle.counters.accepted == 50
    for link in sent(handle):
        with urlopen(link) as answer:
            content = answer.read()
            assert answer.headers["Content-Type"] == "image/png"
        assert f"inputs/{hashlib.sha256(content).hexdigest()}.png?" in link
        assert "X-Amz-Expires=86400&" in link
    assert len(set(sent(handle))) == 50


def test_a_file_in_many_rows_is_one_upload_and_what_is_there_is_not_uploaded_again(
    versions: TestBucket, handle: Handle
) -> None:
    cat, dog = picture("cat.png"), picture("sub/dog.png", 1300)
    versions.write(f"{dog}.png", Path("sub/dog.png").read_bytes())
    names = ["cat.png", "./sub/../cat.png", "sub/dog.png"]
    jobs = write("jobs.csv", rows(*names * 4))

    run(jobs, "--uploads", versions.url, "--link-lifetime", "1h")

    assert sorted(puts(versions)) == sorted([f"{cat}.png", f"{dog}.png"])
    assert handle.counters.accepted == 12
    assert all("X-Amz-Expires=3600&" in link for link in sent(handle))

    # Who has no such file, as another host, needs none: the content is there.
    more = write("more.csv", [{"prompt": "new", "image": "cat.png"}])
    ok("add", more, "--db", "batchgen.db", "--uploads", versions.url)
    Path("cat.png").unlink()
    run()
    assert handle.counters.accepted == 13
    assert len(puts(versions)) == 2


def test_without_a_bucket_a_file_goes_inside_of_the_request(handle: Handle) -> None:
    digest = picture("cat.png")
    jobs = write("jobs.csv", rows("cat.png", "cat.png"))

    said = run(jobs)

    assert "warning: 1 input file of this machine" in said
    assert "which is experimental: --uploads names a bucket" in said
    for link in sent(handle):
        start, _, content = link.partition(",")
        assert start == "data:image/png;base64"
        assert hashlib.sha256(base64.b64decode(content)).hexdigest() == digest
    with closing(sqlite3.connect("batchgen.db")) as database:
        kept = {
            json.loads(inputs)["promptImage"]
            for table in ("jobs", "attempts")
            for (inputs,) in database.execute(f"SELECT inputs FROM {table}")
        }
    assert kept == {f"file:{digest}.png:{Path('cat.png').resolve()}"}


def test_a_job_stays_the_same_wherever_its_file_lies_and_goes(
    bucket: TestBucket, handle: Handle
) -> None:
    picture("a/cat.png")
    picture("a/dog.png", 1300)
    write("a/jobs.csv", [{"prompt": "one", "image": "cat.png"}])
    write(
        "a/more.csv", [{"prompt": "one", "image": "cat.png"}, {"prompt": "2", "image": "dog.png"}]
    )
    run("a/jobs.csv", "--batch", "b", "-o", "out.csv")
    before = keys()
    shutil.move("a", "b")
    Path("b/cat.png").rename("b/renamed.png")
    write("b/jobs.csv", [{"prompt": "one", "image": "renamed.png"}])

    run("b/jobs.csv", "--batch", "b", "--uploads", bucket.url)
    Path("b/renamed.png").unlink()
    Path("elsewhere").mkdir()
    Path("out.csv").rename("elsewhere/out.csv")

    assert keys() == before
    assert handle.counters.accepted == 1
    refused = call("run", "elsewhere/out.csv", *RUN)
    assert refused.code == 5, refused.err
    assert "out.csv:2: image: cat.png: no such file: it was looked for in" in refused.err
    assert handle.counters.accepted == 1


def test_a_plan_names_the_file_whose_content_has_changed() -> None:
    picture("cat.png")
    picture("dog.png", 1300)
    jobs = write("jobs.csv", rows("cat.png", "cat.png"))
    ok("add", jobs, "--db", "batchgen.db")
    picture("cat.png", 1400)
    write("jobs.csv", rows("cat.png", "dog.png"))

    first, second = (
        line
        for line in ok("plan", jobs, "--db", "batchgen.db", "--no-probe").out.splitlines()
        if line.startswith("    promptImage: ")
    )

    said = f"    promptImage: {Path('cat.png').resolve()} → "
    assert first == f"{said}the same file, its content has changed"
    assert second.partition(" → ")[0].endswith("cat.png")
    assert second.partition(" → ")[2].endswith("dog.png")


def test_an_export_whose_files_are_gone_means_the_same_jobs(handle: Handle) -> None:
    picture("in/cat.png")
    run(write("in/jobs.csv", [{"prompt": "one", "image": "cat.png"}]), "-o", "out.csv")
    before = keys()
    Path("in/cat.png").unlink()

    said = run("out.csv")

    assert "1 job unchanged" in said
    assert keys() == before
    assert handle.counters.accepted == 1


@pytest.mark.parametrize("uploads", [True, False], ids=["uploaded", "inside"])
def test_a_file_that_changes_before_it_is_sent_is_not_paid_for(
    uploads: bool, bucket: TestBucket, handle: Handle
) -> None:
    picture("cat.png")
    picture("dog.png", 1300)
    picture("bird.png", 1250)
    options = ("--uploads", bucket.url) if uploads else ()
    jobs = write("jobs.csv", rows("cat.png", "dog.png", "bird.png"))
    ok("add", jobs, "--db", "batchgen.db", *options)
    picture("cat.png", 1251)
    Path("bird.png").unlink()

    said = run(code=9)

    assert handle.counters.accepted == 1
    assert states() == {"r1": "pending", "r2": "succeeded", "r3": "pending"}
    assert "jobs/r1: " in said
    assert "cat.png has changed since its job was made: put the old file back" in said
    assert "bird.png cannot be read: No such file or directory" in said
    assert "2 jobs wait, unpaid, for an input file" in said
    picture("cat.png")
    picture("bird.png", 1250)

    run()

    assert handle.counters.accepted == 3


def test_objects_are_signed_for_each_request(
    bucket: TestBucket, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BATCHGEN_PROBE")
    for name, width in (("in/a cat.png", 1280), ("in/wide.png", 1600)):
        bucket.server.client.put_object(
            Bucket=bucket.name, Key=name, Body=image(width, 720), ContentType="image/png"
        )
    cat, wide = f"{bucket.url}/in/a cat.png", f"{bucket.url}/in/wide.png"
    jobs = write("jobs.csv", rows(cat, f"{bucket.url}/in/none.png", wide))

    said = run(jobs, "-o", "out.csv", code=3)

    [link] = sent(handle)
    assert link.startswith(f"{bucket.server.url}/{bucket.name}/in/a%20cat.png?X-Amz-")
    with urlopen(link) as answer:
        assert answer.read() == image(1280, 720)
    assert states() == {"r1": "succeeded", "r2": "failed", "r3": "failed"}
    assert f"jobs.csv:3: image: HTTP 404: there is no such file <{bucket.url}/in/none.png>" in said
    assert "jobs.csv:4: image: it has 1600x720 pixels" in said
    assert cat in Path("out.csv").read_text()


@pytest.mark.parametrize("kind", ["upload", "object"])
def test_nothing_is_paid_for_while_the_bucket_cannot_be_used(
    kind: str, bucket: TestBucket, handle: Handle, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("cat.png")
    name = "cat.png" if kind == "upload" else f"{bucket.url}/cat.png"
    jobs = write("jobs.csv", rows(*[name] * 20, "https://images.example.com/a.jpg"))
    if kind == "object":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        words = "no credentials: set AWS_ACCESS_KEY_ID"
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        words = f"{bucket.url} does not answer: the connection failed"

    more = ("--uploads", bucket.url, "--max-outage", "1s") if kind == "upload" else ()
    said = run(jobs, *more, code=13)

    assert handle.counters.accepted <= 1  # the one that needs no bucket
    assert words in said
    assert "What was not paid for waits" in said
    assert set(states().values()) <= {"pending", "succeeded"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.server.environ["AWS_ACCESS_KEY_ID"])

    run()

    assert handle.counters.accepted == 21


def test_what_is_no_input_is_refused_with_its_line(tmp_path: Path) -> None:
    picture("../outside.png")
    picture("cat.png")
    Path("key.png").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    Path("link.png").symlink_to("../outside.png")
    Path("loop.png").symlink_to("loop.png")
    Path("folder").mkdir()
    os.mkfifo("pipe.png")
    Path("empty.png").touch()
    Path("cat.gif").write_bytes(image(1280, 720, form="GIF"))
    Path("sound.png").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    Path("large.png").write_bytes(image(1280, 720) + bytes(5_000_000))
    Path("wide.png").write_bytes(image(1600, 720))
    Path("huge.png").touch()
    os.truncate("huge.png", 257 * 1024**2)
    expected = {
        "none.png": "none.png: no such file: it was looked for in",
        "key.png": "is no image, video or sound by its bytes: nothing else is ever sent",
        "link.png": "outside of the manifest's folder",
        "../outside.png": "outside of the manifest's folder",
        str(tmp_path.parent / "outside.png"): "outside of the manifest's folder",
        "loop.png": "cannot be read: Too many levels of symbolic links",
        "folder": "is a folder: name the file in it",
        "pipe.png": "is no file, but a device or a pipe",
        "empty.png": "is empty",
        "cat.gif": "cat.gif: it is image/gif; only image/jpeg",
        "sound.png": "sound.png: it is audio/wav; only image/jpeg",
        "large.png": "large.png: it has 5.0 MB: inside of a request an image may have 3.7 at most",
        "wide.png": "wide.png: it has 1600x720 pixels: ",
        "huge.png": "has 257 MiB: at most 256 are sent",
    }
    jobs = write("jobs.csv", rows("cat.png", *expected))

    done = call("validate", jobs, "--no-probe")

    assert done.code == 5
    told = dict(re.findall(r"^jobs.csv:(\d+): image: (.*)$", done.err, re.MULTILINE))
    for line, (name, words) in enumerate(expected.items(), 3):
        assert words in told.pop(str(line)), (name, done.err)
    assert told == {}
    few = write("few.csv", rows("large.png", "link.png"))
    ok("validate", few, "--no-probe", "--allow-private-inputs", "--uploads", "s3://bucket")


def test_an_export_rebuilds_the_job_of_a_file_and_a_sidecar_asks_for_it_again(
    handle: Handle,
) -> None:
    picture("cat.png")
    run(write("jobs.csv", [{"prompt": "one", "image": "cat.png"}]), "-o", "out.csv", "--sidecar")
    before = keys()
    Path("batchgen.db").rename("lost.db")

    ok("db", "rebuild", "out.csv", "--db", "batchgen.db", "--no-journal")

    assert keys() == before
    run("jobs.csv")
    assert handle.counters.accepted == 1
    [sidecar] = Path("clips").rglob("*.json")
    Path("again.jsonl").write_text(json.dumps(json.loads(sidecar.read_text())["manifest"]))
    run("again.jsonl", "--new-batch")
    assert handle.counters.accepted == 2
    assert len(set(sent(handle))) == 1


def test_a_simulated_run_uploads_nothing(bucket: TestBucket) -> None:
    picture("cat.png")
    jobs = write("jobs.csv", rows("cat.png", f"{bucket.url}/none.png"))

    ok("run", jobs, "--simulate", "--uploads", bucket.url)

    assert bucket.contents() == {}


def test_with_a_limit_no_more_is_uploaded_than_is_paid_for(
    bucket: TestBucket, handle: Handle
) -> None:
    for number in range(5):
        picture(f"{number}.png", 1200 + number)
    jobs = write("jobs.csv", rows(*(f"{number}.png" for number in range(5))))

    run(jobs, "--uploads", bucket.url, "--limit", "2")

    assert handle.counters.accepted == 2
    assert len(bucket.contents()) == 2
