"""What departs from what was applied is told, and brought back."""

from __future__ import annotations

import re
import signal
import subprocess

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
    mem_limit: 64m
  sick:
    image: rootfs:/
    command: sleep infinity
    stop_signal: SIGKILL
    networks: [front]
    healthcheck: {test: test ! -e /sick, interval: 200ms, retries: 1}
  once:
    image: rootfs:/
    command: "true"
    networks: [front]
networks: {front: {}}
"""


def expect(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """Read until a line has it."""
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if re.search(wanted, line):
            return lines
    raise AssertionError("".join(lines))


def call(stack: Project, method: str, path: str, body: object = None) -> None:
    status, answer = stack.daemon.call(method, path, body)
    assert status < 400, answer


def test_whatever_happens_to_it_is_put_right(stack: Project) -> None:
    name = stack.folder.name
    web, sick = f"{name}-web-1", f"{name}-sick-1"
    keeper = stack.start("--progress", "plain", "up", "--reconcile")
    expect(keeper, "is kept as in revision 1")

    call(stack, "DELETE", f"/containers/{web}?force=1")
    lines = expect(keeper, r"web\.1 +started")
    assert any(re.search(r"\d create web.1: missing", line) for line in lines)

    call(stack, "POST", f"/containers/{sick}/stop")
    expect(keeper, r"start sick\.1: exited with code 137")
    expect(keeper, r"sick\.1 +started")

    call(stack, "POST", f"/containers/{web}/update", {"Memory": 32 << 20, "MemorySwap": 64 << 20})
    lines = expect(keeper, r"web\.1 +updated")
    assert any("update web.1: changed by hand: memory" in line for line in lines)
    after = stack.inspect(web)
    assert after["HostConfig"]["Memory"] == 64 << 20  # type: ignore[index]
    assert after["RestartCount"] == 0

    stack("exec", "-T", "sick", "touch", "/sick")
    expect(keeper, r"restart sick\.1: is unhealthy")

    # What has done its work is not done again, and what others do is not disturbed.
    once = stack.inspect(f"{name}-once-1")["State"]
    assert isinstance(once, dict)

    # Nor is it lost with the engine.
    stack.daemon.kill()
    expect(keeper, "lost the engine: ")
    stack.daemon = stack.host.daemon()
    expect(keeper, "is kept as in revision 1")
    call(stack, "DELETE", f"/containers/{web}?force=1")
    expect(keeper, r"web\.1 +started")
    keeper.send_signal(signal.SIGINT)
    assert keeper.wait(30) == 130
    after = stack.inspect(f"{name}-once-1")["State"]
    assert isinstance(after, dict)
    assert after["StartedAt"] == once["StartedAt"]


def test_drift_is_shown_and_nothing_done(stack: Project) -> None:
    none = stack("drift", check=False)
    assert none.returncode == 1
    assert "nothing was applied yet" in none.stderr
    stack.replace('  once:\n    image: rootfs:/\n    command: "true"\n    networks: [front]\n', "")
    stack("up", "--detach")
    assert stack("drift").stdout == ""
    stack.replace("mem_limit: 64m", "mem_limit: 96m")  # a wish, and no drift
    assert stack("drift").returncode == 0
    before = stack.ids()
    web = f"{stack.folder.name}-web-1"
    call(stack, "POST", f"/containers/{web}/rename?name={stack.folder.name}-other")
    call(stack, "POST", f"/containers/{stack.folder.name}-sick-1/stop")
    found = stack("drift", check=False)
    assert found.returncode == 2
    assert f"rename web.1   is called {stack.folder.name}-other" in found.stdout
    assert re.search(r"start sick.1 +exited with code 137", found.stdout)
    assert sorted(stack.ids().values()) == sorted(before.values())


def test_limits_networks_and_policies_change_as_it_runs(stack: Project) -> None:
    stack("up", "--detach", "web")
    name = f"{stack.folder.name}-web-1"
    before = stack.inspect(name)
    stack.replace("mem_limit: 64m", "mem_limit: 96m\n    restart: always\n    pids_limit: 50")
    stack.replace("networks: [front]\n    mem", "networks: [back]\n    mem")
    stack.replace("networks: {front: {}}", "networks: {front: {}, back: {}}")
    planned = stack("plan", "web", check=False).stdout
    assert "update web.1" in planned
    assert "interrupted" not in planned
    stack("up", "--detach", "web")
    after = stack.inspect(name)
    assert after["Id"] == before["Id"]
    assert after["State"]["Pid"] == before["State"]["Pid"]  # type: ignore[index]
    host_config, networks = after["HostConfig"], after["NetworkSettings"]["Networks"]  # type: ignore[index]
    assert isinstance(host_config, dict)
    assert (host_config["Memory"], host_config["PidsLimit"]) == (96 << 20, 50)
    assert host_config["RestartPolicy"]["Name"] == "always"
    assert list(networks) == [f"{stack.folder.name}_back"]
    assert stack("plan", "web").stdout == ""
    # Limits that are taken out of the file are taken off what runs.
    stack.replace("mem_limit: 96m\n    restart: always\n    pids_limit: 50", "restart: always")
    stack("up", "--detach", "web")
    bare = stack.inspect(name)
    assert bare["State"]["Pid"] == before["State"]["Pid"]  # type: ignore[index]
    assert (bare["HostConfig"]["Memory"], bare["HostConfig"]["PidsLimit"]) == (0, None)  # type: ignore[index]
    stack.replace("restart: always", 'restart: always\n    cpuset: "0"')
    stack("up", "--detach", "web")
    stack.replace('\n    cpuset: "0"', "")
    planned = stack("plan", "web", check=False).stdout
    assert "recreate web.1   cpuset 0 -> unset: that can't be taken off as it runs" in planned
