"""What is shipped is what is here: the wheel holds every file that the program needs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    folder = tmp_path_factory.mktemp("dist")
    # The builder by itself, without pip: no environment of its own, so no download.
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with ZipFile(built) as archive:
        yield archive


def digests(wheel: ZipFile, prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): hashlib.sha256(wheel.read(name)).hexdigest()
        for name in wheel.namelist()
        if name.startswith(prefix)
    }


def digests_on_disk(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_ships_every_migration(wheel: ZipFile) -> None:
    shipped = digests(wheel, "batchgen/migrations/")

    assert shipped == digests_on_disk(ROOT / "migrations")
    assert any(name.startswith("versions/0001_") for name in shipped)


@pytest.mark.parametrize("folder", ["models", "schemas", "providers", "cli", "store"])
def test_the_wheel_ships_every_file_of(folder: str, wheel: ZipFile) -> None:
    assert digests(wheel, f"batchgen/{folder}/") == digests_on_disk(ROOT / "batchgen" / folder)


@pytest.mark.parametrize(
    "name",
    [
        "batchgen/py.typed",
        "batchgen/models/runway-gen-4-turbo.yaml",
        "batchgen/providers/simulator/clip.mp4",
        "batchgen/migrations/env.py",
        "batchgen/schemas/db-check.json",
    ],
)
def test_the_wheel_has(name: str, wheel: ZipFile) -> None:
    assert name in wheel.namelist()


def test_the_wheel_has_nothing_beside_the_package(wheel: ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"batchgen"}


def test_the_wheel_installs_the_command(wheel: ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))

    assert "batchgen = batchgen.cli.main:main" in wheel.read(name).decode()
