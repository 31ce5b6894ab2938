"""The models batchgen knows: those that ship with it, those of the user, those it has fetched.

A model is one file. Only its id is read at first, so that a command which needs one model
parses one. Of several files with the same id the user's own wins, then the fetched one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import resources
from pathlib import Path

from batchgen.domain.errors import Fault, ManifestError
from batchgen.domain.jobs import Model
from batchgen.domain.models import id_problem
from batchgen.manifests.model_files import checked_model, fault, parse_model, parsed, text_of

_YAML_ID = re.compile(
    r"^id:[ \t]*(?P<quote>[\"']?)(?P<id>[^\s\"'#]+)(?P=quote)[ \t]*(?:#|$)", re.MULTILINE
)
_HEAD_BYTES = 2048
_JSON_ID = re.compile(r"\s*\{\s*\"id\":\s*\"(?P<id>[^\"\\]+)\"")


class Origin(StrEnum):
    """Where a model's file comes from."""

    YOURS = "yours"
    FETCHED = "fetched"
    SHIPPED = "shipped"


@dataclass(frozen=True)
class Folders:
    """Where models of this user are kept; None if there is no such place.

    Attributes:
        yours: Files that the user has added.
        fetched: What the service's catalog said, as it was last fetched.
    """

    yours: Path | None = None
    fetched: Path | None = None


@dataclass(frozen=True)
class Place:
    """Where a model stands.

    Attributes:
        path: Its file.
        origin: Whose it is.
        hides: Others of the same id that it wins over.
    """

    path: Path
    origin: Origin
    hides: tuple[Origin, ...] = ()


class Catalog(Mapping[str, Model]):
    """The known models by id; a file is parsed when its model is first asked for.

    Attributes:
        places: Where each model stands, by id.
        broken: Files whose id cannot be read, and why.
    """

    def __init__(self, folders: Folders | None = None) -> None:
        folders = folders or Folders()
        self.places: dict[str, Place] = {}
        self.broken: list[Fault] = []
        self._models: dict[str, Model] = {}
        shipped = Path(str(resources.files("batchgen").joinpath("models")))
        for folder, origin in (
            (folders.yours, Origin.YOURS),
            (folders.fetched, Origin.FETCHED),
            (shipped, Origin.SHIPPED),
        ):
            if folder is not None:
                self._look_into(folder, origin)

    def __getitem__(self, name: str) -> Model:
        """Return a model.

        Raises:
            KeyError: If there is none of this id.
            ManifestError: If its file is broken, or one that might hold it.
        """
        if name not in self._models:
            if name not in self.places:
                if self.broken:
                    raise ManifestError(self.broken)
                raise KeyError(name)
            self._models[name] = self._read(name, self.places[name])
        return self._models[name]

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.places))

    def __len__(self) -> int:
        return len(self.places)

    def __eq__(self, other: object) -> bool:
        return self is other  # comparing the models would parse them all

    __hash__ = object.__hash__

    def _look_into(self, folder: Path, origin: Origin) -> None:
        try:
            paths = sorted(
                path for path in folder.iterdir() if path.suffix in (".yaml", ".yml", ".json")
            )
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.broken.append(fault(folder, f"cannot be read: {error.strerror}"))
            return
        for path in paths:
            if not path.name.startswith("."):
                self._index(path, origin)

    def _index(self, path: Path, origin: Origin) -> None:
        try:
            name = _id_of(path)
        except ManifestError as error:
            self.broken += error.faults
            return
        known = self.places.get(name)
        if known is None:
            self.places[name] = Place(path, origin)
        elif known.origin is origin:
            self.broken.append(
                fault(path, f"describes {name}, as {known.path.name} does: remove one of them")
            )
        else:
            self.places[name] = replace(known, hides=(*known.hides, origin))

    def _read(self, name: str, place: Place) -> Model:
        text, file = text_of(place.path), str(place.path)
        if place.origin is Origin.SHIPPED:
            return parse_model(text, file=file)
        model = checked_model(parsed(text, file=file), file=file)
        if model.id != name:
            raise ManifestError([fault(place.path, f"calls itself both {name} and {model.id}")])
        return model


def load_models(folders: Folders | None = None) -> Catalog:
    """Return every known model by its id, those that ship with batchgen at least."""
    return Catalog(folders)


def _head_of(path: Path) -> str:
    # Hundreds of models may have been fetched: all their heads are read by every command.
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ManifestError([fault(path, f"cannot be read: {error.strerror}")]) from None


def _id_of(path: Path) -> str:
    head = _head_of(path)
    match = (_JSON_ID.match if path.suffix == ".json" else _YAML_ID.search)(head)
    if match and match.end() < len(head):
        return match["id"]
    said = parsed(text_of(path), file=str(path))
    model_id = said.get("id") if isinstance(said, dict) else None
    if not isinstance(model_id, str) or id_problem(model_id):
        raise ManifestError([fault(path, "has no id: it describes no model; correct or remove it")])
    return model_id
