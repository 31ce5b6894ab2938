"""Where a manifest comes from, and how a command answers when it is wrong."""

import contextlib
import csv
import io
import json
import os
import tempfile
import threading
from pathlib import Path

import click
import openpyxl  # type: ignore[import-untyped]
import pytest
from cli.commands import call, ok, rows, states, write
from runs import IMAGE

from batchgen.cli import balance, common
from batchgen.cli.reply import Reply
from batchgen.domain.errors import UsageError

TABLE = f"id,prompt,image\na,x,{IMAGE}\n"
LINES = "".join(json.dumps({"id": name, "image": IMAGE}) + "\n" for name in "ab")
YAML = f"batch: mine\njobs:\n  - id: a\n    image: {IMAGE}\n"


def workbook() -> bytes:
    book = openpyxl.Workbook()
    for row in csv.reader(io.StringIO(TABLE)):
        book.worksheets[0].append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


# -- standard input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "batch"),
    [
        (TABLE, None),
        (TABLE.replace(",", ";"), None),
        (f"\n{TABLE}", None),
        (f"#,image\n1,{IMAGE}\n", None),
        (f"note: x,image\njobs,{IMAGE}\n", None),
        (f'"jobs: a",image\n5,{IMAGE}\n', None),
        (LINES, None),
        (f"\n{LINES}", None),
        (YAML, "mine"),
        (f"\ufeff# a comment\n\n---\n{YAML}", "mine"),
        (f"%YAML 1.1\n---\n{YAML}", "mine"),
        (f"jobs:\n- image: {IMAGE}\n", None),
        (f"jobs: [{{image: '{IMAGE}'}}]\n", None),
        (f'{{"batch": "mine", "jobs": [{{"image": "{IMAGE}"}}]}}', "mine"),
        (f'{{\n  "batch": "mine",\n  "jobs": [{{"image": "{IMAGE}"}}]\n}}\n', "mine"),
        (f"{{batch: mine, jobs: [{{image: '{IMAGE}'}}]}}", "mine"),
        (f'"batch" : mine\n"jobs":\n- image: {IMAGE}\n', "mine"),
    ],
)
def test_a_manifest_comes_from_standard_input(text: str, batch: str | None) -> None:
    named = [] if batch else ["--batch", "piped"]

    plan = ok("add", "-", *named, "--json", stdin=text).said["manifests"][0]

    assert plan["batch"] == (batch or "piped")
    assert plan["counts"]["new"] == len(states()) > 0


def test_an_array_is_told_how_to_become_lines() -> None:
    for text in ('[{"image": "x"}]', '[\n{"image": "x"}\n]', "[\n"):
        done = call("validate", "-", "--batch", "b", stdin=text)

        assert "stdin:1: is a JSON array, not JSON Lines" in done.err
        assert "jq -c '.[]'" in done.err


def test_its_faults_are_told_as_those_of_stdin() -> None:
    done = call("validate", "-", "--batch", "b", stdin=f"{TABLE}a,y,{IMAGE}\nb,y,\n")

    assert done.code == 5
    assert "stdin:3: id: a is already the id in line 2" in done.err
    assert "stdin:4: image: is missing" in done.err


@pytest.mark.parametrize("text", [TABLE, LINES, f"jobs:\n- image: {IMAGE}\n"])
def test_it_needs_a_name_for_its_batch(text: str) -> None:
    done = call("add", "-", stdin=text)

    assert done.code == 5
    assert done.err == (
        "Error: stdin: has no name that its batch could have: name the batch with --batch NAME\n"
    )
    assert not Path("batchgen.db").exists()


def test_it_is_misspelled_yaml_and_no_table() -> None:
    done = call("validate", "-", "--batch", "b", stdin=f"job:\n- image: {IMAGE}\n")

    assert "stdin:1: job: unknown key: did you mean `jobs`?" in done.err


