"""A real server that speaks S3, on loopback: moto's, in a process of its own.

Run as a program, it serves until its standard input ends, so that it dies with its tests.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import botocore.session
from botocore.config import Config

KEY, SECRET = "AKIATESTTESTTESTTEST", "a-secret-of-tests"
REGION = "us-east-1"
SMALLEST_PART_BYTES = 64 * 1024
"""What this server takes for a part that is not the last; the real one 5 MiB."""


class S3Server:
    """One server.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)

    @property
    def environ(self) -> dict[str, str]:
        """What batchgen needs in its environment to use it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @cached_property
    def client(self) -> Any:
        """Another program's way in, to look at what batchgen did and to be in its way."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=Config(s3={"addressing_style": "path"}),
        )

    def fresh(self) -> "TestBucket":
        """Make an empty bucket."""
        name = f"clips-{next(self._numbers)}"
        self.client.create_bucket(Bucket=name)
        return TestBucket(self, name)


class TestBucket:
    """One bucket, seen by another program than batchgen."""

    __test__ = False

    def __init__(self, server: S3Server, name: str) -> None:
        self.server, self.name = server, name
        self._client = server.client

    @property
    def url(self) -> str:
        """Return it as `--output-dir` takes it."""
        return f"s3://{self.name}"

    def contents(self, prefix: str = "") -> dict[str, bytes]:
        """Return every object's content by its name."""
        return {key: self.read(key) for key in self.keys(prefix)}

    def keys(self, prefix: str = "") -> list[str]:
        """Return the name of every object."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [one["Key"] for page in pages for one in page.get("Contents", ())]

    def read(self, key: str) -> bytes:
        """Return an object's content."""
        return bytes(self._client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def write(self, key: str, content: bytes) -> None:
        """Put an object there, as a stranger."""
        self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def uploads(self) -> list[str]:
        """Return the name of each multipart upload under way, or left over."""
        found = self._client.list_multipart_uploads(Bucket=self.name)
        return [one["Key"] for one in found.get("Uploads", ())]

    def begin_upload(self, key: str) -> str:
        """Begin a multipart upload as a stranger; return its id."""
        return str(self._client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"])


@contextmanager
def running_server() -> Iterator[S3Server]:
    """Run a server until the block ends."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url, "the S3 server has not started"
            yield S3Server(url)
        finally:
            process.stdin.close()
            process.wait()


@contextmanager
def refusing(server: S3Server) -> Iterator[None]:
    """Have the server ask who is asking, which it does not know, while the block lasts."""
    _check_keys(server, after="0")
    try:
        yield
    finally:
        _check_keys(server, after="1000000000")


def _check_keys(server: S3Server, *, after: str) -> None:
    url = f"{server.url}/moto-api/reset-auth"
    headers = {"content-type": "text/plain"}
    urlopen(Request(url, data=after.encode(), headers=headers, method="POST")).close()


def _serve() -> None:
    os.environ["S3_UPLOAD_PART_MIN_SIZE"] = str(SMALLEST_PART_BYTES)
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = KEY, SECRET
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)  # noqa: T201
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    _serve()
