"""Small helpers to write manifests and to read them back as jobs."""

from pathlib import Path
from typing import Any

import pytest

from batchgen import manifests
from batchgen.domain.errors import ManifestError
from batchgen.domain.jobs import JobSpec

MODELS = manifests.load_models()
IMAGE = "https://images.example.com/a.jpg"


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def specs_of(path: Path, **options: Any) -> list[JobSpec]:
    checked = manifests.check(manifests.read(path), models=MODELS, **options)
    specs = list(checked.specs())
    assert len(specs) == checked.count
    assert specs == list(checked.specs())
    return specs


def faults_of(path: Path, **options: Any) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        specs_of(path, **options)
    return [str(fault).replace(str(path), path.name) for fault in caught.value.faults]
