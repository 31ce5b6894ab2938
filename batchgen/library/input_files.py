"""How input files of stored jobs get to the service: by what their batch has kept of its models."""

from collections.abc import Callable, Mapping
from typing import Any

from batchgen.domain.errors import InputUnusable
from batchgen.domain.jobs import Model
from batchgen.inputs.sending import Place, Sender, Wanted
from batchgen.library.known_models import known_models
from batchgen.manifests.media import urls_at
from batchgen.manifests.snapshots import remembered
from batchgen.store import reads
from batchgen.store.database import Database

LINK_S = 24 * 3600
"""How long a link to an input file opens it, unless the user says otherwise."""


class KeptModels:
    """The models of stored jobs, as their batches have kept them; each is looked for once."""

    def __init__(
        self,
        load_models: Callable[[], Mapping[str, Model]],
        load_schema: Callable[[int, str], Mapping[str, Any] | None] = lambda batch_id, model: None,
    ) -> None:
        """Load the models only when first asked: most runs never are.

        Args:
            load_models: Returns the models that are known today.
            load_schema: Returns what a batch has kept of a model.
        """
        self._load_models = load_models
        self._load_schema = load_schema
        self._known: Mapping[str, Model] | None = None
        self._models: dict[tuple[int, str], Model | None] = {}

    def of(self, batch_id: int, name: str) -> Model | None:
        """Return a model as a batch has kept it, None if nobody knows it."""
        if (batch_id, name) in self._models:
            return self._models[batch_id, name]
        if self._known is None:
            self._known = self._load_models()
        known = self._known[name] if name in self._known else None  # noqa: SIM401 - see snapshots
        stored = self._load_schema(batch_id, name)
        model = known if stored is None else remembered(name, stored, known=known)
        self._models[batch_id, name] = model
        return model


def sender_of(database: Database, *, link_s: int = LINK_S, pretends: bool = False) -> Sender:
    """Return what sends the input files of a job database's jobs.

    Args:
        database: Opened and current.
        link_s: How long a link opens its file, seconds.
        pretends: The service fetches nothing: nothing is uploaded, asked or read.
    """

    def kept(batch_id: int, model: str) -> Mapping[str, Any] | None:
        with database.reading() as tx:
            return reads.kept_schema(tx, batch_id, model)

    models = KeptModels(known_models, kept)

    def places(job: Wanted) -> list[Place]:
        model = models.of(job.batch_id, job.model)
        if model is None:  # nobody knows which of its inputs are files
            raise InputUnusable(f"the model {job.model} is not known any more: fetch it, or add it")
        return list(urls_at(model, job.inputs))

    return Sender(places, link_s=link_s, pretends=pretends)
