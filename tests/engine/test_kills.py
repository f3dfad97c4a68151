"""Daemon, shims, and the processes that make them are killed at random while containers are made,
started, changed and removed. Nothing may be left then, and what runs on is told as it is."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.host import Daemon, Host, host

pytestmark = pytest.mark.kernel

KILLS = 12
ENOUGH = 20  # answers that clients must have got, however slow the machine
WAITS = {"stop": "?t=1", "restart": "?t=1"}
OPERATIONS = ("create", "start", "stop", "kill", "restart", "pause", "unpause", "exec", "remove")


class Clients:
    """Each has containers, a network and a volume of its own."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.over = threading.Event()
        self.have_enough = threading.Event()
        self.failures: list[object] = []
        self.answers = 0

    def work(self, number: int) -> None:
        chance = random.Random(number)
        while not self.over.is_set():
            name = f"c{number}-{chance.randrange(3)}"
            try:
                status, answer = self._do(chance.choice(OPERATIONS), name, number, chance)
            except (OSError, HTTPException):
                time.sleep(0.05)  # the daemon is not there: nothing tells when it is
                continue
            self.answers += 1
            if self.answers >= ENOUGH:
                self.have_enough.set()
            if status >= 500 and "is gone" not in str(answer) and "was killed" not in str(answer):
                self.failures.append((status, answer))

    def _do(
        self, operation: str, name: str, number: int, chance: random.Random
    ) -> tuple[int, object]:
        call = self.daemon.call
        if operation == "create":
            call("POST", "/networks/create", {"Name": f"n{number}"})
            host_config = {
                "NetworkMode": chance.choice(["none", "bridge", f"n{number}"]),
                "RestartPolicy": {"Name": chance.choice(["no", "always", "on-failure"])},
                "Binds": [f"v{number}:/v"] if chance.random() < 0.5 else [],
                "Init": chance.random() < 0.5,
            }
            command = ["sh", "-c", chance.choice(["true", "exec sleep 100", "sleep 0.2; exit 3"])]
            body = {"Image": "rootfs:/", "Cmd": command, "HostConfig": host_config}
            return call("POST", f"/containers/create?name={name}", body)
        if operation == "exec":
            status, made = call("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})
            if status != 201 or not isinstance(made, dict):
                return status, made
            return call("POST", f"/exec/{made['Id']}/start", {"Detach": True})
        if operation == "remove":
            return call("DELETE", f"/containers/{name}?force=1&v=1")
        return call("POST", f"/containers/{name}/{operation}{WAITS.get(operation, '')}")


def helpers(place: Host, prefix: str) -> list[int]:
    """What the daemon has started for itself; it lives where the daemon does."""
    found = []
    home = os.readlink(f"/proc/{place.pid}/ns/mnt")
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                is_here = os.readlink(entry / "ns/mnt") == home
                if is_here and (entry / "comm").read_text().startswith(prefix):
                    found.append(int(entry.name))
    return found


@pytest.mark.parametrize("seed", [1])
def test_kills_at_any_moment_leave_nothing(seed: int) -> None:
    """(74-79): that nothing is left is looked at when the host is closed."""
    chance = random.Random(seed)
    with host() as place:
        clients = Clients(place.daemon())
        threads = [threading.Thread(target=clients.work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.05, 1))  # the moment is what is tried
            victim = chance.choice(
                ["daemon", "pycompose-shim", "pycompose-spawn", "pycompose-maker"]
            )
            if victim == "daemon":
                clients.daemon.kill()
                clients.daemon = place.daemon()
            elif pids := helpers(place, victim):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(chance.choice(pids), signal.SIGKILL)
        have_enough = clients.have_enough.wait(120)
        clients.over.set()
        for thread in threads:
            thread.join()
        assert clients.failures == []
        assert have_enough, f"only {clients.answers} answers"
        assert "Traceback" not in clients.daemon.log
        _, listed = clients.daemon.call("GET", "/containers/json")
        assert isinstance(listed, list)
        for container in listed:
            _, found = clients.daemon.call("GET", f"/containers/{container['Id']}/json")
            assert isinstance(found, dict)
            if found["State"]["Status"] == "running" and "sleep 100" in str(found["Args"]):
                assert Path(f"/proc/{found['State']['Pid']}").exists()
