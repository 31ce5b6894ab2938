"""Another seed for a job that is bought again."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from batchgen.domain.expansion import another_seed
from batchgen.domain.jobs import Model
from batchgen.manifests.snapshots import remembered
from batchgen.store.jobs import Job, NewSeed

LoadSchema = Callable[[int, str], Mapping[str, Any] | None]


class Reseed:
    """Draws seeds within the bounds of a job's model, as its batch has kept it."""

    def __init__(
        self,
        load_models: Callable[[], Mapping[str, Model]],
        load_schema: LoadSchema = lambda batch_id, model: None,
    ) -> None:
        """Load the models only when first asked: most runs never are.

        Args:
            load_models: Returns the models that are known today.
            load_schema: Returns what a batch has kept of a model.
        """
        self._load_models = load_models
        self._load_schema = load_schema
        self._draw = random.SystemRandom().randint
        self._known: Mapping[str, Model] | None = None
        self._models: dict[tuple[int, str], Model | None] = {}

    def __call__(self, job: Job) -> NewSeed | None:
        """Return what is sent instead, None if the model takes no other seed or is not known."""
        return self.of(job.batch_id, job.model, job.inputs)

    def of(self, batch_id: int, name: str, inputs: Mapping[str, Any]) -> NewSeed | None:
        """Return that of inputs of a model, as its batch has kept it."""
        model = self.model(batch_id, name)
        found = another_seed(inputs, model=model, draw=self._draw) if model else None
        return None if found is None else NewSeed(*found)

    def model(self, batch_id: int, name: str) -> Model | None:
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
