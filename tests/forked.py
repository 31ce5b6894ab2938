"""Starts a Python program by forking a process that has imported batchgen already.

What starts is a child process of the test's, with an environment, a folder, streams and an exit
code of its own, that can be killed, stopped and waited for. Only the import is spared: a second
or two of CPU each time. That batchgen starts from nothing is for the tests that execute it.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import IO, Any, Self

# Modules that batchgen imports where it uses them.
_LAZY = (
    "difflib",
    "encodings.idna",
    "encodings.utf_8_sig",
    "jsonschema_rs",
    "openpyxl",
    "psycopg",
    "rich.console",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
)
BATCHGEN = ("-m", "batchgen")
"""What `python` is told to start it."""
_execute = subprocess.Popen  # whatever a test has put in its place
_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>
_LONGEST = 1 << 17  # bytes of a request


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what is read when an interpreter starts, or before."""
    known = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "SSL_")
    return {name: value for name, value in environment.items() if name.startswith(known)}


_STARTED_WITH = _at_start(os.environ)


def can_start(environment: Mapping[str, str]) -> bool:
    """Return whether a fork would do as well as an interpreter started in this environment."""
    return _at_start(environment) == _STARTED_WITH


class Process:
    """A program under way, in parts as `subprocess.Popen` is.

    Attributes:
        returncode: As `subprocess.Popen` tells it; None until it was waited for.
    """

    def __init__(
        self, words: Sequence[str], env: Mapping[str, str], folder: Path, streams: Sequence[int]
    ) -> None:
        """Start what `python WORDS...` would.

        Args:
            words: `-m` and a module, `-c` and its source or the path of a file; its arguments.
            env: Its whole environment.
            folder: Where it starts.
            streams: Its stdin, stdout and stderr; they stay open here.
        """
        self.returncode: int | None = None
        request = {"words": list(words), "env": dict(env), "folder": str(folder)}
        self.pid = _fork(json.dumps(request), streams)

    def poll(self) -> int | None:
        """Return the exit code, None while it lives."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still lives."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code.

        Raises:
            subprocess.TimeoutExpired: If it still lives after so many seconds; it is killed then.
        """
        if self.poll() is None:
            watched = os.pidfd_open(self.pid)
            try:
                if not select.select([watched], [], [], timeout)[0]:
                    self.kill()
                    raise subprocess.TimeoutExpired("python", timeout or 0.0)
            finally:
                os.close(watched)
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        assert self.returncode is not None
        return self.returncode


class Piped(Process):
    """A program with nothing on its stdin, whose two other streams are read here."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        """Start it."""
        (out, its_out), (err, its_err) = os.pipe(), os.pipe()
        self.stdout, self.stderr = (os.fdopen(end, encoding="utf-8") for end in (out, err))
        nothing = os.open(os.devnull, os.O_RDONLY)
        its = (nothing, its_out, its_err)
        try:
            super().__init__(words, env, folder, its)
        finally:
            for stream in its:
                os.close(stream)

    def close(self) -> None:
        """Read no more, and wait for the end."""
        self.stdout.close()
        self.stderr.close()
        self.wait()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both streams to their ends, and wait for the end.

        Raises:
            subprocess.TimeoutExpired: If it still lives after so many seconds; it is killed then.
        """
        with ThreadPoolExecutor(2) as pool, self.stdout, self.stderr:
            read = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            self.wait(timeout)
            return read[0].result(), read[1].result()


