"""`--simulate` on every command that has a job database: that of `run --simulate`, and its jobs."""

import re
import shutil
from pathlib import Path

import click
import pytest
from cli.commands import call, ok, rows, write
from cli.test_configured import every_command

from batchgen.cli.main import cli


def test_every_command_with_a_job_database_has_it() -> None:
    for name, command in every_command(cli):
        options = {
            opt for one in command.params for opt in one.opts if isinstance(one, click.Option)
        }
        assert ("--db" not in options) or ("--simulate" in options), name


def test_jobs_that_were_simulated_are_looked_at_and_acted_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCHGEN_DB", "real.db")  # is for real jobs
    write("jobs.csv", rows("a", "b", "left"))
    ok("validate", "jobs.csv", "--simulate")
    ok("plan", "jobs.csv", "--simulate")
    ok("add", "jobs.csv", "--simulate")
    ok("cancel", "left", "--simulate")
    ok("set", "priority", "3", "a", "--simulate")
    ok("pause", "--simulate")
    assert call("run", "--simulate").code == 9
    ok("unpause", "--simulate")
    ok("run", "--simulate", "--no-download", "-q")
    assert not Path("clips-simulated").exists()

    done = ok("download", "--simulate", "-q", "--json")

    assert {job["id"]: job["state"] for job in done.said["jobs"]} == {
        "a": "succeeded",
        "b": "succeeded",
    }
    assert Path("clips-simulated/jobs/a.mp4").exists()
    shutil.rmtree("clips-simulated")
    ok("download", "--simulate", "--refresh", "-q")  # the stand-in knows what it once made
    assert Path("clips-simulated/jobs/b.mp4").exists()
    ok("retry", "left", "--simulate", "-y")
    ok("export", "-o", "out.csv", "--simulate")
    for words in (["status"], ["show", "a"], ["workers"], ["db", "check"], ["reconcile", "--list"]):
        ok(*words, "--simulate")
    assert ok("balance", "--simulate").out.startswith("$")
    assert not Path("real.db").exists()


def test_the_first_example_of_the_readme_prints_what_it_shows() -> None:
    shown = (Path(__file__).parents[2] / "README.md").read_text().split("```console\n")[1]
    _, manifest, said = re.split(r"\$ .*\n", shown.split("```")[0])
    Path("jobs.csv").write_text(manifest)

    done = ok("run", "jobs.csv", "--simulate", "-o", "results.csv", "--progress", "none")

    took = re.compile(r"took .*")
    assert took.sub("took", done.err) == took.sub("took", said)


def test_real_and_simulated_jobs_stay_apart() -> None:
    write("jobs.csv", rows("a"))
    ok("add", "jobs.csv", "--db", "real.db")
    ok("add", "jobs.csv", "--simulate")

    for words in (["ls"], ["cancel", "--pending"], ["add", "jobs.csv"], ["run"]):
        done = call(*words, "--simulate", "--db", "real.db")
        assert (done.code, "holds real jobs" in done.err) == (2, True)
    for words in (["add", "jobs.csv"], ["plan", "jobs.csv"], ["run"]):
        done = call(*words, "--db", "batchgen-simulated.db")
        assert (done.code, "holds simulated jobs" in done.err) == (2, True)
    assert len(ok("ls", "--db", "batchgen-simulated.db", "--json").said["jobs"]) == 1


@pytest.mark.parametrize("words", [("--db", "k.db"), ("--db", "k.db", "--simulate"), ()])
def test_commands_that_are_advised_for_simulated_jobs_say_so(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    ok("add", write("jobs.csv", rows("a")), "--db", "k.db", "--simulate")
    monkeypatch.setenv("BATCHGEN_DB", "k.db")

    shown = ok("status", *words).out

    advised = re.search(
        r"batchgen (run --batch jobs --db \S*k.db --simulate)$", shown, re.MULTILINE
    )
    assert advised, shown
    assert f": batchgen {advised[1]}\n" in ok("show", "a", *words).out
    ok(*advised[1].split(), "-q")
