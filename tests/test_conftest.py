"""The fence around the tests holds."""

import os
import socket
from pathlib import Path

import pytest

DOCUMENTATION = "192.0.2.1"  # RFC 5737: nobody's


@pytest.mark.parametrize(
    "family_and_address",
    [
        pytest.param((socket.AF_INET, (DOCUMENTATION, 9)), id="ipv4"),
        pytest.param((socket.AF_INET6, ("2001:db8::1", 9)), id="ipv6"),
        pytest.param((socket.AF_INET, ("0.0.0.1", 9)), id="not-quite-loopback"),
    ],
)
@pytest.mark.parametrize("connect", ["connect", "connect_ex"])
def test_no_test_can_connect_to_another_machine(
    family_and_address: tuple[socket.AddressFamily, tuple[str, int]],
    connect: str,
    refused: list[str],
) -> None:
    family, address = family_and_address
    with (
        socket.socket(family, socket.SOCK_STREAM) as outward,
        pytest.raises(RuntimeError, match="nothing but loopback"),
    ):
        getattr(outward, connect)(address)

    assert refused == [f"socket.connect to {address[0]}"]
    refused.clear()


def test_no_test_can_send_a_datagram_to_another_machine(refused: list[str]) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward,
        pytest.raises(RuntimeError, match="nothing but loopback"),
    ):
        outward.sendto(b"", (DOCUMENTATION, 9))
    refused.clear()


def test_no_test_can_ask_a_name_server(refused: list[str]) -> None:
    with pytest.raises(RuntimeError, match="nothing but loopback"):
        socket.getaddrinfo("images.example.com", 443)
    refused.clear()


def test_a_name_that_cannot_exist_is_not_asked_for() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("no-such-host.invalid", 443)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_open(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1])).close()


def test_home_is_a_folder_of_the_test(tmp_path: Path) -> None:
    homes = [os.environ[name] for name in ("HOME", "XDG_CONFIG_HOME", "RUNCOMFY_CONFIG_DIR")]

    assert all(Path(home).is_relative_to(tmp_path.parent) for home in homes)
    assert Path.home().is_relative_to(tmp_path.parent)
    assert Path.cwd() == tmp_path


def test_no_token_of_the_developer_is_seen() -> None:
    names = [name for name in os.environ if name.startswith(("RUNCOMFY_", "BATCHGEN_"))]

    assert sorted(names) == ["BATCHGEN_PROBE", "RUNCOMFY_CONFIG_DIR"]
