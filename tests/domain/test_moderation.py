import pytest

from batchgen.domain.jobs import Inputs
from batchgen.domain.moderation import explain_refusal

IMAGE = "https://images.example.com/a.jpg"
USUAL: Inputs = {"promptText": "a fox", "promptImage": IMAGE, "ratio": "1280:720", "seed": 7}
CHOSEN = '{"ratio":"960:960"}'


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("SAFETY.INPUT.TEXT", "the text (promptText)"),
        ("safety.input.text", "the text (promptText)"),
        ("INPUT_PREPROCESSING.SAFETY.TEXT", "the text (promptText)"),
        ("SAFETY.INPUT.IMAGE", "the image (promptImage)"),
        ("SAFETY.INPUT.VIDEO", "the video (promptImage)"),
        ("SAFETY.INPUT.SOMETHING", "an input"),
        ("INPUT_PREPROCESSING.SAFETY", "an input"),
        ("INPUT.MODERATION", "an input"),
        ("SAFETY.OUTPUT.VIDEO", "the generated clip"),
        ("SAFETY.OUTPUT", "the generated clip"),
        ("INTERNAL.BAD_OUTPUT.SAFETY", "the generated clip"),
        ("SAFETY", "the request"),
        ("MODERATION", "the request"),
        (None, "the request"),
    ],
)
def test_a_code_names_what_was_refused(code: str | None, what: str) -> None:
    said = explain_refusal(code, "not allowed", inputs=USUAL, settings=CHOSEN)

    assert said == f"moderation refused {what}: not allowed"


@pytest.mark.parametrize(
    ("inputs", "settings", "text", "image"),
    [
        ({"a": "hello", "b": IMAGE}, "{}", " (a)", " (b)"),
        ({"a": "hello", "b": "square"}, '{"b":"square"}', " (a)", ""),
        ({"prompt": "a fox", "style": "film"}, "", " (prompt)", ""),  # before settings were kept
        ({"prompt": "a fox", "negativePrompt": "rain"}, "{}", " (prompt, negativePrompt)", ""),
        ({"prompt": "see https://x.example.com"}, "{}", " (prompt)", ""),
        ({"first": "data:image/png;base64,AA", "last": [IMAGE]}, "{}", "", " (first, last)"),
        ({"seed": 7, "duration": 5}, '{"duration":5}', "", ""),
    ],
)
def test_inputs_are_told_apart_without_the_model(
    inputs: Inputs, settings: str, text: str, image: str
) -> None:
    said = [
        explain_refusal(f"SAFETY.INPUT.{kind}", "no", inputs=inputs, settings=settings)
        for kind in ("TEXT", "IMAGE")
    ]

    assert said == [
        f"moderation refused the text{text}: no",
        f"moderation refused the image{image}: no",
    ]
