import asyncio
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import forked
import pytest

from batchgen.providers.simulator import (
    Catalog,
    Fault,
    Kind,
    Ledger,
    Settings,
    Simulator,
    Stage,
    as_json,
    changed,
    clip_bytes,
    start_in_thread,
)
from batchgen.providers.simulator.settings import OUTPUT_SHAPES, STAGES, marked

MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
INPUTS = {"promptText": "a fox", "promptImage": "https://images.example.com/fox.jpg"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """The plainest client: what was answered, as it was."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.session = session

    async def ask(
        self, method: str, path: str, *, body: Any = None, token: str | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        url = path if path.startswith("http") else self.simulator.origin + path
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(
            method, url, json=body, headers=headers, allow_redirects=False
        ) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(raw) if is_json else raw, response.headers

    async def submit(self, text: str = "a fox", **inputs: Any) -> str:
        status, body, _ = await self.post(text, **inputs)
        assert status == 200
        return str(body["request_id"])

    async def post(self, text: str = "a fox", **inputs: Any) -> tuple[int, Any, Mapping[str, str]]:
        return await self.ask(
            "POST", f"/v1/models/{MODEL}", body=INPUTS | {"promptText": text} | inputs
        )

    async def result(self, request_id: str, *, cost: bool = False) -> dict[str, Any]:
        query = "?include_cost=true" if cost else ""
        status, body, _ = await self.ask("GET", f"/v1/requests/{request_id}/result{query}")
        assert status == 200
        assert isinstance(body, dict)
        return body

    async def status(self, request_id: str) -> dict[str, Any]:
        status, body, _ = await self.ask("GET", f"/v1/requests/{request_id}/status")
        assert status == 200
        assert isinstance(body, dict)
        return body


def play(
    scene: Callable[[Caller], Awaitable[None]],
    settings: Settings | None = None,
    *,
    clock: Clock | None = None,
    catalog: Catalog | None = None,
) -> Ledger:
    async def run() -> Ledger:
        simulator = Simulator(settings, clock=clock or time.monotonic, catalog=catalog)
        # No connection is kept: a client may repeat a GET by itself on one that was.
        connector = aiohttp.TCPConnector(force_close=True)
        async with simulator, aiohttp.ClientSession(connector=connector) as session:
            await scene(Caller(simulator, session))
            return simulator.ledger

    return asyncio.run(run())


def with_faults(*faults: Fault) -> Settings:
    return Settings(faults=faults)


def boxes(clip: bytes) -> list[str]:
    found, at = [], 0
    while at < len(clip):
        size = int.from_bytes(clip[at : at + 4], "big")
        assert size >= 8
        found.append(clip[at + 4 : at + 8].decode("ascii"))
        at += size
    assert at == len(clip)
    return found


# The plain service


def test_a_request_goes_from_submit_to_clip() -> None:
    async def scene(caller: Caller) -> None:
        status, accepted, _ = await caller.post(duration=10)
        assert status == 200
        assert set(accepted) == {"request_id", "status_url", "result_url", "cancel_url"}

        _, stopped, _ = await caller.ask("GET", accepted["status_url"])
        assert stopped["status"] == "completed"
        assert "queue_position" not in stopped
        _, result, _ = await caller.ask("GET", accepted["result_url"] + "?include_cost=true")
        assert result["status"] == "succeeded"
        assert result["cost"] == 0.5
        assert result["model_id"] == MODEL
        assert result["created_at"] <= result["finished_at"]
        status, clip, headers = await caller.ask("GET", result["output"]["video"])
        assert (status, headers["Content-Type"]) == (200, "video/mp4")
        assert int(headers["Content-Length"]) == len(clip)
        assert boxes(clip)[:2] == ["ftyp", "moov"]

    ledger = play(scene)

    (entry,) = ledger.entries
    assert (entry.model, entry.inputs) == (MODEL, INPUTS | {"duration": 10})
    assert (entry.state, entry.answered, entry.looks, entry.fetches) == ("succeeded", True, 2, 1)
    assert entry.told_at is not None
    assert entry.cost_micros == 500_000
    counters = ledger.counters
    assert (counters.posts, counters.accepted, counters.refused) == (1, 1, 0)
    assert (counters.status_looks, counters.result_looks, counters.file_fetches) == (1, 1, 1)
    assert (counters.in_flight, counters.most_in_flight) == (0, 1)
    assert (counters.untold, counters.most_untold) == (0, 1)
    assert counters.charged_micros == 500_000


def test_the_cost_is_told_only_to_those_who_ask() -> None:
    async def scene(caller: Caller) -> None:
        assert "cost" not in await caller.result(await caller.submit())

    play(scene)


def test_every_clip_plays_and_is_its_own(tmp_path: Path) -> None:
    clips = [clip_bytes("sim-1"), clip_bytes("sim-2"), clip_bytes("sim-2", size_bytes=700_000)]

    assert len({hashlib.sha256(clip).hexdigest() for clip in clips}) == 3
    assert len(clips[2]) == 700_000
    for clip in clips:
        assert boxes(clip) == ["ftyp", "moov", "free", "mdat", "free"]
        if shutil.which("ffprobe"):
            path = tmp_path / "clip.mp4"
            path.write_bytes(clip)
            probe = ("ffprobe", "-v", "error", "-count_frames", "-of", "json", "-show_streams")
            done = subprocess.run([*probe, str(path)], capture_output=True, check=True)
            (stream,) = json.loads(done.stdout)["streams"]
            assert done.stderr == b""
            assert (stream["codec_name"], stream["width"], stream["height"]) == ("h264", 320, 180)
            assert (stream["nb_read_frames"], float(stream["duration"])) == ("24", 2.0)


def test_files_answer_head_and_ranges() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        url = f"{caller.simulator.origin}/files/{request_id}.mp4"
        whole = clip_bytes(f"{request_id}.mp4")

        async with caller.session.head(url) as response:
            assert response.status == 200
            assert response.content_length == len(whole)
        for wanted, expected in (
            ("bytes=10-19", whole[10:20]),
            ("bytes=100-", whole[100:]),
            ("bytes=-7", whole[-7:]),
        ):
            async with caller.session.get(url, headers={"Range": wanted}) as response:
                assert response.status == 206
                assert await response.read() == expected
        async with caller.session.get(url, headers={"Range": "bytes=999999-"}) as response:
            assert response.status == 416
        async with caller.session.head(url) as response:
            etag = response.headers["ETag"]
        for validator, status, expected in ((etag, 206, whole[9:]), ('"old"', 200, whole)):
            headers = {"Range": "bytes=9-", "If-Range": validator}
            async with caller.session.get(url, headers=headers) as response:
                assert (response.status, await response.read()) == (status, expected)
        async with caller.session.get(url, headers={"Range": "furlongs=1"}) as response:
            assert (response.status, await response.read()) == (200, whole)

    ledger = play(scene)

    assert (ledger.counters.file_heads, ledger.counters.file_fetches) == (2, 7)


def test_a_large_clip_is_streamed_whole() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        _, clip, headers = await caller.ask("GET", f"/files/{request_id}.mp4")
        assert len(clip) == int(headers["Content-Length"]) == 3_000_000
        assert boxes(clip)[-1] == "free"

    play(scene, Settings(clip_bytes=3_000_000))


def test_a_token_shown_to_the_file_host_is_noticed() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        await caller.ask("GET", f"/files/{request_id}.mp4", token="secret")

    assert play(scene).counters.files_with_token == 1


def test_the_token_is_checked_where_there_is_one() -> None:
    async def scene(caller: Caller) -> None:
        path = "/prod/v2/balance"
        assert (await caller.ask("GET", path, token="wrong"))[0] == 401
        assert (await caller.ask("GET", path))[0] == 401
        status, body, _ = await caller.ask("GET", path, token="right")
        assert (status, body) == (200, {"balance_usd": 2.5, "currency": "USD"})

        caller.simulator.settings = replace(caller.simulator.settings, token_status=400)
        status, body, _ = await caller.ask("GET", path)
        assert (status, body["error_code"]) == (400, 400004)

    ledger = play(scene, Settings(token="right", wallet_micros=2_500_000))

    assert ledger.counters.unauthorised == 3


def test_a_token_is_revoked_after_so_many_requests_but_files_are_served() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        await caller.submit()
        assert (await caller.post())[0] == 401
        assert (await caller.ask("GET", f"/v1/requests/{request_id}/result"))[0] == 401
        assert (await caller.ask("GET", f"/files/{request_id}.mp4"))[0] == 200

    assert play(scene, Settings(revoke_after=2)).counters.accepted == 2


def test_a_wallet_empties_and_failures_are_refunded() -> None:
    async def scene(caller: Caller) -> None:
        await caller.submit("[[fault:generation]]")
        await caller.submit()
        await caller.submit()
        status, body, _ = await caller.post()
        assert (status, body["error_code"]) == (400, 400002)

    ledger = play(scene, Settings(wallet_micros=500_000))

    assert [entry.cost_micros for entry in ledger.entries] == [0, 250_000, 250_000]
    assert ledger.wallet_micros == 0
    assert ledger.counters.charged_micros == 500_000


def test_a_failure_costs_where_that_is_set() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit("[[fault:generation]]")
        assert (await caller.result(request_id, cost=True))["cost"] == 0.25

    assert play(scene, Settings(charge_failed=True)).counters.charged_micros == 250_000


def test_the_catalog_describes_a_model() -> None:
    async def scene(caller: Caller) -> None:
        status, body, _ = await caller.ask("GET", f"/v1/models/{MODEL}")
        assert (status, body["base_price_usd"], body["price_unit"]) == (200, 0.05, "second")
        assert body["required_inputs"] == ["promptImage"]
        status, body, _ = await caller.ask("GET", "/v1/models/no/such")
        assert (status, body["error_code"]) == (400, 400001)
        status, body, _ = await caller.ask("POST", "/v1/models/no/such", body=INPUTS)
        assert (status, body["error_code"]) == (400, 400001)

    play(scene, Settings(models=frozenset({MODEL})))


def test_the_catalog_is_told_in_pages() -> None:
    async def scene(caller: Caller) -> None:
        async def page(query: str) -> tuple[int, list[str], Any]:
            status, body, _ = await caller.ask("GET", f"/v1/models?{query}")
            return status, [one["model_id"] for one in body.get("models", [])], body

        assert (await page(""))[1] == ["a/1", "a/2", "a/3"]
        status, names, body = await page("limit=2&offset=1&include_schema=true")
        assert (status, names, body["total"]) == (200, ["a/2", "a/3"], 3)
        assert all("input_schema" in one for one in body["models"])
        status, names, body = await page("search=THREE")
        assert (names, body["total"]) == (["a/3"], 1)
        assert "input_schema" not in body["models"][0]
        for wrong in ("limit=0", "limit=501", "limit=x", "offset=-1"):
            assert (await page(wrong))[0] == 422
        caller.simulator.settings = Settings(models=frozenset({"a/2"}))
        assert (await page(""))[1] == ["a/2"]

    named = [("a/3", "three"), ("a/1", "one"), ("a/2", "two")]
    catalog = Catalog(
        {"model_id": name, "display_name": title, "input_schema": {"properties": {}}}
        for name, title in named
    )
    play(scene, catalog=catalog)


@pytest.mark.parametrize("strict", [False, True])
def test_inputs_are_checked_only_where_strict(strict: bool) -> None:
    async def scene(caller: Caller) -> None:
        for inputs in ({"promptText": "a fox"}, INPUTS | {"ratio": "1:1"}):
            status, body, _ = await caller.ask("POST", f"/v1/models/{MODEL}", body=inputs)
            assert status == (422 if strict else 200)
            assert ("detail" in body) is strict
        await caller.submit()

    assert play(scene, Settings(strict=strict)).counters.accepted == (1 if strict else 3)


@pytest.mark.parametrize("body", [b"{", b"[1]", b""])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    async def scene(caller: Caller) -> None:
        url = f"{caller.simulator.base}/models/{MODEL}"
        async with caller.session.post(url, data=body) as response:
            assert response.status == 422

    counters = play(scene).counters
    assert (counters.posts, counters.accepted, counters.refused) == (1, 0, 1)


# Time


def test_slots_free_in_order_and_the_queue_tells_positions() -> None:
    clock = Clock()

    async def scene(caller: Caller) -> None:
        a, b, c, d = [await caller.submit() for _ in range(4)]
        assert (await caller.status(a))["status"] == "in_progress"
        assert "queue_position" not in await caller.status(b)
        assert [(await caller.status(which)).get("queue_position") for which in (c, d)] == [0, 1]
        assert (await caller.result(d))["status"] == "in_queue"

        clock.now += 10
        assert (await caller.result(a))["status"] == "succeeded"
        assert (await caller.result(c))["status"] == "in_progress"

        # Nobody looks for a long time: the slots were used all the same.
        clock.now += 1000
        assert (await caller.result(d))["status"] == "succeeded"

    ledger = play(scene, Settings(slots=2, run_s=(10, 10)), clock=clock)

    assert [entry.started_at for entry in ledger.entries] == [1000, 1000, 1010, 1010]
    assert [entry.ends_at for entry in ledger.entries] == [1010, 1010, 1020, 1020]
    assert (ledger.counters.most_in_flight, ledger.counters.most_untold) == (4, 4)
    assert ledger.counters.untold == 2


def test_added_slots_start_nothing_in_the_past() -> None:
    clock = Clock()

    async def scene(caller: Caller) -> None:
        await caller.submit()
        await caller.submit()
        clock.now += 5
        caller.simulator.settings = replace(caller.simulator.settings, slots=2)

    ledger = play(scene, Settings(slots=1, run_s=(10, 10)), clock=clock)

    assert [entry.started_at for entry in ledger.entries] == [1000, 1005]


def test_a_wait_in_the_queue_comes_before_the_generation() -> None:
    clock = Clock()

    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        seen = []
        for _ in range(3):
            seen.append((await caller.result(request_id))["status"])
            clock.now += 6
        assert seen == ["in_queue", "in_progress", "succeeded"]

    play(scene, Settings(queue_s=(5, 5), run_s=(5, 5)), clock=clock)


def test_only_queued_requests_can_be_cancelled() -> None:
    clock = Clock()

    async def scene(caller: Caller) -> None:
        running, queued, behind = [await caller.submit() for _ in range(3)]
        answers = {}
        for request_id in (running, queued, queued):
            path = f"/v1/requests/{request_id}/cancel"
            status, answers[request_id], _ = await caller.ask("POST", path)
            assert status == 202
            if request_id == queued and "first" not in answers:
                answers["first"] = answers[queued]
        assert answers[running]["outcome"] == "not_cancellable"
        assert answers["first"]["outcome"] == "cancelled"
        assert answers[queued]["outcome"] == "not_cancellable"
        assert (await caller.result(queued))["status"] == "cancelled"
        assert (await caller.status(queued))["status"] == "cancelled"
        assert (await caller.status(behind))["queue_position"] == 0

    ledger = play(scene, Settings(slots=1, run_s=(10, 10)), clock=clock)

    assert [entry.state for entry in ledger.entries] == ["in_progress", "cancelled", "in_queue"]
    assert ledger.counters.charged_micros == 500_000
    assert ledger.counters.cancels == 3


def test_everything_can_be_ended_at_once() -> None:
    async def scene(caller: Caller) -> None:
        ids = [await caller.submit("[[fault:stuck]]") for _ in range(3)]
        assert (await caller.result(ids[0]))["status"] == "in_progress"
        caller.simulator.finish_all()
        assert {(await caller.result(which))["status"] for which in ids} == {"succeeded"}

    assert play(scene, Settings(slots=1)).counters.in_flight == 0


def durations(settings: Settings) -> list[float]:
    async def scene(caller: Caller) -> None:
        for _ in range(20):
            await caller.submit()

    return [entry.run_s for entry in play(scene, settings).entries]


def test_durations_come_from_the_seed_and_no_fault_changes_them() -> None:
    plain = Settings(seed=3, run_median_s=60.0, run_sigma=0.3)

    first = durations(plain)

    assert first == durations(replace(plain, faults=(Fault(Kind.LOST, rate=0.5),)))
    assert first != durations(replace(plain, seed=4))
    assert all(15 < duration < 240 for duration in first)
    assert all(2 <= duration <= 3 for duration in durations(Settings(run_s=(2, 3))))


def test_ids_are_never_repeated_even_with_the_same_seed() -> None:
    async def scene(caller: Caller) -> None:
        await caller.submit()

    clock = Clock()
    assert play(scene, clock=clock).entries[0].id != play(scene, clock=clock).entries[0].id


@pytest.mark.parametrize("recognise", [False, True])
def test_a_new_service_knows_the_ids_of_an_earlier_one_where_that_is_set(recognise: bool) -> None:
    async def submit(caller: Caller) -> None:
        await caller.submit(duration=10)

    async def look(caller: Caller) -> None:
        path = f"/v1/requests/{earlier}/result?include_cost=true"
        status, body, _ = await caller.ask("GET", path)
        assert status == (200 if recognise else 404)
        if recognise:
            assert (body["status"], body["cost"]) == ("succeeded", 0.5)
            assert (await caller.ask("GET", body["output"]["video"]))[0] == 200
        assert (await caller.ask("GET", "/v1/requests/unheard-of/result"))[0] == 404

    settings = Settings(recognise_earlier=recognise)
    earlier = play(submit, settings).entries[0].id
    assert play(look, settings).entries == ()


# Refusals and lost answers


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (Kind.THROTTLE, 429, None),
        (Kind.SERVER_ERROR, 500, 500001),
        (Kind.REQUEST_TIMEOUT, 408, None),
        (Kind.NO_BALANCE, 400, 400002),
        (Kind.NO_BALANCE_200, 200, 400002),
        (Kind.PAYMENT_REQUIRED, 402, None),
        (Kind.UNAUTHORIZED, 401, None),
        (Kind.ACCOUNT_ERROR, 400, 400004),
        (Kind.FORBIDDEN, 403, 403001),
        (Kind.MODEL_UNKNOWN, 400, 400001),
        (Kind.INVALID, 422, 422001),
        (Kind.BAD_GATEWAY, 502, "page"),
        (Kind.GATEWAY_404, 404, "page"),
    ],
)
def test_a_refused_submit_is_not_accepted(kind: Kind, status: int, code: int | str | None) -> None:
    async def scene(caller: Caller) -> None:
        seen, body, headers = await caller.post()
        assert seen == status
        if code == "page":
            assert b"<html>" in body
        else:
            assert body.get("error_code") == code
            assert "request_id" not in body
        assert headers.get("Retry-After") == ("7" if kind is Kind.THROTTLE else None)
        await caller.submit()

    ledger = play(scene, with_faults(Fault(kind, nth=(1,), seconds=7)))

    assert (ledger.counters.posts, ledger.counters.refused) == (2, 1)
    assert len(ledger.entries) == 1


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [
        (Kind.DROP_BEFORE, 0),
        (Kind.CLOSE_BEFORE, 0),
        (Kind.DROP_AFTER, 1),
        (Kind.CLOSE_AFTER, 1),
        (Kind.HALF_ANSWER, 1),
    ],
)
def test_a_cut_connection_leaves_the_submit_unanswered(kind: Kind, accepted: int) -> None:
    async def scene(caller: Caller) -> None:
        with pytest.raises(aiohttp.ClientError) as caught:
            await caller.post()
        if kind in (Kind.DROP_BEFORE, Kind.DROP_AFTER):
            assert isinstance(caught.value, aiohttp.ClientOSError)
            assert caught.value.errno == errno.ECONNRESET
        elif kind is Kind.HALF_ANSWER:
            assert isinstance(caught.value, aiohttp.ClientPayloadError)
        else:
            assert isinstance(caught.value, aiohttp.ServerDisconnectedError)
        assert (await caller.post("another"))[0] == 200

    ledger = play(scene, with_faults(Fault(kind, prompt="a fox")))

    assert [entry.answered for entry in ledger.entries] == [False] * accepted + [True]
    assert ledger.counters.unanswered == accepted


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Kind.GARBAGE, 200),
        (Kind.NO_ID, 200),
        (Kind.ERROR_AFTER, 500),
        (Kind.GATEWAY_AFTER, 504),
    ],
)
def test_a_spoilt_answer_hides_an_accepted_request(kind: Kind, status: int) -> None:
    async def scene(caller: Caller) -> None:
        url = f"{caller.simulator.base}/models/{MODEL}"
        async with caller.session.post(url, json=INPUTS) as response:
            assert response.status == status
            assert b"sim-" not in await response.read()

    ledger = play(scene, with_faults(Fault(kind)))

    assert [entry.answered for entry in ledger.entries] == [False]


def test_a_slow_answer_comes_after_the_acceptance() -> None:
    async def scene(caller: Caller) -> None:
        posting = asyncio.create_task(caller.post())
        await caller.simulator.until(lambda counters: counters.accepted == 1)
        await caller.submit()
        assert caller.simulator.counters.most_posts_at_once == 2
        assert not posting.done()
        posting.cancel()

    ledger = play(scene, with_faults(Fault(Kind.SLOW, nth=(1,), seconds=60)))

    assert [entry.answered for entry in ledger.entries] == [False, True]


def test_too_many_at_once_and_too_many_a_second_are_throttled() -> None:
    clock = Clock()

    async def scene(caller: Caller) -> None:
        caller.simulator.settings = Settings(max_in_flight=1, run_s=(5, 5), retry_after_s=2.5)
        await caller.submit()
        status, _, headers = await caller.post()
        assert (status, headers["Retry-After"]) == (429, "3")
        clock.now += 5
        await caller.submit()

        clock.now += 5
        caller.simulator.settings = Settings(submits_per_s=2)
        seen = [(await caller.post())[0] for _ in range(3)]
        clock.now += 1
        seen.append((await caller.post())[0])
        assert seen == [200, 200, 429, 200]

    assert play(scene, clock=clock).counters.refused == 2


# Generations that go wrong


def test_a_failure_is_completed_by_status_and_failed_by_result() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit("[[fault:generation=SAFETY.INPUT.TEXT]]")
        assert (await caller.status(request_id))["status"] == "completed"
        result = await caller.result(request_id, cost=True)
        assert (result["status"], result["cost"]) == ("failed", 0)
        assert result["error"]["code"] == "SAFETY.INPUT.TEXT"
        assert "output" not in result

        shapes = {}
        for shape in ("string", "failure_reason", "none"):
            caller.simulator.settings = Settings(error_shape=shape)
            shapes[shape] = await caller.result(request_id)
        assert shapes["string"]["error"].startswith("SAFETY.INPUT.TEXT:")
        assert "SAFETY.INPUT.TEXT" in shapes["failure_reason"]["failure_reason"]
        assert not {"error", "failure_reason"} & shapes["none"].keys()

    assert play(scene).entries[0].state == "failed"


def test_a_marker_with_a_number_counts_its_own_job_only() -> None:
    async def scene(caller: Caller) -> None:
        text = "a heron [[fault:generation=INTERNAL*2]] [[fault:throttle*1]]"
        assert (await caller.post(text))[0] == 429
        states = []
        for each in ("a fox", text, text, text):
            states.append((await caller.result(await caller.submit(each)))["status"])
        assert states == ["succeeded", "failed", "failed", "succeeded"]

    play(scene)


def test_a_marker_that_means_nothing_is_refused() -> None:
    async def scene(caller: Caller) -> None:
        for text in ("[[fault:gremlins]]", "[[fault:output=cube]]"):
            status, body, _ = await caller.post(text)
            assert status == 422
            assert text.split(":")[1][:6] in body["message"]

    assert play(scene).counters.accepted == 0


def test_markers_can_be_switched_off() -> None:
    async def scene(caller: Caller) -> None:
        await caller.submit("[[fault:throttle]]")

    play(scene, Settings(markers=False))


def test_a_request_can_get_lost_be_cancelled_or_never_end() -> None:
    clock = Clock()

    async def scene(caller: Caller) -> None:
        lost, cancelled, stuck = [await caller.submit() for _ in range(3)]
        assert (await caller.result(lost))["status"] == "succeeded"
        clock.now += 10
        status, body, _ = await caller.ask("GET", f"/v1/requests/{lost}/result")
        assert (status, body["error_code"]) == (404, 404001)
        assert (await caller.result(cancelled))["status"] == "cancelled"
        clock.now += 1e6
        assert (await caller.result(stuck))["status"] == "in_progress"

    ledger = play(
        scene,
        with_faults(
            Fault(Kind.LOST, nth=(1,), seconds=10),
            Fault(Kind.CANCELLED, nth=(2,)),
            Fault(Kind.STUCK, nth=(3,)),
        ),
        clock=clock,
    )

    assert [entry.cost_micros for entry in ledger.entries] == [250_000, 0, 250_000]
    json.dumps(ledger.as_json(), allow_nan=False)


def test_unknown_words_and_late_costs_pass_after_some_looks() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        looks = [await caller.result(request_id, cost=True) for _ in range(5)]
        words = [look["status"] for look in looks]
        assert words == ["priming", "priming", "succeeded", "succeeded", "succeeded"]
        assert [look.get("cost") for look in looks] == [None, None, None, 0.25, 0.25]

    play(
        scene,
        with_faults(Fault(Kind.UNKNOWN_STATE, code="priming", count=2), Fault(Kind.COST_LATE)),
    )


@pytest.mark.parametrize("code", [None, "completed"])
def test_the_result_may_lag_behind_the_status(code: str | None) -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        assert (await caller.status(request_id))["status"] == "completed"
        looks = [await caller.result(request_id) for _ in range(3)]
        late = code or "in_progress"
        assert [look["status"] for look in looks] == [late, late, "succeeded"]
        assert ["output" in look for look in looks] == [False, False, True]

    play(scene, with_faults(Fault(Kind.RESULT_LATE, code=code, count=2)))


@pytest.mark.parametrize("shape", OUTPUT_SHAPES)
def test_output_comes_in_every_shape(shape: str) -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        first, second = (
            f"{caller.simulator.origin}/files/{request_id}{which}.mp4" for which in ("", ".2")
        )
        expected = {
            "object": {"video": first},
            "videos": {"videos": [first, second]},
            "string": first,
            "list": [first, second],
            "mixed": {"image": first.replace("mp4", "jpg"), "videos": [first, second]},
            "none": {},
        }
        assert (await caller.result(request_id))["output"] == expected[shape]
        _, one, _ = await caller.ask("GET", first)
        _, two, _ = await caller.ask("GET", second)
        assert one != two

        by_fault = await caller.submit(f"[[fault:output={shape}]]")
        caller.simulator.settings = Settings(output="object", outputs=2)
        told = (await caller.result(by_fault))["output"]
        assert json.dumps(told).replace(by_fault, request_id) == json.dumps(expected[shape])

    play(scene, Settings(output=shape, outputs=2))


def test_results_can_echo_inputs_leave_times_out_and_use_other_words() -> None:
    async def scene(caller: Caller) -> None:
        result = await caller.result(await caller.submit())
        assert result["input"] == INPUTS
        assert not {"created_at", "finished_at"} & result.keys()
        assert result["status"] == "COMPLETED"
        assert "cost" not in await caller.result(result["request_id"], cost=True)

    play(scene, Settings(echo_inputs=True, times_stated=False, synonyms=True, cost_stated=False))


# Looks that go wrong


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Kind.LOOK_504, 504),
        (Kind.LOOK_500, 500),
        (Kind.LOOK_404, 404),
        (Kind.LOOK_429, 429),
        (Kind.LOOK_HTML, 200),
    ],
)
def test_a_look_goes_wrong_and_the_next_one_does_not(kind: Kind, status: int) -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        path = f"/v1/requests/{request_id}/result"
        seen, body, _ = await caller.ask("GET", path)
        assert seen == status
        assert isinstance(body, bytes) is (kind in (Kind.LOOK_504, Kind.LOOK_HTML))
        assert caller.simulator.counters.untold == 1
        assert (await caller.result(request_id))["status"] == "succeeded"

    play(scene, with_faults(Fault(kind, nth=(1,))))


def test_a_look_can_be_cut() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
            await caller.result(request_id)

    play(scene, with_faults(Fault(Kind.LOOK_DROP)))


def test_a_look_can_be_slow() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        looking = asyncio.create_task(caller.result(request_id))
        await caller.simulator.until(lambda counters: counters.result_looks == 1)
        assert (await caller.result(request_id))["status"] == "succeeded"
        assert not looking.done()
        looking.cancel()

    play(scene, with_faults(Fault(Kind.LOOK_SLOW, nth=(1,), seconds=60)))


# Files that go wrong


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Kind.FILE_403, 403),
        (Kind.FILE_404, 404),
        (Kind.FILE_410, 410),
        (Kind.FILE_500, 500),
        (Kind.FILE_HTML, 200),
        (Kind.FILE_EMPTY, 200),
        (Kind.FILE_WRONG_LENGTH, 200),
    ],
)
def test_a_file_is_wrong_at_first(kind: Kind, status: int) -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        path = f"/files/{request_id}.mp4"
        whole = clip_bytes(f"{request_id}.mp4")
        for _ in range(2):
            seen, body, headers = await caller.ask("GET", path)
            assert seen == status
            assert int(headers["Content-Length"]) == len(body)
            if kind is Kind.FILE_EMPTY:
                assert body == b""
            elif kind is Kind.FILE_WRONG_LENGTH:
                assert body == whole[: len(whole) // 2]
            else:
                assert headers["Content-Type"].startswith("text/html")
        assert (await caller.ask("GET", path))[:2] == (200, whole)

    assert play(scene, with_faults(Fault(kind, nth=(1, 2)))).entries[0].fetches == 3


def test_a_file_can_be_cut_off() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit("[[fault:file_truncated*1]]")
        async with caller.session.get(f"{caller.simulator.origin}/files/{request_id}.mp4") as seen:
            assert seen.content_length == len(clip_bytes(f"{request_id}.mp4"))
            with pytest.raises(aiohttp.ClientPayloadError):
                await seen.read()
        assert (await caller.ask("GET", f"/files/{request_id}.mp4"))[0] == 200

        request_id = await caller.submit("[[fault:file_drop]]")
        with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
            await caller.ask("GET", f"/files/{request_id}.mp4")

    play(scene)


def test_a_file_can_come_without_length_slowly_or_from_elsewhere() -> None:
    async def scene(caller: Caller) -> None:
        kinds = (Kind.FILE_NO_LENGTH, Kind.FILE_SLOW, Kind.FILE_REDIRECT)
        caller.simulator.settings = with_faults(
            *(Fault(kind, prompt=kind.value, seconds=0.01) for kind in kinds)
        )
        for kind in kinds:
            request_id = await caller.submit(kind.value)
            whole = clip_bytes(f"{request_id}.mp4")
            status, body, headers = await caller.ask("GET", f"/files/{request_id}.mp4")
            if kind is Kind.FILE_REDIRECT:
                assert status == 302
                status, body, _ = await caller.ask("GET", headers["Location"])
            assert (status, body) == (200, whole)
            assert ("Content-Length" in headers) is (kind is not Kind.FILE_NO_LENGTH)

    play(scene)


def test_a_link_dies_and_a_fresh_result_has_a_fresh_one() -> None:
    clock = Clock()

    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        old = (await caller.result(request_id))["output"]["video"]
        assert (await caller.ask("GET", old))[0] == 200
        clock.now += 60
        assert (await caller.ask("GET", old))[0] == 403
        fresh = (await caller.result(request_id))["output"]["video"]
        assert (await caller.ask("GET", fresh))[0] == 200
        assert (await caller.ask("GET", fresh.partition("?")[0]))[0] == 403

    play(scene, Settings(link_life_s=60), clock=clock)


# The whole service


def test_a_service_that_is_down_answers_with_a_page() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        caller.simulator.settings = Settings(down=True)
        for method, path in (
            ("POST", f"/v1/models/{MODEL}"),
            ("GET", f"/v1/requests/{request_id}/result"),
            ("GET", f"/files/{request_id}.mp4"),
        ):
            status, body, _ = await caller.ask(method, path)
            assert (status, body[:9]) == (503, b"<!DOCTYPE")

    assert play(scene).counters.posts == 1


def test_a_service_goes_away_and_comes_back_on_its_port_with_its_books() -> None:
    async def scene(caller: Caller) -> None:
        request_id = await caller.submit()
        await caller.simulator.down()
        with pytest.raises(aiohttp.ClientConnectorError):
            await caller.post()
        await caller.simulator.up()
        assert (await caller.result(request_id))["status"] == "succeeded"

    assert len(play(scene).entries) == 1


def test_faults_are_switched_over_http() -> None:
    async def scene(caller: Caller) -> None:
        changes = {
            "faults": [{"kind": "throttle", "times": 1}],
            "run_s": [1, 2],
            "queue_s": 0,
            "models": [MODEL],
        }
        status, now, _ = await caller.ask("POST", "/faults", body=changes)
        assert (status, now["run_s"], now["faults"][0]["kind"]) == (200, [1, 2], "throttle")
        assert "token" not in now
        assert (await caller.post())[0] == 429
        await caller.submit()
        assert (await caller.ask("GET", "/faults"))[1] == now

        mistakes: tuple[Any, ...] = (
            {"gremlins": 1},
            {"slots": "many"},
            {"down": 1},
            {"run_s": [2, 1]},
            {"output": "cube"},
            {"faults": [{"kind": "gremlins"}]},
            {"faults": [{"rate": 1}]},
            {"faults": [{"kind": "lost", "nth": ["1"]}]},
            {"refuse_for_s": "long"},
            [],
        )
        for wrong in mistakes:
            status, body, _ = await caller.ask("POST", "/faults", body=wrong)
            assert status == 400, wrong
            assert body["message"]
        assert as_json(caller.simulator.settings)["run_s"] == (1, 2)

    play(scene)


def test_an_absence_is_switched_over_http() -> None:
    async def scene(caller: Caller) -> None:
        assert (await caller.ask("POST", "/faults", body={"refuse_for_s": 0.1}))[0] == 200
        refused = 0
        while not refused:
            try:
                await caller.ask("GET", "/ledger")
            except aiohttp.ClientError:
                refused += 1
        while True:
            try:
                await caller.ask("GET", "/ledger")
                break
            except aiohttp.ClientError:
                refused += 1
        await caller.submit()

    play(scene)


def test_the_ledger_is_told_over_http() -> None:
    async def scene(caller: Caller) -> None:
        first = await caller.submit("one")
        await caller.submit("[[fault:generation]]")
        await caller.ask("GET", f"/files/{first}.mp4")
        status, body, _ = await caller.ask("GET", "/ledger")
        assert status == 200
        assert body == json.loads(json.dumps(caller.simulator.ledger.as_json()))
        assert body["requests"][0]["inputs"]["promptText"] == "one"
        assert [entry["state"] for entry in body["requests"]] == ["succeeded", "failed"]
        assert [entry["faults"] for entry in body["requests"]] == [[], ["generation"]]
        assert body["counters"]["accepted"] == 2
        assert body["counters"]["file_fetches"] == 1

    play(scene)


def test_an_unknown_address_is_a_page() -> None:
    async def scene(caller: Caller) -> None:
        for method, path in (
            ("GET", "/"),
            ("POST", "/v2/models/x"),
            ("DELETE", "/v1/requests/x/cancel"),
            ("GET", "/files/unheard-of.mp4"),
        ):
            assert (await caller.ask(method, path))[0] == 404
        assert (await caller.ask("PUT", f"/v1/models/{MODEL}"))[0] == 405
        assert (await caller.ask("PUT", "/files/x.mp4"))[0] == 405
        assert (await caller.ask("PUT", "/faults"))[0] == 405

    play(scene)


def test_a_rate_shows_its_share_of_faults() -> None:
    async def scene(caller: Caller) -> None:
        seen = Counter([(await caller.post())[0] for _ in range(200)])
        assert 30 <= seen[429] <= 70

    play(scene, Settings(seed=1, faults=(Fault(Kind.THROTTLE, rate=0.25),)))


# Settings


def test_every_kind_has_a_stage_and_markers_know_it() -> None:
    for kind in Kind:
        code = "=list" if kind is Kind.OUTPUT else ""
        assert [fault.kind for fault in marked(f"a [[fault:{kind.value}{code}]] b")] == [kind]
    assert Counter(STAGES.values()).keys() == set(Stage)
    assert STAGES[Kind.GATEWAY_404] is Stage.REFUSE
    assert STAGES[Kind.SLOW] is Stage.SPOIL
    assert STAGES[Kind.OUTPUT] is Stage.GENERATE


def test_settings_survive_their_own_json() -> None:
    settings = Settings(
        token="secret",
        run_s=(1.0, 2.0),
        models=frozenset({"a", "b"}),
        faults=(Fault(Kind.LOST, rate=0.5, nth=(1, 2), prompt="fox", times=3),),
    )

    written = json.loads(json.dumps(as_json(settings)))

    assert changed(Settings(token="secret"), written) == settings


@pytest.mark.parametrize(
    "wrong",
    [{"output": "cube"}, {"error_shape": "cube"}, {"token_status": 500}],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="none of"):
        Settings(**wrong)


# Beside something else


def test_the_service_runs_in_a_thread_and_its_books_outlive_it() -> None:
    async def submit() -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{handle.base}/models/{MODEL}", json=INPUTS) as response,
        ):
            return response.status

    with start_in_thread(Settings(run_s=(99, 99))) as handle:
        assert asyncio.run(submit()) == 200
        handle.wait_until(lambda counters: counters.accepted == 1)
        assert handle.ledger.entries[0].state == "in_progress"
        handle.finish_all()
        assert handle.ledger.entries[0].state == "succeeded"
        handle.settings = replace(handle.settings, down=True)
        assert asyncio.run(submit()) == 503
        handle.down()
        with pytest.raises(aiohttp.ClientConnectorError):
            asyncio.run(submit())
        handle.up()
        assert asyncio.run(submit()) == 503
        with pytest.raises(TimeoutError):
            handle.wait_until(lambda counters: counters.accepted == 2, timeout_s=0.01)

    handle.stop()
    assert handle.counters.accepted == 1
    assert handle.settings.down


def test_a_taken_port_is_an_error_where_it_was_asked_for() -> None:
    with start_in_thread() as handle, pytest.raises(OSError, match="address already in use"):
        start_in_thread(port=int(handle.origin.rpartition(":")[2]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_ends_with_a_signal(number: signal.Signals) -> None:
    program = (
        "from batchgen.providers.simulator import serve\n"
        "ledger = serve(ready=lambda base: print(base, flush=True))\n"
        "print(ledger.counters.accepted)"
    )
    process = forked.Piped(["-c", program], os.environ, Path.cwd())
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "0\n"
    assert process.returncode == 0
