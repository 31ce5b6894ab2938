"""The gallery: each job with its clip, its words, and the columns that its row came with."""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from batchgen.downloads.destination import clip_path, folder_of
from batchgen.downloads.destinations import Destinations
from batchgen.pages.interface import Amount, Card, File
from batchgen.posters import Source
from batchgen.store.reads import JobRow

_CELL_CHARACTERS = 2000
_MOST_CHOICES = 24  # values of a column that can be chosen from
_CHOICE_CHARACTERS = 60
_KINDS = {
    "video": {"mp4", "m4v", "mov", "webm", "mkv", "ogv", "avi", "mpg", "wmv", "flv"},
    "image": {"png", "jpg", "jpeg", "gif", "webp", "avif", "heic"},
    "audio": {"mp3", "wav", "m4a", "ogg", "flac"},
}
_TEXT_NAME = re.compile("prompt|text|caption|description", re.IGNORECASE)
_NOT_WANTED = re.compile("negative", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*:(?://|\S+,)", re.IGNORECASE)


class Place:
    """Where clips and the page lie.

    Args:
        root: The job database's folder, from which relative output folders start.
        page: The folder of the page.
        signed_s: For how long clips in a bucket are linked; None for not at all.
    """

    def __init__(self, root: Path, page: Path, signed_s: int | None = None) -> None:
        self._root, self._page, self._signed_s = root, page, signed_s
        self._destinations = Destinations(root)

    def path(self, output_dir: str, name: str) -> Path | None:
        """Return where a clip lies; None if it is in a bucket."""
        folder = folder_of(self._root, output_dir)
        return None if folder is None else folder / name

    def href(self, path: Path) -> str:
        """Return a clip as a link from the page.

        Links are kept as they are: a browser goes by names too.
        """
        way = os.path.relpath(os.path.abspath(path), os.path.abspath(self._page))  # noqa: PTH100
        return quote(way)

    def signed(self, output_dir: str, name: str) -> str:
        """Return a link to a clip in a bucket, "" if none is wanted."""
        if self._signed_s is None:
            return ""
        return self._destinations.of(output_dir).link(name, self._signed_s) or ""


def columns_of(known: Iterable[str], rows: Iterable[JobRow]) -> list[str]:
    """Return the users' columns in order: those of the manifests, then others that rows have."""
    return list(dict.fromkeys([*known, *(name for row in rows for name in row.cells)]))


def facets_of(columns: Sequence[str], cards: Sequence[Card]) -> list[int]:
    """Return which columns, by their place, have values that are worth choosing from."""
    return [at for at in range(len(columns)) if _is_facet([card.cells[at] for card in cards])]


def _is_facet(values: Sequence[str | None]) -> bool:
    counted = Counter(value for value in values if value)
    if not 2 <= len(counted) <= _MOST_CHOICES or max(map(len, counted)) > _CHOICE_CHARACTERS:
        return False
    # Addresses are no words to choose from, and a column of names of their own is for the search.
    return not any("://" in value for value in counted) and max(counted.values()) > 1


def card(
    row: JobRow, columns: Sequence[str], place: Place, hide: Callable[[str], str]
) -> tuple[Card, Source | None]:
    """Return a job as it is shown, and its first file if a picture of it can be made."""
    files = [_file(row, clip, place, hide) for clip in row.files]
    source = None
    first = place.path(row.output_dir, row.files[0]["path"]) if row.files else None
    if first is not None and files[0].is_there and files[0].kind in ("video", "image"):
        source = Source(first, str(row.files[0].get("sha256")), files[0].size_bytes)
    has_cost = row.charged_micros is not None
    return Card(
        key=row.key,
        label=hide(row.label),
        batch=hide(row.batch),
        state=row.state,
        model=hide(row.model),
        prompt=hide(prompt_of(row.inputs)),
        cells=[_cell(row.cells.get(name), hide) for name in columns],
        seed=row.seed,
        cost=Amount(row.charged_micros or 0, row.cost_is_estimate) if has_cost else None,
        queued_s=_seconds(row.accepted_ms, row.started_ms),
        run_s=_run_s(row),
        at_ms=row.finished_ms or row.updated_ms,
        files=files,
        error_class=row.error_class or "",
        error=hide(row.error or "")[:_CELL_CHARACTERS],
    ), source


def _file(row: JobRow, clip: Mapping[str, Any], place: Place, hide: Callable[[str], str]) -> File:
    name, size_bytes = str(clip["path"]), clip.get("size_bytes") or 0
    path = place.path(row.output_dir, name)
    if path is not None:
        return File(place.href(path), hide(name), _kind(path), size_bytes, path.is_file())
    # Whether each is still there is not asked: the page may show thousands.
    href = place.signed(row.output_dir, name)
    shown = hide(clip_path(row.output_dir, name))
    return File(href, shown, _kind(Path(name)) if href else "far", size_bytes, is_there=True)


def prompt_of(inputs: Mapping[str, Any]) -> str:
    """Return the text among a job's inputs that says what the clip shows; "" if there is none."""
    texts = {
        name: value
        for name, value in inputs.items()
        if isinstance(value, str) and not _URL.match(value) and not _NOT_WANTED.search(name)
    }
    named = [value for name, value in texts.items() if _TEXT_NAME.search(name)]
    return max(named, key=len, default="")


def _kind(path: Path) -> str:
    suffix = path.suffix.lower().removeprefix(".")
    return next((kind for kind, suffixes in _KINDS.items() if suffix in suffixes), "other")


def _cell(value: Any, hide: Callable[[str], str]) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)
    said = hide(value)
    return said if len(said) <= _CELL_CHARACTERS else said[:_CELL_CHARACTERS] + "…"


def _run_s(row: JobRow) -> float | None:
    if row.run_ms is not None:
        return row.run_ms / 1000
    return _seconds(row.started_ms or row.accepted_ms, row.closed_ms)


def _seconds(begin_ms: int | None, end_ms: int | None) -> float | None:
    if begin_ms is None or end_ms is None:
        return None
    return max(0, end_ms - begin_ms) / 1000
