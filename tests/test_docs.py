"""What the documents say is what the code does."""

import ast
import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from cli.commands import ok
from runs import IMAGE

import batchgen
from batchgen import manifests
from batchgen.cli import answers
from batchgen.cli.configured import name_of
from batchgen.cli.main import COMMANDS, cli
from batchgen.domain import where
from batchgen.domain.columns import RESULT_COLUMNS
from batchgen.domain.errors import PRECEDENCE, BatchgenError, Exit, ManifestError
from batchgen.domain.states import RUNNER_MOVES, USER_MOVES, ErrorClass, JobState
from batchgen.downloads.names import FIELDS
from batchgen.manifests import DEFAULT_MODEL, Checked
from batchgen.manifests.interface import ENTRY_WORDS, ROW_WORDS
from batchgen.manifests.model_files import read_model
from batchgen.providers.simulator import Kind

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def table(name: str, first_column: str) -> list[list[str]]:
    """The rows of the one table whose first column has this header."""
    found = []
    lines = text_of(name).splitlines()
    for number, line in enumerate(lines):
        if line.startswith(f"| {first_column} |") and lines[number + 1].startswith("|---"):
            rows = []
            for row in lines[number + 2 :]:
                if not row.startswith("|"):
                    break
                rows.append([cell.strip() for cell in row.strip().strip("|").split("|")])
            found.append(rows)
    assert len(found) == 1, f"{name} has {len(found)} tables of {first_column!r}"
    return found[0]


