from typing import Any

import pytest

from batchgen.domain.fitness import (
    FETCHERS,
    MOODS,
    Facts,
    Need,
    Problem,
    Rule,
    judge,
    needs_of,
    urls_of,
)
from batchgen.domain.jobs import Model
from batchgen.manifests import load_models

RUNWAY = needs_of(load_models()["runwayml/runway-gen-4/turbo/image-to-video"])["promptImage"]
VIDEO = Need("video", "", ())
IMAGE = Need("image", "", ())


def seen(width: int | None = 1280, height: int | None = 720, **more: Any) -> Facts:
    values = {"http_status": 206, "content_type": "image/png", "size_bytes": 1000, **more}
    return Facts(width=width, height=height, **values)


@pytest.mark.parametrize(
    ("facts", "need", "said"),
    [
        # As written, the limits themselves are beyond them.
        pytest.param(seen(7999, 7999), RUNWAY, "fine", id="largest"),
        pytest.param(seen(8000, 7999), RUNWAY, "fault: 8000x7999", id="too-wide"),
        pytest.param(seen(7999, 8000), RUNWAY, "fault: 7999x8000", id="too-high"),
        pytest.param(seen(2000, 1000), RUNWAY, "fault: 1:2 to 2:1", id="ratio-2"),
        pytest.param(seen(1999, 1000), RUNWAY, "fine", id="ratio-below-2"),
        pytest.param(seen(1000, 2000), RUNWAY, "fault: 1:2 to 2:1", id="ratio-half"),
        pytest.param(seen(1001, 2000), RUNWAY, "fine", id="ratio-above-half"),
        pytest.param(seen(size_bytes=15_999_999), RUNWAY, "fine", id="16-mb-less-one"),
        pytest.param(seen(size_bytes=16_000_000), RUNWAY, "warning: 16.0 MB", id="16-mb"),
        pytest.param(seen(size_bytes=2**24 - 1), RUNWAY, "warning: 16.8 MB", id="below-16-mib"),
        pytest.param(seen(size_bytes=2**24), RUNWAY, "fault: 16.8 MB", id="16-mib"),
        pytest.param(seen(size_bytes=None), RUNWAY, "fault: Content-Length", id="no-length"),
        pytest.param(seen(size_bytes=None), IMAGE, "fine", id="no-length-for-others"),
        pytest.param(seen(None, None), RUNWAY, "warning: width and height", id="no-pixels"),
        pytest.param(seen(content_type="image/webp"), RUNWAY, "fine", id="webp"),
        pytest.param(seen(content_type="image/jpeg"), RUNWAY, "fine", id="jpeg"),
        pytest.param(seen(content_type="image/gif"), RUNWAY, "fault: it is image/gif", id="gif"),
        pytest.param(seen(content_type="image/gif"), IMAGE, "fine", id="gif-for-others"),
        pytest.param(
            seen(content_type="application/octet-stream"), RUNWAY, "fault: octet", id="octet-stream"
        ),
        pytest.param(
            seen(content_type="application/octet-stream"), IMAGE, "fine", id="octet-with-pixels"
        ),
        pytest.param(
            seen(None, None, content_type=""),
            IMAGE,
            "warning: without a content type",
            id="untyped",
        ),
        pytest.param(seen(content_type="text/html"), IMAGE, "fault: text/html", id="page"),
        pytest.param(seen(content_type="image/png"), VIDEO, "fault: not a video", id="no-video"),
        pytest.param(seen(content_type="video/mp4"), VIDEO, "fine", id="video"),
        pytest.param(
            seen(size_bytes=10**9, content_type="video/mp4"), VIDEO, "warning: 100", id="long-video"
        ),
        pytest.param(seen(size_bytes=60 * 2**20), IMAGE, "warning: 50", id="large-for-others"),
        pytest.param(
            seen(said="HEAD is refused (HTTP 403)"), RUNWAY, "warning: HEAD", id="head-refused"
        ),
        pytest.param(seen(said="HEAD is refused (HTTP 403)"), IMAGE, "fine", id="head-for-others"),
        pytest.param(
            Facts(Problem.REDIRECT, "https://b.test/x?[redacted]", 302),
            RUNWAY,
            "fault: redirects to <https://b.test/x?[redacted]>",
            id="redirect",
        ),
        pytest.param(
            Facts(Problem.REDIRECT, "https://b.test/", 302),
            IMAGE,
            "warning: redirects",
            id="redirect-for-others",
        ),
        pytest.param(Facts(Problem.STATUS, "", 404), IMAGE, "fault: no such file", id="404"),
        pytest.param(Facts(Problem.STATUS, "", 410), IMAGE, "fault: no such file", id="410"),
        pytest.param(Facts(Problem.STATUS, "", 401), IMAGE, "fault: needs a login", id="401"),
        pytest.param(Facts(Problem.STATUS, "", 403), IMAGE, "fault: has expired", id="403"),
        pytest.param(Facts(Problem.STATUS, "", 451), IMAGE, "fault: HTTP 451", id="451"),
    ],
)
def test_what_a_file_must_be(facts: Facts, need: Need, said: str) -> None:
    verdict = judge(facts, need)

    kind, _, words = said.partition(": ")
    assert bool(verdict.faults) == (kind == "fault"), verdict
    assert bool(verdict.warnings) == (kind == "warning"), verdict
    assert words in " ".join([*verdict.faults, *verdict.warnings])


