from pathlib import Path

import pytest
from manifests.manifest_files import IMAGE, MODELS, faults_of, specs_of, write

from batchgen import manifests

JOB = f"jobs:\n  - image: {IMAGE}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "budgt: 5\n" + JOB,
            "m.yaml:1: budgt: unknown key: did you mean `budget`? a job's keys go under `jobs`",
            id="unknown-top-key",
        ),
        pytest.param(
            JOB + "    promt: hi\n",
            "m.yaml:3: promt: unknown key: did you mean `prompt`? what is to be carried along goes "
            "under `meta` (--allow-unknown-inputs sends it as it is)",
            id="unknown-job-key",
        ),
        pytest.param(
            JOB + "    seed: 1\n    seed: 2\n",
            "m.yaml:4: seed: duplicate key, first on line 3: remove one",
            id="duplicate-key",
        ),
        pytest.param(
            "budget: -1\n" + JOB,
            "m.yaml:1: budget: -1 is not an amount: write US dollars above 0, such as 60",
            id="budget",
        ),
        pytest.param(
            "batch: a/b\n" + JOB,
            "m.yaml:1: batch: the name a/b must not be a path: leave out `/`, `\\`, `.` and `..`",
            id="batch-is-a-path",
        ),
        pytest.param(
            JOB + '    prompt: "{{ styl }}"\n',
            "m.yaml:3: prompt: the variable `styl` is not defined: variables come from `vars`, "
            "`matrix`, `zip` and `from` (there: none)",
            id="undefined-variable",
        ),
        pytest.param(
            JOB + "    meta: x\n",
            "m.yaml:3: meta: must be a mapping, such as {client: acme}",
            id="meta",
        ),
        pytest.param(
            "jobs: []\n",
            "m.yaml:1: jobs: there are none: the manifest needs at least one job",
            id="no-jobs",
        ),
        pytest.param(
            "jobs: x\n", "m.yaml:1: jobs: must be a list: begin each job with `- `", id="text"
        ),
        pytest.param(
            "- image: x\n", "m.yaml:1: must be a mapping with the key `jobs`", id="top-is-a-list"
        ),
        pytest.param(
            "# nothing\n", "m.yaml: is empty: it needs at least one job", id="comment-only"
        ),
        pytest.param(
            "jobs: [\n",
            "m.yaml:2: is not valid YAML: did not find expected node content: check this line and "
            "the one above: indent with spaces, not tabs, and quote text that holds `: `, `#`, "
            "`{`, `[` or quotes",
            id="syntax",
        ),
        pytest.param(
            JOB + "---\n" + JOB, "m.yaml:3: a second document: put all jobs in one", id="documents"
        ),
        pytest.param(
            JOB + "    prompt: !!python/name:os.system x\n",
            "m.yaml:3: the tag tag:yaml.org,2002:python/name:os.system is not supported: remove it",
            id="tag",
        ),
        pytest.param(
            JOB + "    prompt: &x [*x]\n",
            "m.yaml:3: the alias *x has no anchor &x above it",
            id="recursive-alias",
        ),
        pytest.param(
            "[" * 10_000, "m.yaml:1: is nested more than 64 levels deep: flatten it", id="deep"
        ),
        pytest.param(
            "a: \x01\n", "m.yaml:1: contains the character U+0001: remove it", id="control"
        ),
        pytest.param(
            JOB + "    seeds: [1, true]\n",
            "m.yaml:3: seeds: true is not a seed: write whole numbers, as 1, 2, 3",
            id="bool-seed",
        ),
        pytest.param(
            JOB + "    duration: true\n",
            "m.yaml:3: duration: true is not a whole number: write one of 5, 10",
            id="bool-is-no-number",
        ),
        pytest.param(
            JOB + "    prompt: [a]\n", 'm.yaml:3: prompt: ["a"] is not text', id="list-is-no-text"
        ),
    ],
)
def test_a_faulty_manifest_is_refused_with_its_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert faults_of(write(tmp_path, "m.yaml", text)) == [expected]


