from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from compose.client.address import (
    Choice,
    SshAddress,
    TcpAddress,
    TlsFiles,
    TlsOptions,
    UnixAddress,
    parse_address,
)
from compose.client.errors import BadAddress
from compose.client.locate import built_in_places, chosen_address
from compose.client.ssh import DIAL, ssh_command


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ssh://me:secret@far", "a password has no place"),
        ("ssh://far/var/run/docker.sock", "nothing can follow"),
        ("ssh://-oProxyCommand=x", "take it for an option"),
        ("ssh://-v@far", "take it for an option"),
        ("ssh://", "names no host"),
    ],
)
def test_what_ssh_must_not_get_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadAddress, match=said):
        parse_address(text, {})


def test_ssh_runs_dockers_helper_on_the_other_side() -> None:
    address = parse_address("ssh://me@far:2222", {})
    assert address == SshAddress("far", "me", 2222)
    command = " ".join(ssh_command(address, None))
    assert f"-l me -p 2222 -- far {DIAL}" in command


def test_options_and_files_turn_tls_on_too() -> None:
    options = TlsOptions(verify=True, cert="/mine.pem")
    found = parse_address("tcp://far", {"HOME": "/me"}, options)
    docker = Path("/me/.docker")
    files = TlsFiles(docker / "ca.pem", Path("/mine.pem"), docker / "key.pem", verify=True)
    assert found == TcpAddress("far", 2376, files)
    assert parse_address("unix:///s", {}, options) == UnixAddress("/s")


def write_context(folder: Path, name: str, endpoint: dict[str, object], *files: str) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta, tls = folder / "contexts/meta" / digest, folder / "contexts/tls" / digest / "docker"
    meta.mkdir(parents=True)
    tls.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": endpoint}}))
    for file in files:
        (tls / file).touch()


def test_docker_contexts_name_engines_with_their_tls_files(tmp_path: Path) -> None:
    write_context(tmp_path, "plain", {"Host": "unix:///x.sock"})
    write_context(tmp_path, "safe", {"Host": "tcp://far:1"}, "ca.pem", "cert.pem", "key.pem")
    write_context(tmp_path, "lax", {"Host": "tcp://far", "SkipTLSVerify": True})
    environment = {"DOCKER_CONFIG": str(tmp_path)}

    def address(name: str) -> object:
        return chosen_address(Choice(context=name), environment)

    assert address("plain") == UnixAddress("/x.sock")
    safe = address("safe")
    assert isinstance(safe, TcpAddress)
    assert safe.tls is not None
    assert (safe.tls.verify, safe.tls.ca and safe.tls.ca.name) == (True, "ca.pem")
    assert address("lax") == TcpAddress("far", 2376, TlsFiles(None, None, None, verify=False))
    assert address("default") == UnixAddress("/var/run/docker.sock")
    with pytest.raises(BadAddress, match="no such context") as refusal:
        address("nosuch")
    assert refusal.value.hint == "known are: default, lax, plain, safe"


def test_an_address_wins_over_a_context_in_the_environment_only(tmp_path: Path) -> None:
    write_context(tmp_path, "c", {"Host": "unix:///c.sock"})
    environment = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "c"}
    assert chosen_address(Choice(), environment) == UnixAddress("/c.sock")
    environment["DOCKER_HOST"] = "unix:///d.sock"
    assert chosen_address(Choice(), environment) == UnixAddress("/d.sock")
    assert chosen_address(Choice(context="c"), environment) == UnixAddress("/c.sock")
    with pytest.raises(BadAddress, match="together"):
        chosen_address(Choice("unix:///h", "c"), environment)


def test_tls_is_turned_on_as_the_docker_cli_does() -> None:
    environment = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}
    files = TlsFiles(
        Path("/certs/ca.pem"), Path("/certs/cert.pem"), Path("/certs/key.pem"), verify=True
    )
    assert parse_address("tcp://far", environment) == TcpAddress("far", 2376, files)


def test_the_option_wins_over_our_variable_and_that_over_dockers() -> None:
    environment = {"PYCOMPOSE_HOST": "unix:///ours", "DOCKER_HOST": "unix:///dockers"}
    assert chosen_address(Choice("unix:///option"), environment) == UnixAddress("/option")
    assert chosen_address(Choice(), environment) == UnixAddress("/ours")
    del environment["PYCOMPOSE_HOST"]
    assert chosen_address(Choice(), environment) == UnixAddress("/dockers")
    assert chosen_address(Choice(), {}) is None


def test_a_users_engine_lives_in_the_users_folders() -> None:
    environment = {"HOME": "/home/me", "XDG_RUNTIME_DIR": "/run/user/7"}
    places = built_in_places(7, environment)
    assert places.address == UnixAddress("/run/user/7/pycompose/engine.sock")
    assert places.data_root == Path("/home/me/.local/share/pycompose")
    assert built_in_places(0, environment).data_root == Path("/var/lib/pycompose")