@pytest.mark.parametrize("problem", Problem)
def test_a_mood_is_never_a_fault_and_all_else_is(problem: Problem) -> None:
    verdict = judge(Facts(problem, "said", 400), RUNWAY)

    assert verdict.is_fault == (problem not in MOODS)
    assert verdict.faults or verdict.warnings


def test_every_fault_of_a_file_is_named_once() -> None:
    verdict = judge(seen(9000, 100, content_type="image/gif", size_bytes=10**8), RUNWAY)

    assert len(verdict.faults) == 4  # type, width, ratio, size
    assert verdict.warnings == ()


def test_the_shipped_models_name_fetchers_that_exist() -> None:
    assert {model.fetcher for model in load_models().values()} <= set(FETCHERS)
    assert RUNWAY.fetcher == "runway"


def model_of(schema: dict[str, Any], **media: str) -> Model:
    return Model("m", "M", "runcomfy", {"properties": schema}, media=media)


def test_rules_are_found_beside_a_list_and_beside_its_items_and_strange_ones_left_out() -> None:
    rule = {"validation_rule": "width_pixels>=", "validation_value": 256, "validation_error": "W."}
    strange: list[Any] = [{"validation_rule": "moon<", "validation_value": 1}, "x", {}]
    model = model_of(
        {
            "a": {"type": "array", "validations": [rule, *strange]},
            "b": {"type": "array", "items": {"type": "string", "validations": [rule]}},
            "c": {"validations": [{**rule, "validation_value": True}]},
        },
        a="image",
        b="image",
        c="image",
        d="video",
    )

    needs = needs_of(model)

    assert needs["a"].rules == needs["b"].rules == (Rule("width_pixels", ">=", 256, "W."),)
    assert needs["c"].rules == needs["d"].rules == ()
    assert needs["a"].needs_pixels
    assert not needs["d"].needs_pixels


def test_urls_are_found_in_texts_lists_and_below_names_with_dots() -> None:
    needs = dict.fromkeys(["one", "many", "deep.image", "parts.image", "none"], IMAGE)
    inputs = {
        "one": "https://a.test/1",
        "many": ["https://a.test/2", "HTTP://a.test/3", 4],
        "deep": {"image": "https://a.test/5", "other": "https://a.test/6"},
        "parts": [{"image": "https://a.test/7"}, {"image": ["https://a.test/8"]}],
        "prompt": "https://a.test/9",
        "none": "not a URL",
    }

    found = list(urls_of(needs, inputs))

    assert [url[-1] for _, url in found] == ["1", "2", "3", "5", "7", "8"]
    assert {name for name, _ in found} == {"one", "many", "deep.image", "parts.image"}
