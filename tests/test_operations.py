"""What docs/operations.md says of supervisors is what happens under one."""

import configparser
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from runs import Place, Started, rows_of
from test_docs import code, fenced, names, table, text_of

from batchgen.cli.options import OCCASIONS
from batchgen.domain.errors import Exit
from batchgen.domain.telling import KINDS
from batchgen.http import POST_S
from batchgen.notify import END_S
from batchgen.providers import simulator
from batchgen.providers.simulator import Fault, Kind

PAGE = "docs/operations.md"
UNIT = "docs/batchgen.service"
QUICK = ["--poll-interval", "0.05"]


# -- tables --------------------------------------------------------------------------------------


def test_every_event_is_listed_with_its_fields() -> None:
    rows = {code(row[0])[0]: tuple(code(row[1])) for row in table(PAGE, "kind")}

    assert rows == KINDS
    assert list(rows) == list(KINDS)


def test_every_occasion_is_listed() -> None:
    assert tuple(names(PAGE, "word")) == OCCASIONS


def test_every_exit_code_is_judged_as_the_unit_does() -> None:
    rows = {int(row[0]): row[1] for row in table(PAGE, "exit code")}

    assert list(rows) == sorted(map(int, Exit))
    unit = Unit.read(text_of(UNIT))
    for exit_code, said in rows.items():
        assert unit.restarts(exit_code) == said.startswith("after 10 min"), exit_code
        assert said.startswith(("after 10 min", "no")), exit_code
    assert unit.restarts(-signal.SIGKILL)
    assert not unit.restarts(-signal.SIGTERM)
    assert unit.service["RestartSec"] == "10min"


def test_the_page_quotes_the_unit() -> None:
    assert fenced(PAGE, "ini") == [text_of(UNIT)]


def test_a_stop_has_the_time_that_a_paid_request_may_take() -> None:
    unit = Unit.read(text_of(UNIT))

    assert float(unit.service["TimeoutStopSec"]) > POST_S + END_S + 20
    assert unit.service["KillSignal"] == "SIGTERM"


# -- systemd -------------------------------------------------------------------------------------

_CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


@dataclass
class Unit:
    """A service as systemd.service(5) reads it, as far as the unit here goes."""

    service: dict[str, str]

    @classmethod
    def read(cls, text: str) -> "Unit":
        parser = configparser.RawConfigParser(delimiters="=")
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text)
        return cls(dict(parser["Service"]))

    def _codes(self, name: str) -> set[int]:
        return set(map(int, self.service.get(name, "").split()))

    def restarts(self, status: int) -> bool:
        """Whether it is started again after an exit code, or a signal as a negative number."""
        if status in self._codes("RestartPreventExitStatus"):
            return False
        clean = {0, *self._codes("SuccessExitStatus"), *(-one for one in _CLEAN_SIGNALS)}
        assert self.service["Restart"] == "on-failure"
        return status not in clean