def test_an_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 30):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    path = write(tmp_path, "m.yaml", "\n".join(lines) + "\n" + JOB)

    assert faults_of(path) == [
        "m.yaml:6: aliases stand for more than 1,000,000 values together: write some out"
    ]


def test_only_what_looks_like_json_gets_a_type(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "m.yaml",
        JOB
        + "    meta: {a: no, b: 007, c: 12:30, d: 1_000, e: 2026-01-02, f: true, g: 7, h: 0.5,\n"
        '      i: 1.10, j: "7", k: ~, l: 0x1F, m: .inf, n: [1, x], o: {p: 1}, q: 1e5}\n',
    )

    (spec,) = specs_of(path)

    assert {name: value for name, value in spec.cells.items() if name != "image"} == {
        "a": "no",
        "b": "007",
        "c": "12:30",
        "d": "1_000",
        "e": "2026-01-02",
        "f": True,
        "g": 7,
        "h": 0.5,
        "i": "1.10",
        "j": "7",
        "l": "0x1F",
        "m": ".inf",
        "n": [1, "x"],
        "o": {"p": 1},
        "q": "1e5",
    }


def test_defaults_vars_and_meta_come_together_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "m.yaml",
        "batch: night\nbudget: 12.10\nvars: {a: soft, b: '{{ a }} light'}\n"
        "defaults: {duration: 10, promptText: none, seed: 3, meta: {client: acme, seed: x}}\n"
        f"jobs:\n  - id: 7\n    prompt: 'in {{{{ b }}}}'\n    image: {IMAGE}\n"
        "    seeds: [1, 2]\n    meta: {shot: '{{ a }}', client: other}\n"
        f"  - image: {IMAGE}\n    duration: ~\n",
    )

    first, second, third = specs_of(path)

    assert list(first.cells.items()) == [
        ("id", 7),
        ("prompt", "in soft light"),
        ("image", IMAGE),
        ("duration", 10),
        ("seed", 1),
        ("shot", "soft"),
        ("client", "other"),
        ("meta.seed", "x"),
    ]
    assert first.row_id == "7"
    assert first.input_columns == {"prompt", "image", "duration", "seed"}
    assert second.inputs["seed"] == 2
    assert dict(third.inputs) == {"promptImage": IMAGE, "promptText": "none", "seed": 3}
    assert third.line == 11
    source = manifests.read(path)
    assert (source.batch, source.budget_micros, source.stem) == ("night", 12_100_000, "m")
    assert manifests.check(source, models=MODELS).columns == (
        *("id", "prompt", "image", "duration", "seed", "promptText"),
        *("shot", "client", "meta.seed"),
    )


def test_a_jobs_own_words_win_over_default_seeds(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "m.yaml",
        f"defaults: {{image: '{IMAGE}', seeds: [1, 2]}}\n"
        "jobs:\n  - id: a\n  - {id: b, repeat: 1}\n  - {id: c, seed: 9}\n  - {id: d, seeds: ~}\n",
    )

    assert [(it.row_id, it.variant_kind, it.variant) for it in specs_of(path)] == [
        ("a", "seed", "1"),
        ("a", "seed", "2"),
        ("b", "take", "1"),
        ("c", "", ""),
        ("d", "", ""),
    ]


def test_merge_keys_fill_what_the_job_does_not_say(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "m.yaml",
        f"jobs:\n  - &first\n    image: {IMAGE}\n    duration: 10\n    id: a\n"
        "  - <<: *first\n    id: b\n",
    )

    one, other = specs_of(path)

    assert one.inputs == other.inputs
    assert other.row_id == "b"


def test_text_and_number_are_typed_as_the_schema_wants(tmp_path: Path) -> None:
    path = write(tmp_path, "m.yaml", JOB + '    prompt: 123\n    duration: "10"\n')

    (spec,) = specs_of(path)

    assert dict(spec.inputs) == {"promptImage": IMAGE, "promptText": "123", "duration": 10}


def test_the_example_is_valid() -> None:
    path = Path(__file__).parents[2] / "jobs.example.yaml"

    assert len(specs_of(path)) == 10