class Popen(Process):
    """A program started as `subprocess.Popen` would, as far as the benchmarks do."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: IO[Any] | int | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
        text: bool = False,
    ) -> None:
        """Start it; only stdout may be a pipe."""
        env = os.environ if env is None else env
        python, *words = map(str, command)
        assert python == sys.executable
        assert can_start(env)
        self.stdout: IO[Any] | None = None
        with contextlib.ExitStack() as stack:
            nothing = stack.enter_context(Path(os.devnull).open("r+b"))
            if stdout == subprocess.PIPE:
                mine, stdout = os.pipe()
                stack.callback(os.close, stdout)
                self.stdout = os.fdopen(mine, "r" if text else "rb")
            its = [
                number if given is None else nothing if given == subprocess.DEVNULL else given
                for number, given in enumerate((stdin, stdout, stderr))
            ]
            numbers = [one if isinstance(one, int) else one.fileno() for one in its]
            super().__init__(words, env, cwd or Path.cwd(), numbers)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdout is not None:
            self.stdout.close()
        self.wait()


def _fork(request: str, streams: Sequence[int]) -> int:
    """Have a child of this process made; return its process id."""
    starter, libc = _starter(), ctypes.CDLL(None)
    # The child of a child that ends is given to the nearest above that wants orphans.
    libc.prctl(_SET_CHILD_SUBREAPER, 1)
    try:
        socket.send_fds(starter, [request.encode()], streams)
        return int(starter.recv(_LONGEST))
    finally:
        libc.prctl(_SET_CHILD_SUBREAPER, 0)


@cache
def _starter() -> socket.socket:
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, __file__, str(its.fileno())]
        process = _execute(command, cwd="/", stdin=subprocess.DEVNULL, pass_fds=[its.fileno()])

    def end() -> None:
        mine.close()
        process.wait()

    atexit.register(end)
    return mine


# -- the process that has imported everything ------------------------------------------------------


def _load() -> None:
    sys.path.pop(0)  # the folder of this file
    batchgen = importlib.import_module("batchgen")
    for found in pkgutil.walk_packages(batchgen.__path__, "batchgen."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    for name in _LAZY:
        importlib.import_module(name)
    # Reads a hundred certificates, of which no test has need.
    sys.modules["batchgen.http"]._ssl_context()
    # Reads a module for each of a hundred services, before it looks at the first address.
    importlib.import_module("apprise").Apprise.instantiate("json://localhost")
    threads = list(Path("/proc/self/task").iterdir())
    assert len(threads) == 1, "a fork would lack the others"
    gc.freeze()


def _serve(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork for each request; return it in the process that was forked, None at the end."""
    while True:
        data, streams, _, _ = socket.recv_fds(requests, _LONGEST, 3)
        if not data:
            return None
        told, telling = os.pipe()
        middle = os.fork()
        if not middle:
            pid = os.fork()
            if not pid:
                os.close(told)
                os.close(telling)
                return json.loads(data), streams
            os.write(telling, str(pid).encode())
            os._exit(0)
        os.waitpid(middle, 0)  # from here on its child is the asker's
        requests.send(os.read(told, _LONGEST))
        for number in (told, telling, *streams):
            os.close(number)


def _become(words: Sequence[str], env: Mapping[str, str], folder: str) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    how, *rest = words
    if how == "-m":
        sys.argv[1:] = rest[1:]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif how == "-c":
        sys.argv[:] = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        exec(rest[0], {"__name__": "__main__"})  # noqa: S102 - a test's own
    else:
        sys.argv[:] = [how, *rest]
        sys.path.insert(0, str(Path(how).parent))
        runpy.run_path(how, run_name="__main__")


def _main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        _load()
        asked = _serve(requests)
    if asked is None:
        return
    request, streams = asked
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    code: str | int | None = None
    try:
        _become(**request)
    except SystemExit as left:
        code = left.code
    _end(code)


def _end(code: str | int | None) -> None:
    """End as an interpreter does, but free nothing.

    To free all that was imported, a fork would first have to copy it: 0.13 s of CPU each time.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream and not stream.closed]
    if isinstance(code, str):
        sys.exit(code)  # which says it
    with contextlib.suppress(OSError):  # an interpreter has its own word and code for that
        for stream in streams:
            stream.flush()
        os._exit((code or 0) & 0xFF)
    sys.exit(code)


if __name__ == "__main__":
    _main()
