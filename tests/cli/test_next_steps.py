"""What to type next, over the ways in which a run ends."""

import itertools
import re
import shlex
from collections import Counter
from collections.abc import Sequence

import click
import pytest

from batchgen.cli.main import cli
from batchgen.cli.next_steps import Ended, Typed, next_steps
from batchgen.domain.causes import Cause
from batchgen.domain.errors import Exit
from batchgen.domain.states import JobState

S, F, C, E = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED
D, R, L, P = JobState.IN_DOUBT, JobState.RUNNING, JobState.DOWNLOADING, JobState.PENDING
KINDS = ("moderation", "invalid_input", "generation", "unknown", "remote_lost", "unfit", "expired")


def commands(steps: Sequence[str]) -> list[str]:
    return [re.findall("`([^`]+)`", step)[0] for step in steps]


def ended(
    *states: JobState, code: Exit = Exit.SUCCESS, kinds: Sequence[str] = (), **more: bool
) -> Ended:
    found = [Cause(kind, "why", "b/1", jobs=1) for kind in kinds]
    return Ended(Counter(states), found, [code], **more)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param(ended(S, S), ["report"], id="all-is-done"),
        pytest.param(ended(), [], id="nothing-to-do"),
        pytest.param(ended(S, has_table=False), ["report", "export -o results.csv"], id="no-table"),
        pytest.param(
            ended(S, D, code=Exit.IN_DOUBT), ["reconcile --list", "report"], id="in-doubt"
        ),
        pytest.param(ended(S, P, R, code=Exit.SIGINT), ["run jobs.csv", "report"], id="ctrl-c"),
        pytest.param(ended(L, code=Exit.SOME_FAILED), ["run jobs.csv"], id="not-on-disk-yet"),
        pytest.param(ended(L, download=False), ["download"], id="left-to-download"),
        pytest.param(ended(P, code=Exit.TOKEN), ["run jobs.csv"], id="no-token"),
        pytest.param(
            ended(P, code=Exit.SIGINT, is_paused=True), ["unpause"], id="paused-by-a-person"
        ),
        pytest.param(
            ended(F, D, P, code=Exit.HALTED, kinds=["generation"]),
            [
                "reconcile --list",
                "run jobs.csv",
                "retry --where 'state=failed and class in (generation, unknown)'",
            ],
            id="doubts-come-first",
        ),
        pytest.param(ended(F, kinds=["unfit"]), ["run jobs.csv"], id="unfit"),
        pytest.param(ended(F, kinds=["moderation"]), ["ls --state failed"], id="moderation"),
        pytest.param(
            ended(F, kinds=["unknown"]),
            ["retry --where 'state=failed and class in (generation, unknown)'"],
            id="unknown",
        ),
        pytest.param(ended(E, kinds=["expired"]), ["download --refresh"], id="expired"),
        pytest.param(ended(F, kinds=["remote_lost"]), ["download --refresh"], id="lost"),
        pytest.param(ended(C, kinds=["cancelled"]), [], id="cancelled-on-purpose"),
        pytest.param(ended(F, kinds=["written_off"]), [], id="written-off-on-purpose"),
    ],
)
def test_the_next_command_follows_from_how_the_jobs_ended(how: Ended, expected: list[str]) -> None:
    found = commands(next_steps(how, Typed(["jobs.csv"])))

    assert found == [f"batchgen {words}" for words in expected]


@pytest.mark.parametrize("code", [Exit.TOKEN, Exit.NO_BALANCE, Exit.OUTPUT, Exit.BUDGET])
def test_what_ended_the_run_has_to_be_put_right_first(code: Exit) -> None:
    (step,) = next_steps(ended(P, code=code), Typed())

    assert step == "once that is put right, `batchgen run` goes on with 1 job that is left"


@pytest.mark.parametrize(
    ("typed", "run", "other"),
    [
        (Typed(), "run", "reconcile --list"),
        (Typed(["a b.csv"]), "run 'a b.csv'", "reconcile --list"),
        (Typed(["-"]), "run", "reconcile --list"),
        (Typed(["1.csv", "2.csv", "3.csv"]), "run", "reconcile --list"),
        (Typed(where="cost>1"), "run --where 'cost>1'", "reconcile --list"),
        (Typed(account="a"), "run --account a", "reconcile --list"),
        (Typed(batch="n", db="x.db"), "run --batch n --db x.db", "reconcile --list --db x.db"),
        (
            Typed(simulate=True),
            "run --simulate",
            "reconcile --list --simulate",
        ),
    ],
)
def test_commands_name_the_same_jobs_and_the_same_job_database(
    typed: Typed, run: str, other: str
) -> None:
    found = commands(next_steps(ended(P, D), typed))

    assert found == [f"batchgen {other}", f"batchgen {run}"]


def test_every_command_that_is_named_exists() -> None:
    seen: set[str] = set()
    for kind, state, download, paused in itertools.product(
        KINDS, JobState, (True, False), (True, False)
    ):
        how = ended(S, state, kinds=[kind], download=download, has_table=False, is_paused=paused)
        for typed in (Typed(), Typed(["m.csv"], "b", "x.db"), Typed(simulate=True)):
            seen.update(word for step in next_steps(how, typed) for word in commands([step]))
    for said in seen:
        name, *words = shlex.split(said)[1:]
        with click.Context(cli) as context:
            command = cli.get_command(context, name)
            assert command is not None, said
            with command.make_context(name, words):
                pass
    assert len(seen) > 15
