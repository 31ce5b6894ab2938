import os
import signal
from pathlib import Path

import forked
import pytest


def test_it_has_an_environment_a_folder_and_an_exit_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    env = {**os.environ, "BATCHGEN_DB": "of-the-test.db"}

    here = forked.Piped(["config", "show", "run"], env, tmp_path / "other")
    out, err = here.communicate(60)
    wrong = forked.Piped(["ls", "--db", "missing.db"], os.environ, tmp_path)
    _, complaint = wrong.communicate(60)

    assert here.returncode == 0, err
    assert "of-the-test.db" in out
    assert wrong.returncode != 0
    assert "missing.db" in complaint
    assert "BATCHGEN_DB" not in os.environ


def test_it_is_a_child_of_the_test_that_can_be_killed(tmp_path: Path) -> None:
    started = forked.Piped(["simulate", "--port", "0"], os.environ, tmp_path)
    assert started.poll() is None

    started.kill()
    started.communicate(60)

    assert started.returncode == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitpid(started.pid, 0)  # it was waited for: a child it was


def test_what_an_interpreter_reads_at_its_start_is_not_forked() -> None:
    assert forked.can_start({**os.environ, "HOME": "/elsewhere"})
    assert not forked.can_start({**os.environ, "LD_PRELOAD": "clock.so"})
    assert not forked.can_start({**os.environ, "PYTHONUTF8": "another"})
