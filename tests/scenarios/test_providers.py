"""Services that a program of somebody else's runs, and containers that are lent the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.scenarios.project import Project

pytestmark = pytest.mark.kernel

STACK = """\
services:
  web:
    image: rootfs:/
    init: true
    command: sleep infinity
    stop_signal: SIGKILL
    environment: {PLAIN: mine}
    depends_on: [data-base]
  data-base:
    provider: {type: cloudy, options: {size: 10, tag: [a, b]}}
"""

# It notes how it was called, and says what the file `says` holds.
PROGRAM = """\
#!/bin/sh
here=$(dirname "$0")
if [ "$*" = "compose metadata" ]; then
  test -f "$here/metadata" && exec cat "$here/metadata"
  exit 1
fi
echo "$@" >> "$here/calls"
cat "$here/says"
exit $(cat "$here/code")
"""
SAYS = """\
{"type": "info", "message": "making 10"}
{"type": "debug", "message": "quiet"}
{"type": "setenv", "message": "URL=http://one/?a=b"}
{"type": "rawsetenv", "message": "PLAIN=theirs"}
"""


@pytest.fixture
def cloud(stack: Project) -> Iterator[Project]:
    program = stack.folder / "bin" / "cloudy"
    program.parent.mkdir()
    program.write_text(PROGRAM)
    program.chmod(0o755)
    stack.write(SAYS, "bin/says")
    stack.write("0", "bin/code")
    path = stack.host.environment()["PATH"]
    stack.environment["PATH"] = f"{program.parent}:{path}"
    yield stack
    stack.write("0", "bin/code")


def calls(stack: Project) -> list[str]:
    path = stack.folder / "bin" / "calls"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def environment(stack: Project) -> dict[str, str]:
    (name,) = (name for name in stack.containers() if "web" in name)
    config = stack.inspect(name)["Config"]
    assert isinstance(config, dict)
    return dict(each.split("=", 1) for each in config["Env"])


def test_up_runs_it_and_dependents_get_what_it_says(cloud: Project) -> None:
    assert "data-base is run by cloudy" in cloud("plan", check=False).stderr
    assert calls(cloud) == []
    done = cloud("up", "-d")
    name = cloud.folder.name
    assert calls(cloud) == [f"compose --project-name={name} up --size=10 --tag=a --tag=b data-base"]
    assert "data-base: making 10" in done.stderr
    assert "data-base sets PLAIN, which web says otherwise" in done.stderr
    seen = environment(cloud)
    assert (seen["DATA-BASE_URL"], seen["PLAIN"]) == ("http://one/?a=b", "theirs")
    assert len(cloud.containers()) == 1


def test_again_nothing_changes_until_it_says_something_else(cloud: Project) -> None:
    cloud("up", "-d")
    before = cloud.ids()
    assert cloud("plan", check=False).returncode == 0
    cloud("up", "-d")
    assert cloud.ids() == before
    cloud.write(SAYS.replace("//one", "//two"), "bin/says")
    assert cloud("plan", check=False).returncode == 0  # it isn't asked for a plan
    cloud("up", "-d")
    assert cloud.ids() != before
    assert environment(cloud)["DATA-BASE_URL"] == "http://two/?a=b"


def test_stop_and_down_reach_it(cloud: Project) -> None:
    metadata = {
        "description": "d",
        "up": {"parameters": [{"name": "size", "required": True}]},
        "down": {"parameters": []},
    }
    cloud.write(json.dumps(metadata), "bin/metadata")
    cloud("up", "-d")
    name = cloud.folder.name
    assert calls(cloud) == [f"compose --project-name={name} up --size=10 data-base"]
    cloud("stop")
    assert calls(cloud) == []  # it doesn't say that it can
    cloud.write(json.dumps(metadata | {"stop": {"parameters": [{"name": "tag"}]}}), "bin/metadata")
    cloud("stop")
    assert calls(cloud) == [f"compose --project-name={name} stop --tag=a --tag=b data-base"]
    cloud("down")
    assert calls(cloud) == [f"compose --project-name={name} down data-base"]
    assert cloud.containers() == {}


def test_run_asks_it_too(cloud: Project) -> None:
    said = cloud("run", "--rm", "-T", "web", "env").stdout
    assert "DATA-BASE_URL=http://one/?a=b\n" in said
    refused = cloud("run", "data-base", check=False)
    assert "its provider runs it" in refused.stderr
    assert refused.returncode == 1


FAILURES = {
    '{"type": "error", "message": "no credit"}': ("0", "no credit"),
    "": ("3", "ended with code 3"),
    "hello": ("0", "wrote what is no message"),
    '{"type": "setenv", "message": "URL"}': ("0", "isn't NAME=value"),
}


def test_what_fails_is_told_and_nothing_is_made(cloud: Project) -> None:
    for says, (code, reason) in FAILURES.items():
        cloud.write(says, "bin/says")
        cloud.write(code, "bin/code")
        done = cloud("up", "-d", check=False)
        assert done.returncode == 1
        assert reason in done.stderr
        assert cloud.containers() == {}
    cloud.write(SAYS, "bin/says")


def test_a_program_that_is_not_there_is_told_with_its_place(stack: Project) -> None:
    done = stack("up", "-d", check=False)
    assert done.returncode == 1
    assert "there is no program cloudy" in done.stderr
    assert "compose.yaml:10:22" in done.stderr
    stack.write(STACK.partition("    depends_on")[0])


def test_a_container_may_be_lent_the_engine_and_the_user_s_credentials(stack: Project) -> None:
    home = stack.folder / "home"
    home.mkdir()
    entry = {"auth": "YW5uOnNlY3JldA=="}
    (home / "config.json").write_text(json.dumps({"auths": {"registry.test": entry}}))
    stack.environment["DOCKER_CONFIG"] = str(home)
    stack.write(
        "services:\n"
        "  web: {image: 'rootfs:/', init: true, command: sleep infinity, use_api_socket: true,"
        " stop_signal: SIGKILL}\n"
    )
    stack("up", "-d")
    ask = (
        "import socket;s=socket.socket(socket.AF_UNIX);s.connect('/var/run/docker.sock');"
        "s.send(b'GET /_ping HTTP/1.0\\r\\n\\r\\n');print(s.recv(9999).decode()[-2:])"
    )
    assert stack("exec", "-T", "web", "python3", "-c", ask).stdout == "OK\n"
    script = 'cat "$DOCKER_CONFIG/config.json"'
    seen = json.loads(stack("exec", "-T", "web", "sh", "-c", script).stdout)
    assert seen == {"auths": {"registry.test": entry}}
    assert stack("plan", check=False).returncode == 0
