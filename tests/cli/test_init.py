from pathlib import Path

import pytest
from cli.commands import call, ok

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(("words", "file"), [((), "jobs.yaml"), (("--csv",), "jobs.csv")])
def test_an_example_is_without_faults(words: tuple[str, ...], file: str) -> None:
    done = ok("init", *words)

    assert done.out == f"{file}\n"
    assert ok("validate", file, "--json").said["valid"]


def test_the_example_in_the_repository_asks_for_the_same() -> None:
    ok("init")
    shipped = REPOSITORY / "jobs.example.yaml"

    # Each by itself, since both name the same batch.
    (mine,) = ok("validate", "jobs.yaml", "--json").said["manifests"]
    (its,) = ok("validate", str(shipped), "--json").said["manifests"]

    assert mine["batch"] == its["batch"]
    assert mine["counts"] == its["counts"]
    assert mine["estimate_usd"] == its["estimate_usd"] > 0


def test_a_file_is_never_overwritten() -> None:
    Path("mine.yaml").write_text("jobs: []\n")

    done = call("init", "mine.yaml")

    assert done.code == 2
    assert Path("mine.yaml").read_text() == "jobs: []\n"


def test_the_name_must_fit_the_format() -> None:
    assert call("init", "mine.txt").code == 2
    assert call("init", "mine.yaml", "--csv").code == 2


def test_a_folder_that_is_not_there_is_told() -> None:
    done = call("init", "nowhere/mine.yaml")

    assert done.code == 13
    assert "nowhere" in done.err


def test_json_names_the_file() -> None:
    assert ok("init", "--json").said == {"file": "jobs.yaml"}


@pytest.mark.parametrize("suffix", ["yaml", "csv"])
def test_an_example_for_another_model_is_without_faults(suffix: str) -> None:
    for model in (
        "kling/kling-3.0/pro/image-to-video",
        "bytedance/seedance-2.5/image-to-video/720p",
    ):
        name = f"{model.split('/')[0]}.{suffix}"
        ok("init", name, "--model", model)
        [said] = ok("validate", name, "--json").said["manifests"]

        assert said["counts"]["new"] > 2
        assert model in Path(name).read_text()


def test_an_example_for_a_model_that_is_not_known_is_not_written() -> None:
    done = call("init", "--model", "kling/kling-3.0/pro/image-to-vide")

    assert done.code == 2
    assert "did you mean" in done.err
    assert not Path("jobs.yaml").exists()


def test_the_suffix_says_which_format_it_is() -> None:
    ok("init", "mine.CSV")

    assert Path("mine.CSV").read_text().startswith("id,")
