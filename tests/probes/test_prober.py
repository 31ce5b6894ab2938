"""One file, on a real server with every habit that servers have."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from images import SMALL, Host, Page, image, serving

from batchgen.domain.fitness import Facts, Problem
from batchgen.http import bad_certificate, decoded, no_such_host, probe_client
from batchgen.probes.prober import FIRST_BYTES, MOST_BYTES, Prober, Target

HTML = b"<!DOCTYPE html><html><body>Log in, please</body></html>"
BIG_EXIF = image(640, 480, form="JPEG", exif_bytes=300_000)
HUGE_EXIF = image(640, 480, form="JPEG", exif_bytes=1_200_000)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with serving() as served:
        yield served


def probe(url: str, *, wants_pixels: bool = True, probe_s: float = 20, **options: Any) -> Facts:
    async def probing() -> Facts:
        values = {"connections": 4, "allow_private": True, "connect_s": 5, "read_s": 20, **options}
        async with probe_client(**values) as client:
            return await Prober(client, probe_s=probe_s).probe(Target(url, wants_pixels))

    return asyncio.run(probing())


def summary(facts: Facts) -> tuple[Any, ...]:
    size = None if facts.width is None else f"{facts.width}x{facts.height}"
    return facts.problem, facts.content_type, facts.size_bytes, size


FINE = (None, "image/png", len(SMALL), "64x36")


@pytest.mark.parametrize(
    ("page", "found"),
    [
        pytest.param(Page(), FINE, id="png"),
        pytest.param(
            Page(kind="image/jpeg", body=image(640, 480, form="JPEG")),
            (None, "image/jpeg", len(image(640, 480, form="JPEG")), "640x480"),
            id="jpeg",
        ),
        pytest.param(
            Page(kind="Image/WebP; q=1", body=image(640, 480, form="WEBP")),
            (None, "image/webp", len(image(640, 480, form="WEBP")), "640x480"),
            id="webp",
        ),
        *(
            pytest.param(Page(head=status), FINE, id=f"head-{status}")
            for status in (400, 403, 404, 405, 500, 501)
        ),
        pytest.param(Page(ranges=False), FINE, id="no-ranges"),
        pytest.param(
            Page(kind="image/jpeg", body=BIG_EXIF),
            (None, "image/jpeg", len(BIG_EXIF), "640x480"),
            id="300-kb-before-the-pixels",
        ),
        pytest.param(
            Page(kind="image/jpeg", body=BIG_EXIF, ranges=False),
            (None, "image/jpeg", len(BIG_EXIF), "640x480"),
            id="300-kb-before-the-pixels-without-ranges",
        ),
        pytest.param(
            Page(kind="image/jpeg", body=HUGE_EXIF),
            (None, "image/jpeg", len(HUGE_EXIF), None),
            id="more-before-the-pixels-than-is-read",
        ),
        pytest.param(Page(length=20_000_000), (None, "image/png", 20_000_000, "64x36"), id="large"),
        pytest.param(Page(length=-1), (None, "image/png", None, "64x36"), id="no-length"),
        pytest.param(Page(kind=None), (None, "", len(SMALL), "64x36"), id="no-type"),
        pytest.param(
            Page(kind="text/html", body=HTML), (None, "text/html", len(HTML), None), id="page"
        ),
        pytest.param(
            Page(body=HTML), (Problem.TEXT, "image/png", len(HTML), None), id="page-as-image"
        ),
        pytest.param(
            Page(body=b"\0\1\2" * 9000), (None, "image/png", 27_000, None), id="unreadable"
        ),
        pytest.param(
            Page(body=b"", ranges=False), (Problem.EMPTY, "image/png", 0, None), id="empty"
        ),
        pytest.param(Page(body=b""), (Problem.EMPTY, "image/png", 0, None), id="empty-with-ranges"),
        *(
            pytest.param(Page(range_status=status), FINE, id=f"ranges-refused-{status}")
            for status in (400, 403, 405, 416, 501)
        ),
        *(
            pytest.param(Page(status), (Problem.STATUS, "", None, None), id=f"status-{status}")
            for status in (204, 304, 400, 401, 403, 404, 410, 451)
        ),
        *(
            pytest.param(Page(status), (Problem.BUSY, "", None, None), id=f"busy-{status}")
            for status in (408, 420, 423, 425, 429, 500, 502, 503, 504)
        ),
        *(
            pytest.param(Page(status), (Problem.BUSY, "", None, None), id=f"busy-{status}")
            for status in (505, 507, 508, 509, 520, 527, 530, 540, 598)
        ),
        *(
            pytest.param(Page(status), (Problem.STATUS, "", None, None), id=f"never-{status}")
            for status in (501,)
        ),
        *(
            pytest.param(
                Page(status, headers={"Location": "/x"}),
                (Problem.REDIRECT, "", None, None),
                id=f"redirect-{status}",
            )
            for status in (301, 302, 303, 307, 308)
        ),
        pytest.param(
            Page(302, head=405, headers={"Location": "/x"}),
            (Problem.REDIRECT, "", None, None),
            id="redirect-of-get-alone",
        ),
        pytest.param(Page(-1), (Problem.UNREACHABLE, "", None, None), id="reset"),
        pytest.param(Page(-1, head=200), (Problem.UNREACHABLE, "", None, None), id="reset-of-get"),
    ],
)
def test_what_a_server_does(host: Host, page: Page, found: tuple[Any, ...]) -> None:
    assert summary(probe(host.add("/a", page))) == found


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(Page(0), id="hangs"),
        pytest.param(Page(0, head=200), id="hangs-at-get"),
        pytest.param(Page(body=b"\0" * 5000, drip_s=0.05), id="drips"),
    ],
)
def test_what_takes_too_long_is_a_mood(host: Host, page: Page) -> None:
    facts = probe(host.add("/slow", page), probe_s=0.3)

    assert summary(facts) == (Problem.TIMEOUT, "", None, None)
    assert facts.said == "no answer within 0.3 s"


def test_head_that_is_refused_is_remembered(host: Host) -> None:
    assert probe(host.add("/h", Page(head=403))).said == "HEAD is refused (HTTP 403)"
    assert probe(host.add("/h", Page())).said == ""


def test_what_needs_no_pixels_is_asked_for_its_headers_alone(host: Host) -> None:
    host.asked.clear()

    facts = probe(host.add("/clip", Page(kind="video/mp4")), wants_pixels=False)

    assert summary(facts) == (None, "video/mp4", len(SMALL), None)
    assert host.asked == [("HEAD", "/clip", "")]


def test_only_first_bytes_are_asked_for_and_no_more_than_the_pixels_need(host: Host) -> None:
    host.asked.clear()

    probe(host.add("/early", Page()))
    probe(host.add("/late", Page(kind="image/jpeg", body=BIG_EXIF)))

    assert host.asked == [
        ("HEAD", "/early", ""),
        ("GET", "/early", f"bytes=0-{FIRST_BYTES - 1}"),
        ("HEAD", "/late", ""),
        ("GET", "/late", f"bytes=0-{FIRST_BYTES - 1}"),
        ("GET", "/late", f"bytes={FIRST_BYTES}-{MOST_BYTES - 1}"),
    ]


@pytest.mark.parametrize("ranges", [True, False])
def test_never_more_than_a_mebibyte_is_read_whatever_the_server_sends(
    host: Host, monkeypatch: pytest.MonkeyPatch, ranges: bool
) -> None:
    read = 0

    async def counted(response: Any) -> Any:
        nonlocal read
        async for chunk in decoded(response):
            read += len(chunk)
            yield chunk

    monkeypatch.setattr("batchgen.probes.prober.decoded", counted)  # not replaced
    endless = b"\xff\xd8" + b"\xff\xe1\xff\xff" + b"\0" * 40_000_000
    facts = probe(host.add("/endless", Page(kind="image/jpeg", body=endless, ranges=ranges)))

    assert facts.width is None
    assert FIRST_BYTES < read < MOST_BYTES + 2 * FIRST_BYTES  # one chunk may go beyond
    assert host.sent["/endless"] < len(endless)  # the connection was closed
    host.sent.clear()


def test_a_redirect_names_where_it_leads_without_secrets(host: Host) -> None:
    page = Page(302, headers={"Location": "https://b.example.com/x.png?X-Amz-Signature=s3cret"})

    said = probe(host.add("/moved", page)).said

    assert said == "https://b.example.com/x.png?[redacted]"


# -- addresses -----------------------------------------------------------------------------------


class Names(AbstractResolver):
    """Knows the addresses of names as a test tells them, and how often it was asked."""

    def __init__(self, *addresses: str, error: OSError | None = None) -> None:
        self.addresses = addresses
        self.error = error
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return [
            ResolveResult(hostname=host, host=one, port=port, family=family, proto=6, flags=0)
            for one in self.addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("10.1.2.3",), ("169.254.169.254",), ("93.184.216.34", "192.168.0.1")],
    ids=str,
)
def test_a_name_that_leads_to_a_private_address_is_refused(addresses: tuple[str, ...]) -> None:
    facts = probe(
        "https://images.example.com/a.png", allow_private=False, resolver=Names(*addresses)
    )

    assert facts.problem is Problem.PRIVATE
    assert "images.example.com leads to an address that is not public" in facts.said


def test_a_literal_private_address_is_refused(host: Host) -> None:
    host.asked.clear()

    assert probe(host.add("/a", Page()), allow_private=False).problem is Problem.PRIVATE
    assert host.asked == []


def test_a_private_address_may_be_meant_and_the_name_is_asked_for_once(host: Host) -> None:
    names = Names("127.0.0.1")
    host.add("/named", Page())

    facts = probe(f"http://images.example.com:{host.port}/named", resolver=names)

    assert summary(facts) == FINE
    assert names.asked == 1  # so HEAD and GET go to the address that was checked


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (socket.EAI_NONAME, Problem.NO_HOST),
        (socket.EAI_AGAIN, Problem.UNREACHABLE),
        (socket.EAI_FAIL, Problem.UNREACHABLE),
    ],
)
def test_a_name_that_does_not_exist_is_told_from_a_resolver_in_trouble(
    code: int, problem: Problem
) -> None:
    names = Names(error=socket.gaierror(code, "said"))

    assert probe("https://images.example.com/a.png", resolver=names).problem is problem


def test_the_system_is_asked_for_names() -> None:
    facts = probe("https://nowhere.invalid/a.png")

    assert (facts.problem, facts.said) == (Problem.NO_HOST, "there is no host nowhere.invalid")
    assert not no_such_host(OSError("x"))


@pytest.mark.parametrize(
    ("code", "said"), [(10, "has expired"), (62, "belongs to another host"), (20, None), (18, None)]
)
def test_only_what_is_wrong_with_a_certificate_for_anybody_is_a_fault(
    code: int, said: str | None
) -> None:
    refused = ssl.SSLCertVerificationError("no")
    refused.verify_code = code
    error = aiohttp.ClientConnectorCertificateError(_key(), refused)

    assert bad_certificate(error) == said


def _key() -> Any:
    from aiohttp.client_reqrep import ConnectionKey

    return ConnectionKey("a.test", 443, True, True, None, None, None)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (image(form="GIF"), "image/gif"),
        (image(form="WEBP"), "image/webp"),
        (b"%PDF-1.7 and more", "application/pdf"),
    ],
)
def test_the_bytes_say_what_an_image_is_whatever_it_is_called(
    host: Host, body: bytes, kind: str
) -> None:
    facts = probe(host.add(f"/{kind}", Page(kind="image/jpeg", body=body)))

    assert (facts.problem, facts.content_type) == (None, kind)
