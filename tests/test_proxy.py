import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import psycopg
import pytest
from postgres import PostgresServer
from proxy import Proxy

SILENCE_S = 0.2
DEADLINE_S = 10.0


@dataclass
class Echo:
    """A server that sends back what it gets, one connection at a time."""

    port: int
    got: list[bytes] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


@pytest.fixture
def echo() -> Iterator[Echo]:
    listener = socket.create_server(("127.0.0.1", 0))
    served = Echo(listener.getsockname()[1])

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while data := connection.recv(100):
                        served.got.append(data)
                        served.arrived.release()
                        connection.sendall(data)
                except ConnectionError:
                    served.got.append(b"reset")
                    served.arrived.release()

    thread = threading.Thread(target=serve)
    thread.start()
    yield served
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as made:
        yield made


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=DEADLINE_S)


def is_silent(client: socket.socket) -> bool:
    client.settimeout(SILENCE_S)
    try:
        client.recv(100)
    except TimeoutError:
        return True
    finally:
        client.settimeout(DEADLINE_S)
    return False


def test_it_passes_everything_on_and_ends_with_either_side(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""

    assert echo.got == [b"hello"]


def test_a_cut_resets_both_ends(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        client.recv(100)

        assert proxy.cut() == 1

        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert echo.arrived.acquire(timeout=DEADLINE_S)
        assert echo.arrived.acquire(timeout=DEADLINE_S)
        assert echo.got == [b"hello", b"reset"]


@pytest.mark.parametrize(
    ("partition", "reaches"),
    [
        pytest.param(lambda proxy: proxy.partition(), False, id="both-ways"),
        pytest.param(lambda proxy: proxy.partition(answers=False), False, id="requests"),
        pytest.param(lambda proxy: proxy.partition(requests=False), True, id="answers"),
    ],
)
def test_what_a_partition_holds_back_arrives_when_it_heals(
    proxy: Proxy, echo: Echo, partition: Callable[[Proxy], None], reaches: bool
) -> None:
    with connect(proxy) as client:
        client.sendall(b"before")
        assert client.recv(100) == b"before"
        assert echo.arrived.acquire(timeout=DEADLINE_S)
        partition(proxy)

        client.sendall(b"after")

        assert is_silent(client)
        if reaches:
            assert echo.arrived.acquire(timeout=DEADLINE_S)
        assert echo.got == ([b"before", b"after"] if reaches else [b"before"])
        proxy.heal()
        assert client.recv(100) == b"after"


def test_a_connection_made_in_a_partition_is_silent_too(proxy: Proxy) -> None:
    proxy.partition()
    with connect(proxy) as client:
        client.sendall(b"hello")

        assert is_silent(client)
        proxy.heal()
        assert client.recv(100) == b"hello"


def test_a_delay_holds_each_piece_back(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.delay(2 * SILENCE_S)
        client.sendall(b"hello")

        assert is_silent(client)
        assert client.recv(100) == b"hello"


def test_a_dead_target_is_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    # The reset may come before `connect` has returned.
    with Proxy(port) as proxy, pytest.raises(ConnectionError), connect(proxy) as client:
        client.recv(100)


def test_postgresql_is_reached_through_it(postgres: PostgresServer, postgres_url: str) -> None:
    database = postgres_url.rpartition("/")[2]
    with (
        Proxy(postgres.port) as proxy,
        closing(psycopg.connect(postgres.url(database, port=proxy.port))) as connection,
    ):
        assert connection.execute("SELECT 1").fetchone() == (1,)

        assert proxy.cut() == 1

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
