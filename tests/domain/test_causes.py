import pytest

from batchgen.domain.causes import Lost, causes, normalised
from batchgen.domain.states import JobState

F, E, C = JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("HTTP 500 of request 7f3a", "HTTP 500 of request 81bb", True),
        ("HTTP 500 of request 7f3a", "HTTP 502 of request 7f3a", False),
        ("timed out after 12.5 s", "timed out after 31.0 s", True),
        ("no such file 'a.png'", "no such file 'b.png'", True),
        ("no file <https://a.example/x.png>", "no file <https://b.example/y.png>", True),
        ("no file https://a.example/x.png", "no file https://b.example/y.png", True),
        ('input "frog" refused', 'input "toad" refused', True),
        ("request 0b2f1c34-aaaa-bbbb-cccc-0123456789ab lost", "request lost", False),
        ("INTERNAL", "OUTPUT", False),
    ],
)
def test_messages_that_differ_in_what_is_of_one_job_are_one_cause(
    one: str, other: str, are_one: bool
) -> None:
    found = causes([Lost("b/1", F, "generation", one), Lost("b/2", F, "generation", other)])

    assert len(found) == (1 if are_one else 2)
    assert (found[0].words, found[0].first) == (one, "b/1")


def test_the_most_frequent_cause_comes_first() -> None:
    lost = [
        Lost("b/1", F, "moderation", "refused"),
        Lost("b/2", F, None, "why"),
        Lost("b/3", F, "invalid_input", "HTTP 404", is_unfit=True),
        Lost("b/4", E, None, "gone"),
        Lost("b/5", C, None, ""),
        Lost("b/6", F, "moderation", "refused"),
    ]

    found = causes(lost)

    assert [(cause.kind, cause.jobs) for cause in found] == [
        ("moderation", 2),
        ("unknown", 1),
        ("unfit", 1),
        ("expired", 1),
        ("cancelled", 1),
    ]


def test_a_thousand_causes_are_told_apart_at_most() -> None:
    words = ["".join(chr(97 + int(digit)) for digit in f"{n:04}") for n in range(3000)]

    found = causes(Lost("b/1", F, "generation", word) for word in words)

    assert len(found) == 1001
    assert sum(cause.jobs for cause in found) == 3000


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("request 0f8c2a44-1111-2222-3333-444455556666 died", "request 9 died"),
        ("took 12.5 s, node sim-7f3a-22", "took 3 s, node sim-1-9"),
        ("cannot read https://a.example/1.jpg?sig=1", "cannot read https://b.example/2.png"),
        ('prompt "a fox"  is too long', "prompt 'two herons' is too long"),
    ],
)
def test_what_differs_from_job_to_job_is_no_other_cause(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    "said",
    [
        "The generation failed: INTERNAL.BAD_OUTPUT.CODE01",
        "HTTP 422, code 422001: Validation error",
        "moderation refused the text (promptText)",
    ],
)
def test_what_tells_causes_apart_stays(said: str) -> None:
    assert normalised(said) == said