def code(cell: str) -> list[str]:
    """What is in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def names(name: str, first_column: str) -> list[str]:
    return [word for row in table(name, first_column) for word in code(row[0])]


def fenced(name: str, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text_of(name)) if language in languages]


def command_of(*words: str) -> click.Command:
    command: click.Command = cli
    context = click.Context(cli)
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(context, word)
        assert found is not None, f"there is no command {word}"
        command = found
    return command


def options_of(command: click.Command) -> list[str]:
    """Return the options of a command, and of a group those of its commands too."""
    below: list[str] = []
    if isinstance(command, click.Group):
        context = click.Context(command)
        inner = [command.get_command(context, name) for name in command.list_commands(context)]
        below = [option for one in inner if one is not None for option in options_of(one)]
    return below + [
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    ]


# -- README --------------------------------------------------------------------------------------


def test_readme_lists_the_commands() -> None:
    rows = table("README.md", "command")

    assert {code(row[0])[0]: row[1] for row in rows} == COMMANDS
    assert [code(row[0])[0] for row in rows] == list(COMMANDS)


def test_readme_lists_the_options_of_run() -> None:
    main_names = [
        next(option for option in parameter.opts if option.startswith("--"))
        for parameter in command_of("run").params
        if isinstance(parameter, click.Option)
    ]

    assert sorted(names("README.md", "option of `run`")) == sorted(main_names)


def test_readme_states_the_defaults_of_run() -> None:
    said = {code(row[0])[0]: row[1] for row in table("README.md", "option of `run`")}
    for parameter in command_of("run").params:
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            name = next(option for option in parameter.opts if option.startswith("--"))
            default = parameter.default
            if isinstance(default, int | float):
                assert said[name] == f"{default:g}".replace("1e+05", "100000"), name


def test_readme_lists_the_options_of_export() -> None:
    main_names = [
        next(option for option in parameter.opts if option.startswith("--"))
        for parameter in command_of("export").params
        if isinstance(parameter, click.Option)
    ]

    assert sorted(names("README.md", "option of `export`")) == sorted(main_names)


def test_the_manifest_page_lists_the_fields_of_a_name() -> None:
    fields = names("docs/manifest.md", "field of a name")

    assert fields[: len(FIELDS)] == [f"{{{name}}}" for name in FIELDS]


def test_the_manifest_page_lists_the_keys_of_a_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs.csv").write_text(f"id,image\na,{IMAGE}\n")
    ok("run", "jobs.csv", "--simulate", "--sidecar")
    [path] = tmp_path.rglob("*.mp4.json")
    said = json.loads(path.read_text())

    assert sorted(names("docs/manifest.md", "key of a sidecar")) == sorted(said)


def test_readme_lists_the_exit_codes_in_their_order() -> None:
    codes = [int(row[0]) for row in table("README.md", "code")]

    assert codes == [int(code) for code in PRECEDENCE]
    assert sorted(codes) == sorted(map(int, Exit))


def test_readme_lists_the_environment() -> None:
    """`env` and `environment` are what the code calls it; the strings are looked for."""
    read = {
        name
        for path in (ROOT / "batchgen").rglob("*.py")
        for name in re.findall(
            r'"((?:RUNCOMFY|BATCHGEN|XDG)_[A-Z_]+|HOME|NO_COLOR|TERM)"',
            path.read_text(encoding="utf-8"),
        )
    }

    said = set(names("README.md", "name")) - {"token.json"}
    options = {
        name_of(option)
        for name in COMMANDS
        for option in command_of(name).params
        if isinstance(option, click.Option)
    }

    # Options that are configured have no string.
    assert said - {"BATCHGEN_*", *options} == read - options
    assert read <= said


def test_the_settings_in_the_readme_are_taken() -> None:
    (body,) = fenced("README.md", "toml")
    Path("batchgen.toml").write_text(body, encoding="utf-8")

    ok("config", "check")


def _timeless(text: str) -> list[str]:
    return re.sub(r"^took .*", "took a while", text, flags=re.MULTILINE).splitlines()


def test_the_session_in_the_readme_happens_like_that(tmp_path: Path) -> None:
    session = next(body for body in fenced("README.md", "console"))
    shown, _, output = session.partition("$ batchgen ")
    command, _, output = output.partition("\n")
    manifest = shown.removeprefix("$ cat jobs.csv\n")
    (tmp_path / "jobs.csv").write_text(manifest, encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, "-m", "batchgen", *shlex.split(command)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    # A slow machine has time for a line of progress between the two halves.
    expected = _timeless(output)
    assert [line for line in _timeless(ended.stderr) if line in expected] == expected
    assert len((tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()) == 3
    assert len(list(tmp_path.glob("clips-simulated/jobs/*.mp4"))) == 2


def test_ci_runs_the_tests_as_the_readme_says() -> None:
    (command,) = [body.strip() for body in fenced("README.md", "sh") if "pytest" in body]

    assert command in text_of(".ci/run").splitlines()


def test_ci_tries_the_wheel_as_the_readme_tries_the_checkout() -> None:
    (command,) = [body.strip() for body in fenced("README.md", "sh") if "--simulate" in body]
    _, _, run = command.partition(".venv/bin/batchgen ")

    assert f'batchgen" {run}' in text_of(".ci/run")


# -- every document ------------------------------------------------------------------------------


def commands_in(path: Path) -> Iterator[list[str]]:
    text = path.read_text(encoding="utf-8")
    blocks = [body for language, body in FENCE.findall(text) if language in ("sh", "console")]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"(?<!`)`((?:batchgen )[^`]+)`(?!`)", text)
    for line in lines:
        for part in re.split(r"&&", line):
            command = re.sub(r"^(\$ )?\s*(\.venv/bin/)?", "", part.strip())
            if command.startswith("batchgen "):
                yield shlex.split(command, comments=True)[1:]


def check_command(words: Sequence[str], where: str) -> None:
    """Check that a command exists, and has the options that it is given."""
    if words[0] == "COMMAND" or words[0].startswith("-"):
        return
    command = command_of(words[0])
    rest = words[1:]
    if isinstance(command, click.Group) and rest:
        command, rest = command_of(*words[:2]), words[2:]
    known = [*options_of(command), "--help", "-h"]
    for word in rest:
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in known, f"{where}: {' '.join(words)}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_every_command_in_a_document_exists(path: Path) -> None:
    for words in commands_in(path):
        check_command(words, path.name)


def texts_of(path: Path) -> Iterator[str]:
    """Every text in a module, what is filled in left as X."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {
        part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            yield node.value


