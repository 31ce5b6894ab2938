import os
import time
from contextlib import closing
from pathlib import Path

import forked
import pytest

from batchgen.awake import kept_awake

DEADLINE_S = 30.0
INHIBIT = """#!/bin/sh
for word; do echo "$word" >> "$STUB_NOTES"; done
env > "$STUB_NOTES.env"
while [ $# -gt 0 ] && [ "${1#--}" != "$1" ]; do shift; done
"$@"  # as its child, as systemd-inhibit does
"""
CAFFEINATE = """#!/bin/sh
for word; do echo "$word" >> "$STUB_NOTES"; done
env > "$STUB_NOTES.env"
while kill -0 "$3" 2>/dev/null; do sleep 0.05; done
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "notes"
    monkeypatch.setenv("STUB_NOTES", str(path))
    return path


def stub(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)
    return path.read_text()


def living(word: str) -> list[int]:
    """The processes whose command line holds a word."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if word.encode() in words:
                found.append(int(folder.name))
    return found


def wait_gone(word: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while living(word):
        assert time.monotonic() < deadline, f"{living(word)} still live"
        time.sleep(0.01)


needs_proc = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")


@needs_proc
def test_systemd_is_asked_as_long_as_it_lasts(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path / "bin", "systemd-inhibit", INHIBIT)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("RUNCOMFY_TOKEN", "s3cret")
    monkeypatch.setenv("BATCHGEN_NOTIFY", "json://s3cret")
    word = f"--pid={os.getpid()}"

    with kept_awake():
        env = wait_for(notes.with_name("notes.env"))
        assert living(word)
    wait_gone(word)

    said = notes.read_text().splitlines()
    assert said[:2] == ["--what=sleep:idle", "--who=batchgen"]
    assert said[2].startswith("--why=")
    assert said[3] == "--mode=block"
    assert said[4].endswith("tail")
    assert said[5:] == [word, "-f", os.devnull]
    assert "s3cret" not in env


@needs_proc
def test_it_ends_with_a_process_that_is_killed(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path / "bin", "systemd-inhibit", INHIBIT)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    code = "import time; from batchgen.awake import kept_awake\nwith kept_awake(): time.sleep(60)"
    process = forked.Piped(["-c", code], os.environ, tmp_path)
    with closing(process):
        word = f"--pid={process.pid}"
        wait_for(notes.with_name("notes.env"))
        assert living(word)
        process.kill()
    wait_gone(word)


def test_macos_is_asked_where_there_is_no_systemd(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path / "bin", "caffeinate", CAFFEINATE)
    for name in ("sleep", "env"):
        stub(
            tmp_path / "bin", name, f'#!/bin/sh\nexec /usr/bin/env PATH=/bin:/usr/bin {name} "$@"\n'
        )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    with kept_awake():
        wait_for(notes.with_name("notes.env"))

    assert notes.read_text().split() == ["-i", "-w", str(os.getpid())]


@pytest.mark.parametrize("program", [None, "#!/bin/sh\nexit 7\n", "no program at all\0"])
def test_where_it_cannot_be_asked_nothing_is_harmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    (tmp_path / "bin").mkdir()
    if program is not None:
        stub(tmp_path / "bin", "caffeinate", program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    with kept_awake():
        pass


def test_nothing_is_asked_if_it_is_not_wanted(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path / "bin", "caffeinate", CAFFEINATE)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    with kept_awake(is_wanted=False):
        pass

    assert not notes.exists()
