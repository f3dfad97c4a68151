from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from compose.client.credentials import HUB, CredentialStore, registry_of
from compose.client.errors import ClientError

ANN = base64.b64encode(b"ann:a:b").decode()


async def known(folder: Path, config: object, reference: str = "reg.example/a/b:1") -> object:
    """What the header says, decoded; None without one."""
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / "config.json").write_text(text)
    environment = {"DOCKER_CONFIG": str(folder), "PATH": f"{folder}:/usr/bin:/bin"}
    header = await CredentialStore(environment).header(reference)
    return json.loads(base64.urlsafe_b64decode(header)) if header else None


def helper(folder: Path, text: str) -> None:
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("nginx", HUB),
        ("bitnami/nginx:1", HUB),
        ("docker.io/library/nginx", HUB),
        ("localhost/a", "localhost"),
        ("reg.example:5000/a/b@sha256:00", "reg.example:5000"),
        ("[::1]:5000/a", "[::1]:5000"),
    ],
)
def test_a_registry_is_called_as_docker_calls_it(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry


@pytest.mark.parametrize("key", ["reg.example", "https://reg.example/v1/", "reg.example/v2/"])
async def test_a_registry_may_be_written_in_many_ways(tmp_path: Path, key: str) -> None:
    assert await known(tmp_path, {"auths": {"x": {}, key: {"auth": ANN}}}) == {
        "username": "ann",
        "password": "a:b",
        "serveraddress": "reg.example",
    }


async def test_only_the_registry_that_is_asked_hears_of_it(tmp_path: Path) -> None:
    config = {"auths": {"other.example": {"auth": ANN}, HUB: {"auth": ANN}}}
    assert await known(tmp_path, config) is None
    assert await known(tmp_path, config, "reg.example.other.example/a") is None
    assert await known(tmp_path, config, "nginx") is not None


async def test_a_token_stands_for_a_password(tmp_path: Path) -> None:
    config = {"auths": {"reg.example": {"auth": ANN, "identitytoken": "t"}}}
    found = await known(tmp_path, config)
    assert isinstance(found, dict)
    assert found["identitytoken"] == "t"


async def test_without_a_file_nobody_is_known(tmp_path: Path) -> None:
    assert await CredentialStore({}).header("nginx") == ""
    assert await CredentialStore({"HOME": str(tmp_path)}).header("nginx") == ""
    assert await known(tmp_path, {}) is None


@pytest.mark.parametrize("config", ["{", "[]", '{"auths": {"reg.example": {"auth": "?"}}}'])
async def test_a_broken_file_is_named(tmp_path: Path, config: str) -> None:
    with pytest.raises(ClientError, match=r"cannot read the .*credentials"):
        await known(tmp_path, config)


async def test_a_helper_is_asked_for_the_registry(tmp_path: Path) -> None:
    helper(tmp_path, 'read name; echo "{\\"Username\\": \\"$1\\", \\"Secret\\": \\"$name\\"}"')
    config = {"credHelpers": {"reg.example": "test"}, "auths": {"other.example": {"auth": ANN}}}
    assert await known(tmp_path, config) == {
        "username": "get", "password": "reg.example", "serveraddress": "reg.example",
    }  # fmt: skip
    found = await known(tmp_path, config, "other.example/a")
    assert isinstance(found, dict)
    assert found["username"] == "ann"
    helper(tmp_path, """echo '{"Username": "<token>", "Secret": "t"}'""")
    found = await known(tmp_path, {"credsStore": "test"}, "nginx")
    assert found == {"identitytoken": "t", "serveraddress": HUB}


async def test_a_helper_that_knows_nothing_is_no_error(tmp_path: Path) -> None:
    helper(tmp_path, "echo credentials not found in native keychain; exit 1")
    assert await known(tmp_path, {"credsStore": "test"}) is None


@pytest.mark.parametrize(
    ("script", "name", "text"),
    [
        ("echo locked; exit 1", "test", "no credentials for reg.example: locked"),
        ("echo rubbish", "test", "makes no sense"),
        ("", "nosuch", "cannot run docker-credential-nosuch: No such file"),
        ("", "../test", "no program's name"),
    ],
)
async def test_a_helper_that_fails_is_named(
    tmp_path: Path, script: str, name: str, text: str
) -> None:
    helper(tmp_path, script)
    with pytest.raises(ClientError, match=text):
        await known(tmp_path, {"credsStore": name})
