"""`batchgen.toml` and `BATCHGEN_*`: who wins, what is refused, and what is only a default."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli.bought import service
from cli.commands import call, ok, rows, write

from batchgen.cli.configured import CONFIGURABLE, FLAGS_ONLY, USERS_ONLY, is_configurable, key_of
from batchgen.cli.main import COMMANDS, cli
from batchgen.manifests import DEFAULT_MODEL

OTHER_MODEL = "runwayml/runway-aleph-2/video-to-video"


def folder_says(text: str) -> None:
    Path("batchgen.toml").write_text(text, encoding="utf-8")


def user_says(text: str) -> Path:
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "batchgen" / "batchgen.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def every_command(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from every_command(command, *path, name)
        elif command is not None:
            yield " ".join((*path, name)), command


OPTIONS = [
    (where, option)
    for where, command in every_command(cli)
    for option in command.params
    if isinstance(option, click.Option)
]


def test_every_option_of_every_command_is_classified() -> None:
    found = {key_of(option) for _, option in OPTIONS}

    assert found == CONFIGURABLE | FLAGS_ONLY.keys()
    assert not CONFIGURABLE & FLAGS_ONLY.keys()
    assert USERS_ONLY.keys() <= CONFIGURABLE
    assert {"yes", "replace", "new_batch", "resubmit_in_doubt", "token"} <= FLAGS_ONLY.keys()


def test_the_environment_says_nothing_of_what_is_a_flag_only() -> None:
    for where, option in OPTIONS:
        expected = f"BATCHGEN_{key_of(option).upper()}" if is_configurable(option) else None
        # What is told to others adds up: `settings.notify_urls`.
        if key_of(option) != "notify":
            assert option.envvar == expected, where


def jobs_listed(*words: str) -> int:
    return len(ok("ls", "--simulate", "--json", *words).said["jobs"])


def test_flag_wins_over_environment_over_folder_over_user_over_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ok("add", write("jobs.csv", rows("a", "b", "c", "d")), "--simulate")
    assert jobs_listed() == 4
    user_says("[ls]\nlimit = 1\n")
    assert jobs_listed() == 1
    folder_says("[ls]\nlimit = 2\n")  # the nearer file wins
    assert jobs_listed() == 2
    monkeypatch.setenv("BATCHGEN_LIMIT", "3")
    assert jobs_listed() == 3
    assert jobs_listed("--limit", "1") == 1
    monkeypatch.setenv("BATCHGEN_LIMIT", "")  # as good as unset
    assert jobs_listed() == 2


@pytest.mark.parametrize(
    ("said", "words", "expected"),
    [
        ('jobs = "x"', ["run"], "batchgen.toml: jobs: 'x' is neither a number"),
        ('[run]\njobs = "x"', ["run"], "batchgen.toml: run.jobs: 'x' is neither a number"),
        ("jobs = true", ["run"], "jobs: takes a value, not true or false"),
        ("jobs = [1, 2]", ["run"], "jobs: takes one value, not a list"),
        ("no_log = 1", ["run"], "no_log: say true or false, without quotes"),
        ("until = 07:00:00", ["run"], "until: write the value in quotes"),
        ("account = 5", ["run"], 'account: takes text: write it in quotes, as "5"'),
        ('halt = ["streak=0"]', ["run"], "batchgen.toml: halt: "),
        ("[ls]\nlimit = 0", ["ls"], "batchgen.toml: ls.limit: '0' is no number of jobs"),
        ("limit = 3", ["ls"], "limit: it means something else for each command"),
        ('columns = "id"', ["export", "-o", "x.csv"], "write it into the table of one"),
        ("jbos = 3", ["ls"], "jbos: unknown setting: did you mean `jobs`?"),
        ("[rnu]", ["ls"], "the table [rnu] is of no command: did you mean `run`?"),
        ("[run]\njbos = 3", ["ls"], "run.jbos: unknown setting: did you mean `jobs`?"),
        ("[ls]\njobs = 3", ["ls"], "ls.jobs: there is no setting jobs here"),
        ("[run.fast]", ["run"], "the table [run.fast] is of no command"),
        ("[set.jbos]", ["set", "jobs", "3"], "did you mean `jobs`?"),
        ("yes = true", ["ls"], "--yes cannot be configured: it agrees to pay"),
        ("[run]\nreplace = true", ["ls"], "--replace cannot be configured"),
        ("[cancel]\npending = true", ["ls"], "it says what one command acts on"),
        ('token = "abc"', ["ls"], "a token is never kept here: set RUNCOMFY_TOKEN"),
        ('notify = ["json://localhost"]', ["ls"], "it sends what a run does to others"),
        ("allow_private_inputs = true", ["ls"], "a folder's file may not say this"),
        ("allow_network_fs = true", ["ls"], "a folder's file may not say this"),
        ('db = "postgresql://db.invalid/x"', ["ls"], "a server would be given your password"),
        ('[run]\noutput = "../out.csv"', ["run"], "may name files in its folder only"),
        ('events = "/etc/profile"', ["run"], "may name files in its folder only"),
        ("jobs = ", ["ls"], "batchgen.toml: is not TOML"),
        ("a = " + "[" * 5000, ["ls"], "batchgen.toml: is not TOML"),
    ],
)
def test_what_a_file_may_not_say_is_refused_by_file_and_key(
    said: str, words: list[str], expected: str
) -> None:
    folder_says(said)

    done = call(*words)

    assert done.code == 2, done.err
    assert "batchgen.toml" in done.err
    assert expected in done.err
    assert not Path("batchgen.db").exists()


def test_a_wrong_value_of_the_environment_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCHGEN_JOBS", "many")

    done = call("run")

    assert done.code == 2
    assert "BATCHGEN_JOBS: 'many' is neither" in done.err


def test_the_users_file_is_held_to_the_same_but_may_say_more(tmp_path: Path) -> None:
    path = user_says("jbos = 3")
    assert f"{path}: jbos: unknown setting" in call("ls").err
    user_says("allow_private_inputs = true\nallow_network_fs = true\n")
    ok("add", write("jobs.csv", rows("a")), "--simulate", "--dry-run")
    path.write_bytes(b"\xff\xfe")
    assert f"{path}: is not TOML" in call("ls").err
    path.unlink()
    os.mkfifo(path)  # would never end
    assert f"{path}: is not a file" in call("ls").err


def test_help_reads_no_file() -> None:
    folder_says("this is no TOML")

    for words in ([], ["run"], ["set"], ["set", "jobs"]):
        assert "Usage: batchgen" in ok(*words, "--help").out


# -- what a batch remembers ----------------------------------------------------------------------


def added(*words: str) -> dict[str, str]:
    """The models of all jobs by id, once the manifest is added."""
    ok("add", "jobs.csv", "--simulate", *words)
    return {job["id"]: job["model"] for job in ok("ls", "--simulate", "--json").said["jobs"]}


@pytest.mark.parametrize("place", ["folder", "user", "environment"])
def test_a_model_that_is_configured_overrides_no_row_and_no_batch(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("jobs.csv", [{**row, "model": DEFAULT_MODEL} for row in rows("named")])
    if place == "folder":
        folder_says(f'model = "{OTHER_MODEL}"')
    elif place == "user":
        user_says(f'[add]\nmodel = "{OTHER_MODEL}"')
    else:
        monkeypatch.setenv("BATCHGEN_MODEL", OTHER_MODEL)

    assert added() == {"named": DEFAULT_MODEL}
    # Where nobody says otherwise it holds: the other model wants a video.
    write("other.csv", rows("a"))
    assert OTHER_MODEL in call("add", "other.csv", "--simulate").err


def test_what_is_configured_for_batches_yields_to_what_they_have() -> None:
    write("jobs.csv", rows("a"))
    folder_says('budget = 50\noutput_dir = "there"\nname = "{id}.{ext}"')
    plan = ok("add", "jobs.csv", "--json").said["manifests"][0]
    assert batch() == (50, "there")
    assert plan["budget_usd"] == 50
    ok("set", "budget", "80")
    folder_says('budget = 20\noutput_dir = "elsewhere"')

    ok("add", "jobs.csv")

    assert batch() == (80, "there")
    ok("add", "jobs.csv", "--budget", "30", "--output-dir", "here")
    assert batch() == (30, "here")


def batch() -> tuple[float, str]:
    (found,) = ok("status", "--json").said["batches"]
    return found["budget_usd"], found["output_dir"]


def test_an_unknown_model_is_refused_by_file_and_key() -> None:
    write("jobs.csv", rows("a"))
    folder_says('[add]\nmodel = "no/such/model"')

    done = call("add", "jobs.csv")

    assert done.code == 2
    assert "batchgen.toml: add.model: unknown model no/such/model" in done.err


def test_a_run_without_a_manifest_is_not_refused_for_what_waits_for_one() -> None:
    folder_says(
        f'model = "{OTHER_MODEL}"\nbudget = 9\nname = "{{id}}.{{ext}}"\noutput_dir = "there"\n'
        'jobs_max = 5\nnotify_on = "done"\nno_log = true\n'
    )
    write("jobs.csv", rows("a"))

    ok("add", "jobs.csv", "--simulate", "--model", DEFAULT_MODEL)
    ok("run", "--simulate", "-q")

    (account,) = ok("status", "--simulate", "--json").said["accounts"]
    assert (account["jobs"], account["auto_max"]) == (4, None)
    # Simulated clips stay apart from those that are paid for.
    assert Path("clips-simulated/a.mp4").exists()
    assert not Path("there").exists()


# -- the job database ----------------------------------------------------------------------------


def test_a_job_database_is_named_from_the_files_own_folder() -> None:
    path = user_says('db = "night.db"')

    ok("add", write("jobs.csv", rows("a")))

    assert (path.parent / "night.db").exists()
    folder_says('db = "sub/day.db"')
    Path("sub").mkdir()
    ok("add", "jobs.csv")
    assert Path("sub/day.db").exists()


def test_simulate_means_its_own_job_database_whatever_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder_says('db = "real.db"')
    monkeypatch.setenv("BATCHGEN_DB", "named.db")

    ok("add", write("jobs.csv", rows("a")), "--simulate")

    assert sorted(path.name for path in Path().glob("*.db")) == ["batchgen-simulated.db"]


def test_consent_names_what_files_set_and_yes_makes_no_job_database_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder_says('db = "night.db"\nretries = 3\nallow_unknown_inputs = true\n')
    user_says('notify = ["json://localhost/secret"]\nnotify_on = "in-doubt"\n')
    write("jobs.csv", rows("a"))
    with service(monkeypatch):
        asked = call("run", "jobs.csv")
        agreed = call("run", "jobs.csv", "-y")

    assert asked.code == 2
    assert "settings of batchgen.toml: " in asked.err
    for said in ("db = night.db", "retries = 3", "allow_unknown_inputs = true", "1 hidden"):
        assert said in asked.err
    assert "secret" not in asked.err
    assert agreed.code == 2
    assert "-y never makes one" in agreed.err
    assert not Path("night.db").exists()


# -- config --------------------------------------------------------------------------------------


def test_config_show_tells_where_each_value_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    user = user_says('notify = ["json://localhost/secret"]\ndb = "postgresql://me:pw@db/x"\n')
    folder_says("jobs = 8\n[run]\nhalt = ['streak=5', 'never']\ndownload = false\n")
    assert "batchgen.toml: run.halt: " in call("config", "show").err
    folder_says("jobs = 8\n[run]\nhalt = ['streak=5']\ndownload = false\n")
    monkeypatch.setenv("BATCHGEN_RETRIES", "2")

    done = ok("config", "show", "run", "--json")
    found = {one["option"]: one for one in done.said["options"]}

    expected = {
        "--jobs": ("8", "file", "batchgen.toml: jobs"),
        "--halt": ("streak=5", "file", "batchgen.toml: run.halt"),
        "--download": ("false", "file", "batchgen.toml: run.download"),
        "--retries": ("2", "environment", "BATCHGEN_RETRIES"),
        "--max-outage": ("21600", "default", None),
        "--notify": ("1 hidden", "file", f"{user}: notify"),
        "--yes": ("false", "default", None),
    }
    for option, said in expected.items():
        one = found[option]
        assert (one["value"], one["source"], one["from"]) == said
    assert found["--yes"]["environment"] is None
    assert "secret" not in done.out
    assert "pw" not in found["--db"]["value"]
    assert [one["read"] for one in done.said["files"]] == [True, True]
    table = ok("config", "show")
    assert "batchgen.toml: run.halt" in table.out
    assert "default (flag only)" in table.out
    assert "--max" in ok("config", "show", "set", "jobs").out
    assert "say one of set budget, set jobs" in call("config", "show", "set").err
    assert "did you mean `ls`?" in call("config", "show", "lss").err


def test_config_check_tells_all_that_is_wrong_and_a_run_what_is_misspelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder_says('jbos = 3\nhalt = "nver"\nretries = 1\n[run]\nyes = true\n[exprot]\n')
    for name in ("BUGDET", "YES", "ZZTOP"):
        monkeypatch.setenv(f"BATCHGEN_{name}", "1")
    monkeypatch.setenv("BATCHGEN_LIMIT", "x")

    done = call("config", "check")

    assert done.code == 2
    parts = (
        *("jbos: unknown setting: did you mean `jobs`?", "halt: ", "run.yes: --yes cannot be"),
        *("[exprot] is of no command", "BATCHGEN_BUGDET: nothing reads it: did you mean"),
        *("BATCHGEN_YES: nothing reads it: --yes cannot be configured", "BATCHGEN_LIMIT: "),
        "note: BATCHGEN_ZZTOP: nothing reads it\n",
    )
    assert [done.err.count(part) for part in parts[:-2]] == [1] * 6, done.err
    assert all(part in done.err for part in parts)
    monkeypatch.delenv("BATCHGEN_LIMIT")
    folder_says("retries = 1\n")
    run = ok("run", write("jobs.csv", rows("a")), "--simulate", "-q")
    assert run.err.count("did you mean BATCHGEN_BUDGET?") == 1
    assert "ZZTOP" not in run.err


def test_config_check_looks_at_every_command() -> None:
    folder_says("[db.check]\nallow_network_fs = false\n")
    assert call("config", "check").code == 2
    folder_says('[export]\nbom = "yes"\n')
    done = call("config", "check")
    assert (done.code, "export.bom: say true or false" in done.err) == (2, True)
    folder_says("[export]\nbom = true\n")
    assert ok("config", "check", "--json").said["commands"] >= len(COMMANDS)
    assert "batchgen.toml" in ok("config", "path").out.splitlines()[0]
