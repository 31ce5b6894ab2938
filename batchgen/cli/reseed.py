"""Another seed for a job that is bought again."""

import random
from collections.abc import Callable, Mapping

from batchgen.domain.expansion import another_seed
from batchgen.domain.jobs import Model
from batchgen.store.jobs import Job, NewSeed


class Reseed:
    """Draws seeds within the bounds of a job's model."""

    def __init__(self, load_models: Callable[[], Mapping[str, Model]]) -> None:
        """Load the models only when first asked: most runs never are."""
        self._load_models = load_models
        self._draw = random.SystemRandom().randint
        self._models: Mapping[str, Model] | None = None

    def __call__(self, job: Job) -> NewSeed | None:
        """Return what is sent instead, None if the model takes no other seed or is not known."""
        if self._models is None:
            self._models = self._load_models()
        model = self._models.get(job.model)
        found = another_seed(job.inputs, model=model, draw=self._draw) if model else None
        return None if found is None else NewSeed(*found)
