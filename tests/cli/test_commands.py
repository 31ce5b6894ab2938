import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
from cli.commands import call, ok, rows, write

from batchgen.cli.main import COMMANDS

PARTS = ["db check", "db upgrade", "schema manifest"]
PARTS += [f"models {word}" for word in ("list", "show", "add", "fetch")]
WORDS = [*COMMANDS, *PARTS]
READING = [
    ("status",),
    ("ls",),
    ("show", "a"),
    ("reconcile", "--list"),
    ("export", "-o", "out.csv"),
    ("db", "check"),
    ("download",),
    ("retry", "--failed", "-y"),
    ("cancel", "a"),
]


@pytest.mark.parametrize("words", WORDS)
def test_every_command_explains_itself(words: str) -> None:
    done = ok(*words.split(), "--help")

    assert "Usage: batchgen" in done.out


def test_the_overview_names_every_command() -> None:
    done = ok("--help")

    assert all(name in done.out for name in COMMANDS)


HEAVY = {"sqlalchemy", "httpx", "aiohttp", "yaml", "jinja2", "rich", "alembic"}
LOADING = """
import sys
from batchgen.cli.main import main
heavy, *commands = map(str.split, sys.argv[1:])
for words in commands:
    sys.argv = ["batchgen", *words]
    try:
        main()
    except SystemExit as left:
        assert left.code == 0, words
    found = {*heavy} & {*sys.modules}
    assert not found, (words, found)
"""


def check_loads_none(heavy: Collection[str], *commands: str) -> None:
    """Check that commands, one after the other in one process, load none of some libraries."""
    words = [sys.executable, "-c", LOADING, " ".join(heavy), *commands]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_overview_and_init_load_no_heavy_library() -> None:
    check_loads_none(HEAVY, "--help", "init x.yaml", "simulate --help")


def test_a_file_is_made_and_worked_with_without_loading_sqlalchemy() -> None:
    Path("jobs.csv").write_text("prompt,image_url\nrain,https://example.com/a.png\n")

    check_loads_none({"sqlalchemy"}, "add jobs.csv --db jobs.db", "run -n --no-probe --db jobs.db")


def test_a_download_loads_nothing_of_what_manifests_and_tables_need() -> None:
    program = (
        "import sys\n"
        "from batchgen.cli import download, service, session\n"
        "names = ['yaml', 'jsonschema_rs', 'rich', 'wsgiref', 'sqlalchemy']\n"
        "names += ['batchgen.manifests', 'batchgen.exporters', 'batchgen.inputs']\n"
        "print([name for name in names if name in sys.modules])\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("words", READING)
def test_without_a_job_database_the_code_is_11(words: tuple[str, ...]) -> None:
    done = call(*words)

    assert done.code == 11
    assert "--db" in done.err
    assert done.out == ""


@pytest.mark.parametrize("words", READING)
def test_json_is_one_object_on_stdout(words: tuple[str, ...]) -> None:
    ok("add", write("jobs.csv", rows("a", "b")))

    assert ok(*words, "--json").said


@pytest.mark.parametrize("words", READING)
def test_a_file_that_is_no_job_database_is_told_so(words: tuple[str, ...]) -> None:
    write("other.db", rows("a"))

    done = call(*words, "--db", "other.db")

    assert done.code == 11
    assert "other.db" in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("status", "--batch", "nobody"),
        ("ls", "--batch", "nobody"),
        ("ls", "--state", "sleeping"),
        ("show", "nobody"),
        ("show", "scene"),
        ("cancel", "nobody"),
        ("cancel",),
        ("retry",),
        ("retry", "a", "--failed"),
        ("retry", "a", "--batch", "jobs"),
        ("retry", "nobody", "-y"),
        ("reconcile", "a"),
        ("reconcile", "--all"),
        ("reconcile", "--adopt"),
        ("reconcile", "--adopt", "a"),
        ("reconcile", "--adopt", "a=/../b"),
        ("reconcile", "--adopt", "a=r1"),
        ("reconcile", "--resubmit"),
        ("reconcile", "--resubmit", "a"),
        ("reconcile", "--resubmit", "--write-off", "--all"),
        ("reconcile", "--write-off", "a", "--all"),
        ("download", "nobody"),
        ("export",),
        ("export", "-o", "out.pdf"),
        ("export", "-o", "jobs.csv"),
        ("export", "-o", "-", "--json"),
        ("add", "jobs.csv", "--budget", "nan"),
        ("add", "jobs.csv", "--budget", "0"),
        ("add", "jobs.csv", "--budget", "much"),
        ("add", "jobs.csv", "--name", "{nothing}"),
        ("simulate", "--host", "192.0.2.1"),
        ("simulate", "--run-s", "5-2"),
        ("simulate", "--run-s", "soon"),
        ("simulate", "--fault", "earthquake"),
        ("simulate", "--fault", "lost=2"),
        ("simulate", "--fault", "lost=often"),
        ("nonsense",),
    ],
)
def test_what_makes_no_sense_is_refused_with_2(words: tuple[str, ...]) -> None:
    ok("add", write("jobs.csv", rows("a", "b")))

    done = call(*words)

    assert done.code == 2, done.err
    assert done.out == "" or "--json" in words
    assert "Traceback" not in done.err
    assert {job["state"] for job in ok("ls", "--json").said["jobs"]} == {"pending"}


def test_a_mistyped_command_is_recognised() -> None:
    for words, meant in ((("stauts",), "status"), (("db", "chek"), "check")):
        done = call(*words)

        assert done.code == 2
        assert f"did you mean `{meant}`?" in done.err


def test_the_help_shows_every_command_under_one_heading() -> None:
    lines = ok("--help").out.splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].isalpha()]

    assert sorted(set(COMMANDS) & set(shown)) == sorted(COMMANDS)
    assert [name for name in shown if name in COMMANDS].count("run") == 1


def test_whoever_forgets_that_it_was_simulated_is_told() -> None:
    ok("run", write("jobs.csv", rows("a")), "--simulate", "-q")

    done = call("ls")

    assert done.code == 11
    assert "--simulate means its jobs" in done.err
