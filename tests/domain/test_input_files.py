import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.domain.identity import canonical, input_hash
from batchgen.domain.input_files import TYPES, InputFile, is_link_to, parse_input_file

DIGEST = "0123456789abcdef" * 4
PATHS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map("/{}".format)


@given(PATHS, st.sampled_from(sorted(TYPES)))
def test_what_a_job_keeps_is_read_back(path: str, extension: str) -> None:
    file = InputFile(DIGEST, extension, path)

    assert parse_input_file(str(file)) == file


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file:",
        f"file:{DIGEST}.png:relative.png",
        f"file:{DIGEST}.exe:/a.exe",
        f"file:{DIGEST[1:]}.png:/a.png",
        f"file:{DIGEST.upper()}.png:/a.png",
        f"a file:{DIGEST}.png:/a.png",
        f"file:///a.png#{DIGEST}",
    ],
)
def test_other_texts_are_no_input_files(text: str) -> None:
    assert parse_input_file(text) is None
    assert canonical(text) == text


@given(PATHS, PATHS)
def test_a_job_is_known_by_the_content_wherever_it_lies(one: str, other: str) -> None:
    hashes = {
        input_hash(
            "m", {"promptText": "a fox", "images": [str(InputFile(DIGEST, "png", path))]}, {}
        )
        for path in (one, other)
    }

    # What is paid for again is decided by this: it must never change.
    assert hashes == {"e38d296926314a71d80c83e818a9d06b8ebbdfcff0b2e30aec185cd9d8690fdf"}


@pytest.mark.parametrize(
    ("kept", "link", "expected"),
    [
        (f"file:{DIGEST}.png:/a.png", f"https://b.s3.example/in/{DIGEST}.png?X-Amz-A=1", True),
        (f"file:{DIGEST}.png:/a.png", "data:image/png;base64,AAAA", True),
        (f"file:{DIGEST}.png:/a.png", "data:[redacted]", False),
        (f"file:{DIGEST}.png:/a.png", "https://b.s3.example/in/a.png", False),
        ("s3://b/in/a cat.png", "https://b.s3.example/in/a%20cat.png?X-Amz-A=1", True),
        ("s3://b/in/a.png", "https://s3.example/b/in/a.png?X-Amz-A=1", True),
        ("s3://b/in/a.png", "https://s3.example/b/in/b.png", False),
        ("https://b.example/in/a.png", "https://c.example/in/a.png", False),
        ("a.png", "https://c.example/in/a.png", False),
    ],
)
def test_a_link_is_recognised(kept: str, link: str, expected: bool) -> None:
    assert is_link_to(kept, link) is expected
