"""Which input moderation refused, read from the failure code.

Runway's codes are SAFETY.INPUT.TEXT, SAFETY.INPUT.IMAGE, INPUT_PREPROCESSING.SAFETY.TEXT and
SAFETY.OUTPUT.*; further third parts are only diagnostic, so one that is unknown names nothing
(docs.dev.runwayml.com, task failures).
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from batchgen.domain.jobs import Inputs

_MEDIA = re.compile(r"[a-z][a-z0-9+.-]*://|data:", re.IGNORECASE)
_MEDIA_PARTS = ("IMAGE", "VIDEO", "AUDIO")
_TEXT_NAME = re.compile("prompt|text|caption|description", re.IGNORECASE)


def explain_refusal(code: str | None, said: str, *, inputs: Inputs, settings: str) -> str:
    """Return what moderation refused, with the input's name, and what the service said of it.

    Args:
        code: The service's failure code.
        said: Its own words.
        inputs: What was sent.
        settings: `identity.settings_of` them: choices are no texts. "" if it is not known.
    """
    return f"moderation refused {_refused(code or '', inputs, settings)}: {said}"


def _refused(code: str, inputs: Inputs, settings: str) -> str:
    parts = code.upper().split(".")
    kind = parts[-1]
    if "OUTPUT" in code.upper():
        return "the generated clip"
    if kind == "TEXT":
        return _named("the text", _texts(inputs, settings))
    if kind in _MEDIA_PARTS:
        return _named(f"the {kind.lower()}", _media(inputs))
    if parts[0].startswith("INPUT") or "INPUT" in parts:
        return "an input"
    return "the request"


def _named(what: str, names: Iterator[str]) -> str:
    known = ", ".join(names)
    return f"{what} ({known})" if known else what


def _media(inputs: Inputs) -> Iterator[str]:
    return (name for name, value in inputs.items() if _is_media(value))


def _is_media(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_media, value))
    return isinstance(value, str) and _MEDIA.match(value) is not None


def _texts(inputs: Inputs, settings: str) -> Iterator[str]:
    chosen = json.loads(settings or "{}")
    names = [
        name
        for name, value in inputs.items()
        if isinstance(value, str) and not _is_media(value) and name not in chosen
    ]
    # A choice that equals its default is not in the settings, so a telling name goes first.
    telling = [name for name in names if _TEXT_NAME.search(name)]
    return iter(telling or names)