def test_every_command_in_a_message_exists() -> None:
    found = [
        (words, path)
        for path in (ROOT / "batchgen").rglob("*.py")
        for text in texts_of(path)
        # In backticks, or at the end of a line: `3 in doubt: batchgen reconcile --list`.
        for command in re.findall(r"`batchgen ([^`]+)`|: batchgen ([^`,]+)", text)
        if (words := shlex.split("".join(command)))[0] != "X"
    ]

    for words, path in found:
        check_command(words, shown(path))
    assert len(found) > 30


OPTION = re.compile(r"`(--[a-z][a-z-]+)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_every_option_in_a_document_exists(path: Path) -> None:
    known = {option for name in COMMANDS for option in options_of(command_of(name))}
    known |= {"--help"}
    if path.parent.name == "benchmarks":  # they have options of their own
        texts = [one.read_text(encoding="utf-8") for one in path.parent.glob("*.py")]
        known |= {option for text in texts for option in re.findall(r'"(--[a-z-]+)"', text)}

    assert set(OPTION.findall(path.read_text(encoding="utf-8"))) <= known


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), f"{path.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{path.name}: {link}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_every_test_that_a_document_names_exists(path: Path) -> None:
    for name in re.findall(r"`(tests/[\w/.]+)`", path.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), f"{path.name}: {name}"
    functions = set(re.findall(r"`(test_\w+)`", path.read_text(encoding="utf-8")))
    if functions:
        tests = "".join(file.read_text() for file in sorted((ROOT / "tests").rglob("test_*.py")))
        assert functions <= set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))


# -- selecting.md --------------------------------------------------------------------------------


def test_the_page_on_selecting_lists_every_field_with_an_example_that_is_one() -> None:
    rows = table("docs/selecting.md", "field")

    assert {code(row[0])[0]: row[1] for row in rows} == {
        name: str(kind) for name, kind in where.FIELDS.items()
    }
    assert [row[0] for row in table("docs/selecting.md", "kind")] == [str(it) for it in where.Kind]
    for row in rows:
        (example,) = code(row[3])
        assert code(row[0])[0] in str(where.parse(example, now=datetime.now(UTC)))


# -- json.md -------------------------------------------------------------------------------------


def kinds(error: type[BatchgenError]) -> list[str]:
    return [error.kind, *(kind for one in error.__subclasses__() for kind in kinds(one))]


