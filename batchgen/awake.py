"""Keep the machine from falling asleep while jobs are at work: best effort, never in the way."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence

logger = logging.getLogger(__name__)

_END_S = 2.0
_SECRET_PREFIXES = ("RUNCOMFY_", "BATCHGEN_", "PG", "AWS_", "GOOGLE_", "AZURE_")


@contextlib.contextmanager
def kept_awake(*, is_wanted: bool = True) -> Iterator[None]:
    """Keep the machine awake as long as this lasts, where systemd or macOS offer that.

    The program that asks for it waits for this process, so that it ends even if this one is
    killed.
    """
    child = _start(os.getpid(), os.environ) if is_wanted else None
    try:
        yield
    finally:
        if child is not None:
            _end(child)


def _start(pid: int, environment: Mapping[str, str]) -> "subprocess.Popen[bytes] | None":
    command = _command(pid)
    if command is None:
        logger.debug("the machine may sleep: neither systemd-inhibit nor caffeinate is there")
        return None
    env = {name: text for name, text in environment.items() if not _is_secret(name)}
    try:
        return subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a group of its own: Ctrl-C is not for it
        )
    except OSError as error:
        logger.debug("the machine may sleep: %s: %s", command[0], error.strerror)
        return None


def _command(pid: int) -> Sequence[str] | None:
    inhibit, tail = shutil.which("systemd-inhibit"), shutil.which("tail")
    if inhibit is not None and tail is not None:
        return [
            inhibit,
            "--what=sleep:idle",
            "--who=batchgen",
            "--why=paid generations are under way",
            "--mode=block",
            tail,
            f"--pid={pid}",
            "-f",
            os.devnull,
        ]
    caffeinate = shutil.which("caffeinate")
    return None if caffeinate is None else [caffeinate, "-i", "-w", str(pid)]


def _is_secret(name: str) -> bool:
    return name.startswith(_SECRET_PREFIXES)


def _end(child: "subprocess.Popen[bytes]") -> None:
    code = child.poll()
    if code is not None:
        logger.debug("the machine could sleep: the program that kept it awake ended with %d", code)
        return
    # Its own child too, which waits for this process.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
