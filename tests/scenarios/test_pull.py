"""Images come from a registry and go to one: through the API, and as people do it, by pycompose."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Iterator

import pytest

from tests.engine.api.dialogue import Dialogue
from tests.engine.registry.server import PASSWORD, USER
from tests.host import Daemon, Host, host
from tests.scenarios.project import Project, project

pytestmark = pytest.mark.kernel

PYENGINE = (sys.executable, "-m", "engine.cli.main")
REGISTRY = "127.0.0.1:5000"
SHOP = f"""\
services:
  open:
    image: shell:1
    command: [/bin/sh, -c, 'read line < /etc/motd; echo "$$line"']
  closed:
    image: {REGISTRY}/private/shell:1
    command: [/bin/sh, -c, 'read line < /etc/motd; echo "$$line"']
"""
MADE = f"""\
services:
  made:
    # what is made here, under two names
    image: {REGISTRY}/private/made:1
    build:
      dockerfile_inline: |
        FROM shell:1
        LABEL made=here
      tags: [{REGISTRY}/private/made:extra]
  other:
    image: shell:1
"""
HELPER = f"""\
#!/bin/sh
read registry
if [ "$1 $registry" != "get {REGISTRY}" ]; then
    echo "credentials not found in native keychain"
    exit 1
fi
echo '{{"ServerURL": "{REGISTRY}", "Username": "{USER}", "Secret": "{PASSWORD}"}}'
"""


@pytest.fixture(scope="module")
def shared_host() -> Iterator[Host]:
    with host() as opened:
        opened.serve("tests.engine.registry.server", "5000")
        yield opened


@pytest.fixture(scope="module")
def engine(shared_host: Host) -> Daemon:
    """Told of the mirror by its environment, as where pycompose starts it."""
    return shared_host.daemon("engine", env={"PYENGINE_REGISTRY_MIRROR": f"http://{REGISTRY}"})


@pytest.fixture
def shop(shared_host: Host, engine: Daemon, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project and a Docker config folder of its own, which says of no credentials."""
    made = project(shared_host, SHOP, name=request.node.name.replace("_", "")[:30], daemon=engine)
    docker_config = made.folder / "docker"
    docker_config.mkdir()
    made.environment |= {
        "DOCKER_CONFIG": str(docker_config),
        "PATH": f"{docker_config}:{os.environ['PATH']}",
    }
    yield made
    made("down", "-v")
    for image in ("shell:1", f"{REGISTRY}/private/shell:1"):
        engine.call("DELETE", f"/images/{image}?force=1")


def pull(engine: Daemon, name: str, tag: str) -> tuple[int, list[dict[str, object]]]:
    status, text = engine.call("POST", f"/images/create?fromImage={name}&tag={tag}")
    if isinstance(text, dict):
        return status, [text]
    assert isinstance(text, str)
    return status, [json.loads(line) for line in text.splitlines()]


def log_in(shop: Project, config: dict[str, object]) -> None:
    (shop.folder / "docker/config.json").write_text(json.dumps(config))


def test_a_pull_tells_what_happens_line_by_line(engine: Daemon) -> None:
    status, lines = pull(engine, "shell", "1")
    assert status == 200
    assert lines[0] == {"status": "Pulling from library/shell", "id": "1"}
    assert set(lines[1]) == {"status", "progressDetail", "id"}
    assert lines[1]["progressDetail"] == {}
    moved = [line for line in lines if line["status"] == "Downloading"]
    assert all(set(line["progressDetail"]) == {"current", "total"} for line in moved)  # type: ignore[call-overload]
    assert str(lines[-2]["status"]).startswith("Digest: sha256:")
    assert lines[-1] == {"status": "Status: Downloaded newer image for shell:1"}
    status, lines = pull(engine, "shell", str(lines[-2]["status"]).removeprefix("Digest: "))
    assert status == 200
    _, document = engine.call("GET", "/images/shell:1/json")
    assert isinstance(document, dict)
    assert document["RepoDigests"] == [f"shell@{lines[-2]['status']}".replace("Digest: ", "")]
    engine.call("DELETE", "/images/shell:1?force=1")


@pytest.mark.parametrize(
    ("name", "tag", "status", "text"),
    [
        (f"{REGISTRY}/library/shell", "9", 404,
         f"manifest for {REGISTRY}/library/shell:9 not found: manifest unknown: manifest unknown"),
        (f"{REGISTRY}/private/shell", "1", 500, "no basic auth credentials"),
        ("shell", "9", 500, "dial tcp: lookup registry-1.docker.io: "),
        ("shell", "9", 500, f"; mirror {REGISTRY}: manifest for shell:9 not found: "),
        ("registry.example/x", "1", 500, "dial tcp: lookup registry.example: "),
        ("Upper", "1", 400, "must be lowercase"),
        ("x", "a/b", 400, "invalid tag format"),
        ("x", "md5:00", 400, "unsupported digest algorithm"),
    ],
)  # fmt: skip
def test_what_is_refused_at_once_is_an_ordinary_error(
    engine: Daemon, name: str, tag: str, status: int, text: str
) -> None:
    found, (answer,) = pull(engine, name, tag)
    assert (found, set(answer)) == (status, {"message"})
    assert text in str(answer["message"])


def test_a_client_that_hangs_up_ends_its_pull(engine: Daemon) -> None:
    temporary = engine.data_root / "images/tmp"
    dialogue = Dialogue(engine.socket)
    dialogue.request("POST", "/images/create?fromImage=stuck&tag=1")
    dialogue.read_until(b'"Downloading"')
    assert os.listdir(temporary)
    dialogue.close()
    limit = time.monotonic() + 20
    while os.listdir(temporary) and time.monotonic() < limit:
        time.sleep(0.02)
    assert os.listdir(temporary) == []


