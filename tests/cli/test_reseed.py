"""Another seed for a job that is bought again."""

from collections.abc import Mapping
from pathlib import Path

from store.stored_jobs import Store

from batchgen.cli.reseed import Reseed
from batchgen.domain.jobs import Model
from batchgen.manifests import load_models


def test_models_are_loaded_when_a_seed_is_first_wanted_and_only_then(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fill(1)
    [job] = store.claim()
    loaded: list[int] = []

    def load() -> Mapping[str, Model]:
        loaded.append(1)
        return load_models()

    reseed = Reseed(load)
    before = list(loaded)
    found = [reseed(job) for _ in range(5)]
    store.close()

    assert (before, loaded) == ([], [1])
    assert len({one.seed for one in found if one}) == 5
    assert all(one and dict(one.inputs) == {**job.inputs, "seed": one.seed} for one in found)


def test_a_model_that_is_not_known_has_no_seed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.fill(1)
    [job] = store.claim()
    store.close()

    assert Reseed(dict)(job) is None
