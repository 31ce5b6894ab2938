"""Input files of this machine, for programs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from cli.bought import service
from images import image
from s3 import TestBucket

import batchgen
from batchgen.domain.errors import InputUnusable
from batchgen.providers.simulator import Handle, Settings


@pytest.fixture
def bought(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    with service(monkeypatch, Settings()) as handle:
        yield handle


def test_a_step_and_a_run_upload_what_they_send(bucket: TestBucket, bought: Handle) -> None:
    cat, dog = image(1280, 720), image(1300, 720)
    Path("cat.png").write_bytes(cat)
    Path("dog.png").write_bytes(dog)
    rows = [{"id": name, "prompt": name, "image": f"{name}.png"} for name in ("cat", "dog")]
    with batchgen.open("jobs.db") as db:
        assert db.add(rows, batch="b", uploads=bucket.url).new == 2
        Path("cat.png").write_bytes(dog)
        with pytest.raises(InputUnusable, match=r"cat.png has changed since its job was made"):
            db.submit_one("b/cat")
        assert bought.counters.posts == 0
        Path("cat.png").write_bytes(cat)

        db.submit_one("b/cat")
        db.run()

        assert {str(one.state) for one in db.results()} == {"succeeded"}
    assert bought.counters.accepted == 2
    digests = {hashlib.sha256(content).hexdigest() for content in (cat, dog)}
    assert set(bucket.contents()) == {f"{digest}.png" for digest in digests}
    for entry in bought.ledger.entries:
        with urlopen(str(entry.inputs["promptImage"])) as answer:
            assert hashlib.sha256(answer.read()).hexdigest() in digests
