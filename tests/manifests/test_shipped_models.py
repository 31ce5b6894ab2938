"""Each shipped model with rows that are right, and with rows that are not."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from manifests.manifest_files import IMAGE, faults_of, specs_of

from batchgen.domain.expansion import another_seed, seed_bounds
from batchgen.manifests import DEFAULT_MODEL, load_models
from batchgen.manifests.describing import inputs_of
from batchgen.manifests.examples import csv_example, yaml_example
from batchgen.manifests.manifest_schema import manifest_schema

MODELS = load_models()
VIDEO = "https://videos.example.com/a.mp4"
SOUND = "https://sounds.example.com/a.mp3"
P = {"prompt": "a fox"}
IMG = {"image": IMAGE}


@dataclass(frozen=True)
class Case:
    """What a model is tried with.

    Attributes:
        good: Rows as a user writes them, with the inputs that they become.
        bad: Rows with a fault, and what it says.
    """

    good: list[tuple[dict[str, Any], dict[str, Any]]]
    bad: list[tuple[dict[str, Any], str]] = field(default_factory=list)


CASES: dict[str, Case] = {
    DEFAULT_MODEL: Case(
        [
            (
                P | IMG | {"duration": "10"},
                {"promptText": "a fox", "promptImage": IMAGE, "duration": 10},
            )
        ],
        [
            (P, "image: is missing"),
            (IMG | {"duration": 7}, "duration: 7 is not one of 5, 10"),
            (IMG | {"prompt": "🦊" * 501}, "prompt: 1,002 characters, at most 1,000 (UTF-16"),
        ],
    ),
    "runwayml/runway-aleph-2/video-to-video": Case(
        [
            (
                P | {"video_url": VIDEO, "keyframes": '[{"at": 1}]', "seed": "7"},
                P | {"video_url": VIDEO, "keyframes": [{"at": 1}], "seed": 7},
            ),
            (
                P | {"video_url": VIDEO, "keyframes": {"a": [1]}},
                P | {"video_url": VIDEO, "keyframes": {"a": [1]}},
            ),
        ],
        [
            (P, "video_url: is missing"),
            ({"video_url": VIDEO}, "prompt: is missing"),
            (P | {"video_url": "clip.mp4"}, "video_url: clip.mp4 is not a URL"),
            (P | {"video_url": VIDEO, "image": IMAGE}, "image: unknown key"),
            (P | {"video_url": VIDEO, "seed": 1.5}, "seed: 1.5 is not a whole number"),
        ],
    ),
    "kling/kling-2-1/pro/image-to-video": Case(
        [(P | IMG, P | {"image_url": IMAGE}), (P | {"image_url": IMAGE}, P | {"image_url": IMAGE})],
        [
            (IMG, "prompt: is missing"),
            (P | IMG | {"image_url": IMAGE}, "image_url: sets image_url, which `image` sets too"),
            (P | IMG | {"duration": 5}, "duration: unknown key"),
        ],
    ),
    "kling/kling-3.0/pro/image-to-video": Case(
        [
            (
                P
                | IMG
                | {"end_image_url": IMAGE, "cfg_scale": "0.5", "generate_audio": "no"}
                | {"duration": 3, "elements": [{"name": "fox"}], "multi_prompt": "[]"},
                P
                | {"start_image_url": IMAGE, "end_image_url": IMAGE, "cfg_scale": 0.5}
                | {"generate_audio": False, "duration": 3}
                | {"elements": [{"name": "fox"}], "multi_prompt": []},
            )
        ],
        [
            (P | IMG | {"cfg_scale": 1.5}, "cfg_scale: 1.5 is too large: at most 1"),
            (P | IMG | {"cfg_scale": "half"}, "cfg_scale: half is not a number"),
            (P | IMG | {"duration": 2}, "duration: 2 is too small: at least 3"),
            (P | IMG | {"generate_audio": "loud"}, "generate_audio: loud is not true or false"),
            (P | IMG | {"elements": 5}, "elements: 5 is not a list or a mapping"),
            (P | IMG | {"seeds": [1]}, "seeds: kling/kling-3.0/pro/image-to-video takes no seed"),
        ],
    ),
    "kling/kling-video-o3/4K/image-to-video": Case(
        [
            (
                P | IMG | {"end_image": IMAGE, "duration": "15", "sound": "on"},
                P | IMG | {"end_image": IMAGE, "duration": 15, "sound": "on"},
            ),
            (P | {"image_url": IMAGE}, P | IMG),
        ],
        [
            (P, "image: is missing"),
            (P | IMG | {"duration": 2}, "duration: 2 is not one of 3, 4"),
        ],
    ),
    "wan-ai/wan-2-5/image-to-video": Case(
        [
            (
                P | IMG | {"resolution": "720P", "audio_url": SOUND, "duration": 5.0},
                P | {"img_url": IMAGE, "resolution": "720P", "audio_url": SOUND, "duration": 5},
            )
        ],
        [
            (P | IMG | {"resolution": "720p"}, "resolution: 720p is not one of 480P, 720P, 1080P"),
            (P | IMG | {"audio_url": "http://a.example.com/x.mp3"}, "audio_url: http://a.example"),
        ],
    ),
    "wan-ai/wan-2.7/image-to-video": Case(
        [
            (
                P | IMG | {"enable_prompt_expansion": "true", "seed": 2147483647},
                P | {"image_url": IMAGE, "enable_prompt_expansion": True, "seed": 2147483647},
            ),
            (IMG | {"prompt": "🦊" * 5000}, {"image_url": IMAGE, "prompt": "🦊" * 5000}),
        ],
        [
            (P | IMG | {"seed": 2147483648}, "seed: 2147483648 is too large: at most 2147483647"),
            (P | IMG | {"seeds": [1, -1]}, "seeds: -1 is too small: at least 0"),
            (IMG | {"prompt": "x" * 5001}, "prompt: 5,001 characters, at most 5,000"),
            (P | IMG | {"resolution": "720P"}, "resolution: 720P is not one of 720p, 1080p"),
        ],
    ),
    "bytedance/seedance-2.5/image-to-video/720p": Case(
        [(P | IMG | {"generate_audio": True, "duration": 30},) * 2],
        [
            (P | IMG | {"resolution": "720p"}, "resolution: unknown key"),
            (P | IMG | {"duration": 31}, "duration: 31 is too large: at most 30"),
        ],
    ),
    "bytedance/seedance-2.5/first-last-frame/720p": Case(
        [
            (P | {"first_frame": IMAGE, "last_frame": IMAGE},) * 2,
            (P | IMG | {"last_frame": IMAGE}, P | {"first_frame": IMAGE, "last_frame": IMAGE}),
        ],
        [
            (P | {"first_frame": IMAGE}, "last_frame: is missing"),
            (P | {"last_frame": IMAGE}, "image: is missing"),
        ],
    ),
    "bytedance/seedance-v2/pro": Case(
        [
            (P, P),
            (
                P | {"image": IMAGE, "video_url": [VIDEO, VIDEO]},
                P | {"image_url": [IMAGE], "video_url": [VIDEO, VIDEO]},
            ),
            (P | {"image_url": json.dumps([IMAGE])}, P | {"image_url": [IMAGE]}),
            (P | {"image_url": [], "resolution": "any"},) * 2,
        ],
        [
            (P | {"image_url": [IMAGE] * 10}, "image_url: 10 values, at most 9"),
            (P | {"image_url": [IMAGE, "a.jpg"]}, "a.jpg is not a URL"),
            (P | {"duration": 3}, "duration: 3 is too small: at least 4"),
        ],
    ),
    "minimax/minimax-h3/image-to-video": Case(
        [(P | IMG | {"duration": 4, "resolution": "2k"},) * 2],
        [
            (P | IMG | {"resolution": "2k"}, "duration: is missing"),
            (P | IMG | {"duration": 4}, "resolution: is missing"),
            (
                P | IMG | {"duration": 4, "resolution": "4k"},
                "resolution: 4k is not one of 768p, 2k",
            ),
            (
                IMG | {"duration": 4, "resolution": "2k", "prompt": "x" * 7001},
                "prompt: 7,001 characters, at most 7,000",
            ),
        ],
    ),
    "minimax/minimax-h3-open/image-to-video": Case(
        [(P | IMG | {"seed": -1},) * 2, (P | IMG | {"last_image": IMAGE, "duration": 15},) * 2],
        [
            (P | IMG | {"seed": -2}, "seed: -2 is too small: at least -1"),
            (P | IMG | {"resolution": "2k"}, "resolution: 2k is not one of 480p, 768p"),
        ],
    ),
    "happyhorse/happyhorse-1.0/image-to-video": Case(
        [
            (
                P | IMG | {"watermark": "false", "resolution": "1080P", "seed": 3},
                P | {"image_url": IMAGE, "watermark": False, "resolution": "1080P", "seed": 3},
            )
        ],
        [
            (P | IMG | {"watermark": 2}, "watermark: 2 is not true or false"),
            (P | IMG | {"watermrk": True}, "watermrk: unknown key: did you mean `watermark`?"),
        ],
    ),
    "blackforestlabs/flux-3/text-to-video": Case(
        [
            (P | {"duration": 5}, P | {"duration": "5"}),
            (P | {"duration": "auto", "safety_tolerance": 2},) * 2,
        ],
        [
            (P | {"duration": 21}, "duration: 21 is not one of auto, 5, 6"),
            (P | {"duration": "5.5"}, "duration: 5.5 is not one of auto, 5, 6"),
            (P | IMG, "image: unknown key"),
        ],
    ),
    "google-deepmind/veo-3-1/reference-to-video": Case(
        [
            (P | IMG, P | {"image_urls": [IMAGE]}),
            (P | {"image_urls": [IMAGE, IMAGE]},) * 2,
        ],
        [
            (P | {"image_urls": []}, "image_urls: 0 values, at least 1"),
            (P | {"image_urls": ["x"]}, "x is not a URL"),
            (P | {"image_urls": [IMAGE, 5]}, "image_urls"),
        ],
    ),
    "openai/sora-2/pro/image-to-video": Case(
        [(P | IMG, P | {"input_reference": IMAGE})],
        [(P, "image: is missing"), (P | {"input_reference": "x"}, "input_reference: x is not")],
    ),
}


def manifest(folder: Path, model: str, *rows: dict[str, Any]) -> Path:
    path = folder / "m.yaml"  # JSON is YAML
    path.write_text(json.dumps({"model": model, "jobs": rows}, ensure_ascii=False))
    return path


def test_every_shipped_model_has_a_case() -> None:
    assert set(CASES) == set(MODELS)
    assert all(len(case.good) and len(case.bad) > 1 for case in CASES.values())


@pytest.mark.parametrize("model", list(CASES))
def test_right_rows_become_what_is_sent(model: str, tmp_path: Path) -> None:
    rows, wanted = zip(*CASES[model].good, strict=True)

    specs = specs_of(manifest(tmp_path, model, *rows))

    assert [spec.inputs for spec in specs] == list(wanted)
    for spec, one in zip(specs, wanted, strict=True):
        assert list(map(type, spec.inputs.values())) == [type(one[name]) for name in spec.inputs]


@pytest.mark.parametrize("model", list(CASES))
def test_wrong_rows_are_told(model: str, tmp_path: Path) -> None:
    for row, message in CASES[model].bad:
        [fault] = faults_of(manifest(tmp_path, model, row))

        assert message in fault


# -- seeds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [name for name in MODELS if MODELS[name].seed])
def test_a_drawn_seed_is_one_that_the_model_takes_and_never_the_sentinel(
    model: str, tmp_path: Path
) -> None:
    bounds = seed_bounds(MODELS[model])
    assert bounds is not None
    row, _ = CASES[model].good[0]
    ends = [{**row, "seed": seed} for seed in bounds]

    assert [spec.inputs["seed"] for spec in specs_of(manifest(tmp_path, model, *ends))] == [*bounds]
    assert 0 <= bounds[0] < bounds[1]
    found = another_seed({"seed": -1}, model=MODELS[model], draw=lambda low, high: low)
    assert found is not None
    assert found[1] == 0


# -- what is made from their schemas ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["yaml", "csv"])
@pytest.mark.parametrize("model", list(MODELS))
def test_the_example_of_a_model_is_without_faults_and_has_every_input(
    model: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"jobs.{suffix}"
    text = yaml_example(MODELS[model], file=path.name) if suffix == "yaml" else ""
    path.write_text(text or csv_example(MODELS[model]))

    specs = specs_of(path)

    assert {spec.model for spec in specs} == {model}
    assert len(specs) >= 3
    if suffix == "yaml":
        names = {name for one in inputs_of(MODELS[model]) for name in (one.friendly,)}
        assert all(f" {name}: " in text for name in names)
        assert max(map(len, text.splitlines())) < 120


SCHEMAS = {name: manifest_schema([MODELS[name]], fallback=name) for name in MODELS}
ALL = manifest_schema(list(MODELS.values()), fallback=DEFAULT_MODEL)


VALIDATE_ALL = jsonschema_rs.Draft202012Validator(ALL)


def spelled_plainly(row: dict[str, Any]) -> bool:
    """Whether no number or list stands in quotes, which the schema is stricter about."""
    return all(
        not isinstance(value, str) or name in ("prompt", "resolution") or "://" in value[:9]
        for name, value in row.items()
    )


@pytest.mark.parametrize("model", list(MODELS))
def test_the_schema_of_a_manifest_agrees_with_the_checks(model: str) -> None:
    jsonschema_rs.meta.validate(SCHEMAS[model])
    for validator in (jsonschema_rs.Draft202012Validator(SCHEMAS[model]), VALIDATE_ALL):
        for row, _ in CASES[model].good:
            if spelled_plainly(row):
                assert validator.is_valid({"model": model, "jobs": [row]}), row
        for row, message in CASES[model].bad:
            if not any(
                word in message for word in ("URL", "http", "sets ", "is not: ", "x is not")
            ):
                assert not validator.is_valid({"model": model, "jobs": [row]}) or (
                    "UTF-16" in message  # the schema counts an emoji once
                ), row


FLUX = "blackforestlabs/flux-3/text-to-video"


def test_an_image_for_a_model_that_takes_none_is_a_fault_where_there_is_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "jobs.csv"
    path.write_text(f"prompt,image,model\na boat,{IMAGE},\na fox,,{FLUX}\na heron,{IMAGE},{FLUX}\n")
    carried = tmp_path / "carried.csv"
    carried.write_text(f"prompt,meta.image,model\na heron,{IMAGE},{FLUX}\n")

    [fault] = faults_of(path)

    assert fault.startswith("jobs.csv:4: image: ")
    assert "meta.image" in fault
    assert len(specs_of(carried)) == 1
