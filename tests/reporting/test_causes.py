from batchgen.reporting import advice, causes
from batchgen.reporting.advice import Typist
from batchgen.store.nights import Failure


def failure(number: int, error: str, error_class: str = "generation", **more: str) -> Failure:
    values = {"batch": "night", "source": "/n/jobs.csv", "error_code": None, **more}
    return Failure(
        key=f"j{number:08d}",
        label=f"c{number}",
        error_class=error_class,
        error=error,
        is_unfit=False,
        **values,  # type: ignore[arg-type]
    )


def test_causes_are_counted_with_examples_and_the_command_that_helps() -> None:
    failures = [
        *(failure(number, f"node {number} died") for number in range(5)),
        failure(7, "refused", "moderation", error_code="SAFETY.INPUT.TEXT"),
        failure(8, "bad ratio", "invalid_input", batch="other", source="/n/other.csv"),
        failure(9, "no such request", "remote_lost"),
    ]

    found, others = causes.grouped(failures, Typist(["--db", "my jobs.db"]), str.upper)

    first = found[0]
    assert (first.error_class, first.message, first.jobs, others) == (
        "generation",
        "NODE … DIED",
        5,
        0,
    )
    assert [one.text for one in first.examples] == ["NODE 0 DIED", "NODE 1 DIED", "NODE 2 DIED"]
    assert [[line.words for line in cause.commands] for cause in found] == [
        ["batchgen retry j00000000 j00000001 j00000002 j00000003 j00000004 --db 'my jobs.db'"],
        ["batchgen run /n/jobs.csv --db 'my jobs.db'"],
        ["batchgen run /n/other.csv --db 'my jobs.db'"],
        [
            "batchgen download --refresh j00000009 --db 'my jobs.db'",
            "batchgen retry j00000009 --db 'my jobs.db'",
        ],
    ]


def test_memory_is_bounded_whatever_the_service_says() -> None:
    words = ["".join(chr(97 + int(digit)) for digit in f"{number:05d}") for number in range(2000)]
    failures = (failure(number, f"oh {word}") for number, word in enumerate(words))

    found, others = causes.grouped(failures, Typist(), str)

    assert len(found) == 30
    assert sum(cause.jobs for cause in found) + others == 2000


def test_many_jobs_are_not_named_one_by_one() -> None:
    failures = (failure(number, "died") for number in range(advice.MOST_KEYS + 1))

    ((cause,), _) = causes.grouped(failures, Typist(), str)

    assert "j0000" not in cause.commands[0].words
    assert "--where" in cause.commands[0].words
