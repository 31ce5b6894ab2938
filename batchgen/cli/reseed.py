"""Another seed for a job that is bought again."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from batchgen.domain.expansion import another_seed
from batchgen.domain.jobs import Model
from batchgen.library.input_files import KeptModels
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
        self._models = KeptModels(load_models, load_schema)
        self._draw = random.SystemRandom().randint

    def __call__(self, job: Job) -> NewSeed | None:
        """Return what is sent instead, None if the model takes no other seed or is not known."""
        return self.of(job.batch_id, job.model, job.inputs)

    def of(self, batch_id: int, name: str, inputs: Mapping[str, Any]) -> NewSeed | None:
        """Return that of inputs of a model, as its batch has kept it."""
        model = self._models.of(batch_id, name)
        found = another_seed(inputs, model=model, draw=self._draw) if model else None
        return None if found is None else NewSeed(*found)
