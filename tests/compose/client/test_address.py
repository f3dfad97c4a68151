from __future__ import annotations

from pathlib import Path

import pytest

from compose.client.address import TcpAddress, TlsFiles, UnixAddress, parse_address
from compose.client.errors import BadAddress
from compose.client.locate import built_in_places, chosen_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/d.sock", UnixAddress("/run/d.sock")),
        ("/run/d.sock", UnixAddress("/run/d.sock")),
        ("tcp://127.0.0.1:2375", TcpAddress("127.0.0.1", 2375)),
        ("tcp://[::1]:2375", TcpAddress("::1", 2375)),
        ("http://engine", TcpAddress("engine", 2375)),
    ],
)
def test_addresses_are_read_as_docker_host_spells_them(text: str, address: object) -> None:
    assert parse_address(text, {}) == address


@pytest.mark.parametrize("text", ["tcp://", "unix://relative", "ftp://x", "x", "tcp://h:99999"])
def test_what_is_no_address_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(BadAddress, match="cannot use"):
        parse_address(text, {})


def test_ssh_is_refused_with_a_way_that_works() -> None:
    with pytest.raises(BadAddress, match=r"ssh -nNT -L .* me@far and use unix"):
        parse_address("ssh://me@far", {})


def test_tls_is_turned_on_as_the_docker_cli_does() -> None:
    environment = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    files = TlsFiles(
        Path("/certs/ca.pem"), Path("/certs/cert.pem"), Path("/certs/key.pem"), verify=True
    )
    assert parse_address("tcp://far", environment) == TcpAddress("far", 2376, files)


def test_the_option_wins_over_our_variable_and_that_over_dockers() -> None:
    environment = {"PYCOMPOSE_HOST": "unix:///ours", "DOCKER_HOST": "unix:///dockers"}
    assert chosen_address("unix:///option", environment) == UnixAddress("/option")
    assert chosen_address("", environment) == UnixAddress("/ours")
    del environment["PYCOMPOSE_HOST"]
    assert chosen_address("", environment) == UnixAddress("/dockers")
    assert chosen_address("", {}) is None


def test_a_users_engine_lives_in_the_users_folders() -> None:
    environment = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/7"}
    places = built_in_places(7, environment)
    assert places.address == UnixAddress("/run/user/7/pycompose/engine.sock")
    assert places.data_root == Path("/home/me/.local/share/pycompose")
    assert built_in_places(0, environment).data_root == Path("/var/lib/pycompose")
