"""The report as one HTML file: no request to anywhere, nothing of others' that runs.

All of its text is escaped by Jinja, or travels as JSON that only `textContent` ever shows. A
content security policy lets nothing run but the style and the script that are shipped here,
known by their digests, and nothing be fetched but clips that lie beside the page.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from batchgen.domain.states import JobState
from batchgen.domain.wording import usd
from batchgen.pages import words
from batchgen.pages.drawing import draw
from batchgen.pages.interface import Card, Report

_MARK = '<meta name="generator" content="batchgen report">'
_MARK_CHARACTERS = 400  # from the start, in which the mark stands
_POSTERS_A_BLOCK = 40


def is_report(start: str) -> bool:
    """Return whether the first characters of a file show that it is a page of ours."""
    return _MARK in start[:_MARK_CHARACTERS]


def render(report: Report) -> Iterator[str]:
    """Yield the page in pieces."""
    style, script = _asset("report.css"), _asset("report.js")
    page = _environment().get_template("report.html.j2")
    yield from page.generate(
        report=report,
        mark=Markup(_MARK),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        states=[(state, report.counts[state]) for state in _ORDER if report.counts.get(state)],
        jobs=sum(report.counts.values()),
        clips=report.counts.get(JobState.SUCCEEDED, 0),
        drawing=None if report.timeline is None else draw(report.timeline),
        totals=words.totals(report.money),
        data=_island(_data(report)),
        posters=_posters(report.posters),
    )


_ORDER = (
    JobState.SUCCEEDED,
    JobState.DOWNLOADING,
    JobState.RUNNING,
    JobState.SUBMITTING,
    JobState.PENDING,
    JobState.IN_DOUBT,
    JobState.EXPIRED,
    JobState.FAILED,
    JobState.CANCELLED,
)
"""States as people count them: what is done, what is under way, what went wrong."""


@cache
def _asset(name: str) -> str:
    return files("batchgen.pages").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    return environment


def _policy(style: str, script: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(style)}'",
            f"script-src '{_digest(script)}'",
            # Clips beside the page, wherever it lies; `'self'` alone is nothing for a file.
            "img-src data: 'self' file:",
            "media-src 'self' file:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _island(value: Any) -> Markup:
    """Return JSON that can stand in a script element: no character in it ends that."""
    said = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        said = said.replace(character, f"\\u{ord(character):04x}")
    return Markup(said)


def _posters(posters: Sequence[bytes]) -> Iterator[Markup]:
    """Yield the pictures in blocks, of which the page opens those that are looked at."""
    for start in range(0, len(posters), _POSTERS_A_BLOCK):
        block = posters[start : start + _POSTERS_A_BLOCK]
        yield _island([base64.b64encode(one).decode() for one in block])


def _data(report: Report) -> Mapping[str, Any]:
    """Return what the gallery shows; names and models once, so that a page stays small."""
    batches = list(dict.fromkeys(card.batch for card in report.cards))
    models = list(dict.fromkeys(card.model for card in report.cards))
    return {
        "columns": list(report.columns),
        "facets": list(report.facets),
        "batches": batches,
        "models": models,
        "database": report.database_words,
        "postersABlock": _POSTERS_A_BLOCK,
        "cards": list(_cards(report.cards, batches, models)),
    }


def _cards(cards: Iterable[Card], batches: list[str], models: list[str]) -> Iterator[Any]:
    batch_at = {name: at for at, name in enumerate(batches)}
    model_at = {name: at for at, name in enumerate(models)}
    for card in cards:
        found = {
            "key": card.key,
            "label": card.label,
            "batch": batch_at[card.batch],
            "state": str(card.state),
            "model": model_at[card.model],
            "prompt": card.prompt,
            "cells": list(card.cells),
            # As text: JavaScript's numbers end at 2**53.
            "seed": None if card.seed is None else str(card.seed),
            "cost": None
            if card.cost is None
            else usd(card.cost.micros, is_estimate=card.cost.is_estimate),
            "micros": 0 if card.cost is None else card.cost.micros,
            "queued": card.queued_s,
            "run": card.run_s,
            "at": card.at_ms,
            "files": [
                [file.href, file.name, file.kind, words.size(file.size_bytes), file.is_there]
                for file in card.files
            ],
            "poster": card.poster,
            "clip": card.clip_s,
            "size": [card.width, card.height] if card.width else None,
            "why": card.error_class,
            "error": card.error,
        }
        yield {name: value for name, value in found.items() if value not in (None, "", [])}
