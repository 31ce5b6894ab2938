"""The input files of many jobs: each URL once, each with its reason."""

import random
import socket
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey
from images import Host, Page, image, serving

from batchgen.domain.fitness import Facts, Problem
from batchgen.domain.jobs import Model
from batchgen.http import is_genuine
from batchgen.manifests import load_models
from batchgen.probes.pace import Pace
from batchgen.probes.prober import Prober, Target
from batchgen.probing import Inspection
from batchgen.store.probes import Seen, hash_of

MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
MODELS = load_models()
FAST = Pace(host_per_s=10_000)


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as served:
        yield served


def job(url: str) -> tuple[str, dict[str, Any]]:
    return MODEL, {"promptText": "https://example.com/not/an/input", "promptImage": url}


def inspected(
    jobs: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    believed: Mapping[str, Seen] | None = None,
    **options: Any,
) -> Inspection:
    values = {"allow_private": True, "pace": FAST, "probe_s": 5, **options}
    inspection = Inspection(MODELS, **values)
    inspection.collect(jobs)
    inspection.look(
        cached=lambda hashes: {
            one: (believed or {})[one] for one in hashes if one in (believed or {})
        },
        tell=lambda *_: None,
    )
    return inspection


def test_each_of_559_files_gets_its_reason_and_each_is_asked_for_once(host: Host) -> None:
    kinds = {
        "HTTP 404": (28, Page(404)),
        "17.5 MB": (11, Page(length=17_500_000)),
        "1300x600 pixels": (11, Page(body=image(1300, 600))),
        "text/plain": (11, Page(kind="text/plain", body=b"no image" * 20)),
        "no answer within": (17, Page(0)),
        "HEAD is refused": (100, Page(head=403)),
        "": (381, Page()),
    }
    pages = [(said, page) for said, (count, page) in kinds.items() for _ in range(count)]
    random.Random(1).shuffle(pages)
    jobs = [job(host.add(f"/{n}.png", page)) for n, (_, page) in enumerate(pages)]
    assert len(jobs) == 559

    found = inspected([*jobs, *jobs], probe_s=2)

    moods = {"no answer within", "HEAD is refused"}
    for (said, _), (model, inputs) in zip(pages, jobs, strict=True):
        finding = found.check(model, inputs)
        if said in moods:
            assert finding.reason is None
            assert [said in one.words for one in finding.warnings] == [True], finding
        elif said:
            assert said in str(finding.reason), finding
            assert finding.warnings == ()
        else:
            assert finding.is_fit
            assert finding.warnings == ()
    assert found.files == found.looked_at == 559
    assert set(host.paths("HEAD").values()) == {1}
    assert set(host.paths("GET").values()) == {1}
    assert host.most_at_once <= FAST.host_at_once


def believed(url: str, **facts: Any) -> dict[str, Seen]:
    values = {"http_status": 206, "content_type": "image/png", "size_bytes": 9, **facts}
    url_hash = hash_of(url)
    assert url_hash is not None
    return {url_hash: Seen(Facts(**{"width": 64, "height": 36, **values}), 1_000)}


def test_what_is_believed_is_not_asked_for_unless_it_would_be_a_fault(host: Host) -> None:
    good, large, bare = (host.add(f"/{name}", Page()) for name in ("good", "large", "bare"))
    cached = (
        believed(good)
        | believed(large, size_bytes=10**9)  # it may have been replaced since
        | believed(bare, width=None, height=None)  # asked for by a model without rules for pixels
    )

    found = inspected([job(good), job(large), job(bare)], believed=cached)

    assert set(host.paths("HEAD")) == {"/large", "/bare"}
    assert all(found.check(*job(url)).is_fit for url in (good, large, bare))
    assert (found.believed, found.looked_at, found.oldest_ms) == (1, 2, 1_000)


def test_what_is_kept_are_answers_and_neither_moods_nor_signed_links(host: Host) -> None:
    pages = {"/good": Page(), "/gone": Page(404), "/busy": Page(503), "/signed": Page()}
    urls = {path: host.add(path, page) for path, page in pages.items()}
    urls["/signed"] += "?X-Amz-Signature=s3cret"

    kept = inspected([job(url) for url in urls.values()]).to_keep(7)

    assert {url_hash for url_hash, _ in kept} == {hash_of(urls["/good"]), hash_of(urls["/gone"])}
    assert {(seen.facts.problem, seen.seen_ms) for _, seen in kept} == {
        (None, 7),
        (Problem.STATUS, 7),
    }


def test_one_look_serves_models_that_need_different_things(host: Host) -> None:
    url = host.add("/a", Page(kind="image/gif", body=image(form="GIF")))
    other = replace(MODELS[MODEL], id="other", fetcher="")
    models = {**MODELS, "other": other}
    inspection = Inspection(models, allow_private=True, pace=FAST)
    inspection.collect([job(url), ("other", job(url)[1])])
    inspection.look(cached=None, tell=lambda *_: None)

    assert "image/gif" in str(inspection.check(*job(url)).reason)
    assert inspection.check("other", job(url)[1]).is_fit
    assert host.paths("GET") == Counter({"/a": 1})


