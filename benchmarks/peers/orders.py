"""What every peer sends, and how it reads the answers; nothing but the standard library."""

import os
from typing import Any

MODEL = "runwayml/runway-gen-4/turbo/image-to-video"
TOKEN = os.environ.get("PEER_TOKEN", "benchmark")


class Wrong(RuntimeError):
    """A job did not succeed, so the figures of this run mean nothing."""


def submit_url(base: str) -> str:
    """Return where a job is sent."""
    return f"{base}/models/{MODEL}"


def result_url(base: str, request_id: str) -> str:
    """Return where its result is."""
    return f"{base}/requests/{request_id}/result?include_cost=true"


def body(number: int) -> dict[str, str]:
    """Return the inputs of a job."""
    return {
        "promptText": f"Boats leave the harbor at dawn, take {number}",
        "promptImage": f"https://images.example.com/harbor-{number}.jpg",
    }


def is_over(result: dict[str, Any]) -> bool:
    """Return whether a job has succeeded, False while it runs.

    Raises:
        Wrong: If it came to another end.
    """
    state = str(result.get("status", "")).lower()
    if state in ("completed", "succeeded"):
        return True
    if state not in ("in_queue", "in_progress"):
        raise Wrong(str(result))
    return False
