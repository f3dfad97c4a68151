from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from engine import VERSION
from engine.errors import InvalidRequest
from engine.options import make_settings, parse_address
from engine.settings import Settings, TcpAddress, Tls, UnixAddress, default_places
from tests.host import ROOT


def settings(**given: object) -> Settings:
    """Of keys of daemon.json, with _ for -."""
    keys = {key.replace("_", "-"): value for key, value in given.items()}
    return make_settings(keys, uid=0, environment={})


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_root_lives_in_the_machines_folders() -> None:
    assert settings() == Settings(
        Path("/var/lib/pycompose"),
        Path("/run/pycompose"),
        (UnixAddress(Path("/run/pycompose/engine.sock")),),
    )


def test_a_user_lives_in_its_own_folders() -> None:
    places = default_places(1000, {"HOME": "/home/a"})
    assert places.data_root == Path("/home/a/.local/share/pycompose")
    assert places.host == UnixAddress(Path("/run/user/1000/pycompose/engine.sock"))
    named = default_places(1000, {"XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "/r"})
    assert (named.data_root, named.exec_root) == (Path("/d/pycompose"), Path("/r/pycompose"))


def test_the_socket_follows_the_exec_root() -> None:
    assert settings(exec_root="/x").hosts == (UnixAddress(Path("/x/engine.sock")),)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///a/b.sock", UnixAddress(Path("/a/b.sock"))),
        ("tcp://127.0.0.1:2375", TcpAddress("127.0.0.1", 2375)),
        ("tcp://localhost:2375/", TcpAddress("127.0.0.1", 2375)),
        ("tcp://[::1]:2375", TcpAddress("::1", 2375)),
        ("tcp://[::1]", TcpAddress("::1", 2375)),
        ("tcp://:2399", TcpAddress("127.0.0.1", 2399)),
        ("tcp://", TcpAddress("127.0.0.1", 2375)),
        ("tcp://127.0.0.1", TcpAddress("127.0.0.1", 2375)),
    ],
)
def test_addresses_are_read(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "unix://relative", "unix:///a/../b", "unix:///" + "x" * 200, "fd://", "tcp://x:1",
        "tcp://127.0.0.1:0", "tcp://127.0.0.1:", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1",
        "http://127.0.0.1:80",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_one_is_quoted(text: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot"):
        parse_address(text)


@pytest.mark.parametrize("host", ["tcp://0.0.0.0:2375", "tcp://192.168.1.1:2375", "tcp://[::]:1"])
def test_no_network_reaches_the_api_unless_it_is_spelled_out(host: str) -> None:
    """isolation 54"""
    with pytest.raises(InvalidRequest, match=r"root on this machine.*--insecure-tcp"):
        settings(hosts=(host,))
    assert settings(hosts=(host,), insecure_tcp=True).hosts == (parse_address(host),)


def test_loopback_needs_no_further_word() -> None:
    assert settings(hosts=("tcp://127.0.0.1:2375",)).hosts


def test_one_address_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        settings(hosts=("unix:///a", "unix:///a"))


def test_registries_are_named_by_host_or_network() -> None:
    found = settings(
        registry_mirrors=("https://Mirror.example/", "http://127.0.0.1:5000"),
        insecure_registries=("reg.example:5000", "10.1.2.3/8", "[::1]:5000"),
    ).registries
    assert found.mirrors == ("https://mirror.example", "http://127.0.0.1:5000")
    assert found.insecure == ("reg.example:5000", "10.0.0.0/8", "[::1]:5000")


@pytest.mark.parametrize(
    "mirror", ["", "mirror.example", "ftp://x", "https://x/path", "https://u:p@x", "https://x?y"]
)
def test_a_mirror_is_a_host_and_nothing_else(mirror: str) -> None:
    with pytest.raises(InvalidRequest, match="as a mirror"):
        settings(registry_mirrors=(mirror,))


@pytest.mark.parametrize("registry", ["", "http://x", "10.0.0.0/99", "x/y", "u@x"])
def test_an_insecure_registry_is_a_host_or_a_network(registry: str) -> None:
    with pytest.raises(InvalidRequest, match="as an insecure registry"):
        settings(insecure_registries=(registry,))


def test_tls_that_checks_clients_may_listen_everywhere() -> None:
    files = {"tlscacert": "/ca.pem", "tlscert": "/cert.pem", "tlskey": "/key.pem"}
    far = ("tcp://0.0.0.0:2376",)
    found = settings(hosts=far, tlsverify=True, **files)
    assert found.tls == Tls(Path("/cert.pem"), Path("/key.pem"), Path("/ca.pem"), verify=True)
    assert settings(hosts=far, tls=True, insecure_tcp=True, **files).tls is not None
    with pytest.raises(InvalidRequest, match="TLS without --tlsverify doesn't check who it is"):
        settings(hosts=far, tls=True, **files)
    with pytest.raises(InvalidRequest, match="nothing checks who it is"):
        settings(hosts=far)


def test_tls_files_are_dockers_where_none_are_named() -> None:
    keys = {"tls": True}
    found = make_settings(keys, uid=0, environment={"HOME": "/root"}).tls
    assert found is not None
    assert (found.certificate, found.verify) == (Path("/root/.docker/cert.pem"), False)
    named = make_settings(keys, uid=0, environment={"DOCKER_CERT_PATH": "/c"}).tls
    assert named is not None
    assert named.key == Path("/c/key.pem")
    assert settings(tls=False, tlscert="/x").tls is None