def test_every_error_has_a_code_of_its_own_that_the_page_lists() -> None:
    for module in pkgutil.walk_packages(batchgen.__path__, "batchgen."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    found = kinds(BatchgenError)

    assert len(found) == len(set(found)) > 20
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", kind) for kind in found)
    codes = {*found, "unexpected", "interrupted"}
    assert codes == set(names("docs/json.md", "error code"))
    error = answers.schema("envelope")["properties"]["error"]
    assert sorted(codes) == error["properties"]["code"]["enum"]


# -- manifest.md ---------------------------------------------------------------------------------


def checked(path: Path) -> Checked:
    return manifests.check(manifests.read(path), models=manifests.load_models())


def test_the_example_manifest_is_valid() -> None:
    specs = list(checked(ROOT / "jobs.example.yaml").specs())

    assert f"JOBS = {len(specs)} " in text_of(".ci/run")
    assert len({spec.file for spec in specs}) == 1


@pytest.mark.parametrize(("suffix", "counts"), [("yaml", [3, 5, 2]), ("csv", [4])])
def test_the_examples_in_the_manifest_page_are_valid(
    suffix: str, counts: list[int], tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text(fenced("docs/manifest.md", "csv")[-1], encoding="utf-8")
    # The second table is no manifest: its prompt is in the YAML above it.
    for count, body in zip(counts, fenced("docs/manifest.md", suffix), strict=False):
        path = tmp_path / f"example.{suffix}"
        path.write_text(body, encoding="utf-8")

        assert checked(path).count == count


def test_the_jobs_of_the_matrix_in_the_manifest_page_are_those_of_its_table(tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(fenced("docs/manifest.md", "yaml")[1], encoding="utf-8")

    jobs = [{name: str(value) for name, value in it.cells.items()} for it in checked(path).specs()]

    names = ["id", "prompt", "duration", "ratio"]
    assert [[job[name] for name in names] for job in jobs] == [
        [*code(row[0]), *row[1:]] for row in table("docs/manifest.md", "id")
    ]


def test_the_model_in_the_manifest_page_is_without_faults(tmp_path: Path) -> None:
    (body,) = fenced("docs/manifest.md", "yml")
    path = tmp_path / "mine.yaml"
    path.write_text(body, encoding="utf-8")

    model = read_model(path)

    assert (model.aliases["prompt"], model.aliases["image"], model.seed) == (
        "words",
        "picture",
        "seed",
    )
    assert model.price_micros == 50_000


def test_the_manifest_page_lists_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text("wxyz: 1\njobs: [{image: https://images.example.com/a.jpg}]\n")

    with pytest.raises(ManifestError, match="unknown key") as refused:
        checked(path)

    known = re.search(r"known are ([\w, ]+);", str(refused.value))
    assert known is not None
    assert known[1].split(", ") == names("docs/manifest.md", "key")
    assert {*ROW_WORDS, *ENTRY_WORDS} == set(names("docs/manifest.md", "key of a job"))
    assert names("docs/manifest.md", "column") == [*ROW_WORDS, "input.NAME", "meta.NAME"]


def test_the_manifest_page_lists_the_inputs_of_the_default_model() -> None:
    model = manifests.load_models()[DEFAULT_MODEL]
    properties = model.schema["properties"]
    rows = {code(row[0])[0]: row for row in table("docs/manifest.md", "input")}

    assert set(rows) == set(properties)
    for name, schema in properties.items():
        _, alias, kind, default, _ = rows[name]
        assert set(code(alias)) == {one for one, input_ in model.aliases.items() if input_ == name}
        assert ("required" in kind) == (name in model.schema["required"])
        if "enum" in schema:
            assert code(kind) == [str(value) for value in schema["enum"]]
        for bound in ("maxLength", "minimum", "maximum"):
            assert bound not in schema or str(schema[bound]) in kind
        assert ([str(schema["default"])] if "default" in schema else []) == code(default)


def test_the_manifest_page_lists_the_columns_of_an_export() -> None:
    rows = {code(row[0])[0]: row[1] for row in table("docs/manifest.md", "column of the result")}

    assert list(rows) == list(RESULT_COLUMNS)
    assert code(rows["result_error_class"]) == [str(one) for one in ErrorClass]


def test_the_reliability_page_lists_the_classes_of_failures() -> None:
    assert names("docs/reliability.md", "class") == [str(one) for one in ErrorClass]


# -- architecture.md -----------------------------------------------------------------------------


def test_the_architecture_page_draws_the_floors() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))
    floors = next(
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["id"] == "floors"
    )

    assert "\n".join(floors["layers"]) + "\n" in fenced("docs/architecture.md", "")


def test_the_architecture_page_names_every_module() -> None:
    here = {
        path.relative_to(ROOT / "batchgen").as_posix()
        for path in (ROOT / "batchgen").rglob("*.py")
        if not path.name.startswith("__")
    }
    commands = {f"cli/{name}.py" for name in COMMANDS}

    assert set(names("docs/architecture.md", "module")) - {"cli/COMMAND.py"} == here - commands


def test_the_architecture_page_shows_every_move() -> None:
    rows = {code(row[0])[0]: row for row in table("docs/architecture.md", "job")}

    assert list(rows) == [str(state) for state in JobState]
    for state in JobState:
        _, _, runner, person = rows[state]
        assert set(code(runner)) == set(RUNNER_MOVES[state])
        assert set(code(person)) == set(USER_MOVES[state])


def test_every_test_that_the_promises_name_exists() -> None:
    named = [path for row in table("docs/reliability.md", "promise") for path in code(row[1])]

    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_the_faults_of_a_rehearsal() -> None:
    rows = table("docs/operations.md", "kinds of faults")

    told = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    assert told == [kind for kind in Kind if kind is not Kind.OUTPUT]
