"""pyengine's commands for images, networks, volumes and the whole engine, as they are typed."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.cli.conftest import Pyengine
from tests.engine.registry.server import PASSWORD, USER
from tests.terminal import Terminal

pytestmark = pytest.mark.kernel

DOCKERFILE = """\
FROM scratch AS first
COPY file /file
FROM first
ARG WHO=nobody
LABEL who=$WHO
CMD ["/file"]
"""
TITLES = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]


def columns(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line) for line in text.splitlines()]


def names(path: Path) -> set[str]:
    with tarfile.open(path) as tar:
        return set(tar.getnames())


def build(pyengine: Pyengine, here: Path, *options: str) -> str:
    (here / "Dockerfile").write_text(DOCKERFILE)
    (here / "file").write_text("content")
    (here / "left out").write_text("x" * 10_000)
    (here / ".dockerignore").write_text("left*\n")
    return pyengine("build", *options, ".").stdout


def test_an_image_from_its_build_to_its_end(pyengine: Pyengine, here: Path) -> None:
    text = build(pyengine, here, "-t", "made:1", "--build-arg", "WHO=me", "--iidfile", "id")
    assert "COPY file /file" in text
    assert "Successfully tagged made:1\n" in text
    identity = (here / "id").read_text()
    assert build(pyengine, here, "-q", "--build-arg", "WHO=me") == f"{identity}\n"
    assert pyengine("inspect", "-f", "{{.Config.Labels.who}}", "made:1").stdout == "me\n"
    packed = build(pyengine, here, "-q", "--build-arg", "WHO=me", "--compress")
    assert packed == f"{identity}\n"
    shown = pyengine("image", "inspect", "--platform", "linux/amd64", "-f", "{{.Os}}", "made:1")
    assert shown.stdout == "linux\n"
    assert (
        pyengine("image", "inspect", "--platform", "linux/mips", "made:1", code=1).stdout == "[]\n"
    )
    titles, row = columns(pyengine("images", "made").stdout)
    assert titles == TITLES
    assert row[:3] == ["made", "1", identity.removeprefix("sha256:")[:12]]
    pyengine("tag", "made:1", "also")
    assert columns(pyengine("history", "made:1").stdout)[0] == [
        "IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT",
    ]  # fmt: skip
    pyengine("save", "-o", "made.tar", "made:1", "also")
    assert {"manifest.json", "index.json"} <= names(here / "made.tar")
    assert pyengine("rmi", "made:1").stdout == "Untagged: made:1\n"
    assert f"Deleted: {identity}\n" in pyengine("rmi", "also").stdout
    loaded = pyengine("load", "-i", "made.tar").stdout.splitlines()
    assert sorted(loaded) == ["Loaded image: also:latest", "Loaded image: made:1"]
    wrong = pyengine("build", "nowhere", code=1)
    assert wrong.stderr == f"pyengine: the build context {here}/nowhere is not a folder\n"
    assert pyengine("rmi", "-f", "made:1", "also", "nosuch").returncode == 0


def test_a_build_is_given_secrets_and_a_dockerfile_on_standard_input(
    pyengine: Pyengine, here: Path
) -> None:
    (here / "key").write_text("hidden")
    step = "FROM rootfs:/\nRUN --mount=type=secret,id=k wc -c < /run/secrets/k\n"
    options = ("-f", "-", "--secret", "id=k,src=key", "--no-cache")
    assert "\n6\n" in pyengine("build", *options, ".", input=step).stdout
    assert "write id=NAME" in pyengine("build", "-f", "-", "--secret", "x", ".", code=1).stderr
    failed = pyengine("build", "-q", "-", input="FROM rootfs:/\nRUN echo why; exit 3\n", code=1)
    assert "why\n" in failed.stderr
    assert failed.stdout == ""


def test_a_build_is_lent_an_agent_and_given_more_folders(pyengine: Pyengine, here: Path) -> None:
    (here / "more").mkdir()
    (here / "more/word").write_text("from elsewhere\n")
    text = (
        "FROM rootfs:/ AS one\nCOPY --from=more word /word\n"
        'RUN --mount=type=ssh,required test -S "$SSH_AUTH_SOCK" && cat /word\n'
    )
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, socket.socket(
        socket.AF_UNIX
    ) as agent:  # fmt: skip
        agent.bind(f"{folder}/agent")
        agent.listen()
        options = (
            "-f", "-", "--ssh", f"default={folder}/agent", "--build-context", "more=more",
            "--no-cache-filter", "one", "--allow", "network.host",
        )  # fmt: skip
        assert "from elsewhere\n" in pyengine("build", *options, ".", input=text).stdout
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", here / "key"], check=True)
    listing = "FROM rootfs:/\nRUN --mount=type=ssh,id=key ssh-add -L\n"
    said = pyengine("build", "-f", "-", "--ssh", "key=key", ".", input=listing).stdout
    assert (here / "key.pub").read_text() in said
    refused = pyengine("build", "-f", "-", "--ssh", "default=/none", ".", input=text, code=1)
    assert "/none is no agent's socket, nor a" in refused.stderr


def test_files_become_an_image_and_leave_a_container(pyengine: Pyengine, here: Path) -> None:
    (here / "file").write_text("content")
    with tarfile.open(here / "files.tar", "w") as tar:
        tar.add(here / "file", "file")
    pyengine("import", "-c", "CMD /file", "-m", "told", "files.tar", "imported:1")
    assert "told" in pyengine("history", "imported:1").stdout
    pyengine("create", "--name", "box", "imported:1")
    pyengine("export", "-o", "out.tar", "box")
    assert "file" in names(here / "out.tar")
    identity = pyengine("commit", "-m", "message", "box", "kept").stdout.strip()
    assert pyengine("images", "-q", "--no-trunc", "kept").stdout.strip() == identity
    pyengine("rm", "box")
    pyengine("rmi", "kept", "imported:1")


def test_login_push_pull_logout(pyengine: Pyengine, here: Path, registry: str) -> None:
    name = f"{registry}/private/made:cli"
    build(pyengine, here, "-q", "-t", name)
    assert pyengine("push", name, code=1).stderr.startswith("pyengine: ")
    assert pyengine("login", registry, code=1).stderr.startswith("pyengine: cannot ask")
    login = ("login", "-u", USER, "--password-stdin", registry)
    assert pyengine(*login, input=PASSWORD).stdout == "Login Succeeded\n"
    assert list(json.loads((here / "docker/config.json").read_text())["auths"]) == [registry]
    assert (here / "docker/config.json").stat().st_mode & 0o777 == 0o600
    assert pyengine("login", registry).stdout.endswith("Login Succeeded\n")
    assert "digest: sha256:" in pyengine("push", name).stdout
    pyengine("rmi", name)
    assert pyengine("pull", "-q", name).stdout == f"{name}\n"
    assert pyengine("run", "--pull", "always", name, code=126).stderr.count("Unable to find") == 0
    pyengine("rmi", "-f", name)
    assert pyengine("logout", registry).stdout == f"Removing login credentials for {registry}\n"
    assert pyengine("logout", registry).stdout == f"Removing login credentials for {registry}\n"


def test_login_asks(terminal: Callable[..., Terminal], here: Path, registry: str) -> None:
    one = terminal("login", registry)
    one.read_until("Username: ")
    one.type(f"{USER}\n")
    one.read_until("Password: ")
    one.type(f"{PASSWORD}\n")
    assert one.end() == 0
    assert one.text.endswith("Login Succeeded\r\n")
    assert PASSWORD not in one.text
    assert (here / "docker/config.json").exists()


def test_credentials_go_to_the_helper_that_the_configuration_names(
    pyengine: Pyengine, here: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "docker").mkdir()
    (here / "docker/config.json").write_text('{"credsStore": "test", "other": 1}')
    helper = here / "docker-credential-test"
    helper.write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {here}/asked\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=":")
    pyengine("login", "-u", USER, "--password-stdin", registry, input=PASSWORD)
    told = (here / "asked").read_text()
    assert json.loads(told.removeprefix("store ")) == {
        "ServerURL": registry, "Username": USER, "Secret": PASSWORD,
    }  # fmt: skip
    assert PASSWORD not in (here / "docker/config.json").read_text()
    pyengine("logout", registry)
    assert (here / "asked").read_text() == f"{told}erase {registry}\n"
    assert json.loads((here / "docker/config.json").read_text())["other"] == 1


def test_networks(pyengine: Pyengine) -> None:
    subnets = ("--subnet", "10.99.0.0/16", "--ip-range", "10.99.5.0/24", "--gateway", "10.99.0.9")
    pyengine("network", "create", *subnets, "--label", "a=b", "net")
    config = json.loads(pyengine("network", "inspect", "net").stdout)[0]["IPAM"]["Config"]
    assert config == [{"Subnet": "10.99.0.0/16", "IPRange": "10.99.5.0/24", "Gateway": "10.99.0.9"}]
    rows = columns(pyengine("network", "ls", "--filter", "label=a").stdout)
    assert [row[1:] for row in rows] == [["NAME", "DRIVER", "SCOPE"], ["net", "bridge", "local"]]
    pyengine("run", "-d", "--name", "one", "rootfs:/", "sleep", "1000")
    pyengine("network", "connect", "--alias", "uno", "--ip", "10.99.5.7", "net", "one")
    address = "{{.NetworkSettings.Networks.net.IPAddress}}"
    assert pyengine("inspect", "-f", address, "one").stdout == "10.99.5.7\n"
    pyengine("network", "disconnect", "net", "one")
    assert pyengine("network", "rm", "net", "-f", "nosuch").stdout == "net\nnosuch\n"
    wrong = pyengine("network", "create", "--gateway", "10.1.0.1", "x", code=1)
    assert "needs the --subnet" in wrong.stderr


def test_volumes(pyengine: Pyengine) -> None:
    assert pyengine("volume", "create", "--label", "a=b", "data").stdout == "data\n"
    assert pyengine("volume", "ls", "-f", "label=a").stdout == (
        "DRIVER    VOLUME NAME\nlocal     data\n"
    )
    assert pyengine("volume", "ls", "-q").stdout == "data\n"
    assert pyengine("volume", "inspect", "-f", "{{json .Labels}}", "data").stdout == '{"a":"b"}\n'
    assert pyengine("volume", "rm", "data").stdout == "data\n"
    assert pyengine("volume", "rm", "data", code=1).stderr.startswith("pyengine: ")


def test_the_whole_engine(pyengine: Pyengine) -> None:
    pyengine("volume", "create", "unused")
    pyengine("create", "--name", "old", "rootfs:/", "true")
    assert columns(pyengine("system", "df").stdout)[0] == [
        "TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE",
    ]  # fmt: skip
    parts = json.loads(pyengine("system", "df", "-v", "--format", "json").stdout)
    assert [(one["Names"], one["Size"]) for one in parts["Containers"]] == [("old", "0B")]
    assert "unused" in [one["Name"] for one in parts["Volumes"]]
    assert "old" in pyengine("system", "df", "-v").stdout
    names = "{{.Server.APIVersion}} {{.Client.Version}}"
    assert pyengine("version", "--format", names).stdout.startswith("1.51 ")
    assert pyengine("system", "prune", input="n\n", code=1).stdout.endswith("[y/N] ")
    assert "Deleted Containers:" in pyengine("system", "prune", "-f").stdout
    assert "unused" in pyengine("volume", "prune", "-a", input="y\n").stdout
    pyengine("image", "prune", "-af")
    assert "Server Version: " in pyengine("info").stdout
    assert pyengine("info", "-f", "{{.OSType}}").stdout == "linux\n"
    assert "Server: pycompose engine" in pyengine("version").stdout
    events = pyengine("events", "--since", "1h", "--until", "0s", "-f", "type=volume")
    assert re.search(r"Z volume create unused \(driver=local\)\n", events.stdout)


def test_templates_that_do_not_fit_are_told(pyengine: Pyengine) -> None:
    assert "there is no function" in pyengine("ps", "--format", "{{nosuch .ID}}", code=1).stderr
    assert "there is no .Nmae" in pyengine("network", "ls", "--format", "{{.Nmae}}", code=1).stderr
    assert pyengine("inspect", "nosuch", code=1).stdout == "[]\n"
