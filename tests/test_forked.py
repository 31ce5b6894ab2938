import os
import signal
from pathlib import Path

import forked
import pytest


def test_it_has_an_environment_a_folder_and_an_exit_code_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    env = {**os.environ, "BATCHGEN_DB": "of-the-test.db"}

    here = forked.Piped([*forked.BATCHGEN, "config", "show", "run"], env, tmp_path / "other")
    out, err = here.communicate(60)
    wrong = forked.Piped([*forked.BATCHGEN, "ls", "--db", "missing.db"], os.environ, tmp_path)
    _, complaint = wrong.communicate(60)

    assert here.returncode == 0, err
    assert "of-the-test.db" in out
    assert wrong.returncode != 0
    assert "missing.db" in complaint
    assert "BATCHGEN_DB" not in os.environ


def test_it_is_a_child_of_the_test_that_can_be_killed(tmp_path: Path) -> None:
    started = forked.Piped([*forked.BATCHGEN, "simulate", "--port", "0"], os.environ, tmp_path)
    assert started.poll() is None

    started.kill()
    started.communicate(60)

    assert started.returncode == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitpid(started.pid, 0)  # it was waited for: a child it was


def test_a_program_is_given_as_python_takes_it(tmp_path: Path) -> None:
    said = "import os, sys; print(__name__, sys.argv, sys.path[0]); sys.exit(7)"
    path = tmp_path / "program.py"
    path.write_text(said)

    for words, begin in (["-c", said], "-c"), ([str(path)], str(path)):
        started = forked.Piped([*words, "a", "b c"], os.environ, tmp_path)
        out, err = started.communicate(60)

        folder = "" if begin == "-c" else str(tmp_path)
        assert out == f"__main__ {[begin, 'a', 'b c']} {folder}\n", err
        assert started.returncode == 7


def test_what_an_interpreter_reads_at_its_start_is_not_forked() -> None:
    assert forked.can_start({**os.environ, "HOME": "/elsewhere"})
    assert not forked.can_start({**os.environ, "LD_PRELOAD": "clock.so"})
    assert not forked.can_start({**os.environ, "PYTHONUTF8": "another"})