def test_it_is_read_once_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    twice = call("add", "-", "/dev/stdin", "--batch", "b", stdin=TABLE)
    ok("add", "-", "--batch", "b", stdin=TABLE)

    assert twice.code == 2
    assert "- can be read only once: name it once" in twice.err
    assert list(folder.iterdir()) == []
    assert call("add", "-", "--batch", "b", stdin="").err == (
        "Error: stdin: is empty: it needs at least one job\n"
    )


def test_without_a_terminal_a_run_of_it_needs_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNCOMFY_TOKEN", "token-of-a-test")
    monkeypatch.setenv("RUNCOMFY_MODEL_API_BASE", "http://127.0.0.1:9/v1")

    done = call("run", "-", "--batch", "b", "--db", "t.db", stdin=TABLE)

    assert done.code == 2
    assert "nobody can be asked" in done.err
    assert not Path("t.db").exists()


@pytest.mark.parametrize(
    ("name", "content", "batch"),
    [
        ("pipe.csv", TABLE.encode(), "pipe"),
        ("pipe.xlsx", workbook(), "pipe"),
        ("pipe.xlsx[Sheet]", workbook(), "pipe"),
        ("pipe.yaml", YAML.encode("utf-16"), "mine"),
    ],
)
def test_a_pipe_is_a_manifest(name: str, content: bytes, batch: str) -> None:
    pipe = Path(name.partition("[")[0])
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[content])
    writer.start()

    plan = ok("add", name, "--json").said["manifests"][0]

    writer.join()
    assert (plan["batch"], plan["counts"]["new"]) == (batch, 1)


@pytest.mark.parametrize("content", [TABLE.encode(), workbook(), TABLE.encode("utf-16")])
def test_a_process_substitution_is_a_manifest(content: bytes) -> None:
    read_end, write_end = os.pipe()
    with contextlib.closing(os.fdopen(read_end)), os.fdopen(write_end, "wb") as file:
        file.write(content)
        file.close()

        plan = ok("add", f"/dev/fd/{read_end}", "--batch", "b", "--json").said["manifests"][0]

    assert plan["counts"]["new"] == 1


# -- several manifests -----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["add", "validate", "plan"])
def test_two_files_of_one_name_are_refused(command: str) -> None:
    Path("other").mkdir()
    one, two = write("jobs.csv", rows("a")), write("other/jobs.csv", rows("b"))
    bad = write("bad.csv", [{**rows("c")[0], "duration": "7"}])

    done = call(command, one, two, bad)

    assert done.code == 5
    assert (
        "other/jobs.csv: batch: its batch is jobs, as that of jobs.csv: rename a file, or say "
        "--batch NAME if all rows belong together" in done.err
    )
    assert "bad.csv:2: duration: 7 is not one of 5, 10" in done.err


def test_the_same_file_twice_is_refused() -> None:
    one = write("jobs.csv", rows("a"))

    assert "as that of jobs.csv" in call("add", one, one).err


# -- faults as data --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["add"], ["validate"], ["plan"], ["run", "--db", "t.db", "-y"]]
)
def test_faults_are_data_and_fifty_are_shown(command: list[str]) -> None:
    name = write("m.csv", [{"id": f"r{n}", "image": IMAGE, "seed": "x"} for n in range(1300)])

    plain, done = call(*command, name), call(*command, name, "--json")

    shown = plain.err.splitlines()
    assert plain.code == done.code == 5
    assert shown[0] == "Error: 1,300 faults; nothing was stored or spent"
    assert shown[1] == "m.csv:2: seed: x is not a whole number"
    assert shown[50] == "m.csv:51: seed: x is not a whole number"
    assert shown[51:] == ["and 1,250 more"]
    assert done.said["faults_total"] == 1300
    assert done.said["faults"][0] == {
        "file": "m.csv",
        "line": 2,
        "column": "seed",
        "message": "x is not a whole number",
    }


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["status"], 11, "no job database"),
        (["add", "-", "-"], 2, "can be read only once"),
        (["export", "-o", "-"], 2, "would both write to stdout"),
    ],
)
def test_any_error_is_data_with_json(words: list[str], code: int, message: str) -> None:
    done = call(*words, "--json")

    assert done.code == code
    assert done.envelope["data"] is None
    assert message in done.envelope["error"]["message"]
    assert message in done.err


