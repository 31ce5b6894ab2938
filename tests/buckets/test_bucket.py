import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from s3 import KEY, SECRET, TestBucket, refusing

from batchgen.buckets.bucket import Bucket, Stored
from batchgen.buckets.location import parse_location
from batchgen.domain.errors import BatchgenError, BucketError, BucketUnreachable, UsageError


def opened(url: str) -> Bucket:
    return Bucket(parse_location(url))


def test_what_is_written_is_read_and_never_overwritten_unasked(bucket: TestBucket) -> None:
    place = opened(f"{bucket.url}/night")
    digest = hashlib.sha256(b"one").hexdigest()

    assert place.head("a/x.mp4") is None
    assert place.read("a/x.mp4", most_bytes=10) is None
    assert place.put("a/x.mp4", b"one", content_type="video/mp4", sha256=digest)
    assert not place.put("a/x.mp4", b"another")

    assert bucket.contents() == {"night/a/x.mp4": b"one"}
    found = place.head("a/x.mp4")
    assert found is not None
    assert found == Stored(3, digest, found.etag, "video/mp4")
    assert b"".join(place.blocks("a/x.mp4")) == b"one"
    with pytest.raises(BucketError, match="larger than 2"):
        place.read("a/x.mp4", most_bytes=2)

    assert place.put("a/x.mp4", b"three", overwrite=True)
    assert place.read("a/x.mp4", most_bytes=10) == b"three"
    assert list(place.names()) == ["a/x.mp4"]
    assert list(place.names("b")) == []
    place.delete("a/x.mp4")
    place.delete("a/x.mp4")
    assert bucket.names() == []


@pytest.mark.parametrize(
    "name", ["ä ö.mp4", "a+b&c=d.mp4", "[x] ~{y} 100%.mp4", "%41.mp4", "^`'!.mp4"]
)
def test_a_name_is_written_as_it_is(bucket: TestBucket, name: str) -> None:
    place = opened(bucket.url)

    place.put(name, b"clip")

    assert bucket.names() == [name]
    assert place.head(name) is not None
    assert place.read(name, most_bytes=4) == b"clip"
    with urlopen(place.sign(name, 60)) as answer:
        assert answer.read() == b"clip"


def test_a_signed_link_reads_one_object_and_holds_no_secret(bucket: TestBucket) -> None:
    place = opened(f"{bucket.url}/night")
    place.put("x.mp4", b"clip")

    link = place.sign("x.mp4", 60)

    with urlopen(link) as answer:
        assert answer.read() == b"clip"
    assert SECRET not in link
    with pytest.raises(HTTPError):
        urlopen(place.sign("y.mp4", 60))


def _no_credentials(patch: pytest.MonkeyPatch, _: TestBucket) -> str:
    patch.delenv("AWS_ACCESS_KEY_ID")
    patch.delenv("AWS_SECRET_ACCESS_KEY")
    return "s3://clips"


def _no_bucket(_: pytest.MonkeyPatch, __: TestBucket) -> str:
    return "s3://no-such-bucket/x"


def _plain_http(patch: pytest.MonkeyPatch, bucket: TestBucket) -> str:
    patch.delenv("AWS_ALLOW_HTTP")
    return bucket.url


def _no_address(patch: pytest.MonkeyPatch, bucket: TestBucket) -> str:
    patch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    return bucket.url


def _no_profile(patch: pytest.MonkeyPatch, bucket: TestBucket) -> str:
    patch.setenv("AWS_PROFILE", "studio")
    return bucket.url


def _no_account(_: pytest.MonkeyPatch, __: TestBucket) -> str:
    return "az://container/x"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (_no_credentials, "no credentials: set AWS_ACCESS_KEY_ID"),
        (_no_bucket, "s3://no-such-bucket: there is no such bucket"),
        (_plain_http, "plain http .* AWS_ALLOW_HTTP"),
        (_no_address, "names no https address"),
        (_no_profile, "studio"),
        (_no_account, "AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)
def test_what_cannot_work_says_what_to_do(
    setting: Callable[[pytest.MonkeyPatch, TestBucket], str],
    said: str,
    bucket: TestBucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = setting(monkeypatch, bucket)

    with pytest.raises(BucketError, match=said) as caught:
        opened(url).put("x", b"content")

    assert not isinstance(caught.value, BucketUnreachable)
    assert KEY not in str(caught.value)


def test_credentials_that_are_refused_are_to_be_corrected(bucket: TestBucket) -> None:
    with (
        refusing(bucket.server),
        pytest.raises(BucketError, match="credentials are refused") as caught,
    ):
        opened(bucket.url).put("x", b"content")

    assert not isinstance(caught.value, BucketUnreachable)
    assert KEY not in str(caught.value)


def test_a_bucket_that_does_not_answer_is_one_for_now(
    bucket: TestBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")

        with pytest.raises(BucketUnreachable, match=f"s3://{bucket.name} does not answer"):
            opened(bucket.url).head("x")


def test_a_profile_gives_credentials_and_region(
    bucket: TestBucket,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("aws")
    (folder / "config").write_text(
        f"[profile studio]\nregion = eu-west-1\naws_access_key_id = {KEY}\n"
        f"aws_secret_access_key = {SECRET}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_PROFILE", "studio")

    assert "%2Feu-west-1%2F" in opened(bucket.url).sign("x", 60)


def test_without_the_libraries_it_says_how_to_install_them() -> None:
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "from batchgen.buckets.bucket import Bucket\n"
        "from batchgen.buckets.location import parse_location\n"
        "try: Bucket(parse_location('s3://clips'))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert said.startswith("BucketError")
    assert "pip install 'batchgen-cli[s3]'" in said


def test_the_libraries_are_not_loaded_before_a_bucket_is_opened() -> None:
    code = (
        "import sys, batchgen.buckets.bucket, batchgen.buckets.location\n"
        "print([name for name in ('obstore', 'botocore') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_errors_are_those_of_an_unwritable_folder() -> None:
    assert issubclass(BucketError, BatchgenError)
    assert BucketError.exit_code == 13
    assert UsageError.exit_code == 2
