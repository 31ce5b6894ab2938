import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forked
from cli.commands import call

MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
INPUTS = {"promptImage": "https://images.example.com/a.jpg", "promptText": "a"}


@contextmanager
def served(*words: str) -> Iterator[tuple[str, forked.Piped]]:
    process = forked.Piped([*forked.BATCHGEN, "simulate", *words], os.environ, Path.cwd())
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.close()


def ask(url: str, body: Any = None, *, token: str = "good") -> tuple[int, Any]:
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_it_serves_as_it_was_told_and_ends_at_ctrl_c() -> None:
    words = "--token good --run-s 0 --wallet 0.30 --price 0.06 --echo-inputs --outputs 2"
    with served(*words.split()) as (base, process):
        assert process.stdout.readline() == f"export RUNCOMFY_MODEL_API_BASE={base}\n"
        assert ask(f"{base}/models/{MODEL}", INPUTS, token="bad")[0] == 401
        status, accepted = ask(f"{base}/models/{MODEL}", INPUTS)
        assert status == 200
        status, result = ask(f"{base}/requests/{accepted['request_id']}/result?include_cost=true")
        assert status == 200
        assert float(result["cost"]) == 0.3
        assert len(result["output"]["videos"]) == 2
        assert INPUTS["promptImage"] in json.dumps(result)
        assert ask(f"{base}/models/{MODEL}", INPUTS)[1]["error_code"] in (400002, "400002")

        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)

    assert process.returncode == 0
    assert "1 request accepted" in said


def test_every_flag_reaches_the_service() -> None:
    words = (
        "--seed 7 --queue-s 1-2 --run-s 3 --slots 2 --max-in-flight 5 --submits-per-s 6 "
        "--charge-failed --clip-bytes 5000 --link-life-s 9 --strict --fail-rate 0.5 "
        "--fault drop_after=0.25 --fault throttle"
    )
    with served(*words.split()) as (base, _):
        refused, _ = ask(f"{base}/models/{MODEL}", INPUTS)
        _, settings = ask(base.removesuffix("/v1") + "/faults")

    assert refused == 429
    assert {
        "seed": 7,
        "queue_s": [1, 2],
        "run_s": [3, 3],
        "slots": 2,
        "max_in_flight": 5,
        "submits_per_s": 6,
        "charge_failed": True,
        "clip_bytes": 5000,
        "link_life_s": 9,
        "strict": True,
        "recognise_earlier": True,
        "wallet_micros": None,
    }.items() <= settings.items()
    assert [(fault["kind"], fault["rate"]) for fault in settings["faults"]] == [
        ("drop_after", 0.25),
        ("throttle", None),
        ("generation", 0.5),
    ]


def test_a_taken_port_is_told() -> None:
    with served() as (base, _):
        port = base.removeprefix("http://127.0.0.1:").removesuffix("/v1")

        done = call("simulate", "--port", port)

    assert done.code == 2
    assert "--port" in done.err
