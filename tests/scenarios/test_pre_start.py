"""`pre_start`: containers that do something before a service's own start."""

from __future__ import annotations

import pytest

from tests.scenarios.project import Project

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(100)]

STACK = """
services:
  web:
    image: rootfs:/
    init: true
    command: sleep 1000
    stop_grace_period: 0s
    scale: 2
    environment: {WHO: web}
    volumes: ["data:/data"]
    pre_start:
      - command: ["sh", "-c", "echo once $$WHO >> /data/log"]
      - command: ["sh", "-c", "echo each >> /data/log"]
        per_replica: true
        environment: {WHO: hook}
  other:
    image: rootfs:/
    init: true
    command: sleep 1000
    stop_grace_period: 0s
    depends_on: [web]
volumes: {data: {}}
"""


def log(stack: Project) -> list[str]:
    return sorted(stack("exec", "-T", "web", "cat", "/data/log").stdout.splitlines())


def test_once_for_a_service_and_once_for_each_replica(stack: Project) -> None:
    stack("up", "-d")
    assert log(stack) == ["each", "each", "once web"]
    assert len(stack.containers()) == 3  # those that ended well are gone
    # More replicas: what is done for the service is done; a new one has its own to do.
    stack("up", "-d", "--scale", "web=3")
    assert log(stack) == ["each"] * 3 + ["once web"]
    stack("up", "-d", "--scale", "web=3")
    assert log(stack) == ["each"] * 3 + ["once web"]
    # All stopped: it starts anew.
    stack("stop")
    stack("start")
    assert log(stack) == ["each"] * 6 + ["once web"] * 2


def test_one_that_fails_is_kept_and_its_service_does_not_start(stack: Project) -> None:
    stack.write(STACK.replace("echo once", "echo trouble; exit 7; echo"))
    failed = stack("up", "-d", check=False)
    assert failed.returncode == 1
    assert "web.1 pre_start[0] ended with code 7" in failed.stderr
    assert "trouble" in failed.stderr or "is kept" in failed.stderr
    rows = stack.containers()
    kept = [name for name in rows if "pre-start" in name or "pre_start" in name]
    assert len(kept) == 1
    states = {name: row["State"] for name, row in rows.items()}
    assert all(state == "created" for name, state in states.items() if name not in kept), states
    # Put right, it goes on; and nothing is left of the try.
    stack.write(STACK)
    stack("up", "-d")
    assert log(stack) == ["each", "each", "once web"]
    stack("down", "-v")
    assert stack.containers() == {}
