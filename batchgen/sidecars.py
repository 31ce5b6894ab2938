"""Sidecars: beside each clip a JSON file with all that is needed to make it again.

What a person who finds the clip alone can use is in it: no key of a URL, no token. Its `manifest`
is one line of a JSON Lines manifest that asks for the same inputs.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchgen import __version__
from batchgen.domain.identity import job_label
from batchgen.domain.jobs import Model
from batchgen.domain.redaction import public_all, public_url
from batchgen.domain.states import JobState
from batchgen.downloads.destination import Destination, Room
from batchgen.downloads.fetch import KEPT_FREE_BYTES
from batchgen.downloads.folder import SIDECAR
from batchgen.exporters.interface import encoded, timestamp
from batchgen.manifests import ROW_WORDS
from batchgen.manifests.binding import INPUT, META, Binding
from batchgen.manifests.snapshots import remembered
from batchgen.manifests.values import Form
from batchgen.store import reads
from batchgen.store.database import Database
from batchgen.store.reads import JobRow

SCHEMA = "batchgen/sidecar/1"
_ANY_SCHEMA = "batchgen/sidecar/"


class Sidecars:
    """Writes the sidecars of one job database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bindings: dict[tuple[int, str], Binding | None] = {}

    def write(
        self, job_id: int, place: Destination, clips: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """Write the sidecars of a job's clips, over older ones of theirs.

        Args:
            job_id: The job.
            place: Where its clips are.
            clips: Its clips, if they are not recorded yet; None is what is recorded of a job
                that has succeeded, nothing of any other.

        Returns:
            "", or which could not be written because a file of that name is a stranger's.

        Raises:
            OutputError: If one cannot be written.
            StoreError: If the job cannot be read.
        """
        with self._database.reading() as tx:
            row = reads.job_row(tx, job_id)
        if row is None or (clips is None and row.state is not JobState.SUCCEEDED):
            return ""
        left = self._written(row, place, row.files if clips is None else clips, only_missing=False)
        return _said(left[1])

    def write_missing(self, row: JobRow, place: Destination) -> tuple[int, str]:
        """Write the sidecars that clips which are there do not have.

        Returns:
            How many were written, and what `write` returns.

        Raises:
            OutputError: If one cannot be written.
        """
        clips = [clip for clip in row.files if place.has(clip["path"])]
        written, left = self._written(row, place, clips, only_missing=True)
        return written, _said(left)

    def _written(
        self,
        row: JobRow,
        place: Destination,
        clips: Sequence[Mapping[str, Any]],
        *,
        only_missing: bool,
    ) -> tuple[int, list[str]]:
        written, left = 0, []
        for number, clip in enumerate(clips, start=1):
            name = f"{clip['path']}{SIDECAR}"

            def is_ours(found: bytes, path: str = clip["path"]) -> bool:
                return _is_of(found, row.key, path)

            if only_missing:
                there = place.read_beside(name)
                if there is not None and is_ours(there):
                    continue
            said = {**self._content(row), **_of_clip(clip, number, len(row.urls) or len(clips))}
            text = json.dumps(said, ensure_ascii=False, indent=2)
            room = Room(min_free_bytes=KEPT_FREE_BYTES)
            if place.write_beside(name, encoded(f"{text}\n"), is_ours=is_ours, room=room):
                written += 1
            else:
                left.append(name)
        return written, left

    def _content(self, row: JobRow) -> dict[str, Any]:
        binding = self._binding(row)
        inputs = public_all(row.inputs)
        return {
            "schema": SCHEMA,
            "batchgen": __version__,
            "batch": row.batch,
            "id": row.row_id,
            "variant": row.variant,
            "key": row.key,
            "version": row.version,
            "model": row.model,
            "prompt": _prompt(row.inputs, binding),
            "seed": row.seed,
            "inputs": inputs,
            "columns": public_all(row.cells),
            "manifest": _manifest_row(row, inputs, binding),
            "request_id": row.request_id,
            "cost_usd": _usd(row.charged_micros),
            "cost_is_estimate": row.cost_is_estimate,
            "stated_cost_usd": _usd(row.stated_micros),
            "submitted_at": _time(row.intent_ms),
            "started_at": _time(row.started_ms),
            "generated_at": _time(row.closed_ms),
            "run_s": None if row.run_ms is None else row.run_ms / 1000,
        }

    def _binding(self, row: JobRow) -> Binding | None:
        """Return which column was which input, as the batch has kept it."""
        at = (row.batch_id, row.model)
        if at not in self._bindings:
            with self._database.reading() as tx:
                stored = reads.kept_schema(tx, *at)
            model: Model | None = None if stored is None else remembered(row.model, stored)
            self._bindings[at] = None if model is None else Binding(Form(model))
        return self._bindings[at]


def _said(left: Sequence[str]) -> str:
    return f"{', '.join(left)}: a file of this name is there already, and stays" if left else ""


def _is_of(found: bytes, key: str, path: str) -> bool:
    """Whether a file is an older sidecar of this very clip."""
    try:
        said = json.loads(found)
    except ValueError:
        return False
    return (
        isinstance(said, dict)
        and str(said.get("schema")).startswith(_ANY_SCHEMA)
        and (said.get("key"), said.get("file")) == (key, Path(path).name)
    )


def _of_clip(clip: Mapping[str, Any], number: int, count: int) -> dict[str, Any]:
    url = clip.get("url")
    return {
        "file": Path(clip["path"]).name,
        "output": number,
        "outputs": count,
        "sha256": clip.get("sha256"),
        "size_bytes": clip.get("size_bytes"),
        "url": public_url(url) if isinstance(url, str) else None,
    }


def _prompt(inputs: Mapping[str, Any], binding: Binding | None) -> Any:
    aliases = {} if binding is None else binding.form.model.aliases
    return inputs.get(aliases.get("prompt", "prompt"))


def _manifest_row(
    row: JobRow, inputs: Mapping[str, Any], binding: Binding | None
) -> dict[str, Any]:
    """Return a row that asks for what was sent, and carries what the job's row carried."""
    carried: dict[str, Any] = {}
    for name, value in row.cells.items():
        target = None if binding is None else binding.of_column(name)
        if name.strip() in ROW_WORDS or value is None or (target and target.pair):
            continue
        is_plain = target is not None and target.problem is None
        carried[name if is_plain or name.startswith(META) else f"{META}{name}"] = value
    return {
        "id": job_label(row.row_id, row.variant),
        "model": row.model,
        **{f"{INPUT}{name}": value for name, value in inputs.items()},
        **public_all(carried),
    }


def _usd(micros: int | None) -> float | None:
    return None if micros is None else micros / 1_000_000


def _time(ms: int | None) -> str | None:
    return None if ms is None else timestamp(datetime.fromtimestamp(ms / 1000, UTC))