def test_a_daemon_that_dies_in_a_pull_starts_clean(shared_host: Host, engine: Daemon) -> None:
    mirror = ("--registry-mirror", f"http://{REGISTRY}")
    other = shared_host.daemon("other", *mirror, "--insecure-registry", "10.0.0.0/8")
    _, document = other.call("GET", "/info")
    assert isinstance(document, dict)
    assert document["RegistryConfig"]["Mirrors"] == [f"http://{REGISTRY}/"]
    assert "10.0.0.0/8" in document["RegistryConfig"]["InsecureRegistryCIDRs"]
    dialogue = Dialogue(other.socket)
    dialogue.request("POST", "/images/create?fromImage=stuck&tag=1")
    dialogue.read_until(b'"Downloading"')
    other.kill()
    dialogue.close()
    other = shared_host.daemon("other")
    assert other.call("GET", "/images/json") == (200, [])
    images = other.data_root / "images"
    assert [os.listdir(images / name) for name in ("tmp", "layers", "blobs/sha256")] == [[]] * 3


def test_up_pulls_what_is_missing(shop: Project) -> None:
    (shop.folder / "docker/docker-credential-test").write_text(HELPER)
    (shop.folder / "docker/docker-credential-test").chmod(0o755)
    log_in(shop, {"credsStore": "test"})
    assert "image shell:1  pulled" in shop("pull", "open").stderr
    done = shop("up", "--detach")
    assert f"image {REGISTRY}/private/shell:1  pulled" in done.stderr
    assert "image shell:1" not in done.stderr
    assert sorted(shop("logs", "--no-log-prefix").stdout.splitlines()) == ["pulled", "pulled"]


def test_without_credentials_nothing_is_made(shop: Project) -> None:
    log_in(shop, {})
    done = shop("up", "--detach", check=False)
    assert done.returncode != 0
    assert f"cannot pull {REGISTRY}/private/shell:1: " in done.stderr
    assert "no basic auth credentials" in done.stderr
    assert "hint: " in done.stderr
    assert shop.containers() == {}


def test_push_sends_what_is_built_here(shop: Project) -> None:
    log_in(
        shop,
        {"auths": {REGISTRY: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}},
    )
    shop.write(MADE)
    assert "there is nothing to push" in shop("push", "other").stderr
    shop("build", "made")
    done = shop("push", "made")
    for tag in ("1", "extra"):
        assert f"image {REGISTRY}/private/made:{tag}  pushed" in done.stderr
        shop.daemon.call("DELETE", f"/images/{REGISTRY}/private/made:{tag}?force=1")
    assert "private/made:1" in shop("pull", "made").stderr
    done = shop("push", "--quiet", "made", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"compose.yaml:4:12: cannot push {REGISTRY}/private/made:extra: "
        f"tag does not exist: {REGISTRY}/private/made:extra\n"
    )
    done = shop("push", "--ignore-push-failures", "made")
    assert f"image {REGISTRY}/private/made:1  pushed" in done.stderr
    assert "warning: " in done.stderr


def test_a_push_tells_what_happens_line_by_line(shop: Project) -> None:
    pull(shop.daemon, "shell", "1")
    shop.daemon.call("POST", f"/images/shell:1/tag?repo={REGISTRY}/library/copy&tag=2")
    status, text = shop.daemon.call("POST", f"/images/{REGISTRY}/library/copy/push?tag=2")
    assert (status, type(text)) == (200, str)
    lines = [json.loads(line) for line in str(text).splitlines()]
    assert lines[0] == {"status": f"The push refers to repository [{REGISTRY}/library/copy]"}
    assert {line["status"] for line in lines[1:-2]} == {"Preparing", "Layer already exists"}
    aux = lines[-1]["aux"]
    assert lines[-1] == {"progressDetail": {}, "aux": {**aux, "Tag": "2"}}
    assert lines[-2] == {"status": f"2: digest: {aux['Digest']} size: {aux['Size']}"}
    _, text = shop.daemon.call("POST", f"/images/{REGISTRY}/library/copy/push?tag=3")
    said = f"tag does not exist: {REGISTRY}/library/copy:3"
    assert json.loads(str(text).splitlines()[-1]) == {
        "errorDetail": {"message": said}, "error": said
    }  # fmt: skip
    shop.daemon.call("DELETE", f"/images/{REGISTRY}/library/copy:2?force=1")


def test_who_logs_in_may_pull_until_he_logs_out(shop: Project) -> None:
    assert shop("pull", "closed", check=False).returncode == 1
    command = (*PYENGINE, "login", REGISTRY, "--username", USER, "--password-stdin")
    done = shop.host.run(*command, env=shop.environment, cwd=shop.folder, input=f"{PASSWORD}\n")
    assert done.stdout == "Login Succeeded\n"
    assert "is kept unencrypted in " in done.stderr
    shop("pull", "closed")
    done = shop.host.run(*PYENGINE, "logout", REGISTRY, env=shop.environment)
    assert done.stdout == f"Removing login credentials for {REGISTRY}\n"
    shop.daemon.call("DELETE", f"/images/{REGISTRY}/private/shell:1?force=1")
    assert shop("pull", "closed", check=False).returncode == 1
    assert PASSWORD not in shop.daemon.log
