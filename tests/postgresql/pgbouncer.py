"""A real pgbouncer on loopback, which gives two server connections to whoever has a transaction."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from postgres import PASSWORD, USER, PostgresServer

POOL = 2
_START_S = 20.0
_LOOK_S = 0.01
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_SETTINGS = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 100
logfile = {folder}/log
{more}
"""


@contextmanager
def running(server: PostgresServer, folder: Path, database: str, more: str = "") -> Iterator[int]:
    """Run pgbouncer in transaction mode in front of a server; give its port."""
    assert PROGRAM is not None
    port = _free_port()
    (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        _SETTINGS.format(server=server.port, port=port, folder=folder, pool=POOL, more=more)
    )
    command = [PROGRAM, "-q", str(settings)]
    if os.geteuid() == 0:  # which it refuses to be
        for path in [folder, *folder.iterdir()]:
            shutil.chown(path, "nobody")
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(server.url(database, port=port)):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(_LOOK_S)
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
