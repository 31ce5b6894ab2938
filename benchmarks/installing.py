"""The peers' own environment: made once, in the user's cache, from the package index."""

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from measuring import HERE, Missing

PEERS = HERE / "peers"
_REQUIREMENTS = PEERS / "requirements.txt"
_DONE = "installed"


@cache
def environment() -> Path:
    """Return the folder of programs of the peers' environment; make it if need be.

    Raises:
        Missing: If it cannot be made, without a network say.
    """
    wanted = f"{_REQUIREMENTS.read_text()}{sys.version}".encode()
    cached = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cached / "batchgen-benchmarks" / hashlib.sha256(wanted).hexdigest()[:12]
    programs = folder / "bin"
    if (folder / _DONE).exists():
        return programs
    print(f"installing the peers in {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    _call(sys.executable, "-m", "venv", folder)
    _call(programs / "python", "-m", "pip", "install", "--quiet", "-r", _REQUIREMENTS)
    (folder / _DONE).touch()
    return programs


def version_of(package: str) -> str:
    """Return which version of a peer is installed."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    said = subprocess.run(
        [environment() / "python", "-c", code], capture_output=True, text=True, check=True
    )
    return said.stdout.strip()


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Missing(f"the peers could not be installed: {' '.join(said)}")
