"""Ten ways to break a stack, and the one command that brings it back each time."""

from __future__ import annotations

import re
import signal
import socket

import pytest

from tests.scenarios.project import Project

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]

STACK = """\
services:
  web:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
    networks: [front]
    ports: ["127.0.0.1:8077:80"]
    volumes: ["data:/data"]
    mem_limit: 64m
    healthcheck: {test: "true", interval: 200ms}
networks: {front: {}}
volumes: {data: {}}
"""


@pytest.fixture
def stack(stack: Project) -> Project:
    stack("up", "--detach", "--wait")
    stack("exec", "-T", "web", "sh", "-c", "echo precious > /data/kept")
    return stack


def runs_as_declared(stack: Project) -> bool:
    """And nothing in the volume was lost."""
    kept = stack("exec", "-T", "web", "cat", "/data/kept").stdout
    return kept == "precious\n" and stack("drift").returncode == 0


def fails(stack: Project, *command: str) -> str:
    done = stack(*command, check=False)
    assert done.returncode != 0
    return done.stderr


def test_a_bad_image(stack: Project) -> None:
    stack.replace("image: rootfs:/", "image: rootfs:/no/such/folder")
    assert re.search(r"compose.yaml:3:\d+: .*no such directory", fails(stack, "up", "--detach"))
    assert runs_as_declared(stack)  # nothing was touched
    stack("rollback", "1")
    assert runs_as_declared(stack)


def test_a_failing_health_check(stack: Project) -> None:
    stack.replace(
        'test: "true", interval: 200ms', "test: echo sick; false, interval: 200ms, retries: 1"
    )
    stack.replace("test: echo sick; false", 'test: "echo sick; false"')
    told = fails(stack, "up", "--detach", "--wait", "--atomic")
    assert "sick" in told
    assert "returned to revision 1" in told
    assert runs_as_declared(stack)


def test_a_deleted_network(stack: Project) -> None:
    name = stack.folder.name
    stack.daemon.call("POST", f"/networks/{name}_front/disconnect",
                      {"Container": f"{name}-web-1", "Force": True})  # fmt: skip
    assert stack.daemon.call("DELETE", f"/networks/{name}_front")[0] == 204
    stack("up", "--detach", "--wait")
    assert runs_as_declared(stack)


def test_an_edited_container(stack: Project) -> None:
    path = f"/containers/{stack.folder.name}-web-1"
    assert stack.daemon.call("POST", f"{path}/update", {"Memory": 32 << 20})[0] == 200
    assert stack.daemon.call("POST", f"{path}/rename?name=other")[0] == 204
    stack("up", "--detach", "--wait")
    assert runs_as_declared(stack)


def test_bad_yaml(stack: Project) -> None:
    stack.write(STACK.replace("  web:", "  web"))
    assert "compose.yaml:" in fails(stack, "up", "--detach")
    assert stack("--project-name", stack.folder.name, "rollback", "1", check=False).returncode != 0
    stack.write(STACK)
    stack("up", "--detach")
    assert runs_as_declared(stack)


def test_a_removed_volume(stack: Project) -> None:
    name = stack.folder.name
    stack.daemon.call("DELETE", f"/containers/{name}-web-1?force=1")
    assert stack.daemon.call("DELETE", f"/volumes/{name}_data")[0] == 204
    stack("up", "--detach", "--wait")  # what was in it is gone; the stack isn't
    assert stack("drift").returncode == 0


def test_a_taken_port(stack: Project) -> None:
    other = stack.host.call(lambda: socket.create_server(("127.0.0.1", 8078)))
    try:
        stack.replace("8077", "8078")
        told = fails(stack, "up", "--detach")
        assert re.search(r"compose.yaml:7:\d+: .*a process of this machine has it", told)
        assert runs_as_declared(stack)
    finally:
        other.close()
    stack("up", "--detach")
    assert runs_as_declared(stack)


def test_out_of_memory(stack: Project) -> None:
    eater = 'sh -c "echo; exec tail /dev/zero"'
    stack.replace("command: sleep infinity", f"command: {eater}")
    stack.replace('test: "true"', 'test: "false", retries: 1000')  # it is to die first
    told = fails(stack, "up", "--detach", "--wait", "--atomic")
    assert "ran out of memory" in told
    assert runs_as_declared(stack)


def test_a_git_revert(stack: Project) -> None:
    stack.git("init", "-q")
    stack.git("add", ".")
    stack.git("commit", "-qm", "good")
    stack.replace("mem_limit: 64m", "mem_limit: 96m\n    environment: {WRONG: 'yes'}")
    stack.git("commit", "-qam", "bad")
    stack("up", "--detach")
    stack.git("revert", "--no-edit", "HEAD")
    stack("up", "--detach", "--wait")
    assert stack("diff", "1", "running").stdout == ""
    assert runs_as_declared(stack)


def test_a_killed_daemon(stack: Project) -> None:
    """The last of these: the daemon that comes after it has the same folders."""
    place = stack.host
    stack.daemon.process.send_signal(signal.SIGKILL)
    stack.daemon.process.wait()
    stack.daemon = place.daemon()
    stack("up", "--detach", "--wait")
    assert runs_as_declared(stack)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_change_that_is_ended_half_way(stack: Project, number: int) -> None:
    """By Ctrl-C, or by what runs deployments, when it has lost its patience."""
    before = stack.ids()
    stack.replace("mem_limit: 64m", "depends_on: {gate: {condition: service_healthy}}")
    stack.replace("networks: {front", """\
  gate:
    image: rootfs:/
    command: sh -c 'echo at the gate; exec sleep infinity'
    stop_signal: SIGKILL
    networks: [front]
    healthcheck: {test: "false", start_period: 1h}
networks: {front""")  # fmt: skip
    stack.replace("sleep infinity\n", "sleep 1000\n")
    change = stack.start("up", "--detach")
    assert change.stdout is not None
    told = ""
    while not re.search("gate.1 +started", told):
        told += change.stdout.readline()
    change.send_signal(number)
    assert change.wait(30) == 130, change.stdout.read()
    gate = f"{stack.folder.name}-gate-1"  # it runs, as declared
    assert stack.ids() == before | {gate: stack.ids()[gate]}
    assert stack("exec", "-T", "web", "cat", "/data/kept").stdout == "precious\n"
