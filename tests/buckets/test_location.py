import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.buckets.location import SCHEMES, Location, is_location, parse_location
from batchgen.domain.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://clips", Location("s3", "clips")),
        ("s3://clips/", Location("s3", "clips")),
        ("s3://clips/night/one/", Location("s3", "clips", "night/one")),
        ("gs://my_clips.example/x", Location("gs", "my_clips.example", "x")),
        ("az://container/ä b", Location("az", "container", "ä b")),
    ],
)
def test_a_place_in_object_storage_is_read(text: str, expected: Location) -> None:
    assert parse_location(text) == expected
    assert is_location(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///prefix",
        "s3://a",
        "s3://key:secret@bucket/x",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket/a/./b",
        "s3://bucket/a?versionId=1",
        "s3://bucket/a#b",
        "s3://bucket/a\nb",
        "s3://bucket/" + "x" * 800,
        "clips",
        "https://bucket/x",
    ],
)
def test_what_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_location(text)


@pytest.mark.parametrize("text", ["clips", "./s3://x", "/s3", "S3 bucket", "s3", "file:///tmp"])
def test_a_folder_is_no_place_in_object_storage(text: str) -> None:
    assert not is_location(text)


@given(
    st.sampled_from(SCHEMES),
    st.lists(st.text("abc äß-_.", min_size=1).filter(lambda one: one not in (".", ".."))),
)
def test_a_place_reads_as_it_was_written(scheme: str, parts: list[str]) -> None:
    place = Location(scheme, "bucket", "/".join(parts))

    assert parse_location(str(place)) == place


def test_names_below_a_place_and_back() -> None:
    place = parse_location("s3://clips/night")

    assert place.key("a/b.mp4") == "night/a/b.mp4"
    assert str(place.joined("a/b.mp4")) == "s3://clips/night/a/b.mp4"
    assert place.joined("a/b.mp4").split() == (Location("s3", "clips", "night/a"), "b.mp4")
    assert Location("s3", "clips").key("b.mp4") == "b.mp4"