def test_no_message_shows_a_signature(host: Host) -> None:
    secret = "X-Amz-Signature=s3cret"
    gone = host.add("/gone", Page(404)) + "?" + secret
    moved = host.add("/moved", Page(302, headers={"Location": f"https://b.test/?{secret}"}))

    found = inspected([job(gone), job(moved)])

    said = [str(found.check(*job(url)).reason) for url in (gone, moved)]
    assert all("s3cret" not in one for one in said)
    assert "/gone?[redacted]>" in said[0]
    assert "redirects to <https://b.test/?[redacted]>" in said[1]


def test_a_url_that_is_not_allowed_any_more_is_a_fault_without_a_request(host: Host) -> None:
    url = host.add("/a", Page())

    found = inspected([job(url)], allow_private=False)

    assert "is an IP address" in str(found.check(*job(url)).reason)
    assert host.asked == []


def test_of_what_nobody_looked_at_nothing_is_said() -> None:
    found = inspected([])

    assert found.check(*job("https://images.example.com/a.png")).reason is None
    assert not found.check(*job("https://images.example.com/a.png")).is_fit
    assert not found.check("unknown/model", {}).is_fit


def test_files_in_lists_and_in_mappings_are_looked_at_by_the_rules_of_their_places(
    host: Host,
) -> None:
    rule = {"validation_rule": "width_pixels>", "validation_value": 100, "validation_error": "W"}
    part = {"type": "string", "format": "image_uri", "validations": [rule]}
    schema = {
        "properties": {
            "images": {"type": "array", "items": part},
            "elements": {"type": "array", "items": {"type": "object", "properties": {"i": part}}},
        }
    }
    model = Model("nested", "N", "runcomfy", schema, media={"images": "image"})
    small, large = host.add("/small", Page()), host.add("/large", Page(body=image(200, 200)))
    inputs = {"images": [large, small], "elements": [{"i": large}, {"i": small}]}
    inspection = Inspection({"nested": model}, allow_private=True, pace=FAST)
    inspection.collect([("nested", inputs)])
    inspection.look(cached=None, tell=lambda *_: None)

    finding = inspection.check("nested", inputs)

    assert [one.input for one in finding.faults] == ["images.1", "elements.1.i"]
    assert host.paths("HEAD") == Counter({"/small": 1, "/large": 1})


@pytest.mark.parametrize(
    ("network", "others", "is_fault"),
    [(True, False, True), (False, False, False), (False, True, True)],
    ids=["network up", "network down", "another host answers"],
)
def test_unknown_hosts_are_a_mood_if_nothing_is_known(
    host: Host, monkeypatch: pytest.MonkeyPatch, *, network: bool, others: bool, is_fault: bool
) -> None:
    """Else a night without DNS would fail every job."""
    real = socket.getaddrinfo

    def look_up(name: Any, *rest: Any, **more: Any) -> Any:
        if str(name).endswith(".example.com"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(name, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    inspection = Inspection(MODELS, allow_private=True, pace=FAST, resolves=lambda _: network)
    lost = job("https://images.example.com/a.jpg")
    inspection.collect([lost, *([job(host.add("/good", Page()))] if others else [])])

    inspection.look(cached=None, tell=lambda *_: None)

    finding = inspection.check(*lost)
    assert bool(finding.faults) == is_fault
    assert bool(finding.warnings) != is_fault
    assert "images.example.com" in str(finding.faults or finding.warnings)


def bad_certificate(name: str) -> aiohttp.ClientConnectorCertificateError:
    refused = ssl.SSLCertVerificationError("no")
    refused.verify_code = 62  # of another host
    key = ConnectionKey(name, 443, True, True, None, None, None)
    return aiohttp.ClientConnectorCertificateError(key, refused)


@pytest.mark.parametrize(
    ("genuine", "other", "is_fault"),
    [
        (True, None, True),
        (False, None, False),
        (False, Page(), True),
        (False, Page(404), True),
        (False, Page(503), False),
        (False, Page(302, headers={"Location": "/log-in"}), False),
    ],
    ids=["one bad host", "log-in page", "file", "no file", "busy", "redirect"],
)
def test_a_strange_certificate_is_a_mood_if_every_host_may_show_it(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    *,
    genuine: bool,
    other: Page | None,
    is_fault: bool,
) -> None:
    """Else a run in a hotel would fail every job."""
    real = Prober._look

    async def look(prober: Prober, target: Target) -> Facts:
        name = httpx.URL(target.url).host
        if name.endswith(".example.com"):
            raise bad_certificate(name)
        return await real(prober, target)

    monkeypatch.setattr(Prober, "_look", look)
    names = ("one", "two")
    odd = [job(f"https://{name}.example.com/a.jpg") for name in names]
    inspection = Inspection(MODELS, allow_private=True, pace=FAST, is_genuine=lambda _: genuine)
    inspection.collect([*odd, *([] if other is None else [job(host.add("/x", other))])])

    inspection.look(cached=None, tell=lambda *_: None)

    for one in odd:
        finding = inspection.check(*one)
        assert bool(finding.faults) == is_fault
        assert bool(finding.warnings) != is_fault
        assert "belongs to another host" in str(finding.faults or finding.warnings)


def test_nobody_is_genuine_without_a_certificate() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_genuine("127.0.0.1", port, timeout_s=0.1)  # says nothing
    assert not is_genuine("127.0.0.1", port)