class Supervisor:
    """Starts a unit as systemd does, with the environment of a user's manager."""

    def __init__(self, home: Path, *, more: list[str]) -> None:
        self.unit = Unit.read(text_of(UNIT))
        self.home = home
        self._more = more
        self.runs: list[int] = []

    def _filled(self, text: str) -> str:
        return text.replace("%h", str(self.home))

    @property
    def folder(self) -> Path:
        return Path(self._filled(self.unit.service["WorkingDirectory"]))

    def environment(self) -> dict[str, str]:
        """What the manager sets, and what the file says."""
        file = Path(self._filled(self.unit.service["EnvironmentFile"]))
        said = dict(line.split("=", 1) for line in file.read_text().splitlines())
        return {
            "HOME": str(self.home),
            "LOGNAME": "somebody",
            "USER": "somebody",
            "SHELL": "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "BATCHGEN_PROBE": "no",  # the URLs of the manifest lead nowhere
            **said,
        }

    def start(self) -> Started:
        command = [self._filled(word) for word in shlex.split(self.unit.service["ExecStart"])]
        return Started([*command, *self._more], self.environment(), self.folder)

    def run(self) -> bool:
        """Run it once; return whether it is to be started again."""
        run = self.start()
        try:
            done = run.wait()
        finally:
            run.end()
        self.runs.append(done.code)
        return self.unit.restarts(done.code)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as the page says to make it."""
    home = tmp_path / "home"
    for folder in (".local/bin", ".config/batchgen", "clips-work"):
        (home / folder).mkdir(parents=True)
    program = home / ".local" / "bin" / "batchgen"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m batchgen "$@"\n')
    program.chmod(0o755)
    return home


@pytest.fixture
def place(home: Path) -> Iterator[Place]:
    with simulator.start_in_thread(simulator.Settings(run_s=(0.0, 0.2))) as service:
        place = Place(home / "clips-work", service)
        place.db = place.folder / "batchgen.db"
        place.url = str(place.db)
        (home / ".config" / "batchgen" / "environment").write_text(
            f"RUNCOMFY_TOKEN=a-token\nRUNCOMFY_MODEL_API_BASE={service.base}\n"
        )
        yield place
        place.end()


def generate_for_ever(place: Place) -> None:
    place.service.settings = replace(place.service.settings, run_s=(1000.0, 1000.0))


def finish(place: Place) -> None:
    place.service.settings = replace(place.service.settings, run_s=(0.0, 0.1))
    place.service.finish_all()


def test_systemd_understands_the_unit(home: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    (home / ".config" / "batchgen" / "environment").touch()
    unit = tmp_path / "batchgen.service"
    shutil.copy(Path(__file__).parents[1] / UNIT, unit)

    done = subprocess.run(
        [program, "verify", "--user", "--man=no", str(unit)],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_out_of_reach_is_tried_again_and_the_work_gets_done(
    home: Path, place: Place
) -> None:
    place.write(rows_of(4))
    supervisor = Supervisor(home, more=[*QUICK, "--max-outage", "0.2"])
    place.service.down()

    assert supervisor.run()
    place.service.up()
    assert not supervisor.run()

    assert supervisor.runs == [12, 0]
    assert place.states() == {"succeeded": 4}
    assert place.service.counters.accepted == 4


def test_an_empty_wallet_is_not_tried_again(home: Path, place: Place) -> None:
    place.write(rows_of(4))
    place.set_faults(Fault(Kind.NO_BALANCE))
    supervisor = Supervisor(home, more=QUICK)

    assert not supervisor.run()

    assert supervisor.runs == [7]
    assert place.states() == {"pending": 4}


def test_a_stop_drains_and_is_no_failure(home: Path, place: Place) -> None:
    place.write(rows_of(30))
    place.set_faults(Fault(Kind.SLOW, seconds=0.2))
    supervisor = Supervisor(home, more=QUICK)
    run = supervisor.start()
    place.wait_accepted(3)
    run.send(signal.Signals[supervisor.unit.service["KillSignal"]])

    done = run.wait()

    assert done.code == 143, done.err
    assert not supervisor.unit.restarts(done.code)
    assert place.states()["in_doubt"] == 0
    assert 3 <= place.service.counters.accepted < 30
    place.check_books()


def test_a_killed_run_is_started_again_and_pays_for_nothing_twice(home: Path, place: Place) -> None:
    place.write(rows_of(6))
    generate_for_ever(place)
    supervisor = Supervisor(home, more=QUICK)
    run = supervisor.start()
    place.wait_accepted(4)
    place.wait_jobs(lambda: place.states()["running"] == 4)
    run.send(signal.SIGKILL)

    assert supervisor.unit.restarts(run.wait().code)
    finish(place)
    assert not supervisor.run()

    assert supervisor.runs == [0]
    assert place.service.counters.accepted == 6


# -- cron ----------------------------------------------------------------------------------------


def cron_command() -> str:
    [line] = fenced(PAGE, "cron")
    found = re.fullmatch(r"(?:\S+ ){5}(.+)\n", line)
    assert found is not None
    # In a crontab it would end the command.
    assert "%" not in found[1]
    return found[1]


def start_cron(home: Path) -> Started:
    environment = {
        "HOME": str(home),
        "LOGNAME": "somebody",
        "SHELL": "/bin/sh",
        "PATH": "/usr/bin:/bin",
        "BATCHGEN_PROBE": "no",
    }
    return Started(["/bin/sh", "-c", cron_command()], environment, home)


needs_flock = pytest.mark.skipif(
    shutil.which("flock", path="/usr/bin:/bin") is None, reason="needs flock of util-linux"
)


@needs_flock
def test_the_line_for_cron_works_in_its_poor_environment(home: Path, place: Place) -> None:
    place.write(rows_of(2))

    first = start_cron(home).wait()
    second = start_cron(home).wait()

    assert place.states() == {"succeeded": 2}
    assert place.service.counters.accepted == 2
    assert (second.out, second.err) == ("", "")
    assert "Error" not in first.err


@needs_flock
def test_a_second_run_by_cron_does_nothing_and_says_so(home: Path, place: Place) -> None:
    place.write(rows_of(2))
    generate_for_ever(place)
    first = start_cron(home)
    place.wait_accepted(2)

    second = start_cron(home).wait()
    finish(place)
    first.wait()

    assert second.out == "batchgen: the run before is still at work\n"
    assert place.states() == {"succeeded": 2}
    assert place.service.counters.accepted == 2