def test_faults_as_data_hold_no_secret() -> None:
    url = "https://x.test/a?X-Amz-Signature=5ecret"

    for command in ("add", "validate"):
        done = call(command, write("m.csv", [{"image": IMAGE, "id": url}]), "--json")

        assert done.said["faults"][0]["message"].startswith("the id https://x.test/a")
        assert "5ecret" not in done.out + done.err


def test_what_a_command_answers_is_in_one_envelope() -> None:
    write("m.csv", [{"id": "a", "prompt": "x", "image": IMAGE}])

    good, bad = ok("add", "m.csv", "--json"), call("show", "nobody", "--json")

    assert (good.envelope["schema"], good.envelope["error"]) == ("batchgen/add/1", None)
    assert bad.envelope["schema"] == "batchgen/show/1"
    assert bad.envelope["error"]["code"] == "no_such_job"
    assert ok("db", "check", "--json").envelope["schema"] == "batchgen/db-check/1"


def test_an_object_that_is_out_already_stays_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    @common.json_option
    def command(*, as_json: bool) -> None:
        common.print_json({"balance_usd": float(as_json), "origin": ""})
        raise UsageError("too late")

    monkeypatch.setattr(balance, "command", command)

    done = call("balance", "--json")

    assert (done.code, done.err) == (2, "Error: too late\n")
    assert done.envelope["data"] == {"balance_usd": 1.0, "origin": ""}
    assert done.envelope["error"] == {"code": "usage", "message": "too late"}


@pytest.mark.parametrize(
    ("said", "database", "meant"),
    [
        ("`batchgen run` goes on", "", "`batchgen run` goes on"),
        ("`batchgen run` goes on", "--simulate", "`batchgen run --simulate` goes on"),
        ("`batchgen ls --db y.db`", "--db x.db", "`batchgen ls --db y.db`"),
        ("`batchgen init x.yaml`", "--db x.db", "`batchgen init x.yaml`"),
        (
            "`batchgen ls --keys | batchgen retry -`",
            "--db x",
            "`batchgen ls --keys | batchgen retry -`",
        ),
        (
            "see `batchgen show a` or `batchgen ls`",
            "--db x.db --simulate",
            "see `batchgen show a --db x.db --simulate` or `batchgen ls --db x.db --simulate`",
        ),
    ],
)
def test_commands_in_words_mean_the_same_job_database(said: str, database: str, meant: str) -> None:
    assert Reply(database=database).meant(said) == meant


@pytest.mark.parametrize(
    ("said", "account", "meant"),
    [
        ("`batchgen pause`", "", "`batchgen pause`"),
        ("`batchgen pause`", "--account a", "`batchgen pause --account a --db x`"),
        ("`batchgen set jobs 8`", "--account a", "`batchgen set jobs 8 --account a --db x`"),
        ("`batchgen set budget 8`", "--account a", "`batchgen set budget 8 --db x`"),
        ("`batchgen run --account b`", "--account a", "`batchgen run --account b --db x`"),
        ("`batchgen runs`", "--account a", "`batchgen runs --db x`"),
        ("`batchgen ls | batchgen cancel -`", "--account a", "`batchgen ls | batchgen cancel -`"),
    ],
)
def test_commands_in_words_mean_the_same_account(said: str, account: str, meant: str) -> None:
    database = "--db x" if account else ""

    assert Reply(database=database, account=account).meant(said) == meant


def test_an_error_names_commands_of_the_account_at_work() -> None:
    done = call("pause", "--account", "studio", "--db", "x.db")

    assert done.code == 11
    assert "`batchgen add MANIFEST --account studio --db x.db` makes one" in done.err


def test_an_error_names_commands_of_the_job_database_at_work() -> None:
    ok("add", write("m.csv", rows("a")), "--db", "x.db")

    assert "`batchgen ls --db x.db` lists them" in call("show", "b", "--db", "x.db").err
