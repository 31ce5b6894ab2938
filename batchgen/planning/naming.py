"""How the clips of a batch are named: by what is known of each job when its name is reserved."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from batchgen.domain.errors import UsageError
from batchgen.domain.jobs import Model, encoded
from batchgen.domain.redaction import public_url, redact_text
from batchgen.domain.spelling import suggestion
from batchgen.downloads import names
from batchgen.store.additions import Batch

_INPUT, _META = "input.", "meta."
_EXTENSION = "mp4"  # until the file says otherwise
_DIGITS = 4  # of a row's number, so that files sort by it


class Named(NamedTuple):
    """What a clip may be named by; inputs and cells as they are stored."""

    row_id: str
    variant: str
    model: str
    position: int
    seed: int | None
    inputs_json: str
    cells_json: str
    key: str


class Naming:
    """The names of the clips of one batch, before they are made unique.

    Attributes:
        quick: Returns the name by id and variant, if nothing else counts; else None.
        needs_key: Whether a job's key is part of its name.
    """

    def __init__(self, batch: Batch, models: Mapping[str, Model]) -> None:
        self._batch = batch.name
        self._models = models
        self._template = names.parse_template(batch.name_template)
        fields = self._template.fields
        is_plain = set(fields) <= set(names.PLAIN_FIELDS)
        self.quick = names.renderer(self._template, batch=batch.name) if is_plain else None
        self.needs_key = "key" in fields

    def name(self, job: Named) -> str:
        """Return the name that a job's clip would have."""
        if self.quick is not None:
            return self.quick(job.row_id, job.variant)
        values = {
            "batch": self._batch,
            "id": job.row_id,
            "variant": job.variant,
            "ext": _EXTENSION,
            "seed": "" if job.seed is None else str(job.seed),
            "model": job.model,
            "key": job.key,
            "row": f"{job.position + 1:0{_DIGITS}}",
        }
        cells = json.loads(job.cells_json)
        for name in self._template.fields:
            if name not in values:
                found = cells[name] if name in cells else self._found(name, job, cells)
                values[name] = _text(found)
        return self._template.render(values)

    def _found(self, name: str, job: Named, cells: Mapping[str, Any]) -> Any:
        """Return what is no column under its own name."""
        if name.startswith(_META):
            return cells.get(name.removeprefix(_META))
        aliases = self._models[job.model].aliases if job.model in self._models else {}
        found = _inside(json.loads(job.inputs_json), aliases, name.removeprefix(_INPUT))
        return cells.get(f"{_META}{name}") if found is None else found


def check(template: str, columns: Sequence[str], models: Mapping[str, Model]) -> None:
    """Check that a name template has no field that no job has.

    Args:
        template: What `--name` says.
        columns: Of the manifest, and of the batch's earlier ones.
        models: That the manifest uses.

    Raises:
        UsageError: If it has; the message lists the fields.
    """
    inputs = {
        name: None for model in models.values() for name in (*_properties(model), *model.aliases)
    }
    known = list(dict.fromkeys([*names.FIELDS, *columns, *inputs]))
    for name in names.parse_template(template).fields:
        carried = name.removeprefix(_META)
        sent = name.removeprefix(_INPUT).partition(".")[0]
        if name in known or sent in inputs:
            continue
        if carried in columns or f"{_META}{name}" in columns:
            continue
        listed = ", ".join(f"{{{one}}}" for one in known)
        raise UsageError(
            f"--name {template!r}: unknown field {{{name}}}: {suggestion(name, known)}the fields "
            f"are {listed}"
        )


def _properties(model: Model) -> Mapping[str, Any]:
    found: Mapping[str, Any] = model.schema.get("properties", {})
    return found


def _inside(inputs: Mapping[str, Any], aliases: Mapping[str, str], name: str) -> Any:
    """Return an input, or a part of one: `camera.zoom`; None if there is none."""
    if name in inputs:
        return inputs[name]
    if name in aliases:
        return inputs.get(aliases[name])
    head, *rest = name.split(".")
    found: Any = inputs.get(aliases.get(head, head))
    for step in rest:
        if isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return redact_text(encoded(value))
    # A signature in a file's name would be seen by everybody.
    return public_url(value) if "://" in value else value
