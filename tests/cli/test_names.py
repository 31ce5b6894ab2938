"""Clips are named by whatever is known of a job when it is added."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cli.commands import call, ok, rows, write
from runs import IMAGE


def names() -> list[str]:
    with closing(sqlite3.connect("batchgen.db")) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM jobs ORDER BY position")]


def table(*cells: dict[str, str]) -> str:
    return write(
        "jobs.csv",
        [{**row, "client": "", "shot": "", **own} for row, own in zip(rows(*"abcde"), cells)],  # noqa: B905
    )


def test_columns_name_clips_also_where_they_are_empty() -> None:
    jobs = table(
        {"client": "acme", "shot": "12a"},
        {"client": "acme", "shot": "12A"},
        {"client": "Blue/Sky"},
        {"shot": "../x"},
        {},
    )

    ok("add", jobs, "--name", "{client}/{shot}.{ext}")

    assert names() == ["acme/12a.mp4", "acme/12A-2.mp4", "Blue-Sky/c.mp4", "x.mp4", "e.mp4"]


def test_inputs_seeds_keys_and_places_name_clips() -> None:
    Path("jobs.yaml").write_text(
        f"""
jobs:
  - id: "{{{{ subject }}}}-{{{{ duration }}}}"
    matrix: {{subject: [fox, heron], duration: [5, 10]}}
    exclude: [{{subject: heron, duration: 10}}]
    prompt: "{{{{ subject }}}}"
    image: {IMAGE}
    seeds: [7, 8]
    duration: "{{{{ duration }}}}"
    meta: {{key: 007, model: m1}}
""",
        encoding="utf-8",
    )
    template = "{row}-{subject}-{input.duration}s-{seed}-{promptText}-{meta.key}-{meta.model}.{ext}"

    ok("add", "jobs.yaml", "--name", template)

    assert names() == [
        f"{number:04}-{subject}-{duration}s-{seed}-{subject}-007-m1.mp4"
        for number, (subject, duration, seed) in enumerate(
            [(*pair, seed) for pair in [("fox", 5), ("fox", 10), ("heron", 5)] for seed in (7, 8)],
            start=1,
        )
    ]


def test_a_drawn_seed_and_the_key_are_in_the_name() -> None:
    ok("add", write("jobs.csv", [{**rows("a")[0], "repeat": "2"}]), "--name", "{key}/{seed}.{ext}")

    with closing(sqlite3.connect("batchgen.db")) as connection:
        found = connection.execute("SELECT key, seed, name FROM jobs").fetchall()
    assert [name for _, _, name in found] == [f"{key}/{seed}.mp4" for key, seed, _ in found]
    assert len({seed for _, seed, _ in found}) == 2


def test_a_signature_is_not_in_a_name() -> None:
    row = {**rows("a")[0], "image": f"{IMAGE}?X-Amz-Signature=0123456789abcdef"}

    ok("add", write("jobs.csv", [row]), "--name", "{image}.{ext}")

    assert names() == ["https---images.example.com-harbor.jpg.mp4"]


def test_the_names_of_stored_jobs_stay() -> None:
    template = ("--name", "{client}/{shot}.{ext}")
    ok("add", table({"client": "acme", "shot": "1"}, {"client": "acme", "shot": "2"}), *template)
    ok("add", table({"client": "other", "shot": "1"}, {"shot": "2"}, {"client": "acme"}))

    assert names() == ["acme/1.mp4", "acme/2.mp4", "acme/c.mp4"]


def test_a_later_file_may_lack_a_column() -> None:
    ok("add", table({"client": "acme"}), "--name", "{client}/{id}.{ext}")

    ok("add", write("jobs.csv", rows("a", "b")))

    assert names() == ["acme/a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{clinet}/{id}.{ext}", "unknown field {clinet}: did you mean `client`? the fields are"),
        ("{id.__class__}", "unknown field {id.__class__}"),
        ("{id[0]}", "unknown field {id[0]}"),
        ("{id!r}", "unknown field {id!r}"),
        ("{id:>20}", "unknown field {id:>20}"),
        ("{}", "unknown field {}"),
        ("{meta.duration}", "unknown field {meta.duration}"),
        ("{input.client}", "unknown field {input.client}"),
        ("{nope}", "{batch}, {id}, {variant}, {ext}, {seed}, {model}, {key}, {row}, {prompt}"),
    ],
)
def test_an_unknown_field_is_told_before_anything_is_stored(template: str, said: str) -> None:
    done = call("add", table({}), "--name", template)

    assert done.code == 2
    assert said in done.err
    assert not Path("batchgen.db").exists()


def test_many_equal_names_are_numbered_without_looking_at_all_of_them() -> None:
    many = [{**row, "client": "acme"} for row in rows(*(f"r{number}" for number in range(6000)))]

    ok("add", write("jobs.csv", many), "--name", "{client}.{ext}")

    assert names() == ["acme.mp4", *(f"acme-{number}.mp4" for number in range(2, 6001))]
